"""Fill a handler's parameters by name, from parents' results and the task context."""

from typing import Any

from tasker_zmq.errors import PermanentError
from tasker_zmq.worker.context import Context
from tasker_zmq.worker.handlers import (
    CONTEXT_PARAMETER,
    WHOLE_CONTEXT_PARAMETERS,
    Handler,
    Parameter,
    PreviousStep,
    Sequence,
    StepView,
    Task,
)
from tasker_zmq.worker.place import did_you_mean


def invoke(handler: Handler, ctx: Context) -> Any:
    """Call the handler; the answer is an awaitable when it is asynchronous."""
    if handler.is_class:
        return handler.target().process(*class_arguments(ctx))
    return handler.target(**keyword_arguments(handler, ctx))


def class_arguments(ctx: Context) -> tuple[Task, Sequence, StepView]:
    """Task, sequence and step, as `process` takes them."""
    steps = tuple(PreviousStep(name, results) for name, results in ctx.previous_results.items())
    view = StepView(
        step_id=ctx.step_id,
        name=ctx.step_name,
        handler_config=ctx.config,
        attempt=ctx.attempt,
        retry_limit=ctx.retry_limit,
        ctx=ctx,
    )
    return Task(ctx.task_id, ctx.context), Sequence(steps), view


def keyword_arguments(handler: Handler, ctx: Context) -> dict[str, Any]:
    """One value per parameter; raises PermanentError for one that nothing fills."""
    filled: dict[str, Any] = {}
    for parameter in handler.parameters:
        found, value = _find(handler, parameter.name, ctx)
        if found:
            convert = handler.converters.get(parameter.name)
            filled[parameter.name] = convert(value, parameter.name) if convert else value
        elif parameter.required:
            raise _missing(handler, parameter, ctx)
    if handler.takes_rest:
        filled |= {name: value for name, value in ctx.context.items() if name not in filled}
    return filled


def _find(handler: Handler, name: str, ctx: Context) -> tuple[bool, Any]:
    """Whether anything fills `name`, and with what; parents come before context fields."""
    if name == CONTEXT_PARAMETER:
        return True, ctx
    parent = handler.aliases.get(name, name)
    if parent in ctx.previous_results:
        return True, ctx.previous_results[parent]
    if name in WHOLE_CONTEXT_PARAMETERS:
        return True, ctx.context
    if name in ctx.context:
        return True, ctx.context[name]
    return False, None


def _missing(handler: Handler, parameter: Parameter, ctx: Context) -> PermanentError:
    name = parameter.name
    if name in handler.aliases:
        parents = ", ".join(ctx.previous_results) or "none"
        return PermanentError(
            f"step '{ctx.step_name}' needs the result of '{handler.aliases[name]}', which is not"
            f" among its parents ({parents}); add it to the step's dependencies"
        )
    near = did_you_mean(name, [*ctx.context, *ctx.previous_results])
    return PermanentError(
        f"step '{ctx.step_name}' needs '{name}', which is neither a field of the task context"
        f" nor a parent{near}"
    )
