"""Where things are and what is asked for: arguments and environment become a session."""

import argparse
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from sandboxfile import account, durations, lockfile, reading, recall, writing
from sandboxfile.ahead import Beside, is_possible
from sandboxfile.blobs import Blobs
from sandboxfile.cancel import Cancel
from sandboxfile.config import finding, packed
from sandboxfile.config.given import Given
from sandboxfile.copied import Copies
from sandboxfile.durations import History
from sandboxfile.errors import ConfigError, SandboxfileError, UsageError
from sandboxfile.events import Emit
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.lockfile import ENGINE_PREFIX, Lock
from sandboxfile.model import LEGACY_DOMAINS, Target, Workspace
from sandboxfile.recall import Recall
from sandboxfile.redact import Redactor
from sandboxfile.statcache import SLACK_NS, StatCache

T = TypeVar("T")
STATE = ".sandboxfile"
_IGNORE = ".gitignore"
HASHES = "stat-cache"
SNAPSHOTS_AT_ONCE = 32
LOCK = "novita.lock"
LOCAL_LOCK = "novita.local.lock"
_LISTED = 20  # names in a hint


# --- where things are ------------------------------------------------------------------------


def state(root: Path) -> Path:
    """Return the directory of state that may be lost, made with its own .gitignore, or not at all.

    Raises SandboxfileError where it cannot be made.
    """
    check_own(root / STATE)
    return _made(root / STATE)


def kept(root: Path) -> Path:
    """Return the directory of state for who only looks; it is not there where it cannot be made.

    That is in a checkout that cannot be written, or on a full disk. Raises SandboxfileError for
    what is no state of ours.
    """
    check_own(root / STATE)
    with suppress(SandboxfileError):
        _made(root / STATE)
    return root / STATE


def _made(directory: Path) -> Path:
    try:
        if not _is_ignored(directory):
            directory.mkdir(mode=0o700, exist_ok=True)
            writing.whole(directory / _IGNORE, b"*\n")
    except OSError as error:
        with suppress(OSError):  # there is something in it, or it is not there
            directory.rmdir()
        hint = "sandboxfile keeps caches, logs and its journal there"
        if os.path.lexists(directory):
            hint += "; if another user has made it, with `sudo` perhaps, remove it as that one"
        text = f"the directory `{directory}` cannot be made or used: {error.strerror}"
        raise SandboxfileError(text, hint=hint) from None
    return directory


def _is_ignored(directory: Path) -> bool:
    try:
        return (directory / _IGNORE).stat().st_size > 0  # a full disk may have left an empty one
    except FileNotFoundError:
        return False


def check_own(directory: Path) -> None:
    """Refuse what is neither file nor directory in the state directory.

    A checkout may bring a link, which we would follow, or a FIFO, at which we would wait.
    """
    if not os.path.lexists(directory):
        return
    _check_kind(directory, directory, "a directory")
    waiting = [os.fspath(directory)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for each in found:  # thousands, in a workspace of a thousand templates: no `lstat`
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)
                elif not each.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # another run has put it away just now
                        _check_kind(Path(each.path), directory, "a file")


def _check_kind(path: Path, directory: Path, wanted: str) -> None:
    mode = path.lstat().st_mode
    is_good = stat.S_ISDIR(mode) if wanted == "a directory" else stat.S_ISREG(mode)
    if not is_good:
        what = "is a link" if stat.S_ISLNK(mode) else f"is not {wanted}"
        raise SandboxfileError(f"`{path}` {what}", hint=f"remove `{directory}`")


def data(environ: Mapping[str, str], home: Path) -> Path:
    """Return the per-user directory of the local template service (XDG base directories)."""
    return Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "sandboxfile"


def cache(environ: Mapping[str, str], home: Path) -> Path:
    """Return the per-user directory of bootstrapped bases (XDG base directories)."""
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "sandboxfile"


def lock_path(workspace: Workspace, target: Target) -> Path:
    """Return the lock that keeps a target's results; results of `local` are this machine's."""
    return workspace.root / (LOCAL_LOCK if target.provider == "local" else LOCK)


