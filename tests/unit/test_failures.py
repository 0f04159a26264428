"""Why the last build of a template failed: kept, told, forgotten."""

from pathlib import Path

import pytest

from sandboxfile import failures
from sandboxfile.failures import Failure
from tests.fakes.shell import User

FAILURE = Failure(step="build", message="`make` ended with exit status 2", logged=True)


def test_it_is_kept_for_each_target_and_forgotten(tmp_path: Path) -> None:
    failures.keep(tmp_path, "local", "api", FAILURE)

    assert failures.read(tmp_path, "local", "api") == FAILURE
    assert failures.read(tmp_path, "box", "api") is None
    failures.forget(tmp_path, "local", "api")
    failures.forget(tmp_path, "local", "api")
    assert failures.read(tmp_path, "local", "api") is None


def test_a_log_is_named_only_where_it_was_written() -> None:
    assert FAILURE.told("api").endswith(" status 2 (`sandboxfile logs api`)")
    without = Failure(step="generate", message="there is no engine")
    assert without.told("api") == "the last build failed at `generate`: there is no engine"


def test_of_a_text_the_first_line_is_told_without_what_moves_a_cursor(tmp_path: Path) -> None:
    text = "x\x1b[2J" + "y" * 1000 + "\nsecond"
    failures.keep(tmp_path, "local", "api", Failure(step="push", message=text))

    found = failures.read(tmp_path, "local", "api")

    assert found is not None
    assert found.message.startswith("x\N{REPLACEMENT CHARACTER}[2Jyyy")
    assert len(found.message) == 500


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"step": 1, "message": "x"}', b"\xff"])
def test_what_a_checkout_brings_along_is_no_failure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "failed/local/api.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert failures.read(tmp_path, "local", "api") is None


def test_where_it_cannot_be_kept_it_is_lost(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("")

    failures.keep(tmp_path, "local", "api", FAILURE)

    assert failures.read(tmp_path, "local", "api") is None


def test_status_and_plan_tell_it_until_the_template_is_up_to_date(three: User) -> None:
    failures.keep(three.root / ".sandboxfile", "local", "other", FAILURE)
    told = f"{FAILURE.told('other')}\n"

    assert f"       {told}" in three.run("status").out
    assert f"\nother: {told}" in three.run("plan", "--offline").out
    (row,) = three.run("status", "other", "--json").data["templates"]
    assert row["failed"] == {"step": "build", "message": "`make` ended with exit status 2"}
    assert three.run("plan", "--offline", "--json").data["failed"] == {"other": row["failed"]}
    assert three.run("status", "--exit-code").code == 2
    assert three.run("status", "-t", "novita", "other", "--json").data["templates"][0] == {
        **row, "failed": None,
    }  # fmt: skip
