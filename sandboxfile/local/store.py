"""The local service's memory: one SQLite file that several processes share and kill -9 spares.

The rules that must hold between requests (superseding, cancelling, tag resolution) live here,
each in one transaction; numbers in brackets are sections of docs/protocol.md.
"""
# ruff: noqa: S608 - statements are joined from this file's own words; values are parameters

import fcntl
import json
import os
import secrets
import sqlite3
import string
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from uuid import uuid4

from sandboxfile.errors import SandboxfileError
from sandboxfile.local import names, schema
from sandboxfile.local.names import Name
from sandboxfile.local.presence import Presence
from sandboxfile.local.records import (
    LEVELS,
    Assignment,
    Build,
    Entry,
    Layer,
    Level,
    Reason,
    Refusal,
    Registered,
    Registration,
    Result,
    Setting,
    Template,
)
from sandboxfile.model import Resources

WAITING_LIMIT_S = 40 * 60  # a build that nobody triggers (5.3)
BUILDING_LIMIT_S = 60 * 60  # a whole build (5.4)

SUPERSEDED = "The build was canceled because it was superseded by a newer one."
CANCELLED = "build was cancelled"
WAITED_TOO_LONG = "build is in waiting state for too long"
BUILT_TOO_LONG = "build status polling timed out. Maximum build time is 1h0m0s."
BUILDER_LOST = "polling received unrecoverable error: builder lost"

_ATTACHED = "EXISTS (SELECT 1 FROM assignment WHERE assignment.build = build.id)"
_SHARES_A_TAG = """EXISTS (
    SELECT 1 FROM assignment AS theirs JOIN assignment AS ours
    ON theirs.template = ours.template AND theirs.tag = ours.tag
    WHERE theirs.build = build.id AND ours.build = ?)"""
_ID_ALPHABET = string.ascii_lowercase + string.digits


