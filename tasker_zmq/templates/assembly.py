"""From a template's mapping to a TaskTemplate: header, steps, graph, overrides, in that order."""

from typing import Any, Final

from tasker_zmq.domain import graph
from tasker_zmq.domain.template import StepDefaults, StepTemplate, TaskTemplate
from tasker_zmq.templates.dialects import Dialect, dialect_of
from tasker_zmq.templates.drafts import Draft, laid_over, resolved
from tasker_zmq.templates.fields import (
    NAME,
    NAME_WANTED,
    TASK_NAME,
    TASK_NAME_WANTED,
    VERSION,
    VERSION_WANTED,
    Section,
)
from tasker_zmq.templates.newer import NEWER
from tasker_zmq.templates.older import OLDER
from tasker_zmq.templates.overrides import EVERY_STEP, Overrides, read_overrides
from tasker_zmq.templates.problems import Findings, clipped
from tasker_zmq.templates.schemas import read_schema

STEPS_MAX: Final = 10_000
ROAD_MAX: Final = 20  # names of a circle in a message
DEFAULT_NAMESPACE: Final = "default"
DEFAULT_VERSION: Final = "1.0.0"


def assembled(
    source: dict[str, Any], findings: Findings, *, environment: str, defaults: StepDefaults
) -> TaskTemplate:
    """The template as far as it can be read: to be used only if `findings` has no problem."""
    top = Section("", source, (), findings)
    dialect = dialect_of(top, older=OLDER, newer=NEWER)
    if dialect is not None:
        top.note_unused(dialect.task_keys)
    steps: tuple[StepTemplate, ...] = ()
    if dialect is not None:
        steps = _steps(top, dialect, environment=environment, defaults=defaults)
    return TaskTemplate(
        namespace=_namespace(top),
        name=_name(top),
        version=_version(top),
        steps=steps,
        description=top.text("description") or "",
        input_schema=None if dialect is None else read_schema(top, dialect.schema_key),
        source=source,
    )


def _name(top: Section) -> str:
    if top.said("name", "task_name") is None:
        top.refuse("name", f"'name' is missing or empty; it wants {TASK_NAME_WANTED}")
    return top.matching("name", "task_name", pattern=TASK_NAME, wanted=TASK_NAME_WANTED) or ""


def _namespace(top: Section) -> str:
    keys = ("namespace_name", "namespace")
    return top.matching(*keys, pattern=NAME, wanted=NAME_WANTED) or DEFAULT_NAMESPACE


def _version(top: Section) -> str:
    value = top.values.get("version")
    if isinstance(value, int | float) and not isinstance(value, bool):
        top.warn(
            "version",
            f"'version' is the number {value} (YAML reads 1.10 as 1.1); put it in quotes",
        )
        top = Section(top.label, {"version": str(value)}, top.where, top.findings)
    return top.matching("version", pattern=VERSION, wanted=VERSION_WANTED) or DEFAULT_VERSION


def _steps(
    top: Section, dialect: Dialect, *, environment: str, defaults: StepDefaults
) -> tuple[StepTemplate, ...]:
    """The steps under the overrides of `environment`; those of the others are checked as well."""
    sections = top.sections(dialect.steps_key, label="step")
    if top.values[dialect.steps_key] in (None, []):
        top.refuse(dialect.steps_key, f"'{dialect.steps_key}' is empty; a template wants a step")
    if len(sections) > STEPS_MAX:
        top.refuse(
            dialect.steps_key,
            f"{len(sections)} steps are too many; a template has at most {STEPS_MAX}",
        )
        return ()
    drafts = [dialect.read_step(section) for section in sections]
    named = _named(drafts)
    _check_handlers(drafts)
    _check_graph(named)
    _check_named_steps(top, named)
    layers: dict[str, Overrides] = {"": {}} | read_overrides(top, dialect, named=named)
    chosen: tuple[StepTemplate, ...] = ()
    for name, above in layers.items():
        steps = tuple(
            _resolved(draft, above, dialect, defaults=defaults) for draft in named.values()
        )
        if not name or name == environment:
            chosen = steps
    return chosen


