import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir
from zlib import crc32

import pytest

from sandboxfile import app, lockfile, planning, recall, statcache
from sandboxfile.app import Session
from sandboxfile.errors import LockStale, NotAllowed, SandboxfileError, Unreachable
from sandboxfile.events import Event, Notice
from sandboxfile.redact import Redactor
from tests.fakes import built, push
from tests.fakes.registry import FakeRegistry, running
from tests.fakes.shell import User

Open = Callable[..., Session]
ALL = ("parent", "child", "other")


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def session(three: User, said: list[Event]) -> Iterator[Open]:
    """Open a session of the workspace as it is now."""
    opened: list[Session] = []

    def make(target: str = "local", *, offline: bool = False, **environ: str) -> Session:
        args = argparse.Namespace(
            file=None,
            target=target,
            offline=offline,
            var=None,
            environ={**three.environ, **environ},
            home=three.home,
        )
        with chdir(three.root):
            workspace = app.workspace(args)
        chosen, _ = app.target(args, workspace)
        opened.append(
            Session(
                args=args,
                workspace=workspace,
                target=chosen,
                emit=said.append,
                redactor=Redactor(),
            )
        )
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with running() as server:
        yield server


def actions(planned: planning.Planned) -> dict[str, str]:
    return {decision.template: decision.action for decision in planned.decisions}


def test_nothing_is_asked_when_nothing_is_to_be_done(
    three: User, session: Open, said: list[Event]
) -> None:
    built.pretend(three.root)

    planned = planning.make(session(), ALL, building=True)

    assert actions(planned) == dict.fromkeys(ALL, "up to date")
    assert (planned.stale, planned.pins, said) == ((), {}, [])
    assert planned.resolved == built.PINS


def test_parents_of_what_is_named_are_planned_too(three: User, session: Open) -> None:
    built.pretend(three.root)

    assert list(actions(planning.make(session(), ["child"]))) == ["parent", "child"]


@pytest.mark.parametrize(("names", "is_dropped"), [(ALL, True), (["child"], False)])
def test_hashes_of_files_that_nothing_copies_any_more_are_dropped(
    three: User,
    session: Open,
    monkeypatch: pytest.MonkeyPatch,
    names: Iterable[str],
    *,
    is_dropped: bool,
) -> None:
    monkeypatch.setattr(statcache, "SLACK_NS", 0)  # hashes of new files are kept, too
    planning.make(session(), ALL, resolve=False)
    path = three.root / ".sandboxfile/stat-cache"
    assert b"data/two.sh" in path.read_bytes()
    (three.root / "data/two.sh").unlink()

    planning.make(session(), names, resolve=False)

    assert b"data/one.txt" in path.read_bytes()
    assert (b"data/two.sh" not in path.read_bytes()) == is_dropped


def test_only_templates_of_which_something_moved_are_looked_for_again(
    three: User, session: Open
) -> None:
    built.pretend(three.root)

    def again(target: str = "local") -> planning.Planned:
        opened = session(target)
        opened.args.since = time.time_ns() + 60 * 10**9  # everything changed a while before
        return planning.make(opened, ALL, resolve=False)

    def known(planned: planning.Planned) -> set[str]:
        templates = planned.survey.templates
        return {name for name, each in templates.items() if each.recalled}

    assert known(again()) == set()
    assert known(again()) == set(ALL)
    assert known(again("novita")) == set(), "another builder finds other files"
    time.sleep(0.02)  # longer than a tick of the clock that stamps files
    three.write("data/one.txt", "another\n")

    planned = again()

    assert known(planned) == {"other"}
    assert actions(planned) == {"parent": "build", "child": "build", "other": "up to date"}
    assert actions(again()) == actions(planned), "recalled, it is as stale as it was"
    three.write("novita.yaml", (three.root / "novita.yaml").read_text() + "    run: ['true']\n")
    assert known(again()) == set(), "another configuration"


def test_a_key_that_was_kept_and_is_not_true_is_computed_anew(three: User, session: Open) -> None:
    entries = built.pretend(three.root)
    kept = three.root / ".sandboxfile/survey-docker"
    up_to_date = dict.fromkeys(ALL, "up to date")

    def again(*, building: bool = False) -> planning.Planned:
        opened = session()
        opened.args.since = time.time_ns() + 60 * 10**9
        return planning.make(opened, ALL, resolve=False, building=building)

    def forge(*keys: str) -> None:
        """Let the file have other keys, and be whole."""
        content = kept.read_bytes()
        body = content[recall._HEADER.size :]
        for key in map(str.encode, keys):
            assert key in body
            body = body.replace(key, key[:-4] + b"beef")
        magic, _, name = recall._HEADER.unpack_from(content)
        kept.write_bytes(recall._HEADER.pack(magic, crc32(body), name) + body)

    parent = entries["parent"]
    assert actions(again()) == up_to_date
    forge(parent.image_key, parent.template_key)
    assert actions(again()) == up_to_date, "it was looked at to say what is different"
    forge(parent.template_key)
    assert actions(again())["parent"] == "snapshot", "nothing was looked at"
    with pytest.raises(SandboxfileError, match="changed while they were being read"):
        _ = again().survey["parent"].selections
    assert actions(again()) == up_to_date
    forge(parent.template_key)
    assert actions(again(building=True)) == up_to_date


