/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_subs.c - what a SUBSCRIBE asks for, and how it is stored.
 */

#include <stdio.h>

#include "check_helpers.h"
#include "cpm_subs.h"

#define LIT CPM_PL_LIT

/* ---- Event ---- */

static const struct
{
	const char *value;
	int rc;
	const char *package, *id;
} events[] = {
		{"message-summary", CPM_OK, "message-summary", ""},
		{" message-summary ", CPM_OK, "message-summary", ""},
		{"message-summary;id=7", CPM_OK, "message-summary", "7"},
		{"message-summary ; ID = a.b ;x=\"a;id=9\"", CPM_OK, "message-summary",
				"a.b"},
		{"message-summary;adhoc", CPM_OK, "message-summary", ""},
		{"presence.winfo", CPM_OK, "presence.winfo", ""},
		{"", CPM_EPROTO, NULL, NULL},
		{";id=7", CPM_EPROTO, NULL, NULL},
		{"message summary", CPM_EPROTO, NULL, NULL},
		{"message-summary;", CPM_EPROTO, NULL, NULL},
		{"message-summary;id", CPM_EPROTO, NULL, NULL},
		{"message-summary;id=", CPM_EPROTO, NULL, NULL},
		{"message-summary;id=a;id=b", CPM_EPROTO, NULL, NULL},
		{"message-summary;id=\"a b\"", CPM_EPROTO, NULL, NULL},
		{"message-summary, presence", CPM_EPROTO, NULL, NULL},
		{"message-summary\r\n x", CPM_EPROTO, NULL, NULL},
		{"message-summary;x=\x01", CPM_EPROTO, NULL, NULL},
};

START_TEST(event)
{
	size_t n = strlen(events[_i].value);
	char *in = guard_dup(events[_i].value, n);
	struct cpm_subs_event e = {LIT("untouched"), LIT("untouched")};

	ck_assert_int_eq(cpm_subs_event_parse(cpm_pl(in, n), &e), events[_i].rc);
	if(events[_i].rc == CPM_OK) {
		ck_pl_eq(e.package, events[_i].package);
		ck_pl_eq(e.id, events[_i].id);
	} else {
		ck_pl_eq(e.package, "untouched");
	}
	guard_free(in, n);
}
END_TEST

START_TEST(event_bounds)
{
	char text[CPM_SUBS_EVENT_MAX + 2];
	struct cpm_subs_event e;
	size_t n;

	memset(text, 'x', sizeof(text));
	ck_assert_int_eq(
			cpm_subs_event_parse(cpm_pl(text, CPM_SUBS_EVENT_MAX), &e), CPM_OK);
	ck_assert_int_eq(
			cpm_subs_event_parse(cpm_pl(text, CPM_SUBS_EVENT_MAX + 1), &e),
			CPM_ELIMIT);
	n = (size_t)snprintf(text, sizeof(text), "a;id=");
	memset(text + n, 'x', CPM_SUBS_ID_MAX + 1);
	ck_assert_int_eq(
			cpm_subs_event_parse(cpm_pl(text, n + CPM_SUBS_ID_MAX), &e),
			CPM_OK);
	ck_assert_int_eq(
			cpm_subs_event_parse(cpm_pl(text, n + CPM_SUBS_ID_MAX + 1), &e),
			CPM_ELIMIT);
}
END_TEST

/* ---- Accept ---- */

#define SUMMARY "application/simple-message-summary"

static const struct
{
	const char *value;
	bool accepts;
} accepts[] = {
		{SUMMARY, true},
		{"APPLICATION/Simple-Message-Summary", true},
		{SUMMARY ";charset=x;q=0.1", true},
		{"text/plain, " SUMMARY, true},
		{"application/*", true},
		{"*/*", true},
		{"*/*;q=0," SUMMARY, true},
		{"application/*;q=0.5, " SUMMARY ";q=0", false},
		{SUMMARY ";q=0.000, */*", false},
		{SUMMARY ";q=0.001", true},
		{"application/pidf+xml", false},
		{"text/*", false},
		{"app*/*", false},
		{"application/simple", false},
		{SUMMARY "x", false},
		{"\"" SUMMARY "\"", false},
		{"\"," SUMMARY, false},
		{",,,", false},
		{"", false},
};

START_TEST(accept_)
{
	size_t n = strlen(accepts[_i].value);
	char *in = guard_dup(accepts[_i].value, n);

	ck_assert_int_eq(
			cpm_subs_accepts(cpm_pl(in, n), LIT(SUMMARY)), accepts[_i].accepts);
	guard_free(in, n);
}
END_TEST

