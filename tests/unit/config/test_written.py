import json
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.config import load, written
from sandboxfile.model import Template, Workspace

PROJECT = {
    "web/package.json": "{}",
    "web/package-lock.json": "{}",
    "pyproject.toml": "[project]\n",
    "reqs/dev.txt": "ruff==0.6.0\n",
    "docker/Dockerfile": "FROM scratch AS one\n",
    "app/a.py": "1",
    "app/b.py": "1",
}
ALL = """\
version: 1
secrets: {npm: {env: NPM_SOURCE}}
templates:
  sugar:
    base: python:3.12
    env: {A: "1"}
    packages: {apt: [git, curl], pip: {requirements: reqs/dev.txt}, npm: {project: web}}
    files: [app/ -> /app/, {from: [app/a.py, app/b.py], to: /b/, owner: "web:web", mode: "0755",
            ignore: ["*.pyc"], allow: [x.key]}]
    run: [make, {run: npm ci, user: web, secrets: [npm]}]
    user: web
    workdir: /srv
    start: serve
    ready: {url: "http://localhost/", status: 204}
    resources: {cpu: 4, memory: 2GiB}
    tags: [stable, "${key}"]
    pre_boot: date
  steps:
    extends: sugar
    base: {template: sugar}
    env: null
    packages: null
    files: null
    run: null
    steps: [{workdir: /x}, {run: a}, {uv: {project: .}}, {workdir: /y}]
    ready: {port: 80}
    inherit: [user]
  own:
    base: {dockerfile: docker/Dockerfile, context: ., stage: one, args: {B: "2"}}
    matrix: {channel: [edge]}
    ready: {delay: 20s}
  remote: {base: {remote: "code:stable"}, ready: {process: nginx}}
  minimal:
    base: {debian: bookworm, mirror: "http://mirror.example.com/debian", include: [curl],
           snapshot: 20240115T000000Z, epoch: 1}
  ubuntu: {base: {ubuntu: noble}, inherit: false}
"""


def told(directory: Path, text: str) -> tuple[Workspace, dict[str, Any]]:
    """Load a file of this text, and write it; its templates, and how they are written."""
    for name, content in PROJECT.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    (directory / "novita.yaml").write_text(text)
    read = load.load(directory / "novita.yaml")
    said = {name: written.template(each, read.root) for name, each in read.templates.items()}
    return read, json.loads(json.dumps(said))


def plain(value: Any) -> Any:
    """Leave out notes."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if not key.startswith("x-")}
    return [plain(each) for each in value] if isinstance(value, list) else value


def kinds(template: Template) -> list[str]:
    return sorted(type(each).__name__ for each in template.instructions)


def test_what_is_written_reads_as_what_it_was(tmp_path: Path) -> None:
    first, said = told(tmp_path, ALL)
    again = {"version": 1, "secrets": {"npm": {"env": "NPM_SOURCE"}}, "templates": said}

    second, repeated = told(tmp_path, json.dumps(again))

    assert plain(repeated) == plain(said)
    for name, template in first.templates.items():
        other = second.templates[name]
        for key in ("user", "workdir", "start", "resources", "tags", "pre_boot", "inherit"):
            assert getattr(other, key) == getattr(template, key)
        assert kinds(other) == kinds(template)


def test_paths_of_members_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    member = tmp_path / "services/a/novita.yaml"
    member.parent.mkdir(parents=True)
    member.write_text(
        "version: 1\nname: a\nbase: x\n"
        "files: [{from: [./m.py, ../../app/a.py, ../b/*.py], to: /s/}, ../../app/ -> /app/,\n"
        "        . -> /all/]\n"
    )
    for name in ("services/a/m.py", "services/b/n.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    _, said = told(tmp_path, "version: 1\nmembers: [services/a]\n")
    assert [each["copy"]["from"] for each in said["a"]["steps"]] == [
        ["services/a/m.py", "app/a.py", "services/b/*.py"],
        "app/",
        "services/a/",
    ]


def test_the_words_are_those_of_the_file(tmp_path: Path) -> None:
    _, said = told(tmp_path, ALL)
    sugar = said["sugar"]
    assert sugar["base"] == {"image": "python:3.12", "x-at": f"{tmp_path}/novita.yaml:5:11"}
    assert [plain(each) for each in sugar["steps"]] == [
        {"env": {"A": "1"}},
        {"apt": ["git", "curl"]},
        {"pip": {"requirements": "reqs/dev.txt", "to": "/opt/sandboxfile/pip"}},
        {"npm": {"project": "web", "to": "/srv"}},
        {"copy": {"from": "app/", "to": "/app/"}},
        {
            "copy": {
                "from": ["app/a.py", "app/b.py"],
                "to": "/b/",
                "owner": "web:web",
                "mode": "0755",
                "ignore": ["*.pyc"],
                "allow": ["x.key"],
            }
        },
        {"run": "make"},
        {"run": "npm ci", "user": "web", "secrets": ["npm"]},
    ]
    assert sugar["steps"][0]["x-at"] == f"{tmp_path}/novita.yaml:6:5"
    assert sugar["ready"] == {
        "url": "http://localhost/",
        "status": 204,
        "x-at": f"{tmp_path}/novita.yaml:14:5",
    }
    assert sugar["resources"] == {"cpu": 4, "memory": 2048}
    assert sugar["inherit"] == ["start", "user", "workdir"]
    assert [plain(each) for each in said["steps"]["steps"]] == [
        {"workdir": "/x"},
        {"run": "a"},
        {"uv": {"project": ".", "to": "/srv"}},
        {"workdir": "/y"},
    ]
    assert said["steps"]["x-extends"] == ["sugar"]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("steps", {"template": "sugar"}),
        (
            "own-edge",
            {
                "dockerfile": "docker/Dockerfile",
                "context": ".",
                "stage": "one",
                "args": {"B": "2"},
            },
        ),
        ("remote", {"remote": "code:stable"}),
        (
            "minimal",
            {
                "debian": "bookworm",
                "mirror": "http://mirror.example.com/debian",
                "components": ["main"],
                "include": ["curl"],
                "snapshot": "20240115T000000Z",
                "epoch": 1,
            },
        ),
        ("ubuntu", {"ubuntu": "noble", "components": ["main"]}),
    ],
)
def test_every_base_is_written_as_a_map(tmp_path: Path, name: str, base: object) -> None:
    _, said = told(tmp_path, ALL)
    assert plain(said[name]["base"]) == base


def test_paths_of_a_member_are_those_of_the_workspace(tmp_path: Path) -> None:
    member = tmp_path / "services/api"
    (member / "src").mkdir(parents=True)
    (member / "src/main.py").write_text("1")
    (member / "novita.yaml").write_text("version: 1\nname: api\nbase: x\nfiles: [src/ -> /srv/]\n")

    _, said = told(tmp_path, "version: 1\nmembers: [services/api]\n")

    (step,) = said["api"]["steps"]
    assert step["copy"] == {"from": "services/api/src/", "to": "/srv/"}
    assert (said["api"]["x-member"], said["api"]["x-at"]) == (
        "services/api",
        f"{member}/novita.yaml:2:1",
    )
