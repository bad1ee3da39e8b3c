/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_pull.c - a client fetches its user's queue, in a world of paper: a
 * store in memory that does what core/lua does, a client that says what a case
 * wants, a clock that is a variable, and failures wherever one is wanted.
 *
 * What happened is told in a log, one word for each call of a port:
 *
 *     K         the lock was asked for          K:busy K:EDOWN
 *     L:a,b-    a was leased, b is gone         ~ busy  + later
 *     A:a,b     the same of all that come next
 *     P:a#1     a went into the session as 1    P:a#1! P:a#1full
 *     T:a=ok    settled: ok, unsent             T:a=ok? the lease was lost
 *     X:a,b?    the leases of a and b were extended, b's is lost
 *     D:a/s     a was discarded, for a job      D:a- gone
 *     H:a       a is held                       H:a- gone  H:a~ busy
 *     Z#3:ok,failed(busy)   the results         Z#3full Z#3! Z- not taken
 *     +a/store  what port done was told
 *     B R       the session's end, the lock is given back
 *
 * and the port's letter with the result when it failed (D:EDOWN).
 */

#include "cpm_pull.h"

#include <stdarg.h>
#include <stdio.h>

#include "check_helpers.h"

#define LIT CPM_PL_LIT
#define AOR LIT("sip:bob@example.org")
#define START_MS UINT64_C(1700000000000)
#define MSGS_MAX 120
#define CALLS_MAX 300 /* of ports, in one go */
#define RETRY_MS 500  /* how long a store that does not answer is left alone */

/* An assertion of check writes to a pipe even when it holds; too slow for what
 * is asked a million times. */
#define must(cond)                                                    \
	do {                                                              \
		if(!(cond))                                                   \
			ck_abort_msg("%s (seed %u): ... %s", #cond, w.seed,       \
					w.log_n > 1500 ? w.log + w.log_n - 1500 : w.log); \
	} while(0)

struct qmsg
{
	char id[16];
	uint64_t seq;
	size_t bytes;
	bool fits;	/* the client takes its type */
	char state; /* Q, H, D: what it is when nobody has it */
	char token[CPM_QUEUE_TOKEN_MAX + 1]; /* whose lease; "": nobody's */
	uint64_t deadline_ms;
	bool gone;
	bool acked;		 /* the client's 200 was told */
	bool excused;	 /* somebody else had it, or took it away */
	bool kept;		 /* held, by this session */
	unsigned jobs;	 /* what took its place */
	unsigned told;	 /* by port done */
	uint32_t handle; /* in the session, without an answer; 0: not */
};

enum port
{
	PORT_TAKE,
	PORT_EXTEND,
	PORT_MANY,
	PORT_DISCARD,
	PORT_HOLD,
	PORT_RELEASE,
	PORT_SEND,
	PORT_RESULTS,
	PORT_COUNT_
};

static struct world
{
	uint64_t now_ms;
	struct qmsg msgs[MSGS_MAX];
	size_t msg_count;
	char lock[CPM_QUEUE_TOKEN_MAX + 1];
	uint64_t lock_until_ms;

	/* failures: so many, and so much of the work is done all the same */
	struct
	{
		int rc;
		unsigned executed, times;
	} inject[PORT_COUNT_];
	unsigned fail_percent;
	bool was_unsure;
	bool stays;		 /* the client does not hang up */
	bool full;		 /* the session has no room */
	bool no_results; /* the client does not take them */

	struct cpm_pull p;
	struct cpm_actions actions;
	struct cpm_action_item *items;
	struct cpm_pull_result *results;
	char (*ids)[16];
	bool ended;
	uint32_t last_handle, results_handle;
	unsigned calls, told;

	uint64_t random;
	unsigned seed;
	char log[16384];
	size_t log_n;
} w;

static struct cpm_pull_conf conf;

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;
	int n;

	if(w.log_n > sizeof(w.log) - 512) {
		/* a long story is told by its end */
		memmove(w.log, w.log + w.log_n - 2048, 2048);
		w.log_n = 2048;
	}
	va_start(ap, fmt);
	n = vsnprintf(w.log + w.log_n, sizeof(w.log) - w.log_n, fmt, ap);
	va_end(ap);
	w.log_n += (size_t)n;
}

static void log_clear(void)
{
	w.log_n = 0;
	w.log[0] = '\0';
}

/* Asserts what was told since the last time. */
#define ck_log(want)                   \
	do {                               \
		ck_assert_str_eq(w.log, want); \
		log_clear();                   \
	} while(0)

