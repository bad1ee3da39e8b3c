#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run-tests.sh - runs test programs, short when green, and counts.
#
#     run-tests.sh check PART PROGRAM...   programs written with check
#     run-tests.sh pytest PART ARGUMENT... pytest, by $PYTHON
#     run-tests.sh sum PART...             the total of parts that were run
#
# PART is "unit", "io", "integ". Each leaves "passed failed skipped" in the
# file PART of the directory $RESULTS (build/results); sum adds them up, and
# fails if one failed, was not run or ran no test at all. Nothing is counted
# that did not report itself: a program that dies is one failure.

set -euo pipefail

results=${RESULTS:-$(cd "$(dirname "$0")/.." && pwd)/build/results}
mkdir -p "$results"

# report PART PASSED FAILED SKIPPED
report()
{
	echo "$2 $3 $4" >"$results/$1"
	local skipped=
	[[ $4 -eq 0 ]] || skipped=", $4 skipped"
	echo "$1: $2 passed, $3 failed$skipped"
	[[ $3 -eq 0 ]]
}

run_check()
{
	local part=$1 prog log passed=0 failed=0
	shift
	if [[ $# -eq 0 ]]; then
		echo "$part: there is no such test program"
		echo "0 0 0" >"$results/$part"
		return 1
	fi
	log=$(mktemp) # not in $results: others may run tests in the same tree
	for prog in "$@"; do
		local rc=0 checks=0 bad=0 line
		"$prog" >"$log" 2>&1 </dev/null || rc=$?
		while read -r line; do
			[[ $line =~ Checks:\ ([0-9]+),\ Failures:\ ([0-9]+),\ Errors:\ ([0-9]+) ]]
			checks=$((checks + BASH_REMATCH[1]))
			bad=$((bad + BASH_REMATCH[2] + BASH_REMATCH[3]))
		done < <(grep -aE '^[0-9]+%: Checks: ' "$log")
		passed=$((passed + checks - bad))
		if [[ $rc -eq 0 && $bad -eq 0 && $checks -gt 0 ]]; then
			printf '  %-24s %d\n' "${prog##*/}" "$checks"
			continue
		fi
		printf '  %-24s FAILED\n' "${prog##*/}"
		sed 's/^/    /' "$log"
		if [[ $checks -eq 0 ]]; then
			echo "    $prog: no test was run (exit status $rc)"
		elif [[ $bad -eq 0 ]]; then
			echo "    $prog: exit status $rc after its last test"
		fi
		failed=$((failed + (bad > 0 ? bad : 1)))
	done
	rm -f "$log"
	report "$part" "$passed" "$failed" 0
}

# attribute FILE NAME: of the <testsuite> element
attribute()
{
	grep -o '<testsuite [^>]*' "$1" | grep -o " $2=\"[0-9]*\"" | head -n 1 |
		tr -dc '0-9'
}

run_pytest()
{
	local part=$1 xml=$results/$1.xml rc=0 tests bad skipped
	shift
	rm -f "$xml"
	"${PYTHON:-/usr/bin/python3}" -m pytest -q -p no:cacheprovider \
		--junitxml="$xml" "$@" </dev/null || rc=$?
	if [[ ! -s $xml ]]; then
		report "$part" 0 1 0
		return
	fi
	tests=$(attribute "$xml" tests)
	bad=$(($(attribute "$xml" failures) + $(attribute "$xml" errors)))
	skipped=$(attribute "$xml" skipped)
	# 5: no test was collected. Whatever else went wrong is a failure too.
	[[ $rc -eq 0 || $bad -gt 0 ]] || bad=1
	report "$part" $((tests > bad + skipped ? tests - bad - skipped : 0)) \
		"$bad" "$skipped"
}

sum_parts()
{
	local part p f s passed=0 failed=0 skipped=0
	for part in "$@"; do
		if ! read -r p f s 2>/dev/null <"$results/$part"; then
			echo "$part: was not run"
			p=0 f=1 s=0
		elif [[ $((p + f)) -eq 0 ]]; then
			echo "$part: has no tests"
			f=1
		fi
		passed=$((passed + p))
		failed=$((failed + f))
		skipped=$((skipped + s))
	done
	[[ $skipped -eq 0 ]] || echo "$skipped skipped"
	echo "$passed passed, $failed failed"
	[[ $failed -eq 0 ]]
}

cmd=${1:-}
[[ $# -ge 2 ]] || {
	echo "usage: run-tests.sh check|pytest|sum PART..." >&2
	exit 2
}
shift
case $cmd in
	check) run_check "$@" ;;
	pytest) run_pytest "$@" ;;
	sum) sum_parts "$@" ;;
	*) echo "run-tests.sh: no such command: $cmd" >&2 && exit 2 ;;
esac
