import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sandboxfile.errors import SandboxfileError
from sandboxfile.local import names, schema
from sandboxfile.local import store as stores
from sandboxfile.local.limits import LIMITS, WAITED_TOO_LONG, Limits
from sandboxfile.local.records import Reason, Refusal, Registered, Registration, Result, Setting
from sandboxfile.local.store import Store
from sandboxfile.model import Resources
from tests.unit.local.conftest import Clock, finish, register

BUILT_TOO_LONG = "build status polling timed out. Maximum build time is 1h0m0s."
RESULT = Result(
    image="sandboxfile/local:x",
    setting=Setting(user="bob", workdir="/app", env={"A": "1"}),
    start="serve",
    ready="true",
)


def reason(store: Store, template: str, build: str) -> str:
    found = store.build(template, build)
    assert found is not None
    return found.reason.message if found.reason else found.status


def test_the_same_name_is_the_same_template_with_a_new_build(store: Store) -> None:
    first, second = register(store, "app"), register(store, "local/app:v1")
    assert first.template == second.template
    assert first.build != second.build
    assert first.aliases == ("app",)
    found = store.template("app")
    assert found is not None
    assert found.builds == 2
    assert len(first.template) == 20


def test_a_waiting_build_gives_way_to_a_newer_one_of_its_tag_alone(store: Store) -> None:
    old = register(store, "app", "a", "b")
    apart = register(store, "app", "c")
    other = register(store, "else", "a")
    new = register(store, "app", "b")
    assert reason(store, old.template, old.build) == stores.SUPERSEDED
    assert reason(store, apart.template, apart.build) == "waiting"
    assert reason(store, other.template, other.build) == "waiting"
    assert reason(store, new.template, new.build) == "waiting"


def test_a_trigger_cancels_running_builds_of_its_tags(store: Store) -> None:
    old, apart = register(store, "app", "a"), register(store, "app", "b")
    store.trigger(old.template, old.build)
    store.trigger(apart.template, apart.build)
    new = register(store, "app", "a")
    assert reason(store, old.template, old.build) == "building"

    store.trigger(new.template, new.build)

    assert reason(store, old.template, old.build) == stores.CANCELLED
    assert reason(store, apart.template, apart.build) == "building"
    assert reason(store, new.template, new.build) == "building"


def test_a_refused_trigger_has_cancelled_the_others_all_the_same(store: Store) -> None:
    done = finish(store, register(store, "app"))
    running = register(store, "app")
    store.trigger(running.template, running.build)

    with pytest.raises(Refusal, match="build is not in waiting state") as caught:
        store.trigger(done.template, done.build)

    assert caught.value.status == 400
    assert reason(store, running.template, running.build) == stores.CANCELLED


@pytest.mark.parametrize("which", ["template", "build", "both"])
def test_a_trigger_for_what_is_not_there_is_404(store: Store, which: str) -> None:
    made, other = register(store, "app"), register(store, "other")
    template = "0" * 20 if which != "build" else other.template
    build = "0" * 36 if which == "both" else made.build
    with pytest.raises(Refusal, match="Error when getting template") as caught:
        store.trigger(template, build)
    assert caught.value.status == 404


def test_a_finished_build_keeps_its_result(store: Store) -> None:
    made = register(store, "app")
    store.trigger(made.template, made.build)
    assert store.begin(made.build)
    assert store.finish(made.build, RESULT)
    found = store.resolve(names.parse("app"))
    assert found.result == RESULT
    assert found.status == "ready"
    assert found.finished is not None


def test_nothing_changes_a_build_that_has_ended(store: Store) -> None:
    made = register(store, "app")
    assert not store.begin(made.build), "it was not triggered"
    assert not store.finish(made.build, RESULT)
    assert store.fail(made.build, Reason(message="no", step="3"))
    assert not store.fail(made.build, Reason(message="again"))
    found = store.build(made.template, made.build)
    assert found is not None
    assert found.reason == Reason(message="no", step="3")
    assert not store.is_building(made.build)


