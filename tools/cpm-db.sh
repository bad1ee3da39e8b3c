#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# cpm-db.sh create|sample|drop [DB_URL] - the tables of cpm_pf.
#
#   create   makes the tables that are missing, and their rows in Kamailio's
#            table version; what is there stays as it is
#   sample   puts in a few users of example.org
#   drop     removes the tables and all that is in them
#
# DB_URL is what the module's parameter db_url takes, and is understood as
# Kamailio does:
#
#   mysql://user:password@host[:port]/database      needs mysql or mariadb
#   postgres://user:password@host[:port]/database   needs psql
#   sqlite:////absolute/path  sqlite:///relative/path   needs sqlite3
#
# A command line can be seen by everybody on the machine. To keep the password
# off it, say the whole URL in the variable CPM_DB_URL, or a URL without
# password, and the password in CPM_DB_PASSWORD. What this script starts gets
# it in the environment or in a file that only its owner can read.
#
# The database itself must exist (but for SQLite). With no host or localhost,
# the clients use their own default, usually a socket; MYSQL_UNIX_PORT and
# PGHOST say where it is.
#
# CPM_SQL_DIR says where the .sql files are; by default beside this script's
# directory, else where "make install" puts them.

set -euo pipefail

die()
{
	printf 'cpm-db: %s\n' "$*" >&2
	exit 1
}

usage()
{
	sed -n '5,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

needs()
{
	local program
	for program in "$@"; do
		if command -v "$program"; then
			return
		fi
	done
	die "no program $1; on Debian it is in the package $2"
}

# Sets driver, user, password, host, port and database. As Kamailio reads it:
# nothing is percent-encoded, the last '@' ends the password.
parse_url()
{
	local url=$1 rest authority userinfo=''
	user='' password=${CPM_DB_PASSWORD:-} host='' port=''
	[[ $url == *://* ]] || die "\"${url%%:*}...\" is no URL; it takes" \
		"mysql://, postgres:// or sqlite:// and what follows"
	driver=${url%%://*}
	rest=${url#*://}
	[[ $rest == */* ]] || die "the URL names no database: it ends without" \
		"/<database>"
	authority=${rest%%/*}
	database=${rest#*/}
	database=${database%%\?*}
	if [[ $authority == *@* ]]; then
		userinfo=${authority%@*}
		user=${userinfo%%:*}
		[[ $userinfo != *:* ]] || password=${userinfo#*:}
	fi
	host=${authority##*@}
	if [[ $host == \[*\]* ]]; then
		port=${host##*\]}
		port=${port#:}
		host=${host#\[}
		host=${host%%\]*}
	elif [[ $host == *:* ]]; then
		port=${host##*:}
		host=${host%:*}
	fi
	[[ -z $port || $port =~ ^[0-9]+$ ]] ||
		die "the URL has a port that is no number"
	[[ -n $database ]] || die "the URL names no database: nothing follows" \
		"the last /"
}

# An option file's value: in quotes, with escapes.
quoted()
{
	local value=$1
	value=${value//\\/\\\\}
	printf '"%s"' "${value//\"/\\\"}"
}

# sql: runs what comes on standard input, all of it or up to the first error.
sql_sqlite()
{
	"$client" -bail -batch -init /dev/null -cmd '.timeout 5000' "$database"
}

sql_mysql()
{
	"$client" --defaults-extra-file="$secret" --batch --skip-column-names \
		${host:+"--host=$host"} ${port:+"--port=$port"} \
		${user:+"--user=$user"} --default-character-set=utf8mb4 -- "$database"
}

# The password in PGPASSWORD; -w: no question if it is wrong or missing.
sql_postgres()
{
	"$client" -X -q -w -A -t -v ON_ERROR_STOP=1 --single-transaction \
		${host:+"--host=$host"} ${port:+"--port=$port"} \
		${user:+"--username=$user"} "--dbname=$database" -f -
}

sql()
{
	"sql_$driver" || die "$action: failed" \
		"(${driver} database $database; the line above says why)"
}

prepare()
{
	case $driver in
		sqlite)
			client=$(needs sqlite3 sqlite3)
			[[ $action == create || -f $database ]] ||
				die "$action: there is no file $database"
			[[ -d $(dirname "$database") ]] ||
				die "there is no directory $(dirname "$database")"
			;;
		mysql)
			client=$(needs mysql mariadb mariadb-client)
			secret=$(mktemp)
			trap 'rm -f "$secret"' EXIT
			if [[ -n $password ]]; then
				printf '[client]\npassword=%s\n' "$(quoted "$password")" >"$secret"
			fi
			;;
		postgres)
			client=$(needs psql postgresql-client)
			[[ -z $password ]] || export PGPASSWORD=$password
			export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
			;;
		*) die "no such kind of database: $driver://; there are mysql://," \
			"postgres:// and sqlite://" ;;
	esac
}

# Prints 1 if there is such a table.
table_is_there()
{
	case $driver in
		sqlite) echo "SELECT 1 FROM sqlite_master WHERE name = '$1';" ;;
		mysql) echo "SELECT 1 FROM information_schema.tables
			WHERE table_schema = DATABASE() AND table_name = '$1';" ;;
		postgres) echo "SELECT 1 WHERE to_regclass('$1') IS NOT NULL;" ;;
	esac | sql
}

sql_dir()
{
	local dir
	for dir in "${CPM_SQL_DIR:-}" "$(dirname "$0")/../sql" \
		/usr/share/kamailio/cpm_pf/sql /usr/local/share/kamailio/cpm_pf/sql; do
		if [[ -n $dir && -f $dir/cpm_pf-sample.sql ]]; then
			echo "$dir"
			return
		fi
	done
	die "where are the files cpm_pf-*.sql? say CPM_SQL_DIR=<directory>"
}

[[ $# -ge 1 && $# -le 2 ]] || usage
action=$1
url=${2:-${CPM_DB_URL:-}}
[[ $action == create || $action == sample || $action == drop ]] || usage
[[ -n $url ]] || die "no URL: give one, or say CPM_DB_URL"
parse_url "$url"
prepare

case $action in
	create)
		sql <"$(sql_dir)/cpm_pf-create.$driver.sql" >/dev/null
		;;
	sample)
		there=$(table_is_there cpm_policy)
		[[ $there == 1 ]] ||
			die "sample: there are no tables yet; create makes them"
		sql <"$(sql_dir)/cpm_pf-sample.sql" >/dev/null
		;;
	drop)
		there=$(table_is_there version)
		{
			echo "DROP TABLE IF EXISTS cpm_user;"
			echo "DROP TABLE IF EXISTS cpm_rule;"
			echo "DROP TABLE IF EXISTS cpm_policy;"
			[[ $there != 1 ]] || echo "DELETE FROM version WHERE table_name
				IN ('cpm_user', 'cpm_rule', 'cpm_policy');"
		} | sql >/dev/null
		;;
esac
