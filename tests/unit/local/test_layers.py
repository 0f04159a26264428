import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sandboxfile.local import schema
from sandboxfile.local.layers import Layers, chain
from sandboxfile.local.records import Layer, Setting, Step
from sandboxfile.local.store import Store
from tests.unit.local.conftest import Clock, finish, register

USER = Setting(user="user")
RUN = Step(type="RUN", args=("make",))
COPY = Step(type="COPY", args=("a", "/b", "", ""), files_hash="0" * 64)


def test_the_key_of_a_step_has_all_that_came_before_it() -> None:
    keys = chain("scope", "sha256:a", USER, "", (RUN, COPY))
    assert len(set(keys)) == 3
    assert chain("scope", "sha256:a", USER, "", (RUN,)) == keys[:2]

    others = [
        chain("other", "sha256:a", USER, "", (RUN, COPY)),
        chain("scope", "sha256:b", USER, "", (RUN, COPY)),
        chain("scope", "sha256:a", Setting(user="root"), "", (RUN, COPY)),
        chain("scope", "sha256:a", Setting(user="user", env={"A": "1"}), "", (RUN, COPY)),
        chain("scope", "sha256:a", USER, "echo", (RUN, COPY)),
        chain("scope", "sha256:a", USER, "", (Step(type="RUN", args=("make", "root")), COPY)),
    ]
    for each in others:
        assert each[-1] not in keys
    moved = Step(type="COPY", args=COPY.args, files_hash="1" * 64)
    assert chain("scope", "sha256:a", USER, "", (RUN, moved))[:2] == keys[:2]
    assert chain("scope", "sha256:a", USER, "", (RUN, moved))[2] != keys[2]


def test_force_is_in_no_key() -> None:
    forced = Step(type="RUN", args=("make",), force=True)
    assert chain("s", "i", USER, "", (forced,)) == chain("s", "i", USER, "", (RUN,))


def test_a_layer_is_remembered_with_its_setting(store: Store) -> None:
    setting = Setting(user="bob", workdir="/srv", env={"A": "ä"})
    layer = Layer(key="k1", image="sha256:1", setting=setting)
    store.layers.keep(layer)
    store.layers.keep(Layer(key="k2", image=None, setting=USER))

    assert store.layers.known(("k1", "k2", "k3")) == {
        "k1": layer,
        "k2": Layer(key="k2", image=None, setting=USER),
    }
    store.layers.keep(Layer(key="k1", image="sha256:2", setting=setting))
    assert store.layers.known(("k1",))["k1"].image == "sha256:2"
    store.layers.drop("k1")
    assert store.layers.known(("k1",)) == {}
    assert store.layers.known(()) == {}


def test_layers_that_are_old_or_too_many_are_spare(store: Store, clock: Clock) -> None:
    for key in ("a", "b", "c", "d"):
        store.layers.keep(Layer(key=key, image=None, setting=USER))
        clock.now += 10
    assert store.layers.spare(keep=9, unused_s=100) == []
    assert store.layers.spare(keep=2, unused_s=100) == ["a", "b"]
    assert store.layers.spare(keep=9, unused_s=25) == ["a", "b"]

    store.layers.use(("a",), "t")
    assert store.layers.spare(keep=2, unused_s=100) == ["b", "c"]


class Shallow:
    """An engine that has no image, and containers of one layer."""

    def depth(self, _image: str) -> int:
        return 1

    def find(self, _image: str) -> None:
        return None


class Killed:
    """A box whose process is killed while an image of it is made."""

    def commit(self, _tag: str, **_: object) -> str:
        raise KeyboardInterrupt


def test_an_image_that_a_kill_left_without_its_row_is_taken_away_one_day(
    store: Store, clock: Clock
) -> None:
    made = Layers(
        store=store,
        engine=cast("Any", Shallow()),
        template="t",
        keys=("base", "one"),
        steps=(Step(type="RUN", args=("true",)),),
        forced=2,
    )
    with pytest.raises(KeyboardInterrupt):
        made.keep(1, USER, cast("Any", Killed()), on="image")
    clock.now += 100
    assert store.layers.spare(keep=9, unused_s=50) == ["one"]
    again = replace(made, known={})
    assert again.resume(lambda _: pytest.fail("there is no image to go on from")) == (0, None)
    assert not again.is_cached(1, 0)


def test_a_template_takes_the_layers_with_it_that_no_other_needs(store: Store) -> None:
    one, two = finish(store, register(store, "one")), finish(store, register(store, "two"))
    for key in ("base", "mine", "yours"):
        store.layers.keep(Layer(key=key, image=None, setting=USER))
    store.layers.use(("base", "mine"), one.template)
    store.layers.use(("base", "yours"), two.template)

    assert store.layers.only_of(one.template) == ["mine"]
    store.delete(one.template)
    assert store.layers.only_of(one.template) == []
    assert sorted(store.layers.only_of(two.template)) == ["base", "yours"]


def test_each_store_has_a_scope_of_its_own_that_stays(tmp_path: Path) -> None:
    scopes = []
    for name in ("one", "two", "one"):
        opened = Store(tmp_path / name)
        scopes.append(opened.layers.scope)
        opened.close()
    assert scopes[0] == scopes[2] != scopes[1]


def test_data_of_the_first_version_are_brought_forward(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    made = finish(opened, register(opened, "app"))
    opened.close()
    with sqlite3.connect(tmp_path / "templates.db") as db:
        for table in ("layer", "layer_use", "scope"):
            db.execute(f"DROP TABLE {table}")
        for column in ("sandbox_user", "sandbox_workdir"):
            db.execute(f"ALTER TABLE build DROP COLUMN {column}")
        for trigger in ("build_is_ready", "assigned_to_ready"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("DROP INDEX assignment_ready")
        db.execute("ALTER TABLE assignment DROP COLUMN ready")
        db.execute("ALTER TABLE build DROP COLUMN begun")
        db.execute("DROP INDEX build_status")
        db.execute("CREATE INDEX build_active ON build(status)")
        db.execute("PRAGMA user_version = 1")
    db.close()

    again = Store(tmp_path)
    build = again.build(made.template, made.build)
    assert build is not None
    assert build.result is not None
    assert (build.result.user, again.layers.known(("x",))) == ("", {})
    again.close()


@pytest.mark.parametrize("version", range(len(schema.CHANGES)))
def test_no_change_of_the_schema_is_empty(version: int) -> None:
    assert schema.CHANGES[version]
