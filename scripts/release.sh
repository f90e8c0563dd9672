#!/usr/bin/env bash
#
# release.sh builds what a release of pgmedic consists of, into a new folder:
#
#   scripts/release.sh VERSION FOLDER          for linux and darwin on amd64 and arm64
#   scripts/release.sh VERSION FOLDER PLATFORM…  for some: linux/amd64, darwin/arm64, …
#
# An archive for each platform, a .deb and an .rpm for each of Linux, a list of what is in
# each binary (SBOM, CycloneDX), and SHA256SUMS of all. Packages and archives have the
# manual pages and the completion of words for bash, zsh and fish.
#
# The same commit, version and Go give the same bytes, on whatever machine, and it needs
# no network once `scripts/setup.sh --release` and a build have been made.
set -euo pipefail

readonly PLATFORMS=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64)
readonly SUMMARY='Back up PostgreSQL, prove the backups, restore without risk'

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repository
work=           # a folder for half-done work, removed at exit

clean_up() {
  if [[ -n $work ]]; then rm -rf -- "$work"; fi
}
# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# check_version refuses what one of the packages could not have.
check_version() {
  [[ $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+([~+][0-9A-Za-z.]+)*$ ]] ||
    die "\"$1\" is not the version of a release" "name it such as 1.2.3, or 1.2.3~rc1 for what comes before 1.2.3"
}

# build makes one binary, as make build does.
build() {
  local platform=$1 target=$2 commit
  commit=$(git -C "$repository" rev-parse HEAD 2>/dev/null || true)
  (cd "$repository" && GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} \
    go build -trimpath -ldflags "-s -w -buildid= -X 'main.version=v$version${commit:+ $commit}'" -o "$target" ./cmd/pgmedic)
}

# pages makes what does not depend on the platform, with a binary of this one.
pages() {
  local own=$work/own page shell
  build "$(go env GOHOSTOS)/$(go env GOHOSTARCH)" "$own"
  # No configuration of this machine counts.
  cd "$work"
  env -i HOME="$work" PATH="$PATH" "$own" man --quiet --output "$work/man"
  for page in "$work"/man/*.1; do gzip -9 -n -- "$page"; done
  mkdir "$work/completion"
  for shell in bash zsh fish; do
    env -i HOME="$work" PATH="$PATH" "$own" completion "$shell" >"$work/completion/pgmedic.$shell"
  done
  cp -- "$repository/LICENSE" "$repository/README.md" "$repository/CHANGELOG.md" "$work/"
}

# sbom lists the modules that a binary was built from.
sbom() {
  "$cache/bin/cyclonedx-gomod" bin -json -noserial -notimestamp -std -version "v$version" -output "$2" "$1" 2>/dev/null ||
    die "listing what is in the binary failed"
}

# archive packs a platform's files. The order, owners, modes and times of the files are
# the same wherever it is made.
archive() {
  local platform=$1 binary=$2 name
  name=pgmedic-$version-${platform%/*}-${platform#*/}
  mkdir "$work/$name"
  cp -R -- "$work/man" "$work/completion" "$work/LICENSE" "$work/README.md" "$work/CHANGELOG.md" "$work/$name/"
  cp -- "$binary" "$work/$name/pgmedic"
  chmod -R u=rwX,go=rX -- "$work/$name"
  chmod 755 -- "$work/$name/pgmedic"
  tar --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -C "$work" -cf - "$name" | gzip -9 -n >"$out/$name.tar.gz"
  rm -rf -- "${work:?}/$name"
}

