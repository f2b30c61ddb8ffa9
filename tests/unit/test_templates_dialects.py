"""Both dialects give the same values, and every value has one canonical form."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasker_zmq.domain.template import BackoffKind, StepTemplate, TaskTemplate
from tasker_zmq.templates import (
    Loaded,
    canonical,
    digest,
    load_file,
    load_folder,
    load_mapping,
    load_text,
)

FIXTURES = Path(__file__).parent.parent / "fixtures" / "templates"
NEWER = FIXTURES / "parcel_newer.yaml"
OLDER = FIXTURES / "parcel_older.yaml"


def template_of(loaded: Loaded) -> TaskTemplate:
    assert loaded.template is not None, "\n".join(map(str, loaded.problems))
    return loaded.template


def without_source(template: TaskTemplate) -> TaskTemplate:
    return msgspec.structs.replace(template, source={})


def newer_step(**fields: object) -> StepTemplate:
    step = {"name": "a", "handler": {"callable": "h"}} | fields
    loaded = load_mapping({"name": "t", "steps": [step]}, source="wire", environment="test")
    return template_of(loaded).steps[0]


def older_step(**fields: object) -> StepTemplate:
    step = {"name": "a", "handler_class": "h"} | fields
    mapping = {"name": "t", "step_templates": [step]}
    return template_of(load_mapping(mapping, source="wire", environment="test")).steps[0]


@pytest.mark.parametrize("environment", ["test", "production", "development"])
def test_both_dialects_tell_the_same_workflow_in_every_environment(environment: str) -> None:
    newer = template_of(load_file(NEWER, environment=environment))
    older = template_of(load_file(OLDER, environment=environment))
    assert without_source(newer) == without_source(older)
    assert digest(newer) == digest(older)


def test_a_file_gives_names_defaults_and_configuration_as_written() -> None:
    template = template_of(load_file(NEWER, environment="development"))
    assert template.full_name == "logistics/ship_parcel@2.1.0"
    weigh, label, insure, hand_over = template.steps
    assert weigh.handler_class == "Logistics::Steps::Weigh"
    assert weigh.handler_config == {
        "scales": {"port": 7, "unit": "g"},
        "url": "${SCALES_URL}",
    }
    assert (weigh.retry_limit, label.retry_limit, hand_over.retry_limit) == (2, 5, 0)
    assert (insure.retryable, insure.retry_limit, insure.timeout_seconds) == (False, 0, 300.0)
    assert hand_over.depends_on == ("print_label", "insure")
    assert template.source["metadata"]["created_at"] == "2024-05-01"


def test_an_environment_merges_configuration_in_depth_and_null_overrides_nothing() -> None:
    template = template_of(load_file(NEWER, environment="test"))
    weigh, label = template.steps[:2]
    assert weigh.handler_config["url"] == "inproc://scales"
    assert weigh.handler_config["scales"] == {"port": 7, "unit": "g"}
    assert (weigh.timeout_seconds, weigh.retry_limit) == (15.0, 2)
    paper = {"width": 100, "height": 75}
    assert label.handler_config["printer"] == {"name": "left", "paper": paper}
    assert label.retry_limit == 0


def test_an_override_of_all_lies_below_the_override_of_one_step() -> None:
    template = template_of(load_file(NEWER, environment="production"))
    assert [step.timeout_seconds for step in template.steps] == [600, 600, 900, 600]


def test_step_overrides_are_read_in_the_newer_dialect_too() -> None:
    mapping = {
        "name": "t",
        "steps": [{"name": "a", "handler": {"callable": "h"}}],
        "environments": {"test": {"step_overrides": {"a": {"timeout_seconds": 7}}}},
    }
    loaded = load_mapping(mapping, source="wire", environment="test")
    assert template_of(loaded).steps[0].timeout_seconds == 7


@pytest.mark.parametrize(("tries", "retries"), [(0, 0), (1, 0), (3, 2), (101, 100)])
def test_max_attempts_and_its_old_name_limit_count_all_tries(tries: int, retries: int) -> None:
    assert newer_step(retry={"max_attempts": tries}).retry_limit == retries
    assert newer_step(retry={"limit": tries}).retry_limit == retries


@pytest.mark.parametrize("retries", [0, 1, 3, 100])
def test_retry_limit_counts_the_retries_after_the_first_try(retries: int) -> None:
    assert older_step(default_retry_limit=retries).retry_limit == retries
    assert older_step(retry_limit=retries).retry_limit == retries


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_step_that_is_not_retryable_is_never_retried(count: int) -> None:
    newer = newer_step(retry={"retryable": False, "max_attempts": count})
    older = older_step(default_retryable=False, default_retry_limit=count)
    assert (newer.retryable, newer.retry_limit) == (False, 0)
    assert (older.retryable, older.retry_limit) == (False, 0)


def test_a_step_that_says_nothing_keeps_the_default_of_its_dialect() -> None:
    assert newer_step().retry_limit == 2
    assert older_step().retry_limit == 3
    assert newer_step().timeout_seconds == older_step().timeout_seconds == 300


@pytest.mark.parametrize(
    ("retry", "kind", "base_ms", "ceiling_ms"),
    [
        ({}, BackoffKind.EXPONENTIAL, 1_000, 30_000),
        ({"backoff": "linear"}, BackoffKind.LINEAR, 1_000, 30_000),
        ({"backoff": "fixed", "backoff_base_ms": 5}, BackoffKind.CONSTANT, 5, 30_000),
        ({"backoff": "constant"}, BackoffKind.CONSTANT, 1_000, 30_000),
        ({"backoff": "none", "backoff_base_ms": 5}, BackoffKind.CONSTANT, 0, 0),
        ({"backoff_base_ms": 60_000}, BackoffKind.EXPONENTIAL, 60_000, 60_000),
        ({"max_backoff_ms": 200}, BackoffKind.EXPONENTIAL, 200, 200),
    ],
)
def test_a_bound_of_the_backoff_gives_way_to_the_one_that_was_given(
    retry: dict[str, Any], kind: BackoffKind, base_ms: int, ceiling_ms: int
) -> None:
    backoff = newer_step(retry=retry).backoff
    assert (backoff.kind, backoff.base_ms, backoff.ceiling_ms) == (kind, base_ms, ceiling_ms)


def test_a_timeout_in_an_older_handler_config_stands_in_for_a_missing_one() -> None:
    assert older_step(handler_config={"timeout_seconds": 15}).timeout_seconds == 15
    both = older_step(timeout_seconds=9, handler_config={"timeout_seconds": 15})
    assert both.timeout_seconds == 9
    assert both.handler_config == {"timeout_seconds": 15}
    assert older_step(handler_config={"timeout_seconds": "15s"}).timeout_seconds == 300


@pytest.mark.parametrize("path", [NEWER, OLDER], ids=["newer", "older"])
@pytest.mark.parametrize("environment", ["test", "production", "development"])
def test_the_canonical_form_loads_to_the_same_template_without_a_warning(
    path: Path, environment: str
) -> None:
    template = template_of(load_file(path, environment=environment))
    form = msgspec.json.decode(msgspec.json.encode(canonical(template)))
    again = load_mapping(form, source="wire", environment="test")
    assert again.warnings == ()
    assert without_source(template_of(again)) == without_source(template)
    assert digest(template_of(again)) == digest(template)


def test_the_digest_ignores_descriptions_and_nothing_else() -> None:
    template = template_of(load_file(NEWER, environment="test"))
    first = template.steps[0]
    told = msgspec.structs.replace(
        template,
        description="other words",
        steps=(msgspec.structs.replace(first, description="others"), *template.steps[1:]),
    )
    slower = msgspec.structs.replace(
        template,
        steps=(msgspec.structs.replace(first, timeout_seconds=16.0), *template.steps[1:]),
    )
    assert digest(told) == digest(template)
    assert digest(slower) != digest(template)


def test_keys_without_use_are_kept_and_warned_about_once_per_file() -> None:
    loaded = load_file(NEWER, environment="test")
    (warning,) = loaded.warnings
    kept = "task_handler, system_dependencies, steps[].handler.method"
    assert str(warning) == f"{NEWER}:11: kept but not used yet: {kept}"
    assert template_of(loaded).source["task_handler"]["callable"] == "Logistics::ParcelHandler"


def test_a_key_that_looks_misspelt_is_warned_about_with_the_right_one() -> None:
    text = "name: t\nsteps:\n  - name: a\n    handler: {callable: h}\n    timeout_second: 5\n"
    loaded = load_text(text, source="t.yaml", environment="test")
    (warning,) = loaded.warnings
    assert str(warning) == (
        "t.yaml:5: step 'a': unknown key 'timeout_second', kept but not used;"
        " did you mean 'timeout_seconds'?"
    )


def test_a_step_type_without_meaning_here_is_said_once() -> None:
    text = "name: t\nsteps:\n" + "".join(
        f"  - {{name: {name}, type: decision, handler: {{callable: h}}}}\n" for name in "ab"
    )
    loaded = load_text(text, source="t.yaml", environment="test")
    assert [warning.line for warning in loaded.warnings] == [3]
    assert "'decision'" in loaded.warnings[0].message


@pytest.mark.parametrize(("written", "read"), [("1.0", "1.0"), ("2", "2"), ('"1.10"', "1.10")])
def test_a_version_may_be_a_yaml_number(written: str, read: str) -> None:
    text = f"name: t\nversion: {written}\nsteps: [{{name: a, handler: {{callable: h}}}}]\n"
    loaded = load_text(text, source="t.yaml", environment="test")
    assert template_of(loaded).version == read
    assert len(loaded.warnings) == (0 if written.startswith('"') else 1)


def test_namespace_and_version_have_defaults() -> None:
    text = "name: t\nsteps: [{name: a, handler: {callable: h}}]\n"
    loaded = load_text(text, source="t.yaml", environment="test")
    assert template_of(loaded).full_name == "default/t@1.0.0"


def test_keys_that_yaml_takes_for_numbers_or_truths_stay_as_written() -> None:
    text = (
        "name: t\nsteps:\n  - name: a\n    handler:\n      callable: h\n"
        "      initialization: {200: ok, on: 1, at: 12:30:00}\n"
    )
    loaded = load_text(text, source="t.yaml", environment="test")
    assert template_of(loaded).steps[0].handler_config == {"200": "ok", "on": 1, "at": "12:30:00"}


def test_a_template_shares_no_value_with_the_mapping_it_came_from() -> None:
    config = {"a": [1]}
    step = {"name": "a", "handler": {"callable": "h", "initialization": config}}
    loaded = load_mapping({"name": "t", "steps": [step]}, source="wire", environment="test")
    config["a"].append(2)
    assert template_of(loaded).steps[0].handler_config == {"a": [1]}


def test_a_folder_is_read_to_its_depth_and_one_workflow_may_stand_in_it_once(
    tmp_path: Path,
) -> None:
    text = "name: t\nsteps: [{name: a, handler: {callable: h}}]\n"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "first.yml").write_text(text)
    (tmp_path / "second.yaml").write_text(text)
    (tmp_path / "third.yaml").write_text(text + "version: 1.0.1\n")
    (tmp_path / "notes.txt").write_text("no template")
    first, second, third = load_folder(tmp_path, environment="test")
    assert template_of(first).full_name == "default/t@1.0.0"
    assert template_of(third).full_name == "default/t@1.0.1"
    assert second.template is None
    assert str(second.problems[0]) == (
        f"{tmp_path / 'second.yaml'}:1: default/t@1.0.0 stands in"
        f" {tmp_path / 'deep' / 'er' / 'first.yml'} already; change the version or the name"
    )
