"""The lock is written the same for the same content, read strictly, and never torn."""

import errno
import fcntl
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sandboxfile import lockcheck, lockfile, model
from sandboxfile.config import parser
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.lockfile import HEADER, Entry, Lock, parse, read, render, replace, update, write

GOLDEN = Path(__file__).parents[1] / "golden/lock"
SCHEMA = Path(__file__).parents[2] / "schemas/lock-1.schema.json"
ERRORS = sorted((GOLDEN / "errors").glob("*.yaml"))
LINKED = (
    "the lock is a symbolic link, which could lead anywhere\n"
    "hint: replace the link by the file it points to"
)
KEY = "sf1:" + "9f86d081" * 8


def entry(template_id: str = "t1", **values: object) -> Entry:
    defaults: dict[str, object] = {"build_id": "b1", "image_key": KEY, "template_key": KEY}
    return Entry(template_id=template_id, **{**defaults, **values})  # type: ignore[arg-type]


def lock_of(**templates: Entry) -> Lock:
    return Lock(targets={"prod": templates})


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def pattern(regex: re.Pattern[str]) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(regex.pattern, regex.flags), fullmatch=True, alphabet=None)


def split(path: Path) -> tuple[str, str]:
    text, _, expected = path.read_text().partition("# --- expect\n")
    return text, expected


# --- writing ---------------------------------------------------------------------------------


def test_the_golden_lock_is_written_as_it_was_read() -> None:
    text = (GOLDEN / "full.lock").read_text()
    assert render(parse(text, "novita.lock")) == text


def test_order_of_discovery_does_not_show() -> None:
    one = Lock(
        resolved={"b x": "sha256:" + "0" * 64, "a x": "sha256:" + "1" * 64},
        targets={"z": {"b": entry(), "a": entry(tags=("y", "x"))}, "a": {}},
    )
    two = Lock(
        resolved=dict(reversed(list(one.resolved.items()))),
        targets={"a": {}, "z": {"a": entry(tags=("x", "y")), "b": entry()}},
    )
    assert render(one) == render(two)


def test_an_empty_lock_has_a_version_and_nothing_else() -> None:
    assert render(Lock()) == f"{HEADER}\nversion: 1\n"
    assert parse(render(Lock()), "novita.lock") == Lock()


TEXTS = st.one_of(
    pattern(model.TAG),
    st.sampled_from(["null", "~", "on", "1_0", "0o7", "1e5", "12:30:45", "2026-01-01", ".inf"]),
)


@settings(deadline=None, max_examples=50)
@given(TEXTS)
def test_every_text_comes_back_as_text_from_any_yaml_reader(tag: str) -> None:
    text = render(lock_of(api=entry(tags=(tag,))))
    assert yaml.safe_load(text)["targets"]["prod"]["api"]["tags"] == [tag]
    plain = parser.parse(text, "novita.lock").find(("targets", "prod", "api", "tags")).plain()
    assert plain == [tag]


KEYS = st.integers(0, 2**256 - 1).map(lambda number: f"sf1:{number:064x}")
ENTRIES = st.builds(
    Entry,
    template_id=pattern(lockcheck.ID),
    build_id=pattern(lockcheck.ID),
    image_key=KEYS,
    template_key=KEYS,
    image=st.one_of(st.just(""), pattern(lockcheck.IMAGE)),
    parts=st.dictionaries(
        pattern(lockcheck.PART_NAME),
        pattern(lockcheck.PART),
        max_size=3,
    ),
    parent=st.one_of(st.none(), pattern(model.NAME)),
    tags=st.one_of(
        st.none(),
        st.lists(TEXTS.filter(model.TAG.fullmatch), unique=True, max_size=3).map(
            lambda tags: tuple(sorted(tags))
        ),
    ),
)
NAMES = pattern(model.NAME)
LOCKS = st.builds(
    Lock,
    resolved=st.dictionaries(
        pattern(lockcheck.RESOLVED),
        KEYS.map(lambda key: "sha256:" + key[-64:]),
        max_size=2,
    ),
    targets=st.dictionaries(NAMES, st.dictionaries(NAMES, ENTRIES, max_size=2), max_size=2),
)


@settings(deadline=None, max_examples=50)
@given(LOCKS)
def test_both_ways_of_reading_give_back_what_was_written(lock: Lock) -> None:
    text = render(lock)
    assert parse(text, "novita.lock") == lock
    assert lockfile._careful(text, "novita.lock") == lock


def test_the_usual_form_is_read_without_a_yaml_parser() -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom sandboxfile import lockfile\n"
        f"lockfile.read(Path({str(GOLDEN / 'full.lock')!r}))\n"
        "assert not {'yaml', 'jsonschema'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ERRORS, ids=[path.stem for path in ERRORS])
def test_a_bad_lock_is_refused_with_place_and_remedy(path: Path) -> None:
    text, expected = split(path)
    with pytest.raises(ConfigError) as caught:
        parse(text, "novita.lock")
    assert f"{caught.value}\n" == expected


def is_valid(text: str) -> bool:
    schema = json.loads(SCHEMA.read_text())
    plain = parser.parse(text, "novita.lock").plain()
    return bool(Draft202012Validator(schema).is_valid(plain))


