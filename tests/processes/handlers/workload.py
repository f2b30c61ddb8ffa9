"""Workflows that the tests of processes run; each step writes what it did into the witness file.

The witness file is the one that WITNESS names: `task step attempt process` on each line. A step
that is to stop and wait opens a named pipe for reading, which lasts until a test writes to it.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from tasker_zmq import Context, PermanentError, step, workflow

LEAVES = 100
ENTERED = "entered"  # beside the pipe of this stem: who waits at it


def bear_witness(ctx: Context) -> None:
    """One line, written at once, so that several processes may write."""
    line = f"{ctx.task_id} {ctx.step_name} {ctx.attempt} {os.getpid()}\n"
    place = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(place, line.encode())
    os.close(place)


@step
def first(number: int, ctx: Context) -> int:
    bear_witness(ctx)
    return number + 1


@step
def second(first: int, ctx: Context) -> int:
    bear_witness(ctx)
    return first + 1


@step
def third(second: int, ctx: Context) -> int:
    bear_witness(ctx)
    return second + 1


@step
def fourth(third: int, ctx: Context) -> int:
    bear_witness(ctx)
    return third + 1


chain = workflow("tests/chain@1.0.0", fourth)


@step
def root(ctx: Context) -> int:
    bear_witness(ctx)
    return 1


def leaf(root: int, ctx: Context) -> int:
    bear_witness(ctx)
    return root


leaves = []
for number in range(LEAVES):

    def grow(root: int, ctx: Context) -> int:
        return leaf(root, ctx)

    leaves.append(step(name=f"leaf_{number}", handler=f"leaf_{number}", after=root)(grow))


@step(after=leaves)
def gather(ctx: Context) -> int:
    bear_witness(ctx)
    return sum(ctx.previous_results.values())


fan = workflow("tests/fan@1.0.0", gather)


@step(attempts=4, backoff="20ms..200ms")
def fail_often(failures: int, ctx: Context) -> int:
    bear_witness(ctx)
    if ctx.attempt <= failures:
        raise ConnectionError(f"try {ctx.attempt} fails")
    return ctx.attempt


often = workflow("tests/often@1.0.0", fail_often)


@step(after=root)
def fail_for_good(ctx: Context) -> None:
    bear_witness(ctx)
    raise PermanentError("never")


@step(after=root)
def go_on(ctx: Context) -> int:
    bear_witness(ctx)
    return 1


@step(after=[fail_for_good, go_on])
def never_reached(ctx: Context) -> None:
    bear_witness(ctx)


half = workflow("tests/half@1.0.0", never_reached)


@step(attempts=2, backoff="10ms", timeout=0.3)
async def hang_at_first(ctx: Context) -> int:
    bear_witness(ctx)
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


hanging = workflow("tests/hanging@1.0.0", hang_at_first)


@step(attempts=2, backoff="10ms")
def die_at_first(ctx: Context) -> int:
    bear_witness(ctx)
    if ctx.attempt == 1:
        os._exit(7)
    return ctx.attempt


dying = workflow("tests/dying@1.0.0", die_at_first)


@step(attempts=3, backoff="10ms")
def wait_at(pipe: str, ctx: Context) -> str:
    bear_witness(ctx)
    return Path(pipe).read_text(encoding="utf-8")


@step
def after_waiting(wait_at: str, ctx: Context) -> Any:
    bear_witness(ctx)
    return wait_at


waiting = workflow("tests/waiting@1.0.0", after_waiting)
