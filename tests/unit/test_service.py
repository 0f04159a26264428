import json
from collections.abc import Callable, Iterator

import pytest

from sandboxfile import __version__
from sandboxfile.buildstatus import LogEntry, Registration
from sandboxfile.declined import Busy, Denied, Failing, InUse, NameTaken, Rejected
from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.model import (
    AwsCredentials,
    GcpCredentials,
    HuaweiCredentials,
    Login,
    OciCredentials,
    RegistryCredentials,
    Secret,
)
from sandboxfile.service import TagEntry, TemplateService
from sandboxfile.triggers import BuildStep, Start
from sandboxfile.web import AnswerLost, Reply, Web
from tests.fakes.service import Answer, FakeService, error, serving

TEMPLATE = "wu9ol3m99x5h2d9y63rc"
BUILD = "3c52915f-59fc-4890-beeb-f249c4ae906c"
IDS = Registration(template_id=TEMPLATE, build_id=BUILD)
ANSWER = {"templateID": TEMPLATE, "buildID": BUILD}

Call = Callable[[TemplateService], object]


@pytest.fixture
def fake() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        yield running


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web(user_agent="someone-else/9", sleep=lambda _: None)
    yield made
    made.close()


@pytest.fixture
def service(fake: FakeService, web: Web) -> TemplateService:
    return TemplateService(web, fake.url + "/", Secret("the-key"), Secret("the-token"))


# --- what is sent ----------------------------------------------------------------------------

CALLS: list[tuple[Call, Answer, str, str, object]] = [
    (
        lambda s: s.register("api", tags=("sf-1",), cpu=2, memory=1024),
        Answer(status=202, body=ANSWER),
        "POST",
        "/v3/templates",
        {"name": "api", "tags": ["sf-1"], "cpuCount": 2, "memoryMB": 1024},
    ),
    (
        lambda s: s.register_v2("api", cpu=2, memory=1024),
        Answer(status=202, body=ANSWER),
        "POST",
        "/v2/templates",
        {"alias": "api", "cpuCount": 2, "memoryMB": 1024},
    ),
    (
        lambda s: s.register_v1(dockerfile="FROM x\n", alias="api", cpu=2, memory=1024),
        Answer(status=202, body=ANSWER),
        "POST",
        "/templates",
        {"dockerfile": "FROM x\n", "alias": "api", "cpuCount": 2, "memoryMB": 1024},
    ),
    (
        lambda s: s.register_v1(
            dockerfile="FROM x\n",
            alias="api",
            template_id=TEMPLATE,
            start="a",
            ready="b",
            cpu=2,
            memory=1024,
        ),
        Answer(status=202, body=ANSWER),
        "POST",
        f"/templates/{TEMPLATE}",
        {
            "dockerfile": "FROM x\n",
            "alias": "api",
            "startCmd": "a",
            "readyCmd": "b",
            "cpuCount": 2,
            "memoryMB": 1024,
        },
    ),
    (
        lambda s: s.trigger(IDS, Start(template="code:v1", force=True)),
        Answer(status=202),
        "POST",
        f"/v2/templates/{TEMPLATE}/builds/{BUILD}",
        {"fromTemplate": "code:v1", "steps": [], "force": True},
    ),
    (
        lambda s: s.trigger_v1(IDS),
        Answer(status=202),
        "POST",
        f"/templates/{TEMPLATE}/builds/{BUILD}",
        None,
    ),
    (
        lambda s: s.assign_tags(f"api:{BUILD}", ("a", "b")),
        Answer(status=201, body={"tags": ["a", "b"], "buildID": BUILD}),
        "POST",
        "/templates/tags",
        {"target": f"api:{BUILD}", "tags": ["a", "b"]},
    ),
    (
        lambda s: s.delete_tags("api", ("a",)),
        Answer(status=204),
        "DELETE",
        "/templates/tags",
        {"name": "api", "tags": ["a"]},
    ),
    (
        lambda s: s.delete(TEMPLATE),
        Answer(status=204),
        "DELETE",
        f"/templates/{TEMPLATE}",
        None,
    ),
    (
        lambda s: s.template(TEMPLATE),
        Answer(body={"templateID": TEMPLATE, "builds": []}),
        "GET",
        f"/templates/{TEMPLATE}",
        None,
    ),
    (lambda s: s.tags("a/b"), Answer(body=[]), "GET", "/templates/a%2Fb/tags", None),
    (
        lambda s: s.find("a/b"),
        Answer(body={"templateID": TEMPLATE, "public": False}),
        "GET",
        "/templates/aliases/a%2Fb",
        None,
    ),
]


