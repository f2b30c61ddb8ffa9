"""The catalogue and everything drawn from it."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from tasker_zmq.settings import BY_KEY, CATALOGUE, Setting, load
from tasker_zmq.settings.reference import json_schema, markdown

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "tasker.yaml"


def test_there_are_at_most_sixty_settings_and_no_key_twice() -> None:
    assert len(CATALOGUE) <= 60
    assert len(BY_KEY) == len(CATALOGUE)


@pytest.mark.parametrize("setting", CATALOGUE, ids=lambda setting: setting.key)
def test_each_default_is_a_value_of_its_setting(setting: Setting) -> None:
    if setting.default is not None:
        assert setting.convert(setting.show(setting.default)) is not None
    assert setting.description.endswith(".")
    assert setting.effect.endswith(".")
    assert setting.wants


def test_the_reference_page_is_fresh() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: tasker-zmq config explain --all > docs/SETTINGS.md"


def test_the_schema_is_one_and_takes_the_shipped_file() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    "document",
    [
        {"retry": {"max_attempts": 3}},
        {"production": {"retry": {"limit": -1}}},
        {"endpoints": {"steps": "udp://x:1"}},
        {"staging": {"nonsense": {}}},
    ],
)
def test_the_schema_refuses_what_load_refuses(document: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json_schema())


@pytest.mark.parametrize("environment", ["development", "test", "production"])
def test_the_shipped_file_loads_in_every_environment(environment: str) -> None:
    loaded = load(config=SHIPPED, environment=environment, variables={}, overrides={})
    assert loaded.settings.environment == environment
    assert loaded.warnings == ()
