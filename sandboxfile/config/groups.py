"""Groups: names for several templates, each a name, a glob, or another group."""

from collections.abc import Iterator, Mapping

from sandboxfile.config import values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.names import is_glob
from sandboxfile.config.problems import near
from sandboxfile.config.scope import Scope


def read(node: Node | None, scope: Scope) -> dict[str, tuple[str, ...]]:
    """Return the names of the templates of each group, in the order of the workspace."""
    written = {
        name: child
        for name, child in (node.entries.items() if node else ())
        if not name.startswith("x-")
        and not scope.problems.key_fault(child, values.name(name, "group"))
        and not _is_template(name, child, scope)
    }
    circles: set[frozenset[str]] = set()
    return {
        name: _ordered(_Reader(written, scope, circles).members(name, ()), scope)
        for name in written
    }


def _ordered(found: Iterator[str], scope: Scope) -> tuple[str, ...]:
    chosen = set(found)
    return tuple(each.name for each in scope.names.entries if each.name in chosen)


def _is_template(name: str, node: Node, scope: Scope) -> bool:
    if not scope.names.find(name):
        return False
    message = f"group `{name}` has the name of a template"
    scope.problems.add_key(node, message, "call one of them otherwise")
    return True


class _Reader:
    """Follows groups into each other; of each circle it complains once."""

    def __init__(
        self, written: Mapping[str, Node], scope: Scope, circles: set[frozenset[str]]
    ) -> None:
        self._written = written
        self._scope = scope
        self._circles = circles
        self._seen: set[str] = set()

    def members(self, group: str, way: tuple[str, ...]) -> Iterator[str]:
        """Yield the names of a group; one that is reached twice is followed once."""
        self._seen.add(group)
        for item in self._written[group].items:
            word = item.text
            if word is None:
                continue
            if word in (*way, group):
                self._loop(item, (*way, group), word)
            elif word in self._written:
                if word not in self._seen:
                    yield from self.members(word, (*way, group))
            else:
                yield from self._templates(item, word)

    def _loop(self, item: Node, way: tuple[str, ...], word: str) -> None:
        circle = (*way[way.index(word) :], word)
        if frozenset(circle) in self._circles:
            return
        self._circles.add(frozenset(circle))
        shown = " -> ".join(f"`{name}`" for name in circle)
        message = f"`groups` go in a circle: {shown}"
        self._scope.problems.add(item, message, "take one of these out")

    def _templates(self, item: Node, word: str) -> tuple[str, ...]:
        names, problems = self._scope.names, self._scope.problems
        if is_glob(word):
            matched = names.matching(word)
            if not matched and names.complete:
                problems.add(item, f"no template matches {quoted(word)}")
            return matched
        found = names.find(word, "")
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            message = f"{quoted(word)} stands for several templates"
            problems.add(item, message, f"name one of {', '.join(found)}")
        elif names.complete:
            hint = near(word, (*self._written, *names.words(word)))
            problems.add(item, f"there is no template and no group {quoted(word)}", hint)
        return ()
