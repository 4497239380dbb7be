"""The list keeps to Prometheus' rules. What promtool checks is checked here too, for machines without it."""

import re
from pathlib import Path

import pytest

from callboard.supervision.metric_list import FAMILIES, LABEL_LIMIT, PREFIX, MetricType
from callboard.supervision.metric_page import page

ROOT = Path(__file__).parents[2]
NOT_BASE_UNITS = re.compile(
    r"_(s|ms|us|ns|sec|b|kb|mb|gb|m|h|d|milliseconds?|minutes?|hours?|days?|kilo\w*|mega\w*|milli\w*|percent)(_|$)"
)
UNBOUNDED = {"id", "job_id", "actor_id", "user", "owner", "tenant", "host", "worker", "node", "tag", "error", "attempt"}

family_cases = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_names_are_unique():
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))


@family_cases
def test_name_has_prefix_case_and_base_units(family):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name), "snake_case, no colon"
    assert family.name.startswith(PREFIX)
    assert not NOT_BASE_UNITS.search(family.name)
    assert not re.search(r"_(gauge|counter|histogram|summary)(_|$)", family.name), "no type in the name"


@family_cases
def test_suffix_says_the_type(family):
    assert family.name.endswith("_total") == (family.type is MetricType.COUNTER)
    assert family.name.endswith("_info") == (family.type is MetricType.INFO)
    assert not family.name.endswith(("_count", "_sum", "_bucket"))
    assert bool(family.buckets) == (family.type is MetricType.HISTOGRAM)
    if family.type is MetricType.HISTOGRAM:
        assert family.name.endswith("_seconds")
        assert list(family.buckets) == sorted(set(family.buckets))


@family_cases
def test_help_is_one_sentence(family):
    assert re.fullmatch(r"[A-Z][^\n]*\.", family.help)


@family_cases
def test_labels_are_few_and_bounded(family):
    names = family.label_names
    assert len(names) == len(set(names)) <= 3
    assert not set(names) & (UNBOUNDED | {"le", "quantile", "instance", "job"})
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)
    if family.type is MetricType.HISTOGRAM:
        registered = [label for label in family.labels if label.values is None]
        assert len(registered) <= 1, "each series of a histogram is a score of series"
    for label in family.labels:
        if label.values is not None:
            assert 0 < len(label.values) == len(set(label.values)) <= LABEL_LIMIT


def test_the_page_is_the_one_made_from_the_list():
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m callboard.supervision.metric_page > docs/metrics.md"
