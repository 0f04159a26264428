"""A tree of values, each of which remembers where it was written; text as people are shown it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from sandboxfile.errors import ConfigError
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem, excerpt

LIMIT = 1 << 20  # bytes of one file
WIDEST = 120  # columns of a line that an excerpt shows at least
FARTHEST = 2000  # column up to which a line is shown at all
_QUOTED = 60  # characters of a value that a message shows

Scalar = str | int | float | bool | None
Content: TypeAlias = "Scalar | tuple[Node, ...] | dict[str, Node]"

_NOTHING: Mapping[str, "Node"] = MappingProxyType({})


class Node(NamedTuple):
    """A value and its place (a tuple: there are tens of thousands).

    `key_at` and `key_raw` are the place and the written form of the key that names it, `raw` the
    written form of a scalar, with its quotes.
    """

    content: Content
    at: Position
    key_at: Position | None = None
    raw: str = ""
    key_raw: str = ""

    @property
    def text(self) -> str | None:
        """The value if it is text."""
        return self.content if isinstance(self.content, str) else None

    @property
    def number(self) -> int | None:
        """The value if it is a whole number."""
        is_number = isinstance(self.content, int) and not isinstance(self.content, bool)
        return int(self.content) if is_number else None  # type: ignore[arg-type]

    @property
    def is_lost(self) -> bool:
        """Whether it is an alias of nothing, which was complained of."""
        return self.content is None and self.raw.startswith("*")

    @property
    def items(self) -> "tuple[Node, ...]":
        """The values of a list; none for anything else."""
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def entries(self) -> "Mapping[str, Node]":
        """The values of a map by key; none for anything else."""
        return self.content if isinstance(self.content, dict) else _NOTHING

    def find(self, path: Iterable[str | int]) -> "Node":
        """Follow keys and indexes down; stop at the last one that exists."""
        node = self
        for part in path:
            if isinstance(part, str) and part in node.entries:
                node = node.entries[part]
            elif isinstance(part, int) and part < len(node.items):
                node = node.items[part]
            else:
                break
        return node

    def plain(self) -> object:
        """Return the same data without places, for a schema validator."""
        match self.content:
            case tuple():
                return [node.plain() for node in self.content]
            case Mapping():
                return {key: node.plain() for key, node in self.content.items()}
            case _:
                return self.content


# --- text ------------------------------------------------------------------------------------

# Nothing that a terminal obeys, a reader cannot see, or YAML takes for a line break; also in
# comments, where it could make a reviewer see another text than we do (Trojan Source).
INVISIBLE = regex(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]|\r(?!\n)"
)


def decode(data: bytes, file: str, *, limit: int = LIMIT) -> str:
    """Return the text of a file; raises ConfigError unless it is UTF-8 within the limit."""
    start = Position(file, 1, 1)
    if len(data) > limit:
        message = f"this file has more than the {limit} bytes allowed"
        raise ConfigError([Problem(start, message, "split it, or move data into files to copy")])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data[:4]:
        hint = "save it as UTF-8"
        raise ConfigError([Problem(start, "this file is not UTF-8 but UTF-16 or UTF-32", hint)])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line = before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        message = f"byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8"
        problem = Problem(Position(file, line, column), message, "save the file as UTF-8")
        raise ConfigError([problem]) from None


def complaint(text: str, at: Position, message: str, hint: str = "", width: int = 1) -> Problem:
    """Return a Problem with its excerpt of `text`, in which secrets are masked."""
    width = min(width, WIDEST)
    last = max(WIDEST, at.column + width + WIDEST // 4)
    if at.column > FARTHEST:
        return Problem(at, message, hint, width)
    shown = tuple(
        (number, _masked(INVISIBLE.sub("\ufffd", _cut(line, last))))
        for number, line in excerpt(text, at.line)
    )
    return Problem(at, message, hint, width, shown)


def _cut(line: str, last: int) -> str:
    return line if len(line) <= last else line[:last] + "…"


def quoted(value: str) -> str:
    """Return a value in backticks for a message: one line, visible, masked, not too long."""
    value = value or '""'
    value = value if len(value) <= _QUOTED else value[: _QUOTED - 1] + "…"
    seen = value.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"`{_masked(INVISIBLE.sub(lambda match: _escape(match.group()), seen))}`"


def _masked(text: str) -> str:
    from sandboxfile.config import leaks  # patterns that take a while: only where there is a fault

    return leaks.mask(text)


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"
