/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_rpc.h"

#include <limits.h>

#include "core/cpm_aor.h"
#include "core/cpm_time.h"
#include "core/cpm_utf8.h"
#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"

#include "../../core/str.h"

/* An answer has an end: ctl sends at most 96 pieces and 32 KiB of one, and
 * each item costs two of those. So a page may be shorter than its limit, and
 * says in "next" how to go on. */
#define PAGE_MAX 40
#define PAGE_BYTES 24000
#define LIMIT_MAX 100

#define TEXT_LIST 120 /* bytes of what a stranger wrote, in a list */
#define TEXT_ONE 800  /* and where there is one message only */

#define PURGE_BATCH 500
#define PURGE_MS 2000 /* the process that serves this does nothing else */

#define ARG_MAX (CPM_AOR_MAX + 1 + CPM_MSG_ID_MAX)

/* One call. */
struct call
{
	rpc_t *rpc;
	void *ctx;
	bool over;	  /* the fault is set */
	size_t bytes; /* of the answer so far, about */
};

struct arg
{
	struct cpm_pl text; /* empty: not given */
	char buf[ARG_MAX + 1];
};

struct aor_arg
{
	struct cpm_pl aor; /* canonical; empty: not given */
	char buf[CPM_AOR_MAX];
};

static struct cpm_pl users[PAGE_MAX + 1];
static struct cpm_queue_stat stats_of[PAGE_MAX];
static struct cpm_queue_item items[PAGE_MAX];
static bool found[PAGE_MAX];

/* ---------------------------------------------------------------- faults */

#define FAULT(c, code, ...)                               \
	do {                                                  \
		if(!(c)->over) {                                  \
			(c)->rpc->fault((c)->ctx, code, __VA_ARGS__); \
		}                                                 \
		(c)->over = true;                                 \
	} while(0)

/* A result of the store that is not CPM_OK. */
static void fault_store(struct call *c, const char *what, int rc)
{
	rc = rc == CPM_ENOENT || rc == CPM_EEXIST || rc == CPM_ELIMIT
				 ? rc
				 : pf_store_note(what, rc);
	switch(rc) {
		case CPM_ENOENT:
			FAULT(c, 404, "nothing is queued under this name");
			break;
		case CPM_EEXIST:
			FAULT(c, 409, "it is on its way to a client");
			break;
		case CPM_EDOWN:
		case CPM_EUNSURE:
		case CPM_ELIMIT:
			FAULT(c, 503, "%s",
					rc == CPM_ELIMIT ? "too many flushes at a time"
									 : "Redis does not answer");
			break;
		default:
			FAULT(c, 500, "Redis gives an answer that cannot be read");
			break;
	}
}

/* This process' connection, or NULL and a fault. */
static struct io_queue *store(struct call *c)
{
	struct io_queue *q = pf_store();

	if(q == NULL) {
		FAULT(c, 500, "no memory for a connection");
	}
	return q;
}

/* ------------------------------------------------------------- arguments */

/* The next parameter, whatever its type. false: none, or the fault is set. */
static bool arg_next(struct call *c, const char *name, struct arg *arg)
{
	static char none[] = "";
	str given = {none, 0};
	int n;

	arg->text = CPM_PL_NULL;
	n = c->rpc->scan(c->ctx, "*.S", &given);
	if(given.s == NULL || n < 0) {
		FAULT(c, 400, "%s: a text or a number", name);
	}
	if(c->over || n < 1) {
		return false;
	}
	if(given.len < 0 || given.len > ARG_MAX) {
		FAULT(c, 400, "%s: too long", name);
		return false;
	}
	/* it may lie where the next one will */
	memcpy(arg->buf, given.s, (size_t)given.len);
	arg->text = cpm_pl(arg->buf, (size_t)given.len);
	return true;
}

static void arg_end(struct call *c)
{
	struct arg arg;

	if(!c->over && arg_next(c, "parameter", &arg)) {
		FAULT(c, 400, "too many parameters");
	}
}

/* As an AoR. */
static void arg_aor(struct call *c, struct aor_arg *arg, bool must)
{
	struct cpm_diag diag = {"", 0};
	struct arg text;
	char shown[TEXT_LIST];
	struct cpm_pl clean;

	arg->aor = CPM_PL_NULL;
	if(c->over) {
		return;
	}
	if(!arg_next(c, "aor", &text)) {
		if(must) {
			FAULT(c, 400, "aor: it takes sip:user@domain or tel:number");
		}
		return;
	}
	if(text.text.n == 0
			|| cpm_aor_canon(
					   text.text, arg->buf, sizeof(arg->buf), &arg->aor, &diag)
					   != CPM_OK) {
		clean = cpm_utf8_clean(text.text, shown, sizeof(shown), NULL);
		FAULT(c, 400,
				"\"%.*s\" is no address of record%s%s; it takes "
				"sip:user@domain or tel:number",
				(int)clean.n, clean.n > 0 ? clean.p : "",
				diag.why[0] != '\0' ? ": " : "", diag.why);
	}
}

