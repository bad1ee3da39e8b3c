/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_api.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../core/cpm_aor.h"
#include "../io/io_clock.h"
#include "../io/io_survey.h"
#include "admin_json.h"
#include "admin_metrics.h"
#include "admin_url.h"

#define LIMIT_DEFAULT 100
#define SEGMENTS_MAX 8
#define CURSOR_MAX (CPM_AOR_MAX + CPM_MSG_ID_MAX + 64)

/* With a filter a page is given short rather than looking through all
 * queues in one request; "next" goes on from there. */
#define SCAN_MAX 2000

enum param
{
	P_LIMIT,
	P_CURSOR,
	P_PREFIX,
	P_OLDER_THAN,
	P_STATE,
	P_INCLUDE,
	P_COUNT_
};

static const char *const param_names[P_COUNT_] = {
		[P_LIMIT] = "limit",
		[P_CURSOR] = "cursor",
		[P_PREFIX] = "prefix",
		[P_OLDER_THAN] = "older_than",
		[P_STATE] = "state",
		[P_INCLUDE] = "include",
};

/* A request, read. */
struct call
{
	struct admin_api *api;
	struct admin_answer *an;
	struct cpm_pl user; /* {user} and {id} of the path */
	struct cpm_pl id;
	struct cpm_pl param[P_COUNT_];
	bool given[P_COUNT_];
	char text[16384]; /* what was unescaped */
	struct cpm_wr text_wr;
};

/* -------------------------------------------------------------- answering */

static int answer_json(
		struct admin_answer *an, unsigned status, const char *type, json_t *v)
{
	char *body = v != NULL ? json_dumps(v, JSON_COMPACT) : NULL;

	json_decref(v);
	if(body == NULL)
		return CPM_ENOMEM;
	an->status = status;
	an->type = type;
	an->body = body;
	an->body_len = strlen(body);
	return CPM_OK;
}

static int ok(struct call *c, json_t *v)
{
	return answer_json(c->an, 200, "application/json", v);
}

int admin_api_problem(
		struct admin_answer *an, unsigned status, const char *detail)
{
	return answer_json(an, status, "application/problem+json",
			admin_json_problem(
					status, MHD_get_reason_phrase_for(status), detail));
}

__attribute__((format(printf, 3, 4))) static int problem(
		struct call *c, unsigned status, const char *fmt, ...)
{
	char detail[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	return admin_api_problem(c->an, status, detail);
}

/* Says once that the store is gone, and once that it is back. */
static void redis_is(struct admin_api *api, bool up)
{
	unsigned left_out;

	if(api->redis_down == !up)
		return;
	api->redis_down = !up;
	if(!worker_log_may(&api->redis_log, &left_out))
		return;
	if(up)
		worker_log(WORKER_NOTICE, "admin: redis-up");
	else
		worker_log(WORKER_WARN, "admin: redis-down error=\"%s\"",
				io_queue_error(api->queue));
}

/* A result of io_queue that is not CPM_OK. */
static int queue_problem(struct call *c, int rc)
{
	unsigned left_out;

	switch(rc) {
		case CPM_ENOENT:
			redis_is(c->api, true);
			return problem(c, 404, "nothing is queued under this name");
		case CPM_EDOWN:
		case CPM_EUNSURE:
			redis_is(c->api, false);
			c->an->retry_after_s = 1;
			return problem(c, 503, "redis: %s", io_queue_error(c->api->queue));
		case CPM_EPROTO:
			if(worker_log_may(&c->api->redis_log, &left_out))
				worker_log(WORKER_ERROR,
						"admin: redis-error error=\"%s\" left_out=%u",
						io_queue_error(c->api->queue), left_out);
			return problem(c, 500, "redis: %s", io_queue_error(c->api->queue));
		default:
			return rc;
	}
}

/* ---------------------------------------------------------------- cursors */

/* What a cursor holds is ours, and may change: base64url keeps clients from
 * reading it, and its first letter keeps one list's from being another's. */
static struct cpm_pl cursor_make(
		char kind, struct cpm_pl at, char *buf, size_t cap)
{
	char plain[CURSOR_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, plain, sizeof(plain));
	cpm_wr_chr(&w, kind);
	cpm_wr_pl_put(&w, at);
	struct cpm_pl whole = cpm_wr_pl(&w);
	cpm_wr_init(&w, buf, cap);
	admin_base64url_put(&w, whole);
	return cpm_wr_pl(&w);
}

static bool cursor_read(
		char kind, struct cpm_pl cursor, char *buf, struct cpm_pl *at_r)
{
	struct cpm_pl plain;

	if(admin_base64url_get(cursor, buf, CURSOR_MAX, &plain) != CPM_OK
			|| plain.n < 2 || plain.p[0] != kind)
		return false;
	*at_r = cpm_pl_from(plain, 1);
	return true;
}

/* ------------------------------------------------------------- parameters */

static bool is_canonical(struct cpm_pl aor)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl canon;

