"""SQLAlchemy over a Proxy: `creator=` opens our connections, and NullPool leaves the pooling to us.

DATABASE_URL=postgresql://user:password@host/dbname python examples/sqlalchemy_creator.py
DATABASE_URL=mysql://user:password@host/dbname python examples/sqlalchemy_creator.py
"""

import os
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

import rdsproxy_lib


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(40))


def main() -> None:
    url = os.environ["DATABASE_URL"]
    proxy = rdsproxy_lib.Proxy(url, max_connections=3)
    dialect = "mysql+pymysql" if url.startswith("mysql") else "postgresql+psycopg"
    engine = create_engine(f"{dialect}://", creator=proxy.connect, poolclass=NullPool)
    Base.metadata.create_all(engine)

    def order(number: int) -> None:
        with Session(engine) as session, session.begin():
            session.add(Order(customer=f"customer {number % 7}"))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(order, range(100)))
    with Session(engine) as session:
        count = session.scalar(select(func.count()).select_from(Order))
    stats = proxy.stats()
    print(f"{count} orders, {stats.client_connections_received} connections,")
    print(f"{stats.database_connections} database connections, pins: {dict(stats.pins) or 'none'}")
    proxy.close()


if __name__ == "__main__":
    main()
