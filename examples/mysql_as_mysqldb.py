"""For frameworks that import MySQLdb, such as Django: PyMySQL stands in for it, and we stand in for PyMySQL.

In a Django project the first two lines of `main` belong into the project's __init__.py, before MySQLdb is imported.

DATABASE_URL=mysql://user:password@host/dbname python examples/mysql_as_mysqldb.py
"""

import os
from urllib.parse import unquote, urlsplit

from rdsproxy_lib import configure, pymysql  # was: import pymysql


def main() -> None:
    configure(max_connections=3)
    pymysql.install_as_MySQLdb()

    import MySQLdb  # what the framework does

    url = urlsplit(os.environ["DATABASE_URL"])
    connections = [
        MySQLdb.connect(
            host=url.hostname,
            port=url.port or 3306,
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            database=url.path.removeprefix("/"),
        )
        for _ in range(20)
    ]
    numbers = set()
    for conn in connections:
        with conn.cursor() as cursor:
            cursor.execute("select connection_id()")
            numbers.add(cursor.fetchone()[0])
        conn.commit()
    print(f"{len(connections)} connections, {len(numbers)} of them to the database")
    for conn in connections:
        conn.close()


if __name__ == "__main__":
    main()
