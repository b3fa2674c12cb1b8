"""Loss entries of a study file: a name, a preset or a mapping with its penalty and conditional values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.factors import Values, read_values
from study.problems import FieldPath, Problems
from study.user_code import IMPORT_RULE, is_import_path, is_well_formed, short_name
from trainers.catalogue import LOSSES, PENALTIES, PRESETS, Parameter, loss_entry, penalty_entry

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
_LABEL_RULE = "must be 1 to 64 letters, digits, spaces or ._+- and begin with a letter or digit"


@dataclass(frozen=True, kw_only=True)
class LossEntry:
    """One line of the comparison: ``parameters`` holds the values of what its loss and penalty declare."""

    label: str
    adversarial_loss: str
    penalty: str
    parameters: Mapping[str, Values]

    def plain(self) -> dict[str, object]:
        """As the operative study file holds it: presets spelt out, single values as scalars."""
        values = {name: _unlisted(given.plain()) for name, given in self.parameters.items()}
        return {"name": self.adversarial_loss, "penalty": self.penalty, **values, "label": self.label}


def _unlisted(plain: object) -> object:
    return plain[0] if isinstance(plain, list) and len(plain) == 1 else plain


def entry_parameters(adversarial_loss: str, penalty: str) -> dict[str, Parameter]:
    """What an entry with this loss and penalty may or must set."""
    return {p.name: p for p in (*loss_entry(adversarial_loss).parameters, *penalty_entry(penalty).parameters)}


def read_entries(raw: object, *, path: FieldPath, problems: Problems, grid: bool) -> tuple[LossEntry, ...]:
    """The entries of ``scientific.loss`` that could be read; notes what is wrong with the others."""
    written = raw if isinstance(raw, list) else [raw]
    if not written:
        problems.add(path, "must name at least one loss", raw)
    if len(written) > 100:
        problems.add(path, f"must have at most 100 entries (got {len(written):,})")
        return ()
    paths = [(*path, i) if isinstance(raw, list) else path for i in range(len(written))]
    read = [
        _read_entry(item, path=where, problems=problems, grid=grid) for item, where in zip(written, paths, strict=True)
    ]
    entries = tuple(entry for entry in read if entry is not None)
    _note_repeats(entries, path=path, problems=problems)
    return entries


def _note_repeats(entries: Sequence[LossEntry], *, path: FieldPath, problems: Problems) -> None:
    for label, count in Counter(entry.label for entry in entries).items():
        if count > 1:
            problems.add(path, f"{count} entries have the label {label!r}; give each its own `label:`")


def _read_entry(raw: object, *, path: FieldPath, problems: Problems, grid: bool) -> LossEntry | None:
    given: dict[str, object] = dict(raw) if isinstance(raw, Mapping) else {"name": raw}
    before = len(problems)
    name_path = (*path, "name") if isinstance(raw, Mapping) else path
    if "name" not in given:
        problems.add(path, "a loss entry needs a name", raw)
        return None
    loss, penalty = _read_names(given, name_path=name_path, path=path, problems=problems)
    if loss is None or penalty is None:
        _read_label(given, "", path=path, problems=problems)
        return None
    label = _read_label(given, _default_label(given, penalty), path=path, problems=problems)
    preset = PRESETS.get(str(given["name"]), {})
    values = {**{key: value for key, value in preset.items() if key not in ("name", "penalty")}, **given}
    parameters = _read_parameters(values, loss, penalty, path=path, problems=problems, grid=grid)
    if len(problems) > before or label is None:
        return None
    return LossEntry(label=label, adversarial_loss=loss, penalty=penalty, parameters=parameters)


def _read_names(
    given: Mapping[str, object], *, name_path: FieldPath, path: FieldPath, problems: Problems
) -> tuple[str | None, str | None]:
    """Registry names (or import paths) of loss and penalty; None for the one that is unknown."""
    name, penalty = given["name"], given.get("penalty", "none")
    loss = name if isinstance(name, str) else ""
    if loss in PRESETS:
        preset = PRESETS[loss]
        if "penalty" in given:
            problems.add(
                (*path, "penalty"),
                f"the preset {loss} sets it; write {{name: {preset['name']}, penalty: ...}} for another",
                penalty,
            )
        return str(preset["name"]), str(preset["penalty"])
    return (
        _known(name, LOSSES, (*LOSSES, *PRESETS), kind="loss", path=name_path, problems=problems),
        _known(penalty, PENALTIES, PENALTIES, kind="penalty", path=(*path, "penalty"), problems=problems),
    )


def _known(
    name: object,
    registered: Container[str],
    offered: Iterable[str],
    *,
    kind: str,
    path: FieldPath,
    problems: Problems,
) -> str | None:
    """``name`` where it is registered or a well-formed import path (not imported here); None after noting why not."""
    if not isinstance(name, str) or not (name in registered or is_import_path(name)):
        problems.unknown_name(path, kind, name, offered)
        return None
    if is_import_path(name) and not is_well_formed(name):
        problems.add(path, IMPORT_RULE, name)
        return None
    return name


def _default_label(given: Mapping[str, object], penalty: str) -> str:
    """The name as written, plus the penalty; of what is named by import path the object's own name."""
    own = [short_name(str(given["name"]))]
    if "penalty" in given and penalty != "none":
        own.append(short_name(penalty))
    return "+".join(own)


def _read_label(given: Mapping[str, object], default: str, *, path: FieldPath, problems: Problems) -> str | None:
    label = given.get("label", default)
    if isinstance(label, str) and _LABEL.fullmatch(label):
        return label
    if "label" in given or default:
        problems.add((*path, "label"), _LABEL_RULE, label)
    return None


def _read_parameters(
    values: Mapping[str, object], loss: str, penalty: str, *, path: FieldPath, problems: Problems, grid: bool
) -> dict[str, Values]:
    allowed = entry_parameters(loss, penalty)
    known = ("name", "penalty", "label", *allowed)
    for key in values:
        if key not in known:
            problems.unknown_key((*path, key), known)
    read = {}
    for name, parameter in allowed.items():
        raw = values.get(name, parameter.default)
        if raw is None:
            problems.add((*path, name), f"required for the penalty {penalty}: {parameter.rule} ({parameter.meaning})")
            continue
        found = read_values(raw, parameter, path=(*path, name), problems=problems, grid=grid)
        if found is not None:
            read[name] = found
    return read
