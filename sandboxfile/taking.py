"""What a template takes of the workspace: the files of its copies, its own Dockerfile."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sandboxfile import (
    blobs,
    contents,
    context,
    dockerfile,
    keys,
    reading,
    steps,
    translation,
    userdockerfile,
)
from sandboxfile.contents import Manifest, Selection
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.gathering import Ground
from sandboxfile.model import (
    Account,
    BootstrapBase,
    Builder,
    Copy,
    DockerfileBase,
    ImageConfig,
    RemoteBase,
    Template,
    Workdir,
    Workspace,
)
from sandboxfile.places import Problem
from sandboxfile.statcache import Digests
from sandboxfile.translation import Translation
from sandboxfile.userdockerfile import UserDockerfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a template takes of the workspace, and the content of it.

    `whole` is the content of `context`, that of a Dockerfile. `below` are the files of the copies
    in a Dockerfile that the service is to carry out.
    """

    selections: Mapping[int, Selection] = field(default_factory=dict)
    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    dockerfile: UserDockerfile | None = None
    context: Selection | None = None
    whole: Manifest | None = None
    below: Mapping[int, Selection] = field(default_factory=dict)


def take(
    workspace: Workspace,
    ground: Ground,
    template: Template,
    parent: Template | None,
    *,
    digests: Digests,
    builder: Builder,
) -> Taken:
    """Find and read what a template takes that is based on `parent`. Raises ConfigError."""
    check(template, parent, builder)
    selections = {
        number: context.select(copy, ground) for number, copy in dockerfile.copies(template)
    }
    user_file, user_context = _dockerfile(template, workspace, ground)
    return Taken(
        selections=selections,
        dockerfile=user_file,
        context=user_context,
        whole=keys.manifest(user_context, digests) if user_context else None,
        manifests={n: keys.manifest(s, digests) for n, s in selections.items()},
        below=_below(template, ground, user_file) if builder == "remote" else {},
    )


def as_committed(taken: Taken) -> Taken:
    """Return the same with the content as git calls it. Raises UnknownError if it has changed."""
    whole = taken.whole
    if taken.context is not None and whole is not None:
        whole = blobs.as_committed(taken.context, whole)
    manifests = {
        number: blobs.as_committed(selection, taken.manifests[number])
        for number, selection in taken.selections.items()
    }
    return replace(taken, manifests=manifests, whole=whole)


def check(template: Template, parent: Template | None, builder: Builder) -> None:
    """Refuse what the target's builder cannot do. Raises ConfigError."""
    if builder == "docker":
        _check_remote(template, parent)
        return
    problems = [*steps.problems(template), *_unbuildable(template)]
    if problems:
        raise ConfigError(problems)


def _unbuildable(template: Template) -> Iterator[Problem]:
    """Complain of a base that the service cannot begin with."""
    hint = "build here instead: `builder: docker`, with a `registry`"
    match template.base:
        case BootstrapBase() as base:
            text = f"the service cannot make {base.distribution} from its packages"
            yield Problem(base.at, text, hint)
        case _:
            pass


def _below(
    template: Template, ground: Ground, user_file: UserDockerfile | None
) -> Mapping[int, Selection]:
    """Find what the service is to be sent for a Dockerfile. Raises ConfigError.

    Variables that the image sets are not known here: nothing that they decide is complained of.
    """
    base, found = template.base, translated(template, user_file, None)
    if found is None:
        return {}
    assert isinstance(base, DockerfileBase)
    whole = replace(template, instructions=found.instructions)
    if problems := steps.problems(whole):
        raise ConfigError(problems)
    copies = [each for each in found.instructions if isinstance(each, Copy)]
    below = {
        number: context.select(copy, ground, dockerfile=base.dockerfile)
        for number, copy in enumerate(copies, 1)
    }
    if problems := tuple(_untrue(below, found.unpacking)):
        raise ConfigError(problems)
    return below


