"""What a template takes over from its image, or from the template it is built on. Pure.

The service looks at nothing of an image but its files and, in build steps, its ENV
(docs/protocol.md, 3.6 and 3.8). So what a container of the image would have is told to the
service by us: environment, user, working directory, and what it starts.
"""

from collections.abc import Mapping
from posixpath import basename
from shlex import join

from sandboxfile.frozen import dataclass, field, replace
from sandboxfile.model import VARIABLE, Env, ImageConfig, Template
from sandboxfile.patterns import regex

# Each machine, shell or session has its own.
SESSION = frozenset({"HOSTNAME", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "TERM"})
_TAKEN = frozenset({"ready", "start", "user", "workdir"})
ROOT = frozenset({"", "root", "0"})

_USER = regex(r"[A-Za-z_][A-Za-z0-9_.-]*")
_VERSION = regex(r"[-0-9.]+$")
# What an image runs when it is asked for nothing in particular: waiting for somebody to type.
_INTERACTIVE = regex(
    r"ash|bash|busybox|csh|dash|fish|ksh|mksh|pwsh|sh|tcsh|zsh|bun|clisp|"
    r"clojure|deno|elixir|erl|ghci|groovysh|guile|iex|ipython|irb|jjs|jshell|"
    r"julia|lua|luajit|node|nodejs|ocaml|perl|php|psysh|pypy|python|r|racket|"
    r"raku|ruby|sbcl|scala|swipl|tclsh|utop"
)
_SHELLS = frozenset({"ash", "bash", "dash", "ksh", "sh", "zsh"})
# With these options alone an interpreter still waits for somebody to type.
_STILL = frozenset({"-", "-a", "-de0", "-i", "-il", "-l", "-li", "--interactive", "--login"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What an image gives to a template; None where it gives nothing.

    `env` is what shells in a sandbox should see: the image's own variables and, over them, those
    of the template; those of a session and those that no shell can have are left out.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    workdir: str | None = None
    start: str | None = None


NOTHING = Inherited()


def inherited(template: Template, config: ImageConfig) -> Inherited:
    """Return what `template` takes over from its image: nothing that it says itself."""
    wanted = template.inherit
    takes_user = "user" in wanted and template.user is None
    takes_workdir = "workdir" in wanted and template.workdir is None
    takes_start = "start" in wanted and template.start is None
    return Inherited(
        env=environment(template, config),
        user=user(config) if takes_user else None,
        workdir=workdir(config) if takes_workdir else None,
        start=start(config) if takes_start else None,
    )


def applied(template: Template, config: ImageConfig) -> Template:
    """Return the template with what it takes over from its image filled in."""
    found = inherited(template, config)
    return replace(
        template,
        user=template.user or found.user,
        workdir=template.workdir or found.workdir,
        start=template.start if template.start is not None else found.start,
    )


def is_open(template: Template) -> bool:
    """Tell whether there is anything that the template would take over from its image."""
    return any(getattr(template, each) is None for each in template.inherit)


def onwards(template: Template, config: ImageConfig) -> ImageConfig:
    """Return what the image of a template says of itself, from what its base does."""
    whole = applied(template, config)
    return replace(
        config,
        env={**config.env, **_variables(template)},
        user=whole.user or "root",
        workdir=whole.workdir or config.workdir,
    )


def of_parent(template: Template, parent: Template) -> Template:
    """Return a template with what it takes over from the one it is built on filled in.

    Whatever a parent is not given by its own image, its children are not given by it either.
    The parent's ready check belongs to what the parent starts: it is taken over with that alone.
    """
    wanted = template.inherit
    follows = "start" in wanted and template.start is None
    theirs = {key: at for key, at in parent.places.items() if key in _TAKEN}
    return replace(
        template,
        places={**theirs, **template.places},
        user=template.user or (parent.user if "user" in wanted else None),
        workdir=template.workdir or (parent.workdir if "workdir" in wanted else None),
        start=parent.start if follows else template.start,
        ready=template.ready or (parent.ready if follows else None),
        inherit=tuple(each for each in wanted if each in parent.inherit),
    )


# --- each of them ----------------------------------------------------------------------------


def environment(template: Template, config: ImageConfig) -> Mapping[str, str]:
    """Return the variables of image and template that a shell in a sandbox should see."""
    variables = {name: value for name, value in config.env.items() if name not in SESSION}
    variables |= _variables(template)
    return {name: value for name, value in variables.items() if is_variable(name)}


def _variables(template: Template) -> Mapping[str, str]:
    given = (each.values for each in template.instructions if isinstance(each, Env))
    return {name: value for values in given for name, value in values.items()}


def is_variable(name: str) -> bool:
    """Tell whether a shell can have a variable of this name (POSIX, 3.216)."""
    return VARIABLE.fullmatch(name) is not None


def user(config: ImageConfig) -> str | None:
    """Return the user of an image, None for root and for what the service cannot be told.

    The service knows users by name and makes those that are missing: a number would become a
    new user of that name.
    """
    name = config.user.partition(":")[0]
    return name if name not in ROOT and _USER.fullmatch(name) else None


def workdir(config: ImageConfig) -> str | None:
    """Return the working directory of an image, None when it says none (`/` is Docker's own)."""
    path = config.workdir
    return path if path.startswith("/") and path.strip("/") else None


def start(config: ImageConfig) -> str | None:
    """Return what the image runs, as a shell command; None for nothing and for a mere shell."""
    words = (*config.entrypoint, *config.cmd)
    # An entrypoint often ends with running its arguments: a script does, `tini --` does.
    rest = words[words.index("--") + 1 :] if "--" in words else words
    waits = _waits(config.cmd) or _waits(words) or _waits(rest)
    return join(words) if words and not waits else None


def _waits(words: tuple[str, ...]) -> bool:
    """Tell whether a command is a shell or an interpreter that nobody gave anything to run."""
    if not words:
        return False
    name = _name(words[0])
    if name in _SHELLS and len(words) == 3 and words[1] == "-c":  # noqa: PLR2004 - sh -c text
        return _waits(tuple(words[2].removeprefix("exec ").split()))
    return bool(_INTERACTIVE.fullmatch(name)) and all(word in _STILL for word in words[1:])


def _name(program: str) -> str:
    """Return the name of a program without its directory and version: `python` of `python3.12`."""
    return _VERSION.sub("", basename(program)).lower()
