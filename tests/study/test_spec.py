"""The study file: what is accepted, what is filled in, what is refused and how it is said."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.configurations import configurations
from study.spec import SpecError, StudySpec
from study.yaml_file import parse_yaml
from trainers.catalogue import LOSSES, PENALTIES

ROOT = Path(__file__).parents[2]


def study(**changes: Any) -> dict[str, Any]:
    """A small valid study with top-level sections replaced (None: left out)."""
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring", "modes": 5},
        "scientific": {"loss": ["minimax", "wgan_gp"], "k": [1, 3]},
        "nuisance": {"learning_rate": [1e-4, 1e-2]},
        "budget": {"value": 400, "evaluations": 20},
        "replicates": 3,
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def problems(mapping: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        StudySpec.from_dict(mapping)
    return caught.value.problems


def loss(*entries: Any) -> dict[str, Any]:
    return {"scientific": {"loss": list(entries)}}


def rate(value: Any) -> dict[str, Any]:
    return {"nuisance": {"learning_rate": value}}


def budget(**changes: Any) -> dict[str, Any]:
    return {"budget": {"value": 400, "evaluations": 20, **changes}}


NO_RATE = "learning_rate: required in scientific, nuisance or fixed"
NUMBER = "must be a number > 0"

BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"study": "../x"},
        "study: must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit (got '../x')",
    ),
    (
        {"study": "Ring"},
        "study: must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit (got 'Ring')",
    ),
    ({"study": "x" * 65}, "study: must be 1 to 64 of"),
    ({"study": "ring\n"}, "study: must be 1 to 64 of"),
    ({"study": ".."}, "study: must be 1 to 64 of"),
    ({"study": "con"}, "study: is the name of a Windows device; choose another (got 'con')"),
    ({"study": "lpt1.x"}, "study: is the name of a Windows device; choose another (got 'lpt1.x')"),
    ({"study": 7}, "study: must be text (quote it) (got 7)"),
    ({"study": None}, "study: required"),
    ({"sarch": {}}, "sarch: unknown key; did you mean 'search'? (known here: study, question, calibration, target,"),
    (
        {"target": {"name": "rng"}},
        "target.name: unknown target 'rng'; did you mean 'ring'? (known: ring, grid, digits, stacked_digits, mnist, ",
    ),
    ({"target": {}}, "target.name: required: one of ring, grid, digits"),
    ({"target": "ring"}, "target: must be a mapping, `key: value` (got 'ring')"),
    (
        {"target": {"name": "ring", "mods": 8}},
        "target.mods: unknown key; did you mean 'modes'? (known here: name, modes,",
    ),
    ({"target": {"name": "ring", "modes": 1}}, "target.modes: must be a whole number >= 2 and <= 1000 (got 1)"),
    (
        {"target": {"name": "ring", "std": [0.1, 0.2]}},
        "target.std: must be a single value here; move it to scientific or nuisance to vary it (got [0.1, 0.2])",
    ),
    (
        {"networks": {"name": "mpl"}},
        "networks.name: unknown network 'mpl'; did you mean 'mlp'? (known: mlp, pacgan, conv, dirac)",
    ),
    ({"networks": {"name": "mlp", "width": 0}}, "networks.width: must be a whole number >= 1 and <= 8192 (got 0)"),
    ({"scientific": {"k": [1]}}, "scientific.loss: required: the losses to compare"),
    (loss("wgan-gp"), "scientific.loss[0]: unknown loss 'wgan-gp'; did you mean 'wgan_gp'? (known: minimax,"),
    (loss(), "scientific.loss: must name at least one loss (got [])"),
    (loss({"penalty": "r1"}), "scientific.loss[0]: a loss entry needs a name (got {'penalty': 'r1'})"),
    (loss({"name": "hinge", "penalty": "r3"}), "scientific.loss[0].penalty: unknown penalty 'r3'"),
    (
        loss({"name": "hinge", "penalty": "r1"}),
        "scientific.loss[0].penalty_weight: required for the penalty r1: a number >= 0 (the paper's gamma or lambda)",
    ),
    (
        loss({"name": "wgan_gp", "penalty": "r1"}),
        "scientific.loss[0].penalty: the preset wgan_gp sets it; write {name: wasserstein, penalty: ...} for another",
    ),
    (
        loss({"name": "hinge", "clip": 0.1}),
        "scientific.loss[0].clip: unknown key (known here: name, penalty, label)",
    ),
    (loss("hinge", "hinge"), "scientific.loss: 2 entries have the label 'hinge'; give each its own `label:`"),
    (loss({"name": "hinge", "label": "<b>"}), "scientific.loss[0].label: must be 1 to 64 letters, digits, spaces"),
    (
        loss({"name": "wgan", "clip": [0.1, 0.1]}),
        "scientific.loss[0].clip[1]: the same value twice in one list (got 0.1)",
    ),
    (rate(0), f"nuisance.learning_rate: {NUMBER} (got 0)"),
    (rate(-1), f"nuisance.learning_rate: {NUMBER} (got -1)"),
    (rate(math.nan), f"nuisance.learning_rate: {NUMBER} (got nan)"),
    (rate(math.inf), f"nuisance.learning_rate: {NUMBER} (got inf)"),
    (rate("0.1x"), f"nuisance.learning_rate: {NUMBER} (got '0.1x')"),
    (rate([1e-3, True]), f"nuisance.learning_rate[1]: {NUMBER} (got true)"),
    (rate([]), "nuisance.learning_rate: must name at least one value (got [])"),
    (rate(None), f"nuisance.learning_rate: {NUMBER} (got nothing)"),
    (rate([1e-3, 0.001]), "nuisance.learning_rate[1]: the same value twice in one list (got 0.001)"),
    (
        rate({"low": 0.1, "high": 0.01, "points": 3}),
        "nuisance.learning_rate: low must be below high (got low 0.1, high 0.01)",
    ),
    (rate({"low": 0.1, "points": 3}), "nuisance.learning_rate: a range needs high (got {'low': 0.1, 'points': 3})"),
    (rate({"low": 0.1, "high": 1}), "nuisance.learning_rate: a range needs points in a grid study"),
    (rate({"low": 0.1, "high": 1, "points": 1}), "nuisance.learning_rate.points: must be a whole number >= 2"),
    (
        rate({"low": 0.1, "high": 1, "points": 2, "scal": "log"}),
        "nuisance.learning_rate.scal: unknown key; did you mean 'scale'?",
    ),
    (rate({"low": 0.1, "high": 1, "points": 2, "scale": "ln"}), "nuisance.learning_rate.scale: unknown scale 'ln'"),
    ({"nuisance": {}}, NO_RATE),
    ({"fixed": {"bach_size": 64}}, "fixed.bach_size: unknown key; did you mean 'batch_size'?"),
    (
        {"nuisance": {"learning_rate": 0.1, "k": 0}, "scientific": {"loss": "hinge"}},
        "nuisance.k: must be a whole number >= 1",
    ),
    (
        {"nuisance": {"learning_rate": 0.1, "k": {"low": 1, "high": 3, "points": 5}}, "scientific": {"loss": "hinge"}},
        "nuisance.k.points: must leave 5 different values; there are fewer between the ends",
    ),
    (
        {"nuisance": {"learning_rate": 0.1, "std": {"low": -1, "high": 3, "points": 5, "scale": "log"}}},
        "nuisance.std.low: must be a number > 0 (got -1)",
    ),
    (
        {"nuisance": {"learning_rate": 0.1, "beta1": {"low": 0, "high": 0.9, "points": 2, "scale": "log"}}},
        "nuisance.beta1.low: must be > 0 on a log scale (got 0)",
    ),
    (
        {"nuisance": {"learning_rate": 0.1, "optimizer": {"low": 1, "high": 2}}},
        "nuisance.optimizer: must be one of sgd, adam, rmsprop, or a list of them; a range is for numbers",
    ),
    (
        {"fixed": {"k": 2}},
        "fixed.k: is also in scientific; a factor lives in exactly one of scientific, nuisance, fixed",
    ),
    ({"fixed": {"modes": 4}}, "fixed.modes: is also in target; a factor lives in exactly one of"),
    (
        {"fixed": {"batch_size": [64, 128]}},
        "fixed.batch_size: must be a single value; move it to scientific or nuisance",
    ),
    ({"fixed": {"batch_size": 64.5}}, "fixed.batch_size: must be a whole number >= 1 and <= 65536 (got 64.5)"),
    ({"fixed": {"optimizer": "adm"}}, "fixed.optimizer: unknown optimizer 'adm'; did you mean 'adam'?"),
    ({"fixed": {"momentum": 0.9}}, "fixed.momentum: no chosen optimizer uses it (adam uses beta1, beta2)"),
    ({"fixed": {"optimizer": "sgd", "beta1": 0.5}}, "fixed.beta1: no chosen optimizer uses it (sgd uses momentum)"),
    ({"fixed": {"beta2": {"adm": 0.9}}}, "fixed.beta2.adm: unknown optimizer with beta2 'adm'; did you mean 'adam'?"),
    ({"fixed": {"loss": "hinge"}}, "fixed.loss: belongs under scientific: comparing losses is the question"),
    ({"fixed": {"clip": 0.1}}, "fixed.clip: belongs inside a loss entry, as in {name: wasserstein, clip: ...}"),
    (
        {"fixed": {"updates": "simultaneous"}},
        "fixed.updates: simultaneous needs k = 1 in the whole study (k reaches 3)",
    ),
    (
        {"fixed": {"updates": "extragradient"}},
        "fixed.updates: extragradient needs k = 1 in the whole study (k reaches 3)",
    ),
    (
        {
            "nuisance": {"learning_rate": 0.1, "updates": ["alternating", "optimistic", "consensus"]},
            "fixed": {"consensus_weight": 1},
        },
        "nuisance.updates: optimistic, consensus need k = 1 in the whole study (k reaches 3)",
    ),
    (
        {"fixed": {"updates": "extragradent"}},
        "fixed.updates: unknown updates 'extragradent'; did you mean 'extragradient'? (known: alternating,",
    ),
    (
        {"fixed": {"updates": "consensus", "k": 1}, "scientific": {"loss": "hinge"}},
        "consensus_weight: required in scientific, nuisance or fixed with updates consensus: a number >= 0 (the pape",
    ),
    (
        {"fixed": {"consensus_weight": 1}},
        "fixed.consensus_weight: is for updates consensus (they are alternating)",
    ),
    (
        {"fixed": {"updates": "consensus", "consensus_weight": -1, "k": 1}, "scientific": {"loss": "hinge"}},
        "fixed.consensus_weight: must be a number >= 0 (got -1)",
    ),
    (
        {"nuisance": {"learning_rate": 0.1, "generator_average": [0.9, 1]}},
        "nuisance.generator_average[1]: must be a number >= 0 and < 1 (got 1)",
    ),
    (
        {
            "scientific": {"loss": "hinge", "updates": ["simultaneous", "extragradient"]},
            "budget": {"value": 79, "unit": "gradient_evaluations", "evaluations": 20},  # 2 (1 + 1) a step: 19 steps
        },
        "budget.value: leaves 19 generator steps for 20 evaluations at k = 1, batch_size = 128, penalty none, extrag",
    ),
    (
        {"fixed": {"generator_learning_rate": 0.1}},
        "fixed.generator_learning_rate: give either learning_rate or generator_learning_rate and",
    ),
    (
        {"nuisance": {"generator_learning_rate": 0.1}},
        "nuisance.generator_learning_rate: needs its partner: generator_learning_rate and discriminator_learning_rate",
    ),
    ({"replicates": 0}, "replicates: must be a whole number >= 1 and <= 100000 (got 0)"),
    ({"replicates": True}, "replicates: must be a whole number >= 1 and <= 100000 (got true)"),
    ({"seed": -1}, "seed: must be a whole number >= 0"),
    ({"budget": None}, "budget: required"),
    (budget(value=None), "budget.value: must be a whole number >= 1"),
    ({"budget": {}}, "budget.value: required: a whole number >= 1"),
    (
        budget(unit="steps"),
        "budget.unit: must be one of generator_steps, samples_seen, gradient_evaluations (got 'steps')",
    ),
    (
        budget(value=19),
        "budget.value: leaves 19 generator steps for 20 evaluations at k = 3, batch_size = 128, penalty",
    ),
    (
        budget(value=139, unit="gradient_evaluations"),  # 1 + 3 x 2 a step: 19 steps
        "budget.value: leaves 19 generator steps for 20 evaluations at k = 3, batch_size = 128, penalty gradient_pen",
    ),
    (budget(evaluation_samples=99), "budget.evaluation_samples: must be at least 20 for each of 5 modes: 100 (got 99)"),
    ({"search": {"method": "random"}}, "search.configurations: required with method random: how many per loss entry"),
    (
        {"search": {"method": "rndom"}},
        "search.method: must be one of grid, random, optuna; did you mean 'random'? (got 'rndom')",
    ),
    ({"search": {"configurations": 3}}, "search.configurations: is for method random; a grid has its own size (got 3)"),
    (
        {"search": {"method": "random", "configurations": 5}, "scientific": {"loss": "hinge", "k": [1, 3]}},
        "search.configurations: 'hinge' has only 4 configurations (got 5)",
    ),
    ({"search": {"sampler": "tpe"}}, "search.sampler: is for method optuna (got 'tpe')"),
    ({"criteria": {"u_convergd": 0.1}}, "criteria.u_convergd: unknown key; did you mean 'u_converged'?"),
    ({"criteria": {"good_fraction": 1.5}}, "criteria.good_fraction: must be a number > 0 and <= 1 (got 1.5)"),
    (
        {"criteria": {"coverage_collapsed": 0.95}},
        "criteria.coverage_collapsed: must be < coverage_converged (0.9) (got 0.95)",
    ),
    ({"criteria": [1]}, "criteria: must be a mapping, `key: value` (got [1])"),
    ({"resources": {"gpus_per_trial": "all"}}, "resources.gpus_per_trial: must be a number >= 0, or auto (got 'all')"),
    (
        {"resources": {"cohort_size": 0}},
        "resources.cohort_size: must be a whole number >= 1 and <= 65536, or auto (got 0)",
    ),
    ({"resources": {"device": "gpu"}}, "resources.device: must be one of auto, cpu, cuda"),
    ({"tracking": {"replicate_runs": 1}}, "tracking.replicate_runs: must be true or false (got 1)"),
    ({"seed": object()}, "seed: must be plain data: text, a number, true, false, a list or a mapping"),
]


@pytest.mark.parametrize(("changes", "expected"), BAD, ids=[expected[:60] for _, expected in BAD])
def test_bad_input_names_field_rule_and_value(changes: dict[str, Any], expected: str) -> None:
    missing = {key for key, value in changes.items() if value is None}
    found = problems({key: value for key, value in {**study(), **changes}.items() if key not in missing})
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_the_table_covers_every_message_only_once() -> None:
    assert len({json.dumps(changes, default=str) for changes, _ in BAD}) == len(BAD) >= 30


def test_all_problems_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "study: Bad Name\ntarget: {name: ring}\nscientific:\n  loss: [hinge, wgan_pg]\n  k: [1, 0]\n"
        "nuisance:\n  learning_rate: 1e-3\nfixed:\n  learning_rate: 2e-3\n  momentum: 0.5\nreplicates: many\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError) as caught:
        StudySpec.from_file(path)
    starts = [line.removeprefix(f"{path}:").split(": ")[:2] for line in caught.value.problems]
    assert sorted(starts) == [
        ["10:3", "fixed.momentum"],
        ["11:1", "replicates"],
        ["1:1", "budget"],
        ["1:1", "study"],
        ["4:17", "scientific.loss[1]"],
        ["5:10", "scientific.k[1]"],
        ["9:3", "fixed.learning_rate"],
    ]


def test_too_many_configurations_gives_the_count() -> None:
    many = {"low": 1e-4, "high": 1e-2, "points": 101}
    found = problems(study(nuisance={"learning_rate": many, "beta1": {"low": 0, "high": 0.9, "points": 50}}))
    assert found == ["the study has 20,200 configurations; at most 10,000 (coarsen a factor)"]
    assert problems(study(replicates=100_000, nuisance={"learning_rate": [0.1, 0.2, 0.3]})) == [
        "replicates: 12 configurations make 1,200,000 replicates; at most 1,000,000 (got 100000)"
    ]


def test_defaults_are_filled_in_and_hash_as_if_written() -> None:
    spec = StudySpec.from_dict(study())
    assert spec.operative["fixed"] == {
        "batch_size": 128,
        "optimizer": "adam",
        "updates": "alternating",
        "beta1": 0.5,
        "beta2": 0.999,
    }
    assert spec.operative["target"] == {"name": "ring", "modes": 5, "radius": 2.0, "std": 0.1}
    written = study(
        fixed={"beta1": 0.5, "optimizer": "adam"},
        networks={"depth": 2, "name": "mlp"},
        criteria={"blowup": 3},
        budget={"value": 400.0, "evaluations": 20, "unit": "generator_steps"},
        search={"method": "grid"},
    )
    assert StudySpec.from_dict(written) == spec
    assert StudySpec.from_dict(written).spec_hash == spec.spec_hash


def test_presets_are_the_same_study_as_their_spelling() -> None:
    spelt = {"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10, "label": "wgan_gp"}
    short = StudySpec.from_dict(study(scientific={"loss": ["wgan_gp"]}))
    assert StudySpec.from_dict(study(scientific={"loss": [spelt]})).spec_hash == short.spec_hash


def test_labels_default_to_the_name_as_written_plus_the_penalty() -> None:
    entries = [
        "wgan",
        {"name": "wgan_gp", "penalty_weight": [1, 10]},
        {"name": "hinge", "penalty": "none"},
        {"name": "hinge", "penalty": "r1", "penalty_weight": 1},
        {"name": "hinge", "label": "Hinge 2.0+x"},
    ]
    design = StudySpec.from_dict(study(scientific={"loss": entries})).design
    assert [entry.label for entry in design.entries] == ["wgan", "wgan_gp", "hinge", "hinge+r1", "Hinge 2.0+x"]
    assert [entry.adversarial_loss for entry in design.entries] == ["wasserstein"] * 2 + ["hinge"] * 3
    assert design.entries[1].parameters["penalty_weight"].grid() == (1.0, 10.0)


def test_optimizers_that_differ_in_a_default_keep_their_own() -> None:
    spec = StudySpec.from_dict(study(nuisance={"learning_rate": 0.1, "optimizer": ["sgd", "adam", "rmsprop"]}))
    assert spec.operative["fixed"]["beta2"] == {"adam": 0.999, "rmsprop": 0.99}
    numbers = {c.factors["optimizer"]: (c.factors.get("beta1"), c.factors.get("beta2")) for c in configurations(spec)}
    assert numbers == {"sgd": (None, None), "adam": (0.5, 0.999), "rmsprop": (None, 0.99)}


def test_hash_ignores_question_resources_and_tracking_only() -> None:
    spec = StudySpec.from_dict(study())
    same = study(question="Why?", resources={"cpus_per_trial": 2, "device": "cpu"}, tracking={"replicate_runs": True})
    assert StudySpec.from_dict(same).spec_hash == spec.spec_hash
    assert StudySpec.from_dict(same) != spec
    for changes in (
        {"seed": 2},
        {"replicates": 4},
        {"criteria": {"blowup": 4}},
        {"study": "other"},
        rate([1e-4, 2e-2]),
    ):
        assert StudySpec.from_dict(study(**changes)).spec_hash != spec.spec_hash


def test_kernels_are_a_resource_that_leaves_no_trace_where_it_is_not_asked_for() -> None:
    spec, asked = StudySpec.from_dict(study()), StudySpec.from_dict(study(resources={"kernels": "native"}))
    assert "kernels" not in spec.operative["resources"]
    assert asked.operative["resources"]["kernels"] == "native"
    assert asked.spec_hash == spec.spec_hash
    assert problems(study(resources={"kernels": "mkl"}))


def test_spec_hash_is_the_one_of_the_first_release() -> None:
    assert StudySpec.from_file(ROOT / "studies/ring.yaml").spec_hash == "5359a53fcc5c8b2a"


def test_overrides_apply_before_defaults_and_say_where_they_fail(tmp_path: Path) -> None:
    spec = StudySpec.from_dict(study())
    changed = spec.with_overrides(["fixed.optimizer=sgd", "scientific.loss=[hinge, {name: wgan, clip: 1e-1}]"])
    assert "beta1" not in changed.fixed
    assert changed.fixed["momentum"] == 0.0
    assert changed.design.entries[1].parameters["clip"].grid() == (0.1,)
    assert spec.with_overrides(["replicates=5"]).with_overrides(["seed=9"]).replicates == 5
    with pytest.raises(
        SpecError, match=r"--set fixed\.bach_size=64: fixed\.bach_size: unknown key; did you mean 'batch_size'"
    ):
        spec.with_overrides(["fixed.bach_size=64"])
    with pytest.raises(SpecError, match=r"is written section\.key=value"):
        spec.with_overrides(["fixed"])
    with pytest.raises(SpecError, match="study is not a mapping and has no x"):
        spec.with_overrides(["study.x=1"])
    path = tmp_path / "s.yaml"
    path.write_text(spec.dump().replace("replicates: 3", "replicates: 0"), encoding="utf-8")
    assert StudySpec.from_file(path, overrides=["replicates=7"]).replicates == 7


def test_difference_names_each_key_that_may_not_change() -> None:
    old = StudySpec.from_dict(study(question="a"))
    new = StudySpec.from_dict(
        study(
            question="b",
            seed=4,
            scientific={"loss": ["minimax", {"name": "wgan_gp", "penalty_weight": 2}, "hinge"], "k": [1, 3]},
        )
    )
    assert old.difference(new) == [
        "scientific.loss: ['minimax', 'wgan_gp'] -> ['minimax', 'wgan_gp', 'hinge']",
        "scientific.loss.wgan_gp.penalty_weight: 10.0 -> 2.0",
        "seed: 1 -> 4",
        "scientific.loss.hinge.name: (absent) -> 'hinge'",
        "scientific.loss.hinge.penalty: (absent) -> 'none'",
    ]
    assert old.difference(old.with_overrides(["question=c", "resources.device=cpu"])) == []


def test_empty_sections_are_sections_left_out() -> None:
    assert StudySpec.from_dict(study(), import_code=False) == StudySpec.from_dict(
        {**study(), "fixed": None, "criteria": None}
    )


def test_networks_by_import_path(tmp_path: Path) -> None:
    (tmp_path / "my_spec_nets.py").write_text(
        "def build(**options):\n    return None, None\nNUMBER = 3\n", encoding="utf-8"
    )
    file = tmp_path / "s.yaml"

    def read(name: str) -> StudySpec:
        file.write_text(
            f"study: own\ntarget: {{name: ring}}\nnetworks: {{name: '{name}', blocks: [2, 3]}}\n"
            "scientific: {loss: hinge}\nfixed: {learning_rate: 1e-3}\nbudget: {value: 100}\n",
            encoding="utf-8",
        )
        return StudySpec.from_file(file)

    spec = read("my_spec_nets:build")
    assert spec.operative["networks"] == {"name": "my_spec_nets:build", "latent_dim": 16, "blocks": [2, 3]}
    key = configurations(spec)[0].configuration_key
    (tmp_path / "my_spec_nets.py").write_text("def build(**options):\n    return 1, 2\n", encoding="utf-8")
    assert configurations(spec)[0].configuration_key != key, "other code is another configuration"
    for name, reason in {
        "my_spec_nets:NUMBER": "must name a function that returns",
        "my_spec_nets:biuld": "AttributeError",
        "absent_module_x:f": f"cannot be imported with {tmp_path} on the path: ModuleNotFoundError",
        "not a path:f": "an import path is written package.module:name",
    }.items():
        with pytest.raises(SpecError, match=reason.replace("(", r"\(")):
            read(name)


@pytest.mark.parametrize("file", ["studies/ring.yaml", "study/template.yaml"])
def test_shipped_studies_are_valid_and_match_the_schema(file: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = parse_yaml((ROOT / file).read_bytes(), source=file).data
    spec = StudySpec.from_file(ROOT / file)
    assert len(spec.design.entries) >= 5
    schema = StudySpec.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for valid in (data, spec.operative):
        jsonschema.validate(valid, schema)
    for wrong in ({"seed": -1}, {"fixed": {"bach_size": 3}}, {"scientific": {"loss": ["wgan_pg"]}}, {"taget": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**spec.operative, **wrong}, schema)


def test_the_contract_example_is_accepted() -> None:
    text = """
