#!/usr/bin/env bash
#
# release-check.sh tries a release as its users will:
#
#   scripts/release-check.sh
#
# It builds one twice, the second time from a clone in another folder, with another time
# zone, umask and cache of builds, and compares all bytes. Then it makes a clean Debian of
# the release that this machine runs, installs the .deb with apt, runs the demo as an
# ordinary user, looks at the manual pages and the completion, and removes the package.
# It takes root, debootstrap and Debian's mirror, 500 MB, and some minutes.
set -euo pipefail

readonly RELEASE=0.0.0~check

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repository
work=           # a folder for half-done work, removed at exit

clean_up() {
  if [[ -n $work ]]; then
    if mountpoint -q "$work/debian/proc" 2>/dev/null; then umount -- "$work/debian/proc"; fi
    rm -rf -- "$work"
  fi
}
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/private-apt.sh"

# compare builds a release twice.
compare() {
  local platform
  platform=linux/$(go env GOHOSTARCH)
  "$repository/scripts/release.sh" "$RELEASE" "$work/first" "$platform"
  git clone --quiet "$repository" "$work/elsewhere with a space"
  (
    cd "$work/elsewhere with a space"
    umask 077
    TZ=Pacific/Auckland GOCACHE=$work/builds scripts/release.sh "$RELEASE" "$work/second" "$platform"
  )
  diff --recursive -- "$work/first" "$work/second" ||
    die "two builds of one commit differ" "commit what you have changed: the second is of what is committed"
  say "two builds are the same, byte by byte"
}

# inside runs a command in the clean Debian.
inside() {
  chroot "$work/debian" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# must runs a command in the clean Debian, and shows what it printed if it failed.
must() {
  inside "$@" >"$work/log" 2>&1 </dev/null || { tail -n 30 -- "$work/log" >&2; die "failed in a clean Debian: $*"; }
}

install_clean() {
  local release from left
  # shellcheck source=/dev/null
  release=$(source /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  from=$(mirror)
  [[ -n $from ]] || die "apt gets no Debian here" "run it on Debian"
  say "making a clean Debian ($release)"
  debootstrap --variant=minbase "$release" "$work/debian" "$from" >"$work/log" 2>&1 || { tail -n 30 -- "$work/log" >&2; die "debootstrap failed"; }
  mount -t proc proc "$work/debian/proc"
  # Nothing starts, and no cluster is made.
  printf '#!/bin/sh\nexit 101\n' >"$work/debian/usr/sbin/policy-rc.d"
  chmod 755 "$work/debian/usr/sbin/policy-rc.d"
  mkdir -p "$work/debian/etc/postgresql-common/createcluster.d"
  printf 'create_main_cluster = false\n' >"$work/debian/etc/postgresql-common/createcluster.d/none.conf"
  cp -- "$work"/first/*.deb "$work/debian/root/pgmedic.deb"
  must apt-get update
  # The server beside it, as docs/install.md says, for the demo and for drills.
  must apt-get install --yes --no-install-recommends /root/pgmedic.deb postgresql man-db
  must useradd --create-home ana
  must su ana -c 'cd && pgmedic --version && pgmedic demo'
  must test -s /usr/share/man/man1/pgmedic-restore.1.gz
  must su ana -c 'cd && pgmedic man --output pages && man --local-file --warnings pages/pgmedic-restore.1'
  # shellcheck disable=SC2016 # the shell in there expands it
  must bash -c 'source /usr/share/bash-completion/completions/pgmedic && complete -p pgmedic'
  must apt-get purge --yes pgmedic
  left=$(inside find / -xdev -name '*pgmedic*' -not -path '/proc/*' -not -path '/home/*' -not -path /root/pgmedic.deb -not -path '/var/lib/apt/*' -not -path '/var/cache/*')
  [[ -z $left ]] || die "removing the package left" "$left"
  say "installed by apt in a clean Debian, the demo ran, and removing it left nothing"
}

main() {
  [[ $# -eq 0 ]] || { sed -n '3,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
  [[ $EUID -eq 0 ]] || die "a clean Debian takes root"
  have debootstrap || die "debootstrap is missing" "apt-get install debootstrap"
  work=$(mktemp -d)
  compare
  install_clean
}

main "$@"
