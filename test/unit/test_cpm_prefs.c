/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_prefs.c - preferences of a user and policies of the provider.
 */

#include "check_helpers.h"
#include "cpm_aor.h"
#include "cpm_prefs.h"

#include <stdio.h>

#define SCRATCH (3 * CPM_PATTERN_MAX)
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define MANY HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED

/* A row that compiles, with all conditions empty. */
static struct cpm_rule_row plain_row(void)
{
	return (struct cpm_rule_row){.id = 7, .priority = 1, .action = "deliver"};
}

static int compile(
		const struct cpm_rule_row *row, char *scratch, struct cpm_rule *rule)
{
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_rule_compile(row, scratch, SCRATCH, rule, &diag);

	ck_assert(rc == CPM_OK || diag.why != NULL);
	ck_assert_int_eq(cpm_rule_compile(row, scratch, SCRATCH, rule, NULL), rc);
	return rc;
}

/* Asserts that a row is refused, which column is told, and that the rule of
 * before stays. */
static void refused(const struct cpm_rule_row *row, const char *column)
{
	char scratch[SCRATCH];
	struct cpm_rule rule = {.id = 4711};
	struct cpm_diag diag = {NULL, 0};

	ck_assert_int_eq(
			cpm_rule_compile(row, scratch, sizeof(scratch), &rule, &diag),
			CPM_EPROTO);
	ck_assert_str_eq(diag.why, column);
	ck_assert_int_eq(rule.id, 4711);
}

/* --------------------------------------------------------------- rules */

START_TEST(empty_conditions)
{
	struct cpm_rule_row rows[] = {plain_row(), plain_row(), plain_row()};
	char scratch[SCRATCH];
	struct cpm_rule r;

	rows[1].originator = rows[1].content_type = rows[1].device = "";
	rows[1].message_kind = "";
	rows[2].originator = "*";
	rows[2].content_type = "*/*";
	rows[2].device = "  ";
	rows[2].message_kind = "any";
	for(size_t i = 0; i < FU_N(rows); i++) {
		ck_assert_int_eq(compile(&rows[i], scratch, &r), CPM_OK);
		ck_assert_int_eq(r.id, 7);
		ck_assert_int_eq(r.priority, 1);
		ck_assert_int_eq(r.orig_kind, CPM_ORIG_ANY);
		ck_assert_uint_eq(r.originator.n + r.type.n + r.device.n, 0);
		ck_assert_int_eq(r.kind, CPM_KIND_ANY);
		ck_assert(r.min_size == 0 && r.max_size == 0);
		ck_assert(r.valid_from_s == 0 && r.valid_until_s == 0);
		ck_assert_int_eq(r.action, CPM_ACTION_DELIVER);
	}
}
END_TEST

