"""Ours in the CNI benchmark: a real manager, agents that have joined it and hold blocks, and the pods that are there before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bench.calls import timed
from bench.contenders import Contender
from bench.namespaces import RUN_ID, inside, namespaces
from fabricmgr.agent.plugin import PLUGIN, install, shim
from tests.support.node_agent import Node
from tests.support.site import SiteManager, site

MASQUERADING = "masquerading"
CROWDED = ("crowded1", "crowded2", "crowded3", "crowded4")
PLAIN = "plain"
"""Networks of one pool each. A bridge has 1023 ports at most, so a node of 4,000 pods needs four of them."""
# So that what a burst of ADDs takes, and what rests of the burst before, is at hand: this measures nodes that need not ask the manager.
MARKS = {"FABRICMGR_AGENT_LOW_MARK": "64", "FABRICMGR_AGENT_HIGH_MARK": "512"}
AT_ONCE = 8


@dataclass(frozen=True)
class Shims:
    """Both as `fabricmgr agent install` puts them."""

    static: Path
    python: Path

    @classmethod
    def installed(cls, folder: Path) -> "Shims":
        """Raises FileNotFoundError when the static one was not built."""
        return cls(install(folder / "static", shim(static=True)), install(folder / "python", shim(static=False)))


class OurNode:
    """A node whose agent runs."""

    def __init__(self, node: Node, shims: Shims):
        self.node = node
        self.shims = shims

    def contender(self, name: str, plugin: Path, network: str = PLAIN) -> Contender:
        config = {"cniVersion": "1.0.0", "name": network, "type": PLUGIN}
        return Contender(name, self.node.ns.name, str(plugin), config, {"FABRICMGR_SOCKET": str(self.node.run_dir / "agent.sock")})

    def resident_mib(self) -> float:
        """Of the agent, as it says itself."""
        said = self.node.status()
        return said.rss_kib / 1024 if said else 0.0

    def rest(self) -> None:
        """Until everything is reported and addresses are at hand."""
        self.node.settled()
        self.node.ready(PLAIN)


@contextmanager
def ours(folder: Path, names: Sequence[str]) -> Iterator[list[OurNode]]:
    """A manager and so many nodes on a wire of their own."""
    shims = Shims.installed(folder)
    with site(0) as made:
        networks_of(made.manager)
        nodes = [OurNode(made.join(f"{name}-{RUN_ID}"), shims) for name in names]
        for each in nodes:
            each.node.start_agent(MARKS)
        for each in nodes:
            for network in (PLAIN, MASQUERADING, *CROWDED):
                each.node.ready(network)
        yield nodes


def networks_of(manager: SiteManager) -> None:
    for number, name in enumerate((PLAIN, MASQUERADING, *CROWDED)):
        prefix = {"prefix": f"10.{220 + number}.0.0/16", "block_length": 24}
        manager.ask("POST", "/v1/pools", {"name": name, "prefixes": [prefix]})
        network = {"name": name, "pools": [name], "masquerade": name == MASQUERADING}
        manager.ask("POST", "/v1/clusters/default/networks", network)


@contextmanager
def held(contender: Contender, count: int, further: Sequence[Contender] = ()) -> Iterator[None]:
    """So many attachments before anything is timed: one in each of as many namespaces as that takes, and one of each further network."""
    many, run = [contender, *further], uuid4().hex[:4]
    pods = [f"h{run}-{number}" for number in range(-(-count // len(many)))]
    with namespaces(*pods) as names:
        # One network after the other: a runtime works on a container once at a time (CNI SPEC 1.1.0, section 2).
        wanted = [(each, name, which) for which, each in enumerate(many) for name in names][:count]
        with inside(contender.node):
            for start in range(0, count, AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                timed([each.call("ADD", name, f"held-{name}", f"eth{which}") for each, name, which in some])
        yield
