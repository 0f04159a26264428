"""The grammars of single values: text in, a Fault or None out; no file, no place, no network.

Every rule matches the whole text. What ends in a shell, a Dockerfile or a request has an
allow-list of characters (for names, tags and numbers: docs/protocol.md, 4 and 6). Patterns are
compiled by `re` at first use: most files need few of them.
"""

import re
from urllib.parse import SplitResult, urlsplit

from sandboxfile.config import leaks
from sandboxfile.config.document import INVISIBLE, quoted
from sandboxfile.config.problems import Fault
from sandboxfile.model import NAME, TAG, UUID
from sandboxfile.reference import ImageReference, is_authority
from sandboxfile.tags import is_content

COMMAND_LIMIT = 8 << 10  # bytes of a start or ready command
VALUE_LIMIT = 32 << 10  # characters of a variable's value
SCRIPT_LIMIT = 64 << 10  # bytes of a script that runs while building
CPU_LIMIT = 32  # docs/protocol.md, 6
MEMORY_LEAST = 128  # MiB
MEMORY_LIMIT = 1 << 20  # MiB: a slip of the pen, since the service gives far less
DELAY_LIMIT = 600  # seconds after which the service stops waiting for readiness

_NAME_LIMIT = 128
_CONTROL = r"[\x00-\x1f]"
_NOT_IN_SCRIPT = r"[\x00-\x08\x0b-\x1f]"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERABLE = r"[A-Za-z_][A-Za-z0-9_-]*"
_OURS = ("NOVITA_", "E2B_", "SANDBOXFILE_")
# How tools call the variables of the environment that they read a secret from.
_CONFIDENTIAL = (
    r"(?i)_pwd(?:_|$)"
    r"|(?:^|_)(?:password|passwd|passphrase|pass|pw|tokens?|pat|secrets?|credentials?|cookie)(?:_|$)"
    r"|(?:^|_)(?:api|access|account|auth|private|signing|encryption|deploy|master|ssh)_?key"
)
_USER = r"[a-z_][a-z0-9_-]{0,31}"
_ID = r"0|[1-9][0-9]{0,9}"
_ID_LIMIT = 2**32 - 2
_MODE = r"0?[0-7]{3,4}"
_IN_IMAGE = r"/[A-Za-z0-9._/@+ -]*"
_IN_WORKSPACE = r"[A-Za-z0-9._/@+ -]+"
_GLOB = r"[A-Za-z0-9._/@+ *?\[\]^!-]+"
_APT = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](?::[a-z0-9]+)?(?:=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?"
# The plain majority, without the import of a whole parser.
_SIMPLE_PIP = (
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[a-z0-9]+(?:,[a-z0-9]+)*\])?"
    r"(?:(?:==|>=|<=|~=|!=)[0-9]+\.[0-9]+(?:\.[0-9]+)*)?"
)
_NPM = (
    r"(?:@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*"
    r"(?:@[A-Za-z0-9^~*<>=][A-Za-z0-9^~*<>=|.+_ -]*)?"
)
_NPM_LIMIT = 214
_DIRECT = r"://|^(?:git|file|https?|npm|github)[+:]|^\.{0,2}/|@ *\w+:|\.(?:deb|whl|tgz)$"
_HOST = (
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_REGISTRY = (
    r"(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
)
_REMOTE = r"(?:[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_-]{0,127}(?::[a-z0-9._-]{1,128})?"
_STAGE = r"[A-Za-z][A-Za-z0-9_.-]*|[0-9]{1,3}"
_SUITE = r"[a-z][a-z0-9-]*"
_COMPONENT = r"[a-z][a-z0-9-]*"
_SNAPSHOT = r"[0-9]{8}T[0-9]{6}Z"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_MEMORY = r"([0-9]{1,9})(MiB|GiB)"
_LOOSE_MEMORY = r"([0-9]{1,9}) *([KMGT]?i?B?|[kmgt]i?b?)"
_DELAY = r"([0-9]{1,6})(ms|s|m)"
# Unknown names are complained of where `$` is replaced.
_INTERPOLATED = r"\$\{(?:key|[A-Za-z_][\w-]*(?:\.[\w-]+)+)\}"


def _folded(text: str) -> str:
    """Return the nearest name, nothing where too little of the text would be left."""
    if not text.isascii():
        return ""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:_NAME_LIMIT]


