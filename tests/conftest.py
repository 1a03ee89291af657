"""What every test shares: the event loop, Hypothesis' settings, and the table of tiers at the end of a run."""

import os
from pathlib import Path, PurePath

import pytest
from hypothesis import HealthCheck, settings

from tests.support import lanes, scratch
from tests.support.tiers import LANES, TIERS, Tally, Tier, required, shortfalls, table, tier_of

pytest_plugins = ["tests.support.postgres"]

# How fast a machine is, and what else it does, says nothing about a property.
SLOW = [HealthCheck.too_slow]
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=SLOW)
settings.register_profile("thorough", deadline=None, print_blob=True, suppress_health_check=SLOW, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

scratch.use()

PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
PATIENCE = 5  # added to a process' niceness: a third of the processor where two want it
ROOT = PurePath(__file__).parent.parent
TIER = pytest.StashKey[Tier]()
TALLIES: dict[str, Tally] = {}
WHY: dict[str, str] = {}
FAILED: dict[str, None] = {}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fabricmgr")
    group.addoption("--lane", choices=LANES, default="", help="run the tiers of this lane alone")
    group.addoption("--record", type=Path, help="write what became of each tier into this file; whoever reads it judges what lacks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its tier, let it skip where the machine lacks what the tier needs, and put quick tiers first."""
    for item in items:
        item.stash[TIER] = tier_of(item.path.relative_to(ROOT).as_posix(), {mark.name for mark in item.iter_markers()})
    keep_lane(config, items)
    for item in items:
        tier = item.stash[TIER]
        item.user_properties.append(("tier", tier.name))
        if missing := tier.probe():
            WHY[tier.name] = missing
            item.add_marker(pytest.mark.skip(reason=f"{tier.name}: {missing}"))
    items.sort(key=lambda item: TIERS.index(item.stash[TIER]))


def keep_lane(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the other lane runs."""
    lane = config.getoption("lane")
    others = [item for item in items if lane and item.stash[TIER].lane != lane]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.stash[TIER].lane == lane]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Patient tests give way, and so does what they start. Who is not root could not take it back."""
    if item.config.getoption("lane") and os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY + (PATIENCE if item.stash[TIER].patient else 0))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tally = TALLIES.setdefault(str(dict(report.user_properties)["tier"]), Tally())
    if report.failed:
        tally.failed += 1
        FAILED[report.nodeid] = None
    elif report.skipped:
        tally.skipped += 1
    elif report.when == "call":
        tally.passed += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if record := session.config.getoption("record"):
        lanes.write(record, lanes.Record(TALLIES, WHY, list(FAILED)))
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and missing_tiers(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly or config.getoption("record"):
        return
    terminalreporter.section("tiers")
    for line in table(TALLIES, WHY):
        terminalreporter.line(line)
    for sentence in missing_tiers(config):
        terminalreporter.line(sentence, red=True)


def missing_tiers(config: pytest.Config) -> list[str]:
    """Tiers that must run and did not. A run of chosen tests owes none."""
    whole = [str(ROOT / "tests"), "tests"]
    if config.option.collectonly or config.getoption("record") or any(argument not in whole for argument in config.args):
        return []
    return shortfalls(TALLIES, required(os.environ), WHY)
