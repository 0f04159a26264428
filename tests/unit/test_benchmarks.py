"""The figures of `python -m benchmarks` mean what they say."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import goals, installed, noop, peers, report, tree
from benchmarks.setting import Setting
from benchmarks.timing import (
    Contender,
    Rounds,
    Sample,
    UnexpectedError,
    figures,
    interleaved,
    ratio,
    ratio_of_sum,
    run,
    timed,
)
from benchmarks.tree import Kind
from sandboxfile import __version__


def test_calls_that_warm_up_are_not_counted() -> None:
    calls: list[int] = []

    figures = timed(lambda: calls.append(1), 10, warm=3)

    assert len(calls) == 13
    assert figures["calls"] == 10
    assert 0 <= figures["median_ms"] <= figures["p99_ms"] <= figures["worst_ms"]


def test_every_subject_comes_with_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setitem(benchmarks.SUBJECTS, "service", lambda *_: {"at_rest": {"calls": 1}})

    assert benchmarks.main(["--only", "service", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["service"] == {"at_rest": {"calls": 1}}
    assert found["command"] == "python -m benchmarks --only service"
    assert found["machine"]["cpus"] >= 1
    assert found["machine"]["python"]
    assert "cannot be reached" in found["lacking"]["engine"]

    assert benchmarks.main(["--only", "service"]) == 0
    assert "\nservice:\n  at_rest:\n    calls: 1\n" in capsys.readouterr().out


def test_a_service_is_not_measured_without_an_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert benchmarks.main(["--only", "service"]) == 0
    assert re.search(r"\nservice:\n  not measured: .*cannot be reached", capsys.readouterr().out)


def test_nothing_to_do_is_measured_without_an_engine_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(noop, "QUICK", Rounds(least=1, most=1, budget_s=0))
    for rounds in ("SLOW", "SLOWEST"):
        monkeypatch.setattr(noop, rounds, Rounds(least=1, most=1, budget_s=0, warm=0))

    assert benchmarks.main(["--only", "noop", "--sizes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = found["noop"]["2"]
    assert figures["vs_git_status"] > 0
    assert figures["fresh_clone_vs_git_hash_object"] > 0
    assert figures["fresh_clone_reading_vs_git_hash_object"] > 0
    assert figures["runs"]["sandboxfile"]["runs"] == 1
    assert "engine" in found["lacking"]  # so there is no docker build, and none is made up
    assert not any("docker" in name for name in figures["runs"])


@pytest.mark.parametrize("text", ["", "0", "1,x", "10000"])
def test_sizes_are_numbers_of_templates(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmarks.main(["--sizes", text])
    assert "write numbers" in capsys.readouterr().err


# --- figures -----------------------------------------------------------------------------------


def samples(*seconds: float) -> list[Sample]:
    return [Sample(seconds=each, cpu_s=each / 2) for each in seconds]


def test_a_ratio_is_taken_round_by_round() -> None:
    """A slow moment that all programs shared does not count; nor does that of a single one."""
    assert ratio(samples(1, 10, 1), samples(2, 20, 1)) == 0.5
    assert ratio_of_sum(samples(3, 3, 3), samples(1, 1, 1), samples(1, 1, 9), plus_s=1) == 1.0


def test_figures_are_in_milliseconds() -> None:
    found = figures(samples(0.001, 0.003, 0.008))
    assert found == {"median_ms": 3, "least_ms": 1, "worst_ms": 8, "cpu_ms": 1.5, "runs": 3}


# --- programs ----------------------------------------------------------------------------------


def contender(tmp_path: Path, script: str, **rest: Any) -> Contender:
    return Contender(name="it", command=("sh", "-c", script), cwd=tmp_path, env={}, **rest)


def test_programs_take_turns_and_warming_up_is_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [
        replace(contender(tmp_path, f"echo {name} >>log"), name=name) for name in ("one", "two")
    ]
    found = interleaved(both, Rounds(least=1, most=2, budget_s=60, warm=1))
    assert log.read_text().split() == ["one", "two"] * 3
    assert {name: len(taken) for name, taken in found.items()} == {"one": 2, "two": 2}


def test_no_more_rounds_are_begun_when_the_time_is_over(tmp_path: Path) -> None:
    found = interleaved([contender(tmp_path, "true")], Rounds(least=2, most=9, budget_s=0))
    assert len(found["it"]) == 2


@pytest.mark.parametrize("script", ["echo ready; exit 3", "echo other"])
def test_the_time_of_a_program_that_fails_is_no_figure(tmp_path: Path, script: str) -> None:
    with pytest.raises(UnexpectedError, match="it: `sh -c echo"):
        run(contender(tmp_path, script, says="ready"))


def test_the_last_marked_line_tells_how_far_a_program_is(tmp_path: Path) -> None:
    script = "echo built; sleep 0.1; echo pushed"
    sample = run(contender(tmp_path, script, mark=lambda line: line == "built\n"))
    assert 0 < sample.marked_s < sample.seconds
    assert sample.said == "built\npushed\n"


# --- the tree ----------------------------------------------------------------------------------


def test_the_lock_of_a_tree_is_what_a_build_would_have_left(tmp_path: Path) -> None:
    made = tree.make(tmp_path / "tree", 3, Kind())
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    tree.pin(made, None)
    tree.lock(made, "box", environ)
    built = subprocess.run(
        [sys.executable, "-m", "sandboxfile", "build", "--locked"],
        cwd=made.root, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "3 up to date, nothing to do" in built.stderr, built.stderr
    assert len(made.files) == 3 * 20
    assert all(file.is_file() for file in made.files)


# --- peers -------------------------------------------------------------------------------------


def test_the_program_is_measured_without_what_its_peers_bring(tmp_path: Path) -> None:
    program = installed.install(tmp_path / "installed")
    python = program.with_name("python")

    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["sandboxfile", __version__]
    subprocess.run([python, "-c", "import httpx, docker, doit, yaml, rich"], check=True)
    for other in ("pytest", "h2", "novita_sandbox"):
        found = subprocess.run([python, "-c", f"import {other}"], capture_output=True, check=False)
        assert found.returncode, f"{other} comes with the tests or the peers"


def test_what_is_needed_is_told_with_what_that_needs_and_each_once() -> None:
    names = [
        each.metadata["Name"].lower() for each in installed.needed(distribution("sandboxfile"))
    ]

    assert {"pyyaml", "httpx", "httpcore", "docker", "requests"} <= {*names}
    assert "pytest" not in names
    assert len(names) == len({*names})


def test_a_peer_that_is_missing_is_told_with_where_it_is_from(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path / "nothing")}
    setting = Setting(directory=tmp_path, environ=environ, program=tmp_path)
    made = tree.make(tmp_path / "tree", 1, Kind())
    others = peers.of(made, setting, "peers")

    names = [each.name for each in (*others.makers(), *others.compose(), *others.bake())]
    assert "doit" in names  # a dependency of ours
    assert not {"make", "compose", "bake"} & {*names}
    assert "Debian: make" in setting.lacking["make"]
    assert "docker-compose-v2" in setting.lacking["compose"]
    assert "buildx" in setting.lacking["bake"]


def test_the_makers_build_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    setting = Setting(directory=tmp_path, environ=environ, program=tmp_path)
    made = tree.make(tmp_path / "tree", 3, Kind())
    others = peers.of(made, setting, "peers")
    log = tmp_path / "log"
    makers = others.makers()
    for each in makers:
        run(each)
    others.script.write_text(f'#!/bin/sh\necho "$1" >>{log}\n')
    file = made.context(made.names[1]) / tree.FILES[0]
    for number, each in enumerate(makers):
        file.write_text(f"change {number}")
        run(each)
        run(each)
    assert log.read_text().split() == [made.names[1]] * len(makers)


# --- what is told ------------------------------------------------------------------------------


def test_a_ratio_is_of_programs_that_ran_in_the_same_rounds() -> None:
    found = noop.told(
        [
            {"sandboxfile": samples(1, 1), "make": samples(2, 4)},
            {"sandboxfile": samples(3), "fresh_clone": samples(6), "sdk": samples(12)},
        ]
    )
    assert found["vs_make"] == 0.375
    assert found["vs_sdk"] == 0.25
    assert found["fresh_clone_vs_sdk"] == 0.5
    assert found["runs"]["sandboxfile"]["runs"] == 2  # type: ignore[index]


def measured() -> dict[str, Any]:
    """Return figures as a whole run has them, all of them 1 but where one is missed."""
    run = {"median_ms": 1.0, "least_ms": 1.0, "worst_ms": 1.0, "cpu_ms": 1.0, "runs": 3}
    noop = {
        "vs_git_status": 0.9, "fresh_clone_vs_sdk": 0.2, "fresh_clone_vs_git_hash_object": 0.7,
        "vs_python_pass": 2.0, "vs_compose": 0.001, "vs_docker_build_best_parallel": 0.001,
        "runs": {"sandboxfile": run},
    }  # fmt: skip
    return {
        "command": "python -m benchmarks",
        "seconds": 12.0,
        "machine": {"cpus": 2},
        "lacking": {"bake": "docker has no buildx here"},
        "noop": {"1": noop, "10": noop, "100": noop, "1000": noop},
        "change": {"1000": {"less_60_ms_vs_status_and_build": 1.31, "runs": {"sandboxfile": run}}},
        "cold": {
            "vs_best_parallel": 1.0, "vs_docker_sdk": 0.5, "push": {"vs_docker_push": 0.05},
            "runs": {"sandboxfile": run},
        },
        "memory": {
            "1000": {
                "sandboxfile": 12.0,
                "second_stage": 60.0,
                "fresh_clone": 70.0,
                "fresh_clone_reading": 75.0,
            },
            "context_500_mb": {"above_small": 2.0},
        },
    }  # fmt: skip


def test_every_goal_is_found_where_it_was_measured_and_none_elsewhere() -> None:
    found = measured()
    assert [goal for goal, _ in goals.checked(found)] == [*goals.GOALS]
    missed = [goal.what for goal, value in goals.checked(found) if value and value > goal.most]
    assert len(missed) == 1
    assert "one change" in missed[0]
    only = list(goals.checked({"noop": {"10": found["noop"]["10"]}}))
    assert {(goal.subject, value) for goal, value in only} == {("noop", None)}


def test_the_page_has_every_figure_and_says_what_was_missed() -> None:
    found = measured()
    found["goals"] = [
        {"what": goal.what, "most": goal.most, "is": value} for goal, value in goals.checked(found)
    ]
    found["not_measured"] = ["how long it takes to say hello"]
    page = report.markdown(found)
    assert "| cpus | 2 |" in page
    assert "- bake: docker has no buildx here" in page
    assert "|  | 1 | 10 | 100 | 1000 |" in page
    assert "| vs_git_status | 0.9 | 0.9 | 0.9 | 0.9 |" in page
    assert "| 1.3 | 1.31 | **no** |" in page
    assert page.count("**no**") == 1
    assert "| push: vs_docker_push | 0.05 |" in page
    assert "NOT REACHED: one change in 1,000" in report.text(found)
    assert "| how long it takes to say hello |  |  | not measured |" in page
    assert "\nnot measured: how long it takes to say hello\n" in report.text(found)


def test_a_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setitem(benchmarks.SUBJECTS, "memory", lambda *_: {"10": {"sandboxfile": 12.5}})
    page = tmp_path / "benchmarks.md"
    assert benchmarks.main(["--only", "memory", "--sizes", "100,10", "--markdown", str(page)]) == 0
    assert "## Memory" in page.read_text()
    assert "sandboxfile: 12.5" in page.read_text()
    assert "`python -m benchmarks --only memory --sizes 10,100`" in page.read_text()
    assert str(tmp_path) not in page.read_text()
    assert "templates, MiB |  |  | not measured |" in page.read_text()
    capsys.readouterr()
