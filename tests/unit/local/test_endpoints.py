import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sandboxfile.local import shapes
from sandboxfile.local.wire import Request
from sandboxfile.model import Secret
from tests.unit.local.conftest import KEY, Client, Clock, finish

UUID = "3c52915f-59fc-4890-beeb-f249c4ae906c"
HASH = "4dd5aecb721a41a82cbb86b502c4bd814c9538f673dbf53143e5ac5f64efd2f4"
INVALID = "validation error: property"
FROM = {"fromImage": "debian:12"}


def test_a_registration_answers_with_ids_names_and_tags(client: Client) -> None:
    status, body = client.call(
        "POST /v3/templates",
        {"name": "App:V1", "tags": [" stable ", "v1"], "cpuCount": 2, "memoryMB": 512, "new": 1},
    )
    assert status == 202
    assert re.fullmatch("[a-z0-9]{20}", body["templateID"])
    assert re.fullmatch("[0-9a-f-]{36}", body["buildID"])
    assert body["public"] is False
    assert (body["names"], body["aliases"]) == (["local/app"], ["app"])
    assert sorted(body["tags"]) == ["stable", "v1"]


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        ({"name": "app"}, ["default"]),
        ({"alias": "app"}, ["default"]),
        ({"name": "app:default"}, ["default"]),
        ({"name": "app:default", "tags": ["stable"]}, ["stable"]),
        ({"name": "app", "tags": ["default", "stable"]}, ["default", "stable"]),
        ({"name": "local/app:v1", "tags": []}, ["v1"]),
        ({"name": "app", "tags": None}, ["default"]),
    ],
)
def test_the_tags_of_a_registration(
    client: Client, body: dict[str, object], tags: list[str]
) -> None:
    status, answer = client.call("POST /v3/templates", body)
    assert status == 202
    assert sorted(answer["tags"]) == tags


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Name is required"),
        ({"name": " "}, "Name is required"),
        ({"name": "a b"}, "Invalid name: template name 'a b' must match ^[a-z0-9_-]+$"),
        ({"name": "a" * 129}, "Invalid name: name is longer than 128 characters"),
        ({"name": "team/a"}, "namespace 'team' must match your team 'local'"),
        ({"name": "a", "tags": ["x y"]}, "Invalid tag: tag 'x y' must match ^[a-z0-9_.-]+$"),
        ({"name": "a", "tags": [UUID]}, "Invalid tag: tag cannot be a UUID"),
        ({"name": f"a:{UUID}"}, "Invalid tag: tag cannot be a UUID"),
        ({"name": 5}, "validation error: property 'name' must be a string"),
        ({"name": "a", "tags": "x"}, "validation error: property 'tags' must be an array"),
        ({"name": "a", "tags": [1]}, f"{INVALID} 'tags' must be an array of strings"),
        ({"name": "a", "cpuCount": "2"}, f"{INVALID} 'cpuCount' must be an integer"),
        ({"name": "a", "cpuCount": True}, f"{INVALID} 'cpuCount' must be an integer"),
        ({"name": "a", "cpuCount": 0}, "CPU count must be at least 1"),
        ({"name": "a", "cpuCount": 34}, "CPU count must be at most 32"),
        ({"name": "a", "cpuCount": 3}, "CPU count must be 1 or an even number"),
        ({"name": "a", "memoryMB": 127}, "Memory must be at least 128 MiB"),
        ({"name": "a", "memoryMB": 129}, "Memory must be divisible by 2"),
        ({"name": "a", "memoryMB": 2**20 + 2}, "Memory can't be higher than 1048576 MiB"),
        ({"name": "a", "memoryMB": 2**63}, "Memory can't be higher than 1048576 MiB"),
        ({"name": "a", "memoryMB": 10**30}, "Memory can't be higher than 1048576 MiB"),
        ({"name": "a", "cpuCount": 10**30}, "CPU count must be at most 32"),
    ],
)  # fmt: skip
def test_a_bad_registration_is_400(client: Client, body: dict[str, object], message: str) -> None:
    assert client.call("POST /v3/templates", body) == (400, {"code": 400, "message": message})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_400(client: Client, body: bytes) -> None:
    status, answer, _ = client.raw("POST /v3/templates", body)
    assert status == 400
    assert json.loads(answer)["message"].startswith("Invalid request body: ")


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("POST /v2/templates", {"alias": "app"}),
        ("POST /templates", {"alias": "team/app:v1", "dockerfile": "FROM x"}),
    ],
)
def test_older_registrations_answer_in_the_legacy_shape(
    client: Client, line: str, body: dict[str, object]
) -> None:
    status, answer = client.call(line, body)
    assert status == 202
    assert answer["aliases"] == ["app"]
    assert (answer["cpuCount"], answer["createdAt"]) == (0, "0001-01-01T00:00:00Z")
    assert (answer["createdBy"], answer["lastSpawnedAt"]) == (None, None)
    assert answer["buildID"] != shapes.NO_BUILD


