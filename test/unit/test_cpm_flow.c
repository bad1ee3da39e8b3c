/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_flow.c - the story of a queued message, in a world of paper: a
 * store in memory that keeps leases as core/lua does, clients that answer by
 * script, a clock that is a variable, and failures wherever one is wanted.
 *
 * What happened is told in a log, one word for each call of a port:
 *
 *     L:a1      a was leased, attempt 1         L:wait L:empty L:none L:busy
 *     N:a1      its lease was renewed           N:lost
 *     S:a>x     it was sent to client x         S:a>x! it could not be sent
 *     T:a=ok    settled: ok, retry,<ms>,<class>,<error>, dead,...
 *     R:5000    released, look again in 5 s     R:5000,a and a was not sent
 *     E:retry   what port event was told (but sent)
 *
 * and the port's name with the result when it failed (L:EDOWN).
 */

#include "cpm_flow.h"

#include <stdarg.h>
#include <stdio.h>

#include "check_helpers.h"

#define LIT CPM_PL_LIT
#define AOR LIT("sip:bob@example.org")
#define START_MS UINT64_C(1700000000000)
#define MSGS_MAX 64
#define CLIENTS_MAX 24
#define NEVER UINT64_MAX
#define FAR_MS UINT64_C(253402300799000) /* as in core/lua/common.lua */

/* An assertion of check writes to a pipe even when it holds; too slow for what
 * is asked a million times. */
#define must(cond)                     \
	do {                               \
		if(!(cond))                    \
			ck_abort_msg("%s", #cond); \
	} while(0)

/* ------------------------------------------------------------ the store */

struct fmsg
{
	char id[16];
	uint64_t expires_ms; /* 0: never */
	uint64_t received_ms;
	char state;
	unsigned attempts;
	uint64_t due_ms, deadline_ms;
	uint64_t leased_ms; /* the last attempt's beginning */
	char token[CPM_QUEUE_TOKEN_MAX + 1];
	char fail_class;
	char looked[CPM_QUEUE_TOKEN_MAX + 1]; /* whose delivery passes over it */
	bool gone;							  /* removed or expired */
	bool expired;						  /* the latter */
	bool lapsed;						  /* a lease of it ran out */
	unsigned taken;						  /* times that a client said 2xx */
};

struct client
{
	const char *uri;
	int q;
	bool takes;
	bool here;
	uint64_t modified_s;
	uint64_t delay_ms; /* of its answers */
	int fits;		   /* what client_takes says: 1, 0, or a negative code */
	/* what it answers, the last one for ever; 0: silence; -1: it cannot even
	 * be sent */
	int codes[8];
	size_t codes_at;
};

enum port
{
	PORT_REACH,
	PORT_LEASE,
	PORT_RENEW,
	PORT_SETTLE,
	PORT_RELEASE,
	PORT_SEND,
	PORT_COUNT_
};

/* The next calls of a port fail: times, after skip good ones. */
struct inject
{
	int rc;
	bool executed;
	unsigned skip, times;
};

static struct world
{
	uint64_t now_ms;
	struct fmsg msgs[MSGS_MAX];
	size_t msg_count;
	char lock[CPM_QUEUE_TOKEN_MAX + 1];
	uint64_t lock_until_ms;
	uint64_t wake_ms; /* NEVER: none */
	struct client clients[CLIENTS_MAX];
	size_t client_count;
	struct inject inject[PORT_COUNT_];
	unsigned fail_percent; /* of all calls, at random */
	uint64_t random;

	struct cpm_deliver d;
	bool active;
	unsigned token_seq;
	char token[32];

	/* what is out */
	bool in_flight;
	struct fmsg *flight;
	int flight_code;
	uint64_t flight_at_ms;

	unsigned calls; /* of ports, in this drive */
	unsigned calls_max;
	unsigned leases; /* of any message that cost an attempt, in this drive */
	bool again_before;
	unsigned events[CPM_DELIVER_DEFERRED + 1];
	char log[16384];
	size_t log_n;
} w;

static struct cpm_deliver_conf conf;

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(w.log + w.log_n, sizeof(w.log) - w.log_n, fmt, ap);
	va_end(ap);
	/* a long story is told by its end */
	w.log_n = n > 0 && w.log_n + (size_t)n < sizeof(w.log) - 256
					  ? w.log_n + (size_t)n
					  : 0;
}

/* Asserts what was told since the last time. */
#define ck_log(want)                   \
	do {                               \
		ck_assert_str_eq(w.log, want); \
		log_clear();                   \
	} while(0)

static void log_clear(void)
{
	w.log_n = 0;
	w.log[0] = '\0';
}

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

/* Whether this call is to fail, how, and whether it does its work first. */
static int injected(enum port p, bool *executed_r)
{
	static const int rcs[] = {CPM_EDOWN, CPM_EUNSURE, CPM_EUNSURE, CPM_EPROTO};
	struct inject *i = &w.inject[p];

	w.calls++;
	*executed_r = false;
	if(w.fail_percent > 0 && chance(w.fail_percent)) {
		unsigned which = rnd_to(4);
		/* EPROTO is both: refused, or done and its answer not understood */
		*executed_r = which == 2 || (which == 3 && chance(50));
		return rcs[which];
	}
	if(i->times == 0)
		return CPM_OK;
	if(i->skip > 0) {
		i->skip--;
		return CPM_OK;
	}
	i->times--;
	*executed_r = i->executed;
	return i->rc;
}

static void fail_next(enum port p, int rc, bool executed, unsigned times)
{
	w.inject[p] = (struct inject){rc, executed, 0, times};
}

static struct fmsg *msg_find(struct cpm_pl id)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(cpm_pl_eq(id, cpm_pl_str(w.msgs[i].id)))
			return &w.msgs[i];
	return NULL;
}

static bool queue_empty(void)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(!w.msgs[i].gone)
			return false;
	return true;
}

static void wake_at(uint64_t at_ms)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(!w.msgs[i].gone && w.msgs[i].expires_ms > w.now_ms
				&& w.msgs[i].expires_ms < at_ms)
			at_ms = w.msgs[i].expires_ms;
	w.wake_ms = at_ms;
}

static void lock_look(void)
{
	if(w.lock[0] != '\0' && w.now_ms > w.lock_until_ms)
		w.lock[0] = '\0';
}

/* A lease whose deadline passed returns by itself. */
static char state_of(const struct fmsg *m)
{
	return m->state == 'L' && m->deadline_ms <= w.now_ms ? 'Q' : m->state;
}

static void store_reap(void)
{
	for(size_t i = 0; i < w.msg_count; i++) {
		struct fmsg *m = &w.msgs[i];

		if(!m->gone && m->expires_ms != 0 && m->expires_ms <= w.now_ms
				&& state_of(m) != 'L')
			m->gone = m->expired = true;
	}
	if(queue_empty())
		w.wake_ms = NEVER;
}

static struct fmsg *store_put(const char *id)
{
	struct fmsg *m = &w.msgs[w.msg_count++];

	must(w.msg_count <= MSGS_MAX);
	memset(m, 0, sizeof(*m));
	(void)snprintf(m->id, sizeof(m->id), "%s", id);
	m->state = 'Q';
	m->received_ms = w.now_ms;
	if(w.wake_ms > w.now_ms + conf.retry_ms[0])
		w.wake_ms = w.now_ms + conf.retry_ms[0];
	return m;
}

static void lease_take(struct fmsg *m, struct cpm_pl token, uint64_t lease_ms)
{
	m->state = 'L';
	m->deadline_ms = w.now_ms + lease_ms;
	cpm_pl_cstr(token, m->token, sizeof(m->token));
	cpm_pl_cstr(token, w.lock, sizeof(w.lock));
	w.lock_until_ms = m->deadline_ms;
	w.wake_ms = w.now_ms + lease_ms + 1000;
}

static void lease_fill(struct cpm_lease *lease, const struct fmsg *m)
{
	memset(lease, 0, sizeof(*lease));
	lease->status = CPM_LEASE_OK;
	lease->attempt = m->attempts;
	lease->msg.id = cpm_pl_str(m->id);
	lease->msg.aor = AOR;
	lease->msg.received_ms = m->received_ms;
	lease->msg.expires_ms = m->expires_ms;
}

/* core/lua/lease.lua */
static void store_lease(struct cpm_pl token, uint64_t lease_ms,
		enum cpm_lease_force force, struct cpm_lease *lease)
{
	uint64_t wait_ms = 0;

	memset(lease, 0, sizeof(*lease));
	lease->status = CPM_LEASE_EMPTY;
	lock_look();
	if(queue_empty())
		return;
	if(w.lock[0] != '\0' && !cpm_pl_eq(token, cpm_pl_str(w.lock))) {
		lease->status = CPM_LEASE_BUSY;
		lease->wait_ms = w.lock_until_ms - w.now_ms;
		return;
	}
	store_reap();
	if(queue_empty())
		return;
	for(size_t i = 0; i < w.msg_count; i++) {
		struct fmsg *m = &w.msgs[i];
		bool ours = cpm_pl_eq(token, cpm_pl_str(m->token));

		if(m->gone)
			continue;
		if(!ours && state_of(m) == 'L') {
			lease->status = CPM_LEASE_WAIT;
			lease->wait_ms = m->deadline_ms - w.now_ms;
			return;
		}
		if(!ours && state_of(m) != 'Q')
			continue;
		bool looked = cpm_pl_eq(token, cpm_pl_str(m->looked));
		bool forced =
				force == CPM_LEASE_ALL
				|| (force == CPM_LEASE_UNREACHABLE && m->fail_class == 'u');

		if(!ours && (looked || (m->due_ms > w.now_ms && !forced))) {
			uint64_t more = m->due_ms > w.now_ms ? m->due_ms - w.now_ms : 1;

			if(wait_ms == 0 || more < wait_ms)
				wait_ms = more;
			if(m->fail_class != 'm' && m->fail_class != 'd')
				break;
			continue;
		}
		if(!ours) {
			m->lapsed = m->lapsed || m->state == 'L';
			m->attempts++;
			m->leased_ms = w.now_ms;
			w.leases++;
		}
		lease_take(m, token, lease_ms);
		lease_fill(lease, m);
		return;
	}
	lease->status = wait_ms > 0 ? CPM_LEASE_WAIT : CPM_LEASE_NONE;
	lease->wait_ms = wait_ms;
}

/* ------------------------------------------------------------- the ports */

static int port_reach(void *ctx, struct cpm_pl aor,
		struct cpm_contact *contacts, size_t *count_r)
{
	bool executed;
	int rc = injected(PORT_REACH, &executed);
	size_t n = 0;

