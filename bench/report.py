"""Medians, ratios, and how a report is shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table


class Goal(NamedTuple):
    """A number to reach (docs/bench.md)."""

    figure: str
    label: str
    value: float
    at_least: bool
    """False: at most."""

    def reached(self, measured: float) -> bool:
        """Tell whether the measured figure is good enough."""
        return measured >= self.value if self.at_least else measured <= self.value


def median_of(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each figure's median over the rounds; None where a round has none."""
    medians: dict[str, Any] = {}
    for name in measurements[0]:
        values = [measurement[name] for measurement in measurements]
        medians[name] = None if None in values else statistics.median(values)
    return medians


def ratio(
    measured: Sequence[Mapping[str, Any]],
    bare: Sequence[Mapping[str, Any]],
    figure: str,
    bare_figure: str | None = None,
) -> float:
    """Return the median over the rounds of measured ÷ bare: both halves of a round saw the same machine."""
    pairs = zip(measured, bare, strict=True)
    ratios: list[float] = [ours[figure] / theirs[bare_figure or figure] for ours, theirs in pairs]
    return statistics.median(ratios)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of two or more values; between two of them, interpolated."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def show(report: Mapping[str, Any], goals: Sequence[Goal], console: Console) -> None:
    """Print a report as tables."""
    table = Table(title=f"{report['benchmark']}: {report['jobs']:,} jobs, median of {report['rounds']} rounds")
    table.add_column("figure")
    for column in ("Callboard", "bare psycopg", "goal"):
        table.add_column(column, justify="right")
    wanted = {goal.figure: goal for goal in goals}
    baseline: Mapping[str, Any] = report["baseline"]
    for name in dict.fromkeys([*report["figures"], *baseline]):
        goal = wanted.get(name)
        table.add_row(
            goal.label if goal else name.replace("_", " "),
            number(report["figures"].get(name)),
            number(baseline.get(name)),
            _goal(goal, report["figures"].get(name)),
        )
    table.add_row("ratio to bare psycopg", number(report["ratio_to_baseline"]), "1", "")
    console.print(table)
    show_surroundings(report, console)


def show_groups(report: Mapping[str, Any], unit: str, console: Console) -> None:
    """Print a report of groups of figures, side by side."""
    groups = {name: value for name, value in report["figures"].items() if isinstance(value, dict) and name != "ratios"}
    table = Table(title=f"{report['benchmark']}: {report['jobs']:,} {unit}")
    table.add_column("figure")
    for group in groups:
        table.add_column(group.replace("_", " "), justify="right")
    for name in dict.fromkeys(name for group in groups.values() for name in group):
        table.add_row(name.replace("_", " "), *(number(group.get(name)) for group in groups.values()))
    for name, value in report["figures"]["ratios"].items():
        table.add_row(f"ratio: {name.replace('_', ' ')}", number(value))
    console.print(table)
    show_surroundings(report, console)


def show_failover(report: Mapping[str, Any], goals: Sequence[Goal], console: Console) -> None:
    """Print how long a cluster had no leader, by what had happened to the one that it had."""
    table = Table(title="failover: seconds without a leader", caption=f"cut by {report['cut_by']}")
    for column in ("failure", "rounds", "p50", "p99", "worst", "goal", "disturbed"):
        table.add_column(column, justify="left" if column == "failure" else "right")
    figures = report["figures"]
    for goal in goals:
        name = goal.figure.removesuffix("_worst_seconds")
        p50, p99, worst = (figures[f"{name}_{which}_seconds"] for which in ("p50", "p99", "worst"))
        shown = (number(p50), number(p99), number(worst), _goal(goal, worst), str(figures[f"{name}_disturbed_rounds"]))
        table.add_row(goal.label, str(figures[f"{name}_rounds"]), *shown)
    console.print(table)
    show_surroundings(report, console)


def show_surroundings(report: Mapping[str, Any], console: Console) -> None:
    """Print what the figures were measured on."""
    machine = report["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']:.1f}; {machine['system']}; "
        f"{machine['python']}; {libraries}",
        highlight=False,
    )
    if report["server"]:
        console.print("; ".join(f"{name} {value}" for name, value in report["server"].items()), highlight=False)


def number(value: float | None) -> str:
    """Return a figure as tables show it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"


def verdict(goal: Goal, measured: float) -> str:
    """Return a goal, and whether it is reached, in words."""
    reached = "reached" if goal.reached(measured) else "not reached"
    return f"{'≥' if goal.at_least else '≤'} {number(goal.value)} {reached}"


def _goal(goal: Goal | None, measured: float | None) -> str:
    return "" if goal is None or measured is None else verdict(goal, measured)
