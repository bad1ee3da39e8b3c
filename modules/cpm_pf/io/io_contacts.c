/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_contacts.h"

#include <stdlib.h>

#include "io_queue_int.h"

#define HEAD_MAX 80 /* of a contact, before its record */

static int begin(struct io_queue *q, struct cpm_reg_keys *k, struct cpm_pl aor,
		struct ioq_args *a, const char *what)
{
	ioq_begin(q);
	if(cpm_reg_keys_init(k, ioq_prefix_of(q), aor) != CPM_OK) {
		q->error = "address over its bound";
		return CPM_EPROTO;
	}
	ioq_args_init(a, q, aor);
	ioq_arg_pl(a, cpm_pl_str(what));
	return CPM_OK;
}

static int run(struct io_queue *q, const struct cpm_reg_keys *k,
		const struct ioq_args *a)
{
	return io_redis_eval(q->redis, CPM_SCRIPT_CONTACTS, k->key,
			CPM_REG_KEY_COUNT_, a->v, a->n, &q->reply);
}

/* A number among the first of an answer. */
static bool number_at(const struct io_queue *q, size_t i, uint64_t *v_r)
{
	return ioq_rep_u64(ioq_rep_at(q->reply, i), v_r);
}

int io_contacts_get(struct io_queue *q, struct cpm_pl aor,
		struct io_contact *contacts_r, size_t *count_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	size_t i, n = 0;
	int rc = begin(q, &k, aor, &a, "get");

	if(rc == CPM_OK) {
		rc = run(q, &k, &a);
	}
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type != REDIS_REPLY_ARRAY) {
		return ioq_bad_reply(q);
	}
	for(i = 0; i + 1 < ioq_rep_count(q->reply) && n < CPM_REG_USER_CONTACTS;
			i += 2) {
		/* one that cannot be read hides no other */
		if(number_at(q, i, &contacts_r[n].left_ms)
				&& cpm_reg_record_read(ioq_rep_pl(ioq_rep_at(q->reply, i + 1)),
						   &contacts_r[n].c)
						   == CPM_OK) {
			n++;
		}
	}
	*count_r = n;
	return CPM_OK;
}

int io_contacts_want(struct io_queue *q, struct cpm_pl aor, uint64_t keep_ms,
		bool may, struct io_contacts_wanted *w_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	uint64_t sub, queued, n;
	int rc = begin(q, &k, aor, &a, "want");

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_u64(&a, keep_ms);
	ioq_arg_u64(&a, may ? 1 : 0);
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!number_at(q, 0, &sub) || sub > IO_CONTACTS_NO_MORE
			|| !number_at(q, 1, &queued) || !number_at(q, 2, &n)) {
		return ioq_bad_reply(q);
	}
	w_r->sub = (enum io_contacts_sub)sub;
	w_r->queued = queued != 0;
	w_r->contacts = (size_t)n;
	return CPM_OK;
}

/* "-": none */
static struct cpm_pl word_at(const struct io_queue *q, size_t i)
{
	struct cpm_pl word = ioq_rep_pl(ioq_rep_at(q->reply, i));

	return cpm_pl_eq(word, CPM_PL_LIT("-")) ? CPM_PL_NULL : word;
}

int io_contacts_take(struct io_queue *q, const struct io_contacts_take *t,
		struct io_contacts_order *o_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	struct cpm_pl op;
	uint64_t cseq;
	int rc = begin(q, &k, t->aor, &a, "take");

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_u64(&a, t->wait_ms);
	ioq_arg_u64(&a, t->linger_ms);
	ioq_arg_u64(&a, t->first_ms);
	ioq_arg_pl(&a, t->call_id);
	ioq_arg_pl(&a, t->tag);
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(q->reply->type != REDIS_REPLY_ARRAY) {
		return ioq_bad_reply(q);
	}
	if(ioq_rep_count(q->reply) == 0) {
		return CPM_ENOENT;
	}
	op = ioq_rep_pl(ioq_rep_at(q->reply, 0));
	if(op.n != 1 || strchr("SRU", op.p[0]) == NULL || !number_at(q, 4, &cseq)
			|| cseq > INT32_MAX) {
		return ioq_bad_reply(q);
	}
	o_r->op = (enum io_contacts_op)op.p[0];
	o_r->call_id = word_at(q, 1);
	o_r->local_tag = word_at(q, 2);
	o_r->remote_tag = word_at(q, 3);
	o_r->cseq = (uint32_t)cseq;
	o_r->target = word_at(q, 5);
	o_r->routes = word_at(q, 6);
	return CPM_OK;
}

static struct cpm_pl letter_of(enum cpm_reg_next next)
{
	return next == CPM_REG_NEXT_KEEP	? CPM_PL_LIT("k")
		   : next == CPM_REG_NEXT_ANEW	? CPM_PL_LIT("n")
		   : next == CPM_REG_NEXT_RETRY ? CPM_PL_LIT("r")
										: CPM_PL_LIT("x");
}