def test_v1_registers_rebuilds_and_renames(client: Client) -> None:
    status, first = client.call("POST /templates", {"dockerfile": "FROM x"})
    assert (status, first["aliases"], first["names"]) == (202, None, None)
    line = f"POST /templates/{first['templateID']}"
    status, second = client.call(line, {"dockerfile": "FROM x", "alias": "app"})
    assert (status, second["templateID"]) == (202, first["templateID"])
    assert client.call("POST /templates", {"dockerfile": "", "alias": "app"}) == (
        403,
        {"code": 403, "message": "Alias 'app' already used"},
    )
    assert client.call("POST /templates/app", {"dockerfile": ""})[0] == 404, "an id, no alias"


@pytest.mark.parametrize(
    ("line", "missing"),
    [("POST /templates", "dockerfile"), ("POST /v2/templates", "alias")],
)
def test_what_older_registrations_require(client: Client, line: str, missing: str) -> None:
    status, answer = client.call(line, {})
    assert (status, answer["message"]) == (
        400,
        f"validation error: property '{missing}' is missing",
    )


def test_too_many_builds_at_once_are_429(client: Client) -> None:
    client.max_builds = 1
    assert client.call("POST /v3/templates", {"name": "a"})[0] == 202
    status, answer = client.call("POST /v3/templates", {"name": "b"})
    assert status == 429
    assert answer["message"].startswith("you have reached the maximum number of concurrent")


# --- triggers --------------------------------------------------------------------------------


def trigger(client: Client, template: str, build: str, body: object) -> tuple[int, Any]:
    return client.call(f"POST /v2/templates/{template}/builds/{build}", body)


def status_of(client: Client, template: str, build: str, **query: str) -> Any:
    return client.call(f"GET /templates/{template}/builds/{build}/status", None, **query)[1]


def test_a_trigger_is_202_empty_and_building_from_then_on(client: Client) -> None:
    made = client.made("app")
    line = f"POST /v2/templates/{made.template}/builds/{made.build}"
    body = {
        **FROM,
        "fromImageRegistry": {"type": "registry", "username": "u", "password": "p"},
        "steps": [{"type": "run", "args": ["true"], "force": True, "forceUpload": True}],
        "startCmd": "serve",
        "readyCmd": "true",
        "preBootScript": "true",
        "force": False,
    }
    assert client.raw(line, json.dumps(body).encode()) == (202, b"", {})
    assert status_of(client, made.template, made.build)["status"] == "building"
    assert trigger(client, made.template, made.build, FROM) == (
        400,
        {"code": 400, "message": "build is not in waiting state"},
    )


def test_a_client_of_no_version_is_told_before_anything_is_begun(client: Client) -> None:
    made = client.made("app")
    client.headers["user-agent"] = "e2b-js-sdk/latest"
    line = f"POST /v2/templates/{made.template}/builds/{made.build}"

    status, answer = client.call(line, {"fromImage": "x"})

    assert (status, answer["message"][:32]) == (400, "Error when parsing user agent: '")
    assert client.call(f"GET {line.split()[1][3:]}/status")[1]["status"] == "waiting"
    client.headers["user-agent"] = "e2b-js-sdk/2.0.0"
    assert client.call(line, {"fromImage": "x"}) == (202, None)


