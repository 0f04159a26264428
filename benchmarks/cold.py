"""Everything to do: twenty templates that nobody has built before, each with a RUN."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from benchmarks import instant, peers, tree
from benchmarks.peers import Peers
from benchmarks.programs import sandboxfile
from benchmarks.setting import KEY, Setting
from benchmarks.timing import (
    Contender,
    Rounds,
    Sample,
    Samples,
    figures,
    interleaved,
    ratio,
    timed,
)
from benchmarks.tree import Kind, Tree
from sandboxfile.registry import Registry
from sandboxfile.web import Web

COUNT = 20
CLONE = "images_only_in_a_clone"
AT_ONCE = "4"
PUSHES = Rounds(least=5, most=20, budget_s=5)
ASKED = 200  # times
ROUNDS = Rounds(least=8, most=8, budget_s=0, warm=0)
SLOW = Rounds(least=2, most=2, budget_s=0, warm=0)  # one image after the other


def measure(setting: Setting, sizes: Sequence[int]) -> Mapping[str, object]:  # noqa: ARG001
    """Return figures of twenty templates, whatever the sizes asked for.

    All builds are of the Dockerfiles that sandboxfile writes, but those `by_hand`, which say the
    same without the files that keep the environment for shells. Like is held against like:
    `images_only` is all that it does up to its images, from its start, against loops that only
    build; `sandboxfile` also pushes to a registry on this machine and publishes at a service that
    takes no time, against the fastest loop that builds and pushes (`vs_build_and_push`). These are
    runs where earlier content was built before; `images_only_in_a_clone` has nothing of it kept.
    `while_pushing_vs_best_parallel` is the moment of its last image in such a run, against a loop
    that does not push.
    """
    if not setting.docker or not setting.registry:
        return {"not measured": "it takes an engine, a docker client and a registry"}
    with instant.serving() as url:
        kind = Kind(api_url=url, registry=f"{setting.registry}/ours", work=True, served=False)
        made = tree.make(setting.room("cold"), COUNT, kind)
        tree.pin(made, setting.base)
        return _measured(setting, made)


def _measured(setting: Setting, made: Tree) -> Mapping[str, object]:
    by_hand = tree.copied(made, setting.directory / "cold-by-hand")
    tree.generate(made, setting.environ)
    hand, builds, pushes = (
        peers.of(each, setting, f"cold-{what}")
        for each, what in ((by_hand, "hand"), (made, "build"), (made, "push"))
    )
    hand.arm()
    builds.arm()
    pushes.arm(pushes.push(str(setting.registry)))
    change = Change(made, by_hand)
    best = peers.best(change.before(builds.parallel(made.names, count)) for count in peers.PARALLEL)
    at_once = int(best.name.rpartition("p")[2])
    images_only = change.before(_images_only(setting, made))
    found = interleaved(
        [
            change.before(_ours(setting, made)),
            images_only,
            best,
            change.before(_renamed(pushes.parallel(made.names, at_once), "build_and_push")),
            change.before(_renamed(hand.parallel(made.names, at_once), "by_hand")),
            change.before(_renamed(_images_only(setting, made), CLONE), is_clone=True),
        ],
        ROUNDS,
    )
    series = [builds.serial(made.names), builds.docker_sdk(made.names)]
    slow = interleaved([images_only, *map(change.before, series)], SLOW)
    push = _unchanged(setting, pushes, made.names[0])
    return {**_told(found, slow, best.name), "push": push}


def _unchanged(setting: Setting, pushes: Peers, name: str) -> Mapping[str, float]:
    """Ask whether an image that is at the registry is there, and push it with docker instead."""
    image = f"{setting.registry}/{tree.PREFIX}/{name}:raw"
    push = pushes.contender("docker_push", "docker", "push", "--quiet", image)
    pushed = figures(interleaved([push], PUSHES)[push.name])
    with closing(Web(user_agent="benchmarks")) as web:
        registry = Registry(web, lambda _: None)
        asked = timed(lambda: registry.head(image), ASKED)
    return {
        "vs_docker_push": round(asked["median_ms"] / pushed["median_ms"], 4),
        "head_ms": asked["median_ms"],
        "docker_push_ms": pushed["median_ms"],
    }


class Change:
    """Gives every run files that nobody has seen, and takes away what ours has kept."""

    def __init__(self, made: Tree, *others: Tree) -> None:
        self._made = made
        self._trees = (made, *others)
        self._number = 0

    def before(self, contender: Contender, *, is_clone: bool = False) -> Contender:
        return replace(contender, before=self._cloned if is_clone else self._anew)

    def _cloned(self) -> None:
        self._anew()
        rmtree(self._made.root / ".sandboxfile", ignore_errors=True)

    def _anew(self) -> None:
        self._number += 1
        for name in self._made.names:
            for each in self._trees:
                text = f"{name} of run {self._number}\n"
                (each.context(name) / tree.FILES[0]).write_text(text)
        (self._made.root / "novita.lock").unlink(missing_ok=True)


def _ours(setting: Setting, made: Tree) -> Contender:
    words = ("build", "--jobs", AT_ONCE, "--progress", "json")
    ours = sandboxfile(setting, made, "sandboxfile", *words)
    return replace(ours, env={**ours.env, **KEY}, mark=_is_image, says=f'"built": {COUNT}')


def _images_only(setting: Setting, made: Tree) -> Contender:
    script = Path(__file__).with_name("imagesonly.py")
    return Contender(
        name="images_only",
        command=(str(setting.program.with_name("python")), "-P", str(script), AT_ONCE),
        cwd=made.root,
        env={**setting.environ, **KEY},
        says=f"built {COUNT}\n",
    )


def _is_image(line: str) -> bool:
    event = json.loads(line)
    return event.get("event") == "done" and str(event.get("job", "")).startswith("build:")


def _renamed(contender: Contender, name: str) -> Contender:
    return replace(contender, name=name)


def _told(found: Samples, slow: Samples, best: str) -> Mapping[str, object]:
    ours, images = found["sandboxfile"], found["images_only"]
    pushing = [Sample(seconds=each.marked_s, cpu_s=each.cpu_s) for each in ours]
    return {
        "templates": COUNT,
        "best_parallel": best,
        "vs_best_parallel": ratio(images, found[best]),
        "in_a_clone_vs_best_parallel": ratio(found[CLONE], found[best]),
        "vs_best_parallel_by_hand": ratio(images, found["by_hand"]),
        "vs_serial": ratio(slow["images_only"], slow["docker_build_serial"]),
        "vs_docker_sdk": ratio(slow["images_only"], slow["docker_sdk"]),
        "vs_build_and_push": ratio(ours, found["build_and_push"]),
        "while_pushing_vs_best_parallel": ratio(pushing, found[best]),
        "runs": {name: figures(taken) for name, taken in {**slow, **found}.items()},
    }
