#!/bin/sh
# Starts a broker; with -daemon in the background, its output in $LOG_DIR/kafkaServer.out (logs/kafkaServer.out).
exec "$(dirname -- "$0")/troupe-start.sh" "$0 [-daemon] server.properties [--override property=value]*" \
  server kafkaServer.out "$@"
