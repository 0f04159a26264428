"""What is built, and in which order, drawn: pure text out of a Drawing.

It is of the templates of a workspace, or of the jobs that build them. Edges go in the order of
building, from what comes first to what needs it. Configuration that is taken over (`extends`)
orders nothing, and is dashed.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Literal

from sandboxfile.frozen import dataclass
from sandboxfile.model import Template, TemplateBase

Kind = Literal["base", "extends", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A template, or a job of one: then `path` is the template.

    `base` says in words what a template is built on, `is_drawn` that an edge says it too.
    """

    name: str
    path: str
    base: str
    is_drawn: bool = False

    @property
    def about(self) -> str:
        """What the picture does not show by itself."""
        return "" if self.is_drawn else self.base


@dataclass(frozen=True, slots=True)
class Edge:
    """A template (`first`) that another one is built on, or whose configuration it takes over.

    Or a job that comes before another one: the `step` before it, or one of the template's base.
    """

    first: str
    then: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn; every edge connects two of its nodes.

    Templates are in the order of the workspace, jobs, those for a `target`, in one of building.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    target: str = ""


def of(templates: Iterable[Template], describe: Callable[[Template], str]) -> Drawing:
    """Return the drawing of some templates; `describe` says what one is built on."""
    shown = {template.name: template for template in templates}
    nodes = tuple(
        Node(
            name=name,
            path=template.member or ".",
            base=describe(template),
            is_drawn=isinstance(template.base, TemplateBase) and template.base.template in shown,
        )
        for name, template in shown.items()
    )
    edges = (edge for template in shown.values() for edge in _edges(template))
    return Drawing(nodes=nodes, edges=tuple(edge for edge in edges if edge.first in shown))


def _edges(template: Template) -> Iterator[Edge]:
    if isinstance(template.base, TemplateBase):
        yield Edge(template.base.template, template.name, "base")
    for name in template.extends:
        yield Edge(name, template.name, "extends")


def of_jobs(needs: Mapping[str, Iterable[str]], target: str) -> Drawing:
    """Return the drawing of jobs, `<step>:<template>`, each with those that it needs."""
    nodes = tuple(Node(name=job, path=_template(job), base="") for job in needs)
    edges = tuple(
        Edge(first, job, "step" if _template(first) == _template(job) else "base")
        for job, before in needs.items()
        for first in before
    )
    return Drawing(nodes=nodes, edges=edges, target=target)


def _template(job: str) -> str:
    return job.partition(":")[2]


# --- text ------------------------------------------------------------------------------------


def text(drawing: Drawing) -> str:
    """Return trees of what is built on what; a template with two parents is under its base."""
    children: dict[str, list[str]] = {node.name: [] for node in drawing.nodes}
    extended: dict[str, list[str]] = {node.name: [] for node in drawing.nodes}
    for edge in drawing.edges:
        if edge.kind == "base":
            children[edge.first].append(edge.then)
        else:
            extended[edge.then].append(edge.first)
    built = {edge.then for edge in drawing.edges if edge.kind == "base"}
    about = {node.name: _about(node, extended[node.name]) for node in drawing.nodes}
    lines: list[str] = []
    # Without recursion: a chain may be as long as the workspace.
    waiting = [(node.name, "", "") for node in reversed(drawing.nodes) if node.name not in built]
    while waiting:
        name, before, below = waiting.pop()
        lines.append(f"{before}{about[name]}\n")
        inner = children[name]
        for each in reversed(inner):
            is_last = each == inner[-1]
            branch, trunk = ("└── ", "    ") if is_last else ("├── ", "│   ")
            waiting.append((each, below + branch, below + trunk))
    return "".join(lines)


def _about(node: Node, extends: Iterable[str]) -> str:
    said = [node.about] if node.about else []
    said += [f"extends {name}" for name in extends]
    return f"{node.name} ({', '.join(said)})" if said else node.name


