"""The settings as values: one frozen section per concern, in the units their names end with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class ExecutorKind(StrEnum):
    """Where a worker runs its handlers."""

    THREAD = "thread"
    PROCESS = "process"
    ASYNC = "async"


class LogLevel(StrEnum):
    """The least important event that is still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """One line for people, or one JSON object a line for machines."""

    TEXT = "text"
    JSON = "json"


class AuditLevel(StrEnum):
    """Which commands are kept: all, those that change something, or none."""

    ALL = "all"
    CHANGES = "changes"
    OFF = "off"


class ManagementMode(StrEnum):
    """Who may end daemons and workers by commands: nobody, who is on this machine, anyone."""

    OFF = "off"
    LOCAL = "local"
    ON = "on"


def default_data_dir(variables: Mapping[str, str]) -> Path:
    """Where the embedded PostgreSQL lives; by the XDG rules, where a relative path is ignored."""
    share = Path(variables.get("XDG_DATA_HOME", ""))
    if not share.is_absolute():
        home = variables.get("HOME")
        share = (Path(home) if home else Path.home()) / ".local" / "share"
    return share / "tasker-zmq" / "postgres"


def _process_data_dir() -> Path:
    return default_data_dir(os.environ)


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Which PostgreSQL to use, and how long to wait for it."""

    url: str | None = field(default=None, repr=False)  # None: embedded; may hold a password
    data_dir: Path = field(default_factory=_process_data_dir)
    statement_timeout_seconds: float = 10.0
    lock_timeout_seconds: float = 2.0
    connect_timeout_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """The sockets a daemon binds, and the results sockets it connects to."""

    steps: str = "tcp://127.0.0.1:5555"
    results: str = "tcp://127.0.0.1:5556"
    commands: str = "tcp://127.0.0.1:5557"
    health: str = "tcp://127.0.0.1:5558"
    results_connect: tuple[str, ...] = ()
    advertise: str | None = None
    insecure: bool = False


@dataclass(frozen=True, kw_only=True)
class DispatchSettings:
    """How steps become batches."""

    batch_size: int = 10
    credit_factor: float = 2.0
    viable_steps_max: int = 20_000
    strategy: str = "least_loaded"
    legacy_workers: bool = True
    sweep_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class TickSettings:
    """How much one transaction takes on."""

    messages_max: int = 500
    commands_max: int = 500


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What is refused before it is parsed, and how much may wait in memory."""

    result_bytes_max: int = 1 << 20
    steps_bytes_max: int = 4 << 20
    command_bytes_max: int = 1 << 20
    nesting_max: int = 64
    batch_steps_max: int = 1_000
    inbox_messages_max: int = 50_000
    inbox_bytes_max: int = 64 << 20
    step_queue_hwm: int = 1_000
    result_queue_hwm: int = 1_000


@dataclass(frozen=True, kw_only=True)
class HeartbeatSettings:
    """When silence becomes suspicion, and suspicion death."""

    interval_seconds: float = 2.0
    suspect_seconds: float = 6.0
    dead_seconds: float = 10.0
    core_lease_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """What a step gets whose template says nothing about retries."""

    limit: int = 3  # retries after the first try: total tries are one more
    backoff_base_ms: int = 1_000
    backoff_ceiling_ms: int = 30_000
    jitter: float = 0.5
    losses_max: int = 3


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """When a worker gets no more steps of a handler with which it only fails."""

    failures: int = 10  # in a row; 0: never
    cool_off_seconds: float = 10.0
    cool_off_seconds_max: float = 300.0


@dataclass(frozen=True, kw_only=True)
class TimeoutSettings:
    """How long a step may run, and what is added before anyone concludes from silence."""

    step_seconds: float = 300.0
    grace_seconds: float = 5.0
    completion_grace_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class DrainSettings:
    """How long a stopping daemon waits for results on their way."""

    grace_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """The read-only sessions that answer slow questions."""

    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What is kept of commands."""

    level: AuditLevel = AuditLevel.ALL
    envelope_bytes_max: int = 16 << 10


@dataclass(frozen=True, kw_only=True)
class CommandSettings:
    """What commands may do."""

    management: ManagementMode = ManagementMode.LOCAL


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What Call may call; `functions` are entries like `name=module:function`."""

    functions: tuple[str, ...] = ()
    timeout_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class TemplateSettings:
    """Where task templates lie."""

    folder: Path = Path("config/tasks")


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.TEXT


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How a `tasker-worker` runs."""

    commands: tuple[str, ...] = ("tcp://127.0.0.1:5557",)
    concurrency: int = 4
    executor: ExecutorKind = ExecutorKind.THREAD
    drain_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, checked; `load` makes them, tests may make them by hand."""

    environment: str = "development"
    core_id: str = "core-1"
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    endpoints: EndpointSettings = field(default_factory=EndpointSettings)
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    tick: TickSettings = field(default_factory=TickSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    heartbeat: HeartbeatSettings = field(default_factory=HeartbeatSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    readers: ReaderSettings = field(default_factory=ReaderSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    commands: CommandSettings = field(default_factory=CommandSettings)
    call: CallSettings = field(default_factory=CallSettings)
    templates: TemplateSettings = field(default_factory=TemplateSettings)
    log: LogSettings = field(default_factory=LogSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)

    def value_of(self, key: str) -> object:
        """The value under a dotted key of the catalogue, such as `dispatch.batch_size`."""
        value: object = self
        for part in key.split("."):
            value = getattr(value, part)
        return value
