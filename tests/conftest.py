"""What every test shares: the event loop, Hypothesis' settings, and the table of tiers at the end of a run."""

import os
from pathlib import PurePath

import pytest
from hypothesis import HealthCheck, settings

from tests.support.tiers import TIERS, Tally, Tier, required, shortfalls, tier_of

pytest_plugins = ["tests.support.postgres"]

# How fast a machine is, and what else it does, says nothing about a property.
SLOW = [HealthCheck.too_slow]
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=SLOW)
settings.register_profile("thorough", deadline=None, print_blob=True, suppress_health_check=SLOW, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = PurePath(__file__).parent.parent
TIER = pytest.StashKey[Tier]()
TALLIES: dict[str, Tally] = {}
WHY: dict[str, str] = {}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its tier, let it skip where the machine lacks what the tier needs, and put quick tiers first."""
    for item in items:
        tier = tier_of(item.path.relative_to(ROOT).as_posix(), {mark.name for mark in item.iter_markers()})
        item.stash[TIER] = tier
        item.user_properties.append(("tier", tier.name))
        if missing := tier.probe():
            WHY[tier.name] = missing
            item.add_marker(pytest.mark.skip(reason=f"{tier.name}: {missing}"))
    items.sort(key=lambda item: TIERS.index(item.stash[TIER]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tally = TALLIES.setdefault(str(dict(report.user_properties)["tier"]), Tally())
    if report.failed:
        tally.failed += 1
    elif report.skipped:
        tally.skipped += 1
    elif report.when == "call":
        tally.passed += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and missing_tiers(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    terminalreporter.section("tiers")
    for name, tally in sorted(TALLIES.items()):
        reason = f"  skipped: {WHY[name]}" if name in WHY else ""
        terminalreporter.line(f"{name:20} {tally.passed:5} passed {tally.failed:5} failed {tally.skipped:5} skipped{reason}")
    for sentence in missing_tiers(config):
        terminalreporter.line(sentence, red=True)


def missing_tiers(config: pytest.Config) -> list[str]:
    """Tiers that must run and did not. A run of chosen tests owes none."""
    whole = [str(ROOT / "tests"), "tests"]
    if config.option.collectonly or any(argument not in whole for argument in config.args):
        return []
    return shortfalls(TALLIES, required(os.environ), WHY)