	must(ctx == &w);
	ck_pl_same(aor, AOR);
	if(rc != CPM_OK)
		return rc;
	for(size_t i = 0; i < w.client_count && n < CPM_CONTACTS_MAX; i++) {
		const struct client *c = &w.clients[i];

		if(!c->here)
			continue;
		memset(&contacts[n], 0, sizeof(contacts[n]));
		contacts[n].uri = cpm_pl_str(c->uri);
		contacts[n].q = c->q;
		contacts[n].takes_message = c->takes;
		contacts[n].last_modified_s = c->modified_s;
		n++;
	}
	*count_r = n;
	return CPM_OK;
}

static int port_lease(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r)
{
	static const char *const words[] = {"", "empty", "none", "wait", "busy"};
	struct cpm_lease lease;
	bool executed;
	int rc = injected(PORT_LEASE, &executed);

	(void)ctx;
	ck_pl_same(aor, AOR);
	must(token.n > 0);
	must(lease_ms == conf.lease_ms);
	must(age_ms <= w.now_ms);
	if(rc == CPM_OK || executed)
		store_lease(token, lease_ms, force, &lease);
	if(rc != CPM_OK) {
		note("L:%s ", cpm_rc_name(rc));
		return rc;
	}
	if(lease.status == CPM_LEASE_OK)
		note("L:%.*s%u ", (int)lease.msg.id.n, lease.msg.id.p, lease.attempt);
	else
		note("L:%s ", words[lease.status]);
	*lease_r = lease;
	return CPM_OK;
}

static int port_renew(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r)
{
	struct fmsg *m = msg_find(id);
	bool executed, ok;
	int rc = injected(PORT_RENEW, &executed);

	(void)ctx;
	ck_pl_same(aor, AOR);
	lock_look();
	ok = m != NULL && !m->gone && cpm_pl_eq(token, cpm_pl_str(m->token))
		 && (w.lock[0] == '\0' || cpm_pl_eq(token, cpm_pl_str(w.lock)));
	if(ok && (rc == CPM_OK || executed))
		lease_take(m, token, lease_ms);
	if(rc != CPM_OK) {
		note("N:%s ", cpm_rc_name(rc));
		return rc;
	}
	if(!ok) {
		note("N:lost ");
		return CPM_ENOENT;
	}
	note("N:%s%u ", m->id, m->attempts);
	lease_fill(lease_r, m);
	return CPM_OK;
}

static bool settle_do(const struct cpm_settle *s)
{
	struct fmsg *m = msg_find(s->id);

	if(m == NULL || m->gone || !cpm_pl_eq(s->token, cpm_pl_str(m->token)))
		return false;
	m->token[0] = '\0';
	if(s->how == CPM_SETTLE_DELIVERED) {
		m->gone = true;
		if(queue_empty())
			w.wake_ms = NEVER;
		return true;
	}
	m->state = s->how == CPM_SETTLE_DEAD ? 'D' : 'Q';
	m->due_ms = s->how == CPM_SETTLE_DEAD	 ? 0
				: s->how == CPM_SETTLE_DEFER ? FAR_MS
											 : w.now_ms + s->retry_in_ms;
	if(s->how == CPM_SETTLE_DEFER) {
		m->attempts--;
		w.leases -= w.leases > 0;
	}
	m->fail_class = (char)s->fail_class;
	m->looked[0] = '\0';
	if(s->fail_class == CPM_FAIL_MESSAGE || s->fail_class == CPM_FAIL_DEFERRED)
		cpm_pl_cstr(s->token, m->looked, sizeof(m->looked));
	return true;
}

static int port_settle(void *ctx, const struct cpm_settle *s)
{
	bool executed, ok = false;
	int rc = injected(PORT_SETTLE, &executed);

	(void)ctx;
	ck_pl_same(s->aor, AOR);
	if(s->how != CPM_SETTLE_DELIVERED) {
		must(s->fail_class == CPM_FAIL_UNREACHABLE
				|| s->fail_class == CPM_FAIL_REFUSED
				|| s->fail_class == CPM_FAIL_MESSAGE
				|| s->fail_class == CPM_FAIL_DEFERRED);
		must(s->error.n > 0);
		must(s->error.n <= CPM_QUEUE_ERROR_MAX);
	}
	if(rc == CPM_OK || executed)
		ok = settle_do(s);
	if(rc != CPM_OK) {
		note("T:%s ", cpm_rc_name(rc));
		return rc;
	}
	note("T:%.*s=%s", (int)s->id.n, s->id.p,
			s->how == CPM_SETTLE_DELIVERED ? "ok"
			: s->how == CPM_SETTLE_RETRY   ? "retry"
			: s->how == CPM_SETTLE_DEFER   ? "defer"
										   : "dead");
	if(s->how == CPM_SETTLE_RETRY)
		note(",%llu", (unsigned long long)s->retry_in_ms);
	if(s->how != CPM_SETTLE_DELIVERED)
		note(",%c,%.*s", (char)s->fail_class, (int)s->error.n, s->error.p);
	note("%s ", ok ? "" : "?");
	return ok ? CPM_OK : CPM_ENOENT;
}

static int port_release(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	struct fmsg *m = unsent_id.n > 0 ? msg_find(unsent_id) : NULL;
	bool executed;
	int rc = injected(PORT_RELEASE, &executed);

	(void)ctx;
	ck_pl_same(aor, AOR);
	lock_look();
	if(rc == CPM_OK || executed) {
		if(m != NULL && !m->gone && cpm_pl_eq(token, cpm_pl_str(m->token))) {
			m->state = 'Q';
			m->token[0] = '\0';
			m->attempts--;
		}
		if(token.n > 0 && cpm_pl_eq(token, cpm_pl_str(w.lock)))
			w.lock[0] = '\0';
		store_reap();
		if(w.lock[0] != '\0')
			wake_in_ms = w.lock_until_ms - w.now_ms + 1000;
		if(!queue_empty())
			wake_at(w.now_ms + wake_in_ms);
	}
	if(rc != CPM_OK)
		note("R:%s ", cpm_rc_name(rc));
	else if(unsent_id.n > 0)
		note("R:%llu,%.*s ", (unsigned long long)wake_in_ms, (int)unsent_id.n,
				unsent_id.p);
	else
		note("R:%llu ", (unsigned long long)wake_in_ms);
	return rc;
}

static struct client *client_find(struct cpm_pl uri)
{
	for(size_t i = 0; i < w.client_count; i++)
		if(cpm_pl_eq(uri, cpm_pl_str(w.clients[i].uri)))
			return &w.clients[i];
	ck_abort_msg("sent to nobody");
	return NULL;
}

/* First in, first out: when this one was leased, what is older was done, dead,
 * or waited alone. */
static void ck_order(const struct fmsg *m)
{
	for(const struct fmsg *old = w.msgs; old < m; old++) {
		bool open = old->state == 'Q'
					|| (old->state == 'L' && old->deadline_ms <= m->leased_ms);

		if(!(old->gone || old->state == 'D'
				   || (open
						   && (old->fail_class == 'm' || old->fail_class == 'd')
						   && (old->due_ms > m->leased_ms
								   || strcmp(old->looked, m->token) == 0))))
			ck_abort_msg("%s is sent before %s: ... %s", m->id, old->id, w.log);
	}
}

static int port_takes(void *ctx, struct cpm_pl aor,
		const struct cpm_contact *contact, const struct cpm_msg *msg,
		enum cpm_mode mode)
{
	(void)ctx;
	ck_assert_int_eq(mode, CPM_MODE_MESSAGE);
	ck_pl_same(aor, AOR);
	must(msg_find(msg->id) != NULL);
	return client_find(contact->uri)->fits;
}

static int port_send(void *ctx, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt)
{
	struct fmsg *m = msg_find(msg->id);
	struct client *c = client_find(contact->uri);
	bool executed;
	int rc = injected(PORT_SEND, &executed), code;

	(void)ctx;
	must(m != NULL);
	must(!w.in_flight);
	must(c->here && c->takes && c->fits == 1);
	must(attempt == m->attempts);
	must(m->state == 'L');
	ck_order(m);
	code = c->codes[c->codes_at];
	if(c->codes[c->codes_at + 1] != 0)
		c->codes_at++;
	if(rc != CPM_OK || code < 0) {
		note("S:%s>%s! ", m->id, c->uri);
		return rc != CPM_OK ? rc : CPM_EDOWN;
	}
	note("S:%s>%s ", m->id, c->uri);
	w.in_flight = true;
	w.flight = m;
	w.flight_code = code;
	w.flight_at_ms = code == 0 ? NEVER : w.now_ms + c->delay_ms;
	return CPM_OK;
}

static void port_event(void *ctx, const struct cpm_deliver_info *info)
{
	static const char *const words[] = {
			"sent", "delivered", "retry", "dead", "lost", "deferred"};

	(void)ctx;
	ck_pl_same(info->aor, AOR);
	must(info->why != NULL);
	must(msg_find(info->id) != NULL);
	w.events[info->event]++;
	if(info->event != CPM_DELIVER_SENT)
		note("E:%s ", words[info->event]);
}

static const struct cpm_deliver_ports ports = {
		.ctx = &w,
		.reach_get = port_reach,
		.client_takes = port_takes,
		.queue_lease = port_lease,
		.queue_renew = port_renew,
		.queue_settle = port_settle,
		.queue_release = port_release,
		.send_message = port_send,
		.event = port_event,
};

/* ------------------------------------------------------------- the worker */

/* In one drive: all clients failing, twice, after as many messages that are
 * for none of them as one drive looks at. */
#define CALLS_MAX 250

static void drive_begin(void)
{
	w.calls = 0;
	w.leases = 0;
	w.again_before = w.d.again;
}

static void drive_end(void)
{
	must(w.calls <= CALLS_MAX);
	/* one attempt of one message, and one more where something spoke for it */
	must(w.leases <= (w.again_before ? 2u : 1u));
	if(w.calls > w.calls_max)
		w.calls_max = w.calls;
	w.active = w.d.state != CPM_DELIVER_FINISHED;
	/* whoever waits says until when */
	must(w.active == (w.d.at_ms != 0));
	must(w.in_flight == (w.d.state == CPM_DELIVER_WAITING));
}

static void start(enum cpm_lease_force force)
{
	must(!w.active);
	(void)snprintf(w.token, sizeof(w.token), "t%u", ++w.token_seq);
	memset(&w.d, 0, sizeof(w.d));
	drive_begin();
	cpm_deliver_start(&w.d, &ports, &conf, AOR, cpm_pl_str(w.token), force,
			w.now_ms, w.now_ms);
	drive_end();
}

static void trigger(enum cpm_lease_force force)
{
	if(w.active)
		cpm_deliver_again(&w.d, force, w.now_ms);
	else
		start(force);
}

