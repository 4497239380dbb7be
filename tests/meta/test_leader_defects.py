"""Eleven ways in which elections fail in practice, L1 to L11. Each has tests that name it; no test names another."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

DEFECTS = {
    "l1": "the lock goes with its transaction's connection: everybody leads, by default",
    "l2": "the lock is on a connection of the pool, which others borrow and which is replaced by its age",
    "l3": "leadership is a flag that is set once: never proved again, and no write is fenced",
    "l4": "the lock is released on another connection than the one that has it",
    "l5": "one key for everything in a database",
    "l6": "a standby asks again after eight minutes",
    "l7": "who has once led never stands again",
    "l8": "without PostgreSQL everybody leads",
    "l9": "a stop cancels what a duty has begun",
    "l10": "a turn that is late, because the loop was busy, is left out",
    "l11": "the lock is taken through a transaction-mode pooler",
}


def named_in_tests() -> set[str]:
    names = [name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def test_(\w+)", path.read_text())]
    return {found for name in names for found in re.findall(r"^(l\d+)_", name)}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_has_a_test_that_names_it(defect: str) -> None:
    assert defect in named_in_tests(), DEFECTS[defect]


def test_no_test_names_a_defect_that_is_not_listed() -> None:
    assert named_in_tests() <= set(DEFECTS)
