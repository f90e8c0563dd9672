#!/usr/bin/env bash
#
# regression-tests.sh puts PostgreSQL's own regression tests into a cache, and the
# library that they load beside the server's own:
#
#   scripts/regression-tests.sh CACHE             what is missing; says nothing if nothing is
#   scripts/regression-tests.sh --versions CACHE  prints the version that is there
#
# They come with Debian's source of PostgreSQL, from the mirror that this machine's
# apt uses. The versions that client-programs.sh has unpacked are tried, the newest
# first, and then the one that is installed: a mirror need not have the source of
# all that it has programs of.
#
# Remove CACHE/regression to get newer ones.
set -euo pipefail

# A change of this has what is there made again.
readonly FORM=1

# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/private-apt.sh"

work=           # a folder for half-done work, removed at exit
failures=()     # why a source could not be had

clean_up() {
  if [[ -n $work ]]; then rm -rf -- "$work"; fi
}
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# note is what is written beside finished tests; the version of the source follows.
note() { printf 'form %s in %s of' "$FORM" "$cache/regression/$1"; }

# installed reports whether a major version has its tests, and its server the library.
# A server that was fetched again does not have it any more.
installed() {
  local got
  { read -r got <"$cache/regression/$1/PACKAGE"; } 2>/dev/null &&
    [[ $got == "$(note "$1") "* && -e $cache/regression/$1/postgresql/lib/regress.so ]]
}

# found prints the major version that has its tests.
found() {
  local major
  for major in $(majors); do
    if installed "$major"; then
      printf '%s' "$major"
      return
    fi
  done
}

# majors prints the versions that can be had, the one that is to be tried first first.
majors() {
  sort -rn <<<"$RELEASES" | cut -d' ' -f1
  own_major
}

