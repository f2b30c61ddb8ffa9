"""Frozen settings from defaults, YAML, environment variables and flags; the only reader of them."""

from tasker_zmq.settings.catalogue import BY_KEY, CATALOGUE, nearest_key
from tasker_zmq.settings.checks import is_loopback, refuse_public_binds
from tasker_zmq.settings.environment import process_variables
from tasker_zmq.settings.load import Loaded, load
from tasker_zmq.settings.sections import (
    AuditLevel,
    AuditSettings,
    DatabaseSettings,
    DispatchSettings,
    DrainSettings,
    EndpointSettings,
    ExecutorKind,
    HeartbeatSettings,
    LimitSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    ReaderSettings,
    RetrySettings,
    Settings,
    TemplateSettings,
    TickSettings,
    TimeoutSettings,
    WorkerSettings,
)
from tasker_zmq.settings.setting import Kind, Setting, mask_password

__all__ = [
    "BY_KEY",
    "CATALOGUE",
    "AuditLevel",
    "AuditSettings",
    "DatabaseSettings",
    "DispatchSettings",
    "DrainSettings",
    "EndpointSettings",
    "ExecutorKind",
    "HeartbeatSettings",
    "Kind",
    "LimitSettings",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "ReaderSettings",
    "RetrySettings",
    "Setting",
    "Settings",
    "TemplateSettings",
    "TickSettings",
    "TimeoutSettings",
    "WorkerSettings",
    "is_loopback",
    "load",
    "mask_password",
    "nearest_key",
    "process_variables",
    "refuse_public_binds",
]
