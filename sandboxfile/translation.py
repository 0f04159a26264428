"""Carry out a user's own Dockerfile as steps of a service that builds (`builder: remote`). Pure.

Each instruction of the target stage, and of those that it is `FROM`, becomes instructions of a
template with the same meaning; what has none at the service is refused at its own line. Rules are
those of the Dockerfile reference, and of BuildKit where builders differ.

Values may come from the image, which nobody may have been asked about yet: nothing is complained
of then that it could decide. What is to be sent is the same with and without the image.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from posixpath import join as joined
from posixpath import normpath
from shlex import join, quote

from sandboxfile import environment, expansion, inherit, scripts
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.model import Copy, DockerfileBase, Env, ImageConfig, Instruction, Run, Workdir
from sandboxfile.patterns import regex
from sandboxfile.places import Position, Problem
from sandboxfile.reference import ImageReference
from sandboxfile.userdockerfile import Instruction as Written
from sandboxfile.userdockerfile import UserDockerfile

HINT = "build here instead: `builder: docker`, with a `registry`"

_SHELL = ("/bin/sh", "-c")
_IGNORED = frozenset({"EXPOSE", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME"})
# Variables that the files of the environment do not have, or that bash does not export.
_NOT_KEPT = inherit.SESSION | {"SOURCE_DATE_EPOCH", *scripts.READ_ONLY.split("|")}
# What every RUN has when it is given, without an ARG (Dockerfile reference, predefined ARGs).
_PROXIES = frozenset(
    each
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for each in (name, name.upper())
)
_FRONTENDS = frozenset({"docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"})
_PLATFORMS = frozenset({"linux/amd64", "linux/x86_64"})
_FLAG = regex(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_CACHE = regex(r"(?:.*,)?type=cache(?:,.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A Dockerfile in our terms: what to carry out, and what the image would say of itself.

    `unpacking` has the numbers of the copies, from 1, that would unpack archives (`ADD`).
    """

    instructions: tuple[Instruction, ...]
    config: ImageConfig
    unpacking: frozenset[int]


def translate(
    dockerfile: UserDockerfile, base: DockerfileBase, image: ImageConfig | None
) -> Translation:
    """Translate a Dockerfile that begins with `image`, None while that is not known.

    Raises ConfigError with everything that the service cannot do, each at its place.
    """
    draft = _Draft(dockerfile=dockerfile, base=base, image=image)
    draft.begin()
    for written in dockerfile.final:
        draft.instruction(written)
    if draft.problems:
        raise ConfigError(draft.problems)
    return Translation(
        instructions=tuple(draft.found),
        config=draft.config(),
        unpacking=frozenset(draft.unpacking),
    )


