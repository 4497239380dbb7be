"""How results look."""

import sys
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from callboard.cli.moment import iso
from callboard.cli.output import print_fields, print_table, printable

LONG = "a kind whose name is longer than the terminal " * 4
JOB_ID = UUID("01a20f56-52bf-72db-bb82-2afdf2e428cb")
RED, RESET = "\x1b[31m", "\x1b[0m"


def become_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stdout be a colour terminal of 40 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def test_a_terminal_gets_colours_and_whole_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    become_terminal(monkeypatch)
    print_table(["id", "kind", "status"], [[JOB_ID, LONG.strip(), "failed"]])
    heading, row = capsys.readouterr().out.splitlines()
    assert "id" in heading
    assert str(JOB_ID) in row
    assert LONG.strip() in row
    assert f"{RED}failed{RESET}" in row


def test_no_color(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    become_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(["id", "status"], [[JOB_ID, "failed"]])
    print_fields([("status", "failed")])
    text = capsys.readouterr().out
    assert f"{JOB_ID}  failed" in text
    assert RED not in text
    assert text.endswith("\nstatus  failed\n")


def test_markup_is_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    become_terminal(monkeypatch)
    print_table(["kind"], [["[red]x[/red] :smile:"]], title="[b]")
    assert "[red]x[/red] :smile:" in capsys.readouterr().out


def test_anything_else_gets_plain_aligned_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "kind"], [[JOB_ID, LONG.strip()], [None, 1]], title="Jobs")
    assert capsys.readouterr().out.splitlines() == [
        "Jobs",
        "ID                                    KIND",
        f"{JOB_ID}  {LONG.strip()}",
        "                                      1",
    ]


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(
        [("kind", "a"), ("owner", None), ("tags", []), ("metadata", {}), ("priority", 0), ("data", {"n": [1]})]
    )
    assert capsys.readouterr().out == 'kind      a\npriority  0\ndata      {"n": [1]}\n'


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "kind"], [])
    print_fields([])
    assert capsys.readouterr().out == "ID  KIND\n"


def test_times() -> None:
    assert iso(None) is None
    moment = datetime(2026, 1, 1, 0, 30, 0, 1500, tzinfo=timezone(timedelta(hours=2)))
    assert iso(moment) == "2025-12-31T22:30:00.001Z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ä 日本 🎭", "ä 日本 🎭"), ("a\x1b[0m\r\n", r"a\x1b[0m\r\n"), ("\u202eabc", r"\u202eabc"), ("\x9b1m", r"\x9b1m")],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_may_be_kept() -> None:
    assert printable("a\n\tb\x07", keep_lines=True) == "a\n\tb\\x07"
