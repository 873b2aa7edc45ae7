#!/bin/sh
# Runs troupe for the scripts beside this one: $TROUPE, or the one that was built here, or the one in the PATH.
home=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
for program in "$TROUPE" "$home/target/release/troupe" "$(command -v troupe)"; do
  if [ -n "$program" ] && [ -x "$program" ]; then
    exec "$program" "$@"
  fi
done
echo "troupe is not built yet: run 'cargo build --release' in $home, or name the program in the variable TROUPE" >&2
exit 1
