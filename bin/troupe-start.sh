#!/bin/sh
# Starts a server of troupe for the scripts beside this one: troupe-start.sh USAGE COMMAND OUT [-daemon] FILE...
# With -daemon in the background, its output in $LOG_DIR/OUT (logs/OUT).
here=$(dirname -- "$0")
usage=$1 command=$2 out=$3
shift 3
daemon=
if [ "$1" = -daemon ]; then
  daemon=yes
  shift
fi
if [ $# -eq 0 ]; then
  echo "USAGE: $usage" >&2
  exit 1
fi
if [ -z "$daemon" ]; then
  exec "$here/troupe-run.sh" "$command" "$@"
fi
logs=${LOG_DIR:-$here/../logs}
mkdir -p "$logs" || exit 1
nohup "$here/troupe-run.sh" "$command" "$@" > "$logs/$out" 2>&1 < /dev/null &
