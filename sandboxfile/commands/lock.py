"""Join locks, solve a conflict, take bases that moved, drop what is left over, or only check."""

import argparse
import fnmatch
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sandboxfile import (
    app,
    choosing,
    counts,
    errors,
    git,
    leftovers,
    lockfile,
    lockmerge,
    planning,
    process,
)
from sandboxfile.app import Session
from sandboxfile.commands import outdated
from sandboxfile.config import finding
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.leftovers import LeftOver
from sandboxfile.lockfile import Lock
from sandboxfile.lockmerge import Choice, Merged, Now, State
from sandboxfile.model import DEFAULT_GROUP, Workspace
from sandboxfile.opening import opened
from sandboxfile.places import Position, Problem
from sandboxfile.plan import as_json, table
from sandboxfile.survey import survey

_LISTED = 10  # names in a hint
BY_HAND = "delete all lines but one of these bases in `{file}`, and run the command again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "files",
        nargs="*",
        metavar="FILE|BASE|TEMPLATE",
        help="with --merge: locks of other machines; with --upgrade: bases, or templates; with "
        "--check: templates, globs or groups; with --prune: names or globs of what is left over",
    )
    add("--merge", action="store_true", help="join locks, or solve the conflict that git left")
    add("--base", metavar="FILE", help="with --merge: what the locks began with, told by git")
    add("-o", "--output", metavar="FILE", help="with --merge: write here instead")
    add("--upgrade", action="store_true", help="pin bases to what their names mean now")
    add("--check", action="store_true", help="exit 2 if building these, or all, changes the lock")
    add(
        "--prune",
        action="store_true",
        help="drop templates and targets that novita.yaml no longer has, and print their IDs",
    )


def run(args: argparse.Namespace) -> int:
    if [args.check, args.merge, args.prune, args.upgrade].count(True) != 1:
        raise UsageError(
            "`lock` needs one of `--merge`, `--upgrade`, `--check` and `--prune`",
            hint="`build` writes the lock by itself; see `sandboxfile lock --help`",
        )
    if not args.merge and (args.base or args.output):
        raise UsageError("`--base` and `--output` go with `--merge`")
    if args.check:
        return _check(args)
    if args.prune:
        return _prune(args)
    if args.upgrade:
        return _upgrade(args)
    if args.base:
        return _in_git(args)
    return _merge(args)


def _check(args: argparse.Namespace) -> int:
    with opened(args) as it:
        names = _checked(it.session, args.files)
        if not args.json:
            it.show.say(it.heading)
        planned = planning.make(it.session, names, resolve=False)
    if args.json:
        sys.stdout.write(json.dumps(as_json(planned.decisions), indent=2) + "\n")
    elif not args.quiet:
        sys.stdout.write(table(planned.decisions))
    return errors.DIFFERENCES if planned.stale else errors.DONE


def _checked(session: Session, words: Sequence[str]) -> tuple[str, ...]:
    """Return the templates that the lock is asked about: without words all that are ever built.

    Where there is a group `default`, a template that is in no group and not in the lock, and that
    others extend, is there for these alone.
    """
    workspace = session.workspace
    names = choosing.select(workspace, words, everything=True)
    if words or DEFAULT_GROUP not in workspace.groups:
        return names
    extended = {name for each in workspace.templates.values() for name in each.extends}
    grouped = {name for group in workspace.groups.values() for name in group}
    shared = extended - grouped - session.entries().keys()
    return tuple(name for name in names if name not in shared)


def _upgrade(args: argparse.Namespace) -> int:
    """Pin bases to what they are now, all that were asked for or none."""
    with opened(args) as it:
        found = outdated.asked(it.session, args.files, pinning=True)
        outdated.raise_unknown(it.session, found)
        changed = [each for each in found if each.current != each.base.locked]
        planning.record_pins(
            it.session, {pin: digest for each in changed for pin, digest in each.pins.items()}
        )
    outdated.show(args, found, changed)
    if not args.quiet:
        sys.stderr.write(_upgraded(len(changed), len(found)))
    return errors.DONE


def _upgraded(changed: int, found: int) -> str:
    if not found:
        return outdated.NONE
    if not changed:
        what = f"all {found} bases as they are" if found > 1 else "the base as it is"
        return f"the lock has {what} now\n"
    bases = counts.of(changed, "base")
    return f"{bases} pinned anew; `sandboxfile build` builds what starts from there\n"


# --- pruning ---------------------------------------------------------------------------------


