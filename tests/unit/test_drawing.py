"""The same drawing in four languages."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sandboxfile import drawing
from sandboxfile.config import load, written

CONFIG = """\
version: 1
members: [services/a]
templates:
  python: {base: python:3.12}
  tool: {extends: python, base: {template: python}}
  deep: {base: {template: a-x}}
"""
MEMBER = """\
version: 1
base: {template: python}
matrix: {v: [x, y]}
"""


@pytest.fixture
def drawn(tmp_path: Path) -> drawing.Drawing:
    (tmp_path / "services/a").mkdir(parents=True)
    (tmp_path / "novita.yaml").write_text(CONFIG)
    (tmp_path / "services/a/novita.yaml").write_text(MEMBER)
    templates = load.load(tmp_path / "novita.yaml").templates
    return drawing.of(templates.values(), lambda template: written.briefly(template.base))


def test_as_text(drawn: drawing.Drawing) -> None:
    assert drawing.text(drawn) == (
        "python (python:3.12)\n├── tool (extends python)\n├── a-x\n│   └── deep\n└── a-y\n"
    )


def test_in_dot(drawn: drawing.Drawing) -> None:
    assert drawing.dot(drawn) == (
        "digraph templates {\n"
        "  rankdir=LR\n"
        "  node [shape=box, fontname=sans]\n"
        '  "python" [label="python\\npython:3.12"]\n'
        '  "tool" [label="tool"]\n'
        '  "deep" [label="deep"]\n'
        "  subgraph cluster_1 {\n"
        '    label="services/a"\n'
        '    "a-x" [label="a-x"]\n'
        '    "a-y" [label="a-y"]\n'
        "  }\n"
        '  "python" -> "tool"\n'
        '  "python" -> "tool" [style=dashed]\n'
        '  "a-x" -> "deep"\n'
        '  "python" -> "a-x"\n'
        '  "python" -> "a-y"\n'
        "}\n"
    )


def test_in_mermaid(drawn: drawing.Drawing) -> None:
    assert drawing.mermaid(drawn) == (
        "flowchart LR\n"
        '  t0["python<br/>python:3.12"]\n'
        '  t1["tool"]\n'
        '  t2["deep"]\n'
        '  subgraph m1 ["services/a"]\n'
        '    t3["a-x"]\n'
        '    t4["a-y"]\n'
        "  end\n"
        "  t0 --> t1\n"
        "  t0 -.-> t1\n"
        "  t3 --> t2\n"
        "  t0 --> t3\n"
        "  t0 --> t4\n"
    )


def test_as_json(drawn: drawing.Drawing) -> None:
    document = json.loads(drawing.as_json(drawn))
    assert document["templates"][0] == {"name": "python", "path": ".", "base": "python:3.12"}
    assert document["templates"][3] == {
        "name": "a-x",
        "path": "services/a",
        "base": "template python",
    }
    assert document["edges"][:2] == [
        {"from": "python", "to": "tool", "kind": "base"},
        {"from": "python", "to": "tool", "kind": "extends"},
    ]


def test_what_the_languages_could_take_for_their_own_is_quoted() -> None:
    node = drawing.Node(name="a", path='x"<#', base='b"\\')
    strange = drawing.Drawing(nodes=(node,), edges=())
    assert '"a" [label="a\\nb\\"\\\\"]' in drawing.dot(strange)
    assert 'subgraph m0 ["x#quot;#lt;#35;"]' in drawing.mermaid(strange)


def test_an_edge_to_what_is_not_drawn_is_left_out(drawn: drawing.Drawing) -> None:
    assert all(edge.first in {node.name for node in drawn.nodes} for edge in drawn.edges)


def test_a_long_chain_is_drawn() -> None:
    names = [f"t{number}" for number in range(3000)]
    edges = pairwise(names)
    chain = drawing.Drawing(
        nodes=tuple(drawing.Node(name=name, path=".", base="") for name in names),
        edges=tuple(drawing.Edge(first, then, "base") for first, then in edges),
    )
    assert drawing.text(chain).count("\n") == 3000


# --- jobs ------------------------------------------------------------------------------------

JOBS = {
    "build:a": (),
    "snapshot:a": ("build:a",),
    "build:b": ("build:a",),
    "snapshot:b": ("build:b",),
}


def test_jobs_are_told_with_what_they_need() -> None:
    assert drawing.JOBS_FORMATS["text"](drawing.of_jobs(JOBS, "prod")) == (
        "build:a\n"
        "snapshot:a  build:a\n"
        "build:b     build:a\n"
        "snapshot:b  build:b\n"
    )  # fmt: skip
    assert drawing.jobs_text(drawing.of_jobs({}, "prod")) == ""


def test_jobs_are_drawn_in_a_box_for_each_template() -> None:
    jobs = drawing.of_jobs(JOBS, "prod")
    assert drawing.JOBS_FORMATS["mermaid"](jobs) == (
        "flowchart LR\n"
        '  subgraph m0 ["a"]\n'
        '    t0["build:a"]\n'
        '    t1["snapshot:a"]\n'
        "  end\n"
        '  subgraph m1 ["b"]\n'
        '    t2["build:b"]\n'
        '    t3["snapshot:b"]\n'
        "  end\n"
        "  t0 --> t1\n"
        "  t0 --> t2\n"
        "  t2 --> t3\n"
    )
    assert '  "build:a" -> "build:b"\n' in drawing.JOBS_FORMATS["dot"](jobs)


def test_jobs_as_json() -> None:
    found = json.loads(drawing.JOBS_FORMATS["json"](drawing.of_jobs(JOBS, "prod")))
    assert found["target"] == "prod"
    assert found["steps"][1] == {"name": "snapshot:a", "step": "snapshot", "template": "a"}
    assert found["edges"] == [
        {"from": "build:a", "to": "snapshot:a", "kind": "step"},
        {"from": "build:a", "to": "build:b", "kind": "base"},
        {"from": "build:b", "to": "snapshot:b", "kind": "step"},
    ]