def translated(
    template: Template, user_file: UserDockerfile | None, image: ImageConfig | None
) -> Translation | None:
    """Return the Dockerfile that a template begins with in our terms, None without one.

    Raises ConfigError for what the service cannot do, as far as the image is known.
    """
    base = template.base
    if not isinstance(base, DockerfileBase):
        return None
    assert user_file is not None
    return translation.translate(user_file, base, image)


def _untrue(below: Mapping[int, Selection], unpacking: frozenset[int]) -> Iterator[Problem]:
    """Complain of copies whose files would arrive otherwise than in an image."""
    for number, selection in below.items():
        packed = contents.packed(selection) if number in unpacking else None
        if packed is not None:
            text = f"the service cannot unpack `{packed}`, as `ADD` does"
            yield Problem(selection.at, text, f"unpack it with `RUN`, or {translation.HINT}")
        if contents.is_shut(selection):
            text = "the service would let everybody enter directories, with this `--chmod`"
            yield Problem(selection.at, text, "give directories `x` wherever they have `r`")


def _check_remote(template: Template, parent: Template | None) -> None:
    """Refuse instructions on a template that only the service has: it would have to run them."""
    base = template.base
    hint = "build on an image, or on a template of this workspace that is built on one"
    if parent is not None and isinstance(parent.base, RemoteBase):
        text = f"`{parent.name}` is `{parent.base.remote}` at the target and has no image here"
        raise ConfigError([Problem(base.at, text, hint)])
    if not isinstance(base, RemoteBase):
        return
    problems = [
        Problem(each.at, f"this cannot be added to `{base.remote}`, which is at the target", hint)
        for each in template.instructions
        if not isinstance(each, Account | Workdir)  # user and directory are the service's to set
    ]
    if problems:
        raise ConfigError(problems)


def _dockerfile(
    template: Template, workspace: Workspace, ground: Ground
) -> tuple[UserDockerfile, Selection] | tuple[None, None]:
    base = template.base
    if not isinstance(base, DockerfileBase):
        return None, None
    root = workspace.root
    shown = _shown(base.dockerfile, root)
    try:
        text = reading.read(base.dockerfile, root).decode("utf-8")
        parsed = userdockerfile.parse(text, file=shown, args=base.args, stage=base.stage)
    except FileNotFoundError:
        text = f"there is no Dockerfile `{shown}`"
        raise ConfigError([Problem(base.at, text, _near(base.dockerfile, root))]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        text = f"the Dockerfile `{shown}` cannot be read: {reason}"
        hint = "name a text file inside the workspace that you may read"
        raise ConfigError([Problem(base.at, text, hint)]) from None
    except SandboxfileError as error:
        raise ConfigError([Problem(error.at or base.at, error.message, error.hint)]) from None
    undeclared = [name for name in parsed.secrets if name not in workspace.secrets]
    if undeclared:
        text = f"the Dockerfile mounts secret `{undeclared[0]}`, which is not declared"
        hint = f"add `secrets: {{{undeclared[0]}: {{env: NAME}}}}`"
        raise ConfigError([Problem(base.at, text, hint)])
    return parsed, context.select_context(base, ground)


def _near(path: Path, root: Path) -> str:
    """Name the files beside a missing Dockerfile that were meant, or what to do without any."""
    from difflib import get_close_matches

    try:
        beside = sorted(each.name for each in path.parent.iterdir() if each.is_file())
    except OSError:
        return f"there is no directory `{_shown(path.parent, root)}` either: correct the path"
    near = get_close_matches(path.name, beside, n=3, cutoff=0.5)
    near += [name for name in beside if "dockerfile" in name.lower() and name not in near]
    near = [name for name in near if not name.endswith(".dockerignore")]
    paths = (_shown(path.with_name(name), root) for name in near[:3])
    named = " or ".join(f"`{contents.shown(each)}`" for each in paths)
    return f"did you mean {named}?" if named else "write it, or correct the path"


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
