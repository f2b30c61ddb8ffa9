"""Workflows that come with a task: checked as published ones are, kept as a version of their own.

The version ends with `+inline.` and the beginning of the digest: the same definition is the same
named task, however often it comes.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

import msgspec

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.publishing import filled_rows
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.tasks import TaskRequest
from tasker_zmq.store import definitions as store
from tasker_zmq.store.definitions import Definition, Identified
from tasker_zmq.templates import digest, load_mapping

MARK: Final = "+inline."
DIGITS: Final = 16
PROBLEMS_SHOWN_MAX: Final = 10
KNOWN_MAX: Final = 1_000


def define(sitting: Sitting, workflow: msgspec.Raw, request: TaskRequest) -> Definition:
    """The definition of an inline workflow, written down unless it is there already."""
    key = sha256(repr((request.namespace, request.name, request.version)).encode())
    key.update(bytes(workflow))
    known = sitting.desk.inline.get(key.digest())
    if known is None:
        known = _identify(sitting, _mapping(workflow, request), request)
        sitting.changes.then(lambda: _keep(sitting.desk.inline, key.digest(), known))
    return sitting.desk.state.definition(
        sitting.connection, known.named_task_id, digest=known.template_digest
    )


def _keep(inline: dict[bytes, Identified], key: bytes, known: Identified) -> None:
    while len(inline) >= KNOWN_MAX:
        del inline[next(iter(inline))]
    inline[key] = known


def _mapping(workflow: msgspec.Raw, request: TaskRequest) -> dict[str, Any]:
    """The template with the name and the namespace of the request where it has none."""
    try:
        mapping = codec.decode_data(workflow, dict[str, Any])
    except ProtocolError as error:
        raise CommandRefusedError("invalid", f"workflow: {error.detail}") from None
    if request.namespace and not (mapping.get("namespace_name") or mapping.get("namespace")):
        mapping["namespace_name"] = request.namespace
    if request.name and "name" not in mapping and "task_name" not in mapping:
        mapping["name"] = request.name
    return mapping


def _identify(sitting: Sitting, mapping: dict[str, Any], request: TaskRequest) -> Identified:
    loaded = load_mapping(mapping, source="workflow", environment=sitting.desk.environment)
    template = loaded.template
    if template is None:
        problems = "; ".join(str(each) for each in loaded.problems[:PROBLEMS_SHOWN_MAX])
        raise CommandRefusedError("invalid_workflow", f"the workflow cannot be used: {problems}")
    _refuse_contradiction(template, request)
    own = digest(template)
    version = f"{template.version}{MARK}{own[:DIGITS]}"
    known = store.identify(
        sitting.connection, namespace=template.namespace, name=template.name, version=version
    )
    if known is not None and known.template_digest == own:
        return known
    rows = replace(filled_rows(sitting, mapping, template), version=version, inline=True)
    return Identified(store.publish(sitting.connection, rows, now=sitting.now), own)


def _refuse_contradiction(template: TaskTemplate, request: TaskRequest) -> None:
    wanted = (request.namespace, request.name, request.version)
    found = (template.namespace, template.name, template.version)
    for asked, given in zip(wanted, found, strict=True):
        if asked and asked != given:
            raise CommandRefusedError(
                "invalid",
                f"the task_request is about '{asked[:80]}', the workflow about '{given}'",
                hint="leave namespace, name and version out of the task_request",
            )