def test_a_v1_trigger_needs_no_body(client: Client) -> None:
    made = client.made("app")
    assert client.raw(f"POST /templates/{made.template}/builds/{made.build}") == (202, b"", {})
    assert status_of(client, made.template, made.build)["status"] == "building"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "must specify either fromImage or fromTemplate"),
        ({"fromTemplate": ""}, "must specify either fromImage or fromTemplate"),
        ({"fromImage": "a", "fromTemplate": "b"}, "cannot specify both fromImage and fromTemplate"),
    ],
)
def test_both_sources_or_none_is_500_and_ends_the_build(
    client: Client, body: dict[str, str], text: str
) -> None:
    made = client.made("app")
    message = f"Error when starting template build: failed to set template source: {text}"
    assert trigger(client, made.template, made.build, body) == (
        500,
        {"code": 500, "message": message},
    )
    answer = status_of(client, made.template, made.build)
    assert (answer["status"], answer["reason"]["message"]) == ("error", message)
    assert "step" not in answer["reason"]


@pytest.mark.parametrize(
    "body",
    [
        {"fromImage": ["a"]},
        {**FROM, "steps": {}},
        {**FROM, "steps": ["RUN"]},
        {**FROM, "steps": [{}]},
        {**FROM, "steps": [{"type": "RUN", "args": [1]}]},
        {**FROM, "force": "yes"},
        {**FROM, "fromImageRegistry": {"type": "registry", "username": "u"}},
        {**FROM, "fromImageRegistry": {"type": "telepathy"}},
    ],
)
def test_a_malformed_trigger_is_400_and_the_build_goes_on_waiting(
    client: Client, body: object
) -> None:
    made = client.made("app")
    assert trigger(client, made.template, made.build, body)[0] == 400
    assert status_of(client, made.template, made.build)["status"] == "waiting"


@pytest.mark.parametrize(
    "credentials",
    [
        {"type": "aws", "awsAccessKeyId": "a", "awsSecretAccessKey": "b", "awsRegion": "c"},
        {"type": "gcp", "serviceAccountJson": "{}"},
        {"type": "oci"},
        {"type": "huawei"},
    ],
)
def test_every_kind_of_registry_credentials_is_taken(
    client: Client, credentials: dict[str, str]
) -> None:
    made = client.made("app")
    body = {**FROM, "fromImageRegistry": credentials}
    assert trigger(client, made.template, made.build, body)[0] == 202


def test_a_trigger_for_what_is_not_there(client: Client) -> None:
    made = client.made("app")
    assert trigger(client, made.template, "x", FROM)[0] == 400
    assert trigger(client, "app", made.build, FROM)[0] == 404, "an id, no alias"
    assert trigger(client, made.template, UUID, FROM)[0] == 404


def test_two_builds_of_one_tag_cancel_and_supersede(client: Client) -> None:
    first, second = client.made("app"), None
    trigger(client, first.template, first.build, FROM)
    second = client.made("app")
    third = client.made("app")
    trigger(client, third.template, third.build, FROM)
    reasons = [
        status_of(client, each.template, each.build)["reason"]["message"]
        for each in (first, second)
    ]
    assert reasons == [
        "build was cancelled",
        "The build was canceled because it was superseded by a newer one.",
    ]


# --- status and logs -------------------------------------------------------------------------


def test_a_waiting_build_shows_no_log(client: Client) -> None:
    made = client.made("app")
    client.store.log(made.build, "early", level="info", step=None)
    assert status_of(client, made.template, made.build) == {
        "templateID": made.template,
        "buildID": made.build,
        "status": "waiting",
        "logs": [],
        "logEntries": [],
    }


