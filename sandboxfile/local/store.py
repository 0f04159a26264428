"""The local service's memory: one SQLite file that several processes share and kill -9 spares.

The rules that must hold between requests (superseding, cancelling, tag resolution) live here,
each in one transaction; numbers in brackets are sections of docs/protocol.md.
"""
# ruff: noqa: S608 - statements are joined from this file's own words; values are parameters

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from sandboxfile.errors import SandboxfileError
from sandboxfile.local import claims, names, rows
from sandboxfile.local.database import Database, number, one
from sandboxfile.local.kept import Kept
from sandboxfile.local.limits import LIMITS, WAITED_TOO_LONG, Limits
from sandboxfile.local.names import Name
from sandboxfile.local.presence import Presence
from sandboxfile.local.records import (
    LEVELS,
    Assignment,
    Build,
    Entry,
    Level,
    Reason,
    Refusal,
    Registered,
    Registration,
    Result,
    Template,
)

SUPERSEDED = "The build was canceled because it was superseded by a newer one."
CANCELLED = "build was cancelled"
BUILDER_LOST = "polling received unrecoverable error: builder lost"

_ATTACHED = "EXISTS (SELECT 1 FROM assignment WHERE assignment.build = build.id)"
_SHARES_A_TAG = """EXISTS (
    SELECT 1 FROM assignment AS theirs JOIN assignment AS ours
    ON theirs.template = ours.template AND theirs.tag = ours.tag
    WHERE theirs.build = build.id AND ours.build = ?)"""


