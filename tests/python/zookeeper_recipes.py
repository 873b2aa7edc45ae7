"""Walks through kazoo's recipes on a ZooKeeper and prints one line for each that holds.

Usage: zookeeper_recipes.py HOST:PORT
"""

import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import BadVersionError, NoNodeError, NotEmptyError
from kazoo.recipe.cache import TreeCache, TreeEvent

HANG_GUARD = 60  # seconds


def connect(hosts, **options):
    client = KazooClient(hosts=hosts, timeout=10.0, **options)
    client.start(timeout=HANG_GUARD)
    return client


def wait_until(condition, what):
    deadline = time.monotonic() + HANG_GUARD
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def basics(one, two):
    one.ensure_path("/kazoo/basics/deep")
    assert one.create("/kazoo/basics/a", b"data") == "/kazoo/basics/a"
    data, stat = two.get("/kazoo/basics/a")
    assert (data, stat.version, stat.dataLength) == (b"data", 0, 4)
    assert two.set("/kazoo/basics/a", b"more", version=0).version == 1
    try:
        two.set("/kazoo/basics/a", b"late", version=0)
        raise AssertionError("an old version was accepted")
    except BadVersionError:
        pass
    try:
        two.delete("/kazoo/basics")
        raise AssertionError("a node with children was deleted")
    except NotEmptyError:
        pass
    transaction = one.transaction()
    transaction.check("/kazoo/basics/a", version=1)
    transaction.create("/kazoo/basics/b", b"")
    transaction.set_data("/kazoo/basics/b", b"in one")
    results = transaction.commit()
    assert results[1] == "/kazoo/basics/b" and results[2].version == 1, results
    transaction = one.transaction()
    transaction.delete("/kazoo/basics/b")
    transaction.check("/kazoo/basics/none", version=1)
    results = transaction.commit()
    assert isinstance(results[1], NoNodeError), results
    assert two.exists("/kazoo/basics/b"), "half of a transaction was done"
    one.delete("/kazoo/basics", recursive=True)
    assert two.exists("/kazoo/basics") is None


def lock(one, two):
    held, order = threading.Event(), []
    first, second = one.Lock("/kazoo/lock", "one"), two.Lock("/kazoo/lock", "two")
    first.acquire(timeout=HANG_GUARD)

    def take():
        held.set()
        with second:
            order.append("two")

    thread = threading.Thread(target=take)
    thread.start()
    held.wait(HANG_GUARD)
    wait_until(lambda: first.contenders() == ["one", "two"], "the other one waits")
    order.append("one")
    first.release()
    thread.join(HANG_GUARD)
    assert order == ["one", "two"], order


def semaphore(one, two):
    first, second = one.Semaphore("/kazoo/semaphore", max_leases=1), two.Semaphore("/kazoo/semaphore", max_leases=1)
    assert first.acquire(timeout=HANG_GUARD)
    assert not second.acquire(blocking=False)
    first.release()
    assert second.acquire(timeout=HANG_GUARD)
    second.release()


def election(one, two):
    led, leave = [], threading.Event()

    def lead(name):
        led.append(name)
        leave.wait(HANG_GUARD)

    threads = [
        threading.Thread(target=client.Election("/kazoo/election", name).run, args=(lead, name))
        for client, name in ((one, "one"), (two, "two"))
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(led) == 1, "one leads")
    assert sorted(one.Election("/kazoo/election").contenders()) == ["one", "two"]
    leave.set()
    for thread in threads:
        thread.join(HANG_GUARD)
    assert sorted(led) == ["one", "two"], led


def barrier(one, two):
    gate = one.Barrier("/kazoo/barrier")
    gate.create()
    passed = []
    thread = threading.Thread(target=lambda: passed.append(two.Barrier("/kazoo/barrier").wait(HANG_GUARD)))
    thread.start()
    gate.remove()
    thread.join(HANG_GUARD)
    assert passed == [True], passed