/* splitmix64 */
static uint64_t rnd(void)
{
	uint64_t z = (w.random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static unsigned rnd_to(unsigned n)
{
	return (unsigned)(rnd() % n);
}

static bool chance(unsigned percent)
{
	return rnd_to(100) < percent;
}

/* ------------------------------------------------------------ the store */

/* Whether this call is to fail, how, and how much of it is done first. */
static int injected(enum port port, unsigned *executed_r)
{
	static const int rcs[] = {CPM_EDOWN, CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO};
	int rc = CPM_OK;

	must(++w.calls <= CALLS_MAX);
	*executed_r = 0;
	if(w.fail_percent > 0 && port < PORT_SEND && chance(w.fail_percent)) {
		rc = rcs[rnd_to(4)];
		if(rc == CPM_EUNSURE || port == PORT_MANY)
			*executed_r = rnd_to(4);
	} else if(w.inject[port].times > 0) {
		w.inject[port].times--;
		rc = w.inject[port].rc;
		*executed_r = w.inject[port].executed;
	}
	w.was_unsure = w.was_unsure || rc == CPM_EUNSURE;
	return rc;
}

static void fail_next(enum port port, int rc, unsigned executed, unsigned times)
{
	w.inject[port].rc = rc;
	w.inject[port].executed = executed;
	w.inject[port].times = times;
}

static void store_is(int rc, unsigned executed)
{
	for(enum port port = PORT_TAKE; port < PORT_SEND; port++)
		fail_next(port, rc, executed, rc == CPM_OK ? 0 : 1000000);
}

static bool is(struct cpm_pl a, const char *b)
{
	return a.n > 0 && cpm_pl_eq(a, cpm_pl_str(b));
}

/* NULL: there was never such a message. */
static struct qmsg *msg_find(struct cpm_pl id)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(is(id, w.msgs[i].id))
			return &w.msgs[i];
	return NULL;
}

static struct qmsg *msg(const char *id)
{
	struct qmsg *m = msg_find(cpm_pl_str(id));

	if(m == NULL)
		ck_abort_msg("no such message: %s", id);
	return m;
}

static bool is_leased(const struct qmsg *m)
{
	return m->token[0] != '\0' && m->deadline_ms > w.now_ms;
}

static bool lock_is_others(struct cpm_pl token)
{
	if(w.now_ms >= w.lock_until_ms)
		w.lock[0] = '\0';
	return w.lock[0] != '\0' && !is(token, w.lock);
}

static void lock_take(struct cpm_pl token, uint64_t lease_ms)
{
	cpm_pl_cstr(token, w.lock, sizeof(w.lock));
	w.lock_until_ms = w.now_ms + lease_ms;
}

static struct qmsg *put(const char *id)
{
	struct qmsg *m = &w.msgs[w.msg_count++];

	must(w.msg_count <= MSGS_MAX);
	memset(m, 0, sizeof(*m));
	(void)snprintf(m->id, sizeof(m->id), "%s", id);
	m->seq = w.msg_count;
	m->state = 'Q';
	m->bytes = 100;
	m->fits = true;
	return m;
}

/* Messages with names of one letter. */
static void put_many(const char *ids)
{
	for(char id[2] = ""; *ids != '\0'; ids++) {
		id[0] = *ids;
		put(id);
	}
}

static void unlease(struct qmsg *m)
{
	m->token[0] = '\0';
	m->deadline_ms = 0;
}

/* Somebody else has it, as the lease was over or never was. */
static void rival_takes(struct qmsg *m)
{
	(void)snprintf(m->token, sizeof(m->token), "rival");
	m->deadline_ms = w.now_ms + 5000;
	m->excused = true;
}

/* Its end by another hand: an operator's, or its time has come. */
static void removed_by_others(struct qmsg *m)
{
	m->gone = m->excused = true;
	unlease(m);
}

/* What is lent is good until the store is asked again. */
static char lent[CPM_LEASE_MAX][16];

static void asked(struct cpm_pl aor)
{
	must(cpm_pl_eq(aor, AOR));
	memset(lent, '#', sizeof(lent));
}

/* core/lua/take.lua of one message. False: this and all others are for later.
 * n: those leased so far */
static bool take_one(const struct cpm_take *ask, struct qmsg *m, size_t i,
		struct cpm_taken *taken, size_t *n, uint64_t *bytes)
{
	memset(taken, 0, sizeof(*taken));
	taken->what = CPM_TAKEN_GONE;
	if(m == NULL || m->gone)
		return true;
	taken->seq = m->seq;
	taken->what = CPM_TAKEN_BUSY;
	if(is_leased(m) && !is(ask->token, m->token))
		return true;
	taken->what = CPM_TAKEN_LATER;
	if(*n > 0
			&& (*bytes + m->bytes > ask->max_bytes || *n >= ask->max_messages))
		return false;
	(*n)++;
	*bytes += m->bytes;
	cpm_pl_cstr(ask->token, m->token, sizeof(m->token));
	m->deadline_ms = w.now_ms + ask->lease_ms;
	taken->what = CPM_TAKEN_OK;
	memcpy(lent[i], m->id, sizeof(lent[i]));
	taken->msg.id = cpm_pl(lent[i], strlen(m->id));
	taken->msg.aor = AOR;
	taken->msg.body_len = m->bytes;
	return true;
}

static size_t store_take(const struct cpm_take *ask, struct cpm_taken *taken)
{
	uint64_t bytes = 0;
	size_t count = 0, n = 0, i;
	bool later = false;

	for(i = 0; i < ask->count; i++) {
		struct qmsg *m = msg_find(ask->ids[i]);

		if(!later)
			later = !take_one(ask, m, i, &taken[i], &n, &bytes);
		else {
			memset(&taken[i], 0, sizeof(taken[i]));
			taken[i].what =
					m != NULL && !m->gone ? CPM_TAKEN_LATER : CPM_TAKEN_GONE;
		}
		count++;
	}
	for(i = 0; ask->all && i < w.msg_count && n < ask->max_messages; i++) {
		if(w.msgs[i].seq <= ask->after)
			continue;
		if(!take_one(ask, &w.msgs[i], count, &taken[count], &n, &bytes))
			break;
		if(taken[count].what == CPM_TAKEN_OK)
			count++;
	}
	return count;
}

static bool is_bounded(const struct cpm_take *ask)
{
	return ask->token.n > 0 && ask->lease_ms == conf.lease_ms
		   && ask->count <= CPM_LEASE_MAX && (!ask->all || ask->count == 0)
		   && (ask->count == 0 || ask->max_messages == ask->count)
		   && (!ask->all
				   || (ask->max_messages > 0
						   && ask->max_messages <= CPM_LEASE_MAX))
		   && ((ask->count == 0 && !ask->all) || ask->max_bytes > 0);
}

static int port_take(void *ctx, const struct cpm_take *ask,
		struct cpm_taken *taken_r, size_t *count_r, uint64_t *busy_ms_r)
{
	static const char marks[] = {
			[CPM_TAKEN_GONE] = '-',
			[CPM_TAKEN_BUSY] = '~',
			[CPM_TAKEN_LATER] = '+',
	};
	struct cpm_taken taken[CPM_LEASE_MAX];
	unsigned executed;
	size_t n = 0, i;
	int rc = injected(PORT_TAKE, &executed);

	must(ctx == &w && is_bounded(ask));
	asked(ask->aor);
	note("%s", ask->all ? "A:" : ask->count > 0 ? "L:" : "K");
	if(rc == CPM_OK && lock_is_others(ask->token)) {
		*busy_ms_r = w.lock_until_ms - w.now_ms;
		note("%sbusy ", ask->all || ask->count > 0 ? "" : ":");
		return CPM_EAGAIN;
	}
	if((rc == CPM_OK || executed > 0) && !lock_is_others(ask->token)) {
		n = store_take(ask, taken);
		lock_take(ask->token, ask->lease_ms);
	}
	if(rc != CPM_OK) {
		note("%s%s ", ask->all || ask->count > 0 ? "" : ":", cpm_rc_name(rc));
		return rc;
	}
	for(i = 0; i < n; i++) {
		struct cpm_pl id = ask->all ? taken[i].msg.id : ask->ids[i];

		note("%s%.*s", i > 0 ? "," : "", (int)id.n, id.p);
		if(taken[i].what != CPM_TAKEN_OK)
			note("%c", marks[taken[i].what]);
	}
	note(" ");
	if(n > 0)
		memcpy(taken_r, taken, n * sizeof(taken[0]));
	*count_r = n;
	return CPM_OK;
}

static int port_extend(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count, bool *lost_r)
{
	unsigned executed, kept = 0;
	int rc = injected(PORT_EXTEND, &executed);
	bool others = lock_is_others(token), held = w.lock[0] != '\0';

	must(ctx == &w && count <= CPM_LEASE_MAX && lease_ms == conf.lease_ms);
	asked(aor);
	note("X:");
	for(size_t i = 0; i < count && (rc == CPM_OK || executed > 0); i++) {
		struct qmsg *m = msg_find(ids[i]);
		bool lost = others || m->gone || !is(token, m->token);

		note("%s%s%s", i > 0 ? "," : "", m->id, lost ? "?" : "");
		if(!lost) {
			m->deadline_ms = w.now_ms + lease_ms;
			kept++;
		}
		if(rc == CPM_OK)
			lost_r[i] = lost;
	}
	if((rc == CPM_OK || executed > 0) && !others && (kept > 0 || held))
		lock_take(token, lease_ms);
	note("%s ", rc != CPM_OK ? cpm_rc_name(rc) : "");
	return rc;
}

/* core/lua/settle.lua */
static bool store_settle(const struct cpm_settle *s)
{
	struct qmsg *m = msg_find(s->id);

	must(m != NULL);
	/* what is on its way and was not answered is nobody else's */
	must(s->how == CPM_SETTLE_DELIVERED || m->handle == 0);
	must(s->how != CPM_SETTLE_DELIVERED || m->acked);
	if(m->gone || !is(s->token, m->token))
		return false;
	unlease(m);
	m->gone = s->how == CPM_SETTLE_DELIVERED;
	return true;
}

static int port_many(
		void *ctx, const struct cpm_settle *s, size_t count, int *rcs_r)
{
	unsigned executed;
	int rc = injected(PORT_MANY, &executed);

	must(ctx == &w && count > 0 && count <= CPM_PULL_WINDOW);
	asked(s->aor);
	for(size_t i = 0; i < count; i++) {
		bool ok, delivered = s[i].how == CPM_SETTLE_DELIVERED;

		must(cpm_pl_eq(s[i].aor, AOR) && s[i].token.n > 0);
		must(delivered || s[i].how == CPM_SETTLE_UNSENT);
		must(!delivered || s[i].dedup_ms == conf.dedup_ms);
		for(size_t j = 0; j < i; j++)
			must(!cpm_pl_eq(s[i].id, s[j].id));
		if(rc != CPM_OK) {
			if(i < executed)
				(void)store_settle(&s[i]);
			continue;
		}
		if(w.fail_percent > 0 && chance(5)) {
			rcs_r[i] = CPM_EPROTO;
			continue;
		}
		ok = store_settle(&s[i]);
		rcs_r[i] = ok ? CPM_OK : CPM_ENOENT;
		note("T:%.*s=%s%s ", (int)s[i].id.n, s[i].id.p,
				delivered ? "ok" : "unsent", ok ? "" : "?");
	}
	if(rc != CPM_OK)
		note("T:%s ", cpm_rc_name(rc));
	return rc;
}

/* core/lua/discard.lua */
static int port_discard(void *ctx, struct cpm_pl aor, struct cpm_pl id,
		uint64_t dedup_ms, unsigned jobs)
{
	struct qmsg *m = msg_find(id);
	bool is_there = m != NULL && !m->gone;
	unsigned executed;
	int rc = injected(PORT_DISCARD, &executed);

	must(ctx == &w && dedup_ms == conf.dedup_ms);
	must(jobs == CPM_JOB_NONE || jobs == CPM_JOB_STORE
			|| jobs == CPM_JOB_INTERWORK);
	asked(aor);
	if(is_there && (rc == CPM_OK || executed > 0)) {
		m->gone = true;
		m->jobs = jobs;
		unlease(m);
	}
	if(rc != CPM_OK) {
		note("D:%s ", cpm_rc_name(rc));
		return rc;
	}
	note("D:%.*s%s%s ", (int)id.n, id.p,
			jobs == CPM_JOB_STORE		? "/s"
			: jobs == CPM_JOB_INTERWORK ? "/i"
										: "",
			is_there ? "" : "-");
	return is_there ? CPM_OK : CPM_ENOENT;
}

/* core/lua/turn.lua */
static int port_hold(void *ctx, struct cpm_pl aor, struct cpm_pl id)
{
	struct qmsg *m = msg_find(id);
	unsigned executed;
	int rc = injected(PORT_HOLD, &executed);
	bool is_busy = m != NULL && is_leased(m);

	must(ctx == &w);
	asked(aor);
	if(m != NULL && !m->gone && !is_busy && (rc == CPM_OK || executed > 0)) {
		m->state = 'H';
		m->kept = true;
		unlease(m);
	}
	if(rc != CPM_OK) {
		note("H:%s ", cpm_rc_name(rc));
		return rc;
	}
	if(m == NULL || m->gone) {
		note("H:%.*s- ", (int)id.n, id.p);
		return CPM_ENOENT;
	}
	note("H:%.*s%s ", (int)id.n, id.p, is_busy ? "~" : "");
	return is_busy ? CPM_EEXIST : CPM_OK;
}

static int port_release(void *ctx, struct cpm_pl aor, struct cpm_pl token)
{
	unsigned executed;
	int rc = injected(PORT_RELEASE, &executed);

	must(ctx == &w && token.n > 0 && w.ended);
	asked(aor);
	if((rc == CPM_OK || executed > 0) && !lock_is_others(token))
		w.lock[0] = '\0';
	note(rc != CPM_OK ? "R:%s " : "R ", cpm_rc_name(rc));
	return rc;
}

/* ------------------------------------------------------------ the session */

static bool port_accepts(void *ctx, const struct cpm_msg *m)
{
	must(ctx == &w && !w.ended);
	return msg_find(m->id)->fits;
}

/* What is taken into the session, and when. */
static int room_for(enum port port, uint32_t handle)
{
	unsigned executed;
	int rc = injected(port, &executed);

	must(!w.ended && w.p.acked && w.p.up);
	must(handle > w.last_handle);
	rc = rc == CPM_OK && w.full ? CPM_EAGAIN : rc;
	if(rc == CPM_OK)
		w.last_handle = handle;
	return rc;
}

static int port_send(void *ctx, uint32_t handle, const struct cpm_msg *queued)
{
	struct qmsg *m = msg_find(queued->id);
	int rc = room_for(PORT_SEND, handle);

	must(ctx == &w && m->fits && m->handle == 0 && !m->gone);
	must(!m->acked || m->excused);
	must(w.p.count < conf.window);
	must(is_leased(m) && is(cpm_pl(w.p.token, w.p.token_len), m->token));
	note("P:%s#%u%s ", m->id, handle,
			rc == CPM_OK	   ? ""
			: rc == CPM_EAGAIN ? "full"
							   : "!");
	if(rc == CPM_OK)
		m->handle = handle;
	return rc;
}

/* Whether a result is true. */
static void ck_result(
		const struct cpm_action_item *item, const struct cpm_pull_result *r)
{
	const struct qmsg *m = msg_find(item->id);

	must(r->reason != NULL);
	if(r->status == CPM_RESULT_FAILED) {
		bool refused = strcmp(r->reason, "store-refused") == 0;

		/* who is refused hears nothing of what is there; and what was asked
		 * for and not answered before that may have been done */
		must(r->reason[0] != '\0' && (m != NULL || refused));
		must(m == NULL || !m->gone || m->excused || (w.was_unsure && refused));
	} else if(r->status == CPM_RESULT_GONE) {
		must(m == NULL || m->gone);
	} else if(m == NULL || m->excused) {
		/* not ours to judge: asked twice, it was there once */
		must(m != NULL || w.was_unsure);
	} else if(item->action == CPM_ACT_RETRIEVE) {
		must(m->acked && m->gone);
	} else if(item->action == CPM_ACT_KEEP) {
		must(m->kept);
	} else {
		must(m->gone && !m->acked);
	}
}

static int port_results(void *ctx, uint32_t handle,
		const struct cpm_actions *actions,
		const struct cpm_pull_result *results)
{
	static const char *const words[] = {"ok", "gone", "failed"};
	int rc;

	must(ctx == &w && actions == &w.actions && results == w.results);
	must(actions->listed);
	if(w.no_results) {
		note("Z- ");
		return CPM_ENOENT;
	}
	rc = room_for(PORT_RESULTS, handle);
	note("Z#%u", handle);
	if(rc != CPM_OK) {
		note("%s ", rc == CPM_EAGAIN ? "full" : "!");
		return rc;
	}
	w.results_handle = handle;
	for(size_t i = 0; i < actions->count; i++) {
		ck_result(&actions->items[i], &results[i]);
		note("%c%s", i > 0 ? ',' : ':', words[results[i].status]);
		if(results[i].reason[0] != '\0')
			note("(%s)", results[i].reason);
	}
	note(" ");
	return CPM_OK;
}

static void port_end(void *ctx)
{
	must(ctx == &w && !w.ended);
	note("B ");
	w.ended = true;
	for(size_t i = 0; i < w.msg_count; i++)
		w.msgs[i].handle = 0;
}

static void port_done(void *ctx, struct cpm_pl aor, struct cpm_pl id,
		enum cpm_action_kind action)
{
	struct qmsg *m = msg_find(id);

	must(ctx == &w && cpm_pl_eq(aor, AOR));
	must(m != NULL || w.was_unsure);
	note("+%.*s/%s ", (int)id.n, id.p, cpm_action_name(action));
	w.told++;
	if(m == NULL)
		return;
	must(m->told++ == 0 || m->excused);
	must(m->gone || m->excused || action == CPM_ACT_KEEP);
	must(m->acked == (action == CPM_ACT_RETRIEVE) || m->excused);
	must(action != CPM_ACT_KEEP || m->kept);
}

static const struct cpm_pull_ports ports = {
		.ctx = &w,
		.queue_take = port_take,
		.queue_extend = port_extend,
		.queue_settle_many = port_many,
		.queue_discard = port_discard,
		.queue_hold = port_hold,
		.queue_release = port_release,
		.accepts = port_accepts,
		.send = port_send,
		.send_results = port_results,
		.end = port_end,
		.done = port_done,
};

/* ------------------------------------------------------------- the worker */

static void drive_end(void)
{
	bool over = w.p.state == CPM_PULL_FINISHED;

	w.calls = 0;
	/* whoever waits says until when, and that is not for ever */
	must(over == (w.p.at_ms == 0));
	must(over || w.p.at_ms <= w.now_ms + conf.lease_ms + conf.up_ms);
	must(w.ended == (over || w.p.state == CPM_PULL_CLOSING));
	/* what is not known is the only reason to live on */
	must(w.p.state != CPM_PULL_CLOSING || w.p.count > 0);
	for(size_t i = 0; i < w.msg_count; i++) {
		const struct qmsg *m = &w.msgs[i];

		must(!m->gone || m->acked || m->excused || m->told > 0 || w.was_unsure);
	}
}

static void world_new(void)
{
	free(w.items);
	free(w.results);
	free(w.ids);
	memset(&w, 0, sizeof(w));
	w.now_ms = START_MS;
	memset(&conf, 0, sizeof(conf));
	conf.lease_ms = 60000;
	conf.dedup_ms = 300000;
	conf.window = 3;
	conf.window_bytes = 1000;
	conf.up_ms = 32000;
	conf.end_ms = 5000;
}

/* A list of so many items; NULL: no memory is none to test. */
static void actions_new(size_t count)
{
	/* one more, as there may be none */
	w.items = calloc(count + 1, sizeof(*w.items));
	w.results = count > 0 ? calloc(count, sizeof(*w.results)) : NULL;
	w.ids = calloc(count + 1, sizeof(*w.ids));
	ck_assert(w.items != NULL && w.ids != NULL);
	ck_assert(count == 0 || w.results != NULL);
	w.actions.items = w.items;
	w.actions.count = count;
	w.actions.dflt = CPM_ACT_KEEP;
}

static void action(size_t i, enum cpm_action_kind kind, const char *id)
{
	(void)snprintf(w.ids[i], sizeof(w.ids[i]), "%s", id);
	w.items[i].id = cpm_pl_str(w.ids[i]);
	w.items[i].action = kind;
}

/* "ra db": retrieve a, discard b; s, i, k. A '*' at the end: and all others.
 * NULL: no list. */
static void list(const char *spec)
{
	static const char letters[] = "ridsk";
	size_t count = 0;
	const char *s;

	if(spec == NULL) {
		actions_new(0);
		return;
	}
	for(s = spec; *s != '\0'; s++)
		count += *s == ' ' || *s == '*' ? 0 : 1;
	ck_assert(count % 2 == 0);
	actions_new(count / 2);
	w.actions.listed = true;
	count = 0;
	for(s = spec; *s != '\0' && *s != '*'; s++) {
		char id[2] = {s[1], '\0'};
		if(*s == ' ')
			continue;
		action(count++, (enum cpm_action_kind)(strchr(letters, *s) - letters),
				id);
		s++;
	}
	if(*s == '*') {
		w.actions.has_default = true;
		w.actions.dflt = CPM_ACT_RETRIEVE;
	}
}

static int start(void)
{
	char token[16] = "t1";
	int rc = cpm_pull_start(&w.p, &ports, &conf, AOR, cpm_pl_str(token),
			&w.actions, w.results, w.now_ms);

	memset(token, '#', sizeof(token));
	w.ended = rc != CPM_OK; /* there is none */
	drive_end();
	return rc;
}

static void acked(void)
{
	cpm_pull_acked(&w.p, &ports, &conf, w.now_ms);
	drive_end();
}

static void up(void)
{
	cpm_pull_up(&w.p, &ports, &conf, w.now_ms);
	drive_end();
}

static void tick(void)
{
	cpm_pull_tick(&w.p, &ports, &conf, w.now_ms);
	drive_end();
}

static struct qmsg *msg_of(uint32_t handle)
{
	for(size_t i = 0; handle != 0 && i < w.msg_count; i++)
		if(w.msgs[i].handle == handle)
			return &w.msgs[i];
	return NULL;
}

static bool is_awaited(uint32_t handle)
{
	for(size_t i = 0; i < w.p.count; i++)
		if(w.p.item[i].handle == handle)
			return true;
	return false;
}

/* Tells them all at once. */
static void tell(const struct cpm_session_event *es, size_t n)
{
	for(size_t i = 0; i < n; i++) {
		struct qmsg *m = msg_of(es[i].handle);

		if(es[i].kind == CPM_SESSION_ROOM)
			w.full = false;
		if(es[i].kind != CPM_SESSION_DONE && es[i].kind != CPM_SESSION_FAILED)
			continue;
		if(m != NULL) {
			m->handle = 0;
			/* of a lease that was lost nothing more is heard */
			m->acked = m->acked
					   || (es[i].kind == CPM_SESSION_DONE
							   && is_awaited(es[i].handle));
		}
		if(es[i].handle == w.results_handle)
			w.results_handle = 0;
	}
	cpm_pull_events(&w.p, &ports, &conf, es, n, w.now_ms);
	drive_end();
}

static void ev(enum cpm_session_event_kind kind, uint32_t handle, unsigned code)
{
	struct cpm_session_event e = {kind, handle, code};

	tell(&e, 1);
}

static void done(uint32_t handle)
{
	ev(CPM_SESSION_DONE, handle, 0);
}

static void room(void)
{
	ev(CPM_SESSION_ROOM, 0, 0);
}

static void hangup(void)
{
	ev(CPM_SESSION_HANGUP, 0, 0);
}

static void live(uint64_t ms)
{
	uint64_t until_ms = w.now_ms + ms;
	unsigned n = 0;

	while(w.p.at_ms != 0 && w.p.at_ms <= until_ms) {
		must(++n < 100000);
		w.now_ms = w.p.at_ms > w.now_ms ? w.p.at_ms : w.now_ms;
		tick();
	}
	w.now_ms = until_ms;
}

/* The session is there, and what it asked for has begun. */
static void session(const char *ids, const char *spec)
{
	world_new();
	put_many(ids);
	list(spec);
	ck_assert_int_eq(start(), CPM_OK);
	ck_log("K ");
	acked();
	ck_log("");
	up();
}

/* All is over, and as soon as no lease is left the queue holds just these, and
 * each is what it was. */
static void ck_over(const char *ids)
{
	char left[MSGS_MAX + 1];
	size_t n = 0;

	ck_assert_int_eq(w.p.state, CPM_PULL_FINISHED);
	w.now_ms += conf.lease_ms + 1;
	tick();
	(void)lock_is_others(LIT("me"));
	ck_assert_str_eq(w.lock, "");
	for(size_t i = 0; i < w.msg_count; i++)
		if(!w.msgs[i].gone) {
			left[n++] = w.msgs[i].id[0];
			ck_assert(!is_leased(&w.msgs[i]));
		}
	left[n] = '\0';
	ck_assert_str_eq(left, ids);
	ck_log("");
}

/* -------------------------------------------------------------- to begin */

START_TEST(busy)
{
	world_new();
	put_many("a");
	list(NULL);
	lock_take(LIT("t0"), 1000);
	ck_assert_int_eq(start(), CPM_EAGAIN);
	ck_log("K:busy ");
	/* whatever comes then finds nothing to do */
	cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
	acked();
	up();
	done(1);
	tick();
	ck_log("");
	ck_over("a");
}
END_TEST

START_TEST(start_store_down)
{
	static const int rcs[] = {CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO};

	world_new();
	put_many("a");
	list("da");
	store_is(rcs[_i], 1);
	ck_assert_int_eq(start(), rcs[_i]);
	store_is(CPM_OK, 0);
	log_clear();
	acked();
	up();
	hangup();
	ck_log("");
	ck_over("a");
}
END_TEST

START_TEST(too_long)
{
	static char id[CPM_AOR_MAX + 1];

	world_new();
	list(NULL);
	memset(id, 'x', sizeof(id));
	ck_assert_int_eq(cpm_pull_start(&w.p, &ports, &conf, cpm_pl(id, sizeof(id)),
							 LIT("t"), &w.actions, w.results, w.now_ms),
			CPM_EPROTO);
	ck_assert_int_eq(cpm_pull_start(&w.p, &ports, &conf, AOR,
							 cpm_pl(id, CPM_QUEUE_TOKEN_MAX + 1), &w.actions,
							 w.results, w.now_ms),
			CPM_EPROTO);
	ck_assert_int_eq(w.p.state, CPM_PULL_FINISHED);
	ck_log("");
}
END_TEST

START_TEST(both_are_needed)
{
	world_new();
	put_many("ab");
	list("da*");
	ck_assert_int_eq(start(), CPM_OK);
	ck_assert_int_eq(w.p.state, CPM_PULL_ANSWERED);
	ck_log("K ");
	if(_i == 0)
		acked();
	else
		up();
	live(5000);
	room();
	ck_log("");
	if(_i == 0)
		up();
	else
		acked();
	ck_log("D:a +a/discard A:b P:b#1 A: ");
	/* again changes nothing */
	up();
	acked();
	done(1);
	ck_log("T:b=ok +b/retrieve Z#2:ok ");
	hangup();
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(never_there)
{
	world_new();
	put_many("a");
	list("da*");
	ck_assert_int_eq(start(), CPM_OK);
	if(_i == 1)
		acked();
	if(_i == 2)
		up();
	live(20000);
	ck_log("K X: ");
	live(11999);
	ck_log("");
	live(1);
	ck_log("B R ");
	ck_over("a");
}
END_TEST

START_TEST(ended_before)
{
	world_new();
	put_many("a");
	list("da*");
	ck_assert_int_eq(start(), CPM_OK);
	if(_i == 0)
		hangup();
	else if(_i == 1)
		ev(CPM_SESSION_DOWN, 0, 0);
	else
		cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
	/* before the ACK there is no BYE to be sent: it stays the user's one
	 * session until there is one, or no more */
	ck_log(_i == 1 ? "K " : "K B R ");
	acked();
	if(_i == 1)
		ck_log("B R ");
	up();
	ck_over("a");
}
END_TEST

START_TEST(lock_kept)
{
	/* while the client is slow, nobody else begins */
	world_new();
	put_many("a");
	list(NULL);
	conf.up_ms = 200000;
	ck_assert_int_eq(start(), CPM_OK);
	live(150000);
	ck_assert(lock_is_others(LIT("t0")));
	ck_log("K X: X: X: X: X: X: X: ");
	/* the store is down for so long that somebody else may have begun */
	store_is(CPM_EDOWN, 0);
	live(60000);
	ck_assert_int_eq(w.p.state, CPM_PULL_FINISHED);
	store_is(CPM_OK, 0);
	log_clear();
	ck_over("a");
}
END_TEST

/* ------------------------------------------------------ as it should be */

START_TEST(five_actions)
{
	session("abcdef", "ra db sc id ke");
	ck_log("L:a P:a#1 D:b +b/discard D:c/s +c/store D:d/i +d/interwork "
		   "H:e +e/keep ");
	ck_assert_int_eq(w.p.state, CPM_PULL_WORKING);
	done(1);
	ck_log("T:a=ok +a/retrieve Z#2:ok,ok,ok,ok,ok ");
	ck_assert_int_eq(w.p.state, CPM_PULL_RESULTS);
	done(2);
	ck_assert_int_eq(w.p.state, CPM_PULL_ENDING);
	hangup();
	ck_log("B R ");
	ck_assert_int_eq(msg("e")->state, 'H');
	ck_assert_int_eq(msg("f")->state, 'Q');
	ck_over("ef");
}
END_TEST

START_TEST(order_of_the_list)
{
	session("abcd", "dd rc kb ra");
	ck_log("D:d +d/discard L:c P:c#1 H:b +b/keep L:a P:a#2 ");
	done(2);
	done(1);
	ck_log("T:a=ok +a/retrieve T:c=ok +c/retrieve Z#3:ok,ok,ok,ok ");
	hangup();
	ck_log("B R ");
	ck_over("b");
}
END_TEST

START_TEST(no_list)
{
	session("abcde", NULL);
	ck_log("A:a,b,c P:a#1 P:b#2 P:c#3 ");
	done(2);
	ck_log("T:b=ok +b/retrieve A:d P:d#4 ");
	done(1);
	ck_log("T:a=ok +a/retrieve A:e P:e#5 ");
	done(3);
	ck_log("T:c=ok +c/retrieve A: ");
	done(4);
	ck_log("T:d=ok +d/retrieve ");
	done(5);
	/* no list, no results */
	ck_log("T:e=ok +e/retrieve ");
	ck_assert_int_eq(w.p.state, CPM_PULL_ENDING);
	live(4999);
	ck_log("");
	live(1);
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(nothing_queued)
{
	session("", NULL);
	ck_log("A: ");
	hangup();
	ck_log("B R ");
	ck_over("");
	session("a", "");
	ck_log("Z#1 ");
	done(1);
	hangup();
	ck_log("B R ");
	ck_over("a");
}
END_TEST

START_TEST(all_others)
{
	/* what is listed is not of the others, wherever it stands */
	conf.window = 3;
	session("abcd", "kb rc*");
	ck_log("H:b +b/keep L:c P:c#1 A:a,b P:a#2 T:b=unsent A:c A:d P:d#3 ");
	done(1);
	ck_log("T:c=ok +c/retrieve A: ");
	done(3);
	done(2);
	ck_log("T:d=ok +d/retrieve T:a=ok +a/retrieve Z#4:ok,ok ");
	hangup();
	ck_log("B R ");
	ck_assert_int_eq(msg("b")->state, 'H');
	ck_over("b");
}
END_TEST

START_TEST(listed_and_on_its_way)
{
	/* of the others is not what goes already: it would be given back while the
	 * client is getting it, and come again */
	session("abc", "rb*");
	done(1);
	ck_assert(msg("b")->gone);
	done(2);
	done(3);
	hangup();
	ck_assert(strstr(w.log, "Z#4:ok ") != NULL);
	log_clear();
	ck_over("");
}
END_TEST

/* ------------------------------------------------- more than there is room */

START_TEST(window)
{
	char ids[31] = "", want[16];
	unsigned i;

	for(i = 0; i < 30; i++)
		ids[i] = (char)('A' + i);
	world_new();
	conf.window = (size_t)_i;
	put_many(ids);
	list(NULL);
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	for(i = 1; i <= 30; i++) {
		ck_assert_uint_le(w.last_handle, i - 1 + (unsigned)_i);
		done(i);
	}
	ck_assert_int_eq(w.p.state, CPM_PULL_ENDING);
	(void)snprintf(want, sizeof(want), "#%u ", 30u);
	ck_assert(strstr(w.log, want) != NULL);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(window_beyond_bounds)
{
	/* a window of any size is cut to what fits */
	world_new();
	conf.window = 1000;
	conf.window_bytes = UINT64_MAX;
	for(unsigned i = 0; i < 100; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "m%u", i);
		put(id);
	}
	list(NULL);
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	ck_assert_uint_eq(w.last_handle, CPM_PULL_WINDOW);
	for(unsigned i = 1; i <= 100; i++)
		done(i);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(window_listed)
{
	session("abcde", "ra rb rc rd re");
	ck_log("L:a,b,c P:a#1 P:b#2 P:c#3 ");
	done(2);
	ck_log("T:b=ok +b/retrieve L:d P:d#4 ");
	{
		struct cpm_session_event es[] = {{CPM_SESSION_DONE, 1, 0},
				{CPM_SESSION_DONE, 3, 0}, {CPM_SESSION_DONE, 4, 0}};
		tell(es, FU_N(es));
	}
	ck_log("T:a=ok T:c=ok T:d=ok +a/retrieve +c/retrieve +d/retrieve "
		   "L:e P:e#5 ");
	done(5);
	ck_log("T:e=ok +e/retrieve Z#6:ok,ok,ok,ok,ok ");
	hangup();
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(window_bytes)
{
	/* so many were sent after so many were taken: the first counts whatever its
	 * size, and of a list nothing is taken before what is too large now */
	static const unsigned sent[2][5] = {{2, 3, 3, 4, 4}, {1, 2, 3, 4, 4}};

	world_new();
	put_many("abcd");
	msg("a")->bytes = 600;
	msg("b")->bytes = 600;
	msg("c")->bytes = 5000;
	list(_i == 0 ? NULL : "ra rb rc rd");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	for(unsigned i = 0; i < 5; i++) {
		ck_assert_uint_eq(w.last_handle < 4 ? w.last_handle : 4, sent[_i][i]);
		ck_assert_uint_le(w.p.bytes, 5600);
		done(i + 1);
	}
	ck_assert_uint_eq(w.p.bytes, 0);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(long_list)
{
	/* others wait for this process: after some, they have their turn */
	world_new();
	actions_new(500);
	w.actions.listed = true;
	for(unsigned i = 0; i < 500; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "x%u", i);
		action(i, CPM_ACT_DISCARD, id);
	}
	put("x499");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	ck_assert_int_eq(w.p.state, CPM_PULL_WORKING);
	ck_assert_uint_eq(w.p.at_ms, w.now_ms + 1);
	live(20);
	ck_assert_int_eq(w.p.state, CPM_PULL_RESULTS);
	ck_assert(msg("x499")->gone);
	ck_assert_uint_eq(w.told, 1);
	done(1);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(no_room)
{
	session("abc", "rx*");
	ck_log("L:x- A:a,b,c P:a#1 P:b#2 P:c#3 ");
	hangup();
	log_clear();

	world_new();
	put_many("abcd");
	list(_i == 0 ? NULL : "ra rb rc rd");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	w.full = true;
	up();
	ck_log(_i == 0 ? "K A:a,b,c P:a#1full T:a=unsent T:b=unsent T:c=unsent "
				   : "K L:a,b,c P:a#1full T:a=unsent T:b=unsent T:c=unsent ");
	live(19999);
	ck_log("");
	room();
	ck_log(_i == 0 ? "A:a,b,c P:a#1 P:b#2 P:c#3 "
				   : "L:a,b,c P:a#1 P:b#2 P:c#3 ");
	w.full = true;
	done(1);
	ck_log(_i == 0 ? "T:a=ok +a/retrieve A:d P:d#4full T:d=unsent "
				   : "T:a=ok +a/retrieve L:d P:d#4full T:d=unsent ");
	done(2);
	done(3);
	ck_log("T:b=ok +b/retrieve T:c=ok +c/retrieve ");
	/* with nothing on its way it is tried again, told or not */
	w.full = false;
	live(20000);
	done(4);
	ck_assert(msg("d")->gone);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(later)
{
	/* the store says "later" of what does not fit */
	world_new();
	put_many("abc");
	conf.window_bytes = 150;
	list("ra rb dc");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	ck_log("K L:a,b+ P:a#1 ");
	done(1);
	/* in the order of the list: c waits for b */
	ck_log("T:a=ok +a/retrieve L:b P:b#2 D:c +c/discard ");
	done(2);
	ck_log("T:b=ok +b/retrieve Z#3:ok,ok,ok ");
	hangup();
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(later_and_not_taken)
{
	/* what had the room is not for this client, and nothing is on its way whose
	 * end would tell that there is room now */
	world_new();
	put_many("ab");
	msg("a")->fits = false;
	conf.window_bytes = 150;
	list("ra rb");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	ck_log("K L:a,b+ T:a=unsent ");
	live(RETRY_MS);
	ck_log("L:b P:b#1 ");
	done(1);
	ck_log("T:b=ok +b/retrieve Z#2:failed(type-not-accepted),ok ");
	hangup();
	log_clear();
	ck_over("a");
}
END_TEST

START_TEST(elsewhere)
{
	world_new();
	put_many("abc");
	list("ra rx kb ky dz rc");
	ck_assert_int_eq(start(), CPM_OK);
	rival_takes(msg("a"));
	rival_takes(msg("b"));
	acked();
	up();
	ck_log("K L:a~,x- H:b~ H:y- D:z- L:c P:c#1 ");
	done(1);
	ck_log("T:c=ok +c/retrieve "
		   "Z#2:failed(busy),gone,failed(busy),gone,gone,ok ");
	hangup();
	ck_log("B R ");
	ck_over("ab");
}
END_TEST

START_TEST(what_it_was)
{
	session("abcd", NULL);
	log_clear();
	msg("a")->state = 'H';
	msg("b")->state = 'D';
	ev(CPM_SESSION_FAILED, 1, 403);
	if(_i == 0)
		hangup();
	else
		ev(CPM_SESSION_DOWN, 0, 408);
	ck_assert(strstr(w.log, "T:a=unsent ") != NULL);
	ck_assert(strstr(w.log, "T:b=unsent ") != NULL);
	log_clear();
	ck_assert_int_eq(msg("a")->state, 'H');
	ck_assert_int_eq(msg("b")->state, 'D');
	ck_over("abcd");
}
END_TEST

/* ------------------------------------------------------ what the client says */

START_TEST(type_not_accepted)
{
	world_new();
	put_many("abc");
	msg("a")->fits = msg("c")->fits = false;
	list(_i == 0 ? "ra rb*" : "ra*");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	if(_i == 0)
		ck_log("K L:a,b P:b#1 T:a=unsent A:a,b T:a=unsent A:c T:c=unsent A: ");
	else
		ck_log("K L:a T:a=unsent A:a,b,c P:b#1 T:a=unsent T:c=unsent A: ");
	done(1);
	if(_i == 0)
		ck_log("T:b=ok +b/retrieve Z#2:failed(type-not-accepted),ok ");
	else
		ck_log("T:b=ok +b/retrieve Z#2:failed(type-not-accepted) ");
	hangup();
	ck_log("B R ");
	ck_over("ac");
}
END_TEST

START_TEST(refusals)
{
	session("abcd", "ra rb rc*");
	ck_log("L:a,b,c P:a#1 P:b#2 P:c#3 ");
	{
		struct cpm_session_event es[] = {{CPM_SESSION_FAILED, 1, 413},
				{CPM_SESSION_FAILED, 2, 415}, {CPM_SESSION_FAILED, 3, 403},
				{CPM_SESSION_FAILED, 3, 413}, {CPM_SESSION_DONE, 2, 0}};
		tell(es, FU_N(es));
	}
	/* it is not offered again in this session */
	ck_log("T:a=unsent T:b=unsent T:c=unsent A:a,b,c T:a=unsent T:b=unsent "
		   "T:c=unsent A:d P:d#4 A: ");
	ev(CPM_SESSION_FAILED, 4, 500);
	ck_log("T:d=unsent Z#5:failed(too-large),failed(type-not-accepted),"
		   "failed(not-taken) ");
	done(5);
	hangup();
	ck_log("B R ");
	ck_over("abcd");
}
END_TEST

START_TEST(forged)
{
	/* of what was not sent nothing is believed */
	session("abcd", NULL);
	log_clear();
	done(0);
	done(4);
	done(UINT32_MAX);
	ev(CPM_SESSION_FAILED, 7, 413);
	room();
	ck_log("");
	done(1);
	done(1);
	ck_log("T:a=ok +a/retrieve A:d P:d#4 ");
	hangup();
	log_clear();
	ck_over("bcd");
}
END_TEST

START_TEST(in_one_go)
{
	/* what it took before it hung up is its own */
	struct cpm_session_event es[] = {{CPM_SESSION_DONE, 1, 0},
			{CPM_SESSION_HANGUP, 0, 0}, {CPM_SESSION_DONE, 3, 0}};

	session("abc", "ra rb rc");
	log_clear();
	es[1].kind = _i == 0 ? CPM_SESSION_HANGUP : CPM_SESSION_DOWN;
	tell(es, FU_N(es));
	ck_log("B T:a=ok T:b=unsent T:c=ok +a/retrieve +c/retrieve R ");
	ck_over("b");
}
END_TEST

START_TEST(send_lost)
{
	static const int rcs[] = {CPM_EDOWN, CPM_ENOMEM, CPM_EPROTO};

	world_new();
	put_many("abcd");
	list(_i < 3 ? NULL : "ra rb rc rd");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	fail_next(PORT_SEND, rcs[_i % 3], 0, 1);
	log_clear();
	done(1);
	ck_assert(strstr(w.log, "P:d#4! T:d=unsent B T:b=unsent T:c=unsent R ")
			  != NULL);
	log_clear();
	ck_over("bcd");
}
END_TEST

START_TEST(results_not_taken)
{
	session("a", "da");
	hangup();
	log_clear();
	world_new();
	put_many("a");
	w.no_results = true;
	list("da");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	up();
	ck_log("K D:a +a/discard Z- ");
	ck_assert_int_eq(w.p.state, CPM_PULL_ENDING);
	live(5000);
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(results_later)
{
	world_new();
	put_many("a");
	list("da");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	w.full = true;
	up();
	ck_log("K D:a +a/discard Z#1full ");
	live(RETRY_MS);
	ck_log("Z#1full ");
	w.full = false;
	live(RETRY_MS);
	ck_log("Z#1:ok ");
	/* refused or taken: it has been told */
	ev(_i == 0 ? CPM_SESSION_DONE : CPM_SESSION_FAILED, 1, 413);
	ck_assert_int_eq(w.p.state, CPM_PULL_ENDING);
	live(4999);
	ck_log("");
	live(1);
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(results_lost)
{
	world_new();
	put_many("ab");
	list("da");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	fail_next(PORT_RESULTS, CPM_EDOWN, 0, 1);
	up();
	ck_log("K D:a +a/discard Z#1! B R ");
	ck_over("b");
}
END_TEST

/* The session ends in each state. */
START_TEST(ended)
{
	static const enum cpm_pull_state states[] = {
			CPM_PULL_WORKING, CPM_PULL_RESULTS, CPM_PULL_ENDING};

	session("ab", "ra db");
	if(_i / 3 > 0)
		done(1);
	if(_i / 3 > 1)
		done(2);
	ck_assert_int_eq(w.p.state, states[_i / 3]);
	log_clear();
	if(_i % 3 == 0)
		hangup();
	else if(_i % 3 == 1)
		ev(CPM_SESSION_DOWN, 0, 408);
	else
		cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
	drive_end();
	ck_log(_i / 3 == 0 ? "B T:a=unsent R " : "B R ");
	/* once is enough */
	hangup();
	done(1);
	cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
	acked();
	up();
	ck_over(_i / 3 == 0 ? "a" : "");
}
END_TEST

/* ---------------------------------------------------- a store that is down */

static const struct
{
	int rc;
	unsigned executed;
} failures[] = {{CPM_EDOWN, 0}, {CPM_EUNSURE, 0}, {CPM_EUNSURE, 99}};
#define FAILURES 3

START_TEST(take_fails)
{
	world_new();
	put_many("ab");
	list(_i / FAILURES == 0 ? NULL : "ra rb");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	store_is(failures[_i % FAILURES].rc, failures[_i % FAILURES].executed);
	up();
	live(10 * RETRY_MS - 1);
	ck_assert_uint_eq(w.last_handle, 0);
	store_is(CPM_OK, 0);
	log_clear();
	live(RETRY_MS);
	ck_log(_i / FAILURES == 0 ? "A:a,b P:a#1 P:b#2 A: " : "L:a,b P:a#1 P:b#2 ");
	done(1);
	done(2);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(take_busy)
{
	/* the lock ran out, and another delivery has begun */
	world_new();
	put_many("ab");
	list(NULL);
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	lock_take(LIT("t0"), 1200);
	up();
	ck_log("K A:busy ");
	live(1500);
	ck_log("A:busy A:busy A:a,b P:a#1 P:b#2 A: ");
	done(1);
	done(2);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(act_fails)
{
	static const char *const specs[] = {"da rb", "sa rb", "ia rb", "ka rb"};
	static const char *const want[] = {"D:a%s +a/discard ", "D:a/s%s +a/store ",
			"D:a/i%s +a/interwork ", "H:a +a/keep "};
	bool was_done = failures[_i % FAILURES].executed > 0;
	char buf[128];

	world_new();
	put_many("ab");
	list(specs[_i / FAILURES]);
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	store_is(failures[_i % FAILURES].rc, failures[_i % FAILURES].executed);
	up();
	ck_assert_uint_eq(w.told, 0);
	/* what came after it does not change what is not known */
	if(was_done)
		store_is(CPM_EDOWN, 0);
	live(3 * RETRY_MS - 1);
	store_is(CPM_OK, 0);
	log_clear();
	live(1);
	/* it is asked again, and "there is none" means that it was done */
	(void)snprintf(buf, sizeof(buf), want[_i / FAILURES], was_done ? "-" : "");
	ck_assert_int_eq(strncmp(w.log, buf, strlen(buf)), 0);
	log_clear();
	done(1);
	ck_log("T:b=ok +b/retrieve Z#2:ok,ok ");
	ck_assert_uint_eq(w.told, 2);
	hangup();
	log_clear();
	ck_over(_i / FAILURES == 3 ? "a" : "");
}
END_TEST

START_TEST(act_unsure_is_of_one)
{
	/* what was not known of one says nothing of the next */
	world_new();
	put_many("a");
	list("da dx kb");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	fail_next(PORT_DISCARD, CPM_EUNSURE, 1, 1);
	up();
	live(RETRY_MS);
	ck_log("K D:EUNSURE D:a- +a/discard D:x- H:b- Z#1:ok,gone,gone ");
	hangup();
	log_clear();
	ck_over("");
	/* nor is what is to be held there because it was asked for */
	world_new();
	list("kb");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	fail_next(PORT_HOLD, CPM_EUNSURE, 1, 1);
	up();
	live(RETRY_MS);
	ck_log("K H:EUNSURE H:b- Z#1:gone ");
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(left_alone)
{
	/* a store that does not answer is asked twice a second, whatever happens */
	session("ab", "ra db");
	log_clear();
	live(19900);
	store_is(CPM_EDOWN, 0);
	done(1);
	for(unsigned i = 0; i < 3; i++)
		room();
	ck_log("T:EDOWN T:EDOWN T:EDOWN T:EDOWN ");
	live(100);
	ck_log("X:EDOWN ");
	store_is(CPM_OK, 0);
	live(399);
	ck_log("");
	live(101);
	ck_log("T:a=ok +a/retrieve Z#2:ok,ok X: ");
	hangup();
	log_clear();
	ck_over("");

	world_new();
	put_many("ab");
	list("ra db");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	fail_next(PORT_DISCARD, CPM_EDOWN, 0, 1);
	up();
	ck_log("K L:a P:a#1 D:EDOWN ");
	room();
	done(1);
	ck_log("T:a=ok +a/retrieve ");
	live(RETRY_MS);
	ck_log("D:b +b/discard Z#2:ok,ok ");
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(act_refused)
{
	session("ab", "kb");
	hangup();
	log_clear();
	world_new();
	put_many("ab");
	list("da kb");
	ck_assert_int_eq(start(), CPM_OK);
	acked();
	fail_next(PORT_DISCARD, CPM_EPROTO, 0, 1);
	fail_next(PORT_HOLD, CPM_EPROTO, 0, 1);
	up();
	ck_log("K D:EPROTO H:EPROTO Z#1:failed(store-refused),"
		   "failed(store-refused) ");
	hangup();
	log_clear();
	ck_over("ab");
}
END_TEST

/* While the store cannot be told what the client took. */
START_TEST(settle_fails)
{
	session("abcd", "ra rb rc rd");
	log_clear();
	store_is(failures[_i].rc, failures[_i].executed);
	done(1);
	ev(CPM_SESSION_FAILED, 2, 413);
	/* nothing new is begun */
	ck_assert_uint_eq(w.last_handle, 3);
	ck_assert_uint_eq(w.told, 0);
	live(70 * RETRY_MS - 1);
	store_is(CPM_OK, 0);
	log_clear();
	live(RETRY_MS);
	ck_assert_uint_eq(w.told, 1);
	ck_assert(msg("a")->gone && !msg("b")->gone);
	ck_assert_uint_eq(w.last_handle, 4);
	done(3);
	done(4);
	ck_assert(strstr(w.log, "Z#5:ok,failed(too-large),ok,ok ") != NULL);
	hangup();
	log_clear();
	ck_over("b");
}
END_TEST

START_TEST(settle_partly)
{
	/* some of a pipeline may have been done, whatever it says */
	struct cpm_session_event es[] = {{CPM_SESSION_DONE, 1, 0},
			{CPM_SESSION_DONE, 2, 0}, {CPM_SESSION_DONE, 3, 0}};

	session("abc", "ra rb rc");
	log_clear();
	fail_next(PORT_MANY, CPM_EDOWN, (unsigned)_i, 1);
	tell(es, FU_N(es));
	ck_log("T:EDOWN ");
	live(RETRY_MS);
	ck_assert_uint_eq(w.told, 3);
	ck_assert(strstr(w.log, "Z#4:ok,ok,ok ") != NULL);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(closing)
{
	/* the client has it: the store is to know that, however long it takes */
	session("abc", NULL);
	log_clear();
	store_is(failures[_i].rc, failures[_i].executed);
	done(1);
	hangup();
	ck_assert_int_eq(w.p.state, CPM_PULL_CLOSING);
	ck_assert(w.ended);
	live(10 * conf.lease_ms);
	ck_assert_int_eq(w.p.state, CPM_PULL_CLOSING);
	/* what goes back has come back by itself */
	ck_assert_uint_eq(w.p.count, 1);
	ck_assert_uint_eq(w.told, 0);
	/* nothing is told any more */
	done(2);
	hangup();
	acked();
	cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
	store_is(CPM_OK, 0);
	live(RETRY_MS);
	ck_assert_uint_eq(w.told, 1);
	log_clear();
	ck_over("bc");
}
END_TEST

START_TEST(closing_soon)
{
	session("abc", NULL);
	log_clear();
	store_is(failures[_i].rc, failures[_i].executed);
	done(1);
	hangup();
	live(RETRY_MS - 1);
	store_is(CPM_OK, 0);
	log_clear();
	live(1);
	/* what was done already is not ours any more */
	ck_log(_i < 2 ? "T:a=ok T:b=unsent T:c=unsent +a/retrieve R "
				  : "T:a=ok? T:b=unsent? T:c=unsent? +a/retrieve R ");
	ck_over("bc");
}
END_TEST

START_TEST(release_fails)
{
	session("ab", NULL);
	log_clear();
	fail_next(PORT_RELEASE, failures[_i].rc, failures[_i].executed, 9);
	hangup();
	ck_assert_int_eq(w.p.state, CPM_PULL_FINISHED);
	/* the lock runs out by itself */
	log_clear();
	ck_over("ab");
}
END_TEST

/* ------------------------------------------------------------- the leases */

START_TEST(extended)
{
	session("abcd", "ra rb*");
	log_clear();
	live(19999);
	ck_log("");
	live(100000);
	ck_log("X:a,b,c X:a,b,c X:a,b,c X:a,b,c X:a,b,c ");
	ck_assert(lock_is_others(LIT("t0")));
	hangup();
	log_clear();
	ck_over("abcd");
}
END_TEST

START_TEST(extend_fails)
{
	session("abc", "ra rb rc");
	log_clear();
	fail_next(PORT_EXTEND, failures[_i].rc, failures[_i].executed, 3);
	live(22000);
	ck_assert_int_eq(w.p.state, CPM_PULL_WORKING);
	ck_assert_uint_eq(w.p.lost_at_ms, START_MS + 21500 + conf.lease_ms);
	done(1);
	done(2);
	done(3);
	ck_assert(strstr(w.log, "Z#4:ok,ok,ok ") != NULL);
	hangup();
	log_clear();
	ck_over("");
}
END_TEST

START_TEST(leases_over)
{
	/* others may have them by now: to send on would be to send twice */
	session("abc", "ra rb rc");
	store_is(CPM_EDOWN, 0);
	live(30000);
	done(1);
	live(29999);
	ck_assert_int_eq(w.p.state, CPM_PULL_WORKING);
	live(RETRY_MS);
	ck_assert_int_eq(w.p.state, CPM_PULL_CLOSING);
	ck_assert_uint_eq(w.p.count, 1);
	store_is(CPM_OK, 0);
	log_clear();
	live(RETRY_MS);
	if(_i == 0)
		ck_log("T:a=ok +a/retrieve R ");
	log_clear();
	ck_over("bc");
}
END_TEST

START_TEST(lease_lost)
{
	session("abcd", "ra rb rc rd");
	removed_by_others(msg("b"));
	live(20000);
	log_clear();
	/* what the client says of it is of no use now; a is taken away while its
	 * acknowledgement is on its way */
	done(2);
	removed_by_others(msg("a"));
	done(1);
	ck_log("T:a=ok? ");
	done(3);
	done(4);
	ck_log("T:c=ok +c/retrieve T:d=ok +d/retrieve "
		   "Z#5:failed(lease-lost),failed(lease-lost),ok,ok ");
	hangup();
	ck_log("B R ");
	ck_over("");
}
END_TEST

START_TEST(lock_lost)
{
	/* this process stood still for longer than its leases: another delivery
	 * has the lock, and one of the messages */
	session("abc", "ra rb*");
	log_clear();
	w.now_ms += conf.lease_ms + 1;
	lock_take(LIT("t0"), 3000);
	rival_takes(msg("b"));
	tick();
	ck_log("X:a?,b?,c? A:busy ");
	done(1);
	live(10000);
	/* it comes again: that it was taken is not known */
	ck_assert(!msg("a")->gone);
	hangup();
	log_clear();
	ck_over("abc");
}
END_TEST

/* ---------------------------------------------------------- any life at all */

static void random_events(void)
{
	static const unsigned codes[] = {413, 415, 403, 500, 0};
	struct cpm_session_event es[CPM_PULL_WINDOW + 3];
	size_t n = 0;

	for(size_t i = 0; i < w.msg_count && n < CPM_PULL_WINDOW; i++) {
		if(w.msgs[i].handle == 0 || chance(40))
			continue;
		es[n].handle = w.msgs[i].handle;
		es[n].kind = chance(80) ? CPM_SESSION_DONE : CPM_SESSION_FAILED;
		es[n].code = codes[rnd_to(FU_N(codes))];
		n++;
	}
	if(w.results_handle != 0 && chance(60)) {
		es[n].handle = w.results_handle;
		es[n].kind = chance(80) ? CPM_SESSION_DONE : CPM_SESSION_FAILED;
		es[n++].code = 413;
	}
	if(chance(20))
		es[n++] = (struct cpm_session_event){CPM_SESSION_ROOM, 0, 0};
	if(!w.stays && chance(1))
		es[n++] = (struct cpm_session_event){
				chance(50) ? CPM_SESSION_DOWN : CPM_SESSION_HANGUP, 0, 0};
	tell(es, n);
}

static void random_step(void)
{
	char id[16];
	struct qmsg *m;

	switch(rnd_to(12)) {
		case 0:
			/* what comes now is in no list */
			if(w.msg_count < MSGS_MAX) {
				(void)snprintf(id, sizeof(id), "n%zu", w.msg_count);
				m = put(id);
				m->bytes = rnd_to(600);
				m->fits = chance(90);
			}
			break;
		case 1:
			w.fail_percent = chance(60) ? 0 : rnd_to(100);
			break;
		case 2:
			w.full = chance(40);
			if(chance(2))
				fail_next(PORT_SEND, CPM_ENOMEM, 0, 1);
			break;
		case 3:
			/* an operator, or its time has come */
			if(w.msg_count > 0 && chance(20))
				removed_by_others(&w.msgs[rnd_to((unsigned)w.msg_count)]);
			break;
		case 4:
			/* another delivery, where none is protected from it */
			if(w.now_ms >= w.lock_until_ms)
				for(size_t i = 0; i < w.msg_count; i++)
					if(!w.msgs[i].gone && !is_leased(&w.msgs[i]) && chance(30))
						rival_takes(&w.msgs[i]);
			break;
		case 5:
			if(chance(10))
				w.now_ms += rnd_to(100000); /* this process stood still */
			live(rnd_to(30000));
			break;
		case 6:
			if(w.p.state != CPM_PULL_FINISHED)
				acked();
			break;
		case 7:
			if(w.p.state != CPM_PULL_FINISHED)
				up();
			break;
		case 8:
			live(rnd_to(1000));
			break;
		default:
			random_events();
			break;
	}
}

static void random_list(void)
{
	size_t count = chance(20) ? 0 : rnd_to(40);
	char id[16];

	actions_new(count);
	w.actions.listed = count > 0 || chance(50);
	w.actions.has_default = chance(50);
	w.actions.dflt = chance(50) ? CPM_ACT_RETRIEVE : CPM_ACT_KEEP;
	for(size_t i = 0; i < count; i++) {
		/* each is listed once; some are not there */
		(void)snprintf(id, sizeof(id), "m%zu", (i * 7 + w.seed) % 41);
		action(i,
				chance(50)
						? CPM_ACT_RETRIEVE
						: (enum cpm_action_kind)(CPM_ACT_RETRIEVE + rnd_to(5)),
				id);
	}
}

/* Whatever happens: what is gone was acknowledged, or is gone as the list
 * says; and all else is there in the end, and nobody's. */
static void ck_world(void)
{
	for(size_t i = 0; i < w.msg_count; i++) {
		const struct qmsg *m = &w.msgs[i];
		bool listed = false;

		for(size_t k = 0; k < w.actions.count; k++)
			listed = listed
					 || (is(w.items[k].id, m->id)
							 && w.items[k].action != CPM_ACT_RETRIEVE
							 && w.items[k].action != CPM_ACT_KEEP
							 && (w.items[k].action == CPM_ACT_STORE)
										== (m->jobs == CPM_JOB_STORE)
							 && (w.items[k].action == CPM_ACT_INTERWORK)
										== (m->jobs == CPM_JOB_INTERWORK));
		must(!m->gone || m->acked || m->excused || listed);
		must(m->gone || !m->acked || m->excused);
		must(m->gone || !is_leased(m));
		must(m->gone || (m->state == 'H') == m->kept);
	}
}

START_TEST(random_life)
{
	unsigned done_all = 0;

	for(unsigned seed = 0; seed < 400; seed++) {
		world_new();
		w.seed = (unsigned)_i * 1000 + seed;
		w.random = w.seed;
		conf.window = 1 + rnd_to(chance(70) ? 5 : CPM_PULL_WINDOW);
		conf.window_bytes = 1 + rnd_to(3000);
		w.no_results = chance(20);
		for(unsigned n = rnd_to(45); n > 0 && w.msg_count < MSGS_MAX; n--) {
			char id[16];
			(void)snprintf(id, sizeof(id), "m%zu", w.msg_count);
			put(id)->fits = chance(95);
		}
		w.fail_percent = 0;
		random_list();
		w.lock[0] = '\0';
		ck_assert_int_eq(start(), CPM_OK);
		if(chance(80)) {
			acked();
			up();
		}
		for(unsigned step = rnd_to(200); step > 0; step--)
			random_step();
		/* and then all is well again: it comes to its end by itself, or by the
		 * client */
		w.fail_percent = 0;
		w.full = false;
		memset(w.inject, 0, sizeof(w.inject));
		if(w.p.state != CPM_PULL_FINISHED && chance(50)) {
			w.stays = true;
			acked();
			up();
			for(unsigned n = 0; n < 600 && w.p.state != CPM_PULL_FINISHED;
					n++) {
				random_events();
				live(500);
			}
			must(w.p.state == CPM_PULL_FINISHED);
			done_all++;
		} else if(chance(50)) {
			hangup();
		} else {
			cpm_pull_abandon(&w.p, &ports, &conf, w.now_ms);
			drive_end();
		}
		live(RETRY_MS);
		must(w.p.state == CPM_PULL_FINISHED);
		w.now_ms += conf.lease_ms + 5000;
		ck_world();
	}
	ck_assert_uint_gt(done_all, 20);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_pull");

	fu_case(s, "while another delivery goes on there is no session", busy);
	fu_table(s, "while the store does not answer there is none either",
			start_store_down, 3);
	fu_case(s, "names beyond their bounds are refused", too_long);
	fu_table(s, "nothing is done before both the ACK and the connection",
			both_are_needed, 2);
	fu_table(s, "who calls and does not come gets nothing", never_there, 3);
	fu_table(s, "a session that ends before it is there does nothing",
			ended_before, 3);
	fu_case(s, "a client that is slow to come keeps its turn", lock_kept);

	fu_case(s, "each action does what it says", five_actions);
	fu_case(s, "the order is that of the list", order_of_the_list);
	fu_case(s, "without a list all is fetched, oldest first", no_list);
	fu_case(s, "nothing to do is done", nothing_queued);
	fu_case(s, "default=retrieve fetches what is not listed", all_others);
	fu_case(s, "and leaves alone what is on its way", listed_and_on_its_way);

	{
		TCase *tc = tcase_create("however many are on their way at once");
		tcase_add_loop_test(tc, window, 1, CPM_PULL_WINDOW + 1);
		suite_add_tcase(s, tc);
	}
	fu_case(s, "no more are than there is memory for", window_beyond_bounds);
	fu_case(s, "a list longer than the window comes in parts", window_listed);
	fu_table(s, "large messages go one after the other", window_bytes, 2);
	fu_case(s, "a long list is worked on in portions", long_list);
	fu_table(s, "a session without room waits for it", no_room, 2);
	fu_case(s, "what does not fit now is asked for again", later);
	fu_case(s, "and so it is where nothing is on its way", later_and_not_taken);
	fu_case(s, "what is not there, or is elsewhere, is said", elsewhere);
	fu_table(s, "held stays held and dead stays dead", what_it_was, 2);

	fu_table(s, "a message of a type that is not taken stays",
			type_not_accepted, 2);
	fu_case(s, "a message that is refused stays, and it is said why", refusals);
	fu_case(s, "answers to what was not sent change nothing", forged);
	fu_table(s, "what was taken before the end is gone", in_one_go, 2);
	fu_table(s, "a session that takes nothing any more is ended", send_lost, 6);
	fu_case(s, "a client that takes no results gets none", results_not_taken);
	fu_table(s, "results wait for room", results_later, 2);
	fu_case(s, "results that cannot be sent undo nothing", results_lost);
	fu_table(s, "the session may end at any time", ended, 9);

	fu_table(s, "store down: what is not leased is asked for again", take_fails,
			2 * FAILURES);
	fu_case(s, "another delivery is waited for", take_busy);
	fu_table(s, "store down: no action is lost, or done twice", act_fails,
			4 * FAILURES);
	fu_case(s, "of one action nothing is concluded about the next",
			act_unsure_is_of_one);
	fu_case(s, "a store that does not answer is left alone", left_alone);
	fu_case(s, "what the store refuses is said to be not done", act_refused);
	fu_table(s, "store down: what the client took is told later", settle_fails,
			FAILURES);
	fu_table(s, "what was told in part is told again", settle_partly, 4);
	fu_table(s, "store down at the end: what was taken is remembered", closing,
			FAILURES);
	fu_table(s, "store down at the end, for a moment", closing_soon, FAILURES);
	fu_table(s, "a lock that cannot be given back runs out", release_fails,
			FAILURES);

	fu_case(s, "a client that is slow keeps its messages", extended);
	fu_table(s, "leases that could not be extended are, later", extend_fails,
			FAILURES);
	fu_case(s, "when the leases have run out, the session is over",
			leases_over);
	fu_case(s, "a lease that is lost is said to be", lease_lost);
	fu_case(s, "who lost the lock has lost its leases", lock_lost);

	fu_table(s, "nothing is lost, and nothing is done that was not asked for",
			random_life, 10);
	return fu_run(s);
}