class Store:
    """Templates, builds, tags and logs; safe from any thread and from several processes."""

    def __init__(self, directory: Path, *, now: Callable[[], float] = time.time) -> None:
        """Open the store below `directory`, making it if needed.

        Raises SandboxfileError when the directory cannot be used or is a newer version's.
        """
        self._now = now
        self._lock = RLock()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = _open(directory)
            self.presence = Presence(directory / "running")
        except (OSError, sqlite3.Error) as error:
            raise SandboxfileError(
                f"the local service cannot keep its data in `{directory}`: {error}",
                hint="make that directory writable, or point XDG_DATA_HOME elsewhere",
            ) from error

    def close(self) -> None:
        with self._lock:
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
        with self._transaction() as db:
            template = _named_template(db, request) or _new_template(db, now)
            if limit is not None:
                _check_limit(db, template, tags, limit)
            older = f"status = 'waiting' AND {_under(tags)}"
            _fail(db, now, SUPERSEDED, older, (template, *tags))
            _claim(db, template, request)
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
            public = bool(_number(db, "SELECT public FROM template WHERE id = ?", template))
            aliases = _aliases(db, template)
        return Registered(template=template, build=build, public=public, aliases=aliases, tags=tags)

    def trigger(self, template: str, build: str) -> Build:
        """Let a waiting build begin; this process owns it from here.

        Running builds that share a tag are cancelled first, even when this one is then refused:
        the service does so too (5.3). Raises Refusal 400, 404.
        """
        now = self._time()
        with self._transaction() as db:
            if not _one(db, "SELECT 1 FROM template WHERE id = ? AND deleted = 0", template):
                raise Refusal(404, f"Error when getting template: template '{template}' not found")
            row = _one(
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
        return _build(row)

    def begin(self, build: str) -> bool:
        """Start the clock of a triggered build; False when it has been cancelled meanwhile."""
        return self._update("UPDATE build SET updated = ? WHERE id = ? AND status = 'building'",
                            self._time(), build)  # fmt: skip

    def finish(self, build: str, result: Result) -> bool:
        """Make a build ready; False when it has been cancelled meanwhile."""
        now = self._time()
        return self._update(
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
        return self._update(
            "UPDATE build SET status = 'error', updated = ?, finished = ?, message = ?, step = ?"
            " WHERE id = ? AND status IN ('waiting', 'building')",
            now, now, reason.message, reason.step, build,
        )  # fmt: skip

    def is_building(self, build: str) -> bool:
        return bool(self._row("SELECT 1 FROM build WHERE id = ? AND status = 'building'", build))

    def is_waiting(self, template: str) -> bool:
        """Tell whether a build of this template waits for its trigger."""
        return self._has(template, "waiting")

    def is_open(self, template: str) -> bool:
        """Tell whether a build of this template waits or runs."""
        return self._has(template, "waiting", "building")

    def _has(self, template: str, *statuses: str) -> bool:
        marks = ", ".join("?" for _ in statuses)
        query = f"SELECT 1 FROM build WHERE template = ? AND status IN ({marks})"
        return bool(self._row(query, template, *statuses))

    def settle(self) -> bool:
        """End what nobody will end: builds of dead processes, and those beyond the time limits.

        True when there were such processes.
        """
        now = self._time()
        owners = self._rows(
            "SELECT DISTINCT owner FROM build WHERE status = 'building' AND owner <> ?",
            self.presence.id,
        )
        lost = [owner for (owner,) in owners if not self.presence.is_alive(owner)]
        overdue = (
            ("waiting", "created", WAITING_LIMIT_S, WAITED_TOO_LONG),
            ("building", "updated", BUILDING_LIMIT_S, BUILT_TOO_LONG),
        )
        for owner in lost:
            with self._transaction() as db:
                _fail(db, now, BUILDER_LOST, "status = 'building' AND owner = ?", (owner,))
        for status, since, limit_s, message in overdue:
            where = f"status = '{status}' AND {since} < ?"
            latest = (now - limit_s * 1_000_000,)
            if self._row(f"SELECT 1 FROM build WHERE {where}", *latest):
                with self._transaction() as db:
                    _fail(db, now, message, where, latest)
        return bool(lost)

    # --- reading -----------------------------------------------------------------------------

    def build(self, template: str, build: str) -> Build | None:
        """Return a build that still has a tag; without one it is detached and gone (4.3)."""
        row = self._row(
            f"SELECT * FROM build WHERE id = ? AND template = ? AND {_ATTACHED}", build, template
        )
        return _build(row) if row else None

    def builds(self, template: str, *, limit: int, before: int | None) -> tuple[list[Build], int]:
        """Return a page of builds, newest first, and where the next page starts (0: no more)."""
        rows = self._rows(
            "SELECT * FROM build WHERE template = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            template, before or 2**62, limit + 1,
        )  # fmt: skip
        more = int(rows[limit - 1]["seq"]) if len(rows) > limit else 0
        return [_build(row) for row in rows[:limit]], more

    def template(self, reference: Name | str) -> Template | None:
        """Return the template of that alias or id."""
        with self._lock:
            found = _find(self._db, reference)
            return self._template(found) if found else None

    def templates(
        self, *, newest_first: bool, limit: int = -1, offset: int = 0, before: int | None = None
    ) -> tuple[list[Template], int, int]:
        """Return a page of templates, how many there are, and where the next page starts."""
        order = "DESC" if newest_first else "ASC"
        with self._lock:
            total = _number(self._db, "SELECT COUNT(*) FROM template WHERE deleted = 0")
            rows = self._db.execute(
                "SELECT * FROM template WHERE deleted = 0 AND seq < ?"
                f" ORDER BY seq {order} LIMIT ? OFFSET ?",
                (before or 2**62, limit + 1 if limit >= 0 else -1, offset),
            ).fetchall()
            more = int(rows[limit - 1]["seq"]) if 0 < limit < len(rows) else 0
            page = rows[:limit] if limit >= 0 else rows
            return [self._template(row) for row in page], total, more

    def resolve(self, reference: Name) -> Build:
        """Return the newest ready build of a tag, or the build whose id is the tag (4.1).

        Raises Refusal 404.
        """
        given = _text(reference)
        with self._lock:
            template = _find(self._db, reference)
            if not template:
                raise Refusal(404, f"template '{given}' not found")
            tag = reference.wanted_tag
            by_id = "build.id = ?" if names.is_build_id(tag) else "assignment.tag = ?"
            row = _one(
                self._db,
                "SELECT build.* FROM assignment JOIN build ON build.id = assignment.build"
                f" WHERE assignment.template = ? AND {by_id} AND build.status = 'ready'"
                " ORDER BY assignment.seq DESC LIMIT 1",
                template["id"], tag,
            )  # fmt: skip
        if not row:
            raise Refusal(404, f"tag '{tag}' does not exist for template '{given}'")
        return _build(row)

    # --- tags and templates ------------------------------------------------------------------

    def assign(self, build: Build, tags: Iterable[str]) -> None:
        with self._transaction() as db:
            _assign(db, self._time(), build.template, build.id, tags)

    def unassign(self, template: str, tags: Iterable[str]) -> list[str]:
        """Drop tags with their history; a build without any tag is detached.

        Returns the images of detached builds: nobody can start from them any more.
        """
        gone = f"template = ? AND image IS NOT NULL AND NOT {_ATTACHED}"
        with self._transaction() as db:
            for tag in tags:
                db.execute("DELETE FROM assignment WHERE template = ? AND tag = ?", (template, tag))
            images = db.execute(f"SELECT image FROM build WHERE {gone}", (template,)).fetchall()
            db.execute(f"UPDATE build SET image = NULL WHERE {gone}", (template,))
        return [image for (image,) in images]

    def tags(self, template: str) -> list[Assignment]:
        rows = self._rows(
            "SELECT tag, build, created FROM assignment WHERE seq IN"
            " (SELECT MAX(seq) FROM assignment WHERE template = ? GROUP BY tag) ORDER BY seq DESC",
            template,
        )
        return [Assignment(tag=row["tag"], build=row["build"], created=row["created"])
                for row in rows]  # fmt: skip

    def publish(self, template: str, *, public: bool) -> None:
        self._update("UPDATE template SET public = ?, updated = ? WHERE id = ?",
                     int(public), self._time(), template)  # fmt: skip

    def delete(self, template: str) -> list[str]:
        """Forget a template, its logs too, end its builds, free its aliases; return its images.

        Its id stays taken for ever, as at the service (2.6).
        """
        now = self._time()
        with self._transaction() as db:
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

    # --- layers ------------------------------------------------------------------------------

    @property
    def scope(self) -> str:
        """A name that no other store has, for what only this one may take for its own."""
        return str(self._rows("SELECT id FROM scope")[0]["id"])

    def layers(self, keys: Sequence[str]) -> dict[str, Layer]:
        """Return those of the layers that are known, by their keys."""
        marks = ", ".join("?" for _ in keys)
        rows = self._rows(f"SELECT * FROM layer WHERE key IN ({marks})", *keys)
        return {
            row["key"]: Layer(key=row["key"], image=row["image"], setting=_setting(row))
            for row in rows
        }

    def keep_layer(self, layer: Layer) -> None:
        """Remember a layer whose image is whole; a later one takes its place."""
        self._update(
            "INSERT OR REPLACE INTO layer VALUES (?, ?, ?, ?, ?, ?)",
            layer.key, layer.image, layer.setting.user, layer.setting.workdir,
            json.dumps(dict(layer.setting.env)), self._time(),
        )  # fmt: skip

    def use_layers(self, keys: Sequence[str], template: str) -> None:
        """Remember that a template is built on these layers, and that they were used just now."""
        now = self._time()
        with self._transaction() as db:
            db.executemany("UPDATE layer SET used = ? WHERE key = ?", [(now, key) for key in keys])
            db.executemany(
                "INSERT OR IGNORE INTO layer_use VALUES (?, ?)", [(template, key) for key in keys]
            )

    def drop_layer(self, key: str) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM layer WHERE key = ?", (key,))
            db.execute("DELETE FROM layer_use WHERE layer = ?", (key,))

    def spare_layers(self, *, keep: int, unused_s: float) -> list[str]:
        """Return the keys of layers beyond the newest `keep` or not used for `unused_s` seconds."""
        rows = self._rows(
            "SELECT key FROM layer WHERE used < ? OR key NOT IN"
            " (SELECT key FROM layer ORDER BY used DESC LIMIT ?)",
            self._time() - int(unused_s * 1_000_000), keep,
        )  # fmt: skip
        return [row["key"] for row in rows]

    def layers_of(self, template: str) -> list[str]:
        """Return the keys of the layers that no template but this one is built on."""
        rows = self._rows(
            "SELECT layer FROM layer_use AS ours WHERE template = ? AND NOT EXISTS (SELECT 1 FROM"
            " layer_use WHERE layer = ours.layer AND template <> ours.template)",
            template,
        )
        return [row["layer"] for row in rows]

    # --- logs --------------------------------------------------------------------------------

    def log(self, build: str, message: str, *, level: Level, step: str | None) -> None:
        with self._transaction() as db:
            db.execute(
                "INSERT INTO entry(build, at, level, step, message) VALUES (?, ?, ?, ?, ?)",
                (build, self._time(), LEVELS.index(level), step, message),
            )

    def entries(self, build: str, *, level: Level, offset: int, limit: int) -> list[Entry]:
        """Return a page of the log in written order; `offset` counts what `level` lets through."""
        rows = self._rows(
            "SELECT * FROM entry WHERE build = ? AND level >= ? ORDER BY seq LIMIT ? OFFSET ?",
            build, LEVELS.index(level), limit, offset,
        )  # fmt: skip
        return [_entry(row) for row in rows]

    def entries_at(
        self, build: str, *, level: Level, limit: int, cursor_ms: int | None, backward: bool
    ) -> list[Entry]:
        """Return entries from a time on (or back from it), in milliseconds since 1970."""
        order = "DESC" if backward else "ASC"
        cursor = cursor_ms if cursor_ms is not None else 2**52 if backward else 0
        edge = "at < ?" if backward else "at >= ?"
        rows = self._rows(
            f"SELECT * FROM entry WHERE build = ? AND level >= ? AND {edge}"
            f" ORDER BY seq {order} LIMIT ?",
            build, LEVELS.index(level), (cursor + backward) * 1000, limit,
        )  # fmt: skip
        return [_entry(row) for row in rows]

    # --- inside ------------------------------------------------------------------------------

    def _time(self) -> int:
        return int(self._now() * 1_000_000)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _update(self, statement: str, *values: object) -> bool:
        with self._lock:
            return self._db.execute(statement, values).rowcount > 0

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _row(self, query: str, *values: object) -> sqlite3.Row | None:
        return next(iter(self._rows(query, *values)), None)

    def _template(self, row: sqlite3.Row) -> Template:
        newest = (
            "SELECT build.* FROM assignment JOIN build ON build.id = assignment.build"
            " WHERE assignment.template = ? AND assignment.tag = ? {} "
            " ORDER BY assignment.seq DESC LIMIT 1"
        )
        default = (row["id"], names.DEFAULT_TAG)
        latest = _one(self._db, newest.format(""), *default)
        current = _one(self._db, newest.format("AND build.status = 'ready'"), *default)
        return Template(
            id=row["id"],
            public=bool(row["public"]),
            aliases=_aliases(self._db, row["id"]),
            created=row["created"],
            updated=row["updated"],
            builds=row["builds"],
            current=_build(current) if current else None,
            newest=_build(latest) if latest else None,
        )


def _open(directory: Path) -> sqlite3.Connection:
    """Connect, and make the tables; one process at a time, for switching to WAL cannot wait."""
    gate = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        db = sqlite3.connect(
            directory / "templates.db", timeout=30, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            db.close()
            raise SandboxfileError(
                f"the local service's data in `{directory}` was written by a newer sandboxfile",
                hint="upgrade sandboxfile",
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a process may die at any point, all stays
        for number, change in enumerate(schema.CHANGES[version:], version + 1):
            db.execute("BEGIN IMMEDIATE")
            for statement in change:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        return db
    finally:
        os.close(gate)


def _one(db: sqlite3.Connection, query: str, *values: object) -> sqlite3.Row | None:
    return next(db.execute(query, values), None)


def _number(db: sqlite3.Connection, query: str, *values: object) -> int:
    """Return the one number that a query of one row and one column gives."""
    return int(db.execute(query, values).fetchone()[0])


def _named_template(db: sqlite3.Connection, request: Registration) -> str | None:
    """Return the template that a registration goes to, None for a new one.

    v3 takes the name for the template it stands for; v1 never does (2.3).
    """
    if request.template is not None:
        row = _one(db, "SELECT deleted FROM template WHERE id = ?", request.template)
        if not row:
            raise Refusal(404, f"Template '{request.template}' not found")
        if row["deleted"]:
            raise Refusal(
                404, f"Template '{request.template}' has been deleted and cannot be rebuilt"
            )
    if request.name is None:
        return request.template
    alias = request.name.alias
    if _one(db, "SELECT 1 FROM template WHERE id = ?", alias):
        raise Refusal(409, f"Alias '{alias}' is already used")
    taken = _one(db, "SELECT template FROM alias WHERE alias = ?", alias)
    if request.flow == "v2":
        return str(taken["template"]) if taken else None
    if taken and taken["template"] != request.template:
        raise Refusal(403, f"Alias '{alias}' already used")
    return request.template


def _new_template(db: sqlite3.Connection, now: int) -> str:
    template = "".join(secrets.choice(_ID_ALPHABET) for _ in range(20))
    db.execute("INSERT INTO template(id, created, updated) VALUES (?, ?, ?)", (template, now, now))
    return template


def _claim(db: sqlite3.Connection, template: str, request: Registration) -> None:
    if request.name is None:
        return
    if request.template is not None:  # a rebuild under another name renames (2.3)
        db.execute(
            "DELETE FROM alias WHERE template = ? AND alias <> ?", (template, request.name.alias)
        )
    db.execute("INSERT OR IGNORE INTO alias VALUES (?, ?)", (request.name.alias, template))


def _check_limit(db: sqlite3.Connection, template: str, tags: tuple[str, ...], limit: int) -> None:
    active = _number(
        db,
        "SELECT COUNT(*) FROM build WHERE status IN ('waiting', 'building')"
        f" AND NOT ({_under(tags)})",
        template,
        *tags,
    )
    if active >= limit:
        text = "you have reached the maximum number of concurrent template builds"
        raise Refusal(429, f"{text} ({limit})")


def _under(tags: tuple[str, ...]) -> str:
    """Return the condition for builds of a template (a value) under any of these tags (values)."""
    marks = ", ".join("?" for _ in tags)
    return (
        "(template = ? AND EXISTS (SELECT 1 FROM assignment"
        f" WHERE assignment.build = build.id AND tag IN ({marks})))"
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


def _aliases(db: sqlite3.Connection, template: str) -> tuple[str, ...]:
    rows = db.execute("SELECT alias FROM alias WHERE template = ? ORDER BY alias", (template,))
    return tuple(row["alias"] for row in rows)


def _find(db: sqlite3.Connection, reference: Name | str) -> sqlite3.Row | None:
    """Return a template's row by alias, then by id; another team's namespace holds nothing."""
    alias = reference if isinstance(reference, str) else reference.alias
    if isinstance(reference, Name) and reference.namespace not in {None, names.NAMESPACE}:
        return None
    return _one(
        db,
        "SELECT template.* FROM template JOIN alias ON alias.template = template.id"
        " WHERE alias.alias = ?",
        alias,
    ) or _one(db, "SELECT * FROM template WHERE id = ? AND deleted = 0", alias)


def _text(reference: Name) -> str:
    return f"{reference.namespace}/{reference.alias}" if reference.namespace else reference.alias


def _build(row: sqlite3.Row) -> Build:
    reason = Reason(message=row["message"], step=row["step"]) if row["message"] else None
    return Build(
        id=row["id"],
        template=row["template"],
        flow=row["flow"],
        status=row["status"],
        resources=Resources(cpu=row["cpu"], memory=row["memory"]),
        start=row["start"],
        ready=row["ready"],
        created=row["created"],
        updated=row["updated"],
        finished=row["finished"],
        reason=reason,
        result=_result(row) if row["image"] else None,
    )


def _result(row: sqlite3.Row) -> Result:
    return Result(
        image=row["image"],
        setting=_setting(row),
        start=row["start"],
        ready=row["ready"],
        user=row["sandbox_user"],
        workdir=row["sandbox_workdir"],
    )


def _setting(row: sqlite3.Row) -> Setting:
    return Setting(user=row["user"], workdir=row["workdir"], env=json.loads(row["env"]))


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(at=row["at"], level=LEVELS[row["level"]], message=row["message"], step=row["step"])
