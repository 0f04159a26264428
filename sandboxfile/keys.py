"""Image key and template key: one digest over everything that decides an image or a snapshot.

A key is SHA-256 over the canonical JSON of a structure, written `sf1:<hex>`; golden tests pin it.
In no key: names, tags, the target, secrets' values, times, the lock, and where things are written.

The image key covers: the version of the recipe (how we turn instructions into an image), the
platform, the base, the instructions in order, the content of what they copy, and the user and
working directory that the image ends with, or that they are taken over from the base (as its
digest decides). The base is a record that says what kind it is:

    {"image": "sha256:…"}                      the linux/amd64 manifest, or an image of the engine
    {"template": "sf1:…"}                      the parent's image key
    {"remote": "name:tag"}                     a template that exists at the target
    {"dockerfile": {text, context, stage, args, images}}
    {"bootstrap": {distribution, suite, …, digest}}

The template key covers the image key, and start, ready, resources and the pre-boot script.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, assert_never

from sandboxfile.contents import FileRecord, Kind, Manifest, Selection, shown
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import dataclass
from sandboxfile.model import (
    INHERIT,
    PLATFORM,
    Account,
    BootstrapBase,
    Copy,
    Env,
    Install,
    InstallProject,
    Run,
    Template,
    Workdir,
)
from sandboxfile.places import Problem
from sandboxfile.statcache import Digests

RECIPE = 2  # raised when the same instructions become another image
FORMAT = "sf1"

_COMMON = 256  # characters of a part that may be that of many templates
_LISTED = 20  # unreadable files named in one error

Record = Mapping[str, object]  # what JSON can hold, without fractions; keys are text


class Content(NamedTuple):
    """What a copy brings, as it stands in a key: `files` is the canonical JSON of them all."""

    files: str
    single: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Both keys of a template, and a short digest of each part of it, so that `why` can answer."""

    image_key: str
    template_key: str
    parts: Mapping[str, str]


def canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces, in ASCII.

    A byte of a file name that is no UTF-8 is a lone surrogate in the text, and that becomes an
    escape of its own: different names stay different. Raises TypeError for what JSON cannot hold.
    """
    return _text(value).encode("ascii")


def _mapping(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


# What is written never contains itself.
_text = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), default=_mapping, check_circular=False
).encode


# Texts are put together as the encoder would, the members of a map in the order of their names, in
# a fraction of the time. What occurs several times is encoded once.

_TRUTH = ("false", "true")
_RECIPE, _PLATFORM, _INHERIT = _text(RECIPE), _text(PLATFORM), _text(INHERIT)


_quoted = json.encoder.encode_basestring_ascii


def _word(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(texts)}]"


def _before(name: str, text: str, rest: str) -> str:
    """Put a member first into the text of a map, all of whose names come after it."""
    return f'{{"{name}":{text},{rest[1:]}'


def _key(text: str) -> str:
    return f"{FORMAT}:{sha256(text.encode('ascii')).hexdigest()}"


def digest(value: object) -> str:
    """Return the key of a structure: `sf1:` and 64 hex digits."""
    return _key(_text(value))


def short(value: object) -> str:
    """Return 8 hex digits of the digest of a structure: enough to see that it changed."""
    return digest(value)[4:12]


def of(template: Template, *, base: Record, contents: Mapping[int, Content]) -> Keys:
    """Compute the keys of a template.

    `base` is one of the records below; `contents` has what each Copy and InstallProject brings,
    by its number among them, from 1.
    """
    records = tuple(_records(template, contents))
    written = _text(base)
    image_key = _image_key(template, written, records)
    snapshot = _snapshot(template)
    parts = {"base": written, **_grouped(template, records), **snapshot}
    return Keys(
        image_key=image_key,
        template_key=_template_key(image_key, snapshot),
        parts={name: _part(text) for name, text in sorted(parts.items())},
    )


def as_committed(
    template: Template,
    *,
    base: Record,
    contents: Mapping[int, Content],
    image_key: str,
    template_key: str,
) -> str:
    """Compute what stands for the keys of a template where git tells the content of its files.

    `contents` (and a Dockerfile's in `base`) consist of what git calls it, see `blobs`. The keys
    are in it, so that what is told of other ones is not taken for theirs.
    """
    records = tuple(_records(template, contents))
    committed = _template_key(_image_key(template, _text(base), records), _snapshot(template))
    return _key(f'{{"committed":"{committed}","image":"{image_key}","template":"{template_key}"}}')


def _image_key(template: Template, base: str, records: tuple[tuple[str, str], ...]) -> str:
    inherit = template.inherit
    inherited = _INHERIT if inherit == INHERIT else _text(inherit)
    return _key(
        f'{{"base":{base},"inherit":{inherited},'
        f'"instructions":{_list([text for _, text in records])},'
        f'"platform":{_PLATFORM},"recipe":{_RECIPE},'
        f'"user":{_word(template.user)},"workdir":{_word(template.workdir)}}}'
    )


def _template_key(image_key: str, snapshot: Mapping[str, str]) -> str:
    members = ",".join([f'"{name}":{text}' for name, text in snapshot.items()])
    return _key(f'{{"image":{_quoted(image_key)},{members}}}')


def _part(text: str) -> str:
    """Return what `short` does of a structure's text; most parts are those of many templates."""
    return _short_of(text) if len(text) <= _COMMON else _key(text)[4:12]


@lru_cache(maxsize=4096)
def _short_of(text: str) -> str:
    return _key(text)[4:12]


def by_part(
    template: Template, manifests: Mapping[int, Manifest]
) -> Mapping[str, tuple[Manifest, ...]]:
    """Return the content of a template's copies by the part that each belongs to."""
    parts: dict[str, tuple[Manifest, ...]] = {}
    copies = (i for i in template.instructions if isinstance(i, Copy | InstallProject))
    for number, copy in enumerate(copies, 1):
        part = "files" if isinstance(copy, Copy) else "packages"
        parts[part] = (*parts.get(part, ()), manifests[number])
    return parts


def _snapshot(template: Template) -> dict[str, str]:
    """Return what decides the snapshot, besides the image, in the order of its names."""
    ready, resources = template.ready, template.resources
    record = {}
    if template.pre_boot is not None:
        record["pre_boot"] = _quoted(template.pre_boot)
    if ready:
        kind, value = _quoted(ready.kind), _quoted(ready.value)
        record["ready"] = f'{{"kind":{kind},"status":{ready.status},"value":{value}}}'
    record["resources"] = f'{{"cpu":{resources.cpu},"memory":{resources.memory}}}'
    if template.start is not None:
        record["start"] = _quoted(template.start)
    return record


def _grouped(template: Template, records: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the instructions by part. Together with their order they are the whole list."""
    parts: dict[str, list[str]] = {}
    for part, text in records:
        parts.setdefault(part, []).append(text)
    if template.user is not None:
        parts.setdefault("user", []).append(_quoted(template.user))
    if template.workdir is not None:
        parts.setdefault("workdir", []).append(_quoted(template.workdir))
    if template.inherit != INHERIT:
        parts["inherit"] = [_text(each) for each in template.inherit]
    if "steps" in template.places:  # sugar has one fixed order, `steps:` has the user's
        parts["steps"] = [_text(part) for part, _ in records]
    return {part: _list(texts) for part, texts in parts.items()}


def _records(template: Template, contents: Mapping[int, Content]) -> Iterator[tuple[str, str]]:
    """Yield each instruction as text, with the part of the template that it belongs to."""
    number = 0
    for instruction in template.instructions:
        if isinstance(instruction, Copy | InstallProject):
            number += 1
            yield _with_files(instruction, contents[number])
        else:
            yield _written(instruction)


def _with_files(instruction: Copy | InstallProject, content: Content) -> tuple[str, str]:
    if isinstance(instruction, Copy):
        return "files", f'{{"copy":{_copy(instruction, content)}}}'
    project = _text(
        {
            "install": instruction.manager,
            "files": instruction.files,
            "locked": instruction.locked,
            "to": instruction.to,
        }
    )
    return "packages", _before("copy", _copy(instruction.copy, content), project)


def _written(instruction: Env | Account | Install | Run | Workdir) -> tuple[str, str]:
    match instruction:
        case Env(values=values):
            pairs = [_list(map(_quoted, pair)) for pair in values.items()]
            return "env", f'{{"env":{_list(pairs)}}}'
        case Account(user=user):
            return "user", f'{{"account":{_quoted(user)}}}'
        case Install(manager=manager, packages=packages):
            named = _list(map(_quoted, packages))
            return "packages", f'{{"install":{_quoted(manager)},"packages":{named}}}'
        case Run(command=command, user=user, secrets=secrets):
            named = _list(map(_quoted, secrets))
            return "run", f'{{"run":{_quoted(command)},"secrets":{named},"user":{_word(user)}}}'
        case Workdir(path=path, owner=owner):
            return "workdir", f'{{"owner":{_word(owner)},"workdir":{_quoted(path)}}}'
        case _:
            assert_never(instruction)


def _copy(copy: Copy, content: Content) -> str:
    return (
        f'{{"files":{content.files},"mode":{_word(copy.mode)},"owner":{_word(copy.owner)},'
        f'"single":{_TRUTH[content.single]},"to":{_quoted(copy.to)}}}'
    )


# --- content ---------------------------------------------------------------------------------


def manifest(selection: Selection, digests: Digests) -> Manifest:
    """Read the content of a selection.

    Raises ConfigError naming what cannot be read, SandboxfileError for a file that changes
    while it is read.
    """
    below = len(selection.root) + 1
    found = zip(selection.entries, contents(selection, digests), strict=True)
    files = [
        FileRecord(name, kind, executable, content, path[below:])
        for (name, path, kind, _, executable, _), content in found
    ]
    return Manifest(files=tuple(files), single=selection.single)


def content(found: Manifest) -> Content:
    """Return the content of a selection as it stands in a key."""
    files = [(name, kind, x, text) for name, kind, x, text, _ in found.files]
    return Content(_items(files), found.single)


def content_of(selection: Selection, texts: Iterable[str]) -> Content:
    """Return the content of a selection as it stands in a key, by what `contents` has of it."""
    found = zip(selection.entries, texts, strict=True)
    files = [(name, kind, x, text) for (name, _, kind, _, x, _), text in found]
    return Content(_items(files), selection.single)


def content_of_directory(files: Iterable[tuple[str, Kind, bool, str]]) -> Content:
    """Return the content of a directory, of which all is given, sorted, as a selection has it.

    That are name, kind, executable bit and content.
    """
    return Content(_items(files), single=False)


def in_short(content: Content) -> Content:
    """Return a digest in place of all files, for who compares only."""
    return Content(_quoted(sha256(content.files.encode("ascii")).hexdigest()), content.single)


def contents(selection: Selection, digests: Digests) -> list[str]:
    """Return the content of each entry: a file's SHA-256, a link's text. Raises as `manifest`."""
    found, unreadable = [], []
    for _, path, kind, stat, _, link in selection.entries:  # tens of thousands
        try:
            found.append(digests.digest(path, stat) if kind == "file" else link)
        except OSError as error:
            unreadable.append(f"`{shown(path[len(selection.root) + 1 :])}`: {error.strerror}")
    if unreadable:
        more = f" and {len(unreadable) - _LISTED} more" if len(unreadable) > _LISTED else ""
        message = f"cannot read {', '.join(unreadable[:_LISTED])}{more}"
        raise ConfigError([Problem(selection.at, message)])
    return found


def _items(files: Iterable[tuple[str, Kind, bool, str]]) -> str:
    """Return what `_text` makes of `_files`, in a quarter of the time: there are thousands."""
    items = [
        f'["{kind}",{_quoted(name)},{"true" if x else "false"},{_quoted(content)}]'
        for name, kind, x, content in files
    ]
    return _list(items)


def _files(content: Manifest) -> list[list[object]]:
    return [[each.kind, each.name, each.executable, each.content] for each in content.files]


# --- bases -----------------------------------------------------------------------------------


def image_record(digest: str) -> Record:
    """Return the record of an image: `digest` of its linux/amd64 manifest, or its id."""
    return {"image": digest}


def template_record(image_key: str) -> Record:
    """Return the record of another template of the workspace, by its image key."""
    return {"template": image_key}


def remote_record(name: str) -> Record:
    """Return the record of a template at the target, `name` or `name:tag`."""
    return {"remote": name}


def dockerfile_record(
    text_sha256: str,
    content: Manifest,
    *,
    stage: str | None,
    args: Mapping[str, str],
    images: Mapping[str, str],
) -> Record:
    """Return the record of a Dockerfile.

    `text_sha256` is of its bytes as the user wrote them, `images` has the digest of every image
    that it names.
    """
    return {
        "dockerfile": {
            "text": text_sha256,
            "context": _files(content),
            "stage": stage,
            "args": args,
            "images": images,
        }
    }


def bootstrap_record(base: BootstrapBase, digest: str) -> Record:
    """Return the record of a bootstrapped root filesystem; `digest` is of its archive."""
    return {
        "bootstrap": {
            "distribution": base.distribution,
            "suite": base.suite,
            "mirror": base.mirror,
            "components": base.components,
            "include": base.include,
            "snapshot": base.snapshot,
            "epoch": base.epoch,
            "digest": digest,
        }
    }
