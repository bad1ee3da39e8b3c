/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_reginfo.c - words of registration events, feature tags, what
 * follows for a subscription, and how contacts are stored.
 */

#include <stdio.h>

#include "check_helpers.h"
#include "cpm_reginfo.h"

#define LIT CPM_PL_LIT

/* ---- words ---- */

static const struct
{
	const char *word;
	int of_registration, of_contact; /* the state; -1: none */
} words[] = {
		{"active", CPM_REG_ACTIVE, CPM_REG_ACTIVE},
		{"terminated", CPM_REG_TERMINATED, CPM_REG_TERMINATED},
		{"init", CPM_REG_INIT, -1},
		{"Active", -1, -1},
		{"", -1, -1},
};

START_TEST(state_word)
{
	enum cpm_reg_state s;
	struct cpm_pl w = cpm_pl_str(words[_i].word);

	ck_assert_int_eq(cpm_reg_registration_state(w, &s),
			words[_i].of_registration < 0 ? CPM_EPROTO : CPM_OK);
	if(words[_i].of_registration >= 0) {
		ck_assert_int_eq((int)s, words[_i].of_registration);
	}
	ck_assert_int_eq(cpm_reg_contact_state(w, &s),
			words[_i].of_contact < 0 ? CPM_EPROTO : CPM_OK);
}
END_TEST

START_TEST(event_words)
{
	ck_assert_int_eq(
			cpm_reg_event_of(LIT("registered")), CPM_REG_EV_REGISTERED);
	ck_assert_int_eq(cpm_reg_event_of(LIT("created")), CPM_REG_EV_CREATED);
	ck_assert_int_eq(cpm_reg_event_of(LIT("rejected")), CPM_REG_EV_REJECTED);
	ck_assert_int_eq(cpm_reg_event_of(LIT("unknown")), CPM_REG_EV_OTHER);
	ck_assert_int_eq(cpm_reg_event_of(CPM_PL_NULL), CPM_REG_EV_OTHER);
}
END_TEST

static const struct
{
	const char *word;
	int q;
} qs[] = {
		{"0", 0},
		{"1", 1000},
		{"0.5", 500},
		{"0.123", 123},
		{"1.000", 1000},
		{"1.", 1000},
		{"0.", 0},
		{"1.001", -1},
		{"0.1234", -1},
		{"2", -1},
		{"", -1},
		{".5", -1},
		{"0,5", -1},
		{"-1", -1},
};

START_TEST(q_value)
{
	size_t n = strlen(qs[_i].word);
	char *in = guard_dup(qs[_i].word, n);

	ck_assert_int_eq(cpm_reg_q(cpm_pl(in, n)), qs[_i].q);
	guard_free(in, n);
}
END_TEST

static const struct
{
	const char *xml;
	const char *why; /* NULL: it may be parsed */
} scans[] = {
		{"<a/>", NULL},
		{"<?xml version=\"1.0\"?><a/>", NULL},
		{"<?xml version='1.0' encoding='utf-8'?><a/>", NULL},
		{"\xef\xbb\xbf<a/>", NULL},
		{"<a><!-- c --><![CDATA[<!x]]></a>", "doctype"},
		{"<a><!-- c --><![CDATA[x]]></a>", NULL},
		{"<?xml version='1.0' encoding = \"UTF-16\"?><a/>", "encoding"},
		{"<?xml encoding", "encoding"},
		{"<!DOCTYPE a><a/>", "doctype"},
		{"<a><!ENTITY b 'c'></a>", "doctype"},
		{"<a>\x01</a>", "bad-byte"},
		{"", "no-xml"},
};

START_TEST(scan)
{
	size_t n = strlen(scans[_i].xml);
	char *in = guard_dup(scans[_i].xml, n);
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_reg_scan(cpm_pl(in, n), &diag);

	ck_assert_int_eq(rc, scans[_i].why == NULL ? CPM_OK : CPM_EPROTO);
	if(scans[_i].why != NULL) {
		ck_assert_str_eq(diag.why, scans[_i].why);
	}
	guard_free(in, n);
}
END_TEST

START_TEST(scan_bound)
{
	static char big[CPM_REGINFO_BYTES_MAX + 1];

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(cpm_reg_scan(cpm_pl(big, sizeof(big) - 1), NULL), CPM_OK);
	ck_assert_int_eq(cpm_reg_scan(cpm_pl(big, sizeof(big)), NULL), CPM_ELIMIT);
}
END_TEST

