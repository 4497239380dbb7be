"""Whether a run whose jobs did not all end as they should is caught."""

from callboard import Reason
from callboard.demo.check import check_jobs
from callboard.demo.fate import COMPLETED, completed

from .histories import make_history, make_record

KIND = "callboard.demo.jobs.parse_module"


def test_a_run_in_which_everything_happened_as_it_should_passes() -> None:
    root, child = make_record(), make_record()
    histories = [make_history(*COMPLETED.reasons)] * 2
    assert check_jobs({KIND: 2}, {root.id: COMPLETED}, [root, child], histories) == []


def test_a_lost_job_is_missed() -> None:
    root = make_record()
    assert check_jobs({KIND: 1}, {root.id: COMPLETED}, [], []) == [
        f"0 jobs of kind {KIND}, expected 1",
        f"job {root.id} is lost: it was spawned and is not in the database",
    ]


def test_a_job_too_many_is_noticed() -> None:
    records = [make_record(kind="refused")]
    assert check_jobs({}, {}, records, [make_history(*COMPLETED.reasons)]) == ["1 jobs of kind refused, expected 0"]


def test_a_child_must_complete_at_its_first_attempt() -> None:
    child = make_record(attempt=2, error={"type": "OSError", "message": "lost", "traceback": None})
    history = make_history(*completed(failures=1).reasons)
    assert check_jobs({KIND: 1}, {}, [child], [history]) == [
        (
            f"job {child.id} ({KIND}) took 2 attempts (spawned > claimed > error > claimed > succeeded), "
            f"expected 1 (spawned > claimed > succeeded); its last error: OSError: lost"
        )
    ]


def test_a_root_must_meet_its_own_fate() -> None:
    root = make_record()
    history = make_history(Reason.SPAWNED, Reason.CLAIMED, Reason.SUCCEEDED)
    assert check_jobs({KIND: 1}, {root.id: completed(failures=1)}, [root], [history]) == [
        (
            f"job {root.id} ({KIND}) took 1 attempts (spawned > claimed > succeeded), "
            f"expected 2 (spawned > claimed > error > claimed > succeeded)"
        )
    ]