	return cpm_aor_canon(aor, buf, sizeof(buf), &canon, NULL) == CPM_OK
		   && cpm_pl_eq(aor, canon);
}

static bool is_visible(struct cpm_pl a)
{
	for(size_t i = 0; i < a.n; i++) {
		if(a.p[i] <= ' ' || a.p[i] >= 0x7f)
			return false;
	}
	return true;
}

/* Each of these: true, or the answer is a 400 (*rc_r: of making it). */

static bool get_limit(struct call *c, size_t *limit_r, int *rc_r)
{
	uint64_t v = LIMIT_DEFAULT;

	if(c->given[P_LIMIT]
			&& (cpm_pl_u64(c->param[P_LIMIT], IO_QUEUE_PAGE_MAX, &v) != CPM_OK
					|| v == 0)) {
		*rc_r = problem(
				c, 400, "limit: a number from 1 to %d", IO_QUEUE_PAGE_MAX);
		return false;
	}
	*limit_r = (size_t)v;
	return true;
}

static bool get_older_than(struct call *c, uint64_t *before_ms_r, int *rc_r)
{
	uint64_t s = 0, now = io_clock_wall_ms();

	*before_ms_r = UINT64_MAX;
	if(!c->given[P_OLDER_THAN])
		return true;
	if(cpm_pl_u64(c->param[P_OLDER_THAN], UINT32_MAX, &s) != CPM_OK) {
		*rc_r = problem(c, 400, "older_than: a number of seconds");
		return false;
	}
	*before_ms_r = s * 1000 < now ? now - s * 1000 : 0;
	return true;
}

static bool get_prefix(struct call *c, int *rc_r)
{
	struct cpm_pl v = c->param[P_PREFIX];

	if(v.n <= CPM_AOR_MAX && is_visible(v))
		return true;
	*rc_r = problem(
			c, 400, "prefix: the first characters of a canonical address");
	return false;
}

static bool bad_cursor(struct call *c, int *rc_r)
{
	*rc_r = problem(c, 400, "cursor: not one that this list has given");
	return false;
}

static bool get_user_cursor(
		struct call *c, char *buf, struct cpm_pl *after_r, int *rc_r)
{
	*after_r = CPM_PL_NULL;
	if(!c->given[P_CURSOR])
		return true;
	if(cursor_read('u', c->param[P_CURSOR], buf, after_r)
			&& after_r->n <= CPM_AOR_MAX && is_visible(*after_r))
		return true;
	return bad_cursor(c, rc_r);
}

static bool get_seq_cursor(struct call *c, uint64_t *after_r, int *rc_r)
{
	char buf[CURSOR_MAX];
	struct cpm_pl digits;

	*after_r = 0;
	if(!c->given[P_CURSOR])
		return true;
	if(cursor_read('m', c->param[P_CURSOR], buf, &digits)
			&& cpm_pl_u64(digits, INT64_MAX, after_r) == CPM_OK)
		return true;
	return bad_cursor(c, rc_r);
}

static bool get_state(struct call *c, char *state_r, int *rc_r)
{
	enum cpm_state state;

	*state_r = 0;
	if(!c->given[P_STATE])
		return true;
	if(cpm_state_parse(c->param[P_STATE], &state) != CPM_OK) {
		*rc_r = problem(c, 400, "state: queued, leased, held or dead");
		return false;
	}
	*state_r = (char)state;
	return true;
}

