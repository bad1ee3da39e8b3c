/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_ulname.c - the location table's names, there and back.
 */

#include "cpm_ulname.h"

#include "check_helpers.h"

#define LIT CPM_PL_LIT

static const struct
{
	const char *aor;
	const char *with_domain;
	const char *without;
} both_ways[] = {
		{"sip:bob@example.org", "bob@example.org", "bob"},
		{"sip:+15551234@example.org", "+15551234@example.org", "+15551234"},
		{"sip:a%20b@example.org", "a b@example.org", "a b"},
		{"sip:a%40b@example.org", "a@b@example.org", "a@b"},
		{"sip:a%25b@example.org", "a%b@example.org", "a%b"},
		{"sip:a%2541@example.org", "a%41@example.org", "a%41"},
		{"sip:a%25@example.org", "a%@example.org", "a%"},
		{"sip:a%3Ab@example.org", "a:b@example.org", "a:b"},
		{"sip:%7Bx%7D@example.org", "{x}@example.org", "{x}"},
		{"sip:%C3%BC@example.org", "\xc3\xbc@example.org", "\xc3\xbc"},
		{"sip:a;b=c?d@example.org", "a;b=c?d@example.org", "a;b=c?d"},
		{"sip:b@[2001:db8::1]", "b@[2001:db8::1]", NULL},
};

START_TEST(there)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl name = CPM_PL_NULL;
	struct cpm_pl aor = cpm_pl_str(both_ways[_i].aor);

	ck_assert_int_eq(
			cpm_ulname_from_aor(aor, true, buf, sizeof(buf), &name), CPM_OK);
	ck_pl_eq(name, both_ways[_i].with_domain);
	if(both_ways[_i].without == NULL)
		return;
	ck_assert_int_eq(
			cpm_ulname_from_aor(aor, false, buf, sizeof(buf), &name), CPM_OK);
	ck_pl_eq(name, both_ways[_i].without);
}
END_TEST

START_TEST(back)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor = CPM_PL_NULL;

	ck_assert_int_eq(
			cpm_ulname_to_aor(cpm_pl_str(both_ways[_i].with_domain), true,
					LIT("other.example"), buf, sizeof(buf), &aor),
			CPM_OK);
	ck_pl_eq(aor, both_ways[_i].aor);
	if(both_ways[_i].without == NULL)
		return;
	ck_assert_int_eq(cpm_ulname_to_aor(cpm_pl_str(both_ways[_i].without), false,
							 LIT("example.org"), buf, sizeof(buf), &aor),
			CPM_OK);
	ck_pl_eq(aor, both_ways[_i].aor);
}
END_TEST

START_TEST(nul_byte)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl name, aor;

	/* the registrar undoes this one too; the slice has it, no string does */
	ck_assert_int_eq(cpm_ulname_from_aor(LIT("sip:a%00b@example.org"), true,
							 buf, sizeof(buf), &name),
			CPM_OK);
	ck_pl_same(name, LIT("a\0b@example.org"));
	ck_assert_int_eq(cpm_ulname_to_aor(LIT("a\0b@example.org"), true,
							 CPM_PL_NULL, buf, sizeof(buf), &aor),
			CPM_OK);
	ck_pl_eq(aor, "sip:a%00b@example.org");
}
END_TEST

START_TEST(every_octet)
{
	char octet = (char)(unsigned char)_i;
	char uri[] = "sip:x%00y@example.org";
	char canon[CPM_AOR_MAX], name_buf[CPM_AOR_MAX], buf[CPM_AOR_MAX];
	struct cpm_pl aor, name, again;

	(void)octet;
	uri[6] = "0123456789ABCDEF"[_i >> 4];
	uri[7] = "0123456789ABCDEF"[_i & 15];
	ck_assert_int_eq(
			cpm_aor_canon(cpm_pl_str(uri), canon, sizeof(canon), &aor, NULL),
			CPM_OK);
	ck_assert_int_eq(
			cpm_ulname_from_aor(aor, true, name_buf, sizeof(name_buf), &name),
			CPM_OK);
	ck_assert_uint_eq(name.n, strlen("xNy@example.org"));
	ck_assert_int_eq(name.p[1], octet);
	ck_assert_int_eq(cpm_ulname_to_aor(
							 name, true, CPM_PL_NULL, buf, sizeof(buf), &again),
			CPM_OK);
	ck_pl_same(again, aor);
	ck_assert_int_eq(cpm_ulname_to_aor(cpm_pl(name.p, 3), false,
							 LIT("example.org"), buf, sizeof(buf), &again),
			CPM_OK);
	ck_pl_same(again, aor);
}
END_TEST

