"""The whole story on a real cluster, told as it happens: from `kubectl apply` to addresses that are all back.

Each chapter says what it does and holds to what it claims: an AssertionError ends the story with the claim that was not so.
"""

import json
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from fabricmgr.kube.write import FINALIZER
from tests.support.kube.cluster import Cluster, Json, Say, addresses
from tests.support.kube.node import KubeNode
from tests.support.kube.options import PODS
from tests.support.kube.subscriber import Subscriber
from tests.support.node_agent import wait_for
from tests.support.postgres import values
from tests.support.segment_client import Client

YAML = Path(__file__).parent / "story.yaml"
APP = "web"
FAILOVER = 5.0  # seconds; a test of its own holds to less
PLAIN = ("WorkloadDegraded", "WorkloadAvailable")


@dataclass(frozen=True)
class Past:
    """A pod that ran. at: a moment when it did."""

    pod: str
    node: str
    addresses: tuple[str, ...]
    at: datetime


class Asking:
    """A client that asks the external address again and again, by a thread."""

    def __init__(self, made: Cluster, client: Client, address: str) -> None:
        self.answers: list[str] = []
        self._ends = threading.Event()
        self._ask = partial(made.curl, client.where, address, 80)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ends.is_set():
            self.answers.append(self._ask())

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{sum(map(bool, self.answers))} of {len(self.answers)} requests were answered meanwhile"


