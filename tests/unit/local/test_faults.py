import json
from typing import Any

import pytest

from sandboxfile.errors import UsageError
from sandboxfile.local.faults import EFFECTS, Faults
from sandboxfile.local.wire import Answer, Request, answer

BUILD = "/templates/t1/builds/b1"
ENTRIES = [{"message": "one"}, {"message": "two"}, {"message": "three"}]
SHAPE: dict[str, Any] = {
    "status": "error",
    "logs": ["one\n", "two\n", "three\n"],
    "logEntries": ENTRIES,
    "reason": {"message": "why", "logEntries": ENTRIES},
}


class Service:
    """Answers everything with one shape, and remembers what it was asked."""

    def __init__(self, shape: dict[str, Any] | None = None, status: int = 200) -> None:
        self.asked: list[str] = []
        self._answer = answer(status, shape or {})

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request.path)
        return self._answer


def ask(faults: Faults, service: Service, line: str) -> Answer:
    method, path = line.split()
    return faults.around(service)(Request(method=method, path=path))


CALLS = {
    "register": (
        "POST /v3/templates",
        "POST /v2/templates",
        "POST /templates",
        "POST /templates/t",
    ),
    "files": ("GET /templates/t1/files/abc",),
    "upload": ("PUT /uploads/abc",),
    "trigger": (f"POST /v2{BUILD}", f"POST {BUILD}"),
    "status": (f"GET {BUILD}/status",),
    "tags": ("POST /templates/tags", "DELETE /templates/tags", "GET /templates/t1/tags"),
    "other": ("GET /templates", "GET /v2/templates", "DELETE /templates/t1", f"GET {BUILD}/logs"),
}


@pytest.mark.parametrize(("place", "line"), [(p, line) for p in CALLS for line in CALLS[p]])
def test_a_fault_comes_at_its_place_once_and_nowhere_else(place: str, line: str) -> None:
    service = Service({"status": "building"})
    faults = Faults([f"{place}-503"])
    for other in (each for name, lines in CALLS.items() for each in lines if name != place):
        assert ask(faults, service, other).status == 200
    service.asked.clear()

    assert ask(faults, service, line).status == 503
    assert service.asked == []
    assert ask(faults, service, line).status == 200
    assert faults.left == {}


@pytest.mark.parametrize("line", ["GET /health", "PUT /v2/e2b/custom-envs/t/blobs/uploads/1"])
def test_nothing_happens_where_there_are_no_places(line: str) -> None:
    faults = Faults([f"{place}-500=always" for place in CALLS])
    assert ask(faults, Service(), line).status == 200


def test_an_answer_is_lost_with_or_without_the_request() -> None:
    service = Service()
    faults = Faults(["trigger-gone", "trigger-lost"])

    assert ask(faults, service, f"POST /v2{BUILD}").is_lost
    assert service.asked == []
    assert ask(faults, service, f"POST /v2{BUILD}").is_lost
    assert len(service.asked) == 1
    assert not ask(faults, service, f"POST /v2{BUILD}").is_lost


def test_too_many_requests_come_with_and_without_a_time_to_wait() -> None:
    faults = Faults(["register-429", "register-limit=2"])

    first, second, third, fourth = (ask(faults, Service(), "POST /v3/templates") for _ in range(4))

    assert first.headers["Retry-After"] == "1"
    assert first.headers["RateLimit-Remaining"] == "0"
    assert json.loads(first.body) == {"code": 429, "message": "Rate limit exceeded"}
    assert [second.status, third.status, fourth.status] == [429, 429, 200]
    assert set(second.headers) == {"Content-Type"}
    assert "maximum number of concurrent template builds" in json.loads(second.body)["message"]


def test_gateways_and_storages_answer_in_no_json() -> None:
    gateway = ask(Faults(["status-502"]), Service(), f"GET {BUILD}/status")
    storage = ask(Faults(["upload-expired"]), Service(), "PUT /uploads/abc")

    assert (gateway.status, gateway.headers["Content-Type"]) == (502, "text/html")
    assert gateway.body.startswith(b"<html>")
    assert (storage.status, storage.headers["Content-Type"]) == (403, "application/xml")
    assert b"expired" in storage.body


def test_a_build_is_told_as_waiting() -> None:
    shape = json.loads(ask(Faults(["status-waiting"]), Service(SHAPE), f"GET {BUILD}/status").body)
    assert shape == {"status": "waiting", "logs": [], "logEntries": []}

    faults = Faults(["status-waiting"])
    assert ask(faults, Service(status=400), f"GET {BUILD}/status").status == 400
    assert faults.left == {"status-waiting": 1}


def test_a_log_goes_on_after_the_end() -> None:
    faults = Faults(["status-late"])
    for early in ({**SHAPE, "status": "building"}, {**SHAPE, "logEntries": ENTRIES[:1]}):
        assert json.loads(ask(faults, Service(early), f"GET {BUILD}/status").body) == early
    assert ask(faults, Service(status=400), f"GET {BUILD}/status").status == 400

    late = json.loads(ask(faults, Service(SHAPE), f"GET {BUILD}/status").body)
    assert late == {
        "status": "error",
        "logs": ["one\n"],
        "logEntries": ENTRIES[:1],
        "reason": {"message": "why", "logEntries": []},
    }
    assert faults.left == {}
    ready = {**SHAPE, "status": "ready", "logs": []}
    ready.pop("reason")
    shape = json.loads(ask(Faults(["status-late"]), Service(ready), f"GET {BUILD}/status").body)
    assert shape == {"status": "ready", "logs": [], "logEntries": ENTRIES[:1]}


def test_faults_are_counted_and_may_last_for_ever() -> None:
    faults = Faults(["files-503=2", "status-401=always", "files-503"])
    assert faults.left == {"files-503": 3, "status-401": float("inf")}
    for _ in range(5):
        assert ask(faults, Service(), f"GET {BUILD}/status").status == 401


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("regsiter-429", ", ".join(EFFECTS)),
        ("register-429=often", "register-429=2"),
        ("register-429=-1", "register-429=always"),
        ("register-429=" + "9" * 5000, "register-429=always"),
        ("register", "register-limit"),
    ],
)
def test_a_fault_that_is_none_is_told_before_anything_starts(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Faults([text])
    assert hint in caught.value.hint
