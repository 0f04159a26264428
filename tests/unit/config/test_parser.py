"""A document keeps every place; what two readers could read differently is refused."""

import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.config import document, parser
from sandboxfile.config.document import Node
from sandboxfile.config.parser import parse
from sandboxfile.errors import ConfigError
from sandboxfile.places import Position


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    return [f"{p.at.line}:{p.at.column}: {p.message}" for p in caught.value.problems]


# --- scalars ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("NO", "NO"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("3.12-slim", "3.12-slim"),
        ("1.2.3", "1.2.3"),
        ("-x", "-x"),
        ("0x", "0x"),
        ("'3'", "3"),
        ('"3"', "3"),
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("9" * 5000, float("inf")),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
    ],
)
def test_a_scalar_is_read_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert parse(f"k: {text}", "f").plain() == {"k": value}


def test_not_a_number_is_a_number_that_is_none() -> None:
    value = parse("k: .nan", "f").find(["k"]).content
    assert isinstance(value, float)
    assert value != value  # noqa: PLR0124 - the definition of NaN


def test_both_parsers_of_pyyaml_give_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, 'b', \"c\"]\nd: {e: *x}\nf: |\n  g\n  h\né: ü\n"
    fast = parse(text, "f")
    monkeypatch.setattr(parser, "_Parser", yaml.SafeLoader)
    assert parse(text, "f") == fast


# --- places ----------------------------------------------------------------------------------


def test_every_value_knows_its_place_and_how_it_was_written() -> None:
    root = parse('a: 3.10\n"b c":\n  - x\n  - {d: é𝒳, e: "q\\n"}\n', "f")
    node = root.find(["a"])
    assert (node.at, node.key_at) == (Position("f", 1, 4), Position("f", 1, 1))
    assert (node.raw, node.key_raw) == ("3.10", "a")
    assert root.find(["b c"]).key_raw == '"b c"'
    assert root.find(["b c", 1, "d"]).at == Position("f", 4, 9)
    assert root.find(["b c", 1, "e"]).at == Position("f", 4, 16)
    assert root.find(["b c", 1, "e"]).raw == '"q\\n"'


WORDS = st.text(st.sampled_from("ab1.-+~ :#'\"\\ü\u200b$\n"), max_size=6)
SCALARS = st.one_of(WORDS, st.booleans(), st.none(), st.integers(-99, 99), st.floats(-9, 9))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


def outcome(text: str) -> Mapping[str, Node] | list[str]:
    try:
        return parse(text, "f").entries
    except ConfigError as error:
        return [f"{problem.at}: {problem.message}" for problem in error.problems]


@given(
    st.dictionaries(WORDS, VALUES, min_size=1, max_size=4),
    st.sampled_from([None, '"', "'", "|"]),
    st.sampled_from([{}, {"default_flow_style": None}]),
)
def test_a_file_is_read_alike_whatever_else_is_in_it(
    values: Mapping[str, object], style: str | None, flow: Mapping[str, Any]
) -> None:
    text = yaml.safe_dump({"k": [values]}, default_style=style, allow_unicode=True, **flow)
    text = text.removesuffix("...\n")  # as after a block of lines at the end
    alone, beside = outcome(text), outcome(f"{text}zz: &anchor z\n")
    if isinstance(beside, Mapping):
        beside = {key: node for key, node in beside.items() if key != "zz"}
    assert alone == beside


def test_finding_stops_at_the_last_value_that_exists() -> None:
    root = parse("a: [b]\n", "f")
    assert root.find(["a", 0]).text == "b"
    assert root.find(["a", 7]) is root.find(["a"])
    assert root.find(["x", "y"]) is root
    assert root.find(["a", 0, "z"]).text == "b"


def test_an_alias_keeps_the_place_where_its_value_is_written() -> None:
    node = parse("a: &x v\nb: *x\n", "f").find(["b"])
    assert (node.content, node.at) == ("v", Position("f", 1, 4))
    assert node.key_at == Position("f", 2, 1)


