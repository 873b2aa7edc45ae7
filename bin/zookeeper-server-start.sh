#!/bin/sh
# Starts the coordination service alone; with -daemon in the background, its output in $LOG_DIR/zookeeper.out (logs/zookeeper.out).
here=$(dirname -- "$0")
daemon=
if [ "$1" = -daemon ]; then
  daemon=yes
  shift
fi
if [ $# -eq 0 ]; then
  echo "USAGE: $0 [-daemon] zookeeper.properties" >&2
  exit 1
fi
if [ -z "$daemon" ]; then
  exec "$here/troupe-run.sh" zookeeper "$@"
fi
logs=${LOG_DIR:-$here/../logs}
mkdir -p "$logs" || exit 1
nohup "$here/troupe-run.sh" zookeeper "$@" > "$logs/zookeeper.out" 2>&1 < /dev/null &
