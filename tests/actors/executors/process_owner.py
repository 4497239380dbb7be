"""A worker to be killed: `python -m tests.actors.executors.process_owner JOB` prints the id of its job's process."""

import sys

from callboard.actors.executors.process import ProcessExecutor
from callboard.actors.executors.process_limits import ProcessLimits
from callboard.actors.jobs.call import Call
from callboard.actors.jobs.context import JobContext
from tests.actors.executors import process_jobs
from tests.actors.executors.ears import Ears
from tests.actors.executors.places import ReportingServices
from tests.actors.jobs.builders import claimed


def main(name: str) -> None:
    definition = getattr(process_jobs, name)
    ears, services = Ears(), ReportingServices()
    attempt = claimed(kind=definition.kind)
    call = Call(definition, JobContext(attempt, services), attempt, 1000)
    ProcessExecutor(1, ProcessLimits(), lambda reason: None).start(call, ears.on_start, ears.on_finish)
    print(services.arrived.get()["pid"] if name == "hang_forever" else ears.result(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