static void arg_id(struct call *c, struct arg *arg)
{
	if(c->over) {
		return;
	}
	if(!arg_next(c, "id", arg) || !cpm_msg_id_ok(arg->text)) {
		FAULT(c, 400, "id: the id of a message, as show tells it");
	}
}

/* [cursor [limit]]; a cursor of "-" is none. */
static void arg_page(struct call *c, struct arg *cursor, size_t *limit_r)
{
	struct arg limit;
	uint64_t v = LIMIT_MAX;

	if(c->over) {
		return;
	}
	if(arg_next(c, "cursor", cursor)
			&& cpm_pl_eq(cursor->text, CPM_PL_LIT("-"))) {
		cursor->text = CPM_PL_NULL;
	}
	if(!c->over && arg_next(c, "limit", &limit)
			&& (cpm_pl_u64(limit.text, LIMIT_MAX, &v) != CPM_OK || v == 0)) {
		FAULT(c, 400, "limit: a number from 1 to %d", LIMIT_MAX);
	}
	*limit_r = v < PAGE_MAX ? (size_t)v : PAGE_MAX;
	arg_end(c);
}

/* --------------------------------------------------------------- answers */

static void ok_or_full(struct call *c, int rc)
{
	if(rc < 0) {
		FAULT(c, 500, "the answer does not fit");
	}
}

static void *answer(struct call *c)
{
	void *o = NULL;

	if(!c->over) {
		ok_or_full(c, c->rpc->add(c->ctx, "{", &o));
	}
	return o;
}

static void *add_list(struct call *c, void *o, const char *name)
{
	void *list = NULL;

	if(!c->over) {
		ok_or_full(c, c->rpc->struct_add(o, "[", (char *)name, &list));
	}
	return list;
}

static void *add_item(struct call *c, void *list)
{
	void *o = NULL;

	if(!c->over) {
		ok_or_full(c, c->rpc->array_add(list, "{", &o));
		c->bytes += 16;
	}
	return o;
}

static void add_text(struct call *c, void *o, const char *name, struct cpm_pl v)
{
	char buf[TEXT_ONE];
	struct cpm_pl clean = cpm_utf8_clean(v, buf, sizeof(buf), NULL);
	str s = {buf, (int)clean.n};

	if(!c->over) {
		ok_or_full(c, c->rpc->struct_add(o, "S", (char *)name, &s));
		c->bytes += strlen(name) + clean.n + 8;
	}
}

static void add_word(struct call *c, void *o, const char *name, const char *v)
{
	add_text(c, o, name, cpm_pl_str(v));
}

static void add_number(struct call *c, void *o, const char *name, uint64_t v)
{
	if(c->over) {
		return;
	}
	/* the wider ones are a double to kamcmd */
	ok_or_full(c, v <= INT_MAX
						  ? c->rpc->struct_add(o, "d", (char *)name, (int)v)
						  : c->rpc->struct_add(
								  o, "J", (char *)name, (unsigned long long)v));
	c->bytes += strlen(name) + 12;
}

/* Left out where there is none. */
static void add_date(struct call *c, void *o, const char *name, uint64_t ms)
{
	char buf[40];
	struct cpm_wr w;

	if(ms > 0) {
		cpm_wr_init(&w, buf, sizeof(buf));
		cpm_time_put_rfc3339(&w, ms);
		add_text(c, o, name, cpm_wr_pl(&w));
	}
}

/* The same, and cut. */
static void add_their(
		struct call *c, void *o, const char *name, struct cpm_pl v, size_t cap)
{
	if(v.n > 0) {
		add_text(c, o, name, v.n > cap ? cpm_pl(v.p, cap) : v);
	}
}

static void add_stat(struct call *c, void *o, struct cpm_pl user,
		const struct cpm_queue_stat *s)
{
	add_text(c, o, "user", user);
	add_number(c, o, "messages", s->messages);
	add_number(c, o, "bytes", s->bytes);
	add_date(c, o, "oldest", s->oldest_ms);
	add_date(c, o, "newest", s->newest_ms);
	add_number(c, o, "queued", s->queued);
	add_number(c, o, "leased", s->leased);
	add_number(c, o, "held", s->held);
	add_number(c, o, "dead", s->dead);
}

