"""Which files of a copy are likely secrets: told by their names, and by how they begin.

A file that is sent to a service or pushed to a registry cannot be called back. Names are those
under which tools keep credentials by default; content is looked at in small files only, and in
what they begin with.
"""

import os
import re
from collections.abc import Iterator

from sandboxfile.contents import Entry, Selection, shown
from sandboxfile.ignore import Ignore
from sandboxfile.patterns import regex
from sandboxfile.places import Problem

_HEAD = 8 << 10  # bytes that are looked at
_SMALL = 256 << 10  # no key or login is larger
_LISTED = 20
# What is kept in version control on purpose: a form to fill in.
_FORMS = r"\.(?:dist|defaults?|example|sample|schema|template|tpl)$"
_BY_PATH = tuple(
    (regex(rf"(?:^|/)(?:{pattern})$"), kind)
    for pattern, kind in (
        (r"\.env(?:\.[^/]+)?|[^/]+\.env\.(?:local|production)|\.envrc", "an environment file"),
        (r"id_(?:rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk)", "a private key"),
        (r"[^/]+\.(?:p12|pfx|jks|keystore|ppk|kdbx)", "a store of keys"),
        (r"\.aws/credentials|\.boto", "AWS credentials"),
        (r"\.config/gcloud/.+|application_default_credentials\.json", "Google credentials"),
        (r"\.azure/(?:accessTokens\.json|msal_token_cache\..+)", "Azure credentials"),
        (r"\.docker/config\.json|\.dockercfg", "registry logins"),
        (r"\.kube/config|kubeconfig", "cluster credentials"),
        (r"[._]netrc|\.git-credentials|\.pgpass|\.my\.cnf|\.vault-token", "logins"),
        (r"\.novita/config\.json|\.e2b/config\.json", "a login of the sandbox service"),
    )
)
_BY_CONTENT = tuple(
    (regex(f"(?:^|/)(?:{path})$"), regex(content, re.MULTILINE), kind)
    for path, content, kind in (
        (r".*", rb"^[ \t]*-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----", "a private key"),
        (r".*", rb"\APuTTY-User-Key-File-", "a private key"),
        (r"[^/]*\.json", rb'"type"\s*:\s*"service_account"', "a key of a service account"),
        (r"\.npmrc|\.yarnrc(?:\.yml)?", rb"_auth(?:Token)?\s*=|_password\s*=|npmAuthToken\s*:",
         "an npm login"),
        (r"\.pypirc", rb"^\s*password\s*[=:]", "a Python package index login"),
        (r"pip\.conf|\.git/config", rb"://[^\s/@:]*:[^\s/@]+@", "a login in an address"),
    )
)  # fmt: skip


def found(selection: Selection) -> tuple[Problem, ...]:
    """Return a problem for each file of a copy that is likely a secret and not allowed by name.

    Each is told with its place and remedy, the first twenty of a copy. Unreadable files are not
    told of: nothing can be sent of them.
    """
    copy = selection.copy
    allowed = Ignore.of(copy.allow if copy else (), selection.at)
    problems = [
        _problem(selection, entry, kind)
        for entry in selection.entries
        if (kind := _kind(selection, entry)) and not allowed.excludes(entry.name)
    ]
    return tuple(problems[:_LISTED])


def _problem(selection: Selection, entry: Entry, kind: str) -> Problem:
    path, name = shown(_path(selection, entry)), shown(entry.name)
    hint = f'leave it out in `.dockerignore`, or copy it under `files` with `allow: ["{name}"]`'
    return Problem(selection.at, f"`{path}` looks like {kind}", hint)


def _path(selection: Selection, entry: Entry) -> str:
    return entry.path[len(selection.root) + 1 :]


def _kind(selection: Selection, entry: Entry) -> str:
    """Say what an entry looks like, nothing if not like a secret."""
    if entry.kind != "file":
        return ""
    path = _path(selection, entry)
    if not re.search(_FORMS, path):
        for pattern, kind in _BY_PATH:
            if pattern.search(path):
                return kind
    return _kind_of_content(path, entry) if 0 < entry.size <= _SMALL else ""


def _kind_of_content(path: str, entry: Entry) -> str:
    head = _head(entry.path)
    kinds = (k for at, content, k in _BY_CONTENT if at.search(path) and content.search(head))
    return next(kinds, "")


def _head(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _HEAD)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def each(selections: Iterator[Selection]) -> tuple[Problem, ...]:
    """Return the problems of several copies."""
    return tuple(problem for selection in selections for problem in found(selection))
