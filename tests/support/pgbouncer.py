"""pgbouncer in front of a server, where it is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.support.waiting import wait_until


@contextmanager
def running_pgbouncer(url: str, pool_mode: str, *, server_connections: int = 20, ignored: str = "") -> Iterator[str]:
    """Yield the URL through a pgbouncer of this test's own; skip the test where there is none.

    Args:
        url: the server's database.
        pool_mode: ``transaction`` or ``session``.
        server_connections: how many its clients share.
        ignored: start-up parameters that it takes and ignores.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    target = make_url(url)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="callboard-pgbouncer-") as folder:
        users = Path(folder) / "users.txt"
        users.write_text(f'"{target.username}" "{target.password or ""}"\n')
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={target.host} port={target.port or 5432}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = {pool_mode}\n"
            f"default_pool_size = {server_connections}\nignore_startup_parameters = {ignored}\n"
        )
        account = {}
        if os.geteuid() == 0:  # as which it does not run
            account = {"user": pwd.getpwnam("nobody").pw_uid}
            for path in (Path(folder), users, configuration):
                path.chmod(0o755 if path.is_dir() else 0o644)
        process = subprocess.Popen([program, str(configuration)], stderr=subprocess.DEVNULL, **account)
        try:
            wait_until(lambda: _answers(port))
            yield target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