def digests(state: Path, copies: Copies | None = None, *, sparing: bool = False) -> StatCache:
    """Return the content hashes of a workspace's files, those read for `copies` too."""
    return StatCache.open(state / HASHES, root=state.parent, helper=copies, sparing=sparing)


def copies(args: argparse.Namespace) -> Copies | None:
    """Begin to find what all templates copy, before they are known, where no hashes are kept."""
    try:
        path = finding.find(Path.cwd(), args.file)
        root = Path(os.path.abspath(path)).parent.resolve()  # noqa: PTH100 - keeps the last link
    except (ConfigError, OSError):  # whoever loads it says so
        return None
    known = args.look.record  # of nearly all that is looked at, unless templates were left open
    if (known is not None and not known.open) or os.path.lexists(root / STATE / HASHES):
        return None
    from sandboxfile import prefetch

    blobs = None if getattr(args, "force", False) else Blobs(root, args.environ)
    return prefetch.begun(root / path.name, root, blobs)


# --- what the user asks for ------------------------------------------------------------------


def workspace(args: argparse.Namespace) -> Workspace:
    """Find and load the `novita.yaml` of this directory. Raises ConfigError."""
    since = time.time_ns()
    path = finding.find(Path.cwd(), args.file)
    found = packed.read(path.parent / STATE / "workspace", path, given(args))
    if found is None:
        from sandboxfile.config import load  # and all that reads YAML

        found = load.load(path, given(args))
        keep(args, found, since=since)
    return found


def keep(args: argparse.Namespace, workspace: Workspace, *, since: int) -> None:
    """Keep a workspace whose loading began at `since` (ns) for later runs, in a state directory."""
    with suppress(OSError, ConfigError):  # it only saves time
        path = finding.find(Path.cwd(), args.file)
        kept = path.parent / STATE / "workspace"
        if kept.parent.is_dir() and not kept.parent.is_symlink():  # a link may be brought along
            packed.write(kept, path, given(args), workspace, since=since)


def given(args: argparse.Namespace) -> Given:
    """Return what this run says of variables; of two `--var` for one the later counts."""
    return Given(options=dict(args.var or ()), environ=args.environ)


def target(args: argparse.Namespace, workspace: Workspace) -> tuple[Target, str]:
    """Return the target of this run and why it is that one (README, Targets)."""
    environ = args.environ
    if args.target:
        name, why = args.target, "asked for"
    elif workspace.default_target:
        name, why = workspace.default_target, "`default_target` of novita.yaml"
    elif environ.get("SANDBOXFILE_TARGET"):
        name, why = environ["SANDBOXFILE_TARGET"], "SANDBOXFILE_TARGET"
    else:
        name, why = _by_account(args, workspace)
    if name not in workspace.targets:
        known = ", ".join(workspace.targets)
        raise UsageError(f"no target is called `{name}`", hint=f"targets: {known}")
    return _with_address(workspace.targets[name], environ), why


def _by_account(args: argparse.Namespace, workspace: Workspace) -> tuple[str, str]:
    """Choose by whether there is an account, and a target to use it at."""
    found = account.find(args.environ, args.home)
    if found is None:
        return "local", "no API key is at hand"
    remote = [name for name, each in workspace.targets.items() if each.provider != "local"]
    if "novita" in remote:
        return "novita", f"an API key is at hand ({found.source})"
    if len(remote) == 1:
        return remote[0], f"an API key is at hand ({found.source}), and there is no other target"
    if remote:
        raise UsageError(
            f"an API key is at hand ({found.source}), and there are several targets for it",
            hint=f"choose one with `--target`, or as `default_target`: {', '.join(remote)}",
        )
    return "local", "there is no other target"


