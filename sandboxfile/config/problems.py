"""What is found wrong while a configuration is read, gathered to be told all at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandboxfile.config.document import Node, complaint
from sandboxfile.errors import ConfigError
from sandboxfile.places import Position, Problem

MOST = 50  # more than this nobody reads


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text, without its place; `token` is the part of it to underline."""

    message: str
    hint: str = ""
    token: str = ""


class Problems:
    """Gathers one problem per place: the first said there is the most exact."""

    def __init__(self, texts: Mapping[str, str], first: Iterable[Problem] = ()) -> None:
        self._texts = texts
        self._by_place = {problem.at: problem for problem in first}

    def __bool__(self) -> bool:
        return bool(self._by_place)

    def add(self, node: Node, message: str, hint: str = "", *, token: str = "") -> None:
        """Complain of a value, of `token` in it, or of its key where the value is empty."""
        if node.key_at is not None and node.content is None and not node.raw:
            self.add_key(node, message, hint)
            return
        raw = node.raw.rstrip("\n")
        at, width = node.at, len(raw.partition("\n")[0])
        if token and (found := raw.find(token)) >= 0:
            before, newline, inside = raw[:found].rpartition("\n")
            line = node.at.line + (before + newline).count("\n")
            column = len(inside) + (1 if newline else node.at.column)
            at, width = Position(at.file, line, column), len(token.partition("\n")[0])
        self._put(at, message, hint, width)

    def add_key(self, node: Node, message: str, hint: str = "") -> None:
        """Complain of the key that names a value."""
        self._put(node.key_at or node.at, message, hint, len(node.key_raw))

    def fault(self, node: Node, fault: Fault | None) -> bool:
        """Complain of a value if there is a fault; say whether there was."""
        if fault is None:
            return False
        self.add(node, fault.message, fault.hint, token=fault.token)
        return True

    def key_fault(self, node: Node, fault: Fault | None) -> bool:
        """Complain of a key if there is a fault; say whether there was."""
        if fault is None:
            return False
        self.add_key(node, fault.message, fault.hint)
        return True

    def _put(self, at: Position, message: str, hint: str, width: int) -> None:
        if at not in self._by_place:
            text = self._texts.get(at.file, "")
            self._by_place[at] = complaint(text, at, message, hint, max(1, width))

    def end(self) -> None:
        """Raise ConfigError with what was found, if anything was."""
        found = sorted(self._by_place.values())
        if found:
            raise ConfigError(found[:MOST])


def near(word: str, known: Iterable[str]) -> str:
    """Return the hint `did you mean ...?`, or the known words when none is near."""
    import difflib

    names = list(known)
    matches = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if matches:
        return f"did you mean `{matches[0]}`?"
    return f"known: {', '.join(names)}" if names else ""
