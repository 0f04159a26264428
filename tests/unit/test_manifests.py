import json
import os
from pathlib import Path

import pytest

from sandboxfile.contents import FileRecord, Manifest
from sandboxfile.manifests import Change, Manifests

KEY = "sf1:" + "ab" * 32


def manifest(*rows: tuple[str, str, bool]) -> Manifest:
    return Manifest(
        files=tuple(
            FileRecord(name, "file", executable=executable, content=content, source=f"app/{name}")
            for name, content, executable in rows
        )
    )


BEFORE = manifest(
    ("same", "1", False), ("text", "1", False), ("mode", "1", False), ("old", "1", True)
)
AFTER = manifest(("same", "1", False), ("text", "2", True), ("mode", "1", True), ("new", "1", True))


def changes(store: Manifests, now: Manifest, key: str = KEY) -> list[tuple[str, str, str]]:
    found = store.changes("prod.agent", key, {"files": [now]})
    return [(change.part, change.path, change.what) for change in found or ()]


def test_what_changed_is_named_by_where_it_lies(tmp_path: Path) -> None:
    Manifests(tmp_path / "state").remember("prod.agent", KEY, {"files": [BEFORE]})
    store = Manifests(tmp_path / "state")
    assert changes(store, AFTER) == [
        ("files", "app/mode", "mode"),
        ("files", "app/new", "added"),
        ("files", "app/old", "removed"),
        ("files", "app/text", "changed"),
    ]
    assert changes(store, BEFORE) == []


def test_the_key_of_what_is_remembered_is_known(tmp_path: Path) -> None:
    store = Manifests(tmp_path)
    assert store.key("x") is None
    store.remember("x", KEY, {})
    assert store.key("x") == KEY
    store.remember("x", "sf1:" + "cd" * 32, {})
    assert store.key("x") == "sf1:" + "cd" * 32
    (tmp_path / "x.json").write_text("{}")
    assert store.key("x") is None


def test_parts_come_and_go(tmp_path: Path) -> None:
    store = Manifests(tmp_path)
    one = manifest(("a", "1", False))
    store.remember("x", KEY, {"packages": [one]})
    assert store.changes("x", KEY, {"files": [one, one]}) == (
        Change(part="files", path="app/a", what="added"),
        Change(part="packages", path="app/a", what="removed"),
    )


def test_a_link_is_told_from_a_file_of_the_same_text(tmp_path: Path) -> None:
    store = Manifests(tmp_path)
    file = FileRecord("a", "file", content="b", source="a")
    store.remember("x", KEY, {"files": [Manifest(files=(file,))]})
    now = {"files": [Manifest(files=(file._replace(kind="link"),))]}
    assert [change.what for change in store.changes("x", KEY, now) or ()] == ["changed"]


def test_any_name_can_be_kept(tmp_path: Path) -> None:
    store = Manifests(tmp_path)
    name = os.fsdecode(b"\xff\n\xc3\xa9")
    store.remember("x", KEY, {"files": [manifest((name, "1", False))]})
    assert [change.path for change in store.changes("x", KEY, {}) or ()] == [f"app/{name}"]


def test_another_build_or_template_answers_nothing(tmp_path: Path) -> None:
    store = Manifests(tmp_path)
    store.remember("prod.agent", KEY, {"files": [BEFORE]})
    assert store.changes("prod.agent", "sf1:other", {"files": [AFTER]}) is None
    assert store.changes("prod.other", KEY, {"files": [AFTER]}) is None


def test_the_last_build_is_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = Manifests(tmp_path / "state")
    store.remember("prod.agent", "sf1:old", {"files": [BEFORE]})
    store.remember("prod.agent", KEY, {"files": [AFTER]})
    assert changes(store, AFTER) == []
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["prod.agent.json"]


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        "7",
        json.dumps({"version": 2, "image_key": KEY, "parts": {}}),
        json.dumps({"version": 1, "image_key": KEY}),
        json.dumps({"version": 1, "image_key": KEY, "parts": []}),
        json.dumps({"version": 1, "image_key": KEY, "parts": {"files": {"a": ["file"]}}}),
        json.dumps({"version": 1, "image_key": KEY, "parts": {"files": {"a": 1}}}),
    ],
)
def test_a_damaged_record_answers_nothing(tmp_path: Path, record: str) -> None:
    (tmp_path / "prod.agent.json").write_text(record)
    assert changes(Manifests(tmp_path), AFTER) == []


def test_a_record_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in its place")
    store = Manifests(tmp_path / "state")
    store.remember("prod.agent", KEY, {"files": [BEFORE]})
    assert changes(store, AFTER) == []


def test_a_fifo_in_place_of_a_record_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "prod.agent.json")
    assert changes(Manifests(tmp_path), AFTER) == []
