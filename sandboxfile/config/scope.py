"""What every reader of the configuration needs to know besides the value it reads."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path

from sandboxfile.config import expand, numbers
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.names import Names
from sandboxfile.config.problems import Fault, Problems
from sandboxfile.frozen import dataclass, field

Grammar = Callable[[str], Fault | None]

_TRUTHS = ("true", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`root` is the workspace, `directories` those of its files by the name they are shown with.

    `member` is the directory of the file whose template is read, relative to the root, and
    `matrix` has the values of the variant. A reader returns None, or leaves out, what is wrong or
    of the wrong type: it complains of the former, and the schema of the latter.
    """

    problems: Problems
    root: Path
    directories: Mapping[str, Path]
    names: Names = field(default_factory=Names)
    secrets: tuple[str, ...] = ()
    member: str = ""
    matrix: Mapping[str, str] = field(default_factory=dict)

    def beside(self, node: Node) -> Path:
        """Return the directory of the file that states a value (absolute)."""
        return self.directories[node.at.file]

    def inside(self, grammar: Callable[[str, int], Fault | None], node: Node) -> Grammar:
        """Return the grammar of a path that a file states, and that stays in the workspace."""
        return partial(_at_depth, grammar, _depth(self.beside(node), self.root))

    def text(self, node: Node | None, grammar: Grammar | None = None) -> str | None:
        """Return a text that fits the grammar."""
        text = node.content if node is not None else None
        if node is None or not isinstance(text, str):
            return None
        if grammar is not None and (fault := grammar(text)) is not None:
            self.problems.fault(node, fault)
            return None
        return text

    def path(self, node: Node | None, grammar: Callable[[str, int], Fault | None]) -> str | None:
        """Return a path of the workspace, as it is written."""
        return None if node is None else self.text(node, self.inside(grammar, node))

    def alike(self, variants: Iterable[str]) -> tuple[str, ...]:
        """Return the variants of another matrix whose values are those of this variant."""
        mine = self.matrix.items()
        return tuple(v for v in variants if self.names.values(v).items() <= mine)

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


def number(node: Node | None, scope: Scope) -> int | None:
    """Return a whole number; where a reference was written, text of digits is one."""
    if node is None or node.text is None or not expand.is_put_in(node):
        return node.number if node else None
    if not numbers.is_whole(node.text):
        scope.problems.add(node, f"{quoted(node.text)} is not a whole number")
        return None
    return int(node.text)


def is_true(node: Node, scope: Scope) -> bool:
    """Say whether a value is true; where a reference was written, it is a text that says so."""
    if node.text is None or not expand.is_put_in(node):
        return node.content is True
    if node.text not in _TRUTHS:
        scope.problems.add(node, f"{quoted(node.text)} is neither true nor false")
    return node.text == "true"


@cache
def _depth(directory: Path, root: Path) -> int:
    """Return how many directories lie between; asked of the same few, thousands of times."""
    return len(directory.relative_to(root).parts)


def _at_depth(grammar: Callable[[str, int], Fault | None], depth: int, text: str) -> Fault | None:
    return grammar(text, depth)


def present(node: Node | None) -> bool:
    """Say whether a value is there and not `null`."""
    return node is not None and node.content is not None


def value(node: Node, key: str) -> Node | None:
    """Return the value of a key, None where it is missing or `null`."""
    content = node.content
    found = content.get(key) if type(content) is dict else None
    return None if found is None or found.content is None else found
