"""YAML text as a tree in which every value remembers where it was written.

The subset is YAML 1.2's core schema without tags, merge keys and further documents; aliases are
bounded. It is built from the parser's events, without recursion: no input is too deep for it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import yaml

from sandboxfile.config import leaks
from sandboxfile.errors import ConfigError
from sandboxfile.places import Position, Problem, excerpt

LIMIT = 1 << 20  # bytes of one file
DEPTH = 64
ALIASES = 64
EXPANDED = 10_000  # nodes that aliases may add in all
WIDEST = 120  # columns of a line that an excerpt shows at least
FARTHEST = 2000  # column up to which a line is shown at all
DIGITS = 18  # of an integer: beyond it nothing we read makes sense

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
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]|\r(?!\n)"
)
_CONFLICT = re.compile(r"^(?:<{7}|>{7})(?: |$)", re.MULTILINE)


def decode(data: bytes, file: str, *, limit: int = LIMIT) -> str:
    """Return the text of a file; raises ConfigError unless it is UTF-8 within the limit."""
    start = Position(file, 1, 1)
    if len(data) > limit:
        message = f"this file has {len(data)} bytes, more than the {limit} allowed"
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
        (number, leaks.mask(INVISIBLE.sub("\ufffd", _cut(line, last))))
        for number, line in excerpt(text, at.line)
    )
    return Problem(at, message, hint, width, shown)


def _cut(line: str, last: int) -> str:
    return line if len(line) <= last else line[:last] + "…"


def quoted(value: str, limit: int = 60) -> str:
    """Return a value in backticks for a message: one line, visible, masked, not too long."""
    value = value or '""'
    value = value if len(value) <= limit else value[: limit - 1] + "…"
    seen = value.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"`{leaks.mask(INVISIBLE.sub(lambda match: _escape(match.group()), seen))}`"


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _position(text: str, index: int, file: str) -> Position:
    line = text.count("\n", 0, index) + 1
    return Position(file, line, index - text.rfind("\n", 0, index))


def _refuse_text(text: str, file: str) -> None:
    """Raise for text that no YAML parser should see."""
    if match := _CONFLICT.search(text):
        at = _position(text, match.start(), file)
        hint = "finish the merge, then remove the lines `<<<<<<<`, `=======` and `>>>>>>>`"
        problem = complaint(text, at, "this file has git conflict markers", hint, 7)
        raise ConfigError([problem])
    if problems := [_invisible(text, match, file) for match in INVISIBLE.finditer(text)]:
        raise ConfigError(problems[:50])


def _invisible(text: str, match: re.Match[str], file: str) -> Problem:
    at = _position(text, match.start(), file)
    if match.group() == "\r":
        hint = "end lines with a line feed"
        return complaint(text, at, "a carriage return that ends no line", hint)
    message = f"the character U+{ord(match.group()):04X} is not accepted, it cannot be seen"
    return complaint(text, at, message, 'remove it, or write it as an escape in "..."')


# --- scalars ---------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC = frozenset("+-.0123456789")


def _plain(value: str) -> Scalar:
    """Resolve an unquoted scalar by YAML 1.2's core schema (spec section 10.3.2)."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] not in _NUMERIC:
        return value
    if _INTEGER.fullmatch(value):
        # Longer digits are a float: int() refuses them above 4,300, and nobody means them.
        return int(value) if len(value) <= DIGITS else float("inf")
    if _OCTAL.fullmatch(value):
        return int(value[2 : DIGITS + 2], 8)
    if _HEXADECIMAL.fullmatch(value):
        return int(value[2 : DIGITS + 2], 16)
    if _FLOAT.fullmatch(value):
        return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return value


# --- events ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Key:
    """The key whose value comes next; `name` is None when the pair cannot be kept."""

    name: str | None
    at: Position
    raw: str


@dataclass(slots=True)
class _Frame:
    """A collection that is being read; `as_key` when it stands where a key should."""

    at: Position
    anchor: str | None
    counted: int
    as_key: bool
    entries: dict[str, Node] | None
    items: list[Node] = field(default_factory=list)
    key: _Key | None = None


