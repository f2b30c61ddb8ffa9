"""The keyword arguments of the clients, the same for both."""

from typing import TypedDict


class SubmitOptions(TypedDict, total=False):
    """How a task is to be made; two submissions with one `identity` are one task."""

    identity: str | None
    priority: int
    tags: tuple[str, ...]
    reason: str | None
    correlation_id: str | None


class ListOptions(TypedDict, total=False):
    """Which tasks; what is left out does not matter. At most `limit`, 50 unless told."""

    namespace: str | None
    name: str | None
    state: str | None
    limit: int
    before_task_id: int | None
