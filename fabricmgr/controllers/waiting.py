"""Services that wait for an address, in groups that wait for the same: where the first of a group gets none, no other of it does."""

from collections.abc import Hashable

Key = tuple[str, str]
"""Namespace and name."""


class Waiting:
    """Those that came first are first."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, dict[Key, None]] = {}
        self._of: dict[Key, Hashable] = {}

    def __len__(self) -> int:
        return len(self._of)

    def put(self, key: Key, group: Hashable) -> None:
        """It waits for what its group waits for; once more changes nothing."""
        if self._of.get(key, self) != group:
            self.drop(key)
            self._of[key] = group
            self._groups.setdefault(group, {})[key] = None

    def drop(self, key: Key) -> Key | None:
        """It waits no more. Gives back who comes next: that one may get something too."""
        group = self._of.pop(key, self)
        members = self._groups.get(group, {})
        members.pop(key, None)
        if not members:
            self._groups.pop(group, None)
        return next(iter(members), None)

    def firsts(self) -> list[Key]:
        """One of each group."""
        return [next(iter(members)) for members in self._groups.values()]