SYNTAX = {"syntax", "duplicate", "conflict"}


@pytest.mark.parametrize("path", [p for p in ERRORS if p.stem not in SYNTAX], ids=lambda p: p.stem)
def test_the_schema_refuses_what_we_refuse(path: Path) -> None:
    assert not is_valid(split(path)[0])


@settings(deadline=None, max_examples=50)
@given(LOCKS)
def test_the_schema_accepts_what_we_write(lock: Lock) -> None:
    assert is_valid(render(lock))


def test_the_schema_is_a_schema_and_shipped_as_published() -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    shipped = Path(lockfile.__file__).parent / "schemas/lock-1.schema.json"
    assert shipped.read_bytes() == SCHEMA.read_bytes()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.removeprefix(HEADER + "\n"),
        lambda text: text + "\n# a comment\n",
        lambda text: text.replace(
            "[production, stable]", "\n        - stable\n        - production"
        ),
        lambda text: text.replace("parent: python", "parent: 'python'"),
        lambda text: text.replace("version: 1", "version:   1"),
        lambda text: "\ufeff" + text,
        lambda text: re.sub(r"(?m)^( +)", r"\1\1", text),
    ],
    ids=["crlf", "no header", "comment", "block list", "quotes", "spaces", "bom", "indent"],
)
def test_the_same_content_in_another_form_is_the_same_lock(
    rewrite: Callable[[str], str], tmp_path: Path
) -> None:
    text = (GOLDEN / "full.lock").read_text()
    path = tmp_path / "novita.lock"
    path.write_bytes(rewrite(text).encode())
    assert path.read_bytes() != text.encode()
    assert read(path) == parse(text, "novita.lock")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n  prod:", "\n    prod:"),
        ("\n  prod:", "\n  local:"),
        ('"12345"', '"123\\x"'),
        ("parent: python", "parent python"),
    ],
)
def test_text_that_only_looks_usual_is_not_guessed_at(old: str, new: str) -> None:
    text = (GOLDEN / "full.lock").read_text().replace(old, new)
    with pytest.raises(ConfigError):
        parse(text, "novita.lock")


def test_a_missing_lock_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "novita.lock") == Lock()


RESTORE = "hint: remove `novita.lock`, or restore the file from version control"


def make_link(path: Path) -> None:
    (path.parent / "elsewhere").write_text(render(Lock()))
    path.symlink_to("elsewhere")


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(lockfile.MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            Path.mkdir,
            f"novita.lock:1:1: error: the lock is a directory, not a regular file\n{RESTORE}",
        ),
        (
            os.mkfifo,
            f"novita.lock:1:1: error: the lock is a special file, not a regular file\n{RESTORE}",
        ),
        (make_link, f"novita.lock:1:1: error: {LINKED}"),
        (make_large, "novita.lock:1:1: error: the lock is larger than 16 MiB"),
        (
            lambda path: path.write_bytes(b"version: 1\n\xff"),
            "novita.lock:2:1: error: this is not UTF-8 text",
        ),
    ],
    ids=["directory", "fifo", "link", "large", "bytes"],
)
def test_what_is_no_ordinary_text_file_is_refused(
    make: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("novita.lock"))
    with pytest.raises(ConfigError) as caught:
        read(Path("novita.lock"))
    assert str(caught.value) == message


def test_an_unreadable_lock_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "novita.lock"
    with pytest.raises(ConfigError, match="the lock cannot be read: not a directory"):
        read(path)


# --- changing --------------------------------------------------------------------------------


def test_entries_come_and_go() -> None:
    one, two = entry("one"), entry("two")
    lock = Lock().with_entry("prod", "a", one).with_entry("prod", "b", two)
    assert lock.entry("prod", "a") == one
    assert lock.entry("prod", "c") is None
    assert lock.entry("other", "a") is None


def test_resolved_inputs_are_added() -> None:
    lock = Lock().with_resolved({"a": "1"}).with_resolved({"b": "2"})
    assert lock.resolved == {"a": "1", "b": "2"}


def test_tags_are_kept_sorted_and_once() -> None:
    assert entry().with_tags(["b", "a", "b"]).tags == ("a", "b")


def test_tags_still_to_be_moved_are_not_the_same_as_none() -> None:
    assert "tags" not in render(lock_of(api=entry()))
    assert "tags: []\n" in render(lock_of(api=entry(tags=())))


