"""The log of a worker."""

import json
import logging
import re
import sys

import pytest

from callboard.cli.logs import JsonFormatter, TextFormatter, configure_logging

URL = "postgresql://ada:s3cr3t@host/db"


def record(**attributes: object) -> logging.LogRecord:
    values = {
        "name": "callboard.x",
        "levelname": "WARNING",
        "levelno": 30,
        "msg": "at %s",
        "args": (URL,),
        "created": 0.5,
    }
    return logging.makeLogRecord(values | {"msecs": 500.0} | attributes)


def failure() -> tuple[object, ...]:
    try:
        raise ValueError(URL)
    except ValueError:
        return sys.exc_info()


def test_text() -> None:
    line = TextFormatter().format(record())
    assert line == "1970-01-01T00:00:00.500Z WARNING callboard.x: at postgresql://ada:***@host/db"


def test_text_with_a_traceback() -> None:
    lines = TextFormatter().format(record(exc_info=failure())).splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: postgresql://ada:***@host/db"


def test_json() -> None:
    assert json.loads(JsonFormatter().format(record(event="x", when=re))) == {
        "timestamp": "1970-01-01T00:00:00.500Z",
        "level": "warning",
        "logger": "callboard.x",
        "message": "at postgresql://ada:***@host/db",
        "event": "x",
        "when": repr(re),
    }


def test_json_with_a_traceback_is_one_line() -> None:
    text = JsonFormatter().format(record(exc_info=failure(), msg="%s", args=("a\nb",)))
    assert "\n" not in text
    assert "s3cr3t" not in text
    assert json.loads(text)["exception"].endswith("ValueError: postgresql://ada:***@host/db")


@pytest.mark.parametrize(("form", "start"), [("text", "2"), ("json", "{")])
def test_everything_goes_to_stderr(form: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", form)
    logging.getLogger("app.other").warning("seen")
    logging.getLogger("app.other").info("below the level")
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(start)
    assert "seen" in err
