/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_jobs.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/cpm_imdn.h"
#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "io/io_jobs.h"
#include "pf_conf.h"
#include "pf_facts.h"
#include "pf_hint.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_uac.h"
#include "pf_usrloc.h"

#include "../../core/dprint.h"

#define PLACES 64 /* requests out at a time, of each sort */
#define BATCH 32  /* jobs leased at once */
#define ROUNDS 8  /* batches in one sweep */
#define FEW 8	  /* with fewer places left no such jobs are leased */
#define TELL (CPM_JOB_STORED | CPM_JOB_FAILED)
#define FULL_CHECK_MS 60000
#define ROUTE_MAX 600
/* Requests with one notification: a From that another wrote may have brought
 * it, and then its address gets what it never asked for. */
#define TELL_ATTEMPTS 4

/* Sorts have their places apart, so that an ISF that does not answer keeps no
 * sender from being told, nor another domain the ISF from being reached. */
enum sort
{
	SORT_INTERWORK,
	SORT_TELL,
	SORT_COUNT_
};

/* A job whose request is out, or whose answer Redis was not told yet. */
struct place
{
	bool used;
	unsigned code; /* 0: no answer yet */
	uint32_t slot;
	uint64_t renew_at_ms;
	enum cpm_job_kind kind;
	unsigned attempt;
	char aor[CPM_AOR_MAX];
	size_t aor_len;
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t token_len;
};

/* What is said of a job, wherever it is kept. */
struct ref
{
	enum cpm_job_kind kind;
	struct cpm_pl aor;
	struct cpm_pl id;
	struct cpm_pl token;
	unsigned attempt;
};

static struct place places[SORT_COUNT_][PLACES];
static uint64_t token_seq;

static enum sort sort_of(enum cpm_job_kind kind)
{
	return kind == CPM_JOB_INTERWORK ? SORT_INTERWORK : SORT_TELL;
}

static size_t places_free(enum sort sort)
{
	size_t n = 0;
	size_t i;

	for(i = 0; i < PLACES; i++) {
		n += !places[sort][i].used;
	}
	return n;
}

static struct place *place_take(const struct ref *r)
{
	struct place *p = places[sort_of(r->kind)];
	struct place *end = p + PLACES;

	while(p < end && p->used) {
		p++;
	}
	if(p == end || r->aor.n > sizeof(p->aor) || r->id.n > sizeof(p->id)) {
		return NULL;
	}
	p->used = true;
	p->code = 0;
	p->renew_at_ms = io_clock_mono_ms() + pf_conf.deliver.lease_ms / 2;
	p->kind = r->kind;
	p->attempt = r->attempt;
	memcpy(p->aor, r->aor.p, r->aor.n);
	p->aor_len = r->aor.n;
	memcpy(p->id, r->id.p, r->id.n);
	p->id_len = r->id.n;
	memcpy(p->token, r->token.p, r->token.n);
	p->token_len = r->token.n;
	return p;
}

static struct ref place_ref(const struct place *p)
{
	return (struct ref){p->kind, cpm_pl(p->aor, p->aor_len),
			cpm_pl(p->id, p->id_len), cpm_pl(p->token, p->token_len),
			p->attempt};
}

/* ---------------------------------------------------------------- settle */

static int settle(const struct ref *r, enum cpm_job_how how,
		uint64_t retry_in_ms, struct cpm_pl why)
{
	static const char *const words[] = {[CPM_JOB_DONE] = "done",
			[CPM_JOB_RETRY] = "failed",
			[CPM_JOB_GIVE_UP] = "given-up"};
	int rc = pf_store_note(
			"job-settle", io_jobs_settle(pf_store(), r->kind, r->aor, r->id,
								  r->token, how, retry_in_ms, why));

	LM_INFO("jobs: %s kind=%s aor=%.*s id=%.*s attempt=%u why=%.*s%s\n",
			words[how], cpm_job_kind_name(r->kind), (int)r->aor.n, r->aor.p,
			(int)r->id.n, r->id.p, r->attempt, (int)why.n, why.p,
			rc == CPM_ENOENT ? " lease-lost" : "");
	return rc;
}

