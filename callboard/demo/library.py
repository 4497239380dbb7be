"""The demo's input, the standard library of the Python that runs it, and what one can ask of its files."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST: Final = 10
"""How many of the longest modules a tally keeps."""

_SKIPPED: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"})
"""Folders of other people's packages, and of tests, which have files that are not Python on purpose."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """The SHA-256 of one file."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModuleSize:
    """What parsing one module found."""

    path: Path
    lines: int
    functions: int
    classes: int


@dataclass(frozen=True, slots=True)
class Tally:
    """The sum of some modules' sizes. Tallies add up: ``sum(tallies, Tally())``."""

    modules: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest: tuple[ModuleSize, ...] = ()
    """The longest modules, longest first; of equally long ones the first by path."""

    @classmethod
    def of(cls, size: ModuleSize) -> Tally:
        """Return the tally of one module."""
        return cls(1, size.lines, size.functions, size.classes, (size,))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.modules + other.modules,
            self.lines + other.lines,
            self.functions + other.functions,
            self.classes + other.classes,
            longest((*self.longest, *other.longest)),
        )


def longest(sizes: Iterable[ModuleSize]) -> tuple[ModuleSize, ...]:
    """Return the ten longest modules, longest first."""
    return tuple(sorted(sizes, key=lambda size: (-size.lines, size.path))[:LONGEST])


def library_folder() -> Path:
    """Return where this Python keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_modules(folder: Path) -> list[Path]:
    """Return the Python files below ``folder`` that are modules of the library, sorted."""
    return sorted(
        path for path in folder.rglob("*.py") if _SKIPPED.isdisjoint(path.relative_to(folder).parts) and path.is_file()
    )


def module_name(folder: Path, path: Path) -> str:
    """Return the name by which a module of the library is imported."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def by_package(folder: Path, modules: Iterable[Path]) -> dict[str, list[Path]]:
    """Return modules by the top-level package they are in; those in none are under ``""``."""
    packages: dict[str, list[Path]] = {}
    for path in modules:
        package, *inner = path.relative_to(folder).parts
        packages.setdefault(package if inner else "", []).append(path)
    return packages


def first_packages(packages: Mapping[str, Sequence[Path]], limit: int) -> dict[str, list[Path]]:
    """Return the first packages by name, and no module outside a package."""
    names = sorted(name for name in packages if name)
    return {name: list(packages[name]) for name in names[:limit]}


def digest(path: Path) -> FileDigest:
    """Hash one file. Waits for the disk."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(path, file.tell(), sha256)


def modified_at(path: Path) -> int:
    """Return when a file was last changed, in nanoseconds since 1970. Waits for the disk."""
    return path.stat().st_mtime_ns


def measure(path: Path) -> ModuleSize:
    """Parse one module and count its definitions. Keeps a processor busy for 0 to 100 milliseconds."""
    source = path.read_bytes()
    functions = classes = 0
    for node in ast.walk(ast.parse(source, filename=str(path))):
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
    return ModuleSize(path, len(source.splitlines()), functions, classes)
