"""What the demo reads, and how it counts."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.demo.library import (
    LONGEST,
    ModuleSize,
    Tally,
    by_package,
    digest,
    find_modules,
    first_packages,
    library_folder,
    longest,
    measure,
    module_name,
)

SIZES = st.lists(
    st.builds(
        ModuleSize,
        path=st.integers(0, 10**6).map(lambda number: Path(f"/library/module_{number}.py")),
        lines=st.integers(0, 50),
        functions=st.integers(0, 9),
        classes=st.integers(0, 9),
    ),
    max_size=40,
    unique_by=lambda size: size.path,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small library: two packages, two loose modules, and what is not part of it."""
    for name in (
        "loose.py",
        "another.py",
        "pack/__init__.py",
        "pack/inner/deep.py",
        "band/play.py",
        "band/tests/test_play.py",
        "test/bad_syntax.py",
        "site-packages/foreign/module.py",
        "pack/__pycache__/cached.py",
        "pack/data.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "folder.py").mkdir()
    return tmp_path


def test_modules_are_the_librarys_own_files(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in find_modules(folder)]
    assert found == ["another.py", "band/play.py", "loose.py", "pack/__init__.py", "pack/inner/deep.py"]


def test_modules_belong_to_their_top_level_package(folder: Path) -> None:
    packages = by_package(folder, find_modules(folder))
    assert {name: len(paths) for name, paths in packages.items()} == {"": 2, "band": 1, "pack": 2}
    assert list(first_packages(packages, 1)) == ["band"]
    assert list(first_packages(packages, 9)) == ["band", "pack"]


@pytest.mark.parametrize(
    ("path", "name"), [("ast.py", "ast"), ("json/__init__.py", "json"), ("email/mime/text.py", "email.mime.text")]
)
def test_a_module_has_the_name_it_is_imported_by(path: str, name: str) -> None:
    assert module_name(Path("/library"), Path("/library") / path) == name


def test_the_library_of_this_python_is_found() -> None:
    modules = find_modules(library_folder())
    assert len(modules) > 300
    assert library_folder() / "ast.py" in modules


def test_definitions_are_counted_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "class A:\n    def f(self):\n        async def g(): ...\n        return lambda: 0\n\nclass B: ...\n"
    )
    assert measure(path) == ModuleSize(path, lines=6, functions=2, classes=2)


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b"abc")
    found = digest(path)
    assert (found.size_bytes, found.sha256[:8]) == (3, "ba7816bf")


@given(SIZES, st.lists(st.integers(0, 40), max_size=5))
def test_tallies_of_parts_add_up_to_that_of_the_whole(sizes: list[ModuleSize], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(sizes)) for cut in cuts), len(sizes)]
    parts = [sizes[begin:end] for begin, end in itertools.pairwise(edges)]
    total = sum((sum(map(Tally.of, part), Tally()) for part in parts), Tally())
    assert total == Tally(
        len(sizes),
        sum(size.lines for size in sizes),
        sum(size.functions for size in sizes),
        sum(size.classes for size in sizes),
        longest(sizes),
    )


@given(SIZES)
def test_the_longest_are_longer_than_the_rest(sizes: list[ModuleSize]) -> None:
    kept = longest(sizes)
    rest = [size for size in sizes if size not in kept]
    assert len(kept) == min(LONGEST, len(sizes))
    assert [size.lines for size in kept] == sorted((size.lines for size in kept), reverse=True)
    assert all(size.lines <= kept[-1].lines for size in rest)
