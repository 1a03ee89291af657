"""Memory of connections that have ended goes back to the system.

TLS keeps a buffer of 256 KiB for each connection. glibc puts these between what lives longer, so that free memory lies in pieces: a
thousand connections opened and closed again and again took some 20 MiB more each time, none of it a leak."""

import ctypes
from collections.abc import Callable

from fabricmgr.loop import Outcome

PERIOD = 5.0  # seconds between looks
ENOUGH = 100  # connections that must have ended for a trim, which takes a millisecond or two


def trimmer() -> Callable[[], object]:
    """glibc's malloc_trim(3), which gives back every free page of every arena; nothing under another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: None) if trim is None else lambda: trim(0)


class Memory:
    """ended: how many connections have ended since the process began. give_back: what `trimmer` gives."""

    def __init__(self, ended: Callable[[], int], give_back: Callable[[], object]) -> None:
        self._ended = ended
        self._give_back = give_back
        self._seen = ended()
        self._again = False

    async def once(self) -> Outcome:
        """Give back, if many connections have ended since the last time; and at the look after that, for what was still in use then."""
        ended = self._ended()
        many = ended - self._seen >= ENOUGH
        if not many and not self._again:
            return Outcome.done("few connections have ended")
        self._again = many
        self._seen = ended
        self._give_back()
        return Outcome.done("gave back the memory of connections that ended")
