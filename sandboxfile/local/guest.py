"""Commands in a box the way the service runs them in its machine: users, homes, login shells.

The scripts are plain /bin/sh without assuming any tool of the image; useradd is used where it is.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal

from sandboxfile.engines import Box, Engine, Executed
from sandboxfile.errors import BuildFailed
from sandboxfile.frozen import dataclass, replace
from sandboxfile.local.copying import Place
from sandboxfile.local.records import Setting
from sandboxfile.model import VARIABLE, Resources

DEFAULT_USER = "user"
Tell = Callable[[Literal["stdout", "stderr"], str], None]  # takes a line of a command's output
_STANDARD = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# What a root shell would expand or end the string at; `\$` and `\\` stay as they are.
_DELICATE = re.compile(r"\\[$\\]|[\"`\\]|\$\(")

_FEWER_CPUS = re.compile(r"there are only (\d+) CPUs available")
_MARK = "--sandboxfile-end-of-value--"

_READ_FIELD = """
field() {  # file, name, number of the field: that field of the first line of that name
  while IFS=: read -r name second third fourth fifth sixth rest; do
    [ "$name" = "$2" ] || continue
    case $3 in 3) echo "$third" ;; 4) echo "$fourth" ;; 6) echo "$sixth" ;; esac
    return 0
  done <"$1"
  return 1
}
"""

# Makes the user $1, with bash where there is one; $2 is `sudo` for password-less sudo.
_ADD_USER = (
    _READ_FIELD
    + r"""
free_id() {  # the first number from 1000 that neither file has
  number=1000
  while
    taken=
    for file in /etc/passwd /etc/group; do
      while IFS=: read -r name second third rest; do
        [ "$third" = "$number" ] && taken=1
      done <"$file"
    done
    [ -n "$taken" ]
  do number=$((number + 1)); done
  echo "$number"
}
[ -e /etc/passwd ] || echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
[ -e /etc/group ] || echo 'root:x:0:' >/etc/group
shell=/bin/sh
[ -x /bin/bash ] && shell=/bin/bash
if ! field /etc/passwd "$1" 3 >/dev/null; then
  group=$(field /etc/group "$1" 3)
  if command -v useradd >/dev/null 2>&1; then
    useradd -m -s "$shell" ${group:+-g "$group"} "$1" 2>&1 || exit
  else
    id=$(free_id)
    [ -n "$group" ] || { group=$id; echo "$1:x:$group:" >>/etc/group; }
    echo "$1:x:$id:$group::/home/$1:$shell" >>/etc/passwd
    [ ! -e /etc/shadow ] || echo "$1:!:19000:0:99999:7:::" >>/etc/shadow
  fi
  home=$(field /etc/passwd "$1" 6) || exit
  mkdir -p "$home" && chown "$1:$group" "$home" || exit
fi
if [ "$2" = sudo ] && [ -d /etc/sudoers.d ]; then
  echo "$1 ALL=(ALL:ALL) NOPASSWD: ALL" >"/etc/sudoers.d/90-$1"
  chmod 0440 "/etc/sudoers.d/90-$1"
fi
echo "$shell"
"""
)

# docs/protocol.md, 5.4. The service also opens the files in /usr/local; directories suffice to
# replace them, and opening every file would copy every file into the template's last layer.
_CONFIGURE = (
    _READ_FIELD
    + r"""
mkdir -p /code /usr/local
home=$(field /etc/passwd "$1" 6)
if command -v find >/dev/null 2>&1; then
  find /usr/local /code -xdev -type d ! -perm 0777 -exec chmod 0777 {} +
  [ -z "$home" ] || find "$home" -xdev ! -user "$1" -exec chown -h "$1:" {} +
else
  chmod 0777 /usr/local /code
fi
"""
)
_HOME = _READ_FIELD + 'field /etc/passwd "$1" 6 || { [ "$1" = 0 ] && echo /root; } || echo /\n'
_MAKE_DIRECTORY = """
[ -d "$1" ] && exit
mkdir -p "$1" && { chown "$2:" "$1" 2>/dev/null || chown "$2" "$1"; }
"""

# Finds the user $2 and the group $3 (empty: the user's own), and how much of the path $1 is there.
_SURVEY = (
    _READ_FIELD
    + r"""
