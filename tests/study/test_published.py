"""Every study file of the repository plans, and the published ones hold the published protocols."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.configurations import configurations
from study.plan import make_plan
from study.spec import StudySpec
from tests.image_files import write_cifar10, write_mnist

STUDIES = Path(__file__).resolve().parents[2] / "studies"
FILES = sorted(STUDIES.rglob("*.yaml"))


def published(name: str) -> StudySpec:
    return StudySpec.from_file(STUDIES / "published" / f"{name}.yaml")


def made_files(study: str, folder: Path) -> list[str]:
    """What a study of a user's image files needs here, where there are none: made ones of the same form."""
    makers = {"mnist": write_mnist, "cifar10": write_cifar10}
    if study not in makers:
        return []
    return [f"target.folder={makers[study](folder, per_class=10)}", "target.contents=any"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_file_plans(path: Path, tmp_path: Path) -> None:
    spec = StudySpec.from_file(path, overrides=made_files(path.stem, tmp_path))
    assert spec.study == path.stem
    assert spec.question
    plan = make_plan(spec, workers=2)
    planned = [member for cohort in plan.cohorts for member in cohort.members]
    assert len(planned) == len(set(planned)) == sum(entry.replicates for entry in plan.configurations)
    assert spec.budget.evaluations >= 20  # fewer block the report
    assert StudySpec.from_dict(spec.operative, folder=path.parent).spec_hash == spec.spec_hash


@pytest.mark.parametrize("path", sorted((STUDIES / "published").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_published_study_names_its_paper_says_how_it_differs_and_how_to_shorten_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comments = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "arXiv:" in comments
    assert "where we differ" in comments.lower()
    command = next(line for line in text.splitlines() if "ganstudy run" in line).split("ganstudy run ")[1].split()
    assert (STUDIES.parent / command[0]).samefile(path)
    assignments = [command[i + 1] for i, word in enumerate(command) if word == "--set"]
    shorter = StudySpec.from_file(path, overrides=assignments)
    assert shorter.budget.value < StudySpec.from_file(path).budget.value
    make_plan(shorter, workers=2)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("pacgan-ring", {"name": "ring", "modes": 8, "radius": 1.0, "std": 0.01}),
        ("pacgan-grid", {"name": "grid", "side": 5, "spacing": 2.0, "std": 0.05}),
    ],
)
def test_pacgan(name: str, target: dict[str, object]) -> None:
    spec = published(name)
    (configuration,) = configurations(spec)
    program = configuration.program()
    assert program.target == target
    assert program.networks == {
        "name": "pacgan", "latent_dim": 2, "generator_width": 400, "generator_depth": 4, "discriminator_width": 200,
        "discriminator_depth": 3, "maxout_pieces": 5, "init_std": 0.02,
    }  # fmt: skip
    assert (program.loss, program.penalty, program.k, program.batch_size) == ("non_saturating", "none", 1, 100)
    assert (program.horizon, program.evaluation_samples, program.updates) == (400_000, 2500, "simultaneous")
    assert configuration.member(0).numbers == {
        "generator_learning_rate": 1e-4, "discriminator_learning_rate": 1e-4, "beta1": 0.8, "beta2": 0.999,
    }  # fmt: skip
    assert configuration.replicates == 10


@pytest.mark.parametrize(
    ("name", "divisor", "scale", "std"),
    [("wgan-gp-toy-ring", 1.414, 2.0, 0.02), ("wgan-gp-toy-grid", 2.828, 2.0, 0.05)],
)
def test_wgan_gp_toy(name: str, divisor: float, scale: float, std: float) -> None:
    spec = published(name)
    (configuration,) = configurations(spec)
    program = configuration.program()
    size = program.target["radius" if "ring" in name else "spacing"]
    assert size == pytest.approx(scale / divisor, rel=1e-8)
    assert program.target["std"] == pytest.approx(std / divisor, rel=1e-8)
    assert program.networks == {"name": "mlp", "latent_dim": 2, "width": 512, "depth": 3, "negative_slope": 0.0}
    assert (program.loss, program.penalty, program.k, program.batch_size) == ("wasserstein", "gradient_penalty", 5, 256)
    assert program.horizon == 100_000
    assert configuration.member(0).numbers == {
        "generator_learning_rate": 1e-4, "discriminator_learning_rate": 1e-4, "beta1": 0.5, "beta2": 0.9,
        "penalty_weight": 0.1,
    }  # fmt: skip


def test_lucic_ranges() -> None:
    made = configurations(published("lucic-ranges"))
    labels = ["minimax", "non_saturating", "least_squares", "wgan", "wgan-gp", "dragan"]
    assert [sum(entry.loss == label for entry in made) for label in labels] == [100] * len(labels)
    ranges = {"learning_rate": (1e-5, 1e-2), "beta1": (0, 1), "clip": (1e-3, 1), "penalty_weight": (0.1, 100)}
    for name, (low, high) in ranges.items():
        values = sorted(float(entry.factors[name]) for entry in made if name in entry.factors)
        assert low <= values[0]
        assert values[-1] < high
        middle = (low * high) ** 0.5 if name != "beta1" else 0.5
        assert 0.35 < sum(value < middle for value in values) / len(values) < 0.65
    assert {entry.factors["k"] for entry in made} == {1, 5}
    assert {entry.horizon for entry in made} == {1_200_000 // 64, 1_200_000 // (5 * 64)}  # 20 epochs of 60,000
    assert 1_200_000 == 20 * 60_000
    # every loss meets the same cells
    cells = [
        [
            (entry.factors["learning_rate"], entry.factors["beta1"], entry.factors["k"])
            for entry in made
            if entry.loss == label
        ]
        for label in labels
    ]
    assert all(cell == cells[0] for cell in cells)


def test_stacked_digits() -> None:
    made = configurations(published("stacked-digits"))
    compared = {(entry.adversarial_loss, entry.penalty, entry.factors["penalty_weight"]) for entry in made}
    losses, penalties, weights = ("non_saturating", "relativistic"), ("r1", "r1_r2"), (0.1, 1.0, 10.0, 100.0)
    assert compared == {(loss, penalty, weight) for loss in losses for penalty in penalties for weight in weights}
    program = made[0].program()
    assert program.target == {"name": "stacked_digits"}
    assert program.evaluation_samples == 26_000 >= 20 * 1000
    assert program.networks["batch_norm"] == "none"
    assert "spectral_norm" not in program.networks
    assert made[0].member(0).numbers["beta1"] == 0.0
    # the samples of one evaluation of a cohort stay within bounds, also while they are put together
    plan = make_plan(published("stacked-digits"), workers=1, max_members=512)
    assert max(len(cohort.members) for cohort in plan.cohorts) * 26_000 * (192 + 64) * 4 <= 2**28
