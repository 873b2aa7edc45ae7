"""A member of a consumer group with kafka-python, which shares no code with Kafka's own clients or librdkafka.

    member.py BOOTSTRAP TOPIC GROUP

Prints each record as `partition offset value`, until it is killed.
"""

import sys

from kafka import KafkaConsumer

bootstrap, topic, group = sys.argv[1:]
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    group_id=group,
    client_id="python",
    auto_offset_reset="earliest",
    auto_commit_interval_ms=100,
    session_timeout_ms=6000,
    heartbeat_interval_ms=500,
)
for record in consumer:
    print(record.partition, record.offset, record.value.decode(), flush=True)
