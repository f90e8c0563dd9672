#!/usr/bin/env bash
#
# recover.sh restores this backup into a new database, without pgmedic: with
# bash, psql, age, gzip and the usual tools. See RECOVER.md.
#
# Names of the database stand in single quotes, whatever they hold:
# shellcheck disable=SC2016,SC1003
set -euo pipefail
umask 077
export LC_ALL=C PGCLIENTENCODING=UTF8 PGAPPNAME=recover.sh

readonly backup='20261122T020000Z-7f3a9c'
readonly recorded_name='a'\''b"c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned\nHASHES\nSQL\nEOF\n'\''\'\'''\'' :"db" :'\''db'\'' \x0d\t& !! %s é 表'
readonly client_major=15

usage() {
  cat <<'USAGE'
usage: recover.sh [options] NEW_DATABASE

Restores the backup in this script's folder into a database that it creates.

  --identity FILE      age secret key that opens the backup; without it age asks
                       for the passphrase, if the backup has one
  --server CONNINFO    "host=… port=… user=…"; PGHOST, PGUSER, PGPASSWORD,
                       ~/.pgpass and the like work, too; a password is never
                       asked for, and "options" in it is not heeded: use PGOPTIONS
  --maintenance NAME   database to connect to first (default: postgres)
  --globals            first create the roles and tablespaces of the server that
                       the backup is of; what is there already is reported
  --no-check           don't compare the files with their hashes first
  --keep-going         go on past objects and rows that the server refuses, and
                       report them; where there were any it ends with 15
  --trust-dump         go on where psql is older than the releases of August 2025
                       (13.22, 14.19, 15.14, 16.10, 17.6). It can't be kept from
                       running commands of this host's shell that somebody wrote
                       into the backup's SQL: only if no other user could write there
USAGE
}

