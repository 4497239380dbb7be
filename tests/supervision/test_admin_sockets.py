"""Files of admin sockets: private, one a process, and gone when their process is."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.actors.errors import ConfigurationError
from callboard.supervision.admin_sockets import AdminSocket, default_directories, find_sockets, open_socket, prepare

OPEN = """
import sys
from pathlib import Path
from callboard.supervision.admin_sockets import open_socket
listener, path = open_socket(Path(sys.argv[1]))
print(path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sockets"


@pytest.fixture
def listener(folder: Path) -> Iterator[tuple[socket.socket, Path]]:
    listener, path = open_socket(folder)
    with listener:
        yield listener, path


def test_only_its_user_can_open_it(listener: tuple[socket.socket, Path], folder: Path) -> None:
    path = listener[1]
    assert stat.filemode(folder.stat().st_mode) == "drwx------"
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    assert path.name.startswith(f"{os.getpid()}-")
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_two_in_one_process_do_not_clash(listener: tuple[socket.socket, Path], folder: Path) -> None:
    other, other_path = open_socket(folder)
    with other:
        assert find_sockets([folder]) == sorted(
            [AdminSocket(os.getpid(), listener[1]), AdminSocket(os.getpid(), other_path)]
        )


@pytest.mark.processes
def test_the_socket_of_a_killed_process_is_removed(listener: tuple[socket.socket, Path], folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        path = Path(process.stdout.readline().strip())
        assert AdminSocket(process.pid, path) in find_sockets([folder])
        process.kill()
    assert path.exists()
    (folder / f"{process.pid}-01234567.new").touch()  # it died between two steps of its start
    assert find_sockets([folder]) == [AdminSocket(os.getpid(), listener[1])]
    assert [each.name for each in folder.iterdir()] == [listener[1].name]


def test_a_process_with_no_time_for_callers_lives(listener: tuple[socket.socket, Path], folder: Path) -> None:
    callers = []
    try:
        for _ in range(100):  # more than the backlog takes
            caller = socket.socket(socket.AF_UNIX)
            caller.setblocking(False)
            callers.append(caller)
            if caller.connect_ex(str(listener[1])):
                break
        else:
            pytest.fail("the backlog has no end")
        assert find_sockets([folder]) == [AdminSocket(os.getpid(), listener[1])]
    finally:
        for caller in callers:
            caller.close()


def test_what_is_no_socket_of_ours_is_left_alone(folder: Path) -> None:
    prepare(folder)
    (folder / "README").touch()
    assert find_sockets([folder, folder / "missing"]) == []
    assert (folder / "README").exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_folder_of_others_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"expected drwx------.*chmod 700"):
        open_socket(folder)
    assert list(folder.iterdir()) == []


def test_a_link_to_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="got lrwxrwxrwx"):
        open_socket(folder)


@pytest.mark.parametrize("name", ["x" * 120, "file/below"])
def test_an_impossible_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"no admin socket in .*CALLBOARD_ADMIN_SOCKET_DIRECTORY"):
        open_socket(tmp_path / name)


def test_the_folder_of_the_login_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    temporary = tmp_path / f"callboard-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_directories() == [tmp_path / "callboard", temporary]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert default_directories() == [temporary]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_directories() == [temporary]