/* --------------------------------------------------------------- handlers */

/* One page of names and their numbers, appended to items. *more_r: there are
 * names behind it; *last_r: the last name, borrowed from the queue. */
static int queues_some(struct admin_api *api, struct cpm_pl after,
		struct cpm_pl prefix, uint64_t before_ms, size_t room, json_t *items,
		struct cpm_pl *last_r, size_t *scanned_r, bool *more_r)
{
	unsigned shard = after.n > 0 ? cpm_queue_shard(after) : 0;
	size_t n = 0;
	/* one more than wanted tells whether there is a next page */
	int rc = io_queue_users(
			api->queue, &shard, after, prefix, room + 1, api->users, &n);

	if(rc != CPM_OK)
		return rc;
	*more_r = n > room;
	if(n > room)
		n = room;
	rc = n > 0 ? io_queue_stats(api->queue, api->users, n, api->queues) : rc;
	for(size_t i = 0; i < n && rc == CPM_OK; i++) {
		/* empty: the last message went between the two calls */
		if(api->queues[i].messages == 0 || api->queues[i].oldest_ms > before_ms)
			continue;
		if(json_array_append_new(
				   items, admin_json_queue(api->users[i], &api->queues[i]))
				!= 0)
			rc = CPM_ENOMEM;
	}
	*scanned_r += n;
	*last_r = n > 0 ? api->users[n - 1] : CPM_PL_NULL;
	return rc;
}

static int get_queues(struct call *c)
{
	char at[CURSOR_MAX], next[ADMIN_BASE64_LEN(CURSOR_MAX)];
	struct cpm_pl after, cursor = CPM_PL_NULL;
	uint64_t before_ms;
	size_t limit, scanned = 0;
	bool more = true;
	int rc = CPM_OK;

	if(!get_limit(c, &limit, &rc) || !get_older_than(c, &before_ms, &rc)
			|| !get_prefix(c, &rc) || !get_user_cursor(c, at, &after, &rc))
		return rc;
	json_t *items = json_array();
	if(items == NULL)
		return CPM_ENOMEM;
	while(rc == CPM_OK && more && json_array_size(items) < limit
			&& scanned < SCAN_MAX) {
		struct cpm_pl last = CPM_PL_NULL;
		rc = queues_some(c->api, after, c->param[P_PREFIX], before_ms,
				limit - json_array_size(items), items, &last, &scanned, &more);
		if(rc == CPM_OK && more)
			/* it borrows from the queue, and the next call is coming */
			after = cpm_pl(memmove(at, last.p, last.n), last.n);
	}
	if(rc != CPM_OK) {
		json_decref(items);
		return queue_problem(c, rc);
	}
	redis_is(c->api, true);
	if(more)
		cursor = cursor_make('u', after, next, sizeof(next));
	return ok(c, admin_json_page(items, cursor));
}

static int get_queue(struct call *c)
{
	struct cpm_queue_stat stat;
	int rc = io_queue_stat(c->api->queue, c->user, &stat);

	if(rc != CPM_OK)
		return queue_problem(c, rc);
	redis_is(c->api, true);
	return ok(c, admin_json_queue(c->user, &stat));
}

static int get_messages(struct call *c)
{
	char digits[24], next[64];
	struct cpm_pl cursor = CPM_PL_NULL;
	uint64_t after, next_seq = 0;
	size_t limit, n = 0;
	struct cpm_wr w;
	char state;
	int rc = CPM_OK;

	if(!get_limit(c, &limit, &rc) || !get_seq_cursor(c, &after, &rc)
			|| !get_state(c, &state, &rc))
		return rc;
	rc = io_queue_list(c->api->queue, c->user, after, limit, state,
			c->api->items, &n, &next_seq);
	/* a list is empty where a queue is not there: who watches it until all
	 * is delivered need not know of errors */
	if(rc != CPM_OK && rc != CPM_ENOENT)
		return queue_problem(c, rc);
	redis_is(c->api, true);
	json_t *items = json_array();
	for(size_t i = 0; i < n; i++) {
		if(json_array_append_new(
				   items, admin_json_message(&c->api->items[i], false))
				!= 0) {
			json_decref(items);
			return CPM_ENOMEM;
		}
	}
	if(next_seq != 0) {
		cpm_wr_init(&w, digits, sizeof(digits));
		cpm_wr_u64(&w, next_seq);
		cursor = cursor_make('m', cpm_wr_pl(&w), next, sizeof(next));
	}
	return ok(c, admin_json_page(items, cursor));
}

