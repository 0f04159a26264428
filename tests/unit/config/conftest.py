"""A workspace of one file, loaded as the program loads it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.config.given import Given
from sandboxfile.errors import ConfigError
from sandboxfile.model import Template, Workspace


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path.resolve() / "demo"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def read(root: Path) -> Callable[[str], Workspace]:
    """Load a text as `novita.yaml`."""

    def read_text(text: str) -> Workspace:
        (root / "novita.yaml").write_text(text)
        return load.load(root / "novita.yaml")

    return read_text


@pytest.fixture
def workspace(root: Path) -> Callable[..., Workspace]:
    """Load a workspace of several files: a root, and others by path; with what a run brings."""

    def read_files(text: str, files: Mapping[str, str] | None = None, **given: str) -> Workspace:
        for name, each in {"novita.yaml": text, **(files or {})}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(each)
        return load.load(root / "novita.yaml", given=Given(options=given))

    return read_files


@pytest.fixture
def template(read: Callable[[str], Workspace]) -> Callable[[str], Template]:
    """Load the keys of one template on a plain image, and return it."""

    def read_template(text: str) -> Template:
        base = "" if "base:" in text else "base: alpine\n"
        return read(f"version: 1\n{base}{text}").templates["demo"]

    return read_template


@pytest.fixture
def wrong(read: Callable[[str], Workspace]) -> Callable[[str], list[str]]:
    """Load a text that has problems, and return each as `line:column: message`."""

    def complaints(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [f"{p.at.line}:{p.at.column}: {p.message}" for p in caught.value.problems]

    return complaints
