"""Handlers that child processes import by path."""

import os
import signal
import threading

from tasker_zmq import Context, step


@step
def double(number: int) -> int:
    return number * 2


@step
async def double_later(number: int) -> int:
    return number * 2


@step
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@step
def leave() -> None:
    os._exit(7)


@step
def hang() -> None:
    threading.Event().wait()


@step
def report(ctx: Context) -> int:
    ctx.progress("half")
    return os.getpid()


@step
def refuse() -> None:
    raise SystemExit("no")
