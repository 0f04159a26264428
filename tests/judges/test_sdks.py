"""What the official SDKs do with templates, on the local service."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.judges.conftest import Judge, Open, Said, step

pytestmark = pytest.mark.engine

FAKE = """#!/bin/sh
echo "$(id -un): ${0##*/} $*" >>/var/log/installed
"""


def write(root: Path, name: str, text: str = "", *, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"{name}\n")
    path.chmod(mode)


@pytest.fixture
def root(judge: Judge, nonce: str) -> Path:
    """A directory of this test below the one from which the SDK copies."""
    path = judge.context / nonce
    path.mkdir()
    return path


# --- building --------------------------------------------------------------------------------


def test_a_template_is_built_from_an_image(
    judge: Judge, image: str, open_build: Open, nonce: str
) -> None:
    recipe = [
        step("from_image", image),
        step("set_envs", {"GREETING": "hello world", "TWICE": "$GREETING!"}),
        step("run_cmd", 'echo "$GREETING" >/tmp/greeting'),
        step("run_cmd", ["id -un >/tmp/who", "pwd >/tmp/where"]),
        step("run_cmd", f"id -un >/tmp/root; echo {nonce}", user="root"),
        step("set_workdir", "/srv/app"),
        step("run_cmd", "pwd >there"),
        step("set_user", "worker"),
        step(
            "set_start_cmd",
            "{ id -un; pwd; echo $TWICE; } >/tmp/part; mv /tmp/part /tmp/started; sleep 60",
            "test -s /tmp/started",
        ),
    ]
    done = judge.build(recipe, f"{nonce}:v1", tags=["stable"])
    built = done.value
    assert set(built["tags"]) == {"v1", "stable"}
    assert built["name"] == f"{nonce}:v1"

    inside = open_build(built["build_id"])
    assert inside.sh("cat /tmp/greeting /tmp/who /tmp/where /tmp/root /srv/app/there") == (
        "hello world\nuser\n/home/user\nroot\n/srv/app"
    )
    assert inside.sh("cat /tmp/started") == "worker\n/srv/app\nhello world!"
    assert f"[stdout]: {nonce}" in done.text
    assert f"[base] FROM {image}" in done.text
    if judge.inherits:  # its own last step, which makes the environment that of sandboxes too
        assert "hello world" in inside.sh("cat /etc/environment")
        assert inside.sh(". /etc/profile.d/99-image-env.sh; echo $TWICE") == "hello world!"


def test_files_are_copied_with_their_modes_and_owners(
    judge: Judge, image: str, open_build: Open, root: Path
) -> None:
    here = root.name
    write(root, "hello.txt", "hello\n")
    write(root, "run.sh", "#!/bin/sh\n", mode=0o755)
    write(root, "web/index.html")
    write(root, "web/in/page", mode=0o600)
    write(root, "web/.hidden")
    (root / "web" / "latest").symlink_to("in/page")
    write(root, "many/a.json")
    write(root, "many/b.json")
    write(root, "many/c.txt")
    recipe = [
        judge.from_image(image),
        step("copy", f"{here}/hello.txt", "/srv/app/"),
        step("copy", f"{here}/hello.txt", "/srv/app/named"),
        step("copy", f"{here}/run.sh", "/srv/bin/", user="root", mode=0o750),
        step("copy", [f"{here}/hello.txt", f"{here}/run.sh"], "/srv/both/", user="root:user"),
        step("copy", f"{here}/web", "/srv/web"),
        step("copy", f"{here}/many/*.json", "/srv/many/"),
        step("copy_items", [{"src": f"{here}/hello.txt", "dest": "item", "mode": 0o600}]),
        step("set_workdir", "/srv/app"),
        step("copy", f"{here}/run.sh", "."),
    ]
    done = judge.build(recipe, here)
    inside = open_build(done.value["build_id"])

    assert inside.listed("/srv/app")[1:] == [
        "-rw-r--r-- user user ./hello.txt",
        "-rw-r--r-- user user ./named",
        "-rwxr-xr-x user user ./run.sh",
    ]
    assert inside.sh("cat /srv/app/named") == "hello"
    assert inside.listed("/srv/bin")[1:] == ["-rwxr-x--- root root ./run.sh"]
    assert inside.listed("/srv/both")[1:] == [
        "-rw-r--r-- root user ./hello.txt",
        "-rwxr-xr-x root user ./run.sh",
    ]
    assert inside.listed("/srv/web")[1:] == [
        "-rw-r--r-- user user ./.hidden",
        "drwxr-xr-x user user ./in",
        "-rw------- user user ./in/page",
        "-rw-r--r-- user user ./index.html",
        "lrwxrwxrwx user user ./latest -> in/page",
    ]
    assert inside.sh("cd /srv/many; find . -type f | sort") == "./a.json\n./b.json"
    assert inside.sh("stat -c '%a %U %G' /home/user/item") == "600 user user"

    again = judge.build(recipe, here)
    assert "Uploaded" in done.text
    assert "Skipping upload" in again.text
    assert "Uploaded" not in again.text


def test_packages_and_files_by_the_sdks_own_methods(
    judge: Judge, image: str, open_build: Open, root: Path
) -> None:
    for name in ("apt-get", "pip", "npm"):
        write(root, f"bin/{name}", FAKE, mode=0o755)
    recipe = [
        judge.from_image(image),
        step("copy", f"{root.name}/bin", "/usr/bin", user="root"),
        step("run_cmd", "mkdir -p /var/log; touch /var/log/installed", user="root"),
        step("apt_install", ["git", "ripgrep"]),
        step("pip_install", ["cowsay==6.1"]),
        step("npm_install", ["typescript"], g=True),
        step("make_dir", "/home/user/made/deep", mode=0o700),
        step("run_cmd", "echo one >/home/user/made/one; echo two >/home/user/two"),
        step("rename", "/home/user/made/one", "/home/user/moved"),
        step("remove", "/home/user/two", force=True),
        step("make_symlink", "/home/user/moved", "/home/user/link"),
    ]
    done = judge.build(recipe, root.name)

    inside = open_build(done.value["build_id"])
    installed = inside.sh("cat /var/log/installed").splitlines()
    assert installed[0] == "root: apt-get update"
    assert installed[1].startswith("root: apt-get install -y")
    assert installed[1].endswith("git ripgrep")
    assert installed[2].startswith("root: pip install")
    assert installed[2].endswith("cowsay==6.1")
    assert installed[3].startswith("root: npm install -g")
    assert inside.sh("cat /home/user/link; ls /home/user; ls -ld /home/user/made/deep").startswith(
        "one\nlink\nmade\nmoved\ndrwx------"
    )


def test_a_template_is_built_from_a_dockerfile(
    judge: Judge, image: str, open_build: Open, root: Path
) -> None:
    write(root, "app/main.py", "print(1)\n")
    write(
        root,
        "Dockerfile",
        f"FROM {image}\n"
        "ENV CHANNEL=edge\n"
        f"COPY --chown=user:user {root.name}/app /srv/app\n"
        "RUN echo $CHANNEL >/channel && \\\n    id -un >/who\n"
        "USER user\n"
        "WORKDIR /srv/app\n"
        'CMD ["sh", "-c", "pwd >/tmp/part; mv /tmp/part /tmp/cmd; sleep 60"]\n',
    )
    recipe = [
        step("from_dockerfile", str(root / "Dockerfile")),
        step("set_ready_cmd", "test -s /tmp/cmd"),
    ]
    inside = open_build(judge.build(recipe, root.name).value["build_id"])

    assert inside.sh("cat /channel /who /tmp/cmd") == "edge\nroot\n/srv/app"
    assert inside.listed("/srv/app")[1:] == ["-rw-r--r-- user user ./main.py"]


def test_a_template_is_built_from_a_template(
    judge: Judge, image: str, open_build: Open, nonce: str
) -> None:
    parent = [
        judge.from_image(image),
        step("set_envs", {"FROM_PARENT": "1"}),
        step("set_workdir", "/srv/parent"),
        step("set_user", "worker"),
        step("set_start_cmd", "echo x >>/tmp/starts; sleep 60", "test -s /tmp/starts"),
    ]
    child = [
        step("from_template", f"{nonce}:v1"),
        step("run_cmd", "{ id -un; pwd; echo $FROM_PARENT; } >/tmp/inherited"),
    ]
    parent_build = judge.build(parent, f"{nonce}:v1").value["build_id"]
    child_build = judge.build(child, f"{nonce}-child").value["build_id"]

    assert open_build(parent_build).sh("cat /tmp/starts") == "x"
    inside = open_build(child_build)
    assert inside.sh("cat /tmp/inherited") == "worker\n/srv/parent\n1"
    assert inside.sh("cat /tmp/starts") == "x\nx", "the start command is inherited"


# --- failures --------------------------------------------------------------------------------


def test_a_failing_step_is_reported_at_its_step(judge: Judge, image: str, nonce: str) -> None:
    recipe = [
        judge.from_image(image),
        step("run_cmd", "true"),
        step("run_cmd", "echo the reason; exit 7"),
        step("run_cmd", "true"),
    ]
    done = judge.build(recipe, nonce)
    assert failed(done) == ("failed to run command 'echo the reason; exit 7': exit status 7", 2)
    assert "[stdout]: the reason" in done.text


def test_a_start_command_that_fails_is_reported_at_the_end(
    judge: Judge, image: str, nonce: str
) -> None:
    recipe = [
        judge.from_image(image),
        step("run_cmd", "true"),
        step("set_start_cmd", "echo lost >&2; exit 3", "sleep 5"),
    ]
    done = judge.build(recipe, nonce)
    message = "start command failed: error running start command: exit status 3"
    assert failed(done) == (message, 2)
    assert "[start] [stderr]: lost" in done.text


def test_a_base_that_is_not_there_is_reported_at_the_base(
    judge: Judge, image: str, nonce: str
) -> None:
    absent = f"{image.rpartition('/')[0]}/{nonce}:1"
    message, line = failed(judge.build([judge.from_image(absent), step("run_cmd", "true")], nonce))
    assert message.startswith(f"image '{absent}' not found")
    assert line == 0

    recipe = [step("from_template", f"{nonce}-absent"), step("run_cmd", "true")]
    message, line = failed(judge.build(recipe, nonce))
    assert message == f"template '{nonce}-absent' not found"
    assert line == 0


def failed(done: Said) -> tuple[str, int | None]:
    """Return message and line of a build that failed, which is the SDK's own build error."""
    assert done.error in {"BuildException", "BuildError"}, done
    return done.message, done.line


