"""Who may write the studies' storage can forge a checkpoint, digests and all; loading it still runs nothing of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from study.checkpoint import newest_checkpoint, write_checkpoint
from study.history import SAMPLES_SCHEMA
from study.manifest import manifest_bytes


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_forged_checkpoint_is_valid_to_look_at_and_runs_nothing(tmp_path: Path, wrapped: bool) -> None:
    canary = tmp_path / "canary"
    path = write_checkpoint(
        tmp_path / "cohort",
        generator_step=10,
        evaluations_done=1,
        complete=False,
        state={"step": 10},
        history=SAMPLES_SCHEMA.empty_table(),
        samples=SAMPLES_SCHEMA.empty_table(),
        attempt=1,
    )
    state = path / "state.pt"
    if wrapped:
        torch.save({"step": Evil(canary)}, state)
    else:
        state.write_bytes(pickle.dumps({"step": Evil(canary)}, protocol=2))
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"}
    facts = {"generator_step": 10, "evaluations_done": 1, "complete": False, "attempt": 1}
    (path / "manifest.json").write_bytes(manifest_bytes(facts, files))
    forged = newest_checkpoint(tmp_path / "cohort").checkpoint
    assert forged is not None
    with pytest.raises(pickle.UnpicklingError):
        forged.state()
    assert not canary.exists()
    torch.load(state, weights_only=False) if wrapped else pickle.loads(files["state.pt"])
    assert canary.exists()  # it would have