@dataclass(slots=True, kw_only=True)
class _Draft:
    """The translation as it grows: what the next instruction finds.

    `doubtful` are the variables whose value the image decides and is not known.
    """

    dockerfile: UserDockerfile
    base: DockerfileBase
    image: ImageConfig | None
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    user: str = ""
    directory: str = "/"
    shell: tuple[str, ...] = _SHELL
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    has_cmd: bool = False
    has_healthcheck: bool = False
    copied: int = 0
    unpacking: set[int] = field(default_factory=set)
    found: list[Instruction] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def begin(self) -> None:
        """Take over what the image says of itself."""
        image = self.image or ImageConfig()
        if self.image is not None:
            self.environment = {"PATH": environment.PATH, **image.env}
        self.user = image.user
        self.directory = image.workdir or "/"
        self.shell = image.shell or _SHELL
        self.entrypoint, self.cmd = image.entrypoint, image.cmd
        self.has_healthcheck = image.has_healthcheck
        given = {name: value for name, value in self.base.args.items() if name in _PROXIES}
        self.arguments.update(given)
        at = self.dockerfile.final[0].at
        if not self.dockerfile.base:
            self.refuse(at, "the service cannot begin with nothing (`FROM scratch`)")
        if image.on_build:
            text = f"the service cannot carry out `ONBUILD {image.on_build[0]}` of the image"
            self.refuse(at, text)
        self._check_frontend(Position(at.file, 1, 1))

    def _check_frontend(self, at: Position) -> None:
        name = self.dockerfile.syntax
        if name is None:
            return
        try:
            reference = ImageReference.parse(name)
        except ValueError:
            is_known = False
        else:
            is_known = f"{reference.registry}/{reference.repository}" in _FRONTENDS
        if not is_known:
            self.refuse(at, f"the service cannot read the language of `# syntax={name}`")

    def config(self) -> ImageConfig:
        return replace(
            self.image or ImageConfig(),
            env=self.environment,
            user=self.user,
            workdir=self.directory if self.directory != "/" else "",
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            has_healthcheck=self.has_healthcheck,
        )

    def refuse(self, at: Position, text: str, hint: str = HINT) -> None:
        self.problems.append(Problem(at, text, hint))

    def expand(self, text: str, at: Position) -> str | None:
        """Replace variables and quotes; None when the image decides, and after a problem."""
        is_doubtful = False

        def value(name: str) -> str | None:
            nonlocal is_doubtful
            found = self.environment.get(name, self.arguments.get(name))
            is_doubtful |= name in self.doubtful or (found is None and self.image is None)
            return found

        try:
            found = expansion.expanded(text, value, self.dockerfile.escape)
        except ValueError as error:
            if not is_doubtful:
                self.refuse(at, f"in `{text}`, {error}")
            return None
        return None if is_doubtful else found

    # --- one instruction -------------------------------------------------------------------

    def instruction(self, written: Written) -> None:
        if written.has_heredoc:
            text = f"the service cannot take the here-document of this `{written.keyword}`"
            self.refuse(written.at, text, f"put it in a file of the context, or {HINT}")
        elif written.keyword not in _IGNORED:
            self._actions.get(written.keyword, self._unable)(written)

    @property
    def _actions(self) -> Mapping[str, Callable[[Written], None]]:
        return {
            "ADD": self._copy,
            "ARG": self._arg,
            "CMD": self._cmd,
            "COPY": self._copy,
            "ENTRYPOINT": self._entrypoint,
            "ENV": self._env,
            "FROM": self._from,
            "HEALTHCHECK": self._healthcheck,
            "RUN": self._run,
            "SHELL": self._set_shell,
            "USER": self._user,
            "WORKDIR": self._workdir,
        }

    def _unable(self, written: Written) -> None:
        self.refuse(written.at, f"the service cannot carry out `{written.keyword}`")

    def _from(self, written: Written) -> None:
        self.has_cmd = False  # what the stage above says is the image's now
        for flag in (word for word in written.words if word.startswith("--")):
            name, _, value = flag.partition("=")
            get = self.dockerfile.arguments.get
            platform = expansion.expanded(value, get, self.dockerfile.escape)
            if name != "--platform" or platform not in _PLATFORMS:
                self.refuse(written.at, f"the service cannot do `{flag}`")

    def _healthcheck(self, written: Written) -> None:
        self.has_healthcheck = written.text.upper() != "NONE"

    # --- variables -------------------------------------------------------------------------

    def _arg(self, written: Written) -> None:
        for word in written.words:
            name, equals, default = word.partition("=")
            value: str | None = self.dockerfile.arguments.get(name)
            is_doubtful = False
            if name in self.base.args:
                value = self.base.args[name]
            elif equals:
                value = self.expand(default, written.at)
                is_doubtful = value is None
                value = value or ""
            if value is not None:
                self._declare(name, value, written.at, is_doubtful=is_doubtful)

    def _declare(self, name: str, value: str, at: Position, *, is_doubtful: bool) -> None:
        if self.arguments.setdefault(name, value) != value:
            text = f"`ARG {name}` is declared before with another value"
            self.refuse(at, text, "builders differ in which of them counts: keep one")
        if is_doubtful and name not in self.environment:
            self.doubtful.add(name)

    def _env(self, written: Written) -> None:
        words = written.words
        if not words:
            self.refuse(written.at, "`ENV` needs a name and a value", "write `ENV NAME=value`")
            return
        pairs = [word.partition("=")[::2] for word in words]
        if "=" not in words[0]:
            pairs = [(words[0], written.text[len(words[0]) :].strip())]
        elif any("=" not in word for word in words):
            self.refuse(written.at, "`ENV` needs `NAME=value`", "write each so, quoted as needed")
            return
        # All of them are replaced by what was there before the first.
        values = {name: self.expand(value, written.at) for name, value in pairs}
        self.environment.update({name: value or "" for name, value in values.items()})
        self.doubtful -= values.keys()
        self.doubtful |= {name for name, value in values.items() if value is None}
        lasting = {name: value or "" for name, value in values.items() if _is_lasting(name)}
        if lasting:
            self.found.append(Env(values=lasting, at=written.at))

    def _passed(self) -> dict[str, str]:
        """Return the variables that a command has and the files of the environment have not."""
        args = {n: v for n, v in self.arguments.items() if n not in self.environment}
        return args | {n: v for n, v in self.environment.items() if not _is_lasting(n)}

    # --- commands --------------------------------------------------------------------------

    def _run(self, written: Written) -> None:
        flags, rest = _flags(written.text)
        for flag in flags:
            if flag.name != "mount" or not _CACHE.fullmatch(flag.value):
                self.refuse(written.at, f"the service cannot do `{flag.text}` of `RUN`")
        argv = _list(rest)
        if not rest or argv == ():
            self.refuse(written.at, "`RUN` needs a command", "write one")
            return
        script = rest
        if argv is not None:
            script = f"exec {join(argv)}"
        elif self.shell != _SHELL:
            script = f"exec {join((*self.shell, rest))}"
        if passed := self._passed():
            script = scripts.with_variables(passed, argv or (*self.shell, rest))
        name, _, group = self.user.partition(":")
        if group and not _is_root(self.user):
            script = f"{_guard(group)}; {script}"
        self.found.append(Run(command=script, user=_who(name), at=written.at))

    def _set_shell(self, written: Written) -> None:
        found = _list(written.text)
        if not found:
            self.refuse(written.at, "`SHELL` needs a list", 'write it as `["/bin/sh", "-c"]`')
        else:
            self.shell = found

    def _command(self, text: str) -> tuple[str, ...]:
        found = _list(text)
        return found if found is not None else (*self.shell, text)

    def _cmd(self, written: Written) -> None:
        self.cmd, self.has_cmd = self._command(written.text), True

    def _entrypoint(self, written: Written) -> None:
        self.entrypoint = self._command(written.text)
        if not self.has_cmd:
            self.cmd = ()  # it was meant for another entrypoint

    # --- user and directory ----------------------------------------------------------------

    def _user(self, written: Written) -> None:
        user = self.expand(written.text, written.at)
        if user == "":
            self.refuse(written.at, "`USER` needs a name", "write one")
        self.user = user or ""

    def _workdir(self, written: Written) -> None:
        path = self.expand(written.text, written.at)
        if path == "":
            self.refuse(written.at, "`WORKDIR` needs a path", "write one")
        self.directory = _tidy(joined(self.directory, path or "."))
        if not _is_root(self.user):
            script = _own(self.directory, self.user)
            self.found.append(Run(command=script, at=written.at))
        self.found.append(Workdir(path=self.directory, at=written.at))

    # --- files -----------------------------------------------------------------------------

    def _copy(self, written: Written) -> None:
        flags, rest = _flags(written.text)
        found = _list(rest)
        *sources, to = found if found is not None else rest.split()
        if not sources:
            self.refuse(written.at, f"`{written.keyword}` needs sources and a destination", "")
            return
        options = {flag.name: self._option(flag, written) for flag in flags}
        paths = [self._source(each, written) for each in sources]
        target = self._destination(to, paths, written)
        if written.keyword == "ADD":
            self.unpacking.add(self.copied + 1)
        self.copied += 1
        self.found.append(
            Copy(
                sources=tuple(path or "." for path in paths),
                to=target,
                root=self.base.context,
                owner=_owner(options.get("chown")),
                mode=options.get("chmod") or None,
                at=written.at,
            )
        )

    def _option(self, flag: "_Flag", written: Written) -> str | None:
        if flag.name in {"chown", "chmod"}:
            return self.expand(flag.value, written.at)
        if flag.name != "link":  # says how layers are made, and nothing of what is in them
            self.refuse(written.at, f"the service cannot do `{flag.text}` of `{written.keyword}`")
        return None

    def _source(self, text: str, written: Written) -> str | None:
        """Return a source relative to the context, which nothing leads out of."""
        path = self.expand(text, written.at)
        if path is None:
            if self.image is None:
                message = f"what `{text}` names is decided by the image, or by nothing"
                self.refuse(written.at, message, "set the variable with `ARG` or `ENV` before")
        elif _is_far(path) and written.keyword == "ADD":
            hint = f"fetch it with `RUN`, or {HINT}"
            self.refuse(written.at, f"the service cannot `ADD` what is elsewhere: `{path}`", hint)
        elif "**" in path:
            self.refuse(written.at, f"builders differ in what `{path}` matches", "write it plainly")
        else:
            slash = "/" if path.endswith("/") else ""
            return (normpath("/" + path).strip("/") + slash).removeprefix("/") or "."
        return None

    def _destination(self, text: str, sources: list[str | None], written: Written) -> str:
        path = self.expand(text, written.at)
        if path is None:
            return "/"
        is_directory = path.endswith(("/", "/.")) or path == "."
        if not is_directory and (len(sources) > 1 or any(map(_is_glob, sources))):
            message = f"`{text}` must end in `/`: there may be several files for it"
            self.refuse(written.at, message, "write the `/`, or name one file")
        found = _tidy(joined(self.directory, path))
        return found.rstrip("/") + "/" if is_directory else found


