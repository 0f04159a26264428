import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import bootstrap
from sandboxfile.bootstrap import Archive
from sandboxfile.cancel import Cancel
from sandboxfile.errors import (
    BuildFailed,
    Cancelled,
    ConfigError,
    SandboxfileError,
    Unreachable,
)
from sandboxfile.events import Event, Log, Notice, StepDone, StepStarted
from sandboxfile.model import BootstrapBase
from sandboxfile.places import Position
from tests.fakes.mmdebstrap import CONTENT, WRITE, Tool

AT = Position("novita.yaml", 3, 7)
BASE = BootstrapBase(distribution="debian", suite="bookworm", at=AT)
STAMP = "20250520T000000Z"
SNAPSHOTS = "http://127.0.0.1/archive/{snapshot}/"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return Tool(directory)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def events() -> list[Event]:
    return []


Make = Callable[..., Archive]


@pytest.fixture
def make(tool: Tool, cache: Path, events: list[Event]) -> Make:
    assert tool.calls == []

    def archive(base: BootstrapBase = BASE, **others: Any) -> Archive:
        given = {"cache": cache, "emit": events.append, "cancel": Cancel(), **others}
        return bootstrap.archive(base, **given)

    return archive


# --- what is asked for -----------------------------------------------------------------------

COMMON = [
    "--variant=minbase",
    "--mode=auto",
    "--format=tar",
    "--architectures=amd64",
    "--components=main",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Dir::Cache::pkgcache ""',
    '--aptopt=Dir::Cache::srcpkgcache ""',
]


def test_the_least_is_asked_for_by_default(tool: Tool, make: Make) -> None:
    make()
    [argv] = tool.calls
    assert argv[: len(COMMON)] == COMMON
    assert [each.partition("=")[0] for each in argv[len(COMMON) : -3]] == [
        "--extract-hook",
        "--customize-hook",
        "--customize-hook",
    ]
    assert argv[-3:-1] == ["--", "bookworm"]
    assert (tool.directory / "env").read_text() == "0 C.UTF-8 UTC\n"


def test_everything_the_base_says_is_asked_for(tool: Tool, make: Make) -> None:
    base = replace(
        BASE,
        distribution="ubuntu",
        suite="noble",
        mirror=SNAPSHOTS,
        components=("main", "universe"),
        include=("git", "curl=8.5.0-2ubuntu10.6", "git", "libc6:amd64"),
        snapshot=STAMP,
        epoch=1716163200,
    )
    make(base)
    [argv] = tool.calls
    assert "--components=main,universe" in argv
    assert "--include=curl=8.5.0-2ubuntu10.6,git,libc6:amd64" in argv
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in argv
    assert any("ID=ubuntu" in each for each in argv)
    assert argv[-4:-2] == ["--", "noble"]
    assert argv[-1] == f"http://127.0.0.1/archive/{STAMP}/"
    assert (tool.directory / "env").read_text() == "1716163200 C.UTF-8 UTC\n"


@pytest.mark.parametrize(
    ("mirrors", "snapshot", "expected"),
    [
        ((None, None), None, None),
        ((None, "http://own/debian"), None, "http://own/debian"),
        (("http://op/debian", None), None, "http://op/debian"),
        (("http://op/debian", "http://own/debian"), None, "http://op/debian"),
        (("http://op/{snapshot}", "http://own/debian"), None, "http://own/debian"),
        (("http://op/{snapshot}", "http://own/{snapshot}"), STAMP, f"http://op/{STAMP}"),
        (("http://op/debian", "http://own/{snapshot}/"), STAMP, f"http://own/{STAMP}/"),
        (("file:///srv/debian", None), None, "file:///srv/debian"),
    ],
)
def test_the_mirror_is_the_first_that_fits(
    tool: Tool,
    make: Make,
    mirrors: tuple[str | None, str | None],
    snapshot: str | None,
    expected: str | None,
) -> None:
    operators, own = mirrors
    make(replace(BASE, mirror=own, snapshot=snapshot), mirror=operators)
    [argv] = tool.calls
    assert argv[argv.index("--") + 3 :] == ([expected] if expected else [])


