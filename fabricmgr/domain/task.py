"""What takes long: asked for now, done a step at a time, looked at or called off in between."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from fabricmgr.domain.events import Json


class TaskKind(Enum):
    """What there is to do. Each has its steps in services.tasks."""

    REMOVE_NODE = "remove_node"
    DELETE_POOL = "delete_pool"
    EXPAND_POOL = "expand_pool"


class TaskState(Enum):
    """cancelling: to be called off before its next step. failed: ended by an error, which its result tells."""

    NEW = "new"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (TaskState.CANCELLED, TaskState.COMPLETED, TaskState.FAILED)


@dataclass(frozen=True)
class Request:
    """As the client sent it, for whoever looks at the task. body: JSON text, "" for none."""

    method: str
    uri: str
    body: str = ""


@dataclass(frozen=True)
class TaskResult:
    """What the request would have been answered with, had the client waited."""

    status: int
    body: Mapping[str, Json] | None = None


@dataclass(frozen=True)
class TaskDraft:
    kind: TaskKind
    name: str
    arguments: Mapping[str, Json]
    request: Request


@dataclass(frozen=True)
class Task:
    """percent: of the steps, how much is done. by: who asked."""

    id: UUID
    kind: TaskKind
    name: str
    arguments: Mapping[str, Json]
    request: Request
    by: str
    state: TaskState
    percent: int
    result: TaskResult | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    version: int

    @property
    def error(self) -> str:
        """Why it failed, in a sentence; "" where it did not."""
        body = None if self.result is None else self.result.body
        error = None if body is None else body.get("error")
        told = error.get("@Message.ExtendedInfo") if isinstance(error, dict) else None
        first = told[0] if isinstance(told, list) and told else None
        return str(first.get("Message", "")) if isinstance(first, dict) else ""