@dataclass
class Story:
    """client: on the nodes' segment, where it knows no way but layer 2. events: what a subscriber heard. space: a namespace of Kubernetes.

    past: every pod there was, by name. outside: the Service's addresses."""

    made: Cluster
    client: Client
    events: Subscriber
    say: Say
    space: str = field(default_factory=lambda: f"story-{uuid4().hex[:6]}")
    past: dict[str, Past] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    # --- chapters, in their order ---

    def apply(self) -> None:
        """An administrator applies a Deployment of 6 replicas and a Service of type LoadBalancer"""
        self.say(f"kubectl apply -f {YAML.name}")
        self.made.kubectl("create", "namespace", self.space)
        self.made.kubectl("apply", "-n", self.space, "-f", str(YAML))
        pods = self.running(6)
        for pod in pods:
            self.say(f"{pod['metadata']['name']}  {pod['spec']['nodeName']}  {', '.join(addresses(pod))}")
        nodes = sorted(pod["spec"]["nodeName"] for pod in pods)
        self.holds("three pods run on each node", nodes == ["node1"] * 3 + ["node2"] * 3)

    def reach(self) -> None:
        """Every pod reaches those on the other node"""
        pods = self.pods()
        pairs = [(a, b, each) for a in pods for b in pods if self.apart(a, b) for each in addresses(b)]
        wrong = [(name(a), each) for a, b, each in pairs if self.made.curl(a, each) != name(b)]
        self.holds(f"{len(pairs)} requests from pod to pod, over both families, were answered by whom they were meant for", not wrong)

    def serve(self) -> None:
        """A client on the nodes' segment, which knows no way to a pod, asks the external address"""
        ingress = wait_for("the Service has an address of each family", lambda: two(self.ingress()), 20)
        self.outside = [each["ip"] for each in ingress]
        self.say(f"kubectl get service: EXTERNAL-IP {', '.join(self.outside)}")
        for address in self.outside:
            self.say(f"ip neigh, at the client: {address} is at the MAC of {self.announcer(address).name}")
            answered = self.answering(address)
            nodes = {self.past[each].node for each in answered}
            self.holds(f"{address}: {len(answered)} pods answered curl, on both nodes", len(nodes) == 2)

    def hear(self) -> None:
        """A subscriber to Redfish events has heard of all this, in its order"""
        self.rollouts("WorkloadProgressing", "WorkloadComplete")
        self.holds("the Service: both addresses were assigned", self.heard("ServiceAddressAssigned", f"{self.space}/{APP}") == 2)
        given = {each.args[0] for each in self.events.heard if each.name == "AddressAllocated"}
        self.holds("each pod: its addresses were allocated", given >= {each for past in self.past.values() for each in past.addresses})

    def scale(self) -> None:
        """Scaled up to 9, then down to 4"""
        self.kubectl("scale", f"deployment/{APP}", "--replicas=9")
        self.holds("9 pods run", len(self.running(9)) == 9)
        self.kubectl("scale", f"deployment/{APP}", "--replicas=4")
        kept = {name(pod) for pod in self.running(4)}
        gone = [past for past in self.past.values() if past.pod not in kept]
        self.holds(f"the addresses of the {len(gone)} pods that went were given back", self.returned(gone))

    def roll(self) -> None:
        """A new version is rolled out while the client goes on asking"""
        before = {name(pod) for pod in self.pods()}
        with Asking(self.made, self.client, self.outside[0]) as asking:
            self.kubectl("set", "env", f"deployment/{APP}", "VERSION=2")
            after = {name(pod) for pod in self.running(4)}
        self.holds(f"{asking}", asking.answers and all(asking.answers))
        self.holds("every pod is another one now", not before & after)
        self.holds("the external address leads to the new ones", self.answering(self.outside[0]) <= after)
        self.rollouts(*["WorkloadProgressing", "WorkloadComplete"] * 2)

    def kill_agent(self) -> None:
        """The agent that announces the external address is killed (kill -9); pods of its node go on, one is deleted; it comes back"""
        address, pods = self.outside[0], self.pods()
        node = self.announcer(address)
        mine = [pod for pod in pods if pod["spec"]["nodeName"] == node.name]
        here, gone = mine[0], mine[-1]
        there = next(pod for pod in pods if self.apart(here, pod))
        before = set(node.state().attachments)
        self.say(f"kill -9: the agent of {node.name}")
        killed = time.monotonic()
        node.agent.kill()
        took = self.client.back(address, killed)
        self.holds(f"{address} answers again after {took:.1f} s, announced by {self.announcer(address).name}", took < FAILOVER)
        self.holds(f"a pod of {node.name} reaches one of the other node", self.made.curl(here, addresses(there)[0]) == name(there))
        self.holds("and the other way round", self.made.curl(there, addresses(here)[0]) == name(here))
        self.kubectl("delete", "pod", name(gone), "--timeout=60s")
        self.holds("the runtime could take the pod down: the deletion waits for the agent", before <= set(node.state().attachments))
        node.start_agent()
        self.say("the agent is back")
        after = {name(pod) for pod in self.running(4)}
        self.holds("a successor runs", name(gone) not in after)
        lost = before - set(node.state().attachments)
        self.holds("the agent knows what it knew, but for the pod that was deleted", len(lost) == 1)
        self.holds("whose addresses were given back", self.returned([self.past[name(gone)]]))
        self.holds("the subscriber heard who announces the address now", self.heard("ServiceAddressMoved", f"{self.space}/{APP}"))

    def kill_manager(self) -> None:
        """The manager is killed (kill -9) during a scale-up to 8"""
        streams, heard = self.events.opened, self.events.last
        self.kubectl("scale", f"deployment/{APP}", "--replicas=8")
        wait_for("the fifth pod is there", lambda: len(self.pods()) > 4, 20)
        self.made.manager.process.kill()
        self.say(f"killed; the subscriber's last event is {heard}")
        self.holds("the external address answers meanwhile", self.answering(self.outside[0]))
        self.holds("the scale-up is completed without it: nodes hold addresses", len(self.ready(8)) == 8)
        self.made.manager.start()
        self.say("the manager is back")
        self.holds("it knows all 8 pods", len(self.running(8)) == 8)
        wait_for("the subscriber has a stream again", lambda: self.events.opened > streams, 30)
        self.complete()

    def delete(self) -> None:
        """All is deleted: nothing remains"""
        self.kubectl("delete", "-f", str(YAML), "--timeout=100s")
        self.made.kubectl("delete", "namespace", self.space, "--timeout=100s")
        self.holds("API server: no object, so no finalizer of ours", not self.finalizers())
        wait_for("no link of a pod is left", lambda: not any(node.links() for node in self.made.nodes), 20)
        wait_for("no journal has an attachment", lambda: not any(node.state().attachments for node in self.made.nodes), 60)
        self.holds("journals: no pod is attached", True)
        wait_for("kube-proxy has taken its rules away", lambda: not self.in_kernel(), 20)
        self.holds("kernel: no link, no route, no nftables rule has an address of theirs", not self.in_kernel())
        wait_for("the manager holds nothing", lambda: not self.made.manager.allocations(), 20)
        wait_for("no row is left", lambda: not self.rows(), 20)
        self.holds("database: nothing is held, and nothing remembered of them but history", not self.rows())
        named = f"{self.space}/{APP}"
        self.holds("the subscriber heard that the Deployment was deleted", self.heard("WorkloadDeleted", "Deployment", named) == 1)
        self.holds("and that the Service's addresses were withdrawn", self.heard("ServiceAddressWithdrawn", named) == 2)

    def remember(self) -> None:
        """Who had which address, and when"""
        for past in self.past.values():
            for address in past.addresses:
                then = [each for each in self.who_had(address, past.at) if each["about"].get("pod") == past.pod]
                assert then, f"history does not say that {past.pod} had {address} at {past.at}"
                self.say(f"{address:<18} {past.pod}  {past.node}  {clock(then[0]['from_at'])} to {clock(then[0]['until_at'])}")
                assert (then[0]["node"], then[0]["until_at"] is None) == (past.node, False), then
        self.holds(f"{len(self.past)} pods and what they had are in the history", len(self.past) >= 16)
        self.complete()

    # --- how it is told ---

    def tell(self) -> None:
        """From the first chapter to the last."""
        for number, chapter in enumerate(CHAPTERS, 1):
            self.say(f"\n{number}. {chapter.__doc__}")
            chapter(self)

    def holds(self, claim: str, so: object) -> None:
        assert so, f"not so: {claim}"
        self.say(f"  ok: {claim}")

    def kubectl(self, *words: str) -> None:
        self.say(f"kubectl {' '.join(each for each in words if not each.startswith('--timeout'))}")
        self.made.kubectl(*words, "-n", self.space)

    # --- what Kubernetes shows ---

    def pods(self) -> list[Json]:
        """Those that are there to stay."""
        return [pod for pod in self.made.pods(APP, self.space) if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, count: int) -> list[Json]:
        """So many, all of them ready, and no other any more."""
        self.made.kubectl("rollout", "status", f"deployment/{APP}", "-n", self.space, "--timeout=120s")
        wait_for(f"there are {count} pods and no others", lambda: len(self.made.pods(APP, self.space)) == count, 60)
        return self.pods()

    def running(self, count: int) -> list[Json]:
        """So many, whose addresses are ours, and are those that the manager has for them."""
        pods = self.ready(count)
        shown = {(name(pod), pod["spec"]["nodeName"], each) for pod in pods for each in addresses(pod)}
        wait_for("the manager has what the pods have", lambda: self.held() == shown, 30)
        for pod in pods:
            self.past.setdefault(name(pod), Past(name(pod), pod["spec"]["nodeName"], tuple(addresses(pod)), datetime.now(UTC)))
        self.holds(f"{count} pods are Running with addresses of {' and '.join(PODS.values())}, as the manager has them", len(pods) == count)
        return pods

    def apart(self, a: Json, b: Json) -> bool:
        return bool(a["spec"]["nodeName"] != b["spec"]["nodeName"])

    def ingress(self) -> list[Json]:
        found: list[Json] = self.made.get("service", APP, "-n", self.space)["status"]["loadBalancer"].get("ingress", [])
        return found

    def answering(self, address: str) -> set[str]:
        """Pods that answered one of twenty requests from outside."""
        wait_for(f"{address} answers", lambda: self.made.curl(self.client.where, address, 80), 30)
        return {answer for answer in (self.made.curl(self.client.where, address, 80) for _ in range(20)) if answer}

    def announcer(self, address: str) -> KubeNode:
        """The node whose MAC answers for an address on the segment."""
        wait_for(f"{address} answers", lambda: self.client.curl(address), 30)
        mac = json.loads(self.client.where.run("ip", "-j", "neigh", "show", "to", address).stdout)[0]["lladdr"]
        return next(node for node in self.made.nodes if mac in node.run("ip", "link", "show", "uplink").stdout)

    def finalizers(self) -> list[str]:
        services = self.made.items("services", "-A")
        return [name(each) for each in services if FINALIZER in each["metadata"].get("finalizers", [])]

    # --- what the manager has ---

    def held(self) -> set[tuple[str, str, str]]:
        found = self.made.manager.allocations(namespace=self.space)
        return {(each["pod"], each["node"], its["address"]) for each in found if each["pod"] for its in each["addresses"]}

    def who_had(self, address: str, at: datetime) -> list[Json]:
        query = f"address={address}&at={at.isoformat().replace('+00:00', 'Z')}"
        found: list[Json] = self.made.manager.ask("GET", f"/v1/history?{query}")["items"]
        return found

    def returned(self, pasts: Sequence[Past]) -> bool:
        """Within half a minute."""
        gone = {each.pod for each in pasts}
        return bool(wait_for("addresses are given back", lambda: not gone & {pod for pod, _, _ in self.held()}, 30))

    def rows(self) -> dict[str, int]:
        """Tables that say anything of the story's namespace still."""
        tables = ("kube_namespace where name", "kube_pod where namespace", "workload where namespace", "service where namespace")
        asked = [f"select count(*) from {each} = '{self.space}'" for each in tables]
        return {each: count for each, count in zip(tables, values(self.made.manager.database, *asked), strict=True) if count}

    # --- what the kernels have ---

    def in_kernel(self) -> set[str]:
        """Addresses of the story that a node's routes or rules still name; prefixes of blocks are a node's own."""
        used = {each for past in self.past.values() for each in past.addresses} | set(self.outside)
        shown = "\n".join(self.kernel(node) for node in self.made.nodes)
        return {each for each in used if re.search(rf"(?<![\w.:]){re.escape(each)}(?![\w.:/])", shown)}

    def kernel(self, node: KubeNode) -> str:
        asked = (("ip", "route", "show", "table", "all"), ("ip", "-6", "route", "show", "table", "all"), ("nft", "list", "ruleset"))
        return "\n".join(node.run(*words).stdout for words in asked)

    # --- what was heard ---

    def heard(self, event: str, *args: str) -> int:
        """How often, within ten seconds if it has not come yet."""
        with suppress(AssertionError):
            wait_for(event, lambda: event in self.events.about(*args), 10)
            time.sleep(0.5)  # the second one of two families
        return self.events.about(*args).count(event)

    def rollouts(self, *events: str) -> None:
        """What was heard of the Deployment's rollouts, in its order; that replicas were short for a while on a slow machine is left out."""
        about = ("Deployment", f"{self.space}/{APP}")
        wait_for(f"the subscriber hears {events[-1]}", lambda: self.events.about(*about).count(events[-1]) == events.count(events[-1]), 30)
        found = self.events.about(*about)
        self.holds(f"it heard {', '.join(events)}, in this order", [each for each in found if each not in PLAIN] == list(events))
        self.holds("and that the Deployment became available in between", found[1] == "WorkloadAvailable")

    def complete(self) -> None:
        """Whether the subscriber has each event that the log has, once and in order, since its stream began."""
        first = self.events.heard[0].position
        last = self.made.manager.ask("GET", "/v1/events?limit=1")["last"]
        wait_for("the subscriber has heard the newest event", lambda: self.events.last >= last, 20)
        heard = list(dict.fromkeys(each.position for each in [*self.events.heard]))
        ids = [each.record["EventId"] for each in self.events.heard]
        whole = heard == list(range(first, heard[-1] + 1)) and len(ids) == len(set(ids))
        self.holds(
            f"the subscriber has all events from {first} to {heard[-1]}, each once and in order; {self.events.opened} streams", whole
        )


CHAPTERS = (
    Story.apply,
    Story.reach,
    Story.serve,
    Story.hear,
    Story.scale,
    Story.roll,
    Story.kill_agent,
    Story.kill_manager,
    Story.delete,
    Story.remember,
)


def name(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def two(found: list[Json]) -> list[Json]:
    return found if len(found) == 2 else []


def clock(text: str | None) -> str:
    """The time of day, in UTC."""
    return text[11:19] if text else "now"