def test_a_log_is_read_by_offset_limit_and_level(client: Client) -> None:
    made = client.made("app")
    trigger(client, made.template, made.build, FROM)
    for number in range(150):
        client.store.log(made.build, str(number), level="info", step="1")
    client.store.log(made.build, "bad", level="warn", step="1")

    def messages(**query: str) -> list[str]:
        answer = status_of(client, made.template, made.build, **query)
        return [entry["message"] for entry in answer["logEntries"]]

    assert len(messages()) == 100
    assert messages(logsOffset="100", limit="2") == ["100", "101"]
    assert messages(logsOffset="151") == []
    assert messages(level="warn") == ["bad"]
    assert messages(limit="0") == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "101"},
        {"limit": "-1"},
        {"limit": "9" * 5000},
        {"logsOffset": "x"},
        {"logsOffset": "9" * 5000},
        {"level": "loud"},
    ],
)
def test_a_bad_parameter_is_400(client: Client, query: dict[str, str]) -> None:
    made = client.made("app")
    status, answer = client.call(
        f"GET /templates/{made.template}/builds/{made.build}/status", None, **query
    )
    assert status == 400
    assert answer["message"].startswith("validation error: parameter ")


def test_a_failure_shows_its_step_and_the_warnings_of_it_on_this_page(client: Client) -> None:
    from sandboxfile.local.records import Reason

    made = client.made("app")
    trigger(client, made.template, made.build, FROM)
    client.store.log(made.build, "said", level="info", step="2")
    client.store.log(made.build, "bad", level="error", step="2")
    client.store.log(made.build, "other", level="error", step="1")
    client.store.fail(made.build, Reason(message="failed", step="2"))

    reason = status_of(client, made.template, made.build)["reason"]

    assert (reason["message"], reason["step"]) == ("failed", "2")
    assert [entry["message"] for entry in reason["logEntries"]] == ["bad"]
    assert status_of(client, made.template, made.build, limit="1")["reason"]["logEntries"] == []


def test_only_v1_builds_have_log_strings(client: Client) -> None:
    _, made = client.call("POST /templates", {"dockerfile": "FROM x"})
    template, build = made["templateID"], made["buildID"]
    client.call(f"POST /templates/{template}/builds/{build}")
    client.store.log(build, "hello", level="info", step=None)
    answer = status_of(client, template, build)
    assert len(answer["logs"]) == len(answer["logEntries"]) == 1
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\dT[\d:.]+Z\] hello\n", answer["logs"][0])


@pytest.mark.parametrize("what", ["status", "logs"])
def test_an_unknown_build_is_400(client: Client, what: str) -> None:
    made = client.made("app")
    path = f"GET /templates/{made.template}/builds"
    assert client.call(f"{path}/{UUID}/{what}") == (
        400,
        {"code": 400, "message": f"Build '{UUID}' not found"},
    )
    assert client.call(f"{path}/x/{what}")[1]["message"] == "Invalid build id"
    assert client.call(f"GET /templates/other/builds/{made.build}/{what}")[0] == 400


def test_logs_go_forward_and_backward_from_a_time(client: Client) -> None:
    made = client.made("app")
    for number in range(3):
        client.store.log(made.build, str(number), level="info", step="base")
    line = f"GET /templates/{made.template}/builds/{made.build}/logs"

    def messages(**query: str) -> list[str]:
        return [entry["message"] for entry in client.call(line, None, **query)[1]["logs"]]

    assert messages() == ["0", "1", "2"]
    assert messages(direction="backward", limit="2", source="persistent") == ["2", "1"]
    assert messages(cursor="0", level="error") == []
    assert client.call(line)[1]["logs"][0]["step"] == "base"
    assert client.call(line, None, direction="up")[0] == 400


# --- files -----------------------------------------------------------------------------------


def link(client: Client, files_hash: str = HASH) -> tuple[bool, str]:
    """Ask for a link; whether the archive is there, and the link's path."""
    client.headers["host"] = "localhost:1234"
    made = client.made("app")
    status, answer = client.call(f"GET /templates/{made.template}/files/{files_hash}")
    assert status == 201
    assert answer["url"].startswith("http://localhost:1234/")
    return answer["present"], answer["url"].removeprefix("http://localhost:1234")


def put(client: Client, target: str, *content: bytes, chunked: bool = False) -> tuple[int, str]:
    path, _, query = target.partition("?")
    length = None if chunked else sum(map(len, content))
    request = Request(
        method="PUT", path=path, query=dict(parse_qsl(query)), content=content, length=length
    )
    answer = client.api.handle(request)
    assert answer.status == 200 or answer.headers["Content-Type"] == "application/xml"
    return answer.status, answer.body.decode()


