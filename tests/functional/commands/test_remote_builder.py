"""One `novita.yaml`, built here and by the service: the same templates, seen from inside."""

from collections.abc import Callable
from difflib import unified_diff

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from tests.fakes.shell import User
from tests.functional.commands.conftest import Place, Serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # four templates, twice each

# What a Debian image has, as far as steps need it, and an installer that only takes notes.
DOCKERFILE = r"""
FROM {base}
RUN mkdir -p /usr/bin /etc/profile.d /old /var/cache/apt /var/lib/apt && \
    ! test -e /usr/bin/env && \
    echo 'for each in /etc/profile.d/*.sh; do [ ! -r "$each" ] || . "$each"; done' \
    > /etc/profile && \
    printf '#!/bin/sh\n[ "$1" = clean ] || echo "$*" >> /installed\n' > /usr/bin/apt-get && \
    chmod 755 /usr/bin/apt-get && echo old > /old/kept && echo {nonce} > /nonce
ENV PATH=/opt/tools:/bin:/usr/bin COLOUR="light 'blue'" EMPTY=
WORKDIR /image
"""
MADE = """\
version: 1
templates:
  fn-base:
    base: {dockerfile: Dockerfile}
    resources: {cpu: 1, memory: 128}
"""
TEMPLATES = r"""
version: 1
defaults: {{resources: {{cpu: 1, memory: 128}}}}
templates:
  fn-plain:
    base: {image}
    run: [pwd > /where, 'id -un > /who']
  fn-parent:
    base: {image}
    env:
      A: 'x$HOME `id` $(id) "q" \ and ''s'''
      SPACES: "  two  $x  "
      PATH: /srv/bin:/opt/tools:/bin:/usr/bin
    packages: {{apt: [git, ripgrep]}}
    user: alice
    workdir: /srv/app
    files:
      - one.txt -> /srv/app/
      - ./one.txt -> /srv/app/renamed
      - tree -> /srv/tree
      - tree/ -> /old
      - {{from: ["*.txt", tree], to: /srv/several/, owner: alice, ignore: ["*.md"]}}
      - {{from: tree, to: /srv/mode/, mode: "0640", owner: "alice:alice"}}
      - {{from: run.sh, to: /srv/bin/run, mode: "0755", owner: "1234:5678"}}
      - run.sh -> /usr/bin/
    run:
      - env | grep -E '^(A|PATH|COLOUR|EMPTY)=' > env-of-root
      - pwd > where; id -un >> where; umask >> where
      - {{run: "pwd > ~/where; id -un >> ~/where; echo $A >> ~/where", user: alice}}
    start: 'id -un > /dev/shm/who; pwd >> /dev/shm/who; echo "$A" >> /dev/shm/who; sleep 600'
    ready: until test -s /dev/shm/who; do sleep 0.1; done
  fn-child:
    base: {{template: fn-parent}}
    inherit: false
    steps:
      - run: pwd > /where-it-began; echo "$SPACES" >> /where-it-began
      - env: {{A: child's, B: "$A"}}
      - workdir: /work
      - copy: one.txt -> /work/
      - run: 'echo "$A $B" > here; cat one.txt >> here'
      - {{run: 'echo user > /tmp/of-user', user: bob}}
      - env: {{B: again}}
  fn-own:
    base: {{dockerfile: Own.dockerfile, stage: last, args: {{GIVEN: "g 'v'"}}}}
    env: {{B: "of the template"}}
    run: [pwd > /where, 'id -un > /who']
targets:
  docker: {{provider: novita, api_url: "{docker}", registry: "{registry}"}}
  remote: {{provider: novita, api_url: "{remote}"}}
"""
OWN = r"""
ARG TAKEN=1
FROM {image} AS unused
RUN exit 1
FROM {image} AS first
ARG TAKEN
ARG GIVEN=no
ENV A="x\$y $COLOUR $TAKEN" PATH=/own/bin:$PATH HOME=/srv LEGACY=
ENV OLD two  words
WORKDIR own
RUN echo "$A|$GIVEN|$TAKEN|$HOME|$PATH" > env && pwd > where && \
    # a comment
    echo app:x:4321:4321::/home/app:/bin/sh >> /etc/passwd && echo app:x:4321: >> /etc/group && \
    mkdir -p /home/app of-app && chown app:app /home/app of-app
RUN ["sh", "-c", "echo \"$0\" \"$A\" > exec", "a b"]
SHELL ["/bin/sh", "-ec"]
RUN echo "$-" > shell
FROM first AS last
SHELL ["/bin/sh", "-c"]
ENV HOME=/home/app
USER app:app
WORKDIR of-app/new/deep
RUN --mount=type=cache,target=/var/cache/apt \
    id -un > who; id -gn >> who; pwd >> who; echo "$A $OLD $TAKEN $GIVEN" >> who
COPY one.txt .
COPY --chown=app:app ./one.txt renamed
COPY one.txt /old
COPY one.txt two.txt tree ./several/
COPY --chown=12:34 --chmod=755 one.txt tree/s* /srv/sub/
ADD run.sh d-$TAKEN/
EXPOSE 80
LABEL a=b
ENTRYPOINT ["sh", "-c", "id > /dev/shm/who; pwd >> /dev/shm/who; echo $A >> $0; sleep 600"]
CMD ["/dev/shm/who"]
FROM scratch
"""
NAMES = ("fn-plain", "fn-parent", "fn-child", "fn-own")
LOOK = r"""
id; pwd; env | grep -vE '^(HOSTNAME|SHLVL|_)=' | sort
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /etc/hosts \
    -o -path /etc/resolv.conf -o -path /etc/hostname -o -path /.dockerenv \) -prune \
    -o -print | sort > /tmp/.all
grep -vx /tmp/.all /tmp/.all | while IFS= read -r path; do
    if [ -L "$path" ]; then echo "$path -> $(readlink "$path")"
    elif [ -f "$path" ]; then stat -c '%n %a %u:%g' "$path"; sha256sum < "$path"
    else stat -c '%n %a %u:%g' "$path"; fi
done
cat /etc/environment /etc/profile.d/* /srv/app/* /home/*/where /where* /work/here /dev/shm/who \
    2>/dev/null; true
"""


