"""The shell scripts that carry out instructions, whoever runs them: POSIX sh, all of it quoted."""

from collections.abc import Mapping
from shlex import join, quote

from sandboxfile.model import VARIABLE, Install, InstallProject, Manager
from sandboxfile.patterns import regex


def _script(*commands: str) -> str:
    return "; ".join(["set -e", *commands])


def account(user: str) -> str:
    """Make a user with a group and a home, by useradd where it is, else (busybox) by hand."""
    name, home = quote(user), quote(f"/home/{user}")
    has_group = f"grep -qs {quote(f'^{user}:')} /etc/group"
    return _script(
        f"if id -u {name} >/dev/null 2>&1; then exit 0; fi",
        "shell=/bin/sh",
        "if [ -x /bin/bash ]; then shell=/bin/bash; fi",
        "if command -v useradd >/dev/null",
        f"then if {has_group}; then group=--gid={name}; else group=--user-group; fi",
        f'useradd --no-log-init --create-home --home-dir {home} --shell "$shell" "$group" {name}',
        "exit 0",
        "fi",
        "id=1000",
        'while grep -qs "^[^:]*:[^:]*:$id:" /etc/passwd /etc/group; do id=$((id+1)); done',
        f"{has_group} || echo {name}:x:$id: >> /etc/group",
        f"group=$(sed -n {quote(f's/^{user}:[^:]*://p')} /etc/group)",
        f"echo {name}:x:$id:${{group%%:*}}::{home}:$shell >> /etc/passwd",
        f"if [ -f /etc/shadow ]; then echo '{user}:!:::::::' >> /etc/shadow; fi",
        f"mkdir -p {home}",
        f"chown $id:${{group%%:*}} {home}",
    )


def directory(path: str, owner: str | None) -> str:
    """Make a directory, and give it to `owner` if there is one."""
    make = join(["mkdir", "-p", "--", path])
    if owner is None:
        return _script(make)
    # `name:` also gives the login group, which a bare number does not have.
    whom = owner if ":" in owner or owner.isdigit() else f"{owner}:"
    return _script(make, join(["chown", "--", whom, path]))


# What differs from one installation of the same packages to the next.
_APT_TRACES = (
    "rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log "
    "/var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old"
)
_APT_CACHE = "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"
_SETTINGS: Mapping[Manager, str] = {
    "apt": "export DEBIAN_FRONTEND=noninteractive",
    "pip": "export PYTHONDONTWRITEBYTECODE=1 PIP_BREAK_SYSTEM_PACKAGES=1 "
    "PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore",
    "npm": "export npm_config_cache=/tmp/.npm npm_config_update_notifier=false",
    "uv": "export UV_NO_CACHE=1 UV_BREAK_SYSTEM_PACKAGES=1",
    "bun": "export BUN_INSTALL_CACHE_DIR=/tmp/.bun",
}
_INSTALL: Mapping[Manager, str] = {
    "apt": "apt-get install -y --no-install-recommends --",
    "pip": "python3 -m pip install --no-compile --no-cache-dir --",
    "npm": "npm install -g --no-fund --no-audit --",
    "uv": "uv pip install --system --",
    "bun": "bun add -g",
}
_CLEAN: Mapping[Manager, tuple[str, ...]] = {
    "apt": ("apt-get clean", _APT_CACHE, _APT_TRACES),
    "npm": ("rm -rf /tmp/.npm",),
    "bun": ("rm -rf /tmp/.bun",),
}
_MANIFESTS = ("pyproject.toml", "package.json")
# (as written, in the frozen form). Only manifests are there: the project itself comes later.
_PROJECT: Mapping[Manager, tuple[str, str]] = {
    "npm": ("npm install --no-fund --no-audit", "npm ci --no-fund --no-audit"),
    "uv": ("uv sync --no-install-project", "uv sync --frozen --no-install-project"),
    "bun": ("bun install", "bun install --frozen-lockfile"),
}
# pip itself cannot install what a pyproject.toml depends on without the project.
_PYPROJECT = """\
try: import tomllib
except ImportError: from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file: project = tomllib.load(file)
print("\\n".join(project.get("project", {}).get("dependencies", ())))"""


def install(wanted: Install, *, is_cached: bool = False) -> str:
    """Install packages by name; with `is_cached` the manager's caches are mounted, and stay."""
    update = ("apt-get update",) if wanted.manager == "apt" else ()
    clean = (_APT_TRACES,) if is_cached else _CLEAN.get(wanted.manager, ())
    command = f"{_INSTALL[wanted.manager]} {join(wanted.packages)}"
    return _script(_SETTINGS[wanted.manager], *update, command, *clean)


def install_project(project: InstallProject) -> str:
    """Install what the files of a project list, in the directory that they were copied to."""
    enter = join(["cd", "--", project.to])
    clean = _CLEAN.get(project.manager, ())
    return _script(_SETTINGS[project.manager], enter, *_listed(project), *clean)


