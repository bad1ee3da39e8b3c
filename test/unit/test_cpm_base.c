/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_base.c - slices, results, numbers, the hash; and the helpers that
 * the other test programs lean on.
 */

#include "check_helpers.h"

#include <limits.h>
#include <signal.h>

/* ---- results ---- */

START_TEST(rc_names)
{
	static const struct
	{
		int rc;
		const char *name;
	} rows[] = {
			{CPM_OK, "OK"},
			{CPM_EAGAIN, "EAGAIN"},
			{CPM_EPROTO, "EPROTO"},
			{CPM_ELIMIT, "ELIMIT"},
			{CPM_ENOMEM, "ENOMEM"},
			{CPM_ENOENT, "ENOENT"},
			{CPM_EEXIST, "EEXIST"},
			{CPM_EDOWN, "EDOWN"},
			{CPM_EUNSURE, "EUNSURE"},
			{1, "?"},
			{-9, "?"},
			{INT_MAX, "?"},
			{INT_MIN, "?"},
	};

	for(size_t i = 0; i < FU_N(rows); i++)
		ck_assert_str_eq(cpm_rc_name(rows[i].rc), rows[i].name);
}
END_TEST

/* ---- slices ---- */

START_TEST(from_string)
{
	ck_pl_eq(cpm_pl_str("abc"), "abc");
	ck_assert_uint_eq(cpm_pl_str("").n, 0);
	ck_assert_uint_eq(cpm_pl_str(NULL).n, 0);
}
END_TEST

START_TEST(compare)
{
	static const struct
	{
		const char *a, *b;
		bool eq, ieq;
		int sign;
	} rows[] = {
			{"", "", true, true, 0}, {NULL, "", true, true, 0},
			{"a", "a", true, true, 0}, {"a", "A", false, true, 1},
			{"a", "b", false, false, -1}, {"a", "ab", false, false, -1},
			{"ab", "a", false, false, 1}, {"", "a", false, false, -1},
			{"[", "{", false, false, -1}, /* differ by 0x20, no letters */
			{"@", "`", false, false, -1},
			{"\xc4", "\xe4", false, false, -1}, /* no letters of ASCII */
			{"z", "\x80", false, false, -1},	/* bytes are unsigned */
	};

	for(size_t i = 0; i < FU_N(rows); i++) {
		struct cpm_pl a = cpm_pl_str(rows[i].a), b = cpm_pl_str(rows[i].b);
		int d = cpm_pl_cmp(a, b);

		ck_assert_msg(cpm_pl_eq(a, b) == rows[i].eq, "row %zu", i);
		ck_assert_msg(cpm_pl_ieq(a, b) == rows[i].ieq, "row %zu", i);
		ck_assert_msg((d > 0) - (d < 0) == rows[i].sign, "row %zu", i);
		d = cpm_pl_cmp(b, a);
		ck_assert_msg((d < 0) - (d > 0) == rows[i].sign, "row %zu", i);
	}
}
END_TEST

START_TEST(prefixes)
{
	ck_assert(cpm_pl_starts(cpm_pl_str("sip:a"), cpm_pl_str("sip:")));
	ck_assert(!cpm_pl_starts(cpm_pl_str("SIP:a"), cpm_pl_str("sip:")));
	ck_assert(cpm_pl_istarts(cpm_pl_str("SIP:a"), cpm_pl_str("sip:")));
	ck_assert(!cpm_pl_istarts(cpm_pl_str("si"), cpm_pl_str("sip")));
	/* the byte behind the slice would match */
	ck_assert(!cpm_pl_istarts(cpm_pl("sip", 2), cpm_pl_str("sip")));
	ck_assert(!cpm_pl_starts(cpm_pl("sip", 2), cpm_pl_str("sip")));
	ck_assert(cpm_pl_starts(CPM_PL_NULL, CPM_PL_NULL));
	ck_assert(cpm_pl_istarts(cpm_pl_str("x"), CPM_PL_NULL));
	ck_assert(!cpm_pl_starts(CPM_PL_NULL, cpm_pl_str("x")));
}
END_TEST

START_TEST(trim)
{
	ck_pl_eq(cpm_pl_trim(cpm_pl_str(" \t\r\na b\r\n")), "a b");
	ck_pl_eq(cpm_pl_trim(cpm_pl_str("a")), "a");
	ck_pl_eq(cpm_pl_trim(cpm_pl_str(" \r\n ")), "");
	ck_pl_eq(cpm_pl_trim(CPM_PL_NULL), "");
	ck_pl_eq(cpm_pl_trim(cpm_pl_str("\va\f")), "\va\f");
}
END_TEST

