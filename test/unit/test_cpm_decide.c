/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_decide.c - who may send, and what becomes of a message.
 *
 * Cases quote the sentences of 5.2.2.1.1 that they hold cpm_decide to. Then
 * the same rules are said a second time, naively, and both are asked about
 * several hundred thousand random worlds.
 */

#include "check_helpers.h"
#include "cpm_aor.h"
#include "cpm_decide.h"

#include <stdio.h>

#define SCRATCH (3 * CPM_PATTERN_MAX)
#define RULES 8
#define PHONE "urn:uuid:00000000-0000-1000-8000-0000000000aa"
#define TABLET "urn:uuid:00000000-0000-1000-8000-0000000000bb"
#define GRUU "sip:bob@example.org;gr=" TABLET

#define NOW 1700000000

/* ------------------------------------------------------------- worlds */

/* Everything a decision depends on. */
struct world
{
	struct cpm_user_row user;
	bool unknown;
	struct cpm_rule_row rules[RULES];
	size_t rule_count;
	struct cpm_policy policy;
	struct cpm_msg_facts m;
	struct cpm_client clients[CPM_CONTACTS_MAX];
	size_t client_count;
	unsigned reject_code;
	struct cpm_sender_facts s;
};

static struct cpm_client client_of(unsigned caps, const char *instance)
{
	struct cpm_client c;

	memset(&c, 0, sizeof(c));
	c.caps.set = caps;
	c.caps.instance = cpm_pl_str(instance);
	c.takes_message = true;
	c.connected = true;
	return c;
}

/* alice sends bob, who is known and has no rules, a short text; the provider
 * forbids nothing; nobody is registered. */
static struct world world_new(void)
{
	struct world w;

	memset(&w, 0, sizeof(w));
	w.user.enabled = true;
	w.policy = cpm_policy_default();
	w.m.originator = cpm_pl_str("sip:alice@example.org");
	w.m.type = cpm_pl_str("text/plain");
	w.m.kind = CPM_KIND_PAGER;
	w.m.size = 100;
	w.m.now_s = NOW;
	w.reject_code = 403;
	w.s.identified = true;
	w.s.home = true;
	w.s.feature_tag = true;
	w.s.has_conversation_id = true;
	w.s.has_contribution_id = true;
	return w;
}

static void add_client(struct world *w, unsigned caps, const char *instance)
{
	w->clients[w->client_count++] = client_of(caps, instance);
}

/* The first rule added comes first. */
static struct cpm_rule_row *add_rule(struct world *w, const char *action)
{
	struct cpm_rule_row *r = &w->rules[w->rule_count++];

	r->id = 100 + (int64_t)w->rule_count;
	r->priority = (int64_t)w->rule_count;
	r->action = action;
	return r;
}

static void policy_set(struct world *w, const char *accept_types,
		const char *deliver_max_size, int64_t max_size)
{
	struct cpm_policy_row row = {.accept_types = accept_types,
			.deliver_max_size = deliver_max_size,
			.max_size = max_size,
			.allow_anonymous = true,
			.allow_send = true};

	ck_assert_int_eq(cpm_policy_compile(&row, &w->policy, NULL), CPM_OK);
}

static const char *const verdicts[] = {"none", "deliver", "queue", "store",
		"interwork", "reject", "discard", "unknown"};

/* What holds of every decision, whatever it is; NULL, or what does not hold.
 * clients: NULL for a sender's. An assertion costs a system call: the random
 * worlds ask without one. */
static const char *insane(const struct cpm_decision *d,
		const struct cpm_client *clients, size_t count)
{
	bool refused = d->verdict == CPM_VERDICT_REJECT
				   || d->verdict == CPM_VERDICT_DISCARD
				   || d->verdict == CPM_VERDICT_UNKNOWN;
	bool delivered = d->verdict == CPM_VERDICT_DELIVER;
	uint32_t seen = 0;

	if(d->verdict == CPM_VERDICT_NONE) {
		return "nothing was decided";
	}
	if(d->reason == NULL || d->why == NULL || d->why[0] == '\0') {
		return "no reason";
	}
	if(refused != (d->code != 0) || (refused && d->reason[0] == '\0')) {
		return "a refusal has a code and a reason, and nothing else has";
	}
	if((d->verdict == CPM_VERDICT_DISCARD)
			!= (d->code >= 200 && d->code < 300)) {
		return "success is answered for what is discarded, and only that";
	}
	if((d->warning != 0) != (d->warning_text != NULL)) {
		return "a warning has a number and a text";
	}
	if(d->wants_accept != (d->code == 415)) {
		return "415 tells what is accepted";
	}
	if(d->deliver_count > CPM_CONTACTS_MAX
			|| (clients != NULL && delivered != (d->deliver_count > 0))
			|| (clients == NULL && d->deliver_count > 0)) {
		return "who is delivered to is told, and only then";
	}
	if(d->record_copy && !delivered) {
		return "only what is delivered is recorded";
	}
	for(size_t i = 0; i < d->deliver_count; i++) {
		size_t at = d->deliver_to[i];

		if(at >= count || (seen & 1u << at)) {
			return "no such client, or twice";
		}
		seen |= 1u << at;
		if(!clients[at].connected || clients[at].failed
				|| !clients[at].takes_message) {
			return "a client that cannot be reached";
		}
	}
	return NULL;
}

static void check_sane(const struct cpm_decision *d,
		const struct cpm_client *clients, size_t count)
{
	const char *bad = insane(d, clients, count);

	if(bad != NULL) {
		ck_abort_msg("%s: %s", d->why ? d->why : "?", bad);
	}
}

/* The rows of a world, compiled, encoded and read again as the module does. */
static struct cpm_prefs prefs_of(const struct world *w, struct cpm_wr *block)
{
	static char scratch[RULES][SCRATCH];
	struct cpm_rule rules[RULES];
	struct cpm_prefs prefs;

	ck_assert_int_eq(cpm_user_compile(&w->user, &prefs, NULL), CPM_OK);
	prefs.known = !w->unknown;
	for(size_t i = 0; i < w->rule_count; i++) {
		ck_assert_int_eq(cpm_rule_compile(&w->rules[i], scratch[i], SCRATCH,
								 &rules[i], NULL),
				CPM_OK);
	}
	ck_assert_int_eq(
			cpm_prefs_encode(&prefs, rules, w->rule_count, block), CPM_OK);
	ck_assert_int_eq(cpm_prefs_decode(cpm_wr_pl(block), &prefs), CPM_OK);
	return prefs;
}

static struct cpm_decision decide(const struct world *w)
{
	static char buf[16384];
	struct cpm_decision d;
	struct cpm_prefs prefs;
	struct cpm_wr block;

	cpm_wr_init(&block, buf, sizeof(buf));
	prefs = prefs_of(w, &block);
	memset(&d, 0x5a, sizeof(d));
	cpm_decide_recipient(&prefs, &w->policy, &w->m, w->clients, w->client_count,
			w->reject_code, &d);
	check_sane(&d, w->clients, w->client_count);
	return d;
}

/* Asserts verdict, code and the stable word. */
static struct cpm_decision expect(const struct world *w,
		enum cpm_verdict verdict, unsigned code, const char *why)
{
	struct cpm_decision d = decide(w);

	ck_assert_str_eq(d.why, why);
	ck_assert_str_eq(cpm_verdict_name(d.verdict), cpm_verdict_name(verdict));
	ck_assert_uint_eq(d.code, code);
	return d;
}

/* Asserts that just these clients get it: "02" is the first and the third. */
static void expect_clients(const struct world *w, const char *indexes)
{
	struct cpm_decision d = expect(w, CPM_VERDICT_DELIVER, 0, "deliver");
	char got[CPM_CONTACTS_MAX + 1];

	for(size_t i = 0; i < d.deliver_count; i++) {
		got[i] = (char)('0' + d.deliver_to[i]);
	}
	got[d.deliver_count] = '\0';
	ck_assert_str_eq(got, indexes);
}

