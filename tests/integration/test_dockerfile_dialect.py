"""What we write for Docker, read by a real engine: values come out byte for byte."""

import ast
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandboxfile import (
    archive,
    context,
    dockerfile,
    environment,
    imageconfig,
    inherit,
    userdockerfile,
)
from sandboxfile.cancel import Cancel
from sandboxfile.engines import Box, BuildSpec, Engine
from sandboxfile.errors import BuildFailed
from sandboxfile.gathering import Ground
from sandboxfile.model import (
    Account,
    Copy,
    DockerfileBase,
    Env,
    ImageBase,
    Install,
    InstallProject,
    Instruction,
    ResolvedBase,
    Resources,
    Run,
    Template,
    Workdir,
)
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache

pytestmark = pytest.mark.engine

HOSTILE: Mapping[str, str] = {
    "PLAIN": "value",
    "EMPTY": "",
    "SPACE": " ",
    "SPACES": "  two  words  ",
    "TAB": "\ta\tb\t",
    "SINGLE": "it's 'so'",
    "DOUBLE": 'say "so"',
    "ONE_QUOTE": '"',
    "VARIABLE": "$HOME ${HOME} ${X:-y} $$ $",
    "OWN_NAME": "$PLAIN/${PLAIN}",
    "COMMAND": "$(id) `id`",
    "BACKSLASH": "a\\b\\\\c\\n\\",
    "BACKSLASHES": "\\\\\\",
    "BACKSLASH_QUOTE": '\\"\\$\\',
    "BACKTICK": "`",
    "EQUALS": "=a=b=",
    "HASH": "# syntax=x",
    "HASH_IN": "a # b",
    "DASH": "--from=x -n",
    "JSON": '["a", "b"]',
    "BRACES": "{a,b} [x] * ?",
    "HEREDOC": "<<EOF",
    "SEMICOLON": "a;b&&c|d>e<f&",
    "PERCENT": "%s %d \\x41",
    "UNICODE": "žluťoučký kůň 🐎",
    "WIDE_SPACE": "\u00a0\u3000x\u00a0",
    "LINE_SEPARATOR": "a\u2028b",
    "BOM": "\ufeffx",
    "NEWLINE": "one\ntwo",
    "NEWLINES": "\n\none\n\n",
    "NEWLINE_MORE": "FAKE=1\nexport FAKE=2\nRUN touch /pwned\n$HOME \\\n'\" \\",
    "BANG": "!! !x ^a",
    "LONG": "x" * 5_000,
    "LONGER": "y" * 20_000,
    "_under9": "1",
}


def at(line: int) -> Position:
    return Position("novita.yaml", line, 3)


@dataclass
class Builder:
    """Renders a template, makes its archive and builds it, as the pipeline does."""

    engine: Engine
    root: Path
    base: str
    tags: set[str] = field(default_factory=set)

    def build(self, *instructions: Instruction, tag: str, user: str | None = None) -> str:
        template = Template(
            name="dialect",
            base=ImageBase(image=self.base, at=at(1)),
            instructions=instructions,
            user=user,
            workdir=None,
            start=None,
            ready=None,
            resources=Resources(),
            tags=(),
            pre_boot=None,
            at=at(1),
            places={"env": at(2)},
        )
        selections = {
            number: context.select(copy, Ground(self.root))
            for number, copy in dockerfile.copies(template)
        }
        rendered = dockerfile.render(
            template,
            base=ResolvedBase(reference=self.base, digest="", local=True),
            cache_mounts="cache_mounts" in self.engine.info().can,
            single_files=frozenset(
                number for number, selection in selections.items() if selection.single
            ),
        )
        config = imageconfig.of_engine(self.engine.image_config(self.base))
        kept = environment.files(inherit.environment(template, config))
        members = archive.members(rendered.text, selections, NoCache(), kept)
        return self._built(members, tag, rendered.args, rendered.place)

    def build_file(self, text: str, *, tag: str) -> str:
        path = self.root / "Dockerfile"
        path.write_text(text)
        parsed = userdockerfile.parse(text, file="Dockerfile")
        base = DockerfileBase(dockerfile=path, context=self.root, at=at(1))
        pinned = parsed.pin(dict.fromkeys(parsed.images, self.base))
        members = archive.context_members(
            pinned, context.select_context(base, Ground(self.root)), NoCache()
        )
        return self._built(members, tag, {}, parsed.place)

    def _built(
        self,
        members: tuple[archive.Member, ...],
        tag: str,
        args: Mapping[str, str],
        place: Callable[[str], Position | None],
    ) -> str:
        name = f"sandboxfile-tests/dialect-{tag}:1"
        self.tags.add(name)
        spec = BuildSpec(
            job="build:dialect",
            tag=name,
            dockerfile=archive.DOCKERFILE,
            context=lambda: archive.stream(members),
            args=args,
        )
        try:
            self.engine.build(spec, emit=lambda _: None, cancel=Cancel())
        except BuildFailed as error:
            error.at = place(error.step)
            raise
        return name

    def box(self, image: str) -> AbstractContextManager[Box]:
        return self.engine.box(image, labels={"sandboxfile.tests": "dialect"})

    def copy(self, *sources: str, to: str, owner: str | None = None) -> Copy:
        return Copy(sources=sources, to=to, root=self.root, owner=owner, at=at(1))


