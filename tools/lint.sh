#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lint.sh - the rules of this project that a machine can keep.
#
# Each function below is one rule. What breaks it is printed as "file:line:
# sentence"; all rules are tried before it fails. Files: those that git tracks
# and new ones that it would not ignore.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly mod=modules/cpm_pf
readonly out=build/lint
failed=0

# say FILE:LINE TEXT
say()
{
	printf '%s: %s\n' "$1" "$2"
	failed=1
}

# files PATTERN...: of the project, existing, without what others made.
files()
{
	git ls-files -co --exclude-standard -- "$@" 2>/dev/null | sort -u |
		while read -r f; do [[ ! -f $f ]] || echo "$f"; done
}

# found SENTENCE: each "file:line:text" of stdin broke a rule.
found()
{
	local line
	while IFS= read -r line; do
		say "$(cut -d: -f1,2 <<<"$line")" \
			"$1: $(cut -d: -f3- <<<"$line" | sed 's/^[ \t]*//')"
	done
}

# Ring 0 gets bytes and facts and gives bytes and verdicts: no memory, clock,
# errno, locale's time, file or log. Its objects tell the truth.
rule_pure()
{
	local f o sym where
	for f in $(files "$mod/core/*.c"); do
		o=$out/$(basename "$f" .c).o
		if ! gcc -std=c11 -g -O1 -U_FORTIFY_SOURCE -fno-stack-protector \
			-I"$mod/core" -c "$f" -o "$o" 2>"$o.log"; then
			say "$f:1" "does not compile: $(grep -m 1 error "$o.log")"
			continue
		fi
		while read -r _ sym where; do
			case $sym in
				strdup | strndup | strerror* | strtok* | strcoll* | \
					strxfrm* | strftime* | strsignal | memalign) ;;
				mem* | str* | snprintf | cpm_* | _GLOBAL_OFFSET_TABLE_)
					continue
					;;
			esac
			where=${where#"$PWD"/}
			[[ $where == *:[0-9]* ]] || where=$f:1
			say "$where" "ring 0 may not call $sym (mem*, str*, snprintf, cpm_* only)"
		done < <(nm -u -l "$o")
	done
}

