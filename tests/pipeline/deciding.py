"""Deciding in tests as people do it: one command, its answer, and what was written of it."""

from typing import Any

import msgspec

from tasker_zmq.domain.control import LetterAction, StepAction, TaskAction
from tasker_zmq.protocol.commands import SUCCESS
from tasker_zmq.protocol.control import (
    Controlled,
    ControlSteps,
    ControlTasks,
    DeadLetterFilter,
    DecideDeadLetters,
)
from tasker_zmq.protocol.messages import StepError, StepRequest
from tasker_zmq.testing.simulated_worker import Word
from tasker_zmq.testing.world import Node, World

BY, WHY = "anna@desk", "the card works again"
CHAIN = {"a": Node(), "b": Node(after=("a",)), "c": Node(after=("b",))}


def asked(world: World, kind: str, payload: object, **more: Any) -> Controlled:
    reply = world.ask(kind, payload, **more)
    assert reply.payload.type == SUCCESS, bytes(reply.payload.data).decode()
    return msgspec.json.decode(reply.payload.data, type=Controlled)


def letters(
    world: World, action: str, *ids: int, results: bytes = b"null", **wanted: Any
) -> Controlled:
    chosen = None if ids else DeadLetterFilter(**wanted)
    request = DecideDeadLetters(
        action=LetterAction(action),
        dead_letter_ids=ids,
        filter=chosen,
        why=WHY,
        by=BY,
        results=msgspec.Raw(results),
    )
    return asked(world, "DecideDeadLetters", request)


def steps(
    world: World, action: str, *ids: int, results: bytes = b"null", **more: Any
) -> Controlled:
    request = ControlSteps(
        action=StepAction(action), step_ids=ids, why=WHY, by=BY, results=msgspec.Raw(results)
    )
    return asked(world, "ControlSteps", request, **more)


def tasks(world: World, action: str, *ids: int, after_id: int = 0) -> Controlled:
    request = ControlTasks(
        action=TaskAction(action), task_ids=ids, why=WHY, by=BY, after_id=after_id
    )
    return asked(world, "ControlTasks", request)


def failing(message: str = "card declined") -> Word:
    return Word(status="failed", error=StepError(message=message, retryable=False))


class Shop:
    """Handlers that fail in the steps named in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.seen: list[StepRequest] = []

    def __call__(self, request: StepRequest) -> Word:
        self.seen.append(request)
        if request.step_name in self.broken:
            return failing(f"{request.step_name} is broken")
        return Word(output={"from": request.step_name})


def transitions(world: World, step_id: int) -> list[tuple[str, str, str]]:
    found = world.rows(
        "SELECT from_state, event_name, to_state FROM tasker_workflow_step_transitions "
        "WHERE workflow_step_id = :s ORDER BY sort_key",
        s=step_id,
    )
    return [tuple(row) for row in found][1:]


def task_events(world: World, task_id: int) -> list[str]:
    found = world.rows(
        "SELECT event_name FROM tasker_task_transitions WHERE task_id = :t ORDER BY sort_key",
        t=task_id,
    )
    return [row.event_name for row in found]
