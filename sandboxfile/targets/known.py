"""What a service knows of a template's content already, as far as it can tell."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.declined import Denied, Failing, Rejected
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import replace
from sandboxfile.journal import Journal, JournalFailed, JournalUnusable, Record
from sandboxfile.listing import ListedTemplate
from sandboxfile.service import TagEntry, TemplateService
from sandboxfile.targets import Release, Snapshot

MISSING = frozenset({404, 405, 501})
Call = Literal["v3", "tags", "assign", "aliases", "list", "owner"]
_NO_TAGS = (
    "this service has no tags; names and tags stay as they are, and what other machines have "
    "built is not found"
)

_COSTS: dict[Call, str] = {
    "v3": "this service has no /v3/templates; builds carry no content tag while they run, so two "
    "machines do not see each other's",
    "tags": _NO_TAGS,
    "assign": _NO_TAGS,
    "aliases": "this service does not look up names; what other machines have built is searched "
    "for in its list",
    "owner": "a template of another team has the same name and a build of this content; it is not "
    "taken over",
    "list": "this service has no list of templates; what other machines have built is not found",
}


class Gaps:
    """The calls that a service turned out not to have; each is told once, with what that costs."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._told: set[str] = set()

    def __contains__(self, call: Call) -> bool:
        with self._lock:
            return call in self._calls

    def note(self, call: Call) -> None:
        """Take note that the service does not have this call."""
        text = _COSTS[call]
        with self._lock:
            self._calls.add(call)
            is_told = text in self._told
            self._told.add(text)
        if not is_told:
            self._emit(Notice(job="", text=text, level="warning"))


def newest(service: TemplateService, name: str, gaps: Gaps) -> Registration | None:
    """Return the build of a template that was tagged last, whatever became of it."""
    template_id = find(service, name, gaps)
    if template_id is None:
        return None
    tags = service.tags(template_id)
    if not tags:
        return None
    last = max(tags, key=lambda entry: entry.created)
    return Registration(template_id=template_id, build_id=last.build_id)


def find(service: TemplateService, name: str, gaps: Gaps | None = None) -> str | None:
    """Return the ID of the template with this name, as far as the service can tell.

    Where names are not looked up, the list of the account's templates serves. With `gaps`, what
    is missing is noted and not asked for again, and no list at all is an answer too.
    """
    if gaps is None or "aliases" not in gaps:
        try:
            return service.find(name)
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
    if gaps is None:
        return service.find_v1(name)
    gaps.note("aliases")
    return find_v1(service, name, gaps)


def find_v1(service: TemplateService, name: str, gaps: Gaps) -> str | None:
    """Return the ID of the template with this name, from the service's list if it has one."""
    if "list" in gaps:
        return None
    try:
        return service.find_v1(name)
    except (Rejected, Failing) as error:
        if not error.is_missing:
            raise
        gaps.note("list")
        return None


def owner(service: TemplateService, release: Release, gaps: Gaps) -> BuildStatus | None:
    """Return the build that has the content tag of a release; whatever is missing is None."""
    try:
        ids = _tagged(service, release, gaps)
        return service.status(ids) if ids else None
    except (Rejected, Denied, Failing) as error:
        if _is_absence(error):
            return None
        raise


def listed(
    service: TemplateService, release: Release, gaps: Gaps, rows: Mapping[str, ListedTemplate]
) -> Snapshot | None:
    """Return the ready build of this content, from one request: `rows` has the account's templates.

    The list tells for each template which ready build has the tag `default`
    (docs/protocol.md, 2.6), and a build of ours has it; where it is another's, the status tells.
    """
    row = rows.get(release.template.name)
    if row is None or "tags" in gaps:
        return None
    try:
        tags = _tags(service, row.template_id, gaps)
        ids = _newest(row.template_id, tags, release)
        if ids is None:
            return None
        is_default = ids.build_id == row.build_id and row.state in {"", "ready", "uploaded"}
        if not is_default and service.status(ids).state != "ready":
            return None
    except (Rejected, Denied, Failing) as error:
        if _is_absence(error):
            return None
        raise
    names = {each.tag: each.build_id for each in sorted(tags, key=lambda each: each.created)}
    return Snapshot(
        template_id=ids.template_id,
        build_id=ids.build_id,
        tags=frozenset(tag for tag, build in names.items() if build == ids.build_id),
    )


def _is_absence(error: Rejected | Denied | Failing) -> bool:
    """Tell whether this says that there is nothing, or nothing for us."""
    return error.status in {400, 403, 409} or error.status in MISSING


def _tagged(service: TemplateService, release: Release, gaps: Gaps) -> Registration | None:
    template_id = None if "tags" in gaps else find(service, release.template.name, gaps)
    if template_id is None:
        return None
    found = _newest(template_id, _tags(service, template_id, gaps), release)
    if found is not None and not service.is_ours(template_id):
        gaps.note("owner")
        return None
    return found


def _tags(service: TemplateService, template_id: str, gaps: Gaps) -> tuple[TagEntry, ...]:
    try:
        return service.tags(template_id)
    except (Rejected, Failing) as error:
        if error.is_missing:
            gaps.note("tags")
        raise


def _newest(template_id: str, tags: tuple[TagEntry, ...], release: Release) -> Registration | None:
    entries = [tag for tag in tags if tag.tag == release.content_tag]
    if not entries:
        return None
    newest = max(entries, key=lambda entry: entry.created)
    return Registration(template_id=template_id, build_id=newest.build_id)


def is_ready(service: TemplateService, journal: Journal, release: Release) -> Snapshot | None:
    """Return the ready build of this content that our own journal names, if there is one.

    One that a run left while it was built gets its receipt: else the next forced build would go on
    with it, though it has ended and is taken.
    """
    record = journal.pending(release.template.name)
    if record is None or record.content != release.content_tag or not record.build_id:
        return None
    try:
        page = service.status(ids_of(record))
    except Rejected:
        return None
    if page.state == "ready" and record.step != "ready":
        with suppress(JournalFailed, JournalUnusable):  # who only looks needs none
            _settle(journal, record)
    return as_snapshot(page)


def _settle(journal: Journal, record: Record) -> None:
    with journal.turn(record.template):
        if journal.pending(record.template) == record:  # no other run has gone further
            journal.write(replace(record, step="ready"))


def as_snapshot(page: BuildStatus | None) -> Snapshot | None:
    """Return a build as a result, None unless it is ready."""
    if page is None or page.state != "ready":
        return None
    return Snapshot(template_id=page.template_id, build_id=page.build_id)


def ids_of(record: Record) -> Registration:
    """Return the IDs in a record."""
    return Registration(template_id=record.template_id, build_id=record.build_id)
