"""Say before anything is built what a template loses on its way to the service. Pure.

The service boots an image's files and looks at little else of it (docs/protocol.md, 3.6 to 3.10);
most of what it would lose is carried over by us (`inherit`), and the rest is told here, in seconds
instead of minutes, with a remedy.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal
from urllib.parse import urlsplit

from sandboxfile import distribution, expansion, inherit
from sandboxfile.distribution import Distribution
from sandboxfile.frozen import dataclass
from sandboxfile.model import (
    ImageConfig,
    Install,
    Ready,
    RemoteBase,
    Run,
    Target,
    Template,
    TemplateBase,
)
from sandboxfile.patterns import regex
from sandboxfile.places import Position
from sandboxfile.userdockerfile import Instruction, UserDockerfile

Level = Literal["error", "warning", "note"]
Service = Literal["novita", "compatible", "local"]
_ORDER: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that will not be as it is written; an error makes the build fail for certain."""

    level: Level
    text: str
    at: Position
    remedy: str = ""

    @property
    def plain(self) -> dict[str, str]:
        """The finding as data for `--json`."""
        return {"level": self.level, "text": self.text, "at": str(self.at), "hint": self.remedy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A template about to be built, and what is known of its base.

    `config` is what the base says of itself and `os_release` its /etc/os-release, None and "" while
    nobody could be asked. `dockerfile` is the user's own, as it was read, where there is one;
    `origin` then is what the image says that it begins with. `image` is the name of either.
    """

    template: Template
    target: Target
    image: str = ""
    config: ImageConfig | None = None
    origin: ImageConfig | None = None
    os_release: str = ""
    dockerfile: UserDockerfile | None = None

    @property
    def service(self) -> Service:
        return service_of(self.target)

    @property
    def is_remote(self) -> bool:
        """Whether the service itself carries out the instructions."""
        return self.target.builder == "remote" and self.service != "local"

    @property
    def distribution(self) -> Distribution | None:
        return distribution.find(self.image, self.config or self.origin, self.os_release)

    @property
    def is_image(self) -> bool:
        return not isinstance(self.template.base, RemoteBase | TemplateBase)


def service_of(target: Target) -> Service:
    """Return whose service it is: what Novita's does is measured, what others do is not."""
    if target.provider == "local":
        return "local"
    host = urlsplit(target.api_url or f"https://api.{target.domain}").hostname or ""
    return "novita" if f".{host}".endswith(".novita.ai") else "compatible"


def findings(subject: Subject) -> tuple[Finding, ...]:
    """Return what is to be told of a template: what fails, what is lost, what is to be known."""
    found = list(_findings(subject))
    return tuple(sorted(found, key=lambda each: (_ORDER.index(each.level), each.at)))


def _findings(subject: Subject) -> Iterator[Finding]:
    if subject.is_image:
        yield from _unsupported(subject)
        if subject.config is not None:
            yield from _of_image(subject, subject.config)
        if subject.dockerfile is not None:
            known = _said(subject.config) if subject.config is not None else ()
            yield from _of_dockerfile(subject, subject.dockerfile, known)
            says_who = any(each.keyword == "USER" for each in subject.dockerfile.final)
            if subject.config is None and subject.origin is not None and not says_who:
                yield from _user(subject, subject.origin)
            if subject.is_remote:
                yield from _caches(subject.dockerfile)
    yield from _readiness(subject)
    yield from _on_template(subject)
    if subject.service == "novita":
        yield from _resources(subject.template)


def wrong_platform(template: Template, message: str, hint: str) -> Finding:
    """Return what is to be told of a base that has no linux/amd64."""
    return Finding(level="error", text=message, at=template.base.at, remedy=hint)


def unknown(template: Template, why: str) -> Finding:
    """Return what is to be told when nobody could be asked about the base."""
    text = f"what the base of `{template.name}` says of itself is not known: {why}"
    return Finding(level="note", text=text, at=template.base.at)


# --- the base --------------------------------------------------------------------------------


def _unsupported(subject: Subject) -> Iterator[Finding]:
    """Tell of a base to which the service cannot add its own packages."""
    found = subject.distribution
    if found is None or found.is_supported or subject.service == "local":
        return
    is_sure = found.is_certain and subject.service == "novita"
    verdict = "takes" if is_sure else "may take"
    yield Finding(
        level="error" if is_sure else "warning",
        text=f"the base of `{subject.template.name}` is {found.name} ({found.why}), and the service"
        f" {verdict} only Debian, Ubuntu and what is made from them",
        at=subject.template.base.at,
        remedy="choose an image made from Debian or Ubuntu, such as those with `-slim` or "
        "`-bookworm` in their tags" + (", or try it with `--allow-unsupported`" * is_sure),
    )


def _of_image(subject: Subject, config: ImageConfig) -> Iterator[Finding]:
    template, at = subject.template, subject.template.base.at
    yield from _user(subject, config)
    yield from _workdir(subject, config)
    yield from _start(subject, config)
    if config.has_healthcheck and template.ready is None:
        text = "the service ignores `HEALTHCHECK` of the image"
        place = _place(subject, "HEALTHCHECK")
        yield Finding(level="warning", text=text, at=place, remedy="write it as `ready`")
    if names := [f"`{name}`" for name in _ignored(config)]:
        text = f"the service ignores {', '.join(names)} of the image"
        yield Finding(level="note", text=text, at=at)
    if names := [f"`{name}`" for name in config.env if not inherit.is_variable(name)]:
        text = f"no shell can have the image's variables {', '.join(names)}: they are dropped"
        remedy = "set them under `env` by other names"
        yield Finding(level="warning", text=text, at=at, remedy=remedy)
    if subject.is_remote:
        yield from _environment(template, config)


def _ignored(config: ImageConfig) -> list[str]:
    said = [
        ("VOLUME", config.volumes),
        ("EXPOSE", config.ports),
        ("STOPSIGNAL", config.stop_signal),
    ]
    return [name for name, value in said if value]


def _said(config: ImageConfig) -> tuple[str, ...]:
    """Return the instructions of a Dockerfile of which the image that it makes tells itself."""
    return (*_TOLD, "HEALTHCHECK", *_ignored(config))


def _place(subject: Subject, *keywords: str) -> Position:
    """Return where an own Dockerfile says it last, else the place of the base."""
    written = subject.dockerfile.final if subject.dockerfile is not None else ()
    places = [each.at for each in written if each.keyword in keywords]
    return places[-1] if places else subject.template.base.at


def _user(subject: Subject, config: ImageConfig) -> Iterator[Finding]:
    template, at = subject.template, _place(subject, "USER")
    name = config.user.partition(":")[0]
    if template.user is not None or name in inherit.ROOT:
        return
    text = f"the service ignores `USER {config.user}` of the image"
    if inherit.user(config) is None:
        remedy = "write `user: NAME`: the service knows users by name"
        yield Finding(level="warning", text=f"{text}, which is no name", at=at, remedy=remedy)
    else:
        yield _carried(template, "user", text, name, at)


def _workdir(subject: Subject, config: ImageConfig) -> Iterator[Finding]:
    template, path = subject.template, inherit.workdir(config)
    if template.workdir is None and path is not None:
        text = f"the service ignores `WORKDIR {path}` of the image"
        yield _carried(template, "workdir", text, path, _place(subject, "WORKDIR"))


def _start(subject: Subject, config: ImageConfig) -> Iterator[Finding]:
    template, command = subject.template, inherit.start(config)
    if template.start is not None or command is None:
        return
    what = "ENTRYPOINT" if config.entrypoint else "CMD"
    if config.entrypoint and config.cmd:
        what = "ENTRYPOINT and CMD"
    at = _place(subject, "CMD", "ENTRYPOINT")
    yield _carried(template, "start", f"the service ignores {what} of the image", command, at)
    if "start" in template.inherit and template.ready is None:
        text = f"what `{template.name}` takes over as `start` has no `ready`: it is given 20 s"
        yield Finding(
            level="warning",
            text=text,
            at=template.base.at,
            remedy="write `ready`, such as `{port: 8000}`, or `inherit: [user, workdir]`",
        )


def _carried(template: Template, key: str, text: str, value: str, at: Position) -> Finding:
    """Tell that we say to the service what it would ignore, unless that is not wanted."""
    kept = key in template.inherit
    more = f": it is told as `{key}: {value}`" if kept else ", and `inherit` leaves it out"
    return Finding(level="note", text=text + more, at=at if kept else template.place("inherit"))


def _environment(template: Template, config: ImageConfig) -> Iterator[Finding]:
    """Tell what the service's own build steps do not see; ours read it from files."""
    lost = [f"`{name}`" for name, value in config.env.items() if not value]
    if "PATH" in config.env:
        lost.insert(0, "`PATH`")
    if lost:
        text = (
            f"the service's steps do not see {', '.join(lost)} of the image: kept in files instead"
        )
        yield Finding(level="note", text=text, at=template.base.at)


# --- the user's own Dockerfile ---------------------------------------------------------------

_IGNORED = ("HEALTHCHECK", "VOLUME", "EXPOSE", "STOPSIGNAL")
_TOLD = {"USER": "user", "WORKDIR": "workdir", "CMD": "start", "ENTRYPOINT": "start"}


def _of_dockerfile(
    subject: Subject, dockerfile: UserDockerfile, known: Collection[str]
) -> Iterator[Finding]:
    """Tell of instructions that end in the image's configuration, the last of each kind.

    Of those that are `known` from the image it was told what comes of them. A user needs no image
    to be known, unless a variable says who it is.
    """
    template = subject.template
    last = {each.keyword: each for each in dockerfile.final if each.keyword not in known}
    for keyword, written in last.items():
        at, text = written.at, f"the service ignores `{keyword}`"
        if keyword == "USER" and (user := _literal(written, dockerfile.escape)):
            yield from _user(subject, ImageConfig(user=user))
        elif keyword in _TOLD:
            key = _TOLD[keyword]
            if getattr(template, key) is None:
                kept = key in template.inherit
                more = f": the image's is told as `{key}`" if kept else "; `inherit` leaves it out"
                yield Finding(level="note", text=text + more, at=at)
        elif keyword == "HEALTHCHECK" and template.ready is None:
            yield Finding(level="warning", text=text, at=at, remedy="write it as `ready`")
        elif keyword in _IGNORED and keyword != "HEALTHCHECK":
            yield Finding(level="note", text=text, at=at)


def _literal(written: Instruction, escape: str) -> str | None:
    """Return what an instruction says, quotes taken away; None where variables decide."""
    if "$" in written.text:
        return None
    try:
        return expansion.expanded(written.text, lambda _: None, escape)
    except ValueError:  # the builder will say so
        return None


def _caches(dockerfile: UserDockerfile) -> Iterator[Finding]:
    """Tell of caches that the service does not mount: what is in them stays in the template."""
    for each in dockerfile.final:
        if each.keyword == "RUN" and re.match(r"(--\S+\s+)*--mount=\S*type=cache", each.text):
            text = "the service mounts no cache: the files of this one stay in the template"
            yield Finding(level="note", text=text, at=each.at)


# --- the ready check -------------------------------------------------------------------------

# Programs that people wait with: the Debian package that has each, and the key that needs none.
_TOOLS: Mapping[str, tuple[str, str]] = {
    "ss": ("iproute2", "{port: N}"),
    "netstat": ("net-tools", "{port: N}"),
    "lsof": ("lsof", "{port: N}"),
    "nc": ("netcat-openbsd", "{port: N}"),
    "pgrep": ("procps", "{process: NAME}"),
    "ps": ("procps", "{process: NAME}"),
    "curl": ("curl", "{url: URL}"),
    "wget": ("wget", "{url: URL}"),
}
_CALLED = regex(
    r"(?:^|[|&;(!`]|\b(?:until|while|if|then|do|sudo)\s)\s*(" + "|".join(_TOOLS) + r")(?=\s|$)"
)
_PROVISIONED = frozenset({"curl"})  # by the service itself (docs/protocol.md, 3.10)
_FETCHERS = ("curl", "wget", "python")  # one of these is what `ready: {url: ...}` needs


def _readiness(subject: Subject) -> Iterator[Finding]:
    ready = subject.template.ready
    if ready is None or not _is_bare_debian(subject):
        return
    known = _installed(subject)
    has_fetcher = subject.service != "local" or any(tool in known for tool in _FETCHERS)
    if ready.kind == "url" and not has_fetcher:
        text = "`ready: {url: ...}` needs curl, wget or python3, and nothing installs one"
        remedy = "add `curl` to `packages.apt`"
        yield Finding(level="warning", text=text, at=ready.at, remedy=remedy)
    for tool in dict.fromkeys(_called(ready)):
        package, key = _TOOLS[tool]
        is_given = tool in _PROVISIONED and subject.service != "local"
        if not (is_given or package in known or re.search(rf"\b{tool}\b", known)):
            yield Finding(
                level="warning",
                text=f"the ready check calls `{tool}` of `{package}`, which nothing installs",
                at=ready.at,
                remedy=f"write `ready: {key}`, which needs no tool, or add `{package}` to"
                " `packages.apt`",
            )


def _called(ready: Ready) -> list[str]:
    """Return the tools of a check that the user wrote; our own checks need none."""
    return _CALLED.findall(ready.value) if ready.kind == "command" else []


def _is_bare_debian(subject: Subject) -> bool:
    """Tell whether what is installed is known: its layers say it, and Debian has none of these."""
    config = subject.config or subject.origin
    if config is None or not config.commands:
        return False
    found = subject.distribution
    return found is not None and found.name == distribution.DEBIAN


def _installed(subject: Subject) -> str:
    """Return the text of everything that may have installed a program."""
    config = subject.config or subject.origin
    parts = [
        *(config.commands if config else ()),
        subject.dockerfile.text if subject.dockerfile else "",
    ]
    for instruction in subject.template.instructions:
        if isinstance(instruction, Install) and instruction.manager == "apt":
            parts += instruction.packages
        elif isinstance(instruction, Run):
            parts.append(instruction.command)
    return "\n".join(parts)


# --- on a template ---------------------------------------------------------------------------


def _on_template(subject: Subject) -> Iterator[Finding]:
    """Tell what a build from a template loses (docs/protocol.md, 3.6)."""
    template, base = subject.template, subject.template.base
    from_template = isinstance(base, RemoteBase) or (
        isinstance(base, TemplateBase) and subject.is_remote
    )
    if from_template and template.pre_boot is not None:
        text = "the service ignores `pre_boot` of a template that is built on a template"
        remedy = "write it in the template that is built on an image"
        yield Finding(level="warning", text=text, at=template.place("pre_boot"), remedy=remedy)
    if isinstance(base, RemoteBase) and (template.start is None) != (template.ready is None):
        given, lost = ("start", "ready") if template.start is not None else ("ready", "start")
        yield Finding(
            level="warning",
            text=f"with `{given}` alone, the `{lost}` command of `{base.remote}` is dropped too",
            at=template.place(given),
            remedy=f"write `{lost}` as well, or neither",
        )


# --- resources -------------------------------------------------------------------------------

FREE, PAID = (2, 4096), (8, 8192)  # CPUs and MiB of Novita's plans (docs/protocol.md, 6)
_CPUS = (1, 2, 4, 8)
_STEP_MIB = 512
_PER_CPU_MIB = (512, 4096)


def _resources(template: Template) -> Iterator[Finding]:
    cpu, memory = template.resources.cpu, template.resources.memory
    at = template.place("resources")
    size = f"{cpu} CPU and {memory} MiB"
    if cpu > PAID[0] or memory > PAID[1]:
        text = f"{size} are more than any documented plan of Novita has: 8 CPU and 8192 MiB"
        yield Finding(level="warning", text=text, at=at, remedy="ask for less, or ask Novita")
    elif cpu > FREE[0] or memory > FREE[1]:
        text = f"{size} are more than Novita's free plan has: 2 CPU and 4096 MiB"
        yield Finding(level="note", text=text, at=at)
    least, most = (cpu * each for each in _PER_CPU_MIB)
    if cpu not in _CPUS or memory % _STEP_MIB or not least <= memory <= most:
        text = f"{size} are not among the sizes that Novita documents"
        remedy = "they are 1, 2, 4 or 8 CPU, with memory in steps of 512 MiB"
        if cpu in _CPUS:
            most = min(most, PAID[1])
            remedy = f"with {cpu} CPU they have {least} to {most} MiB, in steps of {_STEP_MIB}"
        yield Finding(level="warning", text=text, at=at, remedy=remedy)


# --- showing ---------------------------------------------------------------------------------


def lines(found: Iterable[Finding]) -> str:
    """Return findings as a compiler would write them."""
    texts = []
    for each in found:
        texts.append(f"{each.at}: {each.level}: {each.text}\n")
        if each.remedy:
            texts.append(f"  hint: {each.remedy}\n")
    return "".join(texts)