START_TEST(from_offset)
{
	struct cpm_pl a = cpm_pl_str("abc");

	ck_pl_eq(cpm_pl_from(a, 0), "abc");
	ck_pl_eq(cpm_pl_from(a, 2), "c");
	ck_pl_eq(cpm_pl_from(a, 3), "");
	ck_pl_eq(cpm_pl_from(a, SIZE_MAX), "");
	ck_pl_eq(cpm_pl_from(CPM_PL_NULL, 0), "");
}
END_TEST

START_TEST(find_chr)
{
	ck_assert_uint_eq(cpm_pl_chr(cpm_pl_str("a,b,"), ','), 1);
	ck_assert_uint_eq(cpm_pl_chr(cpm_pl_str("ab"), ','), 2);
	ck_assert_uint_eq(cpm_pl_chr(CPM_PL_NULL, ','), 0);
	ck_assert_uint_eq(cpm_pl_chr(cpm_pl("a\0b", 3), '\0'), 1);
	ck_assert_uint_eq(cpm_pl_chr(cpm_pl_str("a\xff"), (char)0xff), 1);
}
END_TEST

START_TEST(cut_list)
{
	static const struct
	{
		const char *list, *items; /* each item with '|' behind it */
	} rows[] = {
			{"a,b", "a|b|"},
			{"a", "a|"},
			{"a,", "a||"},
			{",a", "|a|"},
			{",", "||"},
			{"", "|"},
	};

	for(size_t i = 0; i < FU_N(rows); i++) {
		struct cpm_pl rest = cpm_pl_str(rows[i].list);
		char buf[32];
		struct cpm_wr w;

		cpm_wr_init(&w, buf, sizeof(buf));
		while(rest.p) {
			cpm_wr_pl_put(&w, cpm_pl_cut(&rest, ','));
			cpm_wr_chr(&w, '|');
		}
		ck_assert_uint_eq(rest.n, 0);
		ck_pl_eq(cpm_wr_pl(&w), rows[i].items);
	}
}
END_TEST

/* ---- numbers ---- */

static const struct
{
	const char *text;
	uint64_t max;
	int rc;
	uint64_t v;
} numbers[] = {
		{"0", 0, CPM_OK, 0}, {"00", 9, CPM_OK, 0}, {"1", 0, CPM_ELIMIT, 0},
		{"7", 7, CPM_OK, 7}, {"8", 7, CPM_ELIMIT, 0}, {"10", 9, CPM_ELIMIT, 0},
		{"10", 10, CPM_OK, 10}, {"19", 18, CPM_ELIMIT, 0},
		{"0000000000000000000000000000000012", 12, CPM_OK, 12},
		{"65535", 65535, CPM_OK, 65535}, {"65536", 65535, CPM_ELIMIT, 0},
		{"18446744073709551615", UINT64_MAX, CPM_OK, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, CPM_ELIMIT, 0},
		{"18446744073709551625", UINT64_MAX, CPM_ELIMIT, 0},
		{"99999999999999999999999999", UINT64_MAX, CPM_ELIMIT, 0},
		{"99999999999999999999999999x", UINT64_MAX, CPM_EPROTO, 0},
		{"", 9, CPM_EPROTO, 0}, {"-1", 9, CPM_EPROTO, 0},
		{"+1", 9, CPM_EPROTO, 0}, {" 1", 9, CPM_EPROTO, 0},
		{"1 ", 9, CPM_EPROTO, 0}, {"0x1", 9, CPM_EPROTO, 0},
		{":", 9, CPM_EPROTO, 0}, /* the byte behind '9' */
		{"/", 9, CPM_EPROTO, 0}, /* the byte before '0' */
};

START_TEST(number)
{
	size_t n = strlen(numbers[_i].text);
	char *p = guard_dup(numbers[_i].text, n);
	uint64_t v = 4711;

	ck_assert_int_eq(
			cpm_pl_u64(cpm_pl(p, n), numbers[_i].max, &v), numbers[_i].rc);
	ck_assert_uint_eq(v, numbers[_i].rc == CPM_OK ? numbers[_i].v : 4711);
	guard_free(p, n);
}
END_TEST

