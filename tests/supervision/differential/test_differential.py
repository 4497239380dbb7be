"""Our supervisors answer as Erlang/OTP's: recorded scripts always, random ones where ``erl`` is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import erlang
from .by_hand import BY_HAND
from .comparison import comparable
from .driver import run_script
from .generate import dynamic_scripts, flat_scripts, scripts
from .record import recorded

RECORDED = [*recorded("by_hand"), *recorded("random")]
EXAMPLES = int(os.environ.get("CALLBOARD_TEST_SCRIPTS", "60"))
"""How many random scripts are compared live."""

REPOSITORY = Path(__file__).parents[3]


def assert_same(script, ours, theirs):
    ours, theirs = comparable(script, ours), comparable(script, theirs)
    for part in theirs:
        assert ours[part] == theirs[part], f"{part}, after the script {json.dumps(script)}"


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record["name"])
def test_a_recorded_script_leaves_the_trace_that_it_left_in_erlang(record):
    assert_same(record["script"], run_script(record["script"]), record["trace"])


def test_every_script_that_was_written_by_hand_was_recorded():
    assert {record["name"]: record["script"] for record in recorded("by_hand")} == BY_HAND


def test_scripts_are_read_from_standard_input_and_traces_written_to_standard_output():
    some = RECORDED[:3]
    lines = "".join(json.dumps(record["script"]) + "\n" for record in some)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.supervision.differential"],
        cwd=REPOSITORY,
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for record, line in zip(some, ran.stdout.splitlines(), strict=True):
        assert_same(record["script"], json.loads(line), record["trace"])


def test_what_is_not_promised_is_not_compared_and_all_else_is():
    dynamic = {"strategy": "simple_one_for_one", "children": [{"id": "each"}]}
    script = {"supervisor": {"children": [{"id": "y", "supervisor": dynamic}]}, "commands": []}
    trace = {"start": "ok", "results": [], "children": [], "exit": None}

    def ends(*paths):
        return trace | {"events": [["exit", list(path), "shutdown"] for path in paths]}

    assert comparable(script, ends("yp", "yq", "y")) == comparable(script, ends("yq", "yp", "y"))
    assert comparable(script, ends("yp", "y", "yq")) != comparable(script, ends("yq", "yp", "y"))
    killed = script | {"commands": [["exit", ["y"], "kill"]]}
    assert comparable(killed, ends("yp", "y", "yq")) == comparable(killed, ends("yq", "yp", "y"))
    assert comparable(killed, ends("yp", "y")) != comparable(killed, ends("yq", "yp", "y"))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    with erlang.Oracle(tmp_path_factory.mktemp("oracle")) as started:
        yield started


@pytest.mark.erlang
@pytest.mark.skipif(not erlang.is_installed(), reason="needs erl and erlc")
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(script=st.one_of(scripts(), scripts(), flat_scripts(), dynamic_scripts()))
def test_a_random_script_leaves_the_same_trace_in_erlang(oracle, script):
    assert_same(script, run_script(script), oracle.run(script))
