"""Where settings come from, which source wins, and what is said about a mistake."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings import (
    CATALOGUE,
    ExecutorKind,
    Loaded,
    LogFormat,
    Settings,
    load,
)

NOTHING: Mapping[str, str] = {"HOME": "/home/nobody"}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_from(
    text: str | None = None,
    *,
    environment: str | None = None,
    variables: Mapping[str, str] = NOTHING,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    file = None
    if text is not None:
        file = Path("tasker.yaml")
        file.write_text(text, encoding="utf-8")
    return load(
        config=file,
        environment=environment,
        variables={**NOTHING, **variables},
        overrides=overrides or {},
    )


def problem_with(text: str | None = None, *, variables: Mapping[str, str] = NOTHING) -> str:
    with pytest.raises(SettingsError) as caught:
        load_from(text, variables=variables)
    return str(caught.value)


def test_without_any_source_every_setting_has_its_default() -> None:
    loaded = load_from()
    for setting in CATALOGUE:
        if setting.key != "database.data_dir":
            value = loaded.settings.value_of(setting.key)
            assert str(value) == str(setting.default), setting.key
        assert loaded.origins[setting.key] == "default"
    assert loaded.warnings == ()


def test_the_catalogue_and_the_values_agree_on_keys_and_defaults() -> None:
    defaults = Settings()
    assert Settings(database=defaults.database) == defaults
    for setting in CATALOGUE:
        if setting.key != "database.data_dir":
            assert str(defaults.value_of(setting.key)) == str(setting.default), setting.key


def test_the_embedded_database_lies_where_xdg_says() -> None:
    settings = load_from(variables={"XDG_DATA_HOME": "/share"}).settings
    assert settings.database.data_dir == Path("/share/tasker-zmq/postgres")
    settings = load_from(variables={"XDG_DATA_HOME": "relative"}).settings
    assert settings.database.data_dir == Path("/home/nobody/.local/share/tasker-zmq/postgres")


def test_flags_win_over_variables_and_variables_over_the_file() -> None:
    text = "dispatch: {batch_size: 2, credit_factor: 2.5, sweep_seconds: 2s}\n"
    loaded = load_from(
        text,
        variables={"TASKER_DISPATCH_BATCH_SIZE": "3", "TASKER_DISPATCH_CREDIT_FACTOR": "3.5"},
        overrides={"dispatch.batch_size": 4, "dispatch.credit_factor": None},
    )
    dispatch = loaded.settings.dispatch
    assert (dispatch.batch_size, dispatch.credit_factor, dispatch.sweep_seconds) == (4, 3.5, 2.0)
    assert loaded.origins["dispatch.batch_size"] == "flag"
    assert loaded.origins["dispatch.credit_factor"] == "TASKER_DISPATCH_CREDIT_FACTOR"
    assert loaded.origins["dispatch.sweep_seconds"] == "tasker.yaml:1"


ENVIRONMENTS = """\
default:
  retry: {limit: 1}
  log: {level: debug}
production:
  retry: {limit: 7}
staging:
  log: {format: json}