static void answer(int code)
{
	if(code >= 200 && code < 300)
		w.flight->taken++;
	w.in_flight = false;
	drive_begin();
	cpm_deliver_answer(&w.d, &ports, &conf, (unsigned)code, w.now_ms);
	drive_end();
}

static void tick(void)
{
	if(w.d.state == CPM_DELIVER_WAITING && w.d.at_ms <= w.now_ms)
		w.in_flight = false;
	drive_begin();
	cpm_deliver_tick(&w.d, &ports, &conf, w.now_ms);
	drive_end();
}

/* When something happens next. */
static uint64_t next_ms(void)
{
	uint64_t at = NEVER;

	if(w.in_flight && w.flight_at_ms < at)
		at = w.flight_at_ms;
	if(w.active && w.d.at_ms < at)
		at = w.d.at_ms;
	if(w.wake_ms < at)
		at = w.wake_ms;
	return at;
}

/* Lives until a time: answers, ticks, and looks that the store has planned. */
static void live_until(uint64_t until_ms)
{
	unsigned steps = 0;

	while(next_ms() <= until_ms) {
		must(++steps < 200000);
		if(next_ms() > w.now_ms)
			w.now_ms = next_ms();
		if(w.in_flight && w.flight_at_ms <= w.now_ms)
			answer(w.flight_code);
		else if(w.active && w.d.at_ms <= w.now_ms)
			tick();
		else {
			w.wake_ms = w.now_ms + 30000; /* claimed */
			trigger(CPM_LEASE_WHEN_DUE);
		}
	}
	w.now_ms = until_ms;
}

static void live(uint64_t ms)
{
	live_until(w.now_ms + ms);
}

static void world_new(void)
{
	memset(&w, 0, sizeof(w));
	w.now_ms = START_MS;
	w.wake_ms = NEVER;
	memset(&conf, 0, sizeof(conf));
	conf.lease_ms = 60000;
	conf.retry_ms[0] = 5000;
	conf.retry_ms[1] = 30000;
	conf.retry_ms[2] = 120000;
	conf.retry_count = 3;
	conf.max_attempts = 5;
	conf.dedup_ms = 300000;
	conf.check_max_ms = 3600000;
}

static struct client *client(const char *uri, int code)
{
	struct client *c = &w.clients[w.client_count++];

	must(w.client_count <= CLIENTS_MAX);
	memset(c, 0, sizeof(*c));
	c->uri = uri;
	c->q = -1;
	c->takes = true;
	c->here = true;
	c->fits = 1;
	c->delay_ms = 100;
	c->codes[0] = code;
	return c;
}

/* --------------------------------------------------- deliver, as it should */

START_TEST(weekend)
{
	struct client *bob;

	world_new();
	bob = client("bob", 200);
	bob->here = false;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(UINT64_C(20) * 3600 * 1000);
	store_put("b");
	live(UINT64_C(44) * 3600 * 1000);
	store_put("c");
	ck_assert_uint_eq(w.events[CPM_DELIVER_SENT], 0);
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	/* nobody there: a look an hour, and one for each message, no more */
	live(1000);
	log_clear();
	bob->here = true;
	trigger(CPM_LEASE_ALL);
	live(1000);
	ck_log("L:a1 S:a>bob T:a=ok E:delivered L:b1 S:b>bob T:b=ok E:delivered "
		   "L:c1 S:c>bob T:c=ok E:delivered L:empty R:3600000 ");
	ck_assert(queue_empty());
	ck_assert_uint_eq(w.wake_ms, NEVER);
	ck_assert_str_eq(w.lock, "");
}
END_TEST

START_TEST(nobody_is_cheap)
{
	world_new();
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	ck_log("R:3600000 ");
	ck_assert_uint_eq(w.calls, 2);
	ck_assert_uint_eq(w.wake_ms, w.now_ms + conf.check_max_ms);
}
END_TEST

START_TEST(nothing_is_cheap)
{
	world_new();
	client("bob", 200);
	start(CPM_LEASE_ALL);
	ck_log("L:empty ");
	ck_assert(!w.active);
}
END_TEST

START_TEST(retry_times)
{
	uint64_t t;

	world_new();
	client("bob", 486)->delay_ms = 0;
	store_put("a");
	t = w.now_ms;
	start(CPM_LEASE_WHEN_DUE);
	live(0);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,r,486 E:retry R:5000 ");
	ck_assert_uint_eq(w.wake_ms, t + 5000);
	live(4999);
	ck_log("");
	live(1);
	ck_log("L:a2 S:a>bob N:a2 T:a=retry,30000,r,486 E:retry R:30000 ");
	live(29999);
	ck_log("");
	live(1);
	ck_log("L:a3 S:a>bob N:a3 T:a=retry,120000,r,486 E:retry R:120000 ");
	live(120000);
	/* the last interval repeats */
	ck_log("L:a4 S:a>bob N:a4 T:a=retry,120000,r,486 E:retry R:120000 ");
	live(120000);
	ck_log("L:a5 S:a>bob N:a5 T:a=dead,r,486 E:dead R:120000 ");
	ck_assert_int_eq(w.msgs[0].state, 'D');
	live(7 * 24 * UINT64_C(3600) * 1000);
	ck_assert_uint_eq(w.events[CPM_DELIVER_SENT], 5);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DEAD], 1);
}
END_TEST

START_TEST(behind_the_dead)
{
	world_new();
	conf.max_attempts = 1;
	client("bob", 415)->codes[1] = 200;
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:a=dead,m,415 E:dead L:b1 S:b>bob T:b=ok "
		   "E:delivered L:none R:3600000 ");
}
END_TEST

START_TEST(next_client)
{
	world_new();
	client("deaf", 0)->q = 1000;
	client("gone", 480)->q = 900;
	client("mute", -1)->q = 800;
	client("old", 200)->q = 700;
	client("blind", 200)->takes = false;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(60000);
	live(1000);
	ck_log("L:a1 S:a>deaf N:a1 S:a>gone N:a1 S:a>mute! S:a>old T:a=ok "
		   "E:delivered L:empty R:3600000 ");
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(only_blind_clients)
{
	world_new();
	client("blind", 200)->takes = false;
	store_put("a");
	start(CPM_LEASE_ALL);
	ck_log("R:3600000 ");
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
}
END_TEST

START_TEST(newcomer)
{
	struct client *late;

	world_new();
	client("gone", 408);
	late = client("late", 200);
	late->here = false;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	late->here = true;
	live(1000);
	ck_log("L:a1 S:a>gone N:a1 S:a>late T:a=ok E:delivered L:empty "
		   "R:3600000 ");
}
END_TEST

START_TEST(many_clients)
{
	static char uris[CLIENTS_MAX][16];

	world_new();
	for(unsigned i = 0; i < CLIENTS_MAX; i++) {
		(void)snprintf(uris[i], sizeof(uris[i]), "c%02u", i);
		client(uris[i], -1);
	}
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	ck_assert(!w.active);
	/* nobody twice, and the bound is kept */
	ck_assert_ptr_nonnull(strstr(w.log, "S:a>c15! T:a=retry,5000,u,not-sent "));
	ck_assert_ptr_null(strstr(w.log, "c16"));
	log_clear();
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(one_contact_many_names)
{
	world_new();
	client("bob", 408);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	/* the client refreshes meanwhile: the same contact is not tried twice */
	w.clients[0].modified_s = 99;
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,u,408 E:retry R:5000 ");
}
END_TEST

START_TEST(went_away)
{
	world_new();
	client("bob", 200);
	store_put("a");
	/* gone between the first look and the lease */
	w.inject[PORT_REACH] = (struct inject){CPM_EDOWN, false, 1, 1};
	start(CPM_LEASE_WHEN_DUE);
	ck_log("L:a1 R:3600000,a ");
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	ck_assert_str_eq(w.lock, "");
	ck_assert_int_eq(w.msgs[0].state, 'Q');
}
END_TEST

START_TEST(mixed_failures)
{
	static const struct
	{
		int first, second;
		const char *settled;
	} rows[] = {
			{486, 415, "m,415"},
			{415, 486, "m,415"},
			{408, 415, "m,415"},
			{486, 480, "u,480"},
			{480, 603, "u,480"},
			{603, 486, "r,603"},
			{-1, 486, "u,not-sent"},
	};
	char want[128];

	world_new();
	client("one", rows[_i].first);
	client("two", rows[_i].second);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	(void)snprintf(
			want, sizeof(want), "T:a=retry,5000,%s E:retry", rows[_i].settled);
	ck_assert_ptr_nonnull(strstr(w.log, want));
}
END_TEST

/* ----------------------------------------------- who waits, and who may pass */

START_TEST(refused_all_wait)
{
	world_new();
	client("bob", 486);
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,r,486 E:retry R:5000 ");
	/* he refreshes: he is no more willing than before */
	trigger(CPM_LEASE_UNREACHABLE);
	ck_log("L:wait R:4100 ");
	/* he comes back */
	trigger(CPM_LEASE_ALL);
	ck_log("L:a2 S:a>bob ");
}
END_TEST

START_TEST(unreachable_refresh)
{
	world_new();
	client("bob", 408)->codes[1] = 200;
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	live(200);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,u,408 E:retry R:5000 ");
	trigger(CPM_LEASE_WHEN_DUE);
	ck_log("L:wait R:4900 ");
	trigger(CPM_LEASE_UNREACHABLE);
	live(500);
	ck_log("L:a2 S:a>bob T:a=ok E:delivered L:b1 S:b>bob T:b=ok E:delivered "
		   "L:empty R:3600000 ");
}
END_TEST

START_TEST(message_passes)
{
	world_new();
	client("bob", 415)->codes[1] = 200;
	store_put("a");
	store_put("b");
	start(CPM_LEASE_ALL);
	live(500);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,m,415 E:retry L:b1 S:b>bob "
		   "T:b=ok E:delivered L:wait R:4900 ");
	live(4400);
	live(500);
	ck_log("L:a2 S:a>bob T:a=ok E:delivered L:empty R:3600000 ");
}
END_TEST

START_TEST(message_passes_then_unreachable)
{
	struct client *c;

	world_new();
	c = client("bob", 415);
	c->codes[1] = 408;
	c->codes[2] = 415;
	c->codes[3] = 200;
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	live(500);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,m,415 E:retry L:b1 S:b>bob N:b1 "
		   "T:b=retry,5000,u,408 E:retry R:5000 ");
	/* he comes back; a is refused again, and that is no reason for b, which
	 * could not reach him, to wait any longer */
	trigger(CPM_LEASE_ALL);
	live(500);
	ck_log("L:a2 S:a>bob N:a2 T:a=retry,30000,m,415 E:retry L:b2 S:b>bob "
		   "T:b=ok E:delivered L:wait R:29900 ");
}
END_TEST

