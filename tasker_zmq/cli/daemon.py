"""`tasker-zmq daemon`: one core in the foreground."""

import os
import signal
import sys
from types import FrameType
from typing import Any, Final

import click

from tasker_zmq.cli.functions import load_functions
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import say
from tasker_zmq.clock import SystemClock
from tasker_zmq.daemon.daemon import Daemon
from tasker_zmq.settings import Settings, refuse_public_binds
from tasker_zmq.store import schema
from tasker_zmq.store.provision import database_server
from tasker_zmq.telemetry import logs

# Programs such as `timeout` pass a signal on to the process and to its group: one wish, twice.
SAME_SIGNAL_SECONDS: Final = 0.2


@click.command()
@click.option("--core-id", help="This daemon's name; each daemon on a database needs its own.")
@click.option(
    "--insecure", is_flag=True, help="Allow binds that other machines can reach: there are no keys."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--check", is_flag=True, help="Check settings, schema and sockets, then leave.")
@click.pass_obj
def daemon(
    invocation: Invocation,
    *,
    core_id: str | None,
    insecure: bool,
    log_level: str | None,
    log_format: str | None,
    check: bool,
) -> None:
    """Run one core in the foreground until SIGTERM or Ctrl-C; a second one ends it at once."""
    overrides: dict[str, Any] = {
        "core_id": core_id,
        "endpoints.insecure": insecure or None,
        "log.level": log_level,
        "log.format": log_format,
    }
    settings = invocation.with_overrides(overrides).settings
    refuse_public_binds(settings)
    logs.configure(level=settings.log.level, style=settings.log.format.value)
    with database_server(
        settings.database.url, data_dir=settings.database.data_dir, keep=True
    ) as server:
        say(f"database: {server.origin}")
        if settings.database.url is None:
            schema.upgrade(server.url)  # our own server: there is nobody else to migrate it
        _serve(settings, server.url, check=check)


def _serve(settings: Settings, url: str, *, check: bool) -> None:
    core = Daemon(settings, url, functions=load_functions(settings.call.functions))
    _stop_on_signals(core)
    core.start()
    try:
        for purpose, endpoint in core.endpoints.items():
            say(f"{purpose}: {endpoint}")
        if settings.endpoints.insecure:
            say("warning: --insecure: whoever reaches these sockets may run and read work")
        if check:
            say("all is well: settings, schema and sockets")
            return
        say(f"core '{settings.core_id}' is ready; Ctrl-C drains and stops it")
        core.run()
    finally:
        core.close()


def _stop_on_signals(core: Daemon) -> None:
    clock, arrivals = SystemClock(), list[float]()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        arrivals.append(clock.monotonic())
        if arrivals[-1] - arrivals[0] > SAME_SIGNAL_SECONDS:
            sys.stderr.write("stopped at once\n")
            os._exit(1)
        core.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
