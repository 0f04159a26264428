"""Files reach the storage once, whatever fails on the way, and nothing of ours with them."""

import gzip
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.context import select
from sandboxfile.declined import Rejected
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.events import Event, Notice
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy, Secret
from sandboxfile.places import Position
from sandboxfile.service import TemplateService
from sandboxfile.statcache import NoCache
from sandboxfile.targets.uploading import AT_ONCE, Receiver, Uploader
from sandboxfile.uploads import Upload, upload
from sandboxfile.web import Web
from tests.fakes.service import SIGNATURE, Answer, FakeService, Sent, error, serving

KEY = "key-123456"
EXPIRED = Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")


class Sending:
    """A service, a storage of its own, and who uploads to it."""

    def __init__(self, service: FakeService, storage: FakeService, root: Path) -> None:
        service.storage = storage.url
        self.service, self.storage, self.root = service, storage, root
        self.cancel = Cancel()
        self.web = Web(user_agent="test", sleep=lambda _: None, cancel=self.cancel)
        client = TemplateService(self.web, service.url, Secret(KEY))
        self.uploader = Uploader(service=client)
        build = service.register("api", ())
        self.ids = Registration(template_id=build.template, build_id=build.id)
        self.events: list[Event] = []
        self.receiver = Receiver(
            ids=self.ids, job="snapshot:api", emit=self.events.append, cancel=self.cancel
        )

    def files(self, name: str, content: str) -> tuple[str, Upload]:
        (self.root / name).write_text(content)
        copy = Copy(sources=(name,), to="/x/", root=self.root, at=Position("novita.yaml", 1, 1))
        found = upload(select(copy, Ground(self.root)), NoCache())
        return found.files_hash(), found

    def send(self, *files: tuple[str, Upload]) -> None:
        self.uploader.upload(self.receiver, dict(files))

    @property
    def puts(self) -> list[Sent]:
        return self.storage.sent("PUT", "/storage/.*")

    @property
    def links(self) -> int:
        return len(self.service.sent("GET", ".*/files/.*"))


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Sending]:
    with serving(FakeService()) as service, serving(FakeService()) as storage:
        made = Sending(service, storage, tmp_path)
        storage.files = service.files  # one storage behind both
        yield made
        made.web.close()