START_TEST(all_refused_one_by_one)
{
	world_new();
	client("bob", 415);
	for(int i = 0; i < 8; i++) {
		char id[4] = {'m', (char)('0' + i), '\0'};
		store_put(id);
	}
	start(CPM_LEASE_ALL);
	live(2000);
	/* each once, whatever the trigger wanted to force */
	for(int i = 0; i < 8; i++)
		ck_assert_uint_eq(w.msgs[i].attempts, 1);
}
END_TEST

/* ------------------------------------------------------------- preferences */

START_TEST(deferred_waits)
{
	struct client *desk;

	world_new();
	client("phone", 200)->fits = 0;
	desk = client("desk", 200);
	desk->here = false;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	ck_log("L:a1 T:a=defer,d,not-sent E:deferred L:wait R:3600000 ");
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	/* neither time nor a refresh changes that, for days */
	trigger(CPM_LEASE_UNREACHABLE);
	live(UINT64_C(3) * 24 * 3600 * 1000);
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DEFERRED], 1);
	/* the client that it waits for */
	log_clear();
	desk->here = true;
	trigger(CPM_LEASE_ALL);
	live(1000);
	ck_log("L:a1 S:a>desk T:a=ok E:delivered L:empty R:3600000 ");
}
END_TEST

START_TEST(deferred_is_passed)
{
	world_new();
	client("phone", 200)->fits = 0;
	store_put("a");
	start(CPM_LEASE_ALL);
	log_clear();
	/* the user has changed his mind, for what comes from now on */
	w.clients[0].fits = 1;
	store_put("b");
	trigger(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:b1 S:b>phone T:b=ok E:delivered L:wait R:3600000 ");
}
END_TEST

START_TEST(unfit_client_passed_over)
{
	world_new();
	client("one", 200)->fits = 0;
	client("two", 480);
	client("three", 200);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>two N:a1 S:a>three T:a=ok E:delivered L:empty "
		   "R:3600000 ");
}
END_TEST

START_TEST(unfit_and_failed)
{
	/* one is not to have it and the other was not there: that was an attempt */
	world_new();
	client("one", 200)->fits = 0;
	client("two", 480);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>two N:a1 T:a=retry,5000,u,480 E:retry R:5000 ");
}
END_TEST

START_TEST(fit_unknown)
{
	world_new();
	client("bob", 200)->fits = CPM_EDOWN;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	ck_log("L:a1 R:5000,a ");
	ck_assert(!w.active);
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	ck_assert_str_eq(w.lock, "");
	w.clients[0].fits = 1;
	live(6000);
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

/* The database is gone between two clients: what the first was sent counts, or
 * it would be sent the same every five seconds for ever. */
START_TEST(fit_unknown_after_sending)
{
	world_new();
	client("one", 480);
	client("two", 200)->fits = CPM_EDOWN;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>one N:a1 T:a=retry,5000,u,480 E:retry R:5000 ");
	live(UINT64_C(24) * 3600 * 1000);
	ck_assert_uint_eq(w.events[CPM_DELIVER_SENT], conf.max_attempts);
	ck_assert_int_eq(w.msgs[0].state, 'D');
}
END_TEST

START_TEST(fit_unknown_and_again)
{
	world_new();
	client("bob", 200);
	store_put("a");
	fail_next(PORT_LEASE, CPM_EDOWN, false, 1);
	start(CPM_LEASE_WHEN_DUE);
	/* a registration while the store is away is not forgotten */
	w.clients[0].fits = CPM_EDOWN;
	trigger(CPM_LEASE_ALL);
	live(600);
	ck_log("L:EDOWN L:a1 R:5000,a L:a1 R:5000,a ");
}
END_TEST

START_TEST(many_deferred)
{
	world_new();
	client("phone", 200)->fits = 0;
	for(int i = 0; i < MSGS_MAX; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "m%d", i);
		store_put(id);
	}
	/* others wait for this worker: it comes up for air */
	start(CPM_LEASE_ALL);
	ck_assert(w.active);
	ck_assert_uint_lt(w.events[CPM_DELIVER_DEFERRED], MSGS_MAX);
	live(1000);
	ck_assert(!w.active);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DEFERRED], MSGS_MAX);
}
END_TEST

/* --------------------------------------------------------- store failures */

START_TEST(settle_store_down)
{
	world_new();
	client("bob", 200);
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SETTLE, CPM_EDOWN, false, 20);
	live(9000);
	ck_assert_uint_eq(w.events[CPM_DELIVER_SENT], 1);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 0);
	log_clear();
	live(2000);
	ck_log("T:EDOWN T:EDOWN T:a=ok E:delivered L:b1 S:b>bob T:b=ok E:delivered "
		   "L:empty R:3600000 ");
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

START_TEST(settle_unsure)
{
	bool executed = _i == 1;

	world_new();
	client("bob", 200);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SETTLE, CPM_EUNSURE, executed, 1);
	live(1000);
	ck_assert_str_eq(w.log,
			executed ? "L:a1 S:a>bob T:EUNSURE T:a=ok? E:delivered L:empty "
					   "R:3600000 "
					 : "L:a1 S:a>bob T:EUNSURE T:a=ok E:delivered L:empty "
					   "R:3600000 ");
	ck_assert_uint_eq(w.msgs[0].taken, 1);
	ck_assert_uint_eq(w.events[CPM_DELIVER_LOST], 0);
}
END_TEST

START_TEST(settle_unsure_of_failure)
{
	world_new();
	client("bob", 486);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SETTLE, CPM_EUNSURE, true, 1);
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:EUNSURE T:a=retry,5000,r,486? E:retry "
		   "R:5000 ");
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(lease_failed)
{
	static const struct
	{
		int rc;
		bool executed;
		const char *log;
	} rows[] = {
			{CPM_EDOWN, false, "L:EDOWN L:EDOWN L:a1 S:a>bob "},
			{CPM_EUNSURE, false, "L:EUNSURE L:EUNSURE L:a1 S:a>bob "},
			/* the same one again, and the attempt is still the first */
			{CPM_EUNSURE, true, "L:EUNSURE L:EUNSURE L:a1 S:a>bob "},
	};

	world_new();
	client("bob", 0);
	store_put("a");
	store_put("b");
	fail_next(PORT_LEASE, rows[_i].rc, rows[_i].executed, 2);
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log(rows[_i].log);
}
END_TEST

START_TEST(lease_unsure_then_gone)
{
	struct client *bob;

	world_new();
	bob = client("bob", 200);
	store_put("a");
	store_put("b");
	fail_next(PORT_LEASE, CPM_EUNSURE, true, 1);
	start(CPM_LEASE_WHEN_DUE);
	bob->here = false;
	live(600);
	ck_log("L:EUNSURE R:3600000 ");
	/* the lock is back, a is still leased to nobody: b must not pass it */
	bob->here = true;
	trigger(CPM_LEASE_ALL);
	live(61000);
	ck_log("L:wait R:59400 L:a2 S:a>bob T:a=ok E:delivered L:b1 S:b>bob T:b=ok "
		   "E:delivered L:empty R:3600000 ");
}
END_TEST

/* What the store refuses, it refuses the next time: not for ever twice a
 * second, and not for ever in one of the places of the active. */
START_TEST(lease_refused)
{
	world_new();
	client("bob", 200);
	store_put("a");
	fail_next(PORT_LEASE, CPM_EPROTO, _i == 1, 1000000);
	start(CPM_LEASE_WHEN_DUE);
	ck_log("L:EPROTO R:60000 ");
	ck_assert(!w.active);
	ck_assert_str_eq(w.lock, "");
	live(3600000);
	ck_assert_uint_lt(w.log_n, 62 * strlen("L:EPROTO R:60000 "));
	w.inject[PORT_LEASE].times = 0;
	live(3600000);
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

START_TEST(renew_refused)
{
	world_new();
	client("one", 408);
	client("two", 200);
	store_put("a");
	fail_next(PORT_RENEW, CPM_EPROTO, false, 1);
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>one N:EPROTO R:60000 ");
	ck_assert(!w.active);
	w.clients[0].here = false;
	live(120000);
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

START_TEST(settle_refused)
{
	world_new();
	client("bob", 200);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SETTLE, CPM_EPROTO, false, 3);
	live(170000);
	ck_assert_uint_eq(w.inject[PORT_SETTLE].times, 0);
	live(70000);
	/* it was refused for minutes, and the message is delivered once */
	ck_assert_uint_eq(w.msgs[0].taken, 1);
	ck_assert(w.msgs[0].gone);
}
END_TEST

START_TEST(renew_failed)
{
	world_new();
	client("one", 408);
	client("two", 200);
	store_put("a");
	fail_next(PORT_RENEW, _i == 0 ? CPM_EDOWN : CPM_EUNSURE, _i == 2, 3);
	start(CPM_LEASE_WHEN_DUE);
	live(3000);
	ck_assert_ptr_nonnull(
			strstr(w.log, " N:a1 S:a>two T:a=ok E:delivered L:empty "));
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(release_failed)
{
	world_new();
	client("bob", 486)->codes[1] = 200;
	store_put("a");
	fail_next(PORT_RELEASE, CPM_EDOWN, false, 1);
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,r,486 E:retry R:EDOWN ");
	ck_assert(!w.active);
	/* the lock runs out, and the look that the lease had planned comes */
	live(70000);
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

START_TEST(lease_lost_between_clients)
{
	world_new();
	client("one", 408);
	client("two", 200);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	/* another worker believed that this one was dead */
	(void)snprintf(w.msgs[0].token, sizeof(w.msgs[0].token), "other");
	(void)snprintf(w.lock, sizeof(w.lock), "other");
	live(1000);
	ck_log("L:a1 S:a>one N:lost E:lost L:busy R:60900 ");
	ck_assert(!w.active);
}
END_TEST

START_TEST(lease_lost_at_settle)
{
	world_new();
	client("bob", 200);
	store_put("a");
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	/* an operator has discarded it */
	w.msgs[0].gone = true;
	live(1000);
	ck_log("L:a1 S:a>bob T:a=ok? E:lost L:b1 S:b>bob T:b=ok E:delivered "
		   "L:empty R:3600000 ");
}
END_TEST

/* A store that takes every lease back at once: no drive without an end. */
START_TEST(lease_lost_always)
{
	world_new();
	client("bob", -1);
	for(int i = 0; i < MSGS_MAX; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "m%d", i);
		store_put(id);
	}
	fail_next(PORT_SETTLE, CPM_ENOENT, false, 1000000);
	start(CPM_LEASE_WHEN_DUE);
	ck_assert_uint_lt(w.calls, 20);
}
END_TEST

START_TEST(busy)
{
	world_new();
	client("bob", 200);
	store_put("a");
	(void)snprintf(w.lock, sizeof(w.lock), "other");
	w.lock_until_ms = w.now_ms + 10000;
	w.wake_ms = w.now_ms + 11000;
	start(CPM_LEASE_ALL);
	/* one round trip, and the other's plan for the next look stays */
	ck_log("L:busy ");
	ck_assert(!w.active);
	ck_assert_uint_eq(w.wake_ms, w.now_ms + 11000);
	live(12000);
	ck_assert_uint_eq(w.msgs[0].taken, 1);
}
END_TEST

START_TEST(no_answer)
{
	world_new();
	client("deaf", 0);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	live(59999);
	ck_log("L:a1 S:a>deaf ");
	live(1);
	ck_log("N:a1 T:a=retry,5000,u,408 E:retry R:5000 ");
}
END_TEST

START_TEST(answer_too_late)
{
	world_new();
	client("bob", 200);
	store_put("a");
	cpm_deliver_answer(&w.d, &ports, &conf, 200, w.now_ms);
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_IDLE);
	cpm_deliver_tick(&w.d, &ports, &conf, w.now_ms);
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_IDLE);
	start(CPM_LEASE_WHEN_DUE);
	live(1000);
	log_clear();
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_FINISHED);
	cpm_deliver_answer(&w.d, &ports, &conf, 486, w.now_ms);
	cpm_deliver_tick(&w.d, &ports, &conf, w.now_ms + 1000000);
	ck_log("");
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_FINISHED);
}
END_TEST

