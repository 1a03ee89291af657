"""What the story needs before it begins, and what is put right after it, however far it got."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.kube import manifests, remains
from tests.support.kube.cluster import Cluster, Say
from tests.support.kube.story import Story
from tests.support.kube.subscriber import Heard, subscribed
from tests.support.node_agent import wait_for
from tests.support.segment_client import segment_client

POOL = "story"
OUTSIDE = ("192.168.250.160/28", "2001:db8:250::2000/124")  # on the nodes' segment
OFTEN = ("AddressAllocated", "AddressReleased")  # two for each pod: not said one by one


@contextmanager
def stage(made: Cluster, say: Say) -> Iterator[Story]:
    """A cluster that is followed, a pool for Services, a client, a subscriber. Afterwards nothing of it is left, however far it got."""

    def heard(each: Heard) -> None:
        if each.name not in OFTEN:
            say(f"      event {each.position}: {each.name}({', '.join(each.args)})")

    with ExitStack() as stack:
        follow(made)
        pool = {"name": POOL, "purpose": "Service", "cooldown_seconds": 0, "prefixes": [{"prefix": each} for each in OUTSIDE]}
        made.manager.ask("POST", "/v1/pools", pool)
        stack.callback(made.manager.ask, "DELETE", f"/v1/pools/{POOL}")
        client = stack.enter_context(segment_client(made))
        remains.note(made.folder, client.where.name)
        events = stack.enter_context(subscribed(made.manager, heard))
        story = Story(made, client, events, say)
        stack.callback(clear, story)
        yield story


def follow(made: Cluster) -> None:
    """With the rights of our roles, and no others."""
    manifests.grant(made)

    def followed() -> bool:
        api = made.manager.ask("GET", "/v1/clusters/default")["api"]
        return bool(api["state"] == "following" and api["progressed_at"])

    wait_for("the cluster is followed", followed, 30)


def clear(story: Story) -> None:
    """Whatever a story that ended early had killed or made."""
    made = story.made
    if made.manager.process.running is None:
        made.manager.start()
    for node in made.nodes:
        if node.agent.running is None:
            node.start_agent()
    made.kubectl("delete", "namespace", story.space, "--ignore-not-found", "--timeout=100s")
    wait_for("the manager holds nothing", lambda: not made.manager.allocations(namespace=story.space), 30)