# packages makes the .deb and the .rpm of a Linux platform.
packages() {
  local architecture=$1 binary=$2 format page
  {
    cat <<YAML
name: pgmedic
arch: $architecture
platform: linux
version: "$version"
version_schema: none
release: "1"
section: database
priority: optional
maintainer: pgmedic <packages@pgmedic.invalid>
homepage: https://github.com/pgmedic/pgmedic
license: Apache-2.0
mtime: "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
description: |
  $SUMMARY
  One binary that takes logical and physical backups, archives WAL, proves that the
  backups restore, restores beside the live database, and reports on a server's health.
  Backups take PostgreSQL's client programs of the server's major version or newer,
  drills a server of that version, installed and not running.
recommends: [postgresql-client]
suggests: [postgresql, age]
overrides:
  rpm:
    recommends: [postgresql]
    suggests: [postgresql-server, age]
rpm:
  compression: gzip:9
  buildhost: pgmedic
deb:
  compression: gzip
umask: 0o022
contents:
  - {src: "$binary", dst: /usr/bin/pgmedic, file_info: {mode: 0755}}
  - {src: "$work/completion/pgmedic.bash", dst: /usr/share/bash-completion/completions/pgmedic, file_info: {mode: 0644}}
  - {src: "$work/completion/pgmedic.zsh", dst: /usr/share/zsh/vendor-completions/_pgmedic, file_info: {mode: 0644}, packager: deb}
  - {src: "$work/completion/pgmedic.zsh", dst: /usr/share/zsh/site-functions/_pgmedic, file_info: {mode: 0644}, packager: rpm}
  - {src: "$work/completion/pgmedic.fish", dst: /usr/share/fish/vendor_completions.d/pgmedic.fish, file_info: {mode: 0644}}
  - {src: "$work/LICENSE", dst: /usr/share/doc/pgmedic/copyright, file_info: {mode: 0644}}
  - {src: "$work/README.md", dst: /usr/share/doc/pgmedic/README.md, file_info: {mode: 0644}}
  - {src: "$work/CHANGELOG.md", dst: /usr/share/doc/pgmedic/CHANGELOG.md, file_info: {mode: 0644}}
YAML
    for page in "$work"/man/*.1.gz; do
      printf '  - {src: "%s", dst: /usr/share/man/man1/%s, file_info: {mode: 0644}}\n' "$page" "$(basename -- "$page")"
    done
  } >"$work/nfpm.yaml"
  for format in deb rpm; do
    "$cache/bin/nfpm" package --config "$work/nfpm.yaml" --packager "$format" --target "$out/" >"$work/nfpm.log" 2>&1 ||
      { cat -- "$work/nfpm.log" >&2; die "making the $format failed"; }
  done
}

main() {
  local platform binary
  [[ $# -ge 2 && $1 != -* ]] || { sed -n '3,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
  version=$1 out=$2
  shift 2
  check_version "$version"
  git -C "$repository" diff --quiet HEAD -- ||
    die "there are changes that are not committed: no one could build the same again" "commit them first"
  "$repository/scripts/setup.sh" --release
  cache=$("$repository/scripts/setup.sh" --cache)
  umask 022
  if [[ -e $out ]]; then die "$out is there already" "name a new folder"; fi
  export TZ=UTC LC_ALL=C SOURCE_DATE_EPOCH
  SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$repository" log -1 --format=%ct)}
  # The folder has its name once all is in it.
  mkdir -p -- "$(dirname -- "$out")"
  destination=$(cd "$(dirname -- "$out")" && pwd)/$(basename -- "$out")
  work=$(mktemp -d -- "$destination.new-XXXXXX")
  out=$work/out
  mkdir -- "$out"
  (pages)
  for platform in "${@:-${PLATFORMS[@]}}"; do
    say "building for $platform"
    binary=$work/pgmedic
    build "$platform" "$binary"
    sbom "$binary" "$out/pgmedic-$version-${platform%/*}-${platform#*/}.cdx.json"
    archive "$platform" "$binary"
    if [[ $platform == linux/* ]]; then packages "${platform#*/}" "$binary"; fi
  done
  (cd "$out" && sha256sum -- * >SHA256SUMS)
  chmod 755 -- "$out"
  mv -- "$out" "$destination"
  say "$(find "$destination" -type f | wc -l) files in $destination"
}

main "$@"
