/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_time.c - dates of SIP and JSON.
 */

#include "check_helpers.h"
#include "cpm_time.h"

#include <stdio.h>

#define LAST UINT64_C(253402300799) /* the last second of the year 9999 */

static int parse_guarded(
		int (*parse)(struct cpm_pl, uint64_t *), const char *text, uint64_t *v)
{
	size_t n = strlen(text);
	char *p = guard_dup(text, n);
	int rc = parse(cpm_pl(p, n), v);

	guard_free(p, n);
	return rc;
}

static struct cpm_pl put_sip(uint64_t sec, char out[static 32])
{
	struct cpm_wr w;

	cpm_wr_init(&w, out, 32);
	cpm_time_put_sip(&w, sec);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

static struct cpm_pl put_rfc3339(uint64_t ms, char out[static 32])
{
	struct cpm_wr w;

	cpm_wr_init(&w, out, 32);
	cpm_time_put_rfc3339(&w, ms);
	ck_assert(cpm_wr_ok(&w));
	return cpm_wr_pl(&w);
}

/* ---- both forms of known instants ---- */

static const struct
{
	uint64_t sec;
	const char *sip, *rfc3339;
} known[] = {
		{0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z"},
		{86399, "Thu, 01 Jan 1970 23:59:59 GMT", "1970-01-01T23:59:59.000Z"},
		{86400, "Fri, 02 Jan 1970 00:00:00 GMT", "1970-01-02T00:00:00.000Z"},
		{68169600, "Tue, 29 Feb 1972 00:00:00 GMT", "1972-02-29T00:00:00.000Z"},
		{68256000, "Wed, 01 Mar 1972 00:00:00 GMT", "1972-03-01T00:00:00.000Z"},
		{951782400, "Tue, 29 Feb 2000 00:00:00 GMT",
				"2000-02-29T00:00:00.000Z"},
		{951868800, "Wed, 01 Mar 2000 00:00:00 GMT",
				"2000-03-01T00:00:00.000Z"},
		{978307199, "Sun, 31 Dec 2000 23:59:59 GMT",
				"2000-12-31T23:59:59.000Z"},
		{1289690940, "Sat, 13 Nov 2010 23:29:00 GMT",
				"2010-11-13T23:29:00.000Z"},
		{1709208000, "Thu, 29 Feb 2024 12:00:00 GMT",
				"2024-02-29T12:00:00.000Z"},
		{2147483648, "Tue, 19 Jan 2038 03:14:08 GMT",
				"2038-01-19T03:14:08.000Z"},
		{4107542400, "Mon, 01 Mar 2100 00:00:00 GMT",
				"2100-03-01T00:00:00.000Z"},
		{4107542399, "Sun, 28 Feb 2100 23:59:59 GMT",
				"2100-02-28T23:59:59.000Z"},
		{LAST, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.000Z"},
};

START_TEST(known_instants)
{
	char out[32];
	uint64_t v = 1;

	ck_pl_eq(put_sip(known[_i].sec, out), known[_i].sip);
	ck_pl_eq(put_rfc3339(known[_i].sec * 1000, out), known[_i].rfc3339);
	ck_assert_int_eq(
			parse_guarded(cpm_time_parse_sip, known[_i].sip, &v), CPM_OK);
	ck_assert_uint_eq(v, known[_i].sec);
	ck_assert_int_eq(
			parse_guarded(cpm_time_parse_rfc3339, known[_i].rfc3339, &v),
			CPM_OK);
	ck_assert_uint_eq(v, known[_i].sec * 1000);
}
END_TEST

START_TEST(past_9999)
{
	char out[32];

	ck_pl_eq(put_sip(LAST + 1, out), "Fri, 31 Dec 9999 23:59:59 GMT");
	ck_pl_eq(put_sip(UINT64_MAX, out), "Fri, 31 Dec 9999 23:59:59 GMT");
	ck_pl_eq(put_rfc3339(LAST * 1000 + 1000, out), "9999-12-31T23:59:59.999Z");
	ck_pl_eq(put_rfc3339(UINT64_MAX, out), "9999-12-31T23:59:59.999Z");
}
END_TEST

/* ---- a sweep ---- */

static int trip_sip(struct cpm_pl in, struct cpm_wr *w)
{
	uint64_t sec;
	int rc = cpm_time_parse_sip(in, &sec);

	if(rc == CPM_OK)
		cpm_time_put_sip(w, sec);
	return rc;
}

static int trip_rfc3339(struct cpm_pl in, struct cpm_wr *w)
{
	uint64_t ms;
	int rc = cpm_time_parse_rfc3339(in, &ms);

	if(rc == CPM_OK)
		cpm_time_put_rfc3339(w, ms);
	return rc;
}

/* A prime step of about 30 days meets every month, day and hour. */
START_TEST(sweep)
{
	char out[32];

	for(uint64_t sec = 0; sec <= LAST; sec += 2591999) {
		uint64_t back = 0;
		uint64_t ms = sec * 1000 + sec % 1000;

		ck_assert_int_eq(cpm_time_parse_sip(put_sip(sec, out), &back), CPM_OK);
		ck_assert_uint_eq(back, sec);
		ck_assert_int_eq(
				cpm_time_parse_rfc3339(put_rfc3339(ms, out), &back), CPM_OK);
		ck_assert_uint_eq(back, ms);
	}
}
END_TEST

/* Each day of four centuries is the day after the one before. */
START_TEST(every_day)
{
	static const unsigned char len[12] = {
			31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	unsigned y = 1970, m = 1, d = 1;

	for(uint64_t day = 0; y < 2370; day++) {
		char want[48], out[32];
		bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);

		snprintf(want, sizeof(want), "%04u-%02u-%02uT00:00:00.000Z", y, m, d);
		ck_pl_eq(put_rfc3339(day * 86400000, out), want);
		if(++d <= len[m - 1] + (m == 2 && leap ? 1u : 0u))
			continue;
		d = 1;
		if(++m <= 12)
			continue;
		m = 1;
		y++;
	}
}
END_TEST

START_TEST(round_trips)
{
	round_trip(trip_sip, cpm_pl_str("sat,3 nov 2010 23:29:00 gmt"),
			cpm_pl_str("Wed, 03 Nov 2010 23:29:00 GMT"));
	round_trip(trip_rfc3339, cpm_pl_str("2010-11-13T23:29:00.1239+01:30"),
			cpm_pl_str("2010-11-13T21:59:00.123Z"));
}
END_TEST

/* ---- what else is accepted, and what is not ---- */

static const struct
{
	const char *text;
	int rc;
	uint64_t sec;
} sip_dates[] = {
		{"Sat,13 Nov 2010 23:29:00 GMT", CPM_OK, 1289690940},
		{"Mon, 13 Nov 2010 23:29:00 GMT", CPM_OK, 1289690940},
		{"Mon, 1 Nov 2010 00:00:00 GMT", CPM_OK, 1288569600},
		{"sat, 13 NOV 2010 23:29:00 gmt", CPM_OK, 1289690940},
		{"Sat, 31 Dec 2016 23:59:60 GMT", CPM_OK, 1483228799},
		{"Fri, 31 Dec 9999 23:59:60 GMT", CPM_OK, LAST},
		{"", CPM_EPROTO, 0},
		{"Sat", CPM_EPROTO, 0},
		{"Sit, 13 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat 13 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat,  13 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nev 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 013 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 10 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 12010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 3:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23.29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:29 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 24:00:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:60:00 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:29:61 GMT", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:29:00", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:29:00 CET", CPM_EPROTO, 0},
		{"Sat, 13 Nov 2010 23:29:00 GMT ", CPM_EPROTO, 0},
		{"Sat, 0 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 31 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 32 Dec 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 29 Feb 2010 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 29 Feb 2100 23:29:00 GMT", CPM_EPROTO, 0},
		{"Sat, 30 Feb 2000 23:29:00 GMT", CPM_EPROTO, 0},
		{"Wed, 31 Dec 1969 23:59:59 GMT", CPM_EPROTO, 0},
		{"Sat, -1 Nov 2010 23:29:00 GMT", CPM_EPROTO, 0},
};

START_TEST(sip_date)
{
	uint64_t v = 4711;

	ck_assert_int_eq(parse_guarded(cpm_time_parse_sip, sip_dates[_i].text, &v),
			sip_dates[_i].rc);
	ck_assert_uint_eq(v, sip_dates[_i].rc == CPM_OK ? sip_dates[_i].sec : 4711);
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	uint64_t ms;
} json_dates[] = {
		{"2010-11-13T23:29:00Z", CPM_OK, 1289690940000},
		{"2010-11-13t23:29:00z", CPM_OK, 1289690940000},
		{"2010-11-13T23:29:00.1Z", CPM_OK, 1289690940100},
		{"2010-11-13T23:29:00.12Z", CPM_OK, 1289690940120},
		{"2010-11-13T23:29:00.1239999999999999999999Z", CPM_OK, 1289690940123},
		{"2010-11-13T23:29:00+00:00", CPM_OK, 1289690940000},
		{"2010-11-14T00:29:00+01:00", CPM_OK, 1289690940000},
		{"2010-11-13T15:29:00.500-08:00", CPM_OK, 1289690940500},
		{"2010-11-14T05:14:00+05:45", CPM_OK, 1289690940000},
		{"1970-01-01T01:00:00+01:00", CPM_OK, 0},
		{"1970-01-01T00:00:00-00:01", CPM_OK, 60000},
		{"2016-12-31T23:59:60Z", CPM_OK, 1483228799000},
		{"1970-01-01T00:59:59+01:00", CPM_EPROTO, 0}, /* is 1969 */
		{"9999-12-31T23:59:59-00:01", CPM_EPROTO, 0}, /* is 10000 */
		{"1969-12-31T23:59:59-01:00", CPM_EPROTO, 0},
		{"", CPM_EPROTO, 0},
		{"2010-11-13", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00", CPM_EPROTO, 0},
		{"2010-11-13 23:29:00Z", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00.Z", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00ZZ", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00+1:00", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00+0100", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00+24:00", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00+00:60", CPM_EPROTO, 0},
		{"2010-11-13T23:29:00+01:00x", CPM_EPROTO, 0},
		{"2010-11-13T23:29Z", CPM_EPROTO, 0},
		{"2010-11-13T24:00:00Z", CPM_EPROTO, 0},
		{"2010-11-13T23:29:61Z", CPM_EPROTO, 0},
		{"2010-13-13T23:29:00Z", CPM_EPROTO, 0},
		{"2010-00-13T23:29:00Z", CPM_EPROTO, 0},
		{"2010-11-00T23:29:00Z", CPM_EPROTO, 0},
		{"2010-02-29T23:29:00Z", CPM_EPROTO, 0},
		{"2010-2-9T23:29:00Z", CPM_EPROTO, 0},
		{"12010-11-13T23:29:00Z", CPM_EPROTO, 0},
		{"2010_11-13T23:29:00Z", CPM_EPROTO, 0},
		{"2010-11_13T23:29:00Z", CPM_EPROTO, 0},
};

START_TEST(json_date)
{
	uint64_t v = 4711;

	ck_assert_int_eq(
			parse_guarded(cpm_time_parse_rfc3339, json_dates[_i].text, &v),
			json_dates[_i].rc);
	ck_assert_uint_eq(
			v, json_dates[_i].rc == CPM_OK ? json_dates[_i].ms : 4711);
}
END_TEST

static void never_sip(struct cpm_pl prefix, void *whole)
{
	uint64_t v;

	ck_assert(prefix.n == *(size_t *)whole
			  || cpm_time_parse_sip(prefix, &v) == CPM_EPROTO);
}

static void never_rfc3339(struct cpm_pl prefix, void *whole)
{
	uint64_t v;

	ck_assert(prefix.n == *(size_t *)whole
			  || cpm_time_parse_rfc3339(prefix, &v) == CPM_EPROTO);
}

START_TEST(prefixes)
{
	struct cpm_pl sip = CPM_PL_LIT("Sat, 13 Nov 2010 23:29:00 GMT");
	struct cpm_pl json = CPM_PL_LIT("2010-11-13T23:29:00.123+01:00");

	guard_prefixes(sip, never_sip, &sip.n);
	guard_prefixes(json, never_rfc3339, &json.n);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_time");

	fu_table(s, "a known instant is written and read in both forms",
			known_instants, FU_N(known));
	fu_case(s, "what is past 9999 is written as its end", past_9999);
	fu_case(s, "what is written reads as the same, over all years", sweep);
	fu_case(s, "each day follows the one before, over 400 years", every_day);
	fu_case(s, "a tolerated form becomes the strict one", round_trips);
	fu_table(s, "a SIP date is read or refused", sip_date, FU_N(sip_dates));
	fu_table(s, "a JSON date is read or refused", json_date, FU_N(json_dates));
	fu_case(s, "half a date is none", prefixes);
	return fu_run(s);
}
