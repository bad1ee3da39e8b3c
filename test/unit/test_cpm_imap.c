/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_imap.c - what an IMAP server answers, and how it is asked.
 */

#include "check_helpers.h"

#include "cpm_imap.h"

static struct cpm_imap_reply reply(const char *text)
{
	struct cpm_imap_reply r;
	struct cpm_pl in = cpm_pl_str(text);

	ck_assert_int_eq(cpm_imap_next(in, &r), (int)in.n);
	return r;
}

START_TEST(statuses)
{
	struct cpm_imap_reply r = reply("C7 NO [TRYCREATE] Mailbox doesn't "
									"exist: a {3}\r\n");

	ck_assert_int_eq(r.kind, CPM_IMAP_TAGGED);
	ck_pl_eq(r.tag, "C7");
	ck_pl_eq(r.word, "NO");
	ck_assert(cpm_imap_has_code(&r, "trycreate"));
	ck_assert(!cpm_imap_has_code(&r, "TRY"));
	r = reply("C8 OK [APPENDUID 1 2] Append completed.\r\n");
	ck_assert(cpm_imap_has_code(&r, "APPENDUID"));
	r = reply("* BYE Autologout {9}\r\n");
	ck_assert_int_eq(r.kind, CPM_IMAP_DATA);
	ck_pl_eq(r.word, "BYE");
	ck_pl_eq(r.rest, "Autologout {9}");
	r = reply("+ OK\r\n");
	ck_assert_int_eq(r.kind, CPM_IMAP_CONTINUE);
	ck_pl_eq(r.rest, "OK");
	r = reply("+\r\n");
	ck_assert_int_eq(r.kind, CPM_IMAP_CONTINUE);
	r = reply("a OK\r\n");
	ck_pl_eq(r.word, "OK");
	ck_assert_uint_eq(r.rest.n, 0);
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	char delim;
} delims[] = {
		{"* LIST (\\Noselect) \"/\" \"\"\r\n", CPM_OK, '/'},
		{"* LIST () \".\" INBOX\r\n", CPM_OK, '.'},
		{"* LIST () \"\\\\\" INBOX\r\n", CPM_OK, '\\'},
		{"* LIST () NIL INBOX\r\n", CPM_OK, '\0'},
		{"* LIST \"/\"\r\n", CPM_EPROTO, 0},
		{"* LIST (\r\n", CPM_EPROTO, 0},
		{"* LIST () \"\r\n", CPM_EPROTO, 0},
		{"* LIST () \"\x01\" x\r\n", CPM_EPROTO, 0},
};

START_TEST(list)
{
	struct cpm_imap_reply r = reply(delims[_i].text);
	char delim = '?';

	ck_assert_int_eq(cpm_imap_list_delim(&r, &delim), delims[_i].rc);
	ck_assert_int_eq(delim, delims[_i].rc == CPM_OK ? delims[_i].delim : '?');
}
END_TEST

START_TEST(search)
{
	struct cpm_imap_reply r = reply("* SEARCH 2 84 882 x 99999999999\r\n");
	uint32_t n[8];

	ck_assert_uint_eq(cpm_imap_search(&r, n, 8), 3);
	ck_assert_uint_eq(n[2], 882);
	ck_assert_uint_eq(cpm_imap_search(&r, n, 2), 2);
	ck_assert_uint_eq(n[0], 84);
	ck_assert_uint_eq(n[1], 882);
	r = reply("* SEARCH\r\n");
	ck_assert_uint_eq(cpm_imap_search(&r, n, 8), 0);
	r = reply("* 12 EXISTS\r\n");
	ck_assert_uint_eq(cpm_imap_search(&r, n, 8), 0);
}
END_TEST

#define FETCHED \
	"* 12 FETCH (UID 5 BODY[HEADER.FIELDS (A)] {8}\r\nA: \r\nC \r)\r\n"

START_TEST(literals)
{
	struct cpm_imap_reply r = reply(FETCHED);
	struct cpm_pl lit;

	ck_assert(cpm_imap_literal(&r, &lit));
	ck_pl_eq(lit, "A: \r\nC \r");
	r = reply("* 1 FETCH (FLAGS ())\r\n");
	ck_assert(!cpm_imap_literal(&r, &lit));
}
END_TEST

static void prefix(struct cpm_pl in, void *arg)
{
	struct cpm_imap_reply r;
	int rc = cpm_imap_next(in, &r);

	(void)arg;
	ck_assert_int_eq(rc, in.n == sizeof(FETCHED) - 1 ? (int)in.n : CPM_EAGAIN);
}

START_TEST(pieces)
{
	guard_prefixes(CPM_PL_LIT(FETCHED), prefix, NULL);
}
END_TEST

static const struct
{
	const char *text;
	int rc;
} bad[] = {
		{"nonsense\r\n", CPM_EPROTO},
		{"a OK bare\n", CPM_EPROTO},
		{"a MAYBE what\r\n", CPM_EPROTO},
		{" OK no tag\r\n", CPM_EPROTO},
		{"\r\n", CPM_EPROTO},
		{"* X {99999}\r\n", CPM_ELIMIT},
		{"* X {4294967295}\r\n", CPM_ELIMIT},
};

START_TEST(refused)
{
	struct cpm_imap_reply r = {.kind = CPM_IMAP_CONTINUE};

	ck_assert_int_eq(cpm_imap_next(cpm_pl_str(bad[_i].text), &r), bad[_i].rc);
	ck_assert_int_eq(r.kind, CPM_IMAP_CONTINUE);
}
END_TEST

START_TEST(endless)
{
	static char line[CPM_IMAP_REPLY_MAX + 10];
	struct cpm_imap_reply r;

	memset(line, 'x', sizeof(line));
	line[1] = ' ';
	ck_assert_int_eq(cpm_imap_next(cpm_pl(line, CPM_IMAP_REPLY_MAX - 1), &r),
			CPM_EAGAIN);
	ck_assert_int_eq(
			cpm_imap_next(cpm_pl(line, CPM_IMAP_REPLY_MAX), &r), CPM_ELIMIT);
}
END_TEST

START_TEST(writing)
{
	char buf[128];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_imap_quoted(&w, CPM_PL_LIT("a\"b\\c d")), CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), "\"a\\\"b\\\\c d\"");
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_imap_quoted(&w, CPM_PL_LIT("a\r\nb")), CPM_EPROTO);
	ck_assert_int_eq(cpm_imap_quoted(&w, CPM_PL_LIT("\xc3\xa4")), CPM_EPROTO);
	ck_assert_int_eq(cpm_imap_quoted(&w, CPM_PL_LIT("a\0b")), CPM_EPROTO);
	ck_assert_uint_eq(w.n, 0);
	cpm_imap_date(&w, UINT64_C(1289690940123));
	ck_pl_eq(cpm_wr_pl(&w), "\"13-Nov-2010 23:29:00 +0000\"");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_imap");

	fu_case(s, "a status, its code and its words are told apart", statuses);
	fu_table(s, "the delimiter of levels is read", list, FU_N(delims));
	fu_case(s, "numbers that were found are read, the last ones of many",
			search);
	fu_case(s, "a literal is what its length says", literals);
	fu_case(s, "a response in pieces is waited for", pieces);
	fu_table(s, "what is no response is refused", refused, FU_N(bad));
	fu_case(s, "an endless response is refused", endless);
	fu_case(s, "strings and dates are written as a server reads them", writing);
	return fu_run(s);
}
