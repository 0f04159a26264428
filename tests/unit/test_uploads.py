import gzip
import io
import os
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxfile.context import select
from sandboxfile.errors import SandboxfileError
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache
from sandboxfile.steps import Sent
from sandboxfile.uploads import Upload, files_hash, upload

AT = Position("novita.yaml", 1, 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of the test vectors in docs/protocol.md, 3.4, and a tree beside them."""
    for name, content, mode in (
        ("hello.txt", "hello\n", 0o644),
        ("run.sh", "#!/bin/sh\necho hi\n", 0o755),
        ("app/a.py", "a", 0o664),
        ("app/sub/run", "b", 0o700),
        ("app-x", "x", 0o644),
        ("b/a.txt", "1", 0o644),
        ("b/b.txt", "2", 0o644),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    (tmp_path / "link.txt").symlink_to("hello.txt")
    (tmp_path / "app/link").symlink_to("/usr/bin/python3")
    (tmp_path / "app/empty").mkdir()
    return tmp_path


def sent(root: Path, *sources: str, to: str = "/app/", **given: str | tuple[str, ...]) -> Upload:
    copy = Copy(sources=sources, to=to, root=root, at=AT, **given)  # type: ignore[arg-type]
    return upload(select(copy, Ground(root)), NoCache())


def names(found: Upload) -> list[str]:
    return [member.name for member in found.members]


# --- the hash --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        (
            "hello.txt",
            "/app/",
            "4dd5aecb721a41a82cbb86b502c4bd814c9538f673dbf53143e5ac5f64efd2f4",
        ),
        (
            "./hello.txt",
            "/app/",
            "98fd067c537759ce21e186822a8b2c720aa820eb54a075102af0f7a6d0de247d",
        ),
        (
            "run.sh",
            "/usr/local/bin/run.sh",
            "f81b1e4673062a90ef744c615521ea7820d95d9c8f273092c0ca03906950e7c7",
        ),
    ],
)
def test_the_hash_is_that_of_the_official_clients(
    root: Path, source: str, to: str, expected: str
) -> None:
    assert sent(root, source, to=to).files_hash() == expected


def test_a_link_is_hashed_by_its_text(root: Path) -> None:
    members = [each for each in sent(root, ".").members if each.name == "link.txt"]
    expected = "4ad82a6252aecff3502678607b393e9f8f1a23f62bfccb727d6b5a4f910168dc"
    assert files_hash("link.txt", "/app/", members) == expected


def test_the_directory_itself_comes_first_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / ",").touch(0o644)
    found = sent(tmp_path, ".", to="/app")
    assert found.files_hash() == sha256(b"COPY . /app.16877,331880").hexdigest()


def test_the_hash_is_of_what_is_sent_and_of_nothing_else(root: Path) -> None:
    before = sent(root, "app").files_hash()
    os.utime(root / "app/a.py", (1, 1))
    (root / "app/a.py").chmod(0o600)
    assert sent(root, "app", owner="user").files_hash() == before
    assert sent(root, "app", mode="0600").files_hash() != before
    assert sent(root, "app", to="/other/").files_hash() != before
    (root / "app/a.py").chmod(0o755)
    assert sent(root, "app").files_hash() != before


def test_a_file_that_changes_meanwhile_has_no_hash(root: Path) -> None:
    found = sent(root, "app")
    (root / "app/a.py").write_text("b")
    with pytest.raises(SandboxfileError, match="changed while being read"):
        found.files_hash()


# --- what is sent ----------------------------------------------------------------------------


def test_one_path_is_sent_under_its_own_name(root: Path) -> None:
    found = sent(root, "app/")
    assert found.sent == Sent(source="app/", to="/app/")
    assert names(found) == ["app", "app/a.py", "app/empty", "app/link", "app/sub", "app/sub/run"]
    assert {oct(m.mode) for m in found.members if m.kind == "file"} == {"0o644", "0o755"}


def test_a_name_that_begins_with_two_dots_is_one_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "..data").touch()
    assert names(sent(tmp_path, "./..data")) == ["..data"]


def test_the_whole_directory_is_a_dot(root: Path) -> None:
    found = sent(root, "./")
    assert found.sent.source == "./"
    assert names(found)[:2] == [".", "app"]


def test_one_file_keeps_its_name_and_is_given_its_mode_on_arrival(root: Path) -> None:
    found = sent(root, "app/sub/run", to="/usr/bin/it", mode="755")
    assert found.sent == Sent(source="app/sub/run", to="/usr/bin/it", mode="0755")
    assert names(found) == ["app/sub/run"]


def test_the_mode_of_a_directory_is_that_of_its_files_and_lets_people_in(root: Path) -> None:
    found = sent(root, "app", mode="0640")
    assert found.sent.mode == ""
    assert [(m.name, oct(m.mode)) for m in found.members[:3]] == [
        ("app", "0o755"),
        ("app/a.py", "0o640"),
        ("app/empty", "0o750"),
    ]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("hello.txt", "b"), ["files", "files/a.txt", "files/b.txt", "files/hello.txt"]),
        (("*.txt",), ["files", "files/hello.txt"]),
        (("b/../run.sh",), ["files", "files/run.sh"]),
    ],
)
def test_what_has_no_name_of_its_own_is_laid_out(
    root: Path, sources: tuple[str, ...], expected: list[str]
) -> None:
    (root / "link.txt").unlink()
    found = sent(root, *sources)
    assert found.sent == Sent(source="files", to="/app/")
    assert names(found) == expected


def test_what_lies_above_the_file_that_states_it_is_laid_out(root: Path) -> None:
    copy = Copy(sources=("../b",), to="/app", root=root / "app", at=AT)
    found = upload(select(copy, Ground(root)), NoCache())
    assert found.sent == Sent(source="files", to="/app/")
    assert names(found) == ["files", "files/a.txt", "files/b.txt"]


def test_what_is_ignored_is_not_sent(root: Path) -> None:
    (root / ".dockerignore").write_text("app/sub\n")
    assert names(sent(root, "app", ignore=("*.py",))) == ["app", "app/empty", "app/link"]


# --- the archive -----------------------------------------------------------------------------


def test_same_files_same_bytes(root: Path) -> None:
    one = b"".join(sent(root, "app").packed())
    os.utime(root / "app/a.py", (1, 1))
    assert b"".join(sent(root, "app").packed()) == one
    assert one[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\x03"  # no name, time 0 (RFC 1952, 2.3)


@pytest.mark.parametrize("source", ["app", ".", "b/*.txt"])
def test_gnu_tar_unpacks_it(
    root: Path, tmp_path_factory: pytest.TempPathFactory, source: str
) -> None:
    found = sent(root, source)
    there = tmp_path_factory.mktemp("unpacked")
    data = b"".join(found.packed())
    subprocess.run(["tar", "-xzf", "-"], input=data, cwd=there, check=True)
    unpacked = {str(p.relative_to(there)) for p in there.rglob("*")}
    assert unpacked == set(names(found)) - {"."}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        assert {(each.mtime, each.uid, each.gid) for each in tar} == {(0, 0, 0)}
