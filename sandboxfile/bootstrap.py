"""Root filesystems made from a distribution's own packages, by mmdebstrap, the same each time.

The archive depends on the base as written, the mirror and the packages there: times are clamped
to `epoch`, and what a machine or a run would leave in it is taken out. A made archive stays in
the cache as `<sha256>.tar`, and beside it a record of what it was made from.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandboxfile import flock, process
from sandboxfile.cancel import Cancel
from sandboxfile.errors import BuildFailed, ConfigError, SandboxfileError, Unreachable
from sandboxfile.events import Emit, Log, Notice, StepDone, StepStarted
from sandboxfile.frozen import dataclass
from sandboxfile.model import BootstrapBase
from sandboxfile.patterns import regex
from sandboxfile.places import Problem
from sandboxfile.process import Command, Outcome

JOB = "bootstrap"
SNAPSHOT = "{snapshot}"  # where a mirror's address takes the timestamp
MISSING = "`apt-get install mmdebstrap` brings it; or choose an image as the base"
POLL_S = 0.1
TAIL = 20  # lines

# Hooks of mmdebstrap: `sh` scripts outside the new root, which is $1.
_IS_DISTRIBUTION = (
    'grep -qx "ID={0}" "$1/usr/lib/os-release" || {{ echo "sandboxfile: not {0}" >&2; exit 1; }}'
)
# The line in which mmdebstrap repeats such a script: code of ours, which tells a user nothing.
_HOOK = "I: running --"
# The key file is named there only if apt on *this* machine does not trust the key anyway.
_SOURCES = (
    'if ls "$1"/etc/apt/trusted.gpg.d/*.* >/dev/null 2>&1; then '
    """sed -i 's/ \\[signed-by="[^"]*"\\]//' "$1"/etc/apt/sources.list; fi"""
)
# This machine's names, keys drawn by chance, and second copies with the times of the run.
_REMOVE = (
    'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/ssh/ssh_host_* '
    '"$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old'
)
# Downloaded lists and their parsed caches are most of what apt leaves in an image.
_APT = (
    'Acquire::Languages "none"',
    'Dir::Cache::pkgcache ""',
    'Dir::Cache::srcpkgcache ""',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A root filesystem as an uncompressed tar file; `digest` is `sha256:` of its bytes."""

    path: Path
    digest: str


def cached(base: BootstrapBase, cache: Path, mirror: str | None = None) -> Archive | None:
    """Return the archive that was made for this base, if it is still there and unchanged.

    Raises ConfigError as `archive` does.
    """
    return _recorded(cache, _spec(_arguments(base, mirror), base))


def kept(cache: Path, digest: str) -> Archive | None:
    """Return the archive of this digest, if it was made here, whatever was made since."""
    path = cache / _file_name(digest)
    try:
        return Archive(path=path, digest=digest) if _digest(path) == digest else None
    except OSError:
        return None


def archive(
    base: BootstrapBase,
    *,
    cache: Path,
    mirror: str | None = None,
    emit: Emit,
    cancel: Cancel,
    anew: bool = False,
) -> Archive:
    """Make the root filesystem of `base`, or take it from `cache`; runs that overlap make it once.

    Made `anew` it has the packages that the mirror has now; what it was before is kept too.

    `mirror` is the operator's and goes before the base's own; with neither it is the one that
    mmdebstrap knows for the suite. With `snapshot`, that of the two counts which has the
    place-holder `{snapshot}` for the timestamp; no address of an archive is built in.

    Raises ConfigError (the base's words), Unreachable (mmdebstrap, the mirror or its key is not
    there), SandboxfileError (no such suite or package), BuildFailed, Cancelled.
    """
    arguments = _arguments(base, mirror)
    spec = _spec(arguments, base)
    _prepare(cache)
    run = _Run(base=base, arguments=arguments, emit=emit, cancel=cancel)
    with _locked(cache / f"{spec}.lock", run):
        return (None if anew else _recorded(cache, spec)) or _make(run, cache / spec)


# --- what is asked of mmdebstrap -------------------------------------------------------------


def _arguments(base: BootstrapBase, mirror: str | None) -> tuple[str, ...]:
    """Return everything that decides the result: options, suite, mirror; not the target."""
    address = _address(base, mirror)
    options = [
        "--variant=minbase",
        "--mode=auto",
        "--format=tar",
        "--architectures=amd64",
        f"--components={','.join(base.components)}",
        *(f"--aptopt={option}" for option in _APT),
        f"--extract-hook={_IS_DISTRIBUTION.format(base.distribution)}",
        f"--customize-hook={_SOURCES}",
        f"--customize-hook={_REMOVE}",
    ]
    if base.snapshot:
        options.append('--aptopt=Acquire::Check-Valid-Until "false"')  # a snapshot grows old
    if base.include:
        options.append(f"--include={','.join(sorted(set(base.include)))}")
    return (*options, "--", base.suite, *([address] if address else []))


