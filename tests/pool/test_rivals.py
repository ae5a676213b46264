"""Sessions under a pool that puts every backend they give back to other use."""

from __future__ import annotations

import rdsproxy_lib
from tests.rival import RivalPool, rivals


def test_sessions_do_not_notice_rivals(url):
    """A session goes on with another backend, on which a rival had a transaction open, and is right."""
    with rivals(), rdsproxy_lib.Proxy(url, max_connections=3) as proxy:
        assert isinstance(proxy.pool, RivalPool)
        conns = [proxy.connect(autocommit=number % 2 == 0) for number in range(4)]
        zone = conns[0].execute("show timezone").fetchone()
        for conn in conns:
            seen = []
            for turn in range(6):
                assert conn.execute("select %s::int, 'mine'", [turn], prepare=True).fetchone() == (turn, "mine")
                seen.append(conn.rdsproxy.backend_id)
                assert conn.execute("show timezone").fetchone() == zone
                conn.commit()
                seen.append(conn.rdsproxy.backend_id)
            assert len(set(seen)) >= 2
        assert not any(conn.rdsproxy.pinned for conn in conns)
        for conn in conns:
            conn.close()
