import io
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import archive
from sandboxfile.archive import Member, stream
from sandboxfile.contents import Selection
from sandboxfile.context import select, select_context
from sandboxfile.errors import SandboxfileError
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy, DockerfileBase
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache

AT = Position("novita.yaml", 1, 1)
LONG = "d/" * 60 + "f"


def packed(*members: Member) -> bytes:
    return b"".join(stream(members))


def listed(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as found:
        return found.getmembers()


def selection(root: Path, *sources: str, mode: str | None = None) -> Selection:
    return select(Copy(sources=sources, to="/app/", root=root, mode=mode, at=AT), Ground(root))


def on_disk(path: Path, content: bytes, name: str = "f") -> Member:
    path.write_bytes(content)
    digest = sha256(content).hexdigest()
    return Member(name, path=os.fspath(path), size=len(content), digest=digest)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "app/empty").mkdir(parents=True)
    (tmp_path / "app/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "app/run.sh").chmod(0o700)
    (tmp_path / "app/data").write_bytes(b"x" * 512)
    (tmp_path / "app/link").symlink_to("/usr/bin/python3")
    (tmp_path / "one.txt").write_text("")
    return tmp_path


# --- members ---------------------------------------------------------------------------------


def test_each_copy_has_a_directory_of_its_own(root: Path) -> None:
    selections = {1: selection(root, "one.txt"), 3: selection(root, "app")}
    data = packed(*archive.members("FROM é\n", selections, NoCache(), {}))
    assert [(each.name, oct(each.mode), each.type) for each in listed(data)] == [
        (".sandboxfile/Dockerfile", "0o644", b"0"),
        ("copy-1", "0o755", b"5"),
        ("copy-1/one.txt", "0o644", b"0"),
        ("copy-3", "0o755", b"5"),
        ("copy-3/data", "0o644", b"0"),
        ("copy-3/empty", "0o755", b"5"),
        ("copy-3/link", "0o777", b"2"),
        ("copy-3/run.sh", "0o755", b"0"),
    ]
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        text = found.extractfile(archive.DOCKERFILE)
        assert text is not None
        assert text.read().decode() == "FROM é\n"
        assert found.getmember("copy-3/link").linkname == "/usr/bin/python3"


def test_the_files_that_keep_the_environment_are_in_a_directory_of_their_own() -> None:
    kept = {"environment": b"A=1\n", "profile.d/a.sh": b"export A='1'\n"}
    data = packed(*archive.members("FROM x\n", {}, NoCache(), kept))
    assert [(each.name, oct(each.mode), each.size) for each in listed(data)] == [
        (".sandboxfile/Dockerfile", "0o644", 7),
        ("environment", "0o755", 0),
        ("environment/environment", "0o644", 4),
        ("environment/profile.d", "0o755", 0),
        ("environment/profile.d/a.sh", "0o644", 13),
    ]


@pytest.mark.parametrize(
    ("mode", "file", "directory"),
    [
        ("0644", 0o644, 0o755),
        ("600", 0o600, 0o700),
        ("4755", 0o4755, 0o755),
        ("0444", 0o444, 0o555),
    ],
)
def test_the_mode_of_a_copy_is_that_of_its_files(
    root: Path, mode: str, file: int, directory: int
) -> None:
    """Who may read the files may enter the directories."""
    members = archive.members("", {1: selection(root, "app", mode=mode)}, NoCache(), {})
    modes = {member.name: member.mode for member in members}
    assert (modes["copy-1/data"], modes["copy-1/run.sh"]) == (file, file)
    assert (modes["copy-1/empty"], modes["copy-1"]) == (directory, 0o755)


def test_the_users_context_is_sent_as_it_is_with_our_dockerfile(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM x\n")
    base = DockerfileBase(dockerfile=root / "Dockerfile", context=root, at=AT)
    found = select_context(base, Ground(root))
    members = archive.context_members("FROM x@sha256:0\n", found, NoCache())
    data = packed(*members)
    assert {each.name for each in listed(data)} == {
        "app", "app/data", "app/empty", "app/link", "app/run.sh", "one.txt", "Dockerfile",
        archive.DOCKERFILE,
    }  # fmt: skip
    assert b"FROM x@sha256:0\n" in data
    assert b"FROM x\n" in data


def test_no_file_of_a_context_can_take_the_name_of_our_dockerfile(root: Path) -> None:
    (root / ".sandboxfile").mkdir()
    (root / ".sandboxfile/Dockerfile").write_text("not the one")
    base = DockerfileBase(dockerfile=root / "Dockerfile", context=root, at=AT)
    members = archive.context_members("FROM x\n", select_context(base, Ground(root)), NoCache())
    assert [m.content for m in members if m.name == archive.DOCKERFILE] == [b"FROM x\n"]


# --- the format ------------------------------------------------------------------------------


def test_the_bytes_are_pinned(tmp_path: Path) -> None:
    members = [
        Member("dockerfile", content=b"FROM x\n"),
        Member("copy-1", "directory", 0o755),
        Member("copy-1/é\n", content=b"1" * 512),
        Member("copy-1/l", "link", 0o777, link="../" * 40),
        Member(f"copy-1/{LONG}", mode=0o755),
        on_disk(tmp_path / "f", b"two", "copy-1/two"),
    ]
    data = packed(*members)
    assert (
        sha256(data).hexdigest()
        == "2ce93eae0a022172099c730b748a18be46e6d6be1d347bd7aa9a6e9cf47adf66"
    )
    assert packed(*reversed(members)) == data


def test_gnu_tar_extracts_what_was_packed(root: Path, tmp_path: Path) -> None:
    raw = os.fsdecode(b"\xff\n" + b"q" * 120)
    (root / "app" / raw).write_text("raw")
    (root / "app" / ("é" * 60)).write_text("long")
    (root / "app" / "far").symlink_to("../" * 50 + "x")
    (root / "app" / LONG).parent.mkdir(parents=True)
    (root / "app" / LONG).write_text("deep")
    members = archive.members("FROM x\n", {1: selection(root, "app")}, NoCache(), {})
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "xpf", "-", "-C", out], input=packed(*members), check=True)
    subprocess.run(["diff", "-r", "--no-dereference", out / "copy-1", root / "app"], check=True)
    assert (out / "copy-1/run.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "copy-1/data").stat().st_mtime == 0


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1,
                    max_size=130),
            st.binary(max_size=1100),
        ),
        unique_by=lambda pair: pair[0],
        max_size=5,
    )
)  # fmt: skip
def test_any_names_and_contents_come_back(files: list[tuple[str, bytes]]) -> None:
    data = packed(*(Member(f"d/{name}", content=content) for name, content in files))
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        back = {each.name: _content(found, each) for each in found.getmembers()}
    assert back == {f"d/{name}": content for name, content in files}
    assert len(data) % 512 == 0


