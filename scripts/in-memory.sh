#!/usr/bin/env bash
#
# in-memory.sh COMMAND... runs a command with its temporary files in memory,
# where there is room for them, and removes them at its end.
#
# The tests start hundreds of PostgreSQL servers that live for seconds, of a
# thousand files each: on a disk, making and removing those takes up to half of
# the time. Nothing of what is tested depends on where the files are.
set -euo pipefail

readonly NEEDED_KB=$((12 * 1024 * 1024))
readonly MEMORY=/dev/shm

folder=
clean_up() {
  if [[ -n $folder ]]; then rm -rf -- "$folder"; fi
}
trap clean_up EXIT
# Without these, bash does not run the EXIT trap when a signal ends it.
trap 'exit 130' INT
trap 'exit 143' TERM

# has_room is about both the file system's limit, which is small in a container,
# and the machine's memory.
has_room() {
  local free available
  [[ $(stat -f -c %T "$MEMORY" 2>/dev/null) == tmpfs ]] || return 1
  free=$(df -Pk "$MEMORY" | awk 'NR == 2 { print $4 }')
  available=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
  ((free >= NEEDED_KB && available >= NEEDED_KB))
}

# make_folder fails where programs may not be run from memory, as in most
# containers: tests build some.
make_folder() {
  # What a killed run left behind.
  find "$MEMORY" -maxdepth 1 -name 'pgmedic-test-*' -mtime +0 -exec rm -rf -- {} + 2>/dev/null || true
  # A short path, for those of sockets can't be long.
  folder=$(mktemp -d "$MEMORY/pgmedic-test-XXXXXX")
  # Servers run as another user.
  chmod 755 "$folder"
  printf '#!/bin/sh\n' >"$folder/probe"
  chmod +x "$folder/probe"
  "$folder/probe" 2>/dev/null
}

if has_room && make_folder; then
  # What go itself writes may stay where it was.
  export GOTMPDIR=${GOTMPDIR:-${TMPDIR:-/tmp}} TMPDIR=$folder
fi
"$@"
