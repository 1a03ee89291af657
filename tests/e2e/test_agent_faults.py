"""What an agent meets beside its pods: a manager that is away, another agent, journals that can't be believed, a host that drops."""

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import json as msgspec_json
from msgspec import structs

from fabricmgr.agent.journal import boot_id, decode, encode
from fabricmgr.agent.records import Header
from fabricmgr.wire import ChangeKind, Decide
from tests.support.namespaces import make_ns, node_ns, pod_ns
from tests.support.netns import Namespace
from tests.support.node_agent import PODNET, Node, Process, addresses, error, node, result, wait_for

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


@pytest.fixture
def here(node_ns: Namespace) -> Iterator[Node]:
    with node(node_ns) as made:
        yield made


@pytest.fixture
def served(here: Node) -> Node:
    """A node whose agent serves and has addresses at hand."""
    here.start_agent()
    here.ready()
    return here


# --- the manager ---------------------------------------------------------------------------------------------------------


def test_twenty_pods_come_and_go_while_the_manager_is_away_and_it_hears_of_all(served: Node, pod_ns: MakePod) -> None:
    pods = {f"c{number}": pod_ns() for number in range(20)}
    served.manager.kill()

    given = {name: addresses(served.add(name, pod)) for name, pod in pods.items()}
    with ThreadPoolExecutor(8) as at_once:
        assert not any(done.exit for done in at_once.map(lambda item: served.delete(*item), pods.items()))

    assert len({address for each in given.values() for address in each}) == 40
    wait_for("it is said that the manager is away", lambda: served.command("status").returncode == 1, 20)
    served.start_manager()
    wait_for("the manager hears of all", lambda: len(served.copy().history) >= 60, 20)
    for kind in ChangeKind:
        heard = [change.owned.container for change in served.copy().history if change.kind is kind]
        assert sorted(heard) == sorted(pods)
    assert not served.copy().held
    wait_for("nothing is wrong", lambda: served.command("status").returncode == 0)


def test_an_agent_that_starts_while_the_manager_is_away_serves_from_its_journal(served: Node, pod_ns: MakePod) -> None:
    first = pod_ns()
    given = addresses(served.add("c1", first))
    served.settled()
    served.manager.kill()
    assert served.agent.kill(signal.SIGTERM) == 0
    served.start_agent()

    second = pod_ns()
    assert not set(addresses(served.add("c2", second))) & set(given)

    assert first.ping("169.254.1.1")
    assert second.ping(given[0].partition("/")[0])
    assert served.delete("c1", first).exit == 0
    served.start_manager()
    wait_for("the manager knows", lambda: set(served.copy().held) == {"podnet/c2/eth0"}, 20)


def test_a_manager_that_never_was_there_leaves_code_11(here: Node, pod_ns: MakePod) -> None:
    here.manager.kill()
    here.start_agent()

    code, sentence = error(here.add("c1", pod_ns()))

    assert code == 11
    assert "the manager at https://127.0.0.1" in sentence
    assert here.delete("c1").exit == 0
    assert error(here.cni("STATUS", ""))[0] == 50


def test_a_manager_with_an_empty_memory_is_told_all_anew(served: Node, pod_ns: MakePod) -> None:
    assert served.add("c1", pod_ns()).exit == 0
    served.settled()
    served.manager.kill()
    copy = served.copy()
    copy.held, copy.last, copy.life = {}, 0, ""
    (served.manager_dir / "copy.json").write_bytes(msgspec_json.encode(copy))

    served.start_manager()
    assert served.add("c2", pod_ns()).exit == 0

    wait_for("the manager knows both", lambda: set(served.copy().held) == {"podnet/c1/eth0", "podnet/c2/eth0"}, 20)
    served.settled()


