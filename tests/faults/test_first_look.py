"""The look at MLflow before Ray starts: each kind of absence is one line, soon; any answer will do."""

from __future__ import annotations

import pytest

from study import offline
from study.errors import WorkFailed
from study.offline import require_answer
from tests.faults.proxy import Proxy
from tests.faults.test_proxy import proxy as echo

__all__ = ["echo"]


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("refuse", "Connection refused"),
        ("reset", "reset by peer|without response|Broken pipe"),
        ("blackhole", "no answer within 0.3 s"),
        ("http500", "it answers with 500"),
    ],
)
def test_a_server_that_is_away_is_named_with_the_way_out(
    echo: Proxy, monkeypatch: pytest.MonkeyPatch, mode: str, told: str
) -> None:
    monkeypatch.setattr(offline, "ANSWER_S", 0.3)
    echo.set(mode)
    with pytest.raises(WorkFailed, match=f"^MLflow at shown cannot be used: .*({told}); `--offline` trains"):
        require_answer(echo.uri, shown="shown")


def test_a_server_that_answers_and_a_database_are_let_through(echo: Proxy) -> None:
    require_answer(f"{echo.uri}/mlflow/", shown="shown")
    assert echo.requests == ["/mlflow/health"]
    require_answer("sqlite:////nowhere/mlflow.db", shown="shown")
    require_answer("databricks", shown="shown")
