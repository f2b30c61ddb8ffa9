"""`tasker-zmq workflows validate|publish|show FILE`: no database is needed for any of them."""

import json
from pathlib import Path

import pytest

from tasker_zmq.protocol.commands import (
    Command,
    PublishTemplates,
    TemplatesPublished,
    TemplateVerdict,
)
from tests.unit.shell import OwnDaemon, asked_for, tasker

GOOD = """\
name: ship_parcel
namespace_name: logistics
version: "1.0.0"
steps:
  - name: weigh
    handler: {callable: logistics.weigh}
  - name: send
    handler: {callable: logistics.send}
    dependencies: [weigh]
"""
BAD = GOOD.replace("[weigh]", "[wiegh]")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    Path("bad.yaml").write_text(BAD, encoding="utf-8")


def test_validate_names_each_good_workflow() -> None:
    result = tasker("workflows", "validate", "good.yaml")
    assert result.exit_code == 0
    assert result.stdout == "good.yaml: logistics/ship_parcel@1.0.0, 2 steps: OK\n"


def test_validate_names_file_and_line_and_the_nearest_name() -> None:
    result = tasker("workflows", "validate", "bad.yaml")
    assert result.exit_code == 1
    assert result.stdout.startswith("bad.yaml:9: ")
    assert "did you mean 'weigh'?" in result.stdout
    assert result.stderr == "error: 1 of 1 templates cannot be used\n"


def test_validate_takes_folders_and_speaks_json() -> None:
    folder = Path("templates")
    folder.mkdir()
    for name, content in (("a.yaml", GOOD), ("b.yml", BAD)):
        (folder / name).write_text(content, encoding="utf-8")
    result = tasker("workflows", "validate", "templates", "good.yaml", "-o", "json")
    found = json.loads(result.stdout)
    assert [each["path"] for each in found] == ["templates/a.yaml", "templates/b.yml", "good.yaml"]
    assert [each["valid"] for each in found] == [True, False, True]
    assert found[1]["problems"][0]["line"] == 9
    assert result.exit_code == 1


def test_a_folder_without_templates_and_a_missing_file_are_said() -> None:
    Path("empty").mkdir()
    empty = tasker("workflows", "validate", "empty")
    assert (empty.exit_code, "holds no template" in empty.stderr) == (1, True)
    missing = tasker("workflows", "validate", "nowhere.yaml")
    assert (missing.exit_code, "no such file" in missing.stdout) == (1, True)


def test_without_a_path_the_folder_of_the_settings_is_validated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKER_TEMPLATES_FOLDER", "mine")
    missing = tasker("workflows", "validate")
    assert missing.exit_code == 1
    assert "no PATH was given, and templates.folder is mine" in missing.stderr
    Path("mine").mkdir()
    Path("mine/a.yaml").write_text(GOOD, encoding="utf-8")
    result = tasker("workflows", "validate")
    assert result.stdout == "mine/a.yaml: logistics/ship_parcel@1.0.0, 2 steps: OK\n"
    assert "templates.folder" in tasker("workflows", "validate", "--help").stdout


def test_without_a_path_the_folder_of_the_settings_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdict = TemplateVerdict(full_name="logistics/ship_parcel@1.0.0", verdict="published")
    Path("mine").mkdir()
    Path("mine/a.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("TASKER_TEMPLATES_FOLDER", "mine")
    with OwnDaemon(lambda _command: TemplatesPublished(verdicts=(verdict,))) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        assert tasker("workflows", "publish").exit_code == 0
    (command,) = daemon.asked
    (template,) = asked_for(command, PublishTemplates).templates
    assert template["name"] == "ship_parcel"
    assert "templates.folder" in tasker("workflows", "publish", "--help").stdout


def test_publish_sends_each_template_as_its_author_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def publish(command: Command) -> TemplatesPublished:
        (template,) = asked_for(command, PublishTemplates).templates
        name = f"logistics/{template['name']}@{template['version']}"
        return TemplatesPublished(verdicts=(TemplateVerdict(full_name=name, verdict="published"),))

    with OwnDaemon(publish) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        result = tasker("workflows", "publish", "good.yaml", "-o", "json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert (row["workflow"], row["verdict"]) == ("logistics/ship_parcel@1.0.0", "published")


def test_nothing_is_published_when_one_template_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    with OwnDaemon(lambda _command: None) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        result = tasker("workflows", "publish", "good.yaml", "bad.yaml")
    assert (result.exit_code, result.stderr.startswith("error: bad.yaml:9: ")) == (1, True)
    assert daemon.asked == []


def test_a_refused_template_ends_with_the_daemons_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = TemplateVerdict(full_name="x/y@1", verdict="refused", problems=("pinned to tasks",))
    with OwnDaemon(lambda _command: TemplatesPublished(verdicts=(refused,))) as daemon:
        monkeypatch.setenv("TASKER_ENDPOINTS_COMMANDS", daemon.endpoint)
        result = tasker("workflows", "publish", "good.yaml")
    assert (result.exit_code, "error: pinned to tasks" in result.stderr) == (5, True)
    assert "refused" in result.stdout


def test_show_draws_a_file_in_every_format() -> None:
    text = tasker("workflows", "show", "good.yaml").stdout
    assert "\N{BLACK CIRCLE} weigh" in text
    assert "logistics.send" in text
    mermaid = tasker("workflows", "show", "good.yaml", "--format", "mermaid").stdout
    assert "s0 --> s1" in mermaid
    for form in (("--format", "json"), ("-o", "json")):
        shown = json.loads(tasker("workflows", "show", "good.yaml", *form).stdout)
        assert shown["workflow"] == "logistics/ship_parcel@1.0.0"
