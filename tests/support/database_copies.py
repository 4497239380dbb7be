"""Copies of one database, made ahead on a thread, so that a test need not wait for its own."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait

from tests.support.postgres import Server, unique_name


class DatabaseCopies:
    """Databases like ``template``: some are always ready, and those that are over are dropped meanwhile.

    The thread, and with it the connection of ``server``, is this object's own. What goes wrong on it is raised by a
    later ``take`` or by ``close``.
    """

    def __init__(self, server: Server, template: str, *, ahead: int) -> None:
        self._server = server
        self._template = template
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database copies")
        self._ready = deque(self._thread.submit(self._make) for _ in range(ahead))
        self._drops: deque[Future[None]] = deque()

    def take(self) -> str:
        """Return the name of a database that nobody else has; it is to be given back to ``drop``."""
        while self._drops and self._drops[0].done():
            self._drops.popleft().result()
        self._ready.append(self._thread.submit(self._make))
        return self._ready.popleft().result()

    def drop(self, name: str) -> None:
        """Drop a database that was taken, as soon as the thread comes to it."""
        self._drops.append(self._thread.submit(self._server.drop_database, name))

    def rest(self) -> None:
        """Wait until the thread has nothing to do: for a test of what the server does by itself."""
        wait([*self._ready, *self._drops])

    def close(self) -> None:
        """Drop the copies that nobody took, and end the thread."""
        for copy in self._ready:
            if not copy.cancel():
                self.drop(copy.result())
        self._thread.shutdown()
        for drop in self._drops:
            drop.result()

    def _make(self) -> str:
        name = unique_name()
        self._server.create_database(name, self._template)
        return name
