import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxfile import fresh, statcache
from sandboxfile.errors import SandboxfileError
from sandboxfile.statcache import SLACK_NS, Hashes, NoCache, Reader, StatCache, Told

Later = Callable[[], int]


def later() -> int:
    """A clock by which everything written just now is old enough to be trusted."""
    return time.time_ns() + 2 * SLACK_NS


def opened(root: Path, clock: Later = later) -> StatCache:
    return StatCache.open(root / "cache", root=root, clock=clock)


def digest(cache: StatCache | NoCache | Reader, path: Path) -> str:
    return cache.digest(os.fspath(path), path.lstat())


def listed(path: Path) -> "os.DirEntry[str]":
    """Return a path as it is found in its directory."""
    with os.scandir(path.parent) as found:
        return next(each for each in found if each.name == path.name)


def look(reader: Reader, path: Path) -> os.stat_result:
    return reader.within(os.fspath(path.parent))(listed(path))


def sha(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


def rewrite(path: Path, content: bytes) -> None:
    """Change the content only: same size, mtime and inode."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 511, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_a_digest_is_the_sha256_of_the_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    assert digest(NoCache(), tmp_path / "f") == sha(content)
    assert digest(opened(tmp_path), tmp_path / "f") == sha(content)
    assert digest(Reader(), tmp_path / "f") == sha(content)
    reader = Reader()
    look(reader, tmp_path / "f")
    assert digest(reader, tmp_path / "f") == sha(content)


def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for name in ("nowhere", "link"):
        with pytest.raises(OSError, match=name):
            statcache.read(os.fspath(tmp_path / name))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(SandboxfileError, match="changed while being read"):
            statcache.read(os.fspath(path))


def test_a_file_that_never_holds_still_is_an_error() -> None:
    """A file of the kernel has more in it than its size says, however often it is read."""
    with pytest.raises(SandboxfileError, match="`/proc/self/status` changed while") as caught:
        statcache.read("/proc/self/status")
    assert caught.value.hint == "run again when nothing writes to it"


@pytest.mark.parametrize("size", [10, 3 << 20])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_size_that_is_not_the_contents_gives_no_digest(
    tmp_path: Path, size: int, wrong: int
) -> None:
    (tmp_path / "f").write_bytes(bytes(size))
    with (tmp_path / "f").open("rb") as file:
        assert statcache._hash(file.fileno(), size + wrong) is None
        file.seek(0)
        assert statcache._hash(file.fileno(), size) == sha256(bytes(size)).digest()


def test_a_digest_is_always_of_one_state_of_the_file(tmp_path: Path) -> None:
    """A file replaced all the time by other whole files is read as one of them, never as a mix."""
    path = tmp_path / "f"
    contents = [bytes([65 + n]) * (3000 + n) for n in range(5)]
    path.write_bytes(contents[0])
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for content in contents:
                (tmp_path / "new").write_bytes(content)
                (tmp_path / "new").replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    refused = 0
    try:
        for _ in range(300):
            try:
                stat, found = statcache.read(os.fspath(path))
            except SandboxfileError:  # three times replaced while it was open
                refused += 1
            else:
                assert found == sha256(contents[stat.st_size - 3000]).digest()
    finally:
        stop.set()
        thread.join()
    assert refused < 150


# --- remembering -----------------------------------------------------------------------------


def test_a_file_whose_stat_is_the_same_is_not_read_again(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save()
    stat = file.lstat()
    file.unlink()
    assert opened(tmp_path).digest(os.fspath(file), stat) == sha(b"one")


def test_content_changed_under_the_same_size_and_mtime_is_seen(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save()
    rewrite(file, b"two")
    assert digest(opened(tmp_path), file) == sha(b"two")
    assert digest(cache, file) == sha(b"two")


def test_another_file_of_the_same_size_and_times_is_seen(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    stat = file.lstat()
    cache.digest(os.fspath(file), stat)
    cache.save()
    times = {"st_mtime_ns": stat.st_mtime_ns, "st_ctime_ns": stat.st_ctime_ns}
    other = os.stat_result((stat.st_mode, stat.st_ino + 1, *stat[2:]), times)
    file.write_bytes(b"two")
    assert opened(tmp_path).digest(os.fspath(file), other) == sha(b"two")


@pytest.mark.parametrize(
    ("age_ns", "trusted"), [(0, False), (SLACK_NS // 2, False), (SLACK_NS * 2, True)]
)
def test_only_what_was_old_when_it_was_read_is_trusted_later(
    tmp_path: Path, file: Path, age_ns: int, *, trusted: bool
) -> None:
    """A rewrite within one tick of a coarse clock leaves the stat as it was: simulate that."""
    cache = opened(tmp_path, lambda: time.time_ns() + age_ns)
    stat = file.lstat()
    cache.digest(os.fspath(file), stat)
    file.write_bytes(b"two")
    cache.save()
    found = opened(tmp_path).digest(os.fspath(file), stat)
    assert found == sha(b"one" if trusted else b"two")


def test_a_young_mtime_is_not_trusted_even_with_an_old_ctime(tmp_path: Path, file: Path) -> None:
    os.utime(file, ns=(0, later() + SLACK_NS))
    cache = opened(tmp_path)
    stat = file.lstat()
    cache.digest(os.fspath(file), stat)
    cache.save()
    file.write_bytes(b"two")
    assert opened(tmp_path).digest(os.fspath(file), stat) == sha(b"two")


def test_what_was_trusted_and_is_young_again_is_forgotten(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save()
    rewrite(file, b"two")
    again = opened(tmp_path, time.time_ns)
    young = file.lstat()
    digest(again, file)
    again.save()
    file.write_bytes(b"six")
    assert opened(tmp_path).digest(os.fspath(file), young) == sha(b"six")


def test_one_run_sees_a_file_as_of_one_moment(tmp_path: Path, file: Path) -> None:
    for cache in (opened(tmp_path, time.time_ns), NoCache(), Reader()):
        file.write_bytes(b"one")
        stat = file.lstat()
        assert cache.digest(os.fspath(file), stat) == sha(b"one")
        file.write_bytes(b"two")
        assert cache.digest(os.fspath(file), stat) == sha(b"one")
        assert digest(cache, file) == sha(b"two")


def test_names_are_relative_to_the_workspace(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path = tmp_path / "a/file"
    path.write_bytes(b"one")
    cache = opened(tmp_path / "a")
    digest(cache, path)
    cache.save()
    stat = path.lstat()
    (tmp_path / "a").rename(tmp_path / "c")
    moved = opened(tmp_path / "c")
    (tmp_path / "c/file").unlink()
    assert moved.digest(os.fspath(tmp_path / "c/file"), stat) == sha(b"one")


def test_any_name_can_be_kept(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a b", "é", "new\nline", os.fsdecode(b"\xff"))]
    cache = opened(tmp_path)
    for path in paths:
        path.write_text(path.name, errors="surrogateescape")
        digest(cache, path)
    cache.save()
    stats = {path: path.lstat() for path in paths}
    again = opened(tmp_path)
    for path in paths:
        path.unlink()
        content = path.name.encode(errors="surrogateescape")
        assert again.digest(os.fspath(path), stats[path]) == sha(content)


# --- saving ----------------------------------------------------------------------------------


def kept(root: Path) -> set[str]:
    return set(opened(root)._kept or ())


def test_files_not_seen_are_dropped_only_when_the_run_saw_everything(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    cache = opened(tmp_path)
    digest(cache, tmp_path / "a")
    digest(cache, tmp_path / "b")
    cache.save()
    second = opened(tmp_path)
    digest(second, tmp_path / "b")
    second.save()
    assert kept(tmp_path) == {"a", "b"}
    second.save(whole=True)
    assert kept(tmp_path) == {"b"}


def test_an_unchanged_cache_is_not_written_again(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save(whole=True)
    before = (tmp_path / "cache").stat()
    again = opened(tmp_path)
    digest(again, file)
    again.save(whole=True)
    assert (tmp_path / "cache").stat() == before


def test_it_is_known_whether_every_file_was_read(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    first = opened(tmp_path)
    assert not first.is_whole, "there is none"
    digest(first, tmp_path / "a")
    first.save()
    second = opened(tmp_path)
    assert not second.is_whole
    for name in "ab":
        digest(second, tmp_path / name)
    second.save(whole=True)
    third = opened(tmp_path)
    assert third.is_whole
    (tmp_path / "a").write_text("more")
    digest(third, tmp_path / "a")
    third.save()
    assert opened(tmp_path).is_whole, "who knew all and has read what changed knows all"
    assert StatCache.open(tmp_path / "cache", root=tmp_path, sparing=True).is_whole


def test_the_same_content_is_the_same_cache_byte_for_byte(tmp_path: Path) -> None:
    written = []
    for names in (["a", "b"], ["b", "a"]):
        cache = StatCache.open(tmp_path / f"cache-{names[0]}", root=tmp_path, clock=later)
        for name in names:
            if not (tmp_path / name).exists():
                (tmp_path / name).write_text(name)
            digest(cache, tmp_path / name)
        cache.save()
        written.append((tmp_path / f"cache-{names[0]}").read_bytes())
    assert written[0] == written[1]


def test_the_directory_of_the_cache_is_made(tmp_path: Path, file: Path) -> None:
    cache = StatCache.open(tmp_path / "state/deep/cache", root=tmp_path, clock=later)
    digest(cache, file)
    cache.save()
    assert [path.name for path in (tmp_path / "state/deep").iterdir()] == ["cache"]


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, file: Path) -> None:
    (tmp_path / "cache").mkdir()
    cache = opened(tmp_path)
    assert digest(cache, file) == sha(b"one")
    cache.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file"]


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda data: data[:0],
    lambda data: data[:20],
    lambda data: data[:-1],
    lambda data: data + b"x",
    lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    lambda data: b"sfstat9\n" + data[8:],
    lambda data: data[8:] + b"{}" * 100,
    lambda data: data[:12] + b"\2" + data[13:],
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_an_empty_one(
    tmp_path: Path, file: Path, damage: Callable[[bytes], bytes]
) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save()
    whole = (tmp_path / "cache").read_bytes()
    (tmp_path / "cache").write_bytes(damage(whole))
    again = opened(tmp_path)
    assert not again._kept
    assert digest(again, file) == sha(b"one")
    again.save()
    assert (tmp_path / "cache").read_bytes() == whole


def test_an_empty_cache_can_be_saved(tmp_path: Path, file: Path) -> None:
    cache = opened(tmp_path)
    digest(cache, file)
    cache.save()
    opened(tmp_path).save(whole=True)
    assert (tmp_path / "cache").stat().st_size > 0
    assert kept(tmp_path) == set()


def test_threads_may_share_a_cache(tmp_path: Path) -> None:
    paths = [tmp_path / f"f{number}" for number in range(200)]
    for path in paths:
        path.write_text(path.name)
    cache = opened(tmp_path)
    wrong: list[Path] = []

    def work() -> None:
        for path in paths:
            if digest(cache, path) != sha(path.name.encode()):
                wrong.append(path)
            cache.save()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert kept(tmp_path) == {path.name for path in paths}


def test_a_fifo_in_place_of_the_cache_is_not_waited_for(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "cache")
    assert digest(StatCache.open(tmp_path / "cache", root=tmp_path), file) == sha(file.read_bytes())


# --- with help -------------------------------------------------------------------------------


class Helping:
    """Another process that has read files, and says so once."""

    def __init__(self, root: Path, *paths: Path, clock: Later = later) -> None:
        other = StatCache.open(root / "none", root=root, clock=clock)
        other.noted()
        for path in paths:
            digest(other, path)
        self.told = [other.noted()]
        assert other.noted() == Hashes({}, {}), "what is read is told once"
        self.is_ended = False

    def hashes(self) -> Iterator[Told]:
        while self.told:
            yield partial(Hashes, *self.told.pop())

    def close(self) -> None:
        self.is_ended = True


@pytest.mark.parametrize(("clock", "is_kept"), [(later, True), (time.time_ns, False)])
def test_what_another_process_has_read_counts_as_read_here(
    tmp_path: Path, file: Path, clock: Later, *, is_kept: bool
) -> None:
    other = Helping(tmp_path, file, clock=clock)
    cache = StatCache.open(tmp_path / "cache", root=tmp_path, helper=other)
    stat = file.lstat()
    file.unlink()

    assert cache.digest(os.fspath(file), stat) == sha(b"one")
    assert cache.digest(os.fspath(file), stat) == sha(b"one"), "it is told once"
    assert cache.count == 0
    cache.save()
    assert (tmp_path / "cache").exists() is is_kept, "if it was old when it was read"


def test_another_process_is_asked_again_after_some_files(tmp_path: Path) -> None:
    """Who is asked at every file takes as long for that as to read it."""
    files = [tmp_path / str(number) for number in range(2 * statcache._SELDOM + 1)]
    for file in files:
        file.write_text(file.name)
    other = Helping(tmp_path)
    cache = StatCache.open(tmp_path / "cache", root=tmp_path, helper=other)
    digest(cache, files[0])
    other.told = Helping(tmp_path, *files[1:]).told
    for file in files[1:]:
        digest(cache, file)
    assert other.told == []
    assert cache.count == statcache._SELDOM


def test_a_file_that_changed_since_it_was_read_elsewhere_is_read_here(
    tmp_path: Path, file: Path
) -> None:
    cache = StatCache.open(tmp_path / "cache", root=tmp_path, helper=Helping(tmp_path, file))
    rewrite(file, b"two")

    assert digest(cache, file) == sha(b"two")
    assert cache.count == 1


def test_what_was_read_here_stands_whatever_another_process_says(
    tmp_path: Path, file: Path
) -> None:
    cache = opened(tmp_path)
    first = digest(cache, file)
    record = next(iter(Helping(tmp_path, file).told[0].old.values()))
    cache.learn(lambda: Hashes({}, {"file": record[:-32] + bytes(32)}))

    assert digest(cache, file) == first


def test_who_reads_alone_from_some_time_on_keeps_what_was_learned(
    tmp_path: Path, file: Path
) -> None:
    (tmp_path / "second").write_text("2")
    other = Helping(tmp_path, file, tmp_path / "second")
    cache = StatCache.open(tmp_path / "cache", root=tmp_path, helper=other)
    digest(cache, file)
    stat = (tmp_path / "second").lstat()
    (tmp_path / "second").unlink()

    cache.alone()
    cache.alone()

    assert other.is_ended
    assert cache.digest(os.fspath(tmp_path / "second"), stat) == sha(b"2")


# --- asked about little of a large workspace ---------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    """Make files of several sizes that the cache knows wrongly, so that its use is seen."""
    files = {name: tmp_path / name for name in ("small", "large")}
    for name, path in files.items():
        path.write_bytes(bytes(1 if name == "small" else statcache._SMALL + 1))
    wrong = {name: statcache.signature(path.lstat()) + bytes(32) for name, path in files.items()}
    statcache._store(tmp_path / "cache", wrong, is_whole=False)
    return files


def sparing(root: Path) -> StatCache:
    return StatCache.open(root / "cache", root=root, clock=later, sparing=True)


def test_who_is_sparing_reads_small_files_and_leaves_the_cache_as_it_is(
    tmp_path: Path, written: dict[str, Path]
) -> None:
    before = (tmp_path / "cache").read_bytes()
    cache = sparing(tmp_path)
    assert [digest(cache, written["small"]) for _ in range(2)] == [sha(b"\0")] * 2
    assert cache.count == 1, "once in a run"
    cache.save()
    assert (tmp_path / "cache").read_bytes() == before
    assert digest(opened(tmp_path), written["small"]) == "00" * 32


def test_a_large_file_is_looked_up_and_then_all_is(
    tmp_path: Path, written: dict[str, Path]
) -> None:
    cache = sparing(tmp_path)
    assert digest(cache, written["large"]) == "00" * 32
    assert digest(cache, written["small"]) == "00" * 32
    assert cache.count == 0


def test_who_asks_about_many_files_is_not_sparing_any_more(
    tmp_path: Path, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statcache, "_FEW", 1)
    cache = sparing(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(b"new")
    assert digest(cache, other) == sha(b"new")
    assert digest(cache, written["small"]) == "00" * 32
    cache.save()
    kept = opened(tmp_path)
    assert (digest(kept, other), kept.count) == (sha(b"new"), 0), "and what it read is kept"
    assert digest(kept, written["large"]) == "00" * 32


def test_who_has_seen_all_files_keeps_these_alone(tmp_path: Path, written: dict[str, Path]) -> None:
    cache = sparing(tmp_path)
    digest(cache, written["small"])
    cache.save(whole=True)
    kept = opened(tmp_path)
    digest(kept, written["small"])
    digest(kept, written["large"])
    assert kept.count == 1


def test_a_file_that_changed_before_it_was_read_is_noted_for_this_run_alone(
    tmp_path: Path, file: Path
) -> None:
    before = file.lstat()
    file.write_bytes(b"other")
    cache = opened(tmp_path)
    cache.noted()
    assert cache.digest(os.fspath(file), before) == sha(b"other")
    old, young = cache.noted()
    assert (old, list(young)) == ({}, ["file"])


# --- read as it is looked at -------------------------------------------------------------------


def test_a_file_is_read_when_it_is_looked_at(file: Path) -> None:
    reader, stat = Reader(), file.lstat()
    assert statcache.signature(look(reader, file)) == statcache.signature(stat)
    file.unlink()
    assert reader.digest(os.fspath(file), stat) == sha(b"one")


def test_who_looks_again_sees_what_has_changed(file: Path) -> None:
    reader = Reader()
    first = look(reader, file)
    rewrite(file, b"two")
    second = look(reader, file)

    assert reader.digest(os.fspath(file), second) == sha(b"two")
    with pytest.raises(SandboxfileError, match="changed while being read"):
        reader.digest(os.fspath(file), first)


def test_what_was_read_is_kept_in_one_piece(tmp_path: Path, file: Path) -> None:
    """Taken apart once, where somebody looks there again; what has changed is read again."""
    reader, asked = Reader(), []

    def files() -> Iterator[statcache.Read]:
        asked.append("files")
        yield os.fspath(file), fresh.mark(stat), sha256(b"one").digest()

    stat = look(reader, file)
    assert reader.digest(os.fspath(file), stat) == sha(b"one")
    reader.keep([os.fspath(tmp_path)], files)
    rewrite(file, b"two")
    assert asked == []

    again = look(reader, file)
    assert reader.digest(os.fspath(file), stat) == sha(b"one")
    assert reader.digest(os.fspath(file), again) == sha(b"two")
    look(reader, file)
    assert asked == ["files"]


def test_who_has_read_nothing_has_nothing_to_keep(tmp_path: Path, file: Path) -> None:
    reader = Reader()
    reader.keep([os.fspath(tmp_path)], lambda: pytest.fail("nobody looks"))
    look(reader, file)


def _link(path: Path) -> None:
    path.symlink_to("other")


@pytest.mark.parametrize("instead", [_link, os.mkfifo, Path.mkdir])
def test_what_took_the_place_of_a_file_is_looked_at_but_neither_followed_nor_waited_for(
    tmp_path: Path, file: Path, instead: Callable[[Path], None]
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    found = listed(file)
    file.unlink()
    instead(file)

    assert Reader().within(os.fspath(tmp_path))(found) == file.lstat()
    assert look(Reader(), file) == file.lstat()


def test_a_file_that_is_gone_when_it_is_looked_at_is_an_os_error(file: Path) -> None:
    found = listed(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        Reader().within(os.fspath(file.parent))(found)


def test_a_file_that_may_not_be_read_is_looked_at_and_then_is_an_os_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(flags, path)

    reader = Reader()
    monkeypatch.setattr(os, "open", refuse)
    stat = look(reader, file)
    assert stat == file.lstat()
    with pytest.raises(PermissionError):
        reader.digest(os.fspath(file), stat)


def test_a_file_that_does_not_hold_still_is_looked_at_and_has_no_hash() -> None:
    reader = Reader()
    stat = look(reader, Path("/proc/self/status"))
    with pytest.raises(SandboxfileError, match="changed while being read"):
        reader.digest("/proc/self/status", stat)


@pytest.mark.parametrize(("clock", "is_kept"), [(later, True), (time.time_ns, False)])
def test_hashes_of_marks_are_those_of_their_files(
    tmp_path: Path, file: Path, clock: Later, *, is_kept: bool
) -> None:
    cache = opened(tmp_path, clock)
    cache.noted()
    digest(cache, file)
    read = "file", fresh.mark(file.lstat()), sha256(b"one").digest()

    found = statcache.hashes([read], clock())

    assert found == cache.noted()
    assert list(found.old) == ["file"] * is_kept


def test_of_several_hashes_only_those_of_old_files_are_for_later() -> None:
    times = {"old": (1, 2), "touched": (9, 2), "moved": (1, 9)}
    marks = {name: fresh.MARK.pack(*each, 0, 0, 0o100644) for name, each in times.items()}
    read = [(name, mark, name.encode()) for name, mark in marks.items()]

    found = statcache.hashes(read, 5 + SLACK_NS)

    assert found.old == {"old": marks["old"][:32] + b"old"}
    assert found.young == {name: marks[name][:32] + name.encode() for name in ("touched", "moved")}
