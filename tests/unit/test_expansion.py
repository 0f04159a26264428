"""Variables are replaced as Docker's shell lexer does it."""

import pytest

from sandboxfile.expansion import expanded

SET = {"A": "one", "EMPTY": "", "1": "first"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A-${A}", "one-one"),
        ("$1$A", "firstone"),
        ("$", "$"),
        ("$ A", "$ A"),
        ("$NONE.${NONE}.", ".."),
        ("${NONE:-$A}${EMPTY-x}${EMPTY:-y}", "oney"),
        ("${A:+is}${A+is}${EMPTY:+is}${NONE+is}", "isis"),
        ("${A?}${A:?}", "oneone"),
        ('"a $A"', "a one"),
        ("'a $A'", "a $A"),
        ('"it\'s $A"', "it's one"),
        ("\\$A\\\\", "$A\\"),
        ('"\\$A \\x"', "$A \\x"),
        ("${NONE:-'}'}", "}"),
    ],
)
def test_variables_and_quotes(text: str, expected: str) -> None:
    assert expanded(text, SET.get, "\\") == expected


def test_the_escape_character_is_the_files_own() -> None:
    assert expanded("`$A c:\\", SET.get, "`") == "$A c:\\"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'a", "a quote or brace is not closed"),
        ("${A", "a quote or brace is not closed"),
        ("a\\", "a quote or brace is not closed"),
        ("${}", "`${` is not followed by a name"),
        ("${A%x}", "the modifier of `A` is not one of `-`, `+` and `?`"),
        ("${EMPTY:?give it}", "`EMPTY` is not set: give it"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        expanded(text, SET.get, "\\")
    assert str(raised.value) == message
