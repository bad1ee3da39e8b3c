/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cpm_utf8.h"

#include "check_helpers.h"

#define N(s) CPM_PL_LIT(s)

/* RFC 3629, 3, 4 and 10 */
static const struct
{
	struct cpm_pl in;
	size_t len;
} chars[] = {
		{N("a"), 1},
		{N("\x7f"), 1},
		{N("\0"), 0},
		{N("\x80"), 0},
		{N("\xbf"), 0},
		{N("\xc0\x80"), 0},
		{N("\xc1\xbf"), 0},
		{N("\xc2\x80"), 2},
		{N("\xdf\xbf"), 2},
		{N("\xdf"), 0},
		{N("\xc2\x41"), 0},
		{N("\xe0\x9f\xbf"), 0},
		{N("\xe0\xa0\x80"), 3},
		{N("\xed\x9f\xbf"), 3},
		{N("\xed\xa0\x80"), 0},
		{N("\xef\xbf\xbd"), 3},
		{N("\xe2\x82"), 0},
		{N("\xe2\x82\x41"), 0},
		{N("\xf0\x8f\xbf\xbf"), 0},
		{N("\xf0\x90\x80\x80"), 4},
		{N("\xf4\x8f\xbf\xbf"), 4},
		{N("\xf4\x90\x80\x80"), 0},
		{N("\xf5\x80\x80\x80"), 0},
		{N("\xff"), 0},
};

START_TEST(lengths)
{
	ck_assert_uint_eq(cpm_utf8_len(chars[_i].in, 0), chars[_i].len);
}
END_TEST

static const struct
{
	struct cpm_pl in;
	size_t cap;
	const char *out;
	bool cut;
} texts[] = {
		{N(""), 4, "", false},
		{N("abc"), 3, "abc", false},
		{N("abcd"), 3, "abc", true},
		{N("caf\xc3\xa9"), 5, "caf\xc3\xa9", false},
		{N("caf\xc3\xa9"), 4, "caf", true},
		{N("a\r\n\tb\x7f"), 9, "a???b?", false},
		{N("a\0b"), 9, "a?b", false},
		{N("\xff\xc3+\xe2\x82"), 9, "??+??", false},
		{N("\xff\xff\xff"), 2, "??", true},
		{N("x"), 0, "", true},
};

START_TEST(clean)
{
	char buf[16];
	bool cut = false;

	ck_pl_eq(cpm_utf8_clean(texts[_i].in, buf, texts[_i].cap, &cut),
			texts[_i].out);
	ck_assert_int_eq(cut, texts[_i].cut);
	ck_pl_eq(cpm_utf8_clean(texts[_i].in, buf, texts[_i].cap, NULL),
			texts[_i].out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_utf8");

	fu_table(s, "characters", lengths, FU_N(chars));
	fu_table(s, "a stranger's bytes as text", clean, FU_N(texts));
	return fu_run(s);
}
