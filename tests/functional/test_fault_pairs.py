"""Against the real local service with its faults switched on, one by one and in pairs.

Whatever goes wrong on the way: one template, one build, and its log to the last line, once.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest

from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.context import select
from sandboxfile.events import Event, Log
from sandboxfile.gathering import Ground
from sandboxfile.journal import Journal
from sandboxfile.local.service import LocalService
from sandboxfile.model import Copy, Secret, Target
from sandboxfile.registry import Registry
from sandboxfile.service import TemplateService
from sandboxfile.statcache import NoCache
from sandboxfile.targets import Recipe
from sandboxfile.targets.novita_v3 import NovitaV3
from sandboxfile.targets.patience import Patience
from sandboxfile.uploads import upload
from sandboxfile.web import Web
from tests.fakes import calls
from tests.fakes.publishing import AT, release
from tests.fakes.quickengine import LINES, quick_engine

KEY = "key-of-the-tests"
IMAGE = "127.0.0.1:1/acme/api@sha256:" + "77" * 32
FAULTS = (
    "register-limit", "register-429", "register-502", "register-500", "register-lost",
    "register-gone", "trigger-lost", "trigger-gone", "trigger-502", "trigger-503", "trigger-500",
    "status-500=3", "status-502=3", "status-gone=3", "status-waiting=4", "status-late",
    "other-502=2", "tags-503=2", "tags-lost",
)  # fmt: skip
# Of a service that makes the files itself: the links to its storage, and the storage.
UPLOADS = ("files-503", "files-502", "upload-expired", "upload-503", "upload-lost")
Faults = tuple[str, ...]


def cases(*, new: Faults, old: Faults = ()) -> list[Faults]:
    """Return each of the new faults alone, with each other, and with each of the old."""
    return [*((each,) for each in new), *combinations(new, 2), *product(new, old)]


PAIRS = [
    *(("docker", faults) for faults in cases(new=FAULTS)),
    *(("remote", faults) for faults in cases(new=UPLOADS, old=FAULTS)),
]
# Moments for what takes minutes outside: only how they compare matters.
BRIEF = Patience(
    poll_first=0.002, poll_most=0.02, failed_polls=10.0, answer=5.0, settle=0.1, resettle=0.1,
    confirm=0.01, no_builder=5.0, queue_first=0.01, queue_most=0.05,
)  # fmt: skip


class World:
    """A local service with faults, and what publishes to it."""

    def __init__(self, directory: Path, stack: ExitStack, faults: Faults) -> None:
        self.events: list[Event] = []
        self.service = LocalService(
            quick_engine(), directory / "data", logins=lambda _: None, faults=faults
        )
        stack.callback(self.service.stop)
        self.url = self.service.start()
        web = Web(user_agent="test", sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
        stack.callback(web.close)
        self.client = TemplateService(web, self.url, Secret(KEY))
        self.publisher = NovitaV3(
            service=self.client,
            journal=Journal.open(directory / "journal", emit=self.events.append, cancel=Cancel()),
            registry=Registry(web, lambda _: None),
            engine=quick_engine,
            target=Target(name="box", provider="novita", registry="127.0.0.1:1/acme"),
            logins=lambda _: None,
            emit=self.events.append,
            patience=BRIEF,
        )
        stack.callback(self.publisher.close)

    def whole_log(self, ids: Registration) -> list[str]:
        lines: list[str] = []
        while (page := self.client.status(ids, offset=len(lines))).count:
            lines += [entry.message for entry in page.entries]
        return lines


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def remote(directory: Path) -> Recipe:
    """What a service builds itself, with a file to send."""
    (directory / "hello").write_text("hello\n")
    copy = Copy(sources=("hello",), to="/srv/", root=directory, at=AT)
    return Recipe(image=IMAGE, uploads={1: upload(select(copy, Ground(directory)), NoCache())})


@pytest.mark.parametrize(
    ("builder", "faults"), PAIRS, ids=[f"{name}-{'+'.join(faults)}" for name, faults in PAIRS]
)
def test_a_build_ends_right_whatever_fails_on_its_way(
    tmp_path: Path, stack: ExitStack, builder: str, faults: Faults
) -> None:
    world = World(tmp_path, stack, faults)
    what = release(tags=("stable",), start=None, ready=None)
    if builder == "remote":
        what = replace(what, image=None, recipe=remote(tmp_path))
    image = IMAGE if builder == "docker" else None

    done = world.publisher.snapshot(what, image, emit=world.events.append, cancel=Cancel())
    kept = world.publisher.tag(what, done, remove=(), emit=world.events.append, cancel=Cancel())

    (template,) = calls.templates(world.url, KEY)
    (build,) = calls.builds(world.url, KEY, template["templateID"])
    assert (template["templateID"], build["buildID"]) == (done.template_id, done.build_id)
    assert build["status"] == "ready"
    assert kept == ("stable",)
    tags = {tag.tag for tag in world.client.tags(done.template_id)}
    assert tags == {what.content_tag, "stable", "default"}
    ids = Registration(template_id=done.template_id, build_id=done.build_id)
    log = world.whole_log(ids)
    assert len(log) > LINES
    assert [event.text for event in world.events if isinstance(event, Log)] == log
    if what.recipe is not None:
        (files,) = what.recipe.uploads.values()
        assert world.client.file_link(done.template_id, files.files_hash()).present
    if len(faults) == 1:  # of two at one place the second is not always reached
        assert not {name for name, count in world.service.faults.left.items() if count}
