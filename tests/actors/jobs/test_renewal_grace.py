"""When jobs may be taken back."""

import pytest

from callboard.actors.jobs.renewal_grace import renewal_grace_seconds


@pytest.mark.parametrize(("lease", "grace"), [(30, 20), (6, 4), (3, 3), (0.5, 3)])
def test_the_living_renew_first(lease, grace):
    assert renewal_grace_seconds(lease) == pytest.approx(grace)
