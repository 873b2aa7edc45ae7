#!/bin/sh
# Starts the coordination service alone; with -daemon in the background, its output in $LOG_DIR/zookeeper.out
# (logs/zookeeper.out).
exec "$(dirname -- "$0")/troupe-start.sh" "$0 [-daemon] zookeeper.properties" zookeeper zookeeper.out "$@"