def jobs_text(drawing: Drawing) -> str:
    """Return a line for each job, with those that have to be done before."""
    needs: dict[str, list[str]] = {node.name: [] for node in drawing.nodes}
    for edge in drawing.edges:
        needs[edge.then].append(edge.first)
    width = max(map(len, needs), default=0)
    lines = (f"{job:<{width}}  {', '.join(before)}".rstrip() for job, before in needs.items())
    return "".join(f"{line}\n" for line in lines)


# --- languages of other programs -------------------------------------------------------------


def dot(drawing: Drawing) -> str:
    """Return the DOT language (graphviz.org/doc/info/lang.html), members as clusters."""
    lines = ["digraph templates {", "  rankdir=LR", "  node [shape=box, fontname=sans]"]
    for number, (path, nodes) in enumerate(_by_path(drawing)):
        inner = [f"{_quoted(node.name)} [label={_quoted(_label(node))}]" for node in nodes]
        if path == ".":
            lines += [f"  {line}" for line in inner]
        else:
            lines.append(f"  subgraph cluster_{number} {{")
            lines.append(f"    label={_quoted(path)}")
            lines += [f"    {line}" for line in inner]
            lines.append("  }")
    for edge in drawing.edges:
        style = " [style=dashed]" if edge.kind == "extends" else ""
        lines.append(f"  {_quoted(edge.first)} -> {_quoted(edge.then)}{style}")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(drawing: Drawing) -> str:
    """Return a Mermaid flowchart (mermaid.js.org/syntax/flowchart.html), members as subgraphs."""
    ids = {node.name: f"t{number}" for number, node in enumerate(drawing.nodes)}
    lines = ["flowchart LR"]
    for number, (path, nodes) in enumerate(_by_path(drawing)):
        inner = [f"{ids[node.name]}[{_entities(_label(node))}]" for node in nodes]
        if path == ".":
            lines += [f"  {line}" for line in inner]
        else:
            lines.append(f"  subgraph m{number} [{_entities(path)}]")
            lines += [f"    {line}" for line in inner]
            lines.append("  end")
    for edge in drawing.edges:
        arrow = "-.->" if edge.kind == "extends" else "-->"
        lines.append(f"  {ids[edge.first]} {arrow} {ids[edge.then]}")
    return "\n".join(lines) + "\n"


def as_json(drawing: Drawing) -> str:
    """Return nodes and edges as JSON; an edge goes `from` what comes first `to` what follows."""
    nodes = [{"name": node.name, "path": node.path, "base": node.base} for node in drawing.nodes]
    return json.dumps({"templates": nodes, "edges": _plain_edges(drawing)}, indent=2) + "\n"


def jobs_json(drawing: Drawing) -> str:
    """Return target, jobs and edges as JSON; an edge goes `from` what comes first."""
    jobs = [
        {"name": node.name, "step": node.name.partition(":")[0], "template": node.path}
        for node in drawing.nodes
    ]
    found = {"target": drawing.target, "steps": jobs, "edges": _plain_edges(drawing)}
    return json.dumps(found, indent=2) + "\n"


def _plain_edges(drawing: Drawing) -> list[dict[str, str]]:
    return [{"from": edge.first, "to": edge.then, "kind": edge.kind} for edge in drawing.edges]


def _by_path(drawing: Drawing) -> Iterator[tuple[str, list[Node]]]:
    """Yield the nodes of each directory; those of one come one after the other."""
    for path, nodes in groupby(drawing.nodes, key=lambda node: node.path):
        yield path, list(nodes)


def _label(node: Node) -> str:
    return f"{node.name}\n{node.about}" if node.about else node.name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, entity)
    return '"' + text.replace("\n", "<br/>") + '"'


FORMATS: Mapping[str, Callable[[Drawing], str]] = {
    "text": text,
    "dot": dot,
    "mermaid": mermaid,
    "json": as_json,
}
JOBS_FORMATS: Mapping[str, Callable[[Drawing], str]] = {
    **FORMATS,
    "text": jobs_text,
    "json": jobs_json,
}
