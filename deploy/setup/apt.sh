#!/bin/bash
# Install the Debian packages a list names, those alone that are missing.      apt.sh LIST... [--want-only]
# As another user than root it says what to ask an administrator for. A missing optional list (packages-test) is no failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

missing=()
for list in "$@"; do
    while read -r package probe; do
        case $package in '' | '#'*) continue ;; esac
        case $probe in
            /*) [ -e "$probe" ] || missing+=("$package") ;;
            *) command -v "$probe" >/dev/null || missing+=("$package") ;;
        esac
    done <"$here/packages-$list.txt"
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Not a Debian system: install what these packages hold by its own means: ${missing[*]}" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Missing packages. Ask an administrator of this machine for: apt-get install ${missing[*]}" >&2
    exit 0
fi

# Packages such as prometheus start a service when installed. What is wanted here is the program alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get failed; its whole output is in $log" >&2
    exit 1
fi
rm -f "$log"
