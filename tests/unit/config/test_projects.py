"""A project's own files: exactly those that exist are copied, and a lock is told from none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.model import InstallProject, Template

Read = Callable[[str], Template]


def write(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def project(template: Template) -> InstallProject:
    found = [each for each in template.instructions if isinstance(each, InstallProject)]
    assert len(found) == 1
    return found[0]


PROJECTS = [
    ("npm", ["package.json"], ["package.json"], False),
    ("npm", ["package.json", "package-lock.json"], ["package.json", "package-lock.json"], True),
    (
        "npm",
        ["package.json", "package-lock.json", "npm-shrinkwrap.json"],
        ["package.json", "npm-shrinkwrap.json"],
        True,
    ),
    ("bun", ["package.json", "bun.lock"], ["package.json", "bun.lock"], True),
    ("bun", ["package.json", "bun.lockb"], ["package.json", "bun.lockb"], True),
    ("bun", ["package.json", "package-lock.json"], ["package.json"], False),
    ("uv", ["pyproject.toml", "uv.lock"], ["pyproject.toml", "uv.lock"], True),
    ("uv", ["pyproject.toml"], ["pyproject.toml"], False),
    ("pip", ["pyproject.toml", "uv.lock"], ["pyproject.toml"], False),
]


@pytest.mark.parametrize("case", PROJECTS)
def test_a_project_is_its_manifest_and_its_lock(
    root: Path, template: Read, case: tuple[str, list[str], list[str], bool]
) -> None:
    manager, there, files, locked = case
    write(root, *(f"web/{name}" for name in there))
    found = project(template(f"packages:\n  {manager}: {{project: web/}}\n"))
    assert found.manager == manager
    assert found.files == tuple(files)
    assert found.locked == locked
    assert found.copy.sources == tuple(f"web/{name}" for name in files)
    assert found.copy.root == root
    assert (found.to, found.copy.to) == ("/app", "/app/")
    assert str(found.at) == "novita.yaml:4:3"


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("packages: {npm: {project: ., to: /srv/}}", "/srv"),
        ("packages: {npm: {project: .}}\nworkdir: /srv", "/srv"),
        ("packages: {npm: {project: ., to: /}}", "/"),
        ("packages: {npm: {project: .}}", "/app"),
        ("steps: [{npm: {project: .}}]\nworkdir: /srv", "/srv"),
    ],
)
def test_a_project_goes_where_it_says_or_where_the_work_is(
    root: Path, template: Read, text: str, to: str
) -> None:
    write(root, "package.json")
    found = project(template(text))
    assert found.to == to
    assert found.copy.sources == ("package.json",)


REQUIREMENTS = [
    ("requests\n", False),
    ("requests==2.32.3\n", False),
    ("requests==2.32.3 --hash=sha256:aa\n", True),
    ("a==1 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\n# note\nb==1 --hash=sha256:cc\n", True),
    ("a==1 --hash=sha256:aa\nb==1 # --hash=sha256:cc\n", False),
    ("--require-hashes\n-i https://host/simple\r\na==1 --hash=sha256:aa\r\n", True),
    ("", True),
]  # fmt: skip


@pytest.mark.parametrize("case", REQUIREMENTS)
@pytest.mark.parametrize("manager", ["pip", "uv"])
def test_requirements_are_locked_when_every_line_has_a_hash(
    root: Path, template: Read, manager: str, case: tuple[str, bool]
) -> None:
    text, locked = case
    write(root, "reqs/all.txt", text=text)
    found = project(template(f"packages: {{{manager}: {{requirements: reqs/all.txt}}}}"))
    assert found.locked == locked
    assert found.files == ("all.txt",)
    assert found.copy.sources == ("reqs/all.txt",)
    assert found.to == f"/opt/sandboxfile/{manager}"


def test_requirements_bring_what_they_include(root: Path, template: Read) -> None:
    write(root, "all.txt", text="-r base.txt\n--constraint=pins.txt\na==1 --hash=sha256:aa\n")
    write(root, "base.txt", text="-c pins.txt\n-r all.txt\nb\n")
    write(root, "pins.txt", text="c==1 --hash=sha256:aa\n")
    found = project(template("packages: {pip: {requirements: ./all.txt}}"))
    assert found.files == ("all.txt", "base.txt", "pins.txt")
    assert found.copy.sources == found.files
    assert not found.locked


def test_a_byte_order_mark_in_requirements_is_no_text(root: Path, template: Read) -> None:
    write(root, "r.txt", text="\ufeffa --hash=sha256:aa\n")
    assert project(template("packages: {pip: {requirements: r.txt}}")).locked


@pytest.mark.parametrize("key", ["pip: {requirements: NAME}", "npm: {project: NAME}"])
def test_a_name_that_no_file_can_have_is_a_problem(
    key: str, wrong: Callable[[str], list[str]]
) -> None:
    text = key.replace("NAME", "n" * 300)
    [problem] = wrong(f"version: 1\nbase: a\npackages: {{{text}}}\n")
    assert problem.startswith("3:")


def test_a_link_inside_the_workspace_is_followed(root: Path, template: Read) -> None:
    write(root, "real/package.json")
    (root / "web").symlink_to("real")
    assert project(template("packages: {npm: {project: web}}")).files == ("package.json",)


def test_a_link_out_of_the_workspace_is_not(
    root: Path, tmp_path: Path, wrong: Callable[[str], list[str]]
) -> None:
    write(tmp_path, "elsewhere/package.json")
    (root / "web").symlink_to(tmp_path / "elsewhere")
    assert wrong("version: 1\nbase: a\npackages: {npm: {project: web}}\n") == [
        "3:27: `web/package.json` is a link that leaves the workspace"
    ]


def test_requirements_that_cannot_be_read_are_a_problem_with_its_reason(
    root: Path, wrong: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "r.txt")

    def fail(path: str | Path, *rest: int) -> int:
        if str(path).endswith("r.txt"):
            raise PermissionError(13, "Permission denied")
        return allowed(path, *rest)

    allowed = os.open
    monkeypatch.setattr(os, "open", fail)
    assert wrong("version: 1\nbase: a\npackages: {pip: {requirements: r.txt}}\n") == [
        "3:32: `r.txt` cannot be read: Permission denied"
    ]


def test_a_missing_include_is_a_problem(root: Path, wrong: Callable[[str], list[str]]) -> None:
    write(root, "r.txt", text="-r gone.txt\n")
    assert wrong("version: 1\nbase: a\npackages: {pip: {requirements: r.txt}}\n") == [
        "3:32: there is no file `gone.txt`"
    ]
