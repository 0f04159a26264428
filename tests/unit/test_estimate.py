"""What a plan will take follows from its steps, its edges and what earlier runs took."""

from dataclasses import fields
from typing import Any

import pytest

from sandboxfile import estimate, plan
from sandboxfile.config import load
from sandboxfile.durations import Cost, History
from sandboxfile.headstart import HeadStart
from sandboxfile.model import Builder
from sandboxfile.pipeline import Pipeline
from sandboxfile.plan import Decision, Known
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import PINS
from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  child: {base: {template: parent}, run: ["true"]}
  parent: {base: debian:12}
  there: {base: {remote: "acme:prod"}, start: sleep 600}
"""
HISTORY = History(
    {
        "build:parent": Cost(seconds=10.0),
        "build:child": Cost(seconds=5.0),
        "snapshot:parent@prod": Cost(seconds=3.0),
        "snapshot:child@prod": Cost(seconds=1.0),
        "push:parent@prod": Cost(seconds=2.0),
        "generate:parent": Cost(seconds=0.0),
        "tag:parent@prod": Cost(seconds=0.0),
    }
)


def planned(user: User, builder: Builder = "docker") -> tuple[tuple[Decision, ...], Survey]:
    user.write("novita.yaml", CONFIG)
    workspace = load.load(user.root / "novita.yaml")
    found = survey(workspace, workspace.templates, resolved=PINS, digests=NoCache())
    known = [
        Known(template=each.template, keys=each.keys, entry=None, builder=builder)
        for each in found.templates.values()
    ]
    return plan.make(known, target="prod"), found


def test_a_template_takes_all_its_steps(user: User) -> None:
    expected = {"parent": 15.0, "child": 8.0, "there": 2.0}
    assert estimate.of_templates(*planned(user), HISTORY) == pytest.approx(expected)


def test_images_wait_for_images_and_snapshots_of_the_service_for_snapshots(user: User) -> None:
    chains = estimate.chains(*planned(user))
    assert chains["build:child"] == ("generate:child", "build:parent")
    assert chains["snapshot:child"] == ("push:child",)
    there = [job for job in chains if job.endswith(":there")]
    assert there == ["snapshot:there", "tag:there"]
    elsewhere = estimate.chains(*planned(user, "remote"))
    assert elsewhere["snapshot:child"] == ("generate:child", "snapshot:parent")
    assert "generate:there" in elsewhere


def test_a_run_takes_its_longest_chain_or_what_its_places_allow(user: User) -> None:
    decisions, found = planned(user)
    assert estimate.of_run(decisions, found, HISTORY, {}) == pytest.approx(10 + 5 + 2 + 1)
    one = dict.fromkeys(("build", "push", "snapshot"), 1)
    assert estimate.of_run(decisions, found, HISTORY, one) == pytest.approx(10 + 5 + 2 + 1)
    assert estimate.of_run((), found, HISTORY, one) == 0.0


@pytest.mark.parametrize("builder", ["docker", "remote"])
def test_what_is_estimated_is_what_will_run(user: User, builder: Builder) -> None:
    decisions, found = planned(user, builder)
    nothing: dict[str, Any] = dict.fromkeys(each.name for each in fields(Pipeline) if each.init)
    known = {"survey": found, "builder": builder, "begun": HeadStart()}
    jobs = Pipeline(**{**nothing, **known}).jobs(decisions)
    needs = {job.name: tuple(need.name for need in job.needs) for job in jobs}
    assert estimate.chains(decisions, found) == needs