static int get_message(struct call *c)
{
	struct cpm_queue_item item;
	bool body = c->given[P_INCLUDE];

	if(body && !cpm_pl_eq(c->param[P_INCLUDE], CPM_PL_LIT("body")))
		return problem(c, 400, "include: body");
	if(body && !c->api->bodies)
		return problem(c, 403, "bodies are not shown: admin_bodies is 0");
	int rc = io_queue_get(c->api->queue, c->user, c->id, body, &item);
	if(rc != CPM_OK)
		return queue_problem(c, rc);
	redis_is(c->api, true);
	return ok(c, admin_json_message(&item, body));
}

/* A cursor of a list over all shards: shard, time, name. */
static struct cpm_pl shard_cursor_make(char kind, unsigned shard, uint64_t ms,
		struct cpm_pl name, char *buf, size_t cap)
{
	char plain[CURSOR_MAX];
	struct cpm_wr w;

	cpm_wr_init(&w, plain, sizeof(plain));
	cpm_wr_u64(&w, shard);
	cpm_wr_chr(&w, ' ');
	cpm_wr_u64(&w, ms);
	cpm_wr_chr(&w, ' ');
	cpm_wr_pl_put(&w, name);
	return cursor_make(kind, cpm_wr_pl(&w), buf, cap);
}

static bool get_shard_cursor(struct call *c, char kind, char *buf,
		unsigned *shard_r, uint64_t *ms_r, struct cpm_pl *name_r, int *rc_r)
{
	struct cpm_pl rest;
	uint64_t shard, ms;

	*shard_r = 0;
	*ms_r = 0;
	*name_r = CPM_PL_NULL;
	if(!c->given[P_CURSOR])
		return true;
	if(!cursor_read(kind, c->param[P_CURSOR], buf, &rest))
		return bad_cursor(c, rc_r);
	struct cpm_pl first = cpm_pl_cut(&rest, ' ');
	struct cpm_pl second = cpm_pl_cut(&rest, ' ');
	if(cpm_pl_u64(first, CPM_QUEUE_SHARDS - 1, &shard) != CPM_OK
			|| cpm_pl_u64(second, INT64_MAX, &ms) != CPM_OK
			|| rest.n > CPM_AOR_MAX + 3 + CPM_MSG_ID_MAX)
		return bad_cursor(c, rc_r);
	*shard_r = (unsigned)shard;
	*ms_r = ms;
	*name_r = rest;
	return true;
}

static int get_dead(struct call *c)
{
	char at[CURSOR_MAX], next[ADMIN_BASE64_LEN(CURSOR_MAX)];
	struct cpm_pl after, cursor = CPM_PL_NULL;
	struct admin_api *api = c->api;
	size_t limit, n = 0;
	unsigned shard;
	uint64_t ms;
	int rc = CPM_OK;

	if(!get_limit(c, &limit, &rc)
			|| !get_shard_cursor(c, 'd', at, &shard, &ms, &after, &rc))
		return rc;
	rc = io_queue_dead(api->queue, &shard, after, limit, api->users, &n);
	if(rc == CPM_OK && n == limit)
		cursor = shard_cursor_make(
				'd', shard, 0, api->users[n - 1], next, sizeof(next));
	if(rc == CPM_OK && n > 0)
		rc = io_queue_items(api->queue, api->users, n, api->items, api->found);
	if(rc != CPM_OK)
		return queue_problem(c, rc);
	redis_is(api, true);
	json_t *items = json_array();
	for(size_t i = 0; i < n; i++) {
		/* not found: requeued or discarded between the two calls */
		if(api->found[i]
				&& json_array_append_new(
						   items, admin_json_letter(&api->items[i]))
						   != 0) {
			json_decref(items);
			return CPM_ENOMEM;
		}
	}
	return ok(c, admin_json_page(items, cursor));
}

