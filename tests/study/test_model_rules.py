"""Parameters that mean absent leave no trace in keys; networks, targets and batches that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from study.configurations import configurations
from study.model_rules import without_absent
from study.network_size import parameter_count, unit_count
from study.spec import SpecError, StudySpec
from trainers import catalogue
from trainers.networks import build_networks
from trainers.targets import build_target

ABSENT = {"negative_slope": 0.2, "batch_norm": "none", "spectral_norm": "none", "init_std": 0}


def keys(tiny: dict[str, Any], **changes: Any) -> list[str]:
    return [entry.configuration_key for entry in configurations(StudySpec.from_dict({**tiny, **changes}))]


def test_an_option_at_its_absent_default_changes_no_key_and_no_operative_study(tiny: dict[str, Any]) -> None:
    before = StudySpec.from_dict(tiny)
    spelt_out = {**tiny, "networks": {**tiny["networks"], **ABSENT}}
    after = StudySpec.from_dict(spelt_out)
    assert after.operative == before.operative
    assert after.spec_hash == before.spec_hash
    assert keys(spelt_out) == keys(tiny)
    fixed = {**tiny, "fixed": {**tiny["fixed"], "spectral_norm": "none"}}
    assert keys(fixed) == keys(tiny)
    assert set(before.operative["networks"]) == {"name", "latent_dim", "width", "depth"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("negative_slope", 0.0), ("batch_norm", "generator"), ("spectral_norm", "discriminator"), ("init_std", 0.02)],
)
def test_any_other_value_changes_the_key(tiny: dict[str, Any], name: str, value: object) -> None:
    changed = StudySpec.from_dict({**tiny, "networks": {**tiny["networks"], name: value}})
    assert changed.operative["networks"][name] == value
    assert not set(keys(tiny)) & {entry.configuration_key for entry in configurations(changed)}


def test_a_varied_option_meets_the_studies_without_it_at_its_default(tiny: dict[str, Any]) -> None:
    varied = {**tiny, "nuisance": {**tiny["nuisance"], "spectral_norm": ["none", "discriminator"]}}
    made = configurations(StudySpec.from_dict(varied))
    plain = [entry for entry in made if entry.factors["spectral_norm"] == "none"]
    assert [entry.configuration_key for entry in plain] == keys(tiny)
    assert [entry.seeds for entry in plain] == [entry.seeds for entry in configurations(StudySpec.from_dict(tiny))]
    assert all("spectral_norm" not in entry.networks for entry in plain)
    assert all(entry.networks["spectral_norm"] == "discriminator" for entry in made if entry not in plain)
    assert len({entry.configuration_key for entry in made}) == len(made) == 2 * len(plain)


def test_what_is_absent_goes_and_what_is_not_stays() -> None:
    kept = without_absent("networks", {"name": "mlp", "width": 64, "negative_slope": 0.2, "init_std": 0.1})
    assert kept == {"name": "mlp", "width": 64, "init_std": 0.1}
    # of conv, batch normalisation is the default and not absence: it stays written
    assert without_absent("networks", {"name": "conv", "batch_norm": "generator"})["batch_norm"] == "generator"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"networks": {"name": "conv"}},
            r"networks.name: conv needs a target of images \(digits, stacked_digits, mnist",
        ),
        ({"networks": {"name": "mlp", "spectral_norm": "both"}}, "spectral_norm"),
        ({"networks": {"name": "mlp", "batch_norm": "discriminator"}}, "batch_norm"),
        ({"networks": {"name": "pacgan", "maxout_pieces": 1}}, "maxout_pieces"),
        ({"networks": {"name": "pacgan"}, "fixed": {"batch_size": 1}}, "batch_size: must be at least 2 for networks"),
        (
            {
                "fixed": {},
                "nuisance": {"learning_rate": [1e-3], "batch_size": [1, 32], "batch_norm": ["none", "generator"]},
            },
            "batch_size: must be at least 2 for networks",
        ),
        (
            {"target": {"name": "stacked_digits"}, "networks": {"name": "conv"}},
            "must be at least 20 for each of 1000 modes: 20000",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tiny: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        StudySpec.from_dict({**tiny, **changes})


@pytest.mark.parametrize("target", ["ring", "stacked_digits"])
@pytest.mark.parametrize("name", ["mlp", "pacgan", "conv"])
def test_the_size_that_the_cost_estimate_uses_is_that_of_the_networks(name: str, target: str) -> None:
    entry = catalogue.NETWORKS[name]
    if entry.images and target == "ring":
        return
    built = build_networks({"name": name}, build_target({"name": target}))
    counted = parameter_count({"name": name, **entry.defaults}, {"name": target})
    held = built.generator.layout.size + built.discriminator.layout.size
    if name == "conv":  # weights meet every pixel: 4 of the middle layers', 16 of the outer ones'
        assert 3 * held < counted < 16 * held
    else:
        assert counted == pytest.approx(held, rel=0.01)


def test_activations_of_maxout_and_batch_normalisation_counted_by_hand() -> None:
    networks = {
        "name": "pacgan", "latent_dim": 2, "generator_width": 4, "generator_depth": 2, "discriminator_width": 3,
        "discriminator_depth": 1, "maxout_pieces": 5,
    }  # fmt: skip
    generator, discriminator = 4 + 4 + 2, 3 * 5 + 1
    assert unit_count(networks, {"name": "ring"}) == generator + 5 * (4 + 4) + discriminator