static int done(const struct ref *r, const char *why)
{
	return settle(r, CPM_JOB_DONE, 0, cpm_pl_str(why));
}

static int give_up(const struct ref *r, const char *why)
{
	return settle(r, CPM_JOB_GIVE_UP, 0, cpm_pl_str(why));
}

/* Later and later. After the last attempt a notification is forgotten, and a
 * message for the ISF stays to be seen. */
static int again(const struct ref *r, const char *why)
{
	size_t i = r->attempt > 0 ? r->attempt - 1 : 0;

	if(r->attempt >= pf_conf.job_max_attempts) {
		return r->kind == CPM_JOB_INTERWORK ? give_up(r, why) : done(r, why);
	}
	if(i >= pf_conf.job_retry_count) {
		i = pf_conf.job_retry_count - 1;
	}
	return settle(r, CPM_JOB_RETRY, pf_conf.job_retry_ms[i], cpm_pl_str(why));
}

/* Whether another attempt may have another answer (RFC 3261, 21). */
static bool may_pass(unsigned code)
{
	return code == 408 || code == 430 || code == 480
		   || (code >= 500 && code < 600);
}

static int settle_by_code(const struct ref *r, unsigned code)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", code);
	if(code >= 200 && code < 300) {
		return done(r, text);
	}
	if(may_pass(code)
			&& (r->kind == CPM_JOB_INTERWORK || r->attempt < TELL_ATTEMPTS)) {
		return again(r, text);
	}
	return r->kind == CPM_JOB_INTERWORK ? give_up(r, text) : done(r, text);
}

/* The answer is known. Redis may not be there to be told: then it is told
 * later, or what was done would be done once more. */
static void place_settle(struct place *p)
{
	struct ref r = place_ref(p);
	int rc = settle_by_code(&r, p->code);

	if(rc != CPM_EDOWN && rc != CPM_EUNSURE) {
		p->used = false;
	}
}

static void on_answer(void *owner, unsigned code)
{
	struct place *p = owner;
	bool ok = code >= 200 && code < 300;

	p->code = code;
	if(p->kind == CPM_JOB_INTERWORK) {
		pf_stat(ok ? CPM_STAT_interworked : CPM_STAT_interwork_failed);
	} else if(ok) {
		pf_stat(CPM_STAT_imdn_sent);
	}
	place_settle(p);
}

static void place_tend(struct place *p, uint64_t now_ms)
{
	struct ref r = place_ref(p);
	int rc;

	if(p->code != 0) {
		place_settle(p);
		return;
	}
	if(now_ms < p->renew_at_ms) {
		return;
	}
	rc = pf_store_note(
			"job-renew", io_jobs_renew(pf_store(), r.kind, r.aor, r.id, r.token,
								 pf_conf.deliver.lease_ms));
	if(rc == CPM_ENOENT) {
		LM_INFO("jobs: lease-lost kind=%s aor=%.*s id=%.*s\n",
				cpm_job_kind_name(r.kind), (int)r.aor.n, r.aor.p, (int)r.id.n,
				r.id.p);
		pf_uac_forget(p->slot);
		p->used = false;
	} else if(rc == CPM_OK) {
		p->renew_at_ms = now_ms + pf_conf.deliver.lease_ms / 2;
	}
}

/* -------------------------------------------------------------- requests */

/* A stored message, or one of our own, as a request. trusted: to whom the
 * network's word about the sender may be told. */