def name(text: str, what: str = "template") -> Fault | None:
    """Check the name of a template or a target."""
    if NAME.fullmatch(text):
        return None
    if len(text) > _NAME_LIMIT:
        return Fault(f"a {what}'s name has at most {_NAME_LIMIT} characters, not {len(text)}")
    message = f"{quoted(text)} is not a {what}'s name"
    folded = _folded(text)
    rule = "names have a-z, 0-9, `-` and `_`, a letter or digit first"
    return Fault(message, f"write `{folded}`" if folded else rule)


def variable_key(text: str) -> Fault | None:
    """Check the name of a variable of the workspace, as it stands in `${var.name}`."""
    return _reference_name(text, "a variable's name")


def axis(text: str) -> Fault | None:
    """Check the name of an axis of a matrix, as it stands in `${matrix.name}`."""
    return _reference_name(text, "the name of an axis")


def _reference_name(text: str, what: str) -> Fault | None:
    if re.fullmatch(_REFERABLE, text):
        return None
    rule = "names have letters, digits, `_` and `-`, no digit first"
    return Fault(f"{quoted(text)} is not {what}", rule)


def matrix_value(text: str) -> Fault | None:
    """Check a value of a matrix, which becomes part of a name."""
    if not text.isascii() or not re.search("[A-Za-z0-9]", text):
        message = f"{quoted(text)} cannot be part of a template's name"
        return Fault(message, "names are made of a-z, 0-9, `-` and `_`")
    return invisible(text)


def environment_variable(text: str) -> Fault | None:
    """Check the name of a variable of the environment that a value comes from.

    Never one that is called a secret: a proposal to change the file could have it built in.
    """
    if not re.fullmatch(_VARIABLE, text):
        hint = "names have letters, digits and `_`, no digit first"
        return Fault(f"{quoted(text)} is not the name of an environment variable", hint)
    if re.search(_CONFIDENTIAL, text):
        hint = "a variable's value stays in images and logs: declare it under `secrets:`"
        return Fault(f"{quoted(text)} is the name of a secret", hint)
    return None


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number as it is written in YAML."""
    return re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", text) is not None


def tag(text: str) -> Fault | None:
    """Check a tag, which may still contain `${key}` and `${git.sha}`."""
    meant = re.sub(_INTERPOLATED, "0", text)
    if UUID.fullmatch(text.lower()):
        return Fault(f"{quoted(text)} is a UUID, which the service reads as a build ID")
    if text == "default":
        hint = "it follows every build unless the target says `default: false`"
        return Fault("the tag `default` is not set here", hint)
    if is_content(text):
        return Fault(f"{quoted(text)} begins with `sf-`, which is kept for content tags")
    if TAG.fullmatch(meant):
        return None
    folded = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-")
    rule = "tags have a-z, 0-9, `.`, `_` and `-`, at most 128"
    is_near = "$" not in text and TAG.fullmatch(folded)
    return Fault(f"{quoted(text)} is not a tag", f"write `{folded}`" if is_near else rule)


def invisible(text: str, *, newlines: bool = False) -> Fault | None:
    """Refuse control characters: each would end or change a line somewhere else."""
    found = re.search(_NOT_IN_SCRIPT if newlines else _CONTROL, text) or INVISIBLE.search(text)
    if found is None:
        return None
    named = {"\n": "a line break", "\t": "a tab"}
    said = named.get(found.group(), f"the character U+{ord(found.group()):04X}")
    return Fault(f"{said} is not accepted here", "write visible text")


# --- environment -----------------------------------------------------------------------------


def variable(text: str) -> Fault | None:
    """Check the name of an environment variable."""
    if not re.fullmatch(_VARIABLE, text):
        message = f"{quoted(text)} is not the name of an environment variable"
        folded = re.sub(r"[^A-Za-z0-9_]", "_", text)
        hint = "names have letters, digits and `_`, no digit first"
        is_near = text.isascii() and re.fullmatch(_VARIABLE, folded)
        return Fault(message, f"write `{folded}`" if is_near else hint)
    if text.startswith(_OURS):
        hint = "choose another name; keys are given when a sandbox starts"
        return Fault(f"{quoted(text)} is kept for the service and its tools", hint)
    return None


def variable_value(variable_name: str, text: str) -> Fault | None:
    """Check the value of an environment variable, which is taken literally."""
    if len(text) > VALUE_LIMIT:
        message = f"a value has at most {VALUE_LIMIT} characters, not {len(text)}"
        return Fault(message, "copy a file with `files`")
    if fault := invisible(text):
        return fault
    if variable_name == "PATH" and "$" in text:
        hint = "write the whole path, for instance /opt/app/bin:/usr/local/bin:/usr/bin:/bin"
        return Fault("`PATH` is taken as it is written, and `$` is not expanded", hint, "$")
    return _leak(leaks.find_value(text))


def _leak(leak: leaks.Leak | None) -> Fault | None:
    if leak is None:
        return None
    hint = "it would stay in the image: declare it under `secrets:` and name it in `run`"
    return Fault(f"this looks like {leak.kind}", hint, leak.text)


# --- users, paths, modes ---------------------------------------------------------------------


def user(text: str) -> Fault | None:
    """Check a user's name or numeric id."""
    if re.fullmatch(_USER, text) or (re.fullmatch(_ID, text) and int(text) <= _ID_LIMIT):
        return None
    if ":" in text:
        return Fault(f"{quoted(text)} is not a user", "write the user without its group")
    if re.fullmatch(_USER, text.lower()):
        return Fault(f"{quoted(text)} is not a user", f"write `{text.lower()}`")
    hint = "a-z first, then a-z, 0-9, `-` and `_`, at most 32; or a numeric id"
    return Fault(f"{quoted(text)} is not a user", hint)


