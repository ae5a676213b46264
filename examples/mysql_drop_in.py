"""A program that was written for PyMySQL: only the import differs.

DATABASE_URL=mysql://user:password@host/dbname python examples/mysql_drop_in.py
"""

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from rdsproxy_lib import pymysql  # was: import pymysql


def parameters() -> dict[str, Any]:
    """PyMySQL takes no URL."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return {
        "host": url.hostname,
        "port": url.port or 3306,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": url.path.removeprefix("/"),
    }


def main() -> None:
    with pymysql.connect(**parameters()) as conn, conn.cursor() as cursor:  # closes; commits nothing
        cursor.execute("create table if not exists visits (page varchar(99) primary key, count int not null)")
        cursor.executemany(
            "insert into visits values (%s, 1) on duplicate key update count = count + 1",
            [("/",), ("/prices",), ("/",)],
        )
        conn.commit()
    with pymysql.connect(**parameters(), cursorclass=pymysql.cursors.DictCursor) as conn, conn.cursor() as cursor:
        cursor.execute("select page, count from visits order by page")
        for row in cursor:
            print(row["page"], row["count"])
    try:
        with pymysql.connect(**parameters(), autocommit=True) as conn, conn.cursor() as cursor:
            cursor.execute("insert into visits values ('/', 1)")
    except pymysql.err.IntegrityError as error:
        print("refused:", *error.args)


if __name__ == "__main__":
    main()