/* ---- feature tags ---- */

static const struct
{
	const char *name, *value, *expect; /* NULL: left out */
} params[] = {
		{"+g.oma.sip-im", "", "+g.oma.sip-im"},
		{"+sip.instance", "<urn:uuid:1>", "+sip.instance=\"<urn:uuid:1>\""},
		{"+sip.instance", "\"<urn:uuid:1>\"", "+sip.instance=\"<urn:uuid:1>\""},
		{" methods ", "\n INVITE,MESSAGE ", "methods=\"INVITE,MESSAGE\""},
		{"+a;+b", "", NULL},
		{"", "x", NULL},
		{"+a", "x\";+b=\"y", NULL},
		{"+a", "x\\", NULL},
		{"+a", "x\ny", NULL},
		{"+a", "\"", NULL},
};

START_TEST(param_put)
{
	char buf[128];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_reg_param_put(&w, cpm_pl_str(params[_i].name),
							 cpm_pl_str(params[_i].value)),
			params[_i].expect != NULL);
	ck_pl_eq(cpm_wr_pl(&w), params[_i].expect ? params[_i].expect : "");
}
END_TEST

START_TEST(param_get)
{
	struct cpm_pl p = LIT("+a;+b=\"x;methods=y\";Methods=\"INVITE, message\"");
	char *in = guard_dup(p.p, p.n);
	struct cpm_pl g = cpm_pl(in, p.n);

	ck_pl_eq(cpm_reg_param(g, LIT("+b")), "x;methods=y");
	ck_assert_ptr_ne(cpm_reg_param(g, LIT("+a")).p, NULL);
	ck_assert_ptr_eq(cpm_reg_param(g, LIT("+c")).p, NULL);
	ck_assert(cpm_reg_takes(g, LIT("MESSAGE")));
	ck_assert(cpm_reg_takes(g, LIT("INVITE")));
	ck_assert(!cpm_reg_takes(g, LIT("NOTIFY")));
	ck_assert(cpm_reg_takes(LIT("+a"), LIT("NOTIFY")));
	ck_assert(cpm_reg_takes(CPM_PL_NULL, LIT("NOTIFY")));
	guard_free(in, p.n);
}
END_TEST

/* ---- stored ---- */

static const struct cpm_reg_contact bob = {.state = CPM_REG_ACTIVE,
		.q = 700,
		.cseq = 3,
		.uri = {"sip:bob@192.0.2.1", 17},
		.call_id = {"a@b", 3},
		.params = {"+g.oma.sip-im", 13},
		.path = {"<sip:edge;lr>", 13}};

START_TEST(record_trip)
{
	char buf[CPM_REG_RECORD_MAX];
	struct cpm_reg_contact c;
	struct cpm_wr w;
	char *in;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_reg_record_put(&bob, &w), CPM_OK);
	in = guard_dup(buf, w.n);
	ck_assert_int_eq(cpm_reg_record_read(cpm_pl(in, w.n), &c), CPM_OK);
	ck_assert_int_eq(c.q, 700);
	ck_assert_int_eq((int)c.state, CPM_REG_ACTIVE);
	ck_pl_eq(c.uri, "sip:bob@192.0.2.1");
	ck_pl_eq(c.call_id, "a@b");
	ck_pl_eq(c.params, "+g.oma.sip-im");
	ck_pl_eq(c.path, "<sip:edge;lr>");
	ck_assert_uint_eq(c.received.n + c.user_agent.n, 0);
	guard_free(in, w.n);
	/* no line too few, none too many */
	ck_assert_int_eq(
			cpm_reg_record_read(LIT("1\nsip:a\n\n\n\n"), &c), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_reg_record_read(LIT("1\nsip:a\n\n\n\n\n\n"), &c), CPM_EPROTO);
	ck_assert_int_eq(cpm_reg_record_read(LIT("1\n\n\n\n\n\n"), &c), CPM_EPROTO);
	ck_assert_int_eq(
			cpm_reg_record_read(LIT("1002\nsip:a\n\n\n\n\n"), &c), CPM_EPROTO);
	ck_assert_int_eq(cpm_reg_record_read(CPM_PL_NULL, &c), CPM_EPROTO);
}
END_TEST

