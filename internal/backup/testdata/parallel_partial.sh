#!/usr/bin/env bash
#
# recover.sh restores this backup into a new database, without pgmedic: with
# bash, psql, pg_restore, zstd and the usual tools. See RECOVER.md.
#
# Names of the database stand in single quotes, whatever they hold:
# shellcheck disable=SC2016,SC1003
set -euo pipefail
umask 077
export LC_ALL=C PGCLIENTENCODING=UTF8 PGAPPNAME=recover.sh

readonly backup='20261122T020000Z-7f3a9c'
readonly recorded_name='a'\''b"c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :"db" :'\''db'\'' 	& !! %s é 表'
readonly client_major=15

usage() {
  cat <<'USAGE'
usage: recover.sh [options] NEW_DATABASE

Restores the backup in this script's folder into a database that it creates.

  --server CONNINFO    "host=… port=… user=…"; PGHOST, PGUSER, PGPASSWORD,
                       ~/.pgpass and the like work, too
  --maintenance NAME   database to connect to first (default: postgres)
  --globals            first create the roles and tablespaces of the server that
                       the backup is of; what is there already is reported
  --jobs N             sessions that build indexes (default: 2)
  --no-check           don't compare the files with their hashes first
USAGE
}

say() { printf 'recover: %s\n' "$*" >&2; }

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

