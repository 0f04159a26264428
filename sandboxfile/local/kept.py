"""The layer cache's part of the store: which layers there are, and who is built on them."""
# ruff: noqa: S608 - statements are joined from this file's own words; values are parameters

import json
from collections.abc import Callable, Sequence

from sandboxfile.local import rows
from sandboxfile.local.database import Database
from sandboxfile.local.records import Layer


class Kept:
    """Layers whose images are whole; `now` gives microseconds since 1970."""

    def __init__(self, database: Database, *, now: Callable[[], int]) -> None:
        self._db = database
        self._now = now

    @property
    def scope(self) -> str:
        """A name that no other store has, for what only this one may take for its own."""
        return str(self._db.rows("SELECT id FROM scope")[0]["id"])

    def known(self, keys: Sequence[str]) -> dict[str, Layer]:
        """Return those of the layers that are known, by their keys."""
        marks = ", ".join("?" for _ in keys)
        found = self._db.rows(f"SELECT * FROM layer WHERE key IN ({marks})", *keys)
        return {row["key"]: rows.layer(row) for row in found}

    def keep(self, layer: Layer) -> None:
        """Remember a layer whose image is whole; a later one takes its place."""
        self._db.update(
            "INSERT OR REPLACE INTO layer VALUES (?, ?, ?, ?, ?, ?)",
            layer.key, layer.image, layer.setting.user, layer.setting.workdir,
            json.dumps(dict(layer.setting.env)), self._now(),
        )  # fmt: skip

    def use(self, keys: Sequence[str], template: str) -> None:
        """Remember that a template is built on these layers, and that they were used just now."""
        now = self._now()
        with self._db.transaction() as db:
            db.executemany("UPDATE layer SET used = ? WHERE key = ?", [(now, key) for key in keys])
            db.executemany(
                "INSERT OR IGNORE INTO layer_use VALUES (?, ?)", [(template, key) for key in keys]
            )

    def drop(self, key: str) -> None:
        with self._db.transaction() as db:
            db.execute("DELETE FROM layer WHERE key = ?", (key,))
            db.execute("DELETE FROM layer_use WHERE layer = ?", (key,))

    def spare(self, *, keep: int, unused_s: float) -> list[str]:
        """Return the keys of layers beyond the newest `keep` or not used for `unused_s` seconds."""
        found = self._db.rows(
            "SELECT key FROM layer WHERE used < ? OR key NOT IN"
            " (SELECT key FROM layer ORDER BY used DESC LIMIT ?)",
            self._now() - int(unused_s * 1_000_000), keep,
        )  # fmt: skip
        return [row["key"] for row in found]

    def only_of(self, template: str) -> list[str]:
        """Return the keys of the layers that no template but this one is built on."""
        found = self._db.rows(
            "SELECT layer FROM layer_use AS ours WHERE template = ? AND NOT EXISTS (SELECT 1 FROM"
            " layer_use WHERE layer = ours.layer AND template <> ours.template)",
            template,
        )
        return [row["layer"] for row in found]
