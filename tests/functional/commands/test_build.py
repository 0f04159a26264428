"""The main job: a build, a second one with nothing to do, and what each change causes."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.engines import Engine
from tests.fakes.shell import Ran, User
from tests.fakes.wiretap import recording

pytestmark = pytest.mark.engine

CONFIG = """\
version: 1
templates:
  fn-parent:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    files:
      - data/ -> /srv/data/
    start: echo started > /tmp/started; sleep 600
    ready: test -s /tmp/started
    resources: {{cpu: 1, memory: 128}}
    tags: [stable]
  fn-child:
    base: {{template: fn-parent}}
    run: [cat /srv/data/one.txt > /srv/copy]
    ready: {{file: /srv/copy}}
  fn-other:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    run: [echo other > /srv-other]
"""
NAMES = ("fn-parent", "fn-child", "fn-other")
# Refuses every socket before anything else is imported.
NO_SOCKETS = """\
import socket
class Refused(RuntimeError): ...
def refuse(*a, **k): raise Refused("a socket was asked for")
socket.socket.__init__ = refuse
socket.create_connection = socket.getaddrinfo = refuse
"""
HEAVY = (
    "yaml", "jsonschema", "docker", "httpx", "doit", "structlog", "rich", "pathlib",
    "dataclasses", "argparse", "typing", "re", "json", "socket", "subprocess",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(place: Callable[[str], User], base: str, images: Callable[[str], None]) -> User:
    """A workspace of three templates, all built."""
    user = place("built")
    for name in NAMES:
        images(name)
    user.write("novita.yaml", CONFIG.format(base=base, nonce=os.urandom(6).hex()))
    user.write("data/one.txt", "one\n")
    user.write("data/deep/two.sh", "#!/bin/sh\necho two\n").chmod(0o755)
    (user.root / "data/link").symlink_to("one.txt")
    ran = user.command("build", "--progress", "json", "--json", "--profile", "profile.json")
    assert ran.code == 0, ran.err
    user.write("built.json", ran.out)
    assert ran.done == {
        f"{step}:{name}" for step in ("build", "push", "snapshot", "tag") for name in NAMES
    }
    return user


@pytest.fixture
def checkout(built: User, tmp_path: Path) -> User:
    """A copy of the built workspace with its locks, but not its state; others may change it."""
    root = tmp_path / "somewhere else" / "checkout"
    shutil.copytree(built.root, root, symlinks=True, ignore=shutil.ignore_patterns(".sandboxfile"))
    return built.at(root)


def by_kind(built: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the steps of a template by what they are, in the order in which they ended."""
    steps = {step["kind"]: step for step in built["steps"]}
    assert len(steps) == len(built["steps"])
    return steps


# --- a build, and the next one ---------------------------------------------------------------


def test_the_graph_of_steps_has_the_jobs_of_a_build(built: User) -> None:
    drawn = built.run("graph", "--steps", "--json").data
    names = {each["name"] for each in drawn["steps"] if each["step"] != "generate"}
    ran = json.loads((built.root / "built.json").read_text())
    done = {f"{step['kind']}:{each['name']}" for each in ran["templates"] for step in each["steps"]}
    assert names == done - {f"generate:{name}" for name in NAMES}


def test_a_build_leaves_a_complete_lock(built: User, base: str, engine: Engine) -> None:
    entry = built.entries()["fn-parent"]

    assert len(entry.template_id) == 20
    assert len(entry.build_id) == 36
    assert entry.image.startswith("sha256:")
    assert engine.find(entry.image) == entry.image
    assert entry.image_key.startswith("sf1:")
    assert entry.template_key.startswith("sf1:")
    assert set(entry.parts) == {"base", "env", "files", "start", "ready", "resources"}
    assert entry.tags == ("stable",)
    assert entry.parent is None
    assert built.entries()["fn-child"].parent == "fn-parent"
    assert f"{base} linux/amd64: sha256:" in (built.root / "novita.lock").read_text()


def test_a_build_tells_what_each_step_took_and_sent(built: User, engine: Engine) -> None:
    told = json.loads((built.root / "built.json").read_text())

    steps = {each["name"]: by_kind(each) for each in told["templates"]}
    kinds = ["build", "push", "snapshot", "tag"]
    for took in steps.values():
        # A build that has begun while it was planned may have ended before the file is written.
        assert [kind for kind in took if kind != "generate"] == kinds
        assert "generate" in took
    assert steps.keys() == {*NAMES}
    image = steps["fn-parent"]["build"]
    assert image["seconds"] > 0
    assert image["bytes"] >= 1024
    assert image["instructions"] >= 1
    same = image["bytes"] == steps["fn-other"]["build"]["bytes"]
    assert same is engine.info().starts_to_unpack, "they go together to such an engine only"
    assert told["summary"]["critical_path"][-1].partition(":")[0] == "tag"
    trace = json.loads((built.root / "profile.json").read_text())["traceEvents"]
    jobs = {each["name"]: each for each in trace if each["ph"] == "X"}
    assert {f"{kind}:{name}" for name, took in steps.items() for kind in took} <= jobs.keys()
    assert jobs["build:fn-parent"]["args"]["bytes"] == image["bytes"]