_WORDS = (
    # One package of `include` is a name, with `=version` or `/suite`; never an option or a path.
    ("include", regex(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:[=/][A-Za-z0-9.+:~-]+)?")),
    ("components", regex(r"[a-z0-9][a-z0-9/-]*")),
    ("suite", regex(r"[A-Za-z0-9][A-Za-z0-9._/-]*")),
    ("snapshot", regex(r"[0-9]{8}T[0-9]{6}Z")),
)
_MIRROR = regex(r"(?:https?|file)://[^\s\[\]@]+")


def _address(base: BootstrapBase, operators: str | None) -> str | None:
    """Return the mirror's address, with everything checked that becomes an argument."""
    wrong = [
        f"`{word}` is not allowed in `{key}`"
        for key, grammar in _WORDS
        for word in _words(getattr(base, key))
        if not grammar.fullmatch(word)
    ]
    given = [address for address in (operators, base.mirror) if address]
    # Square brackets would be options of apt's sources, and a password would be in the image.
    if any(not _MIRROR.fullmatch(address) for address in given):
        wrong.append("the mirror is not an http, https or file address without user and password")
    if wrong:
        raise ConfigError(Problem(base.at, text) for text in wrong)
    fitting = [each for each in given if (SNAPSHOT in each) == (base.snapshot is not None)]
    if not fitting and base.snapshot is not None:
        hint = (
            "name the distribution's snapshot archive there, or in SANDBOXFILE_MIRROR, "
            f"with `{SNAPSHOT}` for the timestamp"
        )
        what = f"`snapshot` needs a `mirror` with the place-holder `{SNAPSHOT}`"
        raise ConfigError([Problem(base.at, what, hint=hint)])
    if not fitting and given:
        what = f"the mirror has the place-holder `{SNAPSHOT}`, and no `snapshot` is given"
        raise ConfigError([Problem(base.at, what, hint="add `snapshot: YYYYMMDDTHHMMSSZ`")])
    return fitting[0].replace(SNAPSHOT, base.snapshot or "") if fitting else None


def _words(value: tuple[str, ...] | str | None) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,) if value is not None else ()


def _spec(arguments: tuple[str, ...], base: BootstrapBase) -> str:
    content = json.dumps([arguments, base.epoch])
    return hashlib.sha256(content.encode()).hexdigest()


# --- the cache -------------------------------------------------------------------------------


def _prepare(cache: Path) -> None:
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SandboxfileError(
            f"the directory `{cache}` cannot be made: {error.strerror}",
            hint="bootstrapped bases are kept there",
        ) from None


def _recorded(cache: Path, spec: str) -> Archive | None:
    """Return the recorded archive; one that was touched since has to have its digest still."""
    try:
        record = json.loads((cache / f"{spec}.json").read_bytes())
        digest, size, modified = record["digest"], record["size"], record["mtime_ns"]
        path = cache / _file_name(digest)
        stat = path.stat()
        intact = stat.st_size == size and (stat.st_mtime_ns == modified or _digest(path) == digest)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return Archive(path=path, digest=digest) if intact else None


def _file_name(digest: str) -> str:
    return digest.removeprefix("sha256:") + ".tar"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _keep(made: Path, entry: Path) -> Archive:
    """Move a finished archive to its name and record it: on the disk first, then visible."""
    _sync(made)
    digest = _digest(made)
    path = entry.with_name(_file_name(digest))
    made.replace(path)
    stat = path.stat()
    record = {"digest": digest, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    partial = entry.with_suffix(".json.partial")
    partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
    _sync(partial)
    partial.replace(entry.with_suffix(".json"))
    return Archive(path=path, digest=digest)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path, run: "_Run") -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends; waiting for it can be cancelled."""
    with path.open("ab") as file:
        if not flock.attempt(file.fileno()):
            text = f"another run is making the base {_name(run.base)}; waiting for it"
            run.emit(Notice(job=JOB, text=text))
            while not flock.attempt(file.fileno()):
                run.cancel.wait(POLL_S)
        yield


# --- making it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One wish for a base: what, by which arguments, and who listens."""

    base: BootstrapBase
    arguments: tuple[str, ...]
    emit: Emit
    cancel: Cancel


def _make(run: _Run, entry: Path) -> Archive:
    step = _step(run.base)
    started = time.monotonic()
    for left in entry.parent.glob(f"{entry.name}*.partial"):
        left.unlink(missing_ok=True)
    # A mmdebstrap whose run was killed goes on, and must not write into what this one makes.
    partial = entry.with_name(f"{entry.name}.{os.urandom(4).hex()}.partial")
    run.emit(StepStarted(job=JOB, step=step))
    try:
        with _workplace() as workplace:
            outcome = process.run(
                _command(run, partial, workplace),
                on_line=lambda line: _tell(run, step, line),
                cancel=run.cancel,
            )
        if outcome.status:
            raise _failure(run.base, outcome)
        made = _keep(partial, entry)
    finally:
        partial.unlink(missing_ok=True)
    run.emit(StepDone(job=JOB, step=step, seconds=time.monotonic() - started))
    return made


