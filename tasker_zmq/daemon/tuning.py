"""Settings to the numbers that the stages are given, and to sockets."""

import zmq

from tasker_zmq.daemon.strategies import strategy_of
from tasker_zmq.domain.breaker import BreakerLimits
from tasker_zmq.domain.template import Backoff, StepDefaults
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.protocol import topics
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.settings import Settings
from tasker_zmq.transport.sockets import DaemonSockets, SocketEndpoints, SocketLimits


def limits_of(settings: Settings) -> WireLimits:
    """What is refused before it is parsed."""
    return WireLimits(
        result_bytes_max=settings.limits.result_bytes_max,
        steps_bytes_max=settings.limits.steps_bytes_max,
        command_bytes_max=settings.limits.command_bytes_max,
        nesting_max=settings.limits.nesting_max,
        batch_steps_max=settings.limits.batch_steps_max,
    )


def defaults_of(settings: Settings) -> StepDefaults:
    """What a step gets whose template says nothing; one limit for both dialects."""
    return StepDefaults(
        retry_limit=settings.retry.limit,
        backoff=Backoff(
            base_ms=settings.retry.backoff_base_ms, ceiling_ms=settings.retry.backoff_ceiling_ms
        ),
        timeout_seconds=settings.timeouts.step_seconds,
    )


def tuning_of(settings: Settings) -> Tuning:
    """The numbers of a tick."""
    return Tuning(
        limits=limits_of(settings),
        batch_size=settings.dispatch.batch_size,
        credit_factor=settings.dispatch.credit_factor,
        jitter=settings.retry.jitter,
        losses_max=settings.retry.losses_max,
        breaker=BreakerLimits(
            failures=settings.breaker.failures,
            cool_off_seconds=settings.breaker.cool_off_seconds,
            cool_off_seconds_max=settings.breaker.cool_off_seconds_max,
        ),
        heartbeat_interval_seconds=settings.heartbeat.interval_seconds,
        session_suspect_seconds=settings.heartbeat.suspect_seconds,
        session_dead_seconds=settings.heartbeat.dead_seconds,
        timeout_grace_seconds=settings.timeouts.grace_seconds,
        completion_grace_seconds=settings.timeouts.completion_grace_seconds,
        sweep_seconds=settings.dispatch.sweep_seconds,
        strategy=strategy_of(settings.dispatch.strategy),
        core_lease_seconds=settings.heartbeat.core_lease_seconds,
        step_defaults=defaults_of(settings),
    )


def sockets_of(settings: Settings, context: "zmq.Context[zmq.Socket[bytes]]") -> DaemonSockets:
    """The sockets of data and commands, bound."""
    return DaemonSockets(
        context,
        SocketEndpoints(
            steps=settings.endpoints.steps,
            results=settings.endpoints.results,
            commands=settings.endpoints.commands,
            results_connect=settings.endpoints.results_connect,
        ),
        topics=[topics.subscription(topic) for topic in topics.RESULT_TOPICS],
        limits=SocketLimits(
            result_bytes_max=settings.limits.result_bytes_max,
            command_bytes_max=settings.limits.command_bytes_max,
            step_queue_hwm=settings.limits.step_queue_hwm,
            result_queue_hwm=settings.limits.result_queue_hwm,
        ),
    )
