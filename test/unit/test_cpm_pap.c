/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_pap.c - what a push gateway is told, and what its answers mean.
 */

#include "check_helpers.h"
#include "cpm_pap.h"

#include <stdio.h>

#define L(s) CPM_PL_LIT(s)

static char body[CPM_PAP_BODY_MAX];

static struct cpm_pl body_of(
		const struct cpm_pap *p, enum cpm_pap_format format)
{
	struct cpm_wr w;

	cpm_wr_init(&w, body, sizeof(body));
	ck_assert_int_eq(cpm_pap_body(p, format, &w), CPM_OK);
	return cpm_wr_pl(&w);
}

static bool has(struct cpm_pl a, const char *text)
{
	return memmem(a.p, a.n, text, strlen(text)) != NULL;
}

static struct cpm_pap plain(void)
{
	return (struct cpm_pap){.push_id = L("0123-1@pf.example.org"),
			.source = L("sip:pf@example.org"),
			.host = L("ppg.example.org"),
			.aor = L("sip:bob@example.org"),
			.deliver_before_s = 1289691000,
			.fields = CPM_NOTIFY_ALL,
			.total = 3,
			.subject = L("Lunch"),
			.from = L("\"Alice\" <sip:alice@example.org>"),
			.date_ms = 1289690940123,
			.size = 124};
}

/* ------------------------------------------------------------------ bodies */

START_TEST(json_whole)
{
	struct cpm_pap p = plain();

	ck_pl_eq(body_of(&p, CPM_PAP_JSON),
			"{\"push-id\":\"0123-1@pf.example.org\","
			"\"source-reference\":\"sip:pf@example.org\","
			"\"deliver-before\":\"2010-11-13T23:30:00Z\","
			"\"address\":\"sip:bob@example.org\","
			"\"content\":{\"event\":\"queued-messages\",\"total\":3,"
			"\"date\":\"2010-11-13T23:29:00Z\",\"size\":124,"
			"\"subject\":\"Lunch\","
			"\"from\":\"\\\"Alice\\\" <sip:alice@example.org>\"}}");
}
END_TEST

START_TEST(json_least)
{
	struct cpm_pn pn = {L("fcm"), CPM_PL_NULL, L("tok\"en")};
	struct cpm_pap p = {.push_id = L("1"),
			.aor = L("sip:bob@example.org"),
			.pn = &pn,
			.subject = L("Lunch"),
			.from = L("<sip:alice@example.org>"),
			.total = 1};

	ck_pl_eq(body_of(&p, CPM_PAP_JSON),
			"{\"push-id\":\"1\",\"address\":{\"provider\":\"fcm\","
			"\"param\":\"\",\"prid\":\"tok\\\"en\"},"
			"\"content\":{\"event\":\"queued-messages\",\"total\":1}}");
}
END_TEST

START_TEST(xml_whole)
{
	struct cpm_pap p = plain();

	ck_pl_eq(body_of(&p, CPM_PAP_XML),
			"--cpm_pf-push-entity\r\n"
			"Content-Type: application/xml; charset=UTF-8\r\n\r\n"
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"
			"<!DOCTYPE pap PUBLIC \"-//WAPFORUM//DTD PAP 2.1//EN\"\r\n"
			" \"http://www.openmobilealliance.org/tech/DTD/pap_2.1.dtd\">\r\n"
			"<pap product-name=\"cpm_pf\">\r\n"
			"<push-message push-id=\"0123-1@pf.example.org\""
			" deliver-before-timestamp=\"2010-11-13T23:30:00Z\""
			" source-reference=\"sip:pf@example.org\">\r\n"
			"<address address-value="
			"\"WAPPUSH=bob%40example.org/TYPE=USER@ppg.example.org\"/>\r\n"
			"<quality-of-service priority=\"medium\""
			" delivery-method=\"unconfirmed\"/>\r\n"
			"</push-message>\r\n</pap>\r\n"
			"--cpm_pf-push-entity\r\n"
			"Content-Type: application/json\r\n\r\n"
			"{\"event\":\"queued-messages\",\"total\":3,"
			"\"date\":\"2010-11-13T23:29:00Z\",\"size\":124,"
			"\"subject\":\"Lunch\","
			"\"from\":\"\\\"Alice\\\" <sip:alice@example.org>\"}\r\n"
			"--cpm_pf-push-entity--\r\n");
	ck_assert_str_eq(cpm_pap_type(CPM_PAP_XML),
			"multipart/related; boundary=\"cpm_pf-push-entity\"; "
			"type=\"application/xml\"");
	ck_assert_str_eq(cpm_pap_type(CPM_PAP_JSON), "application/json");
}
END_TEST