# --- builds in the background ----------------------------------------------------------------


def test_a_build_in_the_background_is_followed_by_its_status(
    judge: Judge, image: str, nonce: str
) -> None:
    recipe = [judge.from_image(image), step("run_cmd", f": {nonce}; sleep 0.5; seq 1 130")]
    built = judge.build(recipe, nonce, call="build_in_background").value
    ids = built["template_id"], built["build_id"]

    messages: list[str] = []
    states: list[str] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = judge.call("get_build_status", *ids, logs_offset=len(messages)).value
        assert len(seen["log_entries"]) <= 100
        messages += [entry["message"] for entry in seen["log_entries"]]
        states.append(seen["status"])
        if seen["status"] not in {"waiting", "building"} and not seen["log_entries"]:
            break
    assert states[0] == "building"
    assert states[-1] == "ready"
    assert [line for line in messages if "[stdout]" in line] == [
        f"[builder 1/1] [stdout]: {number}" for number in range(1, 131)
    ]
    assert messages[-1].startswith("Build finished, took")

    lost = judge.call("get_build_status", built["template_id"], nonce)
    assert lost.error in {"BuildException", "BuildError"}
    assert "Invalid build" in lost.message


def test_a_build_that_fails_in_the_background_says_why(
    judge: Judge, image: str, nonce: str
) -> None:
    recipe = [judge.from_image(image), step("run_cmd", "exit 9")]
    built = judge.build(recipe, nonce, call="build_in_background").value
    seen: dict[str, Any] = {"status": "building"}
    deadline = time.monotonic() + 60
    while seen["status"] == "building" and time.monotonic() < deadline:
        seen = judge.call("get_build_status", built["template_id"], built["build_id"]).value
    assert seen["status"] == "error"
    assert seen["reason"]["step"] == "1"
    assert seen["reason"]["message"] == "failed to run command 'exit 9': exit status 9"


