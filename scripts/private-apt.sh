#!/usr/bin/env bash
#
# private-apt.sh has functions for scripts that take packages from a release of
# Debian that this machine may not run, from the mirror that its apt uses. It is
# sourced. Nothing is installed and the machine's own lists are not touched.

# The versions of PostgreSQL that are newer than Debian 12's. Each line: the major
# version, and the release of Debian that has it.
# shellcheck disable=SC2034 # who sources this uses it
readonly RELEASES='17 trixie
18 sid'

# mirror prints the address from which apt gets Debian here, if it does.
mirror() {
  local answer
  # shellcheck disable=SC2016 # apt knows what it is
  answer=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null) || return 0
  printf '%s' "${answer%%$'\n'*}"
}

# signed_by prints the option of a line of sources.list that names Debian's keys,
# which not every machine trusts for all that apt gets.
signed_by() {
  local keyring options=
  for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [[ -r $keyring ]]; then options="[signed-by=$keyring] "; fi
  done
  printf '%s' "$options"
}

# new_private_apt makes the folders of an apt with lists and a package database of
# its own. It reads FOLDER/sources.list.
new_private_apt() {
  mkdir -p -- "$1"/{state/lists/partial,cache,archives/partial,log}
  : >"$1/state/status"
}

# private_apt FOLDER PROGRAM ARGUMENTS... runs apt-get or apt-cache of such an apt.
private_apt() {
  local folder=$1 program=$2
  shift 2
  "$program" -q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State="$folder/state" -o Dir::State::Status="$folder/state/status" \
    -o Dir::Cache="$folder/cache" -o Dir::Cache::Archives="$folder/archives" -o Dir::Log="$folder/log" \
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o APT::Install-Suggests=false \
    -o Acquire::Languages=none -o Acquire::Retries=3 "$@" </dev/null
}
