"""What the report says of losses and penalties that are the user's own."""

from __future__ import annotations

import pandas as pd

from analysis.report_text import loss_rows
from trainers.catalogue import PENALTIES


def test_the_users_own_loss_and_penalty_are_named_never_called_none() -> None:
    runs = pd.DataFrame(
        {
            "loss": ["mine", "hinge+r1"],
            "adversarial_loss": ["my_parts:squared_hinge", "hinge"],
            "penalty": ["my_parts:drift", "r1"],
        }
    )
    own, registered = loss_rows(runs, ["mine", "hinge+r1"])
    assert own["discriminator"] == "my_parts:squared_hinge"
    assert own["penalty"].startswith("my_parts:drift: ")
    assert own["reference"] == ""
    assert registered["penalty"] == f"r1: {PENALTIES['r1'].formula}"