START_TEST(no_name)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl name = LIT("untouched");

	ck_assert_int_eq(cpm_ulname_from_aor(
							 LIT("tel:+1555"), true, buf, sizeof(buf), &name),
			CPM_ENOENT);
	ck_assert_int_eq(cpm_ulname_from_aor(LIT("tel:7;phone-context=a.org"),
							 false, buf, sizeof(buf), &name),
			CPM_ENOENT);
	ck_pl_eq(name, "untouched");
}
END_TEST

START_TEST(no_aor)
{
	static const char *const bad[] = {"", "@", "@example.org", "bob@", "bob",
			"bob@exa mple.org", "bob@example.org\r\nX: y", "bob@-x",
			"bob@a..b"};
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor = LIT("untouched");

	for(size_t i = 0; i < FU_N(bad); i++)
		ck_assert_msg(cpm_ulname_to_aor(cpm_pl_str(bad[i]), true,
							  LIT("example.org"), buf, sizeof(buf), &aor)
							  != CPM_OK,
				"row %zu", i);
	ck_assert_int_ne(cpm_ulname_to_aor(LIT("bob"), false, CPM_PL_NULL, buf,
							 sizeof(buf), &aor),
			CPM_OK);
	ck_assert_int_ne(cpm_ulname_to_aor(CPM_PL_NULL, false, LIT("example.org"),
							 buf, sizeof(buf), &aor),
			CPM_OK);
	ck_pl_eq(aor, "untouched");
}
END_TEST

START_TEST(too_long)
{
	char name[4 * CPM_AOR_MAX];
	char buf[CPM_AOR_MAX];
	struct cpm_pl aor;

	/* every length, of bytes that stay one, and of bytes that become three */
	for(size_t n = 1; n < sizeof(name); n++) {
		memset(name, 'u', n);
		ck_assert_int_eq(cpm_ulname_to_aor(cpm_pl(name, n), false, LIT("h.org"),
								 buf, sizeof(buf), &aor),
				n + strlen("sip:@h.org") <= CPM_AOR_MAX ? CPM_OK : CPM_ELIMIT);
		memset(name, ' ', n);
		ck_assert_int_eq(cpm_ulname_to_aor(cpm_pl(name, n), false, LIT("h.org"),
								 buf, sizeof(buf), &aor),
				3 * n + strlen("sip:@h.org") <= CPM_AOR_MAX ? CPM_OK
															: CPM_ELIMIT);
	}
}
END_TEST

/* every capacity, with an unmapped page behind it */
START_TEST(small_buffer)
{
	struct cpm_pl aor = LIT("sip:a%20b@example.org"), name = LIT("untouched");
	size_t full = strlen("a b@example.org"), cap = (size_t)_i;
	char *p = guard_dup("0123456789abcdefghij", cap);
	int rc = cpm_ulname_from_aor(aor, true, p, cap, &name);

	ck_assert_int_eq(rc, cap < full ? CPM_ENOMEM : CPM_OK);
	if(rc != CPM_OK)
		ck_pl_eq(name, "untouched");
	guard_free(p, cap);
}
END_TEST

static void any_prefix(struct cpm_pl prefix, void *arg)
{
	char buf[3 * CPM_AOR_MAX];
	struct cpm_pl out;

	(void)arg;
	(void)cpm_ulname_from_aor(prefix, true, buf, sizeof(buf), &out);
	(void)cpm_ulname_from_aor(prefix, false, buf, sizeof(buf), &out);
	(void)cpm_ulname_to_aor(prefix, true, CPM_PL_NULL, buf, sizeof(buf), &out);
	(void)cpm_ulname_to_aor(prefix, false, prefix, buf, sizeof(buf), &out);
}

START_TEST(cut_anywhere)
{
	guard_prefixes(LIT("sip:a%20b%4@exa%mple.org%2"), any_prefix, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_ulname");

	fu_table(s, "an address has the name that the registrar gave it", there,
			FU_N(both_ways));
	fu_table(s, "a name has the address that messages are queued for", back,
			FU_N(both_ways));
	fu_case(s, "a NUL byte in a user part ends nothing", nul_byte);
	fu_table(s, "every octet of a user part survives the round trip",
			every_octet, 256);
	fu_case(s, "a telephone number is in no location table", no_name);
	fu_case(s, "a name that is no address is refused", no_aor);
	fu_case(s, "a name of any length is bounded", too_long);
	fu_table(s, "a buffer of any size is kept to", small_buffer, 20);
	fu_case(s, "nothing is read behind the end", cut_anywhere);
	return fu_run(s);
}