@pytest.mark.parametrize(("call", "answer", "method", "path", "body"), CALLS)
def test_each_call_is_one_request(  # noqa: PLR0917 - fixtures and a table
    fake: FakeService,
    service: TemplateService,
    call: Call,
    answer: Answer,
    method: str,
    path: str,
    body: object,
) -> None:
    fake.fail(method, "", answer)
    call(service)
    (sent,) = fake.requests
    assert (sent.method, sent.path, sent.body) == (method, path, body)
    assert sent.headers["user-agent"] == f"sandboxfile/{__version__}"
    assert sent.headers["x-api-key"] == "the-key"


V1_CALLS: list[tuple[Call, bool]] = [
    (lambda s: s.register("api", tags=(), cpu=2, memory=1024), False),
    (lambda s: s.register_v1(dockerfile="F", alias="a", cpu=2, memory=1024), True),
    (lambda s: s.trigger_v1(IDS), True),
    (lambda s: s.trigger(IDS, Start(image="i")), False),
    (lambda s: s.status(IDS), True),
    (lambda s: s.find("api"), False),
    (lambda s: s.tags("api"), False),
]


@pytest.mark.parametrize(("call", "has_token"), V1_CALLS)
def test_the_token_goes_where_it_is_taken(
    fake: FakeService, service: TemplateService, call: Call, *, has_token: bool
) -> None:
    body = {**ANSWER, "status": "ready"}
    fake.fail("GET", "/tags", Answer(body=[]))
    fake.fail("GET", "", Answer(body=body))
    fake.fail("POST", "", Answer(body=body))
    call(service)
    expected = "Bearer the-token" if has_token else None
    assert fake.requests[0].headers.get("authorization") == expected


def test_a_token_alone_goes_everywhere(fake: FakeService, web: Web) -> None:
    service = TemplateService(web, fake.url, None, Secret("the-token"))
    service.find("api")
    assert fake.requests[0].headers["authorization"] == "Bearer the-token"
    assert "x-api-key" not in fake.requests[0].headers


def test_a_key_stands_in_for_a_missing_token(fake: FakeService, web: Web) -> None:
    service = TemplateService(web, fake.url, Secret("the-key"))
    fake.fail("POST", "", Answer(status=202))
    service.trigger_v1(IDS)
    assert fake.requests[0].headers["authorization"] == "Bearer the-key"


def test_a_trigger_says_everything_it_is_given() -> None:
    start = Start(
        image="r/i@sha256:00",
        login=Login(username="u", password=Secret("p")),
        steps=(BuildStep(type="RUN", args=("ls", "root"), force=True),),
        start="a",
        ready="b",
        pre_boot="c",
    )
    assert start.body() == {
        "fromImage": "r/i@sha256:00",
        "fromImageRegistry": {"type": "registry", "username": "u", "password": "p"},
        "steps": [{"type": "RUN", "args": ["ls", "root"], "force": True}],
        "force": False,
        "startCmd": "a",
        "readyCmd": "b",
        "preBootScript": "c",
    }


