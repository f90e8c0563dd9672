#!/usr/bin/env bash
#
# client-programs.sh puts PostgreSQL 17 and 18 with their own client programs into
# a cache, with the age, zstd, openssl and pgbouncer of the same Debian release:
#
#   scripts/client-programs.sh CACHE             what is missing; says nothing if nothing is
#   scripts/client-programs.sh --versions CACHE  prints the versions that are there
#
# The packages come from the mirror that this machine's apt uses. They are unpacked
# and not installed, so it needs no root and starts nothing. The programs run with
# the C library of their own release, which is beside them: a program names its
# loader by an absolute path, so a cache that was moved is filled again.
#
# The releases are not finished, so the versions move: remove CACHE/debian to get
# newer ones.
set -euo pipefail

# What is taken from each besides PostgreSQL; patchelf writes where the loader is.
readonly COMPANIONS=(age zstd openssl pgbouncer)
# A change of this has what is there made again.
readonly FORM=1

# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/private-apt.sh"

work=           # a folder for half-done work, removed at exit

clean_up() {
  if [[ -n $work ]]; then rm -rf -- "$work"; fi
}
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# folder prints where a major version is. PostgreSQL finds its other files from
# where its programs are, which must end as it does in the package.
folder() { printf '%s/debian/%s/lib/postgresql/%s' "$cache" "$1" "$1"; }

# note is what is written beside a finished version.
note() { printf 'form %s in %s' "$FORM" "$(folder "$1")"; }

installed() {
  local got
  { read -r got <"$(folder "$1")/PACKAGE"; } 2>/dev/null && [[ $got == "$(note "$1")" ]]
}

# apt_get asks apt about a release that this machine does not run. What apt printed
# is shown if it failed.
apt_get() {
  local log=$work/apt.log
  if ! private_apt "$work" apt-get "$@" >"$log" 2>&1; then
    tail -n 20 -- "$log" >&2
    die "getting PostgreSQL $major of Debian $release failed" \
      "if $release has it no more, change RELEASES in scripts/private-apt.sh"
  fi
}

# download fetches a version's packages and all that they need, and unpacks them.
download() {
  local package
  new_private_apt "$work"
  mkdir -- "$work/root"
  printf 'deb %s%s %s main\n' "$(signed_by)" "$from" "$release" >"$work/sources.list"
  apt_get update
  apt_get --yes --download-only install "postgresql-$major" patchelf "${COMPANIONS[@]}"
  for package in "$work"/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
  done
}

# run_unpacked runs an unpacked program with the C library that was unpacked.
run_unpacked() { "$loader" --library-path "$(dirname -- "$loader")" "$@"; }

# libraries prints those that the given programs and libraries need.
libraries() {
  local file
  for file in "$@"; do
    # A script, or a program without libraries, is refused.
    run_unpacked --list "$file" 2>/dev/null || true
  done | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u
}