/* ---- Expires ---- */

static const struct
{
	const char *value; /* NULL: no header */
	int rc;
	uint32_t s;
} expires[] = {
		{NULL, CPM_OK, 1800},
		{"0", CPM_OK, 0},
		{"1", CPM_ELIMIT, 0},
		{"59", CPM_ELIMIT, 0},
		{"60", CPM_OK, 60},
		{" 600 ", CPM_OK, 600},
		{"1801", CPM_OK, 1800},
		{"4294967295", CPM_OK, 1800},
		{"4294967296", CPM_OK, 1800},
		{"99999999999999999999999999999999999999", CPM_OK, 1800},
		{"", CPM_EPROTO, 0},
		{"-1", CPM_EPROTO, 0},
		{"+60", CPM_EPROTO, 0},
		{"60;x", CPM_EPROTO, 0},
		{"0x40", CPM_EPROTO, 0},
};

START_TEST(expires_)
{
	struct cpm_pl value = expires[_i].value == NULL
								  ? CPM_PL_NULL
								  : cpm_pl_str(expires[_i].value);
	uint32_t s = 4711;

	ck_assert_int_eq(cpm_subs_expires(value, 1800, &s), expires[_i].rc);
	ck_assert_uint_eq(s, expires[_i].rc == CPM_OK ? expires[_i].s : 4711);
}
END_TEST

/* ---- tags ---- */

START_TEST(tags)
{
	char a_buf[CPM_SUBS_TAG_MAX], b_buf[CPM_SUBS_TAG_MAX];
	struct cpm_pl aor = LIT("sip:bob@example.org");
	struct cpm_pl a = cpm_subs_tag(aor, LIT("call"), LIT("t"), LIT("1"), a_buf);
	struct cpm_pl b = cpm_subs_tag(aor, LIT("call"), LIT("t"), LIT("1"), b_buf);

	ck_assert(cpm_subs_tag_is(a));
	ck_assert(cpm_pl_eq(a, b));
	b = cpm_subs_tag(aor, LIT("call"), LIT("t"), LIT("2"), b_buf);
	ck_assert(!cpm_pl_eq(a, b));
	/* what moves from one field to the next is another dialog's */
	b = cpm_subs_tag(aor, LIT("callt"), LIT(""), LIT("1"), b_buf);
	ck_assert(!cpm_pl_eq(a, b));
	b = cpm_subs_tag(
			LIT("sip:eve@example.org"), LIT("call"), LIT("t"), LIT("1"), b_buf);
	ck_assert(!cpm_pl_eq(a, b));
	ck_assert(!cpm_subs_tag_is(LIT("cpm-0-1-00112233445566778")));
	ck_assert(!cpm_subs_tag_is(LIT("cpms-")));
	ck_assert(!cpm_subs_tag_is(LIT("cpms-0011223344556677001122334455667X")));
	ck_assert(!cpm_subs_tag_is(LIT("cpms-0011223344556677001122334455667A")));
	ck_assert(cpm_subs_tag_is(LIT("cpms-0011223344556677001122334455667a")));
}
END_TEST

/* ---- stored ---- */

START_TEST(record_trip)
{
	struct cpm_subs_record in = {LIT("message-summary;id=1"), LIT("sip:b@x"),
			LIT("sip:b@y"), LIT("<sip:p;lr>, <sip:q;lr>")};
	struct cpm_subs_record out;
	char buf[CPM_SUBS_RECORD_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_subs_record_put(&in, &w), CPM_OK);
	ck_assert_int_eq(cpm_subs_record_read(cpm_wr_pl(&w), &out), CPM_OK);
	ck_assert(cpm_pl_eq(in.event, out.event));
	ck_assert(cpm_pl_eq(in.local, out.local));
	ck_assert(cpm_pl_eq(in.remote, out.remote));
	ck_assert(cpm_pl_eq(in.routes, out.routes));
	in.routes = CPM_PL_NULL;
	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_subs_record_put(&in, &w), CPM_OK);
	ck_assert_int_eq(cpm_subs_record_read(cpm_wr_pl(&w), &out), CPM_OK);
	ck_assert_uint_eq(out.routes.n, 0);
	cpm_wr_init(&w, buf, 20);
	ck_assert_int_eq(cpm_subs_record_put(&in, &w), CPM_ENOMEM);
}
END_TEST