"""


def test_the_chosen_environment_is_laid_over_the_default_section() -> None:
    production = load_from(ENVIRONMENTS, environment="production").settings
    assert (production.retry.limit, production.log.level) == (7, "debug")
    assert production.environment == "production"


def test_the_variable_chooses_the_environment_and_the_flag_wins_over_it() -> None:
    variables = {"TASKER_ENV": "staging"}
    assert load_from(ENVIRONMENTS, variables=variables).settings.log.format is LogFormat.JSON
    chosen = load_from(ENVIRONMENTS, environment="production", variables=variables)
    assert chosen.settings.log.format is LogFormat.TEXT


def test_a_standard_environment_needs_no_section_but_another_one_does() -> None:
    assert load_from(ENVIRONMENTS, environment="test").settings.retry.limit == 1
    with pytest.raises(SettingsError, match=r"no section 'stagin' in .*; did you mean 'staging'"):
        load_from(ENVIRONMENTS, environment="stagin")


def test_a_file_may_choose_its_environment_at_the_top() -> None:
    loaded = load_from("environment: production\n" + ENVIRONMENTS)
    assert loaded.settings.retry.limit == 7
    message = problem_with("default: {environment: production}\n")
    assert "use --env, TASKER_ENV or the top of the file" in message


def test_a_misspelt_environment_is_warned_about() -> None:
    loaded = load_from("prodution: {retry: {limit: 2}}\n")
    assert loaded.warnings == (
        "section 'prodution' in tasker.yaml:1 is not in use; did you mean 'production'?",
    )


def test_an_unknown_key_is_refused_with_file_line_and_nearest_key() -> None:
    message = problem_with("default:\n  retry:\n    max_atempts: 3\n")
    assert message == (
        "unknown setting 'retry.max_atempts' in tasker.yaml:3; did you mean 'retry.limit'?"
    )
    assert problem_with("dispatch: {batchsize: 3}\n").endswith(
        "did you mean 'dispatch.batch_size'?"
    )


def test_an_unknown_key_far_from_all_others_is_told_what_there_is() -> None:
    assert "'drain' has: grace_seconds" in problem_with("drain: {colour: red}\n")
    assert "the sections are: database, endpoints" in problem_with("colour: red\n")
    assert "indented under it, 'limit:'" in problem_with("retry.limit: 3\n")


def test_mistakes_in_other_environments_are_found_too() -> None:
    assert "unknown setting 'retry.limitt'" in problem_with("production: {retry: {limitt: 1}}\n")


def test_all_problems_are_told_at_once() -> None:
    message = problem_with(
        "retry: {limit: many}\ntick: {messages: 1}\n", variables={"TASKER_LOG_LEVEL": "loud"}
    )
    assert len(message.splitlines()) == 3


def test_a_value_out_of_range_is_refused_with_the_range() -> None:
    assert problem_with("dispatch: {batch_size: 0}\n") == (
        "'dispatch.batch_size' wants a whole number from 1 to 1000, found 0 (from tasker.yaml:1)"
    )
    message = problem_with(variables={"TASKER_HEARTBEAT_INTERVAL_SECONDS": "1h"})
    assert "wants a duration from 50ms to 5m" in message
    assert message.endswith("found '1h' (from TASKER_HEARTBEAT_INTERVAL_SECONDS)")


def test_durations_sizes_flags_lists_and_choices_are_read_from_text() -> None:
    settings = load_from(
        variables={
            "TASKER_LIMITS_RESULT_BYTES_MAX": "2MiB",
            "TASKER_RETRY_BACKOFF_BASE_MS": "2s",
            "TASKER_TIMEOUTS_STEP_SECONDS": "1500ms",
            "TASKER_DISPATCH_LEGACY_WORKERS": "off",
            "TASKER_ENDPOINTS_RESULTS_CONNECT": "tcp://a:1, ipc:///tmp/x",
            "TASKER_WORKER_EXECUTOR": "process",
        }
    ).settings
    assert settings.limits.result_bytes_max == 2 << 20
    assert settings.retry.backoff_base_ms == 2_000
    assert settings.timeouts.step_seconds == 1.5
    assert not settings.dispatch.legacy_workers
    assert settings.endpoints.results_connect == ("tcp://a:1", "ipc:///tmp/x")
    assert settings.worker.executor is ExecutorKind.PROCESS


def test_the_database_is_found_under_both_variables_and_ours_wins() -> None:
    usual = {"DATABASE_URL": "postgresql://usual/db"}
    assert load_from(variables=usual).settings.database.url == "postgresql://usual/db"
    ours = {**usual, "TASKER_DATABASE_URL": "postgresql://ours/db"}
    assert load_from(variables=ours).settings.database.url == "postgresql://ours/db"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_from(variables={"TASKER_RETRY_LIMIT": ""}).settings.retry.limit == 3


def test_a_secret_may_lie_in_a_file() -> None:
    Path("secret").write_text("postgresql://u:p@h/db\n", encoding="utf-8")
    loaded = load_from(variables={"TASKER_DATABASE_URL_FILE": "secret"})
    assert loaded.settings.database.url == "postgresql://u:p@h/db"
    assert loaded.origins["database.url"] == "TASKER_DATABASE_URL_FILE"
    assert loaded.warnings == ()


def test_a_lost_or_doubled_secret_is_refused() -> None:
    message = problem_with(variables={"TASKER_DATABASE_URL_FILE": "lost"})
    assert message.startswith("cannot read the file of TASKER_DATABASE_URL_FILE lost: ")
    both = {"TASKER_DATABASE_URL_FILE": "x", "TASKER_DATABASE_URL": "postgresql://h/db"}
    assert "are both set; keep one of them" in problem_with(variables=both)


def test_a_password_is_neither_in_messages_nor_in_representations() -> None:
    message = problem_with(variables={"DATABASE_URL": "mysql://me:sesame@host/db"})
    assert "sesame" not in message
    loaded = load_from(variables={"DATABASE_URL": "postgresql://me:sesame@host/db"})
    assert "sesame" not in repr(loaded)


def test_an_unknown_variable_of_ours_is_warned_about_with_the_nearest() -> None:
    loaded = load_from(
        variables={
            "TASKER_DISPATCH_BATCHSIZE": "1",
            "TASKER_TEST_DATABASE_URL": "x",
            "TASKER_CONFIG": "",
            "TASKER_DEBUG": "1",
            "TASKER_COMMANDS": "tcp://127.0.0.1:9",
            "OTHER": "1",
        }
    )
    assert loaded.warnings == (
        (
            "unknown variable TASKER_DISPATCH_BATCHSIZE has no effect;"
            " did you mean TASKER_DISPATCH_BATCH_SIZE?"
        ),
    )
    assert loaded.settings.worker.commands == ("tcp://127.0.0.1:9",)


def test_text_of_the_file_is_filled_from_variables() -> None:
    text = "core_id: core-${NUMBER:-1}\ntemplates: {folder: '${FOLDER}/tasks'}\n"
    settings = load_from(text, variables={"FOLDER": "/srv", "NUMBER": "12"}).settings
    assert (settings.core_id, settings.templates.folder) == ("core-12", Path("/srv/tasks"))
    message = problem_with(text)
    assert "'templates.folder' needs the variable FOLDER, which is not set" in message
    assert load_from("core_id: a${X:-}b\n").settings.core_id == "ab"
    assert "not '${NAME}'" in problem_with("core_id: a${\n")


def test_another_environments_variables_need_not_be_set() -> None:
    text = "production: {core_id: '${PRODUCTION_NAME}', retry: {limit: '${LIMIT:-x}'}}\n"
    assert load_from(text).settings.core_id == "core-1"


def test_anchors_and_merge_keys_work_also_under_x() -> None:
    text = "x-common: &common\n  limit: 4\n  jitter: 0.1\nretry:\n  <<: *common\n  limit: 5\n"
    retry = load_from(text).settings.retry
    assert (retry.limit, retry.jitter) == (5, 0.1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("retry: {limit: 1}\nretry: {limit: 2}\n", "tasker.yaml:2 sets 'retry' a second time"),
        ("retry: [\n", "is not YAML"),
        ("- a\n", "tasker.yaml:1 wants a mapping of sections"),
        ("retry: 3\n", "'retry' wants a mapping of settings"),
        ("default: 3\n", "tasker.yaml:1 wants a mapping of sections"),
        ("? [a]\n: b\n", "wants a name as key"),
        ("retry: {limit: !!python/name:os.system x}\n", "is not YAML"),
        ("retry: {limit: !!int x}\n", "is not YAML"),
        ("retry: {<<: 3}\n", "wants to merge (<<) a mapping"),
        ("retry: &a {<<: *a}\n", "nested too deep"),
        ("a: " + "[" * 2_000, "tasker.yaml is nested too deep"),
        ("a: " + "x" * (1 << 18), "at most"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: \x00\n", "is not YAML"),
    ],
)
def test_a_file_that_is_wrong_as_yaml_is_refused_with_its_name(text: str, told: str) -> None:
    message = problem_with(text)
    assert told in message
    assert "tasker.yaml" in message


def test_an_exploding_file_is_refused_at_once() -> None:
    lines = ["x-0: &n0 {limit: 1}"]
    lines += [f"x-{n}: &n{n} [{', '.join([f'*n{n - 1}'] * 9)}]" for n in range(1, 8)]
    lines += [f"x-m{n}: &m{n} {{<<: [{', '.join(['*n0'] * 9)}]}}" for n in range(1, 8)]
    loaded = load_from("\n".join([*lines, "retry: *n0"]))
    assert loaded.settings.retry.limit == 1


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    Path("bad.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(SettingsError, match=r"bad\.yaml is not UTF-8 at byte 3"):
        load(config=Path("bad.yaml"), environment=None, variables={}, overrides={})


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(SettingsError, match=r"no settings file at lost\.yaml, which --config"):
        load(config=Path("lost.yaml"), environment=None, variables={}, overrides={})
    with pytest.raises(SettingsError, match="which TASKER_CONFIG names"):
        load(config=None, environment=None, variables={"TASKER_CONFIG": "x"}, overrides={})
    with pytest.raises(SettingsError, match=r"cannot read the settings file \.: "):
        load(config=Path(), environment=None, variables={}, overrides={})


def test_the_usual_file_is_found_in_the_working_directory() -> None:
    Path("config").mkdir()
    Path("config/zeromq.yaml").write_text("step_execution: {batch_size: 4}\n", encoding="utf-8")
    assert load_from().origins["dispatch.batch_size"] == "config/zeromq.yaml:1"
    Path("config/tasker.yaml").write_text("dispatch: {batch_size: 5}\n", encoding="utf-8")
    assert load_from().settings.dispatch.batch_size == 5


OLDER = """\
default: &default
  step_execution:
    rust_step_publisher: "inproc://steps"
    rust_result_subscriber: "tcp://*:5556"
    handler_step_subscriber: "inproc://steps"
    handler_result_publisher: "tcp://127.0.0.1:5556"
    max_workers: 10
    batch_size: 20
    result_timeout_ms: 60000
    handler_poll_interval_ms: 1
    step_queue_hwm: 500
    result_queue_hwm: 600
    reconnect_interval_ms: 100
    max_reconnect_attempts: 10
