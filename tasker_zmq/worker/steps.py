"""`@step`: a plain function, marked as a step. It stays the plain function it was."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import Any, Final, TypeVar, overload

from tasker_zmq.domain.template import Backoff
from tasker_zmq.worker import durations
from tasker_zmq.worker.handlers import HANDLER_MARK, Handler, StepHandler, make_handler
from tasker_zmq.worker.place import Place, did_you_mean, place_of, refusal

STEP_MARK: Final = "__tasker_step__"
DEFAULT_ATTEMPTS: Final = 3  # what a template of the newer dialect means when it says nothing

Target = TypeVar("Target", bound=Callable[..., Any])
Parent = Callable[..., Any] | str


@dataclass(frozen=True, kw_only=True, eq=False)
class StepDefinition:
    """A step as code declares it; a parent given as text is looked up when a workflow is made."""

    name: str
    handler: Handler
    place: Place
    parents: "tuple[StepDefinition | str, ...]" = ()
    retryable: bool | None = None
    retry_limit: int | None = None
    backoff: Backoff | None = None
    timeout_seconds: float | None = None
    confirm_start: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The first line of the handler's docstring."""
        text = self.handler.target.__doc__ or ""
        if isinstance(self.handler.target, type) and text == StepHandler.__doc__:
            return ""
        return text.strip().partition("\n")[0]

    @property
    def attempts(self) -> int:
        """Total tries."""
        if self.retryable is False:
            return 1
        return DEFAULT_ATTEMPTS if self.retry_limit is None else self.retry_limit + 1


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What stands between the brackets of `@step(...)`, unchecked."""

    after: Parent | Iterable[Parent] = ()
    attempts: int | None = None
    retry_limit: int | None = None
    retryable: bool | None = None
    backoff: str | None = None
    timeout: str | float | None = None
    name: str | None = None
    handler: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    confirm_start: bool = False


@overload
def step(target: Target, /) -> Target: ...
@overload
def step(
    *,
    after: Parent | Iterable[Parent] = (),
    attempts: int | None = None,
    retry_limit: int | None = None,
    retryable: bool | None = None,
    backoff: str | None = None,
    timeout: str | float | None = None,
    name: str | None = None,
    handler: str | None = None,
    config: Mapping[str, Any] = ...,
    confirm_start: bool = False,
) -> Callable[[Target], Target]: ...
def step(target: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function or StepHandler class as a step.

    `after`: the step or steps it waits for, beside those that its parameters name. `attempts`:
    total tries (`retry_limit` says the same without the first). `backoff`: `"1s..60s"`,
    `"linear 1s..10s"` or one constant wait. `timeout`: seconds or `"30s"`. `name`: the step's
    name, else the function's. `handler`: the `handler_class` on the wire, else
    `<module>.<function>`. `config`: its handler_config. Raises HandlerDefinitionError.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the declaring module's names and line
    place = place_of(frame)
    scope = steps_in(frame)
    known = [each.name for each in fields(StepOptions)]
    for name in options:
        if name not in known:
            raise refusal(place, f"@step has no option '{name}'{did_you_mean(name, known)}")
    given = StepOptions(**options)

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, STEP_MARK, _define(function, given, scope=scope, place=place))
        return function

    return mark if target is None else mark(target)


def definition_of(value: object) -> StepDefinition | None:
    """The step that `value` was marked as, or None; a copy of a mark on a wrapper is refused."""
    mark = getattr(value, "__dict__", {}).get(STEP_MARK)
    if not isinstance(mark, StepDefinition):
        return None
    if mark.handler.target is not value:
        raise refusal(
            mark.place,
            f"step '{mark.name}' is wrapped by another decorator; put @step above it, so that"
            " the wrapped function is what runs",
        )
    return mark


def steps_in(frame: FrameType | None) -> Mapping[str, StepDefinition]:
    """The steps that code at `frame` can name, by variable and by step name."""
    found: dict[str, StepDefinition] = {}
    if frame is None:
        return found
    for names in (frame.f_globals, frame.f_locals):
        for variable, value in list(names.items()):
            definition = definition_of(value)
            if definition is not None:
                found[variable] = found[definition.name] = definition
    return found


def _define(
    target: Callable[..., Any],
    options: StepOptions,
    *,
    scope: Mapping[str, StepDefinition],
    place: Place,
) -> StepDefinition:
    if not callable(target) or not hasattr(target, "__name__"):
        raise refusal(place, f"@step marks a function or a StepHandler class, not {target!r}")
    name = options.name or target.__name__
    parents = _parents_given(name, options.after, place)
    handler_name = options.handler or _default_handler_name(target)
    plain = make_handler(target, handler_name, place=place, aliases={})
    inferred = {
        each.name: scope[each.name]
        for each in plain.parameters
        if each.name in scope and each.name != target.__name__
    }
    parents += [each for each in inferred.values() if each not in parents]
    aliases = {parameter: parent.name for parameter, parent in inferred.items()}
    try:
        backoff = durations.backoff(options.backoff) if options.backoff else None
        timeout = durations.seconds(options.timeout) if options.timeout is not None else None
    except ValueError as error:
        raise refusal(place, f"step '{name}': {error}") from None
    return StepDefinition(
        name=name,
        handler=make_handler(target, handler_name, place=place, aliases=aliases),
        place=place,
        parents=tuple(parents),
        retryable=options.retryable,
        retry_limit=_retry_limit(name, options, place),
        backoff=backoff,
        timeout_seconds=timeout,
        confirm_start=options.confirm_start,
        config=dict(options.config),
    )


def _default_handler_name(target: Callable[..., Any]) -> str:
    mark = getattr(target, "__dict__", {}).get(HANDLER_MARK)
    if isinstance(mark, Handler):
        return mark.name
    if isinstance(target, type) and issubclass(target, StepHandler) and target.handler_name:
        return target.handler_name
    return f"{target.__module__}.{target.__name__}"


def _retry_limit(name: str, options: StepOptions, place: Place) -> int | None:
    if options.attempts is not None and options.retry_limit is not None:
        raise refusal(
            place,
            f"step '{name}' gives both attempts and retry_limit; keep one (attempts counts all"
            " tries, retry_limit those after the first)",
        )
    if options.attempts is not None:
        if options.attempts < 1:
            raise refusal(place, f"step '{name}': attempts={options.attempts}; at least 1 is run")
        return options.attempts - 1
    if options.retry_limit is not None and options.retry_limit < 0:
        raise refusal(place, f"step '{name}': retry_limit={options.retry_limit} is below 0")
    return options.retry_limit


def _parents_given(
    name: str, after: Parent | Iterable[Parent], place: Place
) -> list[StepDefinition | str]:
    given = list(after) if isinstance(after, list | tuple) else [after]
    parents: list[StepDefinition | str] = []
    for each in given:
        parent = each if isinstance(each, str) else definition_of(each)
        if parent is None:
            shown = getattr(each, "__name__", repr(each))
            raise refusal(
                place, f"step '{name}' stands after '{shown}', which is not a step; mark it @step"
            )
        if parent not in parents:
            parents.append(parent)
    return parents


def resolved_parents(
    definition: StepDefinition, scope: Mapping[str, StepDefinition]
) -> tuple[StepDefinition, ...]:
    """The parents as definitions; raises HandlerDefinitionError for a name that is no step."""
    parents: list[StepDefinition] = []
    for each in definition.parents:
        if isinstance(each, StepDefinition):
            parents.append(each)
        elif each in scope:
            parents.append(scope[each])
        else:
            near = did_you_mean(each, scope)
            raise refusal(
                definition.place, f"step '{definition.name}' stands after unknown '{each}'{near}"
            )
    return tuple(parents)