class Store:
    """Templates, builds, tags and logs; safe from any thread and from several processes."""

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], float] = time.time,
        limits: Limits = LIMITS,
    ) -> None:
        """Open the store below `directory`, making it if needed.

        Raises SandboxfileError when the directory cannot be used or is a newer version's.
        """
        self._now = now
        self._limits = limits
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with ExitStack() as unusable:
                self._db = Database(directory)
                unusable.callback(self._db.close)
                self.layers = Kept(self._db, now=self._time)
                self.presence = Presence(directory / "running")
                unusable.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise SandboxfileError(
                f"the local service cannot keep its data in `{directory}`: {error}",
                hint="make that directory writable, or point XDG_DATA_HOME elsewhere",
            ) from error

    def close(self) -> None:
        self._db.close()
        self.presence.close()

    # --- registering and building ------------------------------------------------------------

    def register(self, request: Registration, *, limit: int | None = None) -> Registered:
        """Make a build that waits for its trigger; older waiting ones of its tags give way (5.2).

        `limit` is the number of waiting and building builds that may be there at once. Raises
        Refusal 403, 404, 409, 429.
        """
        now = self._time()
        tags = request.tags or (names.DEFAULT_TAG,)
        build = str(uuid4())
        with self._db.transaction() as db:
            template = claims.named_template(db, request) or claims.new_template(db, now)
            if limit is not None:
                claims.check_limit(db, template, tags, limit)
            older = f"status = 'waiting' AND {claims.under(tags)}"
            _fail(db, now, SUPERSEDED, older, (template, *tags))
            claims.claim(db, template, request)
            db.execute(
                "INSERT INTO build(id, template, flow, status, cpu, memory, start, ready, created,"
                " updated) VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?, ?)",
                (
                    build, template, request.flow, request.resources.cpu,
                    request.resources.memory, request.start, request.ready, now, now,
                ),
            )  # fmt: skip
            _assign(db, now, template, build, tags)
            db.execute(
                "UPDATE template SET builds = builds + 1, updated = ? WHERE id = ?", (now, template)
            )
            public = bool(number(db, "SELECT public FROM template WHERE id = ?", template))
            aliases = claims.aliases(db, template)
        return Registered(template=template, build=build, public=public, aliases=aliases, tags=tags)

    def trigger(self, template: str, build: str) -> Build:
        """Let a waiting build begin; this process owns it from here.

        Running builds that share a tag are cancelled first, even when this one is then refused:
        the service does so too (5.3). Raises Refusal 400, 404.
        """
        now = self._time()
        with self._db.transaction() as db:
            if not one(db, "SELECT 1 FROM template WHERE id = ? AND deleted = 0", template):
                raise Refusal(404, f"Error when getting template: template '{template}' not found")
            row = one(
                db,
                f"SELECT * FROM build WHERE id = ? AND template = ? AND {_ATTACHED}",
                build,
                template,
            )
            if not row:
                raise Refusal(404, f"Error when getting template: build '{build}' not found")
            rivals = f"status = 'building' AND id <> ? AND {_SHARES_A_TAG}"
            _fail(db, now, CANCELLED, rivals, (build, build))
            accepted = db.execute(
                "UPDATE build SET status = 'building', owner = ?, updated = ?"
                " WHERE id = ? AND status = 'waiting'",
                (self.presence.id, now, build),
            ).rowcount
        if not accepted:
            raise Refusal(400, "build is not in waiting state")
        return rows.build(row)

    def begin(self, build: str) -> bool:
        """Start the clock of a triggered build; False when it has been cancelled meanwhile."""
        now = self._time()
        return self._db.update(
            "UPDATE build SET updated = ?, begun = ? WHERE id = ? AND status = 'building'",
            now, now, build,
        )  # fmt: skip

    def finish(self, build: str, result: Result) -> bool:
        """Make a build ready; False when it has been cancelled meanwhile."""
        now = self._time()
        return self._db.update(
            "UPDATE build SET status = 'ready', updated = ?, finished = ?, image = ?, user = ?,"
            " workdir = ?, env = ?, start = ?, ready = ?, sandbox_user = ?, sandbox_workdir = ?"
            " WHERE id = ? AND status = 'building'",
            now, now, result.image, result.setting.user, result.setting.workdir,
            json.dumps(dict(result.setting.env)), result.start, result.ready, result.user,
            result.workdir, build,
        )  # fmt: skip

    def fail(self, build: str, reason: Reason) -> bool:
        """End a build with an error; False when it had ended before."""
        now = self._time()
        return self._db.update(
            "UPDATE build SET status = 'error', updated = ?, finished = ?, message = ?, step = ?"
            " WHERE id = ? AND status IN ('waiting', 'building')",
            now, now, reason.message, reason.step, build,
        )  # fmt: skip

    def is_building(self, build: str) -> bool:
        return bool(self._db.row("SELECT 1 FROM build WHERE id = ? AND status = 'building'", build))

    def is_waiting(self, template: str) -> bool:
        """Tell whether a build of this template waits for its trigger."""
        return self._has(template, "waiting")

    def is_open(self, template: str) -> bool:
        """Tell whether a build of this template waits or runs."""
        return self._has(template, "waiting", "building")

    def _has(self, template: str, *statuses: str) -> bool:
        marks = ", ".join("?" for _ in statuses)
        query = f"SELECT 1 FROM build WHERE template = ? AND status IN ({marks})"
        return bool(self._db.row(query, template, *statuses))

    def settle(self) -> bool:
        """End what nobody will end: builds of dead processes, and those beyond the time limits.

        True when there were such processes. What another process builds is held to its limits.
        """
        now = self._time()
        owners = self._db.rows(
            "SELECT DISTINCT owner FROM build WHERE status = 'building' AND owner <> ?",
            self.presence.id,
        )
        lost = [owner for (owner,) in owners if not self.presence.is_alive(owner)]
        limits = self._limits
        overdue = (
            ("status = 'waiting' AND created < ?", (), limits.waiting, WAITED_TOO_LONG),
            (
                "status = 'building' AND owner = ? AND begun < ?",  # not what waits in line
                (self.presence.id,),
                limits.build,
                limits.built_too_long,
            ),
        )
        for owner in lost:
            with self._db.transaction() as db:
                _fail(db, now, BUILDER_LOST, "status = 'building' AND owner = ?", (owner,))
        for where, whose, limit_s, message in overdue:
            values = (*whose, now - int(limit_s * 1_000_000))
            if self._db.row(f"SELECT 1 FROM build WHERE {where}", *values):
                with self._db.transaction() as db:
                    _fail(db, now, message, where, values)
        return bool(lost)

    def unfinished(self, owner: str) -> list[str]:
        """Return the builds that a process has begun and not brought to ready."""
        found = self._db.rows("SELECT id FROM build WHERE owner = ? AND status <> 'ready'", owner)
        return [row["id"] for row in found]

    # --- reading -----------------------------------------------------------------------------

    def build(self, template: str, build: str) -> Build | None:
        """Return a build that still has a tag; without one it is detached and gone (4.3)."""
        row = self._db.row(
            f"SELECT * FROM build WHERE id = ? AND template = ? AND {_ATTACHED}", build, template
        )
        return rows.build(row) if row else None

    def builds(self, template: str, *, limit: int, before: int | None) -> tuple[list[Build], int]:
        """Return a page of builds, newest first, and where the next page starts (0: no more)."""
        found = self._db.rows(
            "SELECT * FROM build WHERE template = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            template, before or 2**62, limit + 1,
        )  # fmt: skip
        more = int(found[limit - 1]["seq"]) if len(found) > limit else 0
        return [rows.build(row) for row in found[:limit]], more

    def template(self, reference: Name | str) -> Template | None:
        """Return the template of that alias or id."""
        with self._db.lock:
            found = _find(self._db.connection, reference)
            return self._template(found) if found else None

    def templates(
        self, *, newest_first: bool, limit: int = -1, offset: int = 0, before: int | None = None
    ) -> tuple[list[Template], int, int]:
        """Return a page of templates, how many there are, and where the next page starts."""
        order = "DESC" if newest_first else "ASC"
        with self._db.lock:
            total = number(self._db.connection, "SELECT COUNT(*) FROM template WHERE deleted = 0")
            found = self._db.connection.execute(
                "SELECT * FROM template WHERE deleted = 0 AND seq < ?"
                f" ORDER BY seq {order} LIMIT ? OFFSET ?",
                (before or 2**62, limit + 1 if limit >= 0 else -1, offset),
            ).fetchall()
            more = int(found[limit - 1]["seq"]) if 0 < limit < len(found) else 0
            page = found[:limit] if limit >= 0 else found
            return [self._template(row) for row in page], total, more

    def resolve(self, reference: Name) -> Build:
        """Return the newest ready build of a tag, or the build whose id is the tag (4.1).

        Raises Refusal 404.
        """
        given = _text(reference)
        with self._db.lock:
            template = _find(self._db.connection, reference)
            if not template:
                raise Refusal(404, f"template '{given}' not found")
            tag = reference.wanted_tag
            by_id = "build.id = ?" if names.is_build_id(tag) else "assignment.tag = ?"
            row = one(
                self._db.connection,
                "SELECT build.* FROM assignment JOIN build ON build.id = assignment.build"
                f" WHERE assignment.template = ? AND {by_id} AND assignment.ready = 1"
                " ORDER BY assignment.seq DESC LIMIT 1",
                template["id"], tag,
            )  # fmt: skip
        if not row:
            raise Refusal(404, f"tag '{tag}' does not exist for template '{given}'")
        return rows.build(row)

    # --- tags and templates ------------------------------------------------------------------

    def assign(self, build: Build, tags: Iterable[str]) -> None:
        with self._db.transaction() as db:
            _assign(db, self._time(), build.template, build.id, tags)

    def unassign(self, template: str, tags: Iterable[str]) -> list[str]:
        """Drop tags with their history; a build without any tag is detached.

        Returns the images of detached builds: nobody can start from them any more.
        """
        gone = f"template = ? AND image IS NOT NULL AND NOT {_ATTACHED}"
        with self._db.transaction() as db:
            for tag in tags:
                db.execute("DELETE FROM assignment WHERE template = ? AND tag = ?", (template, tag))
            images = db.execute(f"SELECT image FROM build WHERE {gone}", (template,)).fetchall()
            db.execute(f"UPDATE build SET image = NULL WHERE {gone}", (template,))
        return [image for (image,) in images]

    def tags(self, template: str) -> list[Assignment]:
        found = self._db.rows(
            "SELECT tag, build, created FROM assignment WHERE seq IN"
            " (SELECT MAX(seq) FROM assignment WHERE template = ? GROUP BY tag) ORDER BY seq DESC",
            template,
        )
        return [Assignment(tag=row["tag"], build=row["build"], created=row["created"])
                for row in found]  # fmt: skip

    def publish(self, template: str, *, public: bool) -> None:
        self._db.update("UPDATE template SET public = ?, updated = ? WHERE id = ?",
                     int(public), self._time(), template)  # fmt: skip

    def delete(self, template: str) -> list[str]:
        """Forget a template, its logs too, end its builds, free its aliases; return its images.

        Its id stays taken for ever, as at the service (2.6).
        """
        now = self._time()
        with self._db.transaction() as db:
            _fail(db, now, CANCELLED,
                  "status IN ('waiting', 'building') AND template = ?", (template,))  # fmt: skip
            images = db.execute(
                "SELECT image FROM build WHERE template = ? AND image IS NOT NULL", (template,)
            ).fetchall()
            db.execute("UPDATE template SET deleted = 1, updated = ? WHERE id = ?", (now, template))
            db.execute("DELETE FROM alias WHERE template = ?", (template,))
            db.execute("DELETE FROM assignment WHERE template = ?", (template,))
            db.execute("DELETE FROM layer_use WHERE template = ?", (template,))
            db.execute(
                "DELETE FROM entry WHERE build IN (SELECT id FROM build WHERE template = ?)",
                (template,),
            )
        return [image for (image,) in images]

    # --- logs --------------------------------------------------------------------------------

    def log(self, build: str, message: str, *, level: Level, step: str | None) -> None:
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO entry(build, at, level, step, message) VALUES (?, ?, ?, ?, ?)",
                (build, self._time(), LEVELS.index(level), step, message),
            )

    def entries(self, build: str, *, level: Level, offset: int, limit: int) -> list[Entry]:
        """Return a page of the log in written order; `offset` counts what `level` lets through."""
        found = self._db.rows(
            "SELECT * FROM entry WHERE build = ? AND level >= ? ORDER BY seq LIMIT ? OFFSET ?",
            build, LEVELS.index(level), limit, offset,
        )  # fmt: skip
        return [rows.entry(row) for row in found]

    def entries_at(
        self, build: str, *, level: Level, limit: int, cursor_ms: int | None, backward: bool
    ) -> list[Entry]:
        """Return entries from a time on (or back from it), in milliseconds since 1970."""
        order = "DESC" if backward else "ASC"
        cursor = cursor_ms if cursor_ms is not None else 2**52 if backward else 0
        edge = "at < ?" if backward else "at >= ?"
        found = self._db.rows(
            f"SELECT * FROM entry WHERE build = ? AND level >= ? AND {edge}"
            f" ORDER BY seq {order} LIMIT ?",
            build, LEVELS.index(level), (cursor + backward) * 1000, limit,
        )  # fmt: skip
        return [rows.entry(row) for row in found]

    # --- inside ------------------------------------------------------------------------------

    def _time(self) -> int:
        return int(self._now() * 1_000_000)

    def _template(self, row: sqlite3.Row) -> Template:
        newest = (
            "SELECT build.* FROM assignment JOIN build ON build.id = assignment.build"
            " WHERE assignment.template = ? AND assignment.tag = ? {} "
            " ORDER BY assignment.seq DESC LIMIT 1"
        )
        default = (row["id"], names.DEFAULT_TAG)
        latest = one(self._db.connection, newest.format(""), *default)
        current = one(self._db.connection, newest.format("AND assignment.ready = 1"), *default)
        return Template(
            id=row["id"],
            public=bool(row["public"]),
            aliases=claims.aliases(self._db.connection, row["id"]),
            created=row["created"],
            updated=row["updated"],
            builds=row["builds"],
            current=rows.build(current) if current else None,
            newest=rows.build(latest) if latest else None,
        )


