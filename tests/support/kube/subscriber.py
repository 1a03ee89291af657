"""A subscriber to Redfish events beside a cluster: a program of its own, in the namespace from which the manager is reached.

    python -m tests.support.kube.subscriber URL DATA_DIR

prints a line of JSON for each thing that the stream says: its id, when it came, how often a stream was opened, and the event records.
"""

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2

from deploy.demo.processes import TIED
from tests.support.event_reader import EventReader
from tests.support.node_agent import ROOT, wait_for
from tests.support.site import SiteManager

Json = dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """One event as a subscriber has it. position: the id of the stream's event, which it resumes behind. at: seconds of the clock."""

    position: int
    at: float
    record: Json

    @property
    def name(self) -> str:
        """The message without registry and version."""
        return str(self.record["MessageId"]).rpartition(".")[2]

    @property
    def args(self) -> list[str]:
        return [str(each) for each in self.record.get("MessageArgs", [])]


@dataclass
class Subscriber:
    """What was heard so far. opened: how many streams it took. on: called for each event, by another thread."""

    on: Callable[[Heard], None] = lambda _: None
    heard: list[Heard] = field(default_factory=list)
    opened: int = 0

    def read(self, lines: IO[str]) -> None:
        for line in lines:
            found = json.loads(line)
            self.opened = found["opened"]
            for record in found["events"]:
                each = Heard(int(found["id"]), found["at"], record)
                self.heard.append(each)
                self.on(each)

    def about(self, *args: str) -> list[str]:
        """Names of the events whose arguments begin so, in their order."""
        return [each.name for each in [*self.heard] if each.args[: len(args)] == list(args)]

    @property
    def last(self) -> int:
        """The newest position heard; 0 for none."""
        return self.heard[-1].position if self.heard else 0


@contextmanager
def subscribed(manager: SiteManager, on: Callable[[Heard], None] = lambda _: None) -> Iterator[Subscriber]:
    """A subscriber whose stream is open."""
    made = Subscriber(on)
    words = [sys.executable, "-m", "tests.support.kube.subscriber", manager.url, str(manager.data_dir)]
    # A session of its own: Ctrl-C is for whoever tells the story.
    process = subprocess.Popen([*TIED, *manager.ns.command(*words)], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    assert process.stdout is not None
    thread = threading.Thread(target=made.read, args=(process.stdout,), daemon=True)
    thread.start()
    try:
        wait_for("the stream of events is open", lambda: made.opened, 20)
        yield made
    finally:
        process.kill()
        process.wait()
        thread.join(5)
        process.stdout.close()


class Told:
    """Prints each thing once, however often it is called: a stream that is opened again has not said anything new yet."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, reader: EventReader) -> None:
        new = reader.seen[self.count :]
        self.count = len(reader.seen)
        for position, payload in new or [("0", {"Events": []})]:
            told = {"id": position, "at": time.time(), "opened": reader.opened, "events": payload["Events"]}
            print(json.dumps(told), flush=True)


def main(url: str, data_dir: str) -> int:
    folder = Path(data_dir)
    trust = ssl.create_default_context(cafile=folder / "ca.pem")
    login = ("admin", (folder / "initial-admin-password").read_text().strip())

    def client() -> httpx2.Client:
        return httpx2.Client(base_url=url, verify=trust, auth=login, trust_env=False, timeout=12)

    EventReader(client, on=Told()).start()
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
