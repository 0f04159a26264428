"""Small files are written whole, whatever is in their place."""

import os
import threading
from pathlib import Path

import pytest

from sandboxfile.writing import whole


def test_a_file_is_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole(path, b"old")
    whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_no_hindrance_and_no_link_is_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"somebody's")
    (tmp_path / f"file.{os.getpid()}.{threading.get_ident()}").symlink_to(other)
    path.symlink_to(other)

    whole(path, b"new")

    assert (path.read_bytes(), path.is_symlink()) == (b"new", False)
    assert other.read_bytes() == b"somebody's"
    assert {each.name for each in tmp_path.iterdir()} == {"file", "other"}


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (path := tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