# assemble puts what tests need in one folder, as a package of PostgreSQL's makers
# has it: programs, libraries and shared files, and nothing outside of it. A drill's
# server may read no more than these.
assemble() {
  local tree=$1 target=$2 new program library libraries
  new=$tree/lib/postgresql/$major
  mkdir -p -- "$tree/lib/postgresql" "$tree/share/postgresql"
  cp -R -- "$work/root/usr/lib/postgresql/$major" "$new"
  cp -R -- "$work/root/usr/share/postgresql/$major" "$new/share"
  ln -s -- "../../lib/postgresql/$major/share" "$tree/share/postgresql/$major"
  # Compiling queries needs a library of 130 MB.
  rm -rf -- "$new"/lib/{bitcode,llvmjit*}
  for program in "${COMPANIONS[@]}" age-keygen; do
    cp -- "$work"/root/usr/*bin/"$program" "$new/bin/"
  done
  libraries=$(libraries "$new"/bin/* "$new"/lib/*.so)
  while read -r library; do
    [[ $library == "$work"/* ]] || die "PostgreSQL $major needs $library, which is not in its packages"
    cp -L -- "$library" "$new/lib/"
  done <<<"$libraries"
  cp -L -- "$loader" "$new/lib/loader.so"
  for program in "$new"/bin/*; do
    # It refuses a script.
    run_unpacked "$work/root/usr/bin/patchelf" --print-interpreter "$program" >/dev/null 2>&1 || continue
    # shellcheck disable=SC2016 # the loader knows what $ORIGIN is
    run_unpacked "$work/root/usr/bin/patchelf" --set-interpreter "$target/lib/loader.so" \
      --force-rpath --set-rpath '$ORIGIN/../lib' "$program"
  done
  chmod -R u=rwX,go=rX "$new"
}

# install_version makes one version in the cache. It is renamed into its place when
# it is finished, so that an interrupted run leaves no half of anything.
install_version() {
  local major=$1 release=$2 loader target program
  target=$(folder "$major")
  say "fetching PostgreSQL $major with its client programs from Debian $release"
  # What a killed run left behind.
  find "$cache" -maxdepth 1 -name '.new-*' -mtime +0 -exec rm -rf -- {} +
  work=$(mktemp -d -- "$cache/.new-XXXXXX")
  chmod 755 "$work"
  download
  loader=$(find "$work/root" -name 'ld-linux*.so.*' -type f)
  assemble "$work/$major" "$target"
  printf '%s\n' "$(note "$major")" >"$work/$major/lib/postgresql/$major/PACKAGE"
  mkdir -p -- "$cache/debian"
  rm -rf -- "$cache/debian/$major"
  mv -- "$work/$major" "$cache/debian/$major"
  for program in postgres initdb pg_dump pg_dumpall pg_restore psql "${COMPANIONS[@]}"; do
    if ! "$target/bin/$program" --version >/dev/null; then
      rm -f -- "$target/PACKAGE"
      die "the $program of Debian $release does not run here"
    fi
  done
  rm -rf -- "$work"
  work=
}

all_installed() {
  local major release
  while read -r major release; do
    installed "$major" || return 1
  done <<<"$RELEASES"
}

install_versions() {
  local major release from
  if all_installed; then return; fi
  if ! have apt-get || ! have dpkg-deb; then
    say "no apt here, and so no PostgreSQL 17 and 18 with their own client programs: tests on them will be skipped"
    return
  fi
  from=$(mirror)
  if [[ -z $from && $EUID -eq 0 ]]; then
    # It knows what a mirror has only once it has its lists.
    say "fetching apt's package lists"
    apt-get -qq update >/dev/null || die "apt-get update failed"
    from=$(mirror)
  fi
  if [[ -z $from ]]; then
    say "this machine's apt does not get Debian, and so no PostgreSQL 17 and 18 with their own client programs: tests on them will be skipped" \
      "(on Debian: sudo apt-get update)"
    return
  fi
  # Servers run as another user, who must be able to read it.
  umask 022
  mkdir -p -- "$cache"
  exec 9>"$cache/.debian-lock"
  flock 9
  while read -r major release; do
    if ! installed "$major"; then install_version "$major" "$release"; fi
  done <<<"$RELEASES"
}

# print_versions says what tests will run, since that moves.
print_versions() {
  local major release bin
  while read -r major release; do
    if ! installed "$major"; then continue; fi
    bin=$(folder "$major")/bin
    printf 'PostgreSQL with its own client programs: %s of %s, age %s, %s, %s, pgbouncer %s\n' \
      "$("$bin/pg_dump" --version | sed 's/.*PostgreSQL) \([^ ]*\).*/\1/')" "$release" "$("$bin/age" --version)" \
      "$("$bin/zstd" --version | sed 's/.*\(v[0-9.]*\).*/zstd \1/')" "$("$bin/openssl" version | cut -d' ' -f1,2)" \
      "$("$bin/pgbouncer" --version | sed -n '1s/.* //p')"
  done <<<"$RELEASES"
}

case ${1:-} in
  --versions) cache=${2:?the cache} && print_versions ;;
  -* | '') sed -n '3,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  *) cache=$1 && install_versions ;;
esac
