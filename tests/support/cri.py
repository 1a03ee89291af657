"""A small client of the Container Runtime Interface, v1: pod sandboxes alone, as a kubelet asks for them.

The messages are declared here with the field numbers of the public interface, those fields alone that a pod network's test needs;
unknown fields are skipped by protobuf.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "runtime.v1"

Fields = Mapping[str, tuple[int, str]]

# Each field: its number, and its type: a scalar or a message of this table, [] for many.
MESSAGES: Mapping[str, Fields] = {
    "Nothing": {},
    "SandboxRef": {"pod_sandbox_id": (1, "string")},
    "Metadata": {"name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string"), "attempt": (4, "uint32")},
    "PortMapping": {"protocol": (1, "int32"), "container_port": (2, "int32"), "host_port": (3, "int32"), "host_ip": (4, "string")},
    "LinuxConfig": {"cgroup_parent": (1, "string")},
    "SandboxConfig": {
        "metadata": (1, "Metadata"),
        "hostname": (2, "string"),
        "port_mappings": (5, "[]PortMapping"),
        "linux": (8, "LinuxConfig"),
    },
    "RunRequest": {"config": (1, "SandboxConfig")},
    "Address": {"ip": (1, "string")},
    "SandboxNetwork": {"ip": (1, "string"), "additional_ips": (2, "[]Address")},
    "SandboxStatus": {"id": (1, "string"), "metadata": (2, "Metadata"), "state": (3, "int32"), "network": (5, "SandboxNetwork")},
    "StatusOfSandbox": {"status": (1, "SandboxStatus")},
    "Sandbox": {"id": (1, "string"), "metadata": (2, "Metadata"), "state": (3, "int32")},
    "SandboxList": {"items": (1, "[]Sandbox")},
    "Condition": {"type": (1, "string"), "status": (2, "bool"), "reason": (3, "string"), "message": (4, "string")},
    "RuntimeStatus": {"conditions": (1, "[]Condition")},
    "StatusOfRuntime": {"status": (1, "RuntimeStatus")},
}
METHODS = {
    "Status": ("Nothing", "StatusOfRuntime"),
    "RunPodSandbox": ("RunRequest", "SandboxRef"),
    "StopPodSandbox": ("SandboxRef", "Nothing"),
    "RemovePodSandbox": ("SandboxRef", "Nothing"),
    "PodSandboxStatus": ("SandboxRef", "StatusOfSandbox"),
    "ListPodSandbox": ("Nothing", "SandboxList"),
}
SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}


def message_classes() -> dict[str, Any]:
    """A protobuf class for each message of the table."""
    file = FileDescriptorProto(name="fabricmgr_test_cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            plain = kind.removeprefix("[]")
            label = FieldDescriptorProto.LABEL_OPTIONAL if plain == kind else FieldDescriptorProto.LABEL_REPEATED
            declared = message.field.add(name=field, number=number, label=label)
            if plain in SCALARS:
                declared.type = SCALARS[plain]
            else:
                declared.type, declared.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = message_classes()


class CriError(Exception):
    """The runtime refused; the text is what a kubelet would show its user."""


@dataclass(frozen=True)
class Port:
    """A port of the host that leads to a port of the pod, over TCP."""

    host: int
    pod: int


class Cri:
    """One runtime, by its socket. Calls may come from several threads at once."""

    def __init__(self, socket: str, cgroup_parent: str, timeout: float = 60) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}")
        self.cgroup_parent = cgroup_parent
        self.timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.channel.close()

    def call(self, method: str, **fields: Any) -> Any:
        asked, given = METHODS[method]
        call = self.channel.unary_unary(
            f"/{PACKAGE}.RuntimeService/{method}",
            request_serializer=CLASSES[asked].SerializeToString,
            response_deserializer=CLASSES[given].FromString,
        )
        try:
            return call(CLASSES[asked](**fields), timeout=self.timeout)
        except grpc.RpcError as error:
            raise CriError(f"{method}: {error.details()}") from error

    def unready(self) -> list[str]:
        """What the runtime still waits for; empty when it and its network are ready."""
        conditions = self.call("Status").status.conditions
        return [f"{each.type}: {each.message or each.reason}" for each in conditions if not each.status]

    def run(self, name: str, namespace: str = "default", uid: str = "", ports: Iterable[Port] = ()) -> str:
        """Start a sandbox; its id. CNI ADD happens within."""
        config = {
            "metadata": {"name": name, "namespace": namespace, "uid": uid or str(uuid4()), "attempt": 0},
            "hostname": name,
            "port_mappings": [{"container_port": port.pod, "host_port": port.host} for port in ports],
            "linux": {"cgroup_parent": self.cgroup_parent},
        }
        return str(self.call("RunPodSandbox", config=config).pod_sandbox_id)

    def stop(self, sandbox: str) -> None:
        """End the sandbox. CNI DEL happens within, at each call."""
        self.call("StopPodSandbox", pod_sandbox_id=sandbox)

    def remove(self, sandbox: str) -> None:
        """Forget the sandbox. CNI DEL happens once more."""
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox)

    def sandboxes(self) -> list[str]:
        return [str(item.id) for item in self.call("ListPodSandbox").items]

    def addresses(self, sandbox: str) -> list[str]:
        """The addresses the network plugin gave, the first one first."""
        network = self.call("PodSandboxStatus", pod_sandbox_id=sandbox).status.network
        return [str(network.ip), *(str(more.ip) for more in network.additional_ips)]