START_TEST(tick_too_early)
{
	world_new();
	client("bob", 0);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	cpm_deliver_tick(&w.d, &ports, &conf, w.d.at_ms - 1);
	ck_log("");
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_WAITING);
}
END_TEST

START_TEST(again)
{
	world_new();
	client("bob", 408)->codes[1] = 200;
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	/* he refreshes, and something is queued for him: the stronger wins */
	trigger(CPM_LEASE_UNREACHABLE);
	trigger(CPM_LEASE_WHEN_DUE);
	live(1000);
	ck_log("L:a1 S:a>bob N:a1 T:a=retry,5000,u,408 E:retry R:5000 L:a2 S:a>bob "
		   "T:a=ok E:delivered L:empty R:3600000 ");
}
END_TEST

START_TEST(again_is_once)
{
	world_new();
	client("bob", 486);
	store_put("a");
	start(CPM_LEASE_WHEN_DUE);
	for(int i = 0; i < 10; i++)
		trigger(CPM_LEASE_ALL);
	live(4000);
	ck_assert_uint_eq(w.msgs[0].attempts, 2);
	ck_assert(!w.active);
}
END_TEST

START_TEST(too_long_for_it)
{
	char long_aor[CPM_AOR_MAX + 1] = "",
								long_token[CPM_QUEUE_TOKEN_MAX + 1] = "";

	world_new();
	cpm_deliver_start(&w.d, &ports, &conf, cpm_pl(long_aor, sizeof(long_aor)),
			LIT("t"), CPM_LEASE_ALL, w.now_ms, w.now_ms);
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_FINISHED);
	cpm_deliver_start(&w.d, &ports, &conf, AOR,
			cpm_pl(long_token, sizeof(long_token)), CPM_LEASE_ALL, w.now_ms,
			w.now_ms);
	ck_assert_int_eq((int)w.d.state, CPM_DELIVER_FINISHED);
	ck_log("");
}
END_TEST

START_TEST(expires_in_flight)
{
	world_new();
	client("bob", 480);
	store_put("a")->expires_ms = w.now_ms + 50;
	store_put("b");
	start(CPM_LEASE_WHEN_DUE);
	live(4000);
	ck_assert(w.msgs[0].expired);
	ck_assert(!w.msgs[1].expired);
}
END_TEST

/* ------------------------------------------------------------ small tables */

START_TEST(classes)
{
	static const unsigned m[] = {
			400, 406, 413, 415, 416, 420, 421, 488, 493, 513, 606};
	static const unsigned u[] = {0, 100, 199, 300, 302, 399, 404, 408, 410, 430,
			480, 481, 500, 502, 503, 504, 604, 700, 999};
	static const unsigned r[] = {401, 403, 405, 407, 409, 414, 422, 482, 483,
			486, 487, 489, 491, 494, 501, 505, 580, 600, 603, 607, 699};

	for(size_t i = 0; i < FU_N(m); i++)
		ck_assert_int_eq((int)cpm_fail_classify(m[i]), 'm');
	for(size_t i = 0; i < FU_N(u); i++)
		ck_assert_int_eq((int)cpm_fail_classify(u[i]), 'u');
	for(size_t i = 0; i < FU_N(r); i++)
		ck_assert_int_eq((int)cpm_fail_classify(r[i]), 'r');
	for(unsigned code = 0; code < 70000; code++) {
		int c = (int)cpm_fail_classify(code);
		ck_assert(c == 'm' || c == 'u' || c == 'r');
	}
}
END_TEST

START_TEST(contact_order)
{
	/* name, q, takes, modified; in the order that is wanted */
	static const struct cpm_contact sorted[] = {
			{.uri = {"a", 1},
					.q = -1,
					.takes_message = true,
					.last_modified_s = 9},
			{.uri = {"b", 1},
					.q = 1000,
					.takes_message = true,
					.last_modified_s = 8},
			{.uri = {"c", 1},
					.q = 500,
					.takes_message = true,
					.last_modified_s = 99},
			{.uri = {"d", 1},
					.q = 500,
					.takes_message = true,
					.last_modified_s = 98},
			{.uri = {"e", 1}, .q = 0, .takes_message = true},
			{.uri = {"f", 1}, .q = -1, .last_modified_s = 100},
			{.uri = {"g", 1}, .q = 0, .last_modified_s = 100},
	};
	struct cpm_contact c[FU_N(sorted)];

	world_new();
	w.random = 42;
	for(int round = 0; round < 200; round++) {
		memcpy(c, sorted, sizeof(c));
		for(size_t i = FU_N(c) - 1; i > 0; i--) {
			size_t j = rnd_to((unsigned)i + 1);
			struct cpm_contact t = c[i];
			c[i] = c[j];
			c[j] = t;
		}
		cpm_contacts_order(c, FU_N(c));
		for(size_t i = 0; i < FU_N(c); i++)
			ck_pl_same(c[i].uri, sorted[i].uri);
	}
	cpm_contacts_order(c, 0);
	cpm_contacts_order(NULL, 0);
}
END_TEST

START_TEST(contact_order_stable)
{
	struct cpm_contact c[CPM_CONTACTS_MAX];
	static const char names[] = "abcdefghijklmnop";

	memset(c, 0, sizeof(c));
	for(size_t i = 0; i < FU_N(c); i++)
		c[i].uri = cpm_pl(names + i, 1);
	cpm_contacts_order(c, FU_N(c));
	for(size_t i = 0; i < FU_N(c); i++)
		ck_pl_same(c[i].uri, cpm_pl(names + i, 1));
}
END_TEST

/* ---------------------------------------------------------- any life at all */

static void ck_world(void)
{
	for(size_t i = 0; i < w.msg_count; i++) {
		const struct fmsg *m = &w.msgs[i];

		/* nothing is lost: gone means taken or expired */
		must(!m->gone || m->expired || m->taken > 0);
		/* nor delivered twice, unless its lease ran out */
		must(m->taken <= 1 || m->lapsed);
		must(m->state != 'D' || m->attempts >= conf.max_attempts);
	}
}

/* Another node that gets hold of the queue for a while. */
static void rival(void)
{
	struct cpm_lease lease;

	(void)snprintf(w.token, sizeof(w.token), "rival%u", ++w.token_seq);
	store_lease(cpm_pl_str(w.token), conf.lease_ms, CPM_LEASE_WHEN_DUE, &lease);
}

static void random_step(void)
{
	static const int codes[] = {200, 200, 200, 202, 408, 480, 486, 603, 415,
			413, 500, 503, 481, 0, -1};
	char id[16];

	switch(rnd_to(12)) {
		case 0:
			if(w.msg_count < MSGS_MAX) {
				(void)snprintf(id, sizeof(id), "m%zu", w.msg_count);
				struct fmsg *m = store_put(id);
				if(chance(30))
					m->expires_ms = w.now_ms + rnd_to(200000) + 1;
				trigger(CPM_LEASE_WHEN_DUE);
			}
			break;
		case 1:
			trigger((enum cpm_lease_force)rnd_to(3));
			break;
		case 2:
			w.clients[rnd_to((unsigned)w.client_count)].here = chance(60);
			break;
		case 3: {
			struct client *c = &w.clients[rnd_to((unsigned)w.client_count)];
			c->codes_at = 0;
			c->codes[0] = codes[rnd_to(FU_N(codes))];
			c->codes[1] = 0;
			c->fits = chance(70) ? 1 : chance(50) ? 0 : CPM_EDOWN;
			break;
		}
		case 4:
			w.fail_percent = chance(50) ? 0 : rnd_to(100);
			break;
		case 5:
			if(chance(10))
				rival();
			break;
		case 6:
			live(rnd_to(200000));
			break;
		case 7:
			/* the worker dies: nothing is told to anybody */
			if(chance(5)) {
				w.active = false;
				w.in_flight = false;
				w.d.state = CPM_DELIVER_FINISHED;
				w.d.at_ms = 0;
			}
			break;
		default:
			live(rnd_to(3000));
			break;
	}
	ck_world();
}

START_TEST(random_life)
{
	static char uris[4][16];

	for(unsigned seed = 0; seed < 40; seed++) {
		world_new();
		w.random = (uint64_t)_i * 1000 + seed;
		conf.max_attempts = 1 + rnd_to(12);
		conf.lease_ms = chance(20) ? 200 : 60000;
		for(unsigned i = 0; i < 1 + rnd_to(4); i++) {
			(void)snprintf(uris[i], sizeof(uris[i]), "c%u", i);
			client(uris[i], 200)->delay_ms = rnd_to(1000);
		}
		/* one delivery's answers overtake no lease but by intent */
		for(unsigned step = 0; step < 300; step++)
			random_step();
		/* and then all is well again: what is left goes out by itself */
		w.fail_percent = 0;
		for(size_t i = 0; i < w.client_count; i++) {
			w.clients[i].here = true;
			w.clients[i].codes_at = 0;
			w.clients[i].codes[0] = 200;
			w.clients[i].codes[1] = 0;
			w.clients[i].delay_ms = 10;
			w.clients[i].fits = 1;
		}
		live(UINT64_C(3) * 3600 * 1000);
		trigger(CPM_LEASE_ALL); /* what is deferred waits for this */
		live(60000);
		ck_world();
		ck_assert(!w.active);
		ck_assert_str_eq(w.lock, "");
		for(size_t i = 0; i < w.msg_count; i++)
			ck_assert_msg(w.msgs[i].gone || w.msgs[i].state == 'D',
					"seed %d.%u: %s was forgotten: ... %s", _i, seed,
					w.msgs[i].id, w.log);
	}
}
END_TEST

