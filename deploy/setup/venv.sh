#!/bin/bash
# Make .venv hold exactly what a lock file names, and this package, editable.      venv.sh LOCK
# Does nothing when it was done before for the same lock: the stamp beside it holds the digest of what was installed.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/deploy/setup
lock=$root/$1
venv=$root/.venv
stamp=$venv/.installed-${1%.lock}
# The checkout's own path is part of it, since scripts in .venv name it.
wanted=$({ echo "$root"; cat "$lock" "$root/pyproject.toml" "$root/hatch_build.py" "$root/cni/"*; } | sha256sum | cut -d' ' -f1)

if [ -x "$venv/bin/fabricmgr" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$("$here/python.sh")
    echo "Making .venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
echo "Installing what $1 names (the first time takes about a minute)"
"${pip[@]}" install -q --require-hashes --only-binary :all: -r "$lock"
"${pip[@]}" install -q --no-deps --no-index --no-build-isolation -e "$root"
echo "$wanted" >"$stamp"
