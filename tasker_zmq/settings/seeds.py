"""The `step_execution` section of an older `config/zeromq.yaml`, read as it is."""

from collections.abc import Mapping
from typing import Final

SECTION: Final = "step_execution"

# Their key -> (our key, the unit behind a plain number there; ours where it is empty).
MAPPED: Final[Mapping[str, tuple[str, str]]] = {
    "rust_step_publisher": ("endpoints.steps", ""),
    "rust_result_subscriber": ("endpoints.results", ""),
    "max_workers": ("worker.concurrency", ""),
    "batch_size": ("dispatch.batch_size", ""),
    "result_timeout_ms": ("timeouts.step_seconds", "ms"),
    "step_queue_hwm": ("limits.step_queue_hwm", ""),
    "result_queue_hwm": ("limits.result_queue_hwm", ""),
}
# Their key -> why nothing comes of it.
WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "handler_step_subscriber": "workers are told the endpoints when they register",
    "handler_result_publisher": "workers are told the endpoints when they register",
    "handler_poll_interval_ms": "sockets wake their thread, nothing polls",
    "reconnect_interval_ms": "workers reconnect by themselves, with growing waits",
    "max_reconnect_attempts": "workers reconnect for as long as they run",
}


def in_our_unit(raw: object, unit: str) -> object:
    """A plain number with the unit it had in their file."""
    if unit and isinstance(raw, int | float | str) and not isinstance(raw, bool):
        text = str(raw).strip()
        return f"{text}{unit}" if text.replace(".", "", 1).isdigit() else raw
    return raw
