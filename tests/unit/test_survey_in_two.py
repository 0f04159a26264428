"""Two processes find what one finds."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

import pytest

from sandboxfile import survey as surveying
from sandboxfile.blobs import Blobs
from sandboxfile.committed import Committed
from sandboxfile.config import load
from sandboxfile.errors import ConfigError
from sandboxfile.recall import Recall
from sandboxfile.statcache import StatCache
from sandboxfile.survey import _Later, survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import PINS, pretend
from tests.fakes.shell import User

TEMPLATES = 12
LAST = f"t{TEMPLATES - 1:02d}"


@pytest.fixture
def many(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Many templates, of which some are based on others, and a machine with two cores."""
    lines = ["version: 1", "templates:"]
    for number in range(TEMPLATES):
        base = "{template: t00}" if number % 3 == 2 else "debian:12"
        lines.append(f"  t{number:02d}: {{base: {base}, files: [d{number:02d}/ -> /srv/]}}")
        for name in ("one", "deep/two", "three"):
            user.write(f"d{number:02d}/{name}", f"{number} {name}")
        (user.root / f"d{number:02d}/link").symlink_to("one")
    user.write("novita.yaml", "\n".join(lines) + "\n")
    monkeypatch.setattr(surveying, "_MANY", 2)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return user


class Look:
    """Surveys alone or in two processes, of which the first one takes its time."""

    def __init__(self, user: User, later_s: int | None = 60) -> None:
        self.workspace = load.load(user.root / "novita.yaml")
        self.home = user.home
        self.later_s = later_s

    def __call__(
        self, *, second: Callable[[], object] | None, committed: Committed | None = None
    ) -> Survey:
        """Survey; `second` is called at each file by the second process, if there is to be one."""
        first = os.getpid()

        def clock() -> int:
            if second is not None and os.getpid() != first:
                second()
            elif second is not None:
                time.sleep(0.05)
            return time.time_ns() + (self.later_s or 0) * 10**9

        name = "alone" if second is None else "both"
        root = self.workspace.root
        digests = StatCache.open(self.home / f"{name}-hashes", root=root, clock=clock)
        recall = None
        if self.later_s is not None:
            since = time.time_ns() + self.later_s * 10**9
            recall = Recall(self.home / f"{name}-survey", b"n" * 32, root=root, since=since)
        found = survey(
            self.workspace,
            self.workspace.templates,
            resolved=PINS,
            digests=digests if second is not None else _Alone(digests),
            recall=recall,
            committed=committed,
        )
        digests.save(whole=True)
        if recall is not None:
            recall.save()
        return found

    def kept(self, name: str) -> tuple[bytes, list[tuple[object, ...] | None]]:
        """Return the hashes that are kept for later runs, and what can be recalled."""
        hashes = self.home / f"{name}-hashes"
        root = self.workspace.root
        known = Recall(self.home / f"{name}-survey", b"n" * 32, root=root, since=0)
        told = [known.told(template) for template in self.workspace.templates]
        return hashes.read_bytes() if hashes.exists() else b"", told


class _Alone:
    """The same hashes, of which a survey does not know that they are those of a `StatCache`."""

    def __init__(self, digests: StatCache) -> None:
        self.digest = digests.digest


def helped(found: Survey) -> set[str]:
    """Return which templates the second process has surveyed: nobody has looked at their files."""
    takes = {name: getattr(each.take, "__self__", None) for name, each in found.templates.items()}
    return {name for name, owner in takes.items() if isinstance(owner, _Later)}


def facts(found: Survey) -> Mapping[str, object]:
    return {
        name: (each.keys, {*dict(each.seen), *each.looked_at}, each.recalled)
        for name, each in found.templates.items()
    }


@pytest.mark.parametrize("later_s", [60, 0, None])
def test_they_find_and_keep_the_same(many: User, later_s: int | None) -> None:
    """Also of files that are too young to be trusted later, and with nothing to recall from."""
    look = Look(many, later_s)

    alone, both = look(second=None), look(second=lambda: None)

    assert len(helped(both)) > TEMPLATES / 2
    assert not helped(alone)
    assert list(both.templates) == list(alone.templates), "parents first"
    assert facts(both) == facts(alone)
    for name, each in both.templates.items():
        assert each.contents == alone[name].contents, "what is taken is found when it is needed"
    assert look.kept("both") == look.kept("alone")


def test_the_next_run_recalls_what_both_have_found(many: User) -> None:
    look = Look(many)
    look(second=lambda: None)

    again = look(second=lambda: None)

    assert all(each.recalled for each in again.templates.values())


def test_it_is_known_of_what_git_has_told_the_second_process(many: User) -> None:
    entries = pretend(many.root)
    time.sleep(0.05)
    for words in (("init", "--quiet"), ("add", "--all")):
        environ = {"HOME": str(many.home), "PATH": os.environ["PATH"]}
        subprocess.run(["git", *words], cwd=many.root, env=environ, check=True)
    known = {name: entry for name, entry in entries.items() if name > "t05"}
    committed = Committed(known, Blobs(many.root, {"HOME": str(many.home)}))

    found = Look(many)(second=lambda: None, committed=committed)

    assert {name for name, each in found.templates.items() if each.is_committed} == {*known}
    assert {
        name: each.keys and each.keys.template_key for name, each in found.templates.items()
    } == {name: entry.template_key for name, entry in entries.items()}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise RuntimeError


@pytest.mark.parametrize("second", [_die, _fail])
def test_a_second_process_that_ends_is_not_missed(
    many: User, second: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    look = Look(many)

    assert facts(look(second=second)) == facts(look(second=None))
    assert capfd.readouterr() == ("", "")


def test_problems_are_told_once_and_in_the_same_order(many: User) -> None:
    """Of a template in the middle, of a parent, of the last; with the text around them."""
    os.mkfifo(many.root / "d05/pipe")
    os.mkfifo(many.root / f"d{LAST[1:]}/pipe")
    os.mkfifo(many.root / "d06/.wh.x")
    look = Look(many)

    with pytest.raises(ConfigError) as alone:
        look(second=None)
    with pytest.raises(ConfigError) as both:
        look(second=lambda: None)

    assert len(both.value.problems) == 3
    assert both.value.problems == alone.value.problems


def test_a_file_that_cannot_be_read_is_told_as_by_one(many: User) -> None:
    path = many.root / f"d{LAST[1:]}/one"
    path.unlink()
    path.write_text("x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    look = Look(many)

    with pytest.raises(ConfigError) as error:
        look(second=lambda: None)

    assert "cannot read" in error.value.problems[0].message


def test_another_parent_makes_another_template(many: User) -> None:
    """What was told of a template counts only with the parent that it was told for."""
    look = Look(many)
    both = look(second=lambda: None)
    many.write("d00/one", "another")

    later = look(second=lambda: None)

    changed = {n for n, each in later.templates.items() if each.keys != both[n].keys}
    assert changed == {"t00", *(f"t{number:02d}" for number in range(2, TEMPLATES, 3))}
