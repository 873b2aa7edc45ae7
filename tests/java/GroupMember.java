import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/**
 * A member of a group that says what it is assigned and what it reads, until its standard input ends; then it leaves.
 *
 * Arguments: a topic, or a regular expression after "~" (which the broker resolves, from Kafka 4.0 on); then key=value
 * of the consumer's configuration.
 */
public class GroupMember {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        properties.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        properties.put("auto.offset.reset", "earliest");
        for (int i = 1; i < arguments.length; i++) {
            String[] setting = arguments[i].split("=", 2);
            properties.put(setting[0], setting[1]);
        }
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            subscribe(consumer, arguments[0]);
            while (System.in.available() == 0) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(50))) {
                    say("read " + record.topic() + "-" + record.partition() + "@" + record.offset());
                }
            }
        }
        say("closed");
    }

    private static void subscribe(KafkaConsumer<String, String> consumer, String topic) throws Exception {
        ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
            private void sayAssigned(Collection<TopicPartition> gone) {
                TreeSet<String> assigned = new TreeSet<>();
                for (TopicPartition partition : consumer.assignment()) {
                    if (!gone.contains(partition)) {
                        assigned.add(partition.toString());
                    }
                }
                say("assigned " + String.join(" ", assigned));
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                sayAssigned(List.of());
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                sayAssigned(partitions);
            }
        };
        if (topic.startsWith("~")) {
            // By name: the class is not there before Kafka 4.0.
            Class<?> pattern = Class.forName("org.apache.kafka.clients.consumer.SubscriptionPattern");
            Object resolved = pattern.getConstructor(String.class).newInstance(topic.substring(1));
            KafkaConsumer.class
                .getMethod("subscribe", pattern, ConsumerRebalanceListener.class)
                .invoke(consumer, resolved, listener);
        } else {
            consumer.subscribe(List.of(topic), listener);
        }
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
