# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# text2h.awk - a text file as a C string.
#
#     awk -v name=NAME -f text2h.awk FILE > NAME.h
#
# static const char NAME[]; what belongs to a line break of the file's stays.

BEGIN {
	print "/* Made by text2h.awk. Do not edit, do not commit. */"
	print "#ifndef " toupper(name) "_H"
	print "#define " toupper(name) "_H\n"
	print "static const char " name "[] ="
}

{
	gsub(/["?\\]/, "\\\\&") # "?" because of trigraphs
	gsub(/\t/, "\\t")
	print "\t\t\"" $0 "\\n\""
}

END {
	print "\t\t\"\";\n"
	print "#endif"
}
