"""Every promise of docs/guarantees.md has a test that names its number, and the files that it points at exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
PROMISES = re.findall(r"^(\d+)\. \*\*", TEXT, flags=re.MULTILINE)


def test_promises_are_listed_in_order():
    assert sorted(PROMISES, key=int) == PROMISES
    assert len(PROMISES) == len(set(PROMISES)) >= 7


@pytest.mark.parametrize("number", PROMISES)
def test_a_promise_has_a_test_that_names_it(number):
    pattern = re.compile(rf"def test_\w*promise_(\d+_and_)?{number}(_and_\d+)?_")
    assert [path for path in (ROOT / "tests").rglob("test_*.py") if pattern.search(path.read_text())]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]*)`", TEXT))))
def test_the_files_named_exist(path):
    assert (ROOT / path).exists()
