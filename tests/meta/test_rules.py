"""Every rule in docs/supervision.md has a test that names it, and no test names one that is not there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OF_OTHER_RULES = REPOSITORY / "tests/actors/batches"
"""Where B1 to B19 are the ways to lose a batch."""
DOCUMENTED = re.findall(r"^\| ([A-K]\d+) \|", (REPOSITORY / "docs/supervision.md").read_text(), re.MULTILINE)


def ids_in_names_of_tests() -> set[str]:
    paths = (path for path in (REPOSITORY / "tests").rglob("test_*.py") if OF_OTHER_RULES not in path.parents)
    sources = (path.read_text() for path in paths)
    names = [name for source in sources for name in re.findall(r"def (test_\w+)", source)]
    return {found for name in names for found in re.findall(r"(?<=_)([A-K]\d+)(?=_)", name)}


def test_every_rule_of_the_supervisor_is_documented_once_and_tested() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    assert set(DOCUMENTED) == ids_in_names_of_tests()