static struct cpm_decision decide_sender(const struct world *w)
{
	static char buf[16384];
	struct cpm_decision d;
	struct cpm_prefs prefs;
	struct cpm_wr block;

	cpm_wr_init(&block, buf, sizeof(buf));
	prefs = prefs_of(w, &block);
	memset(&d, 0x5a, sizeof(d));
	cpm_decide_sender(&w->s, &prefs, &w->policy, &w->m, &d);
	check_sane(&d, NULL, 0);
	return d;
}

START_TEST(verdict_names)
{
	for(size_t i = 0; i < FU_N(verdicts); i++) {
		ck_assert_str_eq(cpm_verdict_name((enum cpm_verdict)i), verdicts[i]);
	}
	ck_assert_str_eq(cpm_verdict_name((enum cpm_verdict)FU_N(verdicts)), "?");
}
END_TEST

/* --------------------------------------------- the sentences: recipient */

START_TEST(seed_reject)
{
	struct world w = world_new();
	struct cpm_decision d;

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "reject")->originator = "sip:alice@example.org";
	d = expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	ck_assert_int_eq(d.rule_id, 101);
	ck_assert_uint_eq(d.warning, 0);
	w.m.originator = cpm_pl_str("sip:carol@example.org");
	expect_clients(&w, "0");
}
END_TEST

static const struct
{
	unsigned reject_code;
	enum cpm_verdict verdict;
	const char *reason;
} reject_codes[] = {
		{403, CPM_VERDICT_REJECT, "Forbidden"},
		{480, CPM_VERDICT_REJECT, "Temporarily Unavailable"},
		{603, CPM_VERDICT_REJECT, "Decline"},
		{202, CPM_VERDICT_DISCARD, "Accepted"},
};

START_TEST(seed_reject_code)
{
	struct world w = world_new();
	struct cpm_decision d;

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "reject");
	w.reject_code = reject_codes[_i].reject_code;
	d = expect(&w, reject_codes[_i].verdict, w.reject_code, "user-rejects");
	ck_assert_str_eq(d.reason, reject_codes[_i].reason);
	/* the provider's refusals keep their own code */
	w.policy.max_size = 1;
	d = expect(&w, CPM_VERDICT_REJECT, 403, "policy-size");
	ck_assert_str_eq(d.reason, "Forbidden");
	/* and so does having no client */
	w = world_new();
	w.reject_code = reject_codes[_i].reject_code;
	w.user.when_offline = "reject";
	expect(&w, CPM_VERDICT_REJECT, 480, "offline-reject");
}
END_TEST

START_TEST(seed_undisclosed)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "reject")->originator = "anonymous";
	expect_clients(&w, "0");
	w.m.anonymous = true;
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	w.m.originator = CPM_PL_NULL;
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
}
END_TEST

START_TEST(seed_interwork)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "interwork");
	ck_assert_int_eq(
			expect(&w, CPM_VERDICT_INTERWORK, 0, "user-interworks").rule_id,
			101);
	w.client_count = 0;
	expect(&w, CPM_VERDICT_INTERWORK, 0, "user-interworks");
}
END_TEST

START_TEST(seed_store)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "store");
	ck_assert_int_eq(
			expect(&w, CPM_VERDICT_STORE, 0, "user-stores").rule_id, 101);
	w.client_count = 0;
	w.user.when_offline = "reject";
	expect(&w, CPM_VERDICT_STORE, 0, "user-stores");
}
END_TEST

START_TEST(seed_record_once)
{
	struct world w = world_new();

	w.user.record_copy = true;
	add_client(&w, CPM_CAP_MSG, PHONE);
	ck_assert(expect(&w, CPM_VERDICT_DELIVER, 0, "deliver").record_copy);
	add_rule(&w, "store");
	ck_assert(!expect(&w, CPM_VERDICT_STORE, 0, "user-stores").record_copy);
	w.rules[0].action = "queue";
	ck_assert(
			!expect(&w, CPM_VERDICT_QUEUE, 0, "user-checks-back").record_copy);
	w.rules[0].action = "reject";
	ck_assert(!expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects").record_copy);
}
END_TEST

START_TEST(seed_check_back)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "queue");
	ck_assert_int_eq(
			expect(&w, CPM_VERDICT_QUEUE, 0, "user-checks-back").rule_id, 101);
	w.client_count = 0;
	w.user.when_offline = "discard";
	expect(&w, CPM_VERDICT_QUEUE, 0, "user-checks-back");
}
END_TEST

START_TEST(seed_each_defers)
{
	struct world w = world_new();
	struct cpm_rule_row *r;

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, CPM_CAP_MSG, TABLET);
	add_rule(&w, "defer")->device = PHONE;
	expect_clients(&w, "1");
	r = add_rule(&w, "queue");
	r->device = TABLET;
	w.user.when_offline = "reject"; /* both are registered */
	ck_assert_int_eq(
			expect(&w, CPM_VERDICT_QUEUE, 0, "clients-defer").rule_id, 0);
	/* one defers, the other never gets it: none gets it now, one may later */
	r->action = "reject";
	expect(&w, CPM_VERDICT_QUEUE, 0, "clients-defer");
}
END_TEST

START_TEST(seed_message_defers)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, 0, "");
	add_rule(&w, "defer");
	ck_assert_int_eq(
			expect(&w, CPM_VERDICT_QUEUE, 0, "user-defers").rule_id, 101);
	w.client_count = 0;
	w.user.when_offline = "reject";
	expect(&w, CPM_VERDICT_QUEUE, 0, "user-defers");
}
END_TEST

START_TEST(seed_device_before_message)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, CPM_CAP_MSG, TABLET);
	add_rule(&w, "deliver")->device = PHONE;
	add_rule(&w, "defer");
	expect_clients(&w, "0");
	/* the rule of the message comes first: nothing is left to be said */
	w.rules[0].priority = 3;
	expect(&w, CPM_VERDICT_QUEUE, 0, "user-defers");
	/* the phone is not there: the tablet defers */
	w.rules[0].priority = 1;
	w.clients[0].connected = false;
	expect(&w, CPM_VERDICT_QUEUE, 0, "user-defers");
}
END_TEST

static const struct
{
	const char *when_offline;
	enum cpm_verdict verdict;
	unsigned code;
	const char *why;
} offline[] = {
		{"", CPM_VERDICT_QUEUE, 0, "offline-defer"},
		{"defer", CPM_VERDICT_QUEUE, 0, "offline-defer"},
		{"store", CPM_VERDICT_STORE, 0, "offline-store"},
		{"reject", CPM_VERDICT_REJECT, 480, "offline-reject"},
		{"interwork", CPM_VERDICT_INTERWORK, 0, "offline-interwork"},
		{"discard", CPM_VERDICT_DISCARD, 202, "offline-discard"},
};

START_TEST(seed_none_registered)
{
	struct world w = world_new();

	w.user.when_offline = offline[_i].when_offline;
	expect(&w, offline[_i].verdict, offline[_i].code, offline[_i].why);
	/* that somebody may send says nothing of where to */
	add_rule(&w, "deliver");
	expect(&w, offline[_i].verdict, offline[_i].code, offline[_i].why);
	/* of whom no client counts as registered */
	add_client(&w, CPM_CAP_MSG, PHONE);
	w.clients[0].connected = false;
	add_client(&w, CPM_CAP_MSG, TABLET);
	w.clients[1].failed = true;
	add_client(&w, 0, ""); /* takes calls only: no CPM client */
	w.clients[2].takes_message = false;
	expect(&w, offline[_i].verdict, offline[_i].code, offline[_i].why);
	/* the only client is kept from it: as if there were none */
	add_client(&w, CPM_CAP_MSG, "urn:uuid:other");
	add_rule(&w, "reject")->device = "urn:uuid:other";
	expect(&w, offline[_i].verdict, offline[_i].code, offline[_i].why);
	/* and one more that takes it */
	add_client(&w, 0, "");
	expect_clients(&w, "4");
}
END_TEST