def test_no_proxy_of_the_environment_sees_the_agent(here: Node) -> None:
    """F062: daemons inherit a corporate proxy setting; the way to the manager is never by it."""
    seen: list[bytes] = []
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        threading.Thread(target=lambda: listen(proxy, seen), daemon=True).start()
        names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY")

        here.start_agent(dict.fromkeys(names, url) | {"NO_PROXY": "10.0.0.0/8"})
        here.ready()

    assert not seen
    shown = here.command("status").stdout
    assert f"directly to {(here.manager_dir / 'url').read_text()}" in shown
    assert "HTTPS_PROXY" in shown


def listen(proxy: socket.socket, seen: list[bytes]) -> None:
    try:
        while True:
            connection, _ = proxy.accept()
            seen.append(connection.recv(100))
    except OSError:
        return


def test_an_address_that_the_node_gets_later_is_told_too(served: Node) -> None:
    served.settled()
    hellos = served.copy().hellos

    served.ns.run("ip", "link", "add", "late0", "type", "bridge")
    served.ns.run("ip", "address", "add", "192.0.2.77/24", "dev", "late0")

    wait_for("a hello names it", lambda: served.copy().hellos > hellos, 20)
    assert served.copy().addresses == ["192.0.2.77"]


# --- two of a kind ---------------------------------------------------------------------------------------------------------


def test_a_second_agent_on_the_node_says_who_is_there_and_ends(served: Node) -> None:
    running = served.agent.running
    assert running is not None

    second = served.command("run")

    assert second.returncode == 1
    assert f"process id {running.pid}" in second.stderr
    assert served.cni("STATUS", "").exit == 0


def test_another_life_waits_until_the_old_ones_heartbeat_lapsed(served: Node) -> None:
    served.agent.kill()
    (served.run_dir / "journal").unlink()
    served.start_agent()

    said = served.status()

    assert said is not None
    assert any("has an agent already" in fault for fault in said.faults)
    wait_for("it is let in", lambda: (said := served.status()) is not None and not said.faults, 30)


# --- journals ----------------------------------------------------------------------------------------------------------------


def lapse(here: Node) -> None:
    """Let the manager have heard the old life long ago."""
    here.manager.kill()
    copy = here.copy()
    copy.heard_at = 0.0
    (here.manager_dir / "copy.json").write_bytes(msgspec_json.encode(copy))
    here.start_manager()


@pytest.mark.parametrize("harm", ["missing", "bit", "empty"])
def test_a_journal_that_is_lost_is_rebuilt_from_links_and_manager(served: Node, pod_ns: MakePod, harm: str) -> None:
    pods = {name: pod_ns() for name in ("c1", "c2")}
    given = {name: addresses(served.add(name, pod)) for name, pod in pods.items()}
    served.settled()
    served.agent.kill()
    lapse(served)
    spoil(served.run_dir / "journal", harm)

    served.start_agent()
    wait_for("its blocks are its again", lambda: (said := served.status()) is not None and bool(said.blocks) and said.unreported == 0)

    assert all(pod.ping("169.254.1.1") for pod in pods.values())
    assert {key[1] for key in served.state().attachments} == set(pods)
    assert {each.address for owned in served.copy().held.values() for each in owned.addresses} == {
        address.partition("/")[0] for each in given.values() for address in each
    }
    wait_for("blocks are theirs", lambda: all(each.block for owned in served.copy().held.values() for each in owned.addresses))
    served.ready()
    taken = addresses(served.add("c3", pod_ns()))
    assert not set(taken) & {address for each in given.values() for address in each}
    for name, pod in pods.items():
        assert served.delete(name, pod).exit == 0
    wait_for("they are gone", lambda: set(served.copy().held) == {"podnet/c3/eth0"})


def spoil(path: Path, harm: str) -> None:
    if harm == "missing":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)


