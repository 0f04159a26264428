"""The template API as typed calls, both generations: requests, strict answers, errors; no flow.

Sections named here are those of `docs/protocol.md`; every answer is read as
coming from a stranger: an ID that does not look like one never reaches a URL, a file or a terminal.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from sandboxfile import answers, buildstatus, declined, listing
from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.declined import Denied, Failing, Rejected
from sandboxfile.errors import SandboxfileError
from sandboxfile.frozen import dataclass, replace
from sandboxfile.listing import ListedTemplate, TemplateBuilds
from sandboxfile.loopback import is_loopback, leads_inside
from sandboxfile.model import UUID, Secret
from sandboxfile.patterns import regex
from sandboxfile.redact import sanitise
from sandboxfile.triggers import Start, given
from sandboxfile.web import USER_AGENT, Body, Reply, Retry, Web

GET_TIMEOUT_S = 60.0
_FILES_HASH = regex(r"[0-9a-f]{64}")
POST_TIMEOUT_S = 90.0  # the service's own limit is 70 s; hanging up earlier may orphan a build
POST_GRACE_S = 1.0  # how long a cancelled run waits for an answer that may hold IDs
PAGE = 100
ANSWER_LIMIT = 4 << 20  # bytes of an answer
LOG_LIMIT = 64 << 20  # of one with a page of a log: lines may be long, and escaped
MAX_PAGES = 1000  # nobody has 100,000 templates; what goes on longer goes round in circles


@dataclass(frozen=True, slots=True, kw_only=True)
class TagEntry:
    """Which build was last given a tag, whatever became of it."""

    tag: str
    build_id: str
    created: str = ""


@dataclass(frozen=True, slots=True)
class FileLink:
    """Whether the service has the files of a hash, and the signed address to send them to.

    The address is a secret, and is not shown.
    """

    present: bool
    url: Secret


class TemplateService:
    """One service with one credential; threads may share it.

    `key` goes as `X-API-Key`, `token` as bearer, the latter on v1 calls only (Novita takes the key
    there too, so it stands in for a missing token). `key_source` says in errors where they came
    from. Every call raises Denied, Busy, Rejected, Failing, Unreachable or Cancelled.
    """

    def __init__(
        self,
        web: Web,
        api_url: str,
        key: Secret | None,
        token: Secret | None = None,
        *,
        key_source: str = "NOVITA_API_KEY",
    ) -> None:
        self._web = web
        self._api_url = api_url.rstrip("/")
        self._key = key
        self._token = token or key
        self._key_source = key_source

    # --- registering and starting ------------------------------------------------------------

    def register(self, name: str, *, tags: tuple[str, ...], cpu: int, memory: int) -> Registration:
        """Ask for a new build of template `name` (`POST /v3/templates`, section 3.2).

        Not idempotent: each call makes a build, and fails waiting ones that share a tag.
        """
        body = {"name": name, "tags": list(tags), "cpuCount": cpu, "memoryMB": memory}
        return buildstatus.registration(self._post("/v3/templates", body))

    def register_v2(self, alias: str, *, cpu: int, memory: int) -> Registration:
        """Ask for a new build as services without v3 know it (`POST /v2/templates`)."""
        body = {"alias": alias, "cpuCount": cpu, "memoryMB": memory}
        return buildstatus.registration(self._post("/v2/templates", body))

    def register_v1(
        self,
        *,
        dockerfile: str,
        alias: str,
        template_id: str | None = None,
        start: str | None = None,
        ready: str | None = None,
        cpu: int,
        memory: int,
    ) -> Registration:
        """Ask for a new build of a v1 template, of `template_id` if given (section 2.3)."""
        body = given(
            dockerfile=dockerfile,
            alias=alias,
            startCmd=start,
            readyCmd=ready,
            cpuCount=cpu,
            memoryMB=memory,
        )
        path = f"/templates/{_checked(template_id)}" if template_id else "/templates"
        return buildstatus.registration(self._post(path, body, bearer=True))

    def trigger(
        self, ids: Registration, start: Start, *, timeout_s: float = POST_TIMEOUT_S
    ) -> None:
        """Start a registered build (section 3.6). Never repeat it blindly: see section 5.3.

        Some services answer when the build is done: `timeout_s` is to be that long, then.
        """
        self._post(f"/v2{_build_path(ids)}", start.body(), timeout_s=timeout_s)

    def trigger_v1(self, ids: Registration, *, timeout_s: float = POST_TIMEOUT_S) -> None:
        """Start a registered v1 build whose image was pushed (section 2.3, step 6)."""
        self._post(_build_path(ids), None, bearer=True, timeout_s=timeout_s)

    def file_link(self, template_id: str, files_hash: str) -> FileLink:
        """Ask whether files are there, and for a link to send them to (section 3.3).

        Links hold for half an hour. Raises also Unreachable for a link that leads nowhere.
        """
        if not _FILES_HASH.fullmatch(files_hash):
            raise SandboxfileError(f"`{sanitise(files_hash)}` is not a files hash")
        reply = self._get(f"/templates/{_checked(template_id)}/files/{files_hash}")
        answer = answers.fields(reply)
        present, url = answer.get("present") is True, answer.get("url")
        if not present and not (isinstance(url, str) and self._is_fit(url)):
            raise answers.nonsense(reply, "its link to send files to is none")
        return FileLink(present, Secret(url if isinstance(url, str) else ""))

    def upload(self, link: FileLink, body: Body, *, timeout_s: float) -> Reply:
        """Send an archive to where a link leads, without our key; any status is an answer."""
        return self._web.upload(link.url.reveal(), body, timeout_s=timeout_s)

    def _is_fit(self, url: str) -> bool:
        """Tell whether files may go to a link: over https, unless the service itself is without.

        Only a service of this machine may name addresses of this machine, and none those of a
        cloud's own services (docs/protocol.md, 3.3).
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        host, ours = parts.hostname or "", urlsplit(self._api_url)
        is_beside = is_loopback(host) and is_loopback(ours.hostname or "")
        is_safe = is_beside or not leads_inside(host)
        return bool(host) and is_safe and parts.scheme in {"https", ours.scheme}

    # --- following ---------------------------------------------------------------------------

    def status(self, ids: Registration, *, offset: int = 0, limit: int = PAGE) -> BuildStatus:
        """Return a build's state and its log from `offset` on, at most `limit` entries."""
        path = f"{_build_path(ids)}/status?logsOffset={offset}&limit={limit}"
        reply = self._get(path, bearer=True, limit=LOG_LIMIT)
        return buildstatus.read(reply, ids)

    # --- names and tags ----------------------------------------------------------------------

    def find(self, alias: str) -> str | None:
        """Return the ID of the template that owns a name, None when there is none."""
        try:
            reply = self._get(f"/templates/aliases/{quote(alias, safe='')}")
        except Rejected as error:
            if error.status == 404 and not error.is_missing:  # noqa: PLR2004 - an HTTP status
                return None
            raise
        return answers.template_id(reply, answers.fields(reply))

    def find_v1(self, alias: str) -> str | None:
        """Return the ID of our template with this name, from the listing v1 services have."""
        try:
            reply = self._get("/templates", bearer=True)
        except Rejected as error:
            if error.is_missing:
                raise
            return None
        rows = (answers.mapping(reply, each) for each in answers.array(reply, reply.json()))
        return next(
            (answers.template_id(reply, row) for row in rows if alias in listing.names(reply, row)),
            None,
        )

    def tags(self, template: str) -> tuple[TagEntry, ...]:
        """Return the tags of a template (ID or name), each with its newest build (section 4)."""
        reply = self._get(f"/templates/{quote(template, safe='')}/tags")
        rows = (answers.mapping(reply, row) for row in answers.array(reply, reply.json()))
        return tuple(
            TagEntry(
                tag=answers.text(reply, row, "tag"),
                build_id=answers.build_id(reply, row),
                created=answers.clean(row.get("createdAt")),
            )
            for row in rows
        )

    def assign_tags(self, target: str, tags: tuple[str, ...]) -> None:
        """Give tags to the build that `target` (`name:tag` or `name:<build ID>`) names."""
        self._post(
            "/templates/tags", {"target": target, "tags": list(tags)},
            retry="idempotent", timeout_s=GET_TIMEOUT_S,
        )  # fmt: skip

    def delete_tags(self, name: str, tags: tuple[str, ...]) -> None:
        """Take tags from a template; unknown ones are ignored by the service."""
        self._call("DELETE", "/templates/tags", {"name": name, "tags": list(tags)})

    # --- templates ---------------------------------------------------------------------------

    def templates(self) -> Iterator[ListedTemplate]:
        """Yield the account's templates, from whichever list the service has (section 2.6)."""
        try:
            reply = self._get(f"/v2/templates?template_type=template_build&page=1&limit={PAGE}")
        except (Rejected, Failing) as error:
            if not error.is_missing:
                raise
            reply = self._get("/templates", bearer=True)
        answer = reply.json()
        if isinstance(answer, dict):
            yield from self._numbered(reply)
        else:
            yield from self._linked(reply)

    def _numbered(self, reply: Reply) -> Iterator[ListedTemplate]:
        """Yield the pages of Novita's list."""
        seen: set[str] = set()
        for page in range(2, MAX_PAGES + 2):
            answer = answers.fields(reply)
            rows = listing.templates(reply, answer.get("templates"))
            fresh = [row for row in rows if row.template_id not in seen]  # they move meanwhile
            yield from fresh
            seen |= {row.template_id for row in rows}
            total = answer.get("total")
            if not fresh or (isinstance(total, int) and len(seen) >= total):
                return
            reply = self._get(
                f"/v2/templates?template_type=template_build&page={page}&limit={PAGE}"
            )
        raise answers.nonsense(reply, "its list has no end")

    def _linked(self, reply: Reply) -> Iterator[ListedTemplate]:
        """Yield the pages of E2B's list, each of which names the next."""
        for _ in range(MAX_PAGES):
            yield from listing.templates(reply, reply.json())
            token = reply.headers.get("x-next-token")
            if not token:
                return
            reply = self._get(f"/v2/templates?limit={PAGE}&nextToken={quote(token, safe='')}")
        raise answers.nonsense(reply, "its list has no end")

    def template(self, template_id: str) -> TemplateBuilds:
        """Return a template of ours with its builds; by its ID alone.

        Raises Denied for another team's, Rejected when there is none.
        """
        path = f"/templates/{_checked(template_id)}"
        reply = self._get(f"{path}?limit={PAGE}")
        found = listing.builds(reply)
        if found.template_id != template_id:
            raise answers.nonsense(reply, "it is about another template than asked for")
        builds = [*found.builds]
        for _ in range(MAX_PAGES):
            token = reply.headers.get("x-next-token")
            if not token:
                return replace(found, builds=tuple(builds))
            reply = self._get(f"{path}?limit={PAGE}&nextToken={quote(token, safe='')}")
            builds += listing.builds(reply).builds
        raise answers.nonsense(reply, "its builds have no end")

    def is_ours(self, template_id: str) -> bool:
        """Tell whether a template is this account's, and not one that another team published.

        Where single templates cannot be asked for, the list of ours decides.
        """
        try:
            self._get(f"/templates/{_checked(template_id)}?limit=1")
        except (Denied, Rejected, Failing) as error:
            if error.is_missing:
                return any(each.template_id == template_id for each in self.templates())
            if error.status not in {403, 404}:
                raise
            return False
        return True

    def delete(self, template_id: str) -> bool:
        """Delete a template by its ID, never by a name; tell whether it was there.

        Raises InUse while sandboxes run on it.
        """
        try:
            self._call("DELETE", f"/templates/{_checked(template_id)}", None, bearer=True)
        except Rejected as error:
            if error.status == 404 and not error.is_missing:  # noqa: PLR2004 - an HTTP status
                return False
            if error.says("running sandboxes", "paused sandboxes"):
                raise declined.in_use(error, template_id) from None
            raise
        return True

    # --- requests ----------------------------------------------------------------------------

    def _get(self, path: str, *, bearer: bool = False, limit: int = ANSWER_LIMIT) -> Reply:
        return self._call("GET", path, None, bearer=bearer, limit=limit)

    def _post(
        self,
        path: str,
        body: object,
        *,
        bearer: bool = False,
        retry: Retry = "connect",
        timeout_s: float = POST_TIMEOUT_S,
    ) -> Reply:
        return self._call("POST", path, body, bearer=bearer, retry=retry, timeout_s=timeout_s)

    def _call(
        self,
        method: str,
        path: str,
        body: object,
        *,
        bearer: bool = False,
        retry: Retry = "idempotent",
        timeout_s: float = GET_TIMEOUT_S,
        limit: int = ANSWER_LIMIT,
    ) -> Reply:
        is_effect = retry == "connect"
        reply = self._web.send(
            method,
            self._api_url + path,
            headers=self._headers(bearer=bearer),
            json=body,
            retry=retry,
            timeout_s=timeout_s,
            limit=limit,
            grace_s=POST_GRACE_S if is_effect else 0.0,
        )
        if not 200 <= reply.status < 300:  # noqa: PLR2004 - HTTP statuses
            raise declined.error(
                reply,
                has_key=bool(self._key or self._token),
                key_source=self._key_source,
            )
        return reply

    def _headers(self, *, bearer: bool) -> Mapping[str, str]:
        headers = {"user-agent": USER_AGENT, "accept": "application/json"}
        if self._key:
            headers["x-api-key"] = self._key.reveal()
        if self._token and (bearer or not self._key):
            headers["authorization"] = f"Bearer {self._token.reveal()}"
        return headers


def _checked(template_id: str) -> str:
    """Refuse anything but an ID: `name:tag` in its place deletes whole templates."""
    if not answers.TEMPLATE_ID.fullmatch(template_id):
        raise SandboxfileError(f"`{sanitise(template_id)}` is not a template's ID")
    return template_id


def _build_path(ids: Registration) -> str:
    if not UUID.fullmatch(ids.build_id):
        raise SandboxfileError(f"`{sanitise(ids.build_id)}` is not a build's ID")
    return f"/templates/{_checked(ids.template_id)}/builds/{ids.build_id}"
