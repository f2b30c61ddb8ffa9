"""Handlers that child processes import by path."""

import asyncio
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
def wait_until_cancelled(ctx: Context) -> str:
    ctx.progress("begun")
    while not ctx.cancelled:
        threading.Event().wait(0.001)
    return "stopped"


@step
async def hang_later(ctx: Context) -> None:
    ctx.progress("begun")
    await asyncio.Event().wait()


@step
def report(ctx: Context) -> int:
    ctx.progress("half")
    return os.getpid()


@step
def refuse() -> None:
    raise SystemExit("no")
