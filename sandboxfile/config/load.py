"""From the path of a `novita.yaml` to a Workspace, or to everything that is wrong with it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sandboxfile import collector
from sandboxfile.config import caches, expand, groups, matrix, template, variables, workspace
from sandboxfile.config.document import Node
from sandboxfile.config.expand import Known, Source
from sandboxfile.config.files import Files, Written
from sandboxfile.config.given import Given
from sandboxfile.config.matrix import Variant
from sandboxfile.config.names import Named, Names
from sandboxfile.config.problems import Problems
from sandboxfile.config.scope import Scope, value
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass, replace
from sandboxfile.model import Template, TemplateBase, Workspace


def load(path: Path, given: Given | None = None) -> Workspace:
    """Read a configuration with its members. Raises ConfigError with all problems, by place.

    Every file is read once. `given` has the values of variables. Raises UsageError for a `--var`
    that is not declared.
    """
    with collector.paused():
        files = _files(path)
        loaded = _workspace(files, given or Given())
        _check_structure(files)
    return loaded


def meanings(path: Path, given: Given) -> Mapping[str, object]:
    """Return what each template of a configuration says, for comparison with another state of it.

    What is wrong with it does not matter here: templates that cannot be read are left out. Two
    states are the same if the same is said, by files in the same directories.
    """
    with collector.paused():
        try:
            read = _files(path)
            values = variables.read(_variables(read), given, read.files.problems, complete=False)
            meant = _meant(read, values, read.files.scope())
        except ConfigError:
            return {}
        scope = read.files.scope()
        return {each.variant.name: _meaning(each.variant.node, scope) for each in meant}


def declared(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the variables of a configuration, each with the only values it may have, if any.

    None needs to have a value. Raises ConfigError where the files cannot be read.
    """
    return {name: variables.words(node) for name, node in _variables(_files(path)).items()}


def _meaning(node: Node, scope: Scope) -> object:
    match node.content:
        case tuple():
            return tuple(_meaning(item, scope) for item in node.content)
        case str():
            return node.content, scope.beside(node).relative_to(scope.root)
        case Mapping():
            kept = (each for each in node.content.items() if not each[0].startswith("x-"))
            return {key: _meaning(child, scope) for key, child in kept}
        case _:
            return repr(node.content)


@dataclass(frozen=True, slots=True)
class _Read:
    """The files of a workspace: what the root says and what each member says."""

    files: Files
    root: Written
    members: tuple[Written, ...]

    @property
    def all(self) -> tuple[Written, ...]:
        return (self.root, *self.members)


def _files(path: Path) -> _Read:
    directory = Path(os.path.abspath(path)).parent.resolve()  # noqa: PTH100 - keeps the last link
    files = Files(directory / path.name)
    root = files.root(path)
    members = files.members(root)
    return _Read(files, files.written(root), tuple(files.written(file) for file in members))


def _check_structure(read: _Read) -> None:
    """Check every file against the schema, and end with all problems."""
    from sandboxfile.config import schema

    problems = read.files.problems
    schema.check((file.node for file in read.files.read), problems)
    problems.end()


# --- templates -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Meant:
    """A variant with the template it was written as, and the one whose configuration it takes."""

    variant: Variant
    source: Source
    parent: str | None


def _sources(read: _Read, problems: Problems) -> dict[str, Source]:
    """Return every written template by its address, over the defaults of root and file."""
    found: dict[str, Source] = {}
    above = read.root.defaults
    for written in read.all:
        member = written.file.member
        own = written.defaults
        defaults = above if written is read.root or own is None else expand.over(above, own)
        for key, node in written.templates.items():
            source = Source(key, member, node, defaults)
            first = found.setdefault(f"{member}:{key}", source)
            if first is not source:
                message = f"template `{key}` is given twice, first at {_at(first.node)}"
                problems.add_key(node, message, "rename one of them")
    return found


def _at(node: Node) -> str:
    return str(node.key_at or node.at)


def _meant(read: _Read, values: Mapping[str, str | None], scope: Scope) -> list[_Meant]:
    """Return all variants of all templates: merged, multiplied, with references replaced."""
    problems = scope.problems
    sources = _sources(read, problems)
    written = Names.of(
        (Named(address, each.key, each.member) for address, each in sources.items()),
        complete=read.files.complete,
    )
    merged, parents = expand.inherit(sources, written, problems)
    found: dict[str, _Meant] = {}
    for address, node in merged.items():
        source = sources[address]
        for variant in matrix.expand_template(source.key, node, values, scope):
            each = _Meant(variant, source, parents.get(address))
            first = found.setdefault(variant.name, each)
            if first is not each:
                _complain_of_twin(first, each, problems)
    return list(found.values())