@pytest.mark.parametrize(
    ("state", "seconds", "expected"),
    [
        ("waiting", LIMITS.waiting - 1, "waiting"),
        ("waiting", LIMITS.waiting + 1, WAITED_TOO_LONG),
        ("building", LIMITS.build - 1, "building"),
        (
            "building",
            LIMITS.build + 1,
            BUILT_TOO_LONG,
        ),
    ],
)
def test_time_limits_end_builds(
    store: Store, clock: Clock, state: str, seconds: float, expected: str
) -> None:
    made = register(store, "app")
    if state == "building":
        store.trigger(made.template, made.build)
        assert store.begin(made.build)
    clock.now += seconds
    assert not store.settle()
    assert reason(store, made.template, made.build) == expected


def test_the_clock_of_a_build_starts_when_its_turn_comes(store: Store, clock: Clock) -> None:
    made = register(store, "app")
    store.trigger(made.template, made.build)
    clock.now += LIMITS.build + 30
    store.settle()
    assert store.begin(made.build)
    clock.now += 60
    store.settle()
    assert reason(store, made.template, made.build) == "building"


def test_each_process_holds_its_own_builds_to_its_limits(tmp_path: Path, clock: Clock) -> None:
    with (
        closing(Store(tmp_path, now=clock)) as patient,
        closing(Store(tmp_path, now=clock, limits=Limits(build=5.0, waiting=600.0))) as hasty,
    ):
        theirs, ours = register(patient, "theirs"), register(hasty, "ours")
        waiting = register(patient, "waiting")
        patient.trigger(theirs.template, theirs.build)
        hasty.trigger(ours.template, ours.build)
        assert patient.begin(theirs.build)
        assert hasty.begin(ours.build)
        clock.now += 6
        hasty.settle()
        assert reason(hasty, theirs.template, theirs.build) == "building"
        assert reason(hasty, ours.template, ours.build).endswith("Maximum build time is 5s.")
        assert reason(hasty, waiting.template, waiting.build) == "waiting"
        clock.now += 600
        hasty.settle()
        assert reason(hasty, waiting.template, waiting.build) == WAITED_TOO_LONG


def test_builds_of_a_store_that_was_closed_are_lost(tmp_path: Path) -> None:
    first = Store(tmp_path)
    made = register(first, "app")
    first.trigger(made.template, made.build)
    waiting = register(first, "app", "later")
    with closing(Store(tmp_path)) as second:
        assert not second.settle(), "the first one lives"
        assert reason(second, made.template, made.build) == "building"
        first.close()
        assert second.settle()
        assert reason(second, made.template, made.build) == stores.BUILDER_LOST
        assert reason(second, waiting.template, waiting.build) == "waiting"
        assert not second.settle()


