"""Workflows under test, as the newer dialect's mappings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACE = "tests"
VERSION = "1.0.0"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One step of a workflow under test; `retry` is the newer dialect's block."""

    after: tuple[str, ...] = ()
    handler: str = "tests.work"
    retry: Mapping[str, Any] | None = None
    timeout_seconds: float = 30.0


def template(name: str, nodes: Mapping[str, Node], **more: Any) -> dict[str, Any]:
    """The newer dialect's mapping of a workflow."""
    return {
        "name": name,
        "namespace_name": NAMESPACE,
        "version": VERSION,
        "steps": [
            {
                "name": step,
                "handler": {"callable": node.handler},
                "dependencies": list(node.after),
                "retry": dict(node.retry or {}),
                "timeout_seconds": node.timeout_seconds,
            }
            for step, node in nodes.items()
        ],
        **more,
    }
