#!/bin/sh
# Starts a broker; with -daemon in the background, its output in $LOG_DIR/kafkaServer.out (logs/kafkaServer.out).
here=$(dirname -- "$0")
daemon=
if [ "$1" = -daemon ]; then
  daemon=yes
  shift
fi
if [ $# -eq 0 ]; then
  echo "USAGE: $0 [-daemon] server.properties [--override property=value]*" >&2
  exit 1
fi
if [ -z "$daemon" ]; then
  exec "$here/troupe-run.sh" server "$@"
fi
logs=${LOG_DIR:-$here/../logs}
mkdir -p "$logs" || exit 1
nohup "$here/troupe-run.sh" server "$@" > "$logs/kafkaServer.out" 2>&1 < /dev/null &
