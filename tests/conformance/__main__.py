"""`make conformance`: a manager with a filled tree, DMTF's suites against it, and what they say, a line a suite.

Exit 0: every bar is met; 1: one is missed; 2: something that it needs is not there."""

import argparse
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.conformance import runner, tree
from tests.conformance.venv import ToolsMissing, programs
from tests.conformance.verdict import complaints, line, report


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance")
    parser.add_argument("--out", type=Path, help="folder for the tools' reports and logs; a new one when absent")
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(runner.SUITES)}; all when absent")
    asked = parser.parse_args()
    try:
        schemas = runner.bundle(os.environ.get("REDFISH_SCHEMAS", ""))
        programs()
    except (runner.BundleRefused, ToolsMissing) as error:
        print(error, file=sys.stderr)
        return 2
    out = asked.out or Path(mkdtemp(prefix="fm-conformance-"))
    results = []
    with tree.manager() as served:
        for result in runner.run(tree.target(served), schemas, out, asked.suites or runner.SUITES):
            results.append(result)
            print(line(result), flush=True)
    print("\n".join(report(results).splitlines()[len(results) :]))
    print(f"reports: {out}")
    return 1 if any(complaints(each) for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
