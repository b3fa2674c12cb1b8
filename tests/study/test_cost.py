"""The cost of a study under the compiled kernels: which games they play, and what must not depend on them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from study.cli_plan import plan_json
from study.configurations import configurations
from study.cost import cohort_seconds, compiled_as_a_whole
from study.plan import make_plan
from study.spec import StudySpec
from trainers import native
from trainers.cohort import Cohort
from trainers.program import Member, Program


def study(**changes: Any) -> StudySpec:
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring"},
        "scientific": {"loss": ["minimax", "r3gan"], "k": [1, 3]},
        "nuisance": {"learning_rate": [1e-4, 1e-3, 1e-2]},
        "budget": {"value": 400, "evaluations": 20},
        "replicates": 8,
    }
    return StudySpec.from_dict({**base, **changes})


PROGRAM = configurations(study())[0].program()
NUMBERS = ("generator_learning_rate", "discriminator_learning_rate", "beta1", "beta2", "penalty_weight", "noise_std")


def compiled(program: Program) -> bool:
    """Whether the compiled kernels do play it, as the cohort decides."""
    native.use("native")
    try:
        cohort = Cohort.start(program, [Member(seed=1, numbers=dict.fromkeys(NUMBERS, 0.5))])
        draws, place = cohort.draws()
        found = cohort._compiled(
            latents=draws.latents[:, place, 0], real=draws.reals[:, place, 0], noise=draws.noise(place, 0)
        )
    finally:
        native.use("torch")
    return found is not None


SERVED: list[dict[str, Any]] = [
    {},
    {"loss": "relativistic", "penalty": "r1_r2"},
    {"penalty": "instance_noise", "updates": "extragradient"},
    {"target": {"name": "digits"}, "networks": {"name": "mlp", "spectral_norm": "none"}},
]
LEFT_TO_TORCH: list[dict[str, Any]] = [
    {"networks": {"name": "pacgan"}},
    {"networks": {"name": "mlp", "batch_norm": "generator"}},
    {"networks": {"name": "mlp", "spectral_norm": "discriminator"}},
    {"networks": {"name": "conv"}, "target": {"name": "digits"}},
    {"networks": {"name": "dirac"}, "target": {"name": "dirac"}},
]
NEVER_COMPILED: list[dict[str, Any]] = [
    {"updates": "consensus"},
    {"loss": "my.own:loss"},
    {"penalty": "my.own:penalty"},
    {"networks": {"name": "my.own:networks"}},
]


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("changes", [*SERVED, *LEFT_TO_TORCH])
def test_the_estimate_knows_which_games_the_compiled_kernels_play(changes: dict[str, Any]) -> None:
    program = replace(PROGRAM, **changes)
    assert compiled_as_a_whole(program) == compiled(program) == (changes in SERVED)


def test_the_estimate_with_compiled_kernels_is_lower_where_they_serve_and_evaluations_cost_the_same() -> None:
    def seconds(members: int, kernels: str | None = "native", **changes: Any) -> float:
        return cohort_seconds(replace(PROGRAM, **changes), members, kernels=kernels)

    for changes in SERVED:
        assert seconds(16, **changes) < seconds(16, "torch", **changes) == seconds(16, None, **changes)
        assert seconds(16, **changes) < seconds(17, **changes) < seconds(32, **changes)
    for changes in (*LEFT_TO_TORCH, *NEVER_COMPILED):
        assert seconds(16, **changes) == seconds(16, "torch", **changes)
    more = [seconds(16, kernels, evaluations=30) - seconds(16, kernels, evaluations=20) for kernels in ("native", None)]
    assert more[0] == pytest.approx(more[1])


def test_compiled_kernels_change_the_estimate_and_nothing_of_the_plan() -> None:
    plain, fast = study(), study(resources={"kernels": "native"})
    assert make_plan(fast, workers=3).to_json() == make_plan(plain, workers=3).to_json()
    told = [plan_json(spec, make_plan(spec, workers=3), workers=3) for spec in (plain, fast)]
    walls = [one.pop("estimate")["wall_s"] for one in told]
    assert walls[1] < walls[0]
    assert told[0] == told[1]