def _fail(
    db: sqlite3.Connection, now: int, message: str, where: str, values: tuple[object, ...]
) -> None:
    db.execute(
        f"UPDATE build SET status = 'error', updated = ?, finished = ?, message = ? WHERE {where}",
        (now, now, message, *values),
    )


def _assign(
    db: sqlite3.Connection, now: int, template: str, build: str, tags: Iterable[str]
) -> None:
    db.executemany(
        "INSERT INTO assignment(template, tag, build, created) VALUES (?, ?, ?, ?)",
        [(template, tag, build, now) for tag in tags],
    )


def _find(db: sqlite3.Connection, reference: Name | str) -> sqlite3.Row | None:
    """Return a template's row by alias, then by id; another team's namespace holds nothing."""
    alias = reference if isinstance(reference, str) else reference.alias
    if isinstance(reference, Name) and reference.namespace not in {None, names.NAMESPACE}:
        return None
    return one(
        db,
        "SELECT template.* FROM template JOIN alias ON alias.template = template.id"
        " WHERE alias.alias = ?",
        alias,
    ) or one(db, "SELECT * FROM template WHERE id = ? AND deleted = 0", alias)


def _text(reference: Name) -> str:
    return f"{reference.namespace}/{reference.alias}" if reference.namespace else reference.alias
