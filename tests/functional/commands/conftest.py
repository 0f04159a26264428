"""Whole commands as a user runs them: over a real engine, real registries, a real service."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.local.limits import Limits
from sandboxfile.local.service import LocalService
from tests.fakes.served import described
from tests.fakes.shell import User

Place = Callable[[str], User]
Serving = Callable[..., str]


@pytest.fixture(scope="session")
def base(engine: Engine, busybox: str, registry: str) -> str:
    """An image at a registry: busybox."""
    repository = f"{registry}/busybox"
    engine.push(
        busybox, repository, "1", login=None, emit=lambda _: None, cancel=Cancel(), job="base"
    )
    return f"{repository}:1"


@pytest.fixture(scope="session")
def images(engine: Engine) -> Iterator[Callable[[str], None]]:
    """Remember templates whose images are to be removed at the end."""
    names: set[str] = set()
    yield names.add
    for name in names:
        engine.remove_labelled({"sandboxfile.template": name})


@pytest.fixture(scope="session")
def place(engine_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Make users, each with a home and a checkout of their own."""

    def made(name: str) -> User:
        environ = {**engine_environ, "SANDBOXFILE_NETWORK": "host", "NO_COLOR": "1", "TZ": "UTC"}
        del environ["HOME"]  # each has one of their own
        home = tmp_path_factory.mktemp(f"{name}-home")
        return User(home=home, root=tmp_path_factory.mktemp(name), environ=environ)

    return made


@pytest.fixture
def user(place: Place) -> User:
    """Somebody with an empty directory."""
    return place("work")


@pytest.fixture
def nonce() -> str:
    """A text that no build had before: nothing of an earlier run of the tests is reused.

    It begins with a letter, since digits alone would be a number wherever YAML has them bare.
    """
    return f"n{os.urandom(6).hex()}"


@pytest.fixture(scope="module")
def serve() -> Iterator[Serving]:
    """Start `sandboxfile serve` with these arguments; its URL."""
    with ExitStack() as stack:
        yield lambda user, *argv: stack.enter_context(
            described(user.whole_environ(), *argv, root=user.root)
        )


@pytest.fixture
def impatient(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The URL of a template service that gives a ready command one second."""
    settings: dict[str, Any] = {"ready_interval_s": 0.1, "limits": Limits(ready=1.0)}
    service = LocalService(engine, tmp_path / "data", logins=lambda _: None, **settings)
    yield service.start()
    service.stop()