def content(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        return {each.name: (tar.extractfile(each) or io.BytesIO()).read().decode() for each in tar}


def test_files_are_sent_once_without_a_key(sending: Sending) -> None:
    one, two = sending.files("one", "1"), sending.files("two", "2")
    sending.send(one, two)
    sending.send(one, two)
    assert {name: content(sent) for name, sent in sending.service.files.items()} == {
        one[0]: {"one": "1"},
        two[0]: {"two": "2"},
    }
    assert len(sending.puts) == 2
    assert sending.links == 2
    for sent in sending.puts:
        assert sent.query == {"signature": SIGNATURE}
        assert int(sent.headers["content-length"]) == len(sent.body)
        assert not {"x-api-key", "authorization", "cookie"} & set(sent.headers)
        assert KEY not in str(sent.headers)


def test_what_is_there_is_not_sent(sending: Sending) -> None:
    one = sending.files("one", "1")
    sending.service.files[one[0]] = b"there"
    sending.send(one)
    assert sending.puts == []


def test_a_link_that_has_expired_is_replaced(sending: Sending) -> None:
    one = sending.files("one", "1")
    sending.storage.fail("PUT", "/storage", EXPIRED, EXPIRED)
    sending.send(one)
    assert (len(sending.puts), sending.links) == (3, 3)
    assert one[0] in sending.service.files


def test_a_lost_answer_is_not_an_upload_lost(sending: Sending) -> None:
    one = sending.files("one", "1")
    for _ in range(6):
        sending.storage.lose("PUT", "/storage", carried_out=True)
    sending.send(one)
    assert sending.links == 2
    assert len(sending.puts) == 6


def test_a_storage_that_always_refuses_is_told_without_its_address(sending: Sending) -> None:
    one = sending.files("one", "1")
    sending.storage.fail("PUT", "/storage", *[EXPIRED] * 3)
    with pytest.raises(Unreachable) as caught:
        sending.send(one)
    host = sending.storage.url.removeprefix("http://")
    assert caught.value.message == f"the storage at `{host}` answered 403 to an upload"
    notices = [each.text for each in sending.events if isinstance(each, Notice)]
    assert not [text for text in notices if SIGNATURE in text or "/storage" in text]
    assert sending.service.files == {}


def test_a_service_that_has_no_builder_is_asked_again(sending: Sending) -> None:
    sending.service.fail("GET", "/files/", error(503, "Error when getting available build client"))
    sending.send(sending.files("one", "1"))
    assert len(sending.service.files) == 1


def test_nothing_more_is_asked_for_after_a_refusal(sending: Sending) -> None:
    files = [sending.files(f"file{number}", str(number)) for number in range(3 * AT_ONCE)]
    sending.service.fail("GET", "/files/", *[error(400, "no")] * len(files))
    with pytest.raises(Rejected):
        sending.send(*files)
    assert sending.links <= AT_ONCE  # those that were under way


def test_a_file_that_changed_since_is_not_sent(sending: Sending) -> None:
    one = sending.files("one", "1")
    (sending.root / "one").write_text("2")
    with pytest.raises(SandboxfileError, match="changed while being read"):
        sending.send(one)
    assert sending.puts == []


def test_builds_that_share_files_send_them_once(sending: Sending) -> None:
    one = sending.files("one", "1" * 100_000)
    threads = [threading.Thread(target=sending.send, args=(one,)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(sending.puts) == 1


def test_no_room_to_pack_is_told(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sending.files("one", "1")
    with open("/dev/full", "w+b", buffering=0) as full:  # noqa: PTH123 - a device
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
        with pytest.raises(SandboxfileError, match="cannot pack the files of a copy: No space"):
            sending.send(one)


def test_a_stopped_run_sends_nothing_more(sending: Sending) -> None:
    sending.cancel.set()
    with pytest.raises(Cancelled):
        sending.send(sending.files("one", "1"))
    assert sending.puts == []


def test_all_templates_of_a_run_share_the_places(sending: Sending) -> None:
    lock, put = threading.Lock(), sending.storage._put
    under_way: list[int] = [0]
    most: list[int] = []

    def counted(request: Sent, files: str) -> Answer:
        with lock:
            under_way[0] += 1
            most.append(under_way[0])
        try:
            return put(request, files)
        finally:
            with lock:
                under_way[0] -= 1

    sending.storage._put = counted  # type: ignore[method-assign]
    threads = [
        threading.Thread(
            target=sending.send,
            args=[sending.files(f"file{number}-{each}", f"{number}/{each}") for each in range(5)],
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sending.puts) == 4 * 5
    assert max(most) <= AT_ONCE


def test_packing_stops_with_the_run(sending: Sending) -> None:
    for name in "ab":
        (sending.root / "app").mkdir(exist_ok=True)
        (sending.root / "app" / name).write_bytes(bytes(4 << 20))
    at = Position("novita.yaml", 1, 1)
    found = upload(
        select(Copy(sources=("app",), to="/x/", root=sending.root, at=at), Ground(sending.root)),
        NoCache(),
    )
    files = {found.files_hash(): found}

    def stop(_: Event) -> None:
        (sending.root / "app/b").unlink()  # to come as far as that would be another error
        sending.cancel.set()

    with pytest.raises(Cancelled):
        sending.uploader.upload(replace(sending.receiver, emit=stop), files)
    assert sending.puts == []


def test_who_waits_for_a_place_stops_with_the_run(sending: Sending) -> None:
    for _ in range(AT_ONCE):
        sending.uploader._places.acquire()
    threading.Timer(0.1, sending.cancel.set).start()
    with pytest.raises(Cancelled):
        sending.send(sending.files("one", "1"))
