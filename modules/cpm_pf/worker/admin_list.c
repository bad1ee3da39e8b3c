/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>

#include "../core/cpm_msg.h"
#include "../io/io_clock.h"
#include "admin_int.h"
#include "admin_json.h"

#define LIMIT_DEFAULT 100

/* So many items are in memory at a time, for each client that is answered. */
#define PIECE 64

/* With a filter a page is given short rather than looking through all
 * queues in one request; "next" goes on from there. */
#define SCAN_MAX 500

/* A page on its way: what is asked for, and how far it has come. */
struct admin_list
{
	/* Appends at most room items and moves on. As io_queue. */
	int (*some)(struct admin_api *api, struct admin_list *l, size_t room,
			json_t *items);
	char kind; /* of its cursors */
	char user[CPM_AOR_MAX];
	size_t user_len;
	char prefix[CPM_AOR_MAX];
	size_t prefix_len;
	uint64_t before_ms;
	char state;

	char after[ADMIN_CURSOR_MAX];
	size_t after_len;
	unsigned shard;
	uint64_t at; /* seq, or ms */

	size_t room; /* of the page */
	size_t count;
	size_t scanned;
	bool begun;
	bool more; /* there may be more behind it */
};

static struct cpm_pl list_after(const struct admin_list *l)
{
	return cpm_pl(l->after, l->after_len);
}

/* a may be borrowed from the queue, or from the list itself. */
static void after_set(struct admin_list *l, struct cpm_pl a)
{
	l->after_len = a.n < sizeof(l->after) ? a.n : 0;
	if(l->after_len > 0)
		memmove(l->after, a.p, a.n);
}

/* ------------------------------------------------------------- one piece */

static int add(json_t *items, json_t *item)
{
	return json_array_append_new(items, item) == 0 ? CPM_OK : CPM_ENOMEM;
}

static int some_queues(
		struct admin_api *api, struct admin_list *l, size_t room, json_t *items)
{
	struct cpm_pl after = list_after(l);
	unsigned shard = after.n > 0 ? cpm_queue_shard(after) : 0;
	size_t n = 0;
	/* one more than wanted tells whether there is a next page */
	int rc = io_queue_users(api->queue, &shard, after,
			cpm_pl(l->prefix, l->prefix_len), room + 1, api->users, &n);

	if(rc != CPM_OK)
		return rc;
	l->more = n > room;
	if(n > room)
		n = room;
	rc = n > 0 ? io_queue_stats(api->queue, api->users, n, api->queues) : rc;
	for(size_t i = 0; i < n && rc == CPM_OK; i++) {
		/* empty: the last message went between the two calls */
		if(api->queues[i].messages == 0
				|| api->queues[i].oldest_ms > l->before_ms)
			continue;
		rc = add(items, admin_json_queue(api->users[i], &api->queues[i]));
	}
	l->scanned += n;
	if(rc == CPM_OK && n > 0)
		after_set(l, api->users[n - 1]);
	return rc;
}

static int some_messages(
		struct admin_api *api, struct admin_list *l, size_t room, json_t *items)
{
	uint64_t next = 0;
	size_t n = 0;
	int rc = io_queue_list(api->queue, cpm_pl(l->user, l->user_len), l->at,
			room, l->state, api->items, &n, &next);

	/* a list is empty where a queue is not there: who watches it until all
	 * is delivered need not know of errors */
	if(rc == CPM_ENOENT) {
		l->more = false;
		return CPM_OK;
	}
	for(size_t i = 0; i < n && rc == CPM_OK; i++)
		rc = add(items, admin_json_message(&api->items[i], false));
	l->more = next != 0;
	l->at = next;
	/* an empty page has looked at thousands */
	l->scanned += n > 0 ? n : SCAN_MAX / 4;
	return rc;
}

static int some_dead(
		struct admin_api *api, struct admin_list *l, size_t room, json_t *items)
{
	size_t n = 0;
	int rc = io_queue_dead(
			api->queue, &l->shard, list_after(l), room, api->users, &n);

