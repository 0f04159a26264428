"""How much memory is taken at the peak: by many templates, and by a context of 500 MB."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import instant, peers, tree
from benchmarks.programs import SAYS, fresh, ours, sandboxfile, status
from benchmarks.setting import KEY, Setting
from benchmarks.timing import Contender, run
from benchmarks.tree import Kind, Tree

FILES = 50
FILE_BYTES = 10_000_000
# Started anew, so that the peak is not that of this process, which the kernel would hand on:
# getrusage(2) of children, in KiB.
LAUNCHER = """
import os, sys
child = os.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
os._exit(os.waitstatus_to_exitcode(status))
"""


def measure(setting: Setting, sizes: Sequence[int]) -> Mapping[str, object]:
    """Return peaks of the largest process of each program, in MiB, at the largest of the sizes."""
    size = max(sizes)
    made, cloned = setting.tree(size), setting.cloned(size)
    others = peers.of(made, setting, f"memory-{size}-peers")
    peaks = _peaks(
        setting,
        [
            fresh(setting, cloned, "fresh_clone", "build", says=SAYS),
            fresh(setting, setting.untold(size), "fresh_clone_reading", "build", says=SAYS),
            *reversed(ours(setting, made)),
            status(setting, made),
            *others.sdk(),
        ],
    )
    return {str(size): peaks, "context_500_mb": _large(setting)}


def _peaks(setting: Setting, contenders: Iterable[Contender]) -> Mapping[str, float]:
    return {each.name: _peak(setting, each) for each in contenders}


def _peak(setting: Setting, contender: Contender) -> float:
    """Run a program and return the most that it, or a program it waited for, had in memory."""
    file = setting.directory / "peak"
    launcher = (sys.executable, "-I", "-S", "-c", LAUNCHER, str(file))
    run(replace(contender, command=(*launcher, *contender.command)))
    return round(int(file.read_text()) / 1024, 1)


def _large(setting: Setting) -> Mapping[str, object]:
    """Build one template of usual size, then one that copies 500 MB."""
    if not setting.docker or not setting.registry:
        return {"not measured": "it takes an engine, a docker client and a registry"}
    with instant.serving() as url:
        kind = Kind(api_url=url, registry=f"{setting.registry}/memory", served=False)
        made = tree.make(setting.room("memory"), 2, kind)
        tree.pin(made, setting.base)
        small, large = made.names
        _fill(made.context(large))
        tree.generate(made, setting.environ)
        others = peers.of(made, setting, "memory-peers")
        others.arm()
        found = {
            "sandboxfile_small": _peak(setting, _building(setting, made, small)),
            "sandboxfile": _peak(setting, _building(setting, made, large)),
            "docker_build": _peak(setting, others.contender("build", others.script, large)),
            "docker_sdk": _peak(setting, others.docker_sdk([large])),
        }
    return {**found, "above_small": round(found["sandboxfile"] - found["sandboxfile_small"], 1)}


def _fill(directory: Path) -> None:
    """Write the files: mostly holes, since what is in them makes no difference."""
    for number in range(FILES):
        with (directory / f"large-{number}").open("wb") as file:
            file.write(json.dumps(number).encode())
            file.truncate(FILE_BYTES)


def _building(setting: Setting, made: Tree, name: str) -> Contender:
    program = sandboxfile(setting, made, name, "build", name)
    return replace(program, env={**program.env, **KEY}, says="1 built")