def _with_address(target: Target, environ: Mapping[str, str]) -> Target:
    """Fill in what the environment says about a target that names no address itself."""
    if target.provider == "local" or target.api_url:
        return target
    if target.domain:
        return replace(target, api_url=f"https://api.{target.domain}")
    domain = environ.get("NOVITA_DOMAIN") or environ.get("E2B_DOMAIN") or account.DEFAULT_DOMAIN
    url = environ.get("NOVITA_API_URL") or environ.get("E2B_API_URL") or f"https://api.{domain}"
    legacy = domain in LEGACY_DOMAINS
    named = environ.get("SANDBOXFILE_REGISTRY") if target.registry is None else None
    return replace(
        target,
        domain=domain,
        api_url=url.rstrip("/"),
        api="v1" if legacy else target.api,
        builder="docker" if legacy or named else target.builder,
        registry=target.registry or named or None,
    )


def builds_at_once() -> int:
    """Return how many images are built at once: an engine gains little from more than four."""
    return min(4, 2 * (os.cpu_count() or 1))


def at_once(builds: int) -> Mapping[str, int]:
    """Return how many jobs of each kind run at once: the engine's, the registry's, the service's.

    Snapshots are the service's work; how many it takes is learned (`targets.room`).
    """
    return {
        "generate": builds,
        "build": builds,
        "push": builds,
        "snapshot": SNAPSHOTS_AT_ONCE,
        "tag": builds,
    }


def trusted_hosts(environ: Mapping[str, str], home: Path) -> frozenset[str]:
    """Return the hosts that the operator trusts: the environment's and the user's own file's."""
    named = environ.get("SANDBOXFILE_TRUSTED_HOSTS", "").replace(",", " ").split()
    file = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "sandboxfile/trusted-hosts"
    try:
        named += file.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        hint = "it holds names of hosts, one a line: correct it, or remove it"
        raise SandboxfileError(f"`{file}` cannot be read: {error}", hint=hint) from None
    return frozenset(host.lower() for host in named)


# --- the parts of a run ----------------------------------------------------------------------


def _nothing() -> None:
    """Close a part that holds nothing open."""


class Secrets:
    """Values of build secrets in files of the user alone, gone when the session closes."""

    def __init__(self, workspace: Workspace, environ: Mapping[str, str]) -> None:
        self._sources = workspace.secrets
        self._root = workspace.root
        self._environ = environ
        self._directory: Path | None = None
        self._open = ExitStack()
        self._lock = threading.Lock()

    def file(self, name: str) -> Path:
        """Return the file of a secret. Raises SandboxfileError when its source has nothing."""
        source = self._sources[name]
        if source.file is not None:
            hint = f"write it, or name another one in `secrets: {{{name}: {{file: ...}}}}`"
            try:
                real = reading.inside(source.file, self._root)
            except OSError as error:
                text = f"the file of secret `{name}`: {error.strerror}"
                raise SandboxfileError(text, hint=hint, at=source.at) from None
            if not real.is_file():
                text = f"the file of secret `{name}` is not there: {source.file}"
                raise SandboxfileError(text, hint=hint, at=source.at)
            return real
        value = self._environ.get(source.env or "")
        if value is None:
            raise SandboxfileError(
                f"secret `{name}` is to come from `{source.env}`, which is not set",
                hint=f"set `{source.env}` where you run sandboxfile",
                at=source.at,
            )
        with self._lock:
            if self._directory is None:
                from tempfile import TemporaryDirectory

                made = self._open.enter_context(TemporaryDirectory(prefix="sandboxfile-"))
                self._directory = Path(made)
            path = self._directory / name
            if not path.exists():  # others may be reading it by now
                path.touch(mode=0o600)
                path.write_text(value, encoding="utf-8")
            return path

    def close(self) -> None:
        self._open.close()


