"""Meets the limits of a ZooKeeper and prints one line for each that holds.

Usage: zookeeper_limits.py HOST:PORT, of a service with maxClientCnxns=3, jute.maxbuffer=10000 and sessions of 5 to 15 s
"""

import sys
import threading

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss
from kazoo.handlers.threading import KazooTimeoutError

HANG_GUARD = 60  # seconds


def connect(hosts, **options):
    client = KazooClient(hosts=hosts, **options)
    client.start(timeout=HANG_GUARD)
    return client


def timeouts(hosts):
    for wanted, granted in ((1.0, 5_000), (10.0, 10_000), (600.0, 15_000)):
        client = connect(hosts, timeout=wanted)
        said = client.command(b"cons")
        assert f"to={granted}" in said, (wanted, said)
        client.stop()


def connections(hosts):
    clients = [connect(hosts) for _ in range(3)]
    try:
        KazooClient(hosts=hosts).start(timeout=2)
        raise AssertionError("a fourth connection")
    except KazooTimeoutError:
        pass
    for client in clients:
        assert client.exists("/") is not None
        client.stop()


def sizes(hosts):
    client = connect(hosts)
    client.create("/small", b"x" * 9_000)
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state != KazooState.CONNECTED else None)
    try:
        client.create("/large", b"x" * 10_000)
        raise AssertionError("a request that is too long")
    except ConnectionLoss:
        pass
    assert lost.wait(HANG_GUARD), "its connection ends"
    # Its session does not.
    assert client.retry(client.exists, "/large") is None
    assert client.get("/small")[0] == b"x" * 9_000
    client.stop()


def pipelines(hosts):
    client = connect(hosts)
    results = [client.create_async(f"/pipelined-{number}", b"") for number in range(500)]
    assert [result.get(timeout=HANG_GUARD) for result in results] == [f"/pipelined-{number}" for number in range(500)]
    client.stop()


for part in (timeouts, connections, sizes, pipelines):
    part(sys.argv[1])
    print(f"ok {part.__name__}", flush=True)