START_TEST(all_conditions)
{
	struct cpm_rule_row row = {.id = INT64_MIN,
			.priority = -5,
			.originator = "SIP:Alice@Example.ORG",
			.content_type = "Text/*",
			.message_kind = "Pager",
			.min_size = 1,
			.max_size = 1300,
			.device = "\"<urn:uuid:1>\"",
			.valid_from = 1700000000,
			.valid_until = 1800000000,
			.action = "Store"};
	char scratch[SCRATCH];
	struct cpm_rule r;

	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_assert(r.id == INT64_MIN && r.priority == -5);
	ck_assert_int_eq(r.orig_kind, CPM_ORIG_EXACT);
	ck_pl_eq(r.originator, "sip:Alice@example.org");
	ck_pl_eq(r.type, "text/");
	ck_assert_int_eq(r.kind, CPM_KIND_PAGER);
	ck_assert(r.min_size == 1 && r.max_size == 1300);
	ck_pl_eq(r.device, "urn:uuid:1");
	ck_assert(r.valid_from_s == 1700000000 && r.valid_until_s == 1800000000);
	ck_assert_int_eq(r.action, CPM_ACTION_STORE);
	ck_assert(fu_pl_inside(r.originator, cpm_pl(scratch, SCRATCH)));
	ck_assert(fu_pl_inside(r.type, cpm_pl(scratch, SCRATCH)));
	ck_assert(fu_pl_inside(r.device, cpm_pl(scratch, SCRATCH)));
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	enum cpm_originator kind;
	const char *originator;
} originators[] = {
		{"sip:alice@example.org", CPM_OK, CPM_ORIG_EXACT,
				"sip:alice@example.org"},
		{" sips:alice@EXAMPLE.org:5061;transport=tls ", CPM_OK, CPM_ORIG_EXACT,
				"sip:alice@example.org"},
		{"sip:%61lice@example.org.", CPM_OK, CPM_ORIG_EXACT,
				"sip:alice@example.org"},
		{"im:alice@example.org", CPM_OK, CPM_ORIG_EXACT,
				"sip:alice@example.org"},
		{"tel:+44 20", CPM_EPROTO, 0, NULL},
		{"tel:+44-20-7946-0000", CPM_OK, CPM_ORIG_EXACT, "tel:+442079460000"},
		{"sip:*21@example.org", CPM_OK, CPM_ORIG_EXACT, "sip:*21@example.org"},
		{"anonymous", CPM_OK, CPM_ORIG_ANONYMOUS, ""},
		{"Anonymous", CPM_OK, CPM_ORIG_ANONYMOUS, ""},
		{"anonymou", CPM_EPROTO, 0, NULL},
		{"alice", CPM_EPROTO, 0, NULL},
		{"alice@example.org", CPM_EPROTO, 0, NULL},
		{"<sip:alice@example.org>", CPM_EPROTO, 0, NULL},
		{"sip:example.org", CPM_EPROTO, 0, NULL},
		{"mailto:alice@example.org", CPM_EPROTO, 0, NULL},
		/* domains */
		{"*@example.org", CPM_OK, CPM_ORIG_DOMAIN, "example.org"},
		{"*@Example.ORG.", CPM_OK, CPM_ORIG_DOMAIN, "example.org"},
		{"*@[2001:DB8::1]", CPM_OK, CPM_ORIG_DOMAIN, "[2001:db8::1]"},
		{"*@192.0.2.1", CPM_OK, CPM_ORIG_DOMAIN, "192.0.2.1"},
		{"*@", CPM_EPROTO, 0, NULL},
		{"*@*", CPM_EPROTO, 0, NULL},
		{"*@.", CPM_EPROTO, 0, NULL},
		{"*@*.example.org", CPM_EPROTO, 0, NULL},
		{"*@example.org:5060", CPM_EPROTO, 0, NULL},
		{"*@example.org;x", CPM_EPROTO, 0, NULL},
		{"*@example.org;", CPM_EPROTO, 0, NULL},
		{"*@example.org?x=y", CPM_EPROTO, 0, NULL},
		{"*@a@b", CPM_EPROTO, 0, NULL},
		{"*@a b", CPM_EPROTO, 0, NULL},
		{"*@x:pw@b", CPM_EPROTO, 0, NULL},
		{"sip:*@example.org", CPM_OK, CPM_ORIG_EXACT, "sip:*@example.org"},
		/* prefixes are of the canonical form */
		{"tel:+44*", CPM_OK, CPM_ORIG_PREFIX, "tel:+44"},
		{"TEL:+44(0)20-79*", CPM_OK, CPM_ORIG_PREFIX, "tel:+4402079"},
		{"tel:+*", CPM_OK, CPM_ORIG_PREFIX, "tel:+"},
		{"tel:*", CPM_OK, CPM_ORIG_PREFIX, "tel:"},
		{"tel:0A#*", CPM_OK, CPM_ORIG_PREFIX, "tel:0a#"},
		{"tel:+4a*", CPM_EPROTO, 0, NULL},
		{"tel:++4*", CPM_EPROTO, 0, NULL},
		{"tel:12;phone*", CPM_EPROTO, 0, NULL},
		{"tel:+44**", CPM_EPROTO, 0, NULL},
		{"tel:*44*", CPM_EPROTO, 0, NULL},
		{"sip:alice*", CPM_OK, CPM_ORIG_PREFIX, "sip:alice"},
		{"SIPS:Alice*", CPM_OK, CPM_ORIG_PREFIX, "sip:Alice"},
		{"sip:%61l%2a*", CPM_OK, CPM_ORIG_PREFIX, "sip:al*"},
		{"sip:*", CPM_OK, CPM_ORIG_PREFIX, "sip:"},
		{"pres:alice@*", CPM_OK, CPM_ORIG_PREFIX, "sip:alice@"},
		{"sip:alice@Example.*", CPM_OK, CPM_ORIG_PREFIX, "sip:alice@example."},
		{"sip:alice@[2001:DB8:*", CPM_OK, CPM_ORIG_PREFIX,
				"sip:alice@[2001:db8:"},
		{"sip:alice@example:5*", CPM_EPROTO, 0, NULL},
		{"sip:alice@b@*", CPM_EPROTO, 0, NULL},
		{"sip:alice:pw*", CPM_EPROTO, 0, NULL},
		{"sip:@example*", CPM_EPROTO, 0, NULL},
		{"sip:al ice*", CPM_EPROTO, 0, NULL},
		{"sip:alice%4*", CPM_EPROTO, 0, NULL},
		{"sip:{alice}*", CPM_EPROTO, 0, NULL},
		{"alice*", CPM_EPROTO, 0, NULL},
		{"+44*", CPM_EPROTO, 0, NULL},
		{"**", CPM_EPROTO, 0, NULL},
		{"mailto:a*", CPM_EPROTO, 0, NULL},
		{":*", CPM_EPROTO, 0, NULL},
		{"sip:" MANY "*", CPM_EPROTO, 0, NULL},
		{"tel:+" MANY "*", CPM_EPROTO, 0, NULL},
		{"*@" MANY, CPM_EPROTO, 0, NULL},
		{"sip:a@" MANY, CPM_EPROTO, 0, NULL},
};

START_TEST(originator)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.originator = originators[_i].text;
	if(originators[_i].rc != CPM_OK) {
		refused(&row, "originator");
		return;
	}
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_assert_int_eq(r.orig_kind, originators[_i].kind);
	ck_pl_eq(r.originator, originators[_i].originator);
}
END_TEST

static void never_longer(struct cpm_pl prefix, void *aor)
{
	struct cpm_rule_row row = plain_row();
	char text[CPM_AOR_MAX + 2], scratch[SCRATCH];
	struct cpm_rule r;

	snprintf(text, sizeof(text), "%.*s*", (int)prefix.n, prefix.p);
	row.originator = text;
	if(compile(&row, scratch, &r) != CPM_OK)
		return;
	if(r.orig_kind == CPM_ORIG_ANY) /* of "*" alone */
		return;
	ck_assert_int_eq(r.orig_kind, CPM_ORIG_PREFIX);
	ck_assert(cpm_pl_starts(*(struct cpm_pl *)aor, r.originator));
	ck_pl_same(r.originator, prefix);
}

START_TEST(prefix_of_aor)
{
	static const char *const aors[] = {"sip:alice%20b;c@x-1.example.org",
			"tel:+442079460000", "sip:bob@[2001:db8::1]", "tel:0aa#"};

	for(size_t i = 0; i < FU_N(aors); i++) {
		struct cpm_pl aor = cpm_pl_str(aors[i]);

		guard_prefixes(aor, never_longer, &aor);
	}
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	const char *type;
} types[] = {
		{"text/plain", CPM_OK, "text/plain"},
		{" Text/Plain ", CPM_OK, "text/plain"},
		{"text / plain", CPM_OK, "text/plain"},
		{"TEXT/*", CPM_OK, "text/"},
		{"*/*", CPM_OK, ""},
		{"application/vnd.gsma.rcs-ft-http+xml", CPM_OK,
				"application/vnd.gsma.rcs-ft-http+xml"},
		{"text/plain;charset=utf-8", CPM_EPROTO, NULL},
		{"text/plain, text/html", CPM_EPROTO, NULL},
		{"text", CPM_EPROTO, NULL},
		{"text/", CPM_EPROTO, NULL},
		{"/plain", CPM_EPROTO, NULL},
		{"/", CPM_EPROTO, NULL},
		{"*", CPM_EPROTO, NULL},
		{"*/plain", CPM_EPROTO, NULL},
		{"te*/plain", CPM_EPROTO, NULL},
		{"text/pl*", CPM_EPROTO, NULL},
		{"text/plain/x", CPM_EPROTO, NULL},
		{"te xt/plain", CPM_EPROTO, NULL},
		{"text/" MANY, CPM_EPROTO, NULL},
};

