"""The worked example's decisions and handlers, called as the plain functions that they are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq import Context, PermanentError, RetryableError
from tasker_zmq.templates import load_file
from tasker_zmq.worker.handlers import PreviousStep, Sequence, StepView, Task
from tasker_zmq.worker.registry import registry_of
from workers.order_fulfillment import handlers, orders, quotes, shop
from workers.order_fulfillment.orders import CardAnswer, Line, OrderError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "config" / "tasks").glob("*.yaml"))
TEA = {"sku": "TEA-ASSAM", "quantity": 2, "unit_price_cents": 1290}
LAMP = {"sku": "LAMP-1931", "quantity": 1, "unit_price_cents": 18900}


def order(**changes: Any) -> dict[str, Any]:
    usual = {
        "order_id": "ORD-1",
        "lines": [TEA],
        "payment": {"token": "tok_visa"},
        "shipping": {"carrier": "post"},
    }
    return usual | changes


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "shop.sqlite3"
    monkeypatch.setenv("TASKER_DEMO_STORE", str(path))
    yield path
    shop.opened(path).close()
    shop.opened.cache_clear()


def reserve(order_: dict[str, Any], key: str) -> dict[str, Any]:
    ctx = Context(idempotency_key=key)
    accept = order_.get("accept_backorder", False)
    return handlers.reserve_inventory(order_["order_id"], order_, ctx, accept_backorder=accept)


def charge(order_: dict[str, Any], reserved: dict[str, Any], key: str) -> dict[str, Any]:
    validated = handlers.price_order(order_)
    ctx = Context(idempotency_key=key)
    return handlers.charge_card(order_["payment"], validated, reserved, ctx=ctx)


def ship(order_: dict[str, Any], reserved: dict[str, Any], key: str) -> dict[str, Any]:
    view = StepView(
        step_id=1,
        name="ship_order",
        handler_config={},
        attempt=1,
        retry_limit=3,
        ctx=Context(idempotency_key=key),
    )
    parents = Sequence((PreviousStep("reserve_inventory", reserved),))
    return handlers.ShipOrder().process(Task(1, order_), parents, view)


def test_an_order_costs_its_lines_and_its_shipping_in_whole_cents() -> None:
    assert handlers.price_order(order()) == {
        "order_id": "ORD-1",
        "pieces": 2,
        "subtotal_cents": 2580,
        "shipping_cents": 490,
        "total_cents": 3070,
    }


def test_the_post_is_free_from_a_hundred_on() -> None:
    assert handlers.price_order(order(lines=[LAMP]))["shipping_cents"] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lines": [TEA | {"sku": "TEA-GONE"}]}, "no such product"),
        ({"lines": [TEA | {"unit_price_cents": 1}]}, "the catalogue 1290"),
        ({"lines": [TEA, TEA | {"unit_price_cents": 1}]}, "two prices"),
        ({"lines": []}, "no lines"),
        ({"lines": [TEA | {"quantity": 0}]}, "at least 1"),
        ({"shipping": {"carrier": "owl"}}, "no carrier 'owl'"),
    ],
)
def test_an_order_that_can_never_be_filled_fails_for_good(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PermanentError, match=reason):
        handlers.price_order(order(**changes))


@given(
    wanted=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    free=st.lists(st.integers(0, 9), min_size=5, max_size=5),
)
def test_what_is_set_aside_and_what_is_owed_are_together_what_was_ordered(
    wanted: list[int], free: list[int]
) -> None:
    lines = [
        Line(sku=str(n), quantity=quantity, unit_price_cents=1) for n, quantity in enumerate(wanted)
    ]
    left = {str(n): pieces for n, pieces in enumerate(free)}
    found = orders.allotted(lines, left, accept_backorder=True)
    assert [each.quantity + each.backordered for each in found] == wanted
    assert all(each.quantity <= left[each.sku] for each in found)


def test_too_few_pieces_are_refused_unless_a_backorder_is_accepted() -> None:
    line = Line(sku="A", quantity=2, unit_price_cents=1)
    with pytest.raises(OrderError, match="wanted 2, found 1"):
        orders.allotted([line], {"A": 1}, accept_backorder=False)


def test_a_flaky_token_is_charged_after_as_many_failures_as_it_names() -> None:
    answers = [orders.card_answer("tok_flaky_2", call=call) for call in (1, 2, 3)]
    assert answers == [CardAnswer.UNREACHABLE, CardAnswer.UNREACHABLE, CardAnswer.CHARGED]


def test_an_order_goes_its_whole_way(store: Path) -> None:
    reserved = reserve(order(), "r")
    paid = charge(order(), reserved, "p")
    shipped = ship(order(), reserved, "s")
    assert reserved["reserved"] == {"TEA-ASSAM": 2}
    assert paid["amount_cents"] == 3070
    assert shipped == {"shipment_id": 1, "tracking_number": "POST-000001", "to_follow": {}}
    assert store.exists()


@pytest.mark.usefixtures("store")
def test_the_second_of_two_orders_for_the_last_piece_ends_or_waits() -> None:
    assert reserve(order(lines=[LAMP]), "first")["backordered"] == {}
    with pytest.raises(PermanentError, match="out of stock: LAMP-1931, wanted 1, found 0"):
        reserve(order(order_id="ORD-2", lines=[LAMP]), "second")
    waiting = order(order_id="ORD-3", lines=[LAMP], accept_backorder=True)
    assert reserve(waiting, "third")["backordered"] == {"LAMP-1931": 1}


@pytest.mark.usefixtures("store")
def test_a_declined_card_ends_the_order_and_frees_its_goods() -> None:
    declined = order(lines=[LAMP], payment={"token": "tok_declined"})
    reserved = reserve(declined, "r")
    for _ in range(2):
        with pytest.raises(PermanentError, match="card declined"):
            charge(declined, reserved, "p")
    assert reserve(order(order_id="ORD-2", lines=[LAMP]), "r2")["reserved"] == {"LAMP-1931": 1}


@pytest.mark.usefixtures("store")
def test_banks_and_carriers_that_do_not_answer_are_asked_again() -> None:
    flaky = order(payment={"token": "tok_flaky_1"}, shipping={"carrier": "courier_flaky_1"})
    reserved = reserve(flaky, "r")
    with pytest.raises(RetryableError, match="bank") as failure:
        charge(flaky, reserved, "p")
    assert failure.value.retry_after == handlers.RETRY_AFTER_SECONDS
    charge(flaky, reserved, "p")
    with pytest.raises(RetryableError, match="carrier"):
        ship(flaky, reserved, "s")
    assert ship(flaky, reserved, "s")["tracking_number"] == "COURIER-000001"


@pytest.mark.usefixtures("store")
def test_a_quote_names_the_cheapest_carrier_and_what_is_missing() -> None:
    priced = quotes.price_lines({"lines": [LAMP | {"quantity": 3}]})
    carriers = quotes.compare_carriers(priced)
    missing = quotes.look_up_stock(priced, Context())
    assert quotes.make_quote(priced, carriers, missing) == {
        "carrier": "post",
        "total_cents": 3 * 18900,
        "to_follow": {"LAMP-1931": 2},
    }


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("environment", ["development", "test", "production"])
def test_the_shipped_templates_are_sound_and_have_their_handlers(
    path: Path, environment: str
) -> None:
    loaded = load_file(path, environment=environment)
    assert (loaded.problems, loaded.warnings) == ((), ())
    assert loaded.template is not None
    named = {step.handler_class for step in loaded.template.steps}
    assert named <= set(registry_of([handlers, quotes]).names)


def test_every_shipped_order_but_the_declined_one_can_be_filled() -> None:
    text = (ROOT / "workers" / "order_fulfillment" / "orders.json").read_text(encoding="utf-8")
    shipped = json.loads(text)
    assert len(shipped) >= 25
    for each in shipped:
        handlers.price_order(each["order"])
        token, carrier = each["order"]["payment"]["token"], each["order"]["shipping"]["carrier"]
        declined = orders.card_answer(token, call=99) is CardAnswer.DECLINED
        assert each["expected"] == {
            "state": "error" if declined else "complete",
            "retries": orders.refused_calls(token) + orders.refused_calls(carrier),
        }
