"""Several files: members, what they include, and whose defaults and paths count."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.errors import ConfigError
from sandboxfile.model import Copy, DockerfileBase, Env, InstallProject, TemplateBase, Workspace
from tests.fakes.shell import unprivileged

Read = Callable[..., Workspace]
ROOT = "version: 1\nmembers: [services/*]\n"
A, B = "services/a/novita.yaml", "services/b/novita.yaml"
SHORT = "version: 1\nbase: alpine\n"


def test_templates_come_root_first_and_then_by_path(workspace: Read) -> None:
    found = workspace(
        ROOT + "templates: {z: {base: alpine}}\n",
        {B: "version: 1\ntemplates: {y: {base: alpine}, x: {base: alpine}}\n", A: SHORT},
    )
    assert list(found.templates) == ["z", "a", "y", "x"]
    assert [each.address for each in found.templates.values()] == [
        ":z", "services/a:a", "services/b:y", "services/b:x",
    ]  # fmt: skip


def test_the_root_of_a_workspace_may_have_one_template_or_none(workspace: Read) -> None:
    assert list(workspace(ROOT, {A: SHORT}).templates) == ["a"]
    text = ROOT + "base: debian\nname: main\ndefaults: {user: u}\n"
    found = workspace(text, {A: SHORT})
    assert list(found.templates) == ["main", "a"]
    assert found.templates["a"].user == found.templates["main"].user == "u"


def test_defaults_of_a_member_lie_over_those_of_the_root(workspace: Read) -> None:
    found = workspace(
        ROOT + "defaults: {user: u, env: {A: root, B: root}}\ntemplates: {z: {base: alpine}}\n",
        {
            A: "version: 1\ndefaults: {env: {B: a, C: a}}\n"
            "templates: {a: {base: x, env: {C: own}}}\n"
        },
    )
    assert env(found, "z") == {"A": "root", "B": "root"}
    assert env(found, "a") == {"A": "root", "B": "a", "C": "own"}
    assert found.templates["a"].user == "u"


def env(found: Workspace, name: str) -> dict[str, str]:
    (first,) = (each for each in found.templates[name].instructions if isinstance(each, Env))
    return dict(first.values)


def test_extends_reaches_into_other_files(workspace: Read) -> None:
    found = workspace(
        ROOT + "defaults: {env: {D: root}}\ntemplates: {py: {base: python, env: {P: py}}}\n",
        {
            A: "version: 1\nextends: py\nenv: {A: a}\n",
            B: "version: 1\ndefaults: {env: {P: b, Q: b}}\n"
            'templates:\n  b: {extends: ":py"}\n  c: {extends: services/a:a}\n',
        },
    )
    assert env(found, "a") == {"D": "root", "P": "py", "A": "a"}
    assert env(found, "b") == {"D": "root", "P": "py", "Q": "b"}
    assert env(found, "c") == {"D": "root", "P": "py", "Q": "b", "A": "a"}
    assert found.templates["c"].extends == ("a",)
    assert found.templates["py"].extends == ()


def test_a_base_of_the_same_file_comes_first(workspace: Read) -> None:
    text = (
        "version: 1\ntemplates:\n"
        "  api: {base: alpine, name: %s-api}\n  %s: {base: {template: api}}\n"
    )
    found = workspace(ROOT, {A: text % ("a", "a"), B: text % ("b", "b")})
    assert base(found, "a") == "a-api"
    assert base(found, "b") == "b-api"
    assert found.templates["b-api"].key == "api"


def base(found: Workspace, name: str) -> str:
    written = found.templates[name].base
    assert isinstance(written, TemplateBase)
    return written.template


def test_paths_are_relative_to_the_file_that_states_them(root: Path, workspace: Read) -> None:
    (root / "services/a/web").mkdir(parents=True)
    (root / "services/a/web/package.json").write_text("{}")
    found = workspace(
        ROOT + "include: [shared/all.yaml]\ndefaults: {files: [common/ -> /srv/]}\n",
        {
            A: "version: 1\ntemplates:\n"
            "  x: {base: {dockerfile: ../Dockerfile, context: ../..}}\n"
            "  y: {base: alpine, files: [../../lib -> /lib], packages: {npm: {project: web}}}\n"
            "  z: {base: {dockerfile: docker/Dockerfile}}\n",
            "shared/all.yaml": "version: 1\ntemplates: {s: {base: alpine, files: [f -> /f]}}\n",
        },
    )
    dockerfile = found.templates["x"].base
    assert isinstance(dockerfile, DockerfileBase)
    assert (dockerfile.dockerfile, dockerfile.context) == (root / "services/Dockerfile", root)
    assert copies(found, "x") == [(root, ("common/",))]
    assert copies(found, "y") == [(root / "services/a", ("../../lib",))]
    assert copies(found, "s") == [(root / "shared", ("f",))]
    (project,) = (i for i in found.templates["y"].instructions if isinstance(i, InstallProject))
    assert project.copy.root == root / "services/a"
    below = found.templates["z"].base
    assert isinstance(below, DockerfileBase)
    assert below.context == root / "services/a/docker"


def copies(found: Workspace, name: str) -> list[tuple[Path, tuple[str, ...]]]:
    every = found.templates[name].instructions
    return [(each.root, each.sources) for each in every if isinstance(each, Copy)]


def test_included_files_lie_below_in_their_order(workspace: Read) -> None:
    found = workspace(
        "version: 1\ninclude: [one.yaml, two.yaml]\n"
        "defaults: {env: {C: own}}\nvariables: {v: {default: own}}\n"
        'templates: {x: {run: [own], env: {V: "${var.v}", W: "${var.w}"}}}\n',
        {
            "one.yaml": "version: 1\ndefaults: {env: {A: one, B: one, C: one}}\n"
            "variables: {v: {default: one, description: d}, w: {default: one}}\n"
            "templates:\n  x: {base: one, start: one, user: one}\n  y: {base: one}\n",
            "two.yaml": "version: 1\ninclude: [one.yaml]\ndefaults: {env: {B: two}}\n"
            "templates: {x: {base: two, user: null}}\n",
        },
    )
    assert env(found, "x") == {"A": "one", "B": "two", "C": "own", "V": "own", "W": "one"}
    assert found.templates["x"].start == "one"
    assert str(found.templates["x"].base.at) == "two.yaml:4:23"
    assert list(found.templates) == ["x", "y"]


def test_a_file_may_have_no_template_but_included_ones(workspace: Read) -> None:
    one = {"one.yaml": "version: 1\ntemplates: {x: {base: alpine}}\n"}
    assert list(workspace("version: 1\ninclude: [one.yaml]\n", one).templates) == ["x"]
    text = "version: 1\ninclude: [one.yaml]\ntemplates:\n"
    assert list(workspace(text, one).templates) == ["x"]
    text = "version: 1\ninclude: [one.yaml]\nextends: x\nname: y\n"
    assert list(workspace(text, one).templates) == ["x", "y"]


def test_all_files_and_what_finds_them_are_known(root: Path, workspace: Read) -> None:
    found = workspace(ROOT + "include: [s.yaml]\n", {A: SHORT, "s.yaml": "version: 1\n"})
    assert found.files == (root / "novita.yaml", root / A, root / "s.yaml")
    wanted = {str(root / each) for each in ("novita.yaml", "services", A, "s.yaml")}
    assert wanted <= set(found.looked_at)


def test_a_file_in_two_patterns_is_one_member(workspace: Read) -> None:
    text = "version: 1\nmembers: [services/a, 'services/*', '**']\n"
    assert list(workspace(text, {A: SHORT}).templates) == ["a"]


@pytest.mark.parametrize("members", ["services/*", "services/a", "'**'", "'services/*/*.yaml'"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_directory_that_nobody_may_look_into_is_not_passed_over(
    members: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "novita.yaml").write_text(f"version: 1\nmembers: [{members}]\nbase: alpine\n")
        for name in (A, B):
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text(SHORT)
        monkeypatch.chdir(root)
        (root / "services/a").chmod(mode)

        with unprivileged(), pytest.raises(ConfigError) as caught:
            load.load(root / "novita.yaml")

    message = "novita.yaml:2:11: error: `services/a` cannot be looked into for members: Permission"
    assert [str(each).startswith(message) for each in caught.value.problems] == [True]


def test_two_files_of_a_directory_share_its_names(workspace: Read) -> None:
    text, one = "version: 1\nmembers: [s/one.yaml, s/two.yaml]\n", "version: 1\ntemplates: {{{}}}\n"
    named = one.format("t: {base: alpine}")
    assert [
        *workspace(
            text, {"s/one.yaml": named, "s/two.yaml": one.format("u: {base: alpine}")}
        ).templates
    ] == ["t", "u"]
    with pytest.raises(ConfigError) as caught:
        workspace(text, {"s/one.yaml": named, "s/two.yaml": named})
    assert "s/two.yaml:2:13: error: template `t` is given twice, first at s/one.yaml:2:13" in str(
        caught.value
    )


def test_what_git_ignores_is_passed_over_where_nobody_may_look_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As volumes of containers are, which lie beside members and are somebody else's."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        if os.geteuid() == 0:
            os.chown(root, 65534, 65534)
        monkeypatch.chdir(root)
        monkeypatch.setenv("HOME", directory)
        with unprivileged():
            subprocess.run(["git", "init", "-q", "."], check=True)
            (root / "novita.yaml").write_text("version: 1\nmembers: ['*']\nbase: alpine\n")
            (root / ".gitignore").write_text("/data/\n")
            for name in ("a/novita.yaml", "data/novita.yaml"):
                (root / name).parent.mkdir()
                (root / name).write_text(SHORT)
            (root / "data").chmod(0)
            templates = load.load(root / "novita.yaml").templates
            monkeypatch.setenv("PATH", "")
            with pytest.raises(ConfigError, match="`data` cannot be looked into"):
                load.load(root / "novita.yaml")
            (root / "data").chmod(0o700)  # so that it can be removed

    assert [each.member for each in templates.values()] == ["", "a"]


def test_a_name_that_is_too_long_is_no_directory(root: Path, workspace: Read) -> None:
    (root / "services").mkdir()
    (root / "services/long").symlink_to("x" * 300)
    assert list(workspace(ROOT, {A: SHORT}).templates) == ["a"]


def test_a_member_may_be_seen_from_its_own_directory(
    root: Path, workspace: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace(ROOT, {A: SHORT})
    (root / A).write_text(SHORT + "user: A\n")
    monkeypatch.chdir(root / "services/a")
    with pytest.raises(ConfigError) as caught:
        load.load(root / "novita.yaml")
    assert str(caught.value).startswith("novita.yaml:3:7: error: `A` is not a user")
    (root / A).write_text(SHORT)
    (root / "novita.yaml").write_text(ROOT + "engine: x\n")
    with pytest.raises(ConfigError) as caught:
        load.load(root / "novita.yaml")
    assert str(caught.value).startswith("../../novita.yaml:3:9: error: there is no engine `x`")