def double_barrier(one, two):
    inside = []

    def through(client, name):
        gate = client.DoubleBarrier("/kazoo/double", 2, name)
        gate.enter()
        inside.append(name)
        gate.leave()

    threads = [threading.Thread(target=through, args=pair) for pair in ((one, "one"), (two, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_GUARD)
    assert sorted(inside) == ["one", "two"], inside


def queue(one, two):
    items = one.Queue("/kazoo/queue")
    for number in range(20):
        items.put(b"%d" % number)
    assert len(items) == 20
    other = two.Queue("/kazoo/queue")
    assert [other.get() for _ in range(20)] == [b"%d" % number for number in range(20)]
    locking, other = one.LockingQueue("/kazoo/locking"), two.LockingQueue("/kazoo/locking")
    locking.put_all([b"a", b"b"])
    assert locking.get(HANG_GUARD) == b"a"
    assert other.get(HANG_GUARD) == b"b", "what one holds, another does not get"
    assert locking.consume() and other.consume()


def counter(one, two):
    def count(client):
        counter = client.Counter("/kazoo/counter")
        for _ in range(20):
            counter += 1

    threads = [threading.Thread(target=count, args=(client,)) for client in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_GUARD)
    assert one.Counter("/kazoo/counter").value == 40


def watches(one, two):
    seen, children = [], []
    one.ensure_path("/kazoo/watched")
    one.DataWatch("/kazoo/watched/data", lambda data, stat: seen.append(data))
    one.ChildrenWatch("/kazoo/watched", lambda names: children.append(sorted(names)))
    two.create("/kazoo/watched/data", b"1")
    wait_until(lambda: seen == [None, b"1"], "the creation is seen")
    two.set("/kazoo/watched/data", b"2")
    wait_until(lambda: seen[-1] == b"2", "the change is seen")
    wait_until(lambda: children[-1] == ["data"], "the child is seen")
    two.delete("/kazoo/watched/data")
    wait_until(lambda: seen[-1] is None and children[-1] == [], "the deletion is seen")


def cache(one, two):
    events = []
    tree = TreeCache(one, "/kazoo/cached")
    tree.listen(lambda event: events.append(event.event_type))
    tree.start()
    wait_until(lambda: TreeEvent.INITIALIZED in events, "the cache is filled")
    two.create("/kazoo/cached/a/b", b"x", makepath=True)
    wait_until(lambda: tree.get_data("/kazoo/cached/a/b") is not None, "the cache has the new node")
    tree.close()


def lists(hosts, one):
    owner = connect(hosts, auth_data=[("digest", "owner:secret")])
    from kazoo.security import make_digest_acl

    owner.create("/kazoo/private", b"x", acl=[make_digest_acl("owner", "secret", all=True)])
    from kazoo.exceptions import NoAuthError

    try:
        one.get("/kazoo/private")
        raise AssertionError("a stranger reads")
    except NoAuthError:
        pass
    assert owner.get("/kazoo/private")[0] == b"x"
    owner.delete("/kazoo/private")
    owner.stop()


def loss(hosts, one, two):
    """Ends a session from outside: everything of it goes, its owner hears of it, begins another one and goes on."""
    states, seen = [], []
    client = connect(hosts)
    client.add_listener(states.append)
    client.create("/kazoo/mine", b"", ephemeral=True)
    one.ensure_path("/kazoo/followed")
    client.DataWatch("/kazoo/followed", lambda data, stat: seen.append(data))
    session, password = client.client_id

    def steal():
        # The owner may take the session back before it is closed.
        thief = connect(hosts, client_id=(session, password))
        thief.stop()
        thief.close()
        return KazooState.LOST in states

    wait_until(steal, "the loss is noticed")
    wait_until(lambda: states[-1] == KazooState.CONNECTED, "there is another session")
    assert one.exists("/kazoo/mine") is None
    two.set("/kazoo/followed", b"after")
    wait_until(lambda: seen[-1] == b"after", "the watch is there in the new session")
    client.stop()


def main():
    hosts = sys.argv[1]
    one, two = connect(hosts), connect(hosts)
    for part in (basics, lock, semaphore, election, barrier, double_barrier, queue, counter, watches, cache):
        part(one, two)
        print(f"ok {part.__name__}", flush=True)
    lists(hosts, one)
    print("ok lists", flush=True)
    loss(hosts, one, two)
    print("ok loss", flush=True)
    one.delete("/kazoo", recursive=True)
    one.stop()
    two.stop()


main()
