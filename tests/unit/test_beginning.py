"""An image is built while registry and service are asked, where it is all but certain to be new."""

import argparse
import io
import json
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing, contextmanager

import pytest

from sandboxfile import app, lockfile, planning
from sandboxfile.app import Session
from sandboxfile.beginning import Beginning
from sandboxfile.lockfile import ENGINE_PREFIX
from sandboxfile.pins import pin_name
from sandboxfile.plan import Decision
from sandboxfile.redact import Redactor
from tests.fakes import engine as engines
from tests.fakes.engine import Answer, Asked, FakeEngine, pushed
from tests.fakes.service import Answer as Said
from tests.fakes.service import FakeService, Sent, serving
from tests.fakes.shell import Ran, User

BASE, MADE = (f"sha256:{letter * 64}" for letter in "ab")
MANIFEST = b'{"schemaVersion": 2, "config": {}, "layers": []}'
NAMES = ("api", "web")
LIMIT_S = 30.0
CONFIG = """\
version: 1
targets:
  it: {{provider: novita, api_url: "{url}", registry: "{host}/acme"}}
templates:
  api: {{base: "mine:1", files: [api.txt -> /text], run: [echo api]}}
  web: {{base: "mine:1", files: [web.txt -> /text], run: [echo web]}}
"""


class Place(FakeService):
    """A service with a registry, which may do something before it says whether it has an image."""

    before: Callable[[str, str], None] | None = None

    def answer(self, request: Sent) -> Said | None:
        asked = re.fullmatch(r"/v2/(.+)/manifests/(.+)", request.path)
        if asked and self.before is not None:
            self.before(asked[1], asked[2])
        return super().answer(request)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    made.script = ("ready",)
    with serving(made):
        yield made


class Scene:
    """Somebody who has built two templates, of which he then changes one."""

    def __init__(self, user: User, engine: FakeEngine, place: Place) -> None:
        self.user, self.engine, self.place = user, engine, place
        self.begun, self.hold = threading.Event(), threading.Event()
        self.waited: list[bool] = []
        self.lines: tuple[object, ...] = ({"id": "moby.image.id", "aux": {"ID": MADE}},)
        engine.answers |= {
            "GET /images/mine:1/json": Answer(body={"Id": BASE, "Config": {"User": "me"}}),
            "POST /build": self._build,
            f"GET /images/{MADE}/json": Answer(body={"Id": MADE, "Config": {"User": "me"}}),
        }
        host = place.url.removeprefix("http://")
        for name in NAMES:
            user.write(f"{name}.txt", "one")
            engine.answers[f"POST /images/{host}/acme/{name}/push"] = pushed(
                place.put_manifest, f"acme/{name}", MANIFEST
            )
        self.build()

    def _build(self, asked: Asked) -> Answer:
        self.engine.answers[f"POST /images/{asked.query['t']}/tag"] = Answer(status=201)
        self.begun.set()
        return Answer(messages=self.lines, hold=self.hold)

    def build(self, *argv: str) -> Ran:
        """Build with an engine that ends its builds."""
        self.hold.set()
        return self.user.build(*argv)

    def change(self) -> None:
        """Change a file of `api`; the registry answers when its build has begun, or never does."""
        self.user.write("api.txt", "two")
        self.engine.asked.clear()
        self.place.requests.clear()
        self.begun.clear()
        self.place.before = lambda *_: self.waited.append(self.begun.wait(LIMIT_S))

    def wait_sent(self, count: int) -> list[Asked]:
        """Wait until the engine has got so many builds."""
        end = time.monotonic() + LIMIT_S
        while self.builds < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.engine.requests("POST", "/build")

    @contextmanager
    def beginning(self, **options: bool) -> Iterator[tuple[Beginning, Decision, Decision]]:
        """Give what begins the builds of two templates that this checkout has never built."""
        self.change()
        self.user.write("web.txt", "two")
        shutil.rmtree(self.user.root / app.STATE)
        user = self.user
        args = argparse.Namespace(
            file=None, target="it", offline=False, var=None, environ=user.environ, home=user.home
        )
        vars(args).update(options)
        with chdir(user.root):
            workspace = app.workspace(args)
            target, _ = app.target(args, workspace)
            session = Session(
                args=args,
                workspace=workspace,
                target=target,
                emit=lambda _: None,
                redactor=Redactor(),
            )
            with closing(session):
                made = planning.make(session, NAMES, ask=False)
                begin = Beginning(session, made.survey, made.decisions, made.resolved)
                begin.sure()
                api, web = (begin.first[name] for name in NAMES)
                yield begin, api, web
                self.hold.set()

    @property
    def builds(self) -> int:
        return len(self.engine.requests("POST", "/build"))


