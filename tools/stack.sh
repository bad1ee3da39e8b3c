#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# stack.sh run|demo - a private Redis and a Kamailio with cpm_pf, and a
# demonstration: alice writes to bob, who is offline; the message is queued and
# shown; bob registers; it is delivered.
#
#   run    plays it and stays up until Ctrl-C
#   demo   plays it and stops; exit status 0 only if bob received the message
#          byte for byte
#
# From the environment: SIP_PORT MSRP_PORT ADMIN_PORT REDIS_PORT (all on 127.0.0.1) and
# RUN_DIR, outside of which nothing is written. Two stacks run side by side
# with ports and RUN_DIRs of their own. Redis keeps its data in RUN_DIR from
# one start to the next.

set -euo pipefail

SIP_PORT=${SIP_PORT:-5060}
ADMIN_PORT=${ADMIN_PORT:-8060}
MSRP_PORT=${MSRP_PORT:-2855}
REDIS_PORT=${REDIS_PORT:-6390}
RUN_DIR=${RUN_DIR:-run}
PYTHON=${PYTHON:-/usr/bin/python3}
PATH=$PATH:/usr/sbin
export PYTHONDONTWRITEBYTECODE=1

top=$(cd "$(dirname "$0")/.." && pwd)
readonly top
readonly module=$top/modules/cpm_pf/cpm_pf.so
readonly admin=http://127.0.0.1:$ADMIN_PORT
readonly patience=15 # seconds that a thing may take to start or to stop

pids=()  # of what we started, newest last
names=() # of the same

say()
{
	printf '%s\n' "$*"
}

step()
{
	printf '\n== %s\n' "$*"
}

die()
{
	printf 'stack: %s\n' "$*" >&2
	exit 1
}

