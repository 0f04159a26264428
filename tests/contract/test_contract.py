import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from sandboxfile.buildstatus import Registration
from sandboxfile.cancel import Cancel
from sandboxfile.errors import SandboxfileError
from sandboxfile.local.endpoints import ROUTES
from sandboxfile.local.service import LocalService
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.triggers import BuildStep, Start
from sandboxfile.web import Retries, Web
from tests.contract.contract import OURS, Exchange, faults, read
from tests.contract.recording import Connection, exchanges, recorded
from tests.unit.local.conftest import unreachable_engine

IDS = {"templateID": "wu9ol3m99x5h2d9y63rc", "buildID": "3c52915f-59fc-4890-beeb-f249c4ae906c"}
JSON = {"content-type": "application/json"}
GOOD = Exchange(
    method="POST",
    target="/v3/templates",
    headers={**JSON, "x-api-key": "key"},
    body=json.dumps({"name": "api", "tags": ["a"], "cpuCount": 2, "memoryMB": 512}).encode(),
    status=202,
    answer_headers=JSON,
    answer=json.dumps({**IDS, "public": False, "names": [], "aliases": [], "tags": ["a"]}).encode(),
)
TRIGGER = replace(
    GOOD,
    target=f"/v2/templates/{IDS['templateID']}/builds/{IDS['buildID']}",
    body=json.dumps({"fromImage": "a", "steps": [{"type": "RUN", "args": ["true"]}]}).encode(),
    answer_headers={},
    answer=b"",
)


def test_the_description_is_openapi() -> None:
    validate(read(OURS))


def test_good_exchanges_have_no_faults() -> None:
    assert faults([GOOD, TRIGGER]) == []


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, headers=JSON),
        replace(GOOD, headers={"x-api-key": "key"}),
        replace(GOOD, body=b'{"name": "api", "cpus": 2}'),
        replace(GOOD, body=b'{"name": 1}'),
        replace(GOOD, body=b""),
        replace(GOOD, target="/v9/templates"),
        replace(GOOD, method="PUT"),
        replace(GOOD, status=200),
        replace(GOOD, status=400),
        replace(GOOD, answer=b""),
        replace(GOOD, answer=b"{}"),
        replace(GOOD, answer=GOOD.answer.replace(b"[]", b'["a", 1]')),
        replace(GOOD, answer_headers={}),
        replace(TRIGGER, answer=b"{}"),
        replace(TRIGGER, body=b'{"steps": [{"type": "COPY", "args": ["a", "b", "", ""]}]}'),
        replace(TRIGGER, body=b'{"fromImageRegistry": {"type": "aws", "username": "a"}}'),
    ],
)
def test_what_the_description_does_not_say_is_a_fault(bad: Exchange) -> None:
    assert faults([bad]) != []


def test_requests_and_answers_can_be_held_apart() -> None:
    bad = replace(GOOD, body=b"{}")
    assert faults([bad], requests=False) == []
    assert faults([replace(bad, status=0, answer=b"")]) != []


def test_another_protocol_on_the_same_address_is_let_be() -> None:
    assert faults([replace(GOOD, target=each) for each in ("/v2/", "/v2/a/b", "/health")]) == []


def test_every_route_of_the_local_service_is_described() -> None:
    description = read(OURS)
    described = {
        (method.upper(), tuple("*" if part.startswith("{") else part for part in parts))
        for path, operations in description["paths"].items()
        for parts in [path.strip("/").split("/")]
        for method in operations
        if method != "parameters"
    }
    theirs = {(route.method, route.segments) for route in ROUTES}
    others = {each for each in theirs if each[1][0] in {"storage", "health"}}
    assert theirs - others == described


def test_a_connection_that_either_side_closes_is_read_to_there() -> None:
    lines = "GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    asked = (lines.format("") + lines.format("Connection: close\r\n")).encode()
    connection = Connection(asked=bytearray(asked), answered=bytearray(answer * 2))
    assert [each.answer for each in exchanges(connection)] == [b"ok", b"ok"]
    connection.answered[-1:] = b""  # cut short
    assert [each.answer for each in exchanges(connection)] == [b"ok"]


# --- our client and our service, without an engine -------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LocalService]:
    made = LocalService(unreachable_engine(), tmp_path, logins=lambda _: None)
    yield made
    made.stop()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(user_agent="sandboxfile/test", cancel=Cancel(), retries=Retries(attempts=1))
    yield made
    made.close()


def test_calls_and_answers_are_as_described(service: LocalService, web: Web) -> None:
    with recorded(service.start()) as recording:
        client = TemplateService(web, recording.url, Secret("key"), Secret("token"))
        first = client.register("api", tags=("a",), cpu=2, memory=512)
        client.file_link(first.template_id, "0" * 64)
        step = BuildStep(type="RUN", args=("true", "root"))
        client.trigger(first, Start(image="nowhere.localhost:1/a:1", steps=(step,), ready="true"))
        second = client.register_v2("api", cpu=2, memory=512)
        legacy = client.register_v1(dockerfile="FROM a\n", alias="old", cpu=1, memory=128)
        client.register_v1(
            dockerfile="FROM a\n", alias="old", template_id=legacy.template_id, cpu=1, memory=128
        )
        for ids in (first, second, legacy):
            client.status(ids)
        client.tags("api")
        client.find("api")
        client.find_v1("old")
        with pytest.raises(SandboxfileError):
            client.assign_tags("api:a", ("b",))
        client.delete_tags("api", ("a",))
        with pytest.raises(SandboxfileError):
            client.status(first)
        with pytest.raises(SandboxfileError):
            client.trigger_v1(Registration(template_id="x", build_id=IDS["buildID"]))
        assert client.find("nobody") is None
    heard = recording.exchanges()
    assert [each for each in heard if not each.is_covered] == []
    assert len(heard) == 17
    assert faults(heard) == []
