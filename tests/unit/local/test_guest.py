from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile.local import guest as guests
from sandboxfile.local.guest import Guest
from sandboxfile.local.records import Setting
from tests.fakes.hostbox import HostBox


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    box = HostBox(tmp_path)
    yield Guest(box=box, shell="/bin/sh")
    box.stop()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("two words", "two words"),
        ("$OLD/bin:${OLD}", "old/bin:old"),
        ("${NEVER:-else}", "else"),
        ("$NEVER", ""),
        (r"\$OLD", "$OLD"),
        (r"$OLD\\", "old\\"),
        (r"$OLD C:\dir", r"old C:\dir"),
        ("$OLD `id` $(id)", "old `id` $(id)"),
        ("$OLD \"quoted\" 'single'", "old \"quoted\" 'single'"),
        ('$OLD a\\"b', 'old a\\"b'),
        ("$OLD\nsecond\n", "old\nsecond\n"),
        ("$OLD %s \\n", "old %s \\n"),
        ("$OLD\\", "old\\"),
    ],
)
def test_values_of_variables_are_expanded_once(guest: Guest, value: str, expected: str) -> None:
    assert guest.expand((("NEW", value),), {"OLD": "old"}) == {"NEW": expected}


def test_each_variable_sees_those_before_it(guest: Guest) -> None:
    pairs = (("A", "1"), ("B", "$A$OLD"), ("A", "$B$A"))
    assert guest.expand(pairs, {"OLD": "x"}) == {"A": "1x1", "B": "1x"}


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A\n", "Ä"])
def test_what_cannot_be_a_variable_is_refused(guest: Guest, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of an environment variable"):
        guest.expand(((name, "x"),), {})


def test_a_null_character_is_refused(guest: Guest) -> None:
    with pytest.raises(ValueError, match="contains a null character"):
        guest.expand((("A", "x\0"),), {})


def test_an_expansion_that_the_shell_refuses_is_said(guest: Guest) -> None:
    with pytest.raises(ValueError, match=r"cannot be expanded: .*wanted"):
        guest.expand((("A", "${NEVER:?wanted}"),), {})


@pytest.mark.parametrize(
    ("start", "path", "end"),
    [
        (None, "app", "/home/x/app"),
        ("/srv", "app", "/srv/app"),
        ("/srv", "/app/", "/app"),
        ("/srv", "../a/./b", "/a/b"),
        ("/srv", ".", "/srv"),
    ],
)
def test_a_directory_is_relative_to_the_one_before(start: str | None, path: str, end: str) -> None:
    setting = Setting(user="x", workdir=start, env={"A": "1"})
    moved = guests.moved(setting, path, home="/home/x")
    assert moved == Setting(user="x", workdir=end, env={"A": "1"})


def test_commands_run_at_home_unless_a_directory_is_given(guest: Guest, tmp_path: Path) -> None:
    at_home = guest.command("pwd; echo $A", Setting(user="root", env={"A": "x y"}))
    assert at_home.output == f"{tmp_path}\nx y\n"
    (tmp_path / "sub").mkdir()
    lines: list[str] = []
    there = Setting(user="root", workdir=str(tmp_path / "sub"))
    done = guest.command("pwd; exit 3", there, tell=lambda _, line: lines.append(line))
    assert (done.status, lines) == (3, [f"{tmp_path}/sub"])
