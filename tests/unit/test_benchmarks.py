"""The figures of `python -m benchmarks` mean what they say."""

import json

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.timing import timed


def test_calls_that_warm_up_are_not_counted() -> None:
    calls: list[int] = []

    figures = timed(lambda: calls.append(1), 10, warm=3)

    assert len(calls) == 13
    assert figures["calls"] == 10
    assert 0 <= figures["median_ms"] <= figures["p99_ms"] <= figures["worst_ms"]


def test_every_subject_comes_with_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmarks.SUBJECTS, "service", lambda _: {"at_rest": {"calls": 1}})

    assert benchmarks.main(["--only", "service", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["service"] == {"at_rest": {"calls": 1}}
    assert found["machine"]["cpus"] >= 1
    assert found["machine"]["python"]

    assert benchmarks.main([]) == 0
    assert "\nservice:\n  at_rest:\n    calls: 1\n" in capsys.readouterr().out


def test_a_machine_without_an_engine_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        assert benchmarks.main(["--only", "service"]) == 6
    assert "cannot be reached" in capsys.readouterr().err
