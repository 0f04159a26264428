"""Ctrl-C at every request of the commands that change what is at a service.

Each says what is done and what is not, and a further run finishes it.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from sandboxfile import lockfile
from sandboxfile.buildstatus import Registration
from sandboxfile.frozen import dataclass
from sandboxfile.local.service import LocalService
from sandboxfile.lockfile import Entry
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.triggers import Start
from sandboxfile.web import Web
from tests.fakes import calls
from tests.fakes.program import Program, Workspace, wait_until, workspace
from tests.fakes.quickengine import quick_engine
from tests.fakes.tripwire import Moment, Tripwire, tripwire

KEY = "key-of-the-tests"
INTERRUPTED = 130
LIMIT_S = 10
CONFIG = """\
version: 1
targets: {{far: {{provider: novita, api_url: "http://{address}"}}}}
templates:
  a: {{base: {{remote: base}}, tags: [blue]}}
  b: {{base: {{remote: base}}, tags: [blue]}}
"""
CHANGES = ("POST", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace and a service that carries everything out at once, with traps before it."""

    workspace: Workspace
    service: Tripwire
    client: TemplateService
    url: str

    def ready(self, name: str, *tags: str) -> Registration:
        """Make a ready build with these tags."""
        made = self.client.register(name, tags=tags, cpu=1, memory=128)
        self.client.trigger(made, Start(image="base:1"))
        wait_until(lambda: self.client.status(made).state == "ready", f"build of {name}")
        return made

    def keep(self, name: str, made: Registration) -> None:
        """Write a build to the lock, as the run that made it does."""
        entry = Entry(
            template_id=made.template_id, build_id=made.build_id, image="",
            image_key=f"sf1:{0:064}", template_key=f"sf1:{0:064}", parts={}, tags=("blue",),
        )  # fmt: skip
        lockfile.update(self.workspace.lock_path, lambda lock: lock.with_entry("far", name, entry))

    def on(self, name: str, tag: str) -> str | None:
        """Return the build that has a tag."""
        (row,) = (each for each in calls.templates(self.url, KEY) if name in each["aliases"])
        found = self.client.tags(row["templateID"])
        return next((each.build_id for each in found if each.tag == tag), None)

    @property
    def names(self) -> set[str]:
        return {name for row in calls.templates(self.url, KEY) for name in row["aliases"]}

    def run(self, command: str, *argv: str) -> Program:
        program = self.workspace.start(*argv, command=command)
        program.succeed()
        return program

    def interrupted(
        self, command: str, *argv: str, method: str, moment: Moment, nth: int
    ) -> Program | None:
        """Stop a run at a request; None when it ends well before it makes that many."""
        trap = self.service.trap(method, "", moment, nth=nth)
        program = self.workspace.start(*argv, command=command)
        wait_until(lambda: trap.is_sprung or program.process.poll() is not None, str(trap))
        if not trap.is_sprung:
            program.succeed()
            trap.nth = -1  # the next run's requests are not its own
            return None
        program.send(signal.SIGINT, group=True)
        assert program.end(LIMIT_S) == INTERRUPTED, program.stderr
        trap.release()
        assert "Traceback" not in program.stderr
        assert "stopped; " in program.stderr
        return program


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        service = LocalService(quick_engine(), tmp_path / "data", logins=lambda _: None)
        stack.callback(service.stop)
        url = service.start()
        front = stack.enter_context(tripwire(url.removeprefix("http://")))
        web = Web(user_agent="sandboxfile-tests")
        stack.callback(web.close)
        work = stack.enter_context(workspace(tmp_path, "far", {"NOVITA_API_KEY": KEY}))
        work.write(CONFIG.format(address=front.address))
        client = TemplateService(web, url, Secret(KEY), Secret(KEY))
        yield Place(workspace=work, service=front, client=client, url=url)


def moments(attempt: Callable[[str, Moment, int], bool]) -> int:
    """Make attempts before each request, and after each that changes something; how many."""
    made = 0
    for method, moment in (("", "arrived"), *((each, "carried out") for each in CHANGES)):
        for nth in count(1):
            if not attempt(method, moment, nth):  # type: ignore[arg-type]
                break
            made += 1
    return made


def told(program: Program, word: str) -> set[str]:
    """Return the names after a word of what was said at the end."""
    found = re.search(rf"[;] {word}: ((?:`[^`]+`(?:, )?)+)", program.stderr)
    return set(re.findall("`([^`]+)`", found[1])) if found else set()


def test_delete_says_what_is_gone_and_goes_on_with_the_rest(place: Place) -> None:
    def attempt(method: str, moment: Moment, nth: int) -> bool:
        for name in ("a", "b"):
            place.keep(name, place.ready(name, "default"))
        stopped = place.interrupted(
            "delete", "a", "b", "--yes", method=method, moment=moment, nth=nth
        )
        if stopped is None:
            return False
        gone, rest = told(stopped, "deleted"), told(stopped, "perhaps") | told(stopped, "not")
        if "nothing is deleted" in stopped.stderr:
            rest = {"a", "b"}
        assert gone | rest == {"a", "b"}
        assert not gone & (place.names | place.workspace.entries.keys())
        assert told(stopped, "not") <= place.names & place.workspace.entries.keys()
        place.run("delete", *sorted(rest), "--yes")
        assert (place.names, dict(place.workspace.entries)) == (set(), {})
        return True

    assert moments(attempt) >= 6


def test_promote_says_what_is_moved_and_is_finished_by_the_same_command(place: Place) -> None:
    made = {name: place.ready(name, "default", "blue") for name in ("a", "b")}
    for name, each in made.items():
        place.keep(name, each)
    turn = count(1)

    def attempt(method: str, moment: Moment, nth: int) -> bool:
        argv = ("a", "b", "--from", "blue", "--to", tag := f"green-{next(turn)}")
        stopped = place.interrupted("promote", *argv, method=method, moment=moment, nth=nth)
        if stopped is not None:
            moved, left = told(stopped, "moved"), told(stopped, "not")
            if "no tag is moved" in stopped.stderr:
                left = {"a", "b"}
            assert moved | left | told(stopped, "perhaps") == {"a", "b"}
            assert {place.on(name, tag) for name in left} <= {None}
            assert all(place.on(name, tag) == made[name].build_id for name in moved)
            place.run("promote", *argv)
        assert all(place.on(name, tag) == each.build_id for name, each in made.items())
        return stopped is not None

    assert moments(attempt) >= 8


def test_rollback_is_finished_by_the_command_that_it_names(place: Place) -> None:
    old, new = (place.ready("a", "default", "blue") for _ in range(2))
    place.keep("a", new)

    def attempt(method: str, moment: Moment, nth: int) -> bool:
        place.client.assign_tags(f"a:{new.build_id}", ("default", "blue"))
        stopped = place.interrupted("rollback", "a", method=method, moment=moment, nth=nth)
        if stopped is not None and "no tag is moved" in stopped.stderr:
            assert place.on("a", "blue") == new.build_id
            place.run("rollback", "a")
        elif stopped is not None:
            named = re.search(r"`sandboxfile (rollback [^`]+)` finishes it", stopped.stderr)
            assert named
            place.run(*named[1].split())
        assert place.on("a", "default") == place.on("a", "blue") == old.build_id
        moved = place.workspace.entries["a"].moved
        assert moved == {"default": old.build_id, "blue": old.build_id}
        return stopped is not None

    assert moments(attempt) >= 5
