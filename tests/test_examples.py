"""Every example is valid, generates the Dockerfile that was reviewed, builds and runs."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandboxfile import bootstrap, dockerfile
from sandboxfile.config import load
from sandboxfile.engines import Engine
from sandboxfile.lockfile import read
from sandboxfile.model import BootstrapBase, ResolvedBase, Workspace
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from tests.conftest import needs
from tests.fakes.shell import Ran, User

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).with_name("golden") / "examples"
NAMES = sorted(path.parent.name for path in ROOT.glob("examples/*/novita.yaml"))
UPDATE = "SANDBOXFILE_UPDATE_GOLDEN" in os.environ  # gone when the tests run

every_example = pytest.mark.parametrize("name", NAMES)


def workspace(name: str) -> Workspace:
    return load.load(ROOT / "examples" / name / "novita.yaml")


# --- what they say ---------------------------------------------------------------------------


def test_no_example_is_forgotten() -> None:
    directories = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()}

    known = {"from-dockerfile", "layers", "monorepo", "quickstart", "web"}
    assert set(NAMES) == directories == known
    assert {path.stem for path in GOLDEN.iterdir()} == directories


@every_example
def test_an_example_is_valid_and_says_how_to_build_it(name: str) -> None:
    found = workspace(name)

    assert survey(found, found.templates, resolved={}, digests=NoCache()).templates
    text = (ROOT / "examples" / name / "README.md").read_text()
    assert "sandboxfile build --target local" in text
    first = (ROOT / "examples" / name / "novita.yaml").read_text().splitlines()[0]
    schema = ROOT / "examples" / name / first.partition("$schema=")[2]
    assert schema.resolve() == ROOT / "schemas/novita-1.schema.json"


def test_the_example_of_every_key_is_valid() -> None:
    found = load.load(ROOT / "novita.yaml.example")

    looked = survey(found, found.templates, resolved={}, digests=NoCache())
    assert set(looked.templates) == set(found.templates)
    assert len(found.templates) > 4


def rendered(found: Workspace) -> str:
    """Return the Dockerfiles of a workspace, each base by the template's name."""
    looked = survey(found, found.templates, resolved={}, digests=NoCache())
    return "\n".join(
        f"# --- {name}\n"
        + dockerfile.render(
            each.template,
            base=ResolvedBase(reference=f"base-of-{name}", digest=""),
            cache_mounts=True,
            single_files=frozenset(n for n, chosen in each.selections.items() if chosen.single),
        ).text
        for name, each in looked.templates.items()
    )


@every_example
def test_an_example_generates_the_dockerfile_that_was_reviewed(name: str) -> None:
    golden = GOLDEN / f"{name}.Dockerfile"
    text = rendered(workspace(name))
    if UPDATE:
        golden.write_text(text)

    assert golden.read_text() == text


# --- what they do ----------------------------------------------------------------------------

real = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]
IMAGE = "debian:bookworm-slim"


