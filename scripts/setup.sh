#!/usr/bin/env bash
#
# setup.sh finds, or installs, what it takes to build and test pgmedic.
#
#   scripts/setup.sh --demo   Go modules and PostgreSQL, for building and trying
#   scripts/setup.sh          Go modules, PostgreSQL, gcc, shellcheck, versitygw,
#                             fake-gcs-server, pgbouncer, OpenSSH's sftp-server, cron and
#                             systemd, which don't run, and age, minisign, zstd, openssl, bzip2, xz, lz4 and jq,
#                             by which tests read backups
#   scripts/setup.sh --lint   and golangci-lint
#   scripts/setup.sh --all    and servers of every supported version (150 MB), 17 and 18 with
#                             their own client programs (190 MB), PostgreSQL's regression
#                             tests, promtool, Alertmanager, Azurite, Chromium and axe-core, by which tests
#                             look at the HTML report
#   scripts/setup.sh --release  what packs a release, and nothing else: nfpm and cyclonedx-gomod
#   scripts/setup.sh --cache    prints the cache's folder
#
# It installs packages only as root, only with apt, and never starts a server.
# All else goes to a cache outside the repository: $PGMEDIC_CACHE, or
# /var/cache/pgmedic for root, or ~/.cache/pgmedic. Where nothing is missing it
# takes less than a second and says nothing.
set -euo pipefail

readonly GOLANGCI_LINT_VERSION=v2.15.0
readonly VERSITYGW_VERSION=v1.8.0
readonly FAKE_GCS_VERSION=v1.56.1
readonly ALERTMANAGER_VERSION=v0.28.1
# Later ones of nfpm take modules of a host that is not everywhere to be reached.
readonly NFPM_VERSION=v2.45.0
readonly CYCLONEDX_VERSION=v1.10.0
readonly AXE_VERSION=4.14.1
readonly AXE_INTEGRITY=sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
readonly OLDEST_MAJOR=12
readonly WANTED_MAJOR=15

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repository
want_tests=true
want_lint=false
want_servers=false
want_promtool=false
want_release=false
missing=()      # apt packages that must be installed
scratch=        # a folder for half-done work, removed at exit
drop_in=        # a file of Debian's PostgreSQL configuration, removed at exit
policy=         # a program that forbids to start services, removed at exit

clean_up() {
  if [[ -n $scratch ]]; then rm -rf -- "$scratch"; fi
  if [[ -n $drop_in ]]; then remove_drop_in; fi
  if [[ -n $policy ]]; then allow_services; fi
}
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  sed -n '3,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

parse_arguments() {
  local argument
  for argument in "$@"; do
    case $argument in
      --demo) want_tests=false ;;
      --lint) want_lint=true ;;
      --all) want_lint=true want_servers=true want_promtool=true ;;
      --release) want_tests=false want_release=true ;;
      --cache) cache_folder && printf '\n' && exit 0 ;;
      -h | --help) usage && exit 0 ;;
      *) die "unknown option $argument" "see scripts/setup.sh --help" ;;
    esac
  done
}

cache_folder() {
  if [[ -n ${PGMEDIC_CACHE:-} ]]; then
    printf '%s' "$PGMEDIC_CACHE"
  elif [[ $EUID -eq 0 ]]; then
    printf '/var/cache/pgmedic'
  else
    printf '%s' "${XDG_CACHE_HOME:-$HOME/.cache}/pgmedic"
  fi
}

# new_scratch makes a folder inside the cache, so that what is finished in it
# can be renamed into its place: an interrupted run leaves no half of anything.
new_scratch() {
  if [[ -n $scratch ]]; then rm -rf -- "$scratch"; fi
  # A server that runs as another user must be able to read it.
  (umask 022 && mkdir -p -- "$cache")
  # What a killed run left behind.
  find "$cache" -maxdepth 1 -name '.new-*' -mtime +0 -exec rm -rf -- {} +
  scratch=$(mktemp -d -- "$cache/.new-XXXXXX")
}

# postgres_folders prints the bin folders in which servers are looked for.
postgres_folders() {
  local program
  printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
    /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin
  if program=$(command -v postgres); then dirname -- "$(readlink -f -- "$program")"; fi
}