def test_nothing_of_another_boots_journal_is_believed(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    given = addresses(served.add("c1", pod))
    served.settled()
    served.agent.kill()
    lapse(served)
    for link in served.links():
        served.ns.run("ip", "link", "del", link["ifname"])
    path = served.run_dir / "journal"
    records, _ = decode(path.read_bytes())
    old = Header(boot_id=uuid4(), life=uuid4())
    path.write_bytes(b"".join(map(encode, [old, *records[1:]])))

    served.start_agent()
    served.ready()

    assert served.state().header.boot_id == boot_id()
    assert served.state().header.life != old.life
    assert not served.state().attachments
    wait_for("the manager knows", lambda: not served.copy().held)
    assert served.add("c2", pod).exit == 0
    assert given


def test_a_node_that_is_a_container_starts_a_new_life_in_the_same_boot(served: Node, pod_ns: MakePod) -> None:
    """F012: the boot id is the host's and does not change; /run, links and namespaces of the node are gone all the same."""
    for number in range(5):
        assert served.add(f"c{number}", pod_ns()).exit == 0
    served.settled()
    served.agent.kill()
    lapse(served)
    for link in served.links():
        served.ns.run("ip", "link", "del", link["ifname"])
    for file in served.run_dir.iterdir():
        if file.is_file() or file.is_socket():
            file.unlink()

    served.start_agent()
    wait_for("nothing is held", lambda: not served.copy().held)

    served.ready()
    for number in range(5):
        assert served.add(f"d{number}", pod_ns()).exit == 0
    served.settled()
    assert len(served.copy().held) == 5


def test_a_torn_tail_is_cut(served: Node, pod_ns: MakePod) -> None:
    assert served.add("c1", pod_ns()).exit == 0
    served.settled()
    served.agent.kill()
    life = served.state().header.life
    with (served.run_dir / "journal").open("ab") as file:
        file.write(b"\x20\x00\x00\x00\x12")

    served.start_agent()

    assert served.state().header.life == life
    assert served.add("c2", pod_ns()).exit == 0
    assert {key[1] for key in served.state().attachments} == {"c1", "c2"}


def test_a_full_run_directory_is_code_11_and_no_pod_is_kept_from_going(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    assert served.add("c1", pod).exit == 0
    served.settled()
    limited = served.agent.running
    assert limited is not None
    size = (served.run_dir / "journal").stat().st_size
    limit(limited.pid, str(size))

    code, sentence = error(served.add("c2", pod_ns()))

    assert code == 11
    assert "journal" in sentence
    assert served.delete("c1", pod).exit == 0
    wait_for("no link is left", lambda: not served.links())
    limit(limited.pid, "unlimited")
    assert served.add("c3", pod_ns()).exit == 0


def limit(pid: int, size: str) -> None:
    """The soft limit of a file's size, in bytes: what a full file system does to the journal."""
    subprocess.run(["prlimit", "--pid", str(pid), f"--fsize={size}:"], check=True)


# --- agent away --------------------------------------------------------------------------------------------------------------


def test_a_del_without_an_agent_is_spooled_and_done_at_its_start(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    assert served.add("c1", pod).exit == 0
    served.settled()
    served.agent.kill()

    assert served.delete("c1", pod).exit == 0
    assert error(served.add("c2", pod_ns()))[0] == 11

    served.start_agent()
    wait_for("nothing is left", lambda: not served.links() and not served.state().attachments)
    wait_for("the manager knows", lambda: not served.copy().held)


def test_what_went_without_a_word_is_found_by_the_look_at_the_kernel_at_start(served: Node, make_ns: Callable[[str], Namespace]) -> None:
    pod = make_ns("pod")
    assert served.add("c1", pod).exit == 0
    served.settled()
    served.agent.kill()
    sandbox = served.state().attachments["podnet", "c1", "eth0"].place.sandbox
    for link in served.links():
        served.ns.run("ip", "link", "del", link["ifname"])
    assert sandbox == pod.path

    served.start_agent()
    assert set(served.state().attachments) == {("podnet", "c1", "eth0")}

    assert error(served.cni("CHECK", "c1", pod, config={"prevResult": {"cniVersion": "1.1.0"}}))[0] == 111
    assert served.add("c1", pod).exit == 0


# --- what the runtime reads, and what the host does ----------------------------------------------------------------------------


def test_the_runtimes_list_stays_when_the_agent_stops_and_an_earlier_one_is_named(served: Node, pod_ns: MakePod) -> None:
    """F007: with the list gone a runtime falls back to another network; with an earlier one our plugin is never called."""
    bin_dir, conf_dir = served.directory / "bin", served.directory / "net.d"
    conf_dir.mkdir()
    (conf_dir / "87-other.conflist").write_text("{}")
    done = served.command("install", "--network", "podnet", "--cni-bin-dir", str(bin_dir), "--cni-conf-dir", str(conf_dir))
    assert done.returncode == 0, done.stderr
    listed = conf_dir / "05-fabricmgr-podnet.conflist"
    wait_for("the list is written", listed.exists)
    document = json.loads(listed.read_text())
    assert (document["cniVersion"], document["cniVersions"][-1], document["name"]) == ("1.0.0", "1.1.0", "podnet")
    assert served.command("status").returncode == 0
    plugin = bin_dir / "fabricmgr-cni"
    assert "10.77" in addresses(served.add("c1", pod_ns(), plugin=plugin))[0]

    assert served.agent.kill(signal.SIGTERM) == 0
    assert listed.exists()
    assert error(served.add("c2", pod_ns(), plugin=plugin))[0] == 11

    served.start_agent()
    served.ready()
    (conf_dir / "04-other.conflist").write_text("{}")
    shown = served.command("status")
    assert shown.returncode == 1
    assert str(conf_dir / "04-other.conflist") in shown.stdout
    assert served.command("uninstall").returncode == 0
    assert not listed.exists()
    assert not plugin.exists()
    assert {file.name for file in conf_dir.iterdir()} == {"04-other.conflist", "87-other.conflist"}


def test_a_foreign_forward_drop_is_named_with_table_and_chain(served: Node) -> None:
    """F005: another engine sets the forward policy to drop. Never silence; STATUS fails where nobody evicts for it."""
    assert served.cni("STATUS", "").exit == 0
    served.ns.run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")

    shown = served.command("status")

    assert shown.returncode == 1
    assert "chain FORWARD of table ip filter drops" in shown.stdout
    assert error(served.cni("STATUS", ""))[0] == 51
    served.want(structs.replace(PODNET, status_policy="lenient"))
    wait_for("a lenient network does not fail for it", lambda: served.cni("STATUS", "").exit == 0)


def test_what_is_taken_away_behind_the_agent_is_put_back(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    given = result(served.add("c1", pod))
    served.ns.run("ip", "address", "flush", "dev", "fm-podnet")
    served.ns.run("nft", "delete table inet fabricmgr-podnet")

    assert served.cni("STATUS", "").exit == 0

    assert pod.ping("169.254.1.1")
    assert served.cni("CHECK", "c1", pod, config={"prevResult": given}).exit == 0


def test_masquerade_is_on_where_network_or_configuration_asks(served: Node, pod_ns: MakePod) -> None:
    assert "masquerade" not in served.ns.run("nft", "list ruleset").stdout

    assert served.add("c1", pod_ns(), config={"ipMasq": True}).exit == 0

    assert "masquerade" in served.ns.run("nft", "list ruleset").stdout


def test_metrics_are_served_where_a_setting_says(served: Node, pod_ns: MakePod) -> None:
    assert served.add("c1", pod_ns()).exit == 0
    served.agent.kill(signal.SIGTERM)
    served.agent = Process([*served.agent.words, "--metrics-listen=127.0.0.1:9465"], served.agent.log)
    served.start_agent()

    page = served.ns.run("curl", "-s", "http://127.0.0.1:9465/metrics").stdout

    assert "fabricmgr_agent_attachments 1.0" in page
    assert 'fabricmgr_agent_blocks{state="confirmed"} 2.0' in page
    assert "404" in served.ns.run("curl", "-si", "http://127.0.0.1:9465/").stdout


def test_the_agent_stays_small(served: Node, pod_ns: MakePod) -> None:
    for number in range(10):
        assert served.add(f"c{number}", pod_ns()).exit == 0
    served.settled()

    said = served.status()

    assert said is not None
    assert said.rss_kib < 60 * 1024


def test_a_certificate_is_renewed_when_it_is_due_and_calls_go_on(here: Node, pod_ns: MakePod) -> None:
    path = here.data_dir / "identity.json"
    about = msgspec_json.decode(path.read_bytes())
    path.write_bytes(msgspec_json.encode({**about, "renew_at": "2020-01-01T00:00:00Z"}))
    before = (here.data_dir / "node.pem").read_text()

    here.start_agent()
    wait_for("it is renewed", lambda: (here.data_dir / "node.pem").read_text() != before)

    here.ready()
    assert here.add("c1", pod_ns()).exit == 0
    here.settled()
    assert (here.data_dir / "node.pem").stat().st_mode & 0o777 == 0o600
    assert msgspec_json.decode(path.read_bytes())["renew_at"] > about["renew_at"]


def test_an_answer_that_was_lost_holds_no_address_for_ever(here: Node, pod_ns: MakePod) -> None:
    """The manager gets the question, answers after ADD gave up, and hears that nobody wants the address."""
    here.want(structs.replace(PODNET, decide=Decide.MANAGER))
    here.start_agent()
    wait_for("the network is made", lambda: "fm-podnet" in here.ns.run("ip", "link").stdout)
    manager, pod = here.manager.running, pod_ns()
    assert manager is not None
    manager.send_signal(signal.SIGSTOP)

    printed = here.add("c1", pod)

    assert error(printed)[0] == 11
    assert 4 < printed.seconds < 7
    assert here.delete("c1", pod).exit == 0
    manager.send_signal(signal.SIGCONT)
    wait_for("the question is settled", lambda: not here.state().attachments and not here.copy().central, 20)
    here.settled()
    assert not here.copy().held
    assert here.add("c1", pod).exit == 0


def test_by_a_setting_pods_are_accepted_where_another_drops_and_the_rule_goes_with_the_setting(here: Node) -> None:
    """F005: an accept for our bridge in the very chain that drops, by a documented setting."""
    here.ns.run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    plain = here.agent
    here.agent = Process([*plain.words, "--accept-forward=on"], plain.log)
    here.start_agent()
    here.ready()

    assert here.command("status").returncode == 0
    assert here.cni("STATUS", "").exit == 0
    assert "fm-podnet" in here.ns.run("nft", "list chain ip filter FORWARD").stdout

    assert here.agent.kill(signal.SIGTERM) == 0
    here.agent = plain
    here.start_agent()
    assert "fm-podnet" not in here.ns.run("nft", "list chain ip filter FORWARD").stdout


def test_one_network_that_cannot_be_made_keeps_no_other_from_it(here: Node, pod_ns: MakePod) -> None:
    here.ns.run("ip", "link", "add", "taken", "type", "veth", "peer", "name", "taken2")
    other = structs.replace(PODNET, name="other", pools=["more"], prefixes=["10.88.0.0/16", "2001:db8:88::/112"], bridge="taken")
    here.want(other, PODNET)
    here.start_agent()
    here.ready()

    assert here.add("c1", pod_ns()).exit == 0

    assert error(here.add("c1", pod_ns(), config={"name": "other"}))[0] == 110
    assert error(here.cni("STATUS", "", config={"name": "other"}))[0] == 51
    assert here.cni("STATUS", "").exit == 0
    assert "no bridge" in here.command("status").stdout


def test_a_network_goes_with_its_last_pod(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    given = addresses(served.add("c1", pod))
    served.want(structs.replace(PODNET, name="new"))
    wait_for("it is wanted no more", lambda: (said := served.status()) and "podnet" not in {each.name for each in said.networks})
    assert error(served.add("c2", pod_ns()))[0] == 7

    assert served.ns.ping(given[0].partition("/")[0])
    assert served.delete("c1", pod).exit == 0

    wait_for("its bridge is gone", lambda: "fm-podnet" not in served.ns.run("ip", "link").stdout, 25)
