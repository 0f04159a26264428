"""What each template consists of right now: its files, its base, its keys. Reads, never writes."""

import marshal
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from sandboxfile import dockerfile, inherit, keys, looks, pins, reading, taking
from sandboxfile.ahead import Ahead, is_possible
from sandboxfile.blobs import UnknownError
from sandboxfile.committed import Committed
from sandboxfile.config.document import complaint
from sandboxfile.copied import Copied, Copies
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.gathering import Ground
from sandboxfile.keys import Content, Keys
from sandboxfile.looks import Looked, Tops
from sandboxfile.model import (
    Builder,
    DockerfileBase,
    InstallProject,
    Template,
    TemplateBase,
    Workspace,
)
from sandboxfile.patterns import regex
from sandboxfile.pins import Identity
from sandboxfile.places import Problem
from sandboxfile.recall import Known, Recall
from sandboxfile.statcache import Digests, Hashes, StatCache
from sandboxfile.surveyed import Survey, Surveyed
from sandboxfile.taking import Taken

# A value on one line of YAML, from its first character: in quotes, or up to what ends it.
_VALUE = regex(r""""(?:[^"\\]|\\.)*"|'[^']*'|(?:[^\s,\]}:#]|:(?!\s|$)|(?<!\s)#)*""")

_MANY = 200  # files read, from which on a second process is worth its start, and
_FEW = 4  # templates that have to be left for it


class Changed(SandboxfileError):  # noqa: N818 - named for what it says
    """What a survey finds is not what is known: it changed since, or was never so."""


def ordered(workspace: Workspace, names: Iterable[str]) -> tuple[str, ...]:
    """Return the named templates and all that they are based on, parents first."""
    graph: dict[str, set[str]] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in graph:
            continue
        base = workspace.templates[name].base
        parents = {base.template} if isinstance(base, TemplateBase) else set()
        graph[name] = parents
        waiting.extend(parents)
    rank = {name: index for index, name in enumerate(workspace.templates)}
    sorter = TopologicalSorter({name: graph[name] for name in sorted(graph, key=rank.__getitem__)})
    return tuple(sorter.static_order())


def survey(
    workspace: Workspace,
    names: Iterable[str],
    *,
    resolved: Mapping[str, str],
    digests: Digests,
    builder: Builder = "docker",
    recall: Recall | None = None,
    copies: Copies | None = None,
    committed: Committed | None = None,
) -> Survey:
    """Find the files of every template and compute its keys, for a target with this builder.

    What `recall` has of this workspace, for the same `resolved` and builder, is not looked for
    again, and what is found anew is added to it. What `copies` are told of is not looked for here
    either. Where many are surveyed of whose files nothing is kept, what is `committed` is not read.
    Raises ConfigError with the problems of all templates at once.
    """
    surveyor = _Surveyor(
        workspace=workspace,
        ground=Ground(workspace.root, workspace.files),
        resolved=resolved,
        digests=digests,
        builder=builder,
        recall=recall,
        copies=copies,
        committed=committed,
        tops=Tops(os.fspath(workspace.root)),
    )
    return surveyor.all(ordered(workspace, names))


def drawn(problems: Iterable[Problem], workspace: Workspace) -> Iterator[Problem]:
    """Give problems found in files that are told by their place alone the lines around it."""
    for problem in problems:
        at = problem.at
        text = None if problem.excerpt else _text(at.file, workspace)
        if text is None or at.line > text.count("\n") + 1:  # edited since it was read
            yield problem
        else:
            value = _VALUE.match(text.split("\n")[at.line - 1], at.column - 1)
            width = len(value.group()) if value else 0
            yield complaint(text, at, problem.message, problem.hint, max(1, width))


def _text(file: str, workspace: Workspace) -> str | None:
    """Return the text of a file of the workspace as it is shown: from here, or from its root."""
    for path in (Path(file), workspace.root / file):
        with suppress(OSError, UnicodeDecodeError):
            return reading.read(path, workspace.root).decode("utf-8")
    return None


class _Told(NamedTuple):
    """What one process tells another of a template that it has surveyed, in plain data.

    What is in `kept`, which `Recall` understands, is nowhere else; without it there is `looked`.
    `hashes` are of the files that it needed.
    """

    name: str
    parent: str
    image_key: str
    template_key: str
    parts: dict[str, str]
    is_committed: bool
    kept: tuple[Any, ...] | None
    looked: tuple[Any, ...]
    hashes: tuple[Any, ...]

    def known(self, top: str) -> Known:
        return Known(
            keys=Keys(image_key=self.image_key, template_key=self.template_key, parts=self.parts),
            looked=Looked(*self.looked),
            top=top,
        )