START_TEST(seed_each_client)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, 0, "");
	add_client(&w, CPM_CAP_PAGER_LARGE, TABLET);
	expect_clients(&w, "012");
	w.clients[1].failed = true;
	expect_clients(&w, "02");
	w.clients[0].connected = false;
	expect_clients(&w, "2");
}
END_TEST

/* "device capabilities" */
static const struct
{
	unsigned caps;
	bool takes_message;
	bool delivered;
	const char *else_why;
} capabilities[] = {
		{0, true, true, ""},
		{0, false, false, "offline-defer"},
		{CPM_CAP_MSG, true, true, ""},
		{CPM_CAP_MSG, false, false, "clients-defer"},
		{CPM_CAP_PAGER_LARGE, true, true, ""},
		{CPM_CAP_MSG | CPM_CAP_DEFERRED, true, true, ""},
		{CPM_CAP_LARGEMSG, true, false, "clients-defer"},
		{CPM_CAP_DEFERRED, true, false, "clients-defer"},
		{CPM_CAP_SESSION, true, false, "clients-defer"},
		{CPM_CAP_SESSION_GROUP, true, false, "clients-defer"},
		{CPM_CAP_FILETRANSFER, true, false, "clients-defer"},
		{CPM_CAP_SYSTEMMSG, true, false, "clients-defer"},
		{CPM_CAP_SIP_IM, true, false, "clients-defer"},
		{CPM_CAP_SIP_IM | CPM_CAP_MSG, true, true, ""},
};

START_TEST(seed_capabilities)
{
	struct world w = world_new();

	add_client(&w, capabilities[_i].caps, PHONE);
	w.clients[0].caps.any_tag = capabilities[_i].caps != 0;
	w.clients[0].takes_message = capabilities[_i].takes_message;
	if(capabilities[_i].delivered) {
		expect_clients(&w, "0");
	} else {
		expect(&w, CPM_VERDICT_QUEUE, 0, capabilities[_i].else_why);
	}
	/* no preference makes a client able */
	add_rule(&w, "deliver")->device = PHONE;
	if(capabilities[_i].delivered) {
		expect_clients(&w, "0");
	} else {
		expect(&w, CPM_VERDICT_QUEUE, 0, capabilities[_i].else_why);
	}
}
END_TEST

/* "server provider policies": how much a client takes, by its capabilities */
static const struct
{
	const char *max;
	unsigned caps;
	uint64_t size;
	bool delivered;
} deliver_max[] = {
		{"", CPM_CAP_MSG, UINT64_MAX, true},
		{"100", CPM_CAP_MSG, 100, true},
		{"100", CPM_CAP_MSG, 101, false},
		{"100", 0, 100, true},
		{"100", 0, 101, false},
		{"msg=1300,*=8000", CPM_CAP_MSG, 1300, true},
		{"msg=1300,*=8000", CPM_CAP_MSG, 1301, false},
		{"msg=1300,*=8000", 0, 8000, true},
		{"msg=1300,*=8000", 0, 8001, false},
		{"msg=1300,largemsg=5000", CPM_CAP_MSG | CPM_CAP_LARGEMSG, 5000, true},
		{"msg=1300,largemsg=5000", CPM_CAP_MSG | CPM_CAP_LARGEMSG, 5001, false},
		{"largemsg=5000", CPM_CAP_MSG, 5001, true},
		{"msg=0,*=10", CPM_CAP_MSG, 100000, true},
};

START_TEST(seed_deliver_max)
{
	struct world w = world_new();

	policy_set(&w, "", deliver_max[_i].max, 0);
	add_client(&w, deliver_max[_i].caps, PHONE);
	w.m.size = deliver_max[_i].size;
	if(deliver_max[_i].delivered) {
		expect_clients(&w, "0");
	} else {
		expect(&w, CPM_VERDICT_QUEUE, 0, "clients-defer");
	}
}
END_TEST

/* NOTE 3: "for which user preferences ... prevent delivery will not receive" */
START_TEST(seed_prevented)
{
	static const char *const never[] = {"reject", "interwork", "store"};
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, CPM_CAP_MSG, TABLET);
	add_rule(&w, never[_i])->device = PHONE;
	expect_clients(&w, "1");
	w.clients[1].failed = true;
	expect(&w, CPM_VERDICT_QUEUE, 0, "offline-defer");
	w.user.when_offline = "store";
	expect(&w, CPM_VERDICT_STORE, 0, "offline-store");
}
END_TEST

START_TEST(seed_unknown)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "deliver");
	w.user.enabled = false;
	expect(&w, CPM_VERDICT_UNKNOWN, 404, "disabled-recipient");
	w.policy.max_size = 1;
	expect(&w, CPM_VERDICT_UNKNOWN, 404, "disabled-recipient");
	w.unknown = true;
	expect(&w, CPM_VERDICT_UNKNOWN, 404, "unknown-recipient");
}
END_TEST

/* ---------------------------------------------------- provider policies */

static const struct
{
	const char *accept;
	const char *type;
	const char *inner;
	bool accepted;
} accepts[] = {
		{"", "image/png", "", true},
		{"text/plain", "text/plain", "", true},
		{"text/plain", "Text/Plain; charset=utf-8", "", true},
		{"text/plain", "text/html", "", false},
		{"text/*", "text/html", "", true},
		{"text/*", "", "", false},
		{"*/*", "image/png", "", true},
		/* a wrapper is no way round */
		{"text/plain", "message/cpim", "text/plain", false},
		{"message/cpim", "message/cpim", "text/plain", false},
		{"message/cpim, text/*", "message/cpim", "text/plain", true},
		{"message/cpim, text/*", "message/cpim", "image/png", false},
		{"message/cpim, text/*", "message/cpim", "", true},
};

START_TEST(policy_types)
{
	struct world w = world_new();
	struct cpm_decision d;

	policy_set(&w, accepts[_i].accept, "", 0);
	add_client(&w, CPM_CAP_MSG, PHONE);
	w.m.type = cpm_pl_str(accepts[_i].type);
	w.m.inner_type = cpm_pl_str(accepts[_i].inner);
	if(accepts[_i].accepted) {
		expect_clients(&w, "0");
		ck_assert_str_eq(decide_sender(&w).why, "authorised");
		return;
	}
	d = expect(&w, CPM_VERDICT_REJECT, 415, "policy-type");
	ck_assert(d.wants_accept);
	d = decide_sender(&w);
	ck_assert_str_eq(d.why, "policy-type");
	ck_assert_uint_eq(d.code, 415);
	ck_assert(d.wants_accept);
}
END_TEST

START_TEST(policy_first)
{
	static const char *const actions[] = {
			"deliver", "reject", "interwork", "store", "queue", "defer"};
	struct cpm_decision d;

	for(size_t i = 0; i < FU_N(actions); i++) {
		struct world w = world_new();

		add_client(&w, CPM_CAP_MSG, PHONE);
		add_rule(&w, actions[i]);
		w.m.anonymous = true;
		w.m.size = 101;
		w.policy.allow_anonymous = false;
		d = expect(&w, CPM_VERDICT_REJECT, 403, "policy-anonymity");
		ck_assert_uint_eq(d.warning, 119);
		ck_assert_str_eq(d.warning_text, "Anonymity not allowed");
		ck_assert_int_eq(d.rule_id, 0);
		w.policy.max_size = 100;
		d = expect(&w, CPM_VERDICT_REJECT, 403, "policy-size");
		ck_assert_uint_eq(d.warning, 133);
		ck_assert_str_eq(d.warning_text, "Size exceeded");
		w.m.anonymous = false;
		w.m.size = 100;
		ck_assert_str_ne(decide(&w).why, "policy-size");
	}
}
END_TEST

