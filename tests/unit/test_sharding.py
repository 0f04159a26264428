"""How a plan is split: each template once, chains whole, everywhere alike."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile import sharding
from sandboxfile.model import (
    Copy,
    DockerfileBase,
    Env,
    ImageBase,
    Install,
    Instruction,
    Resources,
    Run,
    Template,
    TemplateBase,
)
from sandboxfile.places import Position
from sandboxfile.plan import Action, Decision
from sandboxfile.sharding import Shard
from sandboxfile.surveyed import Survey, Surveyed
from sandboxfile.taking import Taken
from sandboxfile.userdockerfile import parse

AT = Position("novita.yaml", 1, 1)


def surveyed(name: str, parent: str | None = None, *steps: Instruction) -> Surveyed:
    base = TemplateBase(template=parent, at=AT) if parent else ImageBase(image="debian", at=AT)
    template = Template(
        name=name, base=base, instructions=steps, user=None, workdir=None, start=None, ready=None,
        resources=Resources(), tags=(), pre_boot=None, at=AT,
    )  # fmt: skip
    return Surveyed(template=template, keys=None)


def survey(parents: Mapping[str, str | None]) -> Survey:
    return Survey({name: surveyed(name, parent) for name, parent in parents.items()})


def decision(name: str, action: Action) -> Decision:
    return Decision(
        template=name, target="t", action=action, reasons=(), keys=None, entry=None, tags=()
    )


@st.composite
def forests(draw: st.DrawFn) -> tuple[Mapping[str, str | None], Mapping[str, int]]:
    """Draw what is based on what, and the weights of those that are stale."""
    names = [f"t{number}" for number in range(draw(st.integers(0, 12)))]
    parents = {
        name: draw(st.sampled_from([None, *names[:number]])) for number, name in enumerate(names)
    }
    stale = draw(st.permutations(names))[: draw(st.integers(0, len(names)))]
    return parents, {name: draw(st.integers(0, 60)) for name in stale}


@given(forests(), st.integers(1, 9))
def test_each_template_is_in_one_shard_and_with_all_that_it_is_connected_to(
    forest: tuple[Mapping[str, str | None], Mapping[str, int]], count: int
) -> None:
    parents, weights = forest
    shards = sharding.split(weights, survey(parents), count)
    assert len(shards) == count
    assert sorted(name for shard in shards for name in shard) == sorted(weights)
    of = {name: number for number, shard in enumerate(shards) for name in shard}
    for name in weights:
        parent = parents[name]
        assert parent is None or parent not in weights or of[parent] == of[name]
    # The order in which things are found or written down changes nothing.
    backwards = dict(reversed(list(weights.items())))
    mirrored = survey(dict(reversed(list(parents.items()))))
    assert sharding.split(backwards, mirrored, count) == shards


def test_the_heaviest_chains_are_dealt_out_first() -> None:
    parents = {"a": None, "b": "a", "c": None, "d": None, "e": None}
    weights = {"a": 30, "b": 30, "c": 50, "d": 20, "e": 10}
    assert sharding.split(weights, survey(parents), 2) == (("a", "b", "e"), ("c", "d"))
    assert sharding.split(weights, survey(parents), 3) == (("a", "b"), ("c",), ("d", "e"))


def test_more_shards_than_chains_are_empty() -> None:
    parents = {"a": None, "b": "a", "c": None}
    weights = dict.fromkeys(parents, 1)
    assert sharding.split(weights, survey(parents), 4) == (("a", "b"), ("c",), (), ())
    assert sharding.split({}, survey({}), 2) == ((), ())


def test_siblings_on_a_parent_that_stays_are_no_chain() -> None:
    parents = {"base": None, "a": "base", "b": "base"}
    assert sharding.chains(["a", "b"], survey(parents)) == (("a",), ("b",))
    assert sharding.chains(["base", "b", "a"], survey(parents)) == (("a", "b", "base"),)


def test_work_is_judged_by_what_is_to_be_done() -> None:
    steps = (
        Env(values={}, at=AT),
        Install(manager="apt", packages=("git",), at=AT),
        Copy(sources=("a",), to="/a", root=Path(), at=AT),
        Run(command="make", at=AT),
    )
    user_file = parse("FROM debian\n", file="Dockerfile", args={}, stage=None)
    there = {each: surveyed(each, None, *steps) for each in ("build", "snapshot", "retag", "up")}
    plain = surveyed("own")
    base = DockerfileBase(dockerfile=Path(), context=Path(), at=AT)
    own = replace(
        plain,
        template=replace(plain.template, base=base),
        take=lambda: Taken(dockerfile=user_file),
    )
    decisions = [
        decision("build", "build"), decision("snapshot", "snapshot"), decision("retag", "retag"),
        decision("up", "up to date"), decision("own", "build"),
    ]  # fmt: skip
    weights = sharding.weights(decisions, Survey({**there, "own": own}))
    assert weights == {"build": 56, "snapshot": 10, "retag": 1, "own": 60}


@pytest.mark.parametrize(
    ("each", "asked", "expected"),
    [(0, None, 1), (1, None, 1), (11, None, 2), (900, None, 20), (1, 3, 3), (1, 99, 30)],
)
def test_there_are_as_many_shards_as_have_work(each: int, asked: int | None, expected: int) -> None:
    names = {f"t{number:02}": None for number in range(30)}
    weights = dict.fromkeys(names, each)
    assert sharding.count(weights, survey(names), asked) == expected
    assert sharding.count({}, survey(names), asked) == 0


def test_a_shard_is_written_as_it_is_read() -> None:
    assert sharding.parse("2/16") == Shard(number=2, of=16)
    assert str(sharding.parse("2/16")) == "2/16"


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "01/2", "1/2/3", "a/b", "1/99999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no shard: write `1/4` to `4/4`"):
        sharding.parse(text)
