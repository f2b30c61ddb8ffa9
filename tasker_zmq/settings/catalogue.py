"""Every setting there is; defaults, help, reference page and JSON Schema are drawn from here."""

import difflib
from typing import Final

from tasker_zmq.settings.sections import (
    AuditLevel,
    ExecutorKind,
    LogFormat,
    LogLevel,
    ManagementMode,
)
from tasker_zmq.settings.setting import Kind, Setting

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30

CATALOGUE: Final[tuple[Setting, ...]] = (
    Setting(
        key="environment", kind=Kind.NAME, default="development",
        description="Which section of the settings file, and of task templates, applies.",
        effect="Set it per deployment, by --env or TASKER_ENV: development, test, production.",
    ),
    Setting(
        key="core_id", kind=Kind.NAME, default="core-1",
        description="The name of this daemon among those that share the database.",
        effect="Give each daemon its own; a restarted one keeps its name and takes its work up.",
    ),
    Setting(
        key="database.url", kind=Kind.DATABASE_URL, default=None,
        fallback_variables=("DATABASE_URL",), also_called=("database_url", "database.uri"),
        description="The PostgreSQL to use; without one, an embedded server is started.",
        effect="Set it wherever the work matters. Secrets fit TASKER_DATABASE_URL_FILE.",
    ),
    Setting(
        key="database.data_dir", kind=Kind.PATH, default=None,
        default_shown="$XDG_DATA_HOME/tasker-zmq/postgres (~/.local/share/tasker-zmq/postgres)",
        description="Where the embedded PostgreSQL keeps its data; without effect with a URL.",
        effect="Point it at a disk with room, or at a fresh folder to begin again.",
    ),
    Setting(
        key="database.statement_timeout_seconds", kind=Kind.SECONDS, default=10.0,
        between=(0.1, _HOUR),
        description="A statement that runs longer is ended by PostgreSQL.",
        effect="Raise it if ticks fail on a slow disk; a higher one hides slow plans longer.",
    ),
    Setting(
        key="database.lock_timeout_seconds", kind=Kind.SECONDS, default=2.0,
        between=(0.01, 5 * _MINUTE),
        description="A statement that waits longer for a lock is ended by PostgreSQL.",
        effect="Raise it only while long migrations run beside the daemon.",
    ),
    Setting(
        key="database.connect_timeout_seconds", kind=Kind.SECONDS, default=5.0,
        between=(1, 5 * _MINUTE),
        description="How long one attempt to connect to PostgreSQL may take.",
        effect="Raise it for a server far away; lower it to hear sooner that there is none.",
    ),
    Setting(
        key="endpoints.steps", kind=Kind.ENDPOINT, default="tcp://127.0.0.1:5555",
        description="Where the daemon publishes batches of steps.",
        effect="Change it on port conflicts. Anything but loopback or ipc needs --insecure.",
    ),
    Setting(
        key="endpoints.results", kind=Kind.ENDPOINT, default="tcp://127.0.0.1:5556",
        description="Where the daemon collects partial results and batch completions.",
        effect="Change it on port conflicts. Anything but loopback or ipc needs --insecure.",
    ),
    Setting(
        key="endpoints.commands", kind=Kind.ENDPOINT, default="tcp://127.0.0.1:5557",
        description="Where the daemon takes commands from workers and clients.",
        effect="Change it on port conflicts; workers then need the same in worker.commands.",
    ),
    Setting(
        key="endpoints.health", kind=Kind.ENDPOINT, default="tcp://127.0.0.1:5558",
        description="Where the daemon says how it is, whatever else it is doing.",
        effect="Change it on port conflicts. Anything but loopback or ipc needs --insecure.",
    ),
    Setting(
        key="endpoints.results_connect", kind=Kind.ENDPOINTS, default=(),
        also_called=("results.connect",),
        description="Result sockets that workers bind; the daemon connects to each.",
        effect="Only for older workers that bind. Comma-separated in a variable.",
    ),
    Setting(
        key="endpoints.advertise", kind=Kind.NAME, default=None,
        default_shown="the addresses as they are bound",
        description="The host under which workers on other machines reach this daemon's sockets.",
        effect="Set it where the sockets are bound to tcp://0.0.0.0, which is no address to go to.",
    ),
    Setting(
        key="endpoints.insecure", kind=Kind.FLAG, default=False,
        description="Allow sockets that others can reach, although there are no keys yet.",
        effect="Only on a network where everyone may run and read the work.",
    ),
    Setting(
        key="dispatch.batch_size", kind=Kind.WHOLE, default=10, between=(1, 1_000),
        description="At most this many steps travel together to one worker.",
        effect="Raise it for many short steps; lower it to spread few long ones.",
    ),
    Setting(
        key="dispatch.credit_factor", kind=Kind.NUMBER, default=2.0, between=(1, 100),
        description="A worker holds at most its concurrency times this many steps, or, if they "
        "end at once, what it ends in a quarter of a second.",
        effect="Raise it if workers wait between batches; each step held may have to move.",
    ),
    Setting(
        key="dispatch.strategy", kind=Kind.NAME, default="least_loaded",
        description="How a session is chosen among those that can run a step and have room.",
        effect="least_loaded, round_robin, priority (as pools say), or one of your own.",
    ),
    Setting(
        key="dispatch.viable_steps_max", kind=Kind.WHOLE, default=20_000,
        between=(1, 1_000_000),
        description="At most this many steps ready to be sent are kept in memory.",
        effect="Raise it only if a core with many workers runs dry between sweeps.",
    ),
    Setting(
        key="dispatch.legacy_workers", kind=Kind.FLAG, default=True,
        description="Serve workers that subscribe to `steps` without registering.",
        effect="Turn it off when all workers register: such workers can lose work till timeouts.",
    ),
    Setting(
        key="dispatch.sweep_seconds", kind=Kind.SECONDS, default=5.0, between=(0.1, _HOUR),
        description="How often the database is searched for work that no message announced; "
        "with nothing to do a fifth as often, but every 25 s if this is not more.",
        effect="Lower it if work appears by other roads than this daemon.",
    ),
    Setting(
        key="tick.messages_max", kind=Kind.WHOLE, default=500, between=(1, 100_000),
        description="At most this many received messages are recorded in one transaction.",
        effect="Raise it for throughput, lower it for shorter transactions.",
    ),
    Setting(
        key="tick.commands_max", kind=Kind.WHOLE, default=500, between=(1, 100_000),
        description="At most this many commands are carried out in one transaction.",
        effect="Raise it if submissions come in floods, lower it for shorter transactions.",
    ),
    Setting(
        key="limits.result_bytes_max", kind=Kind.BYTES, default=_MIB, between=(_KIB, _GIB),
        description="A larger result is refused unread.",
        effect="Better keep large outputs elsewhere and return their address.",
    ),
    Setting(
        key="limits.steps_bytes_max", kind=Kind.BYTES, default=4 * _MIB, between=(_KIB, _GIB),
        description="A batch grows no larger than this on the wire.",
        effect="Raise it if one step with its parents' results does not fit.",
    ),
    Setting(
        key="limits.command_bytes_max", kind=Kind.BYTES, default=_MIB, between=(_KIB, _GIB),
        description="A larger command is refused unread.",
        effect="Raise it if task contexts or templates are larger.",
    ),
    Setting(
        key="limits.nesting_max", kind=Kind.WHOLE, default=64, between=(8, 256),
        description="JSON nested deeper is refused.",
        effect="Raise it only for data that really is that deep.",
    ),
    Setting(
        key="limits.batch_steps_max", kind=Kind.WHOLE, default=1_000, between=(1, 100_000),
        description="A message about more steps than this is refused.",
        effect="Keep it at or above dispatch.batch_size.",
    ),
    Setting(
        key="limits.inbox_messages_max", kind=Kind.WHOLE, default=50_000,
        between=(100, 10_000_000),
        description="At most this many received messages wait for the engine.",
        effect="Raise it if floods are longer than the database is fast; it costs memory.",
    ),
    Setting(
        key="limits.inbox_bytes_max", kind=Kind.BYTES, default=64 * _MIB,
        between=(_MIB, 64 * _GIB),
        description="At most this many bytes of received messages wait for the engine.",
        effect="Raise it with limits.inbox_messages_max; it is memory of the daemon.",
    ),
    Setting(
        key="limits.step_queue_hwm", kind=Kind.WHOLE, default=1_000, between=(1, 1_000_000),
        description="ZeroMQ's high-water mark of the steps socket, in messages a peer.",
        effect="A fuse, not flow control (credits are): rarely worth a change.",
    ),
    Setting(
        key="limits.result_queue_hwm", kind=Kind.WHOLE, default=1_000, between=(1, 1_000_000),
        description="ZeroMQ's high-water mark of the results socket, in messages a peer.",
        effect="A fuse; raise it if workers send results in large floods.",
    ),
    Setting(
        key="heartbeat.interval_seconds", kind=Kind.SECONDS, default=2.0,
        between=(0.05, 5 * _MINUTE),
        description="How often workers and daemon tell each other that they live.",
        effect="Raise it for very many workers; keep it well below heartbeat.suspect_seconds.",
    ),
    Setting(
        key="heartbeat.suspect_seconds", kind=Kind.SECONDS, default=6.0, between=(0.1, _HOUR),
        description="A worker silent for so long gets no new work until it is heard again.",
        effect="Raise it if healthy workers pause for long (garbage collection, full machines).",
    ),
    Setting(
        key="heartbeat.dead_seconds", kind=Kind.SECONDS, default=10.0, between=(0.2, _HOUR),
        also_called=("heartbeat.lease_seconds",),
        description="A worker silent for so long has lost its steps to others.",
        effect="Lower it to recover sooner, raise it to run fewer steps twice.",
    ),
    Setting(
        key="heartbeat.core_lease_seconds", kind=Kind.SECONDS, default=10.0,
        between=(0.5, _HOUR), also_called=("core_lease_seconds", "lease_seconds"),
        description="A daemon silent for so long has lost its tasks to other daemons.",
        effect="Lower it to fail over sooner, raise it where the database stalls.",
    ),
    Setting(
        key="retry.limit", kind=Kind.WHOLE, default=3, between=(0, 1_000),
        also_called=("retry.max_attempts", "retry.retry_limit", "retry.max_retries",
                     "retry.attempts"),
        description="Retries after the first try, for steps whose template gives none.",
        effect="Better set it per step: total tries are one more than this. What is published "
        "already keeps what it had.",
    ),
    Setting(
        key="retry.backoff_base_ms", kind=Kind.MILLISECONDS, default=1_000,
        between=(0, 3_600_000),
        description="The wait before the first retry; it doubles with each one.",
        effect="Better set it per step; raise it where what fails needs time to recover. What is "
        "published already keeps what it had.",
    ),
    Setting(
        key="retry.backoff_ceiling_ms", kind=Kind.MILLISECONDS, default=30_000,
        between=(0, 86_400_000), also_called=("retry.max_backoff_ms",),
        description="No wait before a retry is longer, unless template or worker ask for it.",
        effect="Raise it for steps that may wait for hours. What is published already keeps what "
        "it had.",
    ),
    Setting(
        key="retry.jitter", kind=Kind.NUMBER, default=0.5, between=(0, 1),
        description="The part of each wait that is left to chance: 0 none, 1 all of it.",
        effect="Lower it for predictable waits; many retries then come at once.",
    ),
    Setting(
        key="retry.losses_max", kind=Kind.WHOLE, default=3, between=(0, 1_000),
        also_called=("max_losses", "retry.max_losses"),
        description="How often a step may be lost with its worker; one loss more ends it.",
        effect="Lower it where a step may kill its workers, raise it where machines come and go.",
    ),
    Setting(
        key="breaker.failures", kind=Kind.WHOLE, default=10, between=(0, 10_000),
        description="After so many failures in a row, retryable ones, timeouts or losses, a worker "
        "gets no more steps of that handler for a while.",
        effect="Lower it if bad workers spoil too many attempts. 0 turns it off.",
    ),
    Setting(
        key="breaker.cool_off_seconds", kind=Kind.SECONDS, default=10.0, between=(0.1, _HOUR),
        description="How long that is the first time; then one step is tried.",
        effect="Raise it where what fails needs time to recover.",
    ),
    Setting(
        key="breaker.cool_off_seconds_max", kind=Kind.SECONDS, default=300.0,
        between=(0.1, _DAY),
        description="It doubles each time the one step fails too, up to this.",
        effect="Lower it to find out sooner that a worker can do it again.",
    ),
    Setting(
        key="timeouts.step_seconds", kind=Kind.SECONDS, default=300.0, between=(0.1, 30 * _DAY),
        description="How long a step may run whose template gives no timeout.",
        effect="Better set it per step. What is published already keeps what it had.",
    ),
    Setting(
        key="timeouts.grace_seconds", kind=Kind.SECONDS, default=5.0, between=(0, _HOUR),
        description="Added to a step's timeout before the daemon gives the step up.",
        effect="Raise it where results travel slowly.",
    ),
    Setting(
        key="timeouts.completion_grace_seconds", kind=Kind.SECONDS, default=5.0,
        between=(0, _HOUR),
        description="How long after its last partial result a batch's completion may come.",
        effect="Raise it if batches are found incomplete that were only late.",
    ),
    Setting(
        key="drain.grace_seconds", kind=Kind.SECONDS, default=30.0, between=(0, _DAY),
        description="How long a stopping daemon waits for results of steps already sent.",
        effect="Keep it below what the supervisor allows before it kills.",
    ),
    Setting(
        key="readers.threads", kind=Kind.WHOLE, default=2, between=(1, 64),
        description="Threads with read-only database sessions, for slow questions.",
        effect="Raise it if GetTask and ListTasks wait for each other.",
    ),
    Setting(
        key="audit.level", kind=Kind.CHOICE, default=AuditLevel.ALL, choices=AuditLevel,
        description="Which commands are written down: all, those that change something, or none.",
        effect="changes if questions are too many to be kept; off where nobody asks who did what.",
    ),
    Setting(
        key="audit.envelope_bytes_max", kind=Kind.BYTES, default=16 * _KIB, between=(0, _MIB),
        description="Commands up to this size are kept to the byte, and can be replayed.",
        effect="0 keeps no contents, if they must not lie in the database a second time.",
    ),
    Setting(
        key="commands.management", kind=Kind.CHOICE, default=ManagementMode.LOCAL,
        choices=ManagementMode,
        description="Whether commands may drain and stop this daemon and its workers.",
        effect="local: if endpoints.commands is loopback or ipc. off leaves it to signals.",
    ),
    Setting(
        key="call.functions", kind=Kind.FUNCTIONS, default=(),
        description="What the command Call may call: names, each with a module and a function.",
        effect="Name only what everyone who reaches endpoints.commands may run, on anything.",
    ),
    Setting(
        key="call.timeout_seconds", kind=Kind.SECONDS, default=10.0, between=(0.01, _HOUR),
        description="How long a called function is waited for; it may run on afterwards.",
        effect="Raise it for functions that take longer; eight run at a time.",
    ),
    Setting(
        key="templates.folder", kind=Kind.PATH, default="config/tasks",
        description="The templates that `workflows validate` and `workflows publish` take when no "
        "path is given.",
        effect="Point it at your own workflows.",
    ),
    Setting(
        key="log.level", kind=Kind.CHOICE, default=LogLevel.INFO, choices=LogLevel,
        description="The least important event that is still written.",
        effect="debug while looking for a fault.",
    ),
    Setting(
        key="log.format", kind=Kind.CHOICE, default=LogFormat.TEXT, choices=LogFormat,
        description="One line an event for people, or one JSON object for machines.",
        effect="json wherever logs are collected.",
    ),
    Setting(
        key="worker.commands", kind=Kind.ENDPOINTS, default=("tcp://127.0.0.1:5557",),
        fallback_variables=("TASKER_COMMANDS",),
        description="The endpoints.commands of daemons on one database that a worker serves.",
        effect="One that lives is enough: it tells of the others. Comma-separated in a variable.",
    ),
    Setting(
        key="worker.concurrency", kind=Kind.WHOLE, default=4, between=(1, 10_000),
        also_called=("worker.max_workers", "worker.max_concurrent_steps"),
        description="How many steps one worker process runs at a time.",
        effect="Raise it for steps that wait, keep it near the cores for steps that compute.",
    ),
    Setting(
        key="worker.executor", kind=Kind.CHOICE, default=ExecutorKind.THREAD,
        choices=ExecutorKind,
        description="Run handlers on threads, in processes or on an asyncio loop.",
        effect="process for steps that compute or may crash, async for coroutines.",
    ),
    Setting(
        key="worker.drain_seconds", kind=Kind.SECONDS, default=30.0, between=(0, _DAY),
        description="How long a stopping worker lets running steps end.",
        effect="Keep it below what the supervisor allows before it kills.",
    ),
)  # fmt: skip

BY_KEY: Final = {setting.key: setting for setting in CATALOGUE}
SECTIONS: Final = tuple(dict.fromkeys(key.split(".")[0] for key in BY_KEY if "." in key))


def nearest_key(word: str) -> str | None:
    """The setting that `word` was meant to be, if one is near enough."""
    names = {key: key for key in BY_KEY}
    names |= {alias: setting.key for setting in CATALOGUE for alias in setting.also_called}
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.75)
    return names[close[0]] if close else None
