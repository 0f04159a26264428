"""Small files are written whole, whatever is in their place."""

import os
import threading
from pathlib import Path

import pytest

from sandboxfile.writing import new, whole


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


def accepted(_: Path) -> None:
    """Find nothing wrong."""


def test_a_new_file_is_there_once_it_is_accepted(tmp_path: Path) -> None:
    path, drafts = tmp_path / "file", []

    def check(draft: Path) -> None:
        drafts.append((draft.parent, draft.read_bytes(), path.exists()))

    new(path, b"text", check)

    assert drafts == [(tmp_path, b"text", False)]
    assert path.read_bytes() == b"text"
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_file_that_is_not_accepted_nothing_is_left(tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        new(tmp_path / "file", b"text", refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_replaces_none_that_was_made_meanwhile(
    tmp_path: Path, *, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if not has_links:
        _without_links(monkeypatch)

    with pytest.raises(FileExistsError):
        new(path, b"ours", lambda _: path.symlink_to("theirs"))
    assert path.readlink() == Path("theirs")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_may_have_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_links(monkeypatch)
    path = tmp_path / "file"

    new(path, b"text", accepted)

    assert path.read_bytes() == b"text"
    assert list(tmp_path.iterdir()) == [path]


def _without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
