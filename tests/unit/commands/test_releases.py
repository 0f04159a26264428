"""Tags moved by hand, against a service that keeps the wire's rules."""

import errno
import json
import os

import pytest

from tests.fakes.released import CONFIG, build, entry, on
from tests.fakes.service import Answer, Build, FakeService, error
from tests.fakes.shell import User


def at_key(client: User) -> str:
    """The tag of `api` that is made of its key."""
    return next(tag for tag in entry(client).tags or () if tag.startswith("at-"))


# --- tag -------------------------------------------------------------------------------------


def test_a_tag_is_given_to_the_build_of_the_lock(
    client: User, service: FakeService, new: Build
) -> None:
    before = entry(client)

    ran = client.run("tag", "api", "demo", "v1.2")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"api: `demo` -> {new.id}\napi: `v1.2` -> {new.id}\n"
    assert on(service, "demo") == on(service, "v1.2") == new.id
    assert entry(client) == before  # a build neither moves nor takes away what is not written
    assert "up to date" in client.run("status", "api").out


def test_a_tag_is_given_to_a_named_build_or_that_of_another_tag(
    client: User, service: FakeService, old: Build
) -> None:
    assert client.run("tag", "api", "demo", "--build", old.id).code == 0
    assert on(service, "demo") == old.id

    ran = client.run("tag", "api", "copy", "--from", "demo", "--json")

    moves = [{"tag": "copy", "from": None, "to": old.id}]
    assert ran.data == {"target": "box", "templates": [{"name": "api", "moved": moves}]}
    assert on(service, "copy") == old.id
    assert client.run("tag", "api", "copy", "--from", "demo").err == "api: nothing to move\n"


def test_a_written_tag_put_elsewhere_stays_there_until_the_template_changes(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    client.run("tag", "api", "stable", "--build", old.id)

    assert entry(client).moved == {"stable": old.id}
    plan = client.run("plan", "api", "--json").data["templates"][0]
    assert plan["action"] == "up to date"
    kept = f"kept on build {old.id} until the template changes: `stable`"
    assert plan["reasons"][0]["text"] == kept
    assert kept in client.run("plan", "api").out  # which has room for one reason
    assert client.run("tag", "api", "stable").code == 0  # back to the lock's
    assert (entry(client).moved, on(service, "stable")) == ({}, new.id)
    assert "stable" in (entry(client).tags or ())


def test_a_tag_is_taken_away_and_a_written_one_will_come_back(
    client: User, service: FakeService
) -> None:
    client.run("tag", "api", "demo")

    ran = client.run("tag", "api", "--remove", "demo")
    assert ran.err == f"api: `demo` taken away from {entry(client).build_id}\n"
    assert on(service, "demo") is None

    ran = client.run("tag", "api", "--remove", "stable", "--remove", "never-was")

    assert "`stable` is written in novita.yaml: the next build gives it again" in ran.err
    assert client.run("plan", "api", "--json").data["templates"][0]["action"] == "retag"


def test_the_last_tag_of_a_build_is_not_taken_away(
    client: User, service: FakeService, old: Build
) -> None:
    service.tags = {key: each for key, each in service.tags.items() if each != old.id}
    client.run("tag", "api", "demo", "--build", old.id)

    ran = client.run("tag", "api", "--remove", "demo")

    assert ran.code == 1
    assert "the service forgets a build that has none" in ran.err
    assert on(service, "demo") == old.id


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["Demo"], "`Demo` is not a tag"),
        (["sf-1"], "kept for content tags"),
        (["00000000-0000-4000-8000-000000000001"], "is a UUID"),
        (["--remove", "default"], "does not take `default` away"),
        (["--list", "x"], "`--list` changes nothing"),
        (["x", "--build", "a", "--from", "b"], "give one of them"),
        (["--build", "a"], "need a tag to give"),
        (["x", "--offline"], "`--offline` forbids asking it"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    client: User, service: FakeService, argv: list[str], said: str
) -> None:
    ran = client.run("tag", "api", *argv)

    assert (ran.code, ran.out) == (64, "")
    assert said in ran.err
    assert service.requests == []


