"""The grammars of single values: text in, a Fault or None out; no file, no place, no network.

Every rule matches the whole text. What ends in a shell, a Dockerfile or a request has an
allow-list of characters (for names, tags and numbers: docs/protocol.md, 4 and 6). Patterns are
compiled by `re` at first use: most files need few of them.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from sandboxfile.config import leaks
from sandboxfile.config.document import INVISIBLE, quoted
from sandboxfile.config.problems import Fault
from sandboxfile.model import NAME, TAG, UUID, VARIABLE
from sandboxfile.tags import is_content

COMMAND_LIMIT = 8 << 10  # bytes of a start or ready command
VALUE_LIMIT = 32 << 10  # characters of a variable's value
SCRIPT_LIMIT = 64 << 10  # bytes of a script that runs while building

_NAME_LIMIT = 128
_CONTROL = r"[\x00-\x1f]"
_NOT_IN_SCRIPT = r"[\x00-\x08\x0b-\x1f]"
_REFERABLE = r"[A-Za-z_][A-Za-z0-9_-]*"
_OURS = ("NOVITA_", "E2B_", "SANDBOXFILE_")
# How tools call the variables of the environment that they read a secret from.
_CONFIDENTIAL = (
    r"(?i)_pwd(?:_|$)"
    r"|(?:^|_)(?:dsn|conn(?:ection)?_?str(?:ing)?|jwt|sas)(?:_|$)"
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
_STAGE = r"[A-Za-z][A-Za-z0-9_.-]*|[0-9]{1,3}"
_SUITE = r"[a-z][a-z0-9-]*"
_COMPONENT = r"[a-z][a-z0-9-]*"
_SNAPSHOT = r"[0-9]{8}T[0-9]{6}Z"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_REPLACED = r"(?<!\$)\$\{(?:var|matrix)\.[\w-]+\}"  # elsewhere
# Unknown names are complained of where `$` is replaced.
_INTERPOLATED = r"\$\{(?:key|[A-Za-z_][\w-]*(?:\.[\w-]+)+)\}"

_Grammar = TypeVar("_Grammar", bound=Callable[..., Fault | None])


def _alike(grammar: _Grammar) -> _Grammar:
    """Check once what many templates say in the same words."""
    return lru_cache(maxsize=1024)(grammar)  # type: ignore[return-value]


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


def stated(text: str, where: str) -> Fault | None:
    """Refuse a reference in a text that is taken as it is written."""
    found = re.search(_REPLACED, text)
    if found is None:
        return None
    hint = "write the text itself, or put both together where they are used"
    return Fault(f"`{found.group()}` is not replaced in {where}", hint, found.group())


def matrix_value(text: str) -> Fault | None:
    """Check a value of a matrix, which becomes part of a name."""
    if fault := stated(text, "the values of a matrix"):
        return fault
    if not text.isascii() or not re.search("[A-Za-z0-9]", text):
        message = f"{quoted(text)} cannot be part of a template's name"
        return Fault(message, "names are made of a-z, 0-9, `-` and `_`")
    return invisible(text)


def environment_variable(text: str) -> Fault | None:
    """Check the name of a variable of the environment that a value comes from.

    Never one that is called a secret: a proposal to change the file could have it built in.
    """
    if not VARIABLE.fullmatch(text):
        hint = "names have letters, digits and `_`, no digit first"
        return Fault(f"{quoted(text)} is not the name of an environment variable", hint)
    if re.search(_CONFIDENTIAL, text):
        hint = "a variable's value stays in images and logs: declare it under `secrets:`"
        return Fault(f"{quoted(text)} is the name of a secret", hint)
    return None


@_alike
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
    if text.isprintable():  # in a fraction of the time; then nothing in it is `INVISIBLE`
        return None
    found = re.search(_NOT_IN_SCRIPT if newlines else _CONTROL, text) or INVISIBLE.search(text)
    if found is None:
        return None
    named = {"\n": "a line break", "\t": "a tab"}
    said = named.get(found.group(), f"the character U+{ord(found.group()):04X}")
    return Fault(f"{said} is not accepted here", "write visible text")


# --- environment -----------------------------------------------------------------------------


@_alike
def variable(text: str) -> Fault | None:
    """Check the name of an environment variable."""
    if not VARIABLE.fullmatch(text):
        message = f"{quoted(text)} is not the name of an environment variable"
        folded = re.sub(r"[^A-Za-z0-9_]", "_", text)
        hint = "names have letters, digits and `_`, no digit first"
        is_near = text.isascii() and VARIABLE.fullmatch(folded)
        return Fault(message, f"write `{folded}`" if is_near else hint)
    if text.startswith(_OURS):
        hint = "choose another name; keys are given when a sandbox starts"
        return Fault(f"{quoted(text)} is kept for the service and its tools", hint)
    return None


@_alike
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


@_alike
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
    return Fault(message, "ASCII letters, digits, space and . _ / @ + - are", bad)


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
    if VARIABLE.fullmatch(text):
        return None
    hint = "names have letters, digits and `_`, no digit first"
    return Fault(f"{quoted(text)} is not the name of a build argument", hint)


def build_argument(text: str) -> Fault | None:
    """Check a build argument's value, which stays in the image's history."""
    return variable_value("", text)


def secret_id(text: str) -> Fault | None:
    """Check the id of a build secret."""
    if re.fullmatch(_WORD, text):
        return None
    hint = "ids have letters, digits, `_`, `.` and `-`, at most 64"
    return Fault(f"{quoted(text)} is not the id of a secret", hint)


def secret_variable(text: str) -> Fault | None:
    """Check the variable that a build secret is read from: never one with our own keys."""
    if not VARIABLE.fullmatch(text):
        return variable(text)
    if text.startswith(_OURS):
        hint = "a build could send it away: give the build a variable of its own"
        return Fault(f"{quoted(text)} holds a key of the service", hint)
    return None


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
