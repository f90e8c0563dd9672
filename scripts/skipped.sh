#!/usr/bin/env bash
#
# skipped.sh says how many tests were skipped and why, from the file that they wrote it
# into (PGMEDIC_TEST_SKIPS, see internal/testkit):
#
#   scripts/skipped.sh FILE
set -euo pipefail

sort "$1" | cut -f 1 | uniq -c | while read -r count kind; do
  printf '%d skipped: %s\n' "$count" "$kind"
done
# What is left to another run needs no names; the rest does.
sort -u "$1" | awk -F '\t' '$1 != "left to make test-all" { printf "  %s: %s\n", $2, $3 }'