def test_a_link_takes_an_archive_that_is_then_present_for_every_template(client: Client) -> None:
    present, target = link(client)
    assert not present
    assert client.api.streams("PUT", target.partition("?")[0])
    assert put(client, target, b"an ", b"archive") == (200, "")

    present, again = link(client)  # a link all the same (docs/protocol.md, 3.3)
    other = client.made("other")
    client.headers["x-forwarded-proto"] = "https"
    _, seen = client.call(f"GET /templates/{other.template}/files/{HASH}")
    assert present
    assert seen["present"]
    assert seen["url"].startswith("https://localhost:1234/")
    assert put(client, again, b"replaced") == (200, "")
    kept = client.files.path(HASH)
    assert kept is not None
    assert kept.read_bytes() == b"replaced"


def test_only_the_link_opens_the_storage_and_only_for_half_an_hour(
    client: Client, clock: Clock
) -> None:
    client.strict, client.key = True, Secret("k")
    client.headers["x-api-key"] = "k"
    _, target = link(client)
    client.headers.clear()
    for wrong in (
        target.replace(HASH, "b" * 64),
        target.replace("expires=1", "expires=2"),
        target[:-1] + ("0" if target[-1] != "0" else "1"),
        target.partition("?")[0],
    ):
        status, said = put(client, wrong, b"x")
        assert (status, "AccessDenied" in said) == (403, True)
    clock.now += 30 * 60 + 1
    status, said = put(client, target, b"x")
    assert (status, "Request has expired" in said) == (403, True)
    assert client.files.path(HASH) is None


def test_a_chunked_upload_is_501_as_at_a_storage(client: Client) -> None:
    _, target = link(client)
    status, said = put(client, target, b"x", chunked=True)
    assert (status, "NotImplemented" in said) == (501, True)


def test_an_archive_larger_than_a_disk_is_refused_before_it_comes(client: Client) -> None:
    _, target = link(client)
    path, _, query = target.partition("?")
    request = Request(
        method="PUT", path=path, query=dict(parse_qsl(query)), content=[b"x"], length=(20 << 30) + 1
    )
    answer = client.api.handle(request)
    assert (answer.status, b"EntityTooLarge" in answer.body) == (400, True)


def test_an_archive_that_the_disk_does_not_take_is_said(client: Client, tmp_path: Path) -> None:
    _, target = link(client)
    shutil.rmtree(tmp_path / "data" / "files")
    status, said = put(client, target, b"x")
    assert (status, "No such file" in said) == (500, True)


def test_a_link_needs_a_hash_and_a_template_by_its_id(client: Client) -> None:
    made = client.made("app")
    for wrong in ("abc", "A" * 64, "a" * 65):
        assert client.call(f"GET /templates/{made.template}/files/{wrong}") == (
            400,
            {"code": 400, "message": "Invalid files hash"},
        )
    gone = client.made("gone")
    client.call("DELETE /templates/gone")
    for unknown in ("app", "nope", gone.template):
        status, answer = client.call(f"GET /templates/{unknown}/files/{HASH}")
        assert status == 404
        assert answer["message"].startswith("Error when getting template:")


# --- tags ------------------------------------------------------------------------------------


