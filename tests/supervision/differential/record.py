"""Record what Erlang/OTP's supervisor answers: ``python -m tests.supervision.differential.record``.

Writes ``recorded/by_hand.jsonl`` and ``recorded/random.jsonl`` anew; each line has a name, a script and OTP's trace.
Needs ``erl`` and ``erlc``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .by_hand import BY_HAND
from .erlang import Oracle
from .generate import dynamic_scripts, flat_scripts, scripts
from .script import Script

FOLDER = Path(__file__).with_name("recorded")
RANDOM = {"nested": (scripts(), 90), "flat": (flat_scripts(), 40), "dynamic": (dynamic_scripts(), 30)}
LEAST_COMMANDS = 6


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the lines of a recorded file."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def _drawn(strategy: st.SearchStrategy[Script], count: int) -> list[Script]:
    """Draw scripts that are not short."""
    drawn: list[Script] = []

    @seed(count)
    @settings(
        max_examples=5 * count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(script: Script) -> None:
        if len(script["commands"]) >= LEAST_COMMANDS and script not in drawn:
            drawn.append(script)

    collect()
    return drawn[:: max(1, len(drawn) // count)][:count]


def _random() -> Iterator[tuple[str, Script]]:
    for kind, (strategy, count) in RANDOM.items():
        for number, script in enumerate(_drawn(strategy, count), 1):
            yield f"{kind} {number}", script


def _record(name: str, named: Mapping[str, Script], oracle: Oracle) -> None:
    lines = [
        json.dumps({"name": each, "script": script, "trace": oracle.run(script)}, separators=(",", ":"))
        for each, script in named.items()
    ]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Record everything."""
    with tempfile.TemporaryDirectory() as build_folder, Oracle(Path(build_folder)) as oracle:
        _record("by_hand", BY_HAND, oracle)
        _record("random", dict(_random()), oracle)


if __name__ == "__main__":
    main()
