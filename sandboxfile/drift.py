"""What has become of the lock's builds at the service since: a pure comparison, a thin asker."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from sandboxfile import several, tags
from sandboxfile.app import Session
from sandboxfile.frozen import dataclass, replace
from sandboxfile.lockfile import Entry
from sandboxfile.parts import Parts
from sandboxfile.releases import DEFAULT, Published
from sandboxfile.releasing import NoTags, NotThere, ask

Kind = Literal["deleted", "build gone", "build not ready", "retagged", "rebuilt"]
AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One way in which the service differs from the lock; `tag` and `build_id` where it has them.

    `remedy` is the command that makes it as the lock says, or the lock as it is.
    """

    kind: Kind
    text: str
    remedy: str
    tag: str = ""
    build_id: str = ""
    wanted: str = ""  # the build that the tag is to be on

    def __str__(self) -> str:
        return f"{self.text} ({self.remedy})"

    @property
    def as_json(self) -> dict[str, str | None]:
        """The difference as data for `--json`."""
        return {
            "kind": self.kind,
            "text": self.text,
            "remedy": self.remedy,
            "tag": self.tag or None,
            "build_id": self.build_id or None,
        }


def compare(
    name: str, entry: Entry, published: Published, expected: Collection[str]
) -> list[Drift]:
    """Compare an entry of the lock with what the service has; `expected` are tags builds move.

    Tags that the lock has as moved are expected where it says they are.
    """
    found = [*_build(name, entry, published)]
    if any(each.kind == "build gone" for each in found):
        return found
    found += _content(name, entry, published)
    wanted = dict.fromkeys({*(entry.tags or ()), *expected}, entry.build_id)
    for tag, build in sorted({**wanted, **entry.moved}.items()):
        found += _tag(name, tag, build, published)
    return found


def _build(name: str, entry: Entry, published: Published) -> Iterable[Drift]:
    if not published.builds:  # a service that does not list them
        return
    build = published.build(entry.build_id)
    if build is None:
        text = f"the service no longer has build {entry.build_id}"
        remedy = f"sandboxfile build {name} --force"
        yield Drift(kind="build gone", text=text, remedy=remedy, build_id=entry.build_id)
    elif build.state != "ready":
        text = f"build {entry.build_id} is `{build.state}` at the service"
        remedy = f"sandboxfile build {name} --force"
        yield Drift(kind="build not ready", text=text, remedy=remedy, build_id=entry.build_id)


def _content(name: str, entry: Entry, published: Published) -> Iterable[Drift]:
    """Tell of another ready build of the same content, which other machines would adopt."""
    tag = tags.content(entry.template_key)
    other = published.tags.get(tag, entry.build_id)
    build = published.build(other)
    if other == entry.build_id or build is None or build.state != "ready":
        return
    text = f"the same content was built again elsewhere: build {other}"
    remedy = f"take the other's lock, or sandboxfile tag {name} TAG... --build {other}"
    yield Drift(kind="rebuilt", text=text, remedy=remedy, tag=tag, build_id=other)


def _tag(name: str, tag: str, build: str, published: Published) -> Iterable[Drift]:
    now = published.tags.get(tag, "")
    if now == build:
        return
    ids = [each.build_id for each in published.builds]
    is_newer = now in ids and build in ids and ids.index(now) < ids.index(build)
    kind: Kind = "rebuilt" if is_newer else "retagged"
    what = "is gone" if not now else f"is on {'the newer ' if is_newer else ''}build {now}"
    text = f"`{tag}` {what}, not on {build}"
    remedy = f"sandboxfile tag {name} {tag} --build {build}"
    yield Drift(kind=kind, text=text, remedy=remedy, tag=tag, build_id=now, wanted=build)


def lines(name: str, found: Iterable[Drift]) -> list[str]:
    """Tell the differences to people: tags that have gone the same way on one line."""
    together: dict[tuple[str, ...], list[Drift]] = {}
    for each in found:
        way = (each.kind, each.build_id, each.wanted) if each.wanted else (each.text,)
        together.setdefault(way, []).append(each)
    return [_told(name, each) for each in together.values()]


def _told(name: str, alike: list[Drift]) -> str:
    first, *more = alike
    if not more:
        return str(first)
    listed = ", ".join(f"`{each.tag}`" for each in alike)
    text = first.text.replace(f"`{first.tag}` is ", f"{listed} are ", 1)
    tags = " ".join(each.tag for each in alike)
    remedy = first.remedy.replace(f" {name} {first.tag} --", f" {name} {tags} --", 1)
    return f"{text} ({remedy})"


def ask_all(session: Session, names: Iterable[str]) -> Mapping[str, list[Drift]]:
    """Ask for every template that the lock has, several at a time; those that differ.

    A service without tags is compared by its builds alone. Raises NotAllowed, Unreachable.
    """
    entries = session.entries()
    names = [name for name in names if name in entries]
    if not names:
        return {}
    service = Parts(session).templates()

    def asked(name: str) -> list[Drift]:
        entry = entries[name]
        try:
            published = ask(service, name, entry.template_id, target=session.target.name)
        except NotThere as error:
            return [Drift(kind="deleted", text=error.message, remedy=error.hint)]
        except NoTags as error:
            return [*_build(name, entry, error.published)]
        default = (DEFAULT,) if session.target.default and session.target.api != "v1" else ()
        return compare(name, entry, published, default)

    found = dict(zip(names, several.each(asked, names, AT_ONCE), strict=True))
    return {name: _at(session.args.target, each) for name, each in found.items() if each}


def _at(target: str | None, found: Iterable[Drift]) -> list[Drift]:
    """Have remedies name the target that was asked for by name."""
    if target is None:
        return [*found]
    return [
        replace(each, remedy=f"{each.remedy} --target {target}") if each.remedy else each
        for each in found
    ]