CLOUDS: list[tuple[RegistryCredentials, dict[str, str]]] = [
    (
        AwsCredentials(access_key_id="A", secret_access_key=Secret("S"), region="us-east-1"),
        {
            "type": "aws",
            "awsAccessKeyId": "A",
            "awsSecretAccessKey": "S",
            "awsRegion": "us-east-1",
        },
    ),
    (
        GcpCredentials(service_account=Secret("{}")),
        {"type": "gcp", "serviceAccountJson": "{}"},
    ),
    (
        OciCredentials(
            tenancy="T", user="U", fingerprint="F", private_key=Secret("K"), region="fra"
        ),
        {
            "type": "oci",
            "tenancyOcid": "T",
            "userOcid": "U",
            "fingerprint": "F",
            "privateKey": "K",
            "region": "fra",
        },
    ),
    (
        HuaweiCredentials(access_key_id="A", secret_access_key=Secret("S"), region="cn-north-4"),
        {
            "type": "huawei",
            "accessKeyId": "A",
            "secretAccessKey": "S",
            "region": "cn-north-4",
        },
    ),
]


@pytest.mark.parametrize(("credentials", "sent"), CLOUDS)
def test_a_clouds_credentials_are_told_as_the_protocol_has_them(
    credentials: RegistryCredentials, sent: dict[str, str]
) -> None:
    start = Start(image="r/i@sha256:00", login=credentials)
    assert start.body()["fromImageRegistry"] == sent
    assert "Secret(***)" in repr(start)


BAD_IDS: list[Call] = [
    lambda s: s.trigger_v1(Registration(template_id="api:v1", build_id=BUILD)),
    lambda s: s.trigger_v1(Registration(template_id="../teams", build_id=BUILD)),
    lambda s: s.status(Registration(template_id="API", build_id=BUILD)),
    lambda s: s.status(Registration(template_id=TEMPLATE, build_id="x")),
    lambda s: s.register_v1(dockerfile="F", alias="a", template_id="a:b", cpu=1, memory=128),
]


@pytest.mark.parametrize("call", BAD_IDS)
def test_what_is_no_id_never_reaches_an_address(
    fake: FakeService, service: TemplateService, call: Call
) -> None:
    with pytest.raises(SandboxfileError, match="is not a"):
        call(service)
    assert not fake.requests


# --- repeating -------------------------------------------------------------------------------

EFFECTS: list[Call] = [
    lambda s: s.register("api", tags=(), cpu=2, memory=1024),
    lambda s: s.trigger(IDS, Start(image="i")),
    lambda s: s.trigger_v1(IDS),
]


@pytest.mark.parametrize("call", EFFECTS)
def test_an_effect_is_never_repeated_by_itself(
    fake: FakeService, service: TemplateService, call: Call
) -> None:
    fake.lose("POST", "", carried_out=False)
    with pytest.raises(AnswerLost):
        call(service)
    fake.fail("POST", "", error(503, "busy"))
    with pytest.raises(Failing):
        call(service)
    assert len(fake.requests) == 2


def test_tags_may_be_assigned_again(fake: FakeService, service: TemplateService) -> None:
    fake.register("api", ())
    fake.lose("POST", "", carried_out=True)
    service.assign_tags(f"api:{BUILD}", ("a",))
    assert len(fake.requests) == 2


# --- status and logs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("waiting", "waiting"),
        ("building", "building"),
        ("ready", "ready"),
        ("error", "error"),
        ("uploading", "building"),
    ],
)
def test_an_unknown_state_is_not_final(
    fake: FakeService, service: TemplateService, text: str, state: str
) -> None:
    fake.fail("GET", "/status", Answer(body={**ANSWER, "status": text}))
    assert service.status(IDS).state == state


def test_a_status_asks_for_one_page_of_the_log(fake: FakeService, service: TemplateService) -> None:
    fake.fail("GET", "/status", Answer(body={"status": "building"}))
    service.status(IDS, offset=7, limit=3)
    assert fake.requests[0].query == {"logsOffset": "7", "limit": "3"}


