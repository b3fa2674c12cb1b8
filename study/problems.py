"""Everything that is wrong with a study file, collected and told at once (standard library only)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from study.errors import BadInput, suggestion

FieldPath = tuple[str | int, ...]
"""Where a value lies in the study file: keys and list positions from the top."""

_ABSENT = object()
_LONGEST = 60


class SpecError(BadInput):
    """A study file (or mapping) that breaks rules; ``problems`` holds one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type[SpecError], tuple[list[str]]]:
        return SpecError, (self.problems,)


def dotted(path: FieldPath) -> str:
    """``scientific.loss[2].clip``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: object) -> str:
    """A value as the user would write it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class Problems:
    """Collects problems as ``file:line:column: field.path: rule (got value)``.

    ``locate`` turns a field path into the part before it, which is empty for data that came from no file.
    """

    def __init__(self, locate: Callable[[FieldPath], str] = lambda path: "") -> None:
        self._locate = locate
        self._lines: dict[str, FieldPath] = {}

    def add(self, path: FieldPath, rule: str, got: object = _ABSENT) -> None:
        """Notes that the value at ``path`` breaks ``rule``; the same problem is noted once."""
        ending = "" if got is _ABSENT else f" (got {shown(got)})"
        field = f"{dotted(path)}: " if path else ""
        self._lines.setdefault(f"{self._locate(path)}{field}{rule}{ending}", path)

    def unknown_key(self, path: FieldPath, names: Iterable[str]) -> None:
        """Notes that the last part of ``path`` is none of the keys allowed there."""
        known = list(names)
        self.add(path, f"unknown key{suggestion(str(path[-1]), known)} (known here: {', '.join(known) or 'none'})")

    def unknown_name(self, path: FieldPath, kind: str, got: object, names: Iterable[str]) -> None:
        """Notes that the value at ``path`` names no registered ``kind``."""
        known = list(names)
        near = suggestion(got, known) if isinstance(got, str) else ""
        self.add(path, f"unknown {kind} {shown(got)}{near} (known: {', '.join(known)})")

    def under(self, path: FieldPath) -> bool:
        """Whether anything at or below ``path`` has a problem."""
        return any(found[: len(path)] == path for found in self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)

    def raise_if_any(self) -> None:
        """Raises SpecError with every problem in the order it was found."""
        if self._lines:
            raise SpecError(list(self._lines))
