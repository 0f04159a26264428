"""From what was written to what is meant: `defaults`, `extends` and `$`, on Nodes.

Every value keeps its place, so that a complaint about an inherited value names the line that
wrote it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import is_

from sandboxfile.config.document import Node
from sandboxfile.config.names import Names
from sandboxfile.config.problems import Problems, near
from sandboxfile.frozen import dataclass, field

# Keys of which a map has exactly one: a child that names another kind replaces the whole map,
# or it would end up with two. `*` stands for any key.
KINDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("base",): ("image", "template", "remote", "dockerfile", "debian", "ubuntu"),
    ("ready",): ("command", "url", "port", "file", "process", "delay"),
    ("packages", "*"): ("requirements", "project"),
}
SUGAR = ("env", "packages", "files", "run")  # what `steps` stands in for

# `$$`, and names of ours: dotted ones (an error in any shell), and `key`.
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][\w-]*(?:\.[\w-]+)+|key)\}")
_IN_TAGS = ("key", "git.sha")
_OWN = ("name", "extends")  # said of one template, never taken over


# --- inheritance -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A template as written: what its file calls it, where that is, and what lies below it."""

    key: str
    member: str
    node: Node
    defaults: Node | None = None


def inherit(
    templates: Mapping[str, Source], names: Names, problems: Problems
) -> tuple[dict[str, Node], dict[str, str]]:
    """Return every template with what `extends` and `defaults` give it, and what each extends.

    `names` knows the templates by the keys of `templates`.
    """
    found = {name: _parent(each, names, problems) for name, each in templates.items()}
    parents = {name: parent for name, parent in found.items() if parent is not None}
    for loop in loops(parents):
        _complain_of_loop(loop, templates, problems)
        for name in loop:
            del parents[name]
    done: dict[str, Node] = {}
    for name in templates:
        chain = [name]
        while chain[-1] in parents and chain[-1] not in done:
            chain.append(parents[chain[-1]])
        for each in reversed(chain):
            if each not in done:
                done[each] = _inherited(each, parents.get(each), templates, done)
    return {name: done[name] for name in templates}, parents


def _inherited(
    name: str, parent: str | None, templates: Mapping[str, Source], done: Mapping[str, Node]
) -> Node:
    source = templates[name]
    defaults, node = source.defaults, source.node
    if parent is None:
        return child(defaults, node) if defaults else node
    above = done[parent]._replace(content=_without(done[parent].entries, *_OWN))
    if defaults is not None and defaults is not templates[parent].defaults:
        above = child(defaults, above)  # of another file: below what that file says
    merged = child(above, node)
    return merged._replace(content=_without(merged.entries, "extends"))


def _without(entries: Mapping[str, Node], *keys: str) -> dict[str, Node]:
    return {key: node for key, node in entries.items() if key not in keys}


def _parent(source: Source, names: Names, problems: Problems) -> str | None:
    extends = source.node.entries.get("extends")
    if extends is None or extends.text is None:
        return None
    found = names.find(extends.text, source.member)
    if len(found) == 1:
        return next(iter(found.values()))[0]
    if found:
        message = f"`extends` names several templates: `{extends.text}`"
        problems.add(extends, message, f"name one of {', '.join(found)}")
    elif names.complete:
        keys = dict.fromkeys(each.key for each in names.entries)
        known = names.words(extends.text) if ":" in extends.text else keys
        hint = near(extends.text, known)
        problems.add(extends, f"`extends` names no template here: `{extends.text}`", hint)
    return None


def _complain_of_loop(
    loop: tuple[str, ...], templates: Mapping[str, Source], problems: Problems
) -> None:
    node = templates[loop[0]].node.entries["extends"]
    way = " -> ".join(f"`{templates[name].key}`" for name in (*loop, loop[0]))
    problems.add(node, f"`extends` goes in a circle: {way}", "take one of these out")


