"""Tags are what the service accepts, after their references are replaced."""

import pytest

from sandboxfile.errors import ConfigError
from sandboxfile.places import Position
from sandboxfile.tags import expand, is_of_another_commit, uses_git

AT = Position("novita.yaml", 5, 7)
KEY = "sf1:0123456789abcdef" + "0" * 48
SHA = "c0ffee" + "0" * 34


def expanded(*tags: str, key: str | None = KEY, git_sha: str | None = SHA) -> tuple[str, ...]:
    return expand(tags, key=key, git_sha=git_sha, at=AT)


def test_tags_are_sorted_and_each_once() -> None:
    assert expanded("stable", "edge", "stable") == ("edge", "stable")
    assert expanded() == ()


def test_references_are_replaced() -> None:
    assert expanded("g-${git.sha}", "k-${key}") == (f"g-{SHA}", "k-0123456789abcdef")


@pytest.mark.parametrize(
    ("tags", "uses"), [(("a", "x-${git.sha}"), True), (("${key}", "$${git.sha}"), False)]
)
def test_git_is_asked_only_when_needed(tags: tuple[str, ...], uses: bool) -> None:  # noqa: FBT001
    assert uses_git(tags) is uses


@pytest.mark.parametrize("tag", [SHA, f"g-{SHA}", f"g-{'ab' * 32}", f"{SHA}.0123456789abcdef"])
def test_tags_of_other_commits_are_known(tag: str) -> None:
    written = ("stable", "${git.sha}", "g-${git.sha}", "${git.sha}.${key}")
    assert is_of_another_commit(tag, written)


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        (SHA, "stable"),
        (SHA, "g-${git.sha}"),
        (f"h-{SHA}", "g-${git.sha}"),
        (f"g-{SHA}x", "g-${git.sha}"),
        (f"{SHA}x", "${git.sha}"),
        (f"a-{SHA}", "a.${git.sha}"),
        ("0123456789abcdef", "${key}"),
        ("g-c0ffee", "g-${git.sha}"),
    ],
)
def test_other_tags_are_not_those_of_a_commit(tag: str, written: str) -> None:
    assert not is_of_another_commit(tag, [written])


UUID = "3c52915f-59fc-4890-beeb-f249c4ae906c"
RULE = "tags have a-z, 0-9, `.`, `_` and `-`, at most 128"


@pytest.mark.parametrize(
    ("tag", "message", "hint"),
    [
        ("Stable", "`Stable` is not a tag", RULE),
        ("", "`` is not a tag", RULE),
        ("a b", "`a b` is not a tag", RULE),
        ("x" * 129, f"`{'x' * 129}` is not a tag", RULE),
        ("a$b", "`a$b` is not a tag", RULE),
        ("cost-$$5", "`cost-$5` is not a tag", RULE),
        ("${git.branch}", "tag `${git.branch}` uses `${git.branch}`",
         "in tags there are `${git.sha}` and `${key}`"),
        ("${}", "tag `${}` uses `${}`", "in tags there are `${git.sha}` and `${key}`"),
        (UUID, f"tag `{UUID}` is a UUID, which the service reads as a build ID", ""),
        ("default", "the tag `default` is not set here",
         "it follows every build unless the target says `default: false`"),
        ("sf-1", "tag `sf-1` begins with `sf-`, which is kept for content tags", ""),
    ],
)  # fmt: skip
def test_what_is_no_tag_is_refused_at_its_place(tag: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expanded("fine", tag)
    (problem,) = caught.value.problems
    assert (problem.at, problem.message, problem.hint) == (AT, message, hint)


def test_a_commit_is_needed_only_where_it_is_used() -> None:
    assert expanded("stable", git_sha=None, key=None) == ("stable",)
    with pytest.raises(ConfigError, match="needs a commit, and there is none here"):
        expanded("${git.sha}", git_sha=None)
    with pytest.raises(ConfigError, match="needs the template key, which is not known yet"):
        expanded("${key}", key=None)


def test_all_bad_tags_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        expanded("A", "B")
    assert len(caught.value.problems) == 2
