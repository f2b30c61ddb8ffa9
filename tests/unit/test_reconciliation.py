"""The two accounts of a batch, compared."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tasker_zmq.domain.ids import StepId
from tasker_zmq.domain.reconciliation import (
    CompletionAccount,
    DifferenceKind,
    PartialAccount,
    Reconciliation,
    ReconciliationStatus,
    SummaryAccount,
    compare_in_full,
    reconcile,
)
from tasker_zmq.domain.results import ResultStatus

COMPLETED, FAILED, STARTED = ResultStatus
ONE, TWO, THREE, STRANGER = (StepId(each) for each in (1, 2, 3, 99))
BATCH = (ONE, TWO, THREE)


def partial(
    step_id: StepId, status: ResultStatus, *, sequence: int | None = None, digest: str | None = None
) -> PartialAccount:
    return PartialAccount(
        step_id=step_id,
        status=status,
        sequence=sequence,
        output_digest=digest,
    )


def summary(
    step_id: StepId, status: ResultStatus | None, digest: str | None = None
) -> SummaryAccount:
    return SummaryAccount(step_id=step_id, status=status, output_digest=digest)


def completion(*summaries: SummaryAccount) -> CompletionAccount:
    def count(status: ResultStatus) -> int:
        return sum(each.status is status for each in summaries)

    return CompletionAccount(
        total_steps=len(summaries),
        completed_steps=count(COMPLETED),
        failed_steps=count(FAILED),
        in_progress_steps=len(summaries) - count(COMPLETED) - count(FAILED),
        summaries=summaries,
    )


PARTIALS = (
    partial(ONE, STARTED, sequence=1),
    partial(ONE, COMPLETED, sequence=2, digest="a1"),
    partial(TWO, COMPLETED, sequence=3),
    partial(THREE, FAILED, sequence=4),
)
SUMMARIES = (summary(ONE, COMPLETED, "a1"), summary(TWO, COMPLETED), summary(THREE, FAILED))


def kinds(reconciliation: Reconciliation) -> list[tuple[DifferenceKind, StepId | None]]:
    return [(each.kind, each.step_id) for each in reconciliation.differences]


def test_two_accounts_that_agree_are_consistent() -> None:
    found = reconcile(BATCH, PARTIALS, completions=[completion(*SUMMARIES)])
    assert found == Reconciliation(status=ReconciliationStatus.CONSISTENT, differences=())


def test_a_seed_worker_that_numbers_everything_1_and_sums_up_nothing_is_consistent() -> None:
    partials = [replace(each, sequence=1) for each in PARTIALS]
    counts_only = replace(completion(*SUMMARIES), summaries=())
    assert reconcile(BATCH, partials, completions=[counts_only]).differences == ()


def test_a_step_told_as_completed_and_summed_up_as_failed_differs_in_status() -> None:
    told = completion(*SUMMARIES[:2], summary(THREE, COMPLETED))
    found = reconcile(BATCH, PARTIALS, completions=[told])
    assert kinds(found) == [(DifferenceKind.STATUS_DIFFERS, THREE)]
    assert found.differences[0].partial_says == "failed"
    assert found.differences[0].completion_says == "completed"


def test_partial_results_that_contradict_each_other_differ_in_status() -> None:
    found = reconcile(
        BATCH, [*PARTIALS, partial(TWO, FAILED)], completions=[completion(*SUMMARIES)]
    )
    assert kinds(found) == [(DifferenceKind.STATUS_DIFFERS, TWO)]
    assert found.differences[0].partial_says == "completed, failed"


def test_a_summary_with_a_status_that_nobody_knows_differs_in_status() -> None:
    found = reconcile(
        BATCH, PARTIALS, completions=[completion(*SUMMARIES[:2], summary(THREE, None))]
    )
    assert kinds(found) == [(DifferenceKind.STATUS_DIFFERS, THREE)]
    assert found.differences[0].completion_says == "unknown"


def test_a_step_without_a_partial_result_is_found_also_when_its_start_was_told() -> None:
    for partials in (PARTIALS[2:], (PARTIALS[0], *PARTIALS[2:])):
        unnumbered = [replace(each, sequence=None) for each in partials]
        found = reconcile(BATCH, unnumbered, completions=[completion(*SUMMARIES)])
        assert kinds(found) == [(DifferenceKind.COMPLETION_WITHOUT_PARTIAL, ONE)]


def test_a_step_that_the_completion_leaves_out_is_found() -> None:
    told = replace(completion(*SUMMARIES[:2]), total_steps=3, failed_steps=1)
    found = reconcile(BATCH, PARTIALS, completions=[told])
    assert (DifferenceKind.PARTIAL_WITHOUT_COMPLETION, THREE) in kinds(found)


def test_a_step_of_which_neither_account_speaks_shows_in_the_counts() -> None:
    told = replace(completion(*SUMMARIES[:2]), total_steps=3)
    found = reconcile(BATCH, PARTIALS[:3], completions=[told])
    assert kinds(found) == [(DifferenceKind.COUNTS_DIFFER, None)]
    assert found.differences[0].partial_says == "3 steps: 2 completed, 0 failed, 1 in progress"


def test_steps_that_the_batch_never_carried_are_found_in_either_account() -> None:
    told = replace(completion(*SUMMARIES, summary(STRANGER, COMPLETED)), total_steps=3)
    told = replace(told, completed_steps=2)
    partials = [*PARTIALS, partial(STRANGER, FAILED)]
    assert kinds(reconcile(BATCH, partials, completions=[told])) == [
        (DifferenceKind.COMPLETION_NAMES_UNKNOWN_STEP, STRANGER),
        (DifferenceKind.PARTIAL_NAMES_UNKNOWN_STEP, STRANGER),
    ]


def test_counts_that_do_not_add_up_are_found() -> None:
    told = replace(completion(*SUMMARIES), completed_steps=3, failed_steps=0)
    assert kinds(reconcile(BATCH, PARTIALS, completions=[told])) == [
        (DifferenceKind.COUNTS_DIFFER, None)
    ]


def test_an_output_that_is_not_the_one_summed_up_is_found() -> None:
    told = completion(summary(ONE, COMPLETED, "b2"), *SUMMARIES[1:])
    assert kinds(reconcile(BATCH, PARTIALS, completions=[told])) == [
        (DifferenceKind.DIGEST_DIFFERS, ONE)
    ]


def test_numbers_that_a_session_left_out_are_named() -> None:
    partials = [replace(each, sequence=(each.sequence or 0) * 3) for each in PARTIALS]
    found = reconcile(BATCH, partials, completions=[completion(*SUMMARIES)])
    assert kinds(found) == [(DifferenceKind.SEQUENCE_GAP, None)]
    assert found.differences[0].partial_says == (
        "of its numbers up to 12 there lack 1 to 2; 4 to 5; 7 to 8; 10 to 11"
    )


def test_a_completion_that_contradicts_another_is_found_whichever_came_first() -> None:
    other = completion(*SUMMARIES[:2], summary(THREE, COMPLETED))
    counts_only = replace(completion(*SUMMARIES[:2]), summaries=())
    for several in ([completion(*SUMMARIES), other], [other, completion(*SUMMARIES)]):
        found = reconcile(BATCH, PARTIALS, completions=several)
        assert kinds(found) == [(DifferenceKind.STATUS_DIFFERS, THREE)]
        assert found.differences[0].completion_says == "completed, failed"
        found = reconcile(BATCH, PARTIALS, completions=[*several[:1], counts_only])
        assert (DifferenceKind.COUNTS_DIFFER, None) in kinds(found)


def test_absurd_numbers_cost_nothing_and_stay_readable() -> None:
    partials = [partial(ONE, COMPLETED, sequence=each << 40) for each in range(1, 500)]
    found = reconcile([ONE], partials, completions=[completion(summary(ONE, COMPLETED))])
    assert len(found.differences[0].partial_says or "") < 1_000


def test_a_batch_that_nobody_closed_lacks_its_completion() -> None:
    found = reconcile(BATCH, PARTIALS, completions=[])
    assert kinds(found) == [(DifferenceKind.COMPLETION_MISSING, None)]


step_ids = st.integers(1, 5).map(StepId)
digests = st.sampled_from([None, "a", "b"])
partial_lists = st.lists(
    st.builds(
        PartialAccount,
        step_id=step_ids,
        status=st.sampled_from(ResultStatus),
        sequence=st.none() | st.integers(-1, 12),
        output_digest=digests,
    ),
    max_size=12,
)
completions = st.builds(
    CompletionAccount,
    total_steps=st.integers(0, 5),
    completed_steps=st.integers(0, 5),
    failed_steps=st.integers(0, 5),
    in_progress_steps=st.integers(0, 2),
    summaries=st.lists(
        st.builds(
            SummaryAccount,
            step_id=step_ids,
            status=st.none() | st.sampled_from(ResultStatus),
            output_digest=digests,
        ),
        max_size=6,
    ).map(tuple),
)
completion_lists = st.lists(completions, max_size=3)


@given(partials=partial_lists, told=completion_lists, dice=st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_changes_what_is_found(
    partials: list[PartialAccount], told: list[CompletionAccount], dice: Random
) -> None:
    first = reconcile(BATCH, partials, completions=told)
    repeated = partials + [each for each in partials if dice.random() < 0.5]
    dice.shuffle(repeated)
    backwards = [replace(each, summaries=each.summaries[::-1]) for each in told[::-1]]
    assert reconcile(BATCH[::-1], repeated, completions=backwards + told) == first


@given(partials=partial_lists, told=completion_lists)
def test_each_kind_of_difference_is_named_at_most_once_per_step(
    partials: list[PartialAccount], told: list[CompletionAccount]
) -> None:
    found = kinds(reconcile(BATCH, partials, completions=told))
    assert len(found) == len(set(found))


@given(statuses=st.lists(st.sampled_from([COMPLETED, FAILED]), min_size=1, max_size=8))
def test_an_honest_worker_is_always_consistent(statuses: list[ResultStatus]) -> None:
    steps = [StepId(each) for each in range(1, len(statuses) + 1)]
    outcomes = list(zip(steps, statuses, strict=True))
    partials = [
        partial(step, status, sequence=number)
        for number, (step, status) in enumerate(outcomes, start=1)
    ]
    told = completion(*(summary(step, status) for step, status in outcomes))
    assert reconcile(steps, partials, completions=[told]).status is ReconciliationStatus.CONSISTENT


SLIPS = (
    *("step_id", "status", "output_digest", "sequence"),
    *("completed_steps", "total_steps", "in_progress_steps"),
    *("summary", "steps"),
)


def test_a_step_that_goes_on_by_both_accounts_shows_in_the_counts() -> None:
    told = replace(completion(summary(ONE, STARTED)), in_progress_steps=0)
    found = reconcile([ONE], [partial(ONE, STARTED, sequence=1)], completions=[told])
    assert kinds(found) == [(DifferenceKind.COUNTS_DIFFER, None)]


@settings(max_examples=500)
@given(
    told=st.lists(st.sampled_from([COMPLETED, FAILED]), min_size=1, max_size=4),
    slips=st.lists(st.sampled_from(SLIPS), max_size=2),
    other=st.tuples(step_ids, st.sampled_from(ResultStatus), digests, st.integers(-1, 6)),
    place=st.integers(0, 3),
)
def test_a_glance_never_takes_for_agreement_what_the_full_comparison_does_not(
    told: list[ResultStatus],
    slips: list[str],
    other: tuple[StepId, ResultStatus, str | None, int],
    place: int,
) -> None:
    """Accounts of an honest worker in which up to two things are not as they were."""
    step_id, status, digest, number = other
    steps = [StepId(each) for each in range(1, len(told) + 1)]
    lines = [partial(step, each, sequence=step) for step, each in zip(steps, told, strict=True)]
    closing = completion(*(summary(step, each) for step, each in zip(steps, told, strict=True)))
    at = place % len(told)
    in_lines = {"step_id": step_id, "status": status, "output_digest": digest, "sequence": number}
    in_closing = dict.fromkeys(("completed_steps", "total_steps", "in_progress_steps"), number)
    for slip in slips:
        if slip in in_lines:
            lines[at] = replace(lines[at], **{slip: in_lines[slip]})
        elif slip in in_closing:
            closing = replace(closing, **{slip: in_closing[slip]})
        elif slip == "summary":
            sums = list(closing.summaries)
            sums[at] = summary(step_id, status, digest)
            closing = replace(closing, summaries=tuple(sums))
        else:
            steps[at] = step_id
    found = reconcile(steps, lines, completions=[closing])
    assert found == compare_in_full(steps, lines, completions=[closing])
