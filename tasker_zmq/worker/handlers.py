"""Handlers: the code that runs a step, under the name by which a batch asks for it."""

import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from tasker_zmq.worker.context import Context
from tasker_zmq.worker.models import Convert, converter_for
from tasker_zmq.worker.place import Place, place_of, refusal

HANDLER_NAME: Final = re.compile(r"[A-Za-z_][\w.:]{0,199}", re.ASCII)
HANDLER_MARK: Final = "__tasker_handler__"
CONTEXT_PARAMETER: Final = "ctx"
WHOLE_CONTEXT_PARAMETERS: Final = ("context", "task_context")

Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class Task:
    """The task as a class handler sees it."""

    task_id: int
    context: Mapping[str, Any]


@dataclass(frozen=True)
class PreviousStep:
    """A parent and what it returned."""

    name: str
    results: Any


@dataclass(frozen=True)
class Sequence:
    """The parents of a step as a class handler sees them."""

    steps: tuple[PreviousStep, ...]

    def find(self, name: str) -> PreviousStep | None:
        """The parent called `name`, or None."""
        return next((each for each in self.steps if each.name == name), None)

    def __getitem__(self, name: str) -> Any:
        found = self.find(name)
        if found is None:
            known = ", ".join(each.name for each in self.steps) or "none"
            raise KeyError(f"'{name}' is no parent of this step; its parents: {known}")
        return found.results

    def __iter__(self) -> Iterator[PreviousStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class StepView:
    """The step as a class handler sees it; `attempt` counts from 1."""

    step_id: int
    name: str
    handler_config: Mapping[str, Any]
    attempt: int
    retry_limit: int
    ctx: Context


class StepHandler:
    """A handler as a class; one fresh instance runs each step.

    `handler_name` is the name that batches use; without it, `<module>.<class>`.
    """

    handler_name: ClassVar[str | None] = None

    def process(self, task: Task, sequence: Sequence, step: StepView) -> Any:
        """Run the step and return what it results in; raise to fail. May be `async def`."""
        raise NotImplementedError(f"{type(self).__name__} does not define process()")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a handler function."""

    name: str
    required: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Handler:
    """A function or StepHandler class, and how to fill its parameters."""

    name: str
    target: Callable[..., Any]
    place: Place
    parameters: tuple[Parameter, ...] = ()
    takes_rest: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)  # parameter name: parent step name

    @property
    def is_class(self) -> bool:
        return isinstance(self.target, type)

    @property
    def is_async(self) -> bool:
        function = getattr(self.target, "process", None) if self.is_class else self.target
        return inspect.iscoroutinefunction(function)

    @functools.cached_property
    def converters(self) -> Mapping[str, Convert]:
        """Per annotated parameter, how its value is made; resolved when first needed."""
        try:
            hints = typing.get_type_hints(self.target)
        except (NameError, TypeError, AttributeError):
            # Names imported under TYPE_CHECKING only: such a handler gets plain JSON values.
            return {}
        found = {each.name: converter_for(hints.get(each.name)) for each in self.parameters}
        return {name: convert for name, convert in found.items() if convert is not None}


def handler(name: str) -> Callable[[Target], Target]:
    """Register a StepHandler class or a function under `name`, for templates that say so."""
    place = place_of(sys._getframe(1))  # noqa: SLF001 - the line that declares, for messages
    check_name(name, place)

    def mark(target: Target) -> Target:
        setattr(target, HANDLER_MARK, make_handler(target, name, place=place, aliases={}))
        return target

    return mark


def check_name(name: str, place: Place) -> None:
    """Raise HandlerDefinitionError unless `name` may be used as a `handler_class`."""
    if not HANDLER_NAME.fullmatch(name):
        raise refusal(
            place,
            f"'{name[:60]}' cannot name a handler: begin with a letter, then letters, digits,"
            " '_', '.' or ':', at most 200 in all",
        )


def make_handler(
    target: Callable[..., Any], name: str, *, place: Place, aliases: Mapping[str, str]
) -> Handler:
    """The Handler for `target`; raises HandlerDefinitionError when it cannot be called by name."""
    check_name(name, place)
    if isinstance(target, type):
        if not issubclass(target, StepHandler) or target.process is StepHandler.process:
            raise refusal(
                place, f"class {target.__name__} must derive StepHandler and define process()"
            )
        return Handler(name=name, target=target, place=place)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise refusal(place, f"handler '{name}' yields; return its result, ctx.progress() reports")
    parameters: list[Parameter] = []
    takes_rest = False
    for each in inspect.signature(target).parameters.values():
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise refusal(place, f"handler '{name}': '{each.name}' cannot be filled by name")
        if each.kind is each.VAR_KEYWORD:
            takes_rest = True
        else:
            parameters.append(Parameter(each.name, required=each.default is each.empty))
    return Handler(
        name=name,
        target=target,
        place=place,
        parameters=tuple(parameters),
        takes_rest=takes_rest,
        aliases=aliases,
    )
