"""Commands of others, registered as entry points of an installed package."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from tasker_zmq.commands.plugins import GROUP, CommandPluginError, load
from tasker_zmq.commands.router import Lane

MODULE = """
import msgspec
from tasker_zmq.commands.router import Lane, Route


class CountTasks(msgspec.Struct, frozen=True, kw_only=True):
    state: str


def count(connection, request):
    return {"state": request.state}


ROUTE = Route(Lane.READER, CountTasks, "TasksCounted", count)
FIRST = Route(Lane.ENGINE, CountTasks, "TasksCounted", count)
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip would leave it, with one command."""
    (tmp_path / "counting_plugin.py").write_text(MODULE, encoding="utf-8")
    about = tmp_path / "counting-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: counting\nVersion: 1.0\n", encoding="utf-8")
    registered = f"[{GROUP}]\nCountTasks = counting_plugin:ROUTE\n"
    (about / "entry_points.txt").write_text(registered, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_an_installed_package_adds_a_command_in_a_few_lines() -> None:
    found = load(entry_points(group=GROUP))
    route = found["CountTasks"]
    assert (route.lane, route.reply_type) == (Lane.READER, "TasksCounted")
    assert route.handle(None, route.payload(state="error")) == {"state": "error"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GetTask", "counting_plugin:ROUTE", "is there already"),
        ("count tasks", "counting_plugin:ROUTE", "no name for a command"),
        ("CountTasks", "counting_plugin:NOTHING", "cannot be imported"),
        ("CountTasks", "nowhere:ROUTE", "cannot be imported"),
        ("CountTasks", "counting_plugin:count", "is no Route"),
        ("CountTasks", "counting_plugin:FIRST", "is no Route in one of the lanes"),
    ],
)
def test_what_cannot_be_a_command_is_told_with_its_name(name: str, value: str, said: str) -> None:
    with pytest.raises(CommandPluginError, match=said) as told:
        load([EntryPoint(name=name, value=value, group=GROUP)])
    assert name in str(told.value)
