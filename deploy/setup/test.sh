#!/bin/bash
# Run the tests, all of them or those named.      test.sh [PATH...]
# FABRICMGR_REQUIRE_TIERS: `all`, or names of tiers with commas between; a tier of these that can't run, or ran no test, is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin:/sbin
exec .venv/bin/python -m tests.support.lanes "$@"