def test_tags_are_assigned_listed_and_removed(client: Client) -> None:
    made = client.ready("app")
    assert client.call("POST /templates/tags", {"target": "app", "tags": ["A", "b", "a"]}) == (
        201,
        {"tags": ["a", "b"], "buildID": made.build},
    )
    status, listed = client.call("GET /templates/app/tags")
    assert status == 200
    assert {each["tag"]: each["buildID"] for each in listed} == dict.fromkeys(
        ("default", "a", "b"), made.build
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", listed[0]["createdAt"])

    assert client.raw("DELETE /templates/tags", b'{"name": "app", "tags": ["a", "zzz"]}') == (
        204,
        b"",
        {},
    )
    assert [each["tag"] for each in client.call("GET /templates/local%2Fapp/tags")[1]] == [
        "b",
        "default",
    ]


def test_rolling_back_is_assigning_default_from_a_build(client: Client) -> None:
    first = client.ready("app")
    client.ready("app")
    status, _ = client.call(
        "POST /templates/tags", {"target": f"app:{first.build}", "tags": ["default"]}
    )
    assert status == 201
    assert client.call("GET /templates")[1][0]["buildID"] == first.build


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"target": "app", "tags": []}, 400, "At least one tag is required"),
        (
            {"target": "a b", "tags": ["x"]},
            400,
            "Invalid target template format: template name 'a b' must match ^[a-z0-9_-]+$",
        ),
        (
            {"target": "app", "tags": ["x y"]},
            400,
            "Invalid tag: tag 'x y' must match ^[a-z0-9_.-]+$",
        ),
        ({"target": "app", "tags": [UUID]}, 400, "Invalid tag: tag cannot be a UUID"),
        ({"target": "nope:v1", "tags": ["x"]}, 404, "template 'nope' not found"),
        ({"target": "app:v9", "tags": ["x"]}, 404, "Template 'app:v9' with tag 'v9' not found"),
        ({"target": "app", "tags": ["x"]}, 404, "Template 'app' with tag 'default' not found"),
        ({"tags": ["x"]}, 400, "validation error: property 'target' is missing"),
    ],
)
def test_a_bad_assignment(
    client: Client, body: dict[str, object], status: int, message: str
) -> None:
    client.made("app")
    assert client.call("POST /templates/tags", body) == (
        status,
        {"code": status, "message": message},
    )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"name": "app", "tags": []}, 400, "At least one tag is required"),
        ({"name": "app", "tags": ["default"]}, 400, "Cannot delete the 'default' tag"),
        (
            {"name": "app:v1", "tags": ["v1"]},
            400,
            "Template name should not contain a tag, use the 'tags' field instead",
        ),
        ({"name": "nope", "tags": ["v1"]}, 404, "template 'nope' not found"),
        ({"name": "local/nope", "tags": ["v1"]}, 404, "template 'local/nope' not found"),
    ],
)
def test_a_bad_removal(client: Client, body: dict[str, object], status: int, message: str) -> None:
    client.ready("app")
    assert client.call("DELETE /templates/tags", body) == (
        status,
        {"code": status, "message": message},
    )


def test_a_build_that_lost_its_last_tag_is_gone(client: Client) -> None:
    made = client.ready("app", "only")
    client.call("DELETE /templates/tags", {"name": "app", "tags": ["only"]})
    line = f"GET /templates/{made.template}/builds/{made.build}/status"
    assert client.call(line)[0] == 400
    assert (
        client.call("POST /templates/tags", {"target": f"app:{made.build}", "tags": ["x"]})[0]
        == 404
    )


@pytest.mark.parametrize(
    ("alias", "status"),
    [
        ("app", 200),
        ("local%2Fapp", 200),
        ("team%2Fapp", 404),
        ("app:default", 404),
        ("app:v1", 200),
        ("app:v2", 404),
        ("nope", 404),
        ("a%20b", 400),
    ],
)
def test_an_alias_says_that_a_name_is_claimed_or_a_tag_usable(
    client: Client, alias: str, status: int
) -> None:
    made = client.ready("app", "v1")
    client.made("app")
    answered, body = client.call(f"GET /templates/aliases/{alias}")
    assert answered == status
    if status == 200:
        assert body == {"templateID": made.template, "public": False}


@pytest.mark.parametrize(("name", "status"), [("nope", 404), ("a%20b", 400)])
def test_tags_of_what_is_not_there(client: Client, name: str, status: int) -> None:
    assert client.call(f"GET /templates/{name}/tags")[0] == status


# --- templates -------------------------------------------------------------------------------


def test_the_old_list_is_oldest_first(client: Client) -> None:
    client.ready("first")
    client.made("second")
    status, listed = client.call("GET /templates", None, metadata="true")
    assert status == 200
    assert [each["aliases"] for each in listed] == [["first"], ["second"]]
    assert listed[0]["buildStatus"] == "ready"
    assert listed[1]["buildID"] == shapes.NO_BUILD
    assert (listed[1]["cpuCount"], listed[1]["buildStatus"]) == (0, "waiting")
    assert listed[0]["metadata"] == {}
    assert "metadata" not in client.call("GET /templates")[1][0]


