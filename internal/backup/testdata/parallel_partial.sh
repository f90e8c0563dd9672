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
readonly recorded_name='a'\''b"c $(touch pwned) `touch pwned` \ ${HOME} ; touch pwned\nHASHES\nSQL\nEOF\n'\''\'\'''\'' :"db" :'\''db'\'' \x0d\t& !! %s é 表'
readonly client_major=15

usage() {
  cat <<'USAGE'
usage: recover.sh [options] NEW_DATABASE

Restores the backup in this script's folder into a database that it creates.

  --server CONNINFO    "host=… port=… user=…"; PGHOST, PGUSER, PGPASSWORD,
                       ~/.pgpass and the like work, too; a password is never
                       asked for, and "options" in it is not heeded: use PGOPTIONS
  --maintenance NAME   database to connect to first (default: postgres)
  --globals            first create the roles and tablespaces of the server that
                       the backup is of; what is there already is reported
  --jobs N             sessions that build indexes (default: 2)
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
unseal() { zstd -dcq; }

check_tools() {
  need psql pg_restore zstd awk head od tail tr wc
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
  if [[ $(admin -At -c 'SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) session_user') == t ]]; then
    superuser=true
  fi
  if $globals; then may_restrict; fi
  if $globals; then
    say 'creating roles and tablespaces'
    unseal <"$here/"'globals.sql.zst' | restricted admin -v ON_ERROR_STOP=0 >/dev/null ||
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

restore_section() {
  local status=0
  if ! $keep_going; then
    pg_restore --no-password --exit-on-error --section="$1" -d "$(conninfo "$target")" "${@:2}"
    return
  fi
  (ulimit -f 65536 && pg_restore --no-password --section="$1" -d "$(conninfo "$target")" "${@:2}" 2>"$work/errors") || status=$?
  cat "$work/errors" >&2
  if ((status == 0)); then return; fi
  # One that came to its end says how much was refused.
  if [[ $(tail -n 1 "$work/errors") != 'pg_restore: warning: errors ignored on restore: '* ]]; then die 'pg_restore did not come to its end'; fi
  refused "in $1, as pg_restore says above"
}

# part [SKIP BYTES] passes the rows of one table on: all of the chunk, or of one
# that holds several tables BYTES, and takes in the rest, too.
part() {
  if (($# == 0)); then
    cat
  elif (($2 == 0)); then # some heads don't take 0
    cat >/dev/null
  else
    tail -c "+$(($1 + 1))" | { head -c "$2" && cat >/dev/null; }
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

# load PATH COPY PACK OFFSET LENGTH ROWS [SKIP BYTES] copies the rows of one table
# in a chunk, and fails if the server refuses them; a COPY that was refused leaves
# no row. What psql is given as -c and what it copies are two: rows can't be
# commands. What it answers is short, and what a trigger may have it say is not.
load() {
  local status=(0 0 0 0 0) first=()
  if [[ -n $1 ]]; then first=(-c "$1"); fi
  tail -c "+$(($4 + 1))" "$here/$3" 2>/dev/null | head -c "$5" | unseal | part "${@:7}" |
    (ulimit -f 2048 && sql ${first[@]+"${first[@]}"} -c "$2" >"$work/answer" 2>"$work/errors") || status=("${PIPESTATUS[@]}")
  if ((status[4] != 0)); then return 1; fi
  if ((status[2] != 0)); then die "$3 at $4 is damaged, or the key is wrong"; fi
  if [[ $(tail -n 1 "$work/answer") != "COPY $6" ]]; then die "$3 at $4 does not hold $6 rows"; fi
}

chunk() {
  if load '' "$copy" "$@"; then return; fi
  again_copy[again]=$copy
  again_path[again]=$path
  again_root[again]=$root
  again_chunk[again]="$*"
  again=$((again + 1))
}

# load_again loads what was refused once more, when all other rows are there, for
# as long as any goes in: checks may read other tables or need a search path, and a
# row may belong into another partition here.
load_again() {
  local i where left=$again before=-1
  while ((left > 0 && left != before)); do
    before=$left
    for ((i = 0; i < again; i++)); do
      if [[ -z ${again_chunk[i]} ]]; then continue; fi
      read -r -a where <<<"${again_chunk[i]}"
      if load "${again_path[i]}" "${again_copy[i]}" "${where[@]}" ||
        { [[ -n ${again_root[i]} ]] && load "${again_path[i]}" "${again_root[i]}" "${where[@]}"; }; then
        again_chunk[i]=''
        left=$((left - 1))
      fi
    done
  done
  for ((i = 0; i < again; i++)); do
    if [[ -z ${again_chunk[i]} ]]; then continue; fi
    if ! $keep_going; then
      cat "$work/errors" >&2
      die "the server refuses rows: ${again_copy[i]}"
    fi
    read -r -a where <<<"${again_chunk[i]}"
    refused "${where[3]} rows: ${again_copy[i]}"
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
  # No more than the manifest says: a few bytes can be made that fill a disk.
  unseal <"$here/"'schema.dump.zst' | head -c 1 >"$work/schema.dump" ||
    die 'the definitions are damaged, or the key is wrong'
  if (($(wc -c <"$work/schema.dump") != 0)); then die 'the definitions are not of the size that was recorded'; fi
  say 'restoring definitions'
  restore_section pre-data "$work/schema.dump"
  say 'loading rows'
  load_rows
  load_again
  say 'loading other data'
  restore_section data "$work/schema.dump"
  say 'building indexes and constraints'
  pg_restore --list --verbose "$work/schema.dump" | without_keys >"$work/list"
  # Triggers come last and one after the other: that of a partition may need another
  # that no entry names.
  awk -v others="$work/others" -v triggers="$work/triggers" '
    /^[0-9]+; [0-9]+ [0-9]+ ((EVENT )?TRIGGER |(COMMENT|SECURITY LABEL) .*TRIGGER )/ { print >triggers; next }
    { print >others }' "$work/list"
  restore_section post-data --jobs="$jobs" --use-list="$work/others" "$work/schema.dump"
  if [[ -s $work/triggers ]]; then
    restore_section post-data --use-list="$work/triggers" "$work/schema.dump"
  fi
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
jobs=2 copy='' path='' root='' again=0
while (($# > 0)); do
  case $1 in
    --server) server=${2:?--server needs a connection string} && shift 2 ;;
    --maintenance) maintenance=${2:?--maintenance needs a name} && shift 2 ;;
    --globals) globals=true && shift ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift 2 ;;
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

check_tools
if $check; then grouped check_files; fi
say "restoring backup $backup of $recorded_name into $target"
grouped restore
if [[ -e $work/incomplete ]]; then
  say "done, but database $target is not complete: the server refused what stands above after REFUSED"
  exit 15
fi
say 'done'
