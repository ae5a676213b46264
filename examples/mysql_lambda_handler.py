"""An AWS Lambda function with MySQL: the Proxy belongs to the module, so that it outlives an invocation.

DATABASE_URL=mysql://user:password@host/dbname python examples/mysql_lambda_handler.py
"""

import os
from typing import Any

import rdsproxy_lib

# Made once per execution environment; this does no I/O. One environment serves one request at a time, so one
# database connection is enough. After a freeze the connection is looked at before it is used again.
proxy = rdsproxy_lib.Proxy(os.environ["DATABASE_URL"], max_connections=1)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    with proxy.connect() as conn, conn.cursor() as cursor:  # no I/O after the first time; closes, which rolls back
        cursor.execute("insert into requests values (%s)", (event["path"],))
        cursor.execute("select count(*) from requests where path = %s", (event["path"],))
        (count,) = cursor.fetchone()
        conn.commit()
    return {"path": event["path"], "count": count}


def main() -> None:
    with proxy.connect() as conn, conn.cursor() as cursor:
        cursor.execute("create table if not exists requests (path varchar(99) not null)")
    for number in range(100):
        answer = handler({"path": f"/{number % 4}"}, None)
    stats = proxy.stats()
    print("last answer:", answer)
    print(f"{stats.client_connections_received} connections, {stats.database_connections} to the database")
    proxy.close()


if __name__ == "__main__":
    main()