/* ---------------------------------------------------- rules, one by one */

struct condition
{
	const char *originator;
	const char *content_type;
	const char *kind;
	int64_t min_size, max_size;
	int64_t from, until;
	/* of the message */
	const char *from_aor;
	bool anonymous;
	const char *type, *inner;
	enum cpm_kind m_kind;
	uint64_t size;
	bool holds;
};

#define ALICE "sip:alice@example.org"
#define O(pattern, aor, yes)                                                \
	{                                                                       \
		pattern, "", "", 0, 0, 0, 0, aor, false, "", "", CPM_KIND_PAGER, 1, \
				yes                                                         \
	}
#define T(pattern, outer, inner, yes)                            \
	{                                                            \
		"", pattern, "", 0, 0, 0, 0, ALICE, false, outer, inner, \
				CPM_KIND_PAGER, 1, yes                           \
	}
#define S(min, max, n, yes)                                                  \
	{                                                                        \
		"", "", "", min, max, 0, 0, ALICE, false, "", "", CPM_KIND_PAGER, n, \
				yes                                                          \
	}
#define W(begin, end, yes)                                                     \
	{                                                                          \
		"", "", "", 0, 0, begin, end, ALICE, false, "", "", CPM_KIND_PAGER, 1, \
				yes                                                            \
	}
#define K(pattern, kind, yes)                                           \
	{                                                                   \
		"", "", pattern, 0, 0, 0, 0, ALICE, false, "", "", kind, 1, yes \
	}

static const struct condition conditions[] = {
		O("", ALICE, true),
		O("", "", true),
		O("*", ALICE, true),
		O(ALICE, ALICE, true),
		O("sip:alice@EXAMPLE.org;transport=tcp", ALICE, true),
		O(ALICE, "sip:Alice@example.org", false),
		O(ALICE, "sip:alice@example.org.example.net", false),
		O(ALICE, "sip:alice@example.or", false),
		O(ALICE, "", false),
		O("*@example.org", ALICE, true),
		O("*@Example.Org", ALICE, true),
		O("*@example.org", "sip:bob@example.org", true),
		O("*@example.org", "sip:bob@sub.example.org", false),
		O("*@example.org", "sip:bob@notexample.org", false),
		O("*@example.org", "tel:+441632960083", false),
		O("*@example.org", "", false),
		O("tel:+44*", "tel:+441632960083", true),
		O("tel:+44*", "tel:+4", false),
		O("tel:+44*", "tel:+451632960083", false),
		O("tel:+44*", "sip:+441632960083@example.org", false),
		O("tel:+44*", "", false),
		O("sip:a*", ALICE, true),
		O("sip:a*", "sip:bob@example.org", false),
		O("sip:+44*", "sip:+441632960083@example.org", true),
		O("anonymous", ALICE, false),
		O("anonymous", "", false),
		{"anonymous", "", "", 0, 0, 0, 0, ALICE, true, "", "", CPM_KIND_PAGER,
				1, true},
		/* hidden from the recipient, not from the recipient's rules */
		{ALICE, "", "", 0, 0, 0, 0, ALICE, true, "", "", CPM_KIND_PAGER, 1,
				true},

		T("text/plain", "text/plain", "", true),
		T("text/plain", "TEXT/Plain ;charset=utf-8", "", true),
		T("text/plain", "text / plain", "", true), /* RFC 3261: SLASH */
		T("image/*", "image /png", "", true),
		T("text/plain", "text/plainer", "", false),
		T("text/plain", "text", "", false),
		T("text/*", "text/html", "", true),
		T("text/*", "text", "", false),
		T("text/*", "context/html", "", false),
		T("text/*", "", "", false),
		T("*/*", "", "", true),
		T("image/*", "message/cpim", "image/png", true),
		T("image/*", "message/cpim", "Image / png;x=y", true),
		T("message/cpim", "message/cpim", "image/png", true),
		T("text/plain", "message/cpim", "image/png", false),
		T("text/plain", "message/cpim", "", false),

		K("", CPM_KIND_LARGE, true),
		K("any", CPM_KIND_LARGE, true),
		K("pager", CPM_KIND_PAGER, true),
		K("pager", CPM_KIND_LARGE, false),
		K("large", CPM_KIND_LARGE, true),
		K("large", CPM_KIND_PAGER, false),

		S(0, 0, 0, true),
		S(10, 0, 9, false),
		S(10, 0, 10, true),
		S(10, 0, 11, true),
		S(0, 10, 10, true),
		S(0, 10, 11, false),
		S(10, 10, 10, true),
		S(10, 20, 21, false),

		W(NOW, 0, true),
		W(NOW + 1, 0, false),
		W(0, NOW, true),
		W(0, NOW - 1, false),
		W(NOW, NOW, true),
		W(NOW - 1, NOW + 1, true),
};

START_TEST(rule_conditions)
{
	const struct condition *c = &conditions[_i];
	struct world w = world_new();
	struct cpm_rule_row *r = add_rule(&w, "reject");

	r->originator = c->originator;
	r->content_type = c->content_type;
	r->message_kind = c->kind;
	r->min_size = c->min_size;
	r->max_size = c->max_size;
	r->valid_from = c->from;
	r->valid_until = c->until;
	w.m.originator = cpm_pl_str(c->from_aor);
	w.m.anonymous = c->anonymous;
	w.m.type = cpm_pl_str(c->type);
	w.m.inner_type = cpm_pl_str(c->inner);
	w.m.kind = c->m_kind;
	w.m.size = c->size;
	add_client(&w, CPM_CAP_MSG, PHONE);
	if(c->holds) {
		expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	} else {
		expect_clients(&w, "0");
	}
	/* the same conditions of a rule with a device */
	r->device = PHONE;
	if(c->holds) {
		expect(&w, CPM_VERDICT_QUEUE, 0, "offline-defer");
	} else {
		expect_clients(&w, "0");
	}
}
END_TEST

static const struct
{
	const char *rule;
	const char *instance;
	const char *gruu;
	bool holds;
} devices[] = {
		{PHONE, PHONE, "", true},
		{"<" PHONE ">", PHONE, "", true},
		{"\"<" PHONE ">\"", PHONE, "", true},
		{PHONE, "URN:UUID:00000000-0000-1000-8000-0000000000AA", "", true},
		{PHONE, TABLET, "", false},
		{PHONE, "", "", false},
		{GRUU, TABLET, GRUU, true},
		{GRUU, "", GRUU, true},
		{GRUU, PHONE, "sip:bob@example.org;gr=" PHONE, false},
		{PHONE, PHONE "0", "", false},
};

START_TEST(rule_device)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, devices[_i].instance);
	w.clients[0].caps.pub_gruu = cpm_pl_str(devices[_i].gruu);
	add_rule(&w, "reject")->device = devices[_i].rule;
	if(devices[_i].holds) {
		expect(&w, CPM_VERDICT_QUEUE, 0, "offline-defer");
	} else {
		expect_clients(&w, "0");
	}
}
END_TEST

START_TEST(rule_holds_itself)
{
	struct world w = world_new();
	struct cpm_client c = client_of(CPM_CAP_MSG, PHONE);
	struct cpm_client other = client_of(CPM_CAP_MSG, TABLET);
	struct cpm_rule_row row = {.action = "defer", .device = PHONE};
	char scratch[SCRATCH];
	struct cpm_rule r;

	ck_assert_int_eq(
			cpm_rule_compile(&row, scratch, sizeof(scratch), &r, NULL), CPM_OK);
	ck_assert(!cpm_rule_holds(&r, &w.m, NULL));
	ck_assert(cpm_rule_holds(&r, &w.m, &c));
	ck_assert(!cpm_rule_holds(&r, &w.m, &other));
	row.device = "";
	ck_assert_int_eq(
			cpm_rule_compile(&row, scratch, sizeof(scratch), &r, NULL), CPM_OK);
	ck_assert(cpm_rule_holds(&r, &w.m, NULL));
	ck_assert(cpm_rule_holds(&r, &w.m, &c));
}
END_TEST