int io_contacts_answer(struct io_queue *q, struct cpm_pl aor,
		struct cpm_pl call_id, uint32_t cseq, struct cpm_reg_plan plan,
		uint64_t first_ms)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	uint64_t status;
	int rc = begin(q, &k, aor, &a, "answer");

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, call_id);
	ioq_arg_u64(&a, cseq);
	ioq_arg_pl(&a, letter_of(plan.next));
	ioq_arg_u64(&a, (uint64_t)plan.after_s * 1000);
	ioq_arg_u64(&a, first_ms);
	rc = run(q, &k, &a);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!ioq_rep_u64(q->reply, &status) || status > 1) {
		return ioq_bad_reply(q);
	}
	return status == 1 ? CPM_OK : CPM_ENOENT;
}

/* ------------------------------------------------------------ documents */

static int contact_put(const struct cpm_reg_contact *c,
		const struct io_contacts_doc *doc, struct cpm_wr *w)
{
	char key[CPM_REG_KEY_LEN];
	bool active = c->state == CPM_REG_ACTIVE;
	uint64_t ms =
			c->has_expires ? (uint64_t)c->expires_s * 1000 : doc->default_ms;

	cpm_wr_pl_put(w, cpm_reg_key(c->uri, key));
	cpm_wr_str(w, active ? " a " : " t ");
	cpm_wr_u64(w, ms);
	cpm_wr_chr(w, ' ');
	cpm_wr_hex64(w, cpm_reg_signature(c));
	cpm_wr_str(w,
			c->event == CPM_REG_EV_REGISTERED || c->event == CPM_REG_EV_CREATED
					? " 1\n"
					: " 0\n");
	return cpm_reg_record_put(c, w);
}

/* Appends the contacts; their text is in *text_r, to be freed after the call.
 * One that cannot be stored is left out: it could not be used either. */
static int contacts_put(
		const struct io_contacts_doc *doc, struct ioq_args *a, char **text_r)
{
	size_t cap = (HEAD_MAX + CPM_REG_RECORD_MAX) * CPM_REG_USER_CONTACTS;
	size_t i, n = 0, used = 0;
	struct cpm_wr w;
	char *text;

	*text_r = NULL;
	if(doc == NULL || doc->count == 0) {
		return CPM_OK;
	}
	text = malloc(cap);
	if(text == NULL) {
		return CPM_ENOMEM;
	}
	for(i = 0; i < doc->count && n < CPM_REG_USER_CONTACTS; i++) {
		cpm_wr_init(&w, text + used, cap - used);
		if(contact_put(doc->contacts[i], doc, &w) == CPM_OK) {
			ioq_arg_pl(a, cpm_wr_pl(&w));
			used += w.n;
			n++;
		}
	}
	*text_r = text;
	return CPM_OK;
}

static int change_read(struct io_queue *q, struct io_contacts_change *c_r)
{
	uint64_t v[5];
	size_t i;

	for(i = 0; i < 5; i++) {
		if(!number_at(q, i, &v[i])) {
			return ioq_bad_reply(q);
		}
	}
	if(v[0] == 0 || v[0] == 2) {
		return v[0] == 0 ? CPM_ENOENT : CPM_EEXIST;
	}
	c_r->stale = v[0] == 3;
	c_r->queued = v[1] != 0;
	c_r->created = (size_t)v[2];
	c_r->refreshed = (size_t)v[3];
	c_r->removed = (size_t)v[4];
	return CPM_OK;
}

static int run_with(struct io_queue *q, const struct cpm_reg_keys *k,
		struct ioq_args *a, const struct io_contacts_doc *doc,
		struct io_contacts_change *c_r)
{
	char *text;
	int rc = contacts_put(doc, a, &text);

	if(rc == CPM_OK) {
		rc = run(q, k, a);
	}
	free(text);
	return rc == CPM_OK ? change_read(q, c_r) : rc;
}

int io_contacts_notify(struct io_queue *q, const struct io_contacts_notify *n,
		struct io_contacts_change *c_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	int rc = begin(q, &k, n->aor, &a, "notify");

	if(rc != CPM_OK) {
		return rc;
	}
	ioq_arg_pl(&a, n->call_id);
	ioq_arg_pl(&a, n->local_tag);
	ioq_arg_pl(&a, n->remote_tag);
	ioq_arg_u64(&a, n->cseq);
	if(n->doc != NULL) {
		ioq_arg_u64(&a, n->doc->version);
	} else {
		ioq_arg_pl(&a, CPM_PL_LIT("-1"));
	}
	ioq_arg_u64(&a, n->doc != NULL && n->doc->full ? 1 : 0);
	ioq_arg_u64(&a, n->state.active ? 1 : 0);
	ioq_arg_u64(&a, (uint64_t)n->state.expires_s * 1000);
	ioq_arg_pl(&a, letter_of(n->state.plan.next));
	ioq_arg_u64(&a, (uint64_t)n->state.plan.after_s * 1000);
	ioq_arg_u64(&a, n->first_ms);
	ioq_arg_u64(&a, n->linger_ms);
	ioq_arg_pl(&a, n->target);
	ioq_arg_pl(&a, n->routes.n > 0 ? n->routes : CPM_PL_LIT(""));
	return run_with(q, &k, &a, n->doc, c_r);
}

