#!/bin/sh
# Stops every broker of this machine that the user may stop, in order (SIGTERM, or $SIGNAL).
pids=$(ps axww -o pid=,args= | awk '$2 ~ /(^|\/)troupe$/ && ($3 == "" || $3 == "server" || $3 ~ /^--/) { print $1 }')
if [ -z "$pids" ]; then
  echo "No kafka server to stop"
  exit 1
fi
# Unquoted: there may be several.
kill -s "${SIGNAL:-TERM}" $pids