def test_builds_are_shown_with_their_tags_and_the_moves_made_here(
    client: User, old: Build, new: Build
) -> None:
    client.run("tag", "api", "demo", "--build", old.id)

    lines = client.run("tag", "api").out.splitlines()

    assert lines[0] == f"api  {new.template}"
    assert lines[1].startswith("* 2026-01-01 00:02:00  ready     " + new.id)
    assert lines[1].endswith(f"  default, {at_key(client)}, stable, sf-0000000000000001")
    assert lines[2].endswith(f"  ready     {old.id}  demo, sf-0000000000000000")
    assert lines[3] == "moved from this machine:"
    assert f"  demo  - -> {old.id}  tag by " in lines[4]
    shown = client.run("tag", "api", "--list", "--json").data
    assert [row["in_lock"] for row in shown["builds"]] == [True, False]
    assert shown["builds"][1]["tags"] == ["demo", "sf-0000000000000000"]
    assert shown["moves"][0]["to"] == old.id


def test_many_builds_come_in_pages(client: User, service: FakeService) -> None:
    service.page = 1

    assert len(client.run("tag", "api", "--json").data["builds"]) == 2


def test_a_torn_record_of_moves_is_read_as_far_as_it_goes(client: User) -> None:
    client.run("tag", "api", "demo")
    record = client.root / ".sandboxfile/journal/box.moves"
    record.write_text('{"at": 1}\n[]\n' + record.read_text() + '{"at": "20')

    assert [m["tag"] for m in client.run("tag", "api", "--json").data["moves"]] == ["demo"]
    client.run("clean")
    assert record.exists()


# --- promote ---------------------------------------------------------------------------------


def test_the_build_of_one_tag_gets_another(client: User, service: FakeService, old: Build) -> None:
    client.run("tag", "api", "edge", "--build", old.id)

    ran = client.run("promote", "api", "--from", "edge", "--to", "stable", "--to", "default")

    assert ran.code == 0
    assert on(service, "stable") == on(service, "default") == old.id
    sent = service.sent("POST", "/templates/tags")[-1]
    assert sent.body == {"target": f"api:{old.id}", "tags": ["stable", "default"]}
    assert entry(client).moved == {"default": old.id, "stable": old.id}
    assert entry(client).current == old.id
    status = client.run("status", "api").out
    assert f"up to date  {entry(client).template_id}  {entry(client).build_id}\n" in status
    assert f"`default` is on build {old.id}, put there by hand\n" in status


def test_nothing_is_promoted_unless_everything_can_be(
    client: User, service: FakeService, new: Build
) -> None:
    client.run("tag", "api", "edge")
    bad = build(service, "web", "edge", state="error")

    ran = client.run("promote", "--from", "edge", "--to", "live")

    assert ran.code == 1
    assert ran.err.startswith(f"error: `web` cannot use build {bad.id}: it is `error`\nhint: ")
    assert "ready builds, newest first: " in ran.err
    assert on(service, "live") is None
    bad.settle("ready")
    assert client.run("promote", "--from", "edge", "--to", "live").code == 0
    assert (on(service, "live"), on(service, "live", "web")) == (new.id, bad.id)


@pytest.mark.parametrize("argv", [[], ["--from", "a"], ["--to", "b"]])
def test_promote_needs_both_tags(client: User, argv: list[str]) -> None:
    assert client.run("promote", "api", *argv).code == 64


def test_a_tag_that_is_not_there_is_told_with_those_that_are(client: User) -> None:
    ran = client.run("promote", "api", "--from", "edge", "--to", "stable")

    assert ran.code == 1
    assert ran.err == (
        f"error: `api` has no tag `edge`\nhint: its tags: `default`, `stable`, `{at_key(client)}`\n"
    )