def owner(text: str) -> Fault | None:
    """Check an owner: `user` or `user:group`."""
    name_of_user, colon, group = text.partition(":")
    if user(name_of_user) or (colon and user(group)):
        return Fault(f"{quoted(text)} is not an owner", 'write "user" or "user:group"')
    return None


def mode(text: str) -> Fault | None:
    """Check permissions in octal digits."""
    if re.fullmatch(_MODE, text):
        return None
    return Fault(f"{quoted(text)} is not a file mode", 'write octal digits, for instance "0755"')


def image_path(text: str) -> Fault | None:
    """Check an absolute path inside the image."""
    if not text.startswith("/"):
        message = f"{quoted(text)} is not an absolute path in the image"
        home = text.startswith("~")
        return Fault(message, "write the home directory out" if home else "begin it with `/`")
    if ".." in text.split("/"):
        return Fault(f"{quoted(text)} contains `..`", "write the path without it", "..")
    if bad := _outside(text, _IN_IMAGE):
        return bad
    return None


def _outside(text: str, allowed: str) -> Fault | None:
    """Refuse a path with a character that a shell on the way could take for its own."""
    if re.fullmatch(allowed, text):
        return None
    bad = next(c for c in text if not re.fullmatch(allowed, "/" + c))
    message = f"{quoted(bad)} is not accepted in a path"
    return Fault(message, "letters, digits, space and . _ / @ + - are", bad)


def source(text: str, depth: int = 0) -> Fault | None:
    """Check a path or glob of the workspace, relative to the file that states it.

    `depth` is how many directories that file is below the root of the workspace.
    """
    return _inside(text, _GLOB, depth)


def path(text: str, depth: int = 0) -> Fault | None:
    """Check a path of the workspace, relative to the file that states it."""
    return _inside(text, _IN_WORKSPACE, depth)


def _inside(text: str, allowed: str, depth: int) -> Fault | None:
    if not text:
        return Fault("a path must not be empty", "write `.` for the whole directory")
    if text.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]|[a-z+]+:", text):
        message = f"{quoted(text)} is not a path inside the workspace"
        return Fault(message, "write it relative to this file")
    if "\\" in text:
        return Fault(f"{quoted(text)} contains a backslash", "separate with `/`", "\\")
    if bad := _outside(text, allowed):
        return bad
    for part in text.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return Fault(f"{quoted(text)} leaves the workspace", "move the files into it")
    return None


