"""Properties of graphs, and of templates made of random ones."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain import graph
from tasker_zmq.domain.ids import HandlerClass
from tasker_zmq.domain.template import Backoff, BackoffKind, StepTemplate, TaskTemplate
from tasker_zmq.templates import canonical, digest, draw_mermaid, draw_text, load_mapping


@st.composite
def dags(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Names with their parents; the order of the names says nothing about the edges."""
    count = draw(st.integers(1, 12))
    names = [f"s{index}" for index in range(count)]
    parents = {
        name: tuple(draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=4)))
        if index
        else ()
        for index, name in enumerate(names)
    }
    return {name: parents[name] for name in draw(st.permutations(names))}


@st.composite
def templates(draw: st.DrawFn) -> TaskTemplate:
    parents = draw(dags())
    return TaskTemplate(
        namespace="random",
        name="walk",
        version=draw(st.sampled_from(["1.0.0", "2", "0.1-beta"])),
        steps=tuple(draw(_steps(name, above)) for name, above in parents.items()),
        description=draw(st.sampled_from(["", "a walk"])),
        input_schema=draw(st.sampled_from([None, {}, {"type": "object"}])),
    )


@st.composite
def _steps(draw: st.DrawFn, name: str, above: tuple[str, ...]) -> StepTemplate:
    retryable = draw(st.booleans())
    base_ms = draw(st.integers(0, 86_400_000))
    json = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("aé\n'", max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner),
        max_leaves=4,
    )
    return StepTemplate(
        name=name,
        handler_class=HandlerClass(draw(st.sampled_from(["h", "A::B", "a.b"]))),
        handler_config=draw(st.dictionaries(st.text("abc"), json, max_size=3)),
        depends_on=above,
        retryable=retryable,
        retry_limit=draw(st.integers(0, 100)) if retryable else 0,
        backoff=Backoff(
            kind=draw(st.sampled_from(BackoffKind)),
            base_ms=base_ms,
            ceiling_ms=draw(st.integers(base_ms, 86_400_000)),
        ),
        timeout_seconds=draw(st.floats(0, 604_800, exclude_min=True)),
        confirm_start=draw(st.booleans()),
    )


def template_of(parents: Mapping[str, Iterable[str]]) -> TaskTemplate:
    steps = tuple(
        StepTemplate(name=name, handler_class=HandlerClass("h"), depends_on=tuple(above))
        for name, above in parents.items()
    )
    return TaskTemplate(namespace="n", name="t", version="1", steps=steps)


def chain(**parents: str) -> TaskTemplate:
    """A template of these steps; the letters of each text are its parents."""
    return template_of(parents)


@given(template=templates())
def test_the_canonical_form_of_any_template_loads_to_it_again(template: TaskTemplate) -> None:
    form = msgspec.json.decode(msgspec.json.encode(canonical(template)))
    loaded = load_mapping(form, source="wire", environment="test")
    assert loaded.problems == loaded.warnings == ()
    assert loaded.template is not None
    assert msgspec.structs.replace(loaded.template, source={}) == template
    assert digest(loaded.template) == digest(template)


@given(parents=dags())
def test_the_order_of_a_dag_has_every_parent_before_its_children(
    parents: dict[str, tuple[str, ...]],
) -> None:
    names = tuple(parents)
    order = graph.topological_order(names, parents)
    place = {name: index for index, name in enumerate(order)}
    assert sorted(order) == sorted(names)
    assert all(place[above] < place[name] for name in names for above in parents[name])
    assert graph.cycle(names, parents) is None


@given(parents=dags())
def test_a_level_holds_steps_whose_parents_are_all_in_levels_above(
    parents: dict[str, tuple[str, ...]],
) -> None:
    names = tuple(parents)
    depth = {
        name: number for number, level in enumerate(graph.levels(names, parents)) for name in level
    }
    assert set(depth) == set(names)
    for name in names:
        assert depth[name] == max((depth[above] + 1 for above in parents[name]), default=0)


@given(parents=dags())
def test_sinks_are_the_names_that_nobody_waits_for(parents: dict[str, tuple[str, ...]]) -> None:
    awaited = {above for each in parents.values() for above in each}
    assert set(graph.sinks(tuple(parents), parents)) == set(parents) - awaited


@given(
    parents=st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)
    )
)
def test_a_circle_is_found_exactly_when_there_is_no_full_order(
    parents: dict[str, list[str]],
) -> None:
    names = tuple("abcdef")
    circle = graph.cycle(names, parents)
    complete = len(graph.topological_order(names, parents)) == len(names)
    assert (circle is None) == complete
    if circle is not None:
        assert circle[0] == circle[-1]
        assert len(set(circle)) == len(circle) - 1
        for before, after in pairwise(circle):
            assert before in parents[after]


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    names = tuple(f"s{index}" for index in range(10_000))
    parents = {name: (f"s{index - 1}",) for index, name in enumerate(names) if index}
    assert graph.cycle(names, parents) is None
    assert graph.topological_order(names, parents) == names
    assert graph.cycle(names, parents | {"s0": ("s9999",)}) == (*names, "s0")


DRAWINGS = {
    "chain": (chain(a="", b="a", c="b"), "● a\n│\n● b\n│\n● c"),
    "diamond": (
        chain(a="", b="a", c="a", d="bc"),
        "● a\n├─╮\n● │ b\n│ │\n│ ● c\n├─╯\n● d",
    ),
    "tree": (
        chain(a="", b="a", c="a", d="b", e="b"),
        "● a\n├─╮\n● │ b\n├─│─╮\n● │ │ d\n  ● │ c\n    ● e",
    ),
    "two roots": (chain(a="", b="", c="ab"), "● a\n│\n│ ● b"),
    "children first": (chain(b="a", a=""), "● a\n│\n● b"),
}


@pytest.mark.parametrize(("template", "picture"), DRAWINGS.values(), ids=DRAWINGS)
def test_the_shape_of_a_workflow_shows_in_its_drawing(template: TaskTemplate, picture: str) -> None:
    assert draw_text(template).startswith(picture)


def test_a_wide_level_is_drawn_as_one_row() -> None:
    wide = [f"w{index}" for index in range(100)]
    parents = {"split": [], **{name: ["split"] for name in wide}, "join": wide}
    template = template_of(parents)
    assert draw_text(template).splitlines() == [
        "● split",
        "│",
        "● w0, w1 ... w99 (100 steps side by side)",
        "│",
        "● join",
    ]


@given(parents=dags())
def test_every_step_has_its_place_in_both_drawings(parents: dict[str, tuple[str, ...]]) -> None:
    template = template_of(parents)
    text, mermaid = draw_text(template), draw_mermaid(template)
    assert mermaid.startswith("flowchart TD\n")
    assert mermaid.count("-->") == sum(len(step.depends_on) for step in template.steps)
    if "side by side" not in text:
        rows = [row.split()[-1] for row in text.splitlines() if "●" in row]
        assert sorted(rows) == sorted(step.name for step in template.steps)


def test_mermaid_names_steps_and_arrows() -> None:
    assert draw_mermaid(chain(a="", b="a")).splitlines() == [
        "flowchart TD",
        '    s0["a"]',
        '    s1["b"]',
        "    s0 --> s1",
    ]
