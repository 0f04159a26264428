import json
from pathlib import Path

import pytest

from sandboxfile import moves
from sandboxfile.errors import SandboxfileError


def test_moves_are_read_as_they_were_written_one_template_at_a_time(tmp_path: Path) -> None:
    made = [
        moves.made(by="tag", template=name, tag="stable", old="", new="b")
        for name in ("api", "web")
    ]
    path = tmp_path / "journal/box.moves"

    moves.write(path, made[:1])
    moves.write(path, made[1:])

    assert moves.read(path, "api", {}) == (made[0],)
    assert moves.read(path, "web", {}) == (made[1],)
    assert path.stat().st_mode & 0o777 == 0o600
    assert made[0].at.endswith("Z")


def test_no_record_is_no_moves(tmp_path: Path) -> None:
    assert moves.read(tmp_path / "none", "api", {}) == ()


def test_a_move_that_was_only_begun_counts_while_the_tag_is_there(tmp_path: Path) -> None:
    path = tmp_path / "box.moves"
    first, second = (
        moves.made(by="tag", template="api", tag="a", old=old, new=new)
        for old, new in (("x", "y"), ("y", "z"))
    )
    taken = moves.made(by="tag --remove", template="api", tag="t", old="x", new="")

    moves.write(path, [first, taken], "begun")

    assert moves.read(path, "api", {"a": "y"}) == (first, taken)
    assert moves.read(path, "api", {"a": "x", "t": "x"}) == ()
    assert moves.unfinished(path, "api", {"a": "y", "t": "x"}) == (first,)
    moves.write(path, [first])
    assert moves.unfinished(path, "api", {"a": "y", "t": "x"}) == ()
    moves.write(path, [second], "begun")
    assert moves.read(path, "api", {"a": "z", "t": "x"}) == (first, second)
    assert moves.read(path, "api", {"a": "y", "t": "x"}) == (first,)


def test_a_move_that_was_refused_is_none_whoever_makes_it_later(tmp_path: Path) -> None:
    path = tmp_path / "box.moves"
    refused = moves.made(by="promote", template="api", tag="a", old="x", new="y")

    moves.write(path, [refused], "begun")
    moves.write(path, [refused], "refused")

    assert moves.read(path, "api", {"a": "y"}) == ()
    assert moves.unfinished(path, "api", {"a": "y"}) == ()


def test_a_move_that_was_only_begun_is_none_once_the_tag_was_moved_again(tmp_path: Path) -> None:
    path = tmp_path / "box.moves"
    killed, later = (
        moves.made(by="tag", template="api", tag="a", old=old, new="z") for old in ("x", "y")
    )
    other = moves.made(by="tag", template="api", tag="b", old="", new="z")

    moves.write(path, [killed, other], "begun")
    moves.write(path, [later], "begun")
    moves.write(path, [later])

    assert moves.unfinished(path, "api", {"a": "z", "b": "z"}) == (other,)
    assert moves.read(path, "api", {"a": "z", "b": "z"}) == (other, later)


# What could be a command to a terminal is not of our writing.
HARMFUL = json.dumps(
    {"at": "\x1b[2J", "who": "x", "by": "x", "template": "api", "tag": "a", "old": "", "new": ""}
)


@pytest.mark.parametrize("damage", ["[]", "{}", "7", "nul", '{"at": 1}', "[" * 200_000, HARMFUL])
def test_lines_that_are_none_are_left_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "box.moves"
    moves.write(path, [moves.made(by="tag", template="api", tag="a", old="x", new="y")])
    path.write_text(f"{damage}\n{path.read_text()}{damage}")

    assert len(moves.read(path, "api", {})) == 1


def test_a_user_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)

    assert moves.made(by="tag", template="api", tag="a", old="", new="").who.isdigit()
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "box.moves").mkdir()

    with pytest.raises(SandboxfileError, match="cannot be written"):
        moves.write(tmp_path / "box.moves", [])
