/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_wr.c - the bounded writer.
 */

#include "check_helpers.h"

static char buf[64];

START_TEST(forms)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_pl_put(&w, cpm_pl("abc", 2));
	cpm_wr_pl_put(&w, CPM_PL_NULL);
	cpm_wr_str(&w, "-");
	cpm_wr_str(&w, NULL);
	cpm_wr_chr(&w, ' ');
	cpm_wr_u64(&w, 0);
	cpm_wr_chr(&w, ' ');
	cpm_wr_u64(&w, 1234567890);
	cpm_wr_chr(&w, ' ');
	cpm_wr_hex64(&w, UINT64_C(0x00ab54a98ceb1f0a));
	ck_assert(cpm_wr_ok(&w));
	ck_pl_eq(cpm_wr_pl(&w), "ab- 0 1234567890 00ab54a98ceb1f0a");
}
END_TEST

START_TEST(extremes)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_u64(&w, UINT64_MAX);
	cpm_wr_chr(&w, ' ');
	cpm_wr_hex64(&w, UINT64_MAX);
	cpm_wr_hex64(&w, 0);
	ck_pl_eq(cpm_wr_pl(&w),
			"18446744073709551615 ffffffffffffffff0000000000000000");
}
END_TEST

START_TEST(binary)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_u8(&w, 0x1fe);
	cpm_wr_be32(&w, 0x01020380);
	cpm_wr_be64(&w, UINT64_C(0xf1f2f3f405060708));
	ck_pl_same(cpm_wr_pl(&w),
			cpm_pl("\xfe\x01\x02\x03\x80\xf1\xf2\xf3\xf4\x05\x06\x07\x08", 13));
}
END_TEST

static void write_all(struct cpm_wr *w)
{
	cpm_wr_str(w, "sip:");
	cpm_wr_u64(w, 4711);
	cpm_wr_chr(w, '@');
	cpm_wr_hex64(w, 1);
	cpm_wr_be32(w, 0x61626364);
}

/* every capacity, with an unmapped page behind it */
START_TEST(overflow)
{
	static const char all[] = "sip:4711@0000000000000001abcd";
	size_t full = sizeof(all) - 1, cap = (size_t)_i;
	char *p = guard_dup(all, cap);
	struct cpm_wr w;

	memset(p, '#', cap);
	cpm_wr_init(&w, p, cap);
	write_all(&w);
	ck_assert_uint_eq(w.n, full);
	ck_assert(cpm_wr_ok(&w) == (cap >= full));
	ck_pl_same(cpm_wr_pl(&w), cpm_pl(all, cap < full ? cap : full));
	guard_free(p, cap);
}
END_TEST

START_TEST(sticky)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, 3);
	cpm_wr_str(&w, "abcd");
	cpm_wr_str(&w, "");
	cpm_wr_chr(&w, 'e');
	ck_assert(!cpm_wr_ok(&w));
	ck_assert_uint_eq(w.n, 5);
	ck_pl_eq(cpm_wr_pl(&w), "abc");
}
END_TEST

START_TEST(no_buffer)
{
	struct cpm_wr w;

	cpm_wr_init(&w, NULL, 0);
	ck_assert(cpm_wr_ok(&w));
	write_all(&w);
	ck_assert(!cpm_wr_ok(&w));
	ck_assert_uint_eq(w.n, 29);
	ck_assert_uint_eq(cpm_wr_pl(&w).n, 0);
}
END_TEST

START_TEST(count_does_not_wrap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, 1);
	w.n = SIZE_MAX - 1; /* as if so much had been wanted */
	cpm_wr_str(&w, "abc");
	ck_assert(!cpm_wr_ok(&w));
	ck_assert(w.n == SIZE_MAX);
	cpm_wr_chr(&w, 'd');
	ck_assert(!cpm_wr_ok(&w));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_wr");

	fu_case(s, "strings and numbers are appended", forms);
	fu_case(s, "the largest numbers fit", extremes);
	fu_case(s, "binary numbers are big-endian", binary);
	fu_table(s, "a short buffer holds the front, and n tells what it takes",
			overflow, 31);
	fu_case(s, "an overflow is never forgotten", sticky);
	fu_case(s, "without a buffer the bytes are counted", no_buffer);
	fu_case(s, "a count at its end stays there", count_does_not_wrap);
	return fu_run(s);
}