# Waits until a command succeeds. Fails after the deadline, or at once if what
# was started last has ended.
wait_until()
{
	local what=$1 end=$((SECONDS + patience))
	shift
	until "$@" >/dev/null 2>&1; do
		if [[ ${#pids[@]} -gt 0 ]] && ! kill -0 "${pids[-1]}" 2>/dev/null; then
			tail -n 15 "$run/${names[-1]}.log" >&2 || :
			die "${names[-1]} has ended; its log is $run/${names[-1]}.log"
		fi
		if [[ $SECONDS -ge $end ]]; then
			[[ ${#pids[@]} -eq 0 ]] || tail -n 15 "$run/${names[-1]}.log" >&2
			die "$what: not within $patience s; the logs are in $run"
		fi
		sleep 0.05
	done
}

# Starts a program in the background, in a process group of its own, so that
# Ctrl-C in the terminal reaches this script only and the script stops it.
start()
{
	local name=$1
	shift
	setsid "$@" >"$run/$name.log" 2>&1 9>&- </dev/null &
	pids+=($!)
	names+=("$name")
}

ended()
{
	! kill -0 -- "-$1" 2>/dev/null
}

# Newest first; TERM, and KILL for the group of what does not go.
stop_all()
{
	local i end
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill -TERM "${pids[i]}" 2>/dev/null || :
		end=$((SECONDS + patience))
		until ended "${pids[i]}" || [[ $SECONDS -ge $end ]]; do
			sleep 0.05
		done
		if ! ended "${pids[i]}"; then
			say "stack: ${names[i]} does not stop; killed"
			kill -KILL -- "-${pids[i]}" 2>/dev/null || :
		fi
		wait "${pids[i]}" 2>/dev/null || :
	done
	pids=()
	names=()
}

finish()
{
	local status=$?
	trap '' INT TERM HUP
	trap - EXIT
	stop_all
	exit "$status"
}

# Fails with the name of the variable to change if a port is taken.
check_ports()
{
	"$PYTHON" - "SIP_PORT=$SIP_PORT" "MSRP_PORT=$MSRP_PORT" "ADMIN_PORT=$ADMIN_PORT" \
		"REDIS_PORT=$REDIS_PORT" <<-'END' || exit 1
		import socket
		import sys

		taken = []
		for arg in sys.argv[1:]:
		    name, _, port = arg.partition("=")
		    if not port.isdigit() or not 0 < int(port) < 65536:
		        sys.exit("stack: %s is no port number: %r" % (name, port))
		    kinds = [(socket.SOCK_STREAM, "TCP")]
		    if name == "SIP_PORT":
		        kinds.append((socket.SOCK_DGRAM, "UDP"))
		    for kind, proto in kinds:
		        with socket.socket(socket.AF_INET, kind) as s:
		            if kind == socket.SOCK_STREAM:
		                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		            try:
		                s.bind(("127.0.0.1", int(port)))
		            except OSError as e:
		                taken.append("%s %s: %s (another %s=... helps)"
		                             % (proto, port, e.strerror, name))
		if taken:
		    sys.exit("stack: " + "\nstack: ".join(taken))
	END
}

# GET of a path of the admin endpoint: status on the first line, then the body,
# JSON set out to be read.
http_get()
{
	"$PYTHON" - "$admin$1" <<-'END'
		import json
		import sys
		import urllib.error
		import urllib.request

		try:
		    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
		except urllib.error.HTTPError as e:
		    answer = e
		except OSError as e:
		    sys.exit("stack: %s: %s" % (sys.argv[1], e))
		print(answer.status)
		body = answer.read().decode()
		if "json" in answer.headers.get("Content-Type", ""):
		    body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
		print(body)
	END
}

http_is()
{
	[[ $(http_get "$2" | head -n 1) == "$1" ]]
}

sip_is_up()
{
	"$PYTHON" - "$top/tools" "$SIP_PORT" <<-'END'
		import sys

		sys.path.insert(0, sys.argv[1])
		import sipua

		with sipua.UA("stack", proxy=("127.0.0.1", int(sys.argv[2]))) as ua:
		    ua.request("OPTIONS", "sip:127.0.0.1:%s" % sys.argv[2], timeout=1)
	END
}

start_redis()
{
	# A Redis that stands behind users should say "appendfsync always": then
	# a 202 is a promise that a power cut does not break. "everysec" risks the
	# last second in a power cut, and nothing in a crash of any program.
	cat >"$run/redis.conf" <<-END
		bind 127.0.0.1
		port $REDIS_PORT
		dir "$run"
		daemonize no
		appendonly yes
		appendfsync everysec
		save ""
		maxmemory-policy noeviction
		loglevel notice
	END
	start redis redis-server "$run/redis.conf"
	wait_until "Redis on port $REDIS_PORT" \
		redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping
}

# Sample users (sql/cpm_pf-sample.sql): alice and bob have the defaults. Who is
# not among them does not exist.
prepare_database()
{
	local url=sqlite:///$run/cpm_pf.sqlite
	if ! { "$top/tools/cpm-db.sh" create "$url" &&
		"$top/tools/cpm-db.sh" sample "$url"; } >"$run/db.log"; then
		die "the database could not be made; the log is $run/db.log"
	fi
}

# The sockets' names are relative, as a socket's path has room for 107 bytes:
# Kamailio is started in RUN_DIR.
start_kamailio()
{
	rm -f "$run/ctl.sock" "$run/rpc.fifo" "$run/kamailio.pid"
	start kamailio env -C "$run" kamailio \
		-f "$top/cfg/kamailio-cpm.cfg" -DD -E -w "$run" -Y "$run" \
		-P "$run/kamailio.pid" -m 64 -M 8 \
		-A "SIP_PORT=$SIP_PORT" \
		-A "CPM_MODULE=\"$module\"" \
		-A "REDIS=\"name=queue;addr=127.0.0.1;port=$REDIS_PORT\"" \
		-A "ADMIN=\"127.0.0.1:$ADMIN_PORT\"" \
		-A "MSRP=\"127.0.0.1:$MSRP_PORT\"" \
		-A "DB_URL=\"sqlite:///$run/cpm_pf.sqlite\"" \
		-A 'CTL_SOCKET="unix:ctl.sock"' -A 'RPC_FIFO="rpc.fifo"'
	wait_until "the queue, $admin/readyz" http_is 200 /readyz
	wait_until "SIP on port $SIP_PORT" sip_is_up
}

sipua()
{
	"$PYTHON" "$top/tools/sipua.py" "$@" --proxy "127.0.0.1:$SIP_PORT"
}

# A CPIM message with CRLFs, NULs and characters outside ASCII: nothing of
# that may change on its way through the queue.
make_message()
{
	printf '%s\r\n' \
		'From: Alice <sip:alice@example.org>' \
		'To: Bob <sip:bob@example.org>' \
		"DateTime: $(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		'NS: imdn <urn:ietf:params:imdn>' \
		"imdn.Message-ID: $1" \
		'imdn.Disposition-Notification: positive-delivery' \
		'' \
		'Content-Type: text/plain; charset=UTF-8' \
		''
	printf 'Grüße, Bob! Tea at 四時?\r\n\r\nThree NULs: \0\0\0\r\nAlice ☕\n'
}

play()
{
	local id status got queue=/v1/queues/sip%3Abob%40example.org
	id=demo-$(date -u +%Y%m%dT%H%M%S)-$$
	make_message "$id" >"$run/sent.body"
	rm -f "$run"/[0-9]*.body "$run"/[0-9]*.sip

	step "alice writes to bob, who is not registered"
	say "a CPIM message of $(wc -c <"$run/sent.body") bytes with CRLFs, NULs" \
		"and UTF-8; its id is $id"
	status=$(sipua send alice bob --file "$run/sent.body" \
		--type 'message/cpim; charset=UTF-8' \
		--header 'Subject: Tea?' --header 'Expires: 3600' \
		--header "Conversation-ID: $id-conversation" \
		--header "Contribution-ID: $id-contribution") ||
		die "the answer was: $status"
	say "SIP answer: $status"
	[[ $status == "202 "* ]] || die "202 was expected"

	step "the message is in bob's queue: GET $admin$queue/messages"
	http_get "$queue/messages" >"$run/queue.json" ||
		die "the admin endpoint does not answer"
	tail -n +2 "$run/queue.json"
	grep -qF "\"$id\"" "$run/queue.json" || die "$id is not in the queue"

	step "bob registers"
	got=$(jq_count "$run/queue.json")
	sipua receive bob --count "$got" --save "$run" --timeout 20 ||
		die "bob did not receive what was queued"
	if cmp "$run/sent.body" "$run/$got.body"; then
		say "byte for byte what alice sent ($run/$got.body)"
	else
		die "what bob received differs from what alice sent"
	fi

	step "the queue is empty: GET $admin$queue"
	wait_until "an empty queue" http_is 404 "$queue"
	say "404, no queue"
}

# How many messages a listing holds: those of an earlier run come first.
jq_count()
{
	tail -n +2 "$1" |
		"$PYTHON" -c 'import json, sys; print(len(json.load(sys.stdin)["items"]))'
}

hints()
{
	cat <<-END

		== running; Ctrl-C stops everything
		SIP      127.0.0.1:$SIP_PORT, UDP and TCP; no password; users @example.org:
		         alice bob carol dave erin frank (sql/cpm_pf-sample.sql says
		         what each prefers)
		MSRP     127.0.0.1:$MSRP_PORT, for clients that take sessions
		HTTP     $admin/v1/queues  /readyz  /metrics
		Redis    127.0.0.1:$REDIS_PORT
		SQL      sqlite3 $run/cpm_pf.sqlite
		logs     $run/kamailio.log  $run/redis.log

		try      tools/sipua.py send alice carol --text 'hello' --proxy 127.0.0.1:$SIP_PORT
		         curl -s $admin/v1/queues
		         tools/sipua.py receive carol --proxy 127.0.0.1:$SIP_PORT
		         (cd $run && kamcmd -s unix:ctl.sock ul.dump)
	END
}

# ---- main --------------------------------------------------------------------

mode=${1:-}
[[ $mode == run || $mode == demo ]] || die "usage: stack.sh run|demo"
[[ -e $module ]] || die "$module is missing; make module builds it"
for tool in kamailio redis-server redis-cli setsid flock "$PYTHON"; do
	command -v "$tool" >/dev/null ||
		die "$tool is missing; tools/bootstrap.sh run installs it"
done

mkdir -p "$RUN_DIR"
run=$(cd "$RUN_DIR" && pwd)
exec 9>"$run/lock"
flock -n 9 || die "another stack uses $run (another RUN_DIR=... helps)"
check_ports

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step "starting a private Redis, a SQLite database and Kamailio"
start_redis
prepare_database
start_kamailio
say "up: SIP 127.0.0.1:$SIP_PORT, HTTP 127.0.0.1:$ADMIN_PORT," \
	"Redis 127.0.0.1:$REDIS_PORT, files in $run"

play

if [[ $mode == run ]]; then
	hints
	trap 'exit 0' INT TERM HUP # as it should end
	# Whatever ends first ends all: a stack without Kamailio or Redis is none.
	wait -n "${pids[@]}" || :
	die "a program ended by itself; the logs are in $run"
fi
step "done"
