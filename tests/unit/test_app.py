import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from sandboxfile import app, choosing, lockfile
from sandboxfile.account import DEFAULT_DOMAIN
from sandboxfile.app import Session
from sandboxfile.config import packed
from sandboxfile.config.given import Given
from sandboxfile.errors import SandboxfileError, UsageError
from sandboxfile.model import Target, Workspace
from sandboxfile.redact import Redactor
from tests.fakes import built
from tests.fakes.shell import User

SHORT = "version: 1\nname: web\nbase: debian:12\n"
BOX = """\
targets:
  box: {provider: novita, api_url: "http://127.0.0.1:1", registry: 127.0.0.1:5000/x}
"""


def arguments(user: User, **given: object) -> argparse.Namespace:
    values = {
        "file": None,
        "target": None,
        "var": None,
        "environ": dict(user.environ),
        "home": user.home,
    }
    return argparse.Namespace(**{**values, **given})


def load(user: User, text: str = SHORT) -> Workspace:
    user.write("novita.yaml", text)
    with chdir(user.root):
        return app.workspace(arguments(user))


# --- the workspace ---------------------------------------------------------------------------


def test_a_workspace_that_was_loaded_is_kept_while_nothing_changes(user: User) -> None:
    (user.root / ".sandboxfile").mkdir()
    found = load(user)
    kept = user.root / ".sandboxfile/workspace"
    assert not kept.exists()  # the file is too young

    given = Given(environ=user.environ)
    since = time.time_ns() + 60 * 10**9
    with chdir(user.root):
        packed.write(kept, user.root / "novita.yaml", given, found, since=since)
        assert app.workspace(arguments(user)) == found
    assert load(user, SHORT + "tags: [x]\n") != found


def test_nothing_is_written_where_there_is_no_state(user: User) -> None:
    load(user)

    assert [path.name for path in user.root.iterdir()] == ["novita.yaml"]


