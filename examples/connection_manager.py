"""The smallest complete class that manages database connections: a limit, transactions, threads, and an end.

DATABASE_URL=postgresql://user:password@host/dbname python examples/connection_manager.py
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import rdsproxy_lib


class ConnectionManager:
    """Connections to one database, at most `max_connections` of them open at a time, for any number of threads.

    with ConnectionManager(url) as manager:
        with manager.connection() as conn:
            conn.execute(...)
    """

    def __init__(self, url: str, max_connections: int = 5) -> None:
        self._proxy = rdsproxy_lib.Proxy(url, max_connections=max_connections, connection_borrow_timeout=30)

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for one piece of work: committed at the end, rolled back on an error, always closed."""
        with self._proxy.connect() as conn:
            yield conn

    def close(self) -> None:
        """Close the database connections. Those in use are closed when their transaction ends."""
        self._proxy.close()

    def __enter__(self) -> "ConnectionManager":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ConnectionManager({self._proxy!r})"


def main() -> None:
    with ConnectionManager(os.environ["DATABASE_URL"]) as manager:
        with manager.connection() as conn:
            conn.execute("create table if not exists points (player int primary key, points int not null)")
            conn.execute("insert into points select n, 0 from generate_series(0, 9) n on conflict do nothing")
            conn.execute("update points set points = 0")

        def score(number: int) -> None:
            with manager.connection() as conn:
                conn.execute("update points set points = points + 1 where player = %s", (number % 10,))

        with ThreadPoolExecutor(20) as threads:
            list(threads.map(score, range(500)))

        try:
            with manager.connection() as conn:
                conn.execute("update points set points = 0")
                raise RuntimeError("something went wrong")  # and the update is undone
        except RuntimeError:
            pass
        with manager.connection() as conn:
            (total,) = conn.execute("select sum(points) from points").fetchone()
        print(f"{total} points; {manager!r}")


if __name__ == "__main__":
    main()