is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }
own_group() {
  while IFS=: read -r name second third fourth rest; do
    [ "$third" = "$1" ] && { echo "$fourth"; return; }
  done </etc/passwd
  echo "$1"
}
if is_number "$2"; then uid=$2; else uid=$(field /etc/passwd "$2" 3) || exit 3; fi
if is_number "$3"; then gid=$3
elif [ -n "$3" ]; then gid=$(field /etc/group "$3" 3) || exit 4
elif is_number "$2"; then gid=$(own_group "$2")
else gid=$(field /etc/passwd "$2" 4)
fi
there=$1
until [ -d "$there" ]; do there=${there%/*}; there=${there:-/}; done
printf '%s %s\n%s' "$uid" "$gid" "$there"
"""
)
_NO_USER, _NO_GROUP = 3, 4
# Clients put the environment of sandboxes in a file there (docs/protocol.md, 3.8): the service's
# machines are of the Debian family, which has this directory.
_PROVISION = "[ -d /etc/profile.d ] || mkdir -p /etc/profile.d\n" + _ADD_USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A box with the login shell that its image has."""

    box: Box
    shell: str

    def command(self, text: str, setting: Setting, *, tell: Tell | None = None) -> Executed:
        """Run a command to its end through the login shell, as the service does."""
        env = setting.env
        if "PATH" in env:  # the service adds what no shell can do without (docs/protocol.md, 3.6)
            env = {**env, "PATH": _with_standard(env["PATH"])}
        return self.box.execute(
            login_argv(text, shell=self.shell, workdir=setting.workdir),
            user=setting.user,
            workdir=setting.workdir,
            env=env,
            on_line=tell and (lambda line: tell("stdout", line)),
            on_error=tell and (lambda line: tell("stderr", line)),
        )

    def try_out(self, setting: Setting) -> Executed:
        """Run nothing in a setting: whether any command could be run in it at all."""
        return self.box.execute(
            ("/bin/sh", "-c", ":"), user=setting.user, workdir="/", env=setting.env
        )

    def script(self, text: str, *args: str, env: Mapping[str, str] | None = None) -> Executed:
        """Run one of our own scripts as root."""
        return script(self.box, text, *args, env=env)

    def add_user(self, name: str, *, sudo: bool) -> Executed:
        return self.script(_ADD_USER, name, "sudo" if sudo else "")

    def home(self, user: str) -> str:
        """Return a user's home directory, `/` for one that the image does not know."""
        return self.script(_HOME, user.partition(":")[0]).output.strip() or "/"

    def make_directory(self, path: str, owner: str) -> Executed:
        return self.script(_MAKE_DIRECTORY, path, owner)

    def survey(self, path: str, owner: str) -> Place:
        """Find out where a copy to an absolute path would go, and the numbers of its owner.

        Raises ValueError for a user or a group that is not there.
        """
        user, _, group = owner.partition(":")
        done = self.script(_SURVEY, path, user, group)
        if done.status in {_NO_USER, _NO_GROUP}:
            what = f"user '{user}'" if done.status == _NO_USER else f"group '{group}'"
            raise ValueError(f"there is no {what}")
        numbers, _, there = done.output.partition("\n")
        uid, gid = numbers.split()
        return Place(path=path, there=there, uid=int(uid), gid=int(gid))

    def configure(self) -> Executed:
        return self.script(_CONFIGURE, DEFAULT_USER)

    def expand(self, pairs: tuple[tuple[str, str], ...], env: Mapping[str, str]) -> dict[str, str]:
        """Expand `$NAME` in values, each seeing those before it (docs/protocol.md, 3.6).

        Raises ValueError for what cannot be a variable.
        """
        _check_names(pairs)
        if not any("$" in value or "\\" in value for _, value in pairs):
            return dict(pairs)
        # A mark ends each value, for an engine hands output over by lines.
        lines = [
            f'export {name}={_quoted(value)}\nprintf "%s\\n{_MARK}\\n" "${name}"\n'
            for name, value in pairs
        ]
        done = self.script("".join(lines), env=env)
        if done.status != 0:
            raise ValueError(f"the values cannot be expanded: {done.output.strip()}")
        return dict(zip((name for name, _ in pairs), _values(done.output), strict=False))


def _with_standard(path: str) -> str:
    there = path.split(":")
    return ":".join([*there, *(each for each in _STANDARD if each not in there)])


def _check_names(pairs: tuple[tuple[str, str], ...]) -> None:
    for name, value in pairs:
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"'{name}' is not a name of an environment variable")
        if "\0" in value:
            raise ValueError(f"the value of '{name}' contains a null character")


def _values(output: str) -> list[str]:
    return (output.removesuffix("\n") + "\n").split(f"\n{_MARK}\n")[:-1]


def _quoted(value: str) -> str:
    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in {"\\$", "\\\\"} else "\\" + found[0]

    return '"' + _DELICATE.sub(escape, value) + '"'


@contextmanager
def opened(
    engine: Engine, image: str, *, labels: Mapping[str, str], resources: Resources
) -> Iterator[Box]:
    """Run a box; an engine with fewer CPUs than the template asks for gives what it has.

    Empty variables of the image are none in it (docs/protocol.md, 3.6).
    """
    env = engine.image_config(image).get("Env") or ()
    unset = tuple(each[:-1] for each in env if each.endswith("=") and each.count("=") == 1)
    with ExitStack() as stack:
        try:
            box = stack.enter_context(
                engine.box(image, labels=labels, resources=resources, unset=unset)
            )
        except BuildFailed as error:
            fewer = _FEWER_CPUS.search(error.message)
            if not fewer:
                raise
            resources = replace(resources, cpu=int(fewer[1]))
            box = stack.enter_context(
                engine.box(image, labels=labels, resources=resources, unset=unset)
            )
        yield box


def enter(box: Box) -> tuple[Guest, Executed]:
    """Find the login shell, and make sure of the default user and of what clients rely on."""
    done = script(box, _PROVISION, DEFAULT_USER, "sudo")
    shell = "/bin/bash" if done.output.strip().endswith("/bin/bash") else "/bin/sh"
    return Guest(box=box, shell=shell), done


def script(box: Box, text: str, *args: str, env: Mapping[str, str] | None = None) -> Executed:
    return box.execute(("/bin/sh", "-c", text, "sh", *args), user="root", workdir="/", env=env)


def login_argv(text: str, *, shell: str, workdir: str | None) -> tuple[str, ...]:
    """Return the argv for a command line: through the login shell, at home unless `workdir`."""
    login = (shell, "-l", "-c", text)
    if workdir:
        return login
    return ("/bin/sh", "-c", 'cd "$HOME" 2>/dev/null || cd /; exec "$@"', "sh", *login)


def moved(setting: Setting, path: str, *, home: str) -> Setting:
    """Return the setting in another directory, relative to its own (or to the home)."""
    return replace(
        setting, workdir=posixpath.normpath(posixpath.join(setting.workdir or home, path))
    )