def test_two_stores_on_one_directory_register_at_once(tmp_path: Path) -> None:
    both = [Store(tmp_path) for _ in range(2)]
    made: list[Registered] = []

    def work(each: Store) -> None:
        made.extend(register(each, f"app-{number}", "same") for number in range(20))

    threads = [threading.Thread(target=work, args=(each,)) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 40
    assert len({each.template for each in made}) == 20
    _, total, _ = both[0].templates(newest_first=True)
    assert total == 20
    for each in both:
        each.close()


# --- tags ------------------------------------------------------------------------------------


def test_a_tag_resolves_to_its_newest_ready_build(store: Store) -> None:
    first = finish(store, register(store, "app", "v1"))
    second = register(store, "app", "v1")
    assert store.resolve(names.parse("app:v1")).id == first.build
    assert [each.build for each in store.tags(first.template)] == [second.build]

    finish(store, second)

    assert store.resolve(names.parse("app:v1")).id == second.build


def test_a_tag_that_moves_back_resolves_to_the_older_build(store: Store) -> None:
    first = finish(store, register(store, "app"))
    second = finish(store, register(store, "app"))
    assert store.resolve(names.parse("app")).id == second.build
    build = store.build(first.template, first.build)
    assert build is not None

    store.assign(build, ["default"])

    assert store.resolve(names.parse("app")).id == first.build
    template = store.template("app")
    assert template is not None
    assert template.current is not None
    assert template.current.id == first.build


def test_a_build_id_in_the_place_of_a_tag_is_that_build(store: Store) -> None:
    first = finish(store, register(store, "app"))
    finish(store, register(store, "app"))
    waiting = register(store, "app", "x")
    stranger = finish(store, register(store, "else"))
    assert store.resolve(names.parse(f"app:{first.build}")).id == first.build
    for build in (waiting.build, stranger.build):
        with pytest.raises(Refusal, match=f"tag '{build}' does not exist for template 'app'"):
            store.resolve(names.parse(f"app:{build}"))


def test_a_template_is_found_by_its_id_and_in_its_namespace_alone(store: Store) -> None:
    made = finish(store, register(store, "app"))
    assert store.resolve(names.parse(made.template)).id == made.build
    assert store.resolve(names.parse("local/app")).id == made.build
    with pytest.raises(Refusal, match="template 'team/app' not found"):
        store.resolve(names.parse("team/app"))


def test_a_build_without_tags_is_detached(store: Store) -> None:
    made = finish(store, register(store, "app", "a", "b"))
    store.unassign(made.template, ["a", "never"])
    assert store.build(made.template, made.build) is not None
    store.unassign(made.template, ["b"])
    assert store.build(made.template, made.build) is None
    with pytest.raises(Refusal):
        store.resolve(names.parse(f"app:{made.build}"))


# --- templates -------------------------------------------------------------------------------


def v1(name: str | None, template: str | None = None) -> Registration:
    return Registration(
        flow="v1",
        name=names.parse(name) if name else None,
        tags=(),
        resources=Resources(),
        template=template,
    )


def test_v1_never_takes_a_name_for_the_template_it_stands_for(store: Store) -> None:
    made = store.register(v1("app"))
    with pytest.raises(Refusal, match="Alias 'app' already used") as caught:
        store.register(v1("app"))
    assert caught.value.status == 403
    assert store.register(v1("app", made.template)).template == made.template


def test_v1_without_a_name_makes_a_template_without_one(store: Store) -> None:
    made = store.register(v1(None))
    assert made.aliases == ()
    assert store.register(v1(None, made.template)).template == made.template


def test_a_rebuild_under_another_name_renames(store: Store) -> None:
    made = store.register(v1("old"))
    assert store.register(v1("new", made.template)).aliases == ("new",)
    assert store.template("old") is None
    other = store.register(v1("taken"))
    with pytest.raises(Refusal) as caught:
        store.register(v1("taken", made.template))
    assert caught.value.status == 403
    assert other.template != made.template


@pytest.mark.parametrize("flow", ["v1", "v2"])
def test_no_name_may_be_the_id_of_a_template(store: Store, flow: str) -> None:
    made = register(store, "app")
    request = v1(made.template)
    if flow == "v2":
        request = Registration(
            flow="v2", name=names.parse(made.template), tags=(), resources=Resources()
        )
    with pytest.raises(Refusal, match="is already used") as caught:
        store.register(request)
    assert caught.value.status == 409


def test_a_rebuild_of_what_is_not_there_is_404(store: Store) -> None:
    with pytest.raises(Refusal, match="Template 'nope' not found") as caught:
        store.register(v1(None, "nope"))
    assert caught.value.status == 404


def test_deleting_frees_the_name_and_keeps_the_id(store: Store) -> None:
    done = finish(store, register(store, "app"))
    running = register(store, "app", "x")
    store.trigger(running.template, running.build)

    assert store.delete(done.template) == [f"image:{done.build}"]

    assert store.template("app") is None
    assert store.template(done.template) is None
    assert not store.is_building(running.build)
    assert store.build(done.template, done.build) is None
    assert register(store, "app").template != done.template
    with pytest.raises(Refusal, match="has been deleted and cannot be rebuilt"):
        store.register(v1(None, done.template))
    with pytest.raises(Refusal, match="is already used"):
        register(store, done.template)


def test_deleting_takes_the_logs_of_that_template_alone(store: Store) -> None:
    going, staying = (finish(store, register(store, name)) for name in ("going", "staying"))
    for made in (going, staying):
        store.log(made.build, "hello", level="info", step=None)
    store.delete(going.template)
    assert store.entries(going.build, level="debug", offset=0, limit=9) == []
    assert len(store.entries(staying.build, level="debug", offset=0, limit=9)) == 1


def test_the_images_of_builds_without_tags_are_given_up_once(store: Store) -> None:
    old = finish(store, register(store, "app", "old"))
    kept = finish(store, register(store, "app", "old", "stable"))
    other = finish(store, register(store, "other", "old"))
    assert store.unassign(old.template, ["old"]) == [f"image:{old.build}"]
    assert store.unassign(old.template, ["old"]) == []
    assert store.resolve(names.parse("app:stable")).id == kept.build
    assert store.resolve(names.parse("other:old")).id == other.build
    assert store.delete(old.template) == [f"image:{kept.build}"]


def test_the_limit_does_not_count_what_gives_way(store: Store) -> None:
    request = Registration(flow="v2", name=names.parse("app"), tags=("a",), resources=Resources())
    store.register(request, limit=1)
    store.register(request, limit=1)
    with pytest.raises(Refusal, match=r"maximum number of concurrent template builds \(1\)") as no:
        store.register(
            Registration(flow="v2", name=names.parse("b"), tags=(), resources=Resources()), limit=1
        )
    assert no.value.status == 429
    assert store.template("b") is None, "a refused registration leaves nothing"


def test_templates_are_listed_by_pages(store: Store) -> None:
    made = [register(store, f"app-{number}").template for number in range(5)]
    first, total, place = store.templates(newest_first=True, limit=2)
    second, _, place = store.templates(newest_first=True, limit=2, before=place)
    third, _, end = store.templates(newest_first=True, limit=2, before=place)
    assert [each.id for each in (*first, *second, *third)] == made[::-1]
    assert (total, end) == (5, 0)
    oldest, _, _ = store.templates(newest_first=False)
    assert [each.id for each in oldest] == made
    skipped, _, _ = store.templates(newest_first=True, limit=2, offset=4)
    assert [each.id for each in skipped] == made[:1]


def test_builds_are_listed_by_pages(store: Store) -> None:
    made = [register(store, "app", str(number)) for number in range(3)]
    first, place = store.builds(made[0].template, limit=2, before=None)
    second, end = store.builds(made[0].template, limit=2, before=place)
    assert [each.id for each in (*first, *second)] == [each.build for each in made[::-1]]
    assert end == 0


def test_a_template_of_other_tags_has_no_current_build(store: Store) -> None:
    finish(store, register(store, "app", "stable"))
    found = store.template("app")
    assert found is not None
    assert (found.current, found.newest) == (None, None)


# --- logs ------------------------------------------------------------------------------------


def test_a_log_is_read_by_pages_after_its_level(store: Store) -> None:
    for number in range(6):
        store.log("b", str(number), level="info" if number % 2 else "debug", step=None)
    store.log("b", "bad", level="error", step="base")
    store.log("else", "no", level="error", step=None)

    def page(level: str, offset: int, limit: int) -> list[str]:
        entries = store.entries("b", level=level, offset=offset, limit=limit)  # type: ignore[arg-type]
        return [entry.message for entry in entries]

    assert page("debug", 0, 3) == ["0", "1", "2"]
    assert page("debug", 3, 100) == ["3", "4", "5", "bad"]
    assert page("info", 1, 2) == ["3", "5"]
    assert page("warn", 0, 100) == ["bad"]
    assert page("debug", 7, 100) == []
    assert store.entries("b", level="error", offset=0, limit=1)[0].step == "base"


def test_a_log_is_read_from_a_time_on_and_back(store: Store, clock: Clock) -> None:
    for number in range(4):
        clock.now += 1
        store.log("b", str(number), level="info", step=None)
    cursor = int((clock.now - 2) * 1000) + 1

    def page(cursor_ms: int | None, *, backward: bool) -> list[str]:
        entries = store.entries_at(
            "b", level="debug", limit=2, cursor_ms=cursor_ms, backward=backward
        )
        return [entry.message for entry in entries]

    assert page(None, backward=False) == ["0", "1"]
    assert page(cursor, backward=False) == ["2", "3"]
    assert page(None, backward=True) == ["3", "2"]
    assert page(cursor, backward=True) == ["1", "0"]


# --- the file --------------------------------------------------------------------------------


def test_everything_is_there_after_closing(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as first:
        made = finish(first, register(first, "app", "v1"))
        first.log(made.build, "hello", level="info", step=None)
    with closing(Store(tmp_path)) as second:
        assert second.resolve(names.parse("app:v1")).id == made.build
        assert len(second.entries(made.build, level="debug", offset=0, limit=9)) == 1


def test_data_of_an_older_version_keep_what_their_tags_resolve_to(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "templates.db", isolation_level=None)) as db:
        older = schema.CHANGES[:3]
        for statement in (each for change in older for each in change):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(older)}")
        db.execute("INSERT INTO template(id, created, updated) VALUES ('t', 1, 1)")
        db.execute("INSERT INTO alias VALUES ('app', 't')")
        for build, status in (("ok", "ready"), ("bad", "error")):
            db.execute(
                "INSERT INTO build(id, template, flow, status, cpu, memory, start, ready, created,"
                " updated) VALUES (?, 't', 'v2', ?, 1, 128, '', '', 1, 1)",
                (build, status),
            )
            db.execute(
                "INSERT INTO assignment(template, tag, build, created) VALUES ('t', 'v1', ?, 1)",
                (build,),
            )
    with closing(Store(tmp_path)) as found:
        assert found.resolve(names.parse("app:v1")).id == "ok"
        newer = finish(found, register(found, "app", "v1"))
        assert found.resolve(names.parse("app:v1")).id == newer.build


