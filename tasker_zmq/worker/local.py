"""Run a workflow in this process, for plain tests: no server, no waiting between tries."""

import asyncio
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import orjson

from tasker_zmq.errors import PermanentError
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.worker.binding import invoke
from tasker_zmq.worker.context import Context
from tasker_zmq.worker.output import UnfitOutputError, encode_output
from tasker_zmq.worker.steps import StepDefinition
from tasker_zmq.worker.workflow import Workflow


def run_workflow(workflow: Workflow, context: Mapping[str, Any]) -> dict[str, Any]:
    """{step name: result}; values travel through JSON, as they would between processes."""
    fields = _through_json(context)
    if workflow.input_schema is not None:
        _validate(fields, workflow)
    results: dict[str, Any] = {}
    for number, definition in enumerate(workflow.steps, start=1):
        previous = {name: results[name] for name in workflow.parents[definition.name]}
        results[definition.name] = _run_step(
            definition,
            Context(
                task_id=1,
                step_id=number,
                step_name=definition.name,
                retry_limit=definition.attempts - 1,
                idempotency_key=f"local-{number}",
                timeout_seconds=definition.timeout_seconds,
                config=definition.config,
                context=fields,
                previous_results=previous,
            ),
        )
    return results


def _validate(fields: Any, workflow: Workflow) -> None:
    import jsonschema

    try:
        jsonschema.validate(fields, dict(workflow.input_schema or {}))
    except jsonschema.ValidationError as error:
        raise PermanentError(
            f"the context does not fit {workflow.full_name}: {error.json_path}: {error.message}"
        ) from None


def _run_step(definition: StepDefinition, ctx: Context) -> Any:
    attempts = definition.attempts
    for attempt in range(1, attempts + 1):
        try:
            return _once(definition, dataclasses.replace(ctx, attempt=attempt))
        except Exception as error:
            if attempt == attempts or isinstance(error, PermanentError | UnfitOutputError):
                error.add_note(f"step '{definition.name}', attempt {attempt} of {attempts}")
                raise
    raise AssertionError("a step has at least one attempt")


def _once(definition: StepDefinition, ctx: Context) -> Any:
    value = invoke(definition.handler, ctx)
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    return _through_json(value)


def _through_json(value: object) -> Any:
    limits = WireLimits()
    return orjson.loads(
        encode_output(value, bytes_max=limits.result_bytes_max, nesting_max=limits.nesting_max)
    )


async def _awaited(value: Any) -> Any:
    return await value