def _prune(args: argparse.Namespace) -> int:
    """Take what is left over out of both locks; what is at the services stays there.

    A name that is no left-over is a mistake, and nothing is dropped then.
    """
    workspace = app.workspace(args)
    paths = [workspace.root / name for name in (app.LOCK, app.LOCAL_LOCK)]
    there = [each for path in paths for each in _left_over(args, workspace, lockfile.read(path))]
    _check_named(args.files, there)
    dropped: list[LeftOver] = []

    def drop(lock: Lock) -> Lock:
        found = _left_over(args, workspace, lock)
        gone = [each for each in found if not args.files or _is_named(each, args.files)]
        dropped.extend(gone)
        return leftovers.without(lock, gone)

    for path in paths:
        if path.exists():
            lockfile.update(path, drop)
    if args.json:
        document = {"dropped": [dict(each.as_json) for each in dropped]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(leftovers.table(dropped))
    if not args.quiet:
        sys.stderr.write(_pruned(dropped, workspace))
    return errors.DONE


def _left_over(args: argparse.Namespace, workspace: Workspace, lock: Lock) -> list[LeftOver]:
    """Return what is left over, of the target that `--target` names alone where it does."""
    found = leftovers.of(lock, templates=workspace.templates, targets=workspace.targets)
    return [each for each in found if args.target in {None, each.target}]


def _is_named(each: LeftOver, words: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(each.template, word) for word in words)


def _check_named(words: Sequence[str], found: Sequence[LeftOver]) -> None:
    for word in words:
        if not any(_is_named(each, [word]) for each in found):
            names = ", ".join(f"`{each.target}/{each.template}`" for each in found[:_LISTED])
            hint = f"left over: {names}" if names else "nothing is left over"
            raise UsageError(f"`{word}` names nothing that is left over in the lock", hint=hint)


def _pruned(dropped: Sequence[LeftOver], workspace: Workspace) -> str:
    if not dropped:
        return "nothing is left over in the lock\n"
    said = f"{counts.of(len(dropped), 'result')} taken out of the lock, nothing is deleted"
    there = next((each for each in dropped if each.target in workspace.targets), None)
    if there is None:  # no command reaches what is there
        return f"{said}\n"
    command = f"sandboxfile delete {there.entry.template_id} --yes --target {there.target}"
    return f"{said}: `{command}` deletes one at the service\n"


# --- merging ---------------------------------------------------------------------------------


def _merge(args: argparse.Namespace) -> int:
    workspace = app.workspace(args)
    path = workspace.root / app.LOCK
    output = Path(args.output) if args.output else path
    _check_output(args)
    seen = lockfile.content(output)  # before anything else: what comes later must not be lost
    if args.files:
        base = lockfile.read(path)
        named = [_named(file) for file in args.files]
        if output.name != app.LOCAL_LOCK:
            _check_shared(args.files, named)
        sides = [lockmerge.over(base, lock) for lock in named]
    else:
        found = _conflict(path)
        if found is None:
            lock = lockfile.read(path)
            if args.json:
                _print(Merged(lock=lock))
            if not args.quiet:
                sys.stderr.write(f"{finding.shown(path)} has no conflict\n")
            return errors.DONE
        base, *sides = found
    merged = lockmerge.merge(base, sides, _now(workspace, [base, *sides]))
    if merged.open:
        raise _undecided(merged, finding.shown(output.absolute()))
    lockfile.replace(output, merged.lock, seen=seen)
    _tell(args, merged, finding.shown(output.absolute()), len(sides))
    return errors.DONE


def _in_git(args: argparse.Namespace) -> int:
    """Merge for git (gitattributes(5), `merge`), which has not merged the other files yet.

    So nothing is asked of them: what both sides have changed is left to be merged afterwards.
    """
    if not args.files or not args.output:
        raise UsageError("`--base` is for git, which names `--output` and two locks too")
    _check_output(args)
    sides = [_named(file) for file in args.files]
    merged = lockmerge.merge(_before(args.base), sides, None)
    if merged.open:
        names = ", ".join(f"`{name}`" for name in merged.open)
        hint = "merge the other files, then `sandboxfile lock --merge`"
        raise SandboxfileError(f"both sides have changed {names} in the lock", hint=hint)
    lockfile.write(Path(args.output), merged.lock)
    if args.json:
        _print(merged)
    return errors.DONE


def _before(file: str) -> Lock:
    """Return what both sides began with: of a lock that both have added git gives an empty file."""
    with lockfile.naming():
        text = lockfile.content(Path(file))
    return Lock() if text == "" else _named(file)


def _named(file: str) -> Lock:
    lock = lockfile.named(Path(file))
    if lock is None:
        raise UsageError(f"there is no lock `{file}`", hint="name locks that are there")
    return lock


def _check_output(args: argparse.Namespace) -> None:
    """Raise UsageError for a file that is no lock: it may be anybody's only copy."""
    if args.output is None or args.output in args.files:
        return  # a side is read as a lock anyhow, and what is wrong with it told
    with lockfile.naming():
        text = lockfile.content(Path(args.output))
    if text and not _is_lock(text, args.output):
        raise UsageError(
            f"`--output {args.output}`: this file is there already, and is no lock",
            hint="name a lock, or a file that is not there",
        )


def _is_lock(text: str, file: str) -> bool:
    """Say whether a text is a lock, or several with the marks of a conflict."""
    try:
        sides = lockmerge.sides_of(text)
        texts = [text] if sides is None else [sides.base, sides.ours, sides.theirs]
        for each in texts:
            _parsed(each, file)
    except (ConfigError, ValueError):
        return False
    return True


def _check_shared(files: Sequence[str], locks: Sequence[Lock]) -> None:
    """Refuse locks of one machine: images of its engine are at no other."""
    problems = [
        Problem(
            Position(file, 1, 1),
            "this lock is about one machine, its engine and its local templates",
            f"only what is in `{app.LOCK}` is shared: join the locks of a target that all reach",
        )
        for file, lock in zip(files, locks, strict=True)
        if Path(file).name == app.LOCAL_LOCK
        or any(pin.startswith(lockfile.ENGINE_PREFIX) for pin in lock.resolved)
    ]
    if problems:
        raise ConfigError(problems)


def _undecided(merged: Merged, file: str) -> ConfigError:
    hint = BY_HAND.format(file=file)
    return ConfigError(
        Problem(
            Position(file, 1, 1),
            f"the locks differ on `{name}`, and no build in them was made with either",
            hint,
        )
        for name in merged.open
    )


def _now(workspace: Workspace, locks: list[Lock]) -> Now:
    """Return what tells what templates are, for the targets that the locks have results of."""
    named = {target for lock in locks for target in lock.targets}
    targets = {name: each for name, each in workspace.targets.items() if name in named}
    digests = app.digests(app.kept(workspace.root))

    def now(resolved: Mapping[str, str]) -> Mapping[str, State]:
        states = {}
        for builder in {each.builder for each in targets.values()}:
            found = survey(
                workspace, workspace.templates, resolved=resolved, digests=digests, builder=builder
            ).templates
            states[builder] = State(
                keys={
                    n: each.keys.template_key if each.keys else None for n, each in found.items()
                },
                needs={name: each.unresolved for name, each in found.items()},
            )
        return {name: states[each.builder] for name, each in targets.items()}

    return now


# --- what git left ---------------------------------------------------------------------------


def _conflict(path: Path) -> tuple[Lock, ...] | None:
    """Return the base and both sides of a conflict, None when there is none.

    What is in the file counts first: somebody may have solved a part of it by hand. Raises
    ConfigError for a file that is no lock with or without its marks.
    """
    shown = finding.shown(path)
    text = lockfile.content(path) or ""
    stages = {number: _stage(path, number) for number in (1, 2, 3)}
    try:
        sides = lockmerge.sides_of(text)
    except ValueError as error:
        raise ConfigError([Problem(Position(shown, 1, 1), str(error), _RESTORE)]) from None
    if sides is not None:
        before = sides.base if sides.base is not None else stages[1]
        texts = [before, sides.ours, sides.theirs]
    elif stages[2] is not None and stages[3] is not None:
        texts = [stages[1], stages[2], stages[3]]
    else:
        return None
    return tuple(_parsed(text, shown) for text in texts)


_RESTORE = "`git checkout --merge novita.lock` brings back what git left"


def _parsed(text: str | None, shown: str) -> Lock:
    # Somebody may have taken the last base out of one side.
    text = re.sub(r"^resolved:\n(?! )", "", text or "", flags=re.MULTILINE)
    return lockfile.parse(text, shown) if text else Lock()


def _stage(path: Path, number: int) -> str | None:
    """Return what git has of an unmerged file: its base (1), ours (2), theirs (3)."""
    command = git.command(path.parent, "cat-file", "blob", f":{number}:./{path.name}")
    try:
        done = process.run(command)
    except SandboxfileError:  # there is no git, and no repository then
        return None
    return done.stdout if done.status == 0 else None


# --- what is said ----------------------------------------------------------------------------


def _tell(args: argparse.Namespace, merged: Merged, shown: str, sides: int) -> None:
    lock = merged.lock
    if args.json:
        _print(merged)
    if args.quiet:
        return
    for line in _lines(merged):
        sys.stderr.write(f"{line}\n")
    count = sum(len(templates) for templates in lock.targets.values())
    found = f"{counts.of(count, 'result')} and {counts.of(len(lock.resolved), 'base')}"
    sys.stderr.write(f"{shown}: {found} from {counts.of(sides, 'lock')}\n")


def _print(merged: Merged) -> None:
    document = {
        "templates": [_plain(each) for each in merged.choices],
        "resolved": dict(merged.lock.resolved),
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _lines(merged: Merged) -> Iterator[str]:
    for each in merged.choices:
        build = f"build {each.entry.build_id}" if each.entry else "nothing"
        yield f"{each.target}/{each.template}: {build}: {each.why}"


def _plain(choice: Choice) -> dict[str, object]:
    return {
        "target": choice.target,
        "name": choice.template,
        "build_id": choice.entry.build_id if choice.entry else None,
        "up_to_date": choice.fits,
        "why": choice.why,
    }