def member(text: str) -> Fault | None:
    """Check a pattern of `members`, which stays below the root."""
    if ".." in text.split("/"):
        return Fault(f"{quoted(text)} leaves the workspace", "members lie below the root")
    return source(text)


def is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")


# --- packages --------------------------------------------------------------------------------


def package(manager: str, text: str) -> Fault | None:
    """Check a package as it is given to its manager on a command line."""
    if fault := invisible(text):
        return fault
    if text.startswith("-"):
        return Fault(f"{quoted(text)} is an option, not a package", "use a step in `run` for it")
    if re.search(_DIRECT, text):
        hint = "copy files with `files`, or install it in `run`"
        return Fault(f"{quoted(text)} is a file or a URL, not a package", hint)
    match manager:
        case "apt":
            return (
                None
                if re.fullmatch(_APT, text)
                else _not_a_package(text, "an apt", "`git` or `git=1:2.39.5-0`")
            )
        case "pip" | "uv":
            return _pip(text)
        case _:
            fits = re.fullmatch(_NPM, text) and len(text.rpartition("@")[0] or text) <= _NPM_LIMIT
            return None if fits else _not_a_package(text, "an npm", "`typescript@5.6.3`")


def _not_a_package(text: str, kind: str, example: str) -> Fault:
    return Fault(f"{quoted(text)} is not the name of {kind} package", f"write it like {example}")


def _pip(text: str) -> Fault | None:
    if re.fullmatch(_SIMPLE_PIP, text):
        return None
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return _not_a_package(text, "a pip", "`requests==2.32.3`")
    if requirement.url:
        hint = "copy files with `files`, or install it in `run`"
        return Fault(f"{quoted(text)} is a URL, not a package", hint)
    return None


# --- commands --------------------------------------------------------------------------------


def command(text: str) -> Fault | None:
    """Check a start or ready command, which is passed on verbatim."""
    if len(text.encode()) > COMMAND_LIMIT:
        message = f"a command has at most {COMMAND_LIMIT} bytes, not {len(text.encode())}"
        return Fault(message, "put it into a script and copy that with `files`")
    if "\n" in text:
        hint = "join with `&&`, or put it into a script and copy that with `files`"
        return Fault("a command is one line", hint)
    return _text(text) or invisible(text) or _leak(leaks.find(text))


def script(text: str) -> Fault | None:
    """Check a script that runs while the image is built."""
    if len(text.encode()) > SCRIPT_LIMIT:
        message = f"a script has at most {SCRIPT_LIMIT} bytes, not {len(text.encode())}"
        return Fault(message, "copy it with `files` and run the copy")
    return _text(text) or invisible(text, newlines=True) or _leak(leaks.find(text))


def _text(text: str) -> Fault | None:
    return None if text.strip() else Fault("a command must not be empty")


# --- bases -----------------------------------------------------------------------------------


def image(text: str) -> Fault | None:
    """Check the reference of a container image."""
    try:
        ImageReference.parse(text)
    except ValueError as error:
        return Fault(f"this is not an image reference: {error}")
    return None


def remote(text: str) -> Fault | None:
    """Check `name` or `name:tag` of a template at a target."""
    if re.fullmatch(_REMOTE, text):
        return None
    return Fault(f"{quoted(text)} is not a template at a target", "write `name` or `name:tag`")


def stage(text: str) -> Fault | None:
    """Check the name or the number of a Dockerfile's stage."""
    return (
        None if re.fullmatch(_STAGE, text) else Fault(f"{quoted(text)} is not the name of a stage")
    )


def suite(text: str) -> Fault | None:
    """Check a distribution's code name."""
    if re.fullmatch(_SUITE, text):
        return None
    return Fault(f"{quoted(text)} is not a suite", "write its code name, for instance `bookworm`")


def component(text: str) -> Fault | None:
    """Check a component of a distribution."""
    if re.fullmatch(_COMPONENT, text):
        return None
    return Fault(f"{quoted(text)} is not a component", "write for instance `main`")


