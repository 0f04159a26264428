"""Two machines with one and the same content: equal keys, archives and Dockerfiles.

The machines are processes that differ in all that must not count: file system, path, umask, user,
locale, time zone, hash seed, times and modes of files, and the order of directory entries.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import built

SOURCE = Path(__file__).parents[2]
NOBODY = 65534

CONFIG = """\
version: 1
members: ["services/*/novita.yaml"]
templates:
  python:
    base: "debian:12"
    packages: {apt: [git, curl], pip: {requirements: data/requirements.txt}}
    env: {LANG: "C.UTF-8", "TITLE": "Grüße, Ωmega"}
    files:
      - data/ -> /data/
      - {from: "data/**/*.txt", to: /texts/, mode: "0644"}
  own:
    base: {dockerfile: own/Dockerfile, context: own}
  child:
    base: {template: python}
    matrix: {channel: [stable, edge]}
    run: ["echo ${matrix.channel}"]
    start: sleep 1
    tags: [v1]
"""
MEMBER = "version: 1\nbase: {template: python}\nfiles: [src -> /src]\n"
# Names in orders that locales and file systems see differently; two that some take for one.
FILES: Mapping[str, str] = {
    "novita.yaml": CONFIG,
    ".dockerignore": "**/*.tmp\n!data/kept.tmp\n",
    "services/web/novita.yaml": MEMBER,
    "services/web/src/main.py": "print()\n",
    "own/Dockerfile": "FROM debian:12\nCOPY . /x\n",
    "own/z.txt": "z",
    "own/a.txt": "a",
    "data/requirements.txt": "cowsay==6.1\n",
    "data/kept.tmp": "kept",
    "data/gone.tmp": "gone",
    "data/Zebra.txt": "Z",
    "data/apple.txt": "a",
    "data/Äpfel.txt": "composed",
    "data/A\u0308pfel.txt": "decomposed",
    "data/ß.txt": "s",
    "data/10.txt": "10",
    "data/9.txt": "9",
    "data/a b.txt": "space",
    "data/a-b.txt": "-",
    "data/a.b/inner.txt": "inner",
    "data/a/other.txt": "other",
    "data/.hidden": "h",
    "data/\u0131I.txt": "Turkish",
}
SCRIPT = """
import hashlib, json, os, sys
from pathlib import Path
from sandboxfile import archive, contents, dockerfile, environment, inherit
from sandboxfile.config import finding, load
from sandboxfile.model import ImageConfig, ResolvedBase
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey

digests, found = NoCache(), {}
workspace = load.load(finding.find(Path.cwd(), None))
done = survey(workspace, workspace.templates, resolved=json.loads(sys.argv[1]), digests=digests)
for name, each in done.templates.items():
    single = {n for n, s in each.selections.items() if s.single}
    base = ResolvedBase(reference="base:1", digest="")
    rendered = dockerfile.render(
        each.template, base=base, cache_mounts=True, single_files=frozenset(single)
    )
    kept = environment.files(inherit.environment(each.template, ImageConfig()))
    archives = [archive.members(rendered.text, each.selections, digests, kept)]
    if each.context is not None:
        archives.append(archive.context_members("FROM x", each.context, digests))
    found[name] = {
        "image_key": each.keys.image_key,
        "template_key": each.keys.template_key,
        "parts": dict(each.keys.parts),
        "dockerfile": rendered.text,
        "args": dict(rendered.args),
        "archives": [
            hashlib.sha256(b"".join(archive.stream(members))).hexdigest() for members in archives
        ],
    }
