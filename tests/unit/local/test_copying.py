import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.local import copying
from sandboxfile.local.copying import Copy, Place, packed

HOME = Place(path="/home/user", there="/home/user", uid=1000, gid=1001)
Member = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]
Packed = dict[str, tuple[bytes, int, str]]


def made(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, to: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, to
    info.uid, info.gid, info.uname, info.gname = 501, 20, "me", "staff"
    if kind != tarfile.REGTYPE:
        return info
    info.size = len(name)
    return info, name.encode(errors="surrogateescape")


def folder(name: str, mode: int = 0o755) -> Member:
    return made(name, tarfile.DIRTYPE, mode=mode)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*members: Member, plain: bool = False) -> Path:
        path = tmp_path / "archive"
        with tarfile.open(path, "w" if plain else "w:gz", format=tarfile.PAX_FORMAT) as tar:
            for member in members:
                if isinstance(member, tuple):
                    tar.addfile(member[0], io.BytesIO(member[1]))
                else:
                    tar.addfile(member)
        return path

    return written


def read(archive: Path, copy: Copy, place: Place = HOME) -> Packed:
    """Return name, mode and content (or where a link goes) of all that a copy brings."""
    chunks = b"".join(packed(archive, copy, place))
    found: Packed = {}
    with tarfile.open(fileobj=io.BytesIO(chunks)) as tar:
        for member in tar:
            assert (member.uid, member.gid) == (place.uid, place.gid)
            assert (member.uname, member.gname) == ("", "")
            content = tar.extractfile(member) if member.isfile() else None
            kind = "d" if member.isdir() else "-" if member.isfile() else member.linkname
            found[member.name] = (content.read() if content else b"", member.mode, kind)
    return found


def copy(source: str, destination: str, owner: str = "", mode: str = "") -> Copy:
    return Copy.of((source, destination, owner, mode))


# --- arguments -------------------------------------------------------------------------------


def test_arguments_may_be_left_out_at_the_end() -> None:
    assert Copy.of(("a", "b")) == Copy(source="a", destination="b", owner="", mode=None)
    assert copy("a", "b/", "u:g", "0750").mode == 0o750


@pytest.mark.parametrize(
    ("owner", "mode"),
    [("a b", ""), ("$(id)", ""), ("u:", ""), ("", "9"), ("", "rwx"), ("", "07777")],
)
def test_owner_and_mode_are_checked(owner: str, mode: str) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        copy("a", "b", owner, mode)


# --- where things go -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "place", "name"),
    [
        ("/srv/x", Place(path="/srv/x", there="/srv", uid=1, gid=2), "x"),
        ("/srv/x/", Place(path="/srv/x", there="/srv", uid=1, gid=2), "x/a.txt"),
        ("/srv/x", Place(path="/srv/x", there="/srv/x", uid=1, gid=2), "a.txt"),
        ("/srv/p/q/x", Place(path="/srv/p/q/x", there="/srv", uid=1, gid=2), "p/q/x"),
    ],
)
@pytest.mark.parametrize("source", ["web/a.txt", "./web/a.txt", "web//a.txt", "x/../web/a.txt"])
def test_a_file_goes_inside_a_directory_or_gets_the_name(
    write: Write, source: str, destination: str, place: Place, name: str
) -> None:
    archive = write(folder("web"), made("web/a.txt", mode=0o600), made("web/other"))

    found = read(archive, copy(source, destination), place)

    assert found.pop(name) == (b"web/a.txt", 0o600, "-")
    assert all(kind == (b"", 0o755, "d") for kind in found.values())
    parts = name.split("/")[:-1]
    assert list(found) == ["/".join(parts[: n + 1]) for n in range(len(parts))]


@pytest.mark.parametrize("source", ["web", "web/", "./web", "web/*", "web/**/*.py", "web/[ab]*"])
def test_the_contents_of_a_directory_are_merged(write: Write, source: str) -> None:
    archive = write(
        folder("web", 0o700), folder("web/in", 0o711), made("web/in/a"), made("website"),
        made("web/l", tarfile.SYMTYPE, to="/any/where", mode=0o777),
    )  # fmt: skip

    assert read(archive, copy(source, "/home/user")) == {
        "in": (b"", 0o711, "d"),
        "in/a": (b"web/in/a", 0o644, "-"),
        "l": (b"", 0o777, "/any/where"),
    }


