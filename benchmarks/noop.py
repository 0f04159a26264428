"""Nothing to do: how long it takes to find that out, at growing numbers of templates."""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import peers, tree
from benchmarks.peers import Peers
from benchmarks.setting import Setting
from benchmarks.timing import Contender, Rounds, Samples, figures, interleaved, ratio, run
from benchmarks.tree import Kind, Tree

FLOOR = "git_status"
QUICK = Rounds(least=5, most=25, budget_s=8, warm=3)
SLOW = Rounds(least=3, most=9, budget_s=8)
ENGINE = Rounds(least=2, most=5, budget_s=12)
MOST_BUILDS = 100  # templates of which an engine is asked: a thousand take it minutes a round
CALIBRATING = 12  # templates by which it is found out how many builds at once are best
SAYS = "nothing to do"
RACY_S = 2.1  # what is younger is not trusted by git, nor by us


def measure(setting: Setting, sizes: Sequence[int]) -> dict[str, object]:
    """Return figures for each size, and how the time grows from the smallest to the largest."""
    return {str(size): _of_size(setting, size) for size in sizes}


def _of_size(setting: Setting, size: int) -> dict[str, object]:
    made = tree.make(setting.room(f"noop-{size}"), size, Kind())
    tree.pin(made, None)
    tree.lock(made, "box", setting.environ)
    tree.commit(made, setting.environ)
    cloned = tree.clone(made, setting.directory / f"noop-{size}-clone", setting.environ)
    others = peers.of(made, setting, f"noop-{size}-peers")
    quick = [*_ours(setting, made), *_floors(setting, made), *others.makers()]
    time.sleep(RACY_S)
    found = [
        interleaved(
            quick, Rounds(least=QUICK.least, most=QUICK.most, budget_s=QUICK.budget_s, warm=3)
        )
    ]
    slow = [
        _ours(setting, made)[0],
        *_floors(setting, made)[:1],
        _fresh(setting, cloned),
        hash_object(setting, cloned),
        *others.sdk(),
    ]
    found.append(interleaved(slow, SLOW))
    if setting.docker:
        found.append(_engine(setting, made, others))
    return told(found)


def _engine(setting: Setting, made: Tree, others: Peers) -> Samples:
    """Ask the engine whether everything is built, which it is."""
    names = made.names
    if len(names) > MOST_BUILDS:
        others.lacks(
            f"docker at {len(names)} templates", f"left out above {MOST_BUILDS}: minutes a round"
        )
        return {}
    others.arm()
    run(others.parallel(names, 4))  # nobody measures the first build
    sample = names[:CALIBRATING]
    best = peers.best(others.parallel(sample, at_once) for at_once in peers.PARALLEL)
    asked = [
        _ours(setting, made)[0],
        others.parallel(names, int(best.name.rpartition("p")[2])),
        others.serial(names),
        *others.compose(),
        *others.bake(),
    ]
    found = dict(interleaved(asked, ENGINE))
    found["docker_build_best_parallel"] = found[best.name]
    return found


# --- what is run -------------------------------------------------------------------------------


def sandboxfile(setting: Setting, made: Tree, name: str, *words: str) -> Contender:
    """Return our program as users start it."""
    script = Path(sys.executable).with_name("sandboxfile")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "sandboxfile"]
    return Contender(name=name, command=(*program, *words), cwd=made.root, env=setting.environ)


def _ours(setting: Setting, made: Tree) -> tuple[Contender, ...]:
    warm = replace(sandboxfile(setting, made, "sandboxfile", "build"), says=SAYS)
    record = made.root / ".sandboxfile" / "fresh"
    second = replace(warm, name="second_stage", before=lambda: record.unlink(missing_ok=True))
    # Whoever comes after the second stage finds the record written again.
    return warm, second


def _fresh(setting: Setting, cloned: Tree) -> Contender:
    state = cloned.root / ".sandboxfile"
    ours = sandboxfile(setting, cloned, "fresh_clone", "build")
    return replace(ours, says=SAYS, before=lambda: shutil.rmtree(state, ignore_errors=True))


def _floors(setting: Setting, made: Tree) -> tuple[Contender, ...]:
    status = Contender(
        name=FLOOR,
        command=("git", "status"),
        cwd=made.root,
        env=setting.environ,
        says="nothing to commit",
    )
    nothing = Contender(
        name="python_pass",
        command=(sys.executable, "-c", "pass"),
        cwd=made.root,
        env=setting.environ,
    )
    return status, nothing


def hash_object(setting: Setting, made: Tree) -> Contender:
    """Return git's own reading and hashing of all files of all templates."""
    listed = setting.directory / f"{made.root.name}-files"
    listed.write_text("".join(f"{path}\n" for path in made.files))
    return Contender(
        name="git_hash_object",
        command=("sh", "-ec", f"git hash-object --stdin-paths <{listed}"),
        cwd=made.root,
        env=setting.environ,
    )


# --- what is told ------------------------------------------------------------------------------


def told(groups: Iterable[Samples]) -> dict[str, object]:
    """Return figures and ratios; a ratio is of programs that ran in the same rounds."""
    runs: dict[str, Mapping[str, float]] = {}
    ratios: dict[str, float] = {}
    for samples in groups:
        runs = {**{name: figures(taken) for name, taken in samples.items()}, **runs}
        for name, taken in samples.items():
            if name != "sandboxfile":
                ratios.setdefault(f"vs_{name}", ratio(samples["sandboxfile"], taken))
        for ours in ("second_stage", "fresh_clone"):
            if ours in samples:
                ratios |= {
                    f"{ours}_vs_{name}": ratio(samples[ours], taken)
                    for name, taken in samples.items()
                    if name not in {ours, "sandboxfile"}
                }
    return {**ratios, "runs": runs}
