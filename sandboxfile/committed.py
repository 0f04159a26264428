"""What a lock knows of templates whose files are as they were committed: their keys."""

from collections.abc import Mapping

from sandboxfile import keys
from sandboxfile.blobs import Blobs
from sandboxfile.entries import Entry
from sandboxfile.keys import Content, Keys, Record
from sandboxfile.model import Template


class Committed:
    """The entries of a lock for one target, and what git says of the files."""

    def __init__(self, entries: Mapping[str, Entry], blobs: Blobs) -> None:
        self._entries = entries
        self.blobs = blobs

    def has(self, template: str) -> bool:
        """Say whether the lock knows of a template by what git calls its content."""
        entry = self._entries.get(template)
        return entry is not None and bool(entry.git_key and entry.parts)

    def keys(
        self, template: Template, *, base: Record, contents: Mapping[int, Content]
    ) -> Keys | None:
        """Return the keys of a template on this base with this content, if the lock has them.

        `contents` and what is in `base` are as git calls it.
        """
        if not self.has(template.name):
            return None
        entry = self._entries[template.name]
        found = keys.as_committed(
            template,
            base=base,
            contents=contents,
            image_key=entry.image_key,
            template_key=entry.template_key,
        )
        if found != entry.git_key:
            return None
        return Keys(image_key=entry.image_key, template_key=entry.template_key, parts=entry.parts)
