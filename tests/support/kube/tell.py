"""`make story`: bring a cluster up, tell the whole story on it, and take it down. 0 only if all of it held."""

import signal
import sys
import time

from tests.support.kube.cluster import cluster
from tests.support.kube.options import Options
from tests.support.kube.stage import stage
from tests.support.tiers import kubernetes

BEGAN = time.monotonic()


def say(sentence: str) -> None:
    """With a time, but for headings."""
    if sentence.startswith("\n"):
        print(f"\n{sentence.strip()}\n", flush=True)
    else:
        print(f"[{time.monotonic() - BEGAN:6.1f} s] {sentence}", flush=True)


def interrupt(*_: object) -> None:
    """Once: what is taken down is taken down to its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    if reason := kubernetes():
        print(f"The story can't be told here: {reason}", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with cluster(Options(), say) as made, stage(made, say) as story:
            story.tell()
    except KeyboardInterrupt:
        say("interrupted; all of it is gone")
        return 130
    except AssertionError as wrong:
        say(f"the story ends here: {wrong}")
        return 1
    say("all of it held; cluster, programs, namespaces and files are gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
