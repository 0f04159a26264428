"""What is published: built, installed elsewhere, and used from there."""

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from sandboxfile import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist of the checkout, and the wheel that is made from that sdist."""
    to = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(to), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return to


def one(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, and its dependencies from the Python of the tests."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    base = {"base": str(venv), "platbase": str(venv)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=base))
    pip = (sys.executable, "-m", "pip", "--no-cache-dir", "--python", str(venv / "bin/python"))
    run(*pip, "install", "-q", "--no-deps", "--no-index", one(built, "*.whl"), home=venv)
    # Behind the wheel's own directory: what is installed here comes first.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin/python"


def run(*argv: str | Path, cwd: Path = Path("/"), home: str | Path | None = None) -> str:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home or os.environ["HOME"])}
    done = subprocess.run(
        [str(each) for each in argv],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


# --- what is in the files --------------------------------------------------------------------


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(one(built, "*.whl")) as wheel:
        names = set(wheel.namelist())

    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sandboxfile").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    info = f"sandboxfile-{__version__}.dist-info"
    files = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert names == package | {f"{info}/{name}" for name in files}
    assert "sandboxfile/py.typed" in names
    assert "sandboxfile/schemas/novita-1.schema.json" in names


def test_the_wheel_says_what_it_needs(built: Path) -> None:
    with zipfile.ZipFile(one(built, "*.whl")) as wheel:
        info = f"sandboxfile-{__version__}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        scripts = wheel.read(f"{info}/entry_points.txt").decode()

    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    needs = {need.split(">")[0] for need in metadata.get_all("Requires-Dist", [])}
    assert {"docker", "doit", "httpx", "jsonschema", "pyyaml", "rich", "structlog"} <= needs
    assert "sandboxfile = sandboxfile.entry:run" in scripts
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    assert readme.startswith("# sandboxfile\n")


def test_the_sdist_has_all_that_is_needed_to_work_on_it(built: Path) -> None:
    with tarfile.open(one(built, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    for path in (
        "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
        "novita.yaml.example", "dev/setup.sh", "dev/test", "dev/try", "docs/reference.md",
        "schemas/novita-1.schema.json", "schemas/lock-1.schema.json", "sandboxfile/py.typed",
        "examples/quickstart/novita.yaml", "examples/from-dockerfile/.dockerignore",
        "tests/conftest.py", "tests/golden/keys.json", "tests/test_packaging.py",
    ):  # fmt: skip
        assert path in names, path
    unwanted = ("__pycache__", ".sandboxfile", ".venv", "novita.local.lock", ".git/")
    assert not [name for name in names if any(part in f"{name}/" for part in unwanted)]


# --- installed elsewhere ---------------------------------------------------------------------


def test_it_is_the_installed_one(python: Path) -> None:
    where = run(python, "-c", "import sandboxfile; print(sandboxfile.__file__)").strip()

    assert Path(where).is_relative_to(python.parents[1])
    assert Path(where).with_name("py.typed").is_file()


@pytest.mark.parametrize("start", ["script", "module"])
def test_the_program_starts(python: Path, start: str) -> None:
    command = (
        [python, "-m", "sandboxfile"] if start == "module" else [python.parent / "sandboxfile"]
    )

    assert run(*command, "--version") == f"sandboxfile {__version__}\n"
    assert "commands:" in run(*command, "--help")


def test_schemas_come_along(python: Path) -> None:
    script = python.parent / "sandboxfile"

    assert run(script, "schema") == (ROOT / "schemas/novita-1.schema.json").read_text()
    assert run(script, "schema", "lock") == (ROOT / "schemas/lock-1.schema.json").read_text()


def test_a_first_configuration_is_valid(python: Path, tmp_path: Path) -> None:
    script = python.parent / "sandboxfile"

    run(script, "init", cwd=tmp_path)
    run(script, "validate", cwd=tmp_path)
    assert "not built" in run(script, "status", cwd=tmp_path)


def test_every_module_can_be_imported(python: Path) -> None:
    script = (
        "import pkgutil, importlib, sandboxfile\n"
        "names = [m.name for m in pkgutil.walk_packages(sandboxfile.__path__, 'sandboxfile.')]\n"
        "for name in names:\n"
        "    name.endswith('__main__') or importlib.import_module(name)\n"
        "print(len(names))\n"
    )

    assert int(run(python, "-W", "error", "-c", script)) > 60


def test_an_application_reads_the_lock_by_the_installed_package(
    python: Path, tmp_path: Path
) -> None:
    key = "sf1:" + "0" * 64
    (tmp_path / "novita.lock").write_text(
        "version: 1\ntargets:\n  prod:\n    agent:\n      build_id: b-2\n"
        f"      image_key: {key}\n      moved: {{default: b-1}}\n"
        f"      template_id: t1\n      template_key: {key}\n"
    )
    program = (
        "from sandboxfile import lock\n"
        "entry = lock.load()['prod']['agent']\n"
        "print(entry.template_id, entry.build_id, entry.current)\n"
        "import sys\n"
        "print(*sorted({'docker', 'httpx', 'doit', 'rich'} & {*sys.modules}))\n"
    )

    said = run(python, "-c", program, cwd=tmp_path).splitlines()

    assert said == ["t1 b-2 b-1", ""]
