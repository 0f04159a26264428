"""From the first build to the last: promoted, rolled back, adopted elsewhere, pruned, deleted."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.shell import Ran, User
from tests.functional.commands.conftest import Serving

pytestmark = pytest.mark.engine

NAME = "fn-release"
DATA = "built"  # where the service keeps its templates
CONFIG = """\
version: 1
name: {name}
base: {base}
run: ["echo {content} > /content"]
resources: {{cpu: 1, memory: 128}}
tags: [edge]
default_target: box
targets:
  box: {{provider: novita, api_url: "{url}", registry: "{registry}/releases"}}
"""


@dataclass(frozen=True, kw_only=True)
class Story:
    """Two builds of one template by one client, each with a content of its own."""

    host: User
    client: User
    first: str
    second: str

    def now(self, client: User | None = None) -> dict[str, str]:
        """Return which build each tag is on, content tags left out."""
        rows = (client or self.client).run("tag", NAME, "--json").data["tags"]
        return {row["tag"]: row["build_id"] for row in rows if not row["tag"].startswith("sf-")}

    def content(self, reference: str) -> str:
        """Return what a sandbox of this template finds in itself."""
        return self.host.command(
            "run", "--data", DATA, reference, "--", "cat", "/content"
        ).out.strip()


@pytest.fixture(scope="module")
def story(
    *,
    serve: Serving,
    place: Callable[[str], User],
    base: str,
    registry: str,
    images: Callable[[str], None],
) -> Story:
    images(NAME)
    host = place("host")
    url = serve(host, "--data", DATA)
    client = place("client").having(NOVITA_API_KEY="key-of-the-tests")
    values = {"name": NAME, "base": base, "url": url, "registry": registry}
    builds = []
    for content in ("one", "two"):
        client.write("novita.yaml", CONFIG.format(content=content, **values))
        client.build()
        builds.append(client.entries("box")[NAME].build_id)
        git(client, "init", "-q")
        git(client, "add", "novita.yaml", "novita.lock")
        git(client, "commit", "-qm", content)
    return Story(host=host, client=client, first=builds[0], second=builds[1])


def git(user: User, *argv: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    argv = ("git", "-C", str(user.root), *identity, *argv)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_a_release_from_build_to_rollback_and_on(story: Story) -> None:
    client, first, second = story.client, story.first, story.second
    assert story.now() == {"default": second, "edge": second}
    assert (story.content(NAME), story.content(f"{NAME}:edge")) == ("two", "two")

    done(client.run("promote", NAME, "--from", "edge", "--to", "stable"))
    assert story.now()["stable"] == second

    done(client.run("rollback", NAME))
    assert story.now() == {"default": first, "edge": first, "stable": second}
    assert (story.content(NAME), story.content(f"{NAME}:stable")) == ("one", "two")
    assert f"NOVITA_BUILD_FN_RELEASE={first}\n" in client.run("env").out
    assert client.run("status", "--refresh", "--exit-code").code == 0

    assert done(client.run("build", "--json")).data["templates"][0]["action"] == "up to date"
    assert story.now()["default"] == first

    shown = client.run("tag", NAME).out
    assert f"* {shown.splitlines()[1][2:21]}  ready     {second}  stable, sf-" in shown
    assert shown.count("rollback by ") == 2

    done(client.run("rollback", NAME, "--to", second))
    assert story.now() == {"default": second, "edge": second, "stable": second}
    assert client.entries("box")[NAME].moved == {}


def test_new_content_moves_the_tags_on_after_a_rollback(story: Story, tmp_path: Path) -> None:
    client = copied(story, tmp_path)
    done(client.run("rollback", NAME))
    assert story.now(client)["default"] == story.first

    client.replace("novita.yaml", "echo two", "echo three")
    client.build()

    third = client.entries("box")[NAME]
    assert (third.moved, story.now(client)["edge"]) == ({}, third.build_id)
    assert story.content(NAME) == "three"
    done(client.run("rollback", NAME, "--to", story.second))


def test_a_clone_without_a_lock_adopts_what_is_built_and_writes_its_own(
    story: Story, tmp_path: Path
) -> None:
    clone = copied(story, tmp_path)
    (clone.root / "novita.lock").unlink()
    shutil.rmtree(clone.root / ".sandboxfile")

    ran = done(clone.run("build", "--json"))

    assert ran.data["templates"][0]["action"] == "adopt"
    assert clone.entries("box")[NAME].build_id == story.second
    assert clone.entries("box")[NAME].image == story.client.entries("box")[NAME].image
    assert clone.run("plan", "--detailed-exitcode").code == 0


def test_what_was_renamed_is_listed_pruned_and_what_is_named_deleted(
    story: Story, tmp_path: Path
) -> None:
    client = copied(story, tmp_path)
    client.replace("novita.yaml", f"name: {NAME}", "name: fn-renamed")
    client.build()
    client.run("delete", NAME)  # nobody can be asked
    old, new = story.client.entries("box")[NAME], client.entries("box")["fn-renamed"]
    lock = client.root / "novita.lock"
    lock.write_text(without(lock.read_text(), NAME))
    rows: list[dict[str, Any]] = client.run("list", "--remote", "--json").data["templates"]
    assert {row["template_id"]: row["lock"] for row in rows} == {
        old.template_id: None,
        new.template_id: "fn-renamed",
    }

    tags = [f"--ignore-tag={tag}" for tag in ("default", "edge", "stable")]
    verdict = pruned(client, "--older-than", "0")
    assert verdict[NAME] == "a lock names it"  # that of the branch
    git(client, "add", "novita.yaml", "novita.lock")
    git(client, "commit", "-qm", "renamed")
    assert pruned(client, "--older-than", "0")[NAME].startswith("it has the tag `default`")
    assert pruned(client, *tags)[NAME].endswith("too short a time ago")
    assert pruned(client, "--older-than", "0", *tags) == {
        NAME: None,
        "fn-renamed": "a lock names it",
    }

    done(client.run("prune", "--yes", "--older-than", "0", *tags))

    assert story.client.run("status", "--refresh", "--json").data["templates"][0]["drift"]
    assert done(client.run("delete", "fn-renamed", "--yes")).code == 0
    assert client.run("list", "--remote", "--json").data["templates"] == []
    assert client.entries("box") == {}


def test_the_templates_of_this_machine_are_tagged_and_deleted_too(
    place: Callable[[str], User], base: str, images: Callable[[str], None]
) -> None:
    images("fn-own")
    user = place("own")
    user.write("novita.yaml", f"version: 1\nname: fn-own\nbase: {base}\nrun: [echo 1 > /x]\n")
    user.build("--target", "local")
    one = user.entries()["fn-own"].build_id
    user.replace("novita.yaml", "echo 1", "echo 2")
    user.build("--target", "local")

    done(user.run("rollback", "fn-own", "--target", "local"))

    assert user.entries()["fn-own"].current == one
    assert user.command("run", "fn-own", "--", "cat", "/x").out == "1\n"
    assert "* fn-own " in user.run("list", "--remote", "--target", "local").out
    done(user.run("delete", "fn-own", "--yes", "--target", "local"))
    assert user.entries() == {}


# --- helpers ---------------------------------------------------------------------------------


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err
    return ran


def copied(story: Story, directory: Path) -> User:
    """Return a client with a copy of the workspace, as the story left it."""
    root = directory / "copy"
    shutil.copytree(story.client.root, root)
    return story.client.at(root)


def pruned(client: User, *argv: str) -> dict[str, Any]:
    rows = done(client.run("prune", "--json", *argv)).data["templates"]
    return {row["name"]: row["kept"] for row in rows}


def without(text: str, name: str) -> str:
    """Return a lock without the entry of a template, as somebody edits it."""
    lines, kept, is_in = text.splitlines(keepends=True), [], False
    for line in lines:
        is_in = line == f"    {name}:\n" or (is_in and line.startswith("      "))
        kept += [] if is_in else [line]
    return "".join(kept)
