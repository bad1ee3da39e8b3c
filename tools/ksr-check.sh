#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ksr-check.sh MODULE.so - will the installed Kamailio load this module?
#
# Kamailio refuses a module whose version or compile flags are not letter by
# letter its own (core/sr_module.c, version_control()). Both are plain strings
# in the module, and "kamailio -v" prints what they must be; comparing here
# says at build time, and in words, what would fail at start.
#
# KAMAILIO=<program>  asks that one instead of the first in the PATH.

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

die()
{
	printf 'ksr-check: %s\n' "$*" >&2
	exit 1
}

# "A, B, C" as sorted lines.
items()
{
	tr ',' '\n' <<<"$1" | sed 's/^ *//; s/ *$//; /^$/d' | sort -u
}

[[ $# -eq 1 ]] || die "usage: ksr-check.sh MODULE.so"
so=$1
kamailio=${KAMAILIO:-kamailio}
[[ -f $so ]] || die "$so: no such file"
command -v "$kamailio" >/dev/null || die "$kamailio: not installed"

about=$("$kamailio" -v)
# "version: kamailio 5.6.3 (x86_64/linux) <commit>": the loader compares what
# is before the commit.
version=$(sed -n 's/^version: \(.*([^)]*)\).*/\1/p' <<<"$about" | head -n 1)
flags=$(sed -n 's/^flags: //p' <<<"$about" | head -n 1)
[[ -n $version && -n $flags ]] || die "cannot understand '$kamailio -v': $about"

text=$(strings -a "$so")
has_version=$(grep -E '^[a-z-]+ [0-9]+\.[0-9]+\.[^ ]+ \([^/)]+/[^/)]+\)$' \
	<<<"$text" | head -n 1 || true)
has_flags=$(grep -E '(^|, )(PKG_MALLOC|SHM_MMAP|USE_FUTEX)(,|$)' <<<"$text" |
	head -n 1 || true)
[[ -n $has_version && -n $has_flags ]] ||
	die "$so: no version and flags in it; is it a module of Kamailio" \
		"(MODULE_VERSION in one of its files)?"

rc=0
if [[ $has_version != "$version" ]]; then
	rc=1
	cat >&2 <<-END
		ksr-check: the module was built for another version of Kamailio.
		  built for: $has_version
		  installed: $version
		  Build it from the source of the installed one: make clean module
		  (with KSR_SRC=<dir> that directory must hold this very version).
	END
fi
if [[ $has_flags != "$flags" ]]; then
	rc=1
	echo "ksr-check: the module was built with other compile flags." >&2
	lacks=$(comm -13 <(items "$has_flags") <(items "$flags") | xargs)
	extra=$(comm -23 <(items "$has_flags") <(items "$flags") | xargs)
	[[ -z $lacks ]] ||
		echo "  Kamailio has, the module lacks: $lacks" >&2
	[[ -z $extra ]] ||
		echo "  the module has, Kamailio lacks: $extra" >&2
	[[ -n $lacks$extra ]] ||
		echo "  the same flags in another order: not the same source" >&2
	cat >&2 <<-END
		  Add what it lacks to DEFS in modules/cpm_pf/Makefile as -D<flag>
		  (TLS_PTHREAD_MUTEX_SHARED is -DKSR_PTHREAD_MUTEX_SHARED), and take
		  what it has too much off the configuration of the source, or let
		  tools/ksr-headers.sh prepare a new one: rm -r build/kamailio-*
	END
fi
[[ $rc -eq 0 ]] || echo "ksr-check: $version would refuse to load $so" >&2
exit $rc
