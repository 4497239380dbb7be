"""What a run of the demo does: which files, in which queues, how many jobs of each kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from callboard import ConfigurationError

from .jobs import count_package, hash_flaky_file, hash_module, parse_module, wait_for_change
from .library import by_package, find_modules, first_packages, library_folder

FLAKY_EVERY = 30
"""Of so many files one is flaky: its first reads fail."""
INPUT_SLOTS = 100
"""Jobs that wait for input at a time."""
SLOTS_PER_CPU = 2
"""One to compute, one to be claimed meanwhile."""


@dataclass(frozen=True)
class Plan:
    """One run of the demo.

    Its queues are its own, named after the run, so that on a shared database neither other workers nor other runs mix
    with it.
    """

    folder: Path
    """The library's."""
    packages: Mapping[str, Sequence[Path]]
    """Modules by top-level package; those in none under ``""``."""
    run: str = field(default_factory=lambda: f"demo-{uuid4().hex[:8]}")

    @property
    def input_queue(self) -> str:
        """The queue of jobs that wait for input."""
        return self.run

    @property
    def cpu_queue(self) -> str:
        """The queue of jobs that compute."""
        return f"{self.run}-cpu"

    @property
    def queues(self) -> dict[str, int]:
        """Both queues, and how many jobs of each a worker runs at a time."""
        return {self.input_queue: INPUT_SLOTS, self.cpu_queue: SLOTS_PER_CPU * (os.cpu_count() or 1)}

    @property
    def modules(self) -> list[Path]:
        """Every module, sorted."""
        return sorted(path for paths in self.packages.values() for path in paths)

    @property
    def loose(self) -> list[Path]:
        """The modules in no package."""
        return list(self.packages.get("", ()))

    @property
    def split(self) -> list[list[Path]]:
        """The modules of each package."""
        return [list(paths) for name, paths in self.packages.items() if name]

    @property
    def flaky(self) -> list[Path]:
        """The files whose first reads fail."""
        return self.modules[::FLAKY_EVERY]

    @property
    def reliable(self) -> list[Path]:
        """The other files."""
        flaky = set(self.flaky)
        return [path for path in self.modules if path not in flaky]

    @property
    def missing(self) -> Path:
        """A file that does not exist."""
        return self.folder / "there_is_no_such_module.py"

    @property
    def jobs(self) -> dict[str, int]:
        """How many jobs of each kind there will be."""
        return {
            hash_module.kind: len(self.reliable) + 1,
            hash_flaky_file.kind: len(self.flaky) + 1,
            parse_module.kind: len(self.modules),
            count_package.kind: len(self.split),
            wait_for_change.kind: 2,
        }


def make_plan(package_limit: int | None = None) -> Plan:
    """Return the plan of a new run.

    Args:
        package_limit: take only so many packages, and no module outside a package; default: the whole library.

    Raises:
        ConfigurationError: the library has no source files, as where Python was installed without them.
    """
    folder = library_folder()
    packages = by_package(folder, find_modules(folder))
    if package_limit is not None:
        packages = first_packages(packages, package_limit)
    if not packages:
        raise ConfigurationError(
            f"no Python files in {folder}, the standard library of this Python: run the demo by a Python that has "
            f"its library as source files"
        )
    return Plan(folder, packages)