@dataclass(slots=True, kw_only=True)
class Session:
    """The real parts of one run, each opened when it is first needed and closed at the end."""

    args: argparse.Namespace
    workspace: Workspace
    target: Target
    emit: Emit
    redactor: Redactor
    copies: Copies | None = None
    is_first: bool = False  # whether no earlier run has left anything here
    cancel: Cancel = field(default_factory=Cancel)
    _open: dict[str, object] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._open:
                self._open[name] = make()
            part: T = self._open[name]  # type: ignore[assignment]
            return part

    def close(self) -> None:
        """Close what was opened, the last first."""
        with ExitStack() as stack:  # one that fails does not keep the others open
            for part in self._open.values():
                stack.callback(getattr(part, "close", _nothing))
            self._open.clear()

    @property
    def state(self) -> Path:
        """The state directory; what is in it is looked at once in a run."""
        return self.once("state", lambda: _made(self.kept))

    @property
    def kept(self) -> Path:
        """The state directory for who only looks: it need not be there."""
        return self.once("kept", lambda: kept(self.workspace.root))

    @property
    def journal_path(self) -> Path:
        return self.kept / "journal" / f"{self.target.name}.jsonl"

    @property
    def lock_path(self) -> Path:
        return lock_path(self.workspace, self.target)

    def locks(self, known: Collection[str] = ()) -> tuple[Lock, Mapping[str, str]]:
        """Return the target's lock, and what is resolved: the shared lock's and this machine's.

        `known` are the SHA-256 of locks that an earlier run has checked.
        """
        read = partial(lockfile.read, known=known)
        shared = read(self.workspace.root / LOCK)
        own = read(self.lock_path) if self.lock_path.name != LOCK else shared
        local = self.workspace.root / LOCAL_LOCK
        here = own if self.lock_path == local else read(local)
        resolved = {**here.resolved, **shared.resolved}
        if self.target.builder == "remote":  # it has no images of this machine's engine
            resolved = {n: v for n, v in resolved.items() if not n.startswith(ENGINE_PREFIX)}
        return own, resolved

    def digests(self, *, sparing: bool = False) -> StatCache:
        """Return the content hashes of files; `sparing` counts when they are first asked for."""
        return self.once("digests", lambda: digests(self.kept, self.copies, sparing=sparing))

    @property
    def blobs(self) -> Blobs:
        """What git says of the files."""
        of_copies = self.copies.blobs if self.copies else None
        return self.once(
            "blobs", lambda: of_copies or Blobs(self.workspace.root, self.args.environ)
        )

    def recall(self, resolved: Mapping[str, str]) -> Recall | None:
        """Return what is known of earlier surveys with the same bases, None where nothing can be.

        That is while the configuration is so young that another one may have been loaded.
        """
        since = getattr(self.args, "since", None)  # set by `main`
        identity, newest = self.once("identity", self._identity)
        if since is None or newest + SLACK_NS > since:
            return None
        builder, root = self.target.builder, self.workspace.root
        name = recall.name(identity, builder, sorted(resolved.items()))
        file = root / STATE / f"survey-{builder}"
        make = partial(Recall, file, name, root=root, since=since)
        return self.once(f"recall {name.hex()}", make)

    def _identity(self) -> tuple[bytes, int]:
        return packed.identity(self.workspace.file, given(self.args), self.workspace)

    def beside(self, work: Callable[[], None]) -> None:
        """Do what leaves its traces in files alone: in another process, where that has a core.

        It has ended when the session is closed.
        """
        if is_possible():
            with self._lock, suppress(OSError):  # there may be too many processes
                self._open[f"beside {len(self._open)}"] = Beside(work)
                return
        work()

    def keep_workspace(self) -> None:
        """Keep the workspace for later runs, if there was no place for it when it was loaded."""
        since = getattr(self.args, "since", None)  # set by `main`
        if since is not None and not reading.exists(self.workspace.root / STATE / "workspace"):
            keep(self.args, self.workspace, since=since)

    def git_sha(self) -> str | None:
        """Return the commit that is checked out, None outside a repository."""
        from sandboxfile import git
        from sandboxfile.process import run

        done = run(git.command(self.workspace.root, "rev-parse", "HEAD"))
        return done.stdout.strip() if done.status == 0 else None

    def history(self) -> History:
        """Return what earlier runs of this workspace took."""
        return durations.read(self.workspace.root / STATE / durations.FILE)

    def secret(self, name: str) -> Path:
        """Return a file with the value of a build secret, for as long as the session is open."""
        make = lambda: Secrets(self.workspace, self.args.environ)  # noqa: E731
        return self.once("secrets", make).file(name)

    def entries(self) -> Mapping[str, lockfile.Entry]:
        return lockfile.read(self.lock_path).targets.get(self.target.name, {})
