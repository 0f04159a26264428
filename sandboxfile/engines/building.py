"""One build through the engine's API: `POST /build` with our own archive, its account told live."""

import json
from collections.abc import Mapping
from typing import Any

from sandboxfile.cancel import Cancel
from sandboxfile.engines import BuilderKind, BuildSpec
from sandboxfile.engines.buildx import REMEDY
from sandboxfile.engines.quirks import Quirks
from sandboxfile.engines.trace import Narrator
from sandboxfile.engines.wire import Message, Refused, Wire, failure
from sandboxfile.errors import Unreachable, Unsupported
from sandboxfile.events import Emit, Notice
from sandboxfile.frozen import dataclass

# Docker must not look for credentials of its own; bases are pulled beforehand. `{}` in Base64.
HEADERS = {"Content-Type": "application/x-tar", "X-Registry-Config": "e30="}


class ContextUnread(Unsupported):
    """The engine's BuildKit cannot read an archive that was sent without a session.

    Seen with Engine 26 on containerd's image store; 28 and 29 can.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How builds are made on one engine."""

    wire: Wire
    builder: BuilderKind
    quirks: Quirks
    network: str | None

    def run(self, spec: BuildSpec, *, emit: Emit, cancel: Cancel) -> str:
        """Build, and return the id that the engine gives the image.

        Raises BuildFailed, Unsupported, Unreachable, Cancelled, and what reading the context does.
        """
        narrator = Narrator(spec.job, emit, within=spec.within)
        image_id = ""
        try:
            with (
                cancel.on_cancel(lambda: self._say_on_cancel(spec.job, emit)),
                self.wire.stream(
                    "/build",
                    params=self._parameters(spec),
                    headers=HEADERS,
                    body=spec.context(),
                    cancel=cancel,
                ) as messages,
            ):
                for message in messages:
                    image_id = _told(message, narrator) or image_id
        except Refused as refused:
            raise narrator.failure(refused.reason) from refused
        narrator.close()
        if not image_id:
            raise Unreachable(
                f"the engine at `{self.wire.address}` ended the build without an image",
                hint="it may have been stopped; look at its log",
            )
        return image_id

    def _parameters(self, spec: BuildSpec) -> Mapping[str, Any]:
        buildkit = self.builder == "buildkit"
        args = {"SOURCE_DATE_EPOCH": "0", **spec.args} if buildkit else dict(spec.args)
        params: dict[str, str | None] = {
            "t": spec.tag,
            "dockerfile": spec.dockerfile,
            "buildargs": json.dumps(args),
            "labels": json.dumps(dict(spec.labels)),
            "platform": spec.platform,
            "rm": "1",
            "forcerm": "1",
            "target": spec.stage,
            "networkmode": self.network,
            "nocache": "1" if spec.no_cache else None,
        }
        if self.quirks.version_parameter:
            params["version"] = "2" if buildkit else "1"
        return {name: value for name, value in params.items() if value}

    def _say_on_cancel(self, job: str, emit: Emit) -> None:
        if not self.quirks.cancels_builds:
            text = "Podman finishes the step it is running before it stops"
            emit(Notice(job=job, text=text, level="warning"))


def _told(message: Message, narrator: Narrator) -> str:
    """Pass one message on; return the image's id if it is the one that says it."""
    if failed := failure(message):
        raise _failure(*failed, narrator)
    aux = message.get("aux")
    if message.get("id") == "moby.buildkit.trace" and isinstance(aux, str):
        narrator.trace(aux)
    elif isinstance(aux, dict) and "ID" in aux:
        return str(aux["ID"])
    elif message.get("stream"):
        narrator.text(str(message["stream"]))
    return ""


def _failure(text: str, code: int | None, narrator: Narrator) -> Exception:
    if "no active session" in text:
        return Unsupported(
            "BuildKit must ask for a login or a secret, which this way of building cannot answer:"
            f" {text}",
            hint="name every base image in FROM literally so that it is pulled beforehand, and drop"
            " a `# syntax=` line",
        )
    if "http://build-context-" in text:
        return ContextUnread("this engine cannot read the files of a build", hint=REMEDY)
    full = "no space left on device" in text
    hint = "free some room: `docker system df` shows what takes it" if full else ""
    return narrator.failure(text, code, hint=hint)