def run(command: str, *, user: str | None = None, line: int = 1) -> Run:
    return Run(command=command, user=user, at=at(line))


def said(box: Box, script: str, *, user: str | None = None) -> str:
    done = box.execute(("/bin/sh", "-c", script), user=user)
    assert done.status == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def builder(
    engine: Engine, busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Builder]:
    made = Builder(engine, tmp_path_factory.mktemp("workspace"), busybox)
    yield made
    for name in made.tags:
        engine.untag(name)


# --- values ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(builder: Builder) -> Iterator[Box]:
    """An image with hostile values in its environment and in files that scripts wrote."""
    script = "\n".join(
        f"printf '%s' {shlex.quote(value)} > /out/{name}" for name, value in HOSTILE.items()
    )
    image = builder.build(
        Env(values=HOSTILE, at=at(1)), run(f"mkdir /out\n{script}"), tag="hostile"
    )
    with builder.box(image) as box:
        yield box


def variables(text: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def test_values_reach_the_image(hostile: Box, builder: Builder) -> None:
    config = builder.engine.image_config("sandboxfile-tests/dialect-hostile:1")
    assert isinstance(config["Env"], list)
    in_config = dict(entry.split("=", 1) for entry in config["Env"])
    assert {name: in_config.get(name) for name in HOSTILE} == HOSTILE
    in_process = variables(said(hostile, "cat /proc/$$/environ"))
    assert {name: in_process.get(name) for name in HOSTILE} == HOSTILE


def test_values_reach_shells_that_start_without_an_environment(hostile: Box) -> None:
    read = "env -i /bin/sh -c '. /etc/profile.d/99-image-env.sh; exec /bin/busybox env -0'"
    found = variables(said(hostile, read))
    found.pop("PWD", None)
    found.pop("SHLVL", None)
    assert found.pop("PATH").endswith("/bin")
    assert found == HOSTILE
    assert said(hostile, "stat -c '%a %u' /etc/profile.d/99-image-env.sh /etc/environment") == (
        "644 0\n644 0\n"
    )


def test_only_the_two_files_are_written(builder: Builder) -> None:
    script = "mkdir -p /etc/profile.d; echo a > /etc/profile.d/a.sh; ln -s /nowhere /etc/b; ls -l /"
    image = builder.build(run(script), tag="environment", user="1000")
    with builder.box(image) as box:
        assert said(box, "cat /etc/profile.d/a.sh; readlink /etc/b") == "a\n/nowhere\n"
        assert said(box, "stat -c '%a %u %g' /etc /etc/profile.d") == "755 0 0\n755 0 0\n"
        assert said(box, "ls /etc/profile.d; id -u") == "99-image-env.sh\na.sh\n1000\n"


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        ("mkdir -m 700 /etc/profile.d; chown 12 /etc/profile.d", "700 12"),
        ("mkdir -p -m 711 /opt/profiles; ln -s /opt/profiles /etc/profile.d", "711 0"),
    ],
)
def test_a_directory_of_profiles_stays_as_it_is(builder: Builder, script: str, mode: str) -> None:
    image = builder.build(run(script), tag="profiles")
    with builder.box(image) as box:
        assert said(box, "stat -L -c '%a %u' /etc/profile.d/") == f"{mode}\n"
        assert said(box, "stat -c '%a %u' /etc/profile.d/99-image-env.sh") == "644 0\n"


def test_build_arguments_do_not_stay(hostile: Box) -> None:
    assert "SF_E" not in said(hostile, "cat /etc/environment /etc/profile.d/99-image-env.sh; env")


@pytest.mark.parametrize("name", HOSTILE)
def test_scripts_say_what_was_written(hostile: Box, name: str) -> None:
    assert said(hostile, f"cat /out/{name}; printf .") == HOSTILE[name] + "."


def test_scripts_of_several_lines_and_of_many_are_run_as_they_are(builder: Builder) -> None:
    image = builder.build(
        run("# a comment first\ncat > /a <<'EOF'\n$HOME \\\n\n# text\n\tEOF\nEOF\n"),
        run(": " + "word " * 20_000 + "\nprintf '%s' " + "end" * 3_000 + " > /b"),
        tag="scripts",
    )
    with builder.box(image) as box:
        assert said(box, "cat /a") == "$HOME \\\n\n# text\n\tEOF\n"
        assert said(box, "cat /b") == "end" * 3_000