development:
  <<: *default
test:
  step_execution:
    batch_size: 2
"""


def test_an_older_file_is_read_as_it_is() -> None:
    settings = load_from(OLDER).settings
    assert settings.endpoints.steps == "inproc://steps"
    assert settings.endpoints.results == "tcp://*:5556"
    assert settings.worker.concurrency == 10
    assert settings.dispatch.batch_size == 20
    assert settings.timeouts.step_seconds == 60.0
    assert (settings.limits.step_queue_hwm, settings.limits.result_queue_hwm) == (500, 600)
    assert load_from(OLDER, environment="test").settings.dispatch.batch_size == 2


def test_keys_of_an_older_file_without_effect_are_named_and_inproc_is_warned_about() -> None:
    warnings = load_from(OLDER, environment="test").warnings
    assert sum("has no effect" in each for each in warnings) == 5
    assert any("joins threads of one process" in each for each in warnings)


def test_an_unknown_key_of_an_older_file_names_the_nearest_of_its_own() -> None:
    message = problem_with("step_execution: {batch_sise: 3}\n")
    assert message.endswith("did you mean 'step_execution.batch_size'?")
    assert "'step_execution.batch_size' wants" in problem_with("step_execution: {batch_size: x}\n")


def test_a_settings_own_name_wins_over_its_older_one() -> None:
    text = "dispatch: {batch_size: 3}\nstep_execution: {batch_size: 4}\n"
    assert load_from(text).settings.dispatch.batch_size == 3


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'retry\.limits' in a flag"):
        load_from(overrides={"retry.limits": 3})
