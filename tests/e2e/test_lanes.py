"""The run of all tests: pytest processes side by side with one outcome."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lanes import FAILED, OK, ROOT, Lane, Record, main, run_again, run_beside
from tests.support.tiers import Tally

CHOSEN = "tests/unit/test_tiers.py"
NONE_COLLECTED = 5
RECORDED = 'pathlib.Path(sys.argv[1]).write_text(\'{"tallies": {"unit": {"passed": 2}}, "failed": %s}\')\n'
# Ends only when the other one has begun.
MEETS = """
(here / sys.argv[2]).touch()
while not (here / {other!r}).exists():
    time.sleep(0.01)
print("tests/unit/test_x.py ..")
print("===== tests were run =====")
print("passed by", sys.argv[2])
"""
# Ends only when it is interrupted, which it asks for once both have begun.
SLEEPS = """
try:
    (here / f"begun-{sys.argv[2]}").touch()
    while len(list(here.glob("begun-*"))) < 2:
        time.sleep(0.01)
    os.kill(os.getppid(), 15)
    time.sleep(60)
except KeyboardInterrupt:
    (here / f"ended-{sys.argv[2]}").touch()
"""


@dataclass
class Told(Lane):
    """A lane with a program of its own in pytest's place. It finds its record's path and its name as arguments."""

    program: str = ""

    def words(self, *more: str) -> list[str]:
        prelude = f"import os, pathlib, sys, time\nhere = pathlib.Path({str(self.folder)!r})\n"
        return [sys.executable, "-c", prelude + self.program, str(self.record_file), self.name, *more]


def test_lanes_run_side_by_side_and_tell_their_ends_one_after_the_other(tmp_path: Path) -> None:
    said: list[str] = []
    both = [Told(name, [], tmp_path, program=MEETS.format(other=other) + RECORDED % "[]") for name, other in (("a", "b"), ("b", "a"))]

    run_beside(both, said.append)

    assert sorted(said[:2]) == ["a     | tests/unit/test_x.py ..", "b     | tests/unit/test_x.py .."]
    assert said[2:] == [f"\nlane {name}:\n===== tests were run =====\npassed by {name}" for name in ("a", "b")]
    assert [lane.status for lane in both] == [OK, OK]
    assert both[0].record() == Record({"unit": Tally(passed=2)})


@pytest.mark.parametrize("program", ["pass", f"{RECORDED % '[]'}os.kill(os.getpid(), {int(signal.SIGKILL)})"], ids=["no-record", "killed"])
def test_a_lane_that_came_to_no_end_has_failed(tmp_path: Path, program: str) -> None:
    lane = Told("a", [], tmp_path, program=program)

    run_beside([lane], lambda _: None)

    assert lane.status == FAILED


def test_a_run_that_is_told_to_end_interrupts_its_lanes(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\nfrom tests.e2e.test_lanes import Told\nfrom tests.support.lanes import run_beside\n"
        f"run_beside([Told(name, [], Path({str(tmp_path)!r}), program={SLEEPS!r}) for name in 'ab'], print)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)

    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("ended-*")} == {"ended-a", "ended-b"}


@pytest.mark.parametrize(("second", "status", "word"), [("[]", OK, "unsteady"), ('["test_x"]', FAILED, "broken")])
def test_what_failed_is_run_again_and_named_for_what_it_is(tmp_path: Path, second: str, status: int, word: str) -> None:
    first = RECORDED % '["test_x"]' + "sys.exit(1)\n"
    again = f"if '--last-failed' in sys.argv:\n    {(RECORDED % second).strip()}\n    sys.exit({status})\n"
    whole = Told("b", [], tmp_path, program=RECORDED % "[]" + "(here / 'ran').open('a').write('x')")
    lane = Told("a", [], tmp_path, program=again + first)
    said: list[str] = []
    run_beside([lane, whole], lambda _: None)

    run_again([lane, whole], ["test_x"], said.append)

    assert said[-1] == f"{word}: test_x"
    assert lane.status == status
    assert (tmp_path / "ran").read_text() == "x"


def test_chosen_tests_run_alone_and_owe_no_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRICMGR_REQUIRE_TIERS", "all")
    said: list[str] = []

    passed = main([CHOSEN, "-p", "no:cacheprovider"], said.append)
    none = main([CHOSEN, "-p", "no:cacheprovider", "-k", "nonesuch"], lambda _: None)

    assert passed == OK
    assert none == NONE_COLLECTED
    assert "unit " in said[0]
    assert "no test ran" not in said[0]


def test_a_lane_has_the_tests_of_its_tiers_and_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lane = Lane("rest", [CHOSEN, "tests/e2e/test_lanes.py"], tmp_path)

    lane.run_alone("--collect-only", "-q")

    listed = capfd.readouterr().out
    assert lane.status == OK
    assert f"{CHOSEN}::test_a_marker_beats_the_folder" in listed
    assert "test_lanes.py::" not in listed
