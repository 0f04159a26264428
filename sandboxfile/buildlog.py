"""The log of one build at the service, printed as it comes, complete to the last line."""

import json
import sys

from sandboxfile import console, errors, journal
from sandboxfile.app import Session
from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.declined import Rejected
from sandboxfile.errors import BuildFailed, SandboxfileError
from sandboxfile.events import Event, Log, Notice
from sandboxfile.model import UUID
from sandboxfile.parts import Parts
from sandboxfile.service import TemplateService
from sandboxfile.targets.follow import Following
from sandboxfile.targets.known import Gaps, find, ids_of, newest
from sandboxfile.targets.patience import Patience


class BuildLog:
    """The log of a template's running or last build, or of the build with this ID."""

    def __init__(self, session: Session, name: str, build: str | None) -> None:
        """Print nothing yet. Raises UsageError for what is no build's ID."""
        if build is not None and not UUID.fullmatch(build):
            raise errors.UsageError(f"`{build}` is not a build's ID")
        self._session = session
        self._name = name
        self._build = build
        self._github = console.in_github(session.args.environ)
        self._lines: list[dict[str, str]] = []
        self.has_begun = False

    def follow(self) -> int:
        """Print the log until the build ends. Raises BuildFailed, NotAllowed, Unreachable."""
        following = self._begun()
        try:
            return self._ended(following.to_end())
        except KeyboardInterrupt:
            text = f"build {following.ids.build_id} goes on at the service"
            self._session.emit(Notice(job="", text=text, level="warning"))
            raise

    def copy(self) -> int:
        """Print the log as far as it has come. Raises BuildFailed, NotAllowed, Unreachable."""
        following = self._begun()
        page = following.poll()
        following.drain()
        return self._ended(page)

    def _begun(self) -> Following:
        """Ask once, for who has no network: later failures are survived for minutes."""
        service = Parts(self._session).service()
        following = Following(
            service,
            self._ids(service),
            job=f"logs:{self._name}",
            patience=Patience(),
            emit=self._emit,
            cancel=self._session.cancel,
        )
        try:
            service.status(following.ids)
        except Rejected as error:
            raise following.no_status(error) from None
        self.has_begun = True
        return following

    def _ended(self, page: BuildStatus) -> int:
        if self._session.args.json:
            document = {
                "name": self._name,
                "template_id": page.template_id,
                "build_id": page.build_id,
                "state": page.state,
                "reason": page.reason or None,
                "log": self._lines,
            }
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        if page.state == "error":
            reason = page.reason or "no reason given"
            raise BuildFailed(f"build {page.build_id} of `{self._name}` failed: {reason}")
        if page.state != "ready":
            text = f"build {page.build_id} is {page.state}; `--follow` waits for its end"
            self._session.emit(Notice(job="", text=text))
        return errors.DONE

    # --- which build -------------------------------------------------------------------------

    def _ids(self, service: TemplateService) -> Registration:
        """Return the IDs: a build that runs comes before the lock's, and that before others'."""
        known = self._known()
        if self._build is None and known:
            return known[0]
        for ids in known:
            if ids.build_id == self._build:
                return ids
        gaps = Gaps(self._session.emit)
        if self._build is None:
            found = newest(service, self._name, gaps)
        else:
            template = known[0].template_id if known else find(service, self._name, gaps)
            found = Registration(template_id=template, build_id=self._build) if template else None
        if found is None:
            raise SandboxfileError(
                f"no build of `{self._name}` is known here or at the service",
                hint=f"`sandboxfile build {self._name}` makes one",
            )
        return found

    def _known(self) -> list[Registration]:
        session = self._session
        record = journal.peek(session.journal_path).get(self._name)
        ours = [ids_of(record)] if record and record.build_id else []
        entry = session.entries().get(self._name)
        theirs = [entry] if entry else []
        locked = [Registration(template_id=e.template_id, build_id=e.build_id) for e in theirs]
        is_running = record is not None and record.step != "ready"
        return [*ours, *locked] if is_running else [*locked, *ours]

    # --- printing ----------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        if not isinstance(event, Log):
            self._session.emit(event)
            return
        redactor = self._session.redactor
        if self._session.args.json:
            self._lines.append({"text": redactor.line(event.text), "step": event.step})
            return
        sys.stdout.write(redactor.line(event.text, ci=self._github) + "\n")
        sys.stdout.flush()