static int request_send(const struct ref *r, const struct cpm_msg *m,
		bool trusted, struct cpm_pl ruri, struct cpm_pl route)
{
	static char headers[PF_UAC_HEADERS_MAX - 64];
	char tag[24];
	struct pf_uac_request req;
	struct place *p;
	struct cpm_wr w, tag_w;
	int rc;

	cpm_wr_init(&w, headers, sizeof(headers));
	rc = cpm_msg_delivery_headers(m, io_clock_wall_ms(), trusted, &w);
	if(rc == CPM_ENOENT) {
		return r->kind == CPM_JOB_INTERWORK ? give_up(r, "expired")
											: done(r, "expired");
	}
	cpm_wr_pl_put(&w, m->aside);
	if(rc != CPM_OK || !cpm_wr_ok(&w)) {
		return give_up(r, "headers-too-large");
	}
	p = place_take(r);
	if(p == NULL) {
		return again(r, "busy");
	}
	cpm_wr_init(&tag_w, tag, sizeof(tag));
	cpm_wr_hex64(&tag_w, cpm_hash64(CPM_HASH_INIT, m->call_id));
	memset(&req, 0, sizeof(req));
	req.method = "MESSAGE";
	req.ruri = ruri;
	req.from = m->from;
	req.from_tag = cpm_wr_pl(&tag_w);
	req.to = m->to;
	req.call_id = m->call_id;
	/* as at a delivery: one Call-ID, and each attempt a CSeq of its own */
	req.cseq = r->attempt;
	req.headers = cpm_wr_pl(&w);
	req.body = m->body;
	req.routes = route;
	rc = pf_uac_send(&req, on_answer, p, &p->slot);
	if(rc == CPM_OK) {
		return CPM_OK;
	}
	p->used = false;
	if(r->kind == CPM_JOB_INTERWORK) {
		pf_stat(CPM_STAT_interwork_failed);
	}
	return again(r, rc == CPM_EPROTO ? "bad-route" : "not-sent");
}

struct cpm_settle pf_jobs_settle(const struct cpm_settle *settle)
{
	struct cpm_settle s = *settle;

	/* whether it was asked for is seen when the job is done, which has the
	 * message at hand */
	if(s.how == CPM_SETTLE_DEAD && pf_conf.accept.imdn) {
		s.jobs |= CPM_JOB_FAILED;
	}
	return s;
}

/* Whether a URI has the parameter lr. */
static bool is_loose(struct cpm_pl uri)
{
	struct cpm_pl part;

	(void)cpm_pl_cut(&uri, ';');
	while(uri.p != NULL) {
		part = cpm_pl_cut(&uri, ';');
		part = cpm_pl_cut(&part, '?');
		if(cpm_pl_ieq(cpm_pl_trim(cpm_pl_cut(&part, '=')), CPM_PL_LIT("lr"))) {
			return true;
		}
	}
	return false;
}

/* A Route of one. Without lr the Request-URI would have to be its URI
 * (RFC 3261, 12.2.1.1). buf: ROUTE_MAX. CPM_OK; CPM_ELIMIT. */
static int route_to(struct cpm_pl uri, char *buf, struct cpm_pl *route_r)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, ROUTE_MAX);
	cpm_wr_chr(&w, '<');
	cpm_wr_pl_put(&w, uri);
	cpm_wr_str(&w, is_loose(uri) ? ">" : ";lr>");
	if(!cpm_wr_ok(&w)) {
		return CPM_ELIMIT;
	}
	*route_r = cpm_wr_pl(&w);
	return CPM_OK;
}

/* ------------------------------------------------------------- interwork */

/* The request as it came in, less what belonged to its way. The ISF is inside
 * the trust domain, and gets Privacy together with whom it hides. */
static int interwork(const struct ref *r, const struct cpm_msg *m)
{
	struct cpm_pl isf = cpm_pl_str(pf_params.isf_uri);
	char buf[ROUTE_MAX];
	struct cpm_pl route;

	if(isf.n == 0) {
		return give_up(r, "no-isf");
	}
	if(pf_conf.isf_rewrite) {
		return request_send(r, m, true, isf, CPM_PL_NULL);
	}
	if(route_to(isf, buf, &route) != CPM_OK) {
		return give_up(r, "isf-uri-too-long");
	}
	return request_send(r, m, true, m->aor, route);
}

/* ------------------------------------------------------------------ tell */