def _resolved(
    draft: Draft, above: Overrides, dialect: Dialect, *, defaults: StepDefaults
) -> StepTemplate:
    for layer in (*above.get(EVERY_STEP, ()), *above.get(draft.name or "", ())):
        draft = laid_over(draft, layer)
    return resolved(
        draft,
        retry_limit=dialect.retry_limit,
        config_timeout=dialect.config_timeout,
        defaults=defaults,
    )


def _named(drafts: list[Draft]) -> dict[str, Draft]:
    """The steps by name; nameless and repeated ones are refused."""
    named: dict[str, Draft] = {}
    for draft in drafts:
        section = draft.section
        if draft.name is None:
            if section.values.get("name") is None:
                section.refuse("name", f"'name' is missing or empty; it wants {NAME_WANTED}")
        elif draft.name in named:
            first = named[draft.name].section.where[-1]
            place = f"step {first + 1}" if isinstance(first, int) else "another"
            section.refuse(
                "name", f"the name is taken by {place} of this template; give each step its own"
            )
        else:
            named[draft.name] = draft
    return named


def _check_handlers(drafts: list[Draft]) -> None:
    for draft in drafts:
        section = draft.section
        handler = section.values.get("handler")
        told = isinstance(handler, dict) and handler.get("callable") is not None
        if draft.handler_class is None and not told and not section.values.get("handler_class"):
            if handler is not None and not isinstance(handler, dict):
                continue  # refused already, for its type
            section.findings.refuse(
                section.where,
                f"{section.label}no handler; name one under 'handler.callable'"
                " (older dialect: 'handler_class')",
            )


def _check_graph(named: dict[str, Draft]) -> None:
    unknown = False
    for name, draft in named.items():
        for parent in draft.depends_on or ():
            if draft.section.findings.full:
                return
            if parent == name:
                _refuse_parent(draft, parent, "depends on itself; leave it out")
            elif parent not in named:
                unknown = True
                guess = draft.section.findings.guess(parent, named)
                told = f"depends on '{clipped(parent)}', which is no step here{guess}"
                _refuse_parent(draft, parent, told)
    parents = {
        name: [each for each in draft.depends_on or () if each in named and each != name]
        for name, draft in named.items()
    }
    circle = None if unknown else graph.cycle(tuple(named), parents)
    if circle:
        rank = {name: index for index, name in enumerate(named)}
        first = min(circle, key=rank.__getitem__)
        turned = circle[circle.index(first) : -1] + circle[: circle.index(first)]
        road = " -> ".join(_shortened((*turned, first)))
        section = named[first].section
        section.findings.refuse(
            section.where,
            f"the steps wait for each other in a circle: {road}; remove one of these dependencies",
        )


def _shortened(road: tuple[str, ...]) -> tuple[str, ...]:
    if len(road) <= ROAD_MAX:
        return road
    half = ROAD_MAX // 2
    return (*road[:half], f"({len(road) - 2 * half} more)", *road[-half:])


def _refuse_parent(draft: Draft, parent: str, message: str) -> None:
    """Points at the parent's own line, wherever this dialect writes it."""
    section = draft.section
    for key in ("dependencies", "depends_on_steps", "depends_on_step"):
        value = section.values.get(key)
        if value == parent:
            section.refuse(key, message)
            return
        if isinstance(value, list) and parent in value:
            where = (*section.at(key), value.index(parent))
            section.findings.refuse(where, section.label + message)
            return


def _check_named_steps(top: Section, named: dict[str, Draft]) -> None:
    listed = top.names("named_steps") if "step_templates" in top.values else None
    if listed is None:
        return
    known = set(listed)
    for name in listed:
        if name not in named:
            guess = top.findings.guess(name, named)
            message = f"'named_steps' lists '{clipped(name)}', which is no step here{guess}"
            top.refuse("named_steps", message)
    for name in named:
        if name not in known:
            top.refuse("named_steps", f"'named_steps' does not list the step '{name}'; add it")