# --- words -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flag:
    name: str
    value: str
    text: str


def _flags(text: str) -> tuple[tuple[_Flag, ...], str]:
    """Split the options off the beginning of an instruction."""
    flags = []
    while found := _FLAG.match(text):
        flags.append(_Flag(name=found[1], value=found[2] or "", text=found[0].strip()))
        text = text[found.end() :]
    return tuple(flags), text


def _list(text: str) -> tuple[str, ...] | None:
    """Read the exec form, a list in JSON; None for the shell form, which all else is."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return tuple(found) if all(isinstance(each, str) for each in found) else None


def _tidy(path: str) -> str:
    return "/" + normpath(path).lstrip("/")


def _is_lasting(name: str) -> bool:
    return inherit.is_variable(name) and name not in _NOT_KEPT


def _is_far(path: str) -> bool:
    return bool(re.match(r"[a-z][a-z0-9+.-]*://|git@", path, re.IGNORECASE))


def _is_glob(path: str | None) -> bool:
    return path is not None and any(letter in path for letter in "*?[\\")


def _is_root(user: str) -> bool:
    return all(part in inherit.ROOT for part in user.split(":"))


def _who(name: str) -> str | None:
    return None if name in inherit.ROOT else name


def _owner(owner: str | None) -> str | None:
    # A number without a group is the group's too (Dockerfile reference, `COPY --chown`).
    return f"{owner}:{owner}" if owner and owner.isdigit() else owner or None


def _guard(group: str) -> str:
    """Return what ends a command unless it has the group that the Dockerfile wants."""
    wanted = "-g" if group.isdigit() else "-gn"
    message = quote(f"the group of this user is not `{group}`, and the service takes no other")
    return f'[ "$(id {wanted})" = {quote(group)} ] || {{ echo {message} >&2; exit 1; }}'


def _own(path: str, user: str) -> str:
    """Make a directory and those above it, each that is new as the user's own."""
    whom = quote(user if ":" in user or user.isdigit() else f"{user}:")
    return "; ".join(["set -e", *(_own_one(quote(each), whom) for each in _above(path))])


def _own_one(path: str, whom: str) -> str:
    return f"if [ ! -d {path} ]; then mkdir -- {path}; chown -- {whom} {path}; fi"


def _above(path: str) -> Iterator[str]:
    parts = path.strip("/").split("/")
    return ("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))
