"""Diagnostics are off unless asked for, defused and redacted, in text or JSON."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sandboxfile import logs
from sandboxfile.events import Event, Log
from sandboxfile.redact import Redactor


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give back the loggers as they were."""
    ours = logging.getLogger(logs.ROOT)
    before = (ours.handlers[:], ours.level, ours.propagate)
    levels = {name: logging.getLogger(name).level for name in logs.FOREIGN}
    yield
    ours.handlers[:], ours.level, ours.propagate = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def configured(**values: object) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream=stream, **values)  # type: ignore[arg-type]
    return stream


def test_json_has_one_object_a_line_with_what_was_bound() -> None:
    stream = configured(level="info", form="json")
    logger = logs.bind("engine", job="build:api")
    logger.info("pushed", digest="sha256:1")
    logger.debug("unheard")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "digest": "sha256:1",
        "event": "pushed",
        "job": "build:api",
        "level": "info",
    }


def test_console_is_text_without_colours_unless_asked_for() -> None:
    stream = configured(level="debug")
    logs.bind("engine").debug("pushed", count=2)
    assert "pushed" in stream.getvalue()
    assert "count=2" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    stream = configured(level="debug", colour=True)
    logs.bind("engine").debug("pushed")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize(("level", "count"), [("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_not_said(level: str, count: int) -> None:
    stream = configured(level=level, form="json")
    logger = logs.bind("engine")
    logger.info("no")
    logger.warning("maybe")
    logger.error("yes")
    assert len(stream.getvalue().splitlines()) == count


def test_the_standard_loggers_of_our_modules_are_heard_too() -> None:
    stream = configured(level="info", form="json")
    logging.getLogger("sandboxfile.anything").info("count %d", 3)
    assert json.loads(stream.getvalue())["event"] == "count 3"


@pytest.mark.parametrize("form", ["console", "json"])
def test_secrets_and_control_characters_do_not_get_through(form: str) -> None:
    secret = 'hunt"er2\\hunter3'
    stream = configured(level="debug", form=form, redactor=Redactor([secret]))
    logger = logs.bind("engine", key=secret)
    logger.warning("said %s", secret + "\x1b[2J", nested={"inner": [secret]}, text="a\nb\x07")
    try:
        int(secret)
    except ValueError:
        logger.exception("failed")
    shown = stream.getvalue()
    assert "hunt" not in shown
    assert "***" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "Traceback" in shown


@pytest.mark.parametrize("name", ["httpx", "urllib3.connectionpool", "docker.utils"])
def test_libraries_that_log_urls_are_silent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    stream = configured(level="debug")
    logging.getLogger(name).error("https://storage/?X-Amz-Signature=abc")
    assert stream.getvalue() == capsys.readouterr().err == ""


def test_events_can_be_heard_in_the_log() -> None:
    stream = configured(level="debug", form="json")
    seen: list[Event] = []
    event = Log(job="build:api", text="\x1b[2Jhello", step="[1/2]")
    logs.tap(seen.append)(event)
    assert seen == [event]
    told = json.loads(stream.getvalue())
    assert (told["event"], told["job"], told["text"]) == ("Log", "build:api", "^[[2Jhello")


def test_configuring_again_replaces_the_first() -> None:
    first = configured(level="info")
    second = configured(level="info")
    logs.bind("engine").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
