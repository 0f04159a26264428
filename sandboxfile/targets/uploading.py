"""Send the files of copies to the service: each content once, a few at a time, memory constant."""

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from sandboxfile import several
from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.declined import Failing, Rejected
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Emit, Notice, Sent, StepDone, StepStarted
from sandboxfile.frozen import dataclass, field
from sandboxfile.service import FileLink, TemplateService
from sandboxfile.uploads import Upload
from sandboxfile.web import Body, Reply, host

AT_ONCE = 4  # in a run, whatever the number of its templates
_POLL_S = 0.05
LINKS = 3  # a link may expire while the archive is under way
TIMEOUT_S = 3600.0
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """The build that files are sent for, and who hears of it."""

    ids: Registration
    job: str
    emit: Emit
    cancel: Cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploader:
    """Knows what the service has; `known` grows as archives arrive, for all templates of a run."""

    service: TemplateService
    known: set[str] = field(default_factory=set)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))

    def upload(self, build: Receiver, files: Mapping[str, Upload]) -> None:
        """Bring the files of these hashes to the service, unless they are there.

        Raises Unreachable, NotAllowed, Cancelled, and SandboxfileError for a file that is no
        longer what its hash says.
        """
        missing = [(name, each) for name, each in files.items() if name not in self.known]
        several.each(partial(self._bring, build), missing, AT_ONCE)

    def _bring(self, build: Receiver, named: tuple[str, Upload]) -> None:
        name, files = named
        with self._locks.setdefault(name, threading.Lock()):
            if name in self.known:
                return
            with self._place(build.cancel):
                self._send(build, name, files)
            self.known.add(name)

    @contextmanager
    def _place(self, cancel: Cancel) -> Iterator[None]:
        """Wait for one of the places that all templates of a run share. Raises Cancelled."""
        while not self._places.acquire(timeout=_POLL_S):
            cancel.check()
        try:
            yield
        finally:
            self._places.release()

    def _send(self, build: Receiver, name: str, files: Upload) -> None:
        link = self._link(build.ids, name)
        if link.present:
            return
        step = f"upload {files.sent.source} for {files.sent.to}"
        build.emit(StepStarted(job=build.job, step=step))
        with _spooled(files, build.cancel) as body:
            for attempt in range(1, LINKS + 1):
                why = self._put(link, body)
                build.emit(Sent(job=build.job, bytes=body.size))
                if why is None:
                    break
                if attempt == LINKS:
                    raise why
                build.emit(Notice(job=build.job, text=f"{why.message}; asking for a fresh link"))
                link = self._link(build.ids, name)
                if link.present:  # it arrived, and only the answer was lost
                    break
        build.emit(StepDone(job=build.job, step=step))

    def _link(self, ids: Registration, name: str) -> FileLink:
        try:
            return self.service.file_link(ids.template_id, name)
        except (Rejected, Failing) as error:
            if error.is_missing:
                error.hint = "this service takes no files: build here, with a `registry`"
            raise

    def _put(self, link: FileLink, body: Body) -> Unreachable | None:
        """Send an archive once; return why it did not arrive."""
        try:
            reply = self.service.upload(link, body, timeout_s=TIMEOUT_S)
        except Unreachable as error:
            return error
        return None if 200 <= reply.status < 300 else _refused(reply)  # noqa: PLR2004 - HTTP statuses


def _refused(reply: Reply) -> Unreachable:
    return Unreachable(
        f"the storage at `{host(reply.url)}` answered {reply.status} to an upload",
        hint="run the command again later; what has arrived is not sent again",
    )


@contextmanager
def _spooled(files: Upload, cancel: Cancel) -> Iterator[Body]:
    """Pack into a file without a name, for the length must be known before."""
    with tempfile.TemporaryFile(prefix="sandboxfile-") as file:
        try:
            for chunk in files.packed():
                cancel.check()
                file.write(chunk)
            file.flush()
        except OSError as error:
            raise SandboxfileError(
                f"cannot pack the files of a copy: {error.strerror}",
                hint=f"there must be room for them in `{tempfile.gettempdir()}` (TMPDIR)",
            ) from None
        yield Body(size=file.tell(), open=lambda: _read(file.fileno()))


def _read(descriptor: int) -> Iterator[bytes]:
    """Yield a file from its beginning, whoever else reads it."""
    at = 0
    while piece := os.pread(descriptor, _CHUNK, at):
        at += len(piece)
        yield piece
