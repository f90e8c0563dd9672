#!/usr/bin/env bash
#
# common.sh is sourced by the scripts that set things up: how they speak, how they
# fail, and that they clean up however they end. Whoever sources it defines clean_up.

say() { printf 'setup: %s\n' "$*" >&2; }

# die says what is wrong, with what to do about it in lines of their own, and ends.
die() {
  say "$1"
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

trap clean_up EXIT
# Without these, bash does not run the EXIT trap when a signal ends it.
trap 'exit 130' INT
trap 'exit 143' TERM