static void add_message(struct call *c, void *o,
		const struct cpm_queue_item *item, bool user, size_t cap)
{
	const struct cpm_msg *m = &item->msg;

	if(user) {
		add_text(c, o, "user", m->aor);
	}
	add_text(c, o, "id", m->id);
	add_word(c, o, "state", cpm_state_name(item->state));
	add_their(c, o, "from", m->from, cap);
	add_their(c, o, "to", m->to, cap);
	add_their(c, o, "subject", m->subject, cap);
	add_their(c, o, "content_type", m->content_type, cap);
	add_number(c, o, "size", m->body_len);
	add_date(c, o, "received", m->received_ms);
	add_date(c, o, "expires", m->expires_ms);
	add_number(c, o, "attempts", item->attempts);
	add_date(c, o, "next_attempt", item->next_attempt_ms);
	add_their(c, o, "last_error", item->last_error, cap);
	add_their(c, o, "conversation_id", m->conversation_id, cap);
	add_their(c, o, "contribution_id", m->contribution_id, cap);
}

/* ----------------------------------------------------------------- verbs */

static const char *list_doc[] = {
		"cpm_pf.list [cursor [limit]]: users with a queue, and their sums",
		NULL};

static void list(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct cpm_pl after, last = CPM_PL_NULL;
	struct io_queue *q;
	struct arg cursor;
	unsigned shard;
	size_t limit = 0, n = 0, shown;
	size_t i;
	void *o, *all;
	int rc;

	arg_page(&c, &cursor, &limit);
	if(!c.over && cursor.text.n > CPM_AOR_MAX) {
		FAULT(&c, 400, "cursor: what next was");
	}
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	after = cursor.text;
	shard = after.n > 0 ? cpm_queue_shard(after) : 0;
	rc = io_queue_users(q, &shard, after, CPM_PL_NULL, limit + 1, users, &n);
	shown = n < limit ? n : limit;
	if(rc == CPM_OK && shown > 0) {
		rc = io_queue_stats(q, users, shown, stats_of);
	}
	if(rc != CPM_OK) {
		fault_store(&c, "users", rc);
		return;
	}
	o = answer(&c);
	all = add_list(&c, o, "items");
	for(i = 0; i < shown && c.bytes < PAGE_BYTES && !c.over; i++) {
		last = users[i];
		/* empty: the last message went between the two calls */
		if(stats_of[i].messages > 0) {
			add_stat(&c, add_item(&c, all), users[i], &stats_of[i]);
		}
	}
	if(i < n) {
		add_text(&c, o, "next", last);
	}
}

static const char *show_doc[] = {
		"cpm_pf.show aor [cursor [limit]]: one queue and its messages, the "
		"oldest first",
		NULL};

/* "m<seq>": kamcmd would take digits alone for a number of 32 bits. */
static bool seq_of(struct cpm_pl cursor, uint64_t *seq_r)
{
	*seq_r = 0;
	return cursor.n == 0
		   || (cursor.p[0] == 'm'
				   && cpm_pl_u64(cpm_pl_from(cursor, 1), INT64_MAX, seq_r)
							  == CPM_OK);
}

static void show(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct cpm_queue_stat stat;
	struct aor_arg aor;
	struct io_queue *q;
	struct arg cursor;
	uint64_t seq = 0, next = 0;
	size_t limit = 0, n = 0;
	size_t i;
	void *o, *all;
	char text[24];
	struct cpm_wr w;
	int rc;

	arg_aor(&c, &aor, true);
	arg_page(&c, &cursor, &limit);
	if(!c.over && !seq_of(cursor.text, &seq)) {
		FAULT(&c, 400, "cursor: what next was");
	}
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	rc = io_queue_stat(q, aor.aor, &stat);
	if(rc == CPM_OK) {
		rc = io_queue_list(q, aor.aor, seq, limit, 0, items, &n, &next);
	}
	if(rc != CPM_OK) {
		fault_store(&c, "list", rc);
		return;
	}
	o = answer(&c);
	if(!c.over) {
		add_stat(&c, o, aor.aor, &stat);
	}
	all = add_list(&c, o, "items");
	for(i = 0; i < n && c.bytes < PAGE_BYTES && !c.over; i++) {
		add_message(&c, add_item(&c, all), &items[i], false, TEXT_LIST);
	}
	if(i < n) {
		next = items[i - 1].seq;
	}
	if(next > 0) {
		cpm_wr_init(&w, text, sizeof(text));
		cpm_wr_chr(&w, 'm');
		cpm_wr_u64(&w, next);
		add_text(&c, o, "next", cpm_wr_pl(&w));
	}
}

