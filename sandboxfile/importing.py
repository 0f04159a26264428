"""Directories that other tools build templates from, and the `novita.yaml` that says the same.

A project file (`novita.toml`, `e2b.toml`: docs/protocol.md, 2.2) stands in the directory that is
the context of its Dockerfile. Without one, a directory is a Dockerfile and its context.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandboxfile import lockcheck, reading
from sandboxfile.config import expand, numbers
from sandboxfile.config.document import complaint, quoted
from sandboxfile.config.problems import Fault
from sandboxfile.errors import ConfigError, UsageError
from sandboxfile.frozen import dataclass
from sandboxfile.model import NAME
from sandboxfile.places import Position, Problem

# The project files by their names, and whose command line writes them.
FILES = {"novita.toml": "novita", "e2b.toml": "e2b"}
DOCKERFILES = ("novita.Dockerfile", "e2b.Dockerfile", "Dockerfile")
# Where these command lines publish if nothing says otherwise, and the variable that does.
DOMAINS = {"novita": "sandbox.novita.ai", "e2b": "e2b.app"}
DOMAIN_VARIABLES = {"novita": "NOVITA_DOMAIN", "e2b": "E2B_DOMAIN"}
_LIMIT = 1 << 20  # bytes of a project file
_TEXTS = ("template_id", "template_name", "dockerfile", "start_cmd", "ready_cmd", "team_id")
_NUMBERS = {"cpu_count": numbers.cpu, "memory_mb": numbers.memory}
_OLD = {"id": "template_id", "name": "template_name"}
_PLAIN = re.compile(r"\.|[A-Za-z/][A-Za-z0-9 _./=@%+-]*(?<! )")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A template as it was found; `source` is the project file, or the Dockerfile.

    `called` is what the service calls it, None where nothing says so; `service` is whose project
    file it is, `left` has the keys of that which say nothing here. Paths are absolute.
    """

    source: Path
    dockerfile: Path
    context: Path
    called: str | None = None
    template_id: str | None = None
    start: str | None = None
    ready: str | None = None
    cpu: int | None = None
    memory: int | None = None
    service: str | None = None
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A project under the name that it gets here."""

    name: str
    project: Project

    @property
    def fate(self) -> str:
        """What becomes of the ID that the template has at the service, empty where it has none."""
        known, called = self.project.template_id, self.project.called
        if known is None:
            return ""
        if called is None:
            return f"{known} keeps its ID if `{self.name}` is its name; else a new one is made"
        if called != self.name:
            return f"{known} is called {quoted(called)} there: as `{self.name}` a new one is made"
        return f"{known} keeps its ID, since builds find it by its name"


# --- what is there ---------------------------------------------------------------------------


def find(word: str) -> Project:
    """Read what a word names: a directory, a project file, or a Dockerfile.

    Raises UsageError where there is none, ConfigError for what a project file says.
    """
    path = Path(word)
    try:
        if path.is_dir():
            path = _in_directory(path, word)
        if path.suffix != ".toml":
            reading.regular(path)
            return _of_dockerfile(path)
        text = reading.regular(path, limit=_LIMIT).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"`{path}` is not UTF-8") from None
    return _Reader(path, text).project()


def _in_directory(directory: Path, word: str) -> Path:
    found = [directory / name for name in FILES if reading.exists(directory / name)]
    if len(found) > 1:
        names = " and ".join(f"`{each}`" for each in found)
        raise UsageError(f"there are {names}", hint="name the one that counts")
    found += [directory / name for name in DOCKERFILES if reading.is_file(directory / name)]
    if not found:
        hint = f"it has none of {', '.join((*FILES, *DOCKERFILES))}"
        raise UsageError(f"there is nothing to import in `{word}`", hint=hint)
    return found[0]


def _of_dockerfile(path: Path) -> Project:
    file = _absolute(path)
    return Project(source=file, dockerfile=file, context=file.parent)


def _absolute(path: Path) -> Path:
    """Return a path without `..`, links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - keeps links