def test_a_build_alone_makes_the_image_of_one_that_was_sent_with_others(checkout: User) -> None:
    before = checkout.entries()["fn-parent"].image
    ran = checkout.command("build", "fn-parent", "--force", "--json")
    assert ran.code == 0, ran.err
    image = by_kind(ran.of("fn-parent"))["build"]
    assert image["cached"] == image["instructions"] >= 3
    assert checkout.entries()["fn-parent"].image == before


def test_a_plan_tells_how_long_it_will_take(built: User) -> None:
    ran = built.command("plan", "--force", "-j", "1")
    assert re.search(r"^about \d+s with -j 1, by earlier runs$", ran.out, re.MULTILINE), ran.out
    assert "about" not in built.command("plan").out


def test_a_template_runs_with_its_start_command_beside_it(built: User) -> None:
    ran = built.command(
        "run", "fn-parent", "--", "sh", "-c", "cat /tmp/started /srv/data/link; /srv/data/deep/*"
    )

    assert (ran.code, ran.out) == (0, "started\none\ntwo\n"), ran.err
    assert built.command("run", "fn-child", "--", "sh", "-c", "exit 7").code == 7


def test_a_second_build_does_nothing(built: User) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.root.glob("*.lock")}

    ran = built.run("build")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "target local: no API key is at hand\n3 up to date, nothing to do\n"
    assert {p: p.stat().st_mtime_ns for p in built.root.glob("*.lock")} == before


def test_nothing_to_do_asks_neither_engine_nor_network(built: User, tmp_path: Path) -> None:
    # A listening socket shows whether anybody came.
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(NO_SOCKETS)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "d.sock"))
        engine.listen()
        engine.setblocking(False)
        refusing = built.having(
            PYTHONPATH=str(tmp_path / "site"), DOCKER_HOST=f"unix://{tmp_path}/d.sock"
        )

        control = refusing.command(python=("-c", "import socket; socket.socket()"))
        ran = refusing.command("build")
        again = refusing.command("build")

        assert "a socket was asked for" in control.err
        for each in (ran, again):
            assert each.code == 0, each.err
            assert "3 up to date, nothing to do" in each.err
        with pytest.raises(BlockingIOError):
            engine.accept()


def test_the_fast_path_imports_next_to_nothing(checkout: User) -> None:
    # What is looked at has to be older than the clock's coarsest tick to be trusted.
    while (
        checkout.command("build").code != 0 or not (checkout.root / ".sandboxfile/fresh").exists()
    ):
        time.sleep(0.5)
    code = (
        "import atexit, os, sys; from sandboxfile import entry;"
        "os._exit = lambda code: print(code, *sys.modules);"
        "sys.argv[1:] = ['build'];"
        "entry.main = None;"
        "sys.modules['sandboxfile.main'] = None; entry.run()"
    )

    ran = checkout.command(python=("-c", code), is_measured=False)  # coverage imports a lot

    status, *modules = ran.out.split()
    assert (status, "3 up to date" in ran.err) == ("0", True), ran.err
    assert not {*HEAVY} & {*modules}
    assert not [name for name in modules if name.startswith("sandboxfile.commands")]


# --- what changes nothing --------------------------------------------------------------------


def test_touching_every_file_changes_nothing(checkout: User) -> None:
    assert checkout.build().done == set()
    for path in checkout.root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)

    assert checkout.build().done == set()


def test_another_umask_path_and_user_change_nothing(
    built: User, checkout: User, place: Callable[[str], User]
) -> None:
    for path in checkout.root.rglob("*"):
        if not path.is_symlink():
            path.chmod(
                0o700
                if path.is_dir() or (os.access(path, os.X_OK) and path.suffix == ".sh")
                else 0o600
            )
    if os.geteuid() == 0:
        for path in checkout.root.rglob("*"):
            os.chown(path, 1234, 1234, follow_symlinks=False)
    other = place("other-user").at(checkout.root)

    assert other.build().done == set()
    assert other.run("plan", "--json").data == built.run("plan", "--json").data


# --- what changes something ------------------------------------------------------------------