def test_a_copy_of_everything_has_names_relative_to_the_context(write: Write) -> None:
    archive = write(folder("."), made("./b"), folder("a"), made("a/c"))
    place = Place(path="/srv/app", there="/", uid=0, gid=0)

    everything = {"srv", "srv/app", "srv/app/b", "srv/app/a", "srv/app/a/c"}
    assert set(read(archive, copy(".", "/srv/app"), place)) == everything
    assert set(read(archive, copy("*", "/srv/app"), place)) == everything


def test_a_glob_in_the_first_part_of_a_path_is_one_of_the_context(write: Write) -> None:
    archive = write(made("package.json"), made("package-lock.json"))
    assert set(read(archive, copy("package*.json", "/home/user"))) == {
        "package.json",
        "package-lock.json",
    }


def test_a_name_with_the_characters_of_a_glob_is_taken_as_it_is_written(write: Write) -> None:
    archive = write(folder("app"), folder("app/[id]"), made("app/[id]/page.tsx"))
    assert set(read(archive, copy("app/[id]", "/home/user"))) == {"page.tsx"}


def test_directories_that_the_archive_does_not_name_are_made_for_the_owner(write: Write) -> None:
    archive = write(made("web/a/b/one.py"), made("web/a/two.py"))
    assert read(archive, copy("web/**/*.py", "/home/user")) == {
        "a": (b"", 0o755, "d"),
        "a/b": (b"", 0o755, "d"),
        "a/b/one.py": (b"web/a/b/one.py", 0o644, "-"),
        "a/two.py": (b"web/a/two.py", 0o644, "-"),
    }


def test_a_mode_is_for_everything_below(write: Write) -> None:
    archive = write(folder("web"), folder("web/in"), made("web/in/a"))
    found = read(archive, copy("web", "/home/user", mode="0700"))
    assert [mode for _, mode, _ in found.values()] == [0o700, 0o700]


def test_links_stay_links(write: Write) -> None:
    archive = write(
        folder("d"), made("d/a"), made("d/hard", tarfile.LNKTYPE, to="d/a"),
        made("d/again", tarfile.LNKTYPE, to="d/hard"), made("up", tarfile.SYMTYPE, to="../../etc"),
    )  # fmt: skip
    place = Place(path="/srv/d", there="/srv", uid=0, gid=0)

    found = read(archive, copy("d", "/srv/d"), place)
    assert {name: kind for name, (_, _, kind) in found.items()} == {
        "d": "d", "d/a": "-", "d/hard": "d/a", "d/again": "d/hard",
    }  # fmt: skip
    assert read(archive, copy("up", "/srv/d"), place)["d"][2] == "../../etc"


@pytest.mark.parametrize("name", ["ä", "with space", "\udcff", "x" * 200, "new\nline"])
def test_names_are_bytes(write: Write, name: str) -> None:
    place = Place(path="/srv/x", there="/srv", uid=3_000_000, gid=0)
    assert f"x/{name}" in read(write(made(name), plain=True), copy(".", "/srv/x"), place)