def _content(found: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = found.extractfile(member)
    assert file is not None
    return file.read()


def test_sizes_beyond_the_octal_field_are_extended() -> None:
    """Eight gibibytes and more do not fit; the header alone is looked at here."""
    size = 8**11
    header = archive._header(b"big", Member("big"), size)
    member = tarfile.TarInfo.frombuf(header[1024:1536], "utf-8", "strict")
    assert (len(header), member.size, member.name) == (1536, 0, "big")
    assert b"19 size=8589934592\n" in header
    assert len(archive._header(b"big", Member("big"), size - 1)) == 512


@pytest.mark.parametrize("length", [*range(84, 100), 980, 985, 990, 995, 9_980, 9_990])
def test_the_length_of_a_record_counts_its_own_digits(length: int) -> None:
    record = archive._attribute(b"path", b"x" * length)
    digits, _, rest = record.partition(b" ")
    assert int(digits) == len(record)
    assert rest == b"path=" + b"x" * length + b"\n"


def test_two_members_of_one_name_are_an_error() -> None:
    with pytest.raises(SandboxfileError, match=r"two files .* are called `a\\n`"):
        packed(Member("a\n"), Member("b"), Member("a\n"))


# --- the same everywhere ---------------------------------------------------------------------


def test_the_archive_does_not_depend_on_where_and_how_the_tree_was_made(tmp_path: Path) -> None:
    seen = []
    for number, umask in enumerate((0o022, 0o077)):
        root = tmp_path / f"checkout-{number}"
        before = os.umask(umask)
        try:
            for name in ("b/y", "a", "b/x")[:: 1 - 2 * number]:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
                os.utime(root / name, (number, number))
        finally:
            os.umask(before)
        if os.geteuid() == 0:
            os.chown(root / "a", 1000 + number, 1000)
        seen.append(packed(*archive.members("", {1: selection(root, ".")}, NoCache(), {})))
    assert seen[0] == seen[1]


# --- changed while being read ----------------------------------------------------------------


def _overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = (
    _overwrite, _grow, _cut, _empty, _remove, _make_directory, _make_link, _make_pipe,
)  # fmt: skip


@pytest.mark.parametrize("size", [5, (1 << 20) + 5])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_what_the_key_says_ends_the_archive(
    tmp_path: Path, size: int, change: Callable[[Path], None]
) -> None:
    member = on_disk(tmp_path / "f\n", b"1" * size)
    change(tmp_path / "f\n")
    if change is _grow and size > 1 << 20:
        # What is sent is what the key says; the rest came later and is the next run's.
        assert listed(packed(member))[0].size == size
        return
    with pytest.raises(SandboxfileError, match=r"f\\n` changed while being read") as caught:
        packed(member)
    assert caught.value.hint == "run again when nothing writes to it"


def test_a_file_changed_after_its_key_was_made_is_noticed(root: Path) -> None:
    digests = NoCache()
    found = selection(root, "app")
    before = archive.members("", {1: found}, digests, {})
    (root / "app/data").write_bytes(b"y" * 512)
    assert archive.members("", {1: found}, digests, {}) == before
    with pytest.raises(SandboxfileError, match="changed while being read"):
        packed(*before)


def test_nothing_stays_open_when_the_reader_gives_up(tmp_path: Path) -> None:
    member = on_disk(tmp_path / "f", bytes(5 << 20))
    before = len(list(Path("/proc/self/fd").iterdir()))
    chunks = stream([member])
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- size ------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    size = 64 << 20
    with path.open("wb") as file:
        file.truncate(size)
    digest = sha256(bytes(size)).hexdigest()
    tracemalloc.start()
    try:
        sent = _drained(stream([Member("f", path=os.fspath(path), size=size, digest=digest)]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent == size + 512 + 1024
    assert peak < 8 << 20


def _drained(chunks: Iterator[bytes]) -> int:
    return sum(len(chunk) for chunk in chunks)


def test_many_small_files_are_sent_in_few_chunks() -> None:
    chunks = list(stream([Member(f"f{number:05}", content=b"x") for number in range(5_000)]))
    assert 4 <= len(chunks) <= 6
