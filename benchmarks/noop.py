"""Nothing to do: how long it takes to find that out, at growing numbers of templates."""

import time
from collections.abc import Iterable, Mapping, Sequence

from benchmarks import peers
from benchmarks.peers import Peers
from benchmarks.programs import SAYS, fresh, hash_object, nothing, ours, status
from benchmarks.setting import Setting
from benchmarks.timing import Rounds, Samples, figures, interleaved, ratio, run
from benchmarks.tree import Tree

QUICK = Rounds(least=5, most=25, budget_s=6, warm=3)
SLOW = Rounds(least=5, most=15, budget_s=40)
SLOWEST = Rounds(least=3, most=9, budget_s=6)
ENGINE = Rounds(least=2, most=5, budget_s=8, warm=0)
ONCE = Rounds(least=1, most=1, budget_s=0, warm=0)
MOST_BUILDS = 100  # templates of which an engine is asked: a thousand take it minutes a round
CALIBRATING = 12  # templates by which it is found out how many builds at once are best
RACY_S = 2.1  # what is younger is not trusted by git, nor by us


def measure(setting: Setting, sizes: Sequence[int]) -> dict[str, object]:
    """Return figures and ratios for each size."""
    return {str(size): _of_size(setting, size) for size in sizes}


def _of_size(setting: Setting, size: int) -> dict[str, object]:
    made, cloned = setting.tree(size), setting.cloned(size)
    others = peers.of(made, setting, f"noop-{size}-peers")
    quick = [*ours(setting, made), status(setting, made), nothing(setting, made), *others.makers()]
    time.sleep(RACY_S)
    found = [interleaved(quick, QUICK)]
    mine = [
        ours(setting, made)[0],
        fresh(setting, cloned, "fresh_clone", "build", says=SAYS),
        fresh(setting, setting.untold(size), "fresh_clone_reading", "build", says=SAYS),
    ]
    found.append(interleaved([*mine, status(setting, made), hash_object(setting, cloned)], SLOW))
    found.append(interleaved([*mine, *others.sdk()], SLOWEST))
    if setting.docker:
        found += _engine(setting, made, others)
    return told(found)


def _engine(setting: Setting, made: Tree, others: Peers) -> list[Samples]:
    """Ask the engine whether everything is built, which it is."""
    names = made.names
    if len(names) > MOST_BUILDS:
        others.lacks(
            f"docker at {len(names)} templates", f"left out above {MOST_BUILDS}: minutes a round"
        )
        return []
    others.arm()
    run(others.parallel(names, 4))  # nobody measures the first build
    sample = names[:CALIBRATING]
    best = peers.best(others.parallel(sample, at_once) for at_once in peers.PARALLEL)
    asked = [
        ours(setting, made)[0],
        others.parallel(names, int(best.name.rpartition("p")[2])),
        *others.compose(),
        *others.bake(),
    ]
    found = dict(interleaved(asked, ENGINE))
    found["docker_build_best_parallel"] = found[best.name]
    return [found, interleaved([ours(setting, made)[0], others.serial(names)], ONCE)]


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
        for other in ("second_stage", "fresh_clone", "fresh_clone_reading"):
            if other in samples:
                ratios |= {
                    f"{other}_vs_{name}": ratio(samples[other], taken)
                    for name, taken in samples.items()
                    if name not in {other, "sandboxfile"}
                }
    return {**ratios, "runs": runs}
