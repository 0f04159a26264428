"""The grammars of packages, as they are given to their managers on a command line (`values`)."""

import re

from sandboxfile.config.document import quoted
from sandboxfile.config.problems import Fault
from sandboxfile.config.values import invisible

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
