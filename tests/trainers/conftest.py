"""What the tests of the judge share: two targets and their judges, built once; no test may change them."""

from __future__ import annotations

import pytest

from trainers.evaluation import Judge, build_judge
from trainers.targets import GaussianMixture, LabelledImages, digits, ring


@pytest.fixture(scope="session")
def ring_target() -> GaussianMixture:
    return ring(modes=8, radius=2.0, std=0.1)


@pytest.fixture(scope="session")
def ring_judge(ring_target: GaussianMixture) -> Judge:
    return build_judge(ring_target, evaluation_samples=2500)


@pytest.fixture(scope="session")
def digits_target() -> LabelledImages:
    return digits()


@pytest.fixture(scope="session")
def digits_judge(digits_target: LabelledImages) -> Judge:
    return build_judge(digits_target, evaluation_samples=1000)
