"""A runtime's side of a list of plugins, as small as a test needs it: ADD in order, DEL in reverse (CNI SPEC 1.1.0, section 3).

Each plugin is handed the result of those before it, and of `runtimeConfig` the capabilities that it declares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.netns import Namespace
from tests.support.shims import Printed
from tests.support.subjects import Subject, succeeded


@dataclass
class Chain:
    """A list whose first plugin is the subject's own; the others lie in a folder."""

    subject: Subject
    network: str
    behind: Sequence[Mapping[str, Any]]
    folder: Path
    runtime_config: Mapping[str, Any]
    version: str = "1.0.0"

    def add(self, container: str, pod: Namespace) -> dict[str, Any]:
        """The result of the whole list."""
        result: dict[str, Any] = {}
        for plugin, config in self._all():
            prev = {"prevResult": result} if result else {}
            result = succeeded(self._call("ADD", plugin, {**config, **prev}, container, pod.path))
        return result

    def delete(self, container: str, netns: str, result: Mapping[str, Any] | None = None) -> list[Printed]:
        """Every answer, the last plugin's first. Without a result it is what a runtime sends that forgot it."""
        prev = {"prevResult": result} if result else {}
        return [self._call("DEL", plugin, {**config, **prev}, container, netns) for plugin, config in reversed(self._all())]

    def check(self, container: str, pod: Namespace, result: Mapping[str, Any]) -> list[Printed]:
        return [self._call("CHECK", plugin, {**config, "prevResult": result}, container, pod.path) for plugin, config in self._all()]

    def _call(self, command: str, plugin: Path, config: Mapping[str, Any], container: str, netns: str) -> Printed:
        return replace(self.subject, plugin=plugin).call(command, config, container, netns)

    def _all(self) -> list[tuple[Path, dict[str, Any]]]:
        own = self.subject.own_keys(self.network)
        found: list[tuple[Path, dict[str, Any]]] = []
        for config in (own, *self.behind):
            plugin = self.subject.plugin if config is own else self.folder / str(config["type"])
            declared = config.get("capabilities", {})
            given = {name: value for name, value in self.runtime_config.items() if declared.get(name)}
            whole = {"cniVersion": self.version, "name": self.network, **config, **({"runtimeConfig": given} if given else {})}
            found.append((plugin, {key: value for key, value in whole.items() if key != "capabilities"}))
        return found
