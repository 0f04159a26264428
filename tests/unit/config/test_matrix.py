"""A matrix makes variants in written order; the plain name stands for all of them."""

from collections.abc import Callable

import pytest

from sandboxfile.config import matrix
from sandboxfile.model import Copy, ImageBase, Run, TemplateBase, Workspace

Read = Callable[[str], Workspace]


def read_templates(read: Read, text: str) -> Workspace:
    return read("version: 1\ntemplates:\n" + "".join(f"  {line}\n" for line in text.splitlines()))


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("channel: [stable, edge]", ["a-stable", "a-edge"]),
        ('py: ["3.12", "3.9"], os: [b, a]', ["a-3-12-b", "a-3-12-a", "a-3-9-b", "a-3-9-a"]),
        ("size: [2, 1]", ["a-2", "a-1"]),
        ("v: [V1_x, 'x/y+z']", ["a-v1_x", "a-x-y-z"]),
        ("x-note: [1], v: [b]", ["a-b"]),
        ("v: [b, c], w: [d, e], exclude: [{v: b, w: e}, {v: c, w: d}]", ["a-b-d", "a-c-e"]),
        ("v: [b, c], w: [d, e], exclude: [{v: b}]", ["a-c-d", "a-c-e"]),
        ("v: [1, 2], exclude: [{v: 1}]", ["a-2"]),
    ],
)
def test_variants_come_in_written_order(read: Read, written: str, names: list[str]) -> None:
    found = read_templates(read, f"a: {{base: alpine, matrix: {{{written}}}}}")
    assert list(found.templates) == names
    assert {each.key for each in found.templates.values()} == {"a"}


def test_values_are_put_in_everywhere(read: Read) -> None:
    found = read(
        "version: 1\nname: a\nmatrix: {v: [x], port: [8000]}\n"
        'base: "python:${matrix.port}"\nenv: {A: "${matrix.v}-$${matrix.v}"}\n'
        "files: ['${matrix.v}/ -> /${matrix.port}/']\nrun: ['echo $HOME ${matrix.v}']\n"
        'ready: {port: "${matrix.port}"}\ntags: ["t-${matrix.port}-${key}"]\n'
    )
    (one,) = found.templates.values()
    assert isinstance(one.base, ImageBase)
    assert one.base.image == "python:8000"
    assert one.matrix == {"v": "x", "port": "8000"}
    assert one.tags == ("t-8000-${key}",)
    assert one.ready is not None
    assert one.ready.value == "8000"
    (copy,) = (each for each in one.instructions if isinstance(each, Copy))
    assert (copy.sources, copy.to) == (("x/",), "/8000/")
    (run,) = (each for each in one.instructions if isinstance(each, Run))
    assert run.command == "echo $HOME x"


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("${matrix.v}-a", ["3-1-a", "b-a"]),
        ("x", ["x-3-1", "x-b"]),
    ],
)
def test_variants_are_named_by_a_pattern(read: Read, name: str, names: list[str]) -> None:
    text = f'a: {{base: alpine, name: "{name}", matrix: {{v: ["3.1", b]}}}}'
    assert list(read_templates(read, text).templates) == names


def test_in_the_short_form_a_pattern_leaves_the_directory_as_the_plain_name(read: Read) -> None:
    found = read('version: 1\nname: "${matrix.v}-x"\nmatrix: {v: [b]}\nbase: alpine\n')
    assert {name: each.key for name, each in found.templates.items()} == {"b-x": "demo"}


def test_a_name_is_not_taken_over(read: Read) -> None:
    found = read_templates(read, "a: {base: alpine, name: x}\nb: {extends: a}")
    assert list(found.templates) == ["x", "b"]
    assert found.templates["b"].extends == ("x",)


def test_a_matrix_is_taken_over_and_unset(read: Read) -> None:
    found = read_templates(
        read,
        "a: {base: alpine, matrix: {v: [x, y]}}\n"
        "b: {extends: a, matrix: {w: [z]}}\nc: {extends: a, matrix: null}",
    )
    assert list(found.templates) == ["a-x", "a-y", "b-x-z", "b-y-z", "c"]
    assert found.templates["b-y-z"].extends == ("a-y",)
    assert found.templates["c"].extends == ("a-x", "a-y")


def test_a_base_with_a_matrix_is_the_variant_with_the_same_values(read: Read) -> None:
    found = read_templates(
        read,
        "a: {base: alpine, matrix: {v: [x, y]}}\n"
        "b: {base: {template: a}, matrix: {v: [y], w: [z]}}\n"
        "c: {base: {template: a-x}}\n"
        'd: {base: {template: "a-${matrix.q}"}, matrix: {q: [x]}}\n'
        "e: {base: alpine, matrix: {v: [x]}}\nf: {base: {template: e}}",
    )
    bases = {name: each.base for name, each in found.templates.items()}
    edges = {name: b.template for name, b in bases.items() if isinstance(b, TemplateBase)}
    assert edges == {"b-y-z": "a-y", "c": "a-x", "d-x": "a-x", "f": "e-x"}


def test_a_value_is_folded_into_a_part_of_a_name() -> None:
    assert [matrix.folded(text) for text in ("3.12", "A b", "_x-", "-x")] == [
        "3-12", "a-b", "_x", "x",
    ]  # fmt: skip
