"""The programs that several subjects run: ours, and git's."""

import shutil
from dataclasses import replace

from benchmarks.setting import Setting
from benchmarks.timing import Contender
from benchmarks.tree import Tree

SAYS = "nothing to do"


def sandboxfile(setting: Setting, made: Tree, name: str, *words: str) -> Contender:
    """Return our program as users start it."""
    program = str(setting.program)
    return Contender(name=name, command=(program, *words), cwd=made.root, env=setting.environ)


def ours(setting: Setting, made: Tree) -> tuple[Contender, Contender]:
    """Return a run with nothing to do, and one that no earlier run has left a record for."""
    warm = replace(sandboxfile(setting, made, "sandboxfile", "build"), says=SAYS)
    record = made.root / ".sandboxfile" / "fresh"
    # Whoever comes after the second stage finds the record written again.
    return warm, replace(warm, name="second_stage", before=lambda: shutil.rmtree(record))


def fresh(setting: Setting, cloned: Tree, name: str, *words: str, says: str = "") -> Contender:
    """Return our program in a clone that has nothing but what git knows."""
    state = cloned.root / ".sandboxfile"
    run = sandboxfile(setting, cloned, name, *words)
    return replace(run, says=says, before=lambda: shutil.rmtree(state, ignore_errors=True))


def nothing(setting: Setting, made: Tree) -> Contender:
    """Return what starting Python takes, the one that the program runs with."""
    command = (str(setting.program.with_name("python")), "-c", "pass")
    return Contender(name="python_pass", command=command, cwd=made.root, env=setting.environ)


def status(setting: Setting, made: Tree) -> Contender:
    """Return git's way to find out what has changed."""
    return git(setting, made, "git_status", "status")


def git(setting: Setting, made: Tree, name: str, *words: str) -> Contender:
    return Contender(name=name, command=("git", *words), cwd=made.root, env=setting.environ)


def hash_object(setting: Setting, made: Tree) -> Contender:
    """Return git's reading and hashing of all files of all templates."""
    return over_files(setting, made, "git_hash_object", "git hash-object --stdin-paths")


def sha256sum(setting: Setting, made: Tree) -> Contender:
    """Return the reading and hashing of all files of all templates by SHA-256."""
    return over_files(setting, made, "sha256sum", "xargs sha256sum")


def over_files(setting: Setting, made: Tree, name: str, command: str) -> Contender:
    """Return a command of the shell that reads the paths of all files."""
    listed = setting.directory / f"{made.root.name}-files"
    if not listed.exists():
        listed.write_text("".join(f"{path}\n" for path in made.files))
    words = ("sh", "-ec", f"{command} <{listed}")
    return Contender(name=name, command=words, cwd=made.root, env=setting.environ)
