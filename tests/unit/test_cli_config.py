"""`tasker-zmq config` and the skeleton around it, as a person at a shell meets them."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tasker_zmq.cli.failures import run
from tasker_zmq.cli.main import SUBCOMMANDS, tasker_zmq
from tasker_zmq.settings import CATALOGUE


@pytest.fixture(autouse=True)
def _own_folder_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in CATALOGUE:
        for name in (setting.variable, *setting.fallback_variables):
            monkeypatch.delenv(name, raising=False)
    for name in ("TASKER_CONFIG", "TASKER_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def tasker(*arguments: str) -> Result:
    """Run it with everything that `main` does, inside this process."""

    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("passed", nargs=-1, type=click.UNPROCESSED)
    def shell(passed: tuple[str, ...]) -> None:
        sys.exit(run(tasker_zmq, passed, program="tasker-zmq"))

    return CliRunner().invoke(shell, list(arguments))


def test_config_show_prints_every_setting_as_json() -> None:
    shown = json.loads(tasker("config", "show", "-o", "json").stdout)
    assert list(shown) == [setting.key for setting in CATALOGUE]
    assert shown["log.level"] == "info"
    assert shown["dispatch.batch_size"] == 10


def test_config_show_tells_origins_and_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_DATABASE_URL", "postgresql://me:sesame@host/db")
    result = tasker("config", "show", "--origin")
    assert "sesame" not in result.output
    assert "postgresql://me:***@host/db" in result.stdout
    assert "TASKER_DATABASE_URL" in result.stdout
    shown = json.loads(tasker("config", "show", "--origin", "-o", "json").stdout)
    assert shown["database.url"] == {
        "value": "postgresql://me:***@host/db",
        "origin": "TASKER_DATABASE_URL",
    }


def test_global_options_reach_the_settings() -> None:
    Path("mine.yaml").write_text("test: {retry: {limit: 9}}\n", encoding="utf-8")
    result = tasker(
        "--config", "mine.yaml", "--env", "test", "--database", "postgresql://flag/db",
        "config", "show", "-o", "json",
    )  # fmt: skip
    shown = json.loads(result.stdout)
    assert (shown["retry.limit"], shown["environment"]) == (9, "test")
    assert shown["database.url"] == "postgresql://flag/db"


def test_warnings_are_chatter_not_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_RETRY_LIMITS", "3")
    result = tasker("config", "show", "-o", "json")
    json.loads(result.stdout)
    assert "warning: unknown variable TASKER_RETRY_LIMITS" in result.stderr


def test_config_validate_says_what_is_wrong_in_any_environment() -> None:
    Path("good.yaml").write_text("retry: {limit: 1}\n", encoding="utf-8")
    result = tasker("config", "validate", "good.yaml")
    assert (result.exit_code, result.stderr) == (0, "good.yaml: OK\n")
    Path("bad.yaml").write_text(
        "test: {heartbeat: {dead_seconds: 3}}\nproduction: {endpoints: {steps: 'tcp://*:1'}}\n",
        encoding="utf-8",
    )
    result = tasker("config", "validate", "bad.yaml")
    assert result.exit_code == 2
    assert "error: 'heartbeat.suspect_seconds'" in result.stderr
    assert "error: 'endpoints.steps' would bind tcp://*:1" in result.stderr


def test_config_validate_needs_no_file() -> None:
    assert tasker("config", "validate").exit_code == 0
    assert tasker("config", "validate", "lost.yaml").exit_code == 2


def test_config_explain_tells_all_about_one_setting() -> None:
    result = tasker("config", "explain", "dispatch.batch_size")
    assert result.exit_code == 0
    for word in ("from 1 to 1000", "TASKER_DISPATCH_BATCH_SIZE", "Default:  10", "Change:"):
        assert word in result.stdout


def test_config_explain_of_no_setting_is_not_found_with_the_nearest() -> None:
    result = tasker("config", "explain", "retry.max_atempts")
    assert result.exit_code == 3
    assert result.stderr == ("error: no setting 'retry.max_atempts'; did you mean 'retry.limit'?\n")
    assert "lists them all" in tasker("config", "explain", "xyzzy").stderr
    assert tasker("config", "explain").exit_code == 2


def test_config_explain_all_and_schema_print_whole_documents() -> None:
    assert tasker("config", "explain", "--all").stdout.startswith("# Settings\n")
    assert json.loads(tasker("config", "schema").stdout)["title"] == "tasker-zmq settings"


def test_a_wrong_setting_ends_any_command_with_one_plain_line() -> None:
    Path("config").mkdir()
    Path("config/tasker.yaml").write_text("retry: {limt: 1}\n", encoding="utf-8")
    result = tasker("config", "show")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: unknown setting 'retry.limt' in config/tasker.yaml:1; did you mean 'retry.limit'?\n"
    )


def test_an_unknown_command_or_option_is_answered_with_the_nearest() -> None:
    result = tasker("confg")
    assert result.exit_code == 2
    assert "unknown command 'confg'; did you mean 'config'?" in result.stderr
    assert tasker("--nonsense").exit_code == 2
    late = tasker("config", "show", "--env", "test")
    assert "hint: --env goes before the command: tasker-zmq --env" in late.stderr


def test_help_lists_the_commands_that_are_there_and_run_is_the_daemon() -> None:
    result = tasker("--help")
    assert result.exit_code == 0
    assert "Show, check and explain the settings." in result.stdout
    assert SUBCOMMANDS["run"].target == SUBCOMMANDS["daemon"].target


def test_every_command_can_be_loaded_and_has_help() -> None:
    for name in SUBCOMMANDS:
        assert tasker(name, "--help").exit_code == 0, name


def test_help_imports_none_of_the_heavy_modules() -> None:
    program = (
        "import sys; from tasker_zmq.cli.failures import run;"
        "from tasker_zmq.cli.main import tasker_zmq;"
        "run(tasker_zmq, ['--help'], program='tasker-zmq');"
        "print(sorted({'sqlalchemy', 'zmq', 'rich', 'yaml', 'jsonschema'} & set(sys.modules)),"
        "file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stderr == "[]\n"
