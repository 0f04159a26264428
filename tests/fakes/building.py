"""What tests of engines share: contexts made of literal files, and a memory for events."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping

from sandboxfile.engines import BuildSpec
from sandboxfile.events import Event, Log, Notice, StepDone, StepStarted

Context = Callable[[], Iterator[bytes]]


def packed(files: Mapping[str, bytes]) -> bytes:
    """Make a tar archive of files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def context(dockerfile: str, files: Mapping[str, bytes] | None = None) -> Context:
    archive = packed({"dockerfile": dockerfile.encode(), **(files or {})})
    return lambda: iter([archive])


def spec(dockerfile: str, tag: str, **fields: object) -> BuildSpec:
    """Make the specification of a build whose context is only its Dockerfile."""
    values = {"context": context(dockerfile), **fields}
    return BuildSpec(job="test", tag=tag, dockerfile="dockerfile", **values)  # type: ignore[arg-type]


class Events(list[Event]):
    """Remembers what was emitted."""

    def emit(self, event: Event) -> None:
        self.append(event)

    @property
    def lines(self) -> list[str]:
        return [each.text for each in self if isinstance(each, Log)]

    @property
    def notices(self) -> list[str]:
        return [each.text for each in self if isinstance(each, Notice)]

    @property
    def started(self) -> list[str]:
        return [each.step for each in self if isinstance(each, StepStarted)]

    @property
    def done(self) -> dict[str, StepDone]:
        return {each.step: each for each in self if isinstance(each, StepDone)}