# --- names and tags --------------------------------------------------------------------------


def test_names_and_tags_are_asked_assigned_and_removed(
    judge: Judge, image: str, nonce: str
) -> None:
    recipe = [judge.from_image(image)]
    assert judge.call("exists", nonce).value is False

    first = judge.build([*recipe, step("run_cmd", "true")], f"{nonce}:v1").value
    assert judge.call("exists", nonce).value is True
    assert judge.call("alias_exists", nonce).value is True
    assert tags(judge, nonce) == {"v1": first["build_id"]}
    assert judge.call("exists", f"{nonce}:v1").value is True
    assert judge.call("exists", f"{nonce}:v2").value is False

    second = judge.build(recipe, nonce, tags=["v2", "edge"]).value
    assert second["template_id"] == first["template_id"]
    assert tags(judge, first["template_id"]) == {
        "v1": first["build_id"], "v2": second["build_id"], "edge": second["build_id"],
    }  # fmt: skip

    assigned = judge.call("assign_tags", f"{nonce}:v1", ["stable", "edge"]).value
    assert (assigned["build_id"], set(assigned["tags"])) == (first["build_id"], {"stable", "edge"})
    assert judge.call("assign_tags", f"{nonce}:{second['build_id']}", "default").error is None
    assert judge.call("remove_tags", nonce, ["v1", "unknown"]).error is None
    assert tags(judge, nonce) == {
        "v2": second["build_id"], "default": second["build_id"],
        "stable": first["build_id"], "edge": first["build_id"],
    }  # fmt: skip


