"""All tests in two lanes, side by side, with one table and one exit status: `python -m tests.support.lanes [PYTEST'S ARGUMENTS]`.

Each lane is a pytest of its own, and runs its tiers one after the other: what a session shares (a Postgres, a cluster) is there once. A run
of chosen tests, or a machine with one processor, has one lane.

Many tests drive real processes against a clock, on whatever machine this is. A few that failed are tried once more by themselves, after
both lanes: what passes then is named as unsteady, what fails again is a failure. More than a few are no accident of the machine's.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.support.tiers import LANES, Tally, required, shortfalls, table

ROOT = Path(__file__).parents[2]
EVERYTHING = ["tests"]
MOST_AGAIN = 10
OK, FAILED = 0, 1  # pytest's exit statuses; what is above is graver: interrupted, broken, nothing to run

Say = Callable[[str], None]


class Record(msgspec.Struct):
    """What a lane found. why: what the machine lacks for a tier. failed: ids of tests."""

    tallies: dict[str, Tally] = {}
    why: dict[str, str] = {}
    failed: list[str] = []


def write(path: Path, record: Record) -> None:
    path.write_bytes(msgspec.json.encode(record))


@dataclass
class Lane:
    """One pytest. name: empty for the only lane. folder: for its record."""

    name: str
    arguments: Sequence[str]
    folder: Path
    status: int = OK
    process: "subprocess.Popen[str] | None" = None
    ending: list[str] = field(default_factory=list)

    @property
    def record_file(self) -> Path:
        return self.folder / f"record-{self.name}.json"

    def record(self) -> Record:
        """Nothing where pytest did not come to its end."""
        return msgspec.json.decode(self.record_file.read_bytes(), type=Record) if self.record_file.exists() else Record()

    def words(self, *more: str) -> list[str]:
        """The command. Each lane remembers its own failures."""
        chosen = [f"--lane={self.name}", "-o", f"cache_dir=.pytest_cache/{self.name}"] if self.name else []
        return [sys.executable, "-m", "pytest", *chosen, f"--record={self.record_file}", *more, *self.arguments]

    def run_alone(self, *more: str) -> None:
        """To its end, on the console."""
        self.record_file.unlink(missing_ok=True)
        self.status = subprocess.run(self.words(*more), cwd=ROOT, check=False).returncode
        self.judge()

    def run_again(self) -> None:
        """What failed, once more."""
        self.run_alone("--last-failed", "--last-failed-no-failures", "none")

    def run(self, say: Say) -> None:
        """To its end. Lines are told as they come, after the lane's name; pytest's summaries are kept for later."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        words = [*self.words(), "--color=no"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment) as pytest:
            self.process = pytest
            for line in pytest.stdout or ():
                if self.ending or is_heading(line):
                    self.ending.append(line.rstrip("\n"))
                else:
                    say(f"{self.name:6}| {line.rstrip()}")
        self.status = pytest.returncode
        self.judge()

    def interrupt(self) -> None:
        """As Ctrl-C does: pytest takes down what its tests made, and ends."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)

    def judge(self) -> None:
        """A pytest that left no record came to no end, whatever it says; one that a signal ended failed."""
        if self.status < 0 or not self.record_file.exists():
            self.status = max(self.status, FAILED)


def is_heading(line: str) -> bool:
    """Whether one of pytest's summaries begins with it; the first heading of all stands before the tests."""
    return line.startswith("=====") and "test session starts" not in line


def lanes(arguments: Sequence[str], folder: Path, processors: int) -> list[Lane]:
    """Two for all tests where there are processors for them, else one."""
    names = LANES if is_whole(arguments) and processors > 1 else ("",)
    return [Lane(name, list(arguments) or EVERYTHING, folder) for name in names]


def is_whole(arguments: Sequence[str]) -> bool:
    """Whether these are all tests; a run of chosen ones owes no tier."""
    return list(arguments) in ([], EVERYTHING)


def run_beside(both: Sequence[Lane], say: Say) -> None:
    """Until all have ended; then how each ended, one after the other. SIGTERM interrupts them."""

    def interrupt(*_: object) -> None:
        for lane in both:
            lane.interrupt()

    former = signal.signal(signal.SIGTERM, interrupt)
    threads = [threading.Thread(target=lane.run, args=[say]) for lane in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGTERM, former)
    for lane in both:
        say("\n".join([f"\nlane {lane.name}:", *lane.ending]))


def merged(records: Sequence[Record]) -> Record:
    """A tier has its tests in one lane alone."""
    found = Record()
    for each in records:
        found.tallies.update(each.tallies)
        found.why.update(each.why)
        found.failed += each.failed
    return found


def are_tried_again(statuses: Sequence[int], failed: Sequence[str]) -> bool:
    """Where tests failed, a few, and nothing graver happened."""
    return max(statuses) == FAILED and 0 < len(failed) <= MOST_AGAIN


def verdict(statuses: Sequence[int], lacking: Sequence[str]) -> int:
    """One exit status: the gravest of pytest's; a failure where a needed tier lacks."""
    return max(statuses) or (FAILED if lacking else OK)


def run_again(ran: Sequence[Lane], failed: Sequence[str], say: Say) -> None:
    """Each lane's failures, one lane after the other."""
    say(f"\nunsteady or broken: {len(failed)} failed; these once more, by themselves")
    for lane in ran:
        if lane.record().failed:
            lane.run_again()
    again = merged([lane.record() for lane in ran]).failed
    for test in failed:
        say(f"{'broken' if test in again else 'unsteady'}: {test}")


def main(arguments: Sequence[str], say: Say) -> int:
    """The exit status."""
    needed = required(os.environ) if is_whole(arguments) else frozenset[str]()
    with TemporaryDirectory(prefix="fm-lanes-") as folder:
        ran = lanes(arguments, Path(folder), len(os.sched_getaffinity(0)))
        if len(ran) == 1:
            ran[0].run_alone()
        else:
            run_beside(ran, say)
        found = merged([lane.record() for lane in ran])
        lacking = shortfalls(found.tallies, needed, found.why)
        say("\n".join(["\ntiers:", *table(found.tallies, found.why), *lacking]))
        if are_tried_again([lane.status for lane in ran], found.failed):
            run_again(ran, found.failed, say)
        return verdict([lane.status for lane in ran], lacking)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], lambda text: print(text, flush=True)))