def test_large_files_are_passed_on_in_pieces(write: Write) -> None:
    info = tarfile.TarInfo("big")
    info.size = 3 << 20
    archive = write((info, b"x" * info.size))
    chunks = list(packed(archive, copy("big", "/home/user"), HOME))
    assert max(map(len, chunks)) == 1 << 20
    assert sum(map(len, chunks)) == 512 + info.size + 1024


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["nothing", "we", "web/b", "../web", "/web", "none/*", ".."])
def test_a_source_that_is_not_there_is_said(write: Write, source: str) -> None:
    with pytest.raises(ValueError, match=r"^source path does not exist$"):
        read(write(folder("web"), made("web/a")), copy(source, "/x"))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([made("/etc/passwd")], "'/etc/passwd' leads out of the archive"),
        ([made("a/../../b")], "'a/../../b' leads out of the archive"),
        ([folder("..")], r"'\.\.' leads out of the archive"),
        ([made("null", tarfile.CHRTYPE)], "'null' is neither a file, a directory nor a link"),
        ([made("sda", tarfile.BLKTYPE)], "'sda' is neither"),
        ([made("pipe", tarfile.FIFOTYPE)], "'pipe' is neither"),
        (
            [made("out", tarfile.SYMTYPE, to="/etc"), made("out/passwd")],
            "'out/passwd' is below the link 'out'",
        ),
        ([made("out", tarfile.LNKTYPE, to="/etc/shadow")], "'out' is a link to '/etc/shadow'"),
        ([made("out", tarfile.LNKTYPE, to="../x")], "'out' is a link to '../x'"),
        ([made("one", tarfile.LNKTYPE, to="two"), made("two")], "not among the files before it"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(
    write: Write, members: list[Member], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^failed to unpack files: .*{reason}"):
        read(write(made("first"), *members), copy(".", "/home/user"))


def test_nothing_is_below_a_file(write: Write) -> None:
    with pytest.raises(ValueError, match="'a/b' is below a file"):
        read(write(made("a"), made("a/b")), copy("a", "/home/user"))


@pytest.mark.parametrize("source", [".", "*"])
def test_what_cannot_be_read_is_said_without_its_place(
    tmp_path: Path, write: Write, source: str
) -> None:
    whole = write(*(made(f"file{n}") for n in range(100))).read_bytes()
    broken = {
        "empty": b"",
        "text": b"this is no archive at all\n" * 100,
        "short": whole[: len(whole) // 2],
        "crc": gzip.compress(b"\0" * 512)[:-8] + bytes(8),
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in (*broken, "missing"):
        with pytest.raises(ValueError, match=r"unpack|exist") as caught:
            read(tmp_path / name, copy(source, "/home/user"))
        assert str(tmp_path) not in str(caught.value)


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 21 << 30
    (tmp_path / "bomb").write_bytes(info.tobuf())
    with pytest.raises(ValueError, match="more than 20480 MiB"):
        read(tmp_path / "bomb", copy(".", "/home/user"))


# --- archives that are made to hurt ----------------------------------------------------------


def headed(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return a header about the next member, with its content; `size` is what it says of it."""
    info = tarfile.TarInfo("about")
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def extended(text: str) -> bytes:
    line = f" {text}\n"
    return headed(tarfile.XHDTYPE, f"{len(line) + 2}{line}".encode())


FILE = headed(tarfile.REGTYPE, b"hi")
LINKS = headed(tarfile.GNUTYPE_LONGNAME, b"long\0") * 2000


def sparse(blocks: int) -> bytes:
    """Return an old GNU header of a sparse file whose map goes on for that many blocks."""
    header = bytearray(headed(tarfile.GNUTYPE_SPARSE, b""))
    header[482] = 1
    header[483:495] = b"%011o\0" % 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    block = bytearray((b"%011o\0" % 0) * 2 * 21 + bytes(8))
    block[504] = 1
    return bytes(header + block * blocks)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (sparse(5000) + bytes(1024), "headers of a member are too large"),
        (FILE + sparse(5000) + bytes(1024), "headers of a member are too large"),
        (extended("mtime=inf") + FILE, "impossible size or time"),
        # Newer Pythons refuse this one themselves, in their words.
        (extended("size=-2048") + FILE, "(impossible size or time|invalid offset)"),
        (headed(tarfile.REGTYPE, b"", -512) + FILE, "impossible size"),
        (FILE + headed(tarfile.XHDTYPE, b"", -512), "impossible size"),
        (headed(tarfile.XHDTYPE, b"", 1 << 31), "impossible size"),
        (FILE + headed(tarfile.GNUTYPE_LONGLINK, b"", 1 << 31), "impossible size"),
        (headed(tarfile.GNUTYPE_LONGNAME, b"d/" * 4096) + FILE, "more than 4096 characters"),
        (LINKS + FILE, "cannot be read"),
        (FILE + LINKS + FILE, "cannot be read"),
        (FILE + bytes(1024) + bytes(17 << 20), "goes on behind its end"),
    ],
)
@pytest.mark.parametrize("source", [".", "a*"])
def test_an_archive_that_costs_more_than_it_holds_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, reason: str, source: str
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(gzip.compress(content, 1))

    with pytest.raises(ValueError, match=f"^failed to unpack files: .*{reason}"):
        read(path, copy(source, "."))


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("MEMBER_LIMIT", 3, "more than 3 members"), ("LIMIT", 1024, "headers have more than 0 MiB")],
)
def test_members_and_their_headers_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    """Empty files cost the disk an inode each, and us a name."""
    monkeypatch.setattr(copying, limit, value)
    empty = headed(tarfile.REGTYPE, b"")
    path = tmp_path / "archive"
    path.write_bytes(empty * 2 + bytes(1024))
    assert read(path, copy(".", "."))
    path.write_bytes(empty * 4 + bytes(1024))
    with pytest.raises(ValueError, match=f"^failed to unpack files: .*{reason}"):
        read(path, copy(".", "."))
