"""What the lock says of tags is what the service has."""

import re
from collections.abc import Iterator

import pytest

from sandboxfile import lockfile
from sandboxfile.lockfile import Entry
from tests.fakes.service import FakeService, serving
from tests.fakes.shell import User

CONFIG = """\
version: 1
name: api
base: {{remote: code}}
tags: [{tags}]
targets:
  it: {{provider: novita, api_url: "{url}", registry: "127.0.0.1:9/none", tags: [{others}]}}
"""
COMMITS = ("ab" * 20, "cd" * 20)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        running.script = ("ready",)
        yield running


@pytest.fixture
def builder(user: User) -> User:
    return user.having(NOVITA_API_KEY="key-123456", SANDBOXFILE_TARGET="it")


def built(builder: User, service: FakeService, tags: str, others: str = "") -> Entry:
    text = CONFIG.format(url=service.url, tags=tags, others=others)
    builder.write("novita.yaml", text)
    ran = builder.run("build", "--progress", "plain")
    assert ran.code == 0, ran.err
    return lockfile.read(builder.root / "novita.lock").targets["it"]["api"]


def own(service: FakeService) -> set[str]:
    return {tag for _, tag in service.tags if not re.match("sf-|default", tag)}


def test_tags_that_were_moved_are_recorded(builder: User, service: FakeService) -> None:
    assert built(builder, service, "stable, v1", "prod").tags == ("prod", "stable", "v1")
    assert own(service) == {"prod", "stable", "v1"}


def test_a_tag_that_is_no_longer_written_is_taken_away(builder: User, service: FakeService) -> None:
    first = built(builder, service, "stable, v1", "prod")
    second = built(builder, service, "stable, v2")
    assert second.build_id == first.build_id
    assert second.tags == ("stable", "v2")
    assert own(service) == {"stable", "v2"}


def test_a_new_build_leaves_the_tags_of_the_last_one(builder: User, service: FakeService) -> None:
    first = built(builder, service, "v1")
    second = built(builder, service, "v2]\nresources: {cpu: 1, memory: 256}\nenv: {}\n#")
    assert second.build_id != first.build_id
    assert {tag: build for (_, tag), build in service.tags.items() if tag[0] == "v"} == {
        "v1": first.build_id,
        "v2": second.build_id,
    }


def test_a_service_without_tags_leaves_nothing_to_be_done_again(
    builder: User, service: FakeService
) -> None:
    service.has_tags = False
    assert built(builder, service, "stable").tags == ("stable",)
    assert own(service) == set()


def test_tags_of_other_commits_stay(builder: User, service: FakeService) -> None:
    for commit in COMMITS:
        _commit(builder, commit)
        entry = built(builder, service, "'g-${git.sha}'", "'${git.sha}'")
        assert entry.tags == (commit, f"g-{commit}")
    assert own(service) == {*COMMITS, *(f"g-{commit}" for commit in COMMITS)}


def _commit(user: User, commit: str) -> None:
    """Make a repository in which a commit is checked out, as far as `git rev-parse` looks."""
    user.write(".git/HEAD", f"{commit}\n")
    for name in ("objects", "refs"):
        (user.root / ".git" / name).mkdir(exist_ok=True)
