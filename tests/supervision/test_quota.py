"""Quotas as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import InvalidSpecification
from callboard.actors.mailbox import UNBOUNDED, MailboxSpec
from callboard.supervision.quota import ACTIONS, Breach, ChildUsage, Limit, Quota, Usage

limits = st.none() | st.integers(0, 5)
usages = st.builds(
    Usage, children=st.integers(0, 6), handlers_in_flight=st.integers(0, 6), abandoned_threads=st.integers(0, 6)
)


@pytest.mark.parametrize("resource", ACTIONS)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "many", Limit(1, "forgive"), (1, 2, 3)])
def test_a_wrong_limit_is_refused_by_name(resource, value):
    with pytest.raises(InvalidSpecification, match=f"quota 'q': {resource} .*: expected") as refused:
        Quota("q", **{resource: value})
    assert refused.value.reason == "invalid_quota"


@pytest.mark.parametrize(("resource", "actions"), ACTIONS.items())
def test_an_action_that_cannot_help_is_refused(resource, actions):
    for action in ("refuse", "shed", "stop_child", "escalate"):
        if action in actions:
            assert getattr(Quota("q", **{resource: Limit(1, action)}), resource) == (1, action)
        else:
            with pytest.raises(InvalidSpecification, match="expected an action of"):
                Quota("q", **{resource: Limit(1, action)})


@pytest.mark.parametrize(("resource", "actions"), ACTIONS.items())
def test_a_number_means_the_usual_action(resource, actions):
    assert getattr(Quota("q", **{resource: 7}), resource) == Limit(7, actions[0])


def test_an_interval_is_more_than_nothing():
    with pytest.raises(InvalidSpecification, match="interval_seconds 0: expected seconds"):
        Quota("q", interval_seconds=0)


@given(limits, limits, limits, usages)
def test_whoever_is_admitted_breaks_no_limit_and_nobody_is_refused_without_reason(children, in_flight, threads, usage):
    quota = Quota("q", children=children, handlers_in_flight=in_flight, abandoned_threads=threads)
    breach = quota.admission(usage)
    with_one_more = Usage(usage.children + 1, usage.handlers_in_flight + 1, usage.abandoned_threads)
    assert (breach is None) == (quota.breach(with_one_more) is None)
    if breach is not None:
        assert breach.used > breach.limit.most


@pytest.mark.parametrize("resource", ["mailbox_messages", "message_seconds", "memory_bytes", "cpu_ratio"])
def test_the_limit_itself_is_allowed_and_more_is_not(resource):
    quota = Quota("q", **{resource: 3})
    assert quota.breach(ChildUsage(**{resource: 3})) is None
    assert quota.breach(ChildUsage(**{resource: 4})) == Breach(resource, 4, quota.limit(resource))


@pytest.mark.parametrize(
    ("limit", "capacity", "expected"),
    [
        (5, None, (5, "raise")),
        (Limit(5, "shed"), None, (5, "drop_oldest")),
        (Limit(5, "stop_child"), None, (None, "raise")),
        (5, 3, (3, "raise")),
        (5, 9, (5, "raise")),
        (None, None, (None, "raise")),
    ],
)
def test_a_mailbox_has_the_smaller_of_two_bounds(limit, capacity, expected):
    spec = Quota("q", mailbox_messages=limit).mailbox(MailboxSpec(capacity))
    assert (spec.capacity, spec.overflow) == expected


def test_what_can_be_refused_at_the_door_is_not_looked_for():
    assert not Quota("q", children=1, mailbox_messages=Limit(5, "shed"), abandoned_threads=1).must_look
    assert Quota("q", message_seconds=1).must_look
    assert Quota("q", children=Limit(1, "escalate")).must_look


def test_a_childs_quota_leaves_the_rest_to_its_supervisors():
    own, supervisors = Quota("own", message_seconds=1), Quota("theirs", message_seconds=9, mailbox_messages=5)
    assert own.over(supervisors) == Quota("own", message_seconds=1, mailbox_messages=5)
    assert own.over(None) is own
    assert own.over(supervisors).mailbox(UNBOUNDED).capacity == 5
