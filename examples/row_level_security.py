"""Row-level security: each session says once whose rows it may see, and 20 sessions share 2 database connections.

DATABASE_URL=postgresql://user:password@host/dbname python examples/row_level_security.py

The user must not be a superuser: they see all rows, whatever the policies say.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rdsproxy_lib

SCHEMA = """
    create table if not exists invoices (tenant_id text not null, amount int not null);
    alter table invoices enable row level security;
    alter table invoices force row level security;
    drop policy if exists own_rows on invoices;
    create policy own_rows on invoices using (tenant_id = current_setting('app.tenant_id'));
"""


def main() -> None:
    with rdsproxy_lib.Proxy(os.environ["DATABASE_URL"], max_connections=2) as proxy:
        with proxy.connect() as conn:
            conn.execute("set client_min_messages to warning")
            conn.execute(SCHEMA)

        def open_session(tenant: str) -> Any:
            conn = proxy.connect(autocommit=True)
            conn.execute("select set_config('app.tenant_id', %s, false)", (tenant,))
            return conn

        def work(conn: Any, tenant: str) -> None:
            with conn.transaction():
                conn.execute("delete from invoices")  # its own: it sees no others
                conn.execute("insert into invoices values (%s, 10), (%s, 32)", (tenant, tenant))
            for _ in range(10):
                rows = conn.execute("select tenant_id, sum(amount) from invoices group by tenant_id").fetchall()
                assert rows == [(tenant, 42)]

        tenants = [f"tenant {number}" for number in range(20)]
        sessions = [open_session(tenant) for tenant in tenants]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, sessions, tenants))
        try:
            sessions[0].execute("insert into invoices values ('tenant 1', 1)")
        except rdsproxy_lib.psycopg.errors.InsufficientPrivilege as error:
            print("refused:", error.diag.message_primary)
        stats = proxy.stats()
        print(f"{stats.client_connections} sessions, {stats.database_connections} connections, {len(stats.pins)} pins")
        for conn in sessions:
            conn.close()


if __name__ == "__main__":
    main()