def _listed(project: InstallProject) -> tuple[str, ...]:
    """Return the commands that install what the project's files list."""
    manager, manifest = project.manager, project.files[0]
    if manifest not in _MANIFESTS:
        hashes = "--require-hashes " if project.locked else ""
        return (f"{_INSTALL[manager].removesuffix('--')}{hashes}-r {quote(f'./{manifest}')}",)
    if manager == "pip":
        wanted = "/tmp/.requirements"  # noqa: S108 - in the image
        return (
            f"python3 -c {quote(_PYPROJECT)} > {wanted}",
            f"{_INSTALL[manager].removesuffix('--')}-r {wanted}",
            f"rm {wanted}",
        )
    return (_PROJECT[manager][project.locked],)


# --- the environment at run time --------------------------------------------------------------

PROFILE = "/etc/profile.d/99-image-env.sh"
ENVIRONMENT = "/etc/environment"
# Each machine, shell or session has its own; the last two are ours, for the build.
LEFT_OUT = "HOSTNAME|HOME|PWD|OLDPWD|SHLVL|_|TERM|SF_E[0-9]+|SOURCE_DATE_EPOCH"
# bash complains about these at each login.
READ_ONLY = "BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID"
_READ_ONLY = regex(READ_ONLY)

# Takes every variable from the environment of the shell that runs it, as `env -i` would, which some
# images lack. Of values with newlines, what looks like a name is no variable, or is one to go too.
_FORGET = (
    "for each in $(export -p | sed -E -n "
    r"'s/^(export|declare|typeset)( -[A-Za-z]+)? ([A-Za-z_][A-Za-z0-9_]*)(=.*)?$/\3/p'); "
    'do (unset "$each") 2>/dev/null && unset "$each"; done'  # none that is read-only
)


def is_read_only(name: str) -> bool:
    """Tell whether a shell keeps this variable for itself."""
    return _READ_ONLY.fullmatch(name) is not None


def environment(
    *, more: tuple[str, ...] = (), profile: str = PROFILE, plain: str = ENVIRONMENT
) -> str:
    r"""Return the script that keeps the environment it runs in for shells at run time.

    The service hands an image's ENV to build steps only and resets PATH in login shells; these
    two files are what it reads when a sandbox runs (docs/protocol.md, 3.8). In images that are
    built here they are the same, byte for byte (`environment.files`). `more` are lines
    `NAME=value` besides. Values are exact: entries end in NUL in the process's environment, and a
    newline inside a value is \001 while lines are edited.
    """
    reading = r"tr '\000\n' '\n\001' < /proc/$$/environ"
    if more:
        lines = join(["printf", r"%s\n", *more])
        reading = f"{{ {reading}; {lines}; }}"
    quoted = r"s/'/'\\\\''/g; s/=(.*)/='\\1'/; s/^/export /"
    return _script(
        "umask 022",
        "PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin",
        "export LC_ALL=C",
        f"mkdir -p {_parent(profile)}",
        r"newline=$(printf '\001')",
        f"all=$({reading} | sed -E '/^[A-Za-z_][A-Za-z0-9_]*=/!d; /^({LEFT_OUT})=/d' | sort)",
        '[ -n "$all" ]',
        f'printf \'%s\\n\' "$all" | sed -E "/^({READ_ONLY})=/d; {quoted}" | '
        f"tr '\\001' '\\n' > {profile}",
        f'printf \'%s\\n\' "$all" | sed "/^[^=]*=\\$/d; /\\"/d; /$newline/d" > {plain}',
        f"chmod 0644 {profile} {plain}",
    )


def set_environment(
    values: Mapping[str, str],
    *,
    is_first: bool,
    profile: str = PROFILE,
    plain: str = ENVIRONMENT,
) -> str:
    """Return the script that adds variables to those files, from nothing but what is given.

    The environment of the process is not looked at: where a service runs a step, it is that of
    the machine. `is_first` begins the files anew.
    """
    named = {name: value for name, value in values.items() if VARIABLE.fullmatch(name)}
    given = [f"{name}={value}" for name, value in named.items() if not is_read_only(name)]
    more = tuple(f"{name}={value}" for name, value in named.items() if is_read_only(name))
    write = environment(more=more, profile=profile, plain=plain)
    commands = [_FORGET]
    if not is_first:
        commands.append(f"if [ -f {profile} ]; then . {profile}; fi")
    if given:
        commands.append(join(["export", *given]))
    return "; ".join([*commands, "exec " + join(["/bin/sh", "-c", write])])


def with_variables(values: Mapping[str, str], command: tuple[str, ...]) -> str:
    """Return the script that runs a command with more variables, as `env` would.

    That program itself, which some images lack, is needed for names alone that no shell can have.
    """
    odd = {name: value for name, value in values.items() if not VARIABLE.fullmatch(name)}
    told = [quote(f"{name}={value}") for name, value in odd.items()]
    exports = [
        f"(export {given}) 2>/dev/null && export {given}"
        if is_read_only(name)
        else f"export {given}"
        for name, value in values.items()
        if name not in odd
        for given in [quote(f"{name}={value}")]
    ]
    program = " ".join(["/usr/bin/env", *told, join(command)]) if odd else join(command)
    return "; ".join([*exports, f"exec {program}"])


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
