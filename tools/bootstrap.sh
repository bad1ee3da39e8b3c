#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bootstrap.sh SET... - installs the Debian packages that a make target needs
# and that are missing. Says nothing and asks for no rights when all are there.
#
# As root it calls apt-get, otherwise sudo if that asks for no password; with
# neither it names the packages and the command, and fails.
#
# Services: some packages (kamailio, redis-server) come with one, which Debian
# starts at once and at every boot, on the ports that belong to it. Building
# and testing need the programs only, so a service that this script brings is
# neither started nor enabled. While apt-get runs, a policy-rc.d says so,
# unless the system has one of its own: that one is never touched.

set -euo pipefail

# What each set needs. "+x" takes in set x.
declare -rA sets=(
	[unit]="gcc libc6-dev binutils make pkg-config check"
	[libs]="gcc libc6-dev binutils make pkg-config libhiredis-dev libxml2-dev
		libcurl4-openssl-dev
		libmicrohttpd-dev libjansson-dev libevent-dev libssl-dev"
	[build]="+libs dpkg-dev kamailio"
	[io]="+unit +libs redis-server libxml2-utils"
	[run]="+build redis-server sqlite3 kamailio-sqlite-modules python3"
	[test]="+run +io +lint python3-pytest python3-lxml python3-jsonschema sip-tester openssl tshark
		baresip-core linphone-cli mariadb-server postgresql kamailio-mysql-modules
		kamailio-postgres-modules kamailio-presence-modules dovecot-imapd
		kamailio-lua-modules kamailio-python3-modules prometheus
		chromium chromium-driver python3-selenium"
	[lint]="gcc libc6-dev make binutils git clang-format cppcheck shellcheck
		lua5.1 python3-pyflakes"
	[fuzz]="+libs clang libclang-rt-dev"
	[cov]="+io gcovr"
	[bench]="+run python3-pytest mariadb-server kamailio-mysql-modules"
)

readonly policy=/usr/sbin/policy-rc.d
readonly mark="# made by tools/bootstrap.sh for one run of apt-get"

die()
{
	printf 'bootstrap: %s\n' "$*" >&2
	exit 1
}

# The packages of the sets named, one a line, without doubles.
expand()
{
	local set word
	for set in "$@"; do
		for word in ${sets[$set]}; do
			case $word in
				+*) expand "${word#+}" ;;
				*) echo "$word" ;;
			esac
		done
	done | sort -u
}

# Those of the packages named that are not installed.
missing()
{
	local have
	# shellcheck disable=SC2016 # the fields are dpkg-query's, not the shell's
	have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" \
		2>/dev/null | sed -n 's/^installed //p' | sort -u) || true
	comm -23 <(printf '%s\n' "$@") <(printf '%s\n' "$have")
}

# The system services among the unit files of the packages named.
services()
{
	dpkg -L "$@" 2>/dev/null |
		sed -n 's,.*/systemd/system/\([^/@]*\.service\)$,\1,p' | sort -u
}

hold_services()
{
	if [[ -e $policy ]] && ! grep -qxF "$mark" "$policy"; then
		return
	fi
	trap '"${root[@]}" rm -f "$policy"' EXIT
	trap 'exit 1' INT TERM HUP
	printf '#!/bin/sh\n%s\nexit 101\n' "$mark" |
		"${root[@]}" tee "$policy" >/dev/null
	"${root[@]}" chmod 755 "$policy"
}

for set in "$@"; do
	[[ -n ${sets[$set]:-} ]] || die "no such set: $set (there are: ${!sets[*]})"
done
mapfile -t want < <(expand "${@:-run}")

if ! command -v dpkg-query >/dev/null; then
	echo "bootstrap: not a Debian system; what it needs is named there:" \
		"${want[*]}" >&2
	exit 0
fi

mapfile -t need < <(missing "${want[@]}")
[[ ${#need[@]} -gt 0 ]] || exit 0

if [[ $(id -u) -eq 0 ]]; then
	root=(env)
elif sudo -n true 2>/dev/null; then
	root=(sudo -n env)
else
	die "missing packages: ${need[*]}
as root:  apt-get update && apt-get install --no-install-recommends ${need[*]}"
fi

echo "bootstrap: installing ${need[*]}"
log=$(mktemp)
hold_services
apt=("${root[@]}" DEBIAN_FRONTEND=noninteractive
	apt-get -y -qq -o DPkg::Lock::Timeout=300)
if ! {
	"${apt[@]}" update &&
		"${apt[@]}" install --no-install-recommends "${need[@]}"
} </dev/null >"$log" 2>&1; then
	tail -n 30 "$log" >&2
	die "apt-get failed; its output is in $log"
fi
rm -f "$log"

# Not started now, and not at the next boot either.
mapfile -t units < <(services "${need[@]}")
if [[ ${#units[@]} -gt 0 ]]; then
	if command -v systemctl >/dev/null; then
		"${root[@]}" systemctl -q disable "${units[@]}" 2>/dev/null || :
	else
		for unit in "${units[@]}"; do
			"${root[@]}" update-rc.d "${unit%.service}" disable 2>/dev/null || :
		done
	fi
	echo "bootstrap: not enabled, not started: ${units[*]}"
fi
