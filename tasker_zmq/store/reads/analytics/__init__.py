"""Figures about a stretch of time, each read through an index and at most so many rows of it.

Each function returns its rows as mappings, and whether there was more than it read.
"""

from tasker_zmq.store.reads.analytics.commands import audit_summary, command_latency
from tasker_zmq.store.reads.analytics.system import system_health
from tasker_zmq.store.reads.analytics.tasks import task_performance
from tasker_zmq.store.reads.analytics.window import ROWS_READ_MAX, Found, Window, look_widely
from tasker_zmq.store.reads.analytics.workers import (
    compatibility,
    load_distribution,
    worker_efficiency,
)

__all__ = [
    "ROWS_READ_MAX",
    "Found",
    "Window",
    "audit_summary",
    "command_latency",
    "compatibility",
    "load_distribution",
    "look_widely",
    "system_health",
    "task_performance",
    "worker_efficiency",
]