int io_contacts_apply(struct io_queue *q, struct cpm_pl aor,
		const struct io_contacts_source *source,
		const struct io_contacts_doc *doc, struct io_contacts_change *c_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	struct cpm_wr w;
	char hex[20];
	int rc = begin(q, &k, aor, &a, "apply");

	if(rc != CPM_OK) {
		return rc;
	}
	cpm_wr_init(&w, hex, sizeof(hex));
	cpm_wr_hex64(&w, source != NULL ? source->hash : 0);
	ioq_arg_word(&a, source != NULL ? cpm_wr_pl(&w) : CPM_PL_NULL);
	ioq_arg_u64(&a, source != NULL ? source->cseq : 0);
	ioq_arg_u64(&a, doc->version);
	ioq_arg_u64(&a, doc->full ? 1 : 0);
	return run_with(q, &k, &a, doc, c_r);
}

int io_contacts_forget(
		struct io_queue *q, struct cpm_pl aor, struct io_contacts_change *c_r)
{
	struct cpm_reg_keys k;
	struct ioq_args a;
	int rc = begin(q, &k, aor, &a, "forget");

	return rc == CPM_OK ? run_with(q, &k, &a, NULL, c_r) : rc;
}

int io_contacts_queued(struct io_queue *q, const struct cpm_pl *aors,
		size_t count, bool *queued_r)
{
	struct cpm_reg_keys k;
	struct cpm_pl argv[2] = {CPM_PL_LIT("EXISTS"), CPM_PL_NULL};
	uint64_t n;
	size_t i;
	int rc;

	ioq_begin(q);
	/* before anything is on its way: what is half of a pipeline would be taken
	 * for the next one's */
	for(i = 0; i < count; i++) {
		if(cpm_reg_keys_init(&k, ioq_prefix_of(q), aors[i]) != CPM_OK) {
			return ioq_out_of_bounds(q);
		}
	}
	for(i = 0; i < count; i++) {
		(void)cpm_reg_keys_init(&k, ioq_prefix_of(q), aors[i]);
		argv[1] = k.key[CPM_REG_KEY_QUEUE];
		rc = io_redis_command_add(q->redis, 2, argv);
		if(rc != CPM_OK) {
			return rc;
		}
	}
	rc = ioq_gather(q, count);
	for(i = 0; rc == CPM_OK && i < count; i++) {
		/* an error in place of a number: a look tells more */
		queued_r[i] = !ioq_rep_u64(q->reply->element[i], &n) || n > 0;
	}
	return rc;
}

/* ------------------------------------------------------------------ due */

struct due
{
	uint64_t claim_ms;
	size_t limit;
	struct cpm_reg_keys keys;
};

static const struct cpm_pl *due_fill(const struct io_queue *q, unsigned shard,
		void *ctx, struct ioq_args *a, size_t *count_r)
{
	struct due *d = ctx;

	(void)cpm_reg_keys_shard(&d->keys, ioq_prefix_of(q), shard);
	ioq_args_init(a, q, CPM_PL_NULL);
	ioq_arg_pl(a, CPM_PL_LIT("due"));
	ioq_arg_u64(a, d->limit);
	ioq_arg_u64(a, d->claim_ms);
	*count_r = CPM_REG_KEY_COUNT_;
	return d->keys.key;
}

int io_contacts_due(struct io_queue *q, const unsigned *shards,
		size_t shard_count, uint64_t claim_ms, size_t limit,
		struct cpm_pl *users_r, size_t *count_r, uint64_t *next_ms_r,
		uint64_t *subscriptions_r)
{
	const redisReply *r;
	struct due due;
	uint64_t next = UINT64_MAX, all = 0;
	uint64_t v;
	size_t i, j, n = 0;
	int rc;

	ioq_begin(q);
	if(limit > IO_CONTACTS_DUE_MAX) {
		limit = IO_CONTACTS_DUE_MAX;
	}
	for(i = 0; i < shard_count; i++) {
		if(shards[i] >= CPM_QUEUE_SHARDS) {
			return ioq_bad_reply(q);
		}
	}
	due.claim_ms = claim_ms;
	due.limit = limit;
	rc = ioq_ask_shards(
			q, CPM_SCRIPT_CONTACTS, shards, shard_count, due_fill, &due);
	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < shard_count; i++) {
		r = q->reply->element[i];
		if(r == NULL) {
			continue;
		}
		if(ioq_rep_count(r) < 2 || ioq_rep_count(r) > limit + 2
				|| !ioq_rep_u64(ioq_rep_at(r, 1), &v)) {
			return ioq_bad_reply(q);
		}
		all += v;
		/* "-1": none */
		if(ioq_rep_u64(ioq_rep_at(r, 0), &v) && v < next) {
			next = v;
		}
		for(j = 2; j < ioq_rep_count(r); j++) {
			users_r[n++] = ioq_rep_pl(ioq_rep_at(r, j));
		}
	}
	*count_r = n;
	*next_ms_r = next;
	*subscriptions_r = all;
	return CPM_OK;
}
