"""A task as a picture in text: its steps in lanes, each with its state, and why it waits."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from tasker_zmq.cli.output import as_text, relative
from tasker_zmq.domain.explanation import span
from tasker_zmq.domain.ids import HandlerClass
from tasker_zmq.domain.states import StepState
from tasker_zmq.domain.template import StepTemplate, TaskTemplate
from tasker_zmq.store.reads.standing import error_text
from tasker_zmq.templates import draw_text

MARK: Final = "\N{BLACK CIRCLE}"
LANES: Final = f"{MARK}\N{BOX DRAWINGS LIGHT VERTICAL} "
NAME_WIDTH_MAX: Final = 44
PIPE_WIDTH: Final = 100_000
_MARKS: Final = {
    StepState.PENDING: ("\N{WHITE CIRCLE}", "dim"),
    StepState.IN_PROGRESS: ("\N{CIRCLE WITH LEFT HALF BLACK}", "cyan"),
    StepState.WAITING_FOR_RETRY: ("\N{DOTTED CIRCLE}", "yellow"),
    StepState.COMPLETE: (MARK, "green"),
    StepState.ERROR: ("\N{BALLOT X}", "bold red"),
    StepState.IN_DOUBT: ("?", "magenta"),
    StepState.CANCELLED: ("-", "dim"),
    StepState.RESOLVED_MANUALLY: (MARK, "blue"),
}


def page(*, on_stderr: bool = False) -> Console:
    """Where text goes; a pipe has no width, so nothing is folded there."""
    stream = sys.stderr if on_stderr else sys.stdout
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console = Console(file=stream, highlight=False, width=PIPE_WIDTH)
    return console


def print_lines(lines: Iterable[Text | str]) -> None:
    """One line each, cut at the edge of a terminal."""
    console = page()
    for line in lines:
        console.print(line, no_wrap=True, overflow="ellipsis", markup=False)


def print_paragraph(text: str) -> None:
    """Folded at the edge of a terminal."""
    page().print(as_text(text, now=None), markup=False)


def heading(shown: Mapping[str, Any], *, now: datetime) -> Text:
    """`task 12  orders/fulfil_order@1.0.0  in_progress`, with its key and its age."""
    words = [f"task {shown['task_id']}", shown["workflow"]]
    line = Text("  ".join(words), style="bold")
    line.append(f"  {shown['state']}", style=_state_style(shown["state"]))
    if shown["paused"]:
        line.append(" (paused)", style="yellow")
    line.append(f"  requested {relative(shown['requested_at'], now=now)}", style="dim")
    if shown["completed_at"] is not None:
        took = (shown["completed_at"] - shown["requested_at"]).total_seconds()
        line.append(f", took {span(took)}", style="dim")
    identity = shown["identity"] or ""
    if identity and not identity.startswith("command:"):
        line.append(f", key {as_text(identity, now=None)}", style="dim")
    if shown["tags"]:
        line.append(f", tags {as_text(', '.join(shown['tags']), now=None)}", style="dim")
    return line


def _state_style(state: str) -> str:
    return {"complete": "green", "error": "bold red", "in_progress": "cyan"}.get(state, "")


def step_lines(shown: Mapping[str, Any], *, now: datetime) -> list[Text]:
    """The steps of a shown task, parents above children, each with its state."""
    steps = {step["name"]: step for step in shown["steps"]}
    rows = [(lanes, _members(label, steps)) for lanes, label in _drawn(shown)]
    width = max((len(lanes) + len(_label(found)) for lanes, found in rows if found), default=0)
    width = min(width + 1, NAME_WIDTH_MAX)
    return [
        Text(lanes, style="dim") if not found else _row(lanes, found, width=width, now=now)
        for lanes, found in rows
    ]


def _drawn(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lanes and labels; when the picture would be too wide, each step on a line of its own."""
    template = TaskTemplate(
        namespace="",
        name="",
        version="",
        steps=tuple(
            StepTemplate(
                name=step["name"],
                handler_class=HandlerClass(""),
                depends_on=tuple(step["parents"]),
            )
            for step in shown["steps"]
        ),
    )
    lines = draw_text(template).splitlines()
    if not any(MARK in line for line in lines):
        return [(MARK, step["name"]) for step in shown["steps"]]
    return [_split(line) for line in lines]


def _split(line: str) -> tuple[str, str]:
    if MARK not in line:
        return line, ""
    label = line.lstrip(LANES)
    return line[: len(line) - len(label)].rstrip(), label


def _members(label: str, steps: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps for which a row stands: one, or many that are drawn as one."""
    if label in steps or not label:
        return [steps[label]] if label else []
    first = steps[label.partition(",")[0]]
    below = _children(first["name"], steps)
    return [
        step
        for step in steps.values()
        if set(step["parents"]) == set(first["parents"]) and _children(step["name"], steps) == below
    ]


def _children(name: str, steps: Mapping[str, Any]) -> set[str]:
    return {step["name"] for step in steps.values() if name in step["parents"]}


def _label(found: Sequence[Mapping[str, Any]]) -> str:
    name = str(found[0]["name"])
    return name if len(found) == 1 else f"{name} and {len(found) - 1} more"


def _row(lanes: str, found: Sequence[Mapping[str, Any]], *, width: int, now: datetime) -> Text:
    states = Counter(StepState(step["state"]) for step in found)
    mark, style = _MARKS[min(states, key=list(StepState).index)]
    line = Text()
    for each in lanes:
        line.append(mark if each == MARK else each, style=style if each == MARK else "dim")
    line.append(f" {_label(found)}".ljust(max(0, width - len(lanes))))
    if len(found) > 1:
        line.append("  " + ", ".join(f"{count} {state}" for state, count in states.items()))
        return line
    step = found[0]
    line.append(f"  {step['state']:<17}", style=style)
    line.append(f"  {_attempts(step):>5}  {_took(step, now):>7}  {_note(step, now)}")
    line.rstrip()
    return line


def _attempts(step: Mapping[str, Any]) -> str:
    tries = step["tries"] if step["retryable"] else 1
    return f"{step['attempts']}/{tries}" if step["attempts"] else ""


def _took(step: Mapping[str, Any], now: datetime) -> str:
    if step["started_at"] is None or step["state"] == StepState.PENDING:
        return ""
    if step["state"] == StepState.WAITING_FOR_RETRY:
        return ""
    return span(((step["finished_at"] or now) - step["started_at"]).total_seconds())


def _note(step: Mapping[str, Any], now: datetime) -> str:
    """With whom it is, when it goes on, what went wrong."""
    worker = f"on {step['worker']}" if step["worker"] else ""
    error = as_text(error_text(step["error"]), now=None)
    match step["state"]:
        case StepState.WAITING_FOR_RETRY:
            due = relative(step["next_attempt_at"], now=now) if step["next_attempt_at"] else "soon"
            return f"again {due}: {error}" if error else f"again {due}"
        case StepState.ERROR | StepState.IN_DOUBT:
            return error or worker
        case StepState.PENDING:
            return ""
        case _:
            return as_text(worker, now=None)
