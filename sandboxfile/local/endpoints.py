"""The template API, requests to answers, over the store and the builder; no socket in sight.

Numbers in brackets are sections of docs/protocol.md.
"""

import base64
from collections.abc import Callable
from math import ceil
from urllib.parse import unquote

from sandboxfile.frozen import dataclass, replace
from sandboxfile.local import names, parameters, shapes
from sandboxfile.local.admission import Admission, Allowed
from sandboxfile.local.builder import Builder
from sandboxfile.local.clients import runs_as_root
from sandboxfile.local.database import Unkept
from sandboxfile.local.files import ARCHIVE_LIMIT, HASH, Files
from sandboxfile.local.names import Name
from sandboxfile.local.records import (
    Build,
    Entry,
    Reason,
    Recipe,
    Refusal,
    Registered,
    Registration,
    Template,
)
from sandboxfile.local.store import Store
from sandboxfile.local.wire import (
    DIGITS,
    Answer,
    Fields,
    Request,
    answer,
    query_choice,
    query_number,
    refusal,
    storage_error,
)

PAGE = 100
NOVITA_PAGE = 20

_Endpoint = Callable[["Api", Request, list[str]], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; `allowed` is the credential that it takes in strict mode (1.6)."""

    method: str
    segments: tuple[str, ...]
    allowed: Allowed
    endpoint: _Endpoint
    streams: bool = False

    def match(self, segments: list[str]) -> list[str] | None:
        """Return what stands at the places of `*`, None when the path is another's."""
        if len(segments) != len(self.segments):
            return None
        pairs = list(zip(self.segments, segments, strict=True))
        if any(own not in {"*", given} for own, given in pairs):
            return None
        return [given for own, given in pairs if own == "*"]


class Api:
    """Answers requests of those whom `admission` lets in."""

    def __init__(
        self,
        store: Store,
        builder: Builder,
        files: Files,
        *,
        admission: Admission,
        max_builds: int | None = None,
    ) -> None:
        """Take requests; `max_builds` may wait or run at once (429 beyond), None sets no limit."""
        self._store = store
        self._builder = builder
        self._files = files
        self._admission = admission
        self._max_builds = max_builds

    def handle(self, request: Request) -> Answer:
        """Answer a request; whatever it is, this raises nothing but our own defects."""
        try:
            route, args = self._route(request)
            self._admission.check(request, route.allowed)
            self._builder.settle()
            return route.endpoint(self, request, args)
        except Refusal as declined:
            return refusal(declined.status, declined.message)
        except Unkept as error:
            return refusal(500, error.message)

    def streams(self, method: str, path: str) -> bool:
        """Tell whether the body of such a request is handled while it comes."""
        return any(route.method == method and route.streams for route, _ in _matching(path))

    def _route(self, request: Request) -> tuple[Route, list[str]]:
        matching = _matching(request.path)
        for route, args in matching:
            if route.method == request.method:
                return route, args
        if matching:
            raise Refusal(405, "method not allowed")
        raise Refusal(404, "no matching operation was found")

    # --- registering -------------------------------------------------------------------------

    def register_v3(self, request: Request, _args: list[str]) -> Answer:
        fields = Fields.read(request.body)
        text = fields.text("name") or fields.text("alias")
        made = self._register(fields, text, fields.texts("tags"))
        return answer(202, shapes.registered(made))

    def register_v2(self, request: Request, _args: list[str]) -> Answer:
        fields = Fields.read(request.body)
        made = self._register(fields, fields.required("alias"), ())
        return answer(202, shapes.registered_legacy(made))

    def _register(self, fields: Fields, text: str | None, tags: tuple[str, ...]) -> Registered:
        if not text or not text.strip():
            raise Refusal(400, "Name is required")
        name = parameters.name(text, "name")
        if name.namespace not in {None, names.NAMESPACE}:
            raise Refusal(
                400, f"namespace '{name.namespace}' must match your team '{names.NAMESPACE}'"
            )
        wanted = parameters.tags([*([name.tag] if name.tag else []), *tags], implied=name.tag)
        return self._store.register(
            Registration(flow="v2", name=name, tags=wanted, resources=parameters.resources(fields)),
            limit=self._max_builds,
        )

    def register_v1(self, request: Request, args: list[str]) -> Answer:
        """Register the first build of a template, or a rebuild of the one in the path (2.3)."""
        fields = Fields.read(request.body)
        fields.required("dockerfile")
        text = fields.text("alias")
        name = parameters.name(text, "alias") if text else None
        tag = name.tag if name else None
        made = self._store.register(
            Registration(
                flow="v1",
                name=name,
                tags=parameters.tags([tag] if tag else [], implied=tag),
                resources=parameters.resources(fields),
                template=args[0] if args else None,
                start=fields.text("startCmd") or "",
                ready=fields.text("readyCmd") or "",
            ),
            limit=self._max_builds,
        )
        if name is None:  # then the service names none, whatever the template has
            made = replace(made, aliases=())
        return answer(202, shapes.registered_legacy(made))

    # --- building ----------------------------------------------------------------------------

    def files(self, request: Request, args: list[str]) -> Answer:
        """Say whether an archive is here, and where to put it; the link comes in any case (3.3)."""
        template, files_hash = args
        if not HASH.fullmatch(files_hash):
            raise Refusal(400, "Invalid files hash")
        found = self._store.template(template)
        if found is None or found.id != template:
            raise Refusal(404, f"Error when getting template: template '{template}' not found")
        present = self._files.path(files_hash) is not None
        url = request.base_url + self._files.link(files_hash)
        return answer(201, {"present": present, "url": url})

    def upload(self, request: Request, args: list[str]) -> Answer:
        """Take an archive as a storage does: whoever has the link may, no key is looked at."""
        files_hash = args[0].removesuffix(".tar")
        if wrong := self._files.wrong(files_hash, request.query):
            return storage_error(403, "AccessDenied", wrong)
        if request.length is None:
            return storage_error(501, "NotImplemented", "a chunked upload is not implemented")
        if request.length > ARCHIVE_LIMIT:
            return storage_error(400, "EntityTooLarge", "no archive is larger than a disk")
        try:
            self._files.save(files_hash, request.content)
        except OSError as error:
            return storage_error(500, "InternalError", f"not kept: {error.strerror}")
        self._files.sweep()
        return Answer(status=200)

    def trigger_v2(self, request: Request, args: list[str]) -> Answer:
        try:
            as_root = runs_as_root(request.headers.get("user-agent", ""))
        except ValueError as error:
            raise Refusal(400, f"Error when parsing user agent: {error}") from None
        return self._trigger(
            args, replace(parameters.recipe(Fields.read(request.body)), as_root=as_root)
        )

    def trigger_v1(self, _request: Request, args: list[str]) -> Answer:
        return self._trigger(args, Recipe(image=""))

    def _trigger(self, args: list[str], recipe: Recipe) -> Answer:
        template, build_id = args
        if not names.is_build_id(build_id.lower()):
            raise Refusal(400, f"Invalid build ID: '{build_id}' is not a UUID")
        try:
            build = self._store.trigger(template, build_id.lower())
        finally:
            self._builder.look()  # rivals were cancelled, even when this trigger was refused
        if wrong := parameters.wrong_source(recipe):
            message = f"Error when starting template build: failed to set template source: {wrong}"
            self._store.fail(build.id, Reason(message=message))
            raise Refusal(500, message)
        self._builder.start(build, recipe)
        return Answer(status=202)

    def status(self, request: Request, args: list[str]) -> Answer:
        offset = query_number(request.query, "logsOffset", 0, low=0, high=2**31 - 1)
        limit = query_number(request.query, "limit", PAGE, low=0, high=PAGE)
        level = parameters.level(request)
        build = self._existing(args)
        entries: list[Entry] = []
        if build.status != "waiting":
            entries = self._store.entries(build.id, level=level, offset=offset, limit=limit)
        return answer(200, shapes.status(build, entries))

    def logs(self, request: Request, args: list[str]) -> Answer:
        limit = query_number(request.query, "limit", PAGE, low=0, high=PAGE)
        cursor = query_number(request.query, "cursor", -1, low=0, high=2**52)
        direction = query_choice(request.query, "direction", ("forward", "backward"))
        query_choice(request.query, "source", ("temporary", "persistent"))
        level = parameters.level(request)
        entries = self._store.entries_at(
            self._existing(args).id,
            level=level,
            limit=limit,
            cursor_ms=None if cursor < 0 else cursor,
            backward=direction == "backward",
        )
        return answer(200, {"logs": [shapes.entry_shape(entry) for entry in entries]})

    def _existing(self, args: list[str]) -> Build:
        template, build_id = args
        if not names.is_build_id(build_id.lower()):
            raise Refusal(400, "Invalid build id")
        build = self._store.build(template, build_id.lower())
        if build is None:  # 400, not 404, as at the service (3.7)
            raise Refusal(400, f"Build '{build_id}' not found")
        return self._builder.outcome(build)

    # --- tags and aliases --------------------------------------------------------------------

    def assign_tags(self, request: Request, _args: list[str]) -> Answer:
        fields = Fields.read(request.body)
        target, tags = fields.required("target"), fields.texts("tags")
        if not tags:
            raise Refusal(400, "At least one tag is required")
        try:
            name = names.parse(target)
        except ValueError as error:
            raise Refusal(400, f"Invalid target template format: {error}") from None
        wanted = parameters.tags(tags)
        self._template(name)
        try:
            build = self._store.resolve(name)
        except Refusal:
            text = f"Template '{target}' with tag '{name.wanted_tag}' not found"
            raise Refusal(404, text) from None
        self._store.assign(build, wanted)
        return answer(201, {"tags": list(wanted), "buildID": build.id})

    def remove_tags(self, request: Request, _args: list[str]) -> Answer:
        fields = Fields.read(request.body)
        text, tags = fields.required("name"), fields.texts("tags")
        if not tags:
            raise Refusal(400, "At least one tag is required")
        name = parameters.name(text, "name")
        if name.tag is not None:
            raise Refusal(
                400, "Template name should not contain a tag, use the 'tags' field instead"
            )
        wanted = parameters.tags(tags)
        if names.DEFAULT_TAG in wanted:
            raise Refusal(400, f"Cannot delete the '{names.DEFAULT_TAG}' tag")
        self._builder.discard(self._store.unassign(self._template(name).id, wanted), [])
        return Answer(status=204)

    def tags(self, _request: Request, args: list[str]) -> Answer:
        try:
            name = names.parse(args[0])
        except ValueError as error:
            raise Refusal(400, f"Invalid template reference: {error}") from None
        assigned = self._store.tags(self._template(name).id)
        return answer(200, [shapes.tag(each) for each in assigned])

    def alias(self, _request: Request, args: list[str]) -> Answer:
        try:
            name = names.parse(args[0])
        except ValueError as error:
            raise Refusal(400, f"Invalid alias format: {error}") from None
        template = self._template(name)
        if name.tag is not None:  # then it must be usable, not only claimed (4.2)
            self._store.resolve(name)
        return answer(200, {"templateID": template.id, "public": template.public})

    def _template(self, name: Name) -> Template:
        template = self._store.template(name)
        if template is None:
            raise Refusal(404, f"template '{_without_tag(name)}' not found")
        return template

    # --- templates ---------------------------------------------------------------------------

    def list_v1(self, request: Request, _args: list[str]) -> Answer:
        self._admission.check_team(request)
        metadata = request.query.get("metadata") == "true"
        templates, _, _ = self._store.templates(newest_first=False)
        return answer(200, [shapes.listed(each, metadata=metadata) for each in templates])

    def list_v2(self, request: Request, _args: list[str]) -> Answer:
        """Answer in Novita's shape or in E2B's, which share the path (2.6)."""
        self._admission.check_team(request)
        if "page" in request.query or "template_type" in request.query:
            return self._list_novita(request)
        limit = query_number(request.query, "limit", PAGE, low=1, high=PAGE)
        templates, _, more = self._store.templates(
            newest_first=True, limit=limit, before=_place(request)
        )
        return answer(200, [shapes.listed(each) for each in templates], **_next(more))

    def _list_novita(self, request: Request) -> Answer:
        kind = query_choice(request.query, "template_type", ("template_build", "snapshot_template"))
        page = query_number(request.query, "page", 1, low=1, high=2**31 - 1)
        limit = query_number(request.query, "limit", NOVITA_PAGE, low=1, high=PAGE)
        templates, total, _ = self._store.templates(
            newest_first=True, limit=limit, offset=(page - 1) * limit
        )
        if kind == "snapshot_template":  # there are no snapshots of sandboxes here
            templates, total = [], 0
        return answer(
            200,
            {
                "templates": [shapes.listed(each) for each in templates],
                "total": total,
                "page": page,
                "limit": limit,
                "totalPages": ceil(total / limit),
            },
        )

    def template(self, request: Request, args: list[str]) -> Answer:
        """Show a template with its builds; by its id alone, as at the service."""
        limit = query_number(request.query, "limit", PAGE, low=1, high=PAGE)
        before = _place(request)
        template = self._store.template(args[0])
        if template is None or template.id != args[0]:
            raise Refusal(404, f"Template {args[0]} not found")
        builds, more = self._store.builds(template.id, limit=limit, before=before)
        return answer(200, shapes.with_builds(template, builds), **_next(more))

    def delete(self, _request: Request, args: list[str]) -> Answer:
        template = self._named(args[0])
        layers = self._store.layers.only_of(template.id)
        images = self._store.delete(template.id)
        self._builder.look()
        self._builder.discard(images, layers)
        return Answer(status=204)

    def publish_v1(self, request: Request, args: list[str]) -> Answer:
        self._publish(request, args)
        return answer(200, None)

    def publish_v2(self, request: Request, args: list[str]) -> Answer:
        return answer(200, {"names": shapes.names(self._publish(request, args).aliases)})

    def _publish(self, request: Request, args: list[str]) -> Template:
        public = Fields.read(request.body).flag("public")
        template = self._named(args[0])
        if public is not None:
            self._store.publish(template.id, public=public)
        return template

    def _named(self, text: str) -> Template:
        try:
            return self._template(names.parse(text))
        except ValueError:
            raise Refusal(404, f"template '{text}' not found") from None

    # --- the rest ----------------------------------------------------------------------------

    def teams(self, _request: Request, _args: list[str]) -> Answer:
        key = self._admission.key
        shown = key.reveal() if key else names.NAMESPACE
        team = {"teamID": shapes.TEAM, "name": names.NAMESPACE, "apiKey": shown, "isDefault": True}
        return answer(200, [team])

    def health(self, _request: Request, _args: list[str]) -> Answer:
        return answer(200, {"status": "ok"})


def _route(line: str, allowed: Allowed, endpoint: _Endpoint, *, streams: bool = False) -> Route:
    method, path = line.split()
    return Route(method, tuple(path.strip("/").split("/")), allowed, endpoint, streams)


ROUTES = (
    _route("POST /v3/templates", "key", Api.register_v3),
    _route("POST /v2/templates", "key", Api.register_v2),
    _route("POST /templates", "token", Api.register_v1),
    _route("POST /templates/tags", "key", Api.assign_tags),
    _route("DELETE /templates/tags", "key", Api.remove_tags),
    _route("POST /templates/*", "token", Api.register_v1),
    _route("GET /templates/*/files/*", "either", Api.files),
    _route("POST /v2/templates/*/builds/*", "key", Api.trigger_v2),
    _route("POST /templates/*/builds/*", "token", Api.trigger_v1),
    _route("GET /templates/*/builds/*/status", "either", Api.status),
    _route("GET /templates/*/builds/*/logs", "either", Api.logs),
    _route("GET /templates/aliases/*", "key", Api.alias),
    _route("GET /templates/*/tags", "key", Api.tags),
    _route("GET /templates", "either", Api.list_v1),
    _route("GET /v2/templates", "either", Api.list_v2),
    _route("GET /templates/*", "key", Api.template),
    _route("DELETE /templates/*", "either", Api.delete),
    _route("PATCH /templates/*", "either", Api.publish_v1),
    _route("PATCH /v2/templates/*", "either", Api.publish_v2),
    _route("GET /teams", "token", Api.teams),
    _route("GET /health", "anyone", Api.health),
    _route("PUT /storage/files/*", "anyone", Api.upload, streams=True),
)


def _matching(path: str) -> list[tuple[Route, list[str]]]:
    segments = [unquote(part) for part in path.strip("/").split("/")]
    return [(route, args) for route in ROUTES if (args := route.match(segments)) is not None]


def _without_tag(name: Name) -> str:
    return f"{name.namespace}/{name.alias}" if name.namespace else name.alias


def _place(request: Request) -> int | None:
    """Return where a page starts, from the token that came with the page before."""
    token = request.query.get("nextToken")
    if not token:
        return None
    try:
        place = base64.urlsafe_b64decode(token).decode("ascii")
    except ValueError:
        raise Refusal(400, "Invalid next token") from None
    if not place.isdigit() or len(place) > DIGITS:
        raise Refusal(400, "Invalid next token")
    return int(place)


def _next(place: int) -> dict[str, str]:
    token = base64.urlsafe_b64encode(str(place).encode()).decode()
    return {"X_Next_Token": token} if place else {}