study: ring-quickstart              # [a-z0-9][a-z0-9._-]{0,63}
question: Which loss stays stable as k and the learning rate vary?
target: {name: ring, modes: 8, radius: 2.0, std: 0.1}
networks: {name: mlp, latent_dim: 16, width: 64, depth: 2}           # depth = hidden layers
scientific:                         # crossed; their effect is the question
  loss:
    - minimax
    - non_saturating
    - {name: wasserstein, penalty: weight_clipping, clip: 0.1, label: wgan-c0.1}
    - {name: non_saturating, penalty: r1, penalty_weight: [0.1, 1, 10], label: ns-r1}
    - wgan_gp                       # a preset
  k: [1, 2]
nuisance:
  learning_rate: {low: 1e-4, high: 1e-2, points: 4, scale: log}      # or a plain list
fixed: {batch_size: 128, optimizer: adam, beta1: 0.5, beta2: 0.999}
replicates: 8
seed: 1
budget: {unit: generator_steps, value: 3000, evaluations: 30, evaluation_samples: 2500}
search: {method: grid}
scheduler: {name: none}
criteria: {}
resources: {cpus_per_trial: 1, gpus_per_trial: auto, cohort_size: auto, max_concurrent_trials: auto, device: auto}
tracking: {replicate_runs: false}
"""
    data = parse_yaml(text.encode(), source="example").data
    assert isinstance(data, dict)
    assert len(configurations(StudySpec.from_dict(data))) == (4 + 3) * 2 * 4


def test_light_modules_stay_light() -> None:
    code = (
        "import sys, study.spec, study.plan\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'optuna', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "raise SystemExit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_spec_errors_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(SpecError(["a: x", "b: y"])))
    assert error.problems == ["a: x", "b: y"]
    assert str(error) == "a: x\nb: y"


RATES = st.one_of(
    st.floats(1e-6, 1, allow_subnormal=False),
    st.lists(st.floats(1e-6, 1).map(lambda x: float(f"{x:.6g}")), min_size=1, max_size=4, unique=True),
    st.builds(
        lambda low, ratio, points, scale: {"low": low, "high": low * ratio, "points": points, "scale": scale},
        st.floats(1e-5, 1e-2),
        st.floats(2, 1e3),
        st.integers(2, 5),
        st.sampled_from(["log", "linear"]),
    ),
)
ENTRIES = st.one_of(
    st.sampled_from(list(LOSSES)),
    st.builds(
        lambda name, penalty, weight: {"name": name, "penalty": penalty, "penalty_weight": weight},
        st.sampled_from(list(LOSSES)),
        st.sampled_from([name for name, entry in PENALTIES.items() if "penalty_weight" in entry.defaults]),
        RATES,
    ),
)


def _label(entry: Any) -> str:
    return entry if isinstance(entry, str) else f"{entry['name']}+{entry['penalty']}"


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    sections: dict[str, dict[str, Any]] = {"scientific": {}, "nuisance": {}, "fixed": {}}
    factors = {
        "learning_rate": RATES,
        "k": st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True),
        "batch_size": st.lists(st.sampled_from([16, 32, 64]), min_size=1, max_size=2, unique=True),
        "optimizer": st.lists(st.sampled_from(["sgd", "adam", "rmsprop"]), min_size=1, max_size=3, unique=True),
        "width": st.lists(st.integers(1, 99), min_size=1, max_size=2, unique=True),
    }
    for name, values in factors.items():
        value = draw(values)
        home = draw(
            st.sampled_from(["scientific", "nuisance", "fixed"] + (["omitted"] if name != "learning_rate" else []))
        )
        if home != "omitted":
            single = home == "fixed"
            value = value["low"] if single and isinstance(value, dict) else value
            sections[home][name] = value[0] if single and isinstance(value, list) else value
    sections["scientific"]["loss"] = draw(st.lists(ENTRIES, min_size=1, max_size=3, unique_by=_label))
    return study(
        question=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        seed=draw(st.integers(0, 2**63 - 1)),
        **sections,
    )


@settings(max_examples=60, deadline=None)
@given(studies())
def test_dump_reads_back_to_the_same_study(mapping: dict[str, Any]) -> None:
    spec = StudySpec.from_dict(mapping)
    data = parse_yaml(spec.dump().encode(), source="dump").data
    assert isinstance(data, dict)
    again = StudySpec.from_dict(data)
    assert again == spec
    assert (again.spec_hash, again.criteria_hash) == (spec.spec_hash, spec.criteria_hash)
    assert again.dump() == spec.dump()
    assert spec.difference(again) == []


def _count(value: Any) -> int:
    return value["points"] if isinstance(value, dict) else len(value) if isinstance(value, list) else 1


@settings(max_examples=60, deadline=None)
@given(studies())
def test_a_grid_has_the_product_of_its_factors(mapping: dict[str, Any]) -> None:
    given_ = {**mapping["scientific"], **mapping["nuisance"]}
    losses = given_.pop("loss")
    weights = sum(_count(entry.get("penalty_weight")) if isinstance(entry, dict) else 1 for entry in losses)
    expected = weights * math.prod(_count(value) for value in given_.values())
    spec = StudySpec.from_dict(mapping)
    assert len(configurations(spec)) == expected
    assert sum(spec.design.size(entry) or 0 for entry in spec.design.entries) == expected


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just({"low": 1, "high": math.inf, "points": 3}),
    st.lists(st.integers() | st.floats() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
).map(copy.deepcopy)  # `just` hands out one object: a mutation put inside itself would be endless


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path] * bool(path) + [found for key, value in children for found in _paths(value, (*path, key))]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_mutations_of_a_valid_study_raise_spec_errors_only(data: st.DataObject) -> None:
    mapping = copy.deepcopy(StudySpec.from_dict(study()).operative)
    for _ in range(data.draw(st.integers(1, 2))):
        *parents, last = data.draw(st.sampled_from(_paths(mapping)))
        place: Any = mapping
        for key in parents:
            place = place[key]
        action = data.draw(st.sampled_from(["drop", "replace", "add"]))
        if action == "drop":
            del place[last]
        elif action == "replace" or isinstance(place, list):
            place[last] = data.draw(ODD)
        else:
            place[data.draw(st.text(max_size=5))] = data.draw(ODD)
    try:
        spec = StudySpec.from_dict(mapping)
        made = configurations(spec)
    except SpecError:
        return  # anything else would fail the test
    assert made
    assert all(0 < value < math.inf for c in made for name, value in c.factors.items() if name.endswith("rate"))
