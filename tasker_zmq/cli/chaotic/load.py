"""The workflows of the load: each step tells the witness file that it ran, and what it was given.

A worker process serves this module. CHAOS_WITNESS names the file, one JSON object a line;
each line is one write to a file opened for appending, so that any number of processes may write,
and a killed one leaves no half of a line. A step's result is the token of the run that gave it.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from tasker_zmq import Context, PermanentError, step, workflow
from tasker_zmq.clock import IdMaker, SystemClock, system_dice

WITNESS: Final = "CHAOS_WITNESS"
FIRST_ATTEMPT: Final = 1
LEAVES: Final = 8
WORK_SECONDS: Final = (0.02, 0.5)
SHARES: Final = 97  # a prime: steps with ids in a row take different times
_CLOCK: Final = SystemClock()
_IDS: Final = IdMaker(_CLOCK, system_dice())


def _tell(what: str, ctx: Context, run: str, **more: Any) -> None:
    told = {"what": what, "run": run, "task": ctx.task_id, "step": ctx.step_id}
    told |= {"name": ctx.step_name, "attempt": ctx.attempt, "key": ctx.idempotency_key}
    told |= {"process": os.getpid(), "at": _CLOCK.now().timestamp(), **more}
    place = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(place, json.dumps(told).encode() + b"\n")
    finally:
        os.close(place)


def _given(results: Mapping[str, Any]) -> dict[str, str]:
    return {name: result["run"] for name, result in results.items()}


def _work(ctx: Context, *, failure: Exception | None = None) -> dict[str, str]:
    """Some work with a beginning and an end; with a failure it ends badly."""
    run = _IDS.uuid7()
    _tell("start", ctx, run, given=_given(ctx.previous_results))
    shortest, longest = WORK_SECONDS
    time.sleep(shortest + (longest - shortest) * (ctx.step_id % SHARES) / SHARES)
    if failure is not None:
        _tell("failure", ctx, run)
        raise failure
    _tell("end", ctx, run)
    return {"run": run}


@step(backoff="50ms..200ms")
def first(ctx: Context) -> dict[str, str]:
    return _work(ctx)


@step(after=first)
def second(ctx: Context) -> dict[str, str]:
    return _work(ctx)


@step(after=second)
def third(ctx: Context) -> dict[str, str]:
    return _work(ctx)


@step(after=third)
def fourth(ctx: Context) -> dict[str, str]:
    return _work(ctx)


chain = workflow("chaos/chain@1.0.0", fourth)


@step(after=first)
def left(ctx: Context) -> dict[str, str]:
    return _work(ctx)


@step(after=first)
def right(ctx: Context) -> dict[str, str]:
    return _work(ctx)


@step(after=[left, right])
def join(ctx: Context) -> dict[str, str]:
    return _work(ctx)


diamond = workflow("chaos/diamond@1.0.0", join)


def _leaf(number: int) -> Any:
    def leaf(ctx: Context) -> dict[str, str]:
        return _work(ctx)

    name = f"leaf_{number}"
    return step(name=name, handler=f"chaos.{name}", after=first)(leaf)


leaves = [_leaf(number) for number in range(1, LEAVES + 1)]


@step(after=leaves)
def gather(ctx: Context) -> dict[str, str]:
    return _work(ctx)


fan = workflow("chaos/fan@1.0.0", gather)


@step(after=first, attempts=4, backoff="50ms..200ms")
def stumble(ctx: Context) -> dict[str, str]:
    """Fails at its first attempt."""
    stumbles = ctx.attempt == FIRST_ATTEMPT
    return _work(ctx, failure=ConnectionError("the first try fails") if stumbles else None)


@step(after=stumble)
def recovered(ctx: Context) -> dict[str, str]:
    return _work(ctx)


stumbling = workflow("chaos/stumbling@1.0.0", recovered)


@step(after=first)
def refuse(ctx: Context) -> dict[str, str]:
    """Fails for good."""
    return _work(ctx, failure=PermanentError("no retry helps"))


@step(after=refuse)
def unreached(ctx: Context) -> dict[str, str]:
    return _work(ctx)


doomed = workflow("chaos/doomed@1.0.0", unreached)


@step(after=first, retryable=False)
def once(ctx: Context) -> dict[str, str]:
    """Must not run twice, whatever happens."""
    return _work(ctx)


@step(after=once)
def afterwards(ctx: Context) -> dict[str, str]:
    return _work(ctx)


careful = workflow("chaos/careful@1.0.0", afterwards)
