"""More templates than the service takes at once: each is built once, and none is lost."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sandboxfile import lockfile
from sandboxfile.local.service import LocalService
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.triggers import Start
from sandboxfile.web import Web
from tests.fakes.quickengine import quick_engine
from tests.fakes.shell import User

COUNT = int(os.environ.get("TEST_TEMPLATES", "100"))  # 1000 is the goal of the whole
AT_ONCE = 20
KEY = Secret("key-123456")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service that has one template, and answers 429 to more than so many builds."""
    service = LocalService(
        quick_engine(), tmp_path / "data", logins=lambda _: None, parallel=8, max_builds=AT_ONCE
    )
    url = service.start()
    with closing(Web(user_agent="test")) as web:
        client = TemplateService(web, url, KEY)
        seed = client.register("seed", tags=(), cpu=1, memory=128)
        client.trigger(seed, Start(image="debian@sha256:" + "ab" * 32))
        while client.status(seed).state != "ready":
            web.pause(0.02)
    yield url
    service.stop()


@pytest.fixture
def user(home: Path, tmp_path: Path) -> User:
    return User(home=home, root=tmp_path / "checkout").at(tmp_path / "checkout")


def test_all_are_built_once_and_none_is_lost(user: User, url: str) -> None:
    lines = ["version: 1", f'targets: {{it: {{provider: novita, api_url: "{url}",']
    lines += ["  builder: remote}}", "templates:"]
    lines += [f"  t{n}: {{base: {{remote: seed}}, run: [echo {n}]}}" for n in range(COUNT)]
    user.write("novita.yaml", "\n".join(lines) + "\n")
    user = user.having(NOVITA_API_KEY=KEY.reveal(), SANDBOXFILE_TARGET="it")

    ran = user.run("build", "--progress", "plain", "--json")

    assert ran.code == 0, ran.err
    assert Counter(each["status"] for each in ran.data["templates"]) == {"done": COUNT}
    assert ran.err.count("templates wait in line") == 1, "the service has refused some"
    with closing(Web(user_agent="test")) as web:
        there = {each.names[0]: each for each in TemplateService(web, url, KEY).templates()}
    entries = lockfile.read(user.root / "novita.lock").targets["it"]
    assert {name: entry.template_id for name, entry in entries.items()} == {
        name: each.template_id for name, each in there.items() if name != "seed"
    }
    assert {name: entry.build_id for name, entry in entries.items()} == {
        name: each.build_id for name, each in there.items() if name != "seed"
    }
    assert {each.builds for each in there.values()} == {1}
    assert [*(user.root / ".sandboxfile/journal/it.turns").iterdir()] == []
    again = user.run("build", "--json")
    assert {each["action"] for each in again.data["templates"]} == {"up to date"}