def test_a_template_is_found_as_fast_after_a_long_history(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        finish(store, register(store, "app"))
        short = _work(store, "app")
        for _ in range(300):  # each ends the one before
            register(store, "app")
        assert _work(store, "app") < 2 * short


def _work(store: Store, name: str) -> int:
    """Return how many tens of steps of its machine the database takes to find a template."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._db.connection.set_progress_handler(step, 10)
    store.template(name)
    store.resolve(names.parse(name))
    store._db.connection.set_progress_handler(None, 0)
    return steps


def test_data_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "templates.db")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SandboxfileError, match="written by a newer sandboxfile"):
        Store(tmp_path)


def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SandboxfileError, match="cannot keep its data") as caught:
        Store(tmp_path / "file")
    assert "XDG_DATA_HOME" in caught.value.hint


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "templates.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SandboxfileError, match="cannot keep its data"):
        Store(tmp_path)
    assert open_below(tmp_path) == []


def test_what_was_opened_is_closed_when_the_rest_fails(tmp_path: Path) -> None:
    (tmp_path / "running").touch()
    with pytest.raises(SandboxfileError, match="cannot keep its data"):
        Store(tmp_path)
    assert open_below(tmp_path) == []


def open_below(directory: Path) -> list[str]:
    """Return the files below a directory that this process has open."""
    opened = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of this very look
            opened.append(str(each.readlink()))
    return [path for path in opened if path.startswith(f"{directory}/")]


def test_what_a_process_has_begun_and_not_brought_to_an_end_is_told(store: Store) -> None:
    one, two, three = (register(store, name) for name in ("one", "two", "three"))
    finish(store, one)
    store.trigger(two.template, two.build)
    assert store.unfinished(store.presence.id) == [two.build]
    assert store.unfinished("somebody else") == []
    assert store.is_waiting(three.template)