static int tell_home(const struct ref *r, const struct cpm_msg *n,
		const struct cpm_policy *policy)
{
	static char blob[CPM_IMDN_BYTES_MAX + 4096];
	struct cpm_put_result res;
	struct cpm_put put;
	struct cpm_wr w;
	bool registered = pf_usrloc_is_registered(n->aor);
	int rc;

	cpm_wr_init(&w, blob, sizeof(blob));
	if(cpm_msg_encode(n, &w, NULL) != CPM_OK) {
		return done(r, "not-encoded");
	}
	memset(&put, 0, sizeof(put));
	put.aor = n->aor;
	put.id = n->id;
	put.blob = cpm_wr_pl(&w);
	put.expires_ms = n->expires_ms;
	put.max_messages = policy->queue_max_messages > 0
							   ? policy->queue_max_messages
							   : pf_conf.accept.queue_max_messages;
	put.max_bytes = policy->queue_max_bytes > 0
							? policy->queue_max_bytes
							: pf_conf.accept.queue_max_bytes;
	put.check_in_ms = registered ? pf_conf.accept.check_in_ms : FULL_CHECK_MS;
	rc = pf_store_note("put", io_queue_put(pf_store(), &put, &res));
	if(rc == CPM_EDOWN || rc == CPM_EUNSURE) {
		return rc; /* the lease ends, and it is done again */
	}
	if(rc != CPM_OK) {
		return again(r, "store-error");
	}
	switch(res.status) {
		case CPM_PUT_QUEUED:
			pf_stat(CPM_STAT_imdn_sent);
			if(registered) {
				pf_hint_user(PF_HINT_QUEUED, n->aor, CPM_LEASE_WHEN_DUE);
			}
			return done(r, "queued");
		case CPM_PUT_DUPLICATE:
		case CPM_PUT_GONE:
			return done(r, "told-already");
		case CPM_PUT_CONFLICT:
			return done(r, "id-conflict");
		case CPM_PUT_FULL_MESSAGES:
		case CPM_PUT_FULL_BYTES:
		case CPM_PUT_FULL_SENDER:
			break;
	}
	return done(r, "sender-queue-full");
}

static int tell_abroad(const struct ref *r, const struct cpm_msg *n)
{
	struct cpm_pl proxy = cpm_pl_str(pf_params.outbound_proxy);
	struct cpm_pl route = CPM_PL_NULL;
	char buf[ROUTE_MAX];

	if(proxy.n > 0 && route_to(proxy, buf, &route) != CPM_OK) {
		return done(r, "outbound-proxy-too-long");
	}
	return request_send(r, n, false, n->aor, route);
}

static int tell(const struct ref *r, const struct cpm_msg *m)
{
	static struct pf_prefs_buf prefs_buf;
	static char text[CPM_IMDN_BYTES_MAX];
	char user_buf[CPM_AOR_MAX];
	struct cpm_imdn_ask ask;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct cpm_diag diag = {"", 0};
	struct cpm_msg n;
	struct cpm_pl user;
	bool home;

	if(m->originator.n == 0
			|| pf_facts_aor(m->originator, user_buf, &user) != CPM_OK) {
		return done(r, "not-due");
	}
	home = pf_facts_is_home(user);
	memset(&ask, 0, sizeof(ask));
	ask.of = m;
	ask.kind = r->kind == CPM_JOB_STORED ? CPM_IMDN_STORED : CPM_IMDN_FAILED;
	ask.to = home ? user : m->originator;
	ask.host = pf_conf.accept.call_id_host;
	ask.now_ms = io_clock_wall_ms();
	ask.life_ms = pf_conf.accept.default_expires_s * 1000;
	if(cpm_pl_eq(user, m->aor)
			|| cpm_imdn_write(&ask, text, sizeof(text), &n) != CPM_OK) {
		return done(r, "not-due");
	}
	if(!home) {
		return tell_abroad(r, &n);
	}
	if(pf_prefs_get(user, &prefs_buf, &prefs, &policy, &diag) != CPM_OK) {
		return again(r, diag.why);
	}
	if(!prefs.known || !prefs.enabled) {
		return done(r, "sender-unknown");
	}
	return tell_home(r, &n, &policy);
}