def test_nothing_is_written_behind_a_link_that_a_checkout_brought(
    user: User, tmp_path: Path, grown_old: Callable[[], None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "workspace").write_text("mine")
    user.write("novita.yaml", SHORT)
    (user.root / ".sandboxfile").symlink_to(elsewhere)
    grown_old()

    with chdir(user.root):
        app.workspace(arguments(user))

    assert (elsewhere / "workspace").read_text() == "mine"


def test_what_cannot_be_kept_is_loaded_each_time(user: User) -> None:
    (user.root / ".sandboxfile/workspace").mkdir(parents=True)

    assert list(load(user).templates) == ["web"]


def test_the_state_directory_ignores_itself(tmp_path: Path) -> None:
    state = app.state(tmp_path)

    assert (state / ".gitignore").read_text() == "*\n"
    assert state.stat().st_mode & 0o077 == 0
    assert app.state(tmp_path) == state


def test_a_full_disk_leaves_no_state_directory_half_made(tmp_path: Path) -> None:
    with full():
        assert app.kept(tmp_path) == tmp_path / app.STATE
        with pytest.raises(SandboxfileError, match="cannot be made or used: File too large"):
            app.state(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_left_empty_is_written_when_there_is_room(tmp_path: Path) -> None:
    (tmp_path / app.STATE).mkdir()
    (tmp_path / app.STATE / ".gitignore").touch()
    with full():
        app.kept(tmp_path)
    app.kept(tmp_path)

    assert (tmp_path / app.STATE / ".gitignore").read_text() == "*\n"


@contextmanager
def full() -> Iterator[None]:
    """Let no file of this process grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def a_file(path: Path) -> None:
    path.write_text("")


def a_link(path: Path) -> None:
    path.symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("below", "make", "what"),
    [
        ("", a_file, "is not a directory"),
        ("", a_link, "is a link"),
        ("", os.mkfifo, "is not a directory"),
        ("manifests/local.app.json", os.mkfifo, "is not a file"),
        ("journal/local.jsonl", os.mkfifo, "is not a file"),
        ("logs", a_link, "is a link"),
    ],
)
def test_a_state_directory_that_somebody_prepared_is_refused(
    tmp_path: Path, below: str, make: Callable[[Path], None], what: str
) -> None:
    path = tmp_path / app.STATE / below
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)

    with pytest.raises(SandboxfileError) as caught:
        app.state(tmp_path)

    assert caught.value.message == f"`{path}` {what}"
    assert caught.value.hint == f"remove `{tmp_path / app.STATE}`"


def test_a_fifo_in_place_of_what_is_kept_holds_nobody_up(user: User) -> None:
    (user.root / app.STATE).mkdir()
    os.mkfifo(user.root / app.STATE / "workspace")

    assert list(load(user).templates) == ["web"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ["parent", "child", "other"]),
        (["other", "parent"], ["parent", "other"]),
        (["*r*"], ["parent", "other"]),
        (["child", "c*"], ["child"]),
    ],
)
def test_templates_are_named_or_matched(
    three: User, patterns: list[str], expected: list[str]
) -> None:
    with chdir(three.root):
        workspace = app.workspace(arguments(three))

    assert list(choosing.select(workspace, patterns)) == expected


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("chidl", "did you mean `child`?"), ("x*", "templates: parent, child, other")],
)
def test_a_name_that_nobody_has_is_refused(three: User, pattern: str, hint: str) -> None:
    with chdir(three.root):
        workspace = app.workspace(arguments(three))

    with pytest.raises(UsageError) as caught:
        choosing.select(workspace, ["parent", pattern])
    assert (caught.value.message, caught.value.hint) == (
        f"no template is called `{pattern}`",
        hint,
    )


# --- the target ------------------------------------------------------------------------------

KEY = {"NOVITA_API_KEY": "k"}
DEFAULT = SHORT + BOX + "default_target: box\n"


@pytest.mark.parametrize(
    ("text", "asked", "environ", "expected"),
    [
        (SHORT, None, {}, ("local", "no API key is at hand")),
        (SHORT, None, KEY, ("novita", "an API key is at hand (NOVITA_API_KEY)")),
        (SHORT, None, {"NOVITA_API_KEY": " "}, ("local", "no API key is at hand")),
        (SHORT, None, {"E2B_API_KEY": "k"}, ("novita", "an API key is at hand (E2B_API_KEY)")),
        (SHORT, "local", KEY, ("local", "asked for")),
        (SHORT, "novita", {}, ("novita", "asked for")),
        (DEFAULT, None, KEY, ("box", "`default_target` of novita.yaml")),
        (DEFAULT, "local", {}, ("local", "asked for")),
        (SHORT + BOX, None, {"SANDBOXFILE_TARGET": "box", **KEY}, ("box", "SANDBOXFILE_TARGET")),
        (SHORT, "local", {"SANDBOXFILE_TARGET": "novita"}, ("local", "asked for")),
        (
            DEFAULT,
            None,
            {"SANDBOXFILE_TARGET": "local"},
            ("box", "`default_target` of novita.yaml"),
        ),
        # Targets of its own, none of them called novita.
        (SHORT + BOX, None, {}, ("local", "no API key is at hand")),
        (
            SHORT + BOX,
            None,
            KEY,
            ("box", "an API key is at hand (NOVITA_API_KEY), and there is no other target"),
        ),
        (
            SHORT + "targets: {mine: {provider: local}}\n",
            None,
            KEY,
            ("local", "there is no other target"),
        ),
    ],
)
def test_the_target_is_chosen_and_the_reason_told(
    user: User, text: str, asked: str | None, environ: Mapping[str, str], expected: tuple[str, str]
) -> None:
    workspace = load(user, text)

    target, why = app.target(arguments(user, target=asked, environ=environ), workspace)

    assert (target.name, why) == expected


def test_an_account_with_several_targets_asks_which(user: User) -> None:
    other = (
        '  cube: {provider: novita, api_url: "http://127.0.0.1:2", registry: 127.0.0.1:5000/x}\n'
    )
    workspace = load(user, SHORT + BOX + other)

    with pytest.raises(UsageError, match="there are several targets for it") as caught:
        app.target(arguments(user, environ=KEY), workspace)

    assert caught.value.hint.endswith("or as `default_target`: box, cube")


def test_a_login_of_novitas_own_client_is_a_key(user: User) -> None:
    (user.home / ".novita").mkdir()
    (user.home / ".novita/config.json").write_text('{"teamApiKey": "k"}')

    target, why = app.target(arguments(user, environ={}), load(user))

    assert target.name == "novita"
    assert why == "an API key is at hand (~/.novita/config.json)"


def test_a_target_that_is_not_there_is_refused(user: User) -> None:
    with pytest.raises(UsageError) as caught:
        app.target(arguments(user, target="prod"), load(user))

    assert (caught.value.message, caught.value.hint) == (
        "no target is called `prod`",
        "targets: novita, local",
    )


def address(user: User, text: str, name: str, environ: Mapping[str, str]) -> Target:
    return app.target(arguments(user, target=name, environ=environ), load(user, text))[0]


@pytest.mark.parametrize(
    ("environ", "url", "api"),
    [
        ({}, f"https://api.{DEFAULT_DOMAIN}", "v3"),
        ({"NOVITA_DOMAIN": "eu.sandbox.novita.ai"}, "https://api.eu.sandbox.novita.ai", "v3"),
        ({"NOVITA_DOMAIN": "sandbox.novita.ai"}, "https://api.sandbox.novita.ai", "v1"),
        ({"E2B_DOMAIN": "e2b.app"}, "https://api.e2b.app", "v3"),
        ({"NOVITA_DOMAIN": "a.novita.ai", "E2B_DOMAIN": "b"}, "https://api.a.novita.ai", "v3"),
        ({"NOVITA_API_URL": "http://127.0.0.1:1/"}, "http://127.0.0.1:1", "v3"),
        ({"E2B_API_URL": "http://127.0.0.1:2"}, "http://127.0.0.1:2", "v3"),
        ({"NOVITA_API_URL": "", "NOVITA_DOMAIN": ""}, f"https://api.{DEFAULT_DOMAIN}", "v3"),
    ],
)
def test_the_environment_says_where_novita_is(
    user: User, environ: Mapping[str, str], url: str, api: str
) -> None:
    target = address(user, SHORT, "novita", environ)

    assert (target.api_url, target.api) == (url, api)


def test_a_target_that_names_its_address_is_not_moved_by_the_environment(user: User) -> None:
    text = SHORT + "targets: {prod: {provider: novita, domain: eu.novita.ai, registry: r.io/x}}\n"
    environ = {"NOVITA_DOMAIN": "other.novita.ai", "NOVITA_API_URL": "http://127.0.0.1:9"}

    assert address(user, text, "prod", environ).api_url == "https://api.eu.novita.ai"
    assert address(user, SHORT + BOX, "box", environ).api_url == "http://127.0.0.1:1"
    assert address(user, SHORT, "local", environ).api_url is None


@pytest.mark.parametrize(
    ("environ", "registry", "builder"),
    [
        ({}, None, "remote"),
        ({"SANDBOXFILE_REGISTRY": ""}, None, "remote"),
        ({"SANDBOXFILE_REGISTRY": "r.io/x"}, "r.io/x", "docker"),
        ({"NOVITA_DOMAIN": "sandbox.novita.ai"}, None, "docker"),
    ],
)
def test_a_registry_in_the_environment_means_that_images_are_built_here(
    user: User, environ: Mapping[str, str], registry: str | None, builder: str
) -> None:
    target = address(user, SHORT, "novita", environ)

    assert (target.registry, target.builder) == (registry, builder)


# --- trusted hosts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "file", "expected"),
    [
        ({}, None, set()),
        ({"SANDBOXFILE_TRUSTED_HOSTS": "A.example"}, None, {"a.example"}),
        ({"SANDBOXFILE_TRUSTED_HOSTS": "a, b\tc ,"}, None, {"a", "b", "c"}),
        ({}, "a\n\nB.example\n", {"a", "b.example"}),
        ({"SANDBOXFILE_TRUSTED_HOSTS": "x"}, "a", {"a", "x"}),
    ],
)
def test_the_operator_trusts_hosts_by_environment_or_file(
    tmp_path: Path, environ: Mapping[str, str], file: str | None, expected: set[str]
) -> None:
    if file is not None:
        (tmp_path / ".config/sandboxfile").mkdir(parents=True)
        (tmp_path / ".config/sandboxfile/trusted-hosts").write_text(file)

    assert app.trusted_hosts(environ, tmp_path) == expected


def test_the_file_of_trusted_hosts_follows_xdg(tmp_path: Path) -> None:
    (tmp_path / "xdg/sandboxfile").mkdir(parents=True)
    (tmp_path / "xdg/sandboxfile/trusted-hosts").write_text("a")

    assert app.trusted_hosts({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path) == {"a"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_of_trusted_hosts_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / ".config/sandboxfile/trusted-hosts"
    file.parent.mkdir(parents=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)

    with pytest.raises(SandboxfileError, match="trusted-hosts` cannot be read: "):
        app.trusted_hosts({}, tmp_path)


# --- where things are ------------------------------------------------------------------------


def test_directories_of_the_user_follow_xdg(tmp_path: Path) -> None:
    assert app.data({}, tmp_path) == tmp_path / ".local/share/sandboxfile"
    assert app.cache({}, tmp_path) == tmp_path / ".cache/sandboxfile"
    assert app.data({"XDG_DATA_HOME": "/d"}, tmp_path) == Path("/d/sandboxfile")
    assert app.cache({"XDG_CACHE_HOME": "/c"}, tmp_path) == Path("/c/sandboxfile")


def test_results_of_this_machine_have_a_lock_of_their_own(user: User) -> None:
    workspace = load(user)

    assert app.lock_path(workspace, workspace.targets["local"]).name == "novita.local.lock"
    assert app.lock_path(workspace, workspace.targets["novita"]).name == "novita.lock"


def test_images_are_built_a_few_at_once() -> None:
    assert 1 <= app.builds_at_once() <= 4


# --- secrets ---------------------------------------------------------------------------------


SECRETS = """\
secrets:
  a: {env: A_TOKEN}
  b: {env: B_TOKEN}
  c: {file: token}
"""


def open_session(user: User, text: str, environ: Mapping[str, str]) -> Session:
    workspace = load(user, text)
    return Session(
        args=arguments(user, environ=environ),
        workspace=workspace,
        target=workspace.targets["local"],
        emit=lambda _: None,
        redactor=Redactor(),
    )


def test_the_value_of_a_secret_is_in_a_file_of_the_user_alone(user: User) -> None:
    token = user.write("token", "filed")
    session = open_session(user, SHORT + SECRETS, {"A_TOKEN": "one", "B_TOKEN": ""})
    a, b = session.secret("a"), session.secret("b")

    assert (a.read_text(), b.read_text()) == ("one", "")
    assert a.stat().st_mode & 0o777 == 0o600
    assert a.parent.stat().st_mode & 0o777 == 0o700
    assert session.secret("a") == a
    assert session.secret("c").read_text() == "filed"
    session.close()
    assert not a.exists()
    assert token.exists()


def test_a_secret_without_a_value_is_refused(user: User) -> None:
    session = open_session(user, SHORT + SECRETS, {})

    with pytest.raises(SandboxfileError) as caught:
        session.secret("a")
    assert caught.value.message == "secret `a` is to come from `A_TOKEN`, which is not set"
    source = session.workspace.secrets["a"]
    assert caught.value.at == source.at
    assert source.at is not None
    with pytest.raises(SandboxfileError, match=r"^novita.yaml:\d+:\d+: error: the file of sec"):
        session.secret("c")
    session.close()


# --- a session -------------------------------------------------------------------------------


@pytest.fixture
def session(three: User) -> Session:
    with chdir(three.root):
        workspace = app.workspace(arguments(three))
    return Session(
        args=arguments(three),
        workspace=workspace,
        target=workspace.targets["local"],
        emit=lambda _: None,
        redactor=Redactor(),
    )


class Part:
    def __init__(self, closed: list["Part"]) -> None:
        self.closed = closed

    def close(self) -> None:
        self.closed.append(self)


def test_parts_are_opened_once_and_closed_in_reverse(session: Session) -> None:
    closed: list[Part] = []
    first = session.once("first", lambda: Part(closed))
    second = session.once("second", lambda: Part(closed))
    session.once("a part that needs no closing", object)

    assert session.once("first", lambda: Part(closed)) is first
    session.close()
    assert closed == [second, first]
    assert session.once("first", lambda: Part(closed)) is not first


def test_the_state_directory_is_looked_through_once_a_run(session: Session) -> None:
    state = session.state
    (state / "link").symlink_to("/nowhere")

    assert session.state == state
    session.close()
    with pytest.raises(SandboxfileError, match="is a link"):
        str(session.state)


def test_what_is_resolved_comes_from_both_locks(three: User, session: Session) -> None:
    image = "sha256:" + "e" * 64
    entries = built.pretend(three.root)
    local = three.root / "novita.local.lock"
    lockfile.update(local, lambda lock: lock.with_resolved({"engine:x linux/amd64": image}))

    lock, resolved = session.locks()

    assert lock.targets["local"] == entries
    assert resolved == {**built.PINS, "engine:x linux/amd64": image}
    assert session.entries() == entries
    remote = Session(
        args=session.args,
        workspace=session.workspace,
        target=session.workspace.targets["novita"],
        emit=session.emit,
        redactor=session.redactor,
    )
    # The service builds there, and has no image of an engine here.
    assert remote.locks() == (lockfile.read(three.root / "novita.lock"), built.PINS)
    assert remote.entries() == {}


def test_the_commit_is_that_of_the_workspace(three: User, session: Session) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    assert three.process([*git, "init", "-q"]).returncode == 0

    assert session.git_sha() is None  # no commit yet
    assert three.process([*git, "commit", "-q", "--allow-empty", "-m", "x"]).returncode == 0
    assert session.git_sha() == three.process(["git", "rev-parse", "HEAD"]).stdout.strip()
