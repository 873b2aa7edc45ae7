#!/bin/sh
# Runs the tool of troupe that does what a class of Kafka's does: kafka-run-class.sh kafka.tools.GetOffsetShell ...
if [ $# -eq 0 ]; then
  echo "USAGE: $0 classname [opts]" >&2
  exit 1
fi
class=$1
shift
case ${class##*.} in
  BrokerApiVersionsCommand) tool=broker-api-versions ;;
  ClusterTool) tool=cluster ;;
  ConfigCommand) tool=configs ;;
  ConsoleConsumer) tool=console-consumer ;;
  ConsoleProducer) tool=console-producer ;;
  ConsumerGroupCommand) tool=consumer-groups ;;
  DeleteRecordsCommand) tool=delete-records ;;
  GetOffsetShell) tool=get-offsets ;;
  Kafka) tool=server ;;
  LeaderElectionCommand) tool=leader-election ;;
  LogDirsCommand) tool=log-dirs ;;
  QuorumPeerMain | ZooKeeperServerMain) tool=zookeeper ;;
  ReassignPartitionsCommand) tool=reassign-partitions ;;
  TopicCommand) tool=topics ;;
  TransactionsCommand) tool=transactions ;;
  *)
    echo "troupe has no tool for the class $class; 'troupe --help' lists those that there are" >&2
    exit 1
    ;;
esac
exec "$(dirname -- "$0")/troupe-run.sh" "$tool" "$@"
