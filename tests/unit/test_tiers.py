import pytest

from tests.support.tiers import REQUIRE, TIERS, Tally, required, shortfalls, tier_of


def test_a_marker_beats_the_folder() -> None:
    assert tier_of("tests/e2e/test_containerd.py", {"containerd"}).name == "containerd"
    assert tier_of("tests/e2e/test_add.py", {"parametrize"}).name == "namespaces"


def test_a_test_outside_the_tiers_folders_is_refused() -> None:
    with pytest.raises(ValueError, match="tests/unit"):
        tier_of("tests/test_lost.py", set())


def test_all_requires_every_tier_and_an_unknown_name_is_refused() -> None:
    assert required({REQUIRE: "all"}) == {tier.name for tier in TIERS}
    assert required({REQUIRE: "unit, property"}) == {"unit", "property"}
    assert required({REQUIRE: "all, -podman"}) == {tier.name for tier in TIERS} - {"podman"}
    assert required({}) == frozenset()

    with pytest.raises(ValueError, match="containerd"):
        required({REQUIRE: "contained"})


def test_a_needed_tier_that_skipped_or_ran_nothing_is_a_shortfall() -> None:
    tallies = {"unit": Tally(passed=3), "namespaces": Tally(passed=1, skipped=2)}

    found = shortfalls(tallies, frozenset({"unit", "namespaces", "wheel"}), {"namespaces": "not root"})

    assert found == ["tier namespaces: 2 tests were skipped (not root)", "tier wheel: no test ran"]
