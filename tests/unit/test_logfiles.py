"""Whole logs are kept for the user alone, of limited size, in their directory."""

from pathlib import Path

import pytest

from sandboxfile import logfiles
from sandboxfile.logfiles import LogFiles


def test_a_new_run_empties_the_log(tmp_path: Path) -> None:
    for text in ("first, longer", "second"):
        files = LogFiles(tmp_path)
        files.write("build:a", text)
        files.close()
    assert (tmp_path / "a/build.log").read_text() == "second\n"


def test_a_log_is_cut_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "_LOG_BYTES", 2 << 20)
    files = LogFiles(tmp_path)
    for _ in range(5):
        files.write("build:a", "x" * (1 << 20))
    files.close()
    lines = (tmp_path / "a/build.log").read_text().splitlines()
    assert [len(line) for line in lines[:-1]] == [1 << 20]
    assert lines[-1] == "… (this log is cut at 2 MiB)"


@pytest.mark.parametrize("job", ["", "resolve", "build:../../etc", "build:", "../x:a", "Build:a"])
def test_no_log_is_written_outside_its_directory(job: str, tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    files.write(job, "x")
    assert files.end(job) is None
    assert list(tmp_path.iterdir()) == []


def test_a_linked_log_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "victim").write_text("keep")
    (tmp_path / "a/build.log").symlink_to(tmp_path / "victim")
    files = LogFiles(tmp_path)
    files.write("build:a", "x")
    assert files.end("build:a") is None
    assert (tmp_path / "victim").read_text() == "keep"


def test_lines_after_the_end_are_dropped(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.write("build:a", "one")
    assert files.end("build:a") == tmp_path / "a/build.log"
    files.write("build:a", "late")
    files.close()
    assert (tmp_path / "a/build.log").read_text() == "one\n"
    assert files.end("build:never") is None
