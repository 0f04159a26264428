"""A phase that takes too long ends its build, and says so in the service's words."""

import time

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.local import guest
from sandboxfile.local.assembly import REPOSITORY, Workshop
from sandboxfile.local.boot import Patience
from sandboxfile.local.builder import Builder
from sandboxfile.local.limits import LIMITS, Limits, Timekeeper, duration
from sandboxfile.local.records import Build, Recipe, Step
from sandboxfile.local.store import Store
from tests.fakes.quickengine import quick_engine
from tests.unit.local.conftest import register

AT_ONCE = 0.05
PLAIN = Recipe(image="base:1", steps=(Step(type="RUN", args=("make it",)),), ready="be ready")


def ended(store: Store, recipe: Recipe, limits: Limits, *, endless: str) -> Build:
    """Build where a text is part of what never ends; the build at its end."""
    engine = quick_engine(endless)
    workshop = Workshop(
        store=store,
        engine=engine,
        logins=lambda _: None,
        registry=None,
        patience=Patience(timeout_s=limits.ready),
        limits=limits,
    )
    builder = Builder(workshop, parallel=1)
    made = register(store, "app", "v1")
    builder.start(store.trigger(made.template, made.build), recipe)
    deadline = time.monotonic() + 30
    while store.is_building(made.build):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)
    builder.stop()
    build = store.build(made.template, made.build)
    assert build is not None
    image = f"{REPOSITORY}:{build.id}"
    assert engine.find(image) == (image if build.status == "ready" else None)
    return build


@pytest.mark.parametrize(
    ("limits", "endless", "step", "reason"),
    [
        (Limits(base=AT_ONCE), "base:1", "base", "getting the base image"),
        (Limits(provisioning=AT_ONCE), guest._PROVISION, "base", "provisioning"),
        (Limits(step=AT_ONCE), "make it", "1", "the step"),
        (Limits(configuration=AT_ONCE), guest._CONFIGURE, "finalize", "the configuration script"),
        (Limits(finalize=AT_ONCE), "be ready", "finalize", "finalizing"),
        (Limits(finalize=AT_ONCE), REPOSITORY, "finalize", "finalizing"),  # its last commit
    ],
)
def test_a_phase_that_does_not_end_fails_at_its_step(
    store: Store, limits: Limits, endless: str, step: str, reason: str
) -> None:
    build = ended(store, PLAIN, limits, endless=endless)
    assert build.status == "error"
    assert build.reason is not None
    assert build.reason.step == step
    assert build.reason.message == f"build timed out: {reason} took longer than 0.05s"
    said = store.entries(build.id, level="error", offset=0, limit=9)
    assert [each.message for each in said] == [f"Build failed: {build.reason.message}"]


def test_readiness_has_a_text_of_its_own(store: Store) -> None:
    build = ended(store, PLAIN, Limits(ready=AT_ONCE), endless="be ready")
    assert build.reason is not None
    assert build.reason.message == "ready command failed: ready command timed out after 0.05s"


def test_a_build_within_its_limits_is_ready(store: Store) -> None:
    build = ended(store, PLAIN, LIMITS, endless="")
    assert (build.status, build.reason) == ("ready", None)


def test_a_build_that_was_stopped_before_did_not_run_out_of_time() -> None:
    cancel = Cancel()
    keeper = Timekeeper(Limits(step=0.0), cancel)
    cancel.set()
    keeper._stop("the step", 1.0)
    assert keeper.verdict == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "0.5s"),
        (2, "2s"),
        (59.9, "59.9s"),
        (60, "1m0s"),
        (600, "10m0s"),
        (3723, "1h2m3s"),
    ],
)
def test_durations_are_written_as_the_service_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
