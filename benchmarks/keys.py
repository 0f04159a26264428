"""What is read and hashed: keys of all templates in a fresh clone, beside what else hashes."""

from collections.abc import Mapping, Sequence

from benchmarks import peers
from benchmarks.programs import fresh, git, hash_object, sandboxfile, sha256sum
from benchmarks.setting import Setting
from benchmarks.timing import Rounds, figures, interleaved, ratio

ROUNDS = Rounds(least=3, most=9, budget_s=12)
PLAN = ("plan", "--offline", "--json")


def measure(setting: Setting, sizes: Sequence[int]) -> dict[str, object]:
    """Return figures for each size: `fresh` has no cache of ours, `cached` the one of the stats."""
    return {str(size): _of_size(setting, size) for size in sizes}


def _of_size(setting: Setting, size: int) -> Mapping[str, object]:
    made, cloned = setting.tree(size), setting.untold(size)
    others = peers.of(made, setting, f"keys-{size}-peers")
    found = interleaved(
        [
            fresh(setting, cloned, "fresh", *PLAN),
            sandboxfile(setting, made, "cached", *PLAN),
            git(setting, cloned, "git_ls_files", "ls-files", "--stage"),
            hash_object(setting, cloned),
            sha256sum(setting, cloned),
            *others.sdk(),
        ],
        ROUNDS,
    )
    ratios = {
        f"{ours}_vs_{name}": ratio(found[ours], taken)
        for ours in ("fresh", "cached")
        for name, taken in found.items()
        if name not in {"fresh", "cached"}
    }
    return {**ratios, "runs": {name: figures(taken) for name, taken in found.items()}}
