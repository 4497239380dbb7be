"""The repository's shape: what is installed is what stands in the tree, and nothing else."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

import callboard

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOVED = ("actors", "persistence", "supervision")


def test_the_list_of_packages_is_the_tree() -> None:
    found = {
        ".".join(("callboard", *folder.relative_to(ROOT).parts)).replace("callboard.callboard", "callboard")
        for top in ("callboard", *MOVED)
        for init in (ROOT / top).rglob("__init__.py")
        for folder in (init.parent,)
        if not any(part.is_symlink() for part in (folder, *folder.parents))
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


@pytest.mark.parametrize("name", MOVED)
def test_the_symlinks_help_editors(name: str) -> None:
    link = ROOT / "callboard" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", MOVED)
def test_a_folder_is_not_imported_under_its_bare_name(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"import this package as `callboard.{name}`" in done.stderr


def test_the_public_surface() -> None:
    assert sorted(callboard.__all__) == callboard.__all__
    assert (ROOT / "tests" / "meta" / "public_names.txt").read_text().split() == callboard.__all__
    assert set(callboard.__all__) <= set(dir(callboard))
    for name in callboard.__all__:
        assert getattr(callboard, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'runtimes'"):
        _ = callboard.runtimes  # type: ignore[attr-defined]


def test_a_module_that_only_defines_jobs_imports_no_driver() -> None:
    program = (
        "import sys; from callboard import JobContext, job\n"
        "print(sorted({'sqlalchemy', 'psycopg', 'alembic', 'prometheus_client'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tests_that_promises_point_to_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    for word in text.replace("`", " ").replace(",", " ").split():
        if word.startswith("tests/"):
            assert (ROOT / word).exists(), f"docs/guarantees.md names {word}"


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_the_wheel_installs_and_every_module_imports(tmp_path: Path) -> None:
    wheel = _build_wheel(tmp_path)
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # Dependencies come from this environment: the test is about our files, and works offline.
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    assert not [name for name in MOVED if (site / name).exists()], "installs top-level packages of common names"
    (tmp_path / "import_all.py").write_text(IMPORT_ALL)
    imported = _run(python, "-W", "error", "import_all.py", site, _site_packages(), cwd=tmp_path)
    assert int(imported) > 80


IMPORT_ALL = """
import importlib, pkgutil, sys
site, dependencies = sys.argv[1:]
sys.path.append(dependencies)
import callboard
assert callboard.__file__.startswith(site), callboard.__file__
names = [module.name for module in pkgutil.walk_packages(callboard.__path__, "callboard.")]
for name in names:
    # Migrations run inside Alembic; a __main__ runs its program.
    if ".versions." not in name and not name.endswith(("migrations.env", "__main__")):
        importlib.import_module(name)
print(len(names))
"""


def _build_wheel(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source)
    (wheel,) = tmp_path.glob("callboard-*.whl")
    return wheel


def _site_packages() -> str:
    return sysconfig.get_path("purelib")


def _run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