def test_a_failing_build_leaves_the_ready_one_in_the_list(client: Client) -> None:
    from sandboxfile.local.records import Reason

    done = client.ready("app")
    failed = client.made("app")
    client.store.fail(failed.build, Reason(message="no"))
    (listed,) = client.call("GET /templates")[1]
    assert (listed["buildID"], listed["buildStatus"]) == (done.build, "error")
    assert (listed["cpuCount"], listed["memoryMB"], listed["buildCount"]) == (2, 1024, 2)


def test_the_list_of_e2b_is_an_array_with_a_cursor(client: Client) -> None:
    for number in range(3):
        client.made(f"app-{number}")
    status, body, headers = client.raw("GET /v2/templates", query={"limit": "2"})
    assert status == 200
    assert [each["aliases"] for each in json.loads(body)] == [["app-2"], ["app-1"]]
    token = headers["X-Next-Token"]
    status, body, headers = client.raw("GET /v2/templates", query={"nextToken": token})
    assert [each["aliases"] for each in json.loads(body)] == [["app-0"]]
    assert "X-Next-Token" not in headers


def test_the_list_of_novita_has_pages(client: Client) -> None:
    for number in range(3):
        client.made(f"app-{number}")
    _, body = client.call("GET /v2/templates", None, page="2", limit="2")
    assert [each["aliases"] for each in body.pop("templates")] == [["app-0"]]
    assert body == {"total": 3, "page": 2, "limit": 2, "totalPages": 2}
    _, body = client.call("GET /v2/templates", None, template_type="template_build")
    assert (len(body["templates"]), body["limit"], body["totalPages"]) == (3, 20, 1)
    _, body = client.call("GET /v2/templates", None, template_type="snapshot_template")
    assert (body["templates"], body["total"], body["totalPages"]) == ([], 0, 0)


@pytest.mark.parametrize(
    "query",
    [
        {"nextToken": "!"},
        {"nextToken": base64.urlsafe_b64encode(b"x").decode()},
        {"nextToken": base64.urlsafe_b64encode(b"9" * 30).decode()},
        {"nextToken": base64.urlsafe_b64encode(b"9" * 5000).decode()},
        {"limit": "9" * 5000},
        {"limit": "0"},
        {"limit": "101"},
        {"page": "0"},
        {"template_type": "other"},
    ],
)
def test_a_bad_page_is_400(client: Client, query: dict[str, str]) -> None:
    assert client.call("GET /v2/templates", None, **query)[0] == 400


def test_a_template_is_shown_with_its_builds_by_its_id_alone(client: Client) -> None:
    first = client.ready("app")
    second = client.made("app")
    line = f"GET /templates/{first.template}"
    status, body = client.call(line)
    assert status == 200
    assert (body["aliases"], body["names"]) == (["app"], ["local/app"])
    newest, oldest = body["builds"]
    assert (newest["buildID"], newest["status"]) == (second.build, "waiting")
    assert (oldest["buildID"], oldest["status"]) == (first.build, "ready")
    assert "finishedAt" in oldest
    assert "finishedAt" not in newest
    _, _, headers = client.raw(line, query={"limit": "1"})
    _, rest = client.call(line, None, nextToken=headers["X-Next-Token"])
    assert [each["buildID"] for each in rest["builds"]] == [first.build]
    assert client.call("GET /templates/app") == (
        404,
        {"code": 404, "message": "Template app not found"},
    )


@pytest.mark.parametrize("by", ["id", "alias"])
def test_a_template_is_deleted_once(client: Client, by: str) -> None:
    made = client.ready("app")
    line = f"DELETE /templates/{'app' if by == 'alias' else made.template}"
    assert client.raw(line) == (204, b"", {})
    assert client.call(line)[0] == 404
    assert client.call("GET /templates")[1] == []
    assert client.call(f"POST /templates/{made.template}", {"dockerfile": ""})[1][
        "message"
    ].endswith("has been deleted and cannot be rebuilt")


