"""`tasker-zmq tasks cancel|pause|resume|retry|execute`: what people decide about whole tasks."""

from collections.abc import Mapping
from typing import Final

import click
import msgspec

from tasker_zmq.cli.choosing import the_task
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.cli.control import decide, decision_options, in_pages, tell, the_reason
from tasker_zmq.cli.database import reading
from tasker_zmq.cli.invocation import Invocation
from tasker_zmq.cli.output import Output, output_option, print_json
from tasker_zmq.domain.control import TaskAction
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.control import ControlTasks
from tasker_zmq.protocol.executing import ExecuteWorkflow, WorkflowExecuted

_DONE: Final[Mapping[TaskAction, str]] = {
    TaskAction.CANCEL: "cancelled",
    TaskAction.PAUSE: "paused",
    TaskAction.RESUME: "resumed",
    TaskAction.RETRY: "retried",
}
_HELP: Final[Mapping[TaskAction, str]] = {
    TaskAction.CANCEL: "End tasks; nothing of them starts any more, and workers are told.",
    TaskAction.PAUSE: "Start nothing more of tasks until they are resumed; what runs may end.",
    TaskAction.RESUME: "Let paused tasks go on, at once.",
    TaskAction.RETRY: "Try every failed step of tasks again, with all its tries.",
}


def add_to(group: click.Group) -> None:
    """Give the group one command for each thing that can be decided."""
    for action in TaskAction:
        group.add_command(_command(action))
    group.add_command(execute)


@click.command()
@click.argument("word", metavar="ID|KEY")
@output_option
@click.pass_obj
def execute(invocation: Invocation, *, word: str, output: Output) -> None:
    """Run a task now that nobody runs, or that is to begin later; else say what it is at."""
    with reading(invocation) as connection:
        task_id = the_task(connection, word)
    with CommandClient(invocation.settings.endpoints.commands) as client:
        answer = client.ask("ExecuteWorkflow", ExecuteWorkflow(task_id=task_id))
    executed = codec.decode_data(answer, WorkflowExecuted)
    if output is Output.JSON:
        print_json(msgspec.to_builtins(executed))
    else:
        click.echo(executed.message)


def _command(action: TaskAction) -> click.Command:
    @click.command(name=action.value, help=_HELP[action])
    @click.argument("words", metavar="ID|KEY...", nargs=-1, required=True)
    @decision_options
    @output_option
    @click.pass_obj
    def decided(
        invocation: Invocation,
        *,
        words: tuple[str, ...],
        why: str | None,
        by: str | None,
        output: Output,
    ) -> None:
        request = ControlTasks(action=action, task_ids=(), why=the_reason(why), by=by)
        with reading(invocation) as connection:
            ids = [the_task(connection, word) for word in words]
        requests = [msgspec.structs.replace(request, task_ids=page) for page in in_pages(ids)]
        outcome = decide(invocation, requests)
        so = "running" if action is TaskAction.RESUME else _DONE[action]
        tell(outcome, _DONE[action], already=so, output=output)

    return decided