# newest_postgres prints the newest major version, of those that have a server
# and the client tools, or 15 if that is one of them, or nothing.
newest_postgres() {
  local folder program major newest=0
  while read -r folder; do
    for program in initdb postgres pg_dump pg_restore psql; do
      if [[ ! -x $folder/$program ]]; then continue 2; fi
    done
    major=$("$folder/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p')
    if [[ $major == "$WANTED_MAJOR" ]]; then
      newest=$major
      break
    fi
    if [[ -n $major ]] && ((major >= OLDEST_MAJOR && major > newest)); then newest=$major; fi
  done < <(postgres_folders)
  if ((newest > 0)); then printf '%s' "$newest"; fi
}

check_go() {
  have go || die "Go is missing" "install it: https://go.dev/doc/install"
}

# look_for_tools collects the apt packages of what is missing.
look_for_tools() {
  local major
  major=$(newest_postgres)
  if [[ -z $major ]]; then
    missing+=(postgresql)
  elif [[ $major != "$WANTED_MAJOR" ]]; then
    say "using the installed PostgreSQL $major instead of $WANTED_MAJOR"
  fi
  $want_tests || return 0
  # The race detector is linked by gcc.
  have gcc || missing+=(gcc)
  have_c_library || missing+=(libc6-dev)
  have shellcheck || missing+=(shellcheck)
  # Tests restore backups with these alone.
  have age || missing+=(age)
  have zstd || missing+=(zstd)
  have openssl || missing+=(openssl)
  have minisign || missing+=(minisign)
  # Dumps of others are packed with these, as is PostgreSQL's source.
  have bzip2 || missing+=(bzip2)
  have xz || missing+=(xz-utils)
  have lz4 || missing+=(lz4)
  # The runbook reads JSON with it.
  have jq || missing+=(jq)
  # The pool is tested behind it.
  have_pgbouncer || missing+=(pgbouncer)
  # Stores over SFTP are tested with it.
  have_sftp_server || missing+=(openssh-sftp-server)
  # What schedules are written for reads them. Neither has to run.
  if [[ $(uname -s) == Linux ]]; then
    have crontab || missing+=(cron)
    have systemd-analyze || missing+=(systemd)
  fi
  if ! $want_servers || [[ $(uname -s) != Linux ]]; then return 0; fi
  have_chromium || missing+=(chromium)
  # Azurite runs on node.
  have node || missing+=(nodejs)
  if ! servers_installed || ! axe_installed || ! azurite_installed; then
    have npm || missing+=(nodejs npm)
  fi
}

have_chromium() { have chromium || have chromium-browser || have google-chrome; }

# Debian's is where only root looks for programs.
have_pgbouncer() { have pgbouncer || [[ -x /usr/sbin/pgbouncer ]]; }

# Where distributions keep it; tests look in the same places.
have_sftp_server() {
  [[ -x /usr/lib/openssh/sftp-server || -x /usr/lib/ssh/sftp-server || -x /usr/libexec/openssh/sftp-server || -x /usr/libexec/sftp-server ]]
}

have_c_library() {
  have gcc || return 1
  printf '#include <stdlib.h>\n' | gcc -E - >/dev/null 2>&1
}

# install_missing installs with apt, or says what to do.
install_missing() {
  if ((${#missing[@]} == 0)); then return; fi
  if ! have apt-get; then
    die "missing: ${missing[*]} (names of Debian's packages)" \
      "macOS:   brew install postgresql@$WANTED_MAJOR shellcheck age zstd xz lz4 jq openssl minisign pgbouncer, and xcode-select --install for a C compiler" \
      "Fedora:  dnf install postgresql-server postgresql postgresql-contrib gcc glibc-devel ShellCheck age zstd bzip2 xz lz4 jq openssl minisign pgbouncer openssh-server" \
      "Alpine:  apk add postgresql$WANTED_MAJOR postgresql$WANTED_MAJOR-client gcc musl-dev shellcheck age zstd bzip2 xz lz4 jq openssl minisign pgbouncer openssh-sftp-server" \
      "then run make setup again"
  fi
  if [[ $EUID -ne 0 ]]; then
    resolve_postgres
    die "missing: ${missing[*]}" \
      "install them: sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" \
      "then run make setup again"
  fi
  update_lists
  resolve_postgres
  say "installing ${missing[*]}"
  if [[ " ${missing[*]}" == *" postgresql"* ]]; then write_drop_in; fi
  if [[ " ${missing[*]}" == *" pgbouncer"* || " ${missing[*]}" == *" cron"* ]]; then forbid_services; fi
  apt_fetch install --yes --no-install-recommends "${missing[@]}"
  if [[ -n $drop_in ]]; then remove_drop_in; fi
  if [[ -n $policy ]]; then allow_services; fi
}

# apt_get shows what apt-get printed only if it failed.
apt_get() {
  local log
  log=$(mktemp)
  if ! DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 -- "$log" >&2
    rm -f -- "$log"
    die "apt-get $1 failed"
  fi
  rm -f -- "$log"
}

# apt_fetch is apt_get for what mirrors are asked for. Old package lists name files that
# mirrors no longer have: then the lists are fetched, and it is tried once more.
apt_fetch() {
  if [[ $EUID -eq 0 ]]; then
    if DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >/dev/null 2>&1 </dev/null; then return; fi
    say "fetching apt's package lists"
    apt_get update
  fi
  apt_get "$@"
}

# update_lists fetches the package lists if a new machine has none, or if they
# don't know a package that is needed.
update_lists() {
  local package
  for package in "${missing[@]}"; do
    if ! available "$package"; then
      say "fetching apt's package lists"
      apt_get update
      return
    fi
  done
}

available() {
  local answer
  # Not through a pipe: where grep ends first, pipefail makes it a failure.
  answer=$(LC_ALL=C apt-cache policy -- "$1" 2>/dev/null)
  [[ $answer == *'Candidate: '[^\(]* ]]
}

# resolve_postgres replaces "postgresql", which is the distribution's newest,
# by the wanted version where the archive has that.
resolve_postgres() {
  local i
  for i in "${!missing[@]}"; do
    if [[ ${missing[i]} != postgresql ]]; then continue; fi
    if available "postgresql-$WANTED_MAJOR"; then
      missing[i]=postgresql-$WANTED_MAJOR
    elif available postgresql; then
      say "there is no postgresql-$WANTED_MAJOR here: taking the distribution's postgresql"
    fi
  done
}

# Debian's package makes a cluster and starts it on port 5432 when it is first
# installed, which nobody asked for. The package reads this folder of drop-ins;
# the file is there during the installation only.
write_drop_in() {
  drop_in=/etc/postgresql-common/createcluster.d/pgmedic-setup.conf
  mkdir -p -- "$(dirname -- "$drop_in")"
  printf 'create_main_cluster = false\n' >"$drop_in"
}

remove_drop_in() {
  rm -f -- "$drop_in"
  rmdir --ignore-fail-on-non-empty -- "$(dirname -- "$drop_in")" 2>/dev/null || true
  drop_in=
}

# Debian's packages start their services when they are installed, unless this
# program forbids it. It is there during the installation only.
forbid_services() {
  if [[ -e /usr/sbin/policy-rc.d ]]; then return; fi
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

allow_services() {
  rm -f -- "$policy"
  policy=
}

check_postgres() {
  local major
  major=$(newest_postgres)
  [[ -n $major ]] || die "PostgreSQL is installed but no server with its client tools was found" \
    "looked in: $(postgres_folders | tr '\n' ' ')"
}

# download_modules asks the network only if a module is not in the module
# cache: go list alone answers from there.
download_modules() {
  if (cd "$repository" && GOPROXY=off go list -deps -test github.com/pgmedic/pgmedic/... >/dev/null 2>&1); then return; fi
  say "downloading Go modules"
  (cd "$repository" && go mod download)
}

install_lint() {
  local target=$cache/bin/golangci-lint
  if [[ -x $target ]] && [[ $("$target" version 2>/dev/null) == *"version ${GOLANGCI_LINT_VERSION#v} "* ]]; then return; fi
  say "building golangci-lint $GOLANGCI_LINT_VERSION into $cache/bin (some minutes)"
  new_scratch
  GOBIN=$scratch go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT_VERSION"
  mkdir -p -- "$cache/bin"
  mv -f -- "$scratch/golangci-lint" "$target"
}

# install_packers builds once what packs a release.
install_packers() {
  install_packer nfpm github.com/goreleaser/nfpm/v2 "$NFPM_VERSION"
  install_packer cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod "$CYCLONEDX_VERSION"
}

install_packer() {
  local name=$1 module=$2 version=$3 target=$cache/bin/$1 built
  built=$(go version -m "$target" 2>/dev/null || true)
  if [[ $built == *$'\tmod\t'"$module"$'\t'"$version"$'\t'*$'\tbuild\t-trimpath=true'* ]]; then return; fi
  say "building $name $version into $cache/bin"
  new_scratch
  # The lists of what is in a binary have this program's hash.
  CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOBIN=$scratch go install -trimpath -ldflags '-s -w -buildid=' "$module/cmd/$name@$version"
  (umask 022 && mkdir -p -- "$cache/bin")
  mv -f -- "$scratch/$name" "$target"
}

# build_server MODULE VERSION [PACKAGE] builds a server of the tests once. Some do not
# know their own version; what they were built from does.
build_server() {
  local module=$1 version=$2 package=${3:-$1} built
  local name=${package##*/}
  local target=$cache/bin/$name
  built=$(go version -m "$target" 2>/dev/null || true)
  if [[ $built == *$'\t'"$module"$'\t'"$version"$'\t'* ]]; then return; fi
  say "building $name $version into $cache/bin (some minutes)"
  new_scratch
  CGO_ENABLED=0 GOBIN=$scratch go install "$package@$version"
  (umask 022 && mkdir -p -- "$cache/bin")
  mv -f -- "$scratch/$name" "$target"
}

# azurite_installed compares the lock file that it was installed by.
azurite_installed() {
  cmp -s -- "$repository/scripts/azurite/package-lock.json" "$cache/azurite/package-lock.json"
}

# install_azurite fetches the Azure server of the tests, and what it needs by the hashes
# of the lock file. Its lock file comes last into the folder.
install_azurite() {
  if azurite_installed; then return; fi
  say "fetching Azurite into $cache/azurite (some minutes)"
  new_scratch
  cp -- "$repository/scripts/azurite/package.json" "$repository/scripts/azurite/package-lock.json" "$scratch/"
  # Not in the repository's folder, whose .npmrc would count. No script of a package is run.
  (cd "$scratch" && npm ci --silent --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund >/dev/null </dev/null) ||
    die "fetching Azurite failed"
  chmod -R u=rwX,go=rX "$scratch"
  rm -rf -- "$cache/azurite"
  mv -- "$scratch" "$cache/azurite"
}

# install_promtool takes one program out of Debian's package of Prometheus,
# which would start a server that nobody asked for.
install_promtool() {
  local archive
  if have promtool || [[ -x $cache/bin/promtool ]]; then return; fi
  if ! have apt-get; then
    say "no promtool here, and no apt to get it with: install Prometheus, or its tests fail"
    return
  fi
  if ! available prometheus && [[ $EUID -eq 0 ]]; then
    say "fetching apt's package lists"
    apt_get update
  fi
  say "fetching promtool into $cache/bin"
  new_scratch
  # apt's own user may not write here.
  (cd "$scratch" && apt_fetch download -o APT::Sandbox::User=root prometheus)
  archive=$(find "$scratch" -maxdepth 1 -name 'prometheus_*.deb')
  dpkg-deb --fsys-tarfile "$archive" | tar -x -C "$scratch" ./usr/bin/promtool
  "$scratch/usr/bin/promtool" --version >/dev/null 2>&1 || die "the promtool of Debian's prometheus does not run"
  (umask 022 && mkdir -p -- "$cache/bin")
  mv -f -- "$scratch/usr/bin/promtool" "$cache/bin/promtool"
}

architecture() {
  case $(uname -m) in
    x86_64 | amd64) printf x64 ;;
    aarch64 | arm64) printf arm64 ;;
    *) uname -m ;;
  esac
}

# server_packages prints major, package and integrity of each server package
# for this machine.
server_packages() {
  awk -v arch="$(architecture)" '$1 == arch { print $2, $3, $4 }' "$repository/scripts/embedded-postgres.txt"
}

servers_installed() {
  local major package integrity
  while read -r major package integrity; do
    server_installed "$major" "$package" "$integrity" || return 1
  done < <(server_packages)
}

# server_installed compares the note that was written with the server.
server_installed() {
  local note
  { read -r note <"$cache/postgres/$1/PACKAGE"; } 2>/dev/null && [[ $note == "$2 $3" ]]
}

install_servers() {
  local major package integrity majors
  [[ $(uname -s) == Linux ]] || die "servers of all versions are packaged for Linux only" \
    "run make test-all on Linux"
  majors=$(server_packages | cut -d' ' -f1 | tr '\n' ' ')
  # Said each time, since tests on all versions will fail here.
  if [[ $majors != *"$OLDEST_MAJOR "* ]]; then
    say "for $(architecture) there are servers of PostgreSQL ${majors:-none }only: make test-all needs x86_64"
  fi
  if servers_installed; then return; fi
  # One run at a time replaces folders; the lock ends with the process.
  (umask 022 && mkdir -p -- "$cache")
  exec 9>"$cache/.lock"
  flock 9
  while read -r major package integrity; do
    if server_installed "$major" "$package" "$integrity"; then continue; fi
    say "fetching PostgreSQL $major ($package)"
    install_server "$major" "$package" "$integrity"
  done < <(server_packages)
}

# install_server fetches one package, checks it and puts it in its place.
install_server() {
  local major=$1 package=$2 integrity=$3 archive got target=$cache/postgres/$1
  new_scratch
  # Not in the repository's folder, whose .npmrc would count.
  (cd "$scratch" && npm pack --silent "$package" >/dev/null </dev/null) || die "fetching $package failed"
  archive=$(find "$scratch" -maxdepth 1 -name '*.tgz')
  got=sha512-$(sha512_base64 "$archive")
  [[ $got == "$integrity" ]] || die "$package is not what it was when it was chosen" \
    "expected $integrity" "got      $got"
  tar -xzf "$archive" -C "$scratch" --no-same-owner
  # npm packages hold no symbolic links: this makes those of the libraries.
  (cd "$scratch/package" && node scripts/hydrate-symlinks.js)
  printf '%s %s\n' "$package" "$integrity" >"$scratch/package/native/PACKAGE"
  chmod -R u=rwX,go=rX "$scratch/package/native"
  "$scratch/package/native/bin/postgres" --version >/dev/null || die "the server of $package does not run"
  (umask 022 && mkdir -p -- "$cache/postgres")
  rm -rf -- "$target"
  mv -- "$scratch/package/native" "$target"
}

axe_installed() {
  local note
  { read -r note <"$cache/axe-core/PACKAGE"; } 2>/dev/null && [[ $note == "$AXE_VERSION $AXE_INTEGRITY" ]]
}

# install_axe fetches the script that checks the HTML report's accessibility.
install_axe() {
  local archive got
  if axe_installed; then return; fi
  say "fetching axe-core $AXE_VERSION"
  new_scratch
  (cd "$scratch" && npm pack --silent "axe-core@$AXE_VERSION" >/dev/null </dev/null) || die "fetching axe-core failed"
  archive=$(find "$scratch" -maxdepth 1 -name '*.tgz')
  got=sha512-$(sha512_base64 "$archive")
  [[ $got == "$AXE_INTEGRITY" ]] || die "axe-core $AXE_VERSION is not what it was when it was chosen" \
    "expected $AXE_INTEGRITY" "got      $got"
  tar -xzf "$archive" -C "$scratch" --no-same-owner package/axe.min.js
  printf '%s %s\n' "$AXE_VERSION" "$AXE_INTEGRITY" >"$scratch/package/PACKAGE"
  chmod -R u=rwX,go=rX "$scratch/package"
  rm -rf -- "$cache/axe-core"
  mv -- "$scratch/package" "$cache/axe-core"
}

# sha512_base64 prints the base64 of a file's hash, as npm writes it. Node is
# there anyway; openssl may not be.
sha512_base64() {
  node -e 'process.stdout.write(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$1"
}

main() {
  parse_arguments "$@"
  cache=$(cache_folder)
  readonly cache
  check_go
  if $want_release; then # which takes no PostgreSQL
    download_modules
    install_packers
    return
  fi
  look_for_tools
  install_missing
  check_postgres
  download_modules
  if $want_tests; then
    build_server github.com/versity/versitygw "$VERSITYGW_VERSION" github.com/versity/versitygw/cmd/versitygw
    build_server github.com/fsouza/fake-gcs-server "$FAKE_GCS_VERSION"
  fi
  if $want_lint; then install_lint; fi
  if $want_promtool; then install_promtool; fi
  if $want_servers; then
    install_servers
    "$repository/scripts/client-programs.sh" "$cache"
    "$repository/scripts/regression-tests.sh" "$cache"
    install_axe
    install_azurite
    build_server github.com/prometheus/alertmanager "$ALERTMANAGER_VERSION" github.com/prometheus/alertmanager/cmd/alertmanager
  fi
}

main "$@"