static const struct
{
	const char *aor;
	const char *address;
} addresses[] = {
		{"tel:+358401234567", "WAPPUSH=+358401234567/TYPE=PLMN@ppg"},
		{"sip:+358401234567@example.org",
				"WAPPUSH=+358401234567/TYPE=PLMN@ppg"},
		{"sip:bob@example.org", "WAPPUSH=bob%40example.org/TYPE=USER@ppg"},
		{"sip:+358x@example.org",
				"WAPPUSH=%2B358x%40example.org/TYPE=USER@ppg"},
		{"sip:+@example.org", "WAPPUSH=%2B%40example.org/TYPE=USER@ppg"},
		{"tel:112;phone-context=example.org",
				"WAPPUSH=112%3Bphone-context%3Dexample.org/TYPE=USER@ppg"},
		/* an address cannot end its own part */
		{"sip:a/TYPE=PLMN%40x@example.org",
				"WAPPUSH=a%2FTYPE%3DPLMN%2540x%40example.org/TYPE=USER@ppg"},
};

START_TEST(address)
{
	struct cpm_pap p = plain();
	char want[300];

	p.aor = cpm_pl_str(addresses[_i].aor);
	p.host = L("ppg");
	(void)snprintf(want, sizeof(want), "<address address-value=\"%s\"/>",
			addresses[_i].address);
	ck_assert_msg(has(body_of(&p, CPM_PAP_XML), want), "%s in\n%s", want, body);
}
END_TEST

START_TEST(client_address)
{
	struct cpm_pn pn = {L("apns"), L("TEAM.org.example:x"), L("00f/\"<&")};
	struct cpm_pap p = plain();

	p.pn = &pn;
	p.host = L("ppg");
	ck_assert(has(body_of(&p, CPM_PAP_XML),
			"\"WAPPUSH=apns:TEAM.org.example%3Ax:00f%2F%22%3C%26/TYPE=USER@ppg"
			"\""));
}
END_TEST

START_TEST(fields)
{
	static const struct
	{
		unsigned field;
		const char *member;
	} rows[] = {{CPM_NOTIFY_SUBJECT, "\"subject\""},
			{CPM_NOTIFY_FROM, "\"from\""}, {CPM_NOTIFY_DATE, "\"date\""},
			{CPM_NOTIFY_SIZE, "\"size\""}};
	struct cpm_pap p = plain();
	unsigned set;
	size_t i;

	for(set = 0; set <= CPM_NOTIFY_ALL; set++) {
		p.fields = set;
		for(i = 0; i < FU_N(rows); i++) {
			ck_assert_int_eq(has(body_of(&p, CPM_PAP_JSON), rows[i].member),
					(set & rows[i].field) != 0);
			ck_assert_int_eq(has(body_of(&p, CPM_PAP_XML), rows[i].member),
					(set & rows[i].field) != 0);
		}
		ck_assert(has(body_of(&p, CPM_PAP_JSON), "\"total\":3"));
	}
}
END_TEST

