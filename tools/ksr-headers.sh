#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ksr-headers.sh - prints the path of the source (the directory that holds
# core/ and modules/) of exactly the Kamailio that is installed, prepared for
# building modules.
#
# Debian has no package of Kamailio's headers, and Kamailio loads a module
# only if it was built from the same version with the same flags. So the
# source comes from where the package came from, by apt, which checks it
# against the signed index. It is kept in build/kamailio-<version>/; once
# there, nothing is fetched again.
#
# KSR_SRC=<dir>  take this source instead (a directory with src/ in it, or
#                that src/ itself). It is never written to: a tree that was
#                not configured yet (no config.mak) is copied to build/ first.
#
# The system's own apt configuration is read (sources, keys, proxies) and left
# as it is: the indexes of sources go to a private directory.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
PATH=$PATH:/usr/sbin:/sbin

die()
{
	printf 'ksr-headers: %s\n' "$*" >&2
	exit 1
}

# configure DIR LOG: as Debian configures it, as far as a module can see.
configure()
{
	if ! make -C "$1" FLAVOUR=kamailio cfg >>"$2" 2>&1 ||
		[[ ! -f $1/config.mak ]]; then
		tail -n 20 "$2" >&2
		die "'make FLAVOUR=kamailio cfg' failed in $1"
	fi
}

# The deb entries of the system as deb-src entries below DIR. If apt knows
# which sites offer the installed package, only those: others have no source
# of it.
private_sources()
{
	local dir=$1 file sites
	sites=$(apt-cache policy kamailio 2>/dev/null | awk '
		/^ \*\*\* / { on = 1; next }
		on && NF < 3 { exit }
		on && $2 ~ /:/ { sub(/\/+$/, "", $2); print $2 }' | sort -u |
		tr '\n' ' ')
	mkdir -p "$dir"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -f $file ]] || continue
		awk -v sites="$sites" '
			function offers(i, n, s) {
				n = split(sites, s, " ")
				if (n == 0)
					return 1
				for (i = 1; i <= n; i++)
					if (index($0, s[i] " ") || index($0, s[i] "/"))
						return 1
				return 0
			}
			/^[ \t]*deb(-src)?[ \t]/ && offers() {
				sub(/^[ \t]*deb(-src)?/, "deb-src")
				if (!seen[$0]++)
					print
			}' "$file" >"$dir/$(basename "$file")"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -f $file ]] || continue
		awk -v sites="$sites" '
			BEGIN { RS = ""; ORS = "\n\n" }
			function offers(i, n, s) {
				n = split(sites, s, " ")
				if (n == 0)
					return 1
				for (i = 1; i <= n; i++)
					if (index($0 "\n", s[i] "\n") || index($0, s[i] "/") \
							|| index($0, s[i] " "))
						return 1
				return 0
			}
			offers() {
				sub(/(^|\n)[Tt]ypes:[^\n]*/, "\nTypes: deb-src")
				sub(/^\n/, "")
				if (!seen[$0]++)
					print
			}' "$file" >"$dir/$(basename "$file")"
	done
}

# complete DIR: is all there that the .dsc in DIR lists, but for signatures of
# tarballs? Debian 13's archive lacks the one of kamailio, and apt then calls
# the whole a failure.
complete()
{
	local dsc file
	dsc=$(find "$1" -name '*.dsc')
	[[ -n $dsc ]] || return 1
	while read -r file; do
		[[ $file == *.asc || -f $1/$file ]] || return 1
	done < <(sed -n '/^Files:/,/^[^ ]/s/^ [0-9a-f]* [0-9]* //p' "$dsc")
}

# fetch PACKAGE VERSION DIR: the source package, unpacked as DIR/tree.
fetch()
{
	local package=$1 version=$2 dir=$3
	local log=$dir/log apt
	mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" \
		"$dir/dl"
	private_sources "$dir/apt/sources.d"
	# Read last, hence stronger than the system's. The hooks cleared here
	# are meant for the system's lists. As root apt would fetch as user _apt,
	# who may not be allowed to reach this directory.
	cat >"$dir/apt/apt.conf" <<-END
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		APT::Sandbox::User "$(id -un)";
		Acquire::Languages "none";
		Dir::Etc::SourceList "/dev/null";
		Dir::Etc::SourceParts "$dir/apt/sources.d";
		Dir::State::Lists "$dir/apt/lists";
		Dir::Cache "$dir/apt/cache";
	END
	apt=(apt-get -c "$dir/apt/apt.conf")
	"${apt[@]}" -q update >>"$log" 2>&1 || true # one site of many may be down
	(cd "$dir/dl" && "${apt[@]}" -q source --download-only --only-source \
		"$package=$version") >>"$log" 2>&1 || complete "$dir/dl" ||
		{
			grep '^E: ' "$log" >&2 || tail -n 20 "$log" >&2
			die "the source of $package $version is not to be had.
If a newer version of the package is out, upgrade kamailio; or get the source
of the installed version by other means, and say KSR_SRC=<its directory>."
		}
	# No need to check again: apt has checked each file against the index,
	# and the index by its signature.
	dpkg-source --no-check -x "$dir"/dl/*.dsc "$dir/tree" >>"$log" 2>&1 ||
		{
			tail -n 20 "$log" >&2
			die "cannot unpack the source of $package $version"
		}
}

# publish TREE DEST: rename, so that a half-made tree never has the name. Who
# comes second takes what the first has made.
publish()
{
	mv -T "$1" "$2" 2>/dev/null || [[ -f $2/src/config.mak ]] ||
		die "cannot make $2"
}

mkdir -p "$build"

if [[ -n ${KSR_SRC:-} ]]; then
	src=$KSR_SRC
	[[ -d $src/src/core ]] && src=$src/src
	[[ -f $src/core/sr_module.h && -f $src/Makefile.defs ]] ||
		die "KSR_SRC=$KSR_SRC is no source of Kamailio" \
			"(no src/core/sr_module.h there)"
	src=$(cd "$src" && pwd)
	if [[ ! -f $src/config.mak ]]; then
		dest=$build/kamailio-given-$(printf '%s' "$src" | cksum | cut -d' ' -f1)
		if [[ ! -f $dest/src/config.mak ]]; then
			tmp=$(mktemp -d "$build/.ksr.XXXXXX")
			trap 'rm -rf "$tmp"' EXIT
			echo "ksr-headers: $src is not configured;" \
				"working on a copy in $dest" >&2
			mkdir "$tmp/tree"
			cp -a "$src" "$tmp/tree/src"
			configure "$tmp/tree/src" "$tmp/log"
			publish "$tmp/tree" "$dest"
		fi
		src=$dest/src
	fi
	echo "$src"
	exit 0
fi

# shellcheck disable=SC2016 # the fields are dpkg-query's, not the shell's
read -r status package version < <(dpkg-query -W -f \
	'${db:Status-Status} ${source:Package} ${source:Version}\n' \
	kamailio 2>/dev/null) || true
[[ ${status:-} == installed ]] ||
	die "kamailio is not installed as a Debian package;" \
		"install it, or say KSR_SRC=<source of the Kamailio to build for>"

dest=$build/kamailio-${version//[^A-Za-z0-9.+~-]/_}
if [[ ! -f $dest/src/config.mak ]]; then
	tmp=$(mktemp -d "$build/.ksr.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' INT TERM HUP
	echo "ksr-headers: fetching the source of $package $version" >&2
	fetch "$package" "$version" "$tmp"
	configure "$tmp/tree/src" "$tmp/log"
	publish "$tmp/tree" "$dest"
fi
echo "$dest/src"
