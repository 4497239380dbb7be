"""The page docs/metrics.md, made from the list: ``python -m callboard.supervision.metric_page > docs/metrics.md``."""

from __future__ import annotations

import sys

from .metric_list import FAMILIES, LABEL_LIMIT, OTHER, SECTIONS, MetricFamily

_INTRODUCTION = f"""\
# Metrics

<!-- Made from supervision/metric_list.py by `python -m callboard.supervision.metric_page`. Do not edit. -->

Every worker serves these {len(FAMILIES)} families at `/metrics`, beside `process_*`, `python_info` and `python_gc_*`.
Scrape each process; Prometheus adds `instance`.

* *Scope* `process`: sum over the processes. Scope `cluster`: read from the database by the
  leader, and shown by no other process ([leader.md](leader.md)); take the `max`, as it may change.
* A label without listed values takes names that the program registers: job kinds, queues, actor classes, supervisors,
  the store's operations. More than {LABEL_LIMIT} of them show as `{OTHER}`, counted in
  `callboard_metrics_label_overflow_total`. No label ever holds an id, a user, a tag or the text of an error.
* Ages are exported as moments: `time() - callboard_queue_oldest_job_timestamp_seconds`.
* A family shows up with its first value; those whose label values are all known start at 0.
* A scrape asks neither the database nor the event loop, so it works while either hangs.
"""

_LATER = """\
## Not there yet

These families come with the parts that fill them: sent messages and times of actors, `dead_letters_stored`,
escalations of supervisors, `queue_paused`, connection pool and listener, background tasks and
the lag of the event loop, quotas, back-pressure, webhooks, and the CPU and memory ratios.

## Alerts

deploy/prometheus/alerts.yml has the rules, deploy/prometheus/alerts_test.yml their tests
(`promtool test rules deploy/prometheus/alerts_test.yml`).
"""


def page() -> str:
    """Return the page's Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(title, families) for title, families in SECTIONS.items()), _LATER])


def _section(title: str, families: tuple[MetricFamily, ...]) -> str:
    rows = [f"## {title}", "", "| name | type | scope | labels | meaning |", "|---|---|---|---|---|"]
    for family in families:
        labels = "<br>".join(_label(label.name, label.values) for label in family.labels) or "-"
        rows.append(f"| `{family.name}` | {family.type} | {family.scope} | {labels} | {family.help} |")
    return "\n".join([*rows, ""])


def _label(name: str, values: tuple[str, ...] | None) -> str:
    return f"`{name}`" if values is None else f"`{name}`: {', '.join(values)}"


if __name__ == "__main__":
    sys.stdout.write(page())
