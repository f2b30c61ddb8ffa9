"""What each environment of a template says about the steps, ready to be laid over them."""

from typing import Final

from tasker_zmq.templates.dialects import Dialect
from tasker_zmq.templates.drafts import Draft
from tasker_zmq.templates.fields import Section, labelled
from tasker_zmq.templates.plain import VALUES_MAX, weight
from tasker_zmq.templates.problems import shown

ENVIRONMENTS_MAX: Final = 20
EVERY_STEP: Final = "ALL"  # an override of this name is laid over every step

Overrides = dict[str, list[Draft]]


def read_overrides(
    top: Section, dialect: Dialect, *, named: dict[str, Draft]
) -> dict[str, Overrides]:
    """For each environment the layers of each step, the lowest first."""
    environments = top.section("environments")
    if environments is None:
        return {}
    if len(environments.values) > ENVIRONMENTS_MAX:
        top.refuse("environments", f"more than {ENVIRONMENTS_MAX} environments; leave some out")
        return {}
    found: dict[str, Overrides] = {}
    for name in environments.values:
        values = environments.mapping(name)
        if values is None:
            continue
        label = labelled("environment", name, len(found)).removesuffix(": ") + ", "
        section = Section(label, values, environments.at(name), top.findings)
        section.note_unused(dialect.environment_keys)
        found[name] = {}
        for layers in (_listed(section, dialect), _keyed(section)):
            read = _read_layers(layers, dialect, named=named)
            for step, draft in read.items():
                found[name].setdefault(step, []).append(draft)
    return found


def _listed(environment: Section, dialect: Dialect) -> list[tuple[object, Section]]:
    sections = environment.sections(dialect.steps_key, label="step")
    return [(section.values.get("name"), section) for section in sections]


def _keyed(environment: Section) -> list[tuple[object, Section]]:
    keyed = environment.section("step_overrides")
    if keyed is None:
        return []
    sections: list[tuple[object, Section]] = []
    for name in keyed.values:
        values = keyed.mapping(name)
        if values is not None:
            label = environment.label + labelled("step", name, len(sections))
            section = Section(label, values, keyed.at(name), environment.findings)
            sections.append((name, section))
    return sections


def _read_layers(
    layers: list[tuple[object, Section]], dialect: Dialect, *, named: dict[str, Draft]
) -> dict[str, Draft]:
    """One draft per step; unknown and repeated steps are refused."""
    read: dict[str, Draft] = {}
    for name, section in layers:
        if not isinstance(name, str) or (name not in named and name != EVERY_STEP):
            guess = section.findings.guess(name, named) if isinstance(name, str) else ""
            _refuse(section, f"overrides {shown(name)}, which is no step here{guess}")
        elif name in read:
            _refuse(section, "the step is overridden twice in one list; put it together")
        else:
            draft = dialect.read_step(section)
            copies = len(named) if name == EVERY_STEP else 1
            if draft.depends_on:
                _refuse(section, "an environment cannot change what a step depends on")
            elif weight(draft.handler_config) * copies > VALUES_MAX:
                _refuse(section, "the handler configuration is too large to be given to every step")
            else:
                read[name] = draft
    return read


def _refuse(section: Section, message: str) -> None:
    section.findings.refuse(section.where, section.label + message)