NEEDS = "`snapshot` needs a `mirror` with the place-holder `{snapshot}`"
WHICH = "the mirror has the place-holder `{snapshot}`, and no `snapshot` is given"
NO_MIRROR = "the mirror is not an http, https or file address without user and password"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"snapshot": STAMP}, NEEDS),
        ({"snapshot": STAMP, "mirror": "http://own/debian"}, NEEDS),
        ({"mirror": SNAPSHOTS}, WHICH),
        ({"mirror": "own/debian"}, NO_MIRROR),
        ({"mirror": "[trusted=yes] http://own/debian"}, NO_MIRROR),
        ({"mirror": "http://own/debian bookworm main"}, NO_MIRROR),
        ({"mirror": "http://alice:s3cret@own/debian"}, NO_MIRROR),
        ({"mirror": "copy:///etc"}, NO_MIRROR),
        ({"suite": "--version"}, "`--version` is not allowed in `suite`"),
        ({"suite": ""}, "`` is not allowed in `suite`"),
        ({"snapshot": "../x", "mirror": SNAPSHOTS}, "`../x` is not allowed in `snapshot`"),
        ({"components": ("main", "a b")}, "`a b` is not allowed in `components`"),
        ({"include": ("git", "./evil.deb")}, "`./evil.deb` is not allowed in `include`"),
        ({"include": ("?essential",)}, "`?essential` is not allowed in `include`"),
        ({"include": ("git,curl",)}, "`git,curl` is not allowed in `include`"),
        ({"include": ("-o",)}, "`-o` is not allowed in `include`"),
    ],
)
def test_what_makes_no_sense_is_an_error_at_the_base(
    tool: Tool, make: Make, cache: Path, changes: Mapping[str, Any], message: str
) -> None:
    base = replace(BASE, **changes)
    with pytest.raises(ConfigError) as caught:
        make(base)
    assert [each.message for each in caught.value.problems] == [message]
    assert caught.value.problems[0].at == AT
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError):
        bootstrap.cached(base, cache)
    assert tool.calls == []


def test_all_that_is_wrong_is_said_at_once(make: Make) -> None:
    with pytest.raises(ConfigError) as caught:
        make(replace(BASE, suite="-", include=("-a", "b c")), mirror="nowhere")
    assert len(caught.value.problems) == 4


# --- the cache -------------------------------------------------------------------------------


def test_an_archive_is_kept_under_its_digest(make: Make, cache: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    made = make()
    assert made == Archive(path=cache / f"{digest}.tar", digest=f"sha256:{digest}")
    assert made.path.read_bytes() == CONTENT
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock", ".tar"]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_the_same_base_is_made_once(tool: Tool, make: Make, cache: Path) -> None:
    assert bootstrap.cached(BASE, cache) is None
    made = make()
    assert make() == made
    assert make(replace(BASE, at=Position("other.yaml", 1, 1))) == made
    assert bootstrap.cached(BASE, cache) == made
    assert len(tool.calls) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"distribution": "ubuntu"},
        {"suite": "trixie"},
        {"mirror": "http://127.0.0.1/debian"},
        {"mirror": SNAPSHOTS, "snapshot": STAMP},
        {"components": ("main", "contrib")},
        {"include": ("git",)},
        {"epoch": 1},
    ],
)
def test_another_base_is_made_anew(
    tool: Tool, make: Make, cache: Path, changes: Mapping[str, Any]
) -> None:
    make()
    other = replace(BASE, **changes)
    assert bootstrap.cached(other, cache) is None
    make(other)
    assert len(tool.calls) == 2


def test_an_operators_mirror_makes_another_base(tool: Tool, make: Make, cache: Path) -> None:
    make()
    mirror = "http://127.0.0.1/debian"
    assert bootstrap.cached(BASE, cache, mirror) is None
    made = make(mirror=mirror)
    assert bootstrap.cached(BASE, cache, mirror) == made
    assert len(tool.calls) == 2


