/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * fuzz_prefs.c - any bytes are a block, or none; what is one can be read,
 * written and read again, and is the same. What is compiled from SQL compiles
 * to itself, and comes out of a block as it went in.
 *
 * The first byte chooses: an even one, a block; an odd one, rows of rules, one
 * a line, with the columns between '|'.
 */

#include <stdlib.h>

#include "cpm_prefs.h"

#define COLUMNS 10
#define COLUMN_MAX 600
#define RULES 8
#define SCRATCH (3 * CPM_PATTERN_MAX)
#define BLOCK_MAX (512 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char block_buf[BLOCK_MAX];
static struct cpm_rule block_rules[CPM_RULES_MAX];

static void must(bool property)
{
	if(!property)
		abort();
}

static bool is_inside(struct cpm_pl a, struct cpm_pl whole)
{
	return a.n == 0
		   || (a.p >= whole.p && a.n <= whole.n
				   && (size_t)(a.p - whole.p) <= whole.n - a.n);
}

/* -------------------------------------------------------------- blocks */

static void must_same_rule(const struct cpm_rule *a, const struct cpm_rule *b)
{
	must(a->id == b->id && a->priority == b->priority);
	must(a->orig_kind == b->orig_kind && a->kind == b->kind);
	must(a->min_size == b->min_size && a->max_size == b->max_size);
	must(a->valid_from_s == b->valid_from_s);
	must(a->valid_until_s == b->valid_until_s && a->action == b->action);
	must(cpm_pl_eq(a->originator, b->originator));
	must(cpm_pl_eq(a->type, b->type) && cpm_pl_eq(a->device, b->device));
}

static void check_rules(const struct cpm_prefs *p)
{
	for(size_t i = 0; i < p->rule_count; i++) {
		struct cpm_rule *r = &block_rules[i];

		must(cpm_prefs_rule(p, i, r) == CPM_OK);
		must(is_inside(r->originator, p->block));
		must(is_inside(r->type, p->block));
		must(is_inside(r->device, p->block));
		must(r->orig_kind <= CPM_ORIG_ANONYMOUS && r->kind <= CPM_KIND_LARGE);
		must(r->action <= CPM_ACTION_DEFER);
		must(i == 0 || r->priority > r[-1].priority
				|| (r->priority == r[-1].priority && r->id >= r[-1].id));
	}
}

/* rules: as they were encoded, sorted */
static void check_same(
		const struct cpm_prefs *p, const struct cpm_rule *rules, size_t n)
{
	must(p->rule_count == n);
	for(size_t i = 0; i < n; i++) {
		struct cpm_rule r;

		must(cpm_prefs_rule(p, i, &r) == CPM_OK);
		must_same_rule(&r, &rules[i]);
	}
}

static void check_trip(
		const struct cpm_prefs *p, struct cpm_rule *rules, size_t n)
{
	struct cpm_prefs again;
	struct cpm_wr w;

	cpm_wr_init(&w, block_buf, sizeof(block_buf));
	must(cpm_prefs_encode(p, rules, n, &w) == CPM_OK);
	must(w.n == cpm_prefs_encoded_max(rules, n, p));
	must(cpm_prefs_decode(cpm_wr_pl(&w), &again) == CPM_OK);
	must(again.known == p->known && again.enabled == p->enabled);
	must(again.when_offline == p->when_offline);
	must(again.queue_mode == p->queue_mode);
	must(again.on_expiry == p->on_expiry);
	must(again.record_copy == p->record_copy);
	must(cpm_pl_eq(again.service_class, p->service_class));
	check_same(&again, rules, n);
}

static void fuzz_block(struct cpm_pl block)
{
	struct cpm_prefs p;

	if(cpm_prefs_decode(block, &p) != CPM_OK)
		return;
	must(p.rule_count <= CPM_RULES_MAX);
	must(is_inside(p.service_class, block));
	check_rules(&p);
	check_trip(&p, block_rules, p.rule_count);
}

/* ---------------------------------------------------------------- rows */

struct columns
{
	char text[COLUMNS][COLUMN_MAX];
};

static void split(struct cpm_pl line, struct columns *c)
{
	for(size_t i = 0; i < COLUMNS; i++)
		cpm_pl_cstr(cpm_pl_cut(&line, '|'), c->text[i], COLUMN_MAX);
}

/* Any text gives a number, of any sign and size. */
static int64_t number(const char *text)
{
	struct cpm_pl a = cpm_pl_str(text);
	bool minus = cpm_pl_starts(a, CPM_PL_LIT("-"));
	uint64_t v;

	if(cpm_pl_u64(cpm_pl_from(a, minus), INT64_MAX, &v) != CPM_OK)
		return 0;
	return minus ? -(int64_t)v : (int64_t)v;
}

static struct cpm_rule_row rule_row(const struct columns *c, int64_t id)
{
	return (struct cpm_rule_row){.id = id,
			.originator = c->text[0],
			.content_type = c->text[1],
			.device = c->text[2],
			.action = c->text[3],
			.message_kind = c->text[4],
			.min_size = number(c->text[5]),
			.max_size = number(c->text[6]),
			.valid_from = number(c->text[7]),
			.valid_until = number(c->text[8]),
			.priority = number(c->text[9])};
}

