"""Strict YAML 1.2: the one doorway to ruamel.yaml.

The file is read as a stream of events, never composed: depth, size, anchors and tags are refused while they pass, and
plain data is built here by the YAML 1.2 core schema (``1e-4`` is a number, ``yes`` and ``012`` hold no surprise).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from study.problems import FieldPath, SpecError, dotted

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 20_000
_MAX_DIGITS = 19

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0(o[0-7]+|x[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_SAFE_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*")
_OLD_BOOLEANS = frozenset({"y", "n", "yes", "no", "on", "off"})


@dataclass(frozen=True)
class Document:
    """Plain data of one file and where each value was written (line and column from 1)."""

    data: object
    positions: Mapping[FieldPath, tuple[int, int]]
    source: str

    def locate(self, path: FieldPath) -> str:
        """``file:line:column: `` of the value at ``path``, or of the innermost thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.positions:
                line, column = self.positions[path[:length]]
                return f"{self.source}:{line}:{column}: "
        return f"{self.source}: "


def read_yaml(path: Path) -> Document:
    """The mapping a file holds; raises SpecError, and nothing else, for whatever cannot be read as one."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([f"{path}: cannot be read ({reason})"]) from error
    return parse_yaml(content, source=str(path))


def parse_yaml(content: bytes, *, source: str) -> Document:
    """The mapping that ``content`` holds; ``source`` names it in messages. Raises only SpecError."""
    if len(content) > MAX_BYTES:
        raise SpecError([f"{source}: a study file has at most {MAX_BYTES:,} bytes (got {len(content):,} or more)"])
    document = _parse(_decoded(content, source), source)
    if not isinstance(document.data, dict):
        kind = "nothing" if document.data is None else "a list" if isinstance(document.data, list) else "a single value"
        raise SpecError([f"{source}:1:1: a study file is a mapping, `key: value` line by line (got {kind})"])
    return document


def parse_value(text: str, *, source: str) -> object:
    """One value as a study file would hold it: a number, a name, ``[1, 2]``, ``{low: 1, high: 2}``."""
    return _parse(text, source).data


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted YAML 1.2 scalar means (core schema); raises ValueError for a number beyond all floats."""
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found[1] is not None
    if _DECIMAL.fullmatch(text) or _BASED.fullmatch(text):
        return _whole_number(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"{text} is too large for a number")
        return value
    if found := _INFINITE.fullmatch(text):
        return float(f"{found[1]}inf")
    return math.nan if _NAN.fullmatch(text) else text


def _whole_number(text: str) -> int:
    if len(text.lstrip("+-0xo")) > _MAX_DIGITS:
        raise ValueError(f"a whole number has at most {_MAX_DIGITS} digits, got {text[:24]}...")
    return int(text, 10 if _DECIMAL.fullmatch(text) else 0)


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        kind = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise SpecError(
            [f"{source}: must be UTF-8 text, but byte {error.start} is 0x{content[error.start]:02x}{kind}"]
        ) from error


def _parse(text: str, source: str) -> Document:
    builder = _Builder(source)
    text = text.replace("\r\n", "\n")
    if (tab := text.find("\t")) >= 0:
        builder.refuse(_position(text, tab), "tabs are refused; use spaces")
    for event in _events(text, builder):
        builder.feed(event)
    return Document(data=builder.root, positions=builder.positions, source=source)