	l->more = n == room;
	if(rc == CPM_OK && n > 0) {
		after_set(l, api->users[n - 1]);
		rc = io_queue_items(api->queue, api->users, n, api->items, api->found);
	}
	for(size_t i = 0; i < n && rc == CPM_OK; i++) {
		/* not found: requeued or discarded between the two calls */
		if(api->found[i])
			rc = add(items, admin_json_letter(&api->items[i]));
	}
	return rc;
}

static int some_jobs(
		struct admin_api *api, struct admin_list *l, size_t room, json_t *items)
{
	char name[ADMIN_CURSOR_MAX];
	struct cpm_wr w;
	size_t n = 0;
	int rc = io_queue_jobs(
			api->queue, &l->shard, l->at, list_after(l), room, api->jobs, &n);

	for(size_t i = 0; i < n && rc == CPM_OK; i++)
		rc = add(items, admin_json_job(&api->jobs[i]));
	l->more = n == room;
	if(rc == CPM_OK && n > 0) {
		const struct cpm_job *last = &api->jobs[n - 1];
		cpm_wr_init(&w, name, sizeof(name));
		cpm_wr_chr(&w, cpm_job_letter(last->kind));
		cpm_wr_chr(&w, ' ');
		cpm_wr_pl_put(&w, last->name);
		l->at = last->due_ms;
		after_set(l, cpm_wr_pl(&w));
	}
	return rc;
}

/* ---------------------------------------------------------------- cursors */

/* What a cursor holds is ours, and may change: base64url keeps clients from
 * reading it, and its first letter keeps one list's from being another's. */
static struct cpm_pl cursor_make(
		const struct admin_list *l, char *buf, size_t cap)
{
	char plain[ADMIN_CURSOR_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, plain, sizeof(plain));
	cpm_wr_chr(&w, l->kind);
	if(l->kind == 'm')
		cpm_wr_u64(&w, l->at);
	if(l->kind == 'd' || l->kind == 'j') {
		cpm_wr_u64(&w, l->shard);
		cpm_wr_chr(&w, ' ');
		cpm_wr_u64(&w, l->at);
		cpm_wr_chr(&w, ' ');
	}
	if(l->kind != 'm')
		cpm_wr_pl_put(&w, list_after(l));
	struct cpm_pl whole = cpm_wr_pl(&w);
	cpm_wr_init(&w, buf, cap);
	admin_base64url_put(&w, whole);
	return cpm_wr_pl(&w);
}

static bool is_visible(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++) {
		if(a.p[i] <= ' ' || a.p[i] >= 0x7f)
			return false;
	}
	return true;
}

static bool cursor_get(struct admin_list *l, struct cpm_pl cursor)
{
	char buf[ADMIN_CURSOR_MAX];
	struct cpm_pl rest;
	uint64_t shard;

	if(admin_base64url_get(cursor, buf, sizeof(buf), &rest) != CPM_OK
			|| rest.n < 2 || rest.p[0] != l->kind)
		return false;
	rest = cpm_pl_from(rest, 1);
	if(l->kind == 'm')
		return cpm_pl_u64(rest, INT64_MAX, &l->at) == CPM_OK;
	if(l->kind == 'u') {
		after_set(l, rest);
		return rest.n <= CPM_AOR_MAX && is_visible(rest);
	}
	struct cpm_pl first = cpm_pl_cut(&rest, ' ');
	struct cpm_pl second = cpm_pl_cut(&rest, ' ');
	if(cpm_pl_u64(first, CPM_QUEUE_SHARDS - 1, &shard) != CPM_OK
			|| cpm_pl_u64(second, INT64_MAX, &l->at) != CPM_OK
			|| rest.n > CPM_AOR_MAX + 3 + CPM_MSG_ID_MAX)
		return false;
	l->shard = (unsigned)shard;
	after_set(l, rest);
	return true;
}

