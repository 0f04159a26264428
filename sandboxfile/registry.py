"""Images at registries: which digest a tag has, what an image says of itself, is it really there.

The client side of the OCI distribution specification, reading only. Whatever a registry sends is
checked against its digest; a login goes to its registry and that registry's token server alone.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

from sandboxfile import registryanswers as answers
from sandboxfile.credentials import HUB
from sandboxfile.errors import NotAllowed, SandboxfileError, Unreachable
from sandboxfile.frozen import dataclass
from sandboxfile.imageconfig import Documents
from sandboxfile.loopback import is_loopback
from sandboxfile.model import DIGEST, PLATFORM, ResolvedBase
from sandboxfile.once import Once
from sandboxfile.reference import ImageReference
from sandboxfile.registryaccess import Access, Logins, login_command, remedy
from sandboxfile.registryanswers import FORBIDDEN, NOT_FOUND, OK, TOO_MANY, UNAUTHORIZED
from sandboxfile.web import Reply, Web

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# All four, always: a registry answers 404 to a client that does not accept the type it has.
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"

LIMIT = 4 << 20  # bytes of a manifest (distribution specification, push) or a configuration
PROBE_S = 5.0
REDIRECTS = 3
HUB_SERVER = "registry-1.docker.io"

CONFIRM_PAUSES_S = (0.2, 1.0)
NO_HEAD = frozenset({405, 501})

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """A manifest or an index of them, its bytes checked against `digest`."""

    digest: str
    is_index: bool
    content: Mapping[str, Any]
    body: bytes


class WrongPlatform(SandboxfileError):  # noqa: N818 - named for what it says
    """An image is there, and not for the platform that is asked for."""


class Registry:
    """Reads from any registry, each with its own login; safe to share between threads.

    `logins` is asked once a registry wants a login, at most once for each. Only this machine's
    own registries are spoken to without TLS. References are given as text or parsed.
    """

    def __init__(
        self,
        web: Web,
        logins: Logins,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web = web
        self._access = Access(web, logins, now)
        self._public = Once()

    def head(self, reference: ImageReference | str) -> str | None:
        """Return the digest that a tag has now, None when the image is not there.

        Of an index this is the index's own digest. Raises NotAllowed, Unreachable.
        """
        image = _parse(reference)
        reply = self._get(image, f"manifests/{image.manifest}", method="HEAD", accept=ACCEPT)
        if reply.status not in NO_HEAD:
            self._check(reply, image, absent=True)
        if reply.status == NOT_FOUND:
            return None
        digest = reply.headers.get("docker-content-digest", "")
        if reply.status == OK and DIGEST.fullmatch(digest):
            return digest
        # The specification only recommends the header, and HEAD itself; the content tells too.
        manifest = self._find(image)
        return manifest.digest if manifest else None

    def is_reachable(self, host: str) -> bool:
        """Tell whether a registry answers at all, from one short attempt."""
        try:
            self._web.send("GET", f"{_root(host)}/v2/", retry="never", timeout_s=PROBE_S)
        except Unreachable:
            return False
        return True

    def is_public(self, reference: ImageReference | str) -> bool:
        """Tell whether anybody may read an image: asked once, without login. Raises Unreachable."""
        image = _parse(reference)
        return self._public.of(str(image), lambda: self._is_public(image))

    def _is_public(self, image: ImageReference) -> bool:
        try:
            return Registry(self._web, lambda _: None).head(image) is not None
        except NotAllowed:
            return False

    def resolve(self, reference: ImageReference | str, platform: str = PLATFORM) -> ResolvedBase:
        """Return the image for one platform, pinned by the digest of its manifest.

        Raises NotAllowed, Unreachable, or SandboxfileError when there is no such image, none for
        this platform, or only one in a format of before 2016.
        """
        image = _parse(reference)
        manifest = self._manifest(image)
        digest = manifest.digest
        if manifest.is_index:
            digest = _choose(manifest.content, image, platform)
        elif (
            found := _platform(answers.json_object(self._blob(image, manifest), image))
        ) != platform:
            raise _wrong_platform(image, platform, {found})
        return ResolvedBase(reference=str(image.pin(digest)), digest=digest)

    def config(self, reference: ImageReference | str) -> tuple[str, Documents]:
        """Return what an image says of itself for our platform, and its manifest's digest.

        Raises as `resolve` does.
        """
        image = _parse(reference)
        manifest = self._manifest(image)
        if manifest.is_index:
            image = image.pin(_choose(manifest.content, image, PLATFORM))
            manifest = self._manifest(image)
        content = self._blob(image, manifest)
        if (found := _platform(answers.json_object(content, image))) != PLATFORM:
            raise _wrong_platform(image, PLATFORM, {found})
        return manifest.digest, Documents(manifest=manifest.body, config=content)

    def confirm(self, repository: str, digest: str) -> None:
        """Read a manifest back by its digest after a push; `repository` is `host/name`.

        Raises Unreachable when the registry does not have it or has other bytes, NotAllowed.
        """
        image = _parse(repository).pin(digest)
        for pause in CONFIRM_PAUSES_S:
            with suppress(Unreachable):
                self._pushed(image)
                return
            self._web.pause(pause)  # somebody may be writing the same content just now
        self._pushed(image)

    def _pushed(self, image: ImageReference) -> None:
        if self._find(image) is None:
            raise Unreachable(
                f"registry `{image.registry}` does not have `{image}`, although it was pushed",
                hint="push again; if it happens again, look into the registry's own log",
            )

    def _manifest(self, image: ImageReference) -> _Manifest:
        manifest = self._find(image)
        if manifest is None:
            raise SandboxfileError(
                f"image `{image}` not found at `{image.registry}`",
                hint="look at the spelling of its name and tag",
            )
        return manifest

    def _find(self, image: ImageReference) -> _Manifest | None:
        reply = self._get(image, f"manifests/{image.manifest}", accept=ACCEPT)
        self._check(reply, image, absent=True)
        if reply.status == NOT_FOUND:
            return None
        promised = image.digest or reply.headers.get("docker-content-digest", "")
        digest = _verified(reply.body, promised, image)
        return _read(reply, image, digest)

    def _blob(self, image: ImageReference, manifest: _Manifest) -> bytes:
        """Return the configuration that a manifest points to."""
        descriptor = manifest.content.get("config")
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise answers.not_sensible(image, "has a manifest without a configuration")
        reply = self._get(image, f"blobs/{digest}")
        self._check(reply, image)
        _verified(reply.body, digest, image)
        return reply.body

    def _get(
        self, image: ImageReference, path: str, *, method: Method = "GET", accept: str = "*/*"
    ) -> Reply:
        """Send a request, and once more with access when the registry asks for that."""
        url = f"{_root(image.registry)}/v2/{image.repository}/{path}"
        known = self._access.known(image)
        reply = self._send(method, url, image.registry, accept, known)
        if reply.status == UNAUTHORIZED:
            granted = self._access.grant(image, reply)
            if granted is not None and granted != known:
                reply = self._send(method, url, image.registry, accept, granted)
        return reply

    def _send(self, method: Method, url: str, host: str, accept: str, access: str | None) -> Reply:
        headers = {"accept": accept} | ({"authorization": access} if access else {})
        try:
            # Content often lies elsewhere; Web goes to another origin without `authorization`.
            return self._web.send(method, url, headers=headers, limit=LIMIT, redirects=REDIRECTS)
        except Unreachable as error:
            raise answers.unreachable(host, error) from None

    def _check(self, reply: Reply, image: ImageReference, *, absent: bool = False) -> None:
        """Raise what a status means; 404 is an answer only where something may be `absent`."""
        host, said = image.registry, answers.said(reply)
        if reply.status == OK or (absent and reply.status == NOT_FOUND):
            return
        if reply.status in {UNAUTHORIZED, FORBIDDEN}:
            what = f"registry `{host}` refuses access to `{image.repository}`{said}"
            raise NotAllowed(what, hint=remedy(host, self._access.login(host)))
        if reply.status == TOO_MANY:
            anonymous = self._access.login(host) is None
            hint = "wait a while" + (f", or log in with `{login_command(host)}`" * anonymous)
            raise Unreachable(f"registry `{host}` has had too many requests{said}", hint=hint)
        raise Unreachable(
            f"registry `{host}` answered {reply.status} for `{image}`{said}",
            hint="try again later; if it goes on, look into the registry's own log",
        )


def _root(registry: str) -> str:
    host = HUB_SERVER if registry == HUB else registry
    scheme = "http" if is_loopback(urlsplit(f"//{host}").hostname or "") else "https"
    return f"{scheme}://{host}"


# --- content ---------------------------------------------------------------------------------


def _parse(reference: ImageReference | str) -> ImageReference:
    if isinstance(reference, ImageReference):
        return reference
    try:
        return ImageReference.parse(reference)
    except ValueError as error:
        # What stands in front of an `@` may be a password.
        shown = reference.rpartition("@")[2]
        raise SandboxfileError(f"`{shown}` is not an image reference: {error}") from None


def _verified(body: bytes, promised: str, image: ImageReference) -> str:
    """Return the digest of `body`, which has to be the promised one where that is a SHA-256."""
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    if DIGEST.fullmatch(promised) and promised != digest:
        raise Unreachable(
            f"registry `{image.registry}` sent other bytes for `{image}` than their digest says",
            hint="try again; if it goes on, a proxy or the registry's storage damages data",
        )
    return digest


def _read(reply: Reply, image: ImageReference, digest: str) -> _Manifest:
    """Tell a manifest from an index; what could be taken for both is neither (CVE-2021-41190)."""
    content = answers.json_object(reply.body, image)
    header = reply.headers.get("content-type", "").partition(";")[0].strip()
    if content.get("schemaVersion") == 1 or header.startswith(SCHEMA_1):
        raise SandboxfileError(
            f"image `{image}` has the old manifest format (schema 1)",
            hint="pull and push it once with a current Docker, or choose a newer image",
        )
    is_index = "manifests" in content
    other = MANIFESTS if is_index else INDEXES
    both = is_index and ("config" in content or "layers" in content)
    if both or header in other or content.get("mediaType") in other:
        raise answers.not_sensible(image, "has a manifest whose type is not clear")
    return _Manifest(digest=digest, is_index=is_index, content=content, body=reply.body)


def _choose(index: Mapping[str, Any], image: ImageReference, platform: str) -> str:
    """Return the digest of the manifest for a platform, of the oldest CPU variant."""
    entries = index["manifests"] if isinstance(index["manifests"], list) else []
    offers = [(_platform(entry.get("platform")), entry) for entry in filter(_is_image, entries)]
    fitting = [entry for found, entry in offers if found == platform]
    if not fitting:
        raise _wrong_platform(image, platform, {found for found, _ in offers})
    chosen = min(fitting, key=lambda entry: str(entry["platform"].get("variant", "")))
    digest = chosen.get("digest")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise answers.not_sensible(image, "has an index with a wrong digest")
    return digest


def _is_image(entry: Any) -> bool:
    """Leave out attestations: BuildKit marks them, and gives them a platform that is none."""
    if not isinstance(entry, dict) or _platform(entry.get("platform")) == "unknown/unknown":
        return False
    annotations = entry.get("annotations")
    return not (isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations)


def _platform(value: Any) -> str:
    about = value if isinstance(value, dict) else {}
    return f"{about.get('os') or 'unknown'}/{about.get('architecture') or 'unknown'}"


def _wrong_platform(image: ImageReference, platform: str, found: set[str]) -> WrongPlatform:
    offer = ", ".join(sorted(found)) or "no platform at all"
    return WrongPlatform(
        f"image `{image}` is not made for {platform}",
        hint=f"it is made for {offer}; choose another tag or another image",
    )
