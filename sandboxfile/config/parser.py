"""YAML text as a tree of Nodes.

The subset is YAML 1.2's core schema without tags, merge keys and further documents; aliases are
bounded. It is built from the parser's events, twice if need be: what nearly all files consist of is
read by few functions, and a file with anything else by others, which know all of it, and what to
say of what is wrong. Neither is too deep for them: they end at a depth.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from sandboxfile.config.document import (
    INVISIBLE,
    LIMIT,
    Content,
    Node,
    Scalar,
    complaint,
    decode,
    quoted,
)
from sandboxfile.config.syntax import DEEPER, DEPTH, FLATTER, explained
from sandboxfile.errors import ConfigError
from sandboxfile.places import Position, Problem

ALIASES = 64
EXPANDED = 10_000  # nodes that aliases may add in all
DIGITS = 18  # of an integer: beyond it nothing we read makes sense

_ANCHOR = re.compile(r"[-:?,\[{]\s+&[^\s&]")  # or what may be one
_CONFLICT = re.compile(r"^(?:<{7}|>{7})(?: |$)", re.MULTILINE)


# --- text ----------------------------------------------------------------------------------------


def _position(text: str, index: int, file: str) -> Position:
    line = text.count("\n", 0, index) + 1
    return Position(file, line, index - text.rfind("\n", 0, index))


def _refuse_text(text: str, file: str) -> None:
    """Raise for text that no YAML parser should see."""
    is_suspect = "<<<<<<<" in text or ">>>>>>>" in text  # in a tenth of the pattern's time
    if is_suspect and (match := _CONFLICT.search(text)):
        at = _position(text, match.start(), file)
        hint = "finish the merge, then remove the lines `<<<<<<<`, `=======` and `>>>>>>>`"
        problem = complaint(text, at, "this file has git conflict markers", hint, 7)
        raise ConfigError([problem])
    if text.replace("\n", "").isprintable():  # so nothing in it is `INVISIBLE`
        return
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
_ODD = frozenset({"", "<<"})  # as keys


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


# The key whose value comes next, its place and its written form; None when the pair cannot be kept.
_Key = tuple[str | None, Position, str]
# A named tuple made from a tuple: its own way is a function in Python, which takes twice as long.
_new = tuple.__new__


class _Frame:
    """A collection that is being read; `as_key` when it stands where a key should.

    `key` waits for its value, which goes into `entries`, those of a map; a list has `items`.
    """

    __slots__ = ("anchor", "as_key", "at", "counted", "entries", "items", "key")

    def __init__(
        self, at: Position, anchor: str | None, counted: int, *, as_key: bool, is_map: bool
    ) -> None:
        self.at = at
        self.anchor = anchor
        self.counted = counted
        self.as_key = as_key
        self.entries: dict[str, Node] | None = {} if is_map else None
        self.items: list[Node] = []
        self.key: _Key | None = None


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
    has_anchors = "&" in text and _ANCHOR.search(text)  # which it may be late to find out
    root = None if has_anchors else _Usual(text, file).root()
    if root is not None:
        return root, ()
    builder = _Builder(text, file)
    _feed(builder)
    return builder.root or Node(None, Position(file, 1, 1)), tuple(builder.problems)


class _UnusualError(Exception):
    """There is something that `_Builder` knows."""


class _Usual:
    """Makes Nodes of events, in less time than `_Builder`.

    For files without anchors, tags, several documents and mistakes, whose keys are ASCII.
    """

    __slots__ = ("_file", "_following", "_parser", "_text")

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._parser = _Parser(text)
        self._following: Callable[[], Any] = self._parser.get_event

    def root(self) -> Node | None:
        """Return what the file consists of, None if there is anything else in it."""
        try:
            return self._root()
        except (_UnusualError, yaml.MarkedYAMLError):
            return None
        finally:
            self._parser.dispose()

    def _root(self) -> Node:
        self._following()  # the stream begins
        start = self._following()
        if type(start) is not yaml.DocumentStartEvent or start.version or start.tags:
            raise _UnusualError
        root = self._value(self._following(), None, "", DEPTH)
        self._following()  # the document ends
        if type(self._following()) is not yaml.StreamEndEvent:
            raise _UnusualError
        return root

    def _value(self, event: Any, key_at: Position | None, key_raw: str, depth: int) -> Node:
        """Return the value that begins with an event, under this key; in it are `depth` levels."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            value, at, raw = self._scalar(event)
            return _new(Node, (value, at, key_at, raw, key_raw))
        is_map = kind is yaml.MappingStartEvent
        if not (is_map or kind is yaml.SequenceStartEvent) or depth == 0:
            raise _UnusualError
        if event.anchor or event.tag is not None:
            raise _UnusualError
        mark = event.start_mark
        at = Position(self._file, mark.line + 1, mark.column + 1)
        content = self._entries(depth - 1) if is_map else self._items(depth - 1)
        return _new(Node, (content, at, key_at, "", key_raw))

    def _entries(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        following = self._following
        while type(event := following()) is yaml.ScalarEvent:
            name, at, raw = self._scalar(event)
            if type(name) is not str or name in found or name in _ODD or not name.isascii():
                raise _UnusualError
            found[name] = self._value(following(), at, raw, depth)
        if type(event) is not yaml.MappingEndEvent:
            raise _UnusualError
        return found

    def _items(self, depth: int) -> tuple[Node, ...]:
        found = []
        following = self._following
        while type(event := following()) is not yaml.SequenceEndEvent:
            found.append(self._value(event, None, "", depth))
        return tuple(found)

    def _scalar(self, event: Any) -> tuple[Scalar, Position, str]:
        """Return a scalar, its place and its written form."""
        if event.anchor or event.tag is not None:
            raise _UnusualError
        mark = event.start_mark
        raw = self._text[mark.index : event.end_mark.index]
        value = event.value
        if event.implicit[0]:
            if value in _WORDS or value[0] in _NUMERIC:  # few are
                value = _plain(value)
        elif "\\" in raw and INVISIBLE.search(value):
            raise _UnusualError
        return value, _new(Position, (self._file, mark.line + 1, mark.column + 1)), raw


def _feed(builder: "_Builder") -> None:
    parser = _Parser(builder.text)
    following, handlers = parser.get_event, builder.handlers
    try:
        while (event := following()) is not None:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([explained(builder.text, builder.file, error)]) from None
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
        self.handlers: Mapping[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }

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
        value = event.value
        if event.implicit[0]:
            value = _plain(value)
        elif "\\" in raw and isinstance(value, str) and (bad := INVISIBLE.search(value)):
            message = f"the character U+{ord(bad.group()):04X} is not accepted in a value"
            self._complain(event, message, "remove the escape")
        at = _new(Position, (self.file, mark.line + 1, mark.column + 1))
        frame = self._open[-1] if self._open else None
        if frame is not None and frame.entries is not None and frame.key is None:
            frame.key = self._name(event, frame.entries, value, raw), at, raw
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
        if isinstance(value, str) and value.isascii() and not (value in entries or value in _ODD):
            return value
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
            self._stop(event, DEEPER, FLATTER, 1)
        above = self._open[-1] if self._open else None
        as_key = above is not None and above.entries is not None and above.key is None
        if as_key:
            self._complain(event, "a key must be text", "not a list or a map", 1)
        if event.anchor:
            self._anchors[event.anchor] = None
        is_map = type(event) is yaml.MappingStartEvent
        at = self._at(event.start_mark)
        self._open.append(_Frame(at, event.anchor, self._counted, as_key=as_key, is_map=is_map))

    def _end(self, _: Any) -> None:
        frame = self._open.pop()
        if frame.as_key:
            self._open[-1].key = None, frame.at, ""
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
            frame.key = None, self._at(event.start_mark), ""
            return
        self._add(node.content, node.at, node.raw)

    def _add(self, content: Content, at: Position, raw: str) -> Node:
        """Put a value where it belongs: under the key that waits for it, or into the list."""
        frame = self._open[-1] if self._open else None
        if frame is None or frame.entries is None:
            node = _new(Node, (content, at, None, raw, ""))
            if frame is None:
                self.root = node
            else:
                frame.items.append(node)
            return node
        assert frame.key is not None
        name, key_at, key_raw = frame.key
        frame.key = None
        node = _new(Node, (content, at, key_at, raw, key_raw))
        if name is not None:
            frame.entries[name] = node
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
