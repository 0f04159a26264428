"""Builds go on in line whatever happens to one of them."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from sandboxfile.local.assembly import Workshop
from sandboxfile.local.boot import Patience
from sandboxfile.local.builder import Builder
from sandboxfile.local.database import Unkept
from sandboxfile.local.records import Recipe, Registered
from sandboxfile.local.store import Store
from tests.unit.local.conftest import register, unreachable_engine

PLENTY = 1_000_000


def state(store: Store, made: Registered) -> str:
    build = store.build(made.template, made.build)
    assert build is not None
    return f"{build.status}: {build.reason.message if build.reason else ''}"


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_disk_ends_a_build_once_there_is_room_and_the_next_is_built(store: Store) -> None:
    workshop = Workshop(
        store=store,
        engine=unreachable_engine(),
        logins=lambda _: None,
        registry=None,
        patience=Patience(),
    )
    builder = Builder(workshop, parallel=1)
    first, second = register(store, "first"), register(store, "second")
    build = store.trigger(first.template, first.build)
    _fill(store, first.build)
    with pytest.raises(Unkept, match="database or disk is full"):
        store.log(first.build, "a line", level="info", step=None)

    builder.start(build, Recipe(image="base:1"))
    builder.start(store.trigger(second.template, second.build), Recipe(image="base:1"))
    wait_for(lambda: not builder._jobs)
    kept = store.build(first.template, first.build)
    assert kept is not None
    assert builder.outcome(kept).status == "error"
    store._db.connection.execute(f"PRAGMA max_page_count = {PLENTY}")
    builder.look()
    wait_for(lambda: all(state(store, each).startswith("error") for each in (first, second)))
    assert state(store, first).endswith("cannot keep its data: database or disk is full")

    third = register(store, "third")
    builder.start(store.trigger(third.template, third.build), Recipe(image="base:1"))
    wait_for(lambda: state(store, third).startswith("error"))
    assert "cannot be reached" in state(store, third)  # the engine, which nobody could ask before
    builder.stop()


def _fill(store: Store, build: str) -> None:
    """Leave no room in the store for another entry of that build."""
    pages = store._db.row("PRAGMA page_count")
    assert pages is not None
    store._db.connection.execute(f"PRAGMA max_page_count = {pages[0]}")
    with suppress(Unkept):
        while True:
            store.log(build, "", level="info", step=None)
