#!/bin/bash
# Print the Python to base the environment on: the system's own first, since one under a home directory may be closed to other users.
set -euo pipefail

fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

for name in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
    path=$(command -v "$name" || true)
    if [ -n "$path" ] && fits "$path"; then
        echo "$path"
        exit 0
    fi
done
echo "No Python of version 3.11 or later with venv and ensurepip was found. On Debian: apt-get install python3 python3-venv" >&2
exit 1