START_TEST(rule_order)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_rule(&w, "deliver")->originator = ALICE;
	add_rule(&w, "reject");
	expect_clients(&w, "0"); /* an exception from what comes after */
	w.rules[0].priority = 3;
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	w.rules[0].priority = 2; /* the same: by id */
	expect_clients(&w, "0");
	w.rules[0].id = 103;
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	w.rules[0].priority = -1;
	expect_clients(&w, "0");
	/* one that does not hold stands in nobody's way */
	w.rules[0].originator = "sip:carol@example.org";
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
	/* a rule of a device is none of the message, however early */
	w.rules[0].originator = "";
	w.rules[0].device = PHONE;
	expect(&w, CPM_VERDICT_REJECT, 403, "user-rejects");
}
END_TEST

START_TEST(rule_device_order)
{
	struct world w = world_new();

	add_client(&w, CPM_CAP_MSG, PHONE);
	add_client(&w, CPM_CAP_MSG, TABLET);
	add_rule(&w, "deliver")->device = PHONE;
	add_rule(&w, "reject")->device = PHONE;
	add_rule(&w, "defer")->device = TABLET;
	add_rule(&w, "deliver")->device = TABLET;
	expect_clients(&w, "0");
	w.rules[0].originator = "sip:carol@example.org";
	expect(&w, CPM_VERDICT_QUEUE, 0, "clients-defer");
	w.rules[2].valid_until = NOW - 1;
	expect_clients(&w, "1");
}
END_TEST

START_TEST(too_many_clients)
{
	struct world w = world_new();
	struct cpm_client many[CPM_CONTACTS_MAX + 4];
	struct cpm_prefs prefs = cpm_prefs_default();
	struct cpm_decision d;

	for(size_t i = 0; i < FU_N(many); i++) {
		many[i] = client_of(CPM_CAP_MSG, PHONE);
	}
	cpm_decide_recipient(&prefs, &w.policy, &w.m, many, FU_N(many), 403, &d);
	check_sane(&d, many, FU_N(many));
	ck_assert_uint_eq(d.deliver_count, CPM_CONTACTS_MAX);
}
END_TEST

/* ------------------------------------------------ the sentences: sender */

static void expect_sender(const struct world *w, unsigned code, const char *why,
		unsigned warning, const char *warning_text)
{
	struct cpm_decision d = decide_sender(w);

	ck_assert_str_eq(d.why, why);
	ck_assert_str_eq(
			cpm_verdict_name(d.verdict), code == 0 ? "deliver" : "reject");
	ck_assert_uint_eq(d.code, code);
	ck_assert_uint_eq(d.warning, warning);
	if(warning > 0) {
		ck_assert_str_eq(d.warning_text, warning_text);
	}
}

START_TEST(sender_authorised)
{
	struct world w = world_new();

	expect_sender(&w, 0, "authorised", 0, NULL);
	/* a sender's own rules are about what is received */
	add_rule(&w, "reject");
	w.user.when_offline = "reject";
	expect_sender(&w, 0, "authorised", 0, NULL);
	w.s.tag_required = true;
	expect_sender(&w, 0, "authorised", 0, NULL);
	w.policy.require_ids = true;
	expect_sender(&w, 0, "authorised", 0, NULL);
	w.m.anonymous = true;
	expect_sender(&w, 0, "authorised", 0, NULL);
}
END_TEST

/* Every row, from the last to the first: each is stronger than those that
 * were there before it. */
START_TEST(sender_rows)
{
	struct world w = world_new();

	w.policy.require_ids = true;
	w.s.has_contribution_id = false;
	expect_sender(&w, 400, "no-contribution-id", 0, NULL);
	ck_assert_str_eq(decide_sender(&w).reason, "Missing Contribution-ID");
	w.s.has_conversation_id = false;
	expect_sender(&w, 400, "no-conversation-id", 0, NULL);
	ck_assert_str_eq(decide_sender(&w).reason, "Missing Conversation-ID");
	cpm_pl_cstr(cpm_pl_str("image/*"), w.policy.accept_types,
			sizeof(w.policy.accept_types));
	expect_sender(&w, 415, "policy-type", 0, NULL);
	w.policy.max_size = 99;
	expect_sender(&w, 403, "policy-size", 133, "Size exceeded");
	w.m.anonymous = true;
	w.policy.allow_anonymous = false;
	expect_sender(&w, 403, "policy-anonymity", 119, "Anonymity not allowed");
	w.policy.allow_send = false;
	expect_sender(&w, 403, "policy-send", 122, "Function not allowed");
	w.s.feature_tag = false;
	expect_sender(&w, 403, "policy-send", 122, "Function not allowed");
	w.s.tag_required = true;
	expect_sender(&w, 403, "no-feature-tag", 127, "Service not authorised");
	w.user.enabled = false;
	expect_sender(&w, 403, "sender-disabled", 127, "Service not authorised");
	w.unknown = true;
	expect_sender(&w, 403, "sender-unknown", 127, "Service not authorised");
	w.s.home = false;
	expect_sender(&w, 403, "sender-not-home", 127, "Service not authorised");
	w.s.identified = false;
	expect_sender(
			&w, 403, "sender-unidentified", 127, "Service not authorised");
}
END_TEST

/* ------------------------------------------------ the rules, said again */

/* The same decisions a second time, as plainly as they can be said. */

struct naive
{
	enum cpm_verdict verdict;
	unsigned code;
	unsigned warning;
	int64_t rule_id;
	uint32_t to; /* bit i: client i gets it */
};

/* "text/plain" of " Text / Plain;charset=x"; cap is enough for the test */
static void naive_plain(struct cpm_pl value, char *out)
{
	size_t n = 0;

	for(size_t i = 0; i < value.n && value.p[i] != ';'; i++) {
		char c = value.p[i];

		if(c == ' ' || c == '\t') {
			continue;
		}
		if(c >= 'A' && c <= 'Z') {
			c = (char)(c - 'A' + 'a');
		}
		out[n++] = c;
	}
	out[n] = '\0';
}

/* One pattern: "text/plain", "text/" or "text/ *" */
static bool naive_type(const char *pattern, struct cpm_pl value)
{
	char v[256];
	size_t n = strlen(pattern);

	naive_plain(value, v);
	if(n > 0 && pattern[n - 1] == '*') {
		n--;
	}
	if(n > 0 && pattern[n - 1] == '/') {
		return strncmp(v, pattern, n) == 0 && v[n] != '\0';
	}
	return strcmp(v, pattern) == 0;
}

static bool naive_accepts(const char *list, struct cpm_pl value)
{
	char item[256];
	size_t n;

	if(list[0] == '\0') {
		return true;
	}
	while(*list != '\0') {
		n = strcspn(list, ", ");
		cpm_pl_cstr(cpm_pl(list, n), item, sizeof(item));
		if(n > 0 && naive_type(item, value)) {
			return true;
		}
		list += n + (list[n] != '\0');
	}
	return false;
}