START_TEST(c_string)
{
	char buf[4] = "xyz";

	ck_assert_str_eq(cpm_pl_cstr(cpm_pl_str("ab"), buf, 4), "ab");
	ck_assert_str_eq(cpm_pl_cstr(cpm_pl_str("abc"), buf, 4), "abc");
	ck_assert_str_eq(cpm_pl_cstr(cpm_pl_str("abcd"), buf, 4), "abc");
	ck_assert_str_eq(cpm_pl_cstr(cpm_pl_str("abcd"), buf, 1), "");
	ck_assert_str_eq(cpm_pl_cstr(CPM_PL_NULL, buf, 4), "");
	buf[0] = 'q';
	ck_assert_ptr_eq(cpm_pl_cstr(cpm_pl_str("abcd"), buf, 0), buf);
	ck_assert_int_eq(buf[0], 'q');
}
END_TEST

/* ---- the hash ---- */

/* The published test vectors of FNV-1a: fingerprints are in queues. */
START_TEST(hash_values)
{
	static const struct
	{
		const char *text;
		uint64_t hash;
	} rows[] = {
			{"", UINT64_C(0xcbf29ce484222325)},
			{"a", UINT64_C(0xaf63dc4c8601ec8c)},
			{"foobar", UINT64_C(0x85944171f73967e8)},
	};

	for(size_t i = 0; i < FU_N(rows); i++)
		ck_assert_uint_eq(cpm_hash64(CPM_HASH_INIT, cpm_pl_str(rows[i].text)),
				rows[i].hash);
	ck_assert_uint_eq(cpm_hash64(cpm_hash64(CPM_HASH_INIT, cpm_pl_str("foo")),
							  cpm_pl_str("bar")),
			cpm_hash64(CPM_HASH_INIT, cpm_pl_str("foobar")));
}
END_TEST

/* ---- the helpers themselves ---- */

START_TEST(guard_reads_inside)
{
	char *p = guard_dup("abc", 3);

	ck_pl_eq(cpm_pl(p, 3), "abc");
	guard_free(p, 3);
	p = guard_dup("", 0);
	guard_free(p, 0);
}
END_TEST

START_TEST(guard_kills_outside)
{
	volatile char *p = guard_dup("abc", 3);

	/* a sanitizer would turn the signal into a report and an exit */
	signal(SIGSEGV, SIG_DFL);
	(void)p[3];
}
END_TEST

static void count_prefix(struct cpm_pl prefix, void *arg)
{
	size_t *seen = arg;

	ck_assert_uint_eq(prefix.n, *seen);
	ck_assert(cpm_pl_starts(cpm_pl_str("abcd"), prefix));
	++*seen;
}

START_TEST(guard_all_prefixes)
{
	size_t seen = 0;

	guard_prefixes(cpm_pl_str("abcd"), count_prefix, &seen);
	ck_assert_uint_eq(seen, 5);
}
END_TEST

/* A parser of lines, just for the trickle to have one. */
struct liner
{
	struct cpm_wr *log;
	size_t len;
	bool per_call; /* the fault that a trickle finds */
};

static void *liner_open(struct cpm_wr *log)
{
	struct liner *l = calloc(1, sizeof(*l));

	ck_assert_ptr_nonnull(l);
	l->log = log;
	return l;
}

static void *faulty_open(struct cpm_wr *log)
{
	struct liner *l = liner_open(log);

	l->per_call = true;
	return l;
}

static void liner_feed(void *parser, struct cpm_pl bytes)
{
	struct liner *l = parser;

	if(l->per_call)
		l->len = 0;
	for(size_t i = 0; i < bytes.n; i++) {
		if(bytes.p[i] != '\n') {
			l->len++;
			continue;
		}
		cpm_wr_str(l->log, "line ");
		cpm_wr_u64(l->log, l->len);
		cpm_wr_chr(l->log, ';');
		l->len = 0;
	}
}

static void liner_close(void *parser)
{
	struct liner *l = parser;

	cpm_wr_str(l->log, "left ");
	cpm_wr_u64(l->log, l->len);
	free(l);
}

START_TEST(trickle_same_events)
{
	struct trickle t = {liner_open, liner_feed, liner_close};
	struct cpm_pl log = trickle(&t, cpm_pl_str("ab\n\nabcd\nx"));

	ck_pl_eq(log, "line 2;line 0;line 4;left 1");
	fu_free(&log);
}
END_TEST

START_TEST(trickle_finds_fault)
{
	struct trickle t = {faulty_open, liner_feed, liner_close};
	struct cpm_pl log = trickle(&t, cpm_pl_str("ab\nabcd\nx"));

	fu_free(&log);
}
END_TEST

