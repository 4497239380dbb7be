"""The table of peers: with Callboard as the only one that needs no network, and with peers that cannot be measured."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.check import BenchmarkInvalid
from bench.peers import measure
from bench.peers.catalogue import PEERS, Peer
from bench.peers.environment import PeerUnavailable, python_of
from bench.peers.stage import Stage
from bench.peers.table import COLUMNS, show_peers
from tests.support.postgres import Server

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"
CALLBOARD = PEERS[0]
TOO_NEW = Peer("future", ("future==1",), 1.0, None, "", "", python=(3, 99))
BROKEN = Peer("without_adapter", (), 1.0, "SELECT false", "", "")


@pytest.mark.processes
def test_each_row_is_measured_or_says_why_not(server: Server) -> None:
    report = measure.run(server.url, 100, 1, (CALLBOARD, TOO_NEW, BROKEN))
    assert set(report["figures"]) == {"callboard"}
    figures = report["figures"]["callboard"]
    assert set(COLUMNS) <= set(figures)
    assert all(figures[name] > 0 for name in COLUMNS if name != "pick_up_p50_milliseconds")
    assert figures["jobs"] == 100
    assert report["unavailable"]["future"] == "needs Python 3.99 or newer, and PATH has none"
    assert "with_without_adapter.py" in report["unavailable"]["without_adapter"]
    page = PAGE.read_text(encoding="utf-8")
    missing = [name for name in [*figures, *report] if f"`{name}`" not in page]
    assert not missing, f"docs/bench.md does not explain {missing}"


@pytest.mark.parametrize("calls", [[0, 1], [1, 2]])
def test_a_peer_that_ran_a_job_twice_or_never_has_no_figures(calls: list[int]) -> None:
    measure.require_once(CALLBOARD, {"calls": [1, 1]})
    with pytest.raises(BenchmarkInvalid, match=f"callboard: a job ran {calls[0]} times, another {calls[1]} times"):
        measure.require_once(CALLBOARD, {"calls": calls})


def test_an_installation_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.environment.ENVIRONMENTS", tmp_path)
    wrong = Peer("wrong", ("not a requirement",), 1.0, None, "", "")
    with pytest.raises(PeerUnavailable, match=r"cannot be installed: ERROR: .*requirement"):
        python_of(wrong)


def test_an_adapter_that_ends_without_an_answer_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        Stage(python_of(CALLBOARD), BROKEN, {}) as stage,
        pytest.raises(PeerUnavailable, match=r"failed: .*with_without_adapter\.py"),
    ):
        stage.answer()


def test_every_peer_has_an_adapter_and_pinned_versions() -> None:
    folder = Path(measure.__file__).parent
    assert {f"with_{peer.name}.py" for peer in PEERS} == {path.name for path in folder.glob("with_*.py")}
    assert all("==" in requirement for peer in PEERS for requirement in peer.requirements)


def test_the_table_has_a_row_for_each_that_was_asked_for_and_the_settings_below() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    surroundings = {"cpu": "x", "cores": 2, "load_average": 1.0, "system": "s", "python": "p", "libraries": {}}
    figures = {"callboard": dict.fromkeys(COLUMNS, 7.0)}
    report = {"jobs": 10, "rounds": 1, "figures": figures, "unavailable": {"awa": "cannot be installed: no wheel"}}
    show_peers(report | {"baseline": {"jobs_per_second": 9.0}, "machine": surroundings, "server": {}}, console)
    shown = console.export_text()
    assert "cannot be installed: no wheel" in shown
    told = {peer.name for peer in PEERS if f"{peer.name}: {peer.settings}" in shown}
    assert told == {"callboard", "awa"}
