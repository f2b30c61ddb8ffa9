"""What QueryAnalytics refuses before it looks at any row."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from tasker_zmq.commands.analysing import imbalance, query_analytics
from tasker_zmq.commands.context import Observing
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.protocol.analytics import AnalyticsKind, QueryAnalytics, TimeRange
from tasker_zmq.testing import ManualClock

NOW = ManualClock().now()


@contextmanager
def never() -> Iterator[Connection]:
    raise AssertionError("it asked the database")
    yield


def refusal(kind: AnalyticsKind, **more: Any) -> CommandRefusedError:
    observing = Observing(connect=never, now=NOW, monotonic=ManualClock().monotonic, snapshot={})
    with pytest.raises(CommandRefusedError) as raised:
        query_analytics(observing, QueryAnalytics(kind=kind, **more))
    assert raised.value.code == "invalid"
    return raised.value


def test_a_filter_that_says_nothing_about_the_kind_is_refused_with_those_that_do() -> None:
    refused = refusal(AnalyticsKind.WORKER_EFFICIENCY, namespace="orders")
    assert "WorkerEfficiency is not filtered by namespace" in str(refused)
    assert refused.hint == "its filters: worker"
    assert refusal(AnalyticsKind.SYSTEM_HEALTH, worker="anna").hint == "its filters: none"


@pytest.mark.parametrize(
    "asked",
    [
        {"last_seconds": 0},
        {"last_seconds": 91 * 86_400},
        {"last_seconds": float("nan")},
        {"time_range": TimeRange(since=NOW, until=NOW)},
        {"time_range": TimeRange(since=NOW + timedelta(days=1))},
        {"time_range": TimeRange(since=NOW - timedelta(days=200))},
    ],
)
def test_a_range_that_is_none_or_too_long_is_refused(asked: dict[str, Any]) -> None:
    refusal(AnalyticsKind.TASK_PERFORMANCE, **asked)


def test_imbalance_is_one_when_all_have_the_same() -> None:
    assert imbalance([0.5, 0.5]) == 1
    assert imbalance([1.0, 0.0, 0.0, 0.0]) == 4
    assert imbalance([]) is None
    assert imbalance([0.0, 0.0]) is None