def test_the_views_of_a_node_are_empty_for_other_types() -> None:
    text, number, flag, items, entries = (
        parse(t, "f") for t in ("a", "1", "true", "[b]", "{c: d}")
    )
    assert (text.text, text.number, text.items, dict(text.entries)) == ("a", None, (), {})
    assert (number.text, number.number) == (None, 1)
    assert flag.number is None
    assert [node.text for node in items.items] == ["b"]
    assert isinstance(entries.entries, Mapping)
    assert entries.plain() == {"c": "d"}


def test_an_empty_document_has_no_content() -> None:
    assert parse("", "f") == Node(None, Position("f", 1, 1))
    assert parse("# only a comment\n", "f").content is None


def test_line_ends_of_windows_and_a_byte_order_mark_are_read() -> None:
    root = parse("\ufeffa: 1\r\nb: 2\r\n", "f")
    assert root.plain() == {"a": 1, "b": 2}
    assert root.find(["b"]).at == Position("f", 2, 4)


def test_a_document_may_say_its_version_and_its_end() -> None:
    assert parse("%YAML 1.2\n---\na: 1\n...\n", "f").plain() == {"a": 1}


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "character",
    ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\u200b", "\u202e", "\u2028", "\u2066", "\ufeff"],
)
def test_what_cannot_be_seen_is_refused_even_in_comments(character: str) -> None:
    message = f"the character U+{ord(character):04X} is not accepted, it cannot be seen"
    assert complaints(f"a: b # x{character}y\n") == [f"1:9: {message}"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('a: "\\u200b"\n', "1:4: the character U+200B is not accepted in a value"),
        ("a: 1\na: 2\n", "2:1: `a` is given twice, first at line 1, column 1"),
        ("é: 1\ne\u0301: 2\n", "2:1: `e\u0301` is given twice, first at line 1, column 1"),
        ("1: a\n", "1:1: the key `1` is read as a number, and a key must be text"),
        ("'': a\n", "1:1: a key must not be empty"),
        ("<<: {a: 1}\n", "1:1: merge keys (`<<`) are not accepted"),
        ("[a]: 1\n", "1:1: a key must be text"),
        ("%YAML 1.1\n---\na: 1\n", "1:1: this YAML version is not accepted"),
        ("%TAG !e! tag:e.com,2000:\n---\na: 1\n", "1:1: `%TAG` is not accepted"),
        ("a: !!map {b: 1}\n", "1:4: tags are not accepted: `!!map`"),
        ("a: !!int 1\n", "1:4: tags are not accepted: `!!int`"),
        ("!!str a: 1\n", "1:1: tags are not accepted: `!!str`"),
        ("a: 1\n---\nb: 1\n", "2:1: a second YAML document begins here"),
        ("a: *b\n", "1:4: the alias `*b` has no anchor before it"),
        (f"{'[' * 65}{']' * 65}\n", "1:65: nested deeper than 64 levels"),
    ],
)
def test_one_thing_that_is_refused_is_enough(text: str, complaint: str) -> None:
    assert complaints(text) == [complaint]


def test_what_cannot_be_seen_is_not_shown_either() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("a: b # \x1b[31m\n", "f")
    assert "\x1b" not in str(caught.value)


def test_a_lone_carriage_return_is_no_line_end() -> None:
    assert complaints("a: 1\rb: 2\n") == ["1:5: a carriage return that ends no line"]


def test_syntax_errors_come_alone() -> None:
    assert complaints("a: 1\na: 2\nb: [c\n") == ["3:4: this `[` is never closed"]


def test_the_rest_comes_together() -> None:
    assert len(complaints("a: 1\na: 2\n<<: 3\n4: 5\n")) == 3


def test_an_unknown_syntax_error_is_said_in_the_parsers_words() -> None:
    assert complaints("a: &\n") == [
        "1:5: not valid YAML: did not find expected alphabetic or numeric character"
    ]


def test_a_collection_as_key_hides_nothing_behind_it() -> None:
    assert complaints("? [a]\n: b\nc: 1\nc: 2\n") == [
        "1:3: a key must be text",
        "4:1: `c` is given twice, first at line 3, column 1",
    ]