@pytest.fixture
def image(user: User, base: str, nonce: str, registry: str, engine: Engine) -> str:
    """An image at a registry that sets an environment and a working directory."""
    user.write("Dockerfile", DOCKERFILE.format(base=base, nonce=nonce).lstrip())
    user.write("novita.yaml", MADE)
    user.build("--target", "local")
    tag = f"sandboxfile/fn-base:sf-{user.entries()['fn-base'].image_key[4:20]}"
    repository = f"{registry}/fn-base"
    engine.push(tag, repository, "1", login=None, emit=lambda _: None, cancel=Cancel(), job="base")
    return f"{repository}:1"


@pytest.fixture(autouse=True)
def _cleared(images: Callable[[str], None]) -> None:
    for name in ("fn-base", *NAMES):
        images(name)


@pytest.fixture
def files(user: User) -> None:
    user.write("one.txt", "1\n")
    user.write("two.txt", "2\n")
    user.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    user.write("tree/a.md", "a").chmod(0o600)
    user.write("tree/sub/b", "b").chmod(0o700)
    (user.root / "tree/sub/link").symlink_to("../a.md")
    (user.root / "tree/empty").mkdir()
    user.write(".dockerignore", "**/secret\n")
    user.write("Own.dockerfile.dockerignore", "**/secret\ntree/sub/b\n")
    user.write("tree/secret", "s")


def seen(user: User, template: str) -> list[str]:
    ran = user.command("run", template, "--", "sh", "-l", "-c", LOOK)
    assert ran.code == 0, ran.err
    return ran.out.splitlines()


@pytest.mark.usefixtures("files")
def test_both_builders_make_the_same_templates(
    user: User, place: Place, registry: str, image: str, serve: Serving
) -> None:
    hosts = {name: place(name) for name in ("docker", "remote")}
    urls = {name: serve(host, "--port", "0") for name, host in hosts.items()}
    user.write("Own.dockerfile", OWN.replace("{image}", image).lstrip())
    registry = f"{registry}/team"
    user.write("novita.yaml", TEMPLATES.format(image=image, registry=registry, **urls))
    able = user.having(NOVITA_API_KEY="any")
    able.build("--target", "docker")
    able.having(DOCKER_HOST="unix:///nowhere/docker.sock").build("--target", "remote")
    for name in NAMES:
        there, here = seen(hosts["remote"], name), seen(hosts["docker"], name)
        assert list(unified_diff(here, there, "docker", "remote", n=0)) == []