def test_a_page_of_a_log_may_have_long_lines(fake: FakeService, service: TemplateService) -> None:
    lines = [{"message": "x" * 65_536, "level": "info"}] * 100
    fake.fail("GET", "/status", Answer(body={"status": "building", "logEntries": lines}))
    assert service.status(IDS).count == 100


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ({"message": "exit status 1", "step": "2"}, ("exit status 1", "2")),
        ({"message": "gone \x1b[31mwrong"}, ("gone wrong", "")),
        ("a text", ("a text", "")),
        (None, ("", "")),
        ({"message": 3, "step": ["x"]}, ("", "")),
    ],
)
def test_a_failure_has_its_reason(
    fake: FakeService, service: TemplateService, reason: object, expected: tuple[str, str]
) -> None:
    fake.fail("GET", "/status", Answer(body={"status": "error", "reason": reason}))
    status = service.status(IDS)
    assert (status.reason, status.step) == expected


def test_log_entries_are_read_leniently(fake: FakeService, service: TemplateService) -> None:
    entries = [
        {"timestamp": "t", "message": "a\n", "level": "warn", "step": "1"},
        {"message": 5, "level": None},
    ]
    fake.fail("GET", "/status", Answer(body={"status": "building", "logEntries": entries}))
    status = service.status(IDS)
    assert status.entries == (
        LogEntry(message="a", timestamp="t", level="warn", step="1"),
        LogEntry(message=""),
    )
    assert status.count == 2


def test_a_v1_log_is_lines_of_text(fake: FakeService, service: TemplateService) -> None:
    lines = ["[2026-01-01T00:00:00Z] a\n", "[x] b\n", 7]
    fake.fail("GET", "/status", Answer(body={"status": "building", "logs": lines}))
    assert service.status(IDS).entries == (
        LogEntry(message="a", timestamp="2026-01-01T00:00:00Z"),
        LogEntry(message="[x] b"),
    )


# --- names, tags, listings -------------------------------------------------------------------


def test_a_name_leads_to_its_template(fake: FakeService, service: TemplateService) -> None:
    build = fake.register("api", ())
    assert service.find("api") == build.template
    assert service.find("web") is None


def test_a_name_that_cannot_be_looked_up_is_an_error(
    fake: FakeService, service: TemplateService
) -> None:
    fake.fail("GET", "", error(400, "Invalid alias format: x"))
    with pytest.raises(Rejected, match="Invalid alias format"):
        service.find("x")


def test_tags_have_their_builds(fake: FakeService, service: TemplateService) -> None:
    build = fake.register("api", ("a",))
    assert service.tags(build.template) == (
        TagEntry(tag="a", build_id=build.id, created="2026-01-01T00:00:00Z"),
    )


def test_a_name_is_found_in_the_old_listing(fake: FakeService, service: TemplateService) -> None:
    build = fake.register("api", ())
    assert service.find_v1("api") == build.template
    rows = [{"templateID": TEMPLATE, "names": ["acme/web", "web"]}, {"templateID": "other"}]
    fake.fail("GET", "/templates", Answer(body=rows))
    assert service.find_v1("web") == TEMPLATE
    assert service.find_v1("web") is None
    fake.fail("GET", "/templates", error(404, "template not found"))
    assert service.find_v1("api") is None
    fake.fail("GET", "/templates", error(404, "no such route"))
    with pytest.raises(Rejected) as caught:
        service.find_v1("api")
    assert caught.value.is_missing


# --- nonsense --------------------------------------------------------------------------------

NONSENSE: list[tuple[object, str]] = [
    (None, "something that is not JSON"),
    ([], "an object was expected"),
    ({}, "`templateID` is missing"),
    ({"templateID": TEMPLATE}, "`buildID` is missing"),
    ({"templateID": 7, "buildID": BUILD}, "`templateID` is missing"),
    ({"templateID": "../x", "buildID": BUILD}, "`templateID` is not a template's ID"),
    ({"templateID": TEMPLATE + "\n/x", "buildID": BUILD}, "`templateID` is not a template's ID"),
    ({"templateID": "a" * 65, "buildID": BUILD}, "`templateID` is not a template's ID"),
    ({"templateID": TEMPLATE, "buildID": "latest"}, "`buildID` is not a build's ID"),
]


