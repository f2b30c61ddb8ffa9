"""`tasker-zmq health`: ask a running daemon how it is, and tell it by the exit code."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from tasker_zmq.cli.choosing import seconds
from tasker_zmq.cli.client import CommandClient, ask_health
from tasker_zmq.cli.database import read_clock
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json, print_object
from tasker_zmq.cli.sections import print_section
from tasker_zmq.errors import TaskerError
from tasker_zmq.protocol.commands import HealthCheck
from tasker_zmq.settings import EndpointSettings

WELL: Final = ("ok", "draining")
BASIC: Final = "basic"
_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "cores": ("core_id", "alive", "epoch", "draining", "lease_seconds_left"),
    "workers": (
        "worker", "core_id", "status", "current_load", "credit", "last_heartbeat_at",
    ),
    "dead_rows": ("table", "dead", "live", "vacuumed_at"),
}  # fmt: skip


class UnwellError(TaskerError):
    """The daemon answers, and says that it is not well."""


@click.command()
@click.option(
    "--timeout", default="3s", show_default=True, metavar="TIME", callback=seconds,
    help="How long to wait for the answer.",
)  # fmt: skip
@click.option(
    "--level", type=click.Choice([BASIC, "detailed", "full"]), default=BASIC, show_default=True,
    help="Basic is what it remembers; the others also look at its database.",
)  # fmt: skip
@click.option("--workers", is_flag=True, help="Also each connected worker.")
@click.option("--ready", is_flag=True, help="Also how many tasks have something to be sent.")
@output_option
@click.pass_obj
def health(
    invocation: Invocation,
    /,
    *,
    timeout: float,
    level: str,
    workers: bool,
    ready: bool,
    output: Output,
) -> None:
    """Ask a running daemon how it is; exit 4 when none answers, 1 when it is not well."""
    endpoints = invocation.settings.endpoints
    if level == BASIC and not workers and not ready:
        answer = ask_health(endpoints.health, timeout_seconds=timeout)
    else:
        wanted = HealthCheck(
            diagnostic_level=level, include_worker_status=workers, include_ready_task_count=ready
        )
        answer = _ask(endpoints, wanted, timeout_seconds=timeout)
    if output is Output.JSON:
        print_json(answer)
    else:
        _print(answer, now=read_clock())
    status = answer.get("status", WELL[0])
    if status not in WELL:
        reason = f": {answer['reason']}" if answer.get("reason") else ""
        raise UnwellError(
            f"the daemon says that it is {status}{reason}; `tasker-zmq doctor` looks closer"
        )


def _ask(
    endpoints: EndpointSettings, wanted: HealthCheck, *, timeout_seconds: float
) -> dict[str, Any]:
    with CommandClient(endpoints.commands) as client:
        told = client.ask("HealthCheck", wanted, timeout_seconds=timeout_seconds)
    return msgspec.json.decode(told, type=dict[str, Any])


def _print(answer: Mapping[str, Any], *, now: datetime) -> None:
    lines = {name: _plainly(each) for name, each in answer.items() if name not in _SECTIONS}
    print_object(lines, output=Output.TABLE)
    for name, columns in _SECTIONS.items():
        rows = [_timed(row) for row in answer.get(name, ())]
        print_section(name.replace("_", " "), rows, columns, now=now)


def _plainly(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{count} {what}" for what, count in sorted(value.items())) or "none"
    return value


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    """With moments as such, which a table tells by how long ago they were."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") and value else value
        for name, value in row.items()
    }