def test_who_promotes_everything_is_told_to_name_what_has_the_tag(client: User) -> None:
    client.run("tag", "api", "edge")

    ran = client.run("promote", "--from", "edge", "--to", "live")

    assert ran.code == 1
    assert ran.err.startswith("error: `web` has no tag `edge`\nhint: its tags: ")
    assert ran.err.endswith(
        "name those that are meant: `sandboxfile promote NAME... --from edge`\n"
    )


def test_a_move_that_the_service_does_not_make_is_not_taken_for_made(
    client: User, service: FakeService
) -> None:
    before = entry(client)
    service.fail("POST", "/templates/tags", error(400, "Invalid tag: x"))

    assert client.run("promote", "api", "--from", "stable", "--to", "live").code == 1
    assert entry(client) == before
    assert client.run("tag", "api", "--json").data["moves"] == []


@pytest.mark.parametrize("status", [400, 403])
def test_a_refused_move_is_not_taken_for_made_when_somebody_else_makes_it(
    client: User, service: FakeService, old: Build, new: Build, status: int
) -> None:
    client.run("tag", "api", "live", "--build", old.id)
    last = build(service, "api")
    service.fail("POST", "/templates/tags", error(status, "not allowed"))
    assert client.run("tag", "api", "live", "--build", last.id).code != 0
    for somewhere in (new, last):
        service.tags[service.names["api"], "live"] = somewhere.id

    (move,) = client.run("tag", "api", "--json").data["moves"]
    ran = client.run("rollback", "api", "--tag", "live")

    assert (move["to"], on(service, "live")) == (old.id, new.id)
    assert f"going back to {new.id}: the ready build before\n" in ran.err


def test_a_removal_that_is_refused_is_not_taken_for_made_when_somebody_else_makes_it(
    client: User, service: FakeService
) -> None:
    client.run("tag", "api", "live")
    service.fail("DELETE", "/templates/tags", error(403, "not allowed"))
    assert client.run("tag", "api", "--remove", "live").code != 0
    del service.tags[service.names["api"], "live"]

    assert len(client.run("tag", "api", "--json").data["moves"]) == 1


def test_a_move_is_not_withdrawn_where_only_the_question_after_it_was_refused(
    client: User, service: FakeService, old: Build
) -> None:
    template = service.names["api"]
    asked = Answer(body=[])
    service.fail("GET", f"/templates/{template}/tags", asked, error(403, "not allowed"))
    assert client.run("tag", "api", "live", "--build", old.id).code != 0
    assert on(service, "live") == old.id

    (move,) = client.run("tag", "api", "--json").data["moves"]

    assert move["to"] == old.id


# --- rollback --------------------------------------------------------------------------------


