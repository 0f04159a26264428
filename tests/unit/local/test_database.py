"""The file of the local service: what is changed is kept, and nobody waits for the disk."""

import sqlite3
import time
from pathlib import Path

import pytest

from sandboxfile.local import database
from sandboxfile.local.database import FILE, Database, Unkept


def insert(db: Database, number: int) -> None:
    with db.transaction() as connection:
        connection.execute(
            "INSERT INTO template(id, created, updated) VALUES (?, 0, 0)", (f"t{number}",)
        )


def in_file(directory: Path) -> int:
    """Count what is in the file itself, whatever is in the log; 0 while it is being written."""
    uri = f"file:{directory / FILE}?mode=ro&immutable=1"
    db = sqlite3.connect(uri, uri=True)
    try:
        (count,) = db.execute("SELECT count(*) FROM template").fetchone()
    except sqlite3.DatabaseError:  # not even the table is, or half of a checkpoint
        count = 0
    finally:
        db.close()
    return int(count)


def test_changes_get_into_the_file_while_the_service_runs(tmp_path: Path) -> None:
    db = Database(tmp_path)
    for number in range(2 * database._EACH):
        insert(db, number)

    deadline = time.monotonic() + 60
    while (count := in_file(tmp_path)) < database._EACH and time.monotonic() < deadline:
        time.sleep(0.01)

    assert count >= database._EACH
    db.close()


@pytest.mark.parametrize("count", [1, database._EACH + 1])
def test_everything_is_in_the_file_at_the_end(tmp_path: Path, count: int) -> None:
    db = Database(tmp_path)
    for number in range(count):
        insert(db, number)
    assert not db.update("UPDATE template SET updated = 1 WHERE id = 'nobody'")
    db.close()

    assert in_file(tmp_path) == count
    assert {path.name for path in tmp_path.iterdir()} == {FILE, "lock"}


def test_what_fails_is_not_kept(tmp_path: Path) -> None:
    db = Database(tmp_path)
    insert(db, 1)
    with pytest.raises(Unkept, match="cannot keep its data"):
        insert(db, 1)
    assert [row["id"] for row in db.rows("SELECT id FROM template")] == ["t1"]
    db.close()