class _Reader:
    """Reads one project file; all its problems are told at once."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._problems: list[Problem] = []

    def project(self) -> Project:
        """Return what the file says. Raises ConfigError."""
        said = self._values()
        root = _absolute(self._path).parent
        dockerfile = self._dockerfile(root, said.get("dockerfile"))
        called = said.get("template_name")
        if self._problems:
            raise ConfigError(self._problems)
        assert dockerfile is not None
        return Project(
            source=_absolute(self._path),
            dockerfile=dockerfile,
            context=root,
            called=called.strip().lower() if called else None,
            template_id=said.get("template_id"),
            start=said.get("start_cmd"),
            ready=said.get("ready_cmd"),
            cpu=said.get("cpu_count"),
            memory=said.get("memory_mb"),
            service=FILES.get(self._path.name, "novita"),
            left=tuple(key for key in said if key not in (*_TEXTS[:-1], *_NUMBERS)),
        )

    def _values(self) -> dict[str, Any]:
        """Return what is said, under the newer names of keys; wrong values are problems."""
        try:
            plain = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([self._syntax(str(error))]) from None
        except (ValueError, RecursionError):  # Python's limits, of digits and of depth
            raise ConfigError([self._syntax("it is beyond all measure")]) from None
        for old, new in _OLD.items():
            if old in plain:
                plain.setdefault(new, plain.pop(old))
        for key in _TEXTS:
            if key in plain and not (isinstance(plain[key], str) and plain[key].strip()):
                self._complain(key, f"`{key}` is a text")
        template_id = plain.get("template_id")
        if isinstance(template_id, str) and not lockcheck.ID.fullmatch(template_id):
            self._complain("template_id", f"{quoted(template_id)} is no ID of a template")
        for key, check in _NUMBERS.items():
            fault = self._number_fault(plain.get(key), check)
            if fault is not None:
                self._complain(key, fault.message, fault.hint)
        return plain

    @staticmethod
    def _number_fault(value: object, check: Any) -> Fault | None:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            return Fault("this is no whole number", "")
        found: Fault | None = check(value)
        return found

    def _dockerfile(self, root: Path, said: object) -> Path | None:
        if said is None:
            start = Position(str(self._path), 1, 1)
            hint = "add it: the path from here"
            self._problems.append(complaint(self._text, start, "there is no `dockerfile`", hint))
        if not isinstance(said, str) or not said.strip():
            return None
        file = _absolute(root / said)
        if not file.is_relative_to(root):
            self._complain("dockerfile", f"{quoted(said)} is outside of the project")
        elif not reading.is_file(file):
            self._complain("dockerfile", f"there is no file {quoted(said)}")
        return file

    def _complain(self, key: str, message: str, hint: str = "") -> None:
        names = "|".join([key, *(old for old, new in _OLD.items() if new == key)])
        found = re.search(
            rf"^\s*[\"']?(?:{names})[\"']?\s*=[ \t]*(.*?)\s*$", self._text, re.MULTILINE
        )
        line = self._text.count("\n", 0, found.start(1)) + 1 if found else 1
        column = found.start(1) - self._text.rfind("\n", 0, found.start(1)) if found else 1
        at = Position(str(self._path), line, column)
        width = len(found[1]) if found else 1
        self._problems.append(complaint(self._text, at, message, hint, width))

    def _syntax(self, said: str) -> Problem:
        found = re.fullmatch(r"(.+) \(at (?:line (\d+), column (\d+)|end of document)\)", said)
        message, line, column = found.groups() if found else (said, None, None)
        end = self._text.count("\n") + 1
        at = Position(str(self._path), int(line or end), int(column or 1))
        return complaint(self._text, at, f"this is no TOML: {_lowered(message)}")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- what it is called -----------------------------------------------------------------------


def named(projects: Sequence[Project], name: str | None) -> tuple[Named, ...]:
    """Give every project its name: `name`, the service's, or that of its directory.

    Raises UsageError where a name is none, is taken, or would lose a template's ID unasked.
    """
    found = tuple(Named(name or _name(each), each) for each in projects)
    seen: dict[str, Project] = {}
    for each in found:
        other = seen.setdefault(each.name, each.project)
        if other is not each.project:
            sources = " and ".join(
                f"`{shown(project.source)}`" for project in (other, each.project)
            )
            hint = "import one of them into another file: `--name NAME -f FILE`"
            raise UsageError(f"{sources} are both `{each.name}`", hint=hint)
    return found


def _name(project: Project) -> str:
    source = shown(project.source)
    if project.called is not None:
        if not NAME.fullmatch(project.called):
            raise UsageError(
                f"`{source}`: {quoted(project.called)} is no name for a template here",
                hint="give it another one with `--name NAME`; under that a new template is made",
            )
        return project.called
    if project.template_id is not None:
        raise UsageError(
            f"`{source}` has the ID of a template, {quoted(project.template_id)}, but not its name",
            hint="builds find a template by its name: give that with `--name NAME`",
        )
    return of_directory(project.context)


def of_directory(directory: Path) -> str:
    """Turn a directory's name into a legal template name (docs/protocol.md, 4.1)."""
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.name.lower()).strip("-_")
    return name[:128] or "sandbox"