static const char *get_doc[] = {
		"cpm_pf.get aor id: one message, without its body", NULL};

static void get(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct cpm_queue_item item;
	struct aor_arg aor;
	struct io_queue *q;
	struct arg id;
	int rc;

	arg_aor(&c, &aor, true);
	arg_id(&c, &id);
	arg_end(&c);
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	rc = io_queue_get(q, aor.aor, id.text, false, &item);
	if(rc != CPM_OK) {
		fault_store(&c, "get", rc);
		return;
	}
	add_message(&c, answer(&c), &item, true, TEXT_ONE);
}

static const char *flush_doc[] = {
		"cpm_pf.flush aor [mode]: what waits is delivered now, on whichever "
		"node its clients are; mode: auto, push or notify",
		NULL};

static void flush(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	enum cpm_flush mode = CPM_FLUSH_AUTO;
	struct aor_arg aor;
	struct io_queue *q;
	struct arg word;
	int rc;

	arg_aor(&c, &aor, true);
	if(!c.over && arg_next(&c, "mode", &word)
			&& cpm_flush_parse(word.text, &mode) != CPM_OK) {
		FAULT(&c, 400, "mode: auto, push or notify");
	}
	arg_end(&c);
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	rc = io_queue_flush(q, aor.aor, mode, cpm_pl(pf_conf.node, 8));
	if(rc != CPM_OK) {
		fault_store(&c, "flush", rc);
		return;
	}
	pf_hint_user_mode(PF_HINT_FLUSH, aor.aor, CPM_LEASE_ALL,
			mode == CPM_FLUSH_PUSH	   ? PF_HINT_PUSH
			: mode == CPM_FLUSH_NOTIFY ? PF_HINT_NOTIFY
									   : PF_HINT_AUTO);
	add_text(&c, answer(&c), "flushed", aor.aor);
}

/* Verbs about one message. */
static void one(rpc_t *rpc, void *ctx, const char *word,
		int (*act)(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id))
{
	struct call c = {rpc, ctx, false, 0};
	struct aor_arg aor;
	struct io_queue *q;
	struct arg id;
	int rc;

	arg_aor(&c, &aor, true);
	arg_id(&c, &id);
	arg_end(&c);
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	rc = act(q, aor.aor, id.text);
	if(rc != CPM_OK) {
		fault_store(&c, word, rc);
		return;
	}
	add_text(&c, answer(&c), word, id.text);
}

static const char *requeue_doc[] = {"cpm_pf.requeue aor id: a message that is "
									"dead, held or waits is queued "
									"as new, in its place",
		NULL};

static int requeue_act(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id)
{
	int rc = io_queue_turn(q, aor, id, CPM_STATE_QUEUED, CPM_PL_NULL);

	if(rc == CPM_OK) {
		pf_hint_user(PF_HINT_QUEUED, aor, CPM_LEASE_WHEN_DUE);
	}
	return rc;
}

static void requeue(rpc_t *rpc, void *ctx)
{
	one(rpc, ctx, "requeued", requeue_act);
}

static const char *discard_doc[] = {
		"cpm_pf.discard aor id: the message goes, whatever its state", NULL};

static int discard_act(struct io_queue *q, struct cpm_pl aor, struct cpm_pl id)
{
	int rc = io_queue_discard(
			q, aor, id, pf_conf.deliver.dedup_ms, CPM_JOB_NONE);

	if(rc == CPM_OK) {
		pf_hint_user(PF_HINT_CHANGED, aor, CPM_LEASE_WHEN_DUE);
	}
	return rc;
}

static void discard(rpc_t *rpc, void *ctx)
{
	one(rpc, ctx, "discarded", discard_act);
}

static const char *purge_doc[] = {
		"cpm_pf.purge aor: all messages of a user go; done 0: there are more, "
		"ask again",
		NULL};

static void purge(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	uint64_t upto = 0, removed = 0, n = 0;
	uint64_t end_ms = io_clock_mono_ms() + PURGE_MS;
	struct aor_arg aor;
	struct io_queue *q;
	void *o;
	int rc = CPM_OK;

	arg_aor(&c, &aor, true);
	arg_end(&c);
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	do {
		n = 0;
		rc = io_queue_purge(q, aor.aor, PURGE_BATCH, &upto, &n);
		removed += n;
	} while(rc == CPM_OK && upto != 0 && io_clock_mono_ms() < end_ms);
	if(removed > 0) {
		pf_hint_user(PF_HINT_CHANGED, aor.aor, CPM_LEASE_WHEN_DUE);
	}
	if(rc != CPM_OK) {
		fault_store(&c, "purge", rc);
		return;
	}
	o = answer(&c);
	add_number(&c, o, "removed", removed);
	add_number(&c, o, "done", upto == 0);
}

