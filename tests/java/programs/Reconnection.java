import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;

/**
 * Watches nodes and waits for their events while the service goes away and comes back: Reconnection HOST:PORT.
 * Says what it is told of, in the order of the alphabet as long as that order is not promised.
 */
public class Reconnection {
    static final long HANG_GUARD = 60;

    public static void main(String[] args) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        // It would take a server that only reads; one that writes must not be taken for such a one.
        ZooKeeper client = new ZooKeeper(args[0], 30_000, event -> connected.countDown(), true);
        check(connected.await(HANG_GUARD, TimeUnit.SECONDS), "connected");
        check(client.getState() == ZooKeeper.States.CONNECTED, client.getState().toString());
        long session = client.getSessionId();
        for (String path : List.of("/again", "/again/doomed")) {
            client.create(path, "old".getBytes(), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        client.create("/mine", new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);

        BlockingQueue<String> events = new LinkedBlockingQueue<>(), recursive = new LinkedBlockingQueue<>();
        Watcher once = event -> tell(events, event);
        client.getData("/again", once, null);
        client.getChildren("/again", once);
        client.exists("/again/later", once);
        client.exists("/again/doomed", once);
        client.addWatch("/again", event -> tell(recursive, event), AddWatchMode.PERSISTENT_RECURSIVE);
        System.out.println("ready");

        TreeSet<String> told = new TreeSet<>();
        for (int i = 0; i < 4; i++) {
            told.add(next(events));
        }
        told.forEach(System.out::println);
        System.out.println("caught up");
        // The client shows it what the others were told as well.
        for (String event = next(recursive); ; event = next(recursive)) {
            if (event.endsWith(" /again/later") && !event.startsWith("NodeCreated")) {
                System.out.println("recursive " + event);
                break;
            }
        }
        check(events.isEmpty(), "one-shot watches fire once: " + events);
        check(client.getSessionId() == session, "the session");
        check(client.exists("/mine", false).getEphemeralOwner() == session, "its node");
        check(new String(client.getData("/again", false, null)).equals("new"), "the data");
        System.out.println("the same session, of new data");
        rareOperations(args[0], client);
        client.close();
        System.exit(0);
    }

    /** What shells and recipes do not use. */
    static void rareOperations(String server, ZooKeeper client) throws Exception {
        List<OpResult> read = client.multi(List.of(Op.getData("/again"), Op.getChildren("/again"), Op.getData("/none")));
        check(new String(((OpResult.GetDataResult) read.get(0)).getData()).equals("new"), "the data of a multi");
        check(((OpResult.GetChildrenResult) read.get(1)).getChildren().equals(List.of("later")), "the children of a multi");
        check(((OpResult.ErrorResult) read.get(2)).getErr() == KeeperException.Code.NONODE.intValue(), "the error of a multi");
        check(client.whoAmI().stream().anyMatch(id -> id.getAuthScheme().equals("ip")), "who it is");
        check(client.getAllChildrenNumber("/again") == 1 && client.getEphemerals("/m").equals(List.of("/mine")), "counts");
        try (ZooKeeperAdmin admin = new ZooKeeperAdmin(server, 30_000, event -> {})) {
            admin.reconfigure(null, "1", null, -1, null);
            throw new AssertionError("there is an ensemble");
        } catch (KeeperException.ReconfigDisabledException expected) {
            System.out.println("rare operations");
        }
    }

    static void tell(BlockingQueue<String> events, WatchedEvent event) {
        if (event.getType() != Watcher.Event.EventType.None) {
            events.add(event.getType() + " " + event.getPath());
        }
    }

    static String next(BlockingQueue<String> events) throws Exception {
        String event = events.poll(HANG_GUARD, TimeUnit.SECONDS);
        check(event != null, "an event");
        return event;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