def tags(judge: Judge, name: str) -> dict[str, str]:
    found = judge.call("get_tags", name).value
    assert all(each["created_at"] for each in found)
    return {each["tag"]: each["build_id"] for each in found}


def test_what_tags_cannot_do_is_the_sdks_own_error(judge: Judge, image: str, nonce: str) -> None:
    assert refused(judge.call("get_tags", nonce)).startswith("404")
    assert refused(judge.call("assign_tags", f"{nonce}:v1", "x")).startswith("404")
    judge.build([judge.from_image(image)], f"{nonce}:v1")
    assert refused(judge.call("assign_tags", f"{nonce}:v2", "x")).startswith("404")
    assert refused(judge.call("remove_tags", nonce, "default")) == (
        "400: Cannot delete the 'default' tag"
    )
    assert refused(judge.call("assign_tags", f"{nonce}:v1", "not a tag")).startswith("400")


def refused(done: Said) -> str:
    assert done.error in {"TemplateException", "TemplateError"}, done
    return done.message


def test_what_cannot_be_registered_is_refused(judge: Judge, image: str, nonce: str) -> None:
    recipe = [judge.from_image(image)]
    refusals: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("No Name", {}, "400"),
        (nonce, {"cpu_count": 3}, "400: CPU count must be 1 or an even number"),
        (nonce, {"memory_mb": 129}, "400: Memory must be divisible by 2"),
    )
    for name, options, message in refusals:
        done = judge.build(recipe, name, **options)
        assert done.error in {"BuildException", "BuildError"}
        assert done.message.startswith(message)
    assert judge.call("exists", nonce).value is False


# --- listing and deleting --------------------------------------------------------------------


def test_templates_are_listed_and_deleted(judge: Judge, image: str, nonce: str) -> None:
    built = judge.build([judge.from_image(image)], nonce).value
    if not judge.manages:
        return
    pages = judge.call("list", limit=1).value
    assert pages["limit"] == len(pages["items"]) == 1
    found = {
        name: each
        for number in range(1, pages["total_pages"] + 1)
        for each in judge.call("list", limit=1, page=number).value["items"]
        for name in each["aliases"]
    }
    assert len(found) == pages["total"]
    mine = found[nonce]
    assert (mine["template_id"], mine["build_id"]) == (built["template_id"], built["build_id"])
    assert (mine["cpu_count"], mine["memory_mb"], mine["build_status"]) == (1, 128, "ready")

    one = judge.call("get", built["template_id"]).value
    assert one["template_id"] == built["template_id"]

    assert judge.call("delete", built["template_id"]).value is True
    assert judge.call("delete", built["template_id"]).value is False
    assert judge.call("exists", nonce).value is False
