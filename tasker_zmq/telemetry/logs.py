"""Log records as lines: `time level event key=value ...` for people, JSON for machines."""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson


class TextFormatter(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = getattr(record, "fields", {})
        told = " ".join(f"{key}={value}" for key, value in fields.items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """For machines: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def configure(*, level: str, style: Literal["text", "json"], stream: TextIO = sys.stderr) -> None:
    """Send our records to `stream`; call it once, from a command."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger("tasker_zmq")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