START_TEST(content_type)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.content_type = types[_i].text;
	if(types[_i].rc != CPM_OK) {
		refused(&row, "content_type");
		return;
	}
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_pl_eq(r.type, types[_i].type);
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	const char *device;
} devices[] = {
		{"urn:uuid:Ab-1", CPM_OK, "urn:uuid:Ab-1"},
		{"<urn:uuid:Ab-1>", CPM_OK, "urn:uuid:Ab-1"},
		{"\"<urn:uuid:Ab-1>\"", CPM_OK, "urn:uuid:Ab-1"},
		{" \" < urn:uuid:Ab-1 > \" ", CPM_OK, "urn:uuid:Ab-1"},
		{"sip:Bob@Example.org;gr=urn:uuid:1", CPM_OK,
				"sip:Bob@Example.org;gr=urn:uuid:1"},
		{"\"sip:bob@example.org;gr\"", CPM_OK, "sip:bob@example.org;gr"},
		{"<urn:uuid:1", CPM_EPROTO, NULL},
		{"urn:uuid:1>", CPM_EPROTO, NULL},
		{"\"urn:uuid:1", CPM_EPROTO, NULL},
		{"\"", CPM_EPROTO, NULL},
		{"\"\"", CPM_EPROTO, NULL},
		{"<>", CPM_EPROTO, NULL},
		{"urn:uuid:1 2", CPM_EPROTO, NULL},
		{"urn:\001", CPM_EPROTO, NULL},
		{"urn:\303\244", CPM_EPROTO, NULL},
		{MANY, CPM_EPROTO, NULL},
};

START_TEST(device)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.device = devices[_i].text;
	if(devices[_i].rc != CPM_OK) {
		refused(&row, "device");
		return;
	}
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_pl_eq(r.device, devices[_i].device);
}
END_TEST

START_TEST(device_of_a_contact)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_caps caps;
	struct cpm_rule r;

	/* what an operator copies from a Contact is what a client is known by */
	cpm_caps_parse(CPM_PL_LIT(";+sip.instance=\"<urn:uuid:1-2>\""), &caps);
	row.device = "\"<urn:uuid:1-2>\"";
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_pl_same(r.device, caps.instance);
}
END_TEST

static const struct
{
	const char *text;
	int rc;
	int value;
} actions[] = {
		{"deliver", CPM_OK, CPM_ACTION_DELIVER},
		{"reject", CPM_OK, CPM_ACTION_REJECT},
		{"interwork", CPM_OK, CPM_ACTION_INTERWORK},
		{"store", CPM_OK, CPM_ACTION_STORE},
		{"queue", CPM_OK, CPM_ACTION_QUEUE},
		{"defer", CPM_OK, CPM_ACTION_DEFER},
		{" DEFER ", CPM_OK, CPM_ACTION_DEFER},
		{"", CPM_EPROTO, 0},
		{NULL, CPM_EPROTO, 0},
		{"discard", CPM_EPROTO, 0},
		{"deliver!", CPM_EPROTO, 0},
};

START_TEST(action)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.action = actions[_i].text;
	if(actions[_i].rc != CPM_OK) {
		refused(&row, "action");
		return;
	}
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_assert_int_eq(r.action, actions[_i].value);
}
END_TEST

START_TEST(message_kind)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.message_kind = "LARGE";
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_assert_int_eq(r.kind, CPM_KIND_LARGE);
	row.message_kind = "session";
	refused(&row, "message_kind");
}
END_TEST

static const struct
{
	int64_t min_size, max_size, from, until, priority;
	const char *wrong; /* NULL: it compiles */
} numbers[] = {
		{0, 0, 0, 0, 0, NULL},
		{5, 0, 0, 0, 0, NULL},
		{0, 5, 0, 0, 0, NULL},
		{5, 5, 5, 5, 5, NULL},
		{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT32_MAX, NULL},
		{0, 0, 5, 0, INT32_MIN, NULL},
		{0, 0, 0, 5, 0, NULL},
		{-1, 0, 0, 0, 0, "min_size"},
		{INT64_MIN, 0, 0, 0, 0, "min_size"},
		{0, -1, 0, 0, 0, "max_size"},
		{6, 5, 0, 0, 0, "max_size"},
		{0, 0, -1, 0, 0, "valid_from"},
		{0, 0, 0, -1, 0, "valid_until"},
		{0, 0, 6, 5, 0, "valid_until"},
		{0, 0, 0, 0, (int64_t)INT32_MAX + 1, "priority"},
		{0, 0, 0, 0, (int64_t)INT32_MIN - 1, "priority"},
};

START_TEST(rule_numbers)
{
	struct cpm_rule_row row = plain_row();
	char scratch[SCRATCH];
	struct cpm_rule r;

	row.min_size = numbers[_i].min_size;
	row.max_size = numbers[_i].max_size;
	row.valid_from = numbers[_i].from;
	row.valid_until = numbers[_i].until;
	row.priority = numbers[_i].priority;
	if(numbers[_i].wrong) {
		refused(&row, numbers[_i].wrong);
		return;
	}
	ck_assert_int_eq(compile(&row, scratch, &r), CPM_OK);
	ck_assert_int_eq((int64_t)r.min_size, row.min_size);
	ck_assert_int_eq((int64_t)r.max_size, row.max_size);
	ck_assert_int_eq((int64_t)r.valid_from_s, row.valid_from);
	ck_assert_int_eq((int64_t)r.valid_until_s, row.valid_until);
	ck_assert_int_eq(r.priority, row.priority);
}
END_TEST