static bool naive_holds(const struct cpm_rule *r, const struct cpm_msg_facts *m)
{
	char type[128];

	if(r->orig_kind == CPM_ORIG_EXACT
			&& (m->originator.n != r->originator.n
					|| memcmp(m->originator.p, r->originator.p, r->originator.n)
							   != 0)) {
		return false;
	}
	if(r->orig_kind == CPM_ORIG_DOMAIN) {
		size_t at = cpm_pl_chr(m->originator, '@');

		if(at == m->originator.n || m->originator.n - at - 1 != r->originator.n
				|| memcmp(m->originator.p + at + 1, r->originator.p,
						   r->originator.n)
						   != 0) {
			return false;
		}
	}
	if(r->orig_kind == CPM_ORIG_PREFIX
			&& (m->originator.n < r->originator.n
					|| memcmp(m->originator.p, r->originator.p, r->originator.n)
							   != 0)) {
		return false;
	}
	if(r->orig_kind == CPM_ORIG_ANONYMOUS && !m->anonymous) {
		return false;
	}
	if(r->type.n > 0) {
		memcpy(type, r->type.p, r->type.n);
		type[r->type.n] = '\0';
		if(!naive_type(type, m->type)
				&& (m->inner_type.n == 0 || !naive_type(type, m->inner_type))) {
			return false;
		}
	}
	if(r->kind == CPM_KIND_PAGER && m->kind != CPM_KIND_PAGER) {
		return false;
	}
	if(r->kind == CPM_KIND_LARGE && m->kind != CPM_KIND_LARGE) {
		return false;
	}
	if(r->min_size > 0 && m->size < r->min_size) {
		return false;
	}
	if(r->max_size > 0 && m->size > r->max_size) {
		return false;
	}
	if(r->valid_from_s > 0 && m->now_s < r->valid_from_s) {
		return false;
	}
	if(r->valid_until_s > 0 && m->now_s > r->valid_until_s) {
		return false;
	}
	return true;
}

static bool naive_before(const struct cpm_rule *a, const struct cpm_rule *b)
{
	return b == NULL || a->priority < b->priority
		   || (a->priority == b->priority && a->id < b->id);
}

/* Lowest priority first, the first match wins; NULL: none matches. */
static const struct cpm_rule *naive_first(const struct cpm_rule *rules,
		size_t count, const struct cpm_msg_facts *m, const struct cpm_client *c)
{
	const struct cpm_rule *best = NULL;

	for(size_t i = 0; i < count; i++) {
		const struct cpm_rule *r = &rules[i];

		if(c == NULL && r->device.n > 0) {
			continue;
		}
		if(c != NULL
				&& (r->device.n == 0
						|| (!cpm_pl_eq(r->device, c->caps.instance)
								&& !cpm_pl_eq(r->device, c->caps.pub_gruu)))) {
			continue;
		}
		if(naive_holds(r, m) && naive_before(r, best)) {
			best = r;
		}
	}
	return best;
}

static bool naive_too_much(
		const struct cpm_policy *p, unsigned caps, uint64_t n)
{
	bool listed = false;
	bool fits = false;

	for(size_t i = 0; i < p->deliver_max_count; i++) {
		if(p->deliver_max[i].cap & caps) {
			listed = true;
			fits = fits || p->deliver_max[i].bytes == 0
				   || n <= p->deliver_max[i].bytes;
		}
	}
	for(size_t i = 0; !listed && i < p->deliver_max_count; i++) {
		if(p->deliver_max[i].cap == 0) {
			return p->deliver_max[i].bytes != 0 && n > p->deliver_max[i].bytes;
		}
	}
	return listed && !fits;
}

static struct naive naive_recipient(const struct cpm_prefs *prefs,
		const struct cpm_rule *rules, size_t count, const struct cpm_policy *p,
		const struct cpm_msg_facts *m, const struct cpm_client *clients,
		size_t client_count, unsigned reject_code)
{
	struct naive n = {CPM_VERDICT_NONE, 0, 0, 0, 0};
	const struct cpm_rule *rule = naive_first(rules, count, m, NULL);
	bool somebody_defers = false;

	/* 1. recipient unknown or disabled */
	if(!prefs->known || !prefs->enabled) {
		n.verdict = CPM_VERDICT_UNKNOWN;
		n.code = 404;
		return n;
	}
	/* 2. provider policy forbids: reject */
	if(p->max_size > 0 && m->size > p->max_size) {
		n.verdict = CPM_VERDICT_REJECT;
		n.code = 403;
		n.warning = 133;
		return n;
	}
	if(!naive_accepts(p->accept_types, m->type)
			|| (m->inner_type.n > 0
					&& !naive_accepts(p->accept_types, m->inner_type))) {
		n.verdict = CPM_VERDICT_REJECT;
		n.code = 415;
		return n;
	}
	if(m->anonymous && !p->allow_anonymous) {
		n.verdict = CPM_VERDICT_REJECT;
		n.code = 403;
		n.warning = 119;
		return n;
	}
	/* 3. user rule reject */
	if(rule != NULL && rule->action == CPM_ACTION_REJECT) {
		n.rule_id = rule->id;
		n.code = reject_code;
		n.verdict =
				reject_code == 202 ? CPM_VERDICT_DISCARD : CPM_VERDICT_REJECT;
		return n;
	}
	/* 4. rule interwork */
	if(rule != NULL && rule->action == CPM_ACTION_INTERWORK) {
		n.rule_id = rule->id;
		n.verdict = CPM_VERDICT_INTERWORK;
		return n;
	}
	/* 5. rule store */
	if(rule != NULL && rule->action == CPM_ACTION_STORE) {
		n.rule_id = rule->id;
		n.verdict = CPM_VERDICT_STORE;
		return n;
	}
	/* 6. rule queue ("check back") */
	if(rule != NULL && rule->action == CPM_ACTION_QUEUE) {
		n.rule_id = rule->id;
		n.verdict = CPM_VERDICT_QUEUE;
		return n;
	}
	/* 7. each registered client is asked */
	for(size_t i = 0; i < client_count; i++) {
		const struct cpm_client *c = &clients[i];
		const struct cpm_rule *own = naive_first(rules, count, m, c);
		bool cpm = c->caps.set != 0;
		bool pager = c->takes_message
					 && (!cpm || (c->caps.set & CPM_CAP_MSG)
							 || (c->caps.set & CPM_CAP_PAGER_LARGE));

		if(c->failed) {
			continue; /* "those no longer count as registered" */
		}
		if(!c->connected) {
			continue; /* "device connectivity" */
		}
		if(!cpm && !c->takes_message) {
			continue; /* is no CPM Client */
		}
		/* a preference for the message is one for each client, where the
		 * client has none that comes first */
		if(rule != NULL && rule->action == CPM_ACTION_DEFER
				&& (own == NULL || !naive_before(own, rule))) {
			somebody_defers = true;
			continue;
		}
		if(own != NULL
				&& (own->action == CPM_ACTION_REJECT
						|| own->action == CPM_ACTION_STORE
						|| own->action == CPM_ACTION_INTERWORK)) {
			continue; /* never */
		}
		if(own != NULL
				&& (own->action == CPM_ACTION_DEFER
						|| own->action == CPM_ACTION_QUEUE)) {
			somebody_defers = true;
			continue;
		}
		if(!pager || naive_too_much(p, c->caps.set, m->size)) {
			somebody_defers = true;
			continue;
		}
		n.to |= 1u << i;
	}
	if(n.to != 0) {
		n.verdict = CPM_VERDICT_DELIVER;
		return n;
	}
	/* 8. all registered clients defer; or none is registered "and the user
	 * preferences of the recipient indicate deferring" */
	if(rule != NULL && rule->action == CPM_ACTION_DEFER) {
		n.rule_id = rule->id;
		n.verdict = CPM_VERDICT_QUEUE;
		return n;
	}
	if(somebody_defers) {
		n.verdict = CPM_VERDICT_QUEUE;
		return n;
	}
	/* 9. no client registered: when_offline */
	if(prefs->when_offline == CPM_OFFLINE_STORE) {
		n.verdict = CPM_VERDICT_STORE;
	}
	if(prefs->when_offline == CPM_OFFLINE_REJECT) {
		n.verdict = CPM_VERDICT_REJECT;
		n.code = 480;
	}
	if(prefs->when_offline == CPM_OFFLINE_INTERWORK) {
		n.verdict = CPM_VERDICT_INTERWORK;
	}
	if(prefs->when_offline == CPM_OFFLINE_DISCARD) {
		n.verdict = CPM_VERDICT_DISCARD;
		n.code = 202;
	}
	if(prefs->when_offline == CPM_OFFLINE_DEFER) {
		n.verdict = CPM_VERDICT_QUEUE;
	}
	return n;
}

