"""What a suite found, and whether that is good enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field

PASS, WARN, FAIL, NOT_TESTED = "PASS", "WARN", "FAIL", "NOT_TESTED"
# Discovery by SSDP (7), what suite `sse` asks instead (14), and what a service with nothing but TLS gives no occasion for (3).
MOST_NOT_TESTED = 24


@dataclass(frozen=True)
class Finding:
    """Something that did not pass. check: by the tool's name for it."""

    state: str
    check: str
    where: str = ""
    message: str = ""


@dataclass
class Result:
    """Of one suite. counts: checks by state. notes: figures beside. trouble: why the tool ended before its time; empty if it did not."""

    suite: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""

    def count(self, state: str) -> int:
        return self.counts.get(state, 0)

    def add(self, state: str, check: str, where: str = "", message: object = "") -> None:
        """Count a check, and keep it unless it passed."""
        self.counts[state] = self.count(state) + 1
        if state != PASS:
            self.findings.append(Finding(state, check, where, " ".join(str(message).split())[:400]))


def complaints(result: Result) -> list[str]:
    """A sentence for each bar that is missed."""
    found = [f"{result.suite}: {result.trouble}"] if result.trouble else []
    if not result.count(PASS):
        found.append(f"{result.suite}: nothing passed")
    if result.count(FAIL):
        found.append(f"{result.suite}: {result.count(FAIL)} failures")
    return [*found, *_BARS.get(result.suite, lambda _: [])(result)]


def _protocol(result: Result) -> list[str]:
    found = [f"protocol: {result.count(WARN)} warnings"] if result.count(WARN) else []
    if result.count(NOT_TESTED) > MOST_NOT_TESTED:
        # A service that is left out turns failures into this.
        found.append(f"protocol: {result.count(NOT_TESTED)} checks found nothing to test; {MOST_NOT_TESTED} are explained")
    return found


def _service(result: Result) -> list[str]:
    # Below /Oem/ the tool calls an error of ours a warning.
    ours = [each for each in result.findings if each.state == WARN and "/Oem/" in each.where]
    return [f"service: {len(ours)} warnings about what is ours"] if ours else []


_BARS = {"protocol": _protocol, "service": _service}


def line(result: Result) -> str:
    """One for the console."""
    notes = "".join(f" {name}={value}" for name, value in result.notes.items())
    counts = " ".join(f"{name.lower().replace('_', '-')}={result.count(name)}" for name in (PASS, WARN, FAIL, NOT_TESTED))
    return f"{result.suite:9} {'MISSED' if complaints(result) else 'ok':6} {counts} seconds={result.seconds:.0f}{notes}"


def report(results: Sequence[Result]) -> str:
    """Each suite's line, what did not pass or was warned of, and the bars that were missed."""
    lines = [line(each) for each in results]
    for result in results:
        shown = [each for each in result.findings if each.state in (FAIL, WARN)]
        lines += [f"  {result.suite} {each.state} {each.check} {each.where}: {each.message}" for each in shown]
    return "\n".join([*lines, *(f"missed: {sentence}" for result in results for sentence in complaints(result))])