@dataclass(slots=True, kw_only=True)
class _Surveyor:
    """Surveys templates, parents first; `told` has what a second process said of some."""

    workspace: Workspace
    ground: Ground
    resolved: Mapping[str, str]
    digests: Digests
    builder: Builder
    recall: Recall | None
    copies: Copies | None
    committed: Committed | None
    tops: Tops
    done: dict[str, Surveyed] = field(default_factory=dict)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    told: dict[str, _Told] = field(default_factory=dict)
    aided: int = 0  # files read here while another process found copies

    def all(self, names: tuple[str, ...]) -> Survey:
        """Survey all; where much has to be read, with a second process that begins at the end.

        What that has told comes first, so that both have something to do until the end. Raises
        ConfigError.
        """
        second: Ahead | None = None
        is_alone = not isinstance(self.digests, StatCache) or not is_possible()
        left = deque(names)
        try:
            while left:
                copied = self._ready(left[-1])
                if copied is not None:
                    self.one(left.pop(), copied)
                    continue
                if second is not None:
                    self.listen(second)
                elif not is_alone and self._is_much() and len(left) > _FEW:
                    is_alone = True
                    with suppress(OSError):  # there may be too many processes
                        second = Ahead(self.backwards(tuple(left)))
                self.one(left.popleft())
        finally:
            if second is not None:
                second.close()
            if isinstance(self.digests, StatCache):
                for hashes in self.copies.hashes() if self.copies else ():
                    self.digests.learn(hashes)
                self.digests.alone()
        if self.problems:
            problems = (each for name in names for each in self.problems.get(name, ()))
            raise ConfigError(drawn(problems, self.workspace))
        return Survey({name: self.done[name] for name in names})

    def _ready(self, name: str) -> Mapping[int, Copied] | None:
        """Return what a template takes, if nothing has to be looked for any more to survey it."""
        template = self.workspace.templates[name]
        base = template.base
        is_ready = not isinstance(base, TemplateBase) or base.template in self.done
        return self._copied(template) if is_ready else None

    def _is_much(self) -> bool:
        """Say whether much was read here since no other process finds what is copied."""
        assert isinstance(self.digests, StatCache)
        if self.copies is not None and not self.copies.is_done:
            self.aided = self.digests.count
        return self.digests.count - self.aided >= _MANY

    def one(self, name: str, copied: Mapping[int, Copied] | None = None) -> None:
        """Survey one template, or note its problems; `copied` is what it is known to take."""
        template = self.workspace.templates[name]
        if isinstance(template.base, TemplateBase):
            if template.base.template not in self.done:
                return  # the parent has a problem of its own, which is reported
            template = inherit.of_parent(template, self.done[template.base.template].template)
        try:
            self.done[name] = self._surveyed(template, copied)
        except ConfigError as error:
            self.problems[name] = tuple(error.problems)

    def _surveyed(self, template: Template, copied: Mapping[int, Copied] | None) -> Surveyed:
        above = self._above(template)
        take = partial(
            taking.take,
            self.workspace,
            self.ground,
            template,
            above,
            digests=self.digests,
            builder=self.builder,
        )
        name, parent = template.name, _parent_key(template, self.done)
        told = self._told(name, parent)
        if told is not None:
            known = self._known(told)
            is_committed = told.is_committed
            return self._later(template, known.keys, take, known=known, is_committed=is_committed)
        recalled = self.recall.find(name, parent=parent) if self.recall and parent else None
        if recalled is not None:
            return self._later(template, recalled.keys, take, known=recalled, recalled=True)
        if copied is None:
            copied = self._copied(template, here=True)
        if copied is not None:
            taking.check(template, above, self.builder)
            made = self._of_copied(template, parent, copied, take)
        else:
            made = self._of_committed(template, parent, take)
        if made is not None:
            return made
        taken = take()
        found, missing = self._identity(template, taken, _contents(taken))
        made = Surveyed(
            template=template,
            keys=found,
            take=lambda: taken,
            unresolved=missing,
            git_key=partial(self.git_key, template, taken, found),
        )
        kept = self._kept(made, parent)
        return replace(made, known=kept) if kept else made

    def _later(
        self,
        template: Template,
        found: Keys,
        take: Callable[[], Taken],
        *,
        known: Known,
        recalled: bool = False,
        is_committed: bool = False,
    ) -> Surveyed:
        """Return a template whose keys are known, and whose files are looked for when needed."""
        later = _Later(self, template, take, found)
        return Surveyed(
            template=template,
            keys=found,
            take=later.taken,
            known=known,
            recalled=recalled,
            is_committed=is_committed,
            git_key=later.git_key,
        )

    def _kept(self, made: Surveyed, parent: str) -> Known | None:
        """Keep what was found for later runs, if that can be; return it then."""
        if self.recall is None or made.keys is None or not parent:
            return None
        with suppress(OSError, ValueError, struct.error):  # a file of the year 2300 has no mark
            looked = looks.of(made.seen, made.looked_at, self.tops)
            return self.recall.add(made.template.name, made.keys, parent=parent, looked=looked)
        return None

    def _copied(self, template: Template, *, here: bool = False) -> Mapping[int, Copied] | None:
        """Return all that a template takes, as the second process has told of it.

        While that is at work, what it has not told of is found `here`, in the same way.
        """
        if self.copies is None or isinstance(template.base, DockerfileBase):
            return None
        if any(isinstance(each, InstallProject) for each in template.instructions):
            return None  # it looks for lock files, too
        found = {}
        for number, copy in dockerfile.copies(template):
            told = self.copies.find(copy, self.ground)
            if told is None and here:
                told = self.copies.look(copy, self.ground)
            if told is None:
                return None
            found[number] = told
        return found

    def _of_copied(
        self,
        template: Template,
        parent: str,
        copied: Mapping[int, Copied],
        take: Callable[[], Taken],
    ) -> Surveyed | None:
        """Survey a template that takes nothing else than what the second process has told of.

        Returns None where that is what git says, and is not what the lock knows of.
        """
        contents = {number: each.content for number, each in copied.items()}
        missing: tuple[str, ...] = ()
        is_committed = any(each.is_committed for each in copied.values())
        if is_committed:
            found = self._as_locked(template, Taken(), contents)
            if found is None:
                return None
        else:
            found, missing = self._identity(template, Taken(), contents)
        if found is None:
            return Surveyed(template=template, keys=None, take=cache(take), unresolved=missing)
        looked = looks.together(each.looked for each in copied.values())
        known = self._shown(template.name, found, parent, looked)
        return self._later(template, found, take, known=known, is_committed=is_committed)

    def _shown(self, name: str, found: Keys, parent: str, looked: Looked) -> Known:
        """Return keys with what shows that they are true, and keep that if it can be."""
        kept = None
        if self.recall and parent:
            kept = self.recall.add(name, found, parent=parent, looked=looked)
        return kept or Known(keys=found, looked=looked, top=self.tops.first)

    def _of_committed(
        self, template: Template, parent: str, take: Callable[..., Taken]
    ) -> Surveyed | None:
        """Survey a template by what git says of its files, if the lock knows of just that."""
        if self.committed is None or not self.committed.has(template.name) or self._is_read():
            return None
        if not self.committed.blobs.are_there:
            return None
        try:
            taken = take(digests=self.committed.blobs)
        except UnknownError:
            return None
        contents = {n: keys.in_short(each) for n, each in _contents(taken).items()}
        found = self._as_locked(template, taken, contents)
        if found is None:
            return None
        made = Surveyed(template=template, keys=found, take=lambda: taken)
        try:
            looked = looks.of(made.seen, made.looked_at, self.tops)
        except (OSError, ValueError, struct.error):  # a file of the year 2300 has no mark
            return None
        known = self._shown(template.name, found, parent, looked)
        return self._later(template, found, take, known=known, is_committed=True)

    def _is_read(self) -> bool:
        """Say whether all files were read once, so that little has to be read now."""
        return not isinstance(self.digests, StatCache) or self.digests.is_whole

    def _as_locked(
        self, template: Template, taken: Taken, contents: Mapping[int, Content]
    ) -> Keys | None:
        """Return the keys that the lock has for a template with just this content."""
        base, _ = self._base(template, taken)
        if self.committed is None or base is None:
            return None
        return self.committed.keys(template, base=base, contents=contents)

    def git_key(self, template: Template, taken: Taken, found: Keys | None) -> str:
        """Return what stands for the keys of a template by what git calls its content.

        It is empty where nothing is copied, and where the files have changed by now.
        """
        base, _ = self._base(template, taken)
        if found is None or base is None or not (taken.selections or taken.context):
            return ""
        try:
            taken = taking.as_committed(taken)
        except UnknownError:
            return ""
        base, _ = self._base(template, taken)
        assert base is not None
        contents = {n: keys.in_short(each) for n, each in _contents(taken).items()}
        return keys.as_committed(
            template,
            base=base,
            contents=contents,
            image_key=found.image_key,
            template_key=found.template_key,
        )

    def _above(self, template: Template) -> Template | None:
        """Return the template that one is based on, if it is based on one."""
        base = template.base
        return self.done[base.template].template if isinstance(base, TemplateBase) else None

    def _identity(
        self, template: Template, taken: Taken, contents: Mapping[int, Content]
    ) -> Identity:
        """Return the keys of a template, or what has to be resolved before it has any."""
        base, missing = self._base(template, taken)
        found = None if base is None else keys.of(template, base=base, contents=contents)
        return found, missing

    def _base(self, template: Template, taken: Taken) -> pins.Based:
        """Return a template's base as it stands in its key, or what has to be resolved for that."""
        parent: Identity = None, ()
        if isinstance(template.base, TemplateBase):
            based_on = self.done[template.base.template]
            parent = based_on.keys, based_on.unresolved
        return pins.record(template, taken, self.resolved, parent)

    def retaken(self, template: Template, take: Callable[[], Taken], known: Keys) -> Taken:
        """Look for the files of a template whose keys were known. Raises Changed."""
        taken = take()
        if self._identity(template, taken, _contents(taken))[0] != known:
            if self.recall:
                self.recall.forget(template.name)
            text = f"the files of `{template.name}` changed while they were being read"
            raise Changed(text, hint="run again when nothing writes to them")
        return taken

    # --- two processes -----------------------------------------------------------------------

    def backwards(self, names: tuple[str, ...]) -> Iterator[bytes]:
        """Survey from the last to the first, each after what it is based on, and tell of each."""
        assert isinstance(self.digests, StatCache)
        self.digests.noted()
        for name in (each for last in reversed(names) for each in ordered(self.workspace, [last])):
            if name not in self.done:
                self.one(name)
                made = self.done.get(name)
                if made is not None and made.keys is not None and not made.recalled:
                    told = self._telling(made, made.keys)
                    if told is not None:
                        yield marshal.dumps(tuple(told))

    def _telling(self, made: Surveyed, keys: Keys) -> _Told | None:
        """Return what the other process is told of a template; None if nothing can be."""
        assert isinstance(self.digests, StatCache)
        kept = self.recall.told(made.template.name) if self.recall else None
        looked = Looked()
        if kept is None:
            try:
                looked = looks.of(made.seen, made.looked_at, self.tops)
            except (OSError, ValueError, struct.error):  # a file of the year 2300 has no mark
                return None
        return _Told(
            name=made.template.name,
            parent=_parent_key(made.template, self.done),
            image_key=keys.image_key,
            template_key=keys.template_key,
            parts=dict(keys.parts),
            is_committed=made.is_committed,
            kept=kept,
            looked=tuple(looked),
            hashes=tuple(self.digests.noted()),
        )

    def listen(self, second: Ahead) -> None:
        """Take what the second process tells, from `backwards`."""
        for answer in second.answered():
            told = _Told(*marshal.loads(answer))  # of our own process  # noqa: S302
            self.told[told.name] = told

    def _told(self, name: str, parent: str) -> _Told | None:
        """Return what the second process found of a template, if it was based on the same."""
        told = self.told.pop(name, None)
        return told if told is not None and told.parent == parent else None

    def _known(self, told: _Told) -> Known:
        """Take what the second process found of a template."""
        assert isinstance(self.digests, StatCache)
        self.digests.learn(partial(Hashes, *told.hashes))
        if told.kept is not None and self.recall:
            return self.recall.learn(told.name, told.kept)
        return told.known(self.tops.first)


class _Later:
    """Looks for the files of a template whose keys are known, once."""

    __slots__ = ("_found", "_known", "_surveyor", "_take", "_template")

    def __init__(
        self, surveyor: _Surveyor, template: Template, take: Callable[[], Taken], known: Keys
    ) -> None:
        self._surveyor = surveyor
        self._template = template
        self._take = take
        self._known = known
        self._found: Taken | None = None

    def taken(self) -> Taken:
        """Return what the template takes. Raises Changed, ConfigError."""
        if self._found is None:
            self._found = self._surveyor.retaken(self._template, self._take, self._known)
        return self._found

    def git_key(self) -> str:
        """Return what stands for its keys where git tells the content, as `git_key` above."""
        try:
            return self._surveyor.git_key(self._template, self.taken(), self._known)
        except (Changed, ConfigError):
            return ""


def _parent_key(template: Template, done: Mapping[str, Surveyed]) -> str:
    """Return the image key of what a template is based on: `-` for no template, "" for none yet."""
    if not isinstance(template.base, TemplateBase):
        return "-"
    found = done[template.base.template].keys
    return found.image_key if found else ""


def _contents(taken: Taken) -> Mapping[int, Content]:
    return {number: keys.content(each) for number, each in taken.manifests.items()}
