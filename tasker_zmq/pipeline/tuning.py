"""The numbers that stages work with; given by the composition root, read from nowhere."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tasker_zmq.domain.breaker import BreakerLimits
from tasker_zmq.domain.losses import LOSSES_MAX
from tasker_zmq.domain.selection import Strategy, least_loaded
from tasker_zmq.domain.template import StepDefaults
from tasker_zmq.protocol.limits import WireLimits

Chance = Callable[[], float]  # in [0, 1)
UuidMaker = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Counts, bytes, seconds; see docs/SETTINGS.md for what each is for."""

    limits: WireLimits = field(default_factory=WireLimits)
    batch_size: int = 10
    credit_factor: float = 2.0
    jitter: float = 0.5
    heartbeat_interval_seconds: float = 2.0
    session_suspect_seconds: float = 6.0
    session_dead_seconds: float = 10.0
    session_ping_seconds: float = 2.0
    session_bytes_max: int = 16 << 20
    losses_max: int = LOSSES_MAX
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    timeout_grace_seconds: float = 5.0
    completion_grace_seconds: float = 5.0
    sweep_seconds: float = 5.0
    sweep_tasks_max: int = 500
    sweep_steps_max: int = 2_000
    recover_max: int = 500
    dispatch_max: int = 500
    core_lease_seconds: float = 10.0
    step_defaults: StepDefaults = field(default_factory=StepDefaults)
    strategy: Strategy = least_loaded
    protocol_version: str = "2.0"