/* What a sender writes ends no string, no line and no entity. */
static const struct
{
	const char *in;
	size_t n;
	const char *json;
} hostile[] = {
#define H(in, json)              \
	{                            \
		in, sizeof(in) - 1, json \
	}
#define R "\xef\xbf\xbd" /* U+FFFD */
		H("a\"b\\c", "a\\\"b\\\\c"),
		H("a\r\nX-Evil: 1\r\n\r\n--cpm_pf-push-entity--",
				"a" R R "X-Evil: 1" R R R R "--cpm_pf-push-entity--"),
		H("a\0b\x7f", "a" R "b" R),
		H("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
				"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
		H("\xc0\xaf\xe0\x80\xaf\xff\xed\xa0\x80", R R R R R R R R R),
		H("x\xe2\x82", "x" R R),
		H("\xef\xbf\xbf", R R R),
		H("</pap><a>&lt;", "</pap><a>&lt;"),
#undef H
};

START_TEST(escapes)
{
	struct cpm_pl in = cpm_pl(hostile[_i].in, hostile[_i].n);
	char *copy = guard_dup(in.p, in.n);
	struct cpm_pap p = plain();
	char want[200];
	struct cpm_pl got;
	size_t i;

	p.subject = cpm_pl(copy, in.n);
	(void)snprintf(want, sizeof(want), "\"subject\":\"%s\",", hostile[_i].json);
	ck_assert_msg(has(body_of(&p, CPM_PAP_JSON), want), "%s", body);
	ck_assert_msg(has(body_of(&p, CPM_PAP_XML), want), "%s", body);
	p.from = p.subject;
	p.subject = CPM_PL_NULL;
	(void)snprintf(want, sizeof(want), "\"from\":\"%s\"}", hostile[_i].json);
	got = body_of(&p, CPM_PAP_JSON);
	ck_assert_msg(has(got, want), "%s", body);
	for(i = 0; i < got.n; i++) {
		ck_assert_uint_ge((unsigned char)got.p[i], 0x20);
	}
	guard_free(copy, in.n);
}
END_TEST

START_TEST(attributes)
{
	struct cpm_pap p = plain();

	p.push_id = L("a\"b<c>&\r\nd");
	ck_assert(has(body_of(&p, CPM_PAP_XML),
			" push-id=\"a&quot;b&lt;c&gt;&amp;" R R "d\""));
}
END_TEST

START_TEST(cut)
{
	char subject[2 * CPM_PAP_TEXT_MAX];
	char want[CPM_PAP_TEXT_MAX + 32];
	struct cpm_pap p = plain();
	size_t i;

	/* 85 characters of three bytes, and one that does not fit */
	for(i = 0; i + 3 <= sizeof(subject); i += 3) {
		memcpy(subject + i, "\xe2\x82\xac", 3);
	}
	p.subject = cpm_pl(subject, i);
	(void)snprintf(want, sizeof(want), "\"subject\":\"%.*s\",", 255, subject);
	ck_assert(has(body_of(&p, CPM_PAP_JSON), want));
}
END_TEST

START_TEST(largest)
{
	static char value[CPM_PN_VALUE_MAX];
	static char text[4 * CPM_PAP_TEXT_MAX];
	static char aor[256];
	struct cpm_pn pn;
	struct cpm_pap p = plain();
	struct cpm_wr w;
	char small[300];

	memset(value, '"', sizeof(value));
	memset(text, 1, sizeof(text));
	memset(aor, '"', sizeof(aor));
	pn.provider = pn.param = pn.prid = cpm_pl(value, sizeof(value));
	p.subject = p.from = cpm_pl(text, sizeof(text));
	p.source = p.aor = p.push_id = cpm_pl(aor, sizeof(aor));
	p.total = p.size = UINT64_MAX;
	p.date_ms = p.deliver_before_s = UINT64_MAX;
	(void)body_of(&p, CPM_PAP_XML);
	(void)body_of(&p, CPM_PAP_JSON);
	p.pn = &pn;
	(void)body_of(&p, CPM_PAP_XML);
	ck_assert(has(body_of(&p, CPM_PAP_JSON), "\"9999-12-31T23:59:59Z\""));
	cpm_wr_init(&w, small, sizeof(small));
	ck_assert_int_eq(cpm_pap_body(&p, CPM_PAP_XML, &w), CPM_ENOMEM);
}
END_TEST

/* ----------------------------------------------------------------- answers */

static const struct
{
	unsigned code;
	enum cpm_pap_answer answer;
} results[] = {{1000, CPM_PAP_TAKEN}, {1001, CPM_PAP_TAKEN},
		{2000, CPM_PAP_REFUSED}, {2001, CPM_PAP_REFUSED}, {2002, CPM_PAP_GONE},
		{2003, CPM_PAP_GONE}, {2004, CPM_PAP_REFUSED}, {2007, CPM_PAP_TAKEN},
		{2999, CPM_PAP_REFUSED}, {3000, CPM_PAP_LATER}, {3001, CPM_PAP_REFUSED},
		{3999, CPM_PAP_REFUSED}, {4000, CPM_PAP_LATER}, {4001, CPM_PAP_LATER},
		{5000, CPM_PAP_LATER}, {0, CPM_PAP_LATER}, {999, CPM_PAP_LATER},
		{UINT32_MAX, CPM_PAP_LATER}};

START_TEST(result)
{
	ck_assert_int_eq(cpm_pap_result(results[_i].code), results[_i].answer);
}
END_TEST

static const struct
{
	unsigned status;
	enum cpm_pap_answer json, xml;
} statuses[] = {{0, CPM_PAP_LATER, CPM_PAP_LATER},
		{200, CPM_PAP_TAKEN, CPM_PAP_READ}, {202, CPM_PAP_TAKEN, CPM_PAP_READ},
		{204, CPM_PAP_TAKEN, CPM_PAP_READ},
		{301, CPM_PAP_REFUSED, CPM_PAP_REFUSED},
		{400, CPM_PAP_REFUSED, CPM_PAP_REFUSED},
		{401, CPM_PAP_REFUSED, CPM_PAP_REFUSED},
		{404, CPM_PAP_GONE, CPM_PAP_REFUSED},
		{408, CPM_PAP_LATER, CPM_PAP_LATER},
		{410, CPM_PAP_GONE, CPM_PAP_REFUSED},
		{425, CPM_PAP_LATER, CPM_PAP_LATER},
		{429, CPM_PAP_LATER, CPM_PAP_LATER},
		{500, CPM_PAP_LATER, CPM_PAP_LATER},
		{503, CPM_PAP_LATER, CPM_PAP_LATER},
		{999, CPM_PAP_LATER, CPM_PAP_LATER},
		{100, CPM_PAP_LATER, CPM_PAP_LATER}};

START_TEST(status)
{
	ck_assert_int_eq(cpm_pap_status(CPM_PAP_JSON, statuses[_i].status),
			statuses[_i].json);
	ck_assert_int_eq(
			cpm_pap_status(CPM_PAP_XML, statuses[_i].status), statuses[_i].xml);
}
END_TEST

/* ---------------------------------------------------------------- settings */

static const struct
{
	const char *url;
	const char *host; /* NULL: none */
} urls[] = {{"https://ppg.example.org/pap", "ppg.example.org"},
		{"http://127.0.0.1:8090/", "127.0.0.1"},
		{"HTTP://[2001:db8::1]:80/x?y=@", "[2001:db8::1]"},
		{"https://ppg.example.org?x", "ppg.example.org"},
		{"https://ppg.example.org", "ppg.example.org"}, {"", NULL},
		{"https://", NULL}, {"https:///x", NULL}, {"http://:80/", NULL},
		{"ftp://ppg.example.org/", NULL}, {"file:///etc/passwd", NULL},
		{"ppg.example.org", NULL}, {"https://u:p@ppg.example.org/", NULL},
		{"https://ppg.example.org/a b", NULL}, {"https://ppg/\r\nX: y", NULL},
		{"https://ppg/#f", NULL}, {"https://ppg:port/", NULL},
		{"https://ppg:99999/", NULL}, {"https://[::1/", NULL},
		{"https://[::1]x/", NULL}, {"https://ppg\"/", NULL}};

START_TEST(url)
{
	struct cpm_pl host = CPM_PL_NULL;
	int rc = cpm_pap_url(cpm_pl_str(urls[_i].url), &host);

	ck_assert_int_eq(rc, urls[_i].host != NULL ? CPM_OK : CPM_EPROTO);
	ck_pl_eq(host, urls[_i].host != NULL ? urls[_i].host : "");
}
END_TEST

START_TEST(intervals)
{
	uint64_t ms[CPM_PAP_INTERVALS_MAX];
	size_t n = 99;

	ck_assert_int_eq(cpm_pap_intervals(L("60, 300,86400"), ms, &n), CPM_OK);
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(ms[0], 60000);
	ck_assert_uint_eq(ms[1], 300000);
	ck_assert_uint_eq(ms[2], 86400000);
	n = 99;
	ck_assert_int_eq(cpm_pap_intervals(L(""), ms, &n), CPM_EPROTO);
	ck_assert_int_eq(cpm_pap_intervals(CPM_PL_NULL, ms, &n), CPM_EPROTO);
	ck_assert_int_eq(cpm_pap_intervals(L("0"), ms, &n), CPM_EPROTO);
	ck_assert_int_eq(cpm_pap_intervals(L("1,"), ms, &n), CPM_EPROTO);
	ck_assert_int_eq(cpm_pap_intervals(L("86401"), ms, &n), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_pap_intervals(L("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"), ms, &n),
			CPM_ELIMIT);
	ck_assert_uint_eq(n, 99);
}
END_TEST

static const struct
{
	const char *text;
	int login; /* -1: none */
	const char *v;
} logins[] = {
		{"Bearer abc.def:ghi\n", CPM_PAP_LOGIN_HEADER, "Bearer abc.def:ghi"},
		{"Authorization: Bearer x\r\n# more\n", CPM_PAP_LOGIN_HEADER,
				"Bearer x"},
		{"pf:se cret", CPM_PAP_LOGIN_USER, "pf:se cret"},
		{"  pf:secret  \nBearer y", CPM_PAP_LOGIN_USER, "pf:secret"},
		{"", -1, ""},
		{"\n", -1, ""},
		{"token", -1, ""},
		{"Bearer a\rX-Evil: 1", -1, ""},
		{"Authorization:", -1, ""},
		{"Authorization: token", -1, ""},
		{"pf:\xff", -1, ""},
};

START_TEST(credentials)
{
	enum cpm_pap_login login = (enum cpm_pap_login)9;
	struct cpm_pl v = CPM_PL_NULL;
	int rc = cpm_pap_credentials(cpm_pl_str(logins[_i].text), &login, &v);

	ck_assert_int_eq(rc, logins[_i].login >= 0 ? CPM_OK : CPM_EPROTO);
	ck_assert_int_eq((int)login, logins[_i].login >= 0 ? logins[_i].login : 9);
	ck_pl_eq(v, logins[_i].v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_pap");

	fu_case(s, "the JSON form tells all facts", json_whole);
	fu_case(s, "a push to a client tells no more than it may", json_least);
	fu_case(s, "PAP has a control entity and a content entity", xml_whole);
	fu_table(s, "an address of PAP cannot be read as another one", address,
			FU_N(addresses));
	fu_case(s, "a client is addressed by what it registered", client_address);
	fu_case(s, "only what the provider allows is told", fields);
	fu_table(s, "what a sender writes ends no string, line or entity", escapes,
			FU_N(hostile));
	fu_case(s, "an attribute ends where it should", attributes);
	fu_case(s, "a long subject is cut between two characters", cut);
	fu_case(s, "the largest push fits, and a full buffer is noticed", largest);
	fu_table(s, "a result's code says whether to repeat, drop or give up",
			result, FU_N(results));
	fu_table(s, "so does an HTTP status", status, FU_N(statuses));
	fu_table(s, "a URL is of HTTP, with a host and without a user", url,
			FU_N(urls));
	fu_case(s, "intervals are seconds with commas between", intervals);
	fu_table(s, "credentials are a header's value or user:password",
			credentials, FU_N(logins));
	return fu_run(s);
}
