"""The plain loop, and the comparison with it."""

from dataclasses import replace
from pathlib import Path

import pytest

from callboard.demo.expected import differences, plain_loop, totals_of
from callboard.demo.library import Tally, digest, measure


@pytest.fixture
def modules(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"module_{number}.py" for number in range(12)]
    for number, path in enumerate(paths):
        path.write_text("def f(): ...\n" * number + "class A: ...\n")
    return paths


def test_what_parts_found_in_any_order_equals_the_plain_loop(modules: list[Path]) -> None:
    digests = [digest(path) for path in reversed(modules)]
    tally = sum((Tally.of(measure(path)) for path in reversed(modules)), Tally())
    found = totals_of(digests, tally)
    assert found == plain_loop(modules)
    assert (found.files, found.modules, found.functions, found.classes) == (12, 12, 66, 12)
    assert differences(found, plain_loop(modules)) == []


def test_a_file_that_is_missing_or_other_than_it_should_be_is_noticed(modules: list[Path]) -> None:
    expected = plain_loop(modules)
    digests = [digest(path) for path in modules]
    tally = sum((Tally.of(measure(path)) for path in modules), Tally())
    fewer = differences(totals_of(digests[1:], tally), expected)
    assert [line.split(":")[0] for line in fewer] == ["total files", "total size_bytes", "total sha256"]
    other = differences(totals_of([replace(digests[0], sha256="0" * 64), *digests[1:]], tally), expected)
    assert [line.split(":")[0] for line in other] == ["total sha256"]


def test_a_difference_names_both_values(modules: list[Path]) -> None:
    expected = plain_loop(modules)
    assert differences(replace(expected, lines=7), expected) == [
        f"total lines: the jobs found 7, the plain loop {expected.lines}"
    ]
