"""Who is tried, and what the control is expected to fail.

A case whose claim the Go reference plugins are known not to hold stands in `reds.toml`. There the control must fail, and by what the file
says: a case that passes on the control means that the hole closed upstream, and with it a claim of ours fell.
"""

import re
import tomllib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bench.peers import peer
from tests.support import shims
from tests.support.namespaces import make_ns, node_ns, pod_ns
from tests.support.netns import namespace
from tests.support.site import Site, site
from tests.support.subjects import CONTROL, NETWORKS, OURS, PARTS, Reference, Shim, Subject

__all__ = ["make_ns", "node_ns", "pod_ns"]

ROOT = Path(__file__).parents[3]
REDS: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "reds.toml").read_text())


@pytest.fixture(scope="session")
def cni_site() -> Iterator[Site]:
    """A real manager and one node whose agent serves every network of the cases."""
    with site() as made:
        for name, prefixes in NETWORKS.items():
            made.manager.make_network(name, *prefixes)
        # Too small for blocks of nodes: the manager gives out its addresses one by one.
        made.start(*(name for name in NETWORKS if name != "tiny"))
        yield made


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The Go plugins on a node of their own: the newest where Go can build them, else Debian's."""
    theirs = peer(ROOT / "build", PARTS)
    with namespace("go") as node:
        # Else a bridge's gateway does not answer for its first two seconds.
        node.run("sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0")
        yield Reference(CONTROL, node, theirs.folder.resolve() / "bridge", tmp_path_factory.mktemp("leases"), theirs.name)


def shim(made: Site, kind: str) -> Shim:
    return Shim(kind, made.node.ns, shims.build(kind), made.node)


@pytest.fixture(params=[*OURS, CONTROL])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each of the three in turn."""
    if request.param == CONTROL:
        found: Reference = request.getfixturevalue("control")
        return found
    return shim(request.getfixturevalue("cni_site"), request.param)


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, cni_site: Site) -> Shim:
    """Our two shims alone: for what the reference does not promise."""
    return shim(cni_site, request.param)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Turns a case round that the control is expected to fail."""
    red = REDS.get(pyfuncitem.originalname)
    is_control = getattr(pyfuncitem, "callspec", None) is not None and pyfuncitem.callspec.params.get("subject") == CONTROL
    if red is None or not is_control:
        return (yield)
    try:
        yield
    except AssertionError as failed:
        said = str(failed)
    else:
        pytest.fail(closed(red["hole"], pyfuncitem.originalname, str(pyfuncitem.funcargs["subject"])))
    if not re.search(red["fails"], said):
        pytest.fail(f"the control fails, but not by {red['fails']!r}: {said}")
    return True


def closed(hole: str, case: str, control: str) -> str:
    """What to say, and to do, when the reference holds a case that it used to fail."""
    what = f"A hole of the reference has closed: {hole}. {control} holds {case} now."
    return f"{what} Our claim falls: take it from reds.toml and the documents."
