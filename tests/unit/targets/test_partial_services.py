"""Services that have not every call: used as far as they go, each gap told once in a run."""

import re
from collections.abc import Callable

import pytest

from sandboxfile.errors import Unsupported
from sandboxfile.targets import Snapshot
from tests.fakes.publishing import World, release
from tests.fakes.service import Build, FakeService

ALIAS, TAGS, LIST = r"/templates/aliases/[^/]+", r"/templates/[^/]+/tags", r"/templates"


def no_v3(service: FakeService, status: int) -> None:
    service.lack("POST", "/v3/templates", status)


def no_tags(service: FakeService, status: int) -> None:
    for method, path in (("GET", TAGS), ("POST", "/templates/tags"), ("DELETE", "/templates/tags")):
        service.lack(method, path, status)


def no_aliases(service: FakeService, status: int) -> None:
    service.lack("GET", ALIAS, status)


def no_names(service: FakeService, status: int) -> None:
    no_aliases(service, status)
    service.lack("GET", LIST, status)


def no_logs(service: FakeService, _status: int) -> None:
    service.has_logs = False


def box(service: FakeService, status: int) -> None:
    """NovitaBox: no tags, and the trigger is answered when the build is done."""
    no_tags(service, status)
    service.slow = "building"
    service.slow_s = 0.2


def stiff_box(service: FakeService, status: int) -> None:
    """One whose status does not move until the answer comes."""
    box(service, status)
    service.slow = "waiting"


def oldest(service: FakeService, status: int) -> None:
    no_v3(service, status)
    no_tags(service, status)
    no_names(service, status)
    no_logs(service, status)


MODES: dict[str, tuple[Callable[[FakeService, int], None], int, bool]] = {
    # the mode, how many gaps are told, whether another machine finds what was built
    "v2 only": (no_v3, 1, True),
    "no tags": (no_tags, 1, False),
    "no aliases": (no_aliases, 1, True),
    "no names": (no_names, 2, False),
    "no logs": (no_logs, 0, True),
    "box": (box, 1, False),
    "stiff box": (stiff_box, 1, False),
    "oldest": (oldest, 4, False),
}


def publish(world: World, *, detach: bool = False) -> Snapshot:
    """Do what a run does for two templates; what became of the first."""
    patience = world.clock.patience(answer=0.05, poll_most=0.05, poll_first=0.0, detach=detach)
    publisher = world.v3(patience=patience)
    emit, cancel = world.events.append, world.cancel
    results = []
    for name in ("api", "web"):
        what = release(name=name, tags=("stable",))
        image = f"{world.registry}/{name}@sha256:{'77' * 32}"
        found = publisher.find_snapshot(what)
        done = found or publisher.snapshot(what, image, emit=emit, cancel=cancel)
        kept = publisher.tag(what, done, remove=("old",), emit=emit, cancel=cancel)
        assert kept == ("stable",)
        results.append(done)
    return results[0]


def build_of(world: World, done: Snapshot) -> Build:
    return world.service.builds[done.build_id]


@pytest.mark.parametrize(("mode", "status"), [
    *((mode, 404) for mode in MODES), *(("oldest", status) for status in (405, 501)),
])  # fmt: skip
def test_a_partial_service_is_used_as_far_as_it_goes(world: World, mode: str, status: int) -> None:
    make, gaps, found_elsewhere = MODES[mode]
    make(world.service, status)

    done = publish(world)

    build = build_of(world, done)
    assert (build.state, build.triggers) == ("ready", 1)
    assert not world.service.harmful_triggers
    assert len(world.service.builds) == 2  # one for each template
    told = [text for text in world.notices if text.startswith("this service")]
    assert len(told) == gaps == len(set(told))
    lacking = [r for r in world.service.requests for method, path, _ in world.service.lacks
               if method == r.method and re.fullmatch(path, r.path)]  # fmt: skip
    assert len({(r.method, r.path) for r in lacking}) == len(lacking)  # nothing asked for twice

    world.path.unlink()  # another machine
    publish(world)
    assert (len(world.service.builds) == 2) == found_elsewhere


@pytest.mark.parametrize("mode", MODES)
def test_what_the_journal_has_is_found_whatever_the_service_lacks(world: World, mode: str) -> None:
    MODES[mode][0](world.service, 404)
    done = publish(world)
    assert publish(world) == done
    assert len(world.service.builds) == 2


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_of_the_legacy_line_is_named_as_that(world: World, status: int) -> None:
    no_v3(world.service, status)
    world.service.lack("POST", "/v2/templates", status)
    with pytest.raises(Unsupported, match="takes no builds by the current API") as caught:
        publish(world)
    assert "`api: v1`" in caught.value.hint


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_service_without_any_status_is_told_at_once(world: World, status: int) -> None:
    world.service.lack("GET", ".*/status", status)
    with pytest.raises(Unsupported, match="does not tell how builds are"):
        publish(world)
    assert len(world.service.builds) == 1


def test_a_box_is_followed_to_the_end_also_by_who_would_leave(world: World) -> None:
    box(world.service, 404)

    done = publish(world, detach=True)

    assert build_of(world, done).state == "ready"
    assert any("following it to its end" in text for text in world.notices)