static int get_jobs(struct call *c)
{
	char at[CURSOR_MAX], next[ADMIN_BASE64_LEN(CURSOR_MAX)];
	char name[CURSOR_MAX];
	struct cpm_pl after, cursor = CPM_PL_NULL;
	struct admin_api *api = c->api;
	size_t limit, n = 0;
	unsigned shard;
	uint64_t ms;
	struct cpm_wr w;
	int rc = CPM_OK;

	if(!get_limit(c, &limit, &rc)
			|| !get_shard_cursor(c, 'j', at, &shard, &ms, &after, &rc))
		return rc;
	rc = io_queue_jobs(api->queue, &shard, ms, after, limit, api->jobs, &n);
	if(rc != CPM_OK)
		return queue_problem(c, rc);
	redis_is(api, true);
	json_t *items = json_array();
	for(size_t i = 0; i < n; i++) {
		if(json_array_append_new(items, admin_json_job(&api->jobs[i])) != 0) {
			json_decref(items);
			return CPM_ENOMEM;
		}
	}
	if(n == limit) {
		const struct cpm_job *last = &api->jobs[n - 1];
		cpm_wr_init(&w, name, sizeof(name));
		cpm_wr_chr(&w, (char)last->kind);
		cpm_wr_chr(&w, ' ');
		cpm_wr_pl_put(&w, last->name);
		cursor = shard_cursor_make(
				'j', shard, last->due_ms, cpm_wr_pl(&w), next, sizeof(next));
	}
	return ok(c, admin_json_page(items, cursor));
}

static int status_ok(struct call *c)
{
	return ok(c, json_pack("{s:s}", "status", "ok"));
}

/* What an operator should mend; takes nothing from being ready. */
static int warnings_add(struct call *c, json_t *list)
{
	static struct io_redis_server servers[IO_REDIS_SERVERS_MAX];
	struct io_survey_warning w[IO_SURVEY_WARNINGS_MAX];
	size_t count = 0;

	if(io_queue_survey(c->api->queue, servers, IO_REDIS_SERVERS_MAX, &count)
			!= CPM_OK)
		return CPM_OK;
	for(size_t i = 0; i < count; i++) {
		size_t n = io_survey_warnings(&servers[i], w);
		for(size_t j = 0; j < n; j++) {
			if(json_array_append_new(list,
					   json_pack("{s:s,s:s,s:s}", "warning", w[j].word,
							   "server", servers[i].addr, "detail", w[j].text))
					!= 0)
				return CPM_ENOMEM;
		}
	}
	return CPM_OK;
}

static int get_readyz(struct call *c)
{
	int rc = io_queue_ping(c->api->queue);

	if(rc == CPM_EPROTO)
		rc = CPM_EDOWN; /* no PING: not a server to work with */
	if(rc != CPM_OK)
		return queue_problem(c, rc);
	redis_is(c->api, true);
	json_t *list = json_array();
	if(list == NULL || warnings_add(c, list) != CPM_OK) {
		json_decref(list);
		return CPM_ENOMEM;
	}
	return ok(c, json_pack("{s:s,s:o}", "status", "ok", "warnings", list));
}

static int get_metrics(struct call *c)
{
	struct io_queue_totals totals;
	bool up = io_queue_totals(c->api->queue, &totals) == CPM_OK;

	redis_is(c->api, up);
	c->an->status = 200;
	c->an->type = "text/plain; version=0.0.4; charset=utf-8";
	return admin_metrics(
			c->api->stats, up ? &totals : NULL, &c->an->body, &c->an->body_len);
}

/* ----------------------------------------------------------------- routes */

enum need
{
	NEED_NEAR,	/* no token from this host, elsewhere one that may read */
	NEED_READ,	/* a token that may read */
	NEED_WRITE, /* a token that may write */
};

#define BIT(p) (1u << (p))
#define ANY_PARAM UINT32_MAX /* and ignored: health checkers add their own */