START_TEST(record_refused)
{
	static char big[CPM_REGINFO_PARAMS_MAX + 1];
	char buf[CPM_REG_RECORD_MAX];
	struct cpm_reg_contact c = bob;
	struct cpm_wr w;

	memset(big, 'x', sizeof(big));
	cpm_wr_init(&w, buf, sizeof(buf));
	c.uri = CPM_PL_NULL;
	ck_assert_int_eq(cpm_reg_record_put(&c, &w), CPM_EPROTO);
	c = bob;
	c.path = LIT("<sip:a;lr>\n");
	ck_assert_int_eq(cpm_reg_record_put(&c, &w), CPM_EPROTO);
	c = bob;
	c.params = cpm_pl(big, sizeof(big));
	ck_assert_int_eq(cpm_reg_record_put(&c, &w), CPM_ELIMIT);
	c = bob;
	c.user_agent = cpm_pl(big, CPM_REGINFO_URI_MAX + 1);
	ck_assert_int_eq(cpm_reg_record_put(&c, &w), CPM_ELIMIT);
}
END_TEST

START_TEST(signature)
{
	struct cpm_reg_contact c = bob;
	char a[CPM_REG_KEY_LEN], b[CPM_REG_KEY_LEN];

	c.event = CPM_REG_EV_REFRESHED;
	ck_assert(cpm_reg_signature(&bob) == cpm_reg_signature(&c));
	c.cseq = 4;
	ck_assert(cpm_reg_signature(&bob) != cpm_reg_signature(&c));
	ck_assert_uint_eq(cpm_reg_key(LIT("sip:a"), a).n, CPM_REG_KEY_LEN);
	ck_assert(!cpm_pl_eq(
			cpm_reg_key(LIT("sip:a"), a), cpm_reg_key(LIT("sip:b"), b)));
}
END_TEST

/* ---- the subscription ---- */

static const struct
{
	unsigned code;
	bool in_dialog;
	uint32_t retry_after_s;
	enum cpm_reg_next next;
	uint32_t after_s;
} answers[] = {
		{200, false, 0, CPM_REG_NEXT_KEEP, 0},
		{202, true, 0, CPM_REG_NEXT_KEEP, 0},
		{481, true, 0, CPM_REG_NEXT_ANEW, 0},
		{481, false, 0, CPM_REG_NEXT_RETRY, 0},
		{408, false, 0, CPM_REG_NEXT_RETRY, 0},
		{503, true, 17, CPM_REG_NEXT_RETRY, 17},
		{480, false, 5, CPM_REG_NEXT_RETRY, 5},
		{423, false, 90, CPM_REG_NEXT_ANEW, 90},
		{489, false, 0, CPM_REG_NEXT_REST, CPM_REG_REST_S},
		{403, true, 10, CPM_REG_NEXT_REST, CPM_REG_REST_S},
		{404, false, 7200, CPM_REG_NEXT_REST, 7200},
};

START_TEST(answer)
{
	struct cpm_reg_plan p = cpm_reg_answer(
			answers[_i].code, answers[_i].in_dialog, answers[_i].retry_after_s);

	ck_assert_int_eq((int)p.next, (int)answers[_i].next);
	ck_assert_uint_eq(p.after_s, answers[_i].after_s);
}
END_TEST

