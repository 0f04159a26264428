"""Each kind of base, with its defaults."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.model import (
    BootstrapBase,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    Template,
    TemplateBase,
    Workspace,
)
from sandboxfile.places import Position

Read = Callable[[str], Template]


def at(column: int) -> Position:
    return Position("novita.yaml", 2, column)


@pytest.mark.parametrize("text", ["base: python:3.12-slim", "base: {image: python:3.12-slim}"])
def test_an_image(template: Read, text: str) -> None:
    base = template(text).base
    assert base == ImageBase(image="python:3.12-slim", at=at(7))


def test_a_template_of_the_workspace(read: Callable[[str], Workspace]) -> None:
    text = "version: 1\ntemplates:\n  b: {base: {template: a}}\n  a: {base: alpine}\n"
    base = read(text).templates["b"].base
    assert base == TemplateBase(template="a", at=Position("novita.yaml", 3, 24))


def test_a_template_at_the_target(template: Read) -> None:
    assert template('base: {remote: "a:stable"}').base == RemoteBase(remote="a:stable", at=at(16))


def test_a_dockerfile_has_its_directory_as_context(root: Path, template: Read) -> None:
    assert template("base: {dockerfile: docker/Dockerfile}").base == DockerfileBase(
        dockerfile=root / "docker" / "Dockerfile", context=root / "docker", at=at(20)
    )


def test_a_dockerfile_with_everything(root: Path, template: Read) -> None:
    text = "base: {dockerfile: a/../D, context: ., stage: run, args: {A: b, C: ''}}"
    assert template(text).base == DockerfileBase(
        dockerfile=root / "D", context=root, stage="run", args={"A": "b", "C": ""}, at=at(20)
    )


def test_null_unsets_inside_a_base(template: Read) -> None:
    base = template("base: {image: null, dockerfile: D, stage: null}").base
    assert isinstance(base, DockerfileBase)
    assert base.stage is None


def test_a_distribution_has_defaults(template: Read) -> None:
    assert template("base: {debian: bookworm}").base == BootstrapBase(
        distribution="debian", suite="bookworm", at=at(16)
    )


def test_a_distribution_with_everything(template: Read) -> None:
    base = template(
        "base: {ubuntu: noble, mirror: 'http://a.example.com/u', components: [main, universe],"
        " include: [curl], snapshot: 20240115T000000Z, epoch: 7}"
    ).base
    assert base == BootstrapBase(
        distribution="ubuntu",
        suite="noble",
        mirror="http://a.example.com/u",
        components=("main", "universe"),
        include=("curl",),
        snapshot="20240115T000000Z",
        epoch=7,
        at=at(16),
    )