/* The rule's own text as a column of SQL. */
static void spell(const struct cpm_rule *r, struct columns *c)
{
	struct cpm_wr w;

	cpm_wr_init(&w, c->text[0], COLUMN_MAX);
	if(r->orig_kind == CPM_ORIG_DOMAIN)
		cpm_wr_str(&w, "*@");
	cpm_wr_pl_put(&w, r->originator);
	if(r->orig_kind == CPM_ORIG_PREFIX)
		cpm_wr_chr(&w, '*');
	if(r->orig_kind == CPM_ORIG_ANONYMOUS)
		cpm_wr_str(&w, "anonymous");
	cpm_wr_chr(&w, '\0');

	cpm_wr_init(&w, c->text[1], COLUMN_MAX);
	cpm_wr_pl_put(&w, r->type);
	if(r->type.n > 0 && r->type.p[r->type.n - 1] == '/')
		cpm_wr_chr(&w, '*');
	cpm_wr_chr(&w, '\0');
	cpm_pl_cstr(r->device, c->text[2], COLUMN_MAX);
}

static void check_spelled(struct columns *c, const struct cpm_rule *rule)
{
	char scratch[SCRATCH];
	struct cpm_rule_row row;
	struct cpm_rule again;

	/* one sign of a pattern more than the column may hold; and a '*' in a
	 * user is told by its escape only, which the canonical form has not */
	if(rule->originator.n + 2 > CPM_PATTERN_MAX
			|| (rule->orig_kind == CPM_ORIG_PREFIX
					&& cpm_pl_chr(rule->originator, '*') < rule->originator.n))
		return;
	spell(rule, c);
	row = rule_row(c, rule->id);
	must(cpm_rule_compile(&row, scratch, sizeof(scratch), &again, NULL)
			== CPM_OK);
	must_same_rule(&again, rule);
}

static void check_accepts(const struct columns *c, const struct cpm_rule *rule)
{
	struct cpm_pl list = cpm_pl_str(c->text[1]);

	must(cpm_types_check(list) == CPM_OK);
	must(rule->type.n == 0 || rule->type.p[rule->type.n - 1] == '/'
			|| cpm_types_accept(list, rule->type));
}

static void fuzz_user(const struct columns *c, struct cpm_rule *rules, size_t n)
{
	struct cpm_user_row row = {.enabled = true,
			.service_class = c->text[0],
			.when_offline = c->text[1],
			.queue_mode = c->text[2],
			.on_expiry = c->text[3]};
	struct cpm_prefs p = cpm_prefs_default();
	struct cpm_diag diag = {NULL, 0};

	must(cpm_user_compile(&row, &p, &diag) == CPM_OK || diag.why != NULL);
	check_trip(&p, rules, n);
}

static void fuzz_policy(const struct columns *c)
{
	struct cpm_policy_row row = {.accept_types = c->text[0],
			.deliver_max_size = c->text[1],
			.notify_fields = c->text[2],
			.max_size = number(c->text[3])};
	struct cpm_diag diag = {NULL, 0};
	struct cpm_policy p;

	if(cpm_policy_compile(&row, &p, &diag) != CPM_OK) {
		must(diag.why != NULL);
		return;
	}
	must(cpm_types_check(cpm_pl_str(p.accept_types)) == CPM_OK);
	must(p.deliver_max_count <= 10);
	for(unsigned i = 0; i < 16; i++)
		/* who can do more takes no less of what is listed */
		for(size_t k = 0; k < p.deliver_max_count; k++) {
			unsigned cap = p.deliver_max[k].cap;

			must(cap == 0
					|| cpm_policy_client_max(&p, cap | i)
							   >= cpm_policy_client_max(&p, cap));
		}
}

static void fuzz_rows(struct cpm_pl lines)
{
	static char scratch[RULES][SCRATCH];
	struct cpm_rule rules[RULES];
	struct columns c = {.text = {""}};
	size_t n = 0;

	for(int64_t id = 1; lines.p && n < RULES && id < 32; id++) {
		struct cpm_diag diag = {NULL, 0};
		struct cpm_rule_row row;

		split(cpm_pl_cut(&lines, '\n'), &c);
		fuzz_policy(&c);
		row = rule_row(&c, id);
		if(cpm_rule_compile(&row, scratch[n], SCRATCH, &rules[n], &diag)
				!= CPM_OK) {
			must(diag.why != NULL);
			continue;
		}
		check_accepts(&c, &rules[n]);
		check_spelled(&c, &rules[n]);
		n++;
	}
	split(lines, &c);
	fuzz_user(&c, rules, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpm_pl in = cpm_pl((const char *)data, size);

	if(size == 0)
		return 0;
	if(data[0] & 1)
		fuzz_rows(cpm_pl_from(in, 1));
	else
		fuzz_block(cpm_pl_from(in, 1));
	return 0;
}