def _tell(run: _Run, step: str, line: str) -> None:
    if not line.startswith(_HOOK):
        run.emit(Log(job=JOB, text=line, stream="stderr", step=step))


def _command(run: _Run, target: Path, workplace: Path) -> Command:
    at = run.arguments.index("--") + 2  # the target stands between suite and mirror
    env = {"SOURCE_DATE_EPOCH": str(run.base.epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return Command(
        argv=("mmdebstrap", *run.arguments[:at], str(target), *run.arguments[at:]),
        env=env | {"TMPDIR": str(workplace)},
        remedy=MISSING,
    )


@contextmanager
def _workplace() -> Iterator[Path]:
    """Make a directory for what mmdebstrap unpacks, which goes even if mmdebstrap is killed."""
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="sandboxfile-"))
    try:
        directory.chmod(0o755)  # apt works as a user of its own
        yield directory
    finally:
        _clear(directory)


def _clear(directory: Path) -> None:
    """Remove a directory, but nothing through a file system that is still mounted in it."""
    for mount in reversed(_mounts(directory)):
        with suppress(SandboxfileError):
            process.run(Command(argv=("umount", "--lazy", mount)))
    if not _mounts(directory):
        import shutil  # which loads compressors, in every run that asks for a base

        shutil.rmtree(directory, ignore_errors=True)


def _mounts(directory: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_bytes().splitlines()
    found = [os.fsdecode(re.sub(rb"\\([0-7]{3})", _character, line.split()[1])) for line in lines]
    return [mount for mount in found if mount.startswith(f"{directory}/")]


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])


def _name(base: BootstrapBase) -> str:
    return f"`{base.distribution}: {base.suite}`"


def _step(base: BootstrapBase) -> str:
    return f"{base.distribution} {base.suite}"


# --- what went wrong -------------------------------------------------------------------------

# Text, which a run in which nothing fails does not compile.
_PACKAGE = (
    r"E: (?:Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate"
    r"|Version '[^']+' for '([^']+)' was not found)"
)
_NO_SUITE = r"(?m)^E: The repository .* does not have a Release file"
_NO_KEY = r"(?i)NO_PUBKEY|Missing key|is not signed|no public key"
_NO_MIRROR = (
    r"(?m)^(?:E: )?(?:Failed to fetch|Err:\d|E: The repository .* does not have a Release file)"
    r"|Could not (?:resolve|connect)|Temporary failure resolving"
)
_NO_MODE = r"pick chroot mode|newuidmap|newgidmap|/etc/sub[ug]id|unshare\("
# What mmdebstrap adds after apt has said what is wrong.
_ECHO = r"E: (?:apt-get |setup failed|mmdebstrap failed|run_chroot failed)"


def _failure(base: BootstrapBase, outcome: Outcome) -> SandboxfileError:
    text, name = "\n".join(outcome.stderr), _name(base)
    if f"sandboxfile: not {base.distribution}" in outcome.stderr:
        return SandboxfileError(
            f"suite `{base.suite}` is not one of {base.distribution}",
            hint="write the distribution before the suite: `debian:` or `ubuntu:`",
            at=base.at,
        )
    if match := re.search(_PACKAGE, text):
        package = next(filter(None, match.groups()))
        return SandboxfileError(
            f"package `{package}` is not in {name}",
            hint=f"look at `include`, and at `components` ({', '.join(base.components)})",
            at=base.at,
        )
    if re.search(_NO_SUITE, text) and re.search(r"404 +Not Found|File not found", text):
        return SandboxfileError(
            f"suite `{base.suite}` of {base.distribution} is not at the mirror",
            hint="look at the spelling; an old suite needs a `mirror` that still has it",
            at=base.at,
        )
    if re.search(_NO_KEY, text):
        package = f"{'debian-archive' if base.distribution == 'debian' else 'ubuntu'}-keyring"
        return Unreachable(
            f"the packages of {name} cannot be checked: this machine has no key for them",
            hint=f"`apt-get install {package} gpg` brings the keys of {base.distribution}",
            at=base.at,
        )
    if re.search(_NO_MIRROR, text):
        return Unreachable(
            f"the mirror of {name} does not give its packages{_shown(outcome)}",
            hint="look at the network, or name another `mirror`",
            at=base.at,
        )
    if re.search(_NO_MODE, text):
        return Unreachable(
            f"mmdebstrap cannot make {name} as this user{_shown(outcome)}",
            hint="install `uidmap` and give the user a range in /etc/subuid and /etc/subgid, "
            "or run as root",
            at=base.at,
        )
    return BuildFailed(
        f"mmdebstrap could not make {name}",
        step=_step(base),
        status=outcome.status,
        tail=outcome.stderr[-TAIL:],
        at=base.at,
    )


def _shown(outcome: Outcome) -> str:
    """Return the last complaints of apt, each on a line of its own."""
    lines = [line for line in outcome.stderr if line.startswith("E: ")]
    return "".join(f"\n  {line}" for line in lines if not re.match(_ECHO, line))