@pytest.fixture
def scene(user: User, place: Place) -> Iterator[Scene]:
    host = place.url.removeprefix("http://")
    user.write("novita.yaml", CONFIG.format(url=place.url, host=host))
    pins = {f"{ENGINE_PREFIX}{pin_name('mine:1')}": BASE}
    lockfile.update(user.root / app.LOCAL_LOCK, lambda lock: lock.with_resolved(pins))
    with engines.serving() as engine:
        own = {"NOVITA_API_KEY": "key-123456", "SANDBOXFILE_TARGET": "it"}
        made = Scene(user.having(**own, DOCKER_HOST=engine.url), engine, place)
        yield made
        made.hold.set()


# An engine that starts a program for each archive.
OLD = {"Version": "20.10.24", "ApiVersion": "1.41", "Os": "linux"}


def sent(asked: Asked) -> set[str]:
    """Name the templates whose files came with a build."""
    with tarfile.open(fileobj=io.BytesIO(asked.body)) as found:
        return {name.partition("/")[0] for name in found.getnames()}


def jobs(ran: Ran) -> set[str]:
    return {str(event["job"]) for event in ran.events if event.get("job")}


def test_what_was_changed_here_is_built_while_the_registry_is_asked(scene: Scene) -> None:
    scene.change()
    ran = scene.build()
    assert scene.waited[0], "the registry was asked before anything was built"
    assert scene.builds == 1
    asked = [f"{each.method} {each.path.rpartition('/')[0]}" for each in scene.place.requests]
    assert asked.count("HEAD /v2/acme/api/manifests") == 2, "by the plan, and after the push"
    assert ran.done == {"build:api", "push:api", "snapshot:api", "tag:api"}
    sent = next(event for event in ran.events if event.get("job") == "build:api")
    assert sent["event"] == "started", "events of a build come when it is a job"


def test_a_build_that_has_begun_waits_for_no_job(scene: Scene) -> None:
    scene.change()
    scene.build("-j", "1", "--profile", "trace.json")
    trace = json.loads((scene.user.root / "trace.json").read_text())
    jobs = {each["name"]: each for each in trace["traceEvents"] if each["ph"] == "X"}
    assert jobs["build:api"]["ts"] < jobs["generate:api"]["ts"] < jobs["push:api"]["ts"]
    critical = [name for name, job in jobs.items() if job["args"].get("critical")]
    assert critical[-3:] == ["push:api", "snapshot:api", "tag:api"]


def test_nothing_is_begun_under_the_key_of_a_base_that_has_moved_in_the_engine(
    scene: Scene,
) -> None:
    scene.change()
    scene.place.before = None
    moved = f"sha256:{'c' * 64}"
    scene.engine.answers |= {
        "GET /images/mine:1/json": Answer(body={"Id": moved, "Config": {"User": "me"}}),
        f"GET /images/{BASE}/json": Answer(body={"Id": BASE, "Config": {"User": "me"}}),
    }
    scene.build("--force", "api")
    assert scene.builds == 1


@pytest.mark.parametrize("base", ["mine:1", "own"])
def test_nothing_built_on_a_base_that_moves_meanwhile_stands_under_its_key(
    scene: Scene, base: str
) -> None:
    if base == "own":
        scene.user.write("Dockerfile", "FROM mine:1\nRUN true\n")
        scene.user.edit("novita.yaml", lambda text: text.replace(
            'api: {base: "mine:1"', "api: {base: {dockerfile: Dockerfile}"
        ))  # fmt: skip
    build = scene.engine.answers["POST /build"]
    assert callable(build)

    def move(asked: Asked) -> Answer:
        moved = Answer(body={"Id": f"sha256:{'c' * 64}", "Config": {"User": "me"}})
        scene.engine.answers["GET /images/mine:1/json"] = moved
        scene.engine.answers[f"DELETE /images/{asked.query['t']}"] = Answer()
        return build(asked)

    scene.engine.answers["POST /build"] = move
    scene.engine.asked.clear()
    scene.user.write("api.txt", "two")

    ran = scene.user.run("build", "api")

    assert ran.code == 1
    assert ran.err.count("the base `mine:1` became another image while this was built") == 1
    done = [(asked.method, asked.path) for asked in scene.engine.asked]
    (built,) = scene.engine.requests("POST", "/build")
    assert done.count(("DELETE", f"/images/{built.query['t']}")) == 1
    assert not any(path.endswith("/push") for _, path in done)


def test_a_clone_that_has_built_nothing_asks_first(scene: Scene) -> None:
    scene.change()
    shutil.rmtree(scene.user.root / app.STATE)
    scene.place.before = lambda *_: scene.waited.append(scene.begun.is_set())
    scene.build()
    assert scene.waited[0] is False
    assert scene.builds == 1


def test_what_goes_together_begins_when_all_of_it_is_known(scene: Scene) -> None:
    scene.engine.answers["GET /version"] = Answer(body=OLD)
    with scene.beginning() as (begin, api, web):
        begin.answered(api, is_absent=True)
        begin.answered(web, is_absent=True)
        first, second = scene.wait_sent(2)
    assert sent(first) == {"api", "web"}
    assert first.body == second.body