/* ------------------------------------------------------------------ accept */

static struct putter
{
	int rc[2];
	struct cpm_put_result res[2];
	unsigned calls;
	struct cpm_put put; /* the last; its slices are copies below */
	char aor[CPM_AOR_MAX], id[CPM_MSG_ID_MAX], first_id[CPM_MSG_ID_MAX];
	size_t first_id_n;
	char blob[2 * 1024 * 1024];
	struct cpm_msg msg;
} pt;

static int port_put(
		void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r)
{
	unsigned i = pt.calls < 2 ? pt.calls : 1;

	ck_assert_ptr_eq(ctx, &pt);
	ck_assert_uint_le(put->aor.n, sizeof(pt.aor));
	ck_assert_uint_le(put->id.n, sizeof(pt.id));
	ck_assert_uint_le(put->blob.n, sizeof(pt.blob));
	pt.put = *put;
	memcpy(pt.aor, put->aor.p, put->aor.n);
	memcpy(pt.id, put->id.p, put->id.n);
	memcpy(pt.blob, put->blob.p, put->blob.n);
	pt.put.aor.p = pt.aor;
	pt.put.id.p = pt.id;
	pt.put.blob.p = pt.blob;
	if(pt.calls == 0) {
		memcpy(pt.first_id, pt.id, put->id.n);
		pt.first_id_n = put->id.n;
	}
	pt.calls++;
	ck_assert_int_eq(cpm_msg_decode(pt.put.blob, &pt.msg, NULL), CPM_OK);
	/* what the store is told and what it is given are one */
	ck_pl_same(pt.msg.id, pt.put.id);
	ck_pl_same(pt.msg.aor, pt.put.aor);
	ck_assert_uint_eq(pt.msg.expires_ms, pt.put.expires_ms);
	if(pt.rc[i] == CPM_OK)
		*r_r = pt.res[i];
	return pt.rc[i];
}

static struct cpm_accept_conf ac;
static struct cpm_accept_in in;
static struct cpm_outcome out;

static void accept_new(void)
{
	static const struct cpm_pl domains[] = {
			{"example.org", 11}, {"example.net", 11}};

	memset(&pt, 0, sizeof(pt) - sizeof(pt.blob) - sizeof(pt.msg));
	memset(&ac, 0, sizeof(ac));
	ac.message_max_bytes = 65536;
	ac.queue_max_messages = 1000;
	ac.queue_max_bytes = 10485760;
	ac.default_expires_s = 604800;
	ac.max_expires_s = 2592000;
	ac.check_in_ms = 5000;
	ac.queued_code = 202;
	ac.call_id_host = LIT("example.org");
	ac.domains = domains;
	ac.domain_count = 2;
	memset(&in, 0, sizeof(in));
	in.request_uri = LIT("sip:bob@Example.ORG:5060;transport=tcp");
	in.from = LIT("\"Alice\" <sip:alice@example.org>");
	in.to = LIT("<sip:bob@example.org>");
	in.from_tag = LIT("tag");
	in.call_id = LIT("call@host");
	in.cseq = LIT("1");
	in.content_type = LIT("text/plain");
	in.headers = LIT("Content-Type: text/plain\r\n");
	in.body = LIT("hello");
	pt.res[0].messages = 3;
	pt.res[0].bytes = 333;
}

static void ck_outcome_whole(void)
{
	ck_assert(out.rc == 1 || out.rc == 2 || out.rc == -1 || out.rc == -2);
	ck_assert_uint_ge(out.code, 200);
	ck_assert_uint_lt(out.code, 700);
	ck_assert_ptr_nonnull(out.reason);
	ck_assert_ptr_nonnull(out.why);
	ck_assert_uint_gt(strlen(out.reason), 0);
	ck_assert_uint_gt(strlen(out.why), 0);
	ck_assert_uint_le(out.aor_len, sizeof(out.aor));
	ck_assert_uint_le(out.id_len, sizeof(out.id));
	ck_assert_int_eq(out.code == 503, out.rc == -2);
	ck_assert_int_eq(out.retry_after_s > 0, out.rc == -2);
	ck_assert_int_eq(out.code<300, out.rc> 0);
}

/* The scratch ends at an unmapped page: what it says it needs is enough. */
static int accept(void)
{
	struct cpm_accept_ports p = {&pt, port_put};
	size_t cap = cpm_accept_scratch(&in);
	char *zero = calloc(1, cap);
	char *scratch;
	int rc;

	ck_assert_ptr_nonnull(zero);
	scratch = guard_dup(zero, cap);
	free(zero);
	memset(&out, 0x5a, sizeof(out));
	pt.calls = 0;
	rc = cpm_flow_accept(&p, &ac, &in, START_MS, scratch, cap, &out);
	guard_free(scratch, cap);
	ck_assert_int_eq(rc, out.rc);
	ck_outcome_whole();
	return rc;
}

static struct cpm_pl out_id(void)
{
	return cpm_pl(out.id, out.id_len);
}

START_TEST(accepted)
{
	accept_new();
	in.subject = LIT("greeting");
	in.conversation_id = LIT("conv");
	in.contribution_id = LIT("contrib");
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(out.code, 202);
	ck_assert_str_eq(out.reason, "Accepted");
	ck_assert_str_eq(out.why, "queued");
	ck_assert_uint_eq(out.messages, 3);
	ck_assert_uint_eq(out.bytes, 333);
	ck_pl_eq(cpm_pl(out.aor, out.aor_len), "sip:bob@example.org");
	ck_assert_uint_eq(pt.calls, 1);
	ck_assert_uint_eq(pt.put.max_messages, 1000);
	ck_assert_uint_eq(pt.put.max_bytes, 10485760);
	ck_assert_uint_eq(pt.put.check_in_ms, 5000);
	ck_pl_same(pt.msg.from, in.from);
	ck_pl_same(pt.msg.to, in.to);
	ck_pl_same(pt.msg.headers, in.headers);
	ck_pl_same(pt.msg.body, in.body);
	ck_pl_same(pt.msg.subject, in.subject);
	ck_pl_same(pt.msg.content_type, in.content_type);
	ck_pl_same(pt.msg.conversation_id, in.conversation_id);
	ck_pl_same(pt.msg.contribution_id, in.contribution_id);
	ck_assert_uint_eq(pt.msg.received_ms, START_MS);
	ck_assert_uint_eq(pt.msg.flags, 0);
}
END_TEST

START_TEST(accepted_200)
{
	accept_new();
	ac.queued_code = 200;
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(out.code, 200);
	ck_assert_str_eq(out.reason, "OK");
}
END_TEST

START_TEST(store_says)
{
	static const struct
	{
		enum cpm_put_status status;
		int rc;
		unsigned code;
		const char *why;
	} rows[] = {
			{CPM_PUT_QUEUED, 1, 202, "queued"},
			{CPM_PUT_DUPLICATE, 2, 202, "duplicate"},
			{CPM_PUT_GONE, 2, 202, "delivered-already"},
			{CPM_PUT_CONFLICT, -2, 503, "id-conflict"},
			{CPM_PUT_FULL_MESSAGES, -1, 480, "quota-messages"},
			{CPM_PUT_FULL_BYTES, -1, 480, "quota-bytes"},
			{CPM_PUT_FULL_SENDER, -1, 480, "quota-sender"},
	};

	accept_new();
	pt.res[0].status = rows[_i].status;
	pt.res[1].status = rows[_i].status;
	ck_assert_int_eq(accept(), rows[_i].rc);
	ck_assert_uint_eq(out.code, rows[_i].code);
	ck_assert_str_eq(out.why, rows[_i].why);
	ck_assert_uint_gt(out.id_len, 0);
}
END_TEST

START_TEST(store_fails)
{
	static const struct
	{
		int rc;
		const char *why;
	} rows[] = {{CPM_EDOWN, "store-down"}, {CPM_EUNSURE, "store-unsure"},
			{CPM_EPROTO, "store-error"}, {CPM_ENOMEM, "store-error"}};

	accept_new();
	pt.rc[0] = rows[_i].rc;
	ck_assert_int_eq(accept(), -2);
	ck_assert_str_eq(out.why, rows[_i].why);
	ck_assert_uint_eq(pt.calls, 1);
	/* and between the conflict and the second try */
	accept_new();
	pt.res[0].status = CPM_PUT_CONFLICT;
	pt.rc[1] = rows[_i].rc;
	ck_assert_int_eq(accept(), -2);
	ck_assert_str_eq(out.why, rows[_i].why);
	ck_assert_uint_eq(pt.calls, 2);
}
END_TEST

static struct cpm_pl big(size_t n)
{
	static char bytes[2 * 1024 * 1024];

	ck_assert_uint_le(n, sizeof(bytes));
	memset(bytes, 'x', n);
	return cpm_pl(bytes, n);
}

START_TEST(put_aside)
{
	accept_new();
	in.aside = LIT("Referred-By: <sip:carol@example.org>\r\n");
	ck_assert_int_eq(accept(), 1);
	ck_pl_same(pt.msg.aside, in.aside);
	ck_assert(!(pt.msg.flags & CPM_MSG_F_REFERRED));
	in.trusted_peer = true;
	ck_assert_int_eq(accept(), 1);
	ck_assert(pt.msg.flags & CPM_MSG_F_REFERRED);
	in.aside = big(CPM_MSG_HEADERS_MAX);
	ck_assert_int_eq(accept(), 1);
	in.aside = big(CPM_MSG_HEADERS_MAX + 1);
	ck_assert_int_eq(accept(), -1);
	ck_assert_str_eq(out.why, "headers-too-large");
}
END_TEST