static const struct
{
	const char *value;
	int rc;
	bool active;
	int64_t expires_s; /* -1: none */
	enum cpm_reg_next next;
	uint32_t after_s;
} states[] = {
		{"active;expires=600", CPM_OK, true, 600, CPM_REG_NEXT_KEEP, 0},
		{" Active ; Expires = 5 ", CPM_OK, true, 5, CPM_REG_NEXT_KEEP, 0},
		{"pending", CPM_OK, true, -1, CPM_REG_NEXT_KEEP, 0},
		{"active;expires=99999999999999999999", CPM_OK, true,
				CPM_REGINFO_EXPIRES_MAX_S, CPM_REG_NEXT_KEEP, 0},
		{"terminated", CPM_OK, false, -1, CPM_REG_NEXT_RETRY, 0},
		{"terminated;reason=deactivated", CPM_OK, false, -1, CPM_REG_NEXT_ANEW,
				0},
		{"terminated;reason=timeout", CPM_OK, false, -1, CPM_REG_NEXT_ANEW, 0},
		{"terminated;reason=probation;retry-after=30", CPM_OK, false, -1,
				CPM_REG_NEXT_RETRY, 30},
		{"terminated;reason=giveup", CPM_OK, false, -1, CPM_REG_NEXT_RETRY, 0},
		{"terminated;reason=rejected", CPM_OK, false, -1, CPM_REG_NEXT_REST,
				CPM_REG_REST_S},
		{"terminated;reason=noresource", CPM_OK, false, -1, CPM_REG_NEXT_REST,
				CPM_REG_REST_S},
		{"", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
		{"activ", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
		{"active;expires=x", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
		{"active;expires=-1", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
		{"terminated;retry-after=", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
		{"active;x=\x01", CPM_EPROTO, false, 0, CPM_REG_NEXT_KEEP, 0},
};

START_TEST(substate)
{
	size_t n = strlen(states[_i].value);
	char *in = guard_dup(states[_i].value, n);
	struct cpm_reg_substate s;

	ck_assert_int_eq(cpm_reg_substate_parse(cpm_pl(in, n), &s), states[_i].rc);
	if(states[_i].rc == CPM_OK) {
		ck_assert(s.active == states[_i].active);
		ck_assert(s.has_expires == (states[_i].expires_s >= 0));
		if(s.has_expires) {
			ck_assert_int_eq((int64_t)s.expires_s, states[_i].expires_s);
		}
		ck_assert_int_eq((int)s.plan.next, (int)states[_i].next);
		ck_assert_uint_eq(s.plan.after_s, states[_i].after_s);
	}
	guard_free(in, n);
}
END_TEST

START_TEST(tags)
{
	unsigned char random[16] = {1};
	char a[CPM_REG_TAG_MAX], b[CPM_REG_TAG_MAX];
	struct cpm_pl one = cpm_reg_tag(random, a);

	ck_assert(cpm_reg_tag_is(one));
	ck_assert_uint_eq(one.n, 37);
	random[15] = 1;
	ck_assert(!cpm_pl_eq(one, cpm_reg_tag(random, b)));
	ck_assert(!cpm_reg_tag_is(LIT("cpms-0")));
	ck_assert(!cpm_reg_tag_is(CPM_PL_NULL));
}
END_TEST

START_TEST(keys)
{
	struct cpm_reg_keys k;
	char aor[CPM_AOR_MAX + 1];

	ck_assert_int_eq(
			cpm_reg_keys_init(&k, LIT("cpm"), LIT("sip:bob@example.org")),
			CPM_OK);
	ck_pl_eq(k.key[CPM_REG_KEY_INDEX], "cpm:{48}:regs");
	ck_pl_eq(k.key[CPM_REG_KEY_CONTACTS], "cpm:{48}:c:sip:bob@example.org");
	ck_pl_eq(k.key[CPM_REG_KEY_QUEUE], "cpm:{48}:q:sip:bob@example.org");
	ck_assert_int_eq(cpm_reg_keys_shard(&k, LIT("cpm"), 7), CPM_OK);
	ck_pl_eq(k.key[CPM_REG_KEY_INDEX], "cpm:{7}:regs");
	ck_assert_int_eq(cpm_reg_keys_shard(&k, LIT("cpm"), 64), CPM_ELIMIT);
	memset(aor, 'x', sizeof(aor));
	ck_assert_int_eq(
			cpm_reg_keys_init(&k, LIT("01234567890123456789012345678901"),
					cpm_pl(aor, CPM_AOR_MAX)),
			CPM_OK);
	ck_assert_int_eq(cpm_reg_keys_init(&k, LIT("x"), cpm_pl(aor, sizeof(aor))),
			CPM_ELIMIT);
	ck_assert_int_eq(cpm_reg_keys_init(&k, LIT("x"), LIT("")), CPM_ELIMIT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_reginfo");

	fu_table(s, "a state is a word", state_word, FU_N(words));
	fu_case(s, "an event is a word", event_words);
	fu_table(s, "q is read, or none", q_value, FU_N(qs));
	fu_table(s, "what an XML parser need not see", scan, FU_N(scans));
	fu_case(s, "a document is bounded", scan_bound);
	fu_table(s, "a feature tag, or nothing else", param_put, FU_N(params));
	fu_case(s, "a feature tag is found again", param_get);
	fu_case(s, "a contact is read again", record_trip);
	fu_case(s, "what cannot be stored is refused", record_refused);
	fu_case(s, "news are told by the REGISTER", signature);
	fu_table(s, "what follows from an answer", answer, FU_N(answers));
	fu_table(s, "Subscription-State is read", substate, FU_N(states));
	fu_case(s, "tags are ours and random", tags);
	fu_case(s, "keys", keys);
	return fu_run(s);
}