static struct naive naive_sender(const struct cpm_sender_facts *s,
		const struct cpm_prefs *prefs, const struct cpm_policy *p,
		const struct cpm_msg_facts *m)
{
	struct naive n = {CPM_VERDICT_REJECT, 403, 0, 0, 0};

	if(!s->identified || !s->home || !prefs->known || !prefs->enabled
			|| (s->tag_required && !s->feature_tag)) {
		n.warning = 127;
	} else if(!p->allow_send) {
		n.warning = 122;
	} else if(m->anonymous && !p->allow_anonymous) {
		n.warning = 119;
	} else if(p->max_size > 0 && m->size > p->max_size) {
		n.warning = 133;
	} else if(!naive_accepts(p->accept_types, m->type)
			  || (m->inner_type.n > 0
					  && !naive_accepts(p->accept_types, m->inner_type))) {
		n.code = 415;
	} else if(p->require_ids
			  && !(s->has_conversation_id && s->has_contribution_id)) {
		n.code = 400;
	} else {
		n.verdict = CPM_VERDICT_DELIVER;
		n.code = 0;
	}
	return n;
}

/* ------------------------------------------------------- random worlds */

#define ROUNDS 300000

static uint64_t seed;

static unsigned draw(size_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 20) % n);
}

static bool one_in(size_t n)
{
	return draw(n) == 0;
}

#define PICK(a) cpm_pl_str((a)[draw(FU_N(a))])

static const char *const some_aors[] = {"sip:alice@example.org",
		"sip:a@example.org", "sip:carol@example.net", "tel:+441632960083", ""};
static const char *const some_exact[] = {
		"sip:alice@example.org", "tel:+441632960083"};
static const char *const some_hosts[] = {"example.org", "example.net"};
static const char *const some_prefixes[] = {
		"sip:a", "sip:", "tel:+44", "tel:+1", "sip:alice@example."};
static const char *const some_types[] = {"text/plain", "Text/HTML;charset=x",
		"image / png", "message/cpim", "text", ""};
static const char *const some_patterns[] = {
		"", "text/plain", "text/", "image/", "message/cpim"};
static const char *const some_lists[] = {
		"text/plain", "text/*, message/cpim", "image/*,text/html"};
static const char *const some_devices[] = {PHONE, TABLET, GRUU};
static const unsigned some_caps[] = {0, CPM_CAP_MSG, CPM_CAP_LARGEMSG,
		CPM_CAP_MSG | CPM_CAP_DEFERRED, CPM_CAP_SIP_IM, CPM_CAP_PAGER_LARGE};
static const unsigned some_codes[] = {403, 480, 603, 202};

static struct cpm_rule random_rule(size_t i)
{
	struct cpm_rule r;

	memset(&r, 0, sizeof(r));
	r.id = (int64_t)i + 1;
	r.priority = (int32_t)draw(5) - 1;
	r.orig_kind =
			(enum cpm_originator)(one_in(2) ? 0 : draw(CPM_ORIG_ANONYMOUS + 1));
	if(r.orig_kind == CPM_ORIG_EXACT) {
		r.originator = PICK(some_exact);
	} else if(r.orig_kind == CPM_ORIG_DOMAIN) {
		r.originator = PICK(some_hosts);
	} else if(r.orig_kind == CPM_ORIG_PREFIX) {
		r.originator = PICK(some_prefixes);
	}
	if(one_in(3)) {
		r.type = PICK(some_patterns);
	}
	if(one_in(4)) {
		r.kind = (enum cpm_kind)draw(3);
	}
	if(one_in(4)) {
		r.min_size = draw(4);
		r.max_size = draw(3) == 0 ? 0 : r.min_size + draw(4);
	}
	if(one_in(2)) {
		r.device = PICK(some_devices);
	}
	if(one_in(4)) {
		r.valid_from_s = NOW - 1 + draw(3);
	}
	if(one_in(4)) {
		r.valid_until_s =
				(r.valid_from_s > 0 ? r.valid_from_s : NOW - 1) + draw(3);
	}
	r.action = (enum cpm_action)draw(CPM_ACTION_DEFER + 1);
	return r;
}

static struct cpm_policy random_policy(void)
{
	struct cpm_policy p = cpm_policy_default();

	p.max_size = one_in(4) ? 1 + draw(5) : 0;
	p.allow_anonymous = !one_in(4);
	p.allow_send = !one_in(4);
	p.require_ids = one_in(4);
	if(one_in(4)) {
		cpm_pl_cstr(cpm_pl_str(some_lists[draw(FU_N(some_lists))]),
				p.accept_types, sizeof(p.accept_types));
	}
	p.deliver_max_count = one_in(2) ? draw(4) : 0;
	for(size_t i = 0; i < p.deliver_max_count; i++) {
		/* each at most once, as the column is compiled */
		p.deliver_max[i].cap = i == 0	? CPM_CAP_MSG
							   : i == 1 ? 0
										: CPM_CAP_PAGER_LARGE;
		p.deliver_max[i].bytes = draw(5);
	}
	return p;
}

static struct cpm_msg_facts random_message(void)
{
	struct cpm_msg_facts m;

	memset(&m, 0, sizeof(m));
	m.originator = PICK(some_aors);
	m.anonymous = one_in(4);
	m.type = PICK(some_types);
	m.inner_type = one_in(2) ? CPM_PL_NULL : PICK(some_types);
	m.kind = one_in(2) ? CPM_KIND_PAGER : CPM_KIND_LARGE;
	m.size = draw(7);
	m.now_s = NOW;
	return m;
}

static struct cpm_client random_client(void)
{
	static const char *const instances[] = {"", PHONE, TABLET};
	struct cpm_client c =
			client_of(some_caps[draw(FU_N(some_caps))], instances[draw(3)]);

	if(one_in(4)) {
		c.caps.pub_gruu = cpm_pl_str(GRUU);
	}
	c.takes_message = !one_in(5);
	c.connected = !one_in(6);
	c.failed = one_in(6);
	return c;
}

static void compare(
		const struct cpm_decision *d, const struct naive *n, unsigned round)
{
	uint32_t to = 0;

	for(size_t i = 0; i < d->deliver_count; i++) {
		to |= 1u << d->deliver_to[i];
	}
	if(d->verdict != n->verdict || d->code != n->code
			|| d->warning != n->warning || d->rule_id != n->rule_id
			|| to != n->to) {
		ck_abort_msg(
				"round %u: %s %u %u rule %d to %x (%s), should be %s %u %u "
				"rule %d to %x",
				round, cpm_verdict_name(d->verdict), d->code, d->warning,
				(int)d->rule_id, to, d->why, cpm_verdict_name(n->verdict),
				n->code, n->warning, (int)n->rule_id, n->to);
	}
}

static bool policy_forbids(
		const struct cpm_policy *p, const struct cpm_msg_facts *m)
{
	return (p->max_size > 0 && m->size > p->max_size)
		   || (m->anonymous && !p->allow_anonymous)
		   || !cpm_types_accept(cpm_pl_str(p->accept_types), m->type);
}