START_TEST(small_scratch)
{
	struct cpm_rule_row row = plain_row();
	struct cpm_diag diag = {NULL, 0};
	struct cpm_rule r = {.id = 4711};
	size_t n;

	row.originator = "*@example.org";
	row.content_type = "text/plain";
	row.device = "urn:uuid:1";
	n = strlen("example.org"
			   "text/plain"
			   "urn:uuid:1");
	for(size_t cap = 0; cap < n; cap++) {
		char *scratch = guard_dup(HUNDRED, cap);

		ck_assert_int_eq(
				cpm_rule_compile(&row, scratch, cap, &r, &diag), CPM_ENOMEM);
		ck_assert_str_eq(diag.why, "small-buffer");
		ck_assert_int_eq(r.id, 4711);
		guard_free(scratch, cap);
	}
	ck_assert_int_eq(cpm_rule_compile(&row, NULL, 0, &r, &diag), CPM_ENOMEM);
	row = plain_row();
	ck_assert_int_eq(cpm_rule_compile(&row, NULL, 0, &r, &diag), CPM_OK);
}
END_TEST

START_TEST(largest_texts)
{
	struct cpm_rule_row row = plain_row();
	char orig[CPM_PATTERN_MAX + 2], type[CPM_PATTERN_MAX + 2];
	char dev[CPM_PATTERN_MAX + 2];
	char *scratch = guard_dup(MANY MANY, SCRATCH);
	struct cpm_rule r;

	snprintf(orig, sizeof(orig), "sip:%.250s*", MANY);
	snprintf(type, sizeof(type), "t/%.254s", MANY);
	snprintf(dev, sizeof(dev), "%.256s", MANY);
	row.originator = orig;
	row.content_type = type;
	row.device = dev;
	ck_assert_int_eq(
			cpm_rule_compile(&row, scratch, SCRATCH, &r, NULL), CPM_OK);
	ck_assert_uint_eq(r.originator.n, 254);
	ck_assert_uint_eq(r.type.n, CPM_PATTERN_MAX);
	ck_assert_uint_eq(r.device.n, CPM_PATTERN_MAX);
	guard_free(scratch, SCRATCH);
	snprintf(type, sizeof(type), "t/%.255s", MANY);
	refused(&row, "content_type");
	row.content_type = NULL;
	snprintf(dev, sizeof(dev), "%.257s", MANY);
	refused(&row, "device");
}
END_TEST

/* ---------------------------------------------------------------- user */

static const struct
{
	struct cpm_user_row row;
	const char *wrong;
	int when_offline, queue_mode, on_expiry;
	const char *service_class;
} users[] = {
		{{true, NULL, NULL, NULL, NULL, false}, NULL, CPM_OFFLINE_DEFER,
				CPM_QUEUE_PUSH, CPM_EXPIRY_DELETE, ""},
		{{false, "", "", "", " ", true}, NULL, CPM_OFFLINE_DEFER,
				CPM_QUEUE_PUSH, CPM_EXPIRY_DELETE, ""},
		{{true, " Gold ", "defer", "push", "delete", true}, NULL,
				CPM_OFFLINE_DEFER, CPM_QUEUE_PUSH, CPM_EXPIRY_DELETE, "Gold"},
		{{true, "gold", " STORE ", "Notify", "Store", true}, NULL,
				CPM_OFFLINE_STORE, CPM_QUEUE_NOTIFY, CPM_EXPIRY_STORE, "gold"},
		{{true, "", "reject", "", "", false}, NULL, CPM_OFFLINE_REJECT, 0, 0,
				""},
		{{true, "", "interwork", "", "", false}, NULL, CPM_OFFLINE_INTERWORK, 0,
				0, ""},
		{{true, "", "discard", "", "", false}, NULL, CPM_OFFLINE_DISCARD, 0, 0,
				""},
		{{true, "", "queue", "", "", false}, "when_offline", 0, 0, 0, NULL},
		{{true, "", "", "pull", "", false}, "queue_mode", 0, 0, 0, NULL},
		{{true, "", "", "", "keep", false}, "on_expiry", 0, 0, 0, NULL},
		{{true, HUNDRED, "", "", "", false}, "service_class", 0, 0, 0, NULL},
		{{true, "a\nb", "", "", "", false}, "service_class", 0, 0, 0, NULL},
};

START_TEST(user)
{
	struct cpm_prefs p = {.rule_count = 4711};
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_user_compile(&users[_i].row, &p, &diag);

	if(users[_i].wrong) {
		ck_assert_int_eq(rc, CPM_EPROTO);
		ck_assert_str_eq(diag.why, users[_i].wrong);
		ck_assert_uint_eq(p.rule_count, 4711);
		return;
	}
	ck_assert_int_eq(rc, CPM_OK);
	ck_assert(p.known);
	ck_assert(p.enabled == users[_i].row.enabled);
	ck_assert(p.record_copy == users[_i].row.record_copy);
	ck_assert_int_eq(p.when_offline, users[_i].when_offline);
	ck_assert_int_eq(p.queue_mode, users[_i].queue_mode);
	ck_assert_int_eq(p.on_expiry, users[_i].on_expiry);
	ck_pl_eq(p.service_class, users[_i].service_class);
	ck_assert(p.rule_count == 0 && p.block.n == 0);
}
END_TEST

START_TEST(default_user)
{
	struct cpm_prefs p = cpm_prefs_default();
	struct cpm_rule r;

	ck_assert(p.known && p.enabled && !p.record_copy);
	ck_assert_int_eq(p.when_offline, CPM_OFFLINE_DEFER);
	ck_assert_int_eq(p.queue_mode, CPM_QUEUE_PUSH);
	ck_assert_int_eq(p.on_expiry, CPM_EXPIRY_DELETE);
	ck_assert(p.rule_count == 0 && p.service_class.n == 0);
	ck_assert_int_eq(cpm_prefs_rule(&p, 0, &r), CPM_EPROTO);
}
END_TEST

/* -------------------------------------------------------------- blocks */

static const struct cpm_rule sample[] = {
		{.id = 30,
				.priority = 10,
				.orig_kind = CPM_ORIG_EXACT,
				.originator = {"sip:alice@example.org", 21},
				.type = {"text/", 5},
				.kind = CPM_KIND_LARGE,
				.min_size = 1,
				.max_size = UINT64_MAX,
				.device = {"urn:uuid:1", 10},
				.valid_from_s = 2,
				.valid_until_s = 3,
				.action = CPM_ACTION_DEFER},
		{.id = 20, .priority = 10, .action = CPM_ACTION_REJECT},
		{.id = -1,
				.priority = INT32_MIN,
				.orig_kind = CPM_ORIG_PREFIX,
				.originator = {"tel:+44", 7},
				.action = CPM_ACTION_QUEUE},
		{.id = 5, .priority = -1, .orig_kind = CPM_ORIG_ANONYMOUS},
};

