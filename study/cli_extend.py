"""``ganstudy extend``: more seeds or cells for a study that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from study.cli_options import ADDRESS, HOME, OFFLINE, STUDY, TRACKING_URI, command_line, conclude, err
from study.errors import BadInput
from study.yaml_file import parse_value

if TYPE_CHECKING:
    from study.factors import Scalar

REPLICATES = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Seeds per configuration, the new total: a study of 8 has 12 more with 20. "
        "In a tune_then_confirm study, the total of confirming seeds.",
        show_default=False,
    ),
]
RATES = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Further learning rates of a grid, crossed with all it has, e.g. 1e-5,3e-2.",
        show_default=False,
    ),
]
ADD = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=LIST", help="Further values of another factor, e.g. k=3,4; repeatable."),
]
ONLY = Annotated[
    list[str] | None,
    typer.Option(metavar="LOSS", help="With --replicates: more seeds for this loss (its label) alone; repeatable."),
]


def extend(
    study: STUDY,
    replicates: REPLICATES = None,
    learning_rates: RATES = None,
    add: ADD = None,
    only: ONLY = None,
    home: HOME = None,
    address: ADDRESS = None,
    tracking_uri: TRACKING_URI = None,
    offline: OFFLINE = False,
) -> None:
    """Add seeds or cells to a finished study; what it has is not trained again.

    A new launch in MLflow holds what is new; the report takes all of it together. Cut short, `resume` goes on.
    """
    rates = [float(value) for value in _values("--learning-rates", learning_rates or "") if _is_rate(value)]
    cells = dict(_assigned(text) for text in add or [])
    from study.launch import extend as launch

    conclude(
        launch(
            study,
            replicates=replicates,
            learning_rates=rates,
            add=cells,
            only=only or [],
            home=home,
            address=address,
            tracking_uri=tracking_uri,
            offline=offline,
            command=command_line(),
            console=err(),
        )
    )


def _values(option: str, text: str) -> list[Scalar]:
    """The scalars of ``1e-5,3e-2`` or ``[1e-5, 3e-2]``; none of an empty text. Raises BadInput for anything else."""
    if not text.strip():
        return []
    inner = text.strip()
    value = parse_value(inner if inner.startswith("[") else f"[{inner}]", source=option)
    if not isinstance(value, list) or not value or any(isinstance(v, bool) for v in value):
        raise BadInput(f"{option} takes one or more values, as in 1e-5,3e-2 (got {text!r})")
    for entry in value:
        if not isinstance(entry, int | float | str):
            raise BadInput(f"{option} takes one or more values, as in 1e-5,3e-2 (got {text!r})")
    return list(value)


def _is_rate(value: Scalar) -> bool:
    if isinstance(value, str):
        raise BadInput(f"--learning-rates takes numbers, as in 1e-5,3e-2 (got {value!r})")
    return True


def _assigned(text: str) -> tuple[str, list[Scalar]]:
    key, equals, listed = text.partition("=")
    name = key.strip().rpartition(".")[2]
    if not equals or not name or not listed.strip():
        raise BadInput(f"--add {text}: is written KEY=LIST, for instance k=3,4")
    return name, _values(f"--add {name}", listed)
