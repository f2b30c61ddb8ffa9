"""What a command's envelope asks for: how long its sender waits, whom it is for, where it belongs.

Source: docs/PROTOCOL.md, "The envelope".
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection

from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain.urgency import Urgency, priority_number, urgency
from tasker_zmq.errors import ProtocolError
from tasker_zmq.pipeline.letters import CORE
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import NULL, Command, Peer, PublishTemplates
from tasker_zmq.protocol.envelope import AuditContext, CoreAddress, RetryPolicy, WorkerRouting
from tasker_zmq.store import workers as store

TIMEOUT_MS_MAX: Final = 7 * 86_400_000
CORES_SHOWN_MAX: Final = 10

Kind = TypeVar("Kind")


def check(command: Command) -> None:
    """Refuse what nobody could act upon: a patience, a priority, a retry policy that make none."""
    metadata = command.metadata
    timeout_ms = metadata.timeout_ms
    if timeout_ms is not None and not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise CommandRefusedError(
            "invalid", f"metadata.timeout_ms is {timeout_ms}; wanted: 1 to {TIMEOUT_MS_MAX}"
        )
    given_priority(command)
    try:
        codec.decode_if_given(metadata.retry_policy, RetryPolicy)
    except ProtocolError as error:
        raise CommandRefusedError("invalid", f"metadata.retry_policy: {error.detail}") from None
    if command.worker_routing != NULL:
        routing(command)


def refuse_routing(command: Command) -> None:
    """Refuse a routing where no task is made or run: passed over, it would mislead its sender."""
    if command.worker_routing != NULL and routing(command) not in {None, WorkerRouting()}:
        raise CommandRefusedError(
            "unroutable",
            f"worker_routing means nothing for {command.command_type[:60]}",
            hint="it is for commands that make or run tasks; others name workers in their data",
        )


def routing(command: Command) -> WorkerRouting | None:
    """Which workers the envelope asks for; raises CommandRefusedError for what makes no sense."""
    try:
        return codec.decode_if_given(command.worker_routing, WorkerRouting)
    except ProtocolError as error:
        raise CommandRefusedError("invalid", f"worker_routing: {error.detail}") from None


def given_priority(command: Command) -> int | None:
    """The number that the envelope's priority means; None when it has none."""
    return number_of(command.metadata.priority)


def number_of(priority: int | str | None) -> int | None:
    """What a priority means; raises CommandRefusedError for one that means nothing."""
    if priority is None:
        return None
    try:
        return priority_number(priority)
    except ValueError as error:
        raise CommandRefusedError("invalid", str(error)) from None


def line(command: Command) -> Urgency:
    """In which line it waits for the engine; `check` has passed it."""
    return urgency(given_priority(command) or 0)


def refuse_overdue(asked: Asked, now: datetime) -> None:
    """Refuse what has waited here for longer than its sender waits.

    The daemon's own clock counts, from the arrival: what the sender's clock says is no measure.
    """
    timeout_ms = asked.command.metadata.timeout_ms
    if timeout_ms is None or asked.received_at is None:
        return
    waited = now - asked.received_at
    if waited > timedelta(milliseconds=timeout_ms):
        waited_ms = round(waited / timedelta(milliseconds=1))
        raise CommandRefusedError(
            "timed_out",
            f"it waited for {waited_ms} ms, its sender for {timeout_ms}: it is not carried out",
            hint="send it again; if that happens often, the daemon has too much to do",
        )


def is_for(target: Peer | None, core_id: str) -> bool:
    """Whether the core of this name is meant; whoever names nobody means whom he reaches."""
    return target is None or (target.type == CORE and target.id == core_id)


def refuse_elsewhere(connection: Connection, target: Peer, *, now: datetime) -> None:
    """Tell the sender where the core is that he means, or that there is none."""
    if target.type != CORE:
        raise CommandRefusedError(
            "unknown_target",
            f"the target is a '{target.type[:40]}'; commands are carried out by cores",
            hint="wanted: {type: core, id: NAME}, or no target",
        )
    living = store.living_cores(connection, now=now)
    if target.id not in living:
        names = ", ".join(sorted(living)[:CORES_SHOWN_MAX])
        raise CommandRefusedError(
            "unknown_target",
            f"no core '{target.id[:80]}' is running",
            hint=f"running: {names}" if names else "",
        )
    there = CoreAddress(core_id=target.id, commands=living[target.id])
    raise CommandRefusedError(
        "elsewhere",
        f"this is for core '{target.id}', and was not carried out here",
        hint=f"send it to {there.commands}",
        core=there,
    )


def payload_of(asked: Asked, kind: type[Kind]) -> Kind:
    """The command's payload, in the envelope's namespace; raises CommandRefusedError."""
    try:
        content = codec.decode_data(asked.command.payload.data, kind)
    except ProtocolError as error:
        raise CommandRefusedError("invalid", error.detail) from None
    return in_namespace(content, asked.command.metadata.namespace)


def in_namespace(content: Kind, namespace: str | None) -> Kind:
    """A payload, or a part of one, in the envelope's namespace; raises CommandRefusedError."""
    return content if namespace is None else _in_namespace(content, namespace)


def _in_namespace(content: Kind, namespace: str) -> Kind:
    """The payload with this namespace wherever it could have named one and named none."""
    if isinstance(content, PublishTemplates):
        templates = tuple(_template(each, namespace) for each in content.templates)
        return msgspec.structs.replace(content, templates=templates)
    if not isinstance(content, msgspec.Struct):
        return content
    changed: dict[str, Any] = {}
    for name in content.__struct_fields__:
        value = getattr(content, name)
        if name == "namespace":
            _refuse_contradiction(value, namespace)
            changed[name] = namespace
        elif isinstance(value, msgspec.Struct):
            changed[name] = _in_namespace(value, namespace)
    return msgspec.structs.replace(content, **changed) if changed else content


def _template(mapping: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    named = [each for each in ("namespace_name", "namespace") if mapping.get(each)]
    for key in named:
        _refuse_contradiction(mapping[key], namespace)
    return dict(mapping) if named else {**mapping, "namespace_name": namespace}


def _refuse_contradiction(named: object, namespace: str) -> None:
    if named and named != namespace:
        raise CommandRefusedError(
            "invalid",
            f"the payload is about namespace '{named}', metadata.namespace is '{namespace[:80]}'",
            hint="name one of them, or the same",
        )


def initiator(asked: Asked) -> str | None:
    """On whose behalf a command was sent: who its audit context says, else its source."""
    try:
        context = codec.decode_if_given(asked.command.audit_context, AuditContext)
    except ProtocolError as error:
        raise CommandRefusedError("invalid", f"audit_context: {error.detail}") from None
    if context is not None and context.initiated_by:
        return context.initiated_by
    source = asked.command.metadata.source
    return source.id if source else None
