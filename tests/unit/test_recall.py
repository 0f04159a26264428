"""A survey that is recalled is the one that would be made, or it is not believed."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxfile import recall
from sandboxfile.config import load
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.keys import Keys
from sandboxfile.model import Builder
from sandboxfile.recall import Recall
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import PINS
from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  parent:
    base: debian:12
    files: [{from: [a/data/, "a/*.txt"], to: /srv/, ignore: ["*.log"]}]
  child:
    base: {template: parent}
    files: [b/one -> /one]
  own:
    base: {dockerfile: c/Dockerfile}
    packages: {pip: {requirements: d/requirements.txt}}
"""
FILES = {
    "a/data/x": "x",
    "a/data/deep/y": "y",
    "a/t.txt": "t",
    "b/one": "1",
    "b/two": "2",
    "c/Dockerfile": "FROM debian:12\nCOPY . /c\n",
    "c/page": "page",
    "d/requirements.txt": "cowsay==6.1\n",
}


@pytest.fixture
def tree(user: User) -> User:
    user.write("novita.yaml", CONFIG)
    for name, text in FILES.items():
        user.write(name, text)
    (user.root / "a/data/link").symlink_to("x")
    return user


class Look:
    """Surveys a workspace as the runs of one configuration do, one after the other."""

    def __init__(self, user: User, *, later_s: int = 60, builder: Builder = "docker") -> None:
        self.workspace = load.load(user.root / "novita.yaml")
        self.builder = builder
        self.later_s = later_s  # how long ago everything changed, for a run
        self.file = user.home / "survey"

    def again(self, name: bytes = b"n" * 32) -> Survey:
        since = time.time_ns() + self.later_s * 10**9
        known = Recall(self.file, name, root=self.workspace.root, since=since)
        found = self.anew(known)
        known.save()
        return found

    def anew(self, known: Recall | None = None) -> Survey:
        return survey(
            self.workspace,
            self.workspace.templates,
            resolved=PINS,
            digests=NoCache(),
            builder=self.builder,
            recall=known,
        )


def keys(found: Survey) -> Mapping[str, Keys | None]:
    return {name: each.keys for name, each in found.templates.items()}


def recalled(found: Survey) -> set[str]:
    return {name for name, each in found.templates.items() if each.recalled}


@pytest.mark.parametrize("builder", ["docker", "remote"])
def test_what_was_found_is_recalled_and_the_same(tree: User, builder: Builder) -> None:
    look = Look(tree, builder=builder)
    first = look.again()
    assert recalled(first) == set()

    second = look.again()

    assert recalled(second) == {"parent", "child", "own"}
    assert keys(second) == keys(first)
    for name, each in second.templates.items():
        made = first[name]
        shown = {*dict(made.seen), *(path for path in made.looked_at if os.path.lexists(path))}
        assert set(dict(each.seen)) == shown, "the first stage looks at as much"
        assert each.looked_at == made.looked_at - shown
        # What is taken is found when it is needed.
        assert [entry[:3] for entry in each.entries] == [entry[:3] for entry in made.entries]
        assert each.contents == made.contents


def _replaced(path: Path, content: str) -> None:
    path.unlink()
    path.write_text(content)


def _relinked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "an edit": (lambda r: (r / "b/one").write_text("2"), {"child"}),
    "an edit of the parent": (lambda r: (r / "a/data/x").write_text("z"), {"parent", "child"}),
    "a mode": (lambda r: (r / "a/t.txt").chmod(0o755), {"parent", "child"}),
    "a new file": (lambda r: (r / "a/data/deep/new").touch(), {"parent", "child"}),
    "a new match": (lambda r: (r / "a/u.txt").touch(), {"parent", "child"}),
    "an empty directory": (lambda r: (r / "c/empty").mkdir(), {"own"}),
    "a file that is gone": (lambda r: (r / "c/page").unlink(), {"own"}),
    "a link that leads elsewhere": (
        lambda r: _relinked(r / "a/data/link", "y"),
        {"parent", "child"},
    ),
    "an ignore file": (
        lambda r: (r / ".dockerignore").write_text("**/deep\n"),
        {"parent", "child"},
    ),
    "an ignore file of the context": (
        lambda r: (r / "c/.dockerignore").write_text("page\n"),
        {"own"},
    ),
    "the Dockerfile": (lambda r: _replaced(r / "c/Dockerfile", "FROM debian:12\n"), {"own"}),
    "requirements": (lambda r: (r / "d/requirements.txt").write_text("cowsay\n"), {"own"}),
    "another directory in its place": (
        lambda r: (
            (r / "b").rename(r / "old"),
            shutil.copytree(r / "old", r / "b"),
            (r / "b/one").write_text("9"),
        ),
        {"child"},
    ),
    "nothing that is taken": (lambda r: (r / "b/two").write_text("3"), set()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen_and_only_where_it_is(tree: User, what: str) -> None:
    change, wanted = CHANGES[what]
    look = Look(tree)
    before = look.again()
    time.sleep(0.02)  # longer than a tick of the clock that stamps files

    change(tree.root)
    after = look.again()

    assert keys(after) == keys(look.anew())
    assert {name for name in keys(after) if keys(after)[name] != keys(before)[name]} == wanted
    assert recalled(look.again()) == {"parent", "child", "own"}


def test_what_does_not_decide_costs_one_look_and_no_more(tree: User) -> None:
    look = Look(tree)
    look.again()
    os.utime(tree.root / "b/one")

    assert recalled(look.again()) == {"parent", "own"}
    assert recalled(look.again()) == {"parent", "child", "own"}


def outcome(look: Callable[[], Survey]) -> object:
    """Return the keys, or the problems."""
    try:
        return keys(look())
    except ConfigError as error:
        return error.problems


_EDITS = st.lists(
    st.tuples(
        st.sampled_from([*FILES, "a/new.txt", "a/data/n", "c/n/m", ".dockerignore", "b/n"]),
        st.sampled_from(["", "x", "x\n", "*\n!b\n", None]),
    ),
    max_size=4,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_EDITS, max_size=3))
