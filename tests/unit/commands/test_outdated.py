"""Bases that move: what `outdated` says of them, and `lock --upgrade` takes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.lockfile import read
from sandboxfile.pins import pin_name
from tests.fakes import built, push
from tests.fakes.engine import Answer, serving
from tests.fakes.mmdebstrap import WRITE, Tool
from tests.fakes.registry import FakeRegistry, running
from tests.fakes.shell import User

TEXT = """\
version: 1
templates:
  api: {{base: "{host}/python:3"}}
  web: {{base: "{host}/python:3"}}
  child: {{base: {{template: api}}}}
  own: {{base: {{dockerfile: Dockerfile}}}}
  fixed: {{base: "{host}/fixed@{digest}"}}
  dated: {{base: {{debian: bookworm, snapshot: 20260101T000000Z}}}}
"""
SOME = "sha256:" + "5" * 64
OLD, NEW = (push.image(config={"Labels": {"age": age}}) for age in ("old", "new"))
NODE = push.image(config={"Labels": {"name": "node"}})


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with running() as registry:
        registry.add("python", "3", OLD)
        registry.add("node", "20", NODE)
        yield registry


@pytest.fixture
def client(user: User, server: FakeRegistry) -> User:
    """Somebody who has built everything, some time ago."""
    user.write("novita.yaml", TEXT.format(host=server.host, digest=SOME))
    user.write("Dockerfile", f"FROM {server.host}/node:20\n")
    python, node = pin(server, "python:3"), pin(server, "node:20")
    pretend(user, {python: OLD.digest, node: NODE.digest}, "dated")
    assert stale(user) == set()
    return user


def pin(server: FakeRegistry, name: str) -> str:
    return f"{server.host}/{name} linux/amd64"


def pretend(user: User, pins: dict[str, str], *bootstrapped: str) -> None:
    """Write a lock with these entries of `resolved`, and with those of bootstrapped bases."""
    templates = load.load(user.root / "novita.yaml").templates
    own = {pin_name(templates[name].base): SOME for name in bootstrapped}  # type: ignore[arg-type]
    built.pretend(user.root, resolved={**pins, **own})


def resolved(user: User) -> dict[str, str]:
    return dict(read(user.root / "novita.lock").resolved)


def stale(user: User) -> set[str]:
    return {*user.run("plan", "--offline", "--json").stale}


# --- outdated --------------------------------------------------------------------------------


def test_nothing_has_moved(client: User, server: FakeRegistry) -> None:
    ran = client.run("outdated", "--exit-code")

    assert (ran.code, ran.out, ran.err) == (0, "", "0 of 2 bases moved\n")
    assert not [line for line in server.lines if "fixed" in line]  # it has its digest


def test_a_tag_that_moved_is_told_with_who_starts_from_it(
    client: User, server: FakeRegistry
) -> None:
    before = (client.root / "novita.lock").read_bytes()
    server.add("python", "3", NEW)

    ran = client.run("outdated")

    name = f"{server.host}/python:3"
    assert ran.out == f"{name}  {OLD.digest[:19]}  {NEW.digest[:19]}  api, web\n"
    assert ran.err == "1 of 2 bases moved: `sandboxfile lock --upgrade` takes it\n"
    assert ran.code == 0
    assert client.run("outdated", "--exit-code", "-q").code == 2
    assert (client.root / "novita.lock").read_bytes() == before
    assert stale(client) == set()  # a moved tag alone makes nothing stale


def test_all_bases_are_in_the_document(client: User, server: FakeRegistry) -> None:
    server.add("python", "3", NEW)

    found = client.run("outdated", "--json").data["bases"]

    assert found == [
        {
            "name": pin(server, "python:3"),
            "locked": OLD.digest,
            "current": NEW.digest,
            "outdated": True,
            "templates": ["api", "web"],
            "error": None,
        },
        {
            "name": pin(server, "node:20"),
            "locked": NODE.digest,
            "current": NODE.digest,
            "outdated": False,
            "templates": ["own"],
            "error": None,
        },
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["own"], ["node:20"]),
        (["w*"], ["python:3"]),
        (["child"], ["python:3"]),  # what it is built on starts from it
        (["{host}/node:20", "api"], ["python:3", "node:20"]),
    ],
)
def test_bases_are_named_by_themselves_or_by_templates(
    client: User, server: FakeRegistry, words: list[str], names: list[str]
) -> None:
    argv = [word.format(host=server.host) for word in words]

    found = client.run("outdated", *argv, "--json").data["bases"]

    assert [each["name"] for each in found] == [pin(server, name) for name in names]


def test_a_word_that_is_neither_is_refused(client: User, server: FakeRegistry) -> None:
    ran = client.run("outdated", "python:4")

    assert ran.code == 64
    assert "`python:4`" in ran.err
    assert f"; bases: {server.host}/python:3, {server.host}/node:20\n" in ran.err


def test_offline_is_refused(client: User) -> None:
    for argv in (["outdated"], ["lock", "--upgrade"]):
        ran = client.run(*argv, "--offline")
        assert (ran.code, ran.out) == (64, "")
        assert "`--offline` is given" in ran.err


def test_what_cannot_be_asked_is_told_after_the_rest(client: User, server: FakeRegistry) -> None:
    server.add("python", "3", NEW)
    for key in [key for key in server.documents if key[0] == "node"]:
        del server.documents[key]

    ran = client.run("outdated")

    assert f"{server.host}/python:3" in ran.out
    assert "node" not in ran.out
    assert "1 of 2 bases moved, 1 could not be asked: " in ran.err
    assert f"{server.host}/node" in ran.err
    assert "novita.yaml:6:" in ran.err
    assert ran.code == 1
    (node,) = client.run("outdated", "own", "--json").data["bases"]
    assert (node["current"], node["outdated"]) == (None, False)
    assert "node" in node["error"]


def test_every_base_that_cannot_be_asked_is_told(user: User) -> None:
    bases = ["127.0.0.1:1/a:1", "127.0.0.1:1/b:1"]
    lines = [f"  {base[-3]}: {{base: '{base}'}}\n" for base in bases]
    user.write("novita.yaml", "version: 1\ntemplates:\n" + "".join(lines))
    pretend(user, {f"{base} linux/amd64": SOME for base in bases})

    ran = user.run("outdated")

    assert ran.code == 6
    assert ran.out == ""
    assert "\n2 bases could not be asked\n" in ran.err
    assert "novita.yaml:3:" in ran.err
    assert "novita.yaml:4:" in ran.err
    assert "\nhint: start it on this machine, or name the port that it has" in ran.err


@pytest.mark.parametrize("argv", [["outdated"], ["lock", "--upgrade"]])
def test_of_what_cannot_move_that_is_said(client: User, argv: list[str]) -> None:
    ran = client.run(*argv, "fixed", "dated")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("none of these starts from a base that can move: ")


def test_before_the_first_build_there_is_nothing_to_compare(client: User) -> None:
    (client.root / "novita.lock").unlink()

    ran = client.run("outdated", "api", "--exit-code")

    assert (ran.code, ran.out) == (0, "")
    assert "`sandboxfile build` pins them" in ran.err


def test_nobody_is_asked_about_a_base_that_the_lock_does_not_have(
    client: User, server: FakeRegistry
) -> None:
    text = (client.root / "novita.yaml").read_text()
    client.write("novita.yaml", f"{text}  new: {{base: '{server.host}/new:1'}}\n")
    server.lines.clear()

    ran = client.run("outdated", "--exit-code")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "0 of 2 bases moved, 1 not in the lock yet\n"
    assert not [line for line in server.lines if "new" in line]
    (new,) = client.run("outdated", "new", "--json").data["bases"]
    assert (new["locked"], new["current"], new["error"]) == (None, None, None)


# --- lock --upgrade --------------------------------------------------------------------------


def test_an_upgrade_pins_what_moved_and_makes_stale_what_starts_there(
    client: User, server: FakeRegistry
) -> None:
    server.add("python", "3", NEW)
    before = resolved(client)

    ran = client.run("lock", "--upgrade")

    assert ran.code == 0
    assert f"{OLD.digest[:19]}  {NEW.digest[:19]}  api, web\n" in ran.out
    assert ran.err == "1 base pinned anew; `sandboxfile build` builds what starts from there\n"
    assert resolved(client) == {**before, pin(server, "python:3"): NEW.digest}
    assert stale(client) == {"api", "web", "child"}
    why = client.run("why", "web", "--offline").out
    assert "base" in why
    again = client.run("lock", "--upgrade")
    assert (again.out, again.err) == ("", "the lock has all 2 bases as they are now\n")


def test_only_what_is_named_is_upgraded(client: User, server: FakeRegistry) -> None:
    server.add("python", "3", NEW)
    server.add("node", "20", NEW)

    found = client.run("lock", "--upgrade", "own", "--json").data["bases"]

    assert [(each["name"], each["outdated"]) for each in found] == [(pin(server, "node:20"), True)]
    assert resolved(client)[pin(server, "python:3")] == OLD.digest
    assert stale(client) == {"own"}


def test_a_base_that_cannot_be_asked_leaves_the_lock_as_it_is(
    client: User, server: FakeRegistry
) -> None:
    server.add("python", "3", NEW)
    del server.documents["node", "20"]
    before = (client.root / "novita.lock").read_bytes()

    ran = client.run("lock", "--upgrade")

    assert ran.code == 1
    assert ran.out == ""
    assert (client.root / "novita.lock").read_bytes() == before


def test_a_first_upgrade_pins_everything(client: User, server: FakeRegistry) -> None:
    (client.root / "novita.lock").unlink()

    ran = client.run("lock", "--upgrade", "api", "own")

    assert ran.out.count("not in the lock") == 2
    assert resolved(client) == {
        pin(server, "python:3"): OLD.digest,
        pin(server, "node:20"): NODE.digest,
    }


def test_the_base_of_what_is_built_on_a_template_is_that_of_the_template(
    client: User, server: FakeRegistry
) -> None:
    server.add("python", "3", NEW)

    ran = client.run("lock", "--upgrade", "child")

    assert ran.err == "1 base pinned anew; `sandboxfile build` builds what starts from there\n"
    assert stale(client) == {"api", "web", "child"}
    again = client.run("lock", "--upgrade", "child")
    assert again.err == "the lock has the base as it is now\n"


@pytest.mark.parametrize("argv", [[], ["--upgrade", "--check"], ["--upgrade", "--merge"]])
def test_lock_does_one_thing(client: User, argv: list[str]) -> None:
    ran = client.run("lock", *argv)

    assert ran.code == 64
    assert "`lock` needs one of `--merge`, `--upgrade`, `--check` and `--prune`" in ran.err


@pytest.mark.parametrize(
    "argv", [["--upgrade", "-o", "x"], ["--upgrade", "--base", "x"], ["--check", "--base", "x"]]
)
def test_other_files_go_with_merge(client: User, argv: list[str]) -> None:
    ran = client.run("lock", *argv)
    assert ran.code == 64
    assert "`--base` and `--output` go with `--merge`" in ran.err


# --- what is no image at a registry ----------------------------------------------------------


def test_an_image_made_by_hand_is_looked_for_in_the_engine(user: User) -> None:
    name = "engine:docker.io/library/mine:dev linux/amd64"
    user.write("novita.yaml", "version: 1\nname: x\nbase: mine:dev\n")
    with serving() as fake:
        fake.answers["GET /images/mine:dev/json"] = Answer(body={"Id": OLD.digest})
        here = user.having(DOCKER_HOST=fake.url.replace("http://", "tcp://"))
        pretend(here, {name: OLD.digest})
        assert here.run("outdated", "--exit-code").code == 0
        fake.answers["GET /images/mine:dev/json"] = Answer(body={"Id": NEW.digest})

        assert here.run("outdated", "--exit-code").code == 2
        assert here.run("lock", "--upgrade").code == 0

        assert read(user.root / "novita.local.lock").resolved == {name: NEW.digest}
        fake.answers["GET /images/mine:dev/json"] = Answer(status=404)
        ran = here.run("outdated")
        assert ran.code == 1
        assert "`mine:dev` is no longer in the engine" in ran.err


def test_packages_are_put_together_anew_and_both_results_are_kept(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    tool = Tool(directory)
    user.write("novita.yaml", "version: 1\nname: x\nbase: {debian: bookworm}\n")
    ran = (client := user).run("outdated")
    assert (ran.code, list(user.home.rglob("*.tar"))) == (0, [])
    assert "not in the lock" not in ran.out
    assert "the lock has none of these bases yet" in ran.err
    (first,) = client.run("lock", "--upgrade", "--json").data["bases"]
    assert first["locked"] is None
    assert client.run("outdated", "--exit-code", "debian:bookworm").code == 0
    tool.does(WRITE.replace("a root", "a newer root"))

    ran = client.run("outdated", "--exit-code")

    assert ran.code == 2
    assert "debian bookworm anew" in ran.err
    (moved,) = client.run("outdated", "--json").data["bases"]
    assert moved["locked"] == first["current"]
    kept = {path.name for path in client.home.rglob("*.tar")}
    assert kept == {f"{moved[key].removeprefix('sha256:')}.tar" for key in ("locked", "current")}