static const struct route
{
	const char *method;
	const char *path;
	enum need need;
	uint32_t params;
	int (*handler)(struct call *c);
} routes[] = {
		{"GET", "/v1/queues", NEED_READ,
				BIT(P_LIMIT) | BIT(P_CURSOR) | BIT(P_PREFIX)
						| BIT(P_OLDER_THAN),
				get_queues},
		{"GET", "/v1/queues/{user}", NEED_READ, 0, get_queue},
		{"GET", "/v1/queues/{user}/messages", NEED_READ,
				BIT(P_LIMIT) | BIT(P_CURSOR) | BIT(P_STATE), get_messages},
		{"GET", "/v1/queues/{user}/messages/{id}", NEED_READ, BIT(P_INCLUDE),
				get_message},
		{"GET", "/v1/dead", NEED_READ, BIT(P_LIMIT) | BIT(P_CURSOR), get_dead},
		{"GET", "/v1/jobs", NEED_READ, BIT(P_LIMIT) | BIT(P_CURSOR), get_jobs},
		{"GET", "/livez", NEED_NEAR, ANY_PARAM, status_ok},
		{"GET", "/readyz", NEED_NEAR, ANY_PARAM, get_readyz},
		{"GET", "/metrics", NEED_NEAR, ANY_PARAM, get_metrics},
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

/* Compares segment by segment, before anything is unescaped: a "%2F" is part
 * of a name and no separator. */
static bool path_matches(const char *pattern, struct cpm_pl path,
		struct cpm_pl *user_r, struct cpm_pl *id_r)
{
	struct cpm_pl want = cpm_pl_str(pattern);

	while(want.n > 0 && path.n > 0) {
		struct cpm_pl w = cpm_pl_cut(&want, '/');
		struct cpm_pl p = cpm_pl_cut(&path, '/');
		if(cpm_pl_eq(w, CPM_PL_LIT("{user}")) && p.n > 0)
			*user_r = p;
		else if(cpm_pl_eq(w, CPM_PL_LIT("{id}")) && p.n > 0)
			*id_r = p;
		else if(!cpm_pl_eq(w, p))
			return false;
		/* "/a/" is not "/a" */
		if((want.p == NULL) != (path.p == NULL))
			return false;
	}
	return want.n == 0 && path.n == 0;
}

/* HEAD is allowed where GET is; HTTP leaves the body out. */
static bool method_matches(const char *method, struct cpm_pl given)
{
	return cpm_pl_eq(given, cpm_pl_str(method))
		   || (cpm_pl_eq(given, CPM_PL_LIT("HEAD"))
				   && strcmp(method, "GET") == 0);
}

/* The route, or NULL; then *path_known_r tells 405 from 404, and allow has
 * the methods. */
static const struct route *route_find(const struct admin_request *rq,
		struct cpm_pl *user_r, struct cpm_pl *id_r, char *allow, size_t cap,
		bool *path_known_r)
{
	struct cpm_wr w;

	*path_known_r = false;
	cpm_wr_init(&w, allow, cap - 1);
	for(size_t i = 0; i < ROUTES; i++) {
		if(!path_matches(routes[i].path, rq->path, user_r, id_r))
			continue;
		if(method_matches(routes[i].method, rq->method))
			return &routes[i];
		cpm_wr_str(&w, *path_known_r ? ", " : "");
		cpm_wr_str(&w, routes[i].method);
		if(strcmp(routes[i].method, "GET") == 0)
			cpm_wr_str(&w, ", HEAD");
		*path_known_r = true;
	}
	allow[cpm_wr_ok(&w) ? w.n : 0] = '\0';
	return NULL;
}

static int read_path(struct call *c, struct cpm_pl user, struct cpm_pl id)
{
	if(user.n > 0) {
		if(admin_url_unescape(user, &c->text_wr, &c->user) != CPM_OK)
			return problem(c, 400, "user: a broken percent-escape");
		if(!is_canonical(c->user))
			return problem(c, 400,
					"user: not a canonical address of record "
					"(sip:user@host, tel:number)");
	}
	if(id.n > 0) {
		if(admin_url_unescape(id, &c->text_wr, &c->id) != CPM_OK)
			return problem(c, 400, "id: a broken percent-escape");
		if(!cpm_msg_id_ok(c->id))
			return problem(c, 400, "id: not the id of a message");
	}
	return CPM_OK;
}

static int read_query(struct call *c, struct cpm_pl query, uint32_t allowed)
{
	while(query.n > 0 && allowed != ANY_PARAM) {
		struct cpm_pl value = cpm_pl_cut(&query, '&');
		struct cpm_pl name = cpm_pl_cut(&value, '=');
		unsigned p = 0;
		if(name.n == 0)
			continue;
		while(p < P_COUNT_ && !cpm_pl_eq(name, cpm_pl_str(param_names[p])))
			p++;
		/* a filter that is misspelt must not show everything */
		if(p == P_COUNT_ || (allowed & BIT(p)) == 0)
			return problem(c, 400,
					"there is a parameter that is not known "
					"here");
		if(c->given[p])
			return problem(c, 400, "%s: given twice", param_names[p]);
		c->given[p] = true;
		if(admin_url_unescape(value, &c->text_wr, &c->param[p]) != CPM_OK)
			return problem(
					c, 400, "%s: a broken percent-escape", param_names[p]);
	}
	return CPM_OK;
}

static int check_right(
		struct call *c, const struct admin_request *rq, enum need need)
{
	if(need == NEED_NEAR && rq->is_near)
		return CPM_OK;
	if(rq->right == ADMIN_NOTHING)
		return problem(c, 401, "give a token: Authorization: Bearer TOKEN");
	if(need == NEED_WRITE && rq->right != ADMIN_WRITE)
		return problem(c, 403, "this token may only read");
	return CPM_OK;
}

/* Steps that either let pass (no answer yet), or answer, or have no memory. */
static bool done(const struct call *c, int rc)
{
	return rc != CPM_OK || c->an->body != NULL;
}

static int answer(struct call *c, const struct admin_request *rq)
{
	struct cpm_pl user = CPM_PL_NULL, id = CPM_PL_NULL;
	char allow[sizeof(c->an->allow)];
	bool path_known;
	const struct route *route =
			route_find(rq, &user, &id, allow, sizeof(allow), &path_known);
	/* who may not read is not told what there is */
	int rc = check_right(c, rq, route != NULL ? route->need : NEED_READ);

	if(done(c, rc))
		return rc;
	if(route == NULL && !path_known)
		return problem(c, 404, "there is nothing at this path");
	if(route == NULL) {
		memcpy(c->an->allow, allow, sizeof(allow));
		return problem(c, 405, "this path allows %s", allow);
	}
	rc = read_path(c, user, id);
	if(!done(c, rc))
		rc = read_query(c, rq->query, route->params);
	return done(c, rc) ? rc : route->handler(c);
}

int admin_api_answer(struct admin_api *api, const struct admin_request *rq,
		struct admin_answer *an)
{
	struct call *c = calloc(1, sizeof(*c));

	if(c == NULL)
		return CPM_ENOMEM;
	memset(an, 0, sizeof(*an));
	c->api = api;
	c->an = an;
	cpm_wr_init(&c->text_wr, c->text, sizeof(c->text));
	int rc = answer(c, rq);
	free(c);
	return rc;
}

int admin_api_init(struct admin_api *api)
{
	api->redis_down = false;
	memset(&api->redis_log, 0, sizeof(api->redis_log));
	api->users = calloc(IO_QUEUE_PAGE_MAX + 1, sizeof(*api->users));
	api->queues = calloc(IO_QUEUE_PAGE_MAX, sizeof(*api->queues));
	api->items = calloc(IO_QUEUE_PAGE_MAX, sizeof(*api->items));
	api->jobs = calloc(IO_QUEUE_PAGE_MAX, sizeof(*api->jobs));
	api->found = calloc(IO_QUEUE_PAGE_MAX, sizeof(*api->found));
	if(api->users != NULL && api->queues != NULL && api->items != NULL
			&& api->jobs != NULL && api->found != NULL)
		return CPM_OK;
	admin_api_fini(api);
	return CPM_ENOMEM;
}

void admin_api_fini(struct admin_api *api)
{
	free(api->users);
	free(api->queues);
	free(api->items);
	free(api->jobs);
	free(api->found);
	api->jobs = NULL;
	api->found = NULL;
	api->users = NULL;
	api->queues = NULL;
	api->items = NULL;
}