/* ------------------------------------------------------------ as one answer */

struct text
{
	char *p;
	size_t n, cap;
};

static int text_put(const char *p, size_t n, void *data)
{
	struct text *t = data;

	if(n > t->cap - t->n) {
		size_t cap = (t->cap + n) * 2;
		char *grown = realloc(t->p, cap);
		if(grown == NULL)
			return -1;
		t->p = grown;
		t->cap = cap;
	}
	memcpy(t->p + t->n, p, n);
	t->n += n;
	return 0;
}

static int text_str(struct text *t, const char *s)
{
	return text_put(s, strlen(s), t);
}

static int text_items(struct text *t, struct admin_list *l, json_t *items)
{
	int rc = l->begun ? 0 : text_str(t, "{\"items\":[");
	size_t i;
	json_t *item;

	l->begun = true;
	json_array_foreach(items, i, item)
	{
		if(rc == 0 && l->count > 0)
			rc = text_str(t, ",");
		if(rc == 0)
			rc = json_dump_callback(item, text_put, t, JSON_COMPACT);
		l->count++;
	}
	return rc;
}

static int text_end(struct text *t, struct admin_list *l)
{
	char next[ADMIN_BASE64_LEN(ADMIN_CURSOR_MAX)];
	struct cpm_pl cursor;
	int rc = text_str(t, "],\"next\":");

	if(rc != 0 || !l->more)
		return rc == 0 ? text_str(t, "null}") : rc;
	cursor = cursor_make(l, next, sizeof(next));
	rc = text_str(t, "\"");
	if(rc == 0)
		rc = text_put(cursor.p, cursor.n, t);
	return rc == 0 ? text_str(t, "\"}") : rc;
}

int admin_list_more(struct admin_api *api, struct admin_list *l, char **text_r,
		size_t *len_r, bool *last_r)
{
	struct text t = {NULL, 0, 0};
	json_t *items = json_array();
	int rc = items != NULL ? CPM_OK : CPM_ENOMEM;

	*text_r = NULL;
	*len_r = 0;
	do {
		size_t room = l->room - l->count;
		if(rc == CPM_OK)
			rc = l->some(api, l, room < PIECE ? room : PIECE, items);
	} while(rc == CPM_OK && json_array_size(items) == 0 && l->more
			&& l->scanned < SCAN_MAX);
	if(rc == CPM_OK && text_items(&t, l, items) != 0)
		rc = CPM_ENOMEM;
	*last_r = !l->more || l->count >= l->room || l->scanned >= SCAN_MAX;
	if(rc == CPM_OK && *last_r && text_end(&t, l) != 0)
		rc = CPM_ENOMEM;
	json_decref(items);
	if(rc != CPM_OK) {
		free(t.p);
		return rc;
	}
	admin_redis_is(api, true);
	*text_r = t.p;
	*len_r = t.n;
	return CPM_OK;
}

void admin_list_free(struct admin_list **l)
{
	free(*l);
	*l = NULL;
}

/* Takes the list. */
static int page(struct admin_call *c, struct admin_list *l)
{
	bool last = false;
	int rc = admin_list_more(c->api, l, &c->an->body, &c->an->body_len, &last);

	if(rc != CPM_OK || last) {
		admin_list_free(&l);
		if(rc != CPM_OK)
			return admin_queue_problem(c, rc);
	}
	c->an->status = 200;
	c->an->type = "application/json";
	c->an->list = l;
	return CPM_OK;
}

/* ------------------------------------------------------------- parameters */

/* Each of these: true, or the answer is a 400 (*rc_r: of making it). */