def test_a_key_must_be_there() -> None:
    assert complaints("?\n: x\n") == ["1:2: a key is missing before `:`"]


def test_depth_is_bounded_without_recursion() -> None:
    assert complaints("[" * 100_000)[0].endswith("nested deeper than 64 levels")
    assert parse("[" * 64 + "]" * 64, "f").items
    block = "".join(f"{' ' * depth}a:\n" for depth in range(1000))
    assert complaints(block)[0].endswith("nested deeper than 64 levels")


def test_aliases_are_bounded_by_number_and_by_what_they_expand_to() -> None:
    assert parse("a: &a x\nb: [" + ", ".join(["*a"] * 64) + "]\n", "f").items == ()
    assert complaints("a: &a x\nb: [" + ", ".join(["*a"] * 65) + "]\n")[0].endswith("64 aliases")
    wide = "a: &a [" + ", ".join("x" * 200) + "]\n"
    assert parse(wide + "b: [" + ", ".join(["*a"] * 49) + "]\n", "f").entries
    bomb = wide + "b: [" + ", ".join(["*a"] * 50) + "]\n"
    assert complaints(bomb)[0].endswith("aliases make more than 10,000 values of this file")


def test_a_tag_on_a_key_or_a_collection_is_refused() -> None:
    assert complaints("!!str a: 1\nb: !!set {c}\n") == [
        "1:1: tags are not accepted: `!!str`",
        "2:4: tags are not accepted: `!!set`",
    ]


# --- bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: caf\xe9\n", "1:7: byte 0xe9 at offset 6 is not UTF-8"),
        (b"a: 1\nb: \xc3\xa9\xc0\x80\n", "2:5: byte 0xc0 at offset 10 is not UTF-8"),
        (b"\xed\xa0\x80", "1:1: byte 0xed at offset 0 is not UTF-8"),
        ("a: 1".encode("utf-16"), "1:1: this file is not UTF-8 but UTF-16 or UTF-32"),
        ("a: 1".encode("utf-32-be"), "1:1: this file is not UTF-8 but UTF-16 or UTF-32"),
        (b"x" * 101, "1:1: this file has more than the 100 bytes allowed"),
    ],
)
def test_bytes_that_are_no_text_of_ours_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        document.decode(data, "f", limit=100)
    problem = caught.value.problems[0]
    assert f"{problem.at.line}:{problem.at.column}: {problem.message}" == message


def test_a_text_over_the_limit_is_refused_and_the_limit_may_be_moved() -> None:
    text = "a: " + "x" * document.LIMIT
    assert "more than the 1048576 bytes allowed" in complaints(text)[0]
    assert parse(text, "f", limit=1 << 21).entries


# --- showing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "`a`"),
        ("", '`""`'),
        ("a\nb\tc\r", "`a\\nb\\tc\\r`"),
        ("a\x1b[31m", "`a\\u001b[31m`"),
        ("x" * 61, "`" + "x" * 59 + "…`"),
        ("password=hunter2", "`password=*******`"),
    ],
)
def test_a_quoted_value_is_one_visible_line(value: str, shown: str) -> None:
    assert document.quoted(value) == shown


def test_an_excerpt_is_cut_behind_its_place_and_left_out_far_away() -> None:
    line = "x" * 500
    near = document.complaint(line, Position("f", 1, 10), "wrong", width=400)
    assert near.width == document.WIDEST
    assert near.excerpt[0][1] == "x" * (10 + 120 + 30) + "…"
    far = document.complaint(line * 10, Position("f", 1, 4000), "wrong")
    assert far.excerpt == ()


def test_nothing_that_cannot_be_seen_counts_as_printable() -> None:
    """So a text that is printable, but for its ends of lines, need not be searched for it."""
    unseen = document.INVISIBLE.findall("".join(map(chr, range(sys.maxunicode + 1))))

    assert len(unseen) > 2_000
    assert not [each for each in unseen if each.isprintable()]
