"""The worker's log: one line per event with its fields, as text or as JSON, on standard error."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")


def start_logging(level: str, log_format: str) -> None:
    """Send records of every logger to standard error; called once per process."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
    # asyncio's debug chatter says nothing about steps.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """`12:00:00.000 INFO event key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        head = f"{moment:%H:%M:%S}.{int(record.msecs):03d} {record.levelname:<7}"
        words = [head, record.getMessage()]
        words += [f"{name}={value}" for name, value in _fields(record).items()]
        line = " ".join(words)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        found |= _fields(record)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(found, default=str).decode()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return dict(fields) if isinstance(fields, dict) else {}