def _position(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _events(text: str, builder: _Builder) -> Iterator[Any]:
    events = YAML(typ="safe", pure=True).parse(io.StringIO(text))
    while True:
        try:
            event = next(events)
        except StopIteration:
            return
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = (mark.line + 1, mark.column + 1) if mark else None
            builder.refuse(position, f"not readable as YAML: {error.problem or error.context}")
        except Exception as error:  # a parser of foreign bytes fails in its own ways (chr(), index, ...): all bad input
            builder.refuse(None, f"not readable as YAML: {str(error).splitlines()[0] if str(error) else 'broken'}")
        yield event


@dataclass
class _Open:
    """A mapping or list that has begun and not ended."""

    container: dict[str, object] | list[object]
    path: FieldPath
    key: str | None = None


@dataclass
class _Builder:
    """Turns events into plain data, with a stack of its own instead of recursion."""

    source: str
    root: object = None
    positions: dict[FieldPath, tuple[int, int]] = field(default_factory=dict)
    _stack: list[_Open] = field(default_factory=list)
    _documents: int = 0

    def refuse(self, position: tuple[int, int] | None, rule: str, path: FieldPath = ()) -> NoReturn:
        """Raises the SpecError for a rule broken at ``position``."""
        where = f"{self.source}:{position[0]}:{position[1]}" if position else self.source
        named = f"{dotted(path)}: " if path else ""
        raise SpecError([f"{where}: {named}{rule}"])

    def feed(self, event: Any) -> None:
        """Takes the next event."""
        position = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            self._begin_document(event, position)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._stack.pop()
        elif isinstance(event, AliasEvent | ScalarEvent | MappingStartEvent | SequenceStartEvent):
            self._check(event, position)
            if isinstance(event, ScalarEvent):
                self._scalar(event, position)
            else:
                container: dict[str, object] | list[object] = {} if isinstance(event, MappingStartEvent) else []
                self._stack.append(_Open(container, self._place(container, position)))

    def _begin_document(self, event: Any, position: tuple[int, int]) -> None:
        self._documents += 1
        if self._documents > 1:
            self.refuse(position, "one document in a file; remove the second `---`")
        if event.version or event.tags:
            self.refuse((1, 1), "%YAML and %TAG directives are refused; the file is YAML 1.2")

    def _check(self, event: Any, position: tuple[int, int]) -> None:
        if isinstance(event, AliasEvent) or event.anchor:
            self.refuse(position, "anchors (&name) and aliases (*name) are refused; write the value out")
        if event.ctag is not None:
            self.refuse(position, f"tags are refused; remove {event.tag or '!'}")
        if not isinstance(event, ScalarEvent) and len(self._stack) >= MAX_DEPTH:
            self.refuse(position, f"nested more than {MAX_DEPTH} deep")
        if len(self.positions) >= MAX_VALUES:
            self.refuse(position, f"more than {MAX_VALUES:,} values")

    def _scalar(self, event: Any, position: tuple[int, int]) -> None:
        if self._awaits_key():
            self._begin_key(event.value, position)
            return
        value: object = event.value
        if event.implicit[0]:
            try:
                value = plain_scalar(event.value)
            except ValueError as error:
                self.refuse(position, str(error), self._next_path())
        if isinstance(value, str) and not _encodable(value):
            self.refuse(position, "holds half a character (a lone surrogate)", self._next_path())
        self._place(value, position)

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].container, dict) and self._stack[-1].key is None

    def _begin_key(self, key: str, position: tuple[int, int]) -> None:
        top = self._stack[-1]
        path = (*top.path, key)
        if not _encodable(key):
            self.refuse(position, "a key holds half a character (a lone surrogate)")
        if key in top.container:
            self.refuse(position, f"duplicate key (first on line {self.positions[path][0]})", path)
        self.positions[path] = position
        top.key = key

    def _next_path(self) -> FieldPath:
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.path, len(top.container) if isinstance(top.container, list) else str(top.key))

    def _place(self, value: object, position: tuple[int, int]) -> FieldPath:
        """Puts ``value`` where it belongs and returns its path."""
        if self._awaits_key():
            self.refuse(position, "a key must be a single name", self._stack[-1].path)
        path = self._next_path()
        self.positions.setdefault(path, position)
        if not self._stack:
            self.root = value
            return path
        top = self._stack[-1]
        if isinstance(top.container, list):
            top.container.append(value)
        else:
            top.container[str(top.key)] = value
            top.key = None
        return path


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def dump_yaml(data: Mapping[str, object]) -> str:
    """YAML text that ``parse_yaml`` reads back as equal data: sections as blocks, what is inside them in one line."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 2**20
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_node(data, depth=0), stream)
    return stream.getvalue()


def _node(value: object, *, depth: int) -> object:
    if isinstance(value, Mapping):
        mapping = CommentedMap((_node(key, depth=depth), _node(item, depth=depth + 1)) for key, item in value.items())
        if depth > 1 or not mapping:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(_node(item, depth=depth + 1) for item in value)
        if not sequence or not isinstance(value[0], Mapping):
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str) and (not _SAFE_PLAIN.fullmatch(value) or _surprising(value)):
        return DoubleQuotedScalarString(value)
    return value


def _surprising(text: str) -> bool:
    """Whether the unquoted text would be something else than itself, here or to a YAML 1.1 reader."""
    return not isinstance(plain_scalar(text), str) or text.lower() in _OLD_BOOLEANS