def test_one_changed_byte_rebuilds_that_template_and_those_based_on_it(checkout: User) -> None:
    before, build = checkout.entries(), ("build", "--progress", "json")
    while checkout.command(*build).code or not (checkout.root / ".sandboxfile/fresh").exists():
        time.sleep(0.5)  # until what is looked at is old enough to be trusted
    checkout.edit("data/one.txt", lambda text: text.replace("o", "0"))

    ran = checkout.command(*build)
    after = checkout.entries()
    first_stage = "import sys; from sandboxfile import entry; sys.argv[1:] = %r; entry.run()"
    without_second = "import sys; sys.modules['sandboxfile.main'] = None; " + first_stage % [*build]

    assert checkout.command(python=("-c", without_second)) == Ran(code=0, out="", err="")
    assert after == checkout.entries()
    assert ran.done - {"tag:fn-parent", "tag:fn-child"} == {
        f"{step}:{name}"
        for step in ("build", "push", "snapshot")
        for name in ("fn-parent", "fn-child")
    }
    assert after["fn-other"] == before["fn-other"]
    for name in ("fn-parent", "fn-child"):
        assert after[name].template_id == before[name].template_id
        assert after[name].build_id != before[name].build_id
    assert checkout.command("run", "fn-child", "--", "cat", "/srv/copy").out == "0ne\n"


def test_an_executable_bit_is_content(checkout: User) -> None:
    (checkout.root / "data/one.txt").chmod(0o755)

    plan = checkout.run("plan", "--json")

    assert plan.of("fn-parent")["action"] == "build"
    assert plan.of("fn-other")["action"] == "up to date"


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        # What is built on it starts the same.
        ("echo started >", "echo restarted >", {"fn-parent", "fn-child"}),
        ("test -s /tmp/started", "test -e /tmp/started", {"fn-parent"}),
        ("memory: 128", "memory: 256", {"fn-parent"}),
    ],
    ids=["start", "ready", "resources"],
)
def test_what_only_the_snapshot_depends_on_makes_only_a_snapshot(
    checkout: User, old: str, new: str, stale: set[str]
) -> None:
    before = checkout.entries()["fn-parent"]
    checkout.replace("novita.yaml", old, new)

    ran = checkout.build()

    tagged = {f"tag:{name}" for name in stale}
    assert ran.done - tagged == {f"snapshot:{name}" for name in stale}
    after = checkout.entries()["fn-parent"]
    assert (after.image, after.image_key) == (before.image, before.image_key)
    assert after.template_id == before.template_id
    assert after.build_id != before.build_id


def test_changed_tags_only_move_tags(checkout: User) -> None:
    before = checkout.entries()["fn-parent"]
    checkout.replace("novita.yaml", "tags: [stable]", "tags: [stable, newest]")

    ran = checkout.build()

    assert ran.done == {"tag:fn-parent"}
    after = checkout.entries()["fn-parent"]
    assert after.tags == ("newest", "stable")
    assert (after.build_id, after.image) == (before.build_id, before.image)
    assert checkout.command("run", "fn-parent:newest", "--", "true").code == 0


def test_a_name_of_a_commit_is_a_tag(checkout: User) -> None:
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-C", str(checkout.root))
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    sha = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    checkout.replace("novita.yaml", "tags: [stable]", 'tags: ["${git.sha}"]')

    assert checkout.build().done == {"tag:fn-parent"}
    assert checkout.entries()["fn-parent"].tags == (sha.stdout.strip(),)


def test_force_builds_what_is_up_to_date(checkout: User) -> None:
    ran = checkout.build("fn-other", "--force", "--no-cache", "-j", "1")

    assert ran.done - {"tag:fn-other"} == {"build:fn-other", "push:fn-other", "snapshot:fn-other"}


# --- content decides -------------------------------------------------------------------------


def test_two_checkouts_send_the_engine_the_same_bytes(
    built: User, checkout: User, docker_host: str, tmp_path: Path
) -> None:
    for path in checkout.root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (checkout.root / "data/one.txt").chmod(0o600)
    sent: list[list[bytes]] = []
    for user in (built, checkout):
        with recording(docker_host, tmp_path / f"{len(sent)}.sock") as engine:
            user.having(DOCKER_HOST=engine.url).build("fn-parent", "--force")
        sent.append(engine.contexts)
    first, second = sent

    assert len(first) == 1
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first[0])) as tar:
        names = {name.removeprefix("fn-parent/") for name in tar.getnames()}
    assert {"copy-1/one.txt", "copy-1/deep/two.sh"} < names
    dockerfiles = [user.run("show", "dockerfile", "fn-parent").out for user in (built, checkout)]
    assert dockerfiles[0] == dockerfiles[1]


def test_a_lost_lock_is_found_again(checkout: User, nonce: str) -> None:
    # Content of its own: what other tests forced would be newer, and be found instead.
    checkout.edit("novita.yaml", lambda text: re.sub('NONCE: "[^"]*"', f'NONCE: "{nonce}"', text))
    checkout.build()
    before = checkout.entries()
    (checkout.root / "novita.local.lock").unlink()

    plan = checkout.run("plan", "--json").data
    ran = checkout.build()

    assert {each["action"] for each in plan["templates"]} == {"adopt"}
    assert not [job for job in ran.done if job.startswith(("build", "push"))]
    assert checkout.entries() == before
