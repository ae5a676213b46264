import rdsproxy_lib, pytest
def test_my(mysql_url):
    with rdsproxy_lib.Proxy(mysql_url, keep_diagnostics=True, max_connections=3) as p:
        a=p.connect(autocommit=True); b=p.connect(autocommit=True); ca=a.cursor(); cb=b.cursor()
        ca.execute("create table t(id int auto_increment primary key, x int)")
        ca.execute("insert into t(x) values (1),(2)")
        cb.execute("insert into t(x) values (1),(2),(3)")
        ca.execute("select row_count()"); r=ca.fetchall()
        cb.execute("select last_insert_id()"); q=cb.fetchall()
        print("KD", r, q)
        ca.execute("update t set x=9"); cb.execute("select 1"); ca.execute("select row_count()"); print(ca.fetchall())
        try:
            cb.execute("select row_count()"); print(cb.fetchall())
        except Exception as e: print(repr(e)[:80])
        a.close(); b.close()
    with rdsproxy_lib.Proxy(mysql_url, session_pinning_filters=("EXCLUDE_VARIABLE_SETS",), max_connections=1) as p:
        a=p.connect(autocommit=True); ca=a.cursor()
        ca.execute("set timestamp=5"); print("F", a.rdsproxy.pinned); ca.execute("select @@timestamp"); print(ca.fetchall())
        ca.execute("set @a = 1.5"); print(a.rdsproxy.pinned); ca.execute("select @a"); print(ca.fetchall())
        ca.execute("set @a = 1"); print(a.rdsproxy.pinned); ca.execute("select @a"); print(ca.fetchall())
        a.begin(); ca.execute("set @a=1.5"); ca.execute("select @a"); print(ca.fetchall()); a.commit(); print(p.stats().resets, p.stats().pins)
        a.close()
def test_pg(url):
    with rdsproxy_lib.Proxy(url, keep_diagnostics=True, max_connections=3) as p:
        a=p.connect(autocommit=True); b=p.connect(autocommit=True)
        a.execute("create sequence s"); a.execute("select nextval('s')"); b.execute("select nextval('s')")
        print("PG", a.execute("select lastval()").fetchone(), b.execute("select lastval()").fetchone())
        a.close(); b.close()
