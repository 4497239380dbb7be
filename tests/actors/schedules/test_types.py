"""What a user may say of a schedule."""

import math

import pytest

from callboard import ConfigurationError
from callboard.actors.schedules.types import Schedule


def test_words_stand_for_policies():
    assert Schedule("* * * * *", misfire="all") == Schedule(cron="* * * * *", misfire=Schedule("* * * * *").misfire.ALL)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "schedule: got cron=None and interval_seconds=None"),
        ({"cron": "* * * * *", "interval_seconds": 5}, "expected one of the two"),
        ({"cron": "nonsense"}, "cron: got 'nonsense'"),
        ({"cron": "* * * * *", "zone": "Europe/Atlantis"}, "zone: got 'Europe/Atlantis'"),
        ({"interval_seconds": 5, "zone": "Europe/Berlin"}, "zone: got 'Europe/Berlin' with an interval"),
        ({"interval_seconds": 0.5}, "interval_seconds: got 0.5"),
        ({"interval_seconds": math.nan}, "interval_seconds: got nan"),
        ({"interval_seconds": "5"}, "interval_seconds: got '5'"),
        ({"cron": "* * * * *", "jitter_seconds": -1}, "jitter_seconds: got -1"),
        ({"cron": "* * * * *", "misfire": "some"}, "misfire: got 'some', expected one of skip, once, all"),
        ({"cron": "* * * * *", "misfire_grace_seconds": math.inf}, "misfire_grace_seconds: got inf"),
        ({"cron": "* * * * *", "max_catch_up": 0}, "max_catch_up: got 0"),
        ({"cron": "* * * * *", "max_catch_up": True}, "max_catch_up: got True"),
    ],
)
def test_what_is_wrong_is_refused_by_name(fields, named):
    with pytest.raises(ConfigurationError) as refused:
        Schedule(**fields)
    assert named in str(refused.value)