static void no_body(void)
{
	in.body = CPM_PL_NULL;
}
static void no_type(void)
{
	in.content_type = CPM_PL_NULL;
}
static void large(void)
{
	in.body = big(65537);
}
static void headers_large(void)
{
	in.headers = big(CPM_MSG_HEADERS_MAX + 1);
}
static void subject_large(void)
{
	in.subject = big(CPM_MSG_HEADERS_MAX + 1);
}
static void from_large(void)
{
	in.from = big(CPM_MSG_HEADERS_MAX + 1);
}
static void no_aor(void)
{
	in.request_uri = LIT("http://example.org/");
}
static void no_uri(void)
{
	in.request_uri = CPM_PL_NULL;
}
static void no_user(void)
{
	in.request_uri = LIT("sip:example.org");
}
static void long_uri(void)
{
	in.request_uri = big(5000);
}
static void not_home(void)
{
	in.request_uri = LIT("sip:bob@example.com");
}
static void sub_domain(void)
{
	in.request_uri = LIT("sip:bob@sip.example.org");
}
static void bad_cpim(void)
{
	in.content_type = LIT("Message/CPIM ; charset=utf-8");
	in.body = LIT("no header at all");
}
static void bad_expires(void)
{
	in.expires = LIT("soon");
}
static void negative_expires(void)
{
	in.expires = LIT("-1");
}
static void decimal_expires(void)
{
	in.expires = LIT("3.5");
}
static void expires_0(void)
{
	in.expires = LIT("0");
}
static void expires_00(void)
{
	in.expires = LIT(" 0000 ");
}
static void expired_by_date(void)
{
	in.expires = LIT("60");
	in.date = LIT("Tue, 14 Nov 2023 22:12:20 GMT"); /* exactly a minute ago */
}

START_TEST(refused)
{
	static const struct
	{
		void (*spoil)(void);
		unsigned code;
		const char *why;
	} rows[] = {
			{no_body, 400, "empty-body"},
			{no_type, 400, "no-content-type"},
			{large, 413, "too-large"},
			{headers_large, 413, "headers-too-large"},
			{subject_large, 413, "headers-too-large"},
			{from_large, 413, "headers-too-large"},
			{no_aor, 400, "not-an-aor"},
			{no_uri, 400, "not-an-aor"},
			{no_user, 400, "not-an-aor"},
			{long_uri, 400, "not-an-aor"},
			{not_home, 404, "not-home"},
			{sub_domain, 404, "not-home"},
			{bad_cpim, 400, "malformed-cpim"},
			{bad_expires, 400, "bad-expires"},
			{negative_expires, 400, "bad-expires"},
			{decimal_expires, 400, "bad-expires"},
			{expires_0, 480, "expired"},
			{expires_00, 480, "expired"},
			{expired_by_date, 480, "expired"},
	};

	ck_assert_int_lt(_i, (int)FU_N(rows));
	accept_new();
	rows[_i].spoil();
	ck_assert_int_eq(accept(), -1);
	ck_assert_uint_eq(out.code, rows[_i].code);
	ck_assert_str_eq(out.why, rows[_i].why);
	ck_assert_uint_eq(pt.calls, 0);
}
END_TEST
#define REFUSED_ROWS 19

START_TEST(homes)
{
	static const char *const good[] = {"sip:bob@example.net",
			"sips:bob@EXAMPLE.org.", "tel:+1555", "im:bob@example.org",
			"pres:bob@example.net"};

	accept_new();
	for(size_t i = 0; i < FU_N(good); i++) {
		in.request_uri = cpm_pl_str(good[i]);
		ck_assert_int_eq(accept(), 1);
	}
	ac.domain_count = 0;
	in.request_uri = LIT("sip:bob@anywhere.example");
	ck_assert_int_eq(accept(), 1);
}
END_TEST

START_TEST(largest)
{
	accept_new();
	in.body = big(65536);
	ck_assert_int_eq(accept(), 1);
	ac.message_max_bytes = CPM_MSG_BODY_MAX;
	in.body = big(CPM_MSG_BODY_MAX);
	in.headers = big(CPM_MSG_HEADERS_MAX);
	ck_assert_int_eq(accept(), 1);
}
END_TEST

