import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/** Walks through Curator's recipes on a ZooKeeper and prints one line for each that holds: CuratorRecipes HOST:PORT. */
public class CuratorRecipes {
    static final long HANG_GUARD = 60;
    static final ExecutorService threads = Executors.newCachedThreadPool();

    public static void main(String[] args) throws Exception {
        try (CuratorFramework one = connect(args[0]); CuratorFramework two = connect(args[0])) {
            run("nodes", () -> nodes(one, two));
            run("mutex", () -> mutex(one, two));
            run("read-write", () -> readWrite(one, two));
            run("semaphore", () -> semaphore(one, two));
            run("leader", () -> leader(one, two));
            run("barrier", () -> barrier(one, two));
            run("double-barrier", () -> doubleBarrier(one, two));
            run("queue", () -> queue(one, two));
            run("counters", () -> counters(one, two));
            run("cache", () -> cache(one, two));
            run("members", () -> members(one, two));
            run("loss", () -> loss(args[0], one, two));
            one.delete().deletingChildrenIfNeeded().forPath("/curator");
        }
        threads.shutdownNow();
        System.exit(0);
    }

    static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, 10_000, 30_000, new ExponentialBackoffRetry(50, 5));
        client.start();
        check(client.blockUntilConnected((int) HANG_GUARD, TimeUnit.SECONDS), "connected");
        return client;
    }

    interface Part {
        void run() throws Exception;
    }

    static void run(String name, Part part) throws Exception {
        part.run();
        System.out.println("ok " + name);
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void waitUntil(Callable<Boolean> condition, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(HANG_GUARD);
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "waited in vain until " + what);
            Thread.sleep(10);
        }
    }

    static void nodes(CuratorFramework one, CuratorFramework two) throws Exception {
        one.create().creatingParentContainersIfNeeded().forPath("/curator/nodes/a", "x".getBytes());
        String sequential = one.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/curator/nodes/s-");
        check(two.checkExists().forPath(sequential).getEphemeralOwner() == one.getZookeeperClient().getZooKeeper().getSessionId(), "owner");
        one.create().withTtl(9_000_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/curator/nodes/ttl");
        List<CuratorTransactionResult> results = two.transaction().forOperations(
                two.transactionOp().check().withVersion(0).forPath("/curator/nodes/a"),
                two.transactionOp().create().forPath("/curator/nodes/b"),
                two.transactionOp().setData().forPath("/curator/nodes/a", "y".getBytes()),
                two.transactionOp().delete().forPath("/curator/nodes/b"));
        check(results.get(2).getResultStat().getVersion() == 1, "the version of a transaction");
        check(new String(one.getData().forPath("/curator/nodes/a")).equals("y"), "the data of a transaction");
        check(one.checkExists().forPath("/curator/nodes/b") == null, "created and deleted");
    }

    static void mutex(CuratorFramework one, CuratorFramework two) throws Exception {
        int[] inside = {0};
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            workers.add(threads.submit(() -> {
                InterProcessMutex mutex = new InterProcessMutex(client, "/curator/mutex");
                for (int i = 0; i < 20; i++) {
                    check(mutex.acquire(HANG_GUARD, TimeUnit.SECONDS), "locked");
                    int before = inside[0];
                    Thread.yield();
                    inside[0] = before + 1;
                    mutex.release();
                }
                return null;
            }));
        }
        for (Future<?> worker : workers) {
            worker.get(HANG_GUARD, TimeUnit.SECONDS);
        }
        check(inside[0] == 40, "nobody was inside together: " + inside[0]);
    }

    static void readWrite(CuratorFramework one, CuratorFramework two) throws Exception {
        InterProcessReadWriteLock first = new InterProcessReadWriteLock(one, "/curator/read-write");
        InterProcessReadWriteLock second = new InterProcessReadWriteLock(two, "/curator/read-write");
        first.readLock().acquire();
        check(second.readLock().acquire(HANG_GUARD, TimeUnit.SECONDS), "two readers");
        second.readLock().release();
        check(!second.writeLock().acquire(100, TimeUnit.MILLISECONDS), "no writer beside a reader");
        first.readLock().release();
        check(second.writeLock().acquire(HANG_GUARD, TimeUnit.SECONDS), "a writer");
        second.writeLock().release();
    }

    static void semaphore(CuratorFramework one, CuratorFramework two) throws Exception {
        Lease lease = new InterProcessSemaphoreV2(one, "/curator/semaphore", 1).acquire();
        InterProcessSemaphoreV2 other = new InterProcessSemaphoreV2(two, "/curator/semaphore", 1);
        check(other.acquire(100, TimeUnit.MILLISECONDS) == null, "one lease");
        lease.close();
        other.acquire(HANG_GUARD, TimeUnit.SECONDS).close();
    }

    static void leader(CuratorFramework one, CuratorFramework two) throws Exception {
        LeaderLatch first = new LeaderLatch(one, "/curator/leader", "one");
        LeaderLatch second = new LeaderLatch(two, "/curator/leader", "two");
        first.start();
        check(first.await(HANG_GUARD, TimeUnit.SECONDS), "the first leads");
        second.start();
        waitUntil(() -> second.getParticipants().size() == 2, "both take part");
        check(!second.hasLeadership() && second.getLeader().getId().equals("one"), "one leader");
        first.close();
        check(second.await(HANG_GUARD, TimeUnit.SECONDS), "the second leads");
        second.close();
    }

    static void barrier(CuratorFramework one, CuratorFramework two) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(one, "/curator/barrier");
        barrier.setBarrier();
        Future<Boolean> passed = threads.submit(() -> new DistributedBarrier(two, "/curator/barrier").waitOnBarrier(HANG_GUARD, TimeUnit.SECONDS));
        barrier.removeBarrier();
        check(passed.get(HANG_GUARD, TimeUnit.SECONDS), "through");
    }

    static void doubleBarrier(CuratorFramework one, CuratorFramework two) throws Exception {
        List<Future<Boolean>> members = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            members.add(threads.submit(() -> {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/curator/double", 2);
                return barrier.enter(HANG_GUARD, TimeUnit.SECONDS) && barrier.leave(HANG_GUARD, TimeUnit.SECONDS);
            }));
        }
        for (Future<Boolean> member : members) {
            check(member.get(HANG_GUARD, TimeUnit.SECONDS), "in and out together");
        }
    }

    static void queue(CuratorFramework one, CuratorFramework two) throws Exception {
        SimpleDistributedQueue in = new SimpleDistributedQueue(one, "/curator/queue");
        SimpleDistributedQueue out = new SimpleDistributedQueue(two, "/curator/queue");
        for (int i = 0; i < 10; i++) {
            in.offer(Integer.toString(i).getBytes());
        }
        for (int i = 0; i < 10; i++) {
            byte[] item = out.poll(HANG_GUARD, TimeUnit.SECONDS);
            check(new String(item).equals(Integer.toString(i)), "in order");
        }
    }

    static void counters(CuratorFramework one, CuratorFramework two) throws Exception {
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            workers.add(threads.submit(() -> {
                DistributedAtomicLong counter = new DistributedAtomicLong(client, "/curator/atomic", new ExponentialBackoffRetry(1, 20));
                for (int i = 0; i < 10; ) {
                    i += counter.increment().succeeded() ? 1 : 0;
                }
                return null;
            }));
        }
        for (Future<?> worker : workers) {
            worker.get(HANG_GUARD, TimeUnit.SECONDS);
        }
        long sum = new DistributedAtomicLong(one, "/curator/atomic", new ExponentialBackoffRetry(1, 20)).get().postValue();
        check(sum == 20, "nothing lost: " + sum);
        try (SharedCount shared = new SharedCount(one, "/curator/count", 0); SharedCount other = new SharedCount(two, "/curator/count", 0)) {
            shared.start();
            other.start();
            shared.setCount(7);
            waitUntil(() -> other.getCount() == 7, "the other one sees it");
        }
    }

    static void cache(CuratorFramework one, CuratorFramework two) throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        one.create().creatingParentsIfNeeded().forPath("/curator/cached");
        try (CuratorCache cache = CuratorCache.build(one, "/curator/cached")) {
            CountDownLatch filled = new CountDownLatch(1);
            cache.listenable().addListener(CuratorCacheListener.builder()
                    .forInitialized(filled::countDown)
                    .forCreates(node -> events.add("created " + node.getPath()))
                    .forChanges((before, node) -> events.add("changed " + node.getPath()))
                    .forDeletes(node -> events.add("deleted " + node.getPath()))
                    .build());
            cache.start();
            check(filled.await(HANG_GUARD, TimeUnit.SECONDS), "filled");
            check(events.poll(HANG_GUARD, TimeUnit.SECONDS).equals("created /curator/cached"), "the root of the cache");
            two.create().creatingParentsIfNeeded().forPath("/curator/cached/a/b", "x".getBytes());
            List<String> created = new ArrayList<>(List.of(events.poll(HANG_GUARD, TimeUnit.SECONDS), events.poll(HANG_GUARD, TimeUnit.SECONDS)));
            Collections.sort(created);
            check(created.equals(List.of("created /curator/cached/a", "created /curator/cached/a/b")), created.toString());
            two.setData().forPath("/curator/cached/a/b", "y".getBytes());
            check(events.poll(HANG_GUARD, TimeUnit.SECONDS).equals("changed /curator/cached/a/b"), "a change");
            two.delete().forPath("/curator/cached/a/b");
            check(events.poll(HANG_GUARD, TimeUnit.SECONDS).equals("deleted /curator/cached/a/b"), "a deletion");
        }
    }

    static void members(CuratorFramework one, CuratorFramework two) throws Exception {
        try (GroupMember first = new GroupMember(one, "/curator/members", "one")) {
            first.start();
            try (GroupMember second = new GroupMember(two, "/curator/members", "two")) {
                second.start();
                waitUntil(() -> first.getCurrentMembers().size() == 2, "both are members");
            }
            waitUntil(() -> first.getCurrentMembers().size() == 1, "one has left");
        }
    }

    /** Ends a session from outside: its ephemeral node goes, and comes again with the next session. */
    static void loss(String servers, CuratorFramework one, CuratorFramework two) throws Exception {
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/curator/persistent", "x".getBytes())) {
            node.start();
            check(node.waitForInitialCreate(HANG_GUARD, TimeUnit.SECONDS), "created");
            ZooKeeper mine = one.getZookeeperClient().getZooKeeper();
            long session = mine.getSessionId();
            CountDownLatch connected = new CountDownLatch(1);
            ZooKeeper thief = new ZooKeeper(servers, 10_000, event -> {
                if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                    connected.countDown();
                }
            }, session, mine.getSessionPasswd());
            check(connected.await(HANG_GUARD, TimeUnit.SECONDS), "the session moves with its password");
            thief.close();
            waitUntil(() -> {
                var stat = two.checkExists().forPath("/curator/persistent");
                return stat != null && stat.getEphemeralOwner() != session;
            }, "the node is there again, of another session");
        }
    }
}
