"""The demo's LLM batch: 200 questions to the stand-in for a provider."""

import json
from dataclasses import replace

import pytest

from callboard import BatchResult, ItemStatus, Settings
from callboard.demo import main
from callboard.demo.batch import ITEMS, compare, questions
from callboard.demo.plan import make_plan
from callboard.demo.provider import reply


def test_a_run_on_the_private_server_asks_one_batch(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(database_url=None, pg_pool_size=4, poll_interval_seconds=0.1)
    assert main.run(settings, json_output=True, package_limit=1) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["batch_items"], report["differences"]) == (ITEMS, [])


def test_an_answer_that_is_lost_or_another_questions_is_a_difference() -> None:
    asked = questions(make_plan(1))
    right = [
        BatchResult(one.custom_id, ItemStatus.SUCCEEDED, {"content": [{"text": reply(one.params)}]}) for one in asked
    ]
    assert len(asked) == ITEMS
    assert compare(asked, right) == []
    assert compare(asked, right[1:]) == ["the batch has 199 results, expected 200"]
    wrong = [right[0], replace(right[1], result=right[0].result), replace(right[2], status=ItemStatus.ERRORED)]
    found = compare(asked, [*wrong, *right[3:]])
    assert [line.split(":")[0] for line in found] == ["batch item question 1", "batch item question 2"]
