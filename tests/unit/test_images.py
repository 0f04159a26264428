from pathlib import Path

import pytest

from sandboxfile import images
from sandboxfile.errors import SandboxfileError


def test_what_people_may_read_is_written_when_it_is_another(tmp_path: Path) -> None:
    path = images.write(tmp_path, "box", "Dockerfile", "FROM a\n")
    first = path.stat()
    assert images.write(tmp_path, "box", "Dockerfile", "FROM a\n") == path
    assert path.stat() == first, "it was there"
    images.write(tmp_path, "box", "Dockerfile", "FROM b\n")
    assert path.read_text() == "FROM b\n"


def test_a_link_with_the_same_behind_it_becomes_a_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("FROM a\n")
    (tmp_path / "box").mkdir()
    (tmp_path / "box/Dockerfile").symlink_to(elsewhere)
    path = images.write(tmp_path, "box", "Dockerfile", "FROM a\n")
    assert not path.is_symlink()
    assert path.read_text() == "FROM a\n"


def test_a_directory_in_the_place_is_told_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "box/Dockerfile").mkdir(parents=True)
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(SandboxfileError, match="cannot be written"):
        images.write(tmp_path, "box", "Dockerfile", "FROM a\n")
    assert len([*Path("/proc/self/fd").iterdir()]) == before