/* ----------------------------------------------------------------- sweep */

static int job_do(const struct cpm_job *j, struct cpm_pl token)
{
	struct ref r = {j->kind, j->aor, j->id, token, j->attempts};
	struct cpm_diag diag = {"", 0};
	struct cpm_msg m;

	if(cpm_msg_decode(j->blob, &m, &diag) != CPM_OK) {
		LM_ERR("jobs: a stored message cannot be read kind=%s aor=%.*s "
			   "id=%.*s why=%s\n",
				cpm_job_kind_name(j->kind), (int)j->aor.n, j->aor.p,
				(int)j->id.n, j->id.p, diag.why);
		return give_up(&r, "unreadable");
	}
	return j->kind == CPM_JOB_INTERWORK ? interwork(&r, &m) : tell(&r, &m);
}

static struct cpm_pl keep(char **at, struct cpm_pl a)
{
	struct cpm_pl copy = cpm_pl(*at, a.n);

	if(a.n > 0) {
		memcpy(*at, a.p, a.n);
	}
	*at += a.n;
	return copy;
}

/* Redis lends what was leased until the next call, and doing one job is some.
 * NULL: no memory, or no job. */
static char *jobs_keep(struct cpm_job *jobs, size_t count)
{
	size_t n = 0;
	size_t i;
	char *all, *at;

	for(i = 0; i < count; i++) {
		n += jobs[i].aor.n + jobs[i].id.n + jobs[i].blob.n;
	}
	all = n > 0 ? malloc(n) : NULL;
	for(at = all, i = 0; all != NULL && i < count; i++) {
		jobs[i].aor = keep(&at, jobs[i].aor);
		jobs[i].id = keep(&at, jobs[i].id);
		jobs[i].blob = keep(&at, jobs[i].blob);
	}
	return all;
}

/* One batch. How many; 0 also if there cannot be more just now. */
static size_t round_do(
		const unsigned *shards, size_t count, const char *token_head)
{
	static struct cpm_job jobs[BATCH];
	size_t room = places_free(SORT_INTERWORK);
	/* what is leased finds a place: only few places, only the other kinds */
	unsigned kinds = room >= FEW ? TELL | CPM_JOB_INTERWORK : TELL;
	size_t limit = room >= FEW && room < BATCH ? room : BATCH;
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t n = 0;
	size_t i;
	struct cpm_wr w;
	char *memory;

	cpm_wr_init(&w, token, sizeof(token));
	cpm_wr_str(&w, token_head);
	cpm_wr_chr(&w, 'j');
	cpm_wr_hex64(&w, token_seq++);
	if(pf_store_note("job-lease",
			   io_jobs_lease(pf_store(), shards, count, kinds, cpm_wr_pl(&w),
					   pf_conf.deliver.lease_ms, limit, jobs, &n))
			!= CPM_OK) {
		return 0;
	}
	memory = jobs_keep(jobs, n);
	if(memory == NULL && n > 0) {
		LM_ERR("jobs: no memory for %u jobs\n", (unsigned)n);
		return 0;
	}
	for(i = 0; i < n; i++) {
		int rc = job_do(&jobs[i], cpm_wr_pl(&w));

		if(rc == CPM_EDOWN || rc == CPM_EUNSURE) {
			break; /* their leases end, and they are done then */
		}
	}
	free(memory);
	return i < n || n < limit ? 0 : n;
}

void pf_jobs_sweep(const unsigned *shards, size_t count, const char *token_head)
{
	uint64_t now_ms = io_clock_mono_ms();
	unsigned rounds = 0;
	size_t i, sort;

	for(sort = 0; sort < SORT_COUNT_; sort++) {
		for(i = 0; i < PLACES; i++) {
			if(places[sort][i].used) {
				place_tend(&places[sort][i], now_ms);
			}
		}
	}
	while(count > 0 && rounds++ < ROUNDS
			&& round_do(shards, count, token_head) > 0)
		;
}
