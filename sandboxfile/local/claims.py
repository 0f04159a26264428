"""What a registration claims: its template, its name, a place under the limit.

Everything is part of a transaction that the store holds; numbers in brackets are sections of
docs/protocol.md.
"""
# ruff: noqa: S608 - statements are joined from this file's own words; values are parameters

import secrets
import sqlite3
import string

from sandboxfile.local.database import number, one
from sandboxfile.local.records import Refusal, Registration

_ID_ALPHABET = string.ascii_lowercase + string.digits


def named_template(db: sqlite3.Connection, request: Registration) -> str | None:
    """Return the template that a registration goes to, None for a new one.

    v3 takes the name for the template it stands for; v1 never does (2.3).
    """
    if request.template is not None:
        row = one(db, "SELECT deleted FROM template WHERE id = ?", request.template)
        if not row:
            raise Refusal(404, f"Template '{request.template}' not found")
        if row["deleted"]:
            raise Refusal(
                404, f"Template '{request.template}' has been deleted and cannot be rebuilt"
            )
    if request.name is None:
        return request.template
    alias = request.name.alias
    if one(db, "SELECT 1 FROM template WHERE id = ?", alias):
        raise Refusal(409, f"Alias '{alias}' is already used")
    taken = one(db, "SELECT template FROM alias WHERE alias = ?", alias)
    if request.flow == "v2":
        return str(taken["template"]) if taken else None
    if taken and taken["template"] != request.template:
        raise Refusal(403, f"Alias '{alias}' already used")
    return request.template


def new_template(db: sqlite3.Connection, now: int) -> str:
    template = "".join(secrets.choice(_ID_ALPHABET) for _ in range(20))
    db.execute("INSERT INTO template(id, created, updated) VALUES (?, ?, ?)", (template, now, now))
    return template


def claim(db: sqlite3.Connection, template: str, request: Registration) -> None:
    if request.name is None:
        return
    if request.template is not None:  # a rebuild under another name renames (2.3)
        db.execute(
            "DELETE FROM alias WHERE template = ? AND alias <> ?", (template, request.name.alias)
        )
    db.execute("INSERT OR IGNORE INTO alias VALUES (?, ?)", (request.name.alias, template))


def check_limit(db: sqlite3.Connection, template: str, tags: tuple[str, ...], limit: int) -> None:
    active = number(
        db,
        "SELECT COUNT(*) FROM build WHERE status IN ('waiting', 'building')"
        f" AND NOT ({under(tags)})",
        template,
        *tags,
    )
    if active >= limit:
        text = "you have reached the maximum number of concurrent template builds"
        raise Refusal(429, f"{text} ({limit})")


def under(tags: tuple[str, ...]) -> str:
    """Return the condition for builds of a template (a value) under any of these tags (values)."""
    marks = ", ".join("?" for _ in tags)
    return (
        "(template = ? AND EXISTS (SELECT 1 FROM assignment"
        f" WHERE assignment.build = build.id AND tag IN ({marks})))"
    )


def aliases(db: sqlite3.Connection, template: str) -> tuple[str, ...]:
    rows = db.execute("SELECT alias FROM alias WHERE template = ? ORDER BY alias", (template,))
    return tuple(row["alias"] for row in rows)