def shown(path: Path) -> str:
    """Return a path as it is named from here."""
    return os.path.relpath(path)


# --- what is written --------------------------------------------------------------------------


def addresses(found: Iterable[Named], environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the domains where templates with an ID are, by the name that the target gets."""
    services = {each.project.service for each in found if each.project.template_id is not None}
    return {
        service: environ.get(DOMAIN_VARIABLES[service]) or DOMAINS[service]
        for service in DOMAINS
        if service in services
    }


def text(found: Sequence[Named], root: Path, domains: Mapping[str, str]) -> str:
    """Return a `novita.yaml` in `root` for these projects. Raises UsageError for one outside."""
    lines = ["version: 1"]
    if domains:
        lines += ["targets:", *(f"  {each}" for each in targets(domains))]
    if len(found) == 1:
        lines += [f"name: {scalar(found[0].name)}", *_template(found[0], root)]
        return "\n".join(lines) + "\n"
    lines.append("templates:")
    for each in found:
        lines += [f"  {scalar(each.name)}:", *(f"    {line}" for line in _template(each, root))]
    return "\n".join(lines) + "\n"


def targets(domains: Mapping[str, str]) -> Iterator[str]:
    """Yield the line of `targets` for each of these domains."""
    for name, at in domains.items():
        yield f"{name}: {{provider: novita, domain: {scalar(at)}}}"


def _template(found: Named, root: Path) -> Iterator[str]:
    project = found.project
    if project.template_id is not None:
        yield f"# {quoted(project.source.name)}: {found.fate}"
    yield f"base: {_base(project, root)}"
    if project.service is not None:
        # docs/protocol.md, 2.4
        yield "inherit: false  # that service takes over no USER, WORKDIR, ENTRYPOINT or CMD"
    if project.start is not None:
        yield f"start: {scalar(expand.literal(project.start))}"
    if project.ready is not None:
        yield f"ready: {scalar(expand.literal(project.ready))}"
    resources = {"cpu": project.cpu, "memory": project.memory}
    said = ", ".join(f"{key}: {value}" for key, value in resources.items() if value is not None)
    if said:
        yield f"resources: {{{said}}}"


def _base(project: Project, root: Path) -> str:
    parts = {"dockerfile": project.dockerfile}
    if project.dockerfile.parent != project.context:
        parts["context"] = project.context
    inner = (f"{key}: {scalar(_inside(path, root))}" for key, path in parts.items())
    return f"{{{', '.join(inner)}}}"


def _inside(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise UsageError(
            f"`{shown(path)}` is outside of the directory of `novita.yaml`",
            hint="run it from a directory that all of it is in, or name one with `-C`",
        )
    return expand.literal(path.relative_to(root).as_posix())


def scalar(text: str) -> str:
    """Return text as a value of YAML, also between braces, in quotes where it needs them."""
    is_plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return text if is_plain else _double(text)


def _double(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return {"\n": "\\n", "\t": "\\t"}.get(character, f"\\U{ord(character):08x}")
