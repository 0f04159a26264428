"""Somebody at a shell, on a machine without an engine."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  parent:
    base: debian:12
    env: {GREETING: hello}
    files:
      - data/ -> /srv/data/
    start: sleep 600
    tags: [stable]
  child:
    base: {template: parent}
    run: [cat /srv/data/one.txt]
  other:
    base: debian:12
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody in an empty directory; the engine they have named does not answer."""
    home, root = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    root.mkdir()
    nowhere = f"unix://{tmp_path}/no.sock"
    environ = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "TZ": "UTC", "DOCKER_HOST": nowhere}
    return User(home=home, root=root, environ=environ)


@pytest.fixture
def three(user: User) -> User:
    """A workspace of three templates, none built."""
    user.write("novita.yaml", CONFIG)
    user.write("data/one.txt", "one\n")
    user.write("data/two.sh", "#!/bin/sh\n").chmod(0o755)
    return user


Older = Callable[[], None]


@pytest.fixture
def grown_old(monkeypatch: pytest.MonkeyPatch) -> Older:
    """Let ten seconds pass for whoever asks what time it is."""

    def pass_time() -> None:
        now = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now() + 10_000_000_000)

    return pass_time