def test_the_order_of_packages_is_nothing(tool: Tool, make: Make) -> None:
    make(replace(BASE, include=("git", "curl")))
    make(replace(BASE, include=("curl", "git")))
    assert len(tool.calls) == 1


def test_an_archive_with_another_time_is_still_the_same(tool: Tool, make: Make) -> None:
    made = make()
    os.utime(made.path, (1, 1))
    assert make() == made
    assert len(tool.calls) == 1


def changed(path: Path) -> None:
    path.write_bytes(CONTENT.upper())
    os.utime(path, (1, 1))


def cut(path: Path) -> None:
    path.write_bytes(CONTENT[:4])


@pytest.mark.parametrize("damage", [changed, cut, Path.unlink])
def test_a_damaged_archive_is_made_again(
    tool: Tool, make: Make, cache: Path, damage: Callable[[Path], None]
) -> None:
    made = make()
    damage(made.path)
    assert bootstrap.cached(BASE, cache) is None
    assert make() == made
    assert made.path.read_bytes() == CONTENT
    assert len(tool.calls) == 2


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"digest": 1, "size": 1, "mtime_ns": 1}'])
def test_a_damaged_record_is_no_record(make: Make, cache: Path, record: str) -> None:
    made = make()
    [path] = cache.glob("*.json")
    path.write_text(record)
    assert bootstrap.cached(BASE, cache) is None
    assert make() == made
    assert json.loads(path.read_text())["digest"] == made.digest


def test_a_cache_that_cannot_be_made_is_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxfileError, match="cannot be made: Not a directory"):
        make(cache=tmp_path / "file" / "cache")


# --- making it -------------------------------------------------------------------------------


def test_what_happens_is_told_without_the_hooks_of_ours(make: Make, events: list[Event]) -> None:
    make()
    started, log, done = events
    assert started == StepStarted(job="bootstrap", step="debian bookworm")
    assert log == Log(job="bootstrap", text="I: done", stream="stderr", step="debian bookworm")
    assert isinstance(done, StepDone)
    assert (done.job, done.step) == ("bootstrap", "debian bookworm")


def test_without_mmdebstrap_the_remedy_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable) as caught:
        make()
    assert str(caught.value) == (
        "error: `mmdebstrap` is not installed\n"
        "hint: `apt-get install mmdebstrap` brings it; or choose an image as the base"
    )


@pytest.fixture
def pressed(events: list[Event]) -> Callable[..., tuple[Cancel, Callable[..., None]]]:
    """Make a stop button, and a listener that presses it at the first event of a kind."""

    def build(kind: type) -> tuple[Cancel, Callable[..., None]]:
        cancel = Cancel()

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, kind):
                cancel.set()

        return cancel, emit

    return build


def test_stopping_ends_mmdebstrap_and_leaves_nothing(
    tool: Tool, make: Make, cache: Path, pressed: Any
) -> None:
    tool.does('echo $$ > "$here/pid"; echo half > "$target"; echo started >&2; exec sleep 60')
    cancel, emit = pressed(Log)
    with pytest.raises(Cancelled):
        make(cancel=cancel, emit=emit)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tool.directory / "pid").read_text()), 0)