@pytest.mark.parametrize(("body", "message"), NONSENSE)
def test_ids_are_read_strictly(
    fake: FakeService, service: TemplateService, body: object, message: str
) -> None:
    fake.fail("POST", "", Answer(status=202, body=body))
    with pytest.raises(Unreachable) as caught:
        service.register("api", tags=(), cpu=2, memory=1024)
    assert message in caught.value.message
    assert caught.value.exit_code == 6


MORE_NONSENSE: list[tuple[Call, object, str]] = [
    (lambda s: s.status(IDS), {}, "`status` is missing"),
    (lambda s: s.status(IDS), {"status": "ready", "logEntries": 7}, "a list was expected"),
    (lambda s: s.status(IDS), {"status": "ready", "logEntries": [7]}, "an object was expected"),
    (
        lambda s: s.status(IDS),
        {"status": "ready", "buildID": BUILD.replace("3", "4")},
        "another build than asked for",
    ),
    (lambda s: s.tags("api"), {}, "a list was expected"),
    (lambda s: s.tags("api"), [{"tag": "a"}], "`buildID` is missing"),
    (lambda s: s.tags("api"), [{"buildID": BUILD}], "`tag` is missing"),
    (lambda s: s.find("api"), {"templateID": "A"}, "is not a template's ID"),
    (lambda s: s.find_v1("api"), {"templates": 3}, "a list was expected"),
    (lambda s: s.find_v1("api"), [{"aliases": 3}], "a list was expected"),
    (lambda s: s.find_v1("api"), [{"names": ["api"], "templateID": "a:v1"}], "not a template's ID"),
]


@pytest.mark.parametrize(("call", "body", "message"), MORE_NONSENSE)
def test_every_answer_is_read_strictly(
    fake: FakeService, service: TemplateService, call: Call, body: object, message: str
) -> None:
    fake.fail("GET", "", Answer(body=body))
    with pytest.raises(Unreachable, match=message):
        call(service)


# --- errors (protocol, 7) --------------------------------------------------------------------

ERRORS: list[tuple[int, str, type[SandboxfileError], int, str]] = [
    (400, "Invalid name: X", Rejected, 1, "/v3/templates` answered 400: Invalid name: X"),
    (404, "Template 'x' not found", Rejected, 1, "answered 404: Template 'x' not found"),
    (409, "Public template name is taken", Rejected, 1, "answered 409: Public"),
    (403, "Alias 'a' already used", NameTaken, 1, "the template name is taken: Alias 'a'"),
    (409, "Alias 'a' is already used", NameTaken, 1, "the template name is taken: Alias 'a'"),
    (401, "bad key", Denied, 5, "does not accept the key from MY_KEY: bad key"),
    (403, "team blocked", Denied, 5, "the key from MY_KEY may not do this at `127."),
    (429, "you have reached the maximum", Busy, 5, "has no room for more requests: you have"),
    (500, "Error when x", Failing, 6, "answered 500: Error when x"),
    (502, "", Failing, 6, "/v3/templates` answered 502"),
    (503, "no build client", Failing, 6, "answered 503: no build client"),
]


@pytest.mark.parametrize(("status", "text", "kind", "exit_code", "message"), ERRORS)
def test_each_error_has_one_message_and_exit_code(  # noqa: PLR0917 - fixtures and a table
    fake: FakeService,
    web: Web,
    status: int,
    text: str,
    kind: type[SandboxfileError],
    exit_code: int,
    message: str,
) -> None:
    service = TemplateService(web, fake.url, Secret("the-key"), key_source="MY_KEY")
    fake.fail("POST", "", error(status, text))
    with pytest.raises(SandboxfileError) as caught:
        service.register("api", tags=(), cpu=2, memory=1024)
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert message in caught.value.message
    assert vars(caught.value)["status"] == status
    assert vars(caught.value)["text"] == text


