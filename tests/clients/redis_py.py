"""Smoke test with redis-py: PORT. RESP3, its default since 8, and RESP2; also asyncio."""
import asyncio
import sys

import redis
import redis.asyncio

PORT = int(sys.argv[1])


def strings(r):
    assert r.ping()
    assert r.set("k", b"\x00\xffv") and r.get("k") == b"\x00\xffv"
    assert r.set("k", "again", nx=True) is None
    assert r.set("k", "new", xx=True, get=True) == b"\x00\xffv"
    assert r.append("k", "er") == 5 and r.strlen("k") == 5
    assert r.getrange("k", 1, 3) == b"ewe" and r.setrange("k", 0, "N") == 5
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "none") == [b"1", b"2", None]
    assert r.msetnx({"a": 3, "c": 3}) is False and r.exists("c") == 0
    assert r.incr("a", 41) == 42 and r.decr("a") == 41
    assert float(r.incrbyfloat("f", "1.5")) == 1.5
    assert r.getdel("b") == b"2" and r.get("b") is None
    assert r.setbit("bits", 7, 1) == 0 and r.getbit("bits", 7) == 1 and r.bitcount("bits") == 1
    assert r.type("a") == b"string"


def expiry(r):
    r.set("e", "1", ex=100)
    assert 0 < r.ttl("e") <= 100 and 0 < r.pttl("e") <= 100_000
    assert r.expire("e", 50, gt=True) == 0 and r.expire("e", 500, gt=True) == 1
    assert r.persist("e") == 1 and r.ttl("e") == -1 and r.ttl("none") == -2
    assert r.getex("e", px=200_000) == b"1" and r.expiretime("e") > 1_600_000_000
    assert r.pexpireat("e", 1) == 1 and r.exists("e") == 0


def keys(r):
    pipeline = r.pipeline(transaction=False)
    for n in range(1000):
        pipeline.set(f"scan:{n}", n)
    assert all(pipeline.execute())
    assert len(set(r.scan_iter(match="scan:*", count=100))) == 1000
    assert r.rename("scan:0", "moved") and r.get("moved") == b"0"
    assert r.copy("moved", "copied") and r.touch("moved", "copied") == 2
    dumped = r.dump("moved")
    assert r.restore("restored", 0, dumped) and r.get("restored") == b"0"
    assert r.unlink("moved", "copied", "restored") == 3
    assert r.randomkey() is not None and r.dbsize() > 1000


def transactions(r):
    with r.pipeline(transaction=True) as p:
        p.watch("w")
        p.multi()
        p.set("w", 1)
        p.incr("w")
        assert p.execute() == [True, 2]
    with r.pipeline(transaction=True) as p:
        p.watch("w")
        r.set("w", "changed")
        p.multi()
        p.set("w", "mine")
        try:
            p.execute()
            raise AssertionError("a watched key changed, and EXEC went through")
        except redis.WatchError:
            pass
    assert r.get("w") == b"changed"


def connection(r):
    assert r.info("server")["redis_version"]
    assert r.client_id() > 0 and r.client_setname("smoke") and r.client_getname() is not None
    assert r.command_count() > 50
    assert isinstance(r.config_get("maxmemory*"), dict)
    try:
        r.execute_command("INCR", "w")
        raise AssertionError("INCR of a word went through")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)


async def asynchronous():
    r = redis.asyncio.Redis(port=PORT)
    await asyncio.gather(*(r.set(f"async:{n}", n) for n in range(50)))
    assert await r.get("async:49") == b"49"
    await r.aclose()


for protocol in (3, 2):
    client = redis.Redis(port=PORT, protocol=protocol)
    client.flushall()
    for test in (strings, expiry, keys, transactions, connection):
        test(client)
    client.close()
default = redis.Redis(port=PORT)
assert default.ping()
asyncio.run(asynchronous())
print("redis-py", redis.__version__)