START_TEST(record_refused)
{
	static char huge[CPM_SUBS_ROUTES_MAX + 2];
	struct cpm_subs_record good = {
			LIT("e"), LIT("sip:b@x"), LIT("sip:b@y"), CPM_PL_NULL};
	struct cpm_subs_record r = good;
	char buf[2 * CPM_SUBS_RECORD_MAX];
	struct cpm_wr w;

	memset(huge, 'x', sizeof(huge));
	cpm_wr_init(&w, buf, sizeof(buf));
	r.local = CPM_PL_NULL;
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_EPROTO);
	r = good;
	r.remote = LIT("sip:b\n@y");
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_EPROTO);
	r = good;
	r.routes = cpm_pl(huge, CPM_SUBS_ROUTES_MAX + 1);
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_ELIMIT);
	r.routes = cpm_pl(huge, CPM_SUBS_ROUTES_MAX);
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_OK);
	r = good;
	r.local = cpm_pl(huge, CPM_SUBS_URI_MAX + 1);
	ck_assert_int_eq(cpm_subs_record_put(&r, &w), CPM_ELIMIT);
	ck_assert_int_eq(cpm_subs_record_read(LIT("a\nb"), &r), CPM_EPROTO);
	ck_assert_int_eq(cpm_subs_record_read(LIT(""), &r), CPM_EPROTO);
	ck_assert_int_eq(cpm_subs_record_read(LIT("a\n\nc\nd\n"), &r), CPM_EPROTO);
}
END_TEST

START_TEST(fields)
{
	struct cpm_pl a, b, c;
	char buf[64];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(
			cpm_subs_fields_put(LIT("a"), CPM_PL_NULL, LIT("c"), 8, &w),
			CPM_OK);
	ck_pl_eq(cpm_wr_pl(&w), "a - c");
	ck_assert_int_eq(cpm_subs_fields_read(cpm_wr_pl(&w), &a, &b, &c), CPM_OK);
	ck_pl_eq(a, "a");
	ck_assert_uint_eq(b.n, 0);
	ck_pl_eq(c, "c");
	ck_assert_int_eq(cpm_subs_fields_put(CPM_PL_NULL, a, c, 8, &w), CPM_EPROTO);
	ck_assert_int_eq(cpm_subs_fields_put(LIT("a b"), a, c, 8, &w), CPM_EPROTO);
	ck_assert_int_eq(cpm_subs_fields_put(a, LIT("b\n"), c, 8, &w), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_subs_fields_put(a, c, LIT("123456789"), 8, &w), CPM_ELIMIT);
	ck_assert_int_eq(cpm_subs_fields_read(LIT("a"), &a, &b, &c), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_subs_fields_read(LIT("- b c"), &a, &b, &c), CPM_EPROTO);
}
END_TEST

static const struct
{
	unsigned code;
	enum cpm_subs_answer answer;
} answers[] = {
		{200, CPM_SUBS_TAKEN},
		{202, CPM_SUBS_TAKEN},
		{408, CPM_SUBS_KEPT},
		{486, CPM_SUBS_KEPT},
		{491, CPM_SUBS_KEPT},
		{500, CPM_SUBS_KEPT},
		{503, CPM_SUBS_KEPT},
		{404, CPM_SUBS_GONE},
		{410, CPM_SUBS_GONE},
		{481, CPM_SUBS_GONE},
		{489, CPM_SUBS_GONE},
		{501, CPM_SUBS_GONE},
		{604, CPM_SUBS_GONE},
};

START_TEST(answer)
{
	ck_assert_int_eq(cpm_subs_answer_of(answers[_i].code), answers[_i].answer);
}
END_TEST

static const struct
{
	enum cpm_subs_owed owed;
	uint64_t left_ms;
	const char *text;
} states[] = {
		{CPM_SUBS_STATE, 600000, "active;expires=600"},
		{CPM_SUBS_STATE, 1, "active;expires=1"},
		{CPM_SUBS_ENDED, 0, "terminated;reason=timeout"},
		{CPM_SUBS_TIMEOUT, 0, "terminated;reason=timeout"},
		{CPM_SUBS_DROPPED, 9, "terminated;reason=probation;retry-after=3600"},
};

START_TEST(state)
{
	struct cpm_subs_due d;
	char buf[80];
	struct cpm_wr w;

	memset(&d, 0, sizeof(d));
	d.owed = states[_i].owed;
	d.left_ms = states[_i].left_ms;
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_subs_state_put(&d, &w);
	ck_pl_eq(cpm_wr_pl(&w), states[_i].text);
}
END_TEST

