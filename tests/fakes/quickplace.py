"""A workspace, and a service that carries everything out at once: where no image matters."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
targets: {{far: {{provider: novita, api_url: "http://{address}"{more}}}}}
templates:
  a: {{base: {{remote: base}}, tags: [blue]}}
  b: {{base: {{remote: base}}, tags: [blue]}}
"""


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


@contextmanager
def quick_place(directory: Path, *, more: str = "") -> Iterator[Place]:
    """Make one; `more` is what else its target has."""
    with ExitStack() as stack:
        service = LocalService(quick_engine(), directory / "data", logins=lambda _: None)
        stack.callback(service.stop)
        url = service.start()
        front = stack.enter_context(tripwire(url.removeprefix("http://")))
        web = Web(user_agent="sandboxfile-tests")
        stack.callback(web.close)
        work = stack.enter_context(workspace(directory, "far", {"NOVITA_API_KEY": KEY}))
        work.write(CONFIG.format(address=front.address, more=more))
        client = TemplateService(web, url, Secret(KEY), Secret(KEY))
        yield Place(workspace=work, service=front, client=client, url=url)
