"""Variables: an option before the environment before the default, each of its type."""

from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.config.given import Given
from sandboxfile.errors import UsageError
from sandboxfile.model import Copy, Env, Run, Template, Workspace


@pytest.fixture
def file(root: Path) -> Path:
    path = root / "novita.yaml"
    path.write_text(
        "version: 1\nvariables:\n"
        "  channel: {default: dev, enum: [dev, prod, edge], env: CHANNEL, description: d}\n"
        "  size: {type: integer, default: 2, enum: [1, 2, 4], env: SIZE}\n"
        "  follow: {type: boolean, default: true}\n  empty: {default: ''}\n"
        'base: "alpine:${var.channel}"\nresources: {cpu: "${var.size}"}\n'
        'env: {A: "${var.channel}${var.empty}", B: "${var.follow}", C: "$${var.x}"}\n'
        'tags: ["${var.channel}"]\n'
        'targets: {t: {provider: novita, tags: ["${var.channel}"], default: "${var.follow}"}}\n'
    )
    return path


def read(path: Path, *options: str, **environ: str) -> Workspace:
    said = {name: value for name, _, value in (each.partition("=") for each in options)}
    return load.load(path, given=Given(options=said, environ=environ))


def one(found: Workspace) -> Template:
    return found.templates["demo"]


def env(found: Workspace) -> dict[str, str]:
    (first,) = (each for each in one(found).instructions if isinstance(each, Env))
    return dict(first.values)


def test_the_default_is_put_in(file: Path) -> None:
    found = read(file)
    assert env(found) == {"A": "dev", "B": "true", "C": "${var.x}"}
    assert one(found).resources.cpu == 2
    assert one(found).tags == ("dev",)
    assert found.targets["t"].tags == ("dev",)
    assert found.targets["t"].default
    assert found.environment == ("CHANNEL", "SIZE")


def test_what_is_no_reference_of_ours_is_a_value_like_any_other(file: Path) -> None:
    said = "a ${HOME} $${var.x} ${project.version} $${project.version}"
    file.write_text(
        f"version: 1\nname: demo\nvariables: {{v: {{default: '{said}'}}}}\nbase: alpine\n"
        'env: {A: "${var.v}"}\n'
    )
    assert env(read(file)) == {"A": said}


def test_the_environment_comes_before_the_default(file: Path) -> None:
    found = read(file, CHANNEL="prod", SIZE="4", OTHER="x")
    assert env(found)["A"] == "prod"
    assert one(found).resources.cpu == 4


def test_an_empty_variable_of_the_environment_counts_as_not_set(file: Path) -> None:
    assert env(read(file, CHANNEL=""))["A"] == "dev"


def test_an_option_comes_before_the_environment(file: Path) -> None:
    found = read(file, "channel=edge", "follow=false", "empty=!", CHANNEL="prod")
    assert env(found) == {"A": "edge!", "B": "false", "C": "${var.x}"}
    assert not found.targets["t"].default


def test_an_option_for_an_unknown_variable_is_refused(file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(file, "chanel=x")
    assert caught.value.message == "`--var chanel=...`: there is no variable `chanel`"
    assert caught.value.hint == "did you mean `channel`?"
    file.write_text("version: 1\nbase: alpine\n")
    with pytest.raises(UsageError) as caught:
        read(file, "x=y")
    assert caught.value.hint == "novita.yaml declares none, under `variables:`"


def test_variables_may_be_declared_by_a_member(root: Path, file: Path) -> None:
    file.write_text('version: 1\nmembers: [a]\ntemplates: {x: {base: "${var.v}"}}\n')
    (root / "a").mkdir()
    (root / "a/novita.yaml").write_text("version: 1\nbase: x\nvariables: {v: {default: y}}\n")
    assert str(read(file).templates["x"].base).startswith("ImageBase(image='y'")


@pytest.mark.parametrize(
    "steps",
    [
        (
            "files: [{from: a, to: /a, owner: '${var.u}:${var.id}', mode: '${var.m}'}]\n"
            "run: [{run: id, user: '${var.id}'}]\n"
        ),
        (
            "steps:\n- copy: {from: a, to: /a, owner: '${var.u}:${var.id}', mode: '${var.m}'}\n"
            "- {run: id, user: '${var.id}'}\n"
        ),
    ],
)
def test_users_owners_and_modes_may_be_put_in(file: Path, steps: str) -> None:
    file.write_text(
        "version: 1\nbase: alpine\nuser: '${var.u}'\n"
        "variables: {u: {default: app}, id: {type: integer, default: 7}, m: {default: '0700'}}\n"
        f"{steps}"
    )
    found = one(read(file))
    assert found.user == "app"
    copies = [each for each in found.instructions if isinstance(each, Copy)]
    assert [(each.owner, each.mode) for each in copies] == [("app:7", "0700")]
    assert [each.user for each in found.instructions if isinstance(each, Run)] == ["7"]


def test_sizes_in_memory_and_epochs_may_be_put_in(file: Path) -> None:
    file.write_text(
        "version: 1\nvariables: {m: {default: 2GiB}, n: {type: integer, default: 512}}\n"
        "templates:\n"
        '  a: {base: {debian: bookworm, epoch: "${var.n}"}, resources: {memory: "${var.m}"}}\n'
        '  b: {base: alpine, resources: {memory: "${var.n}"}}\n'
    )
    found = read(file).templates
    assert found["a"].resources.memory == 2048
    assert found["b"].resources.memory == 512
    assert "epoch=512" in str(found["a"].base)