def test_without_resolving_only_files_are_read(session: Open, said: list[Event]) -> None:
    planned = planning.make(session(), ALL, resolve=False)

    assert actions(planned) == dict.fromkeys(ALL, "build")
    assert [decision.keys for decision in planned.decisions] == [None] * 3
    assert said == []


def test_bases_without_a_pin_are_asked_for(
    three: User, session: Open, registry: FakeRegistry
) -> None:
    base = f"{registry.host}/debian:12"
    digest = registry.add("debian", "12", push.image())
    text = (three.root / "novita.yaml").read_text().replace("debian:12", base)
    three.write("novita.yaml", text)

    planned = planning.make(session(), ALL)

    assert planned.pins == planned.resolved == {f"{base} linux/amd64": digest}
    assert all(decision.keys for decision in planned.decisions)
    assert not (three.root / "novita.lock").exists()


def test_a_mere_plan_is_made_without_those_who_do_not_answer(
    three: User, session: Open, said: list[Event]
) -> None:
    built.pretend(three.root)
    three.write("data/one.txt", "eno\n")

    planned = planning.make(session(), ALL)

    assert actions(planned) == {"parent": "build", "child": "build", "other": "up to date"}
    (notice,) = said
    assert isinstance(notice, Notice)
    assert notice.level == "warning"
    assert "without asking registry and service" in notice.text


def test_a_build_is_not(three: User, session: Open) -> None:
    built.pretend(three.root)
    three.write("data/one.txt", "eno\n")

    with pytest.raises(Unreachable):
        planning.make(session(), ALL, building=True)


@pytest.mark.parametrize(
    ("config", "environ", "expected"),
    [
        ("", {}, (NotAllowed, "no API key for target `novita`")),
        ("", {"SANDBOXFILE_REGISTRY": "r.io/x"}, (NotAllowed, "no API key for target `novita`")),
        (
            "",
            {"NOVITA_API_URL": "https://evil.example"},
            (NotAllowed, "`evil.example` is not a host that API keys may be sent to"),
        ),
        (
            "targets: {novita: {provider: novita, api_url: 'https://evil.example'}}",
            {"NOVITA_API_KEY": "k", "NOVITA_API_URL": "https://api.novita.ai"},
            (NotAllowed, "`evil.example` is not a host that API keys may be sent to"),
        ),
    ],
)
def test_a_target_that_cannot_be_published_to_is_refused(
    three: User,
    session: Open,
    config: str,
    environ: dict[str, str],
    expected: tuple[type[Exception], str],
) -> None:
    built.pretend(three.root)
    three.write("novita.yaml", (three.root / "novita.yaml").read_text() + config + "\n")

    error, message = expected
    with pytest.raises(error) as caught:
        planning.make(session("novita", **environ), ALL, building=True)

    assert message in str(caught.value)


def test_offline_a_remote_target_is_not_asked(
    three: User, session: Open, said: list[Event]
) -> None:
    built.pretend(three.root)

    planned = planning.make(session("novita", offline=True), ALL)

    assert actions(planned) == dict.fromkeys(ALL, "build")
    assert said == []


# --- the lock --------------------------------------------------------------------------------


def test_a_lock_that_is_right_passes(three: User, session: Open) -> None:
    built.pretend(three.root)

    planning.check_locked(session(), planning.make(session(), ALL))


def test_a_stale_lock_is_told_template_by_template(three: User, session: Open) -> None:
    built.pretend(three.root)
    three.replace("novita.yaml", "sleep 600", "sleep 601")
    opened = session("local")
    planned = planning.make(opened, ALL, resolve=False)

    with pytest.raises(LockStale) as caught:
        planning.check_locked(opened, planned)

    assert caught.value.message == (
        "the lock of target `local` is not up to date\n"
        "  parent: snapshot: start command changed (novita.yaml:8:5)\n"
        "  child: snapshot: start command changed (novita.yaml:8:5)"
    )


def test_a_new_pin_makes_the_lock_stale(three: User, session: Open) -> None:
    built.pretend(three.root)
    opened = session()
    planned = planning.make(opened, ALL)
    new = planning.Planned(
        survey=planned.survey,
        decisions=planned.decisions,
        resolved=planned.resolved,
        pins={"docker.io/library/x:1 linux/amd64": built.DIGEST},
    )

    with pytest.raises(LockStale) as caught:
        planning.check_locked(opened, new)
    assert "base `x:1` is not in the lock" in caught.value.message


def test_a_frozen_run_takes_what_the_lock_has(three: User, session: Open) -> None:
    entries = built.pretend(three.root)

    wanted = {name: entries[name] for name in ("parent", "child")}
    assert planning.frozen(session(), ["child"]) == wanted
    with pytest.raises(LockStale, match="the lock has no `parent` for target `novita`"):
        planning.frozen(session("novita"), ["child"])


def test_pins_of_this_engine_stay_on_this_machine(three: User, session: Open) -> None:
    shared = {"docker.io/library/x:1 linux/amd64": built.DIGEST}
    own = {"engine:docker.io/library/mine:1 linux/amd64": built.DIGEST}

    planning.record_pins(session(), {**shared, **own})

    assert lockfile.read(three.root / "novita.lock").resolved == shared
    assert lockfile.read(three.root / "novita.local.lock").resolved == own


def test_without_pins_no_lock_is_written(three: User, session: Open) -> None:
    planning.record_pins(session(), {})

    assert list(three.root.glob("*.lock")) == []
