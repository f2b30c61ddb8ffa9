"""PublishTemplates: makes workflows known, never changes a definition under its tasks."""

from collections.abc import Mapping
from typing import Any

from tasker_zmq.commands.context import Sitting
from tasker_zmq.domain.graph import sinks, topological_order
from tasker_zmq.domain.ids import NamedTaskId
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.template import StepTemplate, TaskTemplate
from tasker_zmq.protocol.commands import PublishTemplates, TemplatesPublished, TemplateVerdict
from tasker_zmq.store import definitions as store
from tasker_zmq.store.definitions import NewDefinition, NewStepDefinition
from tasker_zmq.store.supported import associate_workers
from tasker_zmq.templates import digest, load_mapping

PUBLISHED = "published"
UNCHANGED = "unchanged"
REPLACED = "replaced"
REFUSED = "refused"


def publish_templates(sitting: Sitting, asked: PublishTemplates) -> TemplatesPublished:
    """One verdict per template, in order."""
    return TemplatesPublished(
        verdicts=tuple(publish(sitting, mapping) for mapping in asked.templates)
    )


def publish(sitting: Sitting, mapping: Mapping[str, Any]) -> TemplateVerdict:
    """Publish one template unless it is there already or would change what tasks are pinned to."""
    name = str(mapping.get("name", "a nameless template"))
    loaded = load_mapping(mapping, source=name, environment=sitting.desk.environment)
    warnings = tuple(str(warning) for warning in loaded.warnings)
    template = loaded.template
    if template is None:
        problems = tuple(str(problem) for problem in loaded.problems)
        return TemplateVerdict(
            full_name=name, verdict=REFUSED, problems=problems, warnings=warnings
        )
    # What decides is the template without this daemon's defaults: a changed setting must not make
    # the same workflow look changed. Rows that are published keep the defaults they were given.
    own = digest(template)
    known = store.identify(
        sitting.connection,
        namespace=template.namespace,
        name=template.name,
        version=template.version,
    )
    if known is not None and known.template_digest == own:
        return TemplateVerdict(full_name=template.full_name, verdict=UNCHANGED, warnings=warnings)
    sitting.changes.then(sitting.desk.state.identified.clear)
    rows = filled_rows(sitting, mapping, template)
    if known is None:
        named_task_id = store.publish(sitting.connection, rows, now=sitting.now)
        task = TaskName(rows.namespace, rows.name, rows.version)
        associate_workers(sitting.connection, named_task_id, task, now=sitting.now)
        return TemplateVerdict(full_name=template.full_name, verdict=PUBLISHED, warnings=warnings)
    return _replace(sitting, known.named_task_id, rows, warnings=warnings)


def filled_rows(
    sitting: Sitting, mapping: Mapping[str, Any], template: TaskTemplate
) -> NewDefinition:
    """The rows of a template, with this daemon's defaults where it says nothing."""
    filled = load_mapping(
        mapping,
        source=template.name,
        environment=sitting.desk.environment,
        defaults=sitting.desk.tuning.step_defaults,
    ).template
    return definition(filled or template, template_digest=digest(template))


def _replace(
    sitting: Sitting,
    named_task_id: NamedTaskId,
    rows: NewDefinition,
    *,
    warnings: tuple[str, ...],
) -> TemplateVerdict:
    full_name = f"{rows.namespace}/{rows.name}@{rows.version}"
    pinned = store.task_count(sitting.connection, named_task_id)
    if pinned:
        at_least = "at least " if pinned >= store.PINNED_COUNT_MAX else ""
        problem = (
            f"{full_name} is published with other steps, and {at_least}{pinned} tasks are pinned "
            "to them: give the changed workflow a new version"
        )
        return TemplateVerdict(
            full_name=full_name, verdict=REFUSED, problems=(problem,), warnings=warnings
        )
    store.replace(sitting.connection, named_task_id, rows, now=sitting.now)
    state = sitting.desk.state
    state.forget(named_task_id)
    sitting.changes.then(lambda: state.forget(named_task_id))
    return TemplateVerdict(full_name=full_name, verdict=REPLACED, warnings=warnings)


def definition(template: TaskTemplate, *, template_digest: str | None = None) -> NewDefinition:
    """A template as rows: steps in an order in which parents come first."""
    names = tuple(step.name for step in template.steps)
    parents = {step.name: step.depends_on for step in template.steps}
    by_name = {step.name: step for step in template.steps}
    leaves = frozenset(sinks(names, parents))
    return NewDefinition(
        namespace=template.namespace,
        name=template.name,
        version=template.version,
        description=template.description,
        template=dict(template.source),
        template_digest=template_digest or digest(template),
        input_schema=template.input_schema,
        steps=tuple(
            NewStepDefinition(
                name=name, position=position, is_leaf=name in leaves, values=_values(by_name[name])
            )
            for position, name in enumerate(topological_order(names, parents), start=1)
        ),
    )


def _values(step: StepTemplate) -> dict[str, Any]:
    return {
        "handler_class": step.handler_class,
        "handler_config": step.handler_config,
        "depends_on": list(step.depends_on),
        "retryable": step.retryable,
        "retry_limit": step.retry_limit,
        "backoff": step.backoff.kind,
        "backoff_base_ms": step.backoff.base_ms,
        "backoff_ceiling_ms": step.backoff.ceiling_ms,
        "timeout_seconds": step.timeout_seconds,
        "confirm_start": step.confirm_start,
    }
