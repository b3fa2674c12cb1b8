"""Studies side by side: how many trials each may have."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from study.search import PlanOrder
from study.sections import Resources
from study.share import LOOK_EVERY_S, FairShare, Share, queued_share


class World:
    """Studies and slots of a cluster, and the time."""

    def __init__(self, *studies: str, slots: int) -> None:
        self.studies, self.slots, self.now, self.looks = set(studies), slots, 0.0, 0

    def fair(self) -> FairShare:
        return FairShare(studies=self._look, slots=lambda: self.slots, clock=lambda: self.now)

    def _look(self) -> set[str]:
        self.looks += 1
        return self.studies


def test_alone_a_study_fills_the_cluster_and_one_trial_waits_for_an_autoscaler() -> None:
    assert World("mine", slots=8).fair()() == 9
    assert World(slots=8).fair()() == 9  # the head could not say who is there


@pytest.mark.parametrize(("studies", "slots", "part"), [(2, 8, 4), (3, 8, 3), (9, 4, 1), (2, 1, 1)])
def test_the_parts_cover_the_slots_and_nobody_gets_none(studies: int, slots: int, part: int) -> None:
    limit = World(*(f"s{i}" for i in range(studies)), slots=slots).fair()()
    assert limit == part
    assert studies * limit >= slots


def test_a_part_follows_the_cluster_but_the_head_is_not_asked_all_the_time() -> None:
    world = World("a", "b", slots=8)
    fair = world.fair()
    assert [fair() for _ in range(5)] == [4] * 5
    assert world.looks == 1
    world.studies, world.slots, world.now = {"a"}, 16, LOOK_EVERY_S
    assert fair() == 17
    world.studies, world.now = {"a", "b"}, 2 * LOOK_EVERY_S
    assert fair() == 8


def test_a_cohort_waits_while_the_part_is_used_up_and_goes_when_one_ends() -> None:
    limit = 2
    order = PlanOrder(["a", "b", "c", "d"], stopping=lambda: False, limit=lambda: limit)
    assert [order.suggest(str(i)) for i in range(3)] == [{"cohort": "a"}, {"cohort": "b"}, None]
    order.on_trial_complete("0")
    assert order.suggest("3") == {"cohort": "c"}
    assert order.suggest("4") is None
    limit = 0  # whatever the head says, somebody who has nothing gets one
    order.on_trial_complete("1")
    assert order.suggest("5") is None
    order.on_trial_complete("3")
    assert order.suggest("6") == {"cohort": "d"}
    assert order.suggest("7") == "FINISHED"


def test_on_a_cluster_only_the_study_itself_sets_a_fixed_limit() -> None:
    share = Share(cpus=1.0, gpus=0.0, concurrent=3)
    assert queued_share(share, Resources(), cohorts=50).concurrent == 50
    assert queued_share(share, Resources(max_concurrent_trials=3), cohorts=50).concurrent == 3


@pytest.mark.parametrize(
    ("now", "most", "total"),
    [
        ({"CPU": 0.0}, {"CPU": 96, "GPU": 8}, {"CPU": 96.0, "GPU": 8.0}),  # a head that trains nothing, no worker yet
        ({"CPU": 128.0, "memory": 5.0}, {"CPU": 96}, {"CPU": 128.0, "memory": 5.0}),  # nodes beyond the file
        ({"CPU": 3.0}, None, {"CPU": 3.0}),  # no autoscaler
    ],
)
def test_what_an_autoscaler_may_add_counts_as_there(
    monkeypatch: pytest.MonkeyPatch, now: dict[str, float], most: dict[str, int] | None, total: dict[str, float]
) -> None:
    import ray
    from ray._private.state import state

    from study.ray_doorway import total_resources

    monkeypatch.setattr(ray, "cluster_resources", lambda: now)
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: most)
    assert total_resources() == total
