"""Which files of a copy are likely secrets: told by their names, and by how they begin.

A file that is sent to a service or pushed to a registry cannot be called back. Names are those
under which tools keep credentials by default; content is looked at in small files only, and in
what they begin with.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from sandboxfile import reading
from sandboxfile.contents import Entry, Selection, shown
from sandboxfile.ignore import Ignore
from sandboxfile.patterns import regex
from sandboxfile.places import Problem

_HEAD = 8 << 10  # bytes that are looked at
_SMALL = 256 << 10  # no key or login is larger
_LISTED = 20
# How names end of what is kept in version control on purpose: a form to fill in.
_FORMS = (
    ".dist", ".default", ".defaults", ".example", ".sample", ".schema", ".template", ".tpl",
)  # fmt: skip
# Files by their names, or by those of their directory and their own.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "an environment file": (".env", ".envrc"),
    "a private key": ("id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"),
    "AWS credentials": (".aws/credentials", ".boto"),
    "Google credentials": ("application_default_credentials.json",),
    "Azure credentials": (".azure/accessTokens.json",),
    "registry logins": (".docker/config.json", ".dockercfg"),
    "cluster credentials": (".kube/config", "kubeconfig"),
    "logins": (".netrc", "_netrc", ".git-credentials", ".pgpass", ".my.cnf", ".vault-token"),
    "a login of the sandbox service": (".novita/config.json", ".e2b/config.json"),
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names}
# How names begin, how they end, and what is in directories, with more of a name before or behind.
_BEGINNINGS = ((".env.", "an environment file"),)
_ENDINGS = (
    ((".env.local", ".env.production"), "an environment file"),
    ((".p12", ".pfx", ".jks", ".keystore", ".ppk", ".kdbx"), "a store of keys"),
)
_PLACES = (
    ("/.config/gcloud/", "Google credentials"),
    ("/.azure/msal_token_cache.", "Azure credentials"),
)
# What files have in them, any file or those of a name. No pattern is compiled for files that are
# none of these: to compile them all takes longer than to read what a template copies.
_BEGINS = b"-----BEGIN "
_PRIVATE_KEY = regex(rb"^[ \t]*-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----", re.MULTILINE)
_PUTTY = b"PuTTY-User-Key-File-"
_NPM = (
    regex(rb"_auth(?:Token)?\s*=|_password\s*=|npmAuthToken\s*:", re.MULTILINE),
    "an npm login",
)
_ADDRESS = regex(rb"://[^\s/@:]*:[^\s/@]+@", re.MULTILINE), "a login in an address"
_JSON = regex(rb'"type"\s*:\s*"service_account"', re.MULTILINE), "a key of a service account"
_CONTENTS = {
    ".npmrc": _NPM,
    ".yarnrc": _NPM,
    ".yarnrc.yml": _NPM,
    ".pypirc": (regex(rb"^\s*password\s*[=:]", re.MULTILINE), "a Python package index login"),
    "pip.conf": _ADDRESS,
    ".git/config": _ADDRESS,
}


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
    kind = "" if path.endswith(_FORMS) else _kind_of_path(path)
    return kind or (_kind_of_content(path, entry) if 0 < entry.size <= _SMALL else "")


def _kind_of_path(path: str) -> str:
    name, both = _last(path)
    kind = _KINDS.get(name) or _KINDS.get(both)
    if kind:
        return kind
    for beginning, kind in _BEGINNINGS:
        if name.startswith(beginning) and name != beginning:
            return kind
    for endings, kind in _ENDINGS:
        if name.endswith(endings) and name not in endings:
            return kind
    return next((kind for place, kind in _PLACES if f"/{path}".partition(place)[2]), "")


def _last(path: str) -> tuple[str, str]:
    """Return the name of a file, and that with its directory's."""
    directory, slash, name = path.rpartition("/")
    return name, f"{directory.rpartition('/')[2]}{slash}{name}"


def _kind_of_content(path: str, entry: Entry) -> str:
    head = _head(entry.path)
    if head.startswith(_PUTTY) or (_BEGINS in head and _PRIVATE_KEY.search(head)):
        return "a private key"
    name, both = _last(path)
    told = _CONTENTS.get(name) or _CONTENTS.get(both)
    if told is None and name.endswith(".json"):
        told = _JSON
    return told[1] if told and told[0].search(head) else ""


def _head(path: str) -> bytes:
    with suppress(OSError):
        return reading.head(path, _HEAD)
    return b""


def each(selections: Iterator[Selection]) -> tuple[Problem, ...]:
    """Return the problems of several copies."""
    return tuple(problem for selection in selections for problem in found(selection))