facts = {
    "uid": os.getuid(), "umask": os.umask(0), "encoding": sys.getfilesystemencoding(),
    "order": os.listdir(os.fsencode("data")).__repr__(),
}
print(json.dumps({"templates": found, "facts": facts}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a machine is set up; `reverse` makes files in the opposite order."""

    directory: Path
    umask: int = 0o022
    environ: Mapping[str, str] = field(default_factory=dict)
    reverse: bool = False
    user: int | None = None

    def checkout(self) -> None:
        before = os.umask(self.umask)
        try:
            for name in sorted(FILES, reverse=self.reverse):
                path = self.directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(FILES[name], encoding="utf-8")
                when = random.Random(f"{name}{self.umask}").randrange(1 << 30)
                os.utime(path, (when, when))
            script = self.directory / "data/tool.sh"
            script.write_text("#!/bin/sh\n")
            script.chmod(0o777 & ~self.umask)
            (self.directory / "data/link").symlink_to("apple.txt")
            (self.directory / "data/empty").mkdir()
        finally:
            os.umask(before)
        if self.user is not None:
            for path in [self.directory, *self.directory.rglob("*")]:
                os.chown(path, self.user, self.user, follow_symlinks=False)

    def run(self, *argv: str) -> Any:
        """Run Python on the machine; what it prints as JSON."""
        home = self.directory.parent / "home"
        home.mkdir(exist_ok=True)
        identity: dict[str, Any] = {}
        if self.user is not None:
            os.chown(home, self.user, self.user)
            identity = {"user": self.user, "group": self.user, "extra_groups": []}
        done = subprocess.run(
            [sys.executable, *argv],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "PYTHONPATH": str(SOURCE),
                **self.environ,
            },
            umask=self.umask,
            capture_output=True,
            check=False,
            **identity,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)


def _nobody() -> int | None:
    """Return the id of a user without rights, if we can become it and it can run our Python."""
    if os.geteuid() != 0:
        return None
    argv = [sys.executable, "-c", "import sandboxfile, yaml, jsonschema"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    done = subprocess.run(argv, env=environ, cwd="/", check=False, capture_output=True, **identity)
    return NOBODY if done.returncode == 0 else None


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory on tmpfs where there is one, with a path that needs care, open to all users."""
    below = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=below) as made:
        Path(made).chmod(0o755)
        directory = Path(made) / "ein Ordner mit Umläuten ü"
        directory.mkdir()
        yield directory


@contextmanager
def layered(lower: Path, work: Path) -> Iterator[Path | None]:
    """An overlay on a directory, as containers have it; None where it cannot be mounted."""
    for name in ("upper", "work", "merged"):
        (work / name).mkdir(parents=True)
    merged = work / "merged"
    options = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    is_root = os.geteuid() == 0 and shutil.which("mount")
    done = subprocess.run(command, check=False, capture_output=True) if is_root else None
    if done is None or done.returncode:
        yield None
        return
    try:
        yield merged
    finally:
        subprocess.run(["umount", "-l", str(merged)], check=True)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """Machines with the same content; the first is plain, the others are as odd as they get."""
    plain = Machine(
        directory=tmp_path_factory.mktemp("plain") / "work",
        environ={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1", "TZ": "UTC"},
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with in_memory() as memory:
        odd = Machine(
            directory=memory / "work",
            umask=0o077,
            environ={**ascii_only, "PYTHONHASHSEED": "4242", "TZ": "Pacific/Kiritimati"},
            reverse=True,
            user=_nobody(),
        )
        plain.checkout()
        odd.checkout()
        found = [plain, odd]
        with layered(plain.directory, tmp_path_factory.mktemp("overlay")) as merged:
            if merged is not None:
                for name in ("data/apple.txt", "data/Äpfel.txt", "own/a.txt", "novita.yaml"):
                    text = (merged / name).read_text()
                    (merged / name).unlink()
                    (merged / name).write_text(text)
                environ = {"LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu"}
                found.append(Machine(directory=merged, umask=0, environ=environ))
            yield found


def test_machines_differ_in_all_that_must_not_count(machines: list[Machine]) -> None:
    facts = [each.run("-c", SCRIPT, json.dumps(built.PINS))["facts"] for each in machines]
    assert [each["umask"] for each in facts] == [each.umask for each in machines]
    assert facts[0]["encoding"] == "utf-8"
    assert facts[1]["encoding"] == "ascii"
    assert len({each["order"] for each in facts}) > 1
    if machines[1].user is not None:
        assert facts[1]["uid"] == NOBODY != facts[0]["uid"]


def test_keys_archives_and_dockerfiles_are_equal_on_all_machines(machines: list[Machine]) -> None:
    first, *others = (
        each.run("-c", SCRIPT, json.dumps(built.PINS))["templates"] for each in machines
    )
    assert sorted(first) == ["child-edge", "child-stable", "own", "python", "web"]
    assert len({each["template_key"] for each in first.values()}) == len(first)
    for other in others:
        assert other == first


def test_commands_tell_the_same_on_all_machines(machines: list[Machine]) -> None:
    for each in machines:
        built.pretend(each.directory)
        if each.user is not None:
            for lock in each.directory.glob("*.lock"):
                os.chown(lock, each.user, each.user)
    plan = ["-m", "sandboxfile", "plan", "--target", "local", "--offline", "--json"]
    show = ["-m", "sandboxfile", "show", "config", "--json"]
    for argv in (plan, show):
        first, *others = (each.run(*argv) for each in machines)
        for other in others:
            assert other == first
    locks = {(each.directory / "novita.local.lock").read_bytes() for each in machines}
    assert len(locks) == 1


def test_names_count_byte_for_byte(machines: list[Machine]) -> None:
    """What some file systems take for one name are two: who checks out there has other keys."""
    plain = machines[0]
    argv = ["-c", SCRIPT, json.dumps(built.PINS)]
    before = plain.run(*argv)["templates"]["python"]
    decomposed = plain.directory / "data/A\u0308pfel.txt"
    decomposed.unlink()
    after = plain.run(*argv)["templates"]["python"]
    decomposed.write_text(FILES["data/A\u0308pfel.txt"], encoding="utf-8")
    assert after["image_key"] != before["image_key"]
    assert plain.run(*argv)["templates"]["python"] == before
