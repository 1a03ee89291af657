"""The golden table: a change of a route, a method or a privilege is seen by whoever reads the change."""

from pathlib import Path

from fabricmgr.redfish.build import route_table

GOLDEN = Path(__file__).with_name("routes.txt")


def test_routes_are_those_of_the_golden_table() -> None:
    """After a wanted change: `python -c "from fabricmgr.redfish.build import route_table; print(route_table(), end='')" > routes.txt`."""
    assert route_table() == GOLDEN.read_text()
