"""The registry that clients of the v1 flow push to: token protocol, then OCI distribution.

Sections are of docs/protocol.md; the calls are those of the OCI distribution specification 1.1.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

from sandboxfile.frozen import replace
from sandboxfile.local.database import Unkept
from sandboxfile.local.repositories import (
    DIGEST,
    MANIFEST_LIMIT,
    REPOSITORY,
    TAG,
    Invalid,
    Manifest,
    Repositories,
)
from sandboxfile.local.tokens import EXPIRES_IN_S, Denied, Tokens
from sandboxfile.local.wire import Answer, Request, answer

VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
TOKENS = "/v2/token"
_ROOTS = frozenset({"/v2", "/v2/"})
_OURS = re.compile(r"/v2/.+/(blobs|manifests|tags)/.*")
_UPLOAD = re.compile(rf"/v2/{REPOSITORY}/([a-z0-9]+)/blobs/uploads/([0-9a-f]{{64}})")
_UPLOADS = re.compile(rf"/v2/{REPOSITORY}/([a-z0-9]+)/blobs/uploads/?")
_BLOB = re.compile(rf"/v2/{REPOSITORY}/([a-z0-9]+)/blobs/({DIGEST.pattern})")
_MANIFEST = re.compile(rf"/v2/{REPOSITORY}/([a-z0-9]+)/manifests/({DIGEST.pattern}|{TAG.pattern})")
_TAGS = re.compile(rf"/v2/{REPOSITORY}/([a-z0-9]+)/tags/list")
_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-\d{1,18}(?:/.*)?")
_WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})


class Registry:
    """Answers requests below `/v2/`; `tokens` says who may, for the template of its token."""

    def __init__(
        self, repositories: Repositories, tokens: Tokens, *, is_waiting: Callable[[str], bool]
    ) -> None:
        """Take pushes for templates with a build that `is_waiting`."""
        self._repositories = repositories
        self._tokens = tokens
        self._is_waiting = is_waiting

    def owns(self, path: str) -> bool:
        """Tell whether a request is the registry's; the template API has paths below /v2/ too."""
        return path in _ROOTS or path == TOKENS or _OURS.fullmatch(path) is not None

    def streams(self, method: str, path: str) -> bool:
        """Tell whether the body of such a request is handled while it comes."""
        return method in {"POST", "PATCH", "PUT"} and "/blobs/uploads" in path

    def handle(self, request: Request) -> Answer:
        """Answer a request; the order of the questions is the service's (2.5)."""
        try:
            return self._handle(replace(request, path=unquote(request.path)))
        except Denied as denied:
            return Answer(status=denied.status, body=denied.message.encode(), headers=VERSION)
        except Invalid as invalid:
            return error(HTTPStatus.BAD_REQUEST, invalid.code, str(invalid))
        except Unkept as failed:
            return error(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", failed.message)
        except OSError as failed:
            return error(
                HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", f"not kept: {failed.strerror}"
            )

    def _handle(self, request: Request) -> Answer:
        # Whoever knows where an upload goes on has begun it.
        if request.method == "PATCH" and (place := _UPLOAD.fullmatch(request.path)):
            return self._allowed(request, place[1])
        if request.method == "POST" and request.path == TOKENS:
            return error(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "ask for a token by GET")
        authorization = request.headers.get("authorization")
        if authorization is None:
            return _unauthorized(request)
        if request.path == TOKENS:
            token = self._tokens.issue(authorization, request.texts("scope"))
            return answer(HTTPStatus.OK, {"token": token, "expires_in": EXPIRES_IN_S})
        template = self._tokens.template(authorization)
        if template is None:
            return _unauthorized(request)
        if request.path in _ROOTS:
            return answer(HTTPStatus.OK, {}, **_named(VERSION))
        if not template or not request.path.startswith(f"/v2/{REPOSITORY}/{template}/"):
            return error(HTTPStatus.FORBIDDEN, "DENIED", "the token is for another repository")
        return self._allowed(request, template)

    def _allowed(self, request: Request, template: str) -> Answer:
        """Carry out what is allowed; a push only as long as it can be of use."""
        if request.method in _WRITES and not self._is_waiting(template):
            return error(
                HTTPStatus.FORBIDDEN, "DENIED", "no build of this template waits for an image"
            )
        return self._route(request, template)

    def _route(self, request: Request, template: str) -> Answer:
        path, method = request.path, request.method
        reading = method in {"GET", "HEAD"}
        if _UPLOADS.fullmatch(path) and method == "POST":
            return self._begin(request, template)
        if found := _UPLOAD.fullmatch(path):
            return self._go_on(request, template, found[2])
        if (found := _BLOB.fullmatch(path)) and reading:
            return self._blob(template, found[2])
        if (found := _MANIFEST.fullmatch(path)) and reading:
            return self._manifest(template, found[2])
        if found and method == "PUT":
            return self._put(request, template, found[2])
        if _TAGS.fullmatch(path) and reading:
            name = f"{REPOSITORY}/{template}"
            return answer(HTTPStatus.OK, {"name": name, "tags": self._repositories.tags(template)})
        return error(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "there is no such operation")

    # --- blobs -------------------------------------------------------------------------------

    def _begin(self, request: Request, template: str) -> Answer:
        """Begin an upload; a mount from another repository becomes one, as the rules allow."""
        upload = self._repositories.begin(template)
        if "digest" not in request.query:
            for _ in request.content:  # some clients send an empty chunk
                pass
            return _accepted(template, upload, 0)
        return self._finish(request, template, upload)

    def _go_on(self, request: Request, template: str, upload: str) -> Answer:
        size = self._repositories.size(template, upload)
        if size is None:
            return error(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        match request.method:
            case "PATCH":
                return self._append(request, template, upload, size)
            case "PUT":
                return self._finish(request, template, upload)
            case "DELETE":
                self._repositories.abandon(template, upload)
                return Answer(status=HTTPStatus.NO_CONTENT, headers=VERSION)
            case _:
                return _accepted(template, upload, size, HTTPStatus.NO_CONTENT)

    def _append(self, request: Request, template: str, upload: str, size: int) -> Answer:
        given = _RANGE.fullmatch(request.headers.get("content-range", f"{size}-{size}"))
        if given is None or int(given[1]) != size:
            return _accepted(template, upload, size, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        return _accepted(
            template, upload, self._repositories.append(template, upload, request.content)
        )

    def _finish(self, request: Request, template: str, upload: str) -> Answer:
        digest = request.query.get("digest", "")
        if not DIGEST.fullmatch(digest):
            raise Invalid("DIGEST_INVALID", f"'{digest}' is no digest of SHA-256")
        self._repositories.append(template, upload, request.content)
        self._repositories.finish(template, upload, digest)
        return _created(f"/v2/{REPOSITORY}/{template}/blobs/{digest}", digest)

    def _blob(self, template: str, digest: str) -> Answer:
        path = self._repositories.blob(template, digest)
        if path is None:
            return error(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"blob {digest} was not pushed")
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            **VERSION,
        }
        return Answer(status=HTTPStatus.OK, file=path, headers=headers)

    # --- manifests ---------------------------------------------------------------------------

    def _put(self, request: Request, template: str, reference: str) -> Answer:
        if len(request.body) > MANIFEST_LIMIT:
            return error(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID", "it is larger than 4 MiB"
            )
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        made = self._repositories.put(template, reference, media_type, request.body)
        return _created(f"/v2/{REPOSITORY}/{template}/manifests/{made.digest}", made.digest)

    def _manifest(self, template: str, reference: str) -> Answer:
        found: Manifest | None = self._repositories.manifest(template, reference)
        if found is None:
            return error(
                HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"manifest {reference} was not pushed"
            )
        headers = {
            "Content-Type": found.media_type,
            "Docker-Content-Digest": found.digest,
            **VERSION,
        }
        return Answer(status=HTTPStatus.OK, body=found.body, headers=headers)


def error(status: HTTPStatus, code: str, message: str) -> Answer:
    errors = {"errors": [{"code": code, "message": message}]}
    return answer(status, errors, **_named(VERSION))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): text for name, text in headers.items()}


def _unauthorized(request: Request) -> Answer:
    return answer(
        HTTPStatus.UNAUTHORIZED,
        {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
        **{"Www_Authenticate": f'Bearer realm="{request.base_url}{TOKENS}"', **_named(VERSION)},
    )


def _accepted(
    template: str, upload: str, size: int, status: HTTPStatus = HTTPStatus.ACCEPTED
) -> Answer:
    headers = {
        "Location": f"/v2/{REPOSITORY}/{template}/blobs/uploads/{upload}",
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": upload,
        **VERSION,
    }
    return Answer(status=status, headers=headers)


def _created(location: str, digest: str) -> Answer:
    headers = {"Location": location, "Docker-Content-Digest": digest, **VERSION}
    return Answer(status=HTTPStatus.CREATED, headers=headers)