static const char *dead_doc[] = {
		"cpm_pf.dead [cursor [limit]]: dead letters of all users", NULL};

static void dead(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct cpm_pl id, aor = CPM_PL_NULL;
	char last[ARG_MAX];
	struct cpm_wr w;
	struct io_queue *q;
	struct arg cursor;
	unsigned shard = 0;
	size_t limit = 0, n = 0;
	size_t i;
	void *o, *all;
	bool more;
	int rc;

	arg_page(&c, &cursor, &limit);
	id = cursor.text;
	aor = cpm_pl_cut(&id, ' ');
	if(!c.over && aor.n > 0 && !cpm_msg_id_ok(id)) {
		FAULT(&c, 400, "cursor: what next was");
	}
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	shard = aor.n > 0 ? cpm_queue_shard(aor) : 0;
	rc = io_queue_dead(q, &shard, cursor.text, limit, users, &n);
	more = n == limit;
	if(rc == CPM_OK && n > 0) {
		/* names are borrowed, and the next call is coming */
		cpm_wr_init(&w, last, sizeof(last));
		cpm_wr_pl_put(&w, users[n - 1]);
		rc = io_queue_items(q, users, n, items, found);
	}
	if(rc != CPM_OK) {
		fault_store(&c, "dead", rc);
		return;
	}
	o = answer(&c);
	all = add_list(&c, o, "items");
	for(i = 0; i < n && c.bytes < PAGE_BYTES && !c.over; i++) {
		/* not found: requeued or discarded between the two calls */
		if(!found[i]) {
			continue;
		}
		add_message(&c, add_item(&c, all), &items[i], true, TEXT_LIST);
		if(c.bytes >= PAGE_BYTES) {
			more = true;
			cpm_wr_init(&w, last, sizeof(last));
			cpm_wr_pl_put(&w, items[i].msg.aor);
			cpm_wr_chr(&w, ' ');
			cpm_wr_pl_put(&w, items[i].msg.id);
		}
	}
	if(more) {
		add_text(&c, o, "next", cpm_wr_pl(&w));
	}
}

static const char *stats_doc[] = {
		"cpm_pf.stats: what is queued, over all nodes, and what this node has "
		"counted since it started",
		NULL};

static void stats(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct io_queue_totals t;
	struct io_queue *q;
	size_t i;
	void *o;
	int rc;

	arg_end(&c);
	q = c.over ? NULL : store(&c);
	if(q == NULL) {
		return;
	}
	rc = pf_store_note("totals", io_queue_totals(q, &t));
	o = answer(&c);
	if(rc == CPM_OK) {
		add_number(&c, o, "queue_users", t.users);
		add_number(&c, o, "queue_messages", t.messages);
		add_number(&c, o, "queue_bytes", t.bytes);
		add_number(&c, o, "queue_dead", t.dead);
		add_number(&c, o, "jobs", t.jobs);
	}
	for(i = 0; i < CPM_STATS_COUNT_; i++) {
		add_number(&c, o, cpm_stat_infos[i].name,
				cpm_stat_get(pf_stats, (enum cpm_stat)i));
	}
}

static const char *reload_doc[] = {"cpm_pf.reload [aor]: preferences and "
								   "policies are read again from the database "
								   "before they are used again; of one user, "
								   "or of all",
		NULL};

static void reload(rpc_t *rpc, void *ctx)
{
	struct call c = {rpc, ctx, false, 0};
	struct aor_arg arg;

	arg_aor(&c, &arg, false);
	arg_end(&c);
	if(c.over) {
		return;
	}
	pf_prefs_reload(arg.aor);
	add_text(&c, answer(&c), "reloaded",
			arg.aor.n > 0 ? arg.aor : CPM_PL_LIT("all"));
}

rpc_export_t pf_rpc[] = {
		{"cpm_pf.list", list, list_doc, 0},
		{"cpm_pf.show", show, show_doc, 0},
		{"cpm_pf.get", get, get_doc, 0},
		{"cpm_pf.flush", flush, flush_doc, 0},
		{"cpm_pf.requeue", requeue, requeue_doc, 0},
		{"cpm_pf.discard", discard, discard_doc, 0},
		{"cpm_pf.purge", purge, purge_doc, 0},
		{"cpm_pf.dead", dead, dead_doc, 0},
		{"cpm_pf.stats", stats, stats_doc, 0},
		{"cpm_pf.reload", reload, reload_doc, 0},
		{NULL, NULL, NULL, 0},
};
