"""What a command carries beside its payload; read with `codec.decode_if_given`, and only then made.

Source: docs/PROTOCOL.md, "The envelope".
"""

from typing import Annotated, Final

import msgspec

ATTEMPTS_MAX: Final = 1_000
BACKOFF_MS_MAX: Final = 3_600_000


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How whoever sent a command sends it again, under the same id, while no answer comes.

    The first wait is `backoff_ms`; each further one is `backoff_multiplier` times as long, up to
    `backoff_ms_max`. After `max_attempts` sendings nothing more is sent.
    """

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=ATTEMPTS_MAX)] = ATTEMPTS_MAX
    backoff_ms: Annotated[int, msgspec.Meta(ge=1, le=BACKOFF_MS_MAX)] = 3_000
    backoff_multiplier: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    backoff_ms_max: Annotated[int, msgspec.Meta(ge=1, le=BACKOFF_MS_MAX)] = 15_000


class WorkerRouting(msgspec.Struct, frozen=True, kw_only=True):
    """Which workers a command is about: its id or name, their namespaces, how one is chosen."""

    target_worker_id: int | str | None = None
    namespace_requirements: tuple[str, ...] = ()
    selection_strategy: str | None = None
    connection_preference: str | None = None


class AuditContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a command is part of, and on whose behalf; kept with its audit rows."""

    batch_id: str | None = None
    task_id: int | None = None
    initiated_by: str | None = None
    processing_core_id: str | None = None


class CoreAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A living core, and where its commands are taken."""

    core_id: str
    commands: str