# The C parser is 20 times faster; a PyYAML without it has the same interface.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str, file: str, *, limit: int = LIMIT) -> Node:
    """Read one YAML document; an empty one has the content None.

    Raises ConfigError with everything wrong, or with the syntax error alone.
    """
    root, problems = read(text, file, limit=limit)
    if problems:
        raise ConfigError(problems)
    return root


def read(text: str, file: str, *, limit: int = LIMIT) -> tuple[Node, tuple[Problem, ...]]:
    """As `parse`, but problems after which reading could go on are returned beside the tree."""
    text = text.removeprefix("\ufeff")
    if len(text) > limit:
        decode(text.encode("utf-8", "replace"), file, limit=limit)
    _refuse_text(text, file)
    builder = _Builder(text, file)
    _feed(builder)
    return builder.root or Node(None, Position(file, 1, 1)), tuple(builder.problems)


def _feed(builder: "_Builder") -> None:
    parser = _Parser(builder.text)
    try:
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax(builder.text, builder.file, error)]) from None
    finally:
        parser.dispose()


class _Builder:
    """Makes Nodes of events; the only state is what is open."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._counted = 0
        self._aliases = 0
        self._expanded = 0
        self._documents = 0
        self._by_type = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }

    def take(self, event: Any) -> None:
        handler = self._by_type.get(type(event))
        if handler is not None:
            handler(event)

    def _at(self, mark: Any) -> Position:
        return Position(self.file, mark.line + 1, mark.column + 1)

    def _raw(self, event: Any) -> str:
        return self.text[event.start_mark.index : event.end_mark.index]

    def _complain(self, event: Any, message: str, hint: str = "", width: int = 0) -> None:
        at = self._at(event.start_mark)
        width = width or len(self._raw(event).partition("\n")[0])
        self.problems.append(complaint(self.text, at, message, hint, width))

    def _stop(self, event: Any, message: str, hint: str = "", width: int = 0) -> None:
        self._complain(event, message, hint, width)
        raise ConfigError(self.problems)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(event, "a second YAML document begins here", "keep one document in a file")
        if event.version not in (None, (1, 2)):
            hint = "remove the line, YAML 1.2 is read"
            self._complain(event, "this YAML version is not accepted", hint, 5)
        if event.tags:
            self._complain(event, "`%TAG` is not accepted", "remove the line", 4)

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        mark = event.start_mark
        raw = self.text[mark.index : event.end_mark.index]
        value = _plain(event.value) if event.implicit[0] else event.value
        if "\\" in raw and isinstance(value, str) and (bad := INVISIBLE.search(value)):
            message = f"the character U+{ord(bad.group()):04X} is not accepted in a value"
            self._complain(event, message, "remove the escape")
        at = Position(self.file, mark.line + 1, mark.column + 1)
        frame = self._open[-1] if self._open else None
        if frame is not None and frame.entries is not None and frame.key is None:
            frame.key = _Key(self._name(event, frame.entries, value, raw), at, raw)
            return
        self._counted += 1
        node = self._add(value, at, raw)
        if event.anchor:
            self._anchors[event.anchor] = (node, 1)

    def _refuse_tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        hint = 'write text in quotes: "..."' if tag == "!!str" else "remove it"
        width = len(self._raw(event).partition(" ")[0].partition("\n")[0])
        self._complain(event, f"tags are not accepted: {quoted(tag)}", hint, max(1, width))

    def _name(self, event: Any, entries: Mapping[str, Node], value: Scalar, raw: str) -> str | None:
        """Return the name that a key gives, None after a complaint."""
        if value == "<<" and event.implicit[0]:
            hint = "use `extends` or `defaults`"
            self._complain(event, "merge keys (`<<`) are not accepted", hint)
        elif not isinstance(value, str):
            self._complain(event, *_untextual_key(value, raw))
        elif not value:
            self._complain(event, "a key must not be empty")
        elif (value in entries or not value.isascii()) and (first := _same(value, entries)):
            message = f"{quoted(value)} is given twice, first at line {first.line}"
            self._complain(event, f"{message}, column {first.column}", "keep one of them")
        else:
            return value
        return None

    def _start(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        if len(self._open) >= DEPTH:
            self._stop(event, _DEEPER, _FLATTER, 1)
        above = self._open[-1] if self._open else None
        as_key = above is not None and above.entries is not None and above.key is None
        if as_key:
            self._complain(event, "a key must be text", "not a list or a map", 1)
        if event.anchor:
            self._anchors[event.anchor] = None
        entries: dict[str, Node] | None = {} if type(event) is yaml.MappingStartEvent else None
        at = self._at(event.start_mark)
        self._open.append(_Frame(at, event.anchor, self._counted, as_key, entries))

    def _end(self, _: Any) -> None:
        frame = self._open.pop()
        if frame.as_key:
            self._open[-1].key = _Key(None, frame.at, "")
            return
        self._counted += 1
        node = self._add(
            tuple(frame.items) if frame.entries is None else frame.entries, frame.at, ""
        )
        if frame.anchor:
            self._anchors[frame.anchor] = (node, self._counted - frame.counted)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        self._aliases += 1
        if self._aliases > ALIASES:
            self._stop(event, f"more than {ALIASES} aliases", "use `extends` or `defaults`")
        if name not in self._anchors:
            self._complain(event, f"the alias {quoted('*' + name)} has no anchor before it")
            node, size = Node(None, self._at(event.start_mark), None, self._raw(event)), 1
        elif (known := self._anchors[name]) is None:
            message = f"the alias {quoted('*' + name)} contains itself"
            self._complain(event, message, "a value cannot be part of itself")
            node, size = Node(None, self._at(event.start_mark), None, self._raw(event)), 1
        else:
            node, size = known
        self._counted += size
        self._expanded += size
        if self._expanded > EXPANDED:
            message = f"aliases make more than {EXPANDED:,} values of this file"
            self._stop(event, message, "use `extends` or `defaults`")
        frame = self._open[-1] if self._open else None  # none: the whole document is an alias
        if frame is not None and frame.entries is not None and frame.key is None:
            self._complain(event, "a key must be text", "not an alias")
            frame.key = _Key(None, self._at(event.start_mark), "")
            return
        self._add(node.content, node.at, node.raw)

    def _add(self, content: "Content", at: Position, raw: str) -> Node:
        """Put a value where it belongs: under the key that waits for it, or into the list."""
        frame = self._open[-1] if self._open else None
        if frame is None or frame.entries is None:
            node = Node(content, at, None, raw)
            if frame is None:
                self.root = node
            else:
                frame.items.append(node)
            return node
        key, frame.key = frame.key, None
        assert key is not None
        node = Node(content, at, key.at, raw, key.raw)
        if key.name is not None:
            frame.entries[key.name] = node
        return node


def _untextual_key(value: Scalar, raw: str) -> tuple[str, str]:
    if value is None and not raw:
        return "a key is missing before `:`", ""
    kind = "nothing" if value is None else "true or false"
    kind = "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else kind
    return f"the key {quoted(raw)} is read as {kind}, and a key must be text", f'write "{raw}"'


def _same(key: str, entries: Mapping[str, Node]) -> Position | None:
    """Return the place of the key that equals `key`, also in another Unicode normal form."""
    if key in entries:
        return entries[key].key_at
    import unicodedata

    form = unicodedata.normalize("NFC", key)
    twins = (n.key_at for k, n in entries.items() if unicodedata.normalize("NFC", k) == form)
    return next(twins, None)


# --- syntax errors ---------------------------------------------------------------------------

# What libyaml says, what we say, and the remedy. Where the parser stopped is often far behind
# the mistake: `True` points at the opening quote or bracket instead.
_DEEPER, _FLATTER = f"nested deeper than {DEPTH} levels", "move the inner part out"
_SYNTAX: tuple[tuple[str, str, str, bool], ...] = (
    (
        "mapping values are not allowed",
        "`: ` cannot stand here",
        "quote the text if the colon belongs to it, or check the indentation",
        False,
    ),
    # The parser reads ahead, and its own limit may come before ours is seen.
    ("exceeded maximum nesting depth", _DEEPER, _FLATTER, False),
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


def _syntax(text: str, file: str, error: yaml.MarkedYAMLError) -> Problem:
    said = str(error.problem or error.context or "not valid YAML")
    message, hint, outer = f"not valid YAML: {said}", "", False
    for theirs, ours, remedy, from_context in _SYNTAX:
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
