"""Tags as they are written, with `${git.sha}` and `${key}` in them, made into tags."""

import re
from collections.abc import Iterable
from functools import lru_cache

from sandboxfile.errors import ConfigError
from sandboxfile.model import TAG, UUID
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem

_REFERENCE = regex(r"\$(?:(\$)|\{([^{}]*)\}|)")
_KNOWN = ("git.sha", "key")
_CONTENT = "sf-"


def content(key: str) -> str:
    """Return the tag of the content with this key (`sf1:<hex>`): `sf-` and 16 hex digits of it."""
    return _CONTENT + key.removeprefix("sf1:")[:16]


def is_content(tag: str) -> bool:
    """Tell whether a tag is kept for content; people may give none of these."""
    return tag.startswith(_CONTENT)


def uses_git(tags: Iterable[str]) -> bool:
    """Say whether any tag asks for the commit, so that git need not be run otherwise."""
    asking = (tag for tag in tags if "$" in tag)
    return any(match[2] == "git.sha" for tag in asking for match in _REFERENCE.finditer(tag))


def is_of_another_commit(tag: str, written: Iterable[str]) -> bool:
    """Tell whether `tag` is what one of these, that ask for the commit, was at some commit."""
    return any(_pattern(each).fullmatch(tag) for each in written if uses_git([each]))


def _pattern(written: str) -> re.Pattern[str]:
    parts: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(written):
        known = {"git.sha": "[0-9a-f]{40}(?:[0-9a-f]{24})?", "key": "[0-9a-f]{16}"}
        parts += re.escape(written[end : match.start()]), known.get(match[2], re.escape(match[0]))
        end = match.end()
    return re.compile("".join(parts) + re.escape(written[end:]))


def expand(
    tags: Iterable[str], *, key: str | None, git_sha: str | None, at: Position
) -> tuple[str, ...]:
    """Return the tags with their references replaced, sorted, each once.

    `key` is the template key, of which 16 hexadecimal digits are used; `git_sha` the commit, None
    outside a repository. Raises ConfigError at `at` for every tag that is none afterwards
    (docs/protocol.md, 4: charset, no UUID, `default` is moved on its own, `sf-` is ours).
    """
    values = {"git.sha": git_sha, "key": key and key.partition(":")[2][:16]}
    problems: list[Problem] = []
    expanded = set()
    for tag in tags:
        text = _REFERENCE.sub(lambda match: _value(match, values), tag) if "$" in tag else tag
        if wrong := _complaint(tag, text, values):
            problems.append(Problem(at, *wrong))
        expanded.add(text)
    if problems:
        raise ConfigError(problems)
    return tuple(sorted(expanded))


def _value(match: re.Match[str], values: dict[str, str | None]) -> str:
    if match[1]:
        return "$"
    return values.get(match[2] or "") or match[0]


def _complaint(tag: str, text: str, values: dict[str, str | None]) -> tuple[str, str] | None:
    """Return message and hint if `text`, which `tag` became, is not a tag."""
    for match in _REFERENCE.finditer(tag) if "$" in tag else ():
        name = match[2]
        if name == "git.sha" and values[name] is None:
            return f"tag `{tag}` needs a commit, and there is none here", ""
        if name == "key" and values[name] is None:
            return f"tag `{tag}` needs the template key, which is not known yet", ""
        if name is not None and name not in _KNOWN:
            return f"tag `{tag}` uses `${{{name}}}`", "in tags there are `${git.sha}` and `${key}`"
    if text == "default":
        return (
            "the tag `default` is not set here",
            "it follows every build unless the target says `default: false`",
        )
    return complaint(text)


@lru_cache(maxsize=1024)  # many templates have the same
def complaint(text: str) -> tuple[str, str] | None:
    """Return message and hint if people may not give this tag (docs/protocol.md, 4)."""
    if not TAG.fullmatch(text):
        return f"`{text}` is not a tag", "tags have a-z, 0-9, `.`, `_` and `-`, at most 128"
    if UUID.fullmatch(text):
        return f"tag `{text}` is a UUID, which the service reads as a build ID", ""
    if is_content(text):
        return f"tag `{text}` begins with `sf-`, which is kept for content tags", ""
    return None