# own_major prints the newest version that is installed with its client programs.
own_major() {
  local folder
  for folder in /usr/lib/postgresql/*/bin; do
    if [[ -x $folder/initdb && -x $folder/pg_dump ]]; then basename -- "$(dirname -- "$folder")"; fi
  done | sort -rn | head -n 1
}

# sources prints the lines of a sources.list for a release, or for those that this
# machine's apt has.
sources() {
  local release=$1 line
  if [[ $release == here ]]; then
    # shellcheck disable=SC2016 # apt knows what they are
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u
  else
    printf '%s %s main\n' "$from" "$release"
  fi | while read -r line; do
    printf 'deb %s%s\ndeb-src %s%s\n' "$(signed_by)" "$line" "$(signed_by)" "$line"
  done
}

# download fetches the source of a major version, and the headers of its server, into
# the working folder. It fails where the mirror does not have them.
download() {
  local major=$1 release=$2 version
  new_private_apt "$work"
  sources "$release" >"$work/sources.list"
  private_apt "$work" apt-get update >"$work/apt.log" 2>&1 || return 1
  # A mirror may list a version that it does not have.
  for version in $(private_apt "$work" apt-cache showsrc "postgresql-$major" 2>/dev/null | sed -n 's/^Version: //p' | sort -ruV); do
    rm -f -- "$work"/*.{deb,tar.*}
    (cd "$work" && private_apt "$work" apt-get source --download-only --tar-only "postgresql-$major=$version") >>"$work/apt.log" 2>&1 || continue
    (cd "$work" && private_apt "$work" apt-get download "postgresql-server-dev-$major=$version") >>"$work/apt.log" 2>&1 ||
      (cd "$work" && private_apt "$work" apt-get download "postgresql-server-dev-$major") >>"$work/apt.log" 2>&1 || continue
    printf '%s' "$version"
    return
  done
  return 1
}

# unpack puts the tests of the downloaded source in a folder and compiles their
# library there.
unpack() {
  local major=$1 folder=$2 tests headers
  mkdir -- "$work/source" "$work/headers"
  tar -x -C "$work/source" --no-same-owner --strip-components 1 --wildcards -f "$work"/postgresql-*.orig.tar.* '*/src/test/regress/*'
  dpkg-deb --extract "$work"/postgresql-server-dev-*.deb "$work/headers"
  tests=$work/source/src/test/regress
  headers=$work/headers/usr/include/postgresql
  mkdir -p -- "$folder/tests"
  cp -R -- "$tests/sql" "$tests/data" "$tests/parallel_schedule" "$folder/tests/"
  gcc -O2 -fPIC -shared -I"$headers/$major/server" -I"$headers" "$tests/regress.c" -o "$folder/regress.so"
}

# place_server makes FOLDER/postgresql: the server that client-programs.sh has
# unpacked, or a copy of the installed one, where nobody but its packages writes.
place_server() {
  local major=$1 folder=$2
  if [[ -x $cache/debian/$major/lib/postgresql/$major/bin/postgres ]]; then
    ln -s -- "../../debian/$major/lib/postgresql/$major" "$folder/postgresql"
    return
  fi
  # PostgreSQL finds its other files from where its programs are.
  mkdir -p -- "$folder"/{lib,share}/postgresql
  cp -RL -- "/usr/lib/postgresql/$major" "$folder/lib/postgresql/"
  cp -RL -- "/usr/share/postgresql/$major" "$folder/share/postgresql/"
  rm -rf -- "$folder/lib/postgresql/$major/lib"/{bitcode,llvmjit*}
  ln -s -- "lib/postgresql/$major" "$folder/postgresql"
}

# fetch downloads what makes a version, and notes why where it can't be had. It is
# called in conditions, in which bash goes on after errors: none but those that are
# returned may happen here.
fetch() {
  local major=$1 release=$2
  say "fetching the regression tests of PostgreSQL $major from Debian${release:+ $release}"
  # What a killed run left behind.
  find "$cache" -maxdepth 1 -name '.new-*' -mtime +0 -exec rm -rf -- {} +
  work=$(mktemp -d -- "$cache/.new-XXXXXX") && chmod 755 "$work" || exit 1
  if version=$(download "$major" "${release:-here}"); then return; fi
  failures+=("PostgreSQL $major${release:+ of $release}: $(sed -n 's/^E: //p' "$work/apt.log" | tail -n 1)")
  rm -rf -- "$work"
  work=
  return 1
}

# install_tests makes one version in the cache of what was fetched. It is renamed into
# its place when it is finished, but for the library.
install_tests() {
  local major=$1 target=$cache/regression/$1
  mkdir -- "$work/$major"
  unpack "$major" "$work/$major"
  place_server "$major" "$work/$major"
  printf '%s %s\n' "$(note "$major")" "$version" >"$work/$major/PACKAGE"
  chmod -R u=rwX,go=rX "$work/$major"
  mkdir -p -- "$cache/regression"
  rm -rf -- "$target"
  mv -- "$work/$major" "$target"
  mv -f -- "$target/regress.so" "$target/postgresql/lib/regress.so"
  rm -rf -- "$work"
  work=
}

install_any() {
  local from major release own version
  if [[ -n $(found) ]]; then return; fi
  from=
  if have apt-get && have dpkg-deb; then from=$(mirror); fi
  if [[ -z $from ]]; then
    say "this machine's apt does not get Debian, and so no regression tests of PostgreSQL: tests that take them will be skipped"
    return
  fi
  # Servers run as another user, who must be able to read it.
  umask 022
  mkdir -p -- "$cache"
  exec 9>"$cache/.regression-lock"
  flock 9
  while read -r major release; do
    if installed "$major"; then return; fi
    # Without its client programs there is nothing to run.
    if [[ ! -x $cache/debian/$major/lib/postgresql/$major/bin/pg_dump ]]; then continue; fi
    if fetch "$major" "$release"; then
      install_tests "$major"
      return
    fi
  done < <(sort -rn <<<"$RELEASES")
  own=$(own_major)
  if [[ -n $own ]] && fetch "$own" ''; then
    install_tests "$own"
    return
  fi
  die "no source of PostgreSQL could be had, and so not its regression tests: run scripts/setup.sh --all again, or give apt another mirror" \
    "${failures[@]}"
}

# print_versions says what tests will run, since that moves.
print_versions() {
  local major
  major=$(found)
  if [[ -n $major ]]; then printf "PostgreSQL's regression tests: %s\n" "$(sed 's/.* of //' "$cache/regression/$major/PACKAGE")"; fi
}

case ${1:-} in
  --versions) cache=${2:?the cache} && print_versions ;;
  -* | '') sed -n '3,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  *) cache=$1 && install_any ;;
esac
