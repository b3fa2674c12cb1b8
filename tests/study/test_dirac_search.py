"""The search whose best answer is known: studies/dirac-search.yaml, trained in process, against the closed form."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from study.configurations import Configuration
from study.folder import StudyFolder
from study.history import History
from study.objective import Objective
from study.outcomes import Criteria
from study.spec import StudySpec
from study.values import cohort_value
from tests.conftest import REPOSITORY
from tests.study.test_adaptive import Driver, Notebook, empty
from trainers.cohort import Cohort
from trainers.dirac import Game, equal_steps, spectral_radius
from trainers.evaluation import Judge, build_judge
from trainers.loop import train
from trainers.targets import build_target

pytestmark = pytest.mark.slow

RATE = 0.5
BEST_GAMMA, BEST_RATE = (2 - RATE / 2) / 2, -math.log(1 - RATE / 2)
WITHIN = 0.05


def contraction(gamma: float) -> float:
    """-ln of the factor by which a step shrinks the distance, near the equilibrium."""
    game = Game(loss="non_saturating", penalty="r1", penalty_weight=gamma)
    return -math.log(spectral_radius(game, equal_steps(RATE)))


class Trained(Notebook):
    """Cohorts are trained, as the trainable does it, and valued as a driver values them."""

    judge: Judge
    objective: Objective

    def ended(self, cohort: str) -> None:
        self.values[cohort] = self._trained(self.configuration(cohort))

    def _trained(self, configuration: Configuration) -> float:
        program = configuration.program()
        members = [configuration.member(replicate) for replicate in range(configuration.replicates)]
        key = configuration.configuration_key
        history = History(
            [(key, replicate, member.seed) for replicate, member in enumerate(members)],
            k=program.k,
            batch_size=program.batch_size,
            groups=program.measurements,
        )
        for evaluation in train(Cohort.start(program, members, device="cpu"), self.judge):
            history.append(evaluation, measured_at_ms=0)
        found = cohort_value(
            history.table(),
            [(key, replicate) for replicate in range(configuration.replicates)],
            self.plan.by_key,
            criteria=Criteria(),
            references={configuration.target_id: self.judge.reference},
            objective=self.objective,
            censored=False,
        )
        assert found is not None
        assert math.isfinite(found)
        return found


def test_the_closed_form_has_its_best_rate_where_the_study_file_says() -> None:
    assert pytest.approx(0.875) == BEST_GAMMA
    assert pytest.approx(-math.log(0.75)) == BEST_RATE
    assert contraction(BEST_GAMMA) == pytest.approx(BEST_RATE, rel=1e-6)
    assert all(contraction(gamma) < BEST_RATE for gamma in (0.05, 0.5, 0.87, 0.88, 1.5, 3.4))


def test_the_search_finds_a_gamma_that_contracts_within_five_percent_of_the_fastest(tmp_path: Path) -> None:
    spec = StudySpec.from_file(REPOSITORY / "studies" / "dirac-search.yaml")
    folder = StudyFolder(tmp_path, spec.study)
    folder.root.mkdir()
    book = Trained(empty(spec).plan)
    book.objective = Objective.from_plain(spec.search.objective)
    book.judge = build_judge(build_target(spec.target), evaluation_samples=spec.budget.evaluation_samples)
    driver = Driver(folder, spec, book)
    driver.run()
    best = max(book.values, key=lambda cohort: book.values[cohort])
    gamma = float(book.configuration(best).factors["penalty_weight"])
    assert contraction(gamma) >= (1 - WITHIN) * BEST_RATE
    below = [cohort for cohort in book.values if book.values[cohort] < book.values[best]]
    assert len(below) >= len(book.values) - 1  # the objective tells them apart, where all succeed alike
