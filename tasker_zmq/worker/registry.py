"""Handlers by name. Only this process's own imports fill it; a name from the wire is a key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

from tasker_zmq.worker.handlers import HANDLER_MARK, Handler, StepHandler, make_handler
from tasker_zmq.worker.place import NOWHERE, did_you_mean, refusal
from tasker_zmq.worker.steps import definition_of
from tasker_zmq.worker.workflow import Workflow


@dataclass(frozen=True)
class HandlerRegistry:
    """What this worker can run."""

    handlers: Mapping[str, Handler] = field(default_factory=dict)

    def find(self, name: str) -> Handler | None:
        return self.handlers.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.handlers))

    def unknown(self, name: str) -> str:
        """The sentence for a handler that is not here."""
        near = did_you_mean(name, self.handlers)
        return f"this worker has no handler '{name[:200]}'{near}"


def registry_of(modules: Iterable[ModuleType]) -> HandlerRegistry:
    """The handlers of these modules and of the workflows they hold.

    Raises HandlerDefinitionError when two different handlers claim one name.
    """
    found: dict[str, Handler] = {}
    for module in modules:
        for handler in handlers_in(module):
            known = found.setdefault(handler.name, handler)
            if known.target is not handler.target:
                raise refusal(
                    handler.place,
                    f"two handlers are called '{handler.name}'; the other stands at {known.place};"
                    " give one another name with @step(handler=...)",
                )
    return HandlerRegistry(found)


def workflows_in(modules: Iterable[ModuleType]) -> tuple[Workflow, ...]:
    """The workflows that these modules name, each once; two of one full name are refused."""
    found: dict[str, Workflow] = {}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, Workflow):
                known = found.setdefault(value.full_name, value)
                if known is not value:
                    raise refusal(
                        value.place,
                        f"workflow '{value.full_name}' is also defined at {known.place};"
                        " give one another name or version",
                    )
    return tuple(found.values())


def handlers_in(module: ModuleType) -> Iterable[Handler]:
    """The handlers among the names of one module, steps of its workflows included."""
    for value in list(vars(module).values()):
        if isinstance(value, Workflow):
            for definition in value.steps:
                yield definition.handler
            continue
        handler = _handler_of(value)
        if handler is not None:
            yield handler


def _handler_of(value: object) -> Handler | None:
    definition = definition_of(value)
    if definition is not None:
        return definition.handler
    mark = getattr(value, "__dict__", {}).get(HANDLER_MARK)
    if isinstance(mark, Handler) and mark.target is value:
        return mark
    if isinstance(value, type) and issubclass(value, StepHandler):
        if value.process is StepHandler.process:
            return None
        name = value.handler_name or f"{value.__module__}.{value.__name__}"
        return make_handler(value, name, place=NOWHERE, aliases={})
    return None
