#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fuzz.sh SECONDS PROGRAM... - runs each libFuzzer program for that long.
#
# build/fuzz/test/fuzz/fuzz_X starts from the inputs in test/fuzz/corpus/X and
# the words in test/fuzz/X.dict (fuzz_X in place of X will do). Inputs that
# reach new code go to build/fuzz/corpus/X, findings to build/fuzz/findings/:
# the tree itself stays as it is.

set -euo pipefail
cd "$(dirname "$0")/.."

[[ $# -ge 2 ]] || {
	echo "fuzz: no such target; there are:" >&2
	find test/fuzz -name 'fuzz_*.c' | sed 's,.*/fuzz_\(.*\)\.c,  T=\1,' | sort >&2
	exit 1
}
seconds=$1
shift

rc=0
for prog in "$@"; do
	name=${prog##*/fuzz_}
	grown=build/fuzz/corpus/$name
	found=build/fuzz/findings
	log=build/fuzz/$name.log
	args=("-max_total_time=$seconds" "-artifact_prefix=$found/$name-"
		-print_final_stats=1 "$grown")
	mkdir -p "$grown" "$found"
	for seeds in "test/fuzz/corpus/$name" "test/fuzz/corpus/fuzz_$name"; do
		[[ ! -d $seeds ]] || args+=("$seeds")
	done
	for dict in "test/fuzz/$name.dict" "test/fuzz/fuzz_$name.dict"; do
		[[ ! -f $dict ]] || args+=("-dict=$dict")
	done
	if "$prog" "${args[@]}" >"$log" 2>&1 </dev/null; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
		printf '  %-20s %s runs in %s s, nothing found\n' \
			"$name" "$runs" "$seconds"
	else
		rc=1
		grep -vE '^#[0-9]+[[:space:]]' "$log" | tail -n 60 >&2
		echo "fuzz: $name failed; the input is in $found/," \
			"all output in $log" >&2
	fi
done
exit $rc
