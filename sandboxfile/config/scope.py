"""What every reader of the configuration needs to know besides the value it reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandboxfile.config.document import Node
from sandboxfile.config.problems import Fault, Problems

Grammar = Callable[[str], Fault | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`root` is the workspace, `directory` that of the file being read (both absolute).

    A reader returns None, or leaves out, what is wrong or of the wrong type: it complains of
    the former, and the schema of the latter.
    """

    problems: Problems
    root: Path
    directory: Path
    templates: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def text(self, node: Node | None, grammar: Grammar | None = None) -> str | None:
        """Return a text that fits the grammar."""
        if node is None or node.text is None:
            return None
        if grammar is not None and self.problems.fault(node, grammar(node.text)):
            return None
        return node.text

    def texts(self, nodes: Iterable[Node], grammar: Grammar | None = None) -> tuple[str, ...]:
        """Return the texts that fit the grammar."""
        found = (self.text(node, grammar) for node in nodes)
        return tuple(text for text in found if text is not None)

    def one_of(
        self, node: Node, kinds: tuple[str, ...], what: str, *, beside: tuple[str, ...] = ()
    ) -> str | None:
        """Return the one key of `kinds` that a map has; complain of none or several.

        Where there is a key neither of `kinds` nor of `beside`, that is the mistake, and the
        schema complains of it.
        """
        given = [key for key, value in node.entries.items() if key in kinds and present(value)]
        if len(given) == 1:
            return given[0]
        if not given and all(key in (*kinds, *beside) for key in node.entries):
            names = ", ".join(f"`{kind}`" for kind in kinds)
            self.problems.add(node, f"{what} needs one of {names}")
        for key in given[1:]:
            message = f"{what} has one kind, and `{given[0]}` is given already"
            self.problems.add_key(node.entries[key], message, "keep one of them")
        return None


def present(node: Node | None) -> bool:
    """Say whether a value is there and not `null`."""
    return node is not None and node.content is not None


def value(node: Node, key: str) -> Node | None:
    """Return the value of a key, None where it is missing or `null`."""
    found = node.entries.get(key)
    return found if present(found) else None
