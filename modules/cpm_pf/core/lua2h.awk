# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lua2h.awk - the Redis scripts as C strings.
#
#     awk -f lua2h.awk lua/*.lua > cpm_queue_lua.h
#
# For each NAME.lua: static const char cpm_lua_NAME[], the text of common.lua
# followed by that of NAME.lua. Redis keeps every script it is given, and
# hashes it: so lines of comment, empty lines and indentation are left out. A
# script may therefore have no string of several lines ([[ ]]) that depends on
# them, and a line number in an error of Redis counts the lines that are left.
# Adding the line to cpm_lua_NAME in the header finds it.

function basename_of(path)
{
	sub(/^.*\//, "", path)
	sub(/\.lua$/, "", path)
	return path
}

FNR == 1 {
	name = basename_of(FILENAME)
	if(name !~ /^[a-z_][a-z0-9_]*$/) {
		print FILENAME ": the name does not fit into a C name" >"/dev/stderr"
		bad = 1
	}
	if(name != "common")
		names[++count] = name
}

{
	sub(/\r$/, "")
	sub(/^[ \t]+/, "")
	sub(/[ \t]+$/, "")
}

/^--/ || /^$/ { next }

{
	gsub(/["?\\]/, "\\\\&") # "?" because of trigraphs
	gsub(/\t/, "\\t")
	text[name] = text[name] "\t\t\"" $0 "\\n\"\n"
}

END {
	if(bad)
		exit 1
	print "/* Made by lua2h.awk from lua/. Do not edit, do not commit. */"
	print "#ifndef CPM_QUEUE_LUA_H"
	print "#define CPM_QUEUE_LUA_H"
	for(i = 1; i <= count; i++) {
		all = text["common"] text[names[i]]
		sub(/\n$/, ";\n", all)
		if(all == "")
			all = "\t\t\"\";\n"
		printf "\nstatic const char cpm_lua_%s[] =\n%s", names[i], all
	}
	print "\n#endif"
}
