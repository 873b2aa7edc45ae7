#!/bin/sh
exec "$(dirname -- "$0")/troupe-run.sh" leader-election "$@"
