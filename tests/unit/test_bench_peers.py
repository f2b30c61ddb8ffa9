"""What `make bench-peers` makes of its figures, and what it says when a peer cannot be had."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.peers import __main__ as program
from bench.peers import environments
from bench.peers.report import (
    DBOS,
    KEEPS,
    LATENCY,
    OURS,
    PGQUEUER,
    THROUGHPUT,
    Measured,
    as_object,
    bars,
    lines,
    rate,
    table,
)
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.testing import ManualClock


def measured(contender: str, workload: str, *figures: float) -> list[Measured]:
    rows = {"history": 2.5} if workload == THROUGHPUT else {}
    return [
        Measured(contender=contender, workload=workload, figure=each, rows_per_step=rows)
        for each in figures
    ]


def test_a_line_is_the_median_of_the_rounds_and_its_ratio_to_ours() -> None:
    found = lines(
        measured(OURS, THROUGHPUT, 900, 1_000, 5_000) + measured(DBOS, THROUGHPUT, 90, 100, 110)
    )
    assert [(each.contender, each.median, each.of_ours) for each in found] == [
        (OURS, 1_000, 1.0),
        (DBOS, 100, 0.1),
    ]


def test_what_else_was_measured_is_a_median_too_and_stands_in_the_table() -> None:
    rounds = [
        Measured(contender=OURS, workload=LATENCY, figure=9.0, more={"p50_of_ticks": each})
        for each in (1.0, 2.0, 30.0)
    ]
    found = lines(rounds)
    assert found[0].more == {"p50_of_ticks": 2.0}
    assert "p50 of ticks: 2.0" in "\n".join(table(found))


def test_without_ours_there_is_neither_a_ratio_nor_a_bar() -> None:
    found = lines(measured(DBOS, THROUGHPUT, 100))
    assert found[0].of_ours is None
    assert bars(found) == []


@pytest.mark.parametrize(
    ("theirs", "ours_ms", "met"),
    [(100.0, 5.0, [True, True]), (101.0, 5.1, [False, False])],
)
def test_the_bars_are_ten_times_the_throughput_and_half_the_latency(
    theirs: float, ours_ms: float, met: list[bool]
) -> None:
    found = lines(
        measured(OURS, THROUGHPUT, 1_000)
        + measured(DBOS, THROUGHPUT, theirs)
        + measured(OURS, LATENCY, ours_ms)
        + measured(DBOS, LATENCY, 10.0)
    )
    assert [each.met for each in bars(found)] == met


def test_pgqueuer_is_shown_and_has_no_bar() -> None:
    found = lines(measured(OURS, LATENCY, 5.0) + measured(PGQUEUER, LATENCY, 1.0))
    assert bars(found) == []
    assert PGQUEUER in "\n".join(table(found))


def test_processes_side_by_side_are_timed_from_the_first_start_to_the_last_end() -> None:
    told = [
        {"started": 10.0, "ended": 12.0, "steps": 300},
        {"started": 11.0, "ended": 15.0, "steps": 200},
    ]
    assert rate(told) == 100.0


def test_the_table_says_what_each_keeps_and_whether_the_bars_are_met() -> None:
    found = lines(measured(OURS, THROUGHPUT, 1_000) + measured(DBOS, THROUGHPUT, 500))
    told = "\n".join(table(found))
    assert KEEPS[OURS] in told
    assert KEEPS[DBOS] in told
    assert "history: 2.5" in told
    assert "throughput >= 10 x DBOS: MISSED, 2.00 x" in told


def test_json_has_every_round_and_what_is_kept() -> None:
    (line,) = lines(measured(OURS, LATENCY, 5.0, 6.0, 9.0))
    told = as_object(line, {"rounds": 3})
    assert told["latency_p50_ms"] == 6.0
    assert told["rounds"] == [5.0, 6.0, 9.0]
    assert told["keeps"] == KEEPS[OURS]


def test_an_environment_of_other_requirements_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "installed.txt").write_text("dbos>=3", encoding="utf-8")
    assert environments.is_ready(tmp_path, "dbos>=3")
    assert not environments.is_ready(tmp_path, "dbos>=4")
    assert not environments.is_ready(tmp_path / "nothing", "dbos>=3")


def test_a_missing_index_is_one_sentence_and_leaves_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program that refuses, in the place of the Python that would make the environment.
    refuses = tmp_path / "refuses"
    refuses.write_text("#!/bin/sh\necho 'ERROR: no index'\nexit 1\n", encoding="ascii")
    refuses.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(refuses))
    folder = tmp_path / "peers"
    with pytest.raises(environments.PeerMissingError) as caught:
        environments.python_of(DBOS, Interruption(ManualClock()), folder=folder)
    told = str(caught.value)
    assert "wanted to install dbos" in told
    assert "found: ERROR: no index" in told
    assert "--without dbos" in told
    assert "\n" not in told
    assert list(folder.iterdir()) == []


def test_a_peer_that_cannot_be_had_ends_with_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise environments.PeerMissingError("wanted dbos")

    monkeypatch.setattr(program, "bench", refuse)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == program.PEER_MISSING_EXIT
    assert "wanted dbos" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--only", "fan"], ["--without", "celery"], ["--rounds", "0"]])
def test_what_it_does_not_know_is_refused_before_anything_is_installed(given: list[str]) -> None:
    told = CliRunner().invoke(program.bench, given)
    assert told.exit_code == 2
    assert given[0] in told.output
