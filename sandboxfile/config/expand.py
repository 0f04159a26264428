"""From what was written to what is meant: `defaults`, `extends` and `$`, on Nodes.

Every value keeps its place, so that a complaint about an inherited value names the line that
wrote it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from sandboxfile.config.document import Node
from sandboxfile.config.problems import Problems, near

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


# --- inheritance -----------------------------------------------------------------------------


def inherit(
    templates: Mapping[str, Node], defaults: Node | None, problems: Problems
) -> dict[str, Node]:
    """Return every template with what `extends` and `defaults` give it."""
    parents = {name: _parent(node, templates, problems) for name, node in templates.items()}
    for loop in loops({name: parent for name, parent in parents.items() if parent}):
        _complain_of_loop(loop, templates, problems)
        for name in loop:
            parents[name] = None
    done: dict[str, Node] = {}
    for name in templates:
        chain = [name]
        while (parent := parents[chain[-1]]) is not None and chain[-1] not in done:
            chain.append(parent)
        for each in reversed(chain):
            if each not in done:
                above = parents[each]
                base = done[above] if above is not None else defaults
                done[each] = _child(base, templates[each], is_found=above is not None)
    return {name: done[name] for name in templates}


def _parent(node: Node, templates: Mapping[str, Node], problems: Problems) -> str | None:
    extends = node.entries.get("extends")
    if extends is None or extends.text is None:
        return None
    if extends.text not in templates:
        hint = near(extends.text, templates)
        problems.add(extends, f"`extends` names no template here: `{extends.text}`", hint)
        return None
    return extends.text


def _complain_of_loop(
    loop: tuple[str, ...], templates: Mapping[str, Node], problems: Problems
) -> None:
    node = templates[loop[0]].entries["extends"]
    way = " -> ".join(f"`{name}`" for name in (*loop, loop[0]))
    problems.add(node, f"`extends` goes in a circle: {way}", "take one of these out")


def loops(edges: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the circles of a graph in which a node has at most one edge, in written order."""
    found = []
    settled: set[str] = set()
    for start in edges:
        way: list[str] = []
        name: str | None = start
        while name is not None and name not in settled and name not in way:
            way.append(name)
            name = edges.get(name)
        if name is not None and name in way:
            circle = way[way.index(name) :]
            first = min(range(len(circle)), key=lambda i: list(edges).index(circle[i]))
            found.append((*circle[first:], *circle[:first]))
        settled.update(way)
    return found


def _child(parent: Node | None, child: Node, *, is_found: bool) -> Node:
    own = child.entries
    if parent is None:
        merged = dict(own)
    else:
        replaced = SUGAR if own.get("steps") and own["steps"].content is not None else ()
        kept = {key: node for key, node in parent.entries.items() if key not in replaced}
        merged = dict(_merge_maps(kept, own, ()))
    if is_found:
        merged.pop("extends", None)
    return replace(child, content=merged)


def merge(parent: Node, child: Node, path: tuple[str, ...] = ()) -> Node:
    """Return the child over the parent: maps merge, everything else replaces."""
    if not isinstance(parent.content, dict) or not isinstance(child.content, dict):
        return child
    if _is_another_kind(parent, child, path):
        return child
    return replace(child, content=_merge_maps(parent.content, child.content, path))


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


def interpolate(node: Node, problems: Problems, *, in_tags: bool = False) -> Node:
    """Return the value with every `$$` made `$`, and complain of names that are not known.

    Inside `tags` nothing is replaced: `${key}` and `${git.sha}` are known only after building.
    Recursion is bounded by the document's depth.
    """
    match node.content:
        case str() if "$" in node.content:
            return _text(node, problems, in_tags=in_tags)
        case tuple():
            items = tuple(interpolate(n, problems, in_tags=in_tags) for n in node.content)
            same = all(a is b for a, b in zip(items, node.content, strict=True))
            return node if same else replace(node, content=items)
        case dict():
            entries = {
                key: n
                if key.startswith("x-")
                else interpolate(n, problems, in_tags=in_tags or key == "tags")
                for key, n in node.content.items()
            }
            same = all(n is entries[key] for key, n in node.content.items())
            return node if same else replace(node, content=entries)
        case _:
            return node


def _text(node: Node, problems: Problems, *, in_tags: bool) -> Node:
    text = str(node.content)
    for found in _REFERENCE.finditer(text):
        name = found.group(1)
        if name is None or (in_tags and name in _IN_TAGS):
            continue
        message, hint = _unknown(name, found.group(), in_tags=in_tags)
        problems.add(node, message, hint, token=found.group())
    return node if in_tags else replace(node, content=text.replace("$$", "$"))


def _unknown(name: str, written: str, *, in_tags: bool) -> tuple[str, str]:
    hint = f"write `${written}` for the text itself"
    if in_tags:
        hint = "tags know `${git.sha}` and `${key}`"
    elif name in _IN_TAGS:
        return f"`{written}` is known in `tags` only", hint
    message = f"`{written}` names nothing that this version knows"
    if name.partition(".")[0] in ("matrix", "var"):
        key = "matrix" if name.startswith("matrix") else "variables"
        message = f"`{written}` needs `{key}`, which is not supported by this version yet"
    return message, hint
