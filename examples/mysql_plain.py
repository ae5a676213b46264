"""MySQL or MariaDB, a Proxy of one's own: 50 connections to the application, at most 3 to the database.

DATABASE_URL=mysql://user:password@host/dbname python examples/mysql_plain.py
"""

import os

import rdsproxy_lib


def main() -> None:
    with rdsproxy_lib.Proxy(os.environ["DATABASE_URL"], max_connections=3) as proxy:
        connections = [proxy.connect() for _ in range(50)]
        for number, conn in enumerate(connections):
            with conn.cursor() as cursor:
                cursor.execute("select %s * 2", (number,))
                assert cursor.fetchone() == (number * 2,)
            conn.commit()  # the transaction is over: its database connection goes to whoever needs one
        stats = proxy.stats()
        print(f"{stats.client_connections} connections, {stats.database_connections} of them to the database")
        for conn in connections:
            conn.close()


if __name__ == "__main__":
    main()
