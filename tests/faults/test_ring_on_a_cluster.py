"""The study that people run first, on three machines, driven by `submit` and `status` alone; one of them is lost."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from study.folder import StudyFolder
from tests.clusters import REPOSITORY, LoopbackCluster
from tests.faults.conftest import violations
from tests.study.test_cluster import Laptop, training

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

LOOK_EVERY_S = 5.0


def follow(laptop: Laptop, study: str, *, done: int) -> dict[str, Any]:
    """Asks `status` until so many replicates are done or the study ended; one that runs gets all the time it needs."""
    while True:
        found = laptop.status(study)
        if found["state"] not in ("pending", "running") or found.get("done", 0) >= done:
            return found
        time.sleep(LOOK_EVERY_S)


def test_the_ring_study_is_complete_although_a_machine_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "shared"
    environment = {"GANSTUDY_HOME": str(home), "GANSTUDY_CHECKPOINT_EVERY_S": "5"}
    with LoopbackCluster(tmp_path / "cluster", nodes=3, cpus=1, environment=environment) as cluster:
        laptop = Laptop(cluster, tmp_path / "laptop")
        shutil.copy(REPOSITORY / "studies/ring.yaml", laptop.folder)
        began = time.monotonic()
        assert laptop.submit("ring.yaml") == "ring-1"
        before = follow(laptop, "ring", done=48)
        assert before["state"] == "running"
        lost = next(place for place in (2, 1) if training(cluster, place))
        cluster.kill_node(lost)
        cluster.add_node(wait=False)
        ended = follow(laptop, "ring", done=241)
        seconds = time.monotonic() - began
    assert (ended["state"], ended["done"], ended["failed"], ended["attempt"]) == ("finished", 240, 0, 1), ended
    assert violations(StudyFolder(home, "ring")) == []
    print(json.dumps({"lost_at_done": before["done"], "seconds": round(seconds), "outcomes": ended["outcomes"]}))
