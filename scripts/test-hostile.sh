#!/usr/bin/env bash
#
# test-hostile.sh runs the tests where little is as on a developer's machine:
#
#   scripts/test-hostile.sh          all of them
#   scripts/test-hostile.sh --part   a part of them, of minutes
#   scripts/test-hostile.sh ./x …    with these arguments of go test
#
# as an ordinary user, in a German locale and India's time zone, with umask 077, a home
# that can't be written to, a checkout that can't either, and processors that are busy
# with something else. The servers are those that setup.sh found: on a machine whose
# package lists are old, of an older minor release than the newest.
#
# As root it uses the user nobody, who gets a copy of the checkout; an ordinary user
# runs the tests as himself, in this checkout.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly USER_NAME=nobody

folder=
busy=()
clean_up() {
  if ((${#busy[@]})); then kill "${busy[@]}" 2>/dev/null || true; fi
  if [[ -n $folder ]]; then rm -rf -- "$folder"; fi
}
trap clean_up EXIT
# Without these, bash does not run the EXIT trap when a signal ends it.
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ ${1-} == -* && ${1-} != --part ]]; then
  sed -n '3,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi

# A short path, for those of sockets can't be long.
folder=$(mktemp -d "${TMPDIR:-/tmp}/pgm-XXXXXX")
chmod 755 "$folder"
mkdir "$folder/home" "$folder/tmp"
chmod 555 "$folder/home"

environment=(
  "PATH=$PATH" "HOME=$folder/home" "TMPDIR=$folder/tmp" LANG=de_DE.UTF-8 TZ=Asia/Kolkata
  "GOMODCACHE=$(go env GOMODCACHE)" "GOCACHE=$(go env GOCACHE)" GOFLAGS=-mod=readonly GOTOOLCHAIN=local
)
for name in PGMEDIC_CACHE PGMEDIC_TEST_ALL; do
  if [[ -n ${!name-} ]]; then environment+=("$name=${!name}"); fi
done
run=(env -i "${environment[@]}")

if ((EUID == 0)); then
  # Nobody may look into root's home, where Go keeps its modules and what it built. The
  # modules are mounted in a name space of the tests' own, and so gone when they end;
  # in a container that may not mount, they are copied.
  mkdir "$folder/modules" "$folder/built" "$folder/checkout"
  cp -r "$(go env GOCACHE)/." "$folder/built"
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$folder/checkout"
  chmod -R go+rX "$folder/checkout"
  chown -R "$USER_NAME" "$folder/tmp" "$folder/built"
  environment+=(
    "GOMODCACHE=$folder/modules" "GOCACHE=$folder/built" "USER=$USER_NAME"
    "PGMEDIC_CACHE=${PGMEDIC_CACHE:-/var/cache/pgmedic}"
  )
  from=$(go env GOMODCACHE)
  mounting=(unshare --mount --propagation private)
  if ! "${mounting[@]}" true 2>/dev/null; then
    cp -r "$from/." "$folder/modules"
    from='' mounting=()
  fi
  # shellcheck disable=SC2016 # the inner shell's
  run=("${mounting[@]}" bash -c 'if [[ -n $1 ]]; then mount --bind "$1" "$2"; fi; cd "$3"; shift 3; exec "$@"' bash
    "$from" "$folder/modules" "$folder/checkout"
    setpriv "--reuid=$USER_NAME" "--regid=$(id -g "$USER_NAME")" --clear-groups env -i "${environment[@]}")
fi

for ((i = 0; i < $(nproc); i++)); do
  (while :; do :; done) &
  busy+=("$!")
done

umask 077
run_tests() { "${run[@]}" go test -p 2 -timeout 80m -count=1 "$@"; }
case ${1-} in
  '') run_tests github.com/pgmedic/pgmedic/... ;;
  --part)
    run_tests ./cmd/... ./internal/config/... ./internal/render/... ./internal/terminal/... ./internal/words/...
    run_tests -run '^TestRecover(KeepGoing|Texts|Traps)$' ./internal/backup
    run_tests -run '^TestScripts$/^(config|damage|drill|messages|output|report)$' ./test
    ;;
  *) run_tests "$@" ;;
esac