def test_publishing_answers_null_or_names(client: Client) -> None:
    made = client.made("app")
    assert client.raw(f"PATCH /templates/{made.template}", b'{"public": true}')[:2] == (
        200,
        b"null",
    )
    assert client.call("GET /templates/aliases/app")[1]["public"] is True
    assert client.call("PATCH /v2/templates/app", {"public": False}) == (
        200,
        {"names": ["local/app"]},
    )
    assert client.call("PATCH /v2/templates/app", {}) == (200, {"names": ["local/app"]})
    assert client.call("GET /templates/aliases/app")[1]["public"] is False
    assert client.call("PATCH /v2/templates/a%20b", {"public": True})[0] == 404
    assert client.call("PATCH /templates/app", {"public": "yes"})[0] == 400


# --- who may ask -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"authorization": KEY}, 401),
        ({"x-api-key": "wrong", "authorization": f"Bearer {KEY}"}, 200),
    ],
)
def test_a_key_is_taken_in_either_header(
    client: Client, headers: dict[str, str], status: int
) -> None:
    client.key = Secret(KEY)
    client.headers = headers
    assert client.call("GET /templates")[0] == status


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("POST /v3/templates", "key"),
        ("POST /templates", "token"),
        ("GET /templates", "key token"),
        ("GET /teams", "token"),
        ("GET /templates/aliases/x", "key"),
        ("GET /health", "key token none"),
    ],
)
def test_strict_mode_takes_what_the_service_takes(client: Client, line: str, taken: str) -> None:
    client.strict = True
    given = {
        "key": {"x-api-key": "any"},
        "token": {"authorization": "Bearer any"},
        "none": {},
    }
    admitted = []
    for name, client.headers in given.items():
        if client.call(line, {})[0] != 401:
            admitted.append(name)
    assert " ".join(admitted) == taken


def test_another_teams_id_matters_in_strict_mode_alone(client: Client) -> None:
    assert client.call("GET /templates", None, teamID="other")[0] == 200
    client.strict = True
    client.headers = {"x-api-key": "any"}
    assert client.call("GET /templates", None, teamID="other") == (
        400,
        {"code": 400, "message": "Team ID param mismatch with the API key"},
    )
    assert client.call("GET /v2/templates", None, teamID=shapes.TEAM)[0] == 200


def test_the_one_team(client: Client) -> None:
    (team,) = client.call("GET /teams")[1]
    assert team == {"teamID": shapes.TEAM, "name": "local", "apiKey": "local", "isDefault": True}
    client.key = Secret(KEY)
    client.headers = {"x-api-key": KEY}
    assert client.call("GET /teams")[1][0]["apiKey"] == KEY


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /", 404),
        ("GET /nope", 404),
        ("PUT /templates", 405),
        ("GET /v3/templates", 405),
        ("GET /templates/a/b/c/d/e/f", 404),
        ("GET /health", 200),
    ],
)
def test_other_paths_and_methods(client: Client, line: str, status: int) -> None:
    answered, body = client.call(line)
    assert answered == status
    if status != 200:
        assert body["code"] == status


def test_lost_builds_are_noticed_at_the_next_request(client: Client) -> None:
    from sandboxfile.local.store import Store

    directory = client.store.presence._directory.parent
    other = Store(directory)
    made = client.made("app")
    other.trigger(made.template, made.build)
    assert status_of(client, made.template, made.build)["status"] == "building"
    other.close()
    answer = status_of(client, made.template, made.build)
    assert answer["reason"]["message"] == "polling received unrecoverable error: builder lost"


def test_finished_templates_resolve_after_a_newer_failure(client: Client) -> None:
    from sandboxfile.local.records import Reason

    done = client.ready("app", "v1")
    newer = client.made("app", "v1")
    client.store.fail(newer.build, Reason(message="no"))
    status, answer = client.call("POST /templates/tags", {"target": "app:v1", "tags": ["x"]})
    assert (status, answer["buildID"]) == (201, done.build)
    listed = {each["tag"]: each["buildID"] for each in client.call("GET /templates/app/tags")[1]}
    assert listed == {"v1": newer.build, "x": done.build}
    assert finish(client.store, client.made("app", "v1")).template == done.template