# --- files, users, directories ---------------------------------------------------------------

ODD_NAMES = ("it's", 'so "x"', "$HOME", "a b", "[1]", "a*", "-x", "#x", "back\\slash", "ů", ".hid")


def test_files_arrive_where_they_are_meant(builder: Builder) -> None:
    tree = builder.root / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ODD_NAMES:
        (tree / name).write_text(name)
    (tree / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (tree / "sub" / "run.sh").chmod(0o755)
    singles = [
        builder.copy(f"tree/{name}", to=f"/single-{index}")
        for index, name in enumerate(ODD_NAMES)
        if not set("*[\\") & set(name)  # these would be globs
    ]
    image = builder.build(
        *singles,
        builder.copy("tree", to="/all"),
        builder.copy("tree/sub/run.sh", to="/bin/my-run"),
        builder.copy("tree/sub/run.sh", to="/new/directory/"),
        builder.copy("tree/sub", "tree/a b", to="/some where/it's $HOME", owner="user:nogroup"),
        tag="files",
    )
    with builder.box(image) as box:
        listed = said(box, "cd /all && find . -type f | sort").splitlines()
        assert listed == sorted([*(f"./{name}" for name in ODD_NAMES), "./sub/run.sh"])
        for index, name in enumerate(ODD_NAMES):
            if not set("*[\\") & set(name):
                assert said(box, f"cat /single-{index}") == name
        assert said(box, "stat -c '%a %u' /bin/my-run /new/directory/run.sh") == "755 0\n755 0\n"
        owned = "cd '/some where/it'\\''s $HOME' && stat -c '%n %U %G' run.sh 'a b'"
        assert said(box, owned) == "run.sh user nogroup\na b user nogroup\n"


def test_users_are_made_once_and_runs_are_theirs(builder: Builder) -> None:
    report = "echo $(id -un) $(id -gn) $HOME $(pwd)"
    image = builder.build(
        run("echo staff:x:1001: >> /etc/group; echo worker:x:50: >> /etc/group"),
        Account(user="agent", at=at(1)),
        Account(user="agent", at=at(1)),
        Account(user="worker", at=at(1)),
        Account(user="user", at=at(1)),
        run(f"{report} > ~/mine", user="agent"),
        Workdir(path="/home/agent/my app", owner="agent", at=at(1)),
        run(f"{report} > /roots"),
        run(f"{report} > numbered", user="agent"),
        tag="users",
        user="agent",
    )
    config = builder.engine.image_config(image)
    assert (config["User"], config["WorkingDir"]) == ("agent", "/home/agent/my app")
    with builder.box(image) as box:
        assert said(box, "cat /home/agent/mine") == "agent agent /home/agent /\n"
        assert said(box, "cat /roots", user="root") == "root root /root /home/agent/my app\n"
        assert said(box, "cat '/home/agent/my app/numbered'").endswith(" /home/agent/my app\n")
        assert said(box, "stat -c '%U %G' /home/agent '/home/agent/my app'") == "agent agent\n" * 2
        assert said(box, "grep -c '^agent:' /etc/passwd") == "1\n"
        assert said(box, "id user; id agent; id worker").splitlines() == [
            "uid=1000(user) gid=1000(user) groups=1000(user)",
            "uid=1002(agent) gid=1002(agent) groups=1002(agent)",
            "uid=1003(worker) gid=50(worker) groups=50(worker)",
        ]


# --- installers ------------------------------------------------------------------------------

FAKE = """\
#!/bin/sh
{ printf '%s\\0' "${0##*/}" "$@"; echo; } >> /called
pwd >> /called-in
env | sed -n '/^\\(DEBIAN_FRONTEND\\|PIP_BREAK_SYSTEM_PACKAGES\\|UV_NO_CACHE\\)=/p' >> /called-with
"""


def test_installers_get_the_packages_as_arguments(builder: Builder) -> None:
    fakes = builder.root / "fakes"
    fakes.mkdir()
    for name in ("apt-get", "python3", "npm", "uv", "bun"):
        (fakes / name).write_text(FAKE)
        (fakes / name).chmod(0o755)
    (builder.root / "package.json").write_text("{}")
    (builder.root / "package-lock.json").write_text("{}")
    manifest = ("package.json", "package-lock.json")
    image = builder.build(
        builder.copy("fakes", to="/bin/"),
        Install(manager="apt", packages=("git", "rg=1:2.0~b"), at=at(1)),
        Install(manager="pip", packages=("x[y]>=1,<2; python_version > '3'",), at=at(1)),
        Install(manager="npm", packages=("@a/b@^1.0 || 2",), at=at(1)),
        Install(manager="uv", packages=("$(id)",), at=at(1)),
        Install(manager="bun", packages=("c",), at=at(1)),
        InstallProject(
            manager="npm",
            copy=builder.copy(*manifest, to="/my app/"),
            files=manifest,
            locked=True,
            to="/my app",
            at=at(1),
        ),
        tag="installers",
    )
    pip = ["python3", "-m", "pip", "install", "--no-compile", "--no-cache-dir", "--"]
    with builder.box(image) as box:
        calls = [line.split("\0")[:-1] for line in said(box, "cat /called").splitlines()]
        directories = said(box, "cat /called-in").splitlines()
        settings = set(said(box, "cat /called-with").splitlines())
        listed = said(box, "ls '/my app'").split()
    apt = ["apt-get", "install", "-y", "--no-install-recommends", "--", "git", "rg=1:2.0~b"]
    assert [call for call in calls if call != ["apt-get", "clean"]] == [
        ["apt-get", "update"],
        apt,
        [*pip, "x[y]>=1,<2; python_version > '3'"],
        ["npm", "install", "-g", "--no-fund", "--no-audit", "--", "@a/b@^1.0 || 2"],
        ["uv", "pip", "install", "--system", "--", "$(id)"],
        ["bun", "add", "-g", "c"],
        ["npm", "ci", "--no-fund", "--no-audit"],
    ]
    assert directories[-1] == "/my app"
    assert settings == {
        "DEBIAN_FRONTEND=noninteractive",
        "PIP_BREAK_SYSTEM_PACKAGES=1",
        "UV_NO_CACHE=1",
    }
    assert sorted(listed) == sorted(manifest)


def test_the_dependencies_of_a_pyproject_are_listed(builder: Builder, python_image: str) -> None:
    (builder.root / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["a>=1; python_version > \'3\'", "b"]\n'
    )
    fake = builder.root / "pip" / "__main__.py"
    fake.parent.mkdir()
    fake.write_text(
        "import sys\n"
        "argv = sys.argv[1:]\n"
        "open('/called', 'w').write(repr((argv, open(argv[-1]).read())))\n"
    )
    project = InstallProject(
        manager="pip",
        copy=builder.copy("pyproject.toml", to="/app/"),
        files=("pyproject.toml",),
        locked=False,
        to="/app",
        at=at(1),
    )
    python = Builder(builder.engine, builder.root, python_image, builder.tags)
    image = python.build(
        Env(values={"PYTHONPATH": "/fake"}, at=at(1)),
        builder.copy("pip", to="/fake/pip"),
        project,
        tag="pyproject",
    )
    with builder.box(image) as box:
        argv, listed = ast.literal_eval(said(box, "cat /called"))
    assert argv == ["install", "--no-compile", "--no-cache-dir", "-r", "/tmp/.requirements"]
    assert listed == "a>=1; python_version > '3'\nb\n"


# --- places of failures ----------------------------------------------------------------------


@pytest.mark.parametrize("failing", [3, 5, 7])
def test_a_failing_step_is_found_in_the_yaml(builder: Builder, failing: int) -> None:
    def step(line: int) -> Run:
        return run("exit 7" if line == failing else f"echo {failing}", line=line)

    with pytest.raises(BuildFailed) as raised:
        builder.build(
            step(3),
            Env(values={"A": "1\n2", "B": "x"}, at=at(4)),
            Run(command=step(5).command, user="user", at=at(5)),
            Workdir(path="/w", owner="user", at=at(6)),
            step(7),
            Workdir(path="/x", at=at(8)),
            tag=f"failing-{failing}",
            user="user",
        )
    assert (raised.value.at, raised.value.status) == (at(failing), 7)


USER_FILE = """\
# escape=`
ARG FROM=base-image
FROM $FROM AS build
WORKDIR /src
RUN echo one `
 && {first}
FROM ${{FROM:-other}}
COPY --from=build /src /src
RUN --mount=type=cache,target=/cache {second}
FROM build AS last
COPY --from=1 /src /other
RUN {third}
"""


@pytest.mark.parametrize(
    ("first", "second", "third", "line"),
    [("false", "true", "true", 5), ("true", "false", "true", 9), ("true", "true", "false", 12)],
)
def test_a_failing_step_is_found_in_the_users_dockerfile(
    builder: Builder, first: str, second: str, third: str, line: int
) -> None:
    text = USER_FILE.format(first=first, second=second, third=third)
    with pytest.raises(BuildFailed) as raised:
        builder.build_file(text, tag="user-file")
    assert raised.value.at == Position("Dockerfile", line, 1)


def test_a_users_dockerfile_is_built_on_what_it_was_pinned_to(builder: Builder) -> None:
    text = USER_FILE.format(first="echo first > made", second="true", third="ls / > /listed")
    image = builder.build_file(text, tag="user-file")
    with builder.box(image) as box:
        assert said(box, "cat /src/made /other/made") == "first\n" * 2
