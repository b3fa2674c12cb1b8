"""The plan: which replicate trains where, under which key and seed, and what must not matter to that."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.configurations import configurations
from study.cost import STARTUP_S, cohort_seconds, makespan, parameter_count, unit_count
from study.errors import WorkFailed
from study.plan import Plan, make_plan, plan_for, replicate_seed
from study.share import require_room, share_of
from study.spec import SpecError, StudySpec


def study(**changes: Any) -> StudySpec:
    base: dict[str, Any] = {
        "study": "small",
        "target": {"name": "ring", "modes": 5},
        "scientific": {
            "loss": ["minimax", {"name": "hinge", "penalty": "r1", "penalty_weight": [0.1, 1, 10]}],
            "k": [1, 3],
        },
        "nuisance": {"learning_rate": [1e-4, 1e-3, 1e-2], "beta1": [0.0, 0.5]},
        "budget": {"value": 400, "evaluations": 20},
        "replicates": 8,
    }
    return StudySpec.from_dict({**base, **changes})


def one(**changes: Any) -> str:
    """The key of a study of a single configuration."""
    base: dict[str, Any] = {
        "study": "one",
        "target": {"name": "ring"},
        "scientific": {"loss": "wgan_gp"},
        "fixed": {"learning_rate": 1e-3},
        "budget": {"value": 400},
    }
    (configuration,) = configurations(StudySpec.from_dict({**base, **changes}))
    return configuration.configuration_key


def assert_partition(plan: Plan) -> None:
    members = [member for cohort in plan.cohorts for member in cohort.members]
    expected = {(c.configuration_key, r) for c in plan.configurations for r in range(c.replicates)}
    assert len(members) == len(set(members)) == plan.replicates
    assert set(members) == expected
    assert len({cohort.cohort for cohort in plan.cohorts}) == len(plan.cohorts)


@settings(max_examples=40, deadline=None)
@given(
    replicates=st.integers(1, 200),
    size=st.one_of(st.just("auto"), st.integers(1, 80)),
    workers=st.integers(1, 40),
    rates=st.integers(1, 5),
)
def test_cohorts_partition_the_replicates_and_share_one_program(
    replicates: int, size: int | str, workers: int, rates: int
) -> None:
    values = [1e-4 * (i + 1) for i in range(rates)]
    spec = study(replicates=replicates, resources={"cohort_size": size}, nuisance={"learning_rate": values})
    plan = make_plan(spec, workers=workers, max_members=64)
    assert_partition(plan)
    limit = size if isinstance(size, int) else 64
    for cohort in plan.cohorts:
        keys = {key for key, _ in cohort.members}
        programs = [plan.configuration(key).program() for key in keys]
        assert all(program == programs[0] for program in programs)
        assert len(cohort.members) <= limit
        whole = all(sum(k == key for k, _ in cohort.members) == replicates for key in keys)
        assert whole or (len(keys) == 1 and replicates > limit - 64), "only what is too large for a cohort is split"


def test_members_of_a_cohort_differ_in_their_numbers_only() -> None:
    plan = make_plan(study(resources={"cohort_size": 144}), workers=1)
    assert [len(cohort.members) for cohort in plan.cohorts] == [144, 144, 48, 48]
    assert [cohort.cohort for cohort in plan.cohorts] == [
        "c000-hinge-r1-k3",
        "c001-hinge-r1-k1",
        "c002-minimax-k3",
        "c003-minimax-k1",
    ]
    numbers = [plan.configuration(key).member(r).numbers for key, r in plan.cohorts[0].members]
    assert {tuple(entry) for entry in numbers} == {
        ("generator_learning_rate", "discriminator_learning_rate", "beta1", "beta2", "penalty_weight")
    }
    assert {entry["penalty_weight"] for entry in numbers} == {0.1, 1.0, 10.0}
    assert {(e["generator_learning_rate"], e["discriminator_learning_rate"]) for e in numbers} == {
        (rate, rate) for rate in (1e-4, 1e-3, 1e-2)
    }


def test_what_a_program_holds_never_shares_a_cohort() -> None:
    spec = study(
        scientific={
            "loss": ["hinge", "relativistic", "wgan", "wgan_gp"],
            "batch_size": [32, 64],
            "width": [8, 9],
            "std": [0.1, 0.2],
        },
        nuisance={"learning_rate": 0.1, "optimizer": ["sgd", "adam"], "updates": ["alternating", "simultaneous"]},
        replicates=2,
    )
    plan = make_plan(spec, workers=1)
    assert len(plan.configurations) == 4 * 2 * 2 * 2 * 2 * 2
    assert [len(cohort.members) for cohort in plan.cohorts] == [2] * 128


@pytest.mark.parametrize(
    ("replicates", "rates", "workers", "sizes"),
    [
        (8, 8, 1, [64, 64]),  # nobody waits: the largest cohorts
        (8, 8, 4, [32, 32, 32, 32]),
        (8, 8, 8, [16] * 8),
        (8, 8, 100, [16] * 8),  # smaller ones would cost more than they save
        (100, 1, 1, [56, 56, 44, 44]),  # too large: split, in multiples of eight
        (3, 2, 1, [6, 6]),
        (40, 2, 3, [40] * 4),  # three workers have work: no configuration is split for balance
        (40, 2, 8, [24] * 4 + [16] * 4),  # four of eight would have none
    ],
)
def test_automatic_sizes_keep_the_workers_busy(replicates: int, rates: int, workers: int, sizes: list[int]) -> None:
    spec = study(
        scientific={"loss": ["minimax", "non_saturating"]},
        nuisance={"learning_rate": [0.001 * (i + 1) for i in range(rates)]},
        replicates=replicates,
    )
    plan = make_plan(spec, workers=workers, max_members=64)
    assert [len(cohort.members) for cohort in plan.cohorts] == sizes


def test_larger_machines_may_have_larger_cohorts() -> None:
    spec = study(scientific={"loss": "hinge"}, nuisance={"learning_rate": [0.1, 0.2]}, replicates=100)
    assert [len(c.members) for c in make_plan(spec, workers=1, max_members=512).cohorts] == [200]
    assert max(len(c.members) for c in make_plan(spec, workers=1).cohorts) == 32, "on CPU larger ones win nothing"


def test_the_dearest_cohorts_come_first() -> None:
    plan = make_plan(study(), workers=2)
    seconds = [cohort_seconds(plan.configuration(c.members[0][0]).program(), len(c.members)) for c in plan.cohorts]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 2 * seconds[-1]  # k 3 with a penalty against k 1 without


CANONICAL = (
    '{"adversarial_loss":"wasserstein",'
    '"budget":{"evaluation_samples":2500,"evaluations":30,"unit":"generator_steps","value":400},'
    '"factors":{"batch_size":128,"beta1":0.5,"beta2":0.999,"discriminator_learning_rate":0.001,'
    '"generator_learning_rate":0.001,"k":1,"optimizer":"adam","penalty_weight":10.0,"updates":"alternating"},'
    '"networks":{"depth":2,"latent_dim":16,"name":"mlp","width":64},"penalty":"gradient_penalty",'
    '"target":{"modes":8,"name":"ring","radius":2.0,"std":0.1}}'
)
KEY = "6391e514d14de2c3"


def test_the_key_of_a_configuration_is_the_one_of_the_first_release() -> None:
    assert one() == KEY == hashlib.sha256(CANONICAL.encode()).hexdigest()[:16]
    assert replicate_seed(1, KEY, 0) == 3475682046996997808
    assert configurations(study())[0].target_id == "8087a96b185f"


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "other", "question": "Why?"},
        {"seed": 5},
        {"replicates": 2},
        {"resources": {"cohort_size": 3}, "tracking": {"replicate_runs": True}, "criteria": {"blowup": 9}},
        {"scientific": {"loss": {"name": "wgan_gp", "label": "mine"}}},
        {"scientific": {"loss": {"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": [10]}}},
        {
            "scientific": {"loss": "wgan_gp", "k": 1, "width": [64]},
            "fixed": {"learning_rate": 0.001000000000000001, "modes": 8},
        },
        {"fixed": {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-3}},
        {"networks": {"name": "mlp", "depth": 2}, "target": {"name": "ring", "std": 0.1}},
        {"search": {"method": "random", "configurations": 1}},
    ],
    ids=",".join,
)
def test_the_key_ignores_names_labels_and_where_a_value_was_written(changes: dict[str, Any]) -> None:
    assert one(**changes) == KEY


CHANGES: list[dict[str, Any]] = [
    {"scientific": {"loss": "wgan"}},
    {"scientific": {"loss": {"name": "relativistic", "penalty": "gradient_penalty"}}},
    {"scientific": {"loss": {"name": "wgan_gp", "penalty_weight": 1}}},
    *(
        {"fixed": {"learning_rate": 1e-3, **more}}
        for more in (
            {"learning_rate": 1.00000000001e-3},
            {"k": 2},
            {"batch_size": 64},
            {"optimizer": "rmsprop"},
            {"beta1": 0.4},
            {"beta2": 0.99},
            {"updates": "simultaneous"},
            {"width": 32},
            {"modes": 7},
        )
    ),
    {"fixed": {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 2e-3}},
    {"fixed": {"generator_learning_rate": 2e-3, "discriminator_learning_rate": 1e-3}},
    {"target": {"name": "grid"}},
    {"target": {"name": "ring", "std": 0.2}},
    {"networks": {"name": "mlp", "depth": 1}},
    {"budget": {"value": 401}},
    {"budget": {"value": 400, "unit": "gradient_evaluations"}},
    {"budget": {"value": 400, "evaluations": 20}},
    {"budget": {"value": 400, "evaluation_samples": 1000}},
]


def test_the_key_changes_with_everything_that_is_run() -> None:
    keys = [one(), *(one(**changes) for changes in CHANGES)]
    assert len(set(keys)) == len(CHANGES) + 1


def test_one_configuration_under_two_labels_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        make_plan(
            study(
                scientific={"loss": ["ns_r1", {"name": "non_saturating", "penalty": "r1", "penalty_weight": [1, 0.1]}]}
            ),
            workers=1,
        )
    assert len(caught.value.problems) == 6  # three rates and two betas at the common weight
    held = "batch_size=128, optimizer=adam, updates=alternating"
    values = f"(k=1, learning_rate=0.0001, {held}, beta1=0.0, beta2=0.999, penalty_weight=0.1)"
    assert caught.value.problems[0] == (
        f"scientific.loss: 'ns_r1' {values} and 'non_saturating+r1' {values} are the same configuration"
    )


def test_seeds_are_distinct_63_bit_numbers_that_follow_the_study_seed() -> None:
    plan = make_plan(study(replicates=500), workers=1)
    seeds = [seed for c in plan.configurations for seed in c.seeds]
    assert len(set(seeds)) == len(seeds) == plan.replicates == 24_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert abs(np.mean(seeds) / 2**62 - 1) < 0.02  # uniform: the mean's standard error is 0.004
    other = make_plan(study(replicates=500, seed=2), workers=1)
    assert not set(seeds) & {seed for c in other.configurations for seed in c.seeds}
    fewer = make_plan(study(replicates=3), workers=9)
    assert [c.seeds for c in fewer.configurations] == [c.seeds[:3] for c in plan.configurations]


@pytest.mark.parametrize(
    ("unit", "value", "k", "penalised", "horizon"),
    [
        ("generator_steps", 300, 3, True, 300),
        ("samples_seen", 10_000, 3, True, 52),  # 10000 / (3 x 64)
        ("gradient_evaluations", 300, 3, True, 42),  # 300 / (1 + 3 x 2)
        ("gradient_evaluations", 300, 3, False, 75),  # 300 / (1 + 3)
    ],
)
def test_the_horizon_is_what_the_budget_buys(unit: str, value: int, k: int, penalised: bool, horizon: int) -> None:
    spec = study(
        scientific={"loss": "wgan_gp" if penalised else "hinge", "k": k},
        nuisance={"learning_rate": 0.1},
        fixed={"batch_size": 64},
        budget={"unit": unit, "value": value, "evaluations": 20},
    )
    (configuration,) = configurations(spec)
    assert configuration.horizon == configuration.program().horizon == horizon


def test_factors_hold_every_effective_value_and_params_the_parts_as_well() -> None:
    spec = study(
        scientific={"loss": {"name": "wgan_gp", "label": "gp"}, "k": 2},
        nuisance={"generator_learning_rate": 0.1, "discriminator_learning_rate": 0.2, "width": [16]},
        fixed={"optimizer": "sgd"},
        replicates=2,
    )
    (configuration,) = configurations(spec)
    assert configuration.factors == {
        "k": 2,
        "generator_learning_rate": 0.1,
        "discriminator_learning_rate": 0.2,
        "batch_size": 128,
        "optimizer": "sgd",
        "updates": "alternating",
        "momentum": 0.0,
        "width": 16,
        "penalty_weight": 10.0,
    }
    assert configuration.networks == {"name": "mlp", "latent_dim": 16, "width": 16, "depth": 2}
    params = configuration.params()
    assert (params["loss"], params["adversarial_loss"], params["penalty"]) == ("gp", "wasserstein", "gradient_penalty")
    assert (params["target.modes"], params["networks.width"], params["networks.name"]) == (5, 16, "mlp")
    assert configuration.member(1).numbers == {
        "generator_learning_rate": 0.1,
        "discriminator_learning_rate": 0.2,
        "momentum": 0.0,
        "penalty_weight": 10.0,
    }
    assert configuration.member(1).seed == configuration.seeds[1] != configuration.seeds[0]


def drawn(count: int, *, seed: int = 1, losses: Any = "hinge", **nuisance: Any) -> list[Any]:
    spec = study(
        scientific={"loss": losses, "k": [1, 2, 5]},
        nuisance={"learning_rate": {"low": 1e-4, "high": 1e-1, "scale": "log"}, **nuisance},
        search={"method": "random", "configurations": count},
        seed=seed,
        replicates=1,
    )
    return list(configurations(spec))


def test_random_draws_are_log_uniform_and_equal_over_lists() -> None:
    made = drawn(3000)
    assert len({c.configuration_key for c in made}) == 3000
    rates = np.log10([c.factors["learning_rate"] for c in made])
    assert -4 <= rates.min() < -3.98
    assert -1.02 < rates.max() <= -1
    assert np.allclose(np.histogram(rates, bins=3, range=(-4, -1))[0], 1000, atol=110)  # four standard deviations
    ks = [c.factors["k"] for c in made]
    assert np.allclose([ks.count(k) for k in (1, 2, 5)], 1000, atol=110)
    assert abs(np.corrcoef(rates, ks)[0, 1]) < 0.08


def test_draws_follow_the_seed_and_are_the_same_cells_for_every_loss() -> None:
    def cells(made: list[Any]) -> list[tuple[Any, Any]]:
        return [(c.factors["k"], c.factors["learning_rate"]) for c in made]

    alone = cells(drawn(6))
    assert cells(drawn(6)) == alone
    assert cells(drawn(9))[:6] == alone
    assert cells(drawn(6, seed=2)) != alone
    weighted = {"name": "minimax", "penalty": "r1", "penalty_weight": {"low": 0.1, "high": 10}}
    together = drawn(6, losses=[weighted, "hinge"])
    assert cells(together[:6]) == cells(together[6:]) == alone
    assert len({c.factors["penalty_weight"] for c in together[:6]}) == 6
    assert cells(drawn(6, beta1=[0.1, 0.2])) == alone, "one more factor leaves the draws of the others"


def test_random_integers_cover_their_range_evenly() -> None:
    made = drawn(900, batch_size={"low": 5, "high": 7})
    sizes = [c.factors["batch_size"] for c in made]
    assert {type(size) for size in sizes} == {int}
    assert np.allclose([sizes.count(size) for size in (5, 6, 7)], 300, atol=60)


def test_a_finite_space_can_be_drawn_empty() -> None:
    spec = study(search={"method": "random", "configurations": 12}, scientific={"loss": "hinge", "k": [1, 2]})
    assert {c.configuration_key for c in configurations(spec)} == {
        c.configuration_key for c in configurations(study(scientific={"loss": "hinge", "k": [1, 2]}))
    }


def test_plan_json_is_exact_and_holds_nothing_volatile() -> None:
    plan = make_plan(study(), workers=2)
    text = json.dumps(plan.to_json())
    assert Plan.from_json(json.loads(text)) == plan
    assert json.dumps(make_plan(study(), workers=2).to_json()) == text
    assert json.loads(text).keys() == {"schema", "study", "spec_hash", "criteria_hash", "configurations", "cohorts"}
    assert plan.configuration(plan.configurations[3].configuration_key) is plan.configurations[3]
    for damage in ({"schema": 2}, {"configurations": [{}]}, {"cohorts": None}):
        with pytest.raises(ValueError, match=r"plan\.json"):
            Plan.from_json({**json.loads(text), **damage})


def test_the_estimate_counts_steps_exactly_and_grows_with_the_work() -> None:
    plan = make_plan(study(), workers=2)
    estimate = plan.estimate(workers=2)
    assert estimate.replicate_steps == 48 * 8 * 400
    assert estimate.generator_steps == len(plan.cohorts) * 400
    alone = sum(cohort_seconds(plan.configuration(c.members[0][0]).program(), len(c.members)) for c in plan.cohorts)
    assert plan.estimate(workers=1).wall_s == pytest.approx(STARTUP_S + alone)
    assert estimate.wall_s < plan.estimate(workers=1).wall_s <= 2 * estimate.wall_s
    program = plan.configurations[0].program()
    assert cohort_seconds(program, 8) < cohort_seconds(replace(program, k=2), 8)
    assert cohort_seconds(program, 9) < cohort_seconds(replace(program, networks={"name": "mlp", "width": 200}), 9)


def test_parameters_of_an_mlp_counted_by_hand() -> None:
    networks = {"name": "mlp", "latent_dim": 3, "width": 5, "depth": 2}
    generator = (3 * 5 + 5) + (5 * 5 + 5) + (5 * 2 + 2)
    discriminator = (2 * 5 + 5) + (5 * 5 + 5) + (5 * 1 + 1)
    assert parameter_count(networks, {"name": "ring"}) == generator + discriminator
    assert unit_count(networks, {"name": "ring"}) == (5 + 5 + 2) + (5 + 5 + 1)


@pytest.mark.parametrize(
    ("target", "networks", "batch_size", "low", "high"),
    [
        ({"name": "ring"}, {"name": "mlp", "latent_dim": 16, "width": 64}, 128, 2300, 2600),
        ({"name": "digits"}, {"name": "mlp", "latent_dim": 32, "width": 128}, 64, 1300, 1400),
    ],
)
def test_the_cost_model_meets_the_rates_it_was_measured_at(
    target: dict[str, Any], networks: dict[str, Any], batch_size: int, low: float, high: float
) -> None:
    spec = study(
        target=target, networks=networks, scientific={"loss": "hinge"}, nuisance={"learning_rate": 0.1}, replicates=64,
        fixed={"batch_size": batch_size}, budget={"value": 1000, "evaluations": 20},
    )  # fmt: skip
    program = configurations(spec)[0].program()

    def seconds(**changes: Any) -> float:
        """Training alone: a horizon twice as long costs that much more."""
        changed = replace(program, **changes)
        return cohort_seconds(replace(changed, horizon=2000), 64) - cohort_seconds(changed, 64)

    assert low < 64 * 1000 / seconds() < high
    assert 1.35 < seconds(k=2) / seconds() < 1.55
    assert 1.35 < seconds(penalty="r1") / seconds() < 1.55


CLUSTER = {"CPU": 64.0, "GPU": 4.0, "memory": 1e11, "node:10.0.0.1": 1.0}


@pytest.mark.parametrize(
    ("cluster", "resources", "share"),
    [
        ({"CPU": 2.0}, {}, (1.0, 0.0, 2)),
        ({"CPU": 8.0}, {"cpus_per_trial": 3}, (3.0, 0.0, 2)),
        ({"CPU": 2.0}, {"cpus_per_trial": 0.1}, (0.1, 0.0, 20)),  # 2 // 0.1 is 19 in floats
        (CLUSTER, {}, (1.0, 0.25, 16)),
        ({"CPU": 8.0, "GPU": 8.0}, {}, (1.0, 1.0, 8)),
        (CLUSTER, {"gpus_per_trial": 0.4}, (1.0, 0.4, 8)),  # two on each of four, not ten on all together
        (CLUSTER, {"gpus_per_trial": 2}, (1.0, 2.0, 2)),
        (CLUSTER, {"device": "cpu"}, (1.0, 0.0, 64)),
        (CLUSTER, {"max_concurrent_trials": 3}, (1.0, 0.25, 3)),
        ({"CPU": 1.0}, {"cpus_per_trial": 4}, (4.0, 0.0, 1)),
        ({}, {}, (1.0, 0.0, 1)),  # a cluster that has not grown yet
    ],
)
def test_a_trial_gets_its_share_of_whatever_there_is(
    cluster: dict[str, float], resources: dict[str, Any], share: tuple[float, float, int]
) -> None:
    found = share_of(cluster, study(resources=resources).resources)
    assert (found.cpus, found.gpus, found.concurrent) == share


@pytest.mark.parametrize(
    ("cluster", "resources", "key"),
    [
        ({"CPU": 2.0}, {"cpus_per_trial": 4}, "cpus_per_trial: a trial needs 4 CPUs and this machine has 2"),
        ({"CPU": 2.0}, {"gpus_per_trial": 0.5}, "gpus_per_trial"),
        ({"CPU": 2.0}, {"device": "cuda"}, "device"),
    ],
)
def test_a_trial_that_could_never_start_is_refused(
    cluster: dict[str, float], resources: dict[str, Any], key: str
) -> None:
    asked = study(resources=resources).resources
    with pytest.raises(WorkFailed, match=key):
        require_room(share_of(cluster, asked), cluster, device=asked.device)
    enough = {"CPU": 4.0, "GPU": 1.0}
    require_room(share_of(enough, asked), enough, device=asked.device)


def test_the_plan_fits_the_cluster_it_will_run_on() -> None:
    spec = study(scientific={"loss": ["minimax", "hinge"]}, nuisance={"learning_rate": [0.1, 0.2]}, replicates=256)

    def sizes(cluster: dict[str, float], **resources: Any) -> list[int]:
        changed = spec.with_overrides([f"resources={json.dumps(resources)}"])
        return [len(cohort.members) for cohort in plan_for(changed, cluster).cohorts]

    assert max(sizes({"CPU": 2.0})) <= 64
    assert sizes({"CPU": 8.0, "GPU": 1.0}, gpus_per_trial=1) == [512, 512], "a GPU trains more members at once"
    assert len(sizes({"CPU": 40.0})) >= 40, "every worker of a cluster has something to do"
    assert sizes({"CPU": 64.0, "GPU": 1.0}, device="cpu") == sizes({"CPU": 64.0})


def test_makespan_of_longest_first() -> None:
    assert makespan([2, 3, 7, 4], workers=2) == 9
    assert makespan([2, 3, 7, 4], workers=1) == 16
    assert makespan([], workers=3) == 0
    assert math.isclose(makespan([0.5] * 5, workers=100), 0.5)
