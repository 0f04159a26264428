"""What is wrong with text that is no YAML, in our words."""

from typing import Any

from sandboxfile.config.document import complaint
from sandboxfile.places import Position, Problem

DEPTH = 64

# What libyaml says, what we say, and the remedy. Where the parser stopped is often far behind
# the mistake: `True` points at the opening quote or bracket instead.
DEEPER, FLATTER = f"nested deeper than {DEPTH} levels", "move the inner part out"
_KNOWN: tuple[tuple[str, str, str, bool], ...] = (
    (
        "mapping values are not allowed",
        "`: ` cannot stand here",
        "quote the text if the colon belongs to it, or check the indentation",
        False,
    ),
    # The parser reads ahead, and its own limit may come before ours is seen.
    ("exceeded maximum nesting depth", DEEPER, FLATTER, False),
    ("found unexpected end of stream", "this quote is never closed", "close it", True),
    ("found unexpected document indicator", "this quote is never closed", "close it", True),
    ("did not find expected ',' or ']'", "this `[` is never closed", "close it with `]`", True),
    ("did not find expected ',' or '}'", "this `{` is never closed", "close it with `}`", True),
    (
        "did not find expected key",
        "this line fits no map around it",
        "check the indentation, and the quotes of the line",
        False,
    ),
    (
        "did not find expected node content",
        "a value is missing here",
        "write it, or close the bracket before it",
        False,
    ),
    (
        "did not find expected '-' indicator",
        "this line is not part of the list before it",
        "check the indentation",
        False,
    ),
    ("could not find expected ':'", "a key without `:`", "write `key: value`", True),
    (
        "found unknown escape",
        "this escape is unknown",
        "write `\\\\` for a backslash, or use single quotes",
        False,
    ),
    ("expected hexdecimal", "this escape lacks digits", "write `\\x41` or `\\u0041`", False),
    (
        "block sequence entries are not allowed",
        "a list cannot begin on this line",
        "begin it on the next line, or write [a, b]",
        False,
    ),
    (
        "found a tab character",
        "a tab cannot indent",
        "use spaces",
        False,
    ),
    ("found unknown directive", "this directive is unknown", "remove the line", False),
    ("incompatible YAML document", "this YAML version is not accepted", "remove the line", False),
)


def explained(text: str, file: str, error: Any) -> Problem:
    """Return a syntax error of the parser in our words, where the mistake is."""
    said = str(error.problem or error.context or "not valid YAML")
    message, hint, outer = f"not valid YAML: {said}", "", False
    for theirs, ours, remedy, from_context in _KNOWN:
        if theirs in said:
            message, hint, outer = ours, remedy, from_context
    mark = (error.context_mark if outer else None) or error.problem_mark or error.context_mark
    lines = text.split("\n")
    line = min(mark.line if mark else 0, len(lines) - 1)
    column = mark.column if mark and line == mark.line else 0
    if "cannot start any token" in said:
        message, hint = _bad_start(lines[line][column : column + 1])
    return complaint(text, Position(file, line + 1, column + 1), message, hint)


def _bad_start(character: str) -> tuple[str, str]:
    if character == "\t":
        return "a tab cannot indent", "use spaces"
    named = "a backtick" if character == "`" else f"`{character}`"
    return f"{named} cannot begin a value", "put the value in quotes"