def test_whatever_is_edited_a_survey_with_the_record_is_one_without(
    tree: User, runs: list[list[tuple[str, str | None]]]
) -> None:
    for name, whole in FILES.items():
        tree.write(name, whole)
    look = Look(tree)
    for edits in runs:
        for name, text in edits:
            if text is not None:
                tree.write(name, text)
            elif name != "d/requirements.txt":  # it is missed when the configuration is read
                (tree.root / name).unlink(missing_ok=True)
        time.sleep(0.01)
        assert outcome(look.again) == outcome(look.anew)


# --- what is not believed --------------------------------------------------------------------


def test_nothing_young_is_kept(tree: User) -> None:
    look = Look(tree, later_s=1)
    look.again()
    assert recalled(look.again()) == set()
    assert not look.file.exists()


def test_nothing_is_kept_through_links(tree: User) -> None:
    (tree.root / "b").rename(tree.root / "real")
    (tree.root / "b").symlink_to("real")
    look = Look(tree)
    look.again()
    assert recalled(look.again()) == {"parent", "own"}


@pytest.mark.parametrize("file", [".dockerignore", "c/Dockerfile", "c/Dockerfile.dockerignore"])
@pytest.mark.parametrize("link", ["way/file", "link"])
def test_each_link_on_the_way_of_what_decides_must_lead_where_it_did(
    tree: User, file: str, link: str
) -> None:
    texts = "FROM debian:12\nRUN one\n**/deep\n", "FROM debian:12\nRUN two\n**/x\n**/page\n"
    for name, text in zip(("one", "two"), texts, strict=True):
        tree.write(f"{name}/file", text)
    (tree.root / "way").symlink_to("one")
    (tree.root / "link").symlink_to("one/file")
    (tree.root / file).unlink(missing_ok=True)
    (tree.root / file).symlink_to(tree.root / link)
    look = Look(tree)
    before = look.again()
    assert recalled(look.again()) == {"parent", "child", "own"}
    time.sleep(0.02)  # longer than a tick of the clock that stamps files

    _relinked(tree.root / "way", "two")
    _relinked(tree.root / "link", "two/file")
    after = look.again()

    assert keys(after) == keys(look.anew()) != keys(before)


def test_a_directory_that_is_led_out_by_a_link_is_seen(tree: User) -> None:
    look = Look(tree)
    look.again()
    (tree.root / "b").rename(tree.home / "b")  # its files stay what they were, inodes and all
    (tree.root / "b").symlink_to(tree.home / "b")

    with pytest.raises(ConfigError, match="is outside the workspace"):
        look.again()


def test_a_file_of_the_far_future_is_no_reason_to_fail(tree: User) -> None:
    os.utime(tree.root / "b/one", ns=(0, 2**63))
    look = Look(tree)
    look.again()
    assert recalled(look.again()) == {"parent", "own"}


def test_another_name_is_another_survey(tree: User) -> None:
    look = Look(tree)
    look.again()
    assert recalled(look.again(b"m" * 32)) == set()
    names = [recall.name(b"a", "docker", [("b", "c")]) for _ in range(2)]
    assert names[0] == names[1]
    assert recall.name(b"a", "docker", [("b", "d")]) not in names
    assert recall.name(b"b", "docker", [("b", "c")]) not in names


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[:-1],
        lambda content: content[:100] + b"\0" + content[101:],
        lambda content: b"x" + content[1:],
    ],
)
def test_a_damaged_file_is_none(tree: User, damage: Callable[[bytes], bytes]) -> None:
    look = Look(tree)
    wanted = keys(look.again())
    look.file.write_bytes(damage(look.file.read_bytes()))

    found = look.again()

    assert (recalled(found), keys(found)) == (set(), wanted)
    assert recalled(look.again()) == set(wanted), "and is made whole"


def _linked(file: Path) -> None:
    file.symlink_to(file.rename(file.with_name("elsewhere")))


def _given_away(file: Path) -> None:
    os.chown(file, 65534, -1)


@pytest.mark.parametrize(
    "change",
    [
        _linked,
        pytest.param(
            _given_away,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_a_file_that_is_not_ours_is_none(tree: User, change: Callable[[Path], None]) -> None:
    look = Look(tree)
    look.again()
    change(look.file)

    assert recalled(look.again()) == set()


def test_what_cannot_be_written_is_not_kept(tree: User) -> None:
    look = Look(tree)
    look.file.mkdir()
    look.again()
    assert recalled(look.again()) == set()
    assert list(tree.home.iterdir()) == [look.file]


def test_files_that_change_between_survey_and_build_are_an_error(tree: User) -> None:
    look = Look(tree)
    look.again()
    found = look.again()
    (tree.root / "b/one").write_text("changed")

    with pytest.raises(SandboxfileError, match="`child` changed while they were being read"):
        _ = found["child"].selections
    assert found["parent"].selections