static const int64_t sample_order[] = {-1, 5, 20, 30};

static struct cpm_prefs sample_prefs(void)
{
	struct cpm_prefs p = cpm_prefs_default();

	p.when_offline = CPM_OFFLINE_DISCARD;
	p.queue_mode = CPM_QUEUE_NOTIFY;
	p.on_expiry = CPM_EXPIRY_STORE;
	p.record_copy = true;
	p.service_class = CPM_PL_LIT("gold");
	return p;
}

static void same_rule(const struct cpm_rule *a, const struct cpm_rule *b)
{
	ck_assert(a->id == b->id && a->priority == b->priority);
	ck_assert(a->orig_kind == b->orig_kind && a->kind == b->kind);
	ck_assert(a->min_size == b->min_size && a->max_size == b->max_size);
	ck_assert(a->valid_from_s == b->valid_from_s);
	ck_assert(a->valid_until_s == b->valid_until_s);
	ck_assert(a->action == b->action);
	ck_pl_same(a->originator, b->originator);
	ck_pl_same(a->type, b->type);
	ck_pl_same(a->device, b->device);
}

static void same_prefs(const struct cpm_prefs *a, const struct cpm_prefs *b)
{
	ck_assert(a->known == b->known && a->enabled == b->enabled);
	ck_assert(a->when_offline == b->when_offline);
	ck_assert(a->queue_mode == b->queue_mode && a->on_expiry == b->on_expiry);
	ck_assert(a->record_copy == b->record_copy);
	ck_pl_same(a->service_class, b->service_class);
}

/* The sample as a block in buf. */
static struct cpm_pl sample_block(char *buf, size_t cap)
{
	struct cpm_rule rules[FU_N(sample)];
	struct cpm_prefs p = sample_prefs();
	struct cpm_wr w;

	memcpy(rules, sample, sizeof(sample));
	cpm_wr_init(&w, buf, cap);
	ck_assert_int_eq(cpm_prefs_encode(&p, rules, FU_N(rules), &w), CPM_OK);
	return cpm_wr_pl(&w);
}

/* A block that decodes has rules in order, all of whose slices lie in it. */
static void check_block(struct cpm_pl block, const struct cpm_prefs *p)
{
	struct cpm_rule r;

	ck_assert_uint_le(p->rule_count, CPM_RULES_MAX);
	ck_assert(fu_pl_inside(p->service_class, block));
	for(size_t i = 0; i < p->rule_count; i++) {
		ck_assert_int_eq(cpm_prefs_rule(p, i, &r), CPM_OK);
		ck_assert(fu_pl_inside(r.originator, block));
		ck_assert(fu_pl_inside(r.type, block));
		ck_assert(fu_pl_inside(r.device, block));
	}
	ck_assert_int_eq(cpm_prefs_rule(p, p->rule_count, &r), CPM_EPROTO);
	ck_assert_int_eq(cpm_prefs_rule(p, SIZE_MAX, &r), CPM_EPROTO);
}

START_TEST(block_round_trip)
{
	char buf[4096];
	struct cpm_pl block = sample_block(buf, sizeof(buf));
	struct cpm_prefs want = sample_prefs(), p;
	struct cpm_rule r;

	ck_assert_int_eq(cpm_prefs_decode(block, &p), CPM_OK);
	same_prefs(&p, &want);
	ck_assert_uint_eq(p.rule_count, FU_N(sample));
	check_block(block, &p);
	for(size_t i = 0; i < p.rule_count; i++) {
		size_t from = 0;

		ck_assert_int_eq(cpm_prefs_rule(&p, i, &r), CPM_OK);
		ck_assert_int_eq(r.id, sample_order[i]);
		while(sample[from].id != r.id)
			from++;
		same_rule(&r, &sample[from]);
	}
}
END_TEST

START_TEST(block_size)
{
	char buf[4096];
	struct cpm_prefs p = sample_prefs();

	ck_assert_uint_eq(sample_block(buf, sizeof(buf)).n,
			cpm_prefs_encoded_max(sample, FU_N(sample), &p));
}
END_TEST

START_TEST(block_moved)
{
	char buf[4096], moved[4096 + 8];
	struct cpm_pl block = sample_block(buf, sizeof(buf));
	struct cpm_prefs p;

	for(size_t by = 0; by < 8; by++) {
		memcpy(moved + by, block.p, block.n);
		ck_assert_int_eq(
				cpm_prefs_decode(cpm_pl(moved + by, block.n), &p), CPM_OK);
		check_block(cpm_pl(moved + by, block.n), &p);
	}
}
END_TEST

START_TEST(block_appended)
{
	char buf[4096];
	struct cpm_rule rules[FU_N(sample)];
	struct cpm_prefs p = sample_prefs();
	struct cpm_pl block;
	struct cpm_wr w;

	memcpy(rules, sample, sizeof(sample));
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_wr_str(&w, "abc");
	ck_assert_int_eq(cpm_prefs_encode(&p, rules, FU_N(rules), &w), CPM_OK);
	block = cpm_pl_from(cpm_wr_pl(&w), 3);
	ck_assert_int_eq(cpm_prefs_decode(block, &p), CPM_OK);
	check_block(block, &p);
}
END_TEST

START_TEST(block_of_nobody)
{
	char buf[256];
	struct cpm_prefs p = {.known = false}, again;
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	ck_assert_int_eq(cpm_prefs_encode(&p, NULL, 0, &w), CPM_OK);
	ck_assert_int_eq(cpm_prefs_decode(cpm_wr_pl(&w), &again), CPM_OK);
	same_prefs(&again, &p);
	ck_assert_uint_eq(again.rule_count, 0);
}
END_TEST

START_TEST(block_full)
{
	char buf[4096];
	size_t size = sample_block(buf, sizeof(buf)).n;
	struct cpm_prefs p = sample_prefs();

	for(size_t cap = 0; cap <= size; cap++) {
		struct cpm_rule rules[FU_N(sample)];
		char *small = guard_dup(buf, cap);
		struct cpm_wr w;

		memcpy(rules, sample, sizeof(sample));
		cpm_wr_init(&w, small, cap);
		ck_assert_int_eq(cpm_prefs_encode(&p, rules, FU_N(rules), &w),
				cap < size ? CPM_ENOMEM : CPM_OK);
		ck_assert_uint_eq(w.n, size);
		guard_free(small, cap);
	}
}
END_TEST