def test_a_missing_key_is_told_as_such(fake: FakeService, web: Web) -> None:
    service = TemplateService(web, fake.url, None, key_source="MY_KEY")
    fake.fail("GET", "", error(401, ""))
    with pytest.raises(NotAllowed, match="wants a key") as caught:
        service.find("api")
    assert caught.value.hint == "set MY_KEY"


def test_a_redirect_is_not_followed_with_a_key(fake: FakeService, service: TemplateService) -> None:
    fake.fail("GET", "", Answer(status=302, headers={"location": "https://evil.example/x?a=b"}))
    with pytest.raises(Unreachable, match=r"redirects to `evil\.example`; a key is not sent"):
        service.find("api")
    assert len(fake.requests) == 1


def test_a_redirect_to_nowhere_is_told(fake: FakeService, service: TemplateService) -> None:
    fake.fail("GET", "", Answer(status=307))
    with pytest.raises(Unreachable, match="redirects to `elsewhere`"):
        service.find("api")


BODIES: list[tuple[Answer, str]] = [
    (Answer(status=400, body={"message": "a \x1b]0;x\x07 b"}), "a ^[]0;x^G b"),
    (Answer(status=400, body={"error": "plain"}), "plain"),
    (
        Answer(status=400, body={"message": "bad\n::error::foo\r\nx\r##[y]"}),
        "bad ::error::foo  x ##[y]",
    ),
    (Answer(status=400, body=b"bad\n::error::foo\n"), "bad ::error::foo"),
    (Answer(status=400, body={"message": "x" * 5000}), "x" * 2048),
    (Answer(status=400, body=b"only text"), "only text"),
    (Answer(status=400, body=b"\xff text"), "\ufffd text"),
    (Answer(status=400, body=["list"]), '["list"]'),
    (Answer(status=400, body=b"<p>", headers={"content-type": "text/html"}), ""),
    (Answer(status=400), ""),
]


@pytest.mark.parametrize(("answer", "text"), BODIES)
def test_the_text_of_an_error_is_made_fit_to_show(
    fake: FakeService, service: TemplateService, answer: Answer, text: str
) -> None:
    fake.fail("GET", "", answer)
    with pytest.raises(Rejected) as caught:
        service.find("api")
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://[::", "redirects to what is no address"),
        ("/v2/templates?page=1", "redirects to `127.0.0.1`"),
        ("https://x.example/", "redirects to `x.example`"),
    ],
)
def test_a_redirect_is_told_whatever_it_leads_to(
    fake: FakeService, service: TemplateService, location: str, message: str
) -> None:
    fake.fail("GET", "", Answer(status=302, headers={"location": location}))
    with pytest.raises(Unreachable) as caught:
        service.find("api")
    assert message in caught.value.message


def test_a_redirect_to_itself_is_named_as_such(fake: FakeService, service: TemplateService) -> None:
    fake.fail("GET", "", Answer(status=302, headers={"location": "/templates/aliases/api"}))
    with pytest.raises(Unreachable, match="redirects to itself"):
        service.find("api")


def test_no_error_shows_the_key(fake: FakeService, service: TemplateService) -> None:
    fake.fail("GET", "", error(401, "bad"))
    with pytest.raises(NotAllowed) as caught:
        service.find("api")
    assert "the-key" not in str(caught.value)


def test_a_message_is_matched_without_regard_to_case() -> None:
    rejected = Rejected("x")
    rejected.text = "Build Is Not In Waiting State"
    assert rejected.says("not in waiting state")
    assert not rejected.says("not found")


