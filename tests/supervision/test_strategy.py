"""Rules C, D and I as functions."""

import pytest

from callboard.supervision.strategy import affected, consequence, shuts_down


@pytest.mark.parametrize(
    ("restart", "after_normal", "after_crash"),
    [("permanent", "restart", "restart"), ("transient", "keep", "restart"), ("temporary", "forget", "forget")],
)
def test_C1_C2_C3_restart_types(restart, after_normal, after_crash):
    assert consequence(restart, abnormal=False) == after_normal
    assert consequence(restart, abnormal=True) == after_crash


@pytest.mark.parametrize(
    ("strategy", "group"),
    [("one_for_one", "c"), ("rest_for_one", "cde"), ("one_for_all", "abcde")],
)
def test_D1_D2_D3_who_starts_again_with_c(strategy, group):
    assert "".join(affected(strategy, list("abcde"), "c")) == group


@pytest.mark.parametrize(
    ("auto_shutdown", "significant", "others", "ends"),
    [
        ("never", True, [], False),
        ("any_significant", True, [True], True),
        ("any_significant", False, [], False),
        ("all_significant", True, [True, False], False),
        ("all_significant", True, [False], True),
        ("all_significant", False, [], False),
    ],
)
def test_I1_I2_who_ends_a_supervisor(auto_shutdown, significant, others, ends):
    assert shuts_down(auto_shutdown, significant=significant, others=others) is ends
