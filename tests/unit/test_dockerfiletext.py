"""A Dockerfile's text falls into instructions and words that know where they stand."""

import pytest

from sandboxfile import dockerfiletext
from sandboxfile.dockerfiletext import Source
from sandboxfile.errors import SandboxfileError
from sandboxfile.places import Position


def split(text: str, escape: str = "\\") -> list[list[str]]:
    source = Source(text, "Dockerfile", escape)
    found = [dockerfiletext.words(line, escape) for line in dockerfiletext.lines(source)]
    return [[word.text for word in words] for words in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# x\n\n \t\n", []),
        ("\ufeffFROM a\r\nRUN b\r\n", [["FROM", "a"], ["RUN", "b"]]),
        ("RUN a \\\n# between\n\n  b\nRUN c", [["RUN", "a", "b"], ["RUN", "c"]]),
        ("RUN a \\ \t\nb", [["RUN", "a", "b"]]),
        ("RUN a\\\\\nRUN b", [["RUN", "a\\\\"], ["RUN", "b"]]),
        ('RUN \'a b\' "c \\" d" e\\ f', [["RUN", "'a b'", '"c \\" d"', "e\\ f"]]),
        (
            "RUN cat <<E <<-'F'\nRUN x\nE\n\tF\nRUN b",
            [["RUN", "cat", "<<E", "<<-'F'"], ["RUN", "b"]],
        ),
        ("ONBUILD RUN cat <<E\nRUN x\nE\nRUN b", [["ONBUILD", "RUN", "cat", "<<E"], ["RUN", "b"]]),
        ("ENV A=<<E\nRUN b", [["ENV", "A=<<E"], ["RUN", "b"]]),
    ],
)
def test_instructions_and_words(text: str, expected: list[list[str]]) -> None:
    assert split(text) == expected


def test_a_word_knows_its_place_also_in_a_line_that_goes_on() -> None:
    source = Source("# x\nCOPY --from=a \\\n  'b' c\n", "Dockerfile", "\\")
    (line,) = dockerfiletext.lines(source)
    _, option, quoted, _ = dockerfiletext.words(line, "\\")

    assert source.position(quoted.offset) == Position("Dockerfile", 3, 3)
    assert source.text[quoted.offset : quoted.end_offset] == "'b'"
    assert quoted.unquoted() == "b"
    value = option.after("=")
    assert value is not None
    assert (value.text, value.after("a")) == ("a", None)
    assert source.position(value.offset) == Position("Dockerfile", 2, 13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=a\n#escape = `\nFROM b\n# check=x", {"syntax": "a", "escape": "`"}),
        ("# syntax=a\n# Syntax=b\n", {"syntax": "a"}),
        ("# a remark\n# escape=`\n", {}),
        ("\n# escape=`\n", {}),
    ],
)
def test_directives_stand_at_the_very_top(text: str, expected: dict[str, str]) -> None:
    assert dockerfiletext.directives(text) == expected


def test_a_here_document_without_an_end_is_refused() -> None:
    with pytest.raises(SandboxfileError, match="`E` should end has no end") as raised:
        split("FROM a\nRUN cat <<E\nE \n")
    assert raised.value.at == Position("Dockerfile", 2, 1)
