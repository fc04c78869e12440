import sys; sys.path.insert(0,"/tmp")
def test_m(database):
    src=open("/tmp/m.py").read().split("with closing(SqliteStore")[0]
    ns={}; exec(src,ns)
    from contextlib import closing
    with closing(ns["PostgresStore"](database,migrate=True)) as s:
        ns["fill"](s); ns["measure"](s,"pg cold stats")
        with s.transaction() as tx: tx.execute("ANALYZE saga_workflow"); tx.execute("ANALYZE saga_fence"); tx.execute("ANALYZE saga_inbox")
        ns["measure"](s,"pg")