def snapshot(text: str) -> Fault | None:
    """Check a timestamp of a snapshot archive."""
    if re.fullmatch(_SNAPSHOT, text):
        return None
    return Fault(f"{quoted(text)} is not a time", "write it like `20240115T000000Z`")


def argument(text: str) -> Fault | None:
    """Check the name of a build argument."""
    if re.fullmatch(_VARIABLE, text):
        return None
    hint = "names have letters, digits and `_`, no digit first"
    return Fault(f"{quoted(text)} is not the name of a build argument", hint)


def build_argument(text: str) -> Fault | None:
    """Check a build argument's value, which stays in the image's history."""
    return variable_value("", text)


# --- addresses -------------------------------------------------------------------------------


def url(text: str) -> Fault | None:
    """Check an http or https URL without credentials, query and fragment."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return Fault(f"{quoted(text)} is not a URL", "write `https://host:port/path`")
    if "@" in parts.netloc:
        shown = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}"
        hint = "credentials are never in this file"
        return Fault(f"the URL `{shown}` contains credentials", hint)
    if parts.scheme not in ("http", "https") or not is_authority(parts.netloc):
        return Fault(f"{quoted(text)} is not a URL", "write `https://host:port/path`")
    return _url_rest(text)


def _url_rest(text: str) -> Fault | None:
    if fault := invisible(text):
        return fault
    if " " in text:
        return Fault(f"{quoted(text)} contains a space", "write it as %20")
    return None


def service_url(text: str) -> Fault | None:
    """Check the address of a service: a URL without query and fragment."""
    if fault := url(text):
        return fault
    parts: SplitResult = urlsplit(text)
    if parts.query or parts.fragment:
        return Fault(f"{quoted(text)} has a query or a fragment", "write the address alone")
    return None


def domain(text: str) -> Fault | None:
    """Check a domain of the service."""
    if re.fullmatch(_HOST, text):
        return None
    bare = text.partition("://")[2] or text
    bare = bare.partition("/")[0].rpartition("@")[2].lower()
    if "@" in text:
        return Fault("this domain contains credentials", f"write `{bare}`")
    if "://" in text or "/" in text:
        hint = f"write `{bare.removeprefix('api.')}`, or use `api_url`"
        return Fault(f"{quoted(text)} is a URL, not a domain", hint)
    hint = f"write `{bare}`" if re.fullmatch(_HOST, bare) else "write `host.example.com`"
    return Fault(f"{quoted(text)} is not a domain", hint)


def registry(text: str) -> Fault | None:
    """Check `host[:port][/repository]` of a registry."""
    if "@" in text:
        if "sha256:" in text:
            return Fault(f"{quoted(text)} has a digest", "write registry and repository alone")
        hint = "log in with `docker login`, credentials are never in this file"
        return Fault("this registry contains credentials", hint)
    if "://" in text:
        return Fault(f"{quoted(text)} is a URL", f"write `{text.partition('://')[2].rstrip('/')}`")
    host = text.partition("/")[0]
    if re.fullmatch(_REGISTRY, text):
        if not is_authority(host):
            message = f"{quoted(host)} is not a host, or a host and a port from 1 to 65535"
            return Fault(message, "write `host:port/repository`", host)
        if "." in host or ":" in host or host == "localhost":
            return None
        hint = f"write `docker.io/{text}` for Docker Hub"
        return Fault(f"{quoted(text)} names no registry", hint)
    bare = text.rstrip("/").lower()
    head, _, last = bare.rpartition("/")
    bare = f"{head}/{last.partition(':')[0]}" if head else bare
    message = f"{quoted(text)} is not a registry and a repository"
    return Fault(message, f"write `{bare}`" if re.fullmatch(_REGISTRY, bare) else "")


def secret_id(text: str) -> Fault | None:
    """Check the id of a build secret."""
    if re.fullmatch(_WORD, text):
        return None
    hint = "ids have letters, digits, `_`, `.` and `-`, at most 64"
    return Fault(f"{quoted(text)} is not the id of a secret", hint)


def secret_variable(text: str) -> Fault | None:
    """Check the variable that a build secret is read from: never one with our own keys."""
    if not re.fullmatch(_VARIABLE, text):
        return variable(text)
    if text.startswith(_OURS):
        hint = "a build could send it away: give the build a variable of its own"
        return Fault(f"{quoted(text)} holds a key of the service", hint)
    return None


# --- numbers ---------------------------------------------------------------------------------


def cpu(number: int) -> Fault | None:
    """Check a number of CPUs: 1, or even, up to 32."""
    if number == 1 or (number % 2 == 0 and 0 < number <= CPU_LIMIT):
        return None
    if number < 1:
        hint = "write 1 or 2"
    elif number > CPU_LIMIT:
        hint = f"write {CPU_LIMIT}"
    else:
        hint = f"write {number - 1} or {number + 1}"
        hint = "write 2 or 4" if number == 3 else hint  # noqa: PLR2004 - its neighbours
    return Fault(f"`cpu` is 1 or an even number up to {CPU_LIMIT}, not {number}", hint)


def memory(number: int) -> Fault | None:
    """Check a memory size in MiB: even, at least 128, at most a tebibyte."""
    if number < MEMORY_LEAST:
        hint = f"write {MEMORY_LEAST}"
        return Fault(f"`memory` is at least {MEMORY_LEAST} MiB, not {number}", hint)
    if number > MEMORY_LIMIT:
        message = f"`memory` is at most {MEMORY_LIMIT} MiB (1 TiB), not {number}"
        return Fault(message, "write a size that the target gives, like `4GiB`")
    if number % 2:
        hint = f"write {number - 1} or {number + 1}"
        return Fault(f"`memory` is an even number of MiB, not {number}", hint)
    return None


def mebibytes(text: str) -> int | Fault:
    """Read a memory size with its unit as MiB."""
    if match := re.fullmatch(_MEMORY, text):
        return int(match[1]) * (1024 if match[2] == "GiB" else 1)
    message = f"{quoted(text)} is not a size of memory"
    if match := re.fullmatch(_LOOSE_MEMORY, text):
        unit = match[2][:1].upper()
        if unit in ("M", "G"):
            return Fault(message, f"write `{match[1]}{unit}iB`")
        if not unit:
            return Fault(message, f"write {match[1]} without quotes, or `{match[1]}MiB`")
    return Fault(message, "write a number of MiB, or a size like `512MiB` or `2GiB`")


def seconds(text: str) -> int | Fault:
    """Read a delay with its unit as whole seconds."""
    match = re.fullmatch(_DELAY, text)
    if match is None:
        hint = f"write `{text}s`" if text.isascii() and text.isdigit() else "write `20s` or `2m`"
        return Fault(f"{quoted(text)} is not a delay", hint)
    number = int(match[1]) * {"ms": 1, "s": 1000, "m": 60_000}[match[2]]
    if number % 1000 or not number:
        least = max(1, round(number / 1000))
        return Fault(f"{quoted(text)} is not a whole number of seconds", f"write `{least}s`")
    if number >= DELAY_LIMIT * 1000:
        hint = "the service waits 10 minutes: check for something that happens earlier"
        return Fault(f"{quoted(text)} is too long a delay", hint)
    return number // 1000


def port(number: int) -> Fault | None:
    """Check a TCP port."""
    if 0 < number <= 65535:  # noqa: PLR2004 - 16 bits
        return None
    return Fault(f"{number} is not a port", "ports are 1 to 65535")


def process(text: str) -> Fault | None:
    """Check the name of a process: one word, as `ps -o comm` shows it."""
    if fault := invisible(text):
        return fault
    if not text or "/" in text or " " in text:
        last = text.partition(" ")[0].rpartition("/")[2]
        hint = f"write `{last}`" if last else ""
        return Fault(f"{quoted(text)} is not a process name", hint)
    return None


def builder(text: str) -> Fault | None:
    """Check the name of a buildx builder."""
    if re.fullmatch(_WORD, text):
        return None
    return Fault(f"{quoted(text)} is not the name of a builder", "`docker buildx ls` shows them")