# --- files -----------------------------------------------------------------------------------

FILES = "ab" * 32


def test_a_link_says_where_files_go_and_hides_it(
    fake: FakeService, service: TemplateService
) -> None:
    build = fake.register("api", ())
    link = service.file_link(build.template, FILES)
    assert not link.present
    assert link.url.reveal() == f"{fake.url}/storage/{FILES}?signature=s1gned-and-secret"
    assert "signature" not in repr(link)
    fake.files[FILES] = b""
    assert service.file_link(build.template, FILES).present


def test_only_a_hash_is_asked_for(fake: FakeService, service: TemplateService) -> None:
    with pytest.raises(SandboxfileError, match="is not a files hash"):
        service.file_link("tmpl", "../x")
    assert fake.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"present": False},
        {"present": "yes", "url": 7},
        {"present": False, "url": "ftp://storage/x"},
        {"present": False, "url": "file:///etc/passwd"},
        {"present": False, "url": "http://[x"},
        {"present": False, "url": "https:///nowhere"},
        {"present": False, "url": "http://169.254.169.254/latest/meta-data"},
        {"present": False, "url": "https://[fe80::1]/x"},
    ],
)
def test_a_link_that_leads_nowhere_is_nonsense(
    fake: FakeService, service: TemplateService, answer: object
) -> None:
    fake.fail("GET", "/files/", Answer(status=201, body=answer))
    with pytest.raises(Unreachable, match="its link to send files to is none"):
        service.file_link("tmpl", FILES)


def test_files_do_not_leave_https() -> None:
    safe = TemplateService(_Canned({"present": False, "url": "http://s/x"}), "https://a", None)
    with pytest.raises(Unreachable, match="is none"):
        safe.file_link("tmpl", FILES)
    there = TemplateService(_Canned({"present": True}), "https://a", None)
    assert there.file_link("tmpl", FILES).present


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2852039166", "[::1]:9000"])
def test_only_a_service_of_this_machine_names_addresses_of_it(host: str) -> None:
    link = _Canned({"present": False, "url": f"http://{host}/x"})
    with pytest.raises(Unreachable, match="is none"):
        TemplateService(link, "http://box.test:8080", None).file_link("tmpl", FILES)
    if host != "2852039166":
        TemplateService(link, "http://127.0.0.1:8080", None).file_link("tmpl", FILES)


class _Canned(Web):
    """Gives one answer to everything: no server has a certificate here."""

    def __init__(self, answer: object) -> None:
        super().__init__(user_agent="t")
        self._answer = answer

    def send(self, method: str, url: str, **_: object) -> Reply:
        del method
        return Reply(status=201, headers={}, body=json.dumps(self._answer).encode(), url=url)


# --- templates -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["novita", "e2b", "v1"])
@pytest.mark.parametrize("size", [2, 3, 100])
def test_all_templates_are_listed_in_every_shape(
    fake: FakeService, service: TemplateService, shape: str, size: int
) -> None:
    fake.list_shape, fake.page = shape, size
    for number in range(6):
        fake.register(f"t{number}", ["default"] if number else ["sf-1"])

    found = list(service.templates())

    assert [each.names for each in found] == [(f"t{number}",) for number in range(6)]
    assert [bool(each.build_id) for each in found] == [False] + [True] * 5
    assert (found[1].cpu, found[1].memory, found[1].disk, found[1].builds) == (2, 1024, 5, 1)
    assert found[1].template_id == fake.names["t1"]


def test_a_template_that_moves_between_pages_is_listed_once(
    fake: FakeService, service: TemplateService
) -> None:
    row = {"templateID": TEMPLATE}
    page = Answer(body={"templates": [row], "total": 2})
    fake.fail("GET", "/v2/templates", page, page)

    assert [each.template_id for each in service.templates()] == [TEMPLATE]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"templates": {}}, {"templates": [1]}, {"templates": [{"templateID": "a:b"}]}, [7], "x",
        [{"templateID": TEMPLATE, "aliases": 3}],
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(
    fake: FakeService, service: TemplateService, body: object
) -> None:
    fake.fail("GET", "/v2/templates", Answer(body=body))

    with pytest.raises(Unreachable, match="answered nonsense"):
        list(service.templates())


