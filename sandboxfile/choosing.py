"""Which templates words stand for: names, groups, globs, directories and files of the workspace."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from sandboxfile import reading
from sandboxfile.config import names
from sandboxfile.config.names import Named, Names
from sandboxfile.errors import UsageError
from sandboxfile.model import DEFAULT_GROUP, Workspace

_LISTED = 20  # names in a hint


def select(
    workspace: Workspace, words: Iterable[str], *, everything: bool = False
) -> tuple[str, ...]:
    """Return the templates that are asked for, in the order of the workspace.

    A word is a name, `path:name`, a group, a glob of names or of `path:name`, a directory (with a
    `/`, or `.`), which stands for what the members in and below it have, or one of the files that
    templates are written in. Without any the group `default` is meant where there is one and not
    `everything` is asked for, else all templates.
    Raises UsageError for a word that stands for nothing or for several things.
    """
    words = tuple(words)
    if not words:
        chosen = None if everything else workspace.groups.get(DEFAULT_GROUP)
        return tuple(workspace.templates) if chosen is None else chosen
    known = _names(workspace)
    found = {name for word in words for name in _meant(workspace, known, word)}
    return tuple(name for name in workspace.templates if name in found)


def one(workspace: Workspace, word: str) -> str:
    """Return the only template that a word stands for. Raises UsageError for none or several."""
    found = select(workspace, [word])
    if len(found) > 1:
        raise UsageError(f"`{word}` stands for {', '.join(found)}", hint="name one of them")
    return found[0]


def named(workspace: Workspace, word: str) -> str | None:
    """Return the one template that a word is a name of, if it is one."""
    meanings = _names(workspace).find(word)
    found = [name for names in meanings.values() for name in names]
    return found[0] if len(found) == 1 else None


def _names(workspace: Workspace) -> Names:
    return Names.of(
        Named(each.name, each.key or each.name, each.member, each.matrix)
        for each in workspace.templates.values()
    )


def _meant(workspace: Workspace, known: Names, word: str) -> Iterable[str]:
    if ":" not in word and word.endswith((".yaml", ".yml")) and reading.is_file(Path(word)):
        return _in_file(workspace, word)
    if ":" not in word and ("/" in word or word in {".", ".."}):
        return _in_directory(workspace, word)
    if names.is_glob(word):
        matched = known.matching(word)
        return matched or _complain(workspace, known, word)
    if word in workspace.groups:
        return workspace.groups[word]
    meanings = known.find(word)
    if len(meanings) > 1:
        hint = f"name one of {', '.join(meanings)}"
        raise UsageError(f"`{word}` stands for several templates", hint=hint)
    return next(iter(meanings.values())) if meanings else _complain(workspace, known, word)


def _in_directory(workspace: Workspace, word: str) -> tuple[str, ...]:
    directory = Path(os.path.realpath(word))
    found = tuple(
        name
        for name, each in workspace.templates.items()
        if (workspace.root / each.member).is_relative_to(directory)
    )
    if not found:
        hint = "name the directory of a member, or one that members are in"
        raise UsageError(f"no template is written in or below `{word}`", hint=hint)
    return found


def _in_file(workspace: Workspace, word: str) -> tuple[str, ...]:
    file = os.path.realpath(word)
    found = tuple(
        name
        for name, each in workspace.templates.items()
        if os.path.realpath(each.at.file) == file  # as written, it is relative to here
    )
    if not found:
        raise UsageError(
            f"no template of this workspace is written in `{word}`",
            hint="name a template, or the directory or file of a member; `--file` is for the root",
        )
    return found


def _complain(workspace: Workspace, known: Names, word: str) -> NoReturn:
    import difflib

    near = difflib.get_close_matches(word, _words(workspace, known, word), n=1)
    hint = f"did you mean `{near[0]}`?" if near else _there(workspace, known, word)
    raise UsageError(f"no template is called `{word}`", hint=hint)


def _there(workspace: Workspace, known: Names, like: str) -> str:
    """Say what can be named, each kind of word by itself."""
    matrices = {each.key for each in workspace.templates.values() if each.matrix}
    matrices -= workspace.templates.keys()
    kinds = {
        "templates": [word for word in known.words(like) if word not in matrices],
        "matrices": sorted(matrices) if ":" not in like else [],
        "groups": list(workspace.groups) if ":" not in like else [],
    }
    return "; ".join(
        f"{kind}: {', '.join(words[:_LISTED])}{', ...' if len(words) > _LISTED else ''}"
        for kind, words in kinds.items()
        if words
    )


def words(workspace: Workspace, like: str) -> tuple[str, ...]:
    """Return every word that stands for templates; `path:name` if `like` has a colon."""
    return _words(workspace, _names(workspace), like)


def _words(workspace: Workspace, known: Names, like: str) -> tuple[str, ...]:
    return known.words(like) if ":" in like else (*known.words(), *workspace.groups)
