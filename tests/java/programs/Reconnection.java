import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

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
        client.close();
        System.exit(0);
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