def test_nothing_is_sent_of_what_somebody_has(scene: Scene) -> None:
    scene.engine.answers["GET /version"] = Answer(body=OLD)
    with scene.beginning() as (begin, api, web):
        begin.answered(api, is_absent=True)
        begin.answered(web, is_absent=False)
        begin.keep([api])
        (only,) = scene.wait_sent(1)
    assert sent(only) == {"api"}


@pytest.mark.parametrize(
    ("version", "options"), [(engines.VERSION, {}), (OLD, {"no_cache": True})], ids=["new", "fresh"]
)
def test_what_goes_alone_begins_before_anything_else_is_known(
    scene: Scene, version: Mapping[str, object], options: dict[str, bool]
) -> None:
    scene.engine.answers["GET /version"] = Answer(body=version)
    with scene.beginning(**options) as (begin, api, _):
        begin.answered(api, is_absent=True)
        (only,) = scene.wait_sent(1)
    assert only.query["t"].startswith("sandboxfile/api:")


def test_what_is_forced_is_built_at_once(scene: Scene) -> None:
    scene.change()
    shutil.rmtree(scene.user.root / app.STATE)
    ran = scene.build("--force", "web")
    assert all(scene.waited)
    assert (scene.builds, "build:web" in ran.done) == (1, True)


def test_what_another_machine_has_built_meanwhile_is_taken_and_our_build_given_up(
    scene: Scene,
) -> None:
    scene.change()
    scene.hold.clear()  # our build does not end by itself

    planned = scene.user.run("plan", "--json", "--offline").of("api")
    content = "sf-" + planned["template_key"].partition(":")[2][:16]

    def push(repository: str, tag: str) -> None:
        assert scene.begun.wait(LIMIT_S)
        scene.place.put_manifest(repository, tag, MANIFEST)
        scene.place.register("api", (content,)).settle("ready")

    scene.place.before = push
    ran = scene.user.build()
    assert ran.done == {"snapshot:api", "tag:api"}
    assert jobs(ran) == ran.done
    assert scene.builds == 1


def test_a_service_that_refuses_ends_the_run_and_the_build(scene: Scene) -> None:
    scene.change()
    scene.hold.clear()

    def refuse(*_: str) -> None:
        assert scene.begun.wait(LIMIT_S)
        scene.place.lack("HEAD", ".*", 403)

    scene.place.before = refuse
    ran = scene.user.run("build", "--progress", "json")
    assert ran.code == 5
    assert jobs(ran) == set()
    assert scene.builds == 1


def test_a_build_that_fails_fails_once_with_its_output(scene: Scene) -> None:
    scene.change()
    line = b'{"stream": "Step 3/3 : RUN echo api\\n"}'
    scene.lines = (line, {"errorDetail": {"code": 7, "message": "it exited with 7"}})
    scene.hold.set()
    ran = scene.user.run("build", "--progress", "json")
    assert ran.code == 1
    failed = [event for event in ran.events if event["event"] == "failed"]
    assert [event["job"] for event in failed] == ["build:api"]
    assert scene.builds == 1
    assert "failed at `Step 3/3 : RUN echo api`: exit status 7" in ran.err


def test_an_engine_that_is_gone_is_told_of_as_ever(scene: Scene) -> None:
    scene.change()
    scene.place.before = None
    ran = scene.user.having(DOCKER_HOST="unix:///nowhere.sock").run("build", "--progress", "json")
    assert ran.code == 6
    assert ran.err.count("cannot be reached") == 1


def test_a_base_that_has_to_be_pulled_is_not_pulled_for_what_may_not_be_wanted(
    scene: Scene,
) -> None:
    host = scene.place.url.removeprefix("http://")
    pinned = f"{host}/mine@sha256:" + "c" * 64
    scene.user.edit("novita.yaml", lambda text: text.replace("mine:1", pinned))
    scene.change()

    def look(*_: str) -> None:
        scene.waited.append(bool(scene.engine.requests("POST", "/images/create")))

    scene.place.before = look
    scene.user.run("build")
    assert scene.waited[0] is False
    assert scene.engine.requests("GET", f"/images/{pinned}/json"), "it was looked for"


def test_builds_that_another_program_makes_are_not_begun_before_they_are_wanted(
    scene: Scene,
) -> None:
    """A build with secrets takes a docker client, which an interrupt would leave running."""
    scene.user.replace("novita.yaml", "[echo api]", "[{run: echo, secrets: [token]}]")
    scene.user.edit("novita.yaml", lambda text: text + "secrets: {token: {env: TOKEN}}\n")
    scene.change()
    scene.place.before = lambda *_: scene.waited.append(scene.begun.is_set())
    scene.user.run("build")
    assert scene.waited == [False]
