"""A run is written as a trace that viewers of Chrome's format load."""

import json
import os
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import chrometrace
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.events import Sent, StepDone, StepStarted
from sandboxfile.graph import Outcome
from sandboxfile.timeline import Timeline
from tests.fakes.shell import unprivileged


def played() -> Timeline:
    """Two templates, the second waiting for the first one's place; two steps overlap."""
    now = [100.0]
    line = Timeline(now=lambda: now[0])
    for at, event in (
        (100.0, StepStarted(job="build:a", step="[1/2] COPY")),
        (100.5, StepStarted(job="build:a", step="[2/2] RUN make")),
        (101.0, StepDone(job="build:a", step="[1/2] COPY", cached=True)),
        (102.0, StepDone(job="build:a", step="[2/2] RUN make")),
        (102.5, StepStarted(job="snapshot:a", step="build b-1")),
        (103.0, StepDone(job="snapshot:a", step="build b-1")),
        (103.0, Sent(job="build:a", bytes=2048)),
    ):
        now[0] = at
        line.take(event)
    for name, ready, began, seconds in (
        ("build:a", 100.0, 100.0, 2.25),
        ("snapshot:a", 102.246, 102.25, 1.0),  # handed over in 4 ms: that is no waiting
        ("build:b", 100.0, 102.25, 1.0000004),
    ):
        line.settled(Outcome(name=name, status="done", ready=ready, began=began, seconds=seconds))
    line.settled(Outcome(name="tag:b", status="skipped"))
    return line


def slices(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def test_the_form_is_that_of_the_trace_event_format() -> None:
    document = json.loads(json.dumps(chrometrace.document(played())))
    assert document["displayTimeUnit"] == "ms"
    named = set()
    for event in document["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "thread_name"}
            named.add((event["pid"], event["tid"]))
        else:
            assert event["ph"] == "X"
            assert isinstance(event["ts"], int)
            assert isinstance(event["dur"], int)
            assert min(event["ts"], event["dur"]) >= 0
            assert (event["pid"], event["tid"]) in named


def test_jobs_waits_and_steps_have_their_times_in_microseconds() -> None:
    document = chrometrace.document(played(), critical=("build:a", "build:b"))
    found = {each["name"]: each for each in slices(document)}
    times = {name: (each["ts"], each["dur"]) for name, each in found.items()}
    assert times == {
        "build:a": (0, 2_250_000),
        "snapshot:a": (2_250_000, 1_000_000),
        "wait for a place to build": (0, 2_250_000),
        "build:b": (2_250_000, 1_000_000),
        "[1/2] COPY": (0, 1_000_000),
        "[2/2] RUN make": (500_000, 1_500_000),
        "build b-1": (2_500_000, 500_000),
    }
    assert found["build:a"]["args"] == {
        "status": "done", "bytes": 2048, "instructions": 2, "cached": 1, "critical": True,
    }  # fmt: skip
    assert not found["snapshot:a"]["args"]["critical"]
    assert found["[1/2] COPY"]["args"] == {"job": "build:a", "cached": True}


def test_slices_of_one_thread_follow_each_other() -> None:
    document = chrometrace.document(played())
    threads = defaultdict(list)
    for each in slices(document):
        threads[each["pid"], each["tid"]].append((each["ts"], each["ts"] + each["dur"]))
    for spans in threads.values():
        spans.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    names = [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"]  # type: ignore[attr-defined]
    assert names == ["a", "b", "a", "a (2)"]


def test_a_trace_of_nothing_is_a_trace() -> None:
    assert slices(chrometrace.document(Timeline())) == []


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    chrometrace.check(path)
    chrometrace.write(path, played())
    assert json.loads(path.read_text()) == chrometrace.document(played())
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SandboxfileError, match=r"cannot be written to `.*: No such"):
        chrometrace.write(tmp_path / "none/p.json", played())


@pytest.mark.parametrize("name", [".", "none/p.json", "file/p.json"])
def test_a_place_where_nothing_can_be_written_is_refused_before_the_run(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SandboxfileError, match="the profile cannot be written"):
        chrometrace.check(tmp_path / name)


def test_a_place_that_nobody_else_may_look_at_is_refused_before_the_run() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,  # which is of its maker alone
        unprivileged(),
        pytest.raises(SandboxfileError, match="the profile cannot be written"),
    ):
        chrometrace.check(Path(directory) / "in" / "p.json")


@pytest.mark.parametrize("content", ["version: 1\n", '{"a": 1}', "\n"])
def test_a_file_that_is_no_trace_is_left_alone(tmp_path: Path, content: str) -> None:
    path, link = tmp_path / "novita.yaml", tmp_path / "link"
    path.write_text(content)
    link.symlink_to(path)
    for each in (path, link):
        with pytest.raises(UsageError, match="is no profile"):
            chrometrace.check(each)
        with pytest.raises(UsageError, match="is no profile"):
            chrometrace.write(each, played())
    assert path.read_text() == content


def test_a_trace_and_an_empty_file_are_written_over(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.touch()
    for timeline in (Timeline(), played()):
        chrometrace.check(path)
        chrometrace.write(path, timeline)
    assert json.loads(path.read_text()) == chrometrace.document(played())


def test_a_link_that_leads_nowhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(UsageError, match="is no profile"):
        chrometrace.check(tmp_path / "link")


def test_devices_and_what_is_open_take_a_trace(tmp_path: Path) -> None:
    with (tmp_path / "said").open("w+") as file:
        file.write("before\n")
        file.flush()
        for path in (Path("/dev/null"), Path(f"/dev/fd/{file.fileno()}")):
            chrometrace.check(path)
            chrometrace.write(path, played())
        file.write("\nafter")
    before, written, after = (tmp_path / "said").read_text().split("\n")
    assert (before, after) == ("before", "after")
    assert json.loads(written) == chrometrace.document(played())
    assert Path("/dev/null").is_char_device()


def test_a_pipe_takes_a_trace() -> None:
    end, other = os.pipe()
    chrometrace.check(Path(f"/dev/fd/{other}"))
    chrometrace.write(Path(f"/dev/fd/{other}"), played())
    assert json.loads(os.read(end, 1 << 16)) == chrometrace.document(played())
    os.close(end)
    os.close(other)