def test_a_mmdebstrap_that_had_to_be_killed_leaves_nothing_either(
    tool: Tool, make: Make, pressed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr("tempfile.tempdir", None)
    tool.does(
        'trap \'\' TERM; mkdir "$TMPDIR/root"; stat -c %a "$TMPDIR" > $here/mode; '
        "echo started >&2; while :; do sleep 1; done"
    )
    cancel, emit = pressed(Log)
    with pytest.raises(Cancelled):
        make(cancel=cancel, emit=emit)
    assert (tool.directory / "mode").read_text() == "755\n"
    assert list(work.iterdir()) == []


def test_what_was_made_before_is_kept_beside_what_is_made_anew(
    tool: Tool, make: Make, cache: Path
) -> None:
    old = make()
    tool.does(WRITE.replace("a root", "a newer root"))

    new = make(anew=True)

    assert (len(tool.calls), old.digest == new.digest) == (2, False)
    assert make() == new
    assert bootstrap.kept(cache, old.digest) == old
    old.path.write_bytes(b"something else")
    assert bootstrap.kept(cache, old.digest) is None
    assert bootstrap.kept(cache, "sha256:" + "0" * 64) is None


def test_runs_that_overlap_make_it_once(tool: Tool, cache: Path) -> None:
    tool.does(f'echo started >&2; while [ ! -e "$here/go" ]; do sleep 0.01; done; {WRITE}')
    started, made = threading.Event(), []
    notices: list[Notice] = []

    def emit(event: Event) -> None:
        if isinstance(event, Log):
            started.set()
        if isinstance(event, Notice):
            notices.append(event)
            (tool.directory / "go").touch()

    def run() -> None:
        made.append(bootstrap.archive(BASE, cache=cache, emit=emit, cancel=Cancel()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert started.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 2
    assert made[0] == made[1]
    assert len(tool.calls) == 1
    assert [each.text for each in notices] == [
        "another run is making the base `debian: bookworm`; waiting for it"
    ]


def test_waiting_for_another_run_can_be_stopped(
    tool: Tool, make: Make, cache: Path, pressed: Any
) -> None:
    make()
    [lock] = cache.glob("*.lock")
    [record] = cache.glob("*.json")
    record.unlink()
    cancel, emit = pressed(Notice)
    with lock.open() as held:
        fcntl.flock(held.fileno(), fcntl.LOCK_EX)
        with pytest.raises(Cancelled):
            make(cancel=cancel, emit=emit)
    assert len(tool.calls) == 1


def test_an_archive_is_made_after_a_run_that_was_killed(
    tool: Tool, make: Make, cache: Path
) -> None:
    made = make()
    [record] = cache.glob("*.json")
    record.unlink()
    record.with_suffix(".partial").write_bytes(b"half")
    assert make() == made
    assert not record.with_suffix(".partial").exists()
    assert len(tool.calls) == 2


def test_a_mmdebstrap_that_outlives_its_run_writes_into_no_other_archive(
    make: Make, cache: Path
) -> None:
    make()
    [record] = cache.glob("*.json")
    record.unlink()
    with record.with_suffix(".partial").open("wb", buffering=0) as orphan:
        orphan.write(b"half")

        made = make()

        orphan.write(b"the rest of it")
    assert made.path.read_bytes() == CONTENT
    assert not [*cache.glob("*.partial")]


# --- what went wrong -------------------------------------------------------------------------

REFUSED = """\
Err:1 http://127.0.0.1:1/debian bookworm InRelease
  Could not connect to 127.0.0.1:1 (127.0.0.1). - connect (111: Connection refused)
E: Failed to fetch http://127.0.0.1:1/debian/dists/bookworm/InRelease  Could not connect
E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed
E: mmdebstrap failed to run
"""
NO_SUITE = """\
Err:2 http://mirror/debian nosuch Release
  404  Not Found [IP: 192.0.2.1 80]
E: The repository 'http://mirror/debian nosuch Release' does not have a Release file.
E: mmdebstrap failed to run
"""
NO_KEY = """\
W: GPG error: http://mirror noble InRelease: The following signatures couldn't be verified \
because the public key is not available: NO_PUBKEY 871920D1991BC93C
E: The repository 'http://mirror noble InRelease' is not signed.
"""
NO_PACKAGE = """\
E: Unable to locate package nosuch
E: setup failed: E: apt-get -o Dir::Bin::dpkg=env install nosuch failed
E: mmdebstrap failed to run
"""
OTHER = "sandboxfile: not debian\nE: setup failed: E: command failed: sh -c '...'\n"
# mmdebstrap shows each hook before it runs it; that is not yet its failure.
HOOK = """I: running --extract-hook in shell: sh -c 'echo "sandboxfile: not debian" >&2'\n"""


FAILURES = {
    "mirror": (
        REFUSED,
        Unreachable,
        """\
error: the mirror of `debian: bookworm` does not give its packages
  E: Failed to fetch http://127.0.0.1:1/debian/dists/bookworm/InRelease  Could not connect
hint: look at the network, or name another `mirror`""",
    ),
    "mirror's gateway": (
        "Err:1 x\n  502 Bad Gateway\nE: The repository 'x' does not have a Release file.\n",
        Unreachable,
        """\
error: the mirror of `debian: bookworm` does not give its packages
  E: The repository 'x' does not have a Release file.
hint: look at the network, or name another `mirror`""",
    ),
    "suite": (
        NO_SUITE,
        SandboxfileError,
        """\
error: suite `bookworm` of debian is not at the mirror
hint: look at the spelling; an old suite needs a `mirror` that still has it""",
    ),
    "key": (
        NO_KEY,
        Unreachable,
        """\
error: the packages of `debian: bookworm` cannot be checked: this machine has no key for them
hint: `apt-get install debian-archive-keyring gpg` brings the keys of debian""",
    ),
    "package": (
        HOOK + NO_PACKAGE,
        SandboxfileError,
        """\
error: package `nosuch` is not in `debian: bookworm`
hint: look at `include`, and at `components` (main)""",
    ),
    "package only named": (
        "E: Package 'rar' has no installation candidate\n",
        SandboxfileError,
        """\
error: package `rar` is not in `debian: bookworm`
hint: look at `include`, and at `components` (main)""",
    ),
    "version": (
        "E: Version '9' for 'git' was not found\n",
        SandboxfileError,
        """\
error: package `git` is not in `debian: bookworm`
hint: look at `include`, and at `components` (main)""",
    ),
    "distribution": (
        HOOK + OTHER,
        SandboxfileError,
        """\
error: suite `bookworm` is not one of debian
hint: write the distribution before the suite: `debian:` or `ubuntu:`""",
    ),
    "user": (
        "E: unable to pick chroot mode automatically\n",
        Unreachable,
        """\
error: mmdebstrap cannot make `debian: bookworm` as this user
  E: unable to pick chroot mode automatically
hint: install `uidmap` and give the user a range in /etc/subuid and /etc/subgid, or run as root""",
    ),
    "anything else": (
        HOOK + "E: dpkg died\n",
        BuildFailed,
        "error: mmdebstrap could not make `debian: bookworm`",
    ),
}


@pytest.mark.parametrize(("said", "kind", "text"), FAILURES.values(), ids=FAILURES)
def test_a_failure_says_what_to_do(
    tool: Tool, make: Make, said: str, kind: type, text: str
) -> None:
    tool.says(said)
    with pytest.raises(SandboxfileError) as caught:
        make()
    assert type(caught.value) is kind
    assert str(caught.value) == f"{AT}: {text}"


def test_a_failure_leaves_nothing(tool: Tool, make: Make, cache: Path) -> None:
    tool.does('echo half > "$target"; exit 1')
    with pytest.raises(BuildFailed):
        make()
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_the_key_of_ubuntu_has_another_name(tool: Tool, make: Make) -> None:
    tool.says(NO_KEY)
    with pytest.raises(Unreachable) as caught:
        make(replace(BASE, distribution="ubuntu", suite="noble"))
    assert caught.value.hint == "`apt-get install ubuntu-keyring gpg` brings the keys of ubuntu"


def test_another_failure_shows_the_end_of_the_log(tool: Tool, make: Make) -> None:
    tool.says("".join(f"line {number}\n" for number in range(50)), status=7)
    with pytest.raises(BuildFailed) as caught:
        make()
    assert caught.value.tail == tuple(f"line {number}" for number in range(30, 50))
    assert (caught.value.status, caught.value.step) == (7, "debian bookworm")