@pytest.fixture(scope="module")
def somebody(engine_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody with the engine of the tests; bases are made once for all examples.

    No network in builds and sandboxes: no example needs one, and their ports are their own.
    """
    needs("mmdebstrap")
    home = tmp_path_factory.mktemp("somebody")
    environ = {**engine_environ, "SANDBOXFILE_NETWORK": "none", "NO_COLOR": "1"}
    del environ["HOME"]
    return User(home=home, root=home, environ=environ)


@pytest.fixture
def example(somebody: User, engine: Engine, name: str, tmp_path: Path) -> Iterator[User]:
    """A copy of the example; what it builds is removed from the engine at the end."""
    root = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, root)
    for left in (root / ".sandboxfile", root / "novita.lock", root / "novita.local.lock"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    yield somebody.at(root)
    for template in reversed(list(workspace(name).templates)):
        engine.remove_labelled({"sandboxfile.template": template})


def build(example: User, *options: str) -> Ran:
    """Build, then build again, which is to do nothing; the first run."""
    first = example.command("build", "--target", "local", *options)
    assert first.code == 0, first.err
    found = load.load(example.root / "novita.yaml")
    assert set(read(example.root / "novita.local.lock").targets["local"]) == set(found.templates)
    again = example.command("build", "--target", "local", *options)
    assert (again.code, again.out) == (0, "")
    assert again.err.endswith(f"{len(found.templates)} up to date, nothing to do\n")
    return first


def ran(example: User, template: str, *argv: str) -> str:
    done = example.command("run", template, "--", *argv)
    assert done.code == 0, done.err
    return done.out


class TestReal:
    pytestmark = real

    @pytest.mark.parametrize("name", ["quickstart"])
    def test_quickstart_answers_from_a_server_that_was_warm(self, example: User) -> None:
        build(example)

        assert ran(example, "quickstart", "python3", "client.py") == "hello from a snapshot\n"
        assert ran(example, "quickstart", "sh", "-c", "id -un; pwd") == "user\n/home/user/app\n"

    @pytest.mark.parametrize("name", ["web"])
    def test_web_is_healthy_when_a_sandbox_starts(self, example: User) -> None:
        build(example)

        script = (
            "import urllib.request as r; print(r.urlopen('http://localhost:8080/health').status)"
        )
        assert ran(example, "web", "python3", "-c", script) == "200\n"
        # The notes are ignored, the compiled service is there, and all of it is web's.
        said = ran(example, "web", "sh", "-c", "id -un; ls; stat -c %U service.py")
        assert said == "web\n__pycache__\nservice.py\nweb\n"

    @pytest.mark.parametrize("name", ["layers"])
    def test_layers_build_only_what_is_above_a_change(self, example: User) -> None:
        build(example)
        before = read(example.root / "novita.local.lock").targets["local"]
        assert before["worker"].parent == before["worker-debug"].parent == "python"
        script = "cat /tmp/worker-ready; echo $WORKER_LOG$PYTHONUNBUFFERED; id -un"
        assert ran(example, "worker", "sh", "-lc", script) == "1\nuser\n"
        assert ran(example, "worker-debug", "sh", "-lc", script) == "debug1\nuser\n"

        with (example.root / "worker.py").open("a") as worker:
            worker.write("# changed\n")
        build(example)

        after = read(example.root / "novita.local.lock").targets["local"]
        assert after["python"] == before["python"]
        assert after["worker"].build_id != before["worker"].build_id
        assert after["worker"].template_id == before["worker"].template_id
        assert after["worker-debug"].image_key != before["worker-debug"].image_key

    @pytest.mark.parametrize("name", ["monorepo"])
    def test_monorepo_builds_what_is_named_from_any_directory(self, example: User) -> None:
        build(example, "all")
        assert ran(example, "agent-edge", "cat", "/tmp/agent-ready") == "hello from edge\n"
        assert ran(example, "web", "cat", "index.html") == "<p>one of several services\n"
        assert ran(example, "services/web:web-debug", "ls", "/opt/agent") == "agent.py\n"

        agent = example.at(example.root / "services/agent")
        done = agent.command("build", "--target", "local", ".", "--var", "greeting=hi")
        assert done.code == 0, done.err
        assert ran(example, "agent-stable", "cat", "/tmp/agent-ready") == "hi from stable\n"
        assert not (agent.root / "novita.local.lock").exists()

    @pytest.mark.parametrize("name", ["from-dockerfile"])
    def test_from_dockerfile_builds_on_an_image_of_the_engine(
        self, example: User, engine: Engine
    ) -> None:
        mine = engine.find(IMAGE) is None
        if mine:
            engine.load_root(_archive(example), IMAGE, labels={"sandboxfile.tests": "slim"})
        try:
            build(example, "--offline")  # or it would be looked for at its registry

            page = ran(example, "from-dockerfile", "sh", "-c", 'cat "$SITE/index.html"')
            assert page == (
                "<title>built by sandboxfile</title>\n"
                "<p>Sandboxes start from snapshots.\n<p>Nothing is built twice.\n"
            )
            ran(example, "from-dockerfile", "test", "-s", "/tmp/heartbeat")
        finally:
            if mine:
                engine.remove_labelled({"sandboxfile.tests": "slim"})


def _archive(user: User) -> Path:
    """The root filesystem that quickstart and the others are built on, made if it is not there."""
    cache = user.home / ".cache/sandboxfile/bootstrap"
    base = workspace("quickstart").templates["quickstart"].base
    assert isinstance(base, BootstrapBase)
    made = bootstrap.cached(base, cache)
    if made is None:
        root = user.root.parent / "only-a-base"
        shutil.copytree(ROOT / "examples/quickstart", root)
        done = user.at(root).command("plan", "--target", "local")
        assert done.code == 0, done.err
        made = bootstrap.cached(base, cache)
    assert made is not None
    return made.path
