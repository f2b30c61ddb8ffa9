"""What is a value of a setting, and what is said of anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.settings import BY_KEY, CATALOGUE, Setting, mask_password
from tasker_zmq.settings.setting import UnusableValueError


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("dispatch.batch_size", True),
        ("dispatch.batch_size", 1.5),
        ("dispatch.credit_factor", float("nan")),
        ("dispatch.credit_factor", float("inf")),
        ("dispatch.legacy_workers", "perhaps"),
        ("limits.result_bytes_max", "1.0001KiB"),
        ("retry.backoff_base_ms", "0.5ms"),
        ("endpoints.steps", "udp://127.0.0.1:1"),
        ("endpoints.steps", "tcp://127.0.0.1"),
        ("endpoints.steps", "tcp://127.0.0.1:70000"),
        ("endpoints.steps", "ipc://" + "x" * 108),
        ("endpoints.results_connect", [["tcp://a:1"]]),
        ("core_id", "two words"),
        ("worker.executor", "fibre"),
        ("templates.folder", ""),
        ("database.url", "mysql://here"),
        ("database.url", "postgresql://[::1/x"),
        ("retry.limit", None),
        ("retry.limit", {"a": 1}),
        ("retry.limit", "9" * 5_000),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_words(key: str, given: object) -> None:
    with pytest.raises(UnusableValueError, match=r"^wants .+, found .+"):
        BY_KEY[key].convert(given)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(setting=st.sampled_from(CATALOGUE), given_value=JSON_LIKE)
def test_whatever_is_given_is_either_usable_or_refused(
    setting: Setting, given_value: object
) -> None:
    try:
        value = setting.convert(given_value)
    except UnusableValueError:
        return
    shown = setting.show(value)
    assert setting.secret or value is None or setting.convert(shown) == value


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sesame@host/db",
        "postgresql://me:sesame@with@host/db",
        "postgresql://me:sesame/slash@host/db",
        "postgresql:///db?host=/tmp&password=sesame",
        "postgresql://:sesame@host/db",
    ],
)
def test_a_password_never_shows(url: str) -> None:
    assert "sesame" not in mask_password(url)
    assert "sesame" not in BY_KEY["database.url"].show(url)
    assert mask_password(url).startswith("postgresql://")