static void round_play(unsigned round, unsigned *seen)
{
	static char buf[16384];
	struct cpm_rule rules[RULES], sorted[RULES];
	struct cpm_client clients[6];
	struct cpm_prefs prefs = cpm_prefs_default();
	struct cpm_policy p = random_policy();
	struct cpm_msg_facts m = random_message();
	struct cpm_sender_facts s = {!one_in(8), !one_in(8), !one_in(3), one_in(2),
			!one_in(4), !one_in(4)};
	unsigned reject_code = some_codes[draw(FU_N(some_codes))];
	size_t rule_count = draw(RULES + 1);
	size_t client_count = draw(FU_N(clients) + 1);
	struct cpm_decision d;
	struct naive n;
	struct cpm_wr w;

	prefs.known = !one_in(20);
	prefs.enabled = !one_in(20);
	prefs.record_copy = one_in(2);
	prefs.when_offline = (enum cpm_when_offline)draw(CPM_OFFLINE_DISCARD + 1);
	for(size_t i = 0; i < rule_count; i++) {
		sorted[i] = rules[i] = random_rule(i);
	}
	for(size_t i = 0; i < client_count; i++) {
		clients[i] = random_client();
	}
	cpm_wr_init(&w, buf, sizeof(buf));
	if(cpm_prefs_encode(&prefs, sorted, rule_count, &w) != CPM_OK
			|| cpm_prefs_decode(cpm_wr_pl(&w), &prefs) != CPM_OK) {
		ck_abort_msg("round %u: no preferences", round);
	}

	memset(&d, 0x5a, sizeof(d));
	cpm_decide_recipient(
			&prefs, &p, &m, clients, client_count, reject_code, &d);
	check_sane(&d, clients, client_count);
	n = naive_recipient(&prefs, rules, rule_count, &p, &m, clients,
			client_count, reject_code);
	compare(&d, &n, round);
	if((policy_forbids(&p, &m) && d.verdict != CPM_VERDICT_REJECT
			   && d.verdict != CPM_VERDICT_UNKNOWN)
			|| (d.verdict == CPM_VERDICT_DELIVER
					&& d.record_copy != prefs.record_copy)) {
		ck_abort_msg("round %u: %s", round, d.why);
	}
	seen[d.verdict]++;

	memset(&d, 0x5a, sizeof(d));
	cpm_decide_sender(&s, &prefs, &p, &m, &d);
	check_sane(&d, NULL, 0);
	n = naive_sender(&s, &prefs, &p, &m);
	compare(&d, &n, round);
}

START_TEST(property)
{
	unsigned seen[FU_N(verdicts)] = {0};

	seed = UINT64_C(0x9e3779b97f4a7c15);
	for(unsigned i = 0; i < ROUNDS; i++) {
		round_play(i, seen);
	}
	/* the worlds are such that nothing is rare */
	for(size_t v = CPM_VERDICT_DELIVER; v < FU_N(seen); v++) {
		ck_assert_uint_gt(seen[v], ROUNDS / 100);
	}
}
END_TEST

/* A client that takes sessions only is one of now: its message is queued to be
 * brought in a session at once, and not for a client that comes later. */
START_TEST(sessions_only)
{
	static const struct
	{
		unsigned caps;
		const char *rule; /* NULL: none */
		bool deferred;
	} rows[] = {
			{CPM_CAP_DEFERRED, NULL, false},
			{CPM_CAP_LARGEMSG, NULL, false},
			{CPM_CAP_SIP_IM, NULL, false},
			/* takes neither: it waits for another client */
			{CPM_CAP_FILETRANSFER, NULL, true},
			/* the user's own wish is no matter of capabilities */
			{CPM_CAP_DEFERRED, "defer", true},
			{CPM_CAP_DEFERRED, "queue", true},
	};
	struct world w = world_new();
	struct cpm_decision d;

	add_client(&w, rows[_i].caps, "");
	if(rows[_i].rule != NULL) {
		(void)add_rule(&w, rows[_i].rule);
	}
	d = decide(&w);
	ck_assert_int_eq(d.verdict, CPM_VERDICT_QUEUE);
	ck_assert_int_eq(d.deferred, rows[_i].deferred);
}
END_TEST

START_TEST(session_kinds)
{
	static const struct
	{
		unsigned caps;
		enum cpm_session session;
	} rows[] = {
			{0, CPM_SESSION_NONE},
			{CPM_CAP_MSG | CPM_CAP_PAGER_LARGE, CPM_SESSION_NONE},
			{CPM_CAP_SESSION | CPM_CAP_FILETRANSFER, CPM_SESSION_NONE},
			{CPM_CAP_DEFERRED, CPM_SESSION_STANDALONE},
			{CPM_CAP_MSG | CPM_CAP_LARGEMSG, CPM_SESSION_STANDALONE},
			{CPM_CAP_SIP_IM, CPM_SESSION_CHAT},
			{CPM_CAP_SIP_IM | CPM_CAP_DEFERRED, CPM_SESSION_STANDALONE},
	};
	struct cpm_caps caps = {.set = rows[_i].caps};

	ck_assert_int_eq(cpm_client_session(&caps), rows[_i].session);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_decide");

	fu_case(s, "every verdict has a name", verdict_names);
	fu_case(s,
			"\"reject the CPM Message, if user preferences of the recipient "
			"indicate rejection\"",
			seed_reject);
	fu_table(s, "a rejection is answered with the code that is configured",
			seed_reject_code, FU_N(reject_codes));
	fu_case(s,
			"\"The user preferences can depend on e.g. originator address, "
			"undisclosed sender identity\"",
			seed_undisclosed);
	fu_case(s,
			"\"hand over the CPM Message to the Interworking Selection "
			"Function, if the user preferences indicate interworking\"",
			seed_interwork);
	fu_case(s,
			"\"deliver the CPM Message to the Message Storage Server, if the "
			"user preferences indicate delivery to\" it",
			seed_store);
	fu_case(s,
			"\"In cases where both scenarios apply (delivery and recording) "
			"only one storage operation is triggered\"",
			seed_record_once);
	fu_case(s,
			"\"queue the CPM Message, if user preferences of the recipient "
			"indicate checking back with the user\"",
			seed_check_back);
	fu_case(s,
			"\"or, user preferences of each registered CPM Client of the "
			"recipient indicate deferring\"",
			seed_each_defers);
	fu_case(s, "deferring a message is deferring it for each client",
			seed_message_defers);
	fu_case(s, "a client's own preference that comes first is the client's",
			seed_device_before_message);
	fu_table(s,
			"\"or, no CPM Client of the recipient is registered and the user "
			"preferences of the recipient indicate deferring\"",
			seed_none_registered, FU_N(offline));
	fu_case(s,
			"\"send the CPM Message towards each registered CPM Client ... "
			"device connectivity\"",
			seed_each_client);
	fu_table(s, "\"for which ... device capabilities ... indicate delivering\"",
			seed_capabilities, FU_N(capabilities));
	fu_table(s,
			"\"for which ... server provider policies indicate delivering\"",
			seed_deliver_max, FU_N(deliver_max));
	fu_table(s,
			"\"CPM Clients of the recipient for which user preferences or "
			"other factors prevent delivery will not receive\" it",
			seed_prevented, 3);
	fu_case(s, "who is unknown or disabled is not found, before all else",
			seed_unknown);
	fu_table(s, "the provider's types are those of wrapper and content",
			policy_types, FU_N(accepts));
	fu_case(s, "a provider policy is never overridden by a preference",
			policy_first);
	fu_table(s, "a rule holds when all of its conditions do", rule_conditions,
			FU_N(conditions));
	fu_table(s, "a device is named by instance or by public GRUU", rule_device,
			FU_N(devices));
	fu_case(s, "a rule with a device does not hold for a message",
			rule_holds_itself);
	fu_case(s, "lowest priority first, the first match wins", rule_order);
	fu_case(s, "each device has its own first match", rule_device_order);
	fu_case(s, "more clients than are considered are passed over",
			too_many_clients);
	fu_case(s,
			"\"SHALL authorize the sender and if authorized ... SHALL send\"",
			sender_authorised);
	fu_case(s, "\"SHALL authorize the sender\": every reason not to, in order",
			sender_rows);
	fu_table(s, "a client of sessions only is one of now", sessions_only, 6);
	fu_table(s, "capabilities tell the kind of session", session_kinds, 7);
	fu_case(s, "random worlds: a naive statement of the rules says the same",
			property);
	return fu_run(s);
}
