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

#include "../io/io_survey.h"
#include "admin_int.h"
#include "admin_json.h"
#include "admin_metrics.h"
#include "admin_openapi.h"

static const char *const param_names[P_COUNT_] = {
		[P_LIMIT] = "limit",
		[P_CURSOR] = "cursor",
		[P_PREFIX] = "prefix",
		[P_OLDER_THAN] = "older_than",
		[P_STATE] = "state",
		[P_INCLUDE] = "include",
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

int admin_ok(struct admin_call *c, json_t *v)
{
	return answer_json(c->an, 200, "application/json", v);
}

int admin_no_content(struct admin_call *c)
{
	c->an->status = 204;
	return CPM_OK;
}

int admin_api_problem(
		struct admin_answer *an, unsigned status, const char *detail)
{
	return answer_json(an, status, "application/problem+json",
			admin_json_problem(
					status, MHD_get_reason_phrase_for(status), detail));
}

int admin_problem(struct admin_call *c, unsigned status, const char *fmt, ...)
{
	char detail[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	return admin_api_problem(c->an, status, detail);
}

/* Says once that the store is gone, and once that it is back. */
void admin_redis_is(struct admin_api *api, bool up)
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
int admin_queue_problem(struct admin_call *c, int rc)
{
	unsigned left_out;

	switch(rc) {
		case CPM_ENOENT:
			admin_redis_is(c->api, true);
			return admin_problem(c, 404, "nothing is queued under this name");
		case CPM_EDOWN:
		case CPM_EUNSURE:
			admin_redis_is(c->api, false);
			c->an->retry_after_s = 1;
			return admin_problem(
					c, 503, "redis: %s", io_queue_error(c->api->queue));
		case CPM_EPROTO:
			if(worker_log_may(&c->api->redis_log, &left_out))
				worker_log(WORKER_ERROR,
						"admin: redis-error error=\"%s\" left_out=%u",
						io_queue_error(c->api->queue), left_out);
			return admin_problem(
					c, 500, "redis: %s", io_queue_error(c->api->queue));
		default:
			return rc;
	}
}

static bool is_canonical(struct cpm_pl aor)
{
	char buf[CPM_AOR_MAX];
	struct cpm_pl canon;

	return cpm_aor_canon(aor, buf, sizeof(buf), &canon, NULL) == CPM_OK
		   && cpm_pl_eq(aor, canon);
}

/* --------------------------------------------------------------- handlers */

static int get_queue(struct admin_call *c)
{
	struct cpm_queue_stat stat;
	int rc = io_queue_stat(c->api->queue, c->user, &stat);

	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	return admin_ok(c, admin_json_queue(c->user, &stat));
}

static int get_message(struct admin_call *c)
{
	struct cpm_queue_item item;
	bool body = c->given[P_INCLUDE];

	if(body && !cpm_pl_eq(c->param[P_INCLUDE], CPM_PL_LIT("body")))
		return admin_problem(c, 400, "include: body");
	if(body && !c->api->bodies)
		return admin_problem(c, 403, "bodies are not shown: admin_bodies is 0");
	int rc = io_queue_get(c->api->queue, c->user, c->id, body, &item);
	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	return admin_ok(c, admin_json_message(&item, body));
}

static int status_ok(struct admin_call *c)
{
	return admin_ok(c, json_pack("{s:s}", "status", "ok"));
}

/* What an operator should mend; takes nothing from being ready. */
static int warnings_add(struct admin_call *c, json_t *list)
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

static int get_readyz(struct admin_call *c)
{
	int rc = io_queue_ping(c->api->queue);

	if(rc == CPM_EPROTO)
		rc = CPM_EDOWN; /* no PING: not a server to work with */
	if(rc != CPM_OK)
		return admin_queue_problem(c, rc);
	admin_redis_is(c->api, true);
	json_t *list = json_array();
	if(list == NULL || warnings_add(c, list) != CPM_OK) {
		json_decref(list);
		return CPM_ENOMEM;
	}
	return admin_ok(
			c, json_pack("{s:s,s:o}", "status", "ok", "warnings", list));
}

static int get_metrics(struct admin_call *c)
{
	struct io_queue_totals totals;
	bool up = io_queue_totals(c->api->queue, &totals) == CPM_OK;

	admin_redis_is(c->api, up);
	c->an->status = 200;
	c->an->type = "text/plain; version=0.0.4; charset=utf-8";
	return admin_metrics(
			c->api->stats, up ? &totals : NULL, &c->an->body, &c->an->body_len);
}

static int get_openapi(struct admin_call *c)
{
	c->an->body = strdup(admin_openapi);
	if(c->an->body == NULL)
		return CPM_ENOMEM;
	c->an->status = 200;
	c->an->type = "application/json";
	c->an->body_len = strlen(c->an->body);
	return CPM_OK;
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
	int (*handler)(struct admin_call *c);
} routes[] = {
		{"GET", "/v1/queues", NEED_READ,
				BIT(P_LIMIT) | BIT(P_CURSOR) | BIT(P_PREFIX)
						| BIT(P_OLDER_THAN),
				admin_get_queues},
		{"GET", "/v1/queues/{user}", NEED_READ, 0, get_queue},
		{"GET", "/v1/queues/{user}/messages", NEED_READ,
				BIT(P_LIMIT) | BIT(P_CURSOR) | BIT(P_STATE),
				admin_get_messages},
		{"GET", "/v1/queues/{user}/messages/{id}", NEED_READ, BIT(P_INCLUDE),
				get_message},
		{"GET", "/v1/dead", NEED_READ, BIT(P_LIMIT) | BIT(P_CURSOR),
				admin_get_dead},
		{"GET", "/v1/jobs", NEED_READ, BIT(P_LIMIT) | BIT(P_CURSOR),
				admin_get_jobs},
		{"DELETE", "/v1/queues/{user}/messages", NEED_WRITE, 0,
				admin_delete_messages},
		{"DELETE", "/v1/queues/{user}/messages/{id}", NEED_WRITE, 0,
				admin_delete_message},
		{"POST", "/v1/queues/{user}/messages/{id}/requeue", NEED_WRITE, 0,
				admin_post_requeue},
		{"POST", "/v1/queues/{user}/flush", NEED_WRITE, 0, admin_post_flush},
		{"POST", "/v1/jobs/{kind}/{user}/{id}/requeue", NEED_WRITE, 0,
				admin_post_job_requeue},
		{"DELETE", "/v1/jobs/{kind}/{user}/{id}", NEED_WRITE, 0,
				admin_delete_job},
		{"GET", "/openapi.json", NEED_NEAR, ANY_PARAM, get_openapi},
		{"GET", "/livez", NEED_NEAR, ANY_PARAM, status_ok},
		{"GET", "/readyz", NEED_NEAR, ANY_PARAM, get_readyz},
		{"GET", "/metrics", NEED_NEAR, ANY_PARAM, get_metrics},
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

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
		struct admin_url_vars *vars_r, char *allow, size_t cap,
		bool *path_known_r)
{
	struct cpm_wr w;

	*path_known_r = false;
	cpm_wr_init(&w, allow, cap - 1);
	for(size_t i = 0; i < ROUTES; i++) {
		if(!admin_url_match(routes[i].path, rq->path, vars_r))
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

/* By name; CPM_JOB_NONE: there is none. */
static enum cpm_job_kind kind_of(struct cpm_pl name)
{
	for(unsigned bit = 1; bit < CPM_JOB_ALL; bit <<= 1) {
		enum cpm_job_kind kind = (enum cpm_job_kind)bit;
		if(cpm_pl_eq(name, cpm_pl_str(cpm_job_kind_name(kind))))
			return kind;
	}
	return CPM_JOB_NONE;
}

static int read_path(struct admin_call *c, const struct admin_url_vars *vars)
{
	if(vars->kind.n > 0) {
		c->kind = kind_of(vars->kind);
		if(c->kind == CPM_JOB_NONE)
			return admin_problem(
					c, 400, "kind: store, interwork, stored, failed or push");
	}
	if(vars->user.n > 0) {
		if(admin_url_unescape(vars->user, &c->text_wr, &c->user) != CPM_OK)
			return admin_problem(c, 400, "user: a broken percent-escape");
		if(!is_canonical(c->user))
			return admin_problem(c, 400,
					"user: not a canonical address of record "
					"(sip:user@host, tel:number)");
	}
	if(vars->id.n > 0) {
		if(admin_url_unescape(vars->id, &c->text_wr, &c->id) != CPM_OK)
			return admin_problem(c, 400, "id: a broken percent-escape");
		if(!cpm_msg_id_ok(c->id))
			return admin_problem(c, 400, "id: not the id of a message");
	}
	return CPM_OK;
}

static int read_query(
		struct admin_call *c, struct cpm_pl query, uint32_t allowed)
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
			return admin_problem(c, 400,
					"there is a parameter that is not known "
					"here");
		if(c->given[p])
			return admin_problem(c, 400, "%s: given twice", param_names[p]);
		c->given[p] = true;
		if(admin_url_unescape(value, &c->text_wr, &c->param[p]) != CPM_OK)
			return admin_problem(
					c, 400, "%s: a broken percent-escape", param_names[p]);
	}
	return CPM_OK;
}

static int check_right(
		struct admin_call *c, const struct admin_request *rq, enum need need)
{
	if(need == NEED_NEAR && rq->is_near)
		return CPM_OK;
	if(rq->right == ADMIN_NOTHING)
		return admin_problem(
				c, 401, "give a token: Authorization: Bearer TOKEN");
	if(need == NEED_WRITE && rq->right != ADMIN_WRITE)
		return admin_problem(c, 403, "this token may only read");
	return CPM_OK;
}

/* Steps that either let pass (no answer yet), or answer, or have no memory. */
static bool done(const struct admin_call *c, int rc)
{
	return rc != CPM_OK || c->an->status != 0;
}

static int answer(struct admin_call *c, const struct admin_request *rq)
{
	struct admin_url_vars vars = {CPM_PL_NULL, CPM_PL_NULL, CPM_PL_NULL};
	char allow[sizeof(c->an->allow)];
	bool path_known;
	const struct route *route =
			route_find(rq, &vars, allow, sizeof(allow), &path_known);
	/* who may not read is not told what there is */
	int rc = check_right(c, rq, route != NULL ? route->need : NEED_READ);

	if(done(c, rc))
		return rc;
	if(route == NULL && !path_known)
		return admin_problem(c, 404, "there is nothing at this path");
	if(route == NULL) {
		memcpy(c->an->allow, allow, sizeof(allow));
		return admin_problem(c, 405, "this path allows %s", allow);
	}
	rc = read_path(c, &vars);
	if(!done(c, rc))
		rc = read_query(c, rq->query, route->params);
	return done(c, rc) ? rc : route->handler(c);
}

int admin_api_answer(struct admin_api *api, const struct admin_request *rq,
		struct admin_answer *an)
{
	struct admin_call *c = calloc(1, sizeof(*c));

	if(c == NULL)
		return CPM_ENOMEM;
	memset(an, 0, sizeof(*an));
	c->api = api;
	c->rq = rq;
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