# includes FILES-PATTERN: "file:line:<header> or "header"".
includes()
{
	local list
	mapfile -t list < <(files "$@")
	[[ ${#list[@]} -gt 0 ]] || return 0
	grep -HnoE '^[ \t]*#[ \t]*include[ \t]*[<"][^>"]*[>"]' "${list[@]}" |
		sed -E 's/[ \t]*#[ \t]*include[ \t]*//'
}

# A ring includes only what is below it.
rule_layers()
{
	local core='"((\.\./)?core/)?cpm_[a-z0-9_]+\.h"'
	local io='"((\.\./)?io/)?io_[a-z0-9_]+\.h"'
	local here='"[a-oq-z][a-z0-9_]*\.h"'
	local std='<(stddef|stdint|stdbool|string|stdio|limits|inttypes|stdatomic)\.h>'
	found "ring 0 includes only cpm_*.h and the plain C headers" < <(
		includes "$mod/core/*.[ch]" |
			grep -vE ':("cpm_[a-z0-9_]+\.h"|'"$std"')$')
	found "ring 1 includes nothing of Kamailio or ring 2" < <(
		includes "$mod/io/*.[ch]" | grep -F '"' | grep -vE ":($core|$io)$")
	found "the worker includes nothing of Kamailio or ring 2" < <(
		includes "$mod/worker/*.[ch]" | grep -F '"' |
			grep -vE ":($core|$io|$here)$")
	found "ring 2 leaves this library to ring 1" < <(
		includes "$mod/pf_*.[ch]" | grep -E \
			':[<"](hiredis|libxml|microhttpd|jansson|curl|event|openssl)[./0-9a-z_]*[>"]$')
}

# Kamailio's own format.
rule_format()
{
	local list version
	mapfile -t list < <(files "$mod/*.[ch]" "test/*.[ch]")
	[[ ${#list[@]} -gt 0 ]] || return 0
	version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
	if [[ $version != 14 ]]; then
		echo "lint: format not checked: it is that of clang-format 14," \
			"here is $version"
		return 0
	fi
	found "not formatted" < <(
		clang-format --dry-run "${list[@]}" 2>&1 |
			sed -nE 's/^([^:]+:[0-9]+):[0-9]+: (warning|error): .*/\1/p' |
			awk -F: '!seen[$1]++ { print $0 ": make format mends it" }')
}

rule_cppcheck()
{
	mkdir -p "$out/cppcheck"
	local list
	mapfile -t list < <(files "$mod/*.c" "test/*.c")
	[[ ${#list[@]} -gt 0 ]] || return 0
	# cppcheck cannot read Kamailio's headers, and does not need to.
	cppcheck -q --std=c11 --enable=warning,portability,performance \
		--inline-suppr --error-exitcode=1 -j 2 \
		--cppcheck-build-dir="$out/cppcheck" -I"$mod/core" -I"$mod/io" \
		--suppress=missingInclude --suppress=missingIncludeSystem \
		--template='{file}:{line}: cppcheck: {message} ({id})' \
		"${list[@]}" 2>&1 || failed=1
}

# Functions that write without a bound, or cannot tell an error.
rule_banned()
{
	local list
	mapfile -t list < <(files "$mod/*.[ch]" "test/*.[ch]")
	[[ ${#list[@]} -gt 0 ]] || return 0
	found "banned function" < <(grep -HnE \
		'(^|[^A-Za-z0-9_])(str(cpy|ncpy|cat|ncat|tok)|stpcpy|v?sprintf|gets|alloca|ato[ilf]|atoll|tmpnam|mktemp)[ \t]*\(' \
		"${list[@]}")
}

rule_shell()
{
	local list
	mapfile -t list < <(files '*.sh' .ci/run)
	[[ ${#list[@]} -eq 0 ]] || shellcheck -f gcc "${list[@]}" || failed=1
}

rule_python()
{
	local list
	mapfile -t list < <(files '*.py')
	[[ ${#list[@]} -eq 0 ]] ||
		"${PYTHON:-/usr/bin/python3}" -m pyflakes "${list[@]}" || failed=1
}

# Redis runs Lua 5.1, refuses to write a global variable, and knows few.
rule_lua()
{
	local common=$mod/core/lua/common.lua n=0 f both line text
	local known="ARGV KEYS _G assert bit cjson cmsgpack error ipairs math next
		pairs pcall redis select string struct table tonumber tostring type
		unpack"
	[[ ! -f $common ]] || n=$(grep -c '' "$common")
	# place LINE: where a line of the two files together comes from.
	place()
	{
		if [[ $1 -le $n ]]; then
			echo "$common:$1"
		else
			echo "$f:$(($1 - n))"
		fi
	}
	for f in $(files "$mod/core/lua/*.lua"); do
		[[ $f != "$common" ]] || continue
		both=$out/$(basename "$f")
		cat "$common" "$f" >"$both" 2>/dev/null || cp "$f" "$both"
		if ! luac5.1 -o "$both.out" "$both" 2>"$both.log"; then
			text=$(head -n 1 "$both.log")
			line=$(grep -oE ':[0-9]+:' <<<"$text" | head -n 1 | tr -d :)
			say "$(place "${line:-1}")" "no Lua 5.1: ${text##*:"${line:-1}": }"
			continue
		fi
		while read -r line text; do
			say "$(place "$line")" "a script may not set the global variable $text"
		done < <(luac5.1 -l -l -p "$both" |
			sed -nE 's/^.*\[([0-9]+)\][ \t]+SETGLOBAL.*; (.*)$/\1 \2/p')
		while read -r line text; do
			grep -qwF -- "$text" <<<"$known" ||
				say "$(place "$line")" "a script cannot know the global variable $text"
		done < <(luac5.1 -l -l -p "$both" |
			sed -nE 's/^.*\[([0-9]+)\][ \t]+GETGLOBAL.*; (.*)$/\1 \2/p' | sort -u)
	done
}

# The tree builds anywhere: no registry's host, no path of somebody's machine.
rule_places()
{
	local list
	mapfile -t list < <(files '*')
	found "a package registry's host; ask the system's configuration" < <(
		grep -HnIE '(deb|security|ftp|archive|snapshot|ports)\.([a-z]+\.)?(debian|ubuntu)\.(org|com)|registry\.npmjs\.org|(files\.)?python(hosted)?\.org/(simple|packages)|pypi\.org|proxy\.golang\.org|crates\.io|deb\.nodesource\.com' \
			"${list[@]}")
	found "a path of one machine" < <(
		grep -HnIE '(^|[^A-Za-z0-9_.)}])/(work|root|tmp/ksrc|home/[a-z]+)(/|$)' \
			"${list[@]}")
}

rule_license()
{
	local f
	for f in $(files '*.[ch]' '*.sh' '*.py' '*.awk' '*.lua' '*Makefile'); do
		head -n 12 "$f" | grep -qF 'SPDX-License-Identifier: GPL-2.0-or-later' ||
			say "$f:1" "no SPDX-License-Identifier: GPL-2.0-or-later at its head"
	done
}

git rev-parse --is-inside-work-tree >/dev/null || {
	echo "lint: git tells which files are ours, and it does not answer here" >&2
	exit 1
}
mkdir -p "$out"
# Rules to try can be named: tools/lint.sh pure format
for rule in "${@:-pure layers format cppcheck banned shell python lua places license}"; do
	for r in $rule; do
		"rule_$r"
	done
done
[[ $failed -eq 0 ]] || {
	echo "lint: failed"
	exit 1
}
echo "lint: ok"
