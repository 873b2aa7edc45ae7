// A member of a share group, for tests: prints what it is given until its standard input ends.
//
//   java ShareMember.java BOOTSTRAP GROUP TOPIC implicit|explicit [KEY=VALUE...]
//
// Each record is a line "record OFFSET DELIVERY-COUNT VALUE". In mode explicit the value says what becomes of a record:
// it is accepted unless it starts with "release", "reject", or with "hold", upon which the rest is never acknowledged and
// the program waits to be killed. "release-once" is released only when it is delivered for the first time.

import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

public class ShareMember {
    private static volatile boolean ended = false;

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[1]);
        properties.put("share.acknowledgement.mode", args[3]);
        for (int i = 4; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        boolean explicit = args[3].equals("explicit");
        Thread input = new Thread(ShareMember::waitForEndOfInput);
        input.setDaemon(true);
        input.start();
        StringDeserializer text = new StringDeserializer();
        try (KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(properties, text, text)) {
            consumer.setAcknowledgementCommitCallback((offsets, error) -> {
                if (error != null) {
                    System.out.println("failed " + error);
                }
            });
            consumer.subscribe(List.of(args[2]));
            System.out.println("subscribed");
            while (!ended) {
                boolean held = false;
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    int count = record.deliveryCount().orElse((short) -1);
                    System.out.println("record " + record.offset() + " " + count + " " + record.value());
                    if (record.value().startsWith("hold") && explicit) {
                        held = true;
                        break;
                    }
                    if (explicit) {
                        consumer.acknowledge(record, type(record.value(), count));
                    }
                }
                if (held) {
                    print(consumer.commitSync());
                    System.out.println("holding");
                    Thread.sleep(Long.MAX_VALUE);
                }
            }
            print(consumer.commitSync());
        }
        System.out.println("closed");
    }

    private static AcknowledgeType type(String value, int count) {
        if (value.startsWith("reject")) {
            return AcknowledgeType.REJECT;
        }
        boolean release = value.startsWith("release-once") ? count == 1 : value.startsWith("release");
        return release ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
    }

    private static void print(java.util.Map<?, ? extends Optional<? extends Exception>> outcomes) {
        outcomes.forEach((partition, error) -> System.out.println("committed " + error.map(Object::toString).orElse("")));
    }

    private static void waitForEndOfInput() {
        try {
            while (System.in.read() >= 0) {
                continue;
            }
        } catch (java.io.IOException gone) {
            // The end all the same.
        }
        ended = true;
    }
}
