"""The root is found from any directory below; members by globs that follow no links."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile.config import finding
from sandboxfile.errors import ConfigError

Tree = Callable[..., None]


@pytest.fixture
def tree(root: Path) -> Tree:
    """Write files, each `path=text` or a path."""

    def make(*paths: str) -> None:
        for each in paths:
            path, _, text = each.partition("=")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)

    return make


# --- the root --------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["services/*/novita.yaml", "services/*", "**", "./services/a/"])
@pytest.mark.parametrize("start", [".", "services", "services/a", "services/a/src", "docs"])
def test_the_root_is_found_from_below(root: Path, tree: Tree, pattern: str, start: str) -> None:
    tree(f'novita.yaml=members: ["{pattern}"]', "services/a/novita.yaml", "services/a/src/x")
    (root / "docs").mkdir()
    assert finding.find(root / start, None) == root / "novita.yaml"


@pytest.mark.parametrize(
    "text",
    ["", "version: 1", "members:", "members: [other/*/novita.yaml, 3]", "x-members: [services/*]"],
)
def test_a_file_above_that_does_not_include_it_is_not_the_root(
    root: Path, tree: Tree, text: str
) -> None:
    tree(f"novita.yaml={text}", "services/a/novita.yaml")
    assert finding.find(root / "services/a", None) == root / "services/a/novita.yaml"


def test_the_next_root_above_is_taken(root: Path, tree: Tree) -> None:
    tree("novita.yaml=members: [a/b/*]", "a/novita.yaml=members: [b/c]", "a/b/c/novita.yaml")
    assert finding.find(root / "a/b/c", None) == root / "a/novita.yaml"
    tree("a/novita.yaml=members: [x]")
    assert finding.find(root / "a/b/c", None) == root / "novita.yaml"


def test_a_root_is_its_own_root_wherever_it_lies(root: Path, tree: Tree) -> None:
    tree("novita.yaml=members: ['*']", "a/novita.yaml=members: [b]")
    assert finding.find(root / "a", None) == root / "a/novita.yaml"


@pytest.mark.parametrize("target", ["nowhere", "novita.yaml"])
@pytest.mark.parametrize("file", [None, "novita.yaml"])
def test_a_link_that_leads_nowhere_is_told(root: Path, target: str, file: str | None) -> None:
    (root / "novita.yaml").symlink_to(target)
    with pytest.raises(ConfigError) as caught:
        finding.find(root, file)
    said = f"novita.yaml:1:1: error: this is a link that leads nowhere, to {target}"
    assert str(caught.value) == f"{said}\nhint: mend it, or put the file in its place"


def test_a_broken_file_above_that_has_members_is_told(root: Path, tree: Tree) -> None:
    tree("novita.yaml=members: [", "a/novita.yaml")
    with pytest.raises(ConfigError) as caught:
        finding.find(root / "a", None)
    assert "novita.yaml:1:" in str(caught.value)


def test_the_search_ends_at_the_repository(root: Path, tree: Tree) -> None:
    tree("novita.yaml", "repository/.git/HEAD", "repository/src/x")
    with pytest.raises(ConfigError) as caught:
        finding.find(root / "repository/src", None)
    assert "looked for novita.yaml and novita.yml here and above" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_above_of_somebody_else_is_not_looked_at(root: Path, tree: Tree) -> None:
    tree("novita.yaml=members: ['*']", "a/novita.yaml", "b/x")
    os.chown(root / "novita.yaml", 12345, 12345)
    assert finding.find(root / "a", None) == root / "a/novita.yaml"
    with pytest.raises(ConfigError):
        finding.find(root / "b", None)
    os.chown(root / "b", 12345, 12345)
    assert finding.find(root / "b", None) == root / "novita.yaml"


def test_what_cannot_be_read_above_is_passed_over(root: Path, tree: Tree) -> None:
    tree("a/novita.yaml")
    os.mkfifo(root / "novita.yaml")
    assert finding.find(root, None) == root / "novita.yaml"  # it is refused where it is read
    assert finding.find(root / "a", None) == root / "a/novita.yaml"
    (root / "novita.yaml").unlink()
    (root / "novita.yaml").write_text("members: " + " " * (1 << 20))
    assert finding.find(root / "a", None) == root / "a/novita.yaml"


def test_what_decides_which_is_the_root_is_listed(root: Path) -> None:
    found = list(finding.candidates(root))
    assert found[:3] == [root / "novita.yaml", root / "novita.yml", root.parent / "novita.yaml"]
    assert found[-1] == Path("/novita.yml")


def test_a_path_is_shown_from_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a").mkdir()
    monkeypatch.chdir(root / "a")
    assert finding.shown(root / "a/x", root) == "x"
    assert finding.shown(root / "b/x", root) == "../b/x"
    assert finding.shown(root / "b/x") == str(root / "b/x")
    assert finding.shown(Path("/b/x"), root) == "/b/x"


# --- the members -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/novita.yaml", ["a/novita.yaml"]),
        ("a", ["a/novita.yaml"]),
        ("*", ["novita.yaml", "a/novita.yaml", "b/novita.yml"]),
        ("*/*.yaml", ["a/novita.yaml", "a/other.yaml"]),
        ("a/*", ["a/novita.yaml", "a/other.yaml", "a/deep/novita.yaml"]),
        ("*/novita.yml", ["b/novita.yml"]),
        ("**", ["novita.yaml", "a/novita.yaml", "a/deep/novita.yaml"]),
        ("**/deep/*", ["a/deep/novita.yaml"]),
        (".hidden/novita.yaml", [".hidden/novita.yaml"]),
        (".h*", [".hidden/novita.yaml"]),
        ("c", []),
        ("", []),
        (".", []),
    ],
)
def test_a_pattern_matches_files_and_directories(
    root: Path, tree: Tree, pattern: str, expected: list[str]
) -> None:
    tree("novita.yaml", "a/novita.yaml", "a/other.yaml", "a/README", "a/deep/novita.yaml")
    tree("b/novita.yml", "c/README", ".hidden/novita.yaml", "node_modules/x/novita.yaml")
    found = [str(path.relative_to(root)) for path in finding.match(root, pattern).files]
    assert sorted(found) == sorted(expected)


def test_links_are_not_members(root: Path, tree: Tree) -> None:
    tree("a/novita.yaml")
    (root / "linked").symlink_to("a")
    (root / "b").mkdir()
    (root / "b/novita.yaml").symlink_to("../a/novita.yaml")
    (root / "loop").symlink_to("loop")
    found = finding.match(root, "*/novita.yaml")
    assert found.files == [root / "a/novita.yaml"]
    assert found.links == [root / "b/novita.yaml", root / "linked/novita.yaml"]
    assert finding.match(root, "**").files == [root / "a/novita.yaml"]


def test_what_decides_a_match_is_looked_at(root: Path, tree: Tree) -> None:
    tree("services/a/novita.yaml", "services/b/x")
    found = finding.match(root, "services/*/novita.yaml")
    assert found.looked_at == {
        str(root / each)
        for each in ("services", "services/a/novita.yaml", "services/b/novita.yaml")
    }


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("servces/*/novita.yaml", "did you mean `services`?"),
        ("services/*/sandbox.yml", "none of 2 directories has it"),
        ("services/b", "in `services/b` there is `x`"),
        ("services/b/c", "in `services/b` there is `x`"),
        ("services/b/c/d", "in `services/b` there is `x`"),
        ("empty/*", "in `empty` there is nothing"),
        ("zzz", "beside the root there is `empty`, `services`"),
        ("services/a/novita.yaml", ""),
    ],
)
def test_a_pattern_without_a_match_says_what_there_is(
    root: Path, tree: Tree, pattern: str, hint: str
) -> None:
    tree("services/a/novita.yaml", "services/b/x")
    (root / "empty").mkdir()
    assert finding.near_miss(root, finding.match(root, pattern).missed) == hint
