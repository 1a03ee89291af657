#!/bin/bash
# Resolve pyproject.toml anew. The lock files carry hashes and no address, so that any index or mirror serves them.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
tools=build/lock-tools
[ -x $tools/bin/uv ] || { "$("$root/deploy/setup/python.sh")" -m venv $tools && $tools/bin/python -m pip install -q uv; }

export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never
index=$($tools/bin/python -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index

resolve() {
    $tools/bin/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade "$@"
}
resolve --group build -o requirements.lock
resolve --group dev --constraint requirements.lock -o requirements-dev.lock

# DMTF's tools, other people's clients and the peer of a benchmark live in environments of their own. What judges us is pinned in its list.
for folder in tests/conformance bench; do
    $tools/bin/uv pip compile -q $folder/requirements.in --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --upgrade -o $folder/requirements.lock
done
