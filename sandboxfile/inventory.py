"""What a service has for this account, and what of it this workspace may call its own."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial

from sandboxfile import journal, lockfile, several
from sandboxfile.app import Session
from sandboxfile.declined import Denied, Failing, Rejected
from sandboxfile.errors import NotAllowed, SandboxfileError, UsageError
from sandboxfile.frozen import dataclass, replace
from sandboxfile.journal import Journal
from sandboxfile.listing import ListedBuild, ListedTemplate
from sandboxfile.lockfile import Lock
from sandboxfile.parts import Parts
from sandboxfile.service import TagEntry
from sandboxfile.targets.known import find

AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A template that is to be deleted; `known` is the name in the lock, None if it has none.

    `builds` is None where the service does not list them.
    """

    template_id: str
    word: str
    known: str | None
    names: tuple[str, ...]
    builds: int | None


class Inventory:
    """The templates of one target."""

    def __init__(self, session: Session) -> None:
        if session.args.offline:
            raise UsageError("templates are at the service, and `--offline` forbids asking it")
        self._session = session
        self._service = Parts(session).templates()

    def ours(self) -> Mapping[str, str]:
        """Return the names that the lock has, by template ID."""
        return {entry.template_id: name for name, entry in self._session.entries().items()}

    def listed(self) -> tuple[ListedTemplate, ...]:
        return tuple(self._service.templates())

    def tags(
        self, templates: Iterable[ListedTemplate]
    ) -> Mapping[str, tuple[TagEntry, ...]] | None:
        """Return the tags of templates by ID, None when the service has no tags."""
        ids = [each.template_id for each in templates]
        found = several.each(self._tags, ids, AT_ONCE)
        return {
            template_id: tags
            for template_id, tags in zip(ids, found, strict=True)
            if tags is not None
        } or (None if ids else {})

    def _tags(self, template_id: str) -> tuple[TagEntry, ...] | None:
        try:
            return self._service.tags(template_id)
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            return None

    def tags_of(self, template_id: str) -> tuple[TagEntry, ...]:
        """Return a template's tags. Raises UsageError when the service has none."""
        found = self._tags(template_id)
        if found is None:
            target = self._session.target.name
            raise UsageError(
                f"the service of target `{target}` has no tags: what is in use cannot be told",
                hint="delete by name: `sandboxfile delete NAME`",
            )
        return found

    def builds_of(self, template_id: str) -> tuple[ListedBuild, ...]:
        """Return a template's builds. Raises UsageError when the service does not list them."""
        try:
            return self._service.template(template_id).builds
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            target = self._session.target.name
            raise UsageError(
                f"the service of target `{target}` does not list builds: those that run "
                "cannot be told",
                hint="delete by name: `sandboxfile delete NAME`",
            ) from None

    def forget(self, name: str, tags: tuple[str, ...]) -> None:
        """Take content tags from the template of the lock that has this name."""
        self._service.delete_tags(name, tags)

    # --- deleting ----------------------------------------------------------------------------

    def doomed(self, word: str) -> Doomed:
        """Find what a name or an ID stands for, and that it is this account's.

        Raises UsageError for `name:tag`, NotAllowed for another team's template.
        """
        entries = self._session.entries()
        known = next((n for n, e in entries.items() if word in {n, e.template_id}), None)
        template_id = entries[known].template_id if known else self._looked_up(word)
        names, builds = self._checked(word, template_id)
        return Doomed(template_id=template_id, word=word, known=known, names=names, builds=builds)

    def _looked_up(self, word: str) -> str:
        if ":" in word:
            name, _, tag = word.partition(":")
            raise UsageError(
                f"`{word}` names a tag, and only whole templates are deleted",
                hint=f"take the tag away: `sandboxfile tag {name} --remove {tag}`",
            )
        found = find(self._service, word)
        if found is None and any(each.template_id == word for each in self.listed()):
            return word
        if found is None:
            raise SandboxfileError(
                f"target `{self._session.target.name}` has no template `{word}`",
                hint="see `sandboxfile list --remote`",
            )
        return found

    def _checked(self, word: str, template_id: str) -> tuple[tuple[str, ...], int | None]:
        """Return a template's names and builds, seen under its ID as ours."""
        try:
            found = self._service.template(template_id)
        except Denied as error:
            if error.status != 403:  # noqa: PLR2004 - an HTTP status
                raise
            raise NotAllowed(
                f"template {template_id}, which `{word}` stands for, belongs to another team",
                hint="use a key of that team, or remove its entry from the lock",
            ) from None
        except (Rejected, Failing) as error:
            if not error.is_missing and error.status != 404:  # noqa: PLR2004 - an HTTP status
                raise
            return self._checked_in_list(template_id)
        return found.names, len(found.builds)

    def _checked_in_list(self, template_id: str) -> tuple[tuple[str, ...], None]:
        row = next((each for each in self.listed() if each.template_id == template_id), None)
        return row.names if row else (), None

    def delete(self, doomed: Doomed) -> bool:
        """Delete a template by its ID and take it from the lock; whether it was still there."""
        was_there = self._service.delete(doomed.template_id)
        if doomed.known is not None:
            change = partial(_without, self._session.target.name, doomed.known, doomed.template_id)
            lockfile.update(self._session.lock_path, change)
        self._close(doomed.template_id)
        return was_there

    def _close(self, template_id: str) -> None:
        """Leave nothing of the template in the journal that `status` and `build` would go on with.

        What another run has begun meanwhile under the same name has another ID, and stays.
        """
        session = self._session
        pending = journal.peek(session.journal_path)
        left = [name for name, each in pending.items() if each.template_id == template_id]
        if not left:
            return
        kept = Journal.open(session.journal_path, emit=session.emit, cancel=session.cancel)
        with closing(kept):
            for name in left:
                with kept.turn(name):
                    record = kept.pending(name)
                    if record is not None and record.template_id == template_id:
                        kept.write(replace(record, step="closed"))


def _without(target: str, name: str, template_id: str, lock: Lock) -> Lock:
    """Take an entry from the lock, unless another run has written a new one meanwhile."""
    entry = lock.entry(target, name)
    is_it = entry is not None and entry.template_id == template_id
    return lock.without_entry(target, name) if is_it else lock
