"""When jobs may be taken back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.renewal_grace import renewal_grace_seconds, taking_back_begins

times = st.floats(0, 1e6)
leases = st.floats(0.1, 3600)


@pytest.mark.parametrize(("lease", "grace"), [(30, 20), (6, 4), (3, 3), (0.5, 3)])
def test_the_living_renew_first(lease, grace):
    assert renewal_grace_seconds(lease) == pytest.approx(grace)


@given(times, st.none() | times, leases)
def test_each_contact_anew_gives_the_living_their_time(contact_at, failed_at, lease):
    begins = taking_back_begins(contact_at, failed_at, lease)
    assert begins >= contact_at + renewal_grace_seconds(lease)
    if failed_at is not None:
        assert begins >= failed_at + renewal_grace_seconds(lease)
    assert begins in {at + renewal_grace_seconds(lease) for at in (contact_at, failed_at) if at is not None}