def test_a_change_is_written_and_returned(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    lock = update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert read(path) == lock == lock_of(api=entry())
    assert names(tmp_path) == ["novita.lock"]


def written(path: Path) -> tuple[int, int, int]:
    """Return what another writing would change; reading may change the time of access."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def test_unchanged_content_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    update(path, lambda lock: lock)
    assert not path.exists()
    path.write_text("version: 1  # by hand\n")
    before = written(path)
    update(path, lambda lock: lock.with_resolved({}))
    assert written(path) == before


def test_a_lock_is_written_over_another_unless_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    path.write_text("version: 1  # by hand\n")
    write(path, lock_of(api=entry()))
    assert path.read_text() == render(lock_of(api=entry()))
    before = written(path)
    write(path, lock_of(api=entry()))
    assert written(path) == before


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_the_mode_of_the_file_is_kept(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    path.write_text(render(Lock()))
    path.chmod(mode)
    update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_linked_lock_is_not_written_through(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    make_link(path)
    before = (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(ConfigError, match="symbolic link"):
        update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_lock_we_cannot_read_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    path.write_text("version: 9\n")
    with pytest.raises(ConfigError, match="the lock has format 9"):
        update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert path.read_text() == "version: 9\n"


def test_what_a_killed_run_left_does_not_hinder(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    (tmp_path / ".novita.lock.new").write_text("half a lo")
    update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert names(tmp_path) == ["novita.lock"]


@pytest.mark.parametrize("call", ["fsync", "rename", "open"])
def test_a_failed_write_keeps_the_old_lock_and_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "novita.lock"
    old = update(path, lambda lock: lock.with_entry("prod", "api", entry("old")))
    real = getattr(os, call)

    def full(*args: object, **options: object) -> object:
        if call == "open" and args[0] != ".novita.lock.new":
            return real(*args, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SandboxfileError) as caught:
        update(path, lambda lock: lock.with_entry("prod", "api", entry("new")))
    assert caught.value.message.endswith("cannot be written: no space left on device")
    assert "not lost" in caught.value.hint
    monkeypatch.undo()
    assert read(path) == old
    assert names(tmp_path) == ["novita.lock"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SandboxfileError, match="cannot be written: no such file or directory"):
        update(tmp_path / "gone" / "novita.lock", lambda lock: lock)


def test_a_writer_waits_for_the_directory_and_then_says_so(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(SandboxfileError, match="another process has held the directory"):
            update(tmp_path / "novita.lock", lambda lock: lock, timeout_s=0.05)
    finally:
        os.close(handle)


def without_flock(code: int) -> Callable[[int, int], None]:
    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_a_file_system_that_knows_no_flock_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock(errno.ENOLCK))
    path = tmp_path / "novita.lock"
    update(path, lambda lock: lock.with_entry("prod", "api", entry()))
    assert read(path) == lock_of(api=entry())


def test_a_broken_flock_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock(errno.EIO))
    with pytest.raises(SandboxfileError, match="cannot be written"):
        update(tmp_path / "novita.lock", lambda lock: lock)


def test_threads_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"

    def add(number: int) -> None:
        update(path, lambda lock: lock.with_entry("prod", f"t{number}", entry(f"id{number}")))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {e.template_id for e in read(path).targets["prod"].values()} == {
        f"id{number}" for number in range(12)
    }


WRITER = """
import sys
from pathlib import Path
from sandboxfile.lockfile import Entry, update
key = "sf1:" + "0" * 64
for number in range(10):
    new = Entry(template_id="t", build_id="b", image_key=key, template_key=key)
    name = f"p{sys.argv[2]}-{number}"
    update(Path(sys.argv[1]), lambda lock: lock.with_entry("prod", name, new))
"""


def test_processes_lose_no_update_and_no_reader_sees_half(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], cwd=root)
        for number in range(3)
    ]
    while any(writer.poll() is None for writer in writers):
        read(path)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(read(path).targets["prod"]) == 30


def test_what_another_process_wrote_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "novita.lock"
    mine, other = Lock(targets={"prod": {"a": entry()}}), Lock(targets={"prod": {"b": entry()}})
    replace(path, mine, seen=None)
    seen = path.read_text()
    write(path, other)

    with pytest.raises(SandboxfileError, match="has been changed meanwhile"):
        replace(path, mine, seen=seen)

    assert read(path) == other


# --- tags that were moved by hand ------------------------------------------------------------


def test_moved_tags_are_written_and_read() -> None:
    moved = {"stable": "b-1", "default": "b-0"}
    made = entry(build_id="b-2", moved=moved, tags=())
    text = render(Lock(targets={"prod": {"api": made}}))

    assert "      moved: {default: b-0, stable: b-1}\n" in text
    assert parse(text, "novita.lock").targets["prod"]["api"] == made
    assert made.current == "b-0"
    assert entry(build_id="b-2").current == "b-2"
    with pytest.raises(ConfigError, match="a build ID is expected"):
        parse(text.replace("b-0", '"b 0"'), "novita.lock")
    with pytest.raises(ConfigError, match="`UP` is not a tag"):
        parse(text.replace("default: b", "UP: b"), "novita.lock")


@pytest.mark.parametrize(
    ("pin", "name"),
    [
        ("docker.io/library/python:3.12-slim linux/amd64", "python:3.12-slim"),
        ("docker.io/acme/app:1 linux/amd64", "acme/app:1"),
        ("engine:docker.io/library/mine:dev linux/amd64", "mine:dev"),
        ("127.0.0.1:5000/docker.io/x:1 linux/amd64", "127.0.0.1:5000/docker.io/x:1"),
        ("debian:bookworm 8170cc9d linux/amd64", "debian:bookworm"),
    ],
)
def test_a_base_is_called_as_people_write_it(pin: str, name: str) -> None:
    assert lockfile.base_name(pin) == name