def _complain_of_twin(first: _Meant, second: _Meant, problems: Problems) -> None:
    """Say that two templates would be one at the service, and how to tell them apart."""
    name, node = second.variant.name, second.source.node
    named = value(node, "name") or node
    at = _at(first.source.node)
    if first.source is second.source:
        message = f"several variants of `{second.source.key}` are called `{name}`"
        problems.add(named, message, "name every axis in `name`: `${matrix.AXIS}`")
    elif _at(node) == at:
        message = f"template `{name}` is included by several files of the workspace"
        problems.add_key(node, message, "include its file in the root only")
    else:
        message = f"template `{name}` is given twice, first at {at}"
        path = second.source.member
        new = path if path.endswith(f"/{name}") else f"{path}-{name}"
        new = matrix.folded(new)
        hint = f"give this one another name for the service: `name: {new}`"
        if not path:
            hint = "give one of them another `name`"
        problems.add_key(node, message, hint)


def _names(meant: Iterable[_Meant], *, complete: bool) -> Names:
    return Names.of(
        (
            Named(each.variant.name, each.source.key, each.source.member, each.variant.matrix)
            for each in meant
        ),
        complete=complete,
    )


# --- the workspace ---------------------------------------------------------------------------


def _workspace(read: _Read, given: Given) -> Workspace:
    files, root = read.files, read.root.file
    problems = files.problems
    declared = _variables(read)
    values = variables.read(declared, given, problems, complete=files.complete)
    scope = files.scope()
    meant = _meant(read, values, scope)
    known = Known(values)
    around = {
        key: expand.interpolate(node, known, problems)
        for key in workspace.KEYS
        if (node := value(root.node, key)) is not None
    }
    secrets = workspace.secrets(around.get("secrets"), scope)
    written = value(root.node, "secrets")
    names = _names(meant, complete=files.complete)
    scope = replace(scope, names=names, secrets=tuple(written.entries) if written else ())
    templates = dict(_templates(meant, scope))
    _refuse_circles(templates, problems)
    targets = workspace.targets(around.get("targets"), scope)
    return Workspace(
        root=scope.root,
        file=root.path,
        templates=templates,
        targets=targets,
        default_target=workspace.default_target(
            around.get("default_target"), _all_names(around.get("targets"), targets), scope
        ),
        engine=workspace.engine(around.get("engine"), scope),
        cache=caches.read(around.get("cache"), scope),
        secrets=secrets,
        groups=groups.read(value(root.node, "groups"), scope),
        files=tuple(file.path for file in files.read),
        looked_at=tuple(sorted(files.looked_at)),
        environment=variables.environment(declared),
    )


def _variables(read: _Read) -> dict[str, Node]:
    """Return all declarations: a variable is one thing in the whole workspace."""
    found: dict[str, Node] = {}
    for written in read.all:
        for name, node in written.variables.items():
            first = found.setdefault(name, node)
            if _at(first) != _at(node):
                message = f"variable `{name}` is declared twice, first at {_at(first)}"
                read.files.problems.add_key(node, message, "declare it in the root")
    return found


def _templates(meant: Iterable[_Meant], scope: Scope) -> Iterator[tuple[str, Template]]:
    scopes: dict[str, Scope] = {}  # of templates without a matrix, by member
    for each in meant:
        variant, source = each.variant, each.source
        inner = scopes.get(source.member) if not variant.matrix else None
        if inner is None:
            inner = replace(scope, member=source.member, matrix=variant.matrix)
        if not variant.matrix:
            scopes[source.member] = inner
        extends = _extended(each.parent, inner)
        read = template.read(variant.name, variant.node, inner, key=source.key, extends=extends)
        if read is not None:
            yield variant.name, read


def _extended(parent: str | None, scope: Scope) -> tuple[str, ...]:
    """Return the templates that one takes its configuration from: the variants like it."""
    if parent is None:
        return ()
    found = [name for names in scope.names.find(parent).values() for name in names]
    return scope.alike(found) or tuple(found)


def _all_names(written: Node | None, known: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of all targets, also of those that are wrong and not read."""
    return tuple({**(written.entries if written else {}), **known})


def _refuse_circles(templates: Mapping[str, Template], problems: Problems) -> None:
    edges = {
        name: each.base.template
        for name, each in templates.items()
        if isinstance(each.base, TemplateBase)
    }
    for loop in expand.loops(edges):
        way = " -> ".join(f"`{name}`" for name in (*loop, loop[0]))
        at = templates[loop[0]].base.at
        node = Node(loop[1] if len(loop) > 1 else loop[0], at, raw=edges[loop[0]])
        problems.add(node, f"`base` goes in a circle: {way}", "build one of these on an image")
