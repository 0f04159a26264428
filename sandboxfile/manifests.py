"""Which files each template had when it was last built, so that `why` can name what changed.

A cache: a record that is missing, unreadable or of another build means that no file is named.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from sandboxfile import reading, writing
from sandboxfile.contents import Manifest
from sandboxfile.frozen import dataclass

What = Literal["added", "removed", "changed", "mode"]

_VERSION = 1

_Files = dict[str, list[object]]  # source: kind, executable, content


@dataclass(frozen=True, order=True, slots=True, kw_only=True)
class Change:
    """One file that differs; `mode` when only its executable bit does."""

    part: str
    path: str
    what: What


class Manifests:
    """The records of one workspace, one file for each template in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def remember(
        self, name: str, image_key: str, contents: Mapping[str, Iterable[Manifest]]
    ) -> None:
        """Keep the files of a template, by part, as they were for this image key.

        `name` is a file name that tells templates and targets apart. What cannot be written is
        not kept.
        """
        record = {"version": _VERSION, "image_key": image_key, "parts": _plain(contents)}
        path = self._path(name)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            writing.whole(path, json.dumps(record, separators=(",", ":")).encode("ascii"))

    def key(self, name: str) -> str | None:
        """Return the image key of the files that are remembered, None where none are."""
        record = self._read(name)
        return record[0] if record else None

    def changes(
        self, name: str, image_key: str, contents: Mapping[str, Iterable[Manifest]]
    ) -> tuple[Change, ...] | None:
        """Return how the files differ from those of the build with this image key, sorted.

        None where there is no record of them: the image was built on another machine.
        """
        record = self._read(name)
        if record is None or record[0] != image_key:
            return None
        then, now = record[1], _plain(contents)
        return tuple(
            sorted(
                change
                for part in {*then, *now}
                for change in _compare(part, then.get(part, {}), now.get(part, {}))
            )
        )

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _read(self, name: str) -> tuple[str, dict[str, _Files]] | None:
        try:
            record = json.loads(reading.regular(self._path(name)))
            if record["version"] != _VERSION:
                return None
            return record["image_key"], {
                part: {source: [kind, mode, content] for source, (kind, mode, content) in files}
                for part, files in ((part, rows.items()) for part, rows in record["parts"].items())
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def _plain(contents: Mapping[str, Iterable[Manifest]]) -> dict[str, _Files]:
    return {
        part: {
            each.source: [each.kind, each.executable, each.content]
            for manifest in manifests
            for each in manifest.files
        }
        for part, manifests in contents.items()
    }


def _compare(part: str, then: _Files, now: _Files) -> Iterator[Change]:
    for path in {*then, *now}:
        if path not in then:
            yield Change(part=part, path=path, what="added")
        elif path not in now:
            yield Change(part=part, path=path, what="removed")
        elif then[path] != now[path]:
            only_mode = then[path][::2] == now[path][::2]
            yield Change(part=part, path=path, what="mode" if only_mode else "changed")