START_TEST(expiry)
{
	static const struct
	{
		const char *expires, *date;
		uint64_t from_now_s;
		unsigned flags;
	} rows[] = {
			/* START_MS is Tue, 14 Nov 2023 22:13:20 GMT */
			{"", "", 604800, 0},
			{"", "Tue, 14 Nov 2023 22:13:20 GMT", 604800, CPM_MSG_F_DATE},
			{"3600", "", 3600, CPM_MSG_F_EXPIRES},
			{" 3600 ", "", 3600, CPM_MSG_F_EXPIRES},
			{"1", "", 1, CPM_MSG_F_EXPIRES},
			{"60", "Tue, 14 Nov 2023 22:13:10 GMT", 50,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			{"60", "Tue, 14 Nov 2023 22:12:21 GMT", 1,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			/* a clock that is ahead gives no longer life */
			{"60", "Tue, 14 Nov 2023 22:23:20 GMT", 60,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			{"60", "Fri, 31 Dec 9999 23:59:59 GMT", 60,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			/* nor does one that was never set take it away */
			{"60", "Thu, 01 Jan 1970 00:00:00 GMT", 60,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			{"60", "yesterday", 60, CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
			{"2592000", "", 2592000, CPM_MSG_F_EXPIRES},
			{"2592001", "", 2592000, CPM_MSG_F_EXPIRES},
			{"4294967295", "", 2592000, CPM_MSG_F_EXPIRES},
			{"4294967296", "", 2592000, CPM_MSG_F_EXPIRES},
			{"99999999999999999999999999", "", 2592000, CPM_MSG_F_EXPIRES},
			{"4294967295", "Tue, 14 Nov 2023 22:13:10 GMT", 2592000,
					CPM_MSG_F_EXPIRES | CPM_MSG_F_DATE},
	};

	ck_assert_int_lt(_i, (int)FU_N(rows));
	accept_new();
	in.expires = cpm_pl_str(rows[_i].expires);
	in.date = cpm_pl_str(rows[_i].date);
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(pt.put.expires_ms, START_MS + rows[_i].from_now_s * 1000);
	ck_assert_uint_eq(pt.msg.flags, rows[_i].flags);
}
END_TEST
#define EXPIRY_ROWS 17

#define CPIM_OF(id)                                                         \
	"From: <sip:a@example.org>\r\nTo: <sip:b@example.org>\r\n"              \
	"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: " id               \
	"\r\nimdn.Disposition-Notification: positive-delivery, display\r\n\r\n" \
	"Content-Type: text/plain\r\n\r\nhi"

START_TEST(cpim_id)
{
	accept_new();
	in.content_type = LIT("message/cpim");
	in.body = LIT(CPIM_OF("Abc-1"));
	ck_assert_int_eq(accept(), 1);
	ck_pl_eq(out_id(), "Abc-1");
	ck_pl_eq(pt.msg.id, "Abc-1");
	ck_assert_uint_eq(pt.msg.dispo, 1 | 8);
	ck_assert_uint_eq(pt.msg.flags & CPM_MSG_F_IMDN, 0);
	ck_pl_same(pt.msg.body, in.body);
}
END_TEST

static char long_id_cpim[1024];

START_TEST(cpim_id_unusable)
{
	static const char *const ids[] = {"", "a b", "\xc3\xbc", "a\tb", NULL};
	char id[160];

	accept_new();
	in.content_type = LIT("message/cpim");
	memset(id, 'i', sizeof(id));
	id[CPM_MSG_ID_MAX + 1] = '\0';
	(void)snprintf(long_id_cpim, sizeof(long_id_cpim), CPIM_OF("%s"),
			ids[_i] != NULL ? ids[_i] : id);
	in.body = cpm_pl_str(long_id_cpim);
	ck_assert_int_eq(accept(), 1);
	ck_assert(cpm_pl_starts(out_id(), LIT("cpm-")));
	ck_assert_uint_eq(out.id_len, 36);
	ck_assert(cpm_msg_id_ok(out_id()));
}
END_TEST

START_TEST(cpim_encoded)
{
	accept_new();
	in.content_type = LIT("message/cpim");
	in.content_encoding = LIT("gzip");
	in.body = LIT("\x1f\x8b what do I know");
	ck_assert_int_eq(accept(), 1);
	ck_assert(cpm_pl_starts(out_id(), LIT("cpm-")));
}
END_TEST

START_TEST(imdn)
{
	accept_new();
	in.content_type = _i == 0 ? LIT("message/cpim") : LIT("message/imdn+xml");
	in.body = LIT("NS: imdn <urn:ietf:params:imdn>\r\n\r\n"
				  "Content-Type: message/imdn+xml\r\n\r\n<imdn/>");
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(pt.msg.flags, CPM_MSG_F_IMDN);
}
END_TEST

START_TEST(imdn_by_disposition)
{
	accept_new();
	in.content_type = LIT("message/cpim");
	in.body = LIT("NS: imdn <urn:ietf:params:imdn>\r\n\r\n"
				  "Content-Type: application/x\r\n"
				  "Content-Disposition: notification\r\n\r\nx");
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(pt.msg.flags, CPM_MSG_F_IMDN);
}
END_TEST

/* on: the parameter; id taken by another message; asked for; job */
static const struct
{
	bool on;
	bool conflict;
	const char *ask;
	unsigned jobs;
} tells[] = {
		{true, false, "display, processing", CPM_JOB_STORED},
		{true, true, "processing", CPM_JOB_STORED},
		{true, false, "negative-delivery", 0},
		{false, false, "processing", 0},
};

START_TEST(stored_is_told)
{
	char body[512];

	accept_new();
	ac.imdn = tells[_i].on;
	in.originator = LIT("sip:alice@example.org");
	in.content_type = LIT("message/cpim");
	(void)snprintf(body, sizeof(body),
			"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 1\r\n"
			"imdn.Disposition-Notification: %s\r\n\r\n"
			"Content-Type: text/plain\r\n\r\nx",
			tells[_i].ask);
	in.body = cpm_pl_str(body);
	if(tells[_i].conflict) {
		pt.res[0].status = CPM_PUT_CONFLICT;
	}
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(pt.calls, tells[_i].conflict ? 2 : 1);
	ck_assert_uint_eq(pt.put.jobs, tells[_i].jobs);
}
END_TEST

static struct cpm_pl derived(
		const char *call_id, const char *cseq, const char *from_tag)
{
	static char ids[8][CPM_MSG_ID_MAX];
	static unsigned at;
	char *id = ids[at++ % 8];

	accept_new();
	in.call_id = cpm_pl_str(call_id);
	in.cseq = cpm_pl_str(cseq);
	in.from_tag = cpm_pl_str(from_tag);
	ck_assert_int_eq(accept(), 1);
	memcpy(id, out.id, out.id_len);
	return cpm_pl(id, out.id_len);
}

START_TEST(id_derived)
{
	struct cpm_pl id = derived("c", "1", "t");

	ck_pl_same(id, derived("c", "1", "t"));
	ck_assert(!cpm_pl_eq(id, derived("d", "1", "t")));
	ck_assert(!cpm_pl_eq(id, derived("c", "2", "t")));
	ck_assert(!cpm_pl_eq(id, derived("c", "1", "u")));
	/* where one field ends and the next begins makes a difference */
	ck_assert(!cpm_pl_eq(derived("c", "12", "3"), derived("c", "1", "23")));
	ck_assert(!cpm_pl_eq(derived("c1", "2", "3"), derived("c", "12", "3")));
	ck_assert(cpm_msg_id_ok(derived("", "", "")));
}
END_TEST

START_TEST(id_conflict)
{
	char id[CPM_MSG_ID_MAX + 1];
	struct cpm_pl first;
	size_t n = (size_t)_i + 1;
	char tail[32];

	/* for every length of the id that is taken */
	accept_new();
	memset(id, 'i', n);
	id[n] = '\0';
	(void)snprintf(long_id_cpim, sizeof(long_id_cpim), CPIM_OF("%s"), id);
	in.content_type = LIT("message/cpim");
	in.body = cpm_pl_str(long_id_cpim);
	pt.res[0].status = CPM_PUT_CONFLICT;
	pt.res[1] = (struct cpm_put_result){CPM_PUT_QUEUED, 7, 77, 0};
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_eq(pt.calls, 2);
	first = cpm_pl(pt.first_id, pt.first_id_n);
	ck_pl_eq(first, id);
	ck_assert(!cpm_pl_eq(first, out_id()));
	ck_assert(cpm_msg_id_ok(out_id()));
	(void)snprintf(tail, sizeof(tail), "~%016llx",
			(unsigned long long)pt.msg.fingerprint);
	ck_assert_uint_ge(out.id_len, 17);
	ck_pl_eq(cpm_pl_from(out_id(), out.id_len - 17), tail);
	ck_assert(cpm_pl_starts(first, cpm_pl(out.id, out.id_len - 17)));
	ck_assert_uint_eq(out.messages, 7);
	/* its retransmission comes to the same */
	memcpy(id, out.id, out.id_len);
	first = cpm_pl(id, out.id_len);
	pt.res[1].status = CPM_PUT_DUPLICATE;
	ck_assert_int_eq(accept(), 2);
	ck_pl_same(out_id(), first);
}
END_TEST

START_TEST(call_ids)
{
	char buf[512];
	struct cpm_pl first;

	accept_new();
	ck_assert_int_eq(accept(), 1);
	memcpy(buf, pt.msg.call_id.p, pt.msg.call_id.n);
	first = cpm_pl(buf, pt.msg.call_id.n);
	ck_assert(cpm_pl_eq(cpm_pl_from(first, first.n - 12), LIT("@example.org")));
	ck_assert_int_eq(accept(), 1);
	ck_pl_same(pt.msg.call_id, first);
	in.request_uri = LIT("sip:carol@example.org");
	ck_assert_int_eq(accept(), 1);
	ck_assert(!cpm_pl_eq(pt.msg.call_id, first));
	/* a long host does not overrun */
	ac.call_id_host = big(2000);
	ck_assert_int_eq(accept(), 1);
	ck_assert_uint_le(pt.msg.call_id.n, 320);
}
END_TEST

START_TEST(scratch_small)
{
	struct cpm_accept_ports p = {&pt, port_put};
	size_t need, cap;
	unsigned queued = 0;

	accept_new();
	ck_assert_int_eq(accept(), 1);
	need = pt.put.blob.n;
	ck_assert_uint_le(need, cpm_accept_scratch(&in));
	/* the ladder: any less is told, and nothing is written behind it */
	for(cap = 0; cap <= need; cap++) {
		char *zero = calloc(1, need);
		char *scratch = guard_dup(zero, cap);

		free(zero);
		pt.calls = 0;
		if(cpm_flow_accept(&p, &ac, &in, START_MS, scratch, cap, &out) == 1)
			queued++;
		else
			ck_assert_str_eq(out.why, "no-memory");
		ck_outcome_whole();
		guard_free(scratch, cap);
	}
	ck_assert_uint_eq(queued, 1);
}
END_TEST

static struct cpm_pl random_field(void)
{
	static const size_t sizes[] = {
			0, 1, 7, 100, 2000, CPM_MSG_HEADERS_MAX, CPM_MSG_HEADERS_MAX + 1};

	return big(sizes[rnd_to(FU_N(sizes))]);
}

START_TEST(scratch_enough)
{
	world_new();
	for(unsigned seed = 0; seed < 150; seed++) {
		w.random = (uint64_t)_i * 1000 + seed;
		accept_new();
		ac.message_max_bytes = CPM_MSG_BODY_MAX;
		ac.call_id_host = chance(50) ? LIT("h") : big(300);
		in.from = random_field();
		in.to = random_field();
		in.subject = random_field();
		in.content_type = random_field();
		in.conversation_id = random_field();
		in.contribution_id = random_field();
		in.headers = random_field();
		in.body = random_field();
		in.call_id = random_field();
		in.expires = chance(20) ? random_field() : CPM_PL_NULL;
		pt.res[0].status = chance(50) ? CPM_PUT_CONFLICT : CPM_PUT_QUEUED;
		/* accept() has its scratch end at an unmapped page */
		(void)accept();
		ck_assert_str_ne(out.why, "no-memory");
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_flow");

	fu_case(s, "messages of an offline weekend come in order on Monday",
			weekend);
	fu_case(s, "a message for nobody costs one round trip", nobody_is_cheap);
	fu_case(s, "a registration without a queue costs one round trip",
			nothing_is_cheap);
	fu_case(s, "retries come exactly when configured, and end", retry_times);
	fu_case(s, "what is behind a dead message goes on", behind_the_dead);
	fu_case(s, "the next client is tried, within one attempt", next_client);
	fu_case(s, "a client that takes no MESSAGE is none", only_blind_clients);
	fu_case(s, "a client that came meanwhile is tried", newcomer);
	fu_case(s, "of very many clients the first sixteen are tried, once",
			many_clients);
	fu_case(s, "a client that refreshed meanwhile is not tried twice",
			one_contact_many_names);
	fu_case(s, "a client that left before anything was sent costs no attempt",
			went_away);
	fu_table(s, "of two failures the more telling one decides", mixed_failures,
			7);
	fu_case(s, "who is busy keeps everything waiting, a refresh too",
			refused_all_wait);
	fu_case(s, "a refresh ends the wait for who could not be reached",
			unreachable_refresh);
	fu_case(s, "a message that is not taken lets the next one pass",
			message_passes);
	fu_case(s,
			"a message that is not taken does not keep others from a client "
			"that came back",
			message_passes_then_unreachable);
	fu_case(s, "a forced delivery tries each message once",
			all_refused_one_by_one);
	fu_case(s, "a message for none of the clients waits for another, days long",
			deferred_waits);
	fu_case(s, "a deferred message lets the next one pass", deferred_is_passed);
	fu_case(s, "a client that is not to have it is passed over",
			unfit_client_passed_over);
	fu_case(s, "a failure beside such a client is an attempt",
			unfit_and_failed);
	fu_case(s, "who is to have it cannot be told: it goes back, no attempt",
			fit_unknown);
	fu_case(s, "that is an attempt once something was sent",
			fit_unknown_after_sending);
	fu_case(s, "a trigger is not forgotten when a message goes back",
			fit_unknown_and_again);
	fu_case(s, "many deferred messages are looked at in portions",
			many_deferred);
	fu_case(s,
			"a store lost between answer and settle: sent once, settled "
			"when it is back",
			settle_store_down);
	fu_table(s, "an unsure settle is a settle in the end", settle_unsure, 2);
	fu_case(s, "an unsure settle of a failure is no lost lease",
			settle_unsure_of_failure);
	fu_table(s, "a failed lease gives the same message again, not the next",
			lease_failed, 3);
	fu_case(s, "a message that is leased by nobody is not passed by the next",
			lease_unsure_then_gone);
	fu_table(s, "a lease that the store refuses ends the delivery",
			lease_refused, 2);
	fu_case(s, "a renewal that the store refuses ends the delivery",
			renew_refused);
	fu_case(s, "a settle that the store refuses is tried, and rarely",
			settle_refused);
	fu_table(s, "a failed renewal is tried again", renew_failed, 3);
	fu_case(s, "a lock that could not be given back runs out", release_failed);
	fu_case(s, "a lease lost between two clients ends the delivery",
			lease_lost_between_clients);
	fu_case(s, "a message discarded in flight does not stop the next",
			lease_lost_at_settle);
	fu_case(s, "leases that are always lost are no endless loop",
			lease_lost_always);
	fu_case(s, "who finds another at it leaves at once", busy);
	fu_case(s, "no answer within the lease is a time-out", no_answer);
	fu_case(s, "an answer that nobody waits for changes nothing",
			answer_too_late);
	fu_case(s, "a tick before its time does nothing", tick_too_early);
	fu_case(s, "a trigger during a delivery is one more look", again);
	fu_case(s, "ten triggers during a delivery are one", again_is_once);
	fu_case(s, "an address over its bound delivers nothing", too_long_for_it);
	fu_case(s, "what expires in flight and was not taken is taken out",
			expires_in_flight);
	fu_case(s, "every answer has its class", classes);
	fu_case(s, "clients are tried in their order", contact_order);
	fu_case(s, "clients without a difference keep their order",
			contact_order_stable);
	fu_table(s, "whatever fails: in order, once, nothing lost, and an end",
			random_life, 20);

	fu_case(s, "a message is accepted as it came", accepted);
	fu_case(s, "headers that no delivery has are put aside", put_aside);
	fu_case(s, "200 is called OK", accepted_200);
	fu_table(s, "each answer of the store has its outcome", store_says, 7);
	fu_table(
			s, "a failing store is 503, in the second try too", store_fails, 4);
	fu_table(s, "what cannot be accepted is refused, and says why", refused,
			REFUSED_ROWS);
	fu_case(s, "home domains, and no telephone number is foreign", homes);
	fu_case(s, "the largest message is accepted", largest);
	fu_table(s, "a message lives as long as it says, within bounds", expiry,
			EXPIRY_ROWS);
	fu_case(s, "a CPIM message has its own id", cpim_id);
	fu_table(s, "an id that cannot be used is replaced", cpim_id_unusable, 5);
	fu_case(s, "an encoded body is not looked into", cpim_encoded);
	fu_table(s, "a disposition notification is known as one", imdn, 2);
	fu_case(s, "also by its disposition", imdn_by_disposition);
	fu_table(s, "a sender that asks for it is to be told", stored_is_told,
			FU_N(tells));
	fu_case(s, "a derived id tells requests apart, and not retransmissions",
			id_derived);
	fu_table(s, "an id that is taken is told apart, at any length", id_conflict,
			CPM_MSG_ID_MAX);
	fu_case(s, "every message has a Call-ID of its own", call_ids);
	fu_case(s, "too small a scratch is told and kept to", scratch_small);
	fu_table(s, "the scratch that was asked for is always enough",
			scratch_enough, 8);
	return fu_run(s);
}
