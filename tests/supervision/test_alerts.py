"""deploy/prometheus: the alert rules, their tests, and the families they speak of."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from callboard.supervision.metric_list import FAMILIES, MetricType

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
NAMES = {family.name for family in FAMILIES} | {
    family.name + suffix
    for family in FAMILIES
    if family.type is MetricType.HISTOGRAM
    for suffix in ("_bucket", "_count", "_sum")
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not on PATH")
    return subprocess.run([path, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", ["alerts.yml", "alerts_test.yml"])
def test_only_families_that_exist_are_used(file):
    used = set(re.findall(r"\bcallboard_[a-z0-9_]+", (FOLDER / file).read_text(encoding="utf-8")))
    assert used
    assert used <= NAMES


def test_every_alert_has_a_test_in_which_it_fires():
    rules = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    tests = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", tests))
    assert len(alerts) == len(set(alerts))
    assert set(alerts) == fired


def test_every_alert_says_what_to_do():
    rules = (FOLDER / "alerts.yml").read_text(encoding="utf-8").split("- alert: ")[1:]
    for rule in rules:
        assert re.search(r"summary: \S", rule), rule
        assert re.search(r"action: \S", rule), rule
        assert re.search(r"severity: (warning|critical)", rule), rule


def test_promtool_accepts_the_rules():
    checked = promtool("check", "rules", "alerts.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_fire_when_they_should():
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