def loops(edges: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the circles of a graph in which a node has at most one edge, in written order."""
    found = []
    settled: set[str] = set()
    rank = {name: number for number, name in enumerate(edges)}
    for start in edges:
        way: dict[str, int] = {}
        name: str | None = start
        while name is not None and name not in settled and name not in way:
            way[name] = len(way)
            name = edges.get(name)
        if name is not None and name in way:
            circle = tuple(way)[way[name] :]
            first = min(range(len(circle)), key=lambda i: rank[circle[i]])
            found.append((*circle[first:], *circle[:first]))
        settled.update(way)
    return found


def over(below: Node | None, above: Node | None) -> Node | None:
    """Lay one map over another, either of which may be missing."""
    return child(below, above) if below is not None and above is not None else above or below


def child(parent: Node, child: Node) -> Node:
    """Return one template over another: `steps` stand in for what they replace."""
    own = child.entries
    replaced = SUGAR if own.get("steps") and own["steps"].content is not None else ()
    return child._replace(content=_merge_maps(_without(parent.entries, *replaced), own, ()))


def merge(parent: Node, child: Node, path: tuple[str, ...] = ()) -> Node:
    """Return the child over the parent: maps merge, everything else replaces."""
    if not isinstance(parent.content, dict) or not isinstance(child.content, dict):
        return child
    if _is_another_kind(parent, child, path):
        return child
    return child._replace(content=_merge_maps(parent.content, child.content, path))


def _merge_maps(
    parent: Mapping[str, Node], child: Mapping[str, Node], path: tuple[str, ...]
) -> dict[str, Node]:
    merged = dict(parent)
    for key, node in child.items():
        if key not in merged:
            merged[key] = node
        elif node.content is None:
            del merged[key]
        else:
            merged[key] = merge(merged[key], node, (*path, key))
    return merged


def _is_another_kind(parent: Node, child: Node, path: tuple[str, ...]) -> bool:
    kinds = KINDS.get(path) or KINDS.get((*path[:-1], "*"), ())
    ours = {kind for kind in kinds if kind in child.entries}
    return bool(ours) and not ours & parent.entries.keys()


# --- interpolation ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What references stand for: `matrix` and `variables` by name; `wanted` notes those of use.

    `fold` is applied to the values of the matrix.
    """

    variables: Mapping[str, str | None] = field(default_factory=dict)
    matrix: Mapping[str, str] = field(default_factory=dict)
    fold: Callable[[str], str] = str

    def value(self, reference: str) -> str | None:
        """Return what a reference stands for, nothing for a variable that `is_lost`."""
        kind, _, name = reference.partition(".")
        if kind == "var" and name in self.variables:
            return self.variables[name] or ""
        if kind == "matrix" and name in self.matrix:
            return self.fold(self.matrix[name])
        return None

    def is_lost(self, reference: str) -> bool:
        """Say whether it is a variable without a value, which is complained of where it is."""
        kind, _, name = reference.partition(".")
        return kind == "var" and self.variables.get(name, "") is None


def literal(text: str) -> str:
    """Return text as it has to be written to mean itself."""
    return _REFERENCE.sub(lambda match: match.group().replace("$", "$$"), text)


def interpolate(node: Node, known: Known, problems: Problems, *, in_tags: bool = False) -> Node:
    """Return the value with references replaced, and complain of names that are not known.

    In `tags`, `${key}` and `${git.sha}` stay, and with them `$$`: they are known only after
    building. Recursion is bounded by the document's depth.
    """
    content = node.content
    if type(content) is str:
        return _text(node, known, problems, in_tags=in_tags) if "$" in content else node
    if type(content) is tuple:
        items = [interpolate(each, known, problems, in_tags=in_tags) for each in content]
        same = all(map(is_, items, content))
        return node if same else node._replace(content=tuple(items))
    if type(content) is dict:
        changed = {}
        for key, each in content.items():
            inner = each.content
            if type(inner) is str and "$" not in inner:  # nearly all
                continue
            if key.startswith("x-"):
                continue
            new = interpolate(each, known, problems, in_tags=in_tags or key == "tags")
            if new is not each:
                changed[key] = new
        return node._replace(content=content | changed) if changed else node
    return node


def _text(node: Node, known: Known, problems: Problems, *, in_tags: bool) -> Node:
    text = str(node.content)
    pieces = list(_pieces(node, text, known, problems, in_tags=in_tags))
    return node._replace(content="".join(pieces))


def _pieces(
    node: Node, text: str, known: Known, problems: Problems, *, in_tags: bool
) -> Iterator[str]:
    end, is_known = 0, True
    for found in _REFERENCE.finditer(text):
        yield text[end : found.start()]
        end = found.end()
        name = found.group(1)
        value = None if name is None else known.value(name)
        if name is not None and known.is_lost(name):
            problems.follows(node)
        if name is None:
            yield "$$" if in_tags else "$"
        elif value is not None:
            yield value.replace("$", "$$") if in_tags else value
        else:
            yield found.group()
            if not (in_tags and name in _IN_TAGS):
                message, hint = _unknown(name, found.group(), known, in_tags=in_tags)
                problems.add(node, message, hint, token=found.group())
                is_known = False
    if not is_known:
        problems.follows(node)
    yield text[end:]


def _unknown(name: str, written: str, known: Known, *, in_tags: bool) -> tuple[str, str]:
    kind, _, rest = name.partition(".")
    if kind == "matrix":
        if not known.matrix:
            message = f"`{written}` needs a `matrix`, which this template has not"
            return message, f"write `${written}` for the text itself"
        message = f"the matrix of this template has no `{rest}`"
        return message, near(rest, known.matrix)
    if kind == "var":
        hint = near(rest, known.variables)
        return f"there is no variable `{rest}`", hint or f"declare it: variables: {{{rest}: ...}}"
    hint = f"write `${written}` for the text itself"
    if in_tags:
        hint = "tags know `${git.sha}`, `${key}`, variables and the matrix"
    elif name in _IN_TAGS:
        return f"`{written}` is known in `tags` only", hint
    return f"`{written}` names nothing that this version knows", hint


def is_put_in(node: Node) -> bool:
    """Say whether a value was written as a reference, so that it is text whatever it says."""
    return "${" in node.raw