# conninfo prints a connection string for a database.
conninfo() {
  local name=$1 quote="'"
  name=${name//\\/\\\\}
  name=${name//"$quote"/"\\$quote"}
  printf "%s dbname='%s'" "$server" "$name"
}

# admin runs psql in the maintenance database, sql in the new one.
admin() {
  psql -X -q -v ON_ERROR_STOP=1 -v VERBOSITY=terse -v "db=$target" -d "$(conninfo "$maintenance")" "$@"
}

sql() {
  psql -X -v ON_ERROR_STOP=1 -v VERBOSITY=terse -v SHOW_CONTEXT=never -d "$(conninfo "$target")" "$@"
}

# unseal makes of stored bytes what they were.
unseal() { zstd -dcq; }

check_tools() {
  need psql pg_restore zstd awk
  local major program programs=(psql pg_restore)
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
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  globals.sql.zst
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  schema.dump.zst
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  pack-0001
0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a  pack-0002
HASHES
}

# prepare looks for what the new database needs, and creates it.
prepare() {
  local missing version create
  if [[ $(admin -At -c 'SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user') == t ]]; then
    superuser=true
  fi
  if $globals; then
    say 'creating roles and tablespaces'
    unseal <"$here/"'globals.sql.zst' | admin -v ON_ERROR_STOP=0 -f - >/dev/null ||
      die 'the roles and tablespaces could not be read'
  fi
  missing=$(admin -At -f - <<<'SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n), '\'', '\'') FROM (SELECT DISTINCT n FROM unnest(ARRAY[ E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'',  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'']::text[]) AS n WHERE n NOT IN (SELECT rolname::text FROM pg_catalog.pg_roles) UNION SELECT n FROM unnest(ARRAY[ E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'']::text[]) AS n WHERE n <> '\'''\'' AND n NOT IN (SELECT spcname::text FROM pg_catalog.pg_tablespace)) AS m;')
  if [[ -n $missing ]]; then
    die "the server lacks roles or tablespaces; create them, or add --globals: $missing"
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
  admin -f - <<<"$create"
  made=true
  PGOPTIONS="${PGOPTIONS:-} -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
  PGOPTIONS+=' -c synchronous_commit=off -c client_min_messages=warning'
  # Event triggers must not fire while what they watch is being made.
  if $superuser; then PGOPTIONS+=' -c session_replication_role=replica'; fi
  export PGOPTIONS
}

restore_section() {
  pg_restore --exit-on-error --section="$1" -d "$(conninfo "$target")" "${@:2}"
}

# with_sql STATEMENTS [SKIP BYTES] puts statements before the rows of a COPY. Of a
# chunk that holds several tables it passes BYTES, and takes in the rest, too.
with_sql() {
  printf '%s;\n' "$1"
  if (($# == 1)); then
    cat
  elif (($3 == 0)); then # some heads don't take 0
    cat >/dev/null
  else
    tail -c "+$(($2 + 1))" | { head -c "$3" && cat >/dev/null; }
  fi
}

# table says where the chunks that follow go: the COPY into the table, the
# search path that its checks may need, and the COPY into the partitioned table
# at the top, if there is one.
table() {
  copy=$1
  path=$2
  root=$3
}

# load STATEMENTS PACK OFFSET LENGTH ROWS [SKIP BYTES] copies the rows of one table
# in a chunk, and fails if the server refuses them; a COPY that was refused leaves
# no row.
load() {
  local status=(0 0 0 0 0)
  tail -c "+$(($3 + 1))" "$here/$2" 2>/dev/null | head -c "$4" | unseal | with_sql "$1" "${@:6}" |
    sql -f - >"$work/answer" 2>"$work/errors" || status=("${PIPESTATUS[@]}")
  if ((status[4] != 0)); then return 1; fi
  if ((status[2] != 0)); then die "$2 at $3 is damaged, or the key is wrong"; fi
  if [[ $(tail -n 1 "$work/answer") != "COPY $5" ]]; then die "$2 at $3 does not hold $5 rows"; fi
}

chunk() {
  if load "$copy" "$@"; then return; fi
  again_copy[again]=$copy
  again_path[again]=$path
  again_root[again]=$root
  again_chunk[again]="$*"
  again=$((again + 1))
}

# load_again loads what was refused once more, when all other rows are there:
# checks may read other tables or need a search path, and a row may belong into
# another partition here.
load_again() {
  local i where
  for ((i = 0; i < again; i++)); do
    read -r -a where <<<"${again_chunk[i]}"
    if load "${again_path[i]}; ${again_copy[i]}" "${where[@]}"; then continue; fi
    if [[ -n ${again_root[i]} ]] && load "${again_path[i]}; ${again_root[i]}" "${where[@]}"; then continue; fi
    cat "$work/errors" >&2
    die "the server refuses rows: ${again_copy[i]}"
  done
}

# load_rows cuts each chunk out of its pack: age and zstd would stop after the
# first, or take two for one.
load_rows() {
  table 'COPY "public"."patients" ("id", "name") FROM STDIN WITH (FORMAT binary, ENCODING '\''UTF8'\'')' 'SET search_path = "public", public' ''
  chunk pack-0001 0 300 10
  chunk pack-0002 0 5000000000 1000000
  table 'COPY "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表"."a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表" ("a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表") FROM STDIN WITH (FORMAT text, ENCODING '\''UTF8'\'')' 'SET search_path = "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表", public' 'COPY "a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表"."root" ("a'\''b""c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\''\'\'''\'' :""db"" :'\''db'\'' 	& !! %s é 表") FROM STDIN WITH (FORMAT text, ENCODING '\''UTF8'\'')'
  chunk pack-0001 300 20 2 0 12
  table 'COPY "public"."no columns" FROM STDIN WITH (FORMAT text, ENCODING '\''UTF8'\'')' 'SET search_path = "public", public' ''
  chunk pack-0001 300 20 1 12 8
}

# without_keys takes out of a list of contents the foreign keys that refer to
# rows which this partial backup does not hold, and what hangs on them.
without_keys() {
  awk -v keys='16400 16401' '
    BEGIN { n = split(keys, oids, " "); for (i = 1; i <= n; i++) out[oids[i]] = 1 }
    /^[0-9]+; / { id = $1; sub(/;/, "", id); order[++count] = id; entry[id] = $0; gone[id] = $2 == 2606 && ($3 in out) }
    /^;.*depends on:/ { sub(/.*depends on:/, ""); for (i = 1; i <= NF; i++) if (gone[$i]) gone[id] = 1 }
    END { for (i = 1; i <= count; i++) if (!gone[order[i]]) print entry[order[i]] }'
}

load_data() {
  unseal <"$here/"'schema.dump.zst' >"$work/schema.dump"
  say 'restoring definitions'
  restore_section pre-data "$work/schema.dump"
  say 'loading rows'
  load_rows
  load_again
  say 'loading other data'
  restore_section data "$work/schema.dump"
  say 'building indexes and constraints'
  pg_restore --list --verbose "$work/schema.dump" | without_keys >"$work/list"
  restore_section post-data --jobs="$jobs" --use-list="$work/list" "$work/schema.dump"
}

# finish detaches subscriptions, which would reach for the publisher of the
# original, collects statistics, and sets what belongs to the database itself.
finish() {
  sql -q -f - <<'SQL'
SELECT pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', subname),
	pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', subname)
FROM pg_catalog.pg_subscription WHERE subdbid =
	(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
\gexec
SQL
  say 'collecting statistics'
  sql -q -f - <<'SQL'
WITH RECURSIVE above (oid) AS (
	SELECT i.inhparent FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
	WHERE c.relkind = 'f'
	UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = above.oid
)
SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	AND c.oid NOT IN (SELECT oid FROM above)
ORDER BY n.nspname, c.relname
\gexec
SQL
  say "setting the database's privileges, settings and comment"
  admin -v ON_ERROR_STOP=0 -f - <<<'REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
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
ALTER DATABASE :"db" SET "search_path" TO '\''$user'\'', '\''public'\'';
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
COMMENT ON DATABASE :"db" IS  E'\''a'\'''\''b"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned
HASHES
SQL
EOF
'\'''\''\\'\'''\'''\'''\'' :"db" :'\'''\''db'\'''\'' 	& !! %s é 表'\'';
'
}

clean_up() {
  local code=$?
  rm -rf -- "$work"
  if ((code != 0)) && $made; then say "database $target is not complete: drop it"; fi
}

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
server='' maintenance=postgres target='' globals=false check=true superuser=false made=false
jobs=2 copy='' path='' root='' again=0
while (($# > 0)); do
  case $1 in
    --server) server=${2:?--server needs a connection string} && shift 2 ;;
    --maintenance) maintenance=${2:?--maintenance needs a name} && shift 2 ;;
    --globals) globals=true && shift ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift 2 ;;
    --no-check) check=false && shift ;;
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
trap 'exit 130' INT
trap 'exit 143' TERM

check_tools
if $check; then check_files; fi
say "restoring backup $backup of $recorded_name into $target"
prepare
load_data
finish
say 'done'