# clean makes of every line what is fit for a terminal: control characters, and
# those that are invisible or turn the direction of the text, become question
# marks.
clean() {
  local line
  while IFS= read -r line || [[ -n $line ]]; do
    line=${line//[$'\x01'-$'\x1f'$'\x7f']/?}
    line=${line//$'\xc2'[$'\x80'-$'\x9f'$'\xad']/?}
    line=${line//$'\xe2\x80'[$'\x8b'-$'\x8f'$'\xa8'-$'\xae']/?}
    line=${line//$'\xe2\x81'[$'\xa0'-$'\xaf']/?}
    line=${line//$'\xd8\x9c'/?}
    line=${line//$'\xef\xbb\xbf'/?}
    line=${line//$'\xf3\xa0'[$'\x80'-$'\x81'][$'\x80'-$'\xbf']/?}
    printf '%s\n' "$line"
  done
}

say() { printf 'recover: %s\n' "$*" | clean >&2; }

die() {
  say "$@"
  exit 1
}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null 2>&1 || die "$program is missing"
  done
}

# quoted makes any text a value of a connection string.
quoted() {
  local text=$1 quote="'"
  text=${text//\\/\\\\}
  text=${text//"$quote"/"\\$quote"}
  printf "'%s'" "$text"
}

# conninfo prints a connection string for a database. Its options come last, so
# that they count whatever the server, the role or the database set: no name of
# ours is looked up in a schema that somebody else can write to.
conninfo() {
  printf '%s dbname=%s options=%s' "$server" "$(quoted "$1")" "$(quoted "$options")"
}

# admin runs psql in the maintenance database, sql in the new one.
admin() {
  psql -X -q -w -v ON_ERROR_STOP=1 -v VERBOSITY=terse -d "$(conninfo "$maintenance")" "$@"
}

sql() {
  psql -X -w -v ON_ERROR_STOP=1 -v VERBOSITY=terse -v SHOW_CONTEXT=never -d "$(conninfo "$target")" "$@"
}

# own is sql for what belongs to the database itself, whose text is recorded as it
# is stored: the server converts none of it.
own() { PGCLIENTENCODING=SQL_ASCII sql "$@"; }

# restricted runs the SQL of the backup, which may hold anything, through admin or
# sql, without psql's own commands: they reach this host. What pg_dump writes
# around its SQL to the same end is taken out.
restricted() {
  local restrict=()
  if $restricts; then restrict=(-c "\\restrict $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"); fi
  awk 'NR <= 6 && /^\\restrict [A-Za-z0-9]+$/ { key = $2; next }
    key != "" && $0 == "\\unrestrict " key { next } { print }' | "$@" ${restrict[@]+"${restrict[@]}"} -f -
}

# may_restrict finds out whether this psql can be restricted.
may_restrict() {
  if admin -c '\restrict probe' >/dev/null 2>&1; then
    restricts=true
  elif ! $trust; then
    die 'this psql does not know \restrict, so that commands hidden in the backup could run on this host: update the PostgreSQL client programs, or add --trust-dump if no other user could write to the backup'
  fi
}

# unseal makes of stored bytes what they were.
unseal() { age -d -i "$key" | gzip -dc; }

check_tools() {
  need psql age gzip awk head od tail tr wc
  local major program programs=(psql)
  for program in "${programs[@]}"; do
    major=$("$program" --version | sed -n 's/^[^)]*) \([0-9]*\).*/\1/p')
    if [[ -n $major ]] && ((major < client_major)); then
      die "$program is of PostgreSQL $major; this backup needs $client_major or later"
    fi
  done
}

check_files() {
  local hash=(sha256sum)
  if ! command -v sha256sum >/dev/null 2>&1; then hash=(shasum -a 256); fi
  say 'comparing the files with their hashes'
  (cd -- "$here" && "${hash[@]}" -c - >/dev/null) <<'HASHES' || die 'a file is missing or damaged'
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  globals.sql.gz.age
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  dump.sql.gz.age
HASHES
}

# open_key opens the backup's own key, which all of its files are encrypted to.
# Others may have added wraps with keys of theirs, so it must open the backup, too.
open_key() {
  local wrap odd
  for wrap in "$here"/keys/*.age; do
    if [[ ! -f $wrap ]]; then continue; fi
    odd=
    if (($(wc -c <"$wrap") > 65536)); then
      odd='is too large'
    elif [[ -n $identity ]]; then
      if ! waited age -d -i "$identity" -o "$key" "$wrap" 2>/dev/null; then continue; fi
    elif sed -n 2p "$wrap" | grep -q '^-> scrypt '; then
      if ! waited age -d -o "$key" "$wrap"; then continue; fi
    else
      continue
    fi
    if [[ -z $odd ]]; then
      if age -d -i "$key" <"$here/"'globals.sql.gz.age' >/dev/null 2>&1; then return; fi
      odd='holds a key that does not open this backup'
    fi
    say "passing over keys/${wrap##*/}: it $odd"
    rm -f -- "$key"
  done
  if [[ -n $identity ]]; then die "$identity opens none of the keys in $here/keys"; fi
  die "no passphrase opens this backup; give --identity FILE"
}

# prepare looks for what the new database needs, and creates it.
prepare() {
  local missing version create
  if [[ $(admin -At -c 'SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) session_user') == t ]]; then
    superuser=true
  fi
  may_restrict
  if $globals; then
    say 'creating roles and tablespaces'
    unseal <"$here/"'globals.sql.gz.age' | restricted admin -v ON_ERROR_STOP=0 >/dev/null ||
      die 'the roles and tablespaces could not be read'
  fi
  missing=$(admin -At -f - <<<'SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m.n), '\'', '\'') FROM (SELECT a.n FROM pg_catalog.unnest(ARRAY[ E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'',  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'']::pg_catalog.text[]) AS a (n) EXCEPT SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles AS r) AS m HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 UNION ALL SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m.n), '\'', '\'') FROM (SELECT a.n FROM pg_catalog.unnest(ARRAY[ E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'']::pg_catalog.text[]) AS a (n) EXCEPT SELECT s.spcname::pg_catalog.text FROM pg_catalog.pg_tablespace AS s EXCEPT SELECT '\'''\''::pg_catalog.text) AS m HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0;')
  if [[ -n $missing ]]; then
    die "the server lacks roles or tablespaces; create them, or add --globals: ${missing//$'\n'/, }"
  fi
  version=$(admin -At -c 'SHOW server_version_num')
  create='CREATE DATABASE :"db" TEMPLATE template0 ENCODING '\''UTF8'\'' LC_COLLATE '\''C'\'' LC_CTYPE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' OWNER "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" TABLESPACE "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";'
  if ((version >= 170000)); then
    create='CREATE DATABASE :"db" TEMPLATE template0 ENCODING '\''UTF8'\'' LC_COLLATE '\''C'\'' LC_CTYPE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' LOCALE_PROVIDER icu ICU_LOCALE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' OWNER "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" TABLESPACE "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";'
  elif ((version >= 160000)); then
    create='CREATE DATABASE :"db" TEMPLATE template0 ENCODING '\''UTF8'\'' LC_COLLATE '\''C'\'' LC_CTYPE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' LOCALE_PROVIDER icu ICU_LOCALE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' OWNER "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" TABLESPACE "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";'
  elif ((version >= 150000)); then
    create='CREATE DATABASE :"db" TEMPLATE template0 ENCODING '\''UTF8'\'' LC_COLLATE '\''C'\'' LC_CTYPE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' LOCALE_PROVIDER icu ICU_LOCALE  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'' OWNER "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" TABLESPACE "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";'
  fi
  say 'creating the database'
  admin -v "db=$target" -f - <<<"$create"
  : >"$work/made"
  # What is computed while rows come and indexes are built is computed as it was
  # where the backup was taken.
  say "setting the database's settings"
  own -q -v ON_ERROR_STOP=0 -v "db=$target" -f - <<<'ALTER DATABASE :"db" SET "search_path" TO '\''$user'\'', '\''public'\'';
ALTER ROLE "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" IN DATABASE :"db" SET "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" TO  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'';
'
  options+=' -c role=none -c default_transaction_read_only=off'
  options+=' -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'
  options+=' -c synchronous_commit=off -c client_min_messages=warning'
  # Event triggers must not fire while what they watch is being made.
  if $superuser; then options+=' -c session_replication_role=replica'; fi
}

# refused notes that the server refused something, and says what.
refused() {
  : >"$work/incomplete"
  say "REFUSED: $*"
}

# loading runs the dump, and notes what the server refused of it. It may say much.
loading() {
  local status=0
  if ! $keep_going; then
    sql -q -o /dev/null "$@"
    return
  fi
  (ulimit -f 65536 && sql -q -o /dev/null "$@" 2>"$work/errors") || status=$?
  cat "$work/errors" >&2
  if ((status == 0)) && [[ -s $work/errors ]]; then refused 'as psql says above'; fi
  return "$status"
}

load_data() {
  local status=(0 0) stop=1
  say 'loading'
  if $keep_going; then stop=0; fi
  unseal <"$here/"'dump.sql.gz.age' | restricted loading -v "ON_ERROR_STOP=$stop" || status=("${PIPESTATUS[@]}")
  if ((status[1] != 0)); then die 'psql could not load the backup'; fi
  if ((status[0] != 0)); then die 'the backup is damaged, or the key is wrong'; fi
}

# finish detaches subscriptions, which would reach for the publisher of the
# original, collects statistics, and sets what belongs to the database itself.
finish() {
  sql -q -f - <<'SQL'
SELECT pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', s.subname),
	pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s.subname)
FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.subdbid
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
\gexec
SQL
  say 'collecting statistics'
  sql -q -v "ON_ERROR_STOP=$(if $keep_going; then echo 0; else echo 1; fi)" -f - <<'SQL'
WITH RECURSIVE above (oid) AS (
	SELECT i.inhparent FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
	WHERE c.relkind OPERATOR(pg_catalog.=) 'f'
	UNION SELECT i.inhparent FROM above AS a JOIN pg_catalog.pg_inherits AS i ON i.inhrelid OPERATOR(pg_catalog.=) a.oid
)
SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'm']::pg_catalog."char"[])
	AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'
	AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
	AND NOT EXISTS (SELECT FROM above AS a WHERE a.oid OPERATOR(pg_catalog.=) c.oid)
ORDER BY n.nspname, c.relname
\gexec
SQL
  say "setting the database's privileges, remaining settings and comment"
  own -q -v ON_ERROR_STOP=0 -v "db=$target" -f - <<<'REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
REVOKE ALL ON DATABASE :"db" FROM "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";
GRANT CONNECT ON DATABASE :"db" TO "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表";
ALTER DATABASE :"db" CONNECTION LIMIT 5;
COMMENT ON DATABASE :"db" IS  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'';
'
}

restore() {
  prepare
  load_data
  finish
}

# grouped runs a step in a process group of its own, and waits in a way that a
# signal ends: bash heeds none while it waits for a pipeline. What the step says
# may hold names, and so goes through clean.
grouped() {
  set -m
  { "$@" 2>&1 | clean >&2; } &
  job=$!
  set +m
  wait "$job"
  job=''
}

# waited runs one program, which may ask its question on the terminal, and waits
# as grouped does.
waited() {
  local code=0
  "$@" &
  job=$!
  wait "$job" || code=$?
  job=''
  return "$code"
}

# end_job ends the step that runs, and waits until all of its processes are gone.
end_job() {
  local left=20
  if [[ -z $job ]]; then return; fi
  kill -TERM -- "-$job" || kill -TERM "$job"
  kill -CONT -- "-$job"
  wait "$job"
  while ((left-- > 0)) && kill -0 -- "-$job"; do sleep 0.1; done
  kill -KILL -- "-$job"
}

clean_up() {
  local code=$? made=false
  trap '' INT TERM HUP
  set +e
  end_job 2>/dev/null
  if [[ -e $work/made ]]; then made=true; fi
  rm -rf -- "$work"
  if ((code != 0 && code != 15)) && $made; then say "database $target is not complete: drop it"; fi
}

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
server='' maintenance=postgres target='' globals=false check=true superuser=false
trust=false restricts=false keep_going=false job=''
options="${PGOPTIONS:-} -c search_path="
identity=''
while (($# > 0)); do
  case $1 in
    --identity) identity=${2:?--identity needs a file} && shift 2 ;;
    --server) server=${2:?--server needs a connection string} && shift 2 ;;
    --maintenance) maintenance=${2:?--maintenance needs a name} && shift 2 ;;
    --globals) globals=true && shift ;;
    --no-check) check=false && shift ;;
    --keep-going) keep_going=true && shift ;;
    --trust-dump) trust=true && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    -*) usage >&2 && exit 2 ;;
    *) break ;;
  esac
done
if (($# != 1)) || [[ -z $1 ]]; then usage >&2 && exit 2; fi
target=$1
if [[ $server == *://* ]]; then die '--server takes "host=… port=… user=…", and no URL'; fi
work=$(mktemp -d "${TMPDIR:-/tmp}/recover.XXXXXX")
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
readonly key=$work/key

check_tools
if $check; then grouped check_files; fi
open_key
say "restoring backup $backup of $recorded_name into $target"
grouped restore
if [[ -e $work/incomplete ]]; then
  say "done, but database $target is not complete: the server refused what stands above after REFUSED"
  exit 15
fi
say 'done'
