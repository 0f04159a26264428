"""Read the user's own Dockerfile: which images it starts from, which features it needs.

Rules are those of the Dockerfile reference and of BuildKit's frontend. What a builder says better
is left to it, and the text is only changed where an image is named (`pin`).
"""

import hashlib
import re
from collections.abc import Mapping

from sandboxfile import dockerfiletext, expansion
from sandboxfile.dockerfile import Need, StepName
from sandboxfile.dockerfiletext import BLANKS, Line, Source, Word
from sandboxfile.errors import SandboxfileError, Unsupported
from sandboxfile.frozen import dataclass, field
from sandboxfile.patterns import regex
from sandboxfile.places import Position
from sandboxfile.reference import ImageReference

SCRATCH = "scratch"

# What BuildKit defines for FROM; we build for one platform (docs/protocol.md, 3.10).
_PLATFORM = {"PLATFORM": "linux/amd64", "OS": "linux", "ARCH": "amd64", "VARIANT": ""}
_PREDEFINED = {
    f"{of}{name}": value for of in ("BUILD", "TARGET") for name, value in _PLATFORM.items()
}
_NUMBER = regex(r"[0-9]{1,9}")  # of a stage; other digits are none to a builder
_COUNTED = frozenset({"ADD", "COPY", "RUN", "WORKDIR"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: its keyword in upper case and where it is written.

    `text` is what follows the keyword, lines joined; `words` are its words, quotes kept.
    """

    keyword: str
    at: Position
    text: str = ""
    words: tuple[str, ...] = ()
    has_heredoc: bool = False


@dataclass(slots=True, kw_only=True)
class _Stage:
    """One build stage, as it grows; `uses` are the indices of the stages it takes from.

    It begins with `image`, or with the stage `base`, or with nothing.
    """

    name: str
    has_image: bool = False
    image: str = ""
    base: int | None = None
    uses: set[int] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)
    refused: list[Unsupported] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def numbered(self) -> list[Instruction]:
        """What BuildKit counts in this stage: what makes or changes files."""
        counted = _COUNTED | {"FROM"} if self.has_image else _COUNTED
        return [each for each in self.instructions if each.keyword in counted]


@dataclass(frozen=True, slots=True)
class _Named:
    """An image named in the text, from `start` to `end`, by the stage of this index."""

    image: str
    start: int
    end: int
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDockerfile:
    """A Dockerfile as read for one target stage.

    `images` are those that the target stage is made of, as written but with variables replaced;
    `target` is the name of that stage for a builder, None for the last; `stages` the names of
    all, "" for those without; `secrets` the ids of the secrets that it mounts; `needs` what not
    every builder can do; `syntax` the frontend that the file asks for, an image that BuildKit
    fetches by itself; `escape` its escape character; `arguments` the values of each `ARG` before
    the first `FROM`, and those that BuildKit defines.
    """

    text: str
    images: tuple[str, ...]
    target: str | None
    stages: tuple[str, ...]
    needs: frozenset[Need]
    secrets: tuple[str, ...]
    syntax: str | None
    escape: str
    arguments: Mapping[str, str]
    _target: int
    _stages: tuple[_Stage, ...]
    _instructions: tuple[Instruction, ...]
    _named: tuple[_Named, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def final(self) -> tuple[Instruction, ...]:
        """The instructions that the target's image is made by, those it is based on first."""
        return tuple(each for stage in self._line for each in stage.instructions)

    @property
    def base(self) -> str:
        """The image that the target begins with, "" when it begins with nothing."""
        return self._line[0].image

    @property
    def _line(self) -> list[_Stage]:
        """The target stage and those that it is `FROM`, the first of them first."""
        line = [self._stages[self._target]]
        while line[0].base is not None:
            line.insert(0, self._stages[line[0].base])
        return line

    def pin(self, references: Mapping[str, str]) -> str:
        """Return the text with each image that is a key of `references` replaced by its value."""
        text = self.text
        for each in sorted(self._named, key=lambda named: named.start, reverse=True):
            if each.image in references:
                text = text[: each.start] + references[each.image] + text[each.end :]
        return text

    def place(self, step: str) -> Position | None:
        """Return where the instruction is written that a builder calls `step`."""
        name = StepName.read(step)
        if name is None:
            return None
        found = self._instructions if name.is_classic else self._numbered(name.stage)
        index = name.index(len(found))
        return found[index].at if 0 <= index < len(found) else None

    def _numbered(self, name: str) -> list[Instruction]:
        """Return what BuildKit counts in a stage; without a name the second one is `stage-1`."""
        for index, stage in enumerate(self._stages):
            if name.lower() in (stage.name.lower(), f"stage-{index}") or len(self._stages) == 1:
                return stage.numbered
        return []


def parse(
    text: str, *, file: str, args: Mapping[str, str] | None = None, stage: str | None = None
) -> UserDockerfile:
    """Read a Dockerfile for its stage `stage` (a name or number; None is the last).

    `args` are build arguments, `file` is what errors call the file. Raises SandboxfileError,
    with a place in the file unless it is `stage` that is not there.
    """
    directives = dockerfiletext.directives(text)
    reader = _Reader(Source(text, file, directives.get("escape", "\\")), args or {})
    for line in dockerfiletext.lines(reader.source):
        reader.read(line)
    if not reader.stages:
        raise SandboxfileError("the Dockerfile has no `FROM`", at=Position(file, 1, 1))
    target = _target(reader.stages, stage)
    reached = _reached(reader.stages, target)
    for refused in (each for index in sorted(reached) for each in reader.stages[index].refused):
        raise refused
    named = tuple(each for each in reader.named if each.stage in reached)
    secrets = [secret for index in sorted(reached) for secret in reader.stages[index].secrets]
    return UserDockerfile(
        text=text,
        images=tuple(dict.fromkeys(each.image for each in named)),
        target=_target_name(reader.stages, target),
        stages=tuple(each.name for each in reader.stages),
        needs=frozenset(reader.needs | ({"secrets"} if secrets else set())),
        secrets=tuple(dict.fromkeys(secrets)),
        syntax=directives.get("syntax"),
        escape=reader.source.escape,
        arguments=reader.values,
        _target=target,
        _stages=tuple(reader.stages),
        _instructions=tuple(reader.instructions),
        _named=named,
    )


def _target(stages: list[_Stage], wanted: str | None) -> int:
    if wanted is None:
        return len(stages) - 1
    found = _latest(stages, wanted)
    if found is None and _NUMBER.fullmatch(wanted) and int(wanted) < len(stages):
        found = int(wanted)
    if found is None:
        near = _near(wanted, stages)
        names = ", ".join(f"`{stage.name}`" for stage in stages if stage.name)
        hint = f"did you mean `{near}`?" if near else f"its stages are {names or 'without names'}"
        raise SandboxfileError(f"the Dockerfile has no stage `{wanted}`", hint=hint)
    return found


def _target_name(stages: list[_Stage], target: int) -> str | None:
    """Return how builders know the target: by its name alone, not by a number."""
    stage = stages[target]
    if target == len(stages) - 1:
        return None
    if not stage.name or _latest(stages, stage.name) != target:
        message = f"stage {target} has no name of its own, and builders know stages by name"
        raise SandboxfileError(message, at=stage.instructions[0].at, hint="add `AS name` to it")
    return stage.name


def _latest(stages: list[_Stage], name: str) -> int | None:
    """Return the last stage of this name; names are not case-sensitive."""
    found = [
        i for i, stage in enumerate(stages) if stage.name and stage.name.lower() == name.lower()
    ]
    return found[-1] if found else None


def _near(name: str, stages: list[_Stage]) -> str:
    from difflib import get_close_matches

    names = [stage.name for stage in stages if stage.name]
    return next(iter(get_close_matches(name, names, n=1, cutoff=0.8)), "")


def _reached(stages: list[_Stage], target: int) -> set[int]:
    """Return the stages that BuildKit builds for a target; others it leaves out."""
    reached: set[int] = set()
    waiting = {target}
    while waiting:
        index = waiting.pop()
        reached.add(index)
        waiting |= stages[index].uses - reached
    return reached


# --- instructions to stages ------------------------------------------------------------------


class _Reader:
    """Takes one instruction after the other and knows the stages so far."""

    def __init__(self, source: Source, args: Mapping[str, str]) -> None:
        self.source = source
        self.stages: list[_Stage] = []
        self.named: list[_Named] = []
        self.needs: set[Need] = set()
        self.instructions: list[Instruction] = []
        self._args = args
        self.values = dict(_PREDEFINED)

    def read(self, line: Line) -> None:
        words = dockerfiletext.words(line, self.source.escape)
        first, *arguments = words
        keyword = first.text.upper()
        instruction = Instruction(
            keyword=keyword,
            at=self.source.position(first.offset),
            text=line.text[first.end :].strip(BLANKS),
            words=tuple(word.text for word in arguments),
            has_heredoc=any(dockerfiletext.heredocs(words)),
        )
        if instruction.has_heredoc:
            self.needs.add("heredoc")
        self.instructions.append(instruction)
        if keyword == "FROM":
            self._from(arguments, instruction)
        elif keyword == "ARG" and not self.stages:
            self._declare(arguments)
        elif self.stages:
            self.stages[-1].instructions.append(instruction)
            self._options(keyword, arguments)

    def _declare(self, words: list[Word]) -> None:
        """Take an ARG before the first FROM; only those are replaced in FROM."""
        for word in words:
            name, equals, default = word.text.partition("=")
            if name in self._args:
                self.values[name] = self._args[name]
            elif equals:
                self.values[name] = self._expanded(default, word)

    def _expanded(self, text: str, word: Word) -> str:
        try:
            return expansion.expanded(text, self.values.get, self.source.escape)
        except ValueError as error:
            raise SandboxfileError(f"in `{word.text}`, {error}", at=self._at(word)) from None

    def _at(self, word: Word) -> Position:
        return self.source.position(word.offset)

    def _from(self, words: list[Word], instruction: Instruction) -> None:
        words = [word for word in words if not word.text.startswith("--")]
        match [word.text.upper() for word in words]:
            case [_]:
                name = ""
            case [_, "AS", _]:
                name = words[2].text
            case _:
                message = "`FROM` takes an image or a stage, and `AS name` after it"
                raise SandboxfileError(message, at=instruction.at)
        image = self._expanded(words[0].text, words[0])
        if not image:
            raise SandboxfileError(
                f"`{words[0].text}` is empty here, and `FROM` needs an image",
                at=self._at(words[0]),
                hint="give its `ARG` a default, or a value under `args` in the YAML",
            )
        stage = _Stage(name=name, instructions=[instruction])
        base = _latest(self.stages, image)
        self.stages.append(stage)
        if base is not None:
            stage.base = base
            stage.uses.add(base)
        elif image != SCRATCH:
            stage.has_image = True
            stage.image = image
            self._name(image, words[0])

    def _name(self, image: str, word: Word) -> None:
        """Note an image from outside that the current stage uses."""
        try:
            ImageReference.parse(image)
        except ValueError as error:
            message = f"this is not an image reference: {error}"
            raise SandboxfileError(message, at=self._at(word)) from None
        stage = len(self.stages) - 1
        self.named.append(_Named(image, word.offset, word.end_offset, stage))

    def _options(self, keyword: str, words: list[Word]) -> None:
        for word in words:
            if not word.text.startswith("--"):
                return
            value = word.after("=")
            if value and keyword == "COPY" and word.text.startswith("--from="):
                self._take(value, may_be_number=True)
            elif value and keyword == "RUN" and word.text.startswith("--mount="):
                self._mount(value)

    def _mount(self, word: Word) -> None:
        self.needs.add("cache_mounts")
        options = _mount_options(word)
        kind = options["type"].unquoted() if "type" in options else "bind"
        if kind == "secret":
            self.stages[-1].secrets.append(_secret_id(options))
        if kind == "ssh":
            message = "`--mount=type=ssh` is not supported"
            hint = "mount a key as a build secret: `--mount=type=secret,id=...`"
            self.stages[-1].refused.append(Unsupported(message, hint=hint, at=self._at(word)))
        if "from" in options:
            self._take(options["from"])

    def _take(self, word: Word, *, may_be_number: bool = False) -> None:
        """Note the stage above, or the image, that files are taken from."""
        name, above = word.unquoted(), self.stages[:-1]
        number = int(name) if may_be_number and _NUMBER.fullmatch(name) else _latest(above, name)
        if "$" in name or name == SCRATCH:
            return  # newer frontends replace variables of the stage; nothing is pinned then
        if number is None:
            self._refuse_misspelt(name, above, word)
            self._name(name, word)
        elif number < len(above):
            self.stages[-1].uses.add(number)
        else:
            message = f"there is no stage {number} above; the first is 0"
            raise SandboxfileError(message, at=self._at(word))

    def _refuse_misspelt(self, name: str, stages: list[_Stage], word: Word) -> None:
        near = _near(name, stages)
        # An image `python` beside a stage `python3` is meant as it is written.
        if near and not near.startswith(name) and not name.startswith(near):
            message = f"there is no stage `{name}` above"
            raise SandboxfileError(message, at=self._at(word), hint=f"did you mean `{near}`?")


def _mount_options(word: Word) -> dict[str, Word]:
    """Split `key=value,key=value`; keys without a value are of no interest here."""
    found: dict[str, Word] = {}
    for match in re.finditer(r"[^,]+", word.text):
        part = Word(word.line, word.start + match.start(), word.start + match.end())
        value = part.after("=") if "=" in part.text else None
        if value:
            found[part.text.partition("=")[0].lower().lstrip("\"'")] = value
    return found


def _secret_id(options: Mapping[str, Word]) -> str:
    """Return a secret's id, which is the name of its target if it has none."""
    named = next((options[k] for k in ("id", "target", "dst", "destination") if k in options), None)
    return named.unquoted().rpartition("/")[2] if named else ""
