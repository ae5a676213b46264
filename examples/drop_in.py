"""A program that was written for psycopg: only the import differs.

DATABASE_URL=postgresql://user:password@host/dbname python examples/drop_in.py
"""

import os

from rdsproxy_lib import psycopg  # was: import psycopg


def main() -> None:
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url) as conn:  # commits or rolls back at the end, and closes
        conn.execute("create table if not exists visits (page text primary key, count int not null)")
        for page in ("/", "/prices", "/"):
            conn.execute(
                "insert into visits values (%s, 1) on conflict (page) do update set count = visits.count + 1", (page,)
            )
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as conn:
        for row in conn.execute("select page, count from visits order by page"):
            print(row["page"], row["count"])
    try:
        with psycopg.connect(url) as conn:
            conn.execute("insert into visits values ('/', 1)")
    except psycopg.errors.UniqueViolation as error:
        print("refused:", error.diag.constraint_name)


if __name__ == "__main__":
    main()
