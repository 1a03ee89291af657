"""A network is deleted while a node holds blocks for it."""

from tests.support.node_agent import wait_for
from tests.support.site import site


def test_a_node_gives_blocks_of_a_deleted_network_back_and_its_pool_can_be_deleted() -> None:
    with site() as made:
        made.manager.make_network("podnet", "10.77.0.0/16")
        made.manager.make_network("brief", "10.79.0.0/20", "2001:db8:79::/116")
        made.start("podnet", "brief")
        before = {each.pool for each in made.node.state().blocks.values()}

        made.manager.ask("DELETE", "/v1/clusters/default/networks/brief")
        refused, why = made.manager.answer("DELETE", "/v1/pools/brief")
        wait_for("its pool is free", lambda: made.manager.answer("DELETE", "/v1/pools/brief")[0] == 204, 30)
        after = {each.pool for each in made.node.state().blocks.values()}

        assert (before, after) == ({"podnet", "brief"}, {"podnet"})
        assert refused == 409
        assert "for node n1" in why