/* Four allocations, the last by realloc; *leak: forgets one on failure. */
static int allocate(void *leak)
{
	char *a = ladder_strdup("ab"), *b = ladder_malloc(10),
		 *c = ladder_calloc(2, 5), *d = NULL;
	int rc = a && b && c ? CPM_OK : CPM_ENOMEM;

	if(rc == CPM_OK) {
		d = ladder_realloc(b, 20);
		if(d)
			b = NULL;
		else
			rc = CPM_ENOMEM;
	}
	if(rc == CPM_OK || !*(bool *)leak)
		ladder_free(a);
	ladder_free(b);
	ladder_free(c);
	ladder_free(d);
	return rc;
}

START_TEST(ladder_counts)
{
	bool leak = false;

	ck_assert_uint_eq(ladder_climb(allocate, &leak), 4);
}
END_TEST

START_TEST(ladder_finds_leak)
{
	bool leak = true;

	ladder_climb(allocate, &leak);
}
END_TEST

/* Only where the program was linked for it. */
START_TEST(ladder_takes_malloc)
{
	void *p;

	if(!ladder_linked())
		return;
	ladder_arm(1);
	p = malloc(1);
	ck_assert(ladder_disarm());
	ck_assert_ptr_null(p);
}
END_TEST

START_TEST(unhex)
{
	struct cpm_pl a = fu_unhex(cpm_pl_str("43 4d\n00ff"));

	ck_pl_same(a, cpm_pl("CM\0\xff", 4));
	fu_free(&a);
}
END_TEST

/* What a helper must find makes the test fail, so the failure is expected. */
static void failing_case(Suite *s, const char *sentence, const TTest *test,
		int signum, int status)
{
	const char *fork_mode = getenv("CK_FORK");
	TCase *tc;

	/* under a debugger nothing would survive it */
	if(fork_mode && strcmp(fork_mode, "no") == 0)
		return;
	tc = tcase_create(sentence);
	if(signum)
		tcase_add_test_raise_signal(tc, test, signum);
	else
		tcase_add_exit_test(tc, test, status);
	suite_add_tcase(s, tc);
}

START_TEST(hex_values)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	char c = (char)_i;
	const char *at = c != '\0' ? strchr(digits, c) : NULL;
	ptrdiff_t want = at != NULL ? at - digits : -1;

	ck_assert_int_eq(cpm_hex_value(c), want > 15 ? want - 6 : want);
}
END_TEST

START_TEST(control_characters)
{
	char text[3] = {'a', (char)_i, 'b'};
	bool is_ctl = (_i < ' ' && _i != '\t') || _i == 0x7f;

	ck_assert_uint_eq(cpm_pl_ctl(cpm_pl(text, 3)), is_ctl ? 1 : 3);
	ck_assert_uint_eq(cpm_pl_ctl(CPM_PL_NULL), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_base");

	fu_case(s, "every result has a name", rc_names);
	fu_case(s, "a slice is made from a string", from_string);
	fu_case(s, "slices compare by bytes, or without case", compare);
	fu_case(s, "a slice knows its prefixes", prefixes);
	fu_case(s, "blanks at either end are trimmed", trim);
	fu_case(s, "an offset past the end leaves nothing", from_offset);
	fu_case(s, "a missing character is found at the end", find_chr);
	fu_case(s, "a list is cut into all of its items", cut_list);
	fu_table(s, "a number is all digits and within its bound", number,
			FU_N(numbers));
	fu_case(s, "a C string is cut to its buffer", c_string);
	fu_case(s, "the hash never changes", hash_values);

	fu_case(s, "a guarded copy can be read", guard_reads_inside);
	failing_case(
			s, "a byte too far is a crash", guard_kills_outside, SIGSEGV, 0);
	fu_case(s, "all prefixes are tried", guard_all_prefixes);
	fu_case(s, "a stream in pieces gives the same events", trickle_same_events);
	failing_case(s, "a stream parser without memory is caught",
			trickle_finds_fault, 0, 1);
	fu_case(s, "a ladder has a rung for every allocation", ladder_counts);
	failing_case(s, "a leak on a rung is caught", ladder_finds_leak, 0, 1);
	fu_case(s, "malloc fails when the ladder is armed", ladder_takes_malloc);
	fu_case(s, "hex digits become bytes", unhex);
	fu_table(s, "a hexadecimal digit has its value, all else none", hex_values,
			256);
	fu_table(s, "a control character is found, a tab is none",
			control_characters, 256);
	return fu_run(s);
}
