"""Inheritance: maps merge, lists replace, null unsets; every value keeps its place."""

import pytest

from sandboxfile.config import expand
from sandboxfile.config.document import Node
from sandboxfile.config.expand import Known, Source
from sandboxfile.config.names import Named, Names
from sandboxfile.config.parser import parse
from sandboxfile.config.problems import Problems
from sandboxfile.errors import ConfigError


def inherited(text: str) -> dict[str, object]:
    root = parse(text, "f")
    problems = Problems({"f": text})
    merged = merge(root, problems)
    problems.end()
    return {name: node.plain() for name, node in merged.items()}


def merge(root: Node, problems: Problems) -> dict[str, Node]:
    sources = {
        key: Source(key, "", node, root.entries.get("defaults"))
        for key, node in root.entries["templates"].entries.items()
    }
    names = Names.of(Named(key, key) for key in sources)
    return expand.inherit(sources, names, problems)[0]


APT, PIP = {"apt": ["a"]}, {"pip": ["b"]}


def child(parent: str, own: str) -> object:
    return inherited(f"templates:\n  p: {parent}\n  c: {{extends: p, {own}}}\n")["c"]


@pytest.mark.parametrize(
    ("parent", "own", "expected"),
    [
        ("{env: {A: a, B: b}}", "env: {B: c, D: d}", {"env": {"A": "a", "B": "c", "D": "d"}}),
        ("{env: {A: a, B: b}}", "env: {B: null}", {"env": {"A": "a"}}),
        ("{env: {A: a}}", "env: {B: null}", {"env": {"A": "a", "B": None}}),
        ("{env: {A: a}}", "env: null", {}),
        ("{tags: [a, b]}", "tags: [c]", {"tags": ["c"]}),
        ("{start: a}", "user: b", {"start": "a", "user": "b"}),
        ("{start: a}", "start: b", {"start": "b"}),
        ("{packages: {apt: [a]}}", "packages: {pip: [b]}", {"packages": APT | PIP}),
        # A map that has one kind is replaced by another kind, and merged with the same.
        ("{base: {dockerfile: D, stage: a}}", "base: {image: b}", {"base": {"image": "b"}}),
        (
            "{base: {dockerfile: D}}",
            "base: {stage: b}",
            {"base": {"dockerfile": "D", "stage": "b"}},
        ),
        ("{base: {debian: a, epoch: 1}}", "base: {ubuntu: b}", {"base": {"ubuntu": "b"}}),
        ("{base: python}", "base: {stage: b}", {"base": {"stage": "b"}}),
        ("{base: {image: a}}", "base: b", {"base": "b"}),
        ("{ready: {url: a, status: 204}}", "ready: {port: 80}", {"ready": {"port": 80}}),
        (
            "{ready: {url: a, status: 204}}",
            "ready: {url: b}",
            {"ready": {"url": "b", "status": 204}},
        ),
        (
            "{packages: {pip: {requirements: r, to: /x}}}",
            "packages: {pip: {project: p}}",
            {"packages": {"pip": {"project": "p"}}},
        ),
        ("{packages: {pip: {requirements: r}}}", "packages: {pip: [b]}", {"packages": PIP}),
        # Steps stand in for the sugar; the sugar does not for steps.
        (
            "{env: {A: a}, run: [b], user: u}",
            "steps: [{run: c}]",
            {"user": "u", "steps": [{"run": "c"}]},
        ),
        ("{env: {A: a}}", "steps: null", {"env": {"A": "a"}, "steps": None}),
        ("{steps: [{run: a}]}", "run: [b]", {"steps": [{"run": "a"}], "run": ["b"]}),
    ],
)  # fmt: skip
def test_a_child_over_its_parent(parent: str, own: str, expected: object) -> None:
    assert child(parent, own) == expected


def test_defaults_lie_below_every_chain_and_are_merged_once() -> None:
    merged = inherited(
        "defaults: {user: u, env: {A: d, B: d}}\n"
        "templates:\n"
        "  c: {extends: b, env: {B: null}}\n"
        "  b: {extends: a, env: {C: b}}\n"
        "  a: {env: {A: a}, user: null}\n"
    )
    assert merged == {
        "a": {"env": {"A": "a", "B": "d"}},
        "b": {"env": {"A": "a", "B": "d", "C": "b"}},
        "c": {"env": {"A": "a", "C": "b"}},
    }
    assert list(merged) == ["c", "b", "a"]


def test_an_inherited_value_keeps_its_place() -> None:
    text = "templates:\n  a:\n    env:\n      A: x\n  b:\n    extends: a\n    env:\n      B: y\n"
    root = parse(text, "f")
    node = merge(root, Problems({}))["b"]
    assert str(node.find(["env", "A"]).at) == "f:4:10"
    assert str(node.find(["env", "B"]).at) == "f:8:10"
    assert str(node.find(["env"]).key_at) == "f:7:5"


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ({}, []),
        ({"a": "b"}, []),
        ({"a": "a"}, [("a",)]),
        ({"a": "b", "b": "c", "c": "a"}, [("a", "b", "c")]),
        ({"x": "c", "a": "b", "b": "c", "c": "a"}, [("a", "b", "c")]),
        ({"a": "b", "b": "a", "c": "d", "d": "c", "e": "a"}, [("a", "b"), ("c", "d")]),
    ],
)
def test_every_circle_is_found_once(edges: dict[str, str], found: list[tuple[str, ...]]) -> None:
    assert expand.loops(edges) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("$HOME ${HOME} ${HOME:-x.y} ${a[0]} $(pwd)", "$HOME ${HOME} ${HOME:-x.y} ${a[0]} $(pwd)"),
        ("$${matrix.x} $${key}", "${matrix.x} ${key}"),
        ("${KEY} ${keys}", "${KEY} ${keys}"),
    ],
)
def test_a_doubled_dollar_is_a_dollar_and_the_shells_own_are_left(text: str, expected: str) -> None:
    problems = Problems({})
    node = parse(f"{{run: ['{text}'], x-note: '$$', tags: ['$$']}}", "f")
    assert expand.interpolate(node, Known(), problems).plain() == {
        "run": [expected], "x-note": "$$", "tags": ["$$"],
    }  # fmt: skip
    problems.end()


def test_what_has_no_dollar_is_not_copied() -> None:
    node = parse("{a: [b, {c: d}], e: 1}", "f")
    assert expand.interpolate(node, Known(), Problems({})) is node


def test_unknown_names_are_refused_except_in_keys_that_are_ignored() -> None:
    text = "{a: '${matrix.x}', x-a: '${matrix.x}', tags: ['${key}', '${git.sha}', '${git.x}']}"
    problems = Problems({"f": text})
    expand.interpolate(parse(text, "f"), Known(), problems)
    with pytest.raises(ConfigError) as caught:
        problems.end()
    assert [p.at.column for p in caught.value.problems] == [6, 72]
    assert (
        caught.value.problems[1].hint
        == "tags know `${git.sha}`, `${key}`, variables and the matrix"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("$X ${X} $", "$X ${X} $"),
        ("${a.b} ${key}", "$${a.b} $${key}"),
        ("$$", "$$$$"),
        ("$$${a.b}", "$$$$$${a.b}"),
    ],
)
def test_text_can_be_written_so_that_it_means_itself(text: str, written: str) -> None:
    assert expand.literal(text) == written
