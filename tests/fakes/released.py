"""Templates that were built and tagged at a service, and the lock that such runs left."""

from sandboxfile import lockfile
from sandboxfile.lockfile import Entry, Lock
from tests.fakes.service import Build, FakeService
from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  api:
    base: debian:12
    tags: [stable, "at-${{key}}"]
  web:
    base: debian:12
default_target: box
targets:
  box: {{provider: novita, api_url: "{url}", registry: "localhost:5000/team"{more}}}
"""


def build(service: FakeService, name: str, *tags: str, state: str = "ready") -> Build:
    """Make a build as one run after the other does: ready, then the tags moved to it."""
    made = service.register(name, [f"sf-{len(service.builds):016x}", *tags])
    made.settle(state)
    return made


def put(user: User, name: str, entry: Entry) -> None:
    def change(lock: Lock) -> Lock:
        return lock.with_entry("box", name, entry)

    lockfile.update(user.root / "novita.lock", change)


def entry(user: User, name: str = "api") -> Entry:
    return lockfile.read(user.root / "novita.lock").targets["box"][name]


def on(service: FakeService, tag: str, name: str = "api") -> str | None:
    return service.tags.get((service.names[name], tag))
