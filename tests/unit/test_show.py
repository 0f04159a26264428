import argparse
import io
import json
from contextlib import redirect_stderr

import pytest

from sandboxfile.config import load
from sandboxfile.events import Notice
from sandboxfile.model import Workspace
from sandboxfile.show import Show
from tests.fakes.shell import User

CONFIG = "version: 1\nname: web\nbase: debian:12\nsecrets: {npm: {env: NPM_AUTH}}\n"
NOTICE = Notice(job="build:web", text="the registry asked us to wait")


def arguments(user: User, **given: object) -> argparse.Namespace:
    values: dict[str, object] = {
        "quiet": False,
        "progress": "auto",
        "verbose": None,
        "target": None,
        "log_level": None,
        "log_format": "console",
        "environ": dict(user.environ),
    }
    return argparse.Namespace(**{**values, **given})


def workspace(user: User) -> Workspace:
    return load.load(user.write("novita.yaml", CONFIG))


def said(show: Show, *events: Notice) -> str:
    screen = io.StringIO()
    with redirect_stderr(screen):
        show.say("hello\n")
        for event in events:
            show.emit(event)
        show.close()
    return screen.getvalue()


def test_nothing_is_opened_while_there_is_nothing_to_show(user: User) -> None:
    show = Show(arguments(user), workspace(user))

    assert said(show) == "hello\n"
    assert not (user.root / ".sandboxfile").exists()


def test_events_are_shown_as_lines_where_there_is_no_terminal(user: User) -> None:
    text = said(Show(arguments(user), workspace(user)), NOTICE)

    assert text.startswith("hello\n")
    assert NOTICE.text in text
    assert (user.root / ".sandboxfile/.gitignore").exists()


def test_without_a_workspace_nothing_is_kept(user: User) -> None:
    assert NOTICE.text in said(Show(arguments(user), None), NOTICE)
    assert list(user.root.iterdir()) == []


@pytest.mark.parametrize(
    "given", [{"quiet": True}, {"progress": "quiet"}, {"quiet": True, "progress": "plain"}]
)
def test_the_quiet_hear_of_errors_only(user: User, given: dict[str, object]) -> None:
    assert said(Show(arguments(user, **given), workspace(user)), NOTICE) == ""


def test_json_is_events_and_nothing_else(user: User) -> None:
    text = said(Show(arguments(user, progress="json"), workspace(user)), NOTICE)

    (line,) = text.splitlines()
    assert json.loads(line)["text"] == NOTICE.text


def test_diagnostics_go_beside_what_is_shown(user: User) -> None:
    given = arguments(user, log_level="debug", log_format="json", progress="quiet")

    text = said(Show(given, workspace(user)), NOTICE)

    assert any(json.loads(line).get("job") == "build:web" for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("NOVITA_API_KEY", "s3cr3t-value", True),
        ("GITHUB_TOKEN", "s3cr3t-value", True),
        ("SANDBOXFILE_REGISTRY_PASSWORD", "s3cr3t-value", True),
        ("OAUTH_SECRET", "s3cr3t-value", True),
        ("NPM_AUTH", "s3cr3t-value", True),  # named by `secrets` of the workspace
        ("NPM_AUTH", "", False),
        ("OTHER", "s3cr3t-value", False),
    ],
)
def test_secrets_are_not_shown(user: User, name: str, value: str, hidden: bool) -> None:  # noqa: FBT001
    show = Show(arguments(user.having(**{name: value})), workspace(user))

    text = said(show, Notice(job="x", text="it said s3cr3t-value"))

    assert ("s3cr3t-value" not in text) is hidden
    assert ("it said ***" in text) is hidden