/* Priorities that run down, with two of each, and the largest texts. */
static void fill(struct cpm_rule *rules, size_t n)
{
	memset(rules, 0, n * sizeof(*rules));
	for(size_t i = 0; i < n; i++) {
		rules[i].id = (int64_t)(n - i);
		rules[i].priority = -(int32_t)(i / 2);
		rules[i].originator = cpm_pl(MANY, CPM_PATTERN_MAX);
		rules[i].type = rules[i].originator;
		rules[i].device = rules[i].originator;
	}
}

START_TEST(most_rules)
{
	static struct cpm_rule rules[CPM_RULES_MAX + 1];
	struct cpm_prefs p = sample_prefs(), again;
	struct cpm_rule last, r;
	struct cpm_wr w;
	size_t size;
	char *buf;

	fill(rules, CPM_RULES_MAX);
	size = cpm_prefs_encoded_max(rules, CPM_RULES_MAX, &p);
	buf = malloc(size);
	ck_assert_ptr_nonnull(buf);
	cpm_wr_init(&w, buf, size);
	ck_assert_int_eq(cpm_prefs_encode(&p, rules, CPM_RULES_MAX, &w), CPM_OK);
	ck_assert_int_eq(cpm_prefs_decode(cpm_wr_pl(&w), &again), CPM_OK);
	check_block(cpm_wr_pl(&w), &again);
	ck_assert_uint_eq(again.rule_count, CPM_RULES_MAX);
	ck_assert_int_eq(cpm_prefs_rule(&again, 0, &last), CPM_OK);
	for(size_t i = 1; i < CPM_RULES_MAX; i++) {
		ck_assert_int_eq(cpm_prefs_rule(&again, i, &r), CPM_OK);
		same_rule(&r, &rules[i]);
		ck_assert(r.priority > last.priority
				  || (r.priority == last.priority && r.id > last.id));
		last = r;
	}
	free(buf);

	fill(rules, CPM_RULES_MAX + 1);
	cpm_wr_init(&w, NULL, 0);
	ck_assert_int_eq(
			cpm_prefs_encode(&p, rules, CPM_RULES_MAX + 1, &w), CPM_ELIMIT);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

START_TEST(long_texts)
{
	struct cpm_prefs p = cpm_prefs_default();
	struct cpm_rule r = {.id = 1};
	char buf[4096];
	struct cpm_wr w;

	cpm_wr_init(&w, buf, sizeof(buf));
	r.originator = cpm_pl(MANY, CPM_PATTERN_MAX + 1);
	ck_assert_int_eq(cpm_prefs_encode(&p, &r, 1, &w), CPM_ELIMIT);
	r = (struct cpm_rule){.type = cpm_pl(MANY, CPM_PATTERN_MAX + 1)};
	ck_assert_int_eq(cpm_prefs_encode(&p, &r, 1, &w), CPM_ELIMIT);
	r = (struct cpm_rule){.device = cpm_pl(MANY, CPM_PATTERN_MAX + 1)};
	ck_assert_int_eq(cpm_prefs_encode(&p, &r, 1, &w), CPM_ELIMIT);
	p.service_class = cpm_pl(MANY, CPM_CLASS_MAX + 1);
	ck_assert_int_eq(cpm_prefs_encode(&p, NULL, 0, &w), CPM_ELIMIT);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

static void no_block(struct cpm_pl prefix, void *whole)
{
	struct cpm_prefs p = {.rule_count = 4711};

	if(prefix.n == *(size_t *)whole)
		return;
	ck_assert_int_eq(cpm_prefs_decode(prefix, &p), CPM_EPROTO);
	ck_assert_uint_eq(p.rule_count, 4711);
}

START_TEST(half_a_block)
{
	char buf[4096];
	struct cpm_pl block = sample_block(buf, sizeof(buf));

	guard_prefixes(block, no_block, &block.n);
	ck_assert_int_eq(cpm_prefs_decode(cpm_pl(block.p, block.n + 1),
							 &(struct cpm_prefs){.known = false}),
			CPM_EPROTO);
}
END_TEST

START_TEST(damaged_block)
{
	char buf[4096];
	struct cpm_pl block = sample_block(buf, sizeof(buf));
	static const unsigned char to[] = {0, 1, 5, 6, 127, 128, 254, 255};
	char *copy = guard_dup(block.p, block.n);
	struct cpm_prefs p;

	for(size_t i = 0; i < block.n; i++) {
		for(size_t v = 0; v < FU_N(to); v++) {
			copy[i] = (char)to[v];
			if(cpm_prefs_decode(cpm_pl(copy, block.n), &p) == CPM_OK)
				check_block(cpm_pl(copy, block.n), &p);
		}
		copy[i] = block.p[i];
	}
	guard_free(copy, block.n);
}
END_TEST

START_TEST(rules_out_of_order)
{
	char a[256], b[256];
	struct cpm_rule rules[] = {{.id = 1}, {.id = 2}};
	struct cpm_prefs p = {.known = true};
	size_t rule_n;
	struct cpm_wr w;

	cpm_wr_init(&w, a, sizeof(a));
	ck_assert_int_eq(cpm_prefs_encode(&p, rules, 2, &w), CPM_OK);
	rule_n = (w.n - cpm_prefs_encoded_max(NULL, 0, &p)) / 2;
	memcpy(b, a, w.n);
	memcpy(b + w.n - rule_n, a + w.n - 2 * rule_n, rule_n);
	memcpy(b + w.n - 2 * rule_n, a + w.n - rule_n, rule_n);
	ck_assert_int_eq(cpm_prefs_decode(cpm_pl(a, w.n), &p), CPM_OK);
	ck_assert_int_eq(cpm_prefs_decode(cpm_pl(b, w.n), &p), CPM_EPROTO);
}
END_TEST

/* ------------------------------------------------------------ policies */

static int compile_policy(const struct cpm_policy_row *row,
		struct cpm_policy *p, const char **why)
{
	struct cpm_diag diag = {NULL, 0};
	int rc = cpm_policy_compile(row, p, &diag);

	ck_assert_int_eq(cpm_policy_compile(row, p, NULL), rc);
	*why = diag.why;
	return rc;
}

START_TEST(policy_defaults)
{
	struct cpm_policy p = cpm_policy_default();

	ck_assert(p.allow_anonymous && p.allow_send && !p.require_ids);
	ck_assert(p.max_size == 0 && p.max_expires_s == 0);
	ck_assert(p.queue_max_messages == 0 && p.queue_max_bytes == 0);
	ck_assert_str_eq(p.accept_types, "");
	ck_assert_str_eq(p.notify_fields, "");
	ck_assert_uint_eq(cpm_policy_client_max(&p, CPM_CAP_MSG), UINT64_MAX);
	ck_assert_uint_eq(cpm_policy_client_max(&p, 0), UINT64_MAX);
}
END_TEST

START_TEST(whole_policy)
{
	struct cpm_policy_row row = {.max_size = 1,
			.accept_types = " text/plain, message/cpim,image/* ",
			.allow_anonymous = false,
			.allow_send = true,
			.require_ids = true,
			.queue_max_messages = 2,
			.queue_max_bytes = 3,
			.max_expires = 4,
			.deliver_max_size = "msg=1300",
			.notify_fields = " From, Subject "};
	struct cpm_policy p;
	const char *why;

	ck_assert_int_eq(compile_policy(&row, &p, &why), CPM_OK);
	ck_assert(p.max_size == 1 && p.queue_max_messages == 2);
	ck_assert(p.queue_max_bytes == 3 && p.max_expires_s == 4);
	ck_assert(!p.allow_anonymous && p.allow_send && p.require_ids);
	ck_assert_str_eq(p.accept_types, "text/plain, message/cpim,image/*");
	ck_assert_str_eq(p.notify_fields, "From, Subject");
	ck_assert_uint_eq(p.deliver_max_count, 1);
}
END_TEST

static const struct
{
	struct cpm_policy_row row;
	const char *wrong;
} bad_policies[] = {
		{{.max_size = -1}, "max_size"},
		{{.queue_max_messages = -1}, "queue_max_messages"},
		{{.queue_max_bytes = INT64_MIN}, "queue_max_bytes"},
		{{.max_expires = -1}, "max_expires"},
		{{.accept_types = "text"}, "accept_types"},
		{{.accept_types = "text/plain,"}, "accept_types"},
		{{.accept_types = "text/" MANY}, "accept_types"},
		{{.accept_types = "text/plain\r\n,text/html"}, "accept_types"},
		{{.notify_fields = MANY}, "notify_fields"},
		{{.notify_fields = "From\r\nX: y"}, "notify_fields"},
		{{.deliver_max_size = "many"}, "deliver_max_size"},
		{{.deliver_max_size = "-1"}, "deliver_max_size"},
		{{.deliver_max_size = "1 2"}, "deliver_max_size"},
		{{.deliver_max_size = "msg"}, "deliver_max_size"},
		{{.deliver_max_size = "msg="}, "deliver_max_size"},
		{{.deliver_max_size = "=5"}, "deliver_max_size"},
		{{.deliver_max_size = "="}, "deliver_max_size"},
		{{.deliver_max_size = "msg=1,"}, "deliver_max_size"},
		{{.deliver_max_size = "msg=1,,*=2"}, "deliver_max_size"},
		{{.deliver_max_size = "msg=1;*=2"}, "deliver_max_size"},
		{{.deliver_max_size = "msg=1,MSG=2"}, "deliver_max_size"},
		{{.deliver_max_size = "*=1,*=2"}, "deliver_max_size"},
		{{.deliver_max_size = "chat=1"}, "deliver_max_size"},
		{{.deliver_max_size = "**=1"}, "deliver_max_size"},
		{{.deliver_max_size = "msg=18446744073709551616"}, "deliver_max_size"},
};

START_TEST(bad_policy)
{
	struct cpm_policy p = {.max_size = 4711};
	const char *why;

	ck_assert_int_eq(
			compile_policy(&bad_policies[_i].row, &p, &why), CPM_EPROTO);
	ck_assert_str_eq(why, bad_policies[_i].wrong);
	ck_assert_uint_eq(p.max_size, 4711);
}
END_TEST

static const struct
{
	const char *column;
	unsigned caps;
	uint64_t max;
} limits[] = {
		{NULL, CPM_CAP_MSG, UINT64_MAX},
		{"  ", CPM_CAP_MSG, UINT64_MAX},
		{"8000", CPM_CAP_MSG, 8000},
		{"8000", 0, 8000},
		{"0", CPM_CAP_MSG, UINT64_MAX},
		{"msg=1300,largemsg=1048576,*=8000", 0, 8000},
		{"msg=1300,largemsg=1048576,*=8000", CPM_CAP_SIP_IM, 8000},
		{"msg=1300,largemsg=1048576,*=8000", CPM_CAP_MSG, 1300},
		{"msg=1300,largemsg=1048576,*=8000", CPM_CAP_MSG | CPM_CAP_SIP_IM,
				1300},
		{"msg=1300,largemsg=1048576,*=8000", CPM_CAP_MSG | CPM_CAP_LARGEMSG,
				1048576},
		{"largemsg=1048576,msg=1300", CPM_CAP_MSG | CPM_CAP_LARGEMSG, 1048576},
		{"msg=1300", CPM_CAP_SIP_IM, UINT64_MAX},
		{"msg=1300,largemsg=0", CPM_CAP_MSG | CPM_CAP_LARGEMSG, UINT64_MAX},
		{"msg=0,*=5", CPM_CAP_MSG, UINT64_MAX},
		{"msg=5,*=0", 0, UINT64_MAX},
		{" MSG = 1300 ,\t* = 5 ", CPM_CAP_MSG, 1300},
		{"session=1,session.group=2", CPM_CAP_SESSION_GROUP, 2},
		{"msg=18446744073709551615", CPM_CAP_MSG, UINT64_MAX},
		{"msg=1,largemsg=2,deferred=3,session=4,session.group=5,filetransfer="
		 "6,systemmsg=7,sip-im=8,pager-large=9,*=10",
				511, 9},
		{"msg=1,largemsg=2,deferred=3,session=4,session.group=5,filetransfer="
		 "6,systemmsg=7,sip-im=8,pager-large=9,*=10",
				0, 10},
};

START_TEST(client_max)
{
	struct cpm_policy_row row = {.deliver_max_size = limits[_i].column};
	struct cpm_policy p;
	const char *why;

	ck_assert_int_eq(compile_policy(&row, &p, &why), CPM_OK);
	ck_assert_uint_eq(
			cpm_policy_client_max(&p, limits[_i].caps), limits[_i].max);
}
END_TEST

/* --------------------------------------------------------- type lists */

static const struct
{
	const char *list;
	const char *type;
	bool yes;
} accepts[] = {
		{"", "text/plain", true},
		{" ", "", true},
		{"text/plain", "text/plain", true},
		{"text/plain", "Text/PLAIN; charset=utf-8", true},
		{"text/plain", " text / plain ;x", true},
		{"TEXT/Plain", "text/plain", true},
		{"text/plain", "text/plainer", false},
		{"text/plain", "text/plai", false},
		{"text/plain", "", false},
		{"text/plain", "text", false},
		{"text/plain", "/", false},
		{"text/html, text/plain", "text/plain", true},
		{"text/html,text/plain", "text/xml", false},
		{"text/*", "text/xml;a=b", true},
		{"text/*", "textual/xml", false},
		{"text/*", "text/", false},
		{"text/*", "text/*", false},
		{"text/*", "image/png", false},
		{"text / *", "text/plain", true},
		{"*/*", "image/png", true},
		{"*/*", "", true},
		{"image/*, */*;q=0.1", "text/plain", true},
		{"text/plain;charset=utf-8", "text/plain", true},
		/* what is broken is passed over */
		{",", "text/plain", false},
		{",text/plain,", "text/plain", true},
		{"text,plain,text/plain", "text/plain", true},
		{"*/plain", "text/plain", false},
		{"*", "text/plain", false},
};

START_TEST(type_accepted)
{
	size_t n = strlen(accepts[_i].list), m = strlen(accepts[_i].type);
	char *list = guard_dup(accepts[_i].list, n);
	char *type = guard_dup(accepts[_i].type, m);

	ck_assert(cpm_types_accept(cpm_pl(list, n), cpm_pl(type, m))
			  == accepts[_i].yes);
	guard_free(list, n);
	guard_free(type, m);
}
END_TEST

static const struct
{
	const char *list;
	int rc;
} lists[] = {
		{"", CPM_OK},
		{" \t", CPM_OK},
		{"text/plain", CPM_OK},
		{"text/plain, message/cpim ,image/*", CPM_OK},
		{"*/*", CPM_OK},
		{"text/plain,", CPM_EPROTO},
		{",", CPM_EPROTO},
		{"text/plain,,text/html", CPM_EPROTO},
		{"text/plain text/html", CPM_EPROTO},
		{"text/plain;charset=utf-8", CPM_EPROTO},
		{"text", CPM_EPROTO},
		{"*", CPM_EPROTO},
		{"*/plain", CPM_EPROTO},
		{"text/\"x\"", CPM_EPROTO},
		{"text/\303\244", CPM_EPROTO},
};

START_TEST(list_checked)
{
	size_t n = strlen(lists[_i].list);
	char *list = guard_dup(lists[_i].list, n);

	ck_assert_int_eq(cpm_types_check(cpm_pl(list, n)), lists[_i].rc);
	guard_free(list, n);
}
END_TEST

static void add_rules(Suite *s)
{
	fu_case(s, "an empty condition holds always", empty_conditions);
	fu_case(s, "a rule may have all conditions", all_conditions);
	fu_table(s, "an originator is a URI, a domain, a prefix or nobody",
			originator, FU_N(originators));
	fu_case(s, "the prefix of a canonical address is one of its canonical form",
			prefix_of_aor);
	fu_table(s, "a content type has a wildcard at its end, or none",
			content_type, FU_N(types));
	fu_table(s, "a device is written with quotes and brackets, or without",
			device, FU_N(devices));
	fu_case(s, "a device copied from a Contact names that client",
			device_of_a_contact);
	fu_table(s, "an action is one of six words", action, FU_N(actions));
	fu_case(s, "a message kind is one of three words", message_kind);
	fu_table(s, "numbers have their bounds", rule_numbers, FU_N(numbers));
	fu_case(s, "a scratch buffer too small is no wrong column", small_scratch);
	fu_case(s, "the largest texts fit into three patterns", largest_texts);
}

static void add_blocks(Suite *s)
{
	fu_case(s, "a block reads as what was written, in order of priority",
			block_round_trip);
	fu_case(s, "a block is as large as was told", block_size);
	fu_case(s, "a block reads the same at any address", block_moved);
	fu_case(s, "a block may stand behind something else", block_appended);
	fu_case(s, "that nobody is known fits into a block", block_of_nobody);
	fu_case(s, "a full buffer is told, with the size it should have",
			block_full);
	fu_case(s, "256 rules are sorted, 257 are refused", most_rules);
	fu_case(s, "texts too long for a block are refused", long_texts);
	fu_case(s, "half a block is none", half_a_block);
	fu_case(s, "a damaged block is refused or harmless", damaged_block);
	fu_case(s, "rules out of order are no block", rules_out_of_order);
}

int main(void)
{
	Suite *s = suite_create("cpm_prefs");

	add_rules(s);
	fu_table(s, "a user's row becomes preferences", user, FU_N(users));
	fu_case(s, "a user without a row defers and is pushed to", default_user);
	add_blocks(s);
	fu_case(s, "a class without a policy allows all", policy_defaults);
	fu_case(s, "a policy's row becomes a policy", whole_policy);
	fu_table(s, "a wrong policy names its column", bad_policy,
			FU_N(bad_policies));
	fu_table(s, "a client takes what its best capability takes", client_max,
			FU_N(limits));
	fu_table(s, "a type is in a list, or not", type_accepted, FU_N(accepts));
	fu_table(s, "a list of types is one, or not", list_checked, FU_N(lists));
	return fu_run(s);
}
