#!/bin/bash
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# deb-root.sh [COMMAND...] - the proof that a bare Debian is enough.
#
# Makes a fresh root of this Debian release that has make, git and apt besides
# what every Debian has, copies the project's files into it (also those not
# committed yet) and runs each COMMAND there, by default "make demo" and "make
# test". Needs root and the package debootstrap; takes minutes. The mirror is
# the one that this system uses.
#
# SUITE=trixie   another release
# KEEP=1         leaves the root where it is, and says where
# MOUNTS=none    where mounting is not allowed: no /proc in the root

set -euo pipefail
cd "$(dirname "$0")/.."

die()
{
	printf 'deb-root: %s\n' "$*" >&2
	exit 1
}

[[ $(id -u) -eq 0 ]] || die "needs root, for debootstrap and chroot"
command -v debootstrap >/dev/null || die "needs the package debootstrap"
[[ $# -gt 0 ]] || set -- "make demo" "make test"

# In name spaces of its own: what is mounted and started goes with it.
if [[ ${MOUNTS:-} != none && ${DEB_ROOT_INSIDE:-} != 1 ]]; then
	DEB_ROOT_INSIDE=1 exec unshare --mount --pid --fork --kill-child \
		"$PWD/tools/deb-root.sh" "$@"
fi

codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# shellcheck disable=SC2016 # the fields are apt's, not the shell's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
	'Origin: Debian' "Codename: $codename" 'Component: main' | head -n 1)
[[ -n $mirror ]] || die "apt knows no mirror of $codename; apt-get update?"

root=$(mktemp -d "${TMPDIR:-/tmp}/deb-root.XXXXXX")
log=$root.log
project=/srv/project
finish()
{
	if [[ -n ${KEEP:-} ]]; then
		echo "deb-root: kept $root"
		return
	fi
	[[ ${MOUNTS:-} == none ]] ||
		umount "$root/dev/pts" "$root/proc" 2>/dev/null || :
	rm -rf --one-file-system "$root"
}
trap finish EXIT

echo "deb-root: making a root of ${SUITE:-$codename}"
debootstrap --variant=minbase --include=make,git,ca-certificates \
	"${SUITE:-$codename}" "$root" "$mirror" >"$log" 2>&1 ||
	{
		tail -n 20 "$log" >&2
		die "debootstrap failed; its output is in $log"
	}
rm -f "$log"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
apt-config dump | grep -iE '^Acquire::.*proxy' \
	>"$root/etc/apt/apt.conf.d/90proxy" || :
if [[ ${MOUNTS:-} != none ]]; then
	mount -t proc proc "$root/proc"
	mkdir -p "$root/dev/pts"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	ln -sf pts/ptmx "$root/dev/ptmx"
fi

# a program that drops its privileges must get into the root
chmod 755 "$root"

mkdir "$root$project"
git ls-files -co --exclude-standard -z |
	while IFS= read -r -d '' f; do [[ ! -e $f ]] || printf '%s\0' "$f"; done |
	tar -c --null -T - | tar -x --no-same-owner -C "$root$project"
chroot "$root" git -C "$project" init -q -b main

for command in "$@"; do
	echo "deb-root: $command"
	chroot "$root" env -i HOME=/srv LANG=C.UTF-8 \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		bash -c "cd $project && $command" </dev/null ||
		die "failed: $command"
done
echo "deb-root: ok"
