#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh [PART...] - benchmarks; all parts, or those that are named.
#
#   decide   what cpm_route_recipient() costs, with 100,000 users in SQLite
#   queue    how many messages a second can be queued, side by side with other
#            ways to answer, and with a million queued
#   push     how fast queued messages reach clients that register, in sessions
#            and otherwise
#   register how much the module slows REGISTER down
#   memory   what a queued message needs in Redis beyond its own bytes
#
# Prints tables; nothing here passes or fails by a number. What was measured
# once, on which machine, stands in doc/benchmarks.md, and is written by hand.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
readonly here
readonly parts=(admin decide queue push register memory)
readonly module=${CPM_MODULE:-$here/../../modules/cpm_pf/cpm_pf.so}

die()
{
	printf 'bench: %s\n' "$*" >&2
	exit 1
}

# As the compiler wrote it into the debug information.
optimisation()
{
	local found
	found=$(readelf --debug-dump=info "$module" 2>/dev/null |
		grep -o 'DW_AT_producer.*' | grep -oE -- '-O[0-9a-z]+' | sort -u |
		tr -d '\n')
	echo "${found:-no optimisation}"
}

conditions()
{
	local model
	model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
	printf 'date      %s\n' "$(date -u +%Y-%m-%d)"
	printf 'machine   %s x %s, Linux %s\n' "$(nproc)" \
		"${model:-$(uname -m)}" "$(uname -r)"
	printf 'load      %s (1 min before)\n' "$(cut -d ' ' -f 1 /proc/loadavg)"
	printf 'Kamailio  %s\n' "$(kamailio -v | head -n 1)"
	printf 'cpm_pf    %s, compiled with %s\n' \
		"$(git -C "$here" describe --always --dirty 2>/dev/null ||
			echo unknown)" "$(optimisation)"
}

PATH=$PATH:/usr/sbin
export PYTHONDONTWRITEBYTECODE=1

[[ $# -gt 0 ]] || set -- "${parts[@]}"
for part in "$@"; do
	[[ " ${parts[*]} " == *" $part "* ]] ||
		die "no such part: $part (there are: ${parts[*]})"
done

conditions
for part in "$@"; do
	printf '\n== %s\n' "$part"
	"${PYTHON:-/usr/bin/python3}" "$here/$part.py"
done