@pytest.mark.parametrize("shape", ["novita", "e2b"])
def test_a_list_without_an_end_is_given_up(
    fake: FakeService, service: TemplateService, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr("sandboxfile.service.MAX_PAGES", 3)
    for number in range(4):
        row = {"templateID": f"{number}"}
        body: object = {"templates": [row], "total": 99} if shape == "novita" else [row]
        fake.fail("GET", "/v2/templates", Answer(body=body, headers={"X-Next-Token": "more"}))

    with pytest.raises(Unreachable, match="its list has no end"):
        list(service.templates())


def test_the_builds_of_a_template_come_newest_first_from_all_pages(
    fake: FakeService, service: TemplateService
) -> None:
    fake.page = 2
    ids = [fake.register("api", [f"t{number}"]).id for number in range(5)]
    fake.builds[ids[0]].settle("ready")
    fake.builds[ids[1]].settle("error")
    fake.builds[ids[2]].settle("snapshotting")

    found = service.template(fake.names["api"])

    assert [each.build_id for each in found.builds] == ids[::-1]
    assert [each.state for each in found.builds] == [
        "waiting", "waiting", "building", "error", "ready",
    ]  # fmt: skip
    assert found.names == ("api",)


@pytest.mark.parametrize(
    ("said", "state"), [("Uploaded", "ready"), ("failed", "error"), ("READY", "ready")]
)
def test_states_of_the_legacy_line_are_understood(
    fake: FakeService, service: TemplateService, said: str, state: str
) -> None:
    row = {"buildID": BUILD, "status": said, "cpuCount": "many", "finishedAt": "then"}
    body = {"templateID": TEMPLATE, "builds": [row]}
    fake.fail("GET", f"/templates/{TEMPLATE}", Answer(body=body))

    (build,) = service.template(TEMPLATE).builds

    assert (build.state, build.cpu, build.finished) == (state, 0, "then")


def test_an_answer_about_another_template_is_refused(
    fake: FakeService, service: TemplateService
) -> None:
    fake.fail("GET", f"/templates/{TEMPLATE}", Answer(body={"templateID": "other"}))

    with pytest.raises(Unreachable, match="another template than asked for"):
        service.template(TEMPLATE)


@pytest.mark.parametrize("name", ["api:v1", "team/api", "API", ""])
def test_nothing_but_an_id_is_deleted(
    fake: FakeService, service: TemplateService, name: str
) -> None:
    with pytest.raises(SandboxfileError, match="is not a template's ID"):
        service.delete(name)
    assert fake.requests == []


def test_a_template_that_is_gone_needs_no_deleting(
    fake: FakeService, service: TemplateService
) -> None:
    fake.register("api", ["default"])

    assert service.delete(fake.names["api"])
    assert not service.delete(TEMPLATE)


@pytest.mark.parametrize("kind", ["running", "paused"])
def test_a_template_in_use_is_told_as_that(
    fake: FakeService, service: TemplateService, kind: str
) -> None:
    fake.in_use[TEMPLATE] = f"{kind} sandboxes using it"

    with pytest.raises(InUse, match=f"is in use by {kind} sandboxes"):
        service.delete(TEMPLATE)


@pytest.mark.parametrize(("status", "text"), [(404, "page not found"), (400, "validation error")])
def test_other_refusals_to_delete_are_told_as_they_are(
    fake: FakeService, service: TemplateService, status: int, text: str
) -> None:
    fake.fail("DELETE", f"/templates/{TEMPLATE}", error(status, text))

    with pytest.raises(Rejected, match=text):
        service.delete(TEMPLATE)
