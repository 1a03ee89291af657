"""The agent's memory of blocks as a state machine. The model remembers every address that was given and when its link was gone."""

from datetime import timedelta
from ipaddress import ip_network

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fabricmgr.agent.assign import Stock, ordinals
from fabricmgr.domain.addresses import Family, parse_address
from fabricmgr.domain.block import Block
from fabricmgr.domain.errors import AddressCooling, AddressHeld, AddressReserved
from fabricmgr.domain.names import PoolName
from fabricmgr.wire import BlockAddress
from tests.support.agent_records import later

POOLS = [PoolName("first"), PoolName("second")]
COOLDOWN = timedelta(seconds=60)
PREFIXES = {ip_network("10.0.0.0/29"): POOLS[0], ip_network("10.0.0.8/30"): POOLS[0], ip_network("10.9.0.0/29"): POOLS[1]}
RESERVED = ["10.0.0.3", "10.9.0.0/30"]


class Stocks(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stock = Stock()
        self.now = 0.0
        self.owners = 0
        self.held: dict[str, BlockAddress] = {}
        self.released: dict[str, BlockAddress] = {}
        self.gone: dict[str, float] = {}
        self.generations: dict[str, int] = {}
        self.closed: set[str] = set()

    @initialize()
    def hold_blocks(self) -> None:
        for prefix, pool in PREFIXES.items():
            self.stock.put(Block(pool, prefix, claim=1, reserved=ordinals(prefix, RESERVED)), COOLDOWN, is_open=True)

    def given(self, got: BlockAddress) -> None:
        """Whatever way an address was got, nobody had it, and it had rested."""
        assert got.address not in self.held
        assert got.address not in self.released
        assert self.now - self.gone.get(got.address, -1e9) >= COOLDOWN.total_seconds()
        assert got.address != "10.0.0.3"
        assert got.block not in self.closed
        assert got.generation > self.generations.get(got.block or "", 0)
        self.generations[got.block or ""] = got.generation
        self.held[got.address] = got
        self.gone.pop(got.address, None)

    @rule()
    def take(self) -> None:
        self.owners += 1
        free = self.stock.free(POOLS, Family.IPV4, later(self.now))
        rested = {a: t for a, t in self.gone.items() if self.now - t >= 60 and self.block_of(a) not in self.closed}

        got = self.stock.take(POOLS, Family.IPV4, f"owner {self.owners}", later(self.now))

        assert (got is None) == (free == 0)
        if got is not None:
            in_pool = {a: t for a, t in rested.items() if a.startswith(got.address[:5])}
            assert not in_pool or self.gone.get(got.address) == min(in_pool.values())
            self.given(got)

    @rule(ordinal=st.integers(0, 15))
    def assign(self, ordinal: int) -> None:
        self.owners += 1
        address = parse_address(f"10.0.0.{ordinal}")
        try:
            got = self.stock.assign(address, f"owner {self.owners}", later(self.now))
        except (AddressHeld, AddressCooling, AddressReserved):
            unrested = self.now - self.gone.get(str(address), -1e9) < 60
            assert str(address) in self.held or str(address) in self.released or unrested or ordinal == 3
            return
        if got is None:
            assert ordinal > 11 or self.block_of(str(address)) in self.closed
            return
        self.given(got)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.held)))
        quoted = self.held.pop(address)
        self.stock.release([quoted])
        self.released[address] = quoted

    @precondition(lambda self: self.released)
    @rule(data=st.data())
    def link_gone(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.released)))
        self.stock.gone([self.released.pop(address)], later(self.now))
        self.gone[address] = self.now

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def quote_an_old_generation(self, data: st.DataObject) -> None:
        quoted = self.held[data.draw(st.sampled_from(sorted(self.held)))]
        stale = BlockAddress(address=quoted.address, generation=quoted.generation - 1, block=quoted.block, claim=quoted.claim)
        self.stock.release([stale])
        self.stock.gone([stale], later(self.now))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(prefix=st.sampled_from(sorted(map(str, PREFIXES))), is_open=st.booleans())
    def other_terms(self, prefix: str, is_open: bool) -> None:
        block = ip_network(prefix)
        self.stock.renew(block, is_open, ordinals(block, RESERVED), COOLDOWN)
        self.closed.discard(prefix)
        if not is_open:
            self.closed.add(prefix)

    @invariant()
    def memory_and_model_agree(self) -> None:
        found = {str(each.block.address_of(o)) for each in self.stock for o in each.block.holders()}
        assert found == set(self.held)

    @staticmethod
    def block_of(address: str) -> str:
        return next(str(prefix) for prefix in PREFIXES if parse_address(address) in prefix)


TestStocks = Stocks.TestCase
