"""One file has changed: what it takes to build the one template it is in, at growing numbers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import instant, peers, tree
from benchmarks.peers import Peers
from benchmarks.programs import sandboxfile, status
from benchmarks.setting import KEY, Setting
from benchmarks.timing import (
    Contender,
    Rounds,
    Sample,
    figures,
    interleaved,
    ratio,
    ratio_of_sum,
    run,
)
from benchmarks.tree import Kind, Tree

ROUNDS = Rounds(least=9, most=15, budget_s=40)
AFTER = ("push:", "snapshot:", "tag:")  # what no other program here does
DOIT_S = 0.060  # what it takes to start doit, which make and ninja do without


def measure(setting: Setting, sizes: Sequence[int]) -> dict[str, object]:
    """Return figures for each size.

    All build the same Dockerfile, which sandboxfile has written. `sandboxfile` also pushes to a
    registry on this machine and publishes at a service that takes no time; `build_only` is the
    same run without the seconds of these steps, and is what the ratios are of, but the last one.
    """
    if not setting.docker or not setting.registry:
        return {"not measured": "it takes an engine, a docker client and a registry"}
    return {str(size): _of_size(setting, size) for size in sizes}


def _of_size(setting: Setting, size: int) -> Mapping[str, object]:
    with instant.serving() as url:
        kind = Kind(api_url=url, registry=f"{setting.registry}/change-{size}", served=False)
        made = tree.make(setting.room(f"change-{size}"), size, kind)
        tree.pin(made, setting.base)
        tree.lock(made, "box", setting.environ)
        name = made.names[size // 2]
        tree.generate(made, setting.environ, name)
        tree.commit(made, setting.environ)
        return _measured(setting, made, name)


def _measured(setting: Setting, made: Tree, name: str) -> Mapping[str, object]:
    others = peers.of(made, setting, f"{made.root.name}-peers")
    pushing = peers.of(made, setting, f"{made.root.name}-pushing")
    makers = others.makers()
    for each in makers:  # their script is idle: so all else is up to date for them
        run(each)
    others.arm()
    pushing.arm(pushing.push(str(setting.registry)))
    file = made.context(name) / tree.FILES[0]
    contenders = [
        _ours(setting, made),
        status(setting, made),
        _one(others, "build", name),
        _one(pushing, "build_and_push", name),
        *makers,
    ]
    found = dict(interleaved(Changes(file).before(contenders), ROUNDS))
    found["build_only"] = [_build_only(each) for each in found["sandboxfile"]]
    return _told(found)


class Changes:
    """Gives a file new content before every run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._number = 0

    def before(self, contenders: Sequence[Contender]) -> list[Contender]:
        return [replace(each, before=self._change) for each in contenders]

    def _change(self) -> None:
        self._number += 1
        self._file.write_text(f"change {self._number}\n")


def _ours(setting: Setting, made: Tree) -> Contender:
    program = sandboxfile(setting, made, "sandboxfile", "build", "--progress", "json")
    env = {**program.env, **KEY}
    return replace(program, env=env, mark=lambda _: True, says='"built": 1}')


def _one(others: Peers, what: str, name: str) -> Contender:
    return others.contender(what, others.script, name)


def _build_only(sample: Sample) -> Sample:
    events = [json.loads(line) for line in sample.said.splitlines() if line.startswith("{")]
    after = sum(
        float(event["seconds"])
        for event in events
        if event.get("event") == "done" and str(event.get("job", "")).startswith(AFTER)
    )
    return replace(sample, seconds=sample.seconds - after, said="")


def _told(found: Mapping[str, Sequence[Sample]]) -> Mapping[str, object]:
    floor = (found["git_status"], found["build"])
    less = [replace(each, seconds=each.seconds - DOIT_S) for each in found["build_only"]]
    ratios = {
        "vs_status_and_build": ratio_of_sum(found["build_only"], *floor),
        "less_60_ms_vs_status_and_build": ratio_of_sum(less, *floor),
        **{
            f"vs_{name}": ratio(found["build_only"], taken)
            for name, taken in found.items()
            if name in {"build", "make", "ninja", "doit"}
        },
        "whole_vs_status_and_build_and_push": ratio_of_sum(
            found["sandboxfile"], found["git_status"], found["build_and_push"]
        ),
    }
    return {**ratios, "runs": {name: figures(taken) for name, taken in found.items()}}
