"""What requests ask for: read strictly, and refused in the service's words.

Numbers in brackets are sections of docs/protocol.md.
"""

from collections.abc import Iterable

from sandboxfile.local import names
from sandboxfile.local.names import Name
from sandboxfile.local.records import LEVELS, Credentials, Level, Recipe, Refusal, Step
from sandboxfile.local.wire import Fields, Request, query_choice
from sandboxfile.model import Login, Resources, Secret

MAX_CPU = 32
MIN_MEMORY = 128
MAX_MEMORY = 1 << 20  # MiB; the service's own limit depends on the team (6)


def name(text: str, what: str) -> Name:
    """Read a template's name; `what` is what the refusal calls it."""
    try:
        return names.parse(text)
    except ValueError as error:
        raise Refusal(400, f"Invalid {what}: {error}") from None


def tags(given: Iterable[str], *, implied: str | None = None) -> tuple[str, ...]:
    """Return tags normalised, each once; `default` in the name itself counts as none (3.2)."""
    wanted = list(given)
    if implied == names.DEFAULT_TAG:
        wanted.remove(implied)
    try:
        return tuple(dict.fromkeys(names.parse_tag(tag) for tag in wanted))
    except ValueError as error:
        raise Refusal(400, f"Invalid tag: {error}") from None


def resources(fields: Fields) -> Resources:
    """Read CPUs and memory, within the service's limits (6)."""
    usual = Resources()
    cpu = fields.number("cpuCount", usual.cpu)
    memory = fields.number("memoryMB", usual.memory)
    if cpu < 1:
        raise Refusal(400, "CPU count must be at least 1")
    if cpu > MAX_CPU:
        raise Refusal(400, f"CPU count must be at most {MAX_CPU}")
    if cpu != 1 and cpu % 2:
        raise Refusal(400, "CPU count must be 1 or an even number")
    if memory < MIN_MEMORY:
        raise Refusal(400, f"Memory must be at least {MIN_MEMORY} MiB")
    if memory > MAX_MEMORY:
        raise Refusal(400, f"Memory can't be higher than {MAX_MEMORY} MiB")
    if memory % 2:
        raise Refusal(400, "Memory must be divisible by 2")
    return Resources(cpu=cpu, memory=memory)


def recipe(fields: Fields) -> Recipe:
    """Read the body of a v2 trigger (3.6)."""
    given = fields.nested("fromImageRegistry")
    return Recipe(
        image=fields.text("fromImage"),
        template=fields.text("fromTemplate") or None,
        credentials=_credentials(given) if given else None,
        steps=tuple(_step(each) for each in fields.objects("steps")),
        start=fields.text("startCmd") or None,
        ready=fields.text("readyCmd") or None,
        pre_boot=fields.text("preBootScript") or "",
        force=fields.flag("force") or False,
    )


def _step(fields: Fields) -> Step:
    return Step(
        type=fields.required("type").upper(),
        args=fields.texts("args"),
        files_hash=fields.text("filesHash"),
        force=fields.flag("force") or False,
    )


def _credentials(fields: Fields) -> Credentials:
    kind = fields.required("type")
    match kind:
        case "registry":
            user, password = fields.required("username"), fields.required("password")
        case "gcp":  # the registry's own convention for service accounts
            user, password = "_json_key", fields.required("serviceAccountJson")
        case "aws" | "oci" | "huawei":
            return Credentials(kind=kind)
        case _:
            raise Refusal(400, f"validation error: unknown registry type '{kind}'")
    return Credentials(kind=kind, login=Login(username=user, password=Secret(password)))


def wrong_source(wanted: Recipe) -> str:
    """Return what is wrong with what a build begins with, empty when it is good."""
    if wanted.image is not None and wanted.template is not None:
        return "cannot specify both fromImage and fromTemplate"
    if wanted.image is None and wanted.template is None:
        return "must specify either fromImage or fromTemplate"
    return ""


def level(request: Request) -> Level:
    """Read from which level on a log is wanted."""
    text = query_choice(request.query, "level", LEVELS)
    return next((each for each in LEVELS if each == text), "debug")
