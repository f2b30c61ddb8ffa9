"""`workflow(...)`: walk back from the last steps to the whole graph, and check it at import."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasker_zmq.worker.handlers import CONTEXT_PARAMETER, WHOLE_CONTEXT_PARAMETERS
from tasker_zmq.worker.place import Place, did_you_mean, place_of, refusal
from tasker_zmq.worker.steps import (
    StepDefinition,
    definition_of,
    resolved_parents,
    steps_in,
)

if TYPE_CHECKING:
    from typing import Unpack

    from tasker_zmq.client.client import SubmittedTask, TaskerClient
    from tasker_zmq.client.options import SubmitManyOptions, SubmitOptions

FULL_NAME: Final = re.compile(
    r"(?P<namespace>[A-Za-z_][\w.-]*)/(?P<name>[A-Za-z_][\w.-]*)"
    r"@(?P<version>\d+\.\d+\.\d+[\w.+-]*)",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Workflow:
    """A named task that code defines; `steps` stand in an order in which they can run."""

    namespace: str
    name: str
    version: str
    steps: tuple[StepDefinition, ...]
    parents: Mapping[str, tuple[str, ...]]  # step name: the names it waits for
    place: Place
    description: str = ""
    input_schema: Mapping[str, Any] | None = None

    @property
    def full_name(self) -> str:
        """`namespace/name@version`."""
        return f"{self.namespace}/{self.name}@{self.version}"

    def template(self) -> dict[str, Any]:
        """The same workflow as a task template, the newer YAML dialect's mapping."""
        found: dict[str, Any] = {
            "name": self.name,
            "namespace_name": self.namespace,
            "version": self.version,
        }
        if self.description:
            found["description"] = self.description
        if self.input_schema is not None:
            found["input_schema"] = dict(self.input_schema)
        found["steps"] = [_step_mapping(each, self.parents[each.name]) for each in self.steps]
        return found

    def run_local(
        self, context: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> dict[str, Any]:
        """Run the graph here and now, without a server: {step name: result}, as JSON carries it.

        Retries come at once. A step that fails for good raises what its handler raised.
        """
        from tasker_zmq.worker.local import run_workflow

        return run_workflow(self, {**(context or {}), **fields})

    def submit(
        self,
        context: Mapping[str, Any] | None = None,
        /,
        *,
        client: "TaskerClient | None" = None,
        **options: "Unpack[SubmitOptions]",
    ) -> "SubmittedTask":
        """Have a task of this workflow made and run by a daemon that knows it; see TaskerClient.

        Without `client`, by this process's own connection to where TASKER_COMMANDS says.
        """
        from tasker_zmq.client.shared import shared_client

        return (client or shared_client()).submit(self.full_name, context, **options)

    def submit_many(
        self,
        contexts: Iterable[Mapping[str, Any]],
        /,
        *,
        identities: Iterable[str] | None = None,
        client: "TaskerClient | None" = None,
        **options: "Unpack[SubmitManyOptions]",
    ) -> "list[SubmittedTask]":
        """Have a task of this workflow made and run for each context; see TaskerClient."""
        from tasker_zmq.client.shared import shared_client

        submit_many = (client or shared_client()).submit_many
        return submit_many(self.full_name, contexts, identities=identities, **options)


def workflow(
    full_name: str,
    *last_steps: Callable[..., Any],
    input_schema: Mapping[str, Any] | None = None,
    description: str = "",
) -> Workflow:
    """The workflow `namespace/name@version` that ends with `last_steps`.

    Raises HandlerDefinitionError with file and line for a bad name, a cycle, an unknown parent,
    two steps of one name, or a parameter that `input_schema` shows nothing can fill.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the declaring module's names and line
    place = place_of(frame)
    match = FULL_NAME.fullmatch(full_name)
    if match is None:
        raise refusal(
            place, f"'{full_name}' names no workflow; write namespace/name@1.0.0 (three numbers)"
        )
    if not last_steps:
        raise refusal(place, f"workflow '{full_name}' has no steps; give the last one, or several")
    scope = steps_in(frame)
    graph = _Graph(scope)
    for each in last_steps:
        definition = definition_of(each)
        if definition is None:
            shown = getattr(each, "__name__", repr(each))
            raise refusal(place, f"workflow '{full_name}' ends with '{shown}', which is no @step")
        graph.visit(definition, ())
    for definition in graph.order:
        _check_parameters(definition, graph.parents[definition.name], scope)
        if input_schema is not None:
            _check_against_schema(definition, graph.parents[definition.name], input_schema)
    return Workflow(
        namespace=match["namespace"],
        name=match["name"],
        version=match["version"],
        steps=tuple(graph.order),
        parents=graph.parents,
        place=place,
        description=description,
        input_schema=input_schema,
    )


class _Graph:
    """Walks from children to parents; `order` ends up with every parent before its children."""

    def __init__(self, scope: Mapping[str, StepDefinition]) -> None:
        self._scope = scope
        self._named: dict[str, StepDefinition] = {}
        self.order: list[StepDefinition] = []
        self.parents: dict[str, tuple[str, ...]] = {}

    def visit(self, definition: StepDefinition, path: Sequence[StepDefinition]) -> None:
        if definition in path:
            names = [each.name for each in path[path.index(definition) :]] + [definition.name]
            raise refusal(
                definition.place, f"steps wait for each other in a circle: {' -> '.join(names)}"
            )
        known = self._named.setdefault(definition.name, definition)
        if known is not definition:
            raise refusal(
                definition.place,
                f"two steps are called '{definition.name}'; the other stands at {known.place};"
                " give one another name=",
            )
        if definition.name in self.parents:
            return
        parents = resolved_parents(definition, self._scope)
        for each in parents:
            self.visit(each, (*path, definition))
        self.parents[definition.name] = tuple(dict.fromkeys(each.name for each in parents))
        self.order.append(definition)


def _free_parameters(definition: StepDefinition, parents: Sequence[str]) -> list[tuple[str, bool]]:
    """The parameters that the task context has to fill: name, and whether it must."""
    taken = {CONTEXT_PARAMETER, *WHOLE_CONTEXT_PARAMETERS, *definition.handler.aliases, *parents}
    return [(p.name, p.required) for p in definition.handler.parameters if p.name not in taken]


def _check_parameters(
    definition: StepDefinition, parents: Sequence[str], scope: Mapping[str, StepDefinition]
) -> None:
    """A parameter that names a step declared further down is a slip, not a context field."""
    for name, _ in _free_parameters(definition, parents):
        later = scope.get(name)
        if later is not None and later is not definition:
            raise refusal(
                definition.place,
                f"'{name}' of step '{definition.name}' names a step that is declared after it;"
                f" move that one up, or say after='{name}'",
            )


def _check_against_schema(
    definition: StepDefinition, parents: Sequence[str], schema: Mapping[str, Any]
) -> None:
    if schema.get("additionalProperties") is not False or "patternProperties" in schema:
        return
    properties = schema.get("properties", {})
    for name, required in _free_parameters(definition, parents):
        if required and name not in properties:
            near = did_you_mean(name, [*properties, *parents])
            raise refusal(
                definition.place,
                f"nothing fills '{name}' of step '{definition.name}': it is no parent, and"
                f" input_schema has no such property{near}",
            )


def _step_mapping(definition: StepDefinition, parents: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": definition.name}
    if definition.description:
        found["description"] = definition.description
    found["handler"] = {"callable": definition.handler.name}
    if definition.config:
        found["handler"]["initialization"] = dict(definition.config)
    found["dependencies"] = list(parents)
    found["retry"] = _retry_mapping(definition)
    if definition.timeout_seconds is not None:
        found["timeout_seconds"] = definition.timeout_seconds
    if definition.confirm_start:
        found["confirm_start"] = True
    return found


def _retry_mapping(definition: StepDefinition) -> dict[str, Any]:
    retry: dict[str, Any] = {"max_attempts": definition.attempts}
    if definition.retryable is not None:
        retry["retryable"] = definition.retryable
    if definition.backoff is not None:
        retry["backoff"] = str(definition.backoff.kind)
        retry["backoff_base_ms"] = definition.backoff.base_ms
        retry["max_backoff_ms"] = definition.backoff.ceiling_ms
    return retry