/* ---- summaries ---- */

#define OURS(waiting)                                               \
	"Messages-Waiting: " waiting "\r\nMessage-Account: sip:b@x\r\n" \
	"pager-message: 1/0 (0/0)\r\n\r\nFrom: a\r\n"
#define MERGED(waiting, more)                                       \
	"Messages-Waiting: " waiting "\r\nMessage-Account: sip:b@x\r\n" \
	"pager-message: 1/0 (0/0)\r\n" more "\r\nFrom: a\r\n"

static const struct
{
	const char *ours, *other, *merged;
} summaries[] = {
		{OURS("no"), "Messages-Waiting: no\r\n", MERGED("no", "")},
		{OURS("no"),
				"Messages-Waiting: yes\r\nMessage-Account: sip:vm@x\r\n"
				"Voice-Message: 2/8 (0/2)\r\n\r\nTo: x\r\n",
				MERGED("yes", "Voice-Message: 2/8 (0/2)\r\n")},
		{OURS("yes"), "Messages-Waiting: no\r\nPager-Message: 7/7\r\n",
				MERGED("yes", "")},
		{OURS("yes"), "", MERGED("yes", "")},
		{OURS("yes"), "garbage\r\n:\r\nx y: 1\r\nfax-message: 1/1",
				MERGED("yes", "fax-message: 1/1\r\n")},
		{"Messages-Waiting: no\r\n", "Messages-Waiting: yes\r\nx: 1/1\r\n",
				"Messages-Waiting: yes\r\nx: 1/1\r\n"},
};

START_TEST(merge)
{
	size_t ours_n = strlen(summaries[_i].ours);
	size_t other_n = strlen(summaries[_i].other);
	char *ours = guard_dup(summaries[_i].ours, ours_n);
	char *other = guard_dup(summaries[_i].other, other_n);
	char buf[512];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_subs_summary_merge(cpm_pl(ours, ours_n), cpm_pl(other, other_n), &w);
	ck_pl_eq(cpm_wr_pl(&w), summaries[_i].merged);
	guard_free(ours, ours_n);
	guard_free(other, other_n);
}
END_TEST

/* ---- keys ---- */

START_TEST(keys)
{
	struct cpm_subs_keys k;
	char aor[CPM_AOR_MAX + 1];

	ck_assert_int_eq(
			cpm_subs_keys_init(&k, LIT("cpm"), LIT("sip:bob@example.org")),
			CPM_OK);
	ck_pl_eq(k.key[CPM_SUBS_KEY_INDEX], "cpm:{48}:subs");
	ck_pl_eq(k.key[CPM_SUBS_KEY_SUBS], "cpm:{48}:s:sip:bob@example.org");
	ck_assert_int_eq(cpm_subs_keys_shard(&k, LIT("cpm"), 7), CPM_OK);
	ck_pl_eq(k.key[CPM_SUBS_KEY_INDEX], "cpm:{7}:subs");
	ck_assert_int_eq(cpm_subs_keys_shard(&k, LIT("cpm"), 64), CPM_ELIMIT);
	memset(aor, 'x', sizeof(aor));
	ck_assert_int_eq(
			cpm_subs_keys_init(&k, LIT("01234567890123456789012345678901"),
					cpm_pl(aor, CPM_AOR_MAX)),
			CPM_OK);
	ck_assert_int_eq(cpm_subs_keys_init(&k, LIT("x"), cpm_pl(aor, sizeof(aor))),
			CPM_ELIMIT);
	ck_assert_int_eq(cpm_subs_keys_init(&k, LIT("x"), LIT("")), CPM_ELIMIT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_subs");

	fu_table(s, "Event is read, or refused", event, FU_N(events));
	fu_case(s, "Event is bounded", event_bounds);
	fu_table(s, "Accept is read", accept_, FU_N(accepts));
	fu_table(s, "Expires is read and bounded", expires_, FU_N(expires));
	fu_case(s, "the tag of a request is its own", tags);
	fu_case(s, "what is stored is read again", record_trip);
	fu_case(s, "what cannot be stored is refused", record_refused);
	fu_case(s, "fields are read again", fields);
	fu_table(s, "an answer keeps or ends it", answer, FU_N(answers));
	fu_table(s, "the state of a subscription", state, FU_N(states));
	fu_table(s, "two summaries are one", merge, FU_N(summaries));
	fu_case(s, "keys", keys);
	return fu_run(s);
}