static bool get_limit(struct admin_call *c, size_t *limit_r, int *rc_r)
{
	uint64_t v = LIMIT_DEFAULT;

	if(c->given[P_LIMIT]
			&& (cpm_pl_u64(c->param[P_LIMIT], IO_QUEUE_PAGE_MAX, &v) != CPM_OK
					|| v == 0)) {
		*rc_r = admin_problem(
				c, 400, "limit: a number from 1 to %d", IO_QUEUE_PAGE_MAX);
		return false;
	}
	*limit_r = (size_t)v;
	return true;
}

static bool get_older_than(
		struct admin_call *c, uint64_t *before_ms_r, int *rc_r)
{
	uint64_t s = 0, now = io_clock_wall_ms();

	*before_ms_r = UINT64_MAX;
	if(!c->given[P_OLDER_THAN])
		return true;
	if(cpm_pl_u64(c->param[P_OLDER_THAN], UINT32_MAX, &s) != CPM_OK) {
		*rc_r = admin_problem(c, 400, "older_than: a number of seconds");
		return false;
	}
	*before_ms_r = s * 1000 < now ? now - s * 1000 : 0;
	return true;
}

static bool get_prefix(struct admin_call *c, struct admin_list *l, int *rc_r)
{
	struct cpm_pl v = c->param[P_PREFIX];

	if(v.n > CPM_AOR_MAX || !is_visible(v)) {
		*rc_r = admin_problem(
				c, 400, "prefix: the first characters of a canonical address");
		return false;
	}
	l->prefix_len = v.n;
	if(v.n > 0)
		memcpy(l->prefix, v.p, v.n);
	return true;
}

static bool get_state(struct admin_call *c, char *state_r, int *rc_r)
{
	enum cpm_state state;

	*state_r = 0;
	if(!c->given[P_STATE])
		return true;
	if(cpm_state_parse(c->param[P_STATE], &state) != CPM_OK) {
		*rc_r = admin_problem(c, 400, "state: queued, leased, held or dead");
		return false;
	}
	*state_r = (char)state;
	return true;
}

/* A list with limit and cursor, or NULL: *rc_r. */
static struct admin_list *list_new(struct admin_call *c, char kind,
		int (*some)(struct admin_api *, struct admin_list *, size_t, json_t *),
		int *rc_r)
{
	struct admin_list *l = calloc(1, sizeof(*l));

	*rc_r = CPM_ENOMEM;
	if(l == NULL)
		return NULL;
	l->kind = kind;
	l->some = some;
	l->before_ms = UINT64_MAX;
	l->user_len = c->user.n;
	if(c->user.n > 0)
		memcpy(l->user, c->user.p, c->user.n);
	*rc_r = CPM_OK;
	if(!get_limit(c, &l->room, rc_r))
		admin_list_free(&l);
	else if(c->given[P_CURSOR] && !cursor_get(l, c->param[P_CURSOR])) {
		*rc_r = admin_problem(
				c, 400, "cursor: not one that this list has given");
		admin_list_free(&l);
	}
	return l;
}

/* --------------------------------------------------------------- handlers */

int admin_get_queues(struct admin_call *c)
{
	int rc;
	struct admin_list *l = list_new(c, 'u', some_queues, &rc);

	if(l == NULL)
		return rc;
	if(get_older_than(c, &l->before_ms, &rc) && get_prefix(c, l, &rc))
		return page(c, l);
	admin_list_free(&l);
	return rc;
}

int admin_get_messages(struct admin_call *c)
{
	int rc;
	struct admin_list *l = list_new(c, 'm', some_messages, &rc);

	if(l == NULL)
		return rc;
	if(get_state(c, &l->state, &rc))
		return page(c, l);
	admin_list_free(&l);
	return rc;
}

int admin_get_dead(struct admin_call *c)
{
	int rc;
	struct admin_list *l = list_new(c, 'd', some_dead, &rc);

	return l != NULL ? page(c, l) : rc;
}

int admin_get_jobs(struct admin_call *c)
{
	int rc;
	struct admin_list *l = list_new(c, 'j', some_jobs, &rc);

	return l != NULL ? page(c, l) : rc;
}
