"""The strict YAML reader: what it takes, what it refuses and where, and that nothing but SpecError comes out of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.problems import SpecError
from study.yaml_file import MAX_BYTES, dump_yaml, parse_value, parse_yaml, plain_scalar, read_yaml


def problem(content: bytes | str) -> str:
    data = content.encode() if isinstance(content, str) else content
    with pytest.raises(SpecError) as caught:
        parse_yaml(data, source="s.yaml")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("1E+2", 100.0),
        (".5", 0.5),
        ("-3", -3),
        ("012", 12),  # 10 in YAML 1.1
        ("0o17", 15),
        ("0x1F", 31),
        ("yes", "yes"),  # true in YAML 1.1
        ("on", "on"),
        ("12:30:00", "12:30:00"),  # 45000 in YAML 1.1
        ("1_000", "1_000"),
        ("True", True),
        ("~", None),
        ("none", "none"),
        ("-.inf", -math.inf),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    read = plain_scalar(text)
    assert read == value
    assert type(read) is type(value)
    assert parse_value(text, source="x") == value


def test_quoted_scalars_are_text() -> None:
    assert parse_yaml(b"a: '1'\nb: \"true\"", source="x").data == {"a": "1", "b": "true"}


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_crlf_change_nothing(prefix: bytes) -> None:
    document = parse_yaml(prefix + b"a: 1\r\nb:\r\n  - {c: 2}\r\n", source="x")
    assert document.data == {"a": 1, "b": [{"c": 2}]}
    assert document.positions[("b", 0, "c")] == (3, 6)


def test_positions_are_those_of_keys_and_list_items() -> None:
    document = parse_yaml(b"a:\n  long: [1, 22,\n    3]\n", source="f.yaml")
    assert document.locate(("a", "long")) == "f.yaml:2:3: "
    assert document.locate(("a", "long", 2)) == "f.yaml:3:5: "
    assert document.locate(("a", "missing", "deeper")) == "f.yaml:1:1: "


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "s.yaml:4:3: b.c: duplicate key (first on line 3)"),
        ("a: {x: 1, x: 2}", "s.yaml:1:11: a.x: duplicate key (first on line 1)"),
        ("a:\n\tb: 1\n", "s.yaml:2:1: tabs are refused; use spaces"),
        ("a: &x 1\n", "s.yaml:1:4: anchors (&name) and aliases (*name) are refused; write the value out"),
        ("a: *x\n", "s.yaml:1:4: anchors (&name) and aliases (*name) are refused; write the value out"),
        (
            "a: !!python/object:os.system 1\n",
            "s.yaml:1:4: tags are refused; remove tag:yaml.org,2002:python/object:os.system",
        ),
        ("a: [1, 1e400]\n", "s.yaml:1:8: a[1]: 1e400 is too large for a number"),
        (
            "seed: 12345678901234567890\n",
            "s.yaml:1:7: seed: a whole number has at most 19 digits, got 12345678901234567890...",
        ),
        ("? [a]\n: 1\n", "s.yaml:1:3: a key must be a single name"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1: one document in a file; remove the second `---`"),
        ("%YAML 1.1\n---\na: 1\n", "s.yaml:1:1: %YAML and %TAG directives are refused; the file is YAML 1.2"),
        ("- a\n", "s.yaml:1:1: a study file is a mapping, `key: value` line by line (got a list)"),
        ("", "s.yaml:1:1: a study file is a mapping, `key: value` line by line (got nothing)"),
        ("hello", "s.yaml:1:1: a study file is a mapping, `key: value` line by line (got a single value)"),
        ('a: "\\ud800"', "s.yaml:1:4: a: holds half a character (a lone surrogate)"),
        (b"a: caf\xe9\n", "s.yaml: must be UTF-8 text, but byte 6 is 0xe9"),
        ("a: 1".encode("utf-16"), "s.yaml: must be UTF-8 text, but byte 0 is 0xff (it looks like UTF-16)"),
        ("a: " + "[" * 21 + "]" * 21, "s.yaml:1:23: nested more than 20 deep"),
    ],
)
def test_refusals_say_where_and_why(content: bytes | str, expected: str) -> None:
    assert problem(content) == expected


@pytest.mark.parametrize("content", ["a: [1, 2\nb: 3", "a: 'open", "a: b: c", "{a: 1", "a\x00: 1", '"\\UFFFFFFFF": 1'])
def test_broken_yaml_is_named_as_such(content: str) -> None:
    assert "not readable as YAML" in problem(content)


def test_twenty_levels_are_fine() -> None:
    assert parse_yaml(("a: " + "[" * 19 + "]" * 19).encode(), source="x").data


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * (MAX_BYTES - 1), "nested more than 20 deep"),
        (b"a:\n" + b"- " * 400_000, "nested more than 20 deep"),
        (b"a: [" + b"1," * 400_000 + b"]", "more than 20,000 values"),
        (b"x" * (MAX_BYTES + 1), "at most 1,000,000 bytes"),
    ],
    ids=["brackets", "dashes", "long list", "too large"],
)
def test_bombs_are_refused_for_what_they_are(content: bytes, reason: str) -> None:
    assert reason in problem(content)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(SpecError, match="cannot be read"):
            read_yaml(path)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_any_bytes_give_a_mapping_or_a_spec_error(content: bytes) -> None:
    try:
        document = parse_yaml(content, source="x")
    except SpecError:
        return  # anything else would fail the test
    assert isinstance(document.data, dict)


YAMLISH = st.lists(
    st.sampled_from(
        [*"ab1-:?,[]{}#&*!|>'\"%@` \n.~<=", "\n  ", ": ", "- ", "<<", "\\u", "1e9", "!!", "---\n", "\u2028"]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(YAMLISH)
def test_almost_yaml_gives_a_mapping_or_a_spec_error(text: str) -> None:
    try:
        document = parse_yaml(text.encode(), source="x")
    except SpecError:
        return  # anything else would fail the test
    assert isinstance(document.data, dict)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False),
    st.booleans(),
    TEXT,
    st.sampled_from(["1e5", "null", "0x1", "no"]),
)
KEYS = st.one_of(TEXT, st.sampled_from(["a", "learning_rate"]))
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(DATA)
def test_dumped_data_reads_back_equal_with_the_same_types(data: dict[str, object]) -> None:
    read = parse_yaml(dump_yaml(data).encode(), source="x").data
    assert read == data
    assert repr(read) == repr(data)  # 1, 1.0 and True are equal to Python and not to a study