def test_default_and_the_written_tags_go_back_to_the_build_before(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    ran = client.run("rollback", "api")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == (
        f"going back to {old.id}: the ready build before\n"
        f"api: `default` {new.id} -> {old.id}\n"
        f"api: `stable` {new.id} -> {old.id}\n"
        "commit novita.lock: it keeps the next build from moving them again\n"
    )
    assert on(service, "default") == on(service, "stable") == old.id
    kept = entry(client)
    assert (kept.build_id, kept.moved) == (new.id, {"default": old.id, "stable": old.id})
    asked = len(service.requests)
    assert client.run("build", "api").code == 0
    assert len(service.requests) == asked  # nothing to do, and nothing is undone
    assert f"NOVITA_BUILD_API={old.id}\n" in client.run("env", "api").out


def test_a_second_rollback_goes_further_back_and_not_forth_again(
    client: User, old: Build, new: Build
) -> None:
    client.run("rollback", "api")

    ran = client.run("rollback", "api")

    assert ran.code == 1
    assert ran.err.startswith(f"error: `api` has no ready build before {old.id}")
    assert f"hint: builds, newest first: {new.id} (ready), {old.id} (ready)" in ran.err
    forth = client.run("rollback", "api", "--to", new.id)
    assert (forth.code, entry(client).moved) == (0, {})
    assert client.run("rollback", "api").code == 0  # and back again
    assert entry(client).current == old.id


def test_a_tag_goes_back_to_where_it_was_not_to_what_it_skipped(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    client.run("tag", "api", "live", "--build", old.id)
    last = build(service, "api")
    client.run("tag", "api", "live", "--build", last.id)

    ran = client.run("rollback", "api", "--tag", "live")

    assert f"going back to {old.id}: where it was before, by the record here\n" in ran.err
    assert (on(service, "live"), on(service, "stable")) == (old.id, new.id)


def test_a_build_that_was_rolled_back_from_is_not_gone_back_to(
    client: User, service: FakeService, old: Build
) -> None:
    client.run("rollback", "api")
    build(service, "api", "default", "stable")  # made and tagged by another machine

    client.run("rollback", "api")

    assert on(service, "default") == old.id


def test_only_a_ready_build_is_gone_back_to(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    failed = build(service, "api", state="error")

    ran = client.run("rollback", "api", "--to", failed.id)
    assert (ran.code, "it is `error`" in ran.err) == (1, True)
    ran = client.run("rollback", "api", "--to", "00000000-0000-4000-8000-00000000ffff")
    assert (ran.code, "has no build 00000000" in ran.err) == (1, True)
    client.run("tag", "api", "stable", "--build", old.id)
    ran = client.run("rollback", "api", "--to", "00000000-0000-4000-8000-00000000ffff")
    assert ran.err.startswith("error: `api` has no build")  # it says nothing of what it left
    client.run("tag", "api", "stable", "--build", new.id)
    old.settle("error")
    assert client.run("rollback", "api").code == 1
    assert on(service, "default") == new.id


def test_a_tag_that_is_elsewhere_is_left_there_and_told(
    client: User, service: FakeService, old: Build
) -> None:
    client.run("tag", "api", "stable", "--build", old.id)

    ran = client.run("rollback", "api")

    assert "not on the same build as `default`, left where they are: `stable`\n" in ran.err
    assert on(service, "default") == old.id


def test_rolled_back_tags_stay_while_another_tag_is_added(
    client: User, service: FakeService, old: Build
) -> None:
    client.run("rollback", "api")
    client.replace("novita.yaml", "[stable, ", "[stable, extra, ")

    assert client.run("build", "api").code == 0

    assert on(service, "extra") == entry(client).build_id
    assert on(service, "default") == on(service, "stable") == old.id
    assert set(entry(client).moved) == {"default", "stable"}


def test_without_default_the_written_tags_are_rolled_back_alone(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    client.write("novita.yaml", CONFIG.format(url=service.url, more=", default: false"))

    client.run("rollback", "api")

    assert (on(service, "default"), on(service, "stable")) == (new.id, old.id)
    ran = client.run("rollback", "web")
    assert (ran.code, "name the tag to move with `--tag`" in ran.err) == (1, True)


# --- services that lack something ------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [["tag", "api", "x"], ["rollback", "api"], ["promote", "api", "--from", "a", "--to", "b"]],
)
def test_a_service_without_tags_is_told_once(
    client: User, service: FakeService, argv: list[str]
) -> None:
    service.has_tags = False

    ran = client.run(*argv)

    assert ran.code == 64
    assert ran.err == (
        "error: the service of target `box` has no tags: there is nothing to move\n"
        "hint: each build there replaces the one before it\n"
    )


def test_without_a_list_of_builds_a_named_one_can_still_be_tagged(
    client: User, service: FakeService, old: Build
) -> None:
    service.has_template = False

    assert client.run("tag", "api", "demo", "--build", old.id).code == 0
    ran = client.run("rollback", "api")
    assert "the service does not list builds: name one with `--to`" in ran.err
    assert client.run("rollback", "api", "--to", old.id).code == 0
    gone = client.run("tag", "api", "x", "--build", "00000000-0000-4000-8000-00000000ffff")
    assert (gone.code, "has no build" in gone.err) == (1, True)
    assert f"unknown   {old.id}  default, demo, stable" in client.run("tag", "api").out


def test_the_template_of_another_team_is_not_touched(client: User, service: FakeService) -> None:
    service.foreign.add("api")

    ran = client.run("tag", "api", "x")

    assert (ran.code, "belongs to another team" in ran.err) == (5, True)
    assert service.sent("POST", "/templates/tags") == []


def test_a_template_that_is_gone_is_told_with_the_remedy(
    client: User, service: FakeService
) -> None:
    del service.names["api"]

    ran = client.run("rollback", "api")

    assert (ran.code, "sandboxfile build api --force" in ran.err) == (1, True)


def test_without_a_lock_the_template_is_found_by_its_name(
    client: User, service: FakeService, old: Build
) -> None:
    (client.root / "novita.lock").unlink()

    assert client.run("tag", "api", "x", "--build", old.id).code == 0
    assert not (client.root / "novita.lock").exists()
    ran = client.run("tag", "api", "x")
    assert (ran.code, "the lock has no build of `api`" in ran.err) == (1, True)
    service.fail("GET", "/templates/aliases/api", error(404, "no such route"))
    assert client.run("tag", "api", "y", "--build", old.id).code == 0
    del service.names["web"]
    ran = client.run("tag", "web", "y")
    assert (ran.code, "target `box` has no template `web`" in ran.err) == (1, True)


def test_json_is_one_document(client: User) -> None:
    assert json.loads(client.run("rollback", "api", "--json").out)["target"] == "box"


# --- nothing can be written ------------------------------------------------------------------


@pytest.fixture
def read_only(client: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody whose checkout cannot be written, and one of whose templates is stale."""
    text = (client.root / "novita.yaml").read_text().replace("tags:", "env: {A: b}\n    tags:")
    client.write("novita.yaml", text.replace('registry: "localhost:5000/team"', "builder: remote"))

    def refused(path: object, _mode: int = 0o777) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "mkdir", refused)
    return client


@pytest.mark.parametrize(
    "argv",
    [["plan"], ["why", "api"], ["status"], ["tag", "api", "--list"]],
)
def test_who_only_looks_needs_no_place_to_write(read_only: User, argv: list[str]) -> None:
    ran = read_only.run(*argv)

    assert (ran.code, bool(ran.out)) == (0, True), ran.err
    assert not (read_only.root / ".sandboxfile").exists()


def test_a_build_needs_one_before_it_begins(read_only: User, service: FakeService) -> None:
    before = len(service.builds)

    ran = read_only.run("build")

    assert ran.code == 1
    assert "`.sandboxfile` cannot be made or used: Read-only file system" in ran.err.replace(
        f"{read_only.root}/", ""
    )
    assert len(service.builds) == before


# --- moved at the service, and then something is in the way -----------------------------------


def test_a_move_is_recorded_though_the_lock_cannot_be_written(
    client: User, service: FakeService, old: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(os, "rename", full)
        ran = client.run("tag", "api", "stable", "--build", old.id)

    assert (ran.code, on(service, "stable")) == (1, old.id)
    assert "`novita.lock` cannot be written" in ran.err
    assert [m["tag"] for m in client.run("tag", "api", "--json").data["moves"]] == ["stable"]


def test_the_lock_is_written_though_the_move_cannot_be_recorded(
    client: User, service: FakeService, old: Build
) -> None:
    (client.root / ".sandboxfile/journal/box.moves").mkdir(parents=True)

    ran = client.run("tag", "api", "stable", "--build", old.id)

    assert (ran.code, on(service, "stable")) == (1, old.id)
    assert "the record of moved tags" in ran.err
    assert entry(client).moved == {"stable": old.id}
