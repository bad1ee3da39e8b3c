/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_cpm_push.c - a user's queue, emptied in a session, in a world of paper:
 * a store in memory that does what core/lua does, clients that say what a case
 * wants, a clock that is a variable, and failures wherever one is wanted.
 *
 * What happened is told in a log, one word for each call of a port:
 *
 *     L:a1      a was leased, attempt 1         L:wait L:empty L:none L:busy
 *     N:a1      its lease was renewed           N:lost
 *     I:a>x     client x is invited for a       I:a>x! could not be
 *     P:a#1     a went into the session as 1    P:a#1! P:a#1full
 *     B         the session's end
 *     S:a>x     a was sent to x by MESSAGE
 *     T:a=ok    settled: ok, unsent, retry,<ms>,<class>,<error>, dead,...
 *               T:a=ok? the lease was lost
 *     X:a,b     the leases of a and b were extended
 *     R:5000    released, look again in 5 s     R:5000,a and a was not sent
 *     E:retry   what port event was told (but sent)
 *
 * and the port's letter with the result when it failed (L:EDOWN). The memory of
 * a session is given back when it is ended: whoever looks at it later is caught
 * by the address sanitizer.
 */

#include "cpm_push.h"

#include <stdarg.h>
#include <stdio.h>

#include "check_helpers.h"

#define LIT CPM_PL_LIT
#define AOR LIT("sip:bob@example.org")
#define START_MS UINT64_C(1700000000000)
#define MSGS_MAX 80
#define CLIENTS_MAX 6
#define NEVER UINT64_MAX
#define FAR_MS UINT64_C(253402300799000) /* as in core/lua/common.lua */
#define HOUR_MS UINT64_C(3600000)

/* An assertion of check writes to a pipe even when it holds; too slow for what
 * is asked a million times. */
#define must(cond)                                                    \
	do {                                                              \
		if(!(cond))                                                   \
			ck_abort_msg("%s (seed %u): ... %s", #cond, w.seed,       \
					w.log_n > 1500 ? w.log + w.log_n - 1500 : w.log); \
	} while(0)

enum temper
{
	BY_HAND, /* the case tells what happens */
	GOOD,
	EVERY_SECOND, /* refuses every second message of a session with 403 */
	ONE_ONLY,	  /* takes one in each session */
	WILD,
	MUTE, /* says nothing until its connection is lost */
	TEMPERS_
};

struct qmsg
{
	char id[16];
	uint64_t seq;
	const char *from, *type;
	size_t bytes;
	char state;
	unsigned attempts;
	uint64_t due_ms, deadline_ms, leased_ms;
	char token[CPM_QUEUE_TOKEN_MAX + 1];
	char looked[CPM_QUEUE_TOKEN_MAX + 1]; /* whose delivery passes over it */
	char fail_class;
	bool gone;
	bool discarded;
	bool acked;	   /* the client's 200 was told */
	bool excused;  /* somebody else had it: it may come twice */
	unsigned told; /* DELIVERED */
	bool fits;	   /* the client of the session is to have it */
	unsigned refused_in, passed_in; /* numbers of sessions */
	uint32_t handle;				/* in the session of now; 0: not */
};

struct client
{
	const char *uri;
	enum cpm_session session;
	bool takes_message, here;
	int q;
	uint64_t modified_s;
	int invite; /* its answer; 0: none; -1: cannot be sent */
	int message;
	int fits; /* what client_takes says */
	enum temper temper;
};

enum port
{
	PORT_LEASE,
	PORT_RENEW,
	PORT_SETTLE,
	PORT_MANY,
	PORT_RELEASE,
	PORT_EXTEND,
	PORT_SEND, /* session_send */
	PORT_TAKES,
	PORT_COUNT_
};

struct inject
{
	int rc;
	unsigned executed; /* so many of a pipeline, else 0 or not */
	unsigned skip, times;
};

static struct world
{
	uint64_t now_ms;
	uint64_t seq;
	struct qmsg msgs[MSGS_MAX];
	size_t msg_count;
	char lock[CPM_QUEUE_TOKEN_MAX + 1];
	uint64_t lock_until_ms;
	uint64_t wake_ms; /* NEVER: none */
	struct client clients[CLIENTS_MAX];
	size_t client_count;
	struct inject inject[PORT_COUNT_];
	unsigned fail_percent;
	int one_rc; /* of the first in the next pipeline, which is not executed */
	bool no_memory;
	uint64_t random;
	unsigned seed;

	struct cpm_deliver d;
	bool active;
	unsigned token_seq;
	char token[32];

	/* the session */
	struct cpm_push *push;
	struct client *peer;
	unsigned session; /* its number */
	bool up;
	bool message_out;
	uint64_t peer_at_ms; /* when it says something next */
	uint32_t out[MSGS_MAX];
	size_t out_n;
	uint32_t last_handle;
	unsigned taken_by_peer;
	bool full; /* session_send has no room */

	unsigned calls, calls_max;
	unsigned sessions;
	unsigned events[CPM_DELIVER_DEFERRED + 1];
	struct cpm_deliver_info last;
	char log[16384];
	size_t log_n;
} w;

static struct cpm_deliver_conf conf;

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

/* Whether this call is to fail, how, and whether (how much of it) it does its
 * work first. */
static int injected(enum port p, unsigned *executed_r)
{
	static const int rcs[] = {CPM_EDOWN, CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO};
	struct inject *i = &w.inject[p];

	w.calls++;
	*executed_r = 0;
	if(w.fail_percent > 0 && p < PORT_SEND && chance(w.fail_percent)) {
		int rc = rcs[rnd_to(4)];
		if(rc != CPM_EDOWN || p == PORT_MANY)
			*executed_r = rnd_to(4);
		return rc;
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

static void fail_next(enum port p, int rc, unsigned executed, unsigned times)
{
	w.inject[p] = (struct inject){rc, executed, 0, times};
}

static void store_down(void)
{
	for(enum port p = PORT_LEASE; p <= PORT_EXTEND; p++)
		fail_next(p, CPM_EDOWN, 0, 1000000);
}

static void store_up(void)
{
	for(enum port p = PORT_LEASE; p <= PORT_EXTEND; p++)
		fail_next(p, CPM_OK, 0, 0);
}

static bool is(struct cpm_pl a, const char *b)
{
	return a.n > 0 && cpm_pl_eq(a, cpm_pl_str(b));
}

static struct qmsg *msg_find(struct cpm_pl id)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(is(id, w.msgs[i].id))
			return &w.msgs[i];
	ck_abort_msg("no such message: %.*s", (int)id.n, id.p);
	return NULL;
}

static bool queue_empty(void)
{
	for(size_t i = 0; i < w.msg_count; i++)
		if(!w.msgs[i].gone)
			return false;
	return true;
}

static void lock_look(void)
{
	if(w.lock[0] != '\0' && w.now_ms >= w.lock_until_ms)
		w.lock[0] = '\0';
}

static bool lock_is_others(struct cpm_pl token)
{
	lock_look();
	return w.lock[0] != '\0' && !is(token, w.lock);
}

static void lock_take(struct cpm_pl token, uint64_t lease_ms)
{
	cpm_pl_cstr(token, w.lock, sizeof(w.lock));
	w.lock_until_ms = w.now_ms + lease_ms;
	w.wake_ms = w.now_ms + lease_ms + 1000;
}

/* A lease whose deadline passed returns by itself. */
static char state_of(const struct qmsg *m)
{
	return m->state == 'L' && m->deadline_ms <= w.now_ms ? 'Q' : m->state;
}

static struct qmsg *put(const char *id)
{
	struct qmsg *m = &w.msgs[w.msg_count++];

	must(w.msg_count <= MSGS_MAX);
	memset(m, 0, sizeof(*m));
	(void)snprintf(m->id, sizeof(m->id), "%s", id);
	m->seq = w.seq = w.seq >= w.now_ms ? w.seq + 1 : w.now_ms;
	m->state = 'Q';
	m->from = "sip:alice@example.org";
	m->type = "message/cpim";
	m->bytes = 100;
	m->fits = true;
	if(w.wake_ms > w.now_ms + 5000)
		w.wake_ms = w.now_ms + 5000;
	return m;
}

static void put_many(const char *ids)
{
	for(char id[2] = ""; *ids != '\0'; ids++) {
		id[0] = *ids;
		put(id);
	}
}

static void msg_gone(struct qmsg *m)
{
	m->gone = true;
	if(queue_empty())
		w.wake_ms = NEVER;
}

static void lease_fill(struct cpm_lease *lease, const struct qmsg *m)
{
	static char ids[2][16];
	static unsigned turn;

	/* what is lent is good until the store is asked again */
	turn ^= 1;
	memset(ids[turn ^ 1], '#', sizeof(ids[0]));
	memcpy(ids[turn], m->id, sizeof(m->id));
	memset(lease, 0, sizeof(*lease));
	lease->status = CPM_LEASE_OK;
	lease->attempt = m->attempts;
	lease->seq = m->seq;
	lease->msg.id = cpm_pl(ids[turn], strlen(m->id));
	lease->msg.aor = AOR;
	lease->msg.originator = cpm_pl_str(m->from);
	lease->msg.content_type = cpm_pl_str(m->type);
	lease->msg.body_len = m->bytes;
	lease->msg.received_ms = m->seq;
}

/* core/lua/lease.lua, for one message */
static void store_lease(struct cpm_pl token, uint64_t lease_ms,
		enum cpm_lease_force force, uint64_t age_ms, uint64_t after,
		struct cpm_lease *lease)
{
	uint64_t wait_ms = 0;

	memset(lease, 0, sizeof(*lease));
	lease->status = CPM_LEASE_EMPTY;
	if(queue_empty())
		return;
	if(lock_is_others(token)) {
		lease->status = CPM_LEASE_BUSY;
		lease->wait_ms = w.lock_until_ms - w.now_ms;
		return;
	}
	for(size_t i = 0; i < w.msg_count; i++) {
		struct qmsg *m = &w.msgs[i];
		bool ours = m->state == 'L' && is(token, m->token);
		bool forced = !is(token, m->looked)
					  && (force == CPM_LEASE_ALL
							  || (force == CPM_LEASE_UNREACHABLE
									  && m->fail_class == 'u'))
					  && (m->fail_class != 'd' || m->seq <= w.now_ms - age_ms);

		if(m->gone || m->seq <= after)
			continue;
		if(!ours && state_of(m) == 'L') {
			wait_ms = m->deadline_ms - w.now_ms;
			break;
		}
		if(!ours && state_of(m) != 'Q')
			continue;
		if(!ours && m->due_ms > w.now_ms && !forced) {
			if(wait_ms == 0 || m->due_ms - w.now_ms < wait_ms)
				wait_ms = m->due_ms - w.now_ms;
			if(m->fail_class != 'm' && m->fail_class != 'd')
				break;
			continue;
		}
		if(!ours) {
			m->attempts++;
			m->leased_ms = w.now_ms;
			m->looked[0] = '\0';
		}
		m->excused = m->excused || cpm_pl_starts(token, LIT("rival"));
		/* who was acknowledged is never anybody's again */
		must(ours || !m->acked || m->excused);
		m->state = 'L';
		m->deadline_ms = w.now_ms + lease_ms;
		cpm_pl_cstr(token, m->token, sizeof(m->token));
		lock_take(token, lease_ms);
		lease_fill(lease, m);
		return;
	}
	lease->status = wait_ms > 0 ? CPM_LEASE_WAIT : CPM_LEASE_NONE;
	lease->wait_ms = wait_ms;
}

/* core/lua/settle.lua */
static bool store_settle(const struct cpm_settle *s)
{
	struct qmsg *m = msg_find(s->id);

	if(m->gone || !is(s->token, m->token))
		return false;
	m->token[0] = '\0';
	m->deadline_ms = 0;
	if(s->how == CPM_SETTLE_DELIVERED) {
		must(m->acked);
		msg_gone(m);
		return true;
	}
	m->state = 'Q';
	if(s->how == CPM_SETTLE_UNSENT) {
		m->attempts--;
		return true;
	}
	m->due_ms = w.now_ms + s->retry_in_ms;
	m->fail_class = (char)s->fail_class;
	if(m->fail_class == 'm' || m->fail_class == 'd')
		cpm_pl_cstr(s->token, m->looked, sizeof(m->looked));
	if(s->how == CPM_SETTLE_DEFER) {
		m->due_ms = FAR_MS;
		m->attempts--;
	}
	if(s->how == CPM_SETTLE_DEAD) {
		must(m->attempts >= conf.max_attempts);
		m->state = 'D';
		m->due_ms = 0;
	}
	return true;
}

/* core/lua/release.lua */
static void store_release(
		struct cpm_pl token, struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	if(unsent_id.n > 0 && token.n > 0) {
		struct qmsg *m = msg_find(unsent_id);
		if(!m->gone && is(token, m->token)) {
			m->state = 'Q';
			m->token[0] = '\0';
			m->attempts--;
		}
	}
	if(!lock_is_others(token) && token.n > 0)
		w.lock[0] = '\0';
	if(queue_empty())
		return;
	if(w.lock[0] != '\0')
		wake_in_ms = w.lock_until_ms - w.now_ms + 1000;
	w.wake_ms = w.now_ms + wake_in_ms;
}

/* ------------------------------------------------------------- the ports */

static int port_reach(void *ctx, struct cpm_pl aor,
		struct cpm_contact *contacts, size_t *count_r)
{
	size_t n = 0;

	must(ctx == &w);
	must(cpm_pl_eq(aor, AOR));
	w.calls++;
	for(size_t i = 0; i < w.client_count; i++) {
		const struct client *c = &w.clients[i];

		if(!c->here)
			continue;
		memset(&contacts[n], 0, sizeof(contacts[n]));
		contacts[n].uri = cpm_pl_str(c->uri);
		contacts[n].q = c->q;
		contacts[n].takes_message = c->takes_message;
		contacts[n].session = c->session;
		contacts[n].last_modified_s = c->modified_s;
		n++;
	}
	*count_r = n;
	return CPM_OK;
}

static struct client *client_find(struct cpm_pl uri)
{
	for(size_t i = 0; i < w.client_count; i++)
		if(is(uri, w.clients[i].uri))
			return &w.clients[i];
	ck_abort_msg("nobody's address");
	return NULL;
}

static int port_takes(void *ctx, struct cpm_pl aor,
		const struct cpm_contact *contact, const struct cpm_msg *msg,
		enum cpm_mode mode)
{
	(void)ctx, (void)aor, (void)mode;
	(void)msg_find(msg->id);
	w.calls++;
	return client_find(contact->uri)->fits;
}

static int lease_told(int rc, const struct cpm_lease *lease)
{
	static const char *const words[] = {"", "empty", "none", "wait", "busy"};

	if(rc != CPM_OK)
		note("L:%s ", cpm_rc_name(rc));
	else if(lease->status == CPM_LEASE_OK)
		note("L:%.*s%u ", (int)lease->msg.id.n, lease->msg.id.p,
				lease->attempt);
	else
		note("L:%s ", words[lease->status]);
	return rc;
}

static int port_lease_many(void *ctx, const struct cpm_lease_ask *ask,
		struct cpm_lease *leases_r, size_t *count_r)
{
	struct cpm_lease lease;
	unsigned executed;
	int rc = injected(PORT_LEASE, &executed);

	(void)ctx;
	must(cpm_pl_eq(ask->aor, AOR) && ask->token.n > 0
			&& ask->token.n <= CPM_QUEUE_TOKEN_MAX);
	must(ask->lease_ms == conf.lease_ms && ask->max_messages >= 1
			&& ask->max_messages <= CPM_LEASE_MAX);
	must(ask->age_ms <= w.now_ms);
	memset(&lease, 0, sizeof(lease));
	if(rc == CPM_OK || executed > 0)
		store_lease(ask->token, ask->lease_ms, ask->force, ask->age_ms,
				ask->after, &lease);
	if(rc == CPM_OK) {
		*leases_r = lease;
		*count_r = lease.status == CPM_LEASE_OK;
	}
	return lease_told(rc, &lease);
}

static int port_lease(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r)
{
	struct cpm_lease_ask ask = {aor, token, lease_ms, force, age_ms, 1, 0, 0};
	size_t count;

	/* no look at the queue while a session is on */
	must(w.push == NULL);
	return port_lease_many(ctx, &ask, lease_r, &count);
}

static int port_renew(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r)
{
	struct qmsg *m = msg_find(id);
	unsigned executed;
	int rc = injected(PORT_RENEW, &executed);
	bool ok = !m->gone && is(token, m->token) && !lock_is_others(token);

	(void)ctx, (void)aor;
	must(!m->acked || m->excused);
	if(ok && (rc == CPM_OK || executed > 0)) {
		m->state = 'L';
		m->deadline_ms = w.now_ms + lease_ms;
		lock_take(token, lease_ms);
	}
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

/* What any settle must be like. */
static void ck_settle(const struct cpm_settle *s)
{
	must(cpm_pl_eq(s->aor, AOR));
	must(s->token.n > 0 && s->id.n > 0);
	if(s->how == CPM_SETTLE_DELIVERED)
		must(s->dedup_ms == conf.dedup_ms);
	if(s->how == CPM_SETTLE_RETRY || s->how == CPM_SETTLE_DEAD) {
		must(strchr("urm", (char)s->fail_class) != NULL);
		must(s->error.n > 0 && s->error.n <= CPM_QUEUE_ERROR_MAX);
	}
}

static void settle_told(const struct cpm_settle *s, bool ok)
{
	static const char *const words[] = {
			"ok", "retry", "dead", "defer", "unsent"};

	note("T:%.*s=%s", (int)s->id.n, s->id.p, words[s->how]);
	if(s->how == CPM_SETTLE_RETRY)
		note(",%llu", (unsigned long long)s->retry_in_ms);
	if(s->how == CPM_SETTLE_RETRY || s->how == CPM_SETTLE_DEAD)
		note(",%c,%.*s", (char)s->fail_class, (int)s->error.n, s->error.p);
	note("%s ", ok ? "" : "?");
}

static int port_settle(void *ctx, const struct cpm_settle *s)
{
	unsigned executed;
	bool ok = false;
	int rc = injected(PORT_SETTLE, &executed);

	(void)ctx;
	ck_settle(s);
	if(rc == CPM_OK || executed > 0)
		ok = store_settle(s);
	if(rc != CPM_OK) {
		note("T:%s ", cpm_rc_name(rc));
		return rc;
	}
	settle_told(s, ok);
	return ok ? CPM_OK : CPM_ENOENT;
}

static int port_settle_many(
		void *ctx, const struct cpm_settle *s, size_t count, int *rcs_r)
{
	unsigned executed;
	int rc = injected(PORT_MANY, &executed);

	(void)ctx;
	must(count > 0 && count <= CPM_PUSH_WINDOW);
	for(size_t i = 0; i < count; i++) {
		bool ok;

		ck_settle(&s[i]);
		for(size_t j = 0; j < i; j++)
			must(!cpm_pl_eq(s[i].id, s[j].id));
		if(rc != CPM_OK) {
			if(i < executed)
				(void)store_settle(&s[i]);
			continue;
		}
		if((i == 0 && w.one_rc != CPM_OK)
				|| (w.fail_percent > 0 && chance(5))) {
			rcs_r[i] = w.one_rc != CPM_OK ? w.one_rc : CPM_EPROTO;
			w.one_rc = CPM_OK;
			note("T:%.*s=%s ", (int)s[i].id.n, s[i].id.p,
					cpm_rc_name(rcs_r[i]));
			continue;
		}
		ok = store_settle(&s[i]);
		settle_told(&s[i], ok);
		rcs_r[i] = ok ? CPM_OK : CPM_ENOENT;
	}
	if(rc != CPM_OK)
		note("T:%s ", cpm_rc_name(rc));
	return rc;
}

static int port_extend(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count, bool *lost_r)
{
	unsigned executed, kept = 0;
	int rc = injected(PORT_EXTEND, &executed);
	bool others = lock_is_others(token), held = w.lock[0] != '\0';

	(void)ctx, (void)aor;
	must(count <= CPM_PUSH_WINDOW);
	must(lease_ms == conf.lease_ms);
	if(rc != CPM_OK && executed == 0) {
		note("X:%s ", cpm_rc_name(rc));
		return rc;
	}
	note("X:");
	for(size_t i = 0; i < count; i++) {
		struct qmsg *m = msg_find(ids[i]);

		lost_r[i] = others || m->gone || !is(token, m->token);
		note("%s%s%s", i > 0 ? "," : "", m->id, lost_r[i] ? "?" : "");
		if(!lost_r[i]) {
			m->state = 'L';
			m->deadline_ms = w.now_ms + lease_ms;
			kept++;
		}
	}
	if(!others && (kept > 0 || held))
		lock_take(token, lease_ms);
	note("%s ", rc != CPM_OK ? cpm_rc_name(rc) : "");
	return rc;
}

static int port_release(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	unsigned executed;
	int rc = injected(PORT_RELEASE, &executed);

	(void)ctx, (void)aor;
	must(w.push == NULL);
	if(rc == CPM_OK || executed > 0)
		store_release(token, unsent_id, wake_in_ms);
	if(rc != CPM_OK)
		note("R:%s ", cpm_rc_name(rc));
	else if(unsent_id.n > 0)
		note("R:%llu,%.*s ", (unsigned long long)wake_in_ms, (int)unsent_id.n,
				unsent_id.p);
	else
		note("R:%llu ", (unsigned long long)wake_in_ms);
	return rc;
}

static int port_send(void *ctx, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt)
{
	struct client *c = client_find(contact->uri);
	struct qmsg *m = msg_find(msg->id);

	(void)ctx;
	w.calls++;
	must(c->here && c->takes_message && w.push == NULL);
	must(attempt == m->attempts && m->state == 'L');
	must(!m->acked || m->excused);
	note("S:%s>%s%s ", m->id, c->uri, c->message < 0 ? "!" : "");
	if(c->message < 0)
		return CPM_EDOWN;
	w.message_out = true;
	w.peer = c;
	w.peer_at_ms = c->temper == BY_HAND || c->message == 0
						   ? NEVER
						   : w.now_ms + rnd_to(1000);
	return CPM_OK;
}

static void port_event(void *ctx, const struct cpm_deliver_info *info)
{
	static const char *const words[] = {
			"sent", "delivered", "retry", "dead", "lost", "deferred"};
	struct qmsg *m = msg_find(info->id);

	(void)ctx;
	must(cpm_pl_eq(info->aor, AOR));
	must(info->why != NULL);
	must(info->received_ms == m->seq);
	must(info->attempt > 0);
	w.events[info->event]++;
	w.last = *info;
	if(info->event == CPM_DELIVER_DELIVERED) {
		must(m->acked && (m->told++ == 0 || m->excused));
		must(m->gone || m->excused);
		if(info->mode == CPM_MODE_SESSION)
			must(info->code == 0 || info->code == 200);
	}
	if(info->event != CPM_DELIVER_SENT)
		note("E:%s ", words[info->event]);
}

static struct cpm_push *port_session_new(void *ctx)
{
	(void)ctx;
	w.calls++;
	must(w.push == NULL);
	if(w.no_memory)
		return NULL;
	w.push = calloc(1, sizeof(*w.push));
	ck_assert_ptr_nonnull(w.push);
	w.up = false;
	w.out_n = 0;
	w.last_handle = 0;
	w.taken_by_peer = 0;
	w.full = false;
	w.session++;
	return w.push;
}

static int port_session_invite(
		void *ctx, const struct cpm_contact *contact, const struct cpm_msg *msg)
{
	struct client *c = client_find(contact->uri);

	(void)ctx;
	w.calls++;
	must(w.push != NULL && c->here && c->session != CPM_SESSION_NONE);
	must(contact->session == c->session);
	must(msg_find(msg->id)->state == 'L');
	note("I:%.*s>%s%s ", (int)msg->id.n, msg->id.p, c->uri,
			c->invite < 0 ? "!" : "");
	if(c->invite < 0)
		return CPM_EDOWN;
	w.sessions++;
	w.peer = c;
	w.peer_at_ms = c->temper == BY_HAND || c->invite == 0
						   ? NEVER
						   : w.now_ms + rnd_to(2000);
	return CPM_OK;
}

static int port_session_takes(
		void *ctx, struct cpm_pl aor, const struct cpm_msg *msg)
{
	struct qmsg *m = msg_find(msg->id);
	unsigned executed;
	int rc = injected(PORT_TAKES, &executed);

	(void)ctx, (void)aor;
	must(w.push != NULL && w.up);
	if(rc != CPM_OK)
		return rc;
	if(!m->fits)
		m->passed_in = w.session;
	return m->fits;
}

/* First in, first out: what is older is done, dead, on its way too, or waits
 * for a reason that is its own. */
static void ck_order(const struct qmsg *m)
{
	for(const struct qmsg *old = w.msgs; old < m; old++)
		if(!old->gone && old->state != 'D' && !old->acked && old->handle == 0
				&& old->refused_in != w.session && old->passed_in != w.session
				&& old->fail_class != 'm' && old->fail_class != 'd')
			ck_abort_msg("%s before %s (seed %u): ... %s", m->id, old->id,
					w.seed, w.log_n > 900 ? w.log + w.log_n - 900 : w.log);
}

static int port_session_send(
		void *ctx, uint32_t handle, const struct cpm_msg *msg)
{
	struct qmsg *m = msg_find(msg->id);
	unsigned executed;
	int rc = injected(PORT_SEND, &executed);

	(void)ctx;
	must(w.push != NULL && w.up);
	must(m->state == 'L' && m->deadline_ms > w.now_ms);
	must(m->handle == 0 && m->refused_in != w.session);
	must(!m->acked || m->excused);
	/* what was lost is nobody's to wait for */
	must(w.push->count < conf.session_window);
	must(w.out_n < FU_N(w.out));
	must(handle > w.last_handle);
	must(w.out_n == 0 || w.peer->session != CPM_SESSION_CHAT
			|| cpm_pl_eq(msg->originator,
					cpm_pl(w.push->originator, w.push->originator_len)));
	if(rc == CPM_OK && w.full)
		rc = CPM_EAGAIN;
	note("P:%s#%u%s ", m->id, handle,
			rc == CPM_OK	   ? ""
			: rc == CPM_EAGAIN ? "full"
							   : "!");
	if(rc != CPM_OK)
		return rc;
	ck_order(m);
	w.last_handle = handle;
	m->handle = handle;
	w.out[w.out_n++] = handle;
	if(w.out_n == 1 && w.peer->temper != BY_HAND)
		w.peer_at_ms =
				w.now_ms + (w.peer->temper == MUTE ? 30000 : rnd_to(3000));
	return CPM_OK;
}

static void port_session_end(void *ctx)
{
	(void)ctx;
	w.calls++;
	must(w.push != NULL);
	note("B ");
	memset(w.push, 0xa5, sizeof(*w.push));
	free(w.push);
	w.push = NULL;
	w.up = false;
	w.peer_at_ms = NEVER;
	for(size_t i = 0; i < w.msg_count; i++)
		w.msgs[i].handle = 0;
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
		.session_new = port_session_new,
		.session_invite = port_session_invite,
		.session_takes = port_session_takes,
		.session_send = port_session_send,
		.session_end = port_session_end,
		.queue_lease_many = port_lease_many,
		.queue_extend = port_extend,
		.queue_settle_many = port_settle_many,
};

/* ------------------------------------------------------------- the worker */

/* In one drive: twice the window of messages that are leased and put back,
 * and the end of the session. */
#define CALLS_MAX 500

static void drive_end(void)
{
	must(w.calls <= CALLS_MAX);
	if(w.calls > w.calls_max)
		w.calls_max = w.calls;
	w.calls = 0;
	w.active = w.d.state != CPM_DELIVER_FINISHED;
	/* whoever waits says until when */
	must(w.active == (w.d.at_ms != 0));
	must((w.d.push != NULL) == (w.push != NULL));
	must(w.d.push == w.push);
	must((w.push != NULL)
			== (w.d.state == CPM_DELIVER_INVITING
					|| w.d.state == CPM_DELIVER_SESSION));
	must(w.d.at_ms == 0 || w.d.at_ms <= w.now_ms + HOUR_MS);
	if(w.d.state != CPM_DELIVER_WAITING)
		w.message_out = false;
}

static void start(enum cpm_lease_force force)
{
	must(!w.active);
	(void)snprintf(w.token, sizeof(w.token), "t%u", ++w.token_seq);
	memset(&w.d, 0, sizeof(w.d));
	cpm_deliver_start(&w.d, &ports, &conf, AOR, cpm_pl_str(w.token), force,
			w.now_ms, w.now_ms);
	drive_end();
}

static void tick(void)
{
	cpm_deliver_tick(&w.d, &ports, &conf, w.now_ms);
	drive_end();
}

static void trigger(enum cpm_lease_force force)
{
	if(w.active)
		cpm_deliver_again(&w.d, force, w.now_ms);
	else
		start(force);
}

static void invited(unsigned code)
{
	w.up = code >= 200 && code < 300;
	w.peer_at_ms = NEVER;
	cpm_deliver_invited(&w.d, &ports, &conf, code, w.now_ms);
	drive_end();
}

static void answer(unsigned code)
{
	if(code >= 200 && code < 300)
		msg_find(cpm_pl(w.d.id, w.d.id_len))->acked = true;
	w.message_out = false;
	w.peer_at_ms = NEVER;
	cpm_deliver_answer(&w.d, &ports, &conf, code, w.now_ms);
	drive_end();
}

static void out_remove(uint32_t handle)
{
	size_t n = 0;

	for(size_t i = 0; i < w.out_n; i++)
		if(w.out[i] != handle)
			w.out[n++] = w.out[i];
	w.out_n = n;
}

static struct qmsg *msg_of(uint32_t handle)
{
	for(size_t i = 0; handle != 0 && i < w.msg_count; i++)
		if(w.msgs[i].handle == handle)
			return &w.msgs[i];
	return NULL;
}

static bool in_push(uint32_t handle)
{
	for(size_t i = 0; w.push != NULL && i < w.push->count; i++)
		if(w.push->item[i].handle == handle
				&& w.push->item[i].state == CPM_PUSH_SENT)
			return true;
	return false;
}

/* Tells them all at once. */
static void tell(const struct cpm_session_event *ev, size_t n)
{
	for(size_t i = 0; i < n; i++) {
		struct qmsg *m = msg_of(ev[i].handle);

		if(ev[i].kind == CPM_SESSION_ROOM)
			w.full = false;
		if(m == NULL)
			continue;
		if(ev[i].kind == CPM_SESSION_DONE && !w.push->over) {
			/* what was somebody else's meanwhile may well be told of */
			if(in_push(ev[i].handle))
				m->acked = true;
			w.taken_by_peer++;
		}
		if(ev[i].kind == CPM_SESSION_FAILED)
			m->refused_in = w.session;
		if(ev[i].kind == CPM_SESSION_DONE || ev[i].kind == CPM_SESSION_FAILED)
			out_remove(ev[i].handle);
	}
	cpm_deliver_session_event(&w.d, &ports, &conf, ev, n, w.now_ms);
	drive_end();
}

static void ev(enum cpm_session_event_kind kind, uint32_t handle, unsigned code)
{
	struct cpm_session_event e = {kind, handle, code};

	tell(&e, 1);
}

#define TELL(...)                                      \
	do {                                               \
		struct cpm_session_event es[] = {__VA_ARGS__}; \
		tell(es, FU_N(es));                            \
	} while(0)
#define DONE(h)                  \
	{                            \
		CPM_SESSION_DONE, (h), 0 \
	}
#define FAILED(h, c)                 \
	{                                \
		CPM_SESSION_FAILED, (h), (c) \
	}
#define DOWN(c)                  \
	{                            \
		CPM_SESSION_DOWN, 0, (c) \
	}
#define HANGUP                   \
	{                            \
		CPM_SESSION_HANGUP, 0, 0 \
	}
#define ROOM                   \
	{                          \
		CPM_SESSION_ROOM, 0, 0 \
	}

static void done(uint32_t handle)
{
	ev(CPM_SESSION_DONE, handle, 0);
}

/* What a client does by itself with one message. */
static struct cpm_session_event verdict(uint32_t handle)
{
	static const unsigned codes[] = {413, 415, 403, 500, 400, 408, 481, 501};
	struct cpm_session_event e = {CPM_SESSION_DONE, handle, 0};
	bool no = false;

	switch(w.peer->temper) {
		case EVERY_SECOND:
			no = handle % 2 == 0;
			break;
		case ONE_ONLY:
			no = handle > 1;
			break;
		case WILD:
			if(chance(6))
				return (struct cpm_session_event){
						CPM_SESSION_DOWN, 0, chance(50) ? 408 : 0};
			if(chance(4))
				return (struct cpm_session_event){CPM_SESSION_HANGUP, 0, 0};
			if(chance(25))
				return (struct cpm_session_event){
						CPM_SESSION_FAILED, handle, codes[rnd_to(FU_N(codes))]};
			break;
		case MUTE:
			return (struct cpm_session_event){CPM_SESSION_DOWN, 0, 408};
		default:
			break;
	}
	if(no) {
		e.kind = CPM_SESSION_FAILED;
		e.code = 403;
	}
	return e;
}

static void peer_acts(void)
{
	struct cpm_session_event es[MSGS_MAX + 1];
	size_t n = 0, some;

	w.peer_at_ms = NEVER;
	if(w.message_out) {
		answer((unsigned)w.peer->message);
		return;
	}
	if(w.d.state == CPM_DELIVER_INVITING) {
		if(w.peer->temper == WILD && chance(10))
			ev(chance(50) ? CPM_SESSION_DOWN : CPM_SESSION_ROOM, 0, 0);
		else
			invited((unsigned)w.peer->invite);
		return;
	}
	some = w.out_n > 0 ? 1 + rnd_to((unsigned)w.out_n) : 0;
	while(n < some) {
		es[n] = verdict(w.out[n]);
		n++;
	}
	if(w.full || chance(5))
		es[n++] = (struct cpm_session_event)ROOM;
	w.peer_at_ms = w.now_ms + 1 + rnd_to(3000);
	if(n > 0)
		tell(es, n);
}

/* When something happens next. */
static uint64_t next_ms(void)
{
	uint64_t at = w.wake_ms;

	if(w.active && w.d.at_ms < at)
		at = w.d.at_ms;
	if(w.active && (w.push != NULL || w.message_out) && w.peer_at_ms < at)
		at = w.peer_at_ms;
	return at;
}

/* Lives until a time: clients, ticks, and looks that the store has planned. */
static void live_until(uint64_t until_ms)
{
	unsigned steps = 0;

	while(next_ms() <= until_ms) {
		must(++steps < 100000);
		if(next_ms() > w.now_ms)
			w.now_ms = next_ms();
		if(w.active && (w.push != NULL || w.message_out)
				&& w.peer_at_ms <= w.now_ms)
			peer_acts();
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
	if(w.push != NULL)
		free(w.push);
	memset(&w, 0, sizeof(w));
	w.now_ms = START_MS;
	w.wake_ms = NEVER;
	w.peer_at_ms = NEVER;
	memset(&conf, 0, sizeof(conf));
	conf.lease_ms = 60000;
	conf.retry_ms[0] = 5000;
	conf.retry_ms[1] = 30000;
	conf.retry_ms[2] = 120000;
	conf.retry_count = 3;
	conf.max_attempts = 5;
	conf.dedup_ms = 300000;
	conf.check_max_ms = HOUR_MS;
	conf.session_window = 4;
	conf.session_window_bytes = 100000;
	conf.invite_ms = 30000;
}

static struct client *client(const char *uri, enum cpm_session session)
{
	struct client *c = &w.clients[w.client_count++];

	must(w.client_count <= CLIENTS_MAX);
	memset(c, 0, sizeof(*c));
	c->uri = uri;
	c->session = session;
	c->here = true;
	c->q = -1;
	c->invite = 200;
	c->message = 200;
	c->fits = 1;
	return c;
}

/* Bob's client takes sessions, and these are queued. The session is on. */
static struct client *session_with(const char *ids)
{
	struct client *c;

	world_new();
	c = client("bob", CPM_SESSION_STANDALONE);
	put_many(ids);
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	return c;
}

/* Nothing is left: no message, session, lock or plan. */
static void ck_all_done(void)
{
	ck_assert(!w.active);
	ck_assert_ptr_null(w.push);
	ck_assert(queue_empty());
	ck_assert_str_eq(w.lock, "");
	ck_assert_uint_eq(w.wake_ms, NEVER);
}

/* ------------------------------------------------------- as it should be */

START_TEST(weekend)
{
	session_with("");
	ck_log("L:empty ");
	put_many("abcdef");
	start(CPM_LEASE_ALL);
	ck_log("L:a1 I:a>bob ");
	ck_assert_int_eq(w.last.event, CPM_DELIVER_SENT);
	ck_assert_int_eq(w.last.mode, CPM_MODE_SESSION);
	live(1000);
	ck_log("");
	invited(200);
	/* as many as may be on their way at once */
	ck_log("N:a1 P:a#1 L:b1 P:b#2 L:c1 P:c#3 L:d1 P:d#4 ");
	done(1);
	ck_log("T:a=ok E:delivered L:e1 P:e#5 ");
	ck_assert_int_eq(w.last.mode, CPM_MODE_SESSION);
	TELL(DONE(2), DONE(3));
	ck_log("T:b=ok T:c=ok E:delivered E:delivered L:f1 P:f#6 L:none ");
	done(4);
	ck_log("T:d=ok E:delivered ");
	done(5);
	ck_log("T:e=ok E:delivered ");
	/* BYE after the last, and only then */
	done(6);
	ck_log("T:f=ok E:delivered B L:empty R:3600000 ");
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 1);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 6);
}
END_TEST

START_TEST(window)
{
	world_new();
	client("bob", CPM_SESSION_CHAT)->temper = GOOD;
	conf.session_window = (size_t)_i;
	for(unsigned i = 0; i < MSGS_MAX; i++) {
		char id[8];
		(void)snprintf(id, sizeof(id), "m%u", i);
		put(id);
	}
	start(CPM_LEASE_WHEN_DUE);
	live(HOUR_MS);
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 1);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], MSGS_MAX);
}
END_TEST

START_TEST(window_bytes)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	put_many("abc");
	conf.session_window_bytes = 100;
	w.msgs[1].bytes = 99;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	ck_log("L:a1 I:a>bob N:a1 P:a#1 ");
	done(1);
	ck_log("T:a=ok E:delivered L:b1 P:b#2 L:c1 P:c#3 ");
	TELL(DONE(3), DONE(2));
	ck_log("T:b=ok T:c=ok E:delivered E:delivered L:empty B L:empty "
		   "R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(max_messages)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	conf.session_max_messages = 2;
	put_many("abc");
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	ck_log("L:a1 I:a>bob N:a1 P:a#1 L:b1 P:b#2 ");
	/* no trigger opens it again */
	trigger(CPM_LEASE_WHEN_DUE);
	tick();
	TELL(DONE(1), DONE(2));
	ck_log("T:a=ok T:b=ok E:delivered E:delivered B L:c1 I:c>bob ");
	invited(202);
	done(1);
	ck_log("N:c1 P:c#1 L:none T:c=ok E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(many_unfit)
{
	/* a drive has an end, however many are passed over */
	world_new();
	client("bob", CPM_SESSION_STANDALONE)->temper = GOOD;
	conf.session_window = 3;
	for(unsigned i = 0; i < MSGS_MAX; i++) {
		char id[8];
		(void)snprintf(id, sizeof(id), "m%u", i);
		put(id)->fits = i == 0;
	}
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_SESSION);
	ck_assert_uint_eq(w.d.at_ms, w.now_ms + 1);
	w.peer_at_ms = w.now_ms + 100;
	/* the others are not for this client's sessions, for now */
	live(1000);
	ck_assert(!queue_empty());
	ck_assert(w.msgs[0].gone);
	for(unsigned i = 1; i < MSGS_MAX; i++) {
		ck_assert(!w.msgs[i].gone);
		w.msgs[i].fits = 1;
	}
	live(HOUR_MS);
	ck_all_done();
}
END_TEST

/* ---------------------------------------------------------- the INVITE */

START_TEST(invite_refused)
{
	static const struct
	{
		unsigned code;
		const char *settled;
		unsigned wake_ms;
	} rows[] = {
			{486, "T:a=retry,5000,r,486 E:retry R:5000 ", 5000},
			{603, "T:a=retry,5000,r,603 E:retry R:5000 ", 5000},
			{480, "T:a=retry,5000,u,480 E:retry R:5000 ", 5000},
			{408, "T:a=retry,5000,u,408 E:retry R:5000 ", 5000},
			{500, "T:a=retry,5000,u,500 E:retry R:5000 ", 5000},
			{503, "T:a=retry,5000,u,503 E:retry R:5000 ", 5000},
			/* about sessions: here, and of no use */
			{488, "T:a=retry,5000,r,488 E:retry R:5000 ", 5000},
			{415, "T:a=retry,5000,r,415 E:retry R:5000 ", 5000},
			{405, "T:a=retry,5000,r,405 E:retry R:5000 ", 5000},
	};
	char want[256];

	ck_assert_int_lt(_i, (int)FU_N(rows));
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	client("tab", CPM_SESSION_CHAT)->q = 500;
	put_many("ab");
	start(CPM_LEASE_WHEN_DUE);
	invited(rows[_i].code);
	ck_log("L:a1 I:a>bob B N:a1 I:a>tab ");
	invited(rows[_i].code);
	(void)snprintf(want, sizeof(want), "B N:a1 %s", rows[_i].settled);
	ck_log(want);
	ck_assert(!w.active);
	ck_assert_uint_eq(w.wake_ms, w.now_ms + rows[_i].wake_ms);
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
	ck_assert_uint_eq(w.msgs[1].attempts, 0);
}
END_TEST
#define INVITE_ROWS 9

START_TEST(classes_of_all)
{
	/* who is not there may come back: that outweighs who is busy */
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	client("tab", CPM_SESSION_CHAT)->q = 500;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	invited(486);
	invited(480);
	ck_log("L:a1 I:a>bob B N:a1 I:a>tab B N:a1 T:a=retry,5000,u,480 E:retry "
		   "R:5000 ");
	/* the second attempt is taken, in order of the queue */
	put("b");
	live(5000);
	invited(200);
	TELL(DONE(1), DONE(2));
	ck_log("L:a2 I:a>bob N:a2 P:a#1 L:b1 P:b#2 L:none T:a=ok T:b=ok "
		   "E:delivered E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(no_session_but_message)
{
	static const unsigned codes[] = {
			400, 403, 404, 405, 406, 415, 420, 488, 501, 606};
	struct client *c;

	ck_assert_int_lt(_i, (int)FU_N(codes));
	world_new();
	c = client("bob", CPM_SESSION_STANDALONE);
	client("tab", CPM_SESSION_NONE)->takes_message = true;
	c->takes_message = true;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	invited(codes[_i]);
	ck_log("L:a1 I:a>bob B N:a1 S:a>bob ");
	ck_assert_int_eq(w.last.mode, CPM_MODE_MESSAGE);
	answer(200);
	ck_log("T:a=ok E:delivered L:empty R:3600000 ");
	ck_assert_int_eq(w.last.mode, CPM_MODE_MESSAGE);
	ck_all_done();
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST
#define NO_SESSION_CODES 10

START_TEST(busy_is_no_reason_for_message)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE)->takes_message = true;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	invited(486);
	ck_log("L:a1 I:a>bob B N:a1 T:a=retry,5000,r,486 E:retry R:5000 ");
}
END_TEST

START_TEST(no_memory)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	put("a");
	w.no_memory = true;
	start(CPM_LEASE_WHEN_DUE);
	/* nobody's failure: no attempt, and soon again */
	ck_log("L:a1 R:5000,a ");
	ck_assert(!w.active);
	ck_assert_uint_eq(w.msgs[0].attempts, 0);
	/* one that takes MESSAGE gets it so */
	client("tab", CPM_SESSION_CHAT)->takes_message = true;
	live(5000);
	ck_log("L:a1 S:a>tab ");
	answer(200);
	ck_log("T:a=ok E:delivered L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(invite_not_sent)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE)->invite = -1;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	ck_log("L:a1 I:a>bob! B T:a=retry,5000,u,not-sent E:retry R:5000 ");
	/* MESSAGE, or the next client */
	w.clients[0].takes_message = true;
	live(5000);
	answer(200);
	ck_log("L:a2 I:a>bob! B S:a>bob T:a=ok E:delivered L:empty R:3600000 ");
	w.clients[0].takes_message = false;
	client("tab", CPM_SESSION_CHAT)->q = 1;
	put("b");
	trigger(CPM_LEASE_WHEN_DUE);
	ck_log("L:b1 I:b>bob! B I:b>tab ");
	invited(200);
	done(1);
	ck_all_done();
}
END_TEST

START_TEST(invite_not_answered)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	conf.invite_ms = _i == 0 ? 30000 : 300000;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	/* what happens in between delays nothing */
	live(1);
	ev(CPM_SESSION_ROOM, 0, 0);
	done(1);
	log_clear();
	live(conf.invite_ms - 2);
	ck_log(_i == 0 ? "X:a "
				   : "X:a X:a X:a X:a X:a X:a X:a X:a X:a X:a X:a X:a "
					 "X:a X:a ");
	ck_assert_int_eq(w.d.state, CPM_DELIVER_INVITING);
	live(1);
	ck_log("B N:a1 T:a=retry,5000,u,408 E:retry R:5000 ");
	/* its answer comes yet */
	w.up = true;
	cpm_deliver_invited(&w.d, &ports, &conf, 200, w.now_ms);
	ck_log("");
}
END_TEST

START_TEST(invite_and_connection_lost)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	ev(_i == 0 ? CPM_SESSION_DOWN : CPM_SESSION_HANGUP, 0, 0);
	ck_log("L:a1 I:a>bob B N:a1 T:a=retry,5000,u,not-sent E:retry R:5000 ");
}
END_TEST

START_TEST(invited_but_lost)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	put_many("ab");
	start(CPM_LEASE_WHEN_DUE);
	msg_gone(&w.msgs[0]);
	invited(200);
	ck_log("L:a1 I:a>bob N:lost B E:lost L:b1 I:b>bob ");
	/* the store is gone just then */
	fail_next(PORT_RENEW, _i == 0 ? CPM_EDOWN : CPM_EPROTO, 0, 1);
	invited(200);
	ck_log(_i == 0 ? "N:EDOWN B R:60000 " : "N:EPROTO B R:60000 ");
	ck_assert(!w.active);
	live(60000);
	invited(200);
	done(1);
	ck_all_done();
}
END_TEST

START_TEST(inviting_lease_lost)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	conf.invite_ms = HOUR_MS;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	if(_i == 0) {
		msg_gone(&w.msgs[0]);
		live(20000);
		ck_log("L:a1 I:a>bob X:a? E:lost B R:60000 ");
		ck_assert(!w.active);
		return;
	}
	store_down();
	log_clear();
	live(59999);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_INVITING);
	log_clear();
	live(1000);
	ck_log("X:EDOWN B R:EDOWN ");
	ck_assert(!w.active);
	store_up();
	live(60000);
	invited(200);
	done(1);
	ck_all_done();
	ck_assert_uint_eq(w.msgs[0].attempts, 2);
}
END_TEST

START_TEST(first_has_no_room)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SEND, CPM_EPROTO, 0, 1);
	invited(200);
	ck_log("L:a1 I:a>bob N:a1 P:a#1! B N:a1 I:a>tab ");
	invited(200);
	done(1);
	ck_all_done();
}
END_TEST

START_TEST(order_of_clients)
{
	struct client *c;

	world_new();
	c = client("pager", CPM_SESSION_NONE);
	c->takes_message = true;
	c->q = 1000;
	client("low", CPM_SESSION_CHAT)->q = 100;
	c = client("older", CPM_SESSION_STANDALONE);
	c->modified_s = 5;
	c = client("newer", CPM_SESSION_CHAT);
	c->modified_s = 6;
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	invited(486);
	invited(486);
	invited(486);
	ck_log("L:a1 I:a>newer B N:a1 I:a>older B N:a1 I:a>low B N:a1 S:a>pager ");
	answer(200);
	ck_all_done();
}
END_TEST

START_TEST(without_sessions)
{
	struct cpm_deliver_ports few = ports;
	struct client *c;

	/* where there are no sessions, and nobody is asked about clients */
	few.session_new = NULL;
	few.client_takes = NULL;
	world_new();
	c = client("bob", CPM_SESSION_STANDALONE);
	put("a");
	memset(&w.d, 0, sizeof(w.d));
	cpm_deliver_start(&w.d, &few, &conf, AOR, LIT("t"), CPM_LEASE_ALL, w.now_ms,
			w.now_ms);
	ck_log("R:3600000 ");
	c->takes_message = true;
	c->fits = 0;
	memset(&w.d, 0, sizeof(w.d));
	cpm_deliver_start(&w.d, &few, &conf, AOR, LIT("t"), CPM_LEASE_ALL, w.now_ms,
			w.now_ms);
	ck_log("L:a1 S:a>bob ");
	ck_assert_int_eq(w.d.state, CPM_DELIVER_WAITING);
}
END_TEST

/* ------------------------------------------------------ refused in it */

START_TEST(only_that_waits)
{
	session_with("abc");
	log_clear();
	ev(CPM_SESSION_FAILED, 2, _i == 0 ? 413 : 415);
	ck_log(_i == 0 ? "T:b=retry,5000,m,413 E:retry "
				   : "T:b=retry,5000,m,415 E:retry ");
	ck_assert_int_eq(w.last.event, CPM_DELIVER_RETRY);
	ck_assert_uint_eq(w.last.code, _i == 0 ? 413 : 415);
	ck_assert_int_eq(w.last.mode, CPM_MODE_SESSION);
	live(2000);
	TELL(DONE(1), DONE(3));
	/* looked at when it is due, and not in an hour */
	ck_log("T:a=ok T:c=ok E:delivered E:delivered B L:wait R:3000 ");
	ck_assert_uint_eq(w.wake_ms, w.now_ms + 3000);
	live(3000);
	invited(200);
	done(1);
	ck_log("L:b2 I:b>bob N:b2 P:b#1 L:none T:b=ok E:delivered B L:empty "
		   "R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(forced_once)
{
	/* a forced delivery tries what is refused once, however many sessions */
	world_new();
	client("bob", CPM_SESSION_CHAT);
	conf.session_max_messages = 1;
	put_many("abc");
	start(CPM_LEASE_ALL);
	invited(200);
	log_clear();
	ev(CPM_SESSION_FAILED, 1, 415);
	ck_log("T:a=retry,5000,m,415 E:retry B L:b1 I:b>bob ");
	invited(200);
	done(1);
	ck_log("N:b1 P:b#1 T:b=ok E:delivered B L:c1 I:c>bob ");
	invited(200);
	done(1);
	ck_log("N:c1 P:c#1 T:c=ok E:delivered B L:wait R:5000 ");
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(one_by_one)
{
	struct client *c;

	world_new();
	c = client("bob", CPM_SESSION_STANDALONE);
	c->temper = _i == 0 ? EVERY_SECOND : ONE_ONLY;
	conf.session_window = 1 + (size_t)_i * 3;
	put_many("abcdefghij");
	start(CPM_LEASE_WHEN_DUE);
	live(HOUR_MS);
	ck_all_done();
	ck_assert_uint_le(w.sessions, 11);
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 10);
	for(size_t i = 0; i < w.msg_count; i++)
		ck_assert_uint_eq(w.msgs[i].attempts, 1);
}
END_TEST

START_TEST(one_by_one_told)
{
	session_with("abcd");
	log_clear();
	TELL(DONE(1), FAILED(2, _i == 0 ? 403 : 500));
	/* what is on its way may still be taken: it is not sent again */
	ck_log("T:a=ok T:b=unsent E:delivered ");
	put("e");
	trigger(CPM_LEASE_WHEN_DUE);
	tick();
	ck_log("");
	TELL(FAILED(4, 403), DONE(3));
	ck_log("T:c=ok T:d=unsent E:delivered B L:b1 I:b>bob ");
	invited(200);
	ck_log("N:b1 P:b#1 ");
	done(1);
	ck_log("T:b=ok E:delivered B L:d1 I:d>bob ");
	invited(200);
	done(1);
	ck_log("N:d1 P:d#1 T:d=ok E:delivered B L:e1 I:e>bob ");
	invited(200);
	done(1);
	ck_log("N:e1 P:e#1 T:e=ok E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(first_refused)
{
	static const struct
	{
		unsigned code;
		const char *settled;
	} rows[] = {{403, "r,403"}, {500, "u,500"}, {408, "u,408"}, {481, "u,481"},
			{501, "r,501"}};
	char want[256];

	ck_assert_int_lt(_i, (int)FU_N(rows));
	session_with("abc");
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	log_clear();
	ev(CPM_SESSION_FAILED, 1, rows[_i].code);
	ck_log("T:b=unsent T:c=unsent B N:a1 I:a>tab ");
	invited(200);
	ck_log("N:a1 P:a#1 L:b1 P:b#2 L:c1 P:c#3 L:none ");
	ev(CPM_SESSION_FAILED, 1, rows[_i].code);
	(void)snprintf(want, sizeof(want),
			"T:b=unsent T:c=unsent B N:a1 T:a=retry,5000,%s E:retry R:5000 ",
			rows[_i].settled);
	ck_log(want);
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
	ck_assert_uint_eq(w.msgs[1].attempts, 0);
}
END_TEST
#define FIRST_ROWS 5

START_TEST(later_was_taken)
{
	/* a client that has taken the second is none that failed */
	session_with("ab");
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	log_clear();
	if(_i == 0) {
		TELL(FAILED(1, 403), DONE(2));
		ck_log("T:a=unsent T:b=ok E:delivered B L:a1 I:a>bob ");
	} else {
		TELL(DONE(2), DOWN(0));
		ck_log("T:b=ok E:delivered T:a=retry,5000,u,session-lost E:retry B "
			   "R:5000 ");
	}
}
END_TEST

START_TEST(attempts_are_its_own)
{
	session_with("");
	put_many("ab");
	w.msgs[1].attempts = 2;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	log_clear();
	ev(CPM_SESSION_FAILED, 2, 415);
	ev(CPM_SESSION_DOWN, 0, 0);
	ck_log("T:b=retry,120000,m,415 E:retry B N:a1 T:a=retry,5000,u,not-sent "
		   "E:retry R:5000 ");
	ck_assert_uint_eq(w.last.attempt, 1);
}
END_TEST

START_TEST(first_is_malformed)
{
	/* 400: that message; others pass it in a session of their own */
	session_with("ab");
	log_clear();
	ev(CPM_SESSION_FAILED, 1, 400);
	ck_log("T:b=unsent B N:a1 T:a=retry,5000,m,400 E:retry L:b1 I:b>bob ");
	invited(200);
	done(1);
	ck_log("N:b1 P:b#1 L:none T:b=ok E:delivered B L:wait R:5000 ");
}
END_TEST

START_TEST(first_refused_for_itself)
{
	session_with("abc");
	log_clear();
	/* a waits alone, and then b is refused too: it is the first of the next */
	TELL(FAILED(1, 415), FAILED(2, 403));
	ck_log("T:a=retry,5000,m,415 T:b=unsent E:retry ");
	ev(CPM_SESSION_DOWN, 0, 0);
	ck_log("T:c=retry,5000,u,session-lost E:retry B R:5000 ");
	/* the message that the session was for is settled long since */
	session_with("a");
	log_clear();
	TELL(FAILED(1, 415), DOWN(0));
	ck_log("T:a=retry,5000,m,415 E:retry B R:5000 ");
	ck_assert_uint_eq(w.events[CPM_DELIVER_LOST], 0);
}
END_TEST

START_TEST(dead)
{
	session_with("");
	conf.max_attempts = 2;
	put_many("abc");
	w.msgs[1].attempts = w.msgs[2].attempts = 1;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	log_clear();
	TELL(FAILED(2, 415));
	ck_log("T:b=dead,m,415 E:dead ");
	TELL(DONE(1), HANGUP);
	ck_log("T:a=ok E:delivered T:c=dead,r,session-lost E:dead B R:30000 ");
	ck_assert_int_eq(w.msgs[1].state, 'D');
	ck_assert_int_eq(w.msgs[2].state, 'D');
	ck_assert_uint_eq(w.events[CPM_DELIVER_DEAD], 2);
	live(30000);
	ck_log("L:none R:3600000 ");
}
END_TEST

START_TEST(refreshes_do_not_wear_out)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	conf.max_attempts = 2;
	put_many("ab");
	w.msgs[0].attempts = 1;
	w.msgs[1].attempts = 8;
	start(CPM_LEASE_UNREACHABLE);
	invited(200);
	log_clear();
	TELL(FAILED(2, 413), HANGUP);
	ck_log("T:b=retry,120000,m,413 E:retry T:a=retry,30000,r,session-lost "
		   "E:retry B R:30000 ");
}
END_TEST

/* ----------------------------------------------------------- its end */

START_TEST(hang_up)
{
	/* none, some, all were acknowledged */
	session_with("abc");
	log_clear();
	if(_i == 0) {
		TELL(HANGUP);
		ck_log("T:a=retry,5000,r,session-lost T:b=unsent T:c=unsent E:retry B "
			   "R:5000 ");
		live(4999);
		ck_log("");
		/* a refresh does not end the wait for who hung up */
		trigger(CPM_LEASE_UNREACHABLE);
		ck_log("L:wait R:1 ");
		live(1);
		ck_log("L:a2 I:a>bob ");
	} else if(_i == 1) {
		TELL(DONE(1), HANGUP, DONE(2));
		ck_log("T:a=ok T:b=ok E:delivered E:delivered "
			   "T:c=retry,5000,r,session-lost E:retry B R:5000 ");
	} else {
		TELL(DONE(1), DONE(2), DONE(3), HANGUP);
		ck_log("T:a=ok T:b=ok T:c=ok E:delivered E:delivered E:delivered B "
			   "R:5000 ");
		ck_all_done();
	}
	ck_assert(_i == 0 || !w.active);
}
END_TEST

START_TEST(connection_lost)
{
	session_with("");
	put_many("abcde");
	conf.session_window = 8;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	TELL(DONE(1), DONE(2));
	log_clear();
	ev(CPM_SESSION_DOWN, 0, 0);
	ck_log("T:c=retry,5000,u,session-lost T:d=unsent T:e=unsent E:retry B "
		   "R:5000 ");
	ck_assert_uint_eq(w.wake_ms, w.now_ms + 5000);
	live(5000);
	invited(200);
	ck_log("L:c2 I:c>bob N:c2 P:c#1 L:d1 P:d#2 L:e1 P:e#3 L:none ");
	TELL(DONE(1), DONE(2), DONE(3));
	ck_all_done();
}
END_TEST

START_TEST(refresh_after_connection_lost)
{
	session_with("abc");
	TELL(DONE(1), DOWN(408));
	log_clear();
	trigger(CPM_LEASE_UNREACHABLE);
	ck_log("L:b2 I:b>bob ");
}
END_TEST

START_TEST(down_before_anything)
{
	/* the connection never came: the next client, in the same attempt */
	session_with("ab");
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	log_clear();
	ev(CPM_SESSION_DOWN, 0, 408);
	ck_log("T:b=unsent B N:a1 I:a>tab ");
	invited(480);
	ck_log("B N:a1 T:a=retry,5000,u,408 E:retry R:5000 ");
}
END_TEST

START_TEST(after_the_end)
{
	session_with("a");
	done(1);
	log_clear();
	TELL(DONE(1), FAILED(1, 403), DOWN(0), HANGUP, ROOM);
	ck_log("");
	ck_all_done();
}
END_TEST

START_TEST(strange_events)
{
	session_with("ab");
	log_clear();
	TELL(DONE(0), DONE(77), FAILED(0, 403), FAILED(77, 415));
	ck_log("");
	TELL(DONE(1), DONE(1), FAILED(1, 415), FAILED(1, 403));
	ck_log("T:a=ok E:delivered ");
	TELL(DONE(1), FAILED(1, 415));
	ck_log("");
	TELL(FAILED(2, 415), FAILED(2, 415), FAILED(2, 403));
	ck_log("T:b=retry,5000,m,415 E:retry B L:wait R:5000 ");
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 1);
}
END_TEST

/* ----------------------------------------------------- who may share it */

static void from(const char *id, const char *who, const char *type)
{
	struct qmsg *m = put(id);

	m->from = who;
	m->type = type;
}

START_TEST(who_shares)
{
	/* profile, type of the first, of the second, together */
	static const struct
	{
		enum cpm_session profile;
		const char *first, *second;
		bool together;
	} rows[] = {
			{CPM_SESSION_CHAT, "message/cpim", "message/cpim", false},
			{CPM_SESSION_CHAT, "text/plain", "text/plain", false},
			{CPM_SESSION_STANDALONE, "message/cpim", "message/cpim", true},
			{CPM_SESSION_STANDALONE, "Message/CPIM; x=y", "message/cpim", true},
			{CPM_SESSION_STANDALONE, "text/plain", "message/cpim", false},
			{CPM_SESSION_STANDALONE, "message/cpim", "text/plain", false},
			{CPM_SESSION_STANDALONE, "text/plain", "text/plain", false},
	};

	ck_assert_int_lt(_i, (int)FU_N(rows));
	world_new();
	client("bob", rows[_i].profile);
	from("a", "sip:alice@example.org", rows[_i].first);
	from("b", "sip:carol@example.org", rows[_i].second);
	from("c", "sip:alice@example.org", rows[_i].first);
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	if(rows[_i].together) {
		ck_log("L:a1 I:a>bob N:a1 P:a#1 L:b1 P:b#2 L:c1 P:c#3 L:none ");
		TELL(DONE(1), DONE(2), DONE(3));
		ck_all_done();
		return;
	}
	ck_log("L:a1 I:a>bob N:a1 P:a#1 L:b1 T:b=unsent ");
	done(1);
	ck_log("T:a=ok E:delivered B L:b1 I:b>bob ");
	invited(200);
	done(1);
	/* order is kept: c does not pass b */
	ck_log("N:b1 P:b#1 L:c1 T:c=unsent T:b=ok E:delivered B L:c1 I:c>bob ");
	invited(200);
	done(1);
	ck_log("N:c1 P:c#1 L:none T:c=ok E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST
#define SENDERS_ROWS 7

START_TEST(one_sender)
{
	/* the same one's go together, in any kind; nobody is nobody's same */
	world_new();
	client("bob", CPM_SESSION_CHAT);
	from("a", "sip:alice@example.org", "text/plain");
	from("b", "sip:alice@example.org", "message/cpim");
	from("c", "", "text/plain");
	from("d", "", "text/plain");
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	ck_log("L:a1 I:a>bob N:a1 P:a#1 L:b1 P:b#2 L:c1 T:c=unsent ");
	/* a trigger opens it to nobody else */
	trigger(CPM_LEASE_WHEN_DUE);
	tick();
	ck_log("");
	TELL(DONE(1), DONE(2));
	invited(200);
	done(1);
	invited(200);
	done(1);
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 3);
}
END_TEST

START_TEST(not_for_this_client)
{
	session_with("");
	put_many("abc");
	w.msgs[1].fits = false;
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	invited(200);
	ck_log("N:a1 P:a#1 L:b1 T:b=unsent L:c1 P:c#2 L:none ");
	TELL(DONE(1), DONE(2));
	/* looked at when this session is done: no client is to have it */
	ck_log("T:a=ok T:c=ok E:delivered E:delivered B L:b1 I:b>bob ");
	w.clients[0].fits = 0;
	invited(486);
	ck_log("B N:b1 T:b=retry,5000,r,486 E:retry R:5000 ");
	ck_assert_uint_eq(w.msgs[1].attempts, 1);
}
END_TEST

START_TEST(cannot_be_told)
{
	/* nothing passes it, and it is no attempt */
	session_with("");
	put_many("abc");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	/* the one that the session is for was judged before the INVITE */
	fail_next(PORT_TAKES, CPM_EDOWN, 0, 2);
	invited(200);
	ck_log("N:a1 P:a#1 L:b1 T:b=unsent ");
	w.clients[0].fits = CPM_EDOWN;
	done(1);
	ck_log("T:a=ok E:delivered B L:b1 R:5000,b ");
	ck_assert_uint_eq(w.msgs[1].attempts, 0);
	ck_assert_uint_eq(w.msgs[2].attempts, 0);
}
END_TEST

START_TEST(deferred)
{
	/* a message for none of the clients of now waits years: nobody plans so
	 * far */
	session_with("");
	put_many("ab");
	w.msgs[0].fail_class = 'd';
	w.msgs[0].due_ms = FAR_MS;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	done(1);
	ck_log("L:empty L:b1 I:b>bob N:b1 P:b#1 L:none T:b=ok E:delivered B L:wait "
		   "R:3600000 ");
}
END_TEST

/* ------------------------------------------------------------ no room */

START_TEST(room)
{
	session_with("");
	put_many("abc");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	fail_next(PORT_SEND, CPM_EAGAIN, 0, 2);
	w.inject[PORT_SEND].skip = 1;
	invited(200);
	ck_log("N:a1 P:a#1 L:b1 P:b#2full T:b=unsent ");
	ck_assert_uint_eq(w.msgs[1].attempts, 0);
	ev(CPM_SESSION_ROOM, 0, 0);
	ck_log("L:b1 P:b#2full T:b=unsent ");
	/* no room yet, whatever else happens */
	done(1);
	ck_log("T:a=ok E:delivered ");
	TELL(ROOM);
	ck_log("L:b1 P:b#2 L:c1 P:c#3 L:none ");
	TELL(DONE(2), DONE(3));
	ck_all_done();
}
END_TEST

START_TEST(room_never_told)
{
	session_with("");
	put_many("ab");
	start(CPM_LEASE_WHEN_DUE);
	fail_next(PORT_SEND, CPM_EAGAIN, 0, 1);
	w.inject[PORT_SEND].skip = 1;
	invited(200);
	log_clear();
	done(1);
	live(20000);
	ck_log("T:a=ok E:delivered X: L:b1 P:b#2 L:none ");
	done(2);
	ck_all_done();
}
END_TEST

START_TEST(send_fails)
{
	session_with("");
	put_many("abc");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	fail_next(PORT_SEND, CPM_EPROTO, 0, 1);
	w.inject[PORT_SEND].skip = 2;
	invited(200);
	/* nothing was taken yet: as a client that failed */
	ck_log("N:a1 P:a#1 L:b1 P:b#2 L:c1 P:c#3! T:c=unsent T:b=unsent B N:a1 "
		   "T:a=retry,5000,u,not-sent E:retry R:5000 ");
	live(5000);
	fail_next(PORT_SEND, CPM_EPROTO, 0, 1);
	w.inject[PORT_SEND].skip = 1;
	conf.session_window = 1;
	invited(200);
	log_clear();
	done(1);
	ck_log("T:a=ok E:delivered L:b1 P:b#2! T:b=unsent B R:5000 ");
	ck_assert_uint_eq(w.msgs[1].attempts, 0);
}
END_TEST

/* ------------------------------------------------------- new messages */

START_TEST(joins_it)
{
	session_with("a");
	put("b");
	log_clear();
	trigger(CPM_LEASE_WHEN_DUE);
	/* the last one is not acknowledged yet: the new one joins it at once */
	ck_assert_uint_le(w.d.at_ms, w.now_ms);
	tick();
	ck_log("L:b1 P:b#2 L:none ");
	done(1);
	put("c");
	trigger(CPM_LEASE_WHEN_DUE);
	live(0);
	ck_log("T:a=ok E:delivered L:c1 P:c#3 L:none ");
	TELL(DONE(3), DONE(2));
	ck_log("T:b=ok T:c=ok E:delivered E:delivered B L:empty R:3600000 ");
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 1);
}
END_TEST

START_TEST(joins_too_late)
{
	/* told of it after the last one was acknowledged: one more look */
	session_with("a");
	log_clear();
	trigger(CPM_LEASE_WHEN_DUE);
	put("b");
	done(1);
	ck_log("T:a=ok E:delivered B L:b1 I:b>bob ");
	invited(200);
	done(1);
	/* the trigger's own look, which finds nothing more */
	ck_log("N:b1 P:b#1 L:none T:b=ok E:delivered B L:empty R:3600000 "
		   "L:empty ");
	ck_all_done();
}
END_TEST

START_TEST(again_while_inviting)
{
	world_new();
	client("bob", CPM_SESSION_STANDALONE);
	put("a");
	start(CPM_LEASE_WHEN_DUE);
	put("b");
	trigger(CPM_LEASE_WHEN_DUE);
	invited(200);
	TELL(DONE(1), DONE(2));
	ck_log("L:a1 I:a>bob N:a1 P:a#1 L:b1 P:b#2 L:none T:a=ok T:b=ok "
		   "E:delivered E:delivered B L:empty R:3600000 L:empty ");
	ck_all_done();
}
END_TEST

START_TEST(forced_meanwhile)
{
	/* another client registers while this one has a session: what was refused
	 * here is its own, and at once */
	session_with("ab");
	ev(CPM_SESSION_FAILED, 1, 415);
	log_clear();
	client("tab", CPM_SESSION_STANDALONE)->modified_s = 9;
	trigger(CPM_LEASE_ALL);
	tick();
	done(2);
	ck_log("L:none T:b=ok E:delivered B L:wait R:5000 L:a2 I:a>tab ");
	invited(200);
	done(1);
	ck_all_done();
}
END_TEST

/* ------------------------------------------------------------- leases */

START_TEST(an_hour)
{
	session_with("abc");
	log_clear();
	live(19999);
	ck_log("");
	live(1);
	ck_log("X:a,b,c ");
	done(2);
	log_clear();
	live(HOUR_MS - 20001);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_SESSION);
	ck_assert_uint_eq(w.log_n, 178 * 6);
	ck_assert_uint_gt(w.lock_until_ms, w.now_ms + 20000);
	TELL(DONE(1), DONE(3));
	ck_all_done();
	ck_assert_uint_eq(w.msgs[0].attempts, 1);
}
END_TEST

START_TEST(one_is_lost)
{
	/* discarded by its user */
	session_with("abc");
	msg_gone(&w.msgs[1]);
	log_clear();
	live(20000);
	ck_log("X:a,b?,c E:lost ");
	done(2); /* in vain */
	ck_log("");
	TELL(DONE(1), DONE(3));
	ck_log("T:a=ok T:c=ok E:delivered E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(taken_and_lost)
{
	session_with("ab");
	log_clear();
	msg_gone(&w.msgs[0]);
	done(1);
	ck_log("T:a=ok? E:lost ");
	done(2);
	ck_log("T:b=ok E:delivered B L:empty R:3600000 ");
}
END_TEST

static void rival(void)
{
	struct cpm_lease lease;
	char token[32];

	(void)snprintf(token, sizeof(token), "rival%u", ++w.token_seq);
	store_lease(
			cpm_pl_str(token), conf.lease_ms, CPM_LEASE_WHEN_DUE, 0, 0, &lease);
}

START_TEST(all_are_lost)
{
	/* the process stood still for longer than its leases */
	session_with("abc");
	log_clear();
	w.now_ms += 60001;
	rival();
	live(0);
	ck_log("X:a?,b?,c? E:lost E:lost E:lost B L:busy R:3600000 ");
	ck_assert(!w.active);
	ck_assert_str_eq(w.lock, "rival2");
	ck_assert_uint_eq(w.wake_ms, w.now_ms + 61000);
}
END_TEST

START_TEST(store_down_too_long)
{
	session_with("abc");
	store_down();
	log_clear();
	live(20000);
	ck_log("X:EDOWN ");
	live(39999);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_SESSION);
	log_clear();
	live(1000);
	ck_log("X:EDOWN B R:EDOWN ");
	ck_assert(!w.active);
	store_up();
	log_clear();
	live(2000);
	ck_log("L:a2 I:a>bob ");
	invited(200);
	TELL(DONE(1), DONE(2), DONE(3));
	ck_all_done();
}
END_TEST

START_TEST(store_back_in_time)
{
	/* a lease ends a lease after it was last extended */
	session_with("abc");
	live(20000);
	store_down();
	live(59999);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_SESSION);
	store_up();
	live(500);
	TELL(DONE(1), DONE(2), DONE(3));
	ck_all_done();

	session_with("abc");
	fail_next(PORT_EXTEND, CPM_EUNSURE, 0, 3);
	log_clear();
	live(22000);
	ck_log("X:EUNSURE X:EUNSURE X:EUNSURE X:a,b,c ");
	live(20000);
	ck_log("X:a,b,c ");
}
END_TEST

/* ------------------------------------------- the store while it settles */

START_TEST(settle_fails)
{
	/* rc, of two so many were executed */
	static const struct
	{
		int rc;
		unsigned executed;
		const char *again;
	} rows[] = {
			{CPM_EDOWN, 0, "T:a=ok T:b=ok E:delivered E:delivered "},
			{CPM_EUNSURE, 0, "T:a=ok T:b=ok E:delivered E:delivered "},
			{CPM_EDOWN, 1, "T:a=ok? T:b=ok E:delivered E:delivered "},
			{CPM_EUNSURE, 1, "T:a=ok? T:b=ok E:delivered E:delivered "},
			{CPM_EUNSURE, 2, "T:a=ok? T:b=ok? E:delivered E:delivered "},
			{CPM_EPROTO, 1, "T:a=ok? T:b=ok E:delivered E:delivered "},
	};
	char want[64];

	ck_assert_int_lt(_i, (int)FU_N(rows));
	session_with("");
	put_many("abcdef");
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	log_clear();
	fail_next(PORT_MANY, rows[_i].rc, rows[_i].executed, 2);
	TELL(DONE(1), DONE(2));
	/* nothing is leased meanwhile */
	(void)snprintf(want, sizeof(want), "T:%s ", cpm_rc_name(rows[_i].rc));
	ck_log(want);
	if(rows[_i].rc == CPM_EPROTO) {
		live(19999);
		ck_log("");
		live(40001 + 60000);
		ck_assert_ptr_nonnull(strstr(w.log, rows[_i].again));
	} else {
		live(499);
		ck_log("");
		live(1);
		ck_log(want);
		live(500);
		ck_assert_ptr_nonnull(strstr(w.log, rows[_i].again));
		ck_assert_ptr_nonnull(strstr(w.log, "L:e1 P:e#5 L:f1 P:f#6 "));
	}
	log_clear();
	/* and the store is not asked more than before */
	ck_assert_uint_gt(w.d.at_ms, w.now_ms + 500);
	TELL(DONE(3), DONE(4), DONE(5), DONE(6));
	ck_all_done();
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 6);
	ck_assert_uint_eq(w.sessions, 1);
}
END_TEST
#define SETTLE_ROWS 6

START_TEST(one_of_them_fails)
{
	session_with("ab");
	log_clear();
	w.one_rc = CPM_EUNSURE;
	TELL(DONE(1), DONE(2));
	ck_log("T:a=EUNSURE T:b=ok E:delivered ");
	live(500);
	ck_log("T:a=ok E:delivered B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(down_and_store_down)
{
	/* the connection is lost before the store was told what was taken: it is
	 * told until it knows, and nobody gets that again */
	session_with("");
	put_many("abcd");
	w.msgs[1].attempts = 1;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	client("tab", CPM_SESSION_STANDALONE);
	store_down();
	log_clear();
	if(_i == 0) {
		TELL(DONE(1), DOWN(0));
	} else {
		TELL(DONE(1));
		TELL(HANGUP);
	}
	TELL(DONE(2), FAILED(3, 415), HANGUP, DOWN(0)); /* too late */
	trigger(CPM_LEASE_WHEN_DUE);
	live(5 * HOUR_MS);
	ck_assert(w.active);
	ck_assert_uint_eq(w.events[CPM_DELIVER_RETRY], 0);
	log_clear();
	store_up();
	live(500);
	ck_log(_i == 0 ? "T:a=ok T:b=retry,30000,u,session-lost T:c=unsent "
					 "T:d=unsent E:delivered E:retry B R:30000 L:wait R:30000 "
				   : "T:a=ok T:b=retry,30000,r,session-lost T:c=unsent "
					 "T:d=unsent E:delivered E:retry B R:30000 L:wait "
					 "R:30000 ");
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 1);
	ck_assert_uint_eq(w.msgs[2].attempts, 0);
}
END_TEST

START_TEST(refused_and_store_down)
{
	session_with("ab");
	store_down();
	log_clear();
	TELL(FAILED(1, 415));
	ck_log("T:EDOWN ");
	/* it is refused, not taken, and not this client's end */
	TELL(DONE(1), FAILED(1, 403), FAILED(1, 415));
	ck_assert_uint_eq(w.events[CPM_DELIVER_RETRY], 0);
	store_up();
	log_clear();
	live(500);
	ck_log("T:a=retry,5000,m,415 E:retry ");
	/* with the next message's connection lost, too */
	fail_next(PORT_MANY, CPM_EUNSURE, 1, 1);
	ev(CPM_SESSION_DOWN, 0, 0);
	live(500);
	ck_assert_uint_eq(w.events[CPM_DELIVER_RETRY], 2);
	ck_assert_uint_eq(w.events[CPM_DELIVER_LOST], 0);
}
END_TEST

START_TEST(first_refused_and_store_down)
{
	static const struct
	{
		unsigned code;
		const char *settled, *after;
	} rows[] = {{403, "r,403", "R:5000 "}, {500, "u,500", "R:5000 "},
			{400, "m,400", "L:c1 I:c>bob "}};
	char want[256];

	ck_assert_int_lt(_i, (int)FU_N(rows));
	session_with("abc");
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	store_down();
	ev(CPM_SESSION_FAILED, 2, 415);
	/* no next client before the store knows of b */
	ev(CPM_SESSION_FAILED, 1, rows[_i].code);
	store_up();
	log_clear();
	live(500);
	(void)snprintf(want, sizeof(want),
			"T:a=retry,5000,%s T:b=retry,5000,m,415 T:c=unsent E:retry E:retry "
			"B %s",
			rows[_i].settled, rows[_i].after);
	ck_log(want);
}
END_TEST

START_TEST(taken_and_leases_lost)
{
	/* what the client took is told even when no lease is left */
	session_with("abc");
	store_down();
	log_clear();
	done(1);
	live(70000);
	ck_assert(w.active);
	ck_assert_int_eq(w.d.state, CPM_DELIVER_SESSION);
	store_up();
	log_clear();
	live(500);
	/* and the look that was owed meanwhile is made */
	ck_log("T:a=ok E:delivered B R:60000 L:b2 I:b>bob ");
	ck_assert_uint_eq(w.events[CPM_DELIVER_DELIVERED], 1);
	invited(200);
	TELL(DONE(1), DONE(2));
	ck_all_done();
}
END_TEST

START_TEST(client_failed_and_store_down)
{
	session_with("abc");
	client("tab", CPM_SESSION_STANDALONE)->q = 1;
	store_down();
	log_clear();
	TELL(DOWN(0));
	ck_log("T:EDOWN B N:EDOWN ");
	ck_assert_int_eq(w.d.state, CPM_DELIVER_RENEWING);
	store_up();
	live(500);
	invited(200);
	/* what is leased by this delivery is given again, no attempt more */
	ck_log("N:EDOWN N:a1 I:a>tab N:a1 P:a#1 L:b1 P:b#2 L:c1 P:c#3 L:none " + 8);
	TELL(DONE(1), DONE(2), DONE(3));
	ck_all_done();
}
END_TEST

START_TEST(lease_fails)
{
	static const struct
	{
		int rc;
		unsigned executed;
	} rows[] = {{CPM_EDOWN, 0}, {CPM_EUNSURE, 0}, {CPM_EUNSURE, 1}};

	ck_assert_int_lt(_i, (int)FU_N(rows));
	session_with("");
	put_many("abc");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	fail_next(PORT_LEASE, rows[_i].rc, rows[_i].executed, 2);
	invited(200);
	done(1);
	live(500);
	ck_assert_ptr_nonnull(strstr(w.log, "L:b1 P:b#2 L:c1 P:c#3 L:none "));
	ck_assert_uint_eq(w.d.at_ms, START_MS + 20000);
	TELL(DONE(2), DONE(3));
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 1);
}
END_TEST

START_TEST(lease_fails_then_closed)
{
	/* a time that has passed is no time to wait for */
	session_with("");
	put_many("abcd");
	conf.session_window = 3;
	start(CPM_LEASE_WHEN_DUE);
	invited(200);
	fail_next(PORT_LEASE, CPM_EDOWN, 0, 1);
	done(1);
	ck_assert_uint_eq(w.d.at_ms, w.now_ms + 500);
	live(100);
	TELL(FAILED(2, 403));
	ck_assert_uint_eq(w.d.at_ms, START_MS + 20000);
	done(3);
	ck_assert_ptr_nonnull(strstr(w.log, "B L:b1 I:b>bob "));
}
END_TEST

START_TEST(lease_refused)
{
	/* it says so again: no reason to ask twice a second */
	session_with("");
	put_many("ab");
	start(CPM_LEASE_WHEN_DUE);
	log_clear();
	fail_next(PORT_LEASE, CPM_EPROTO, 0, 100);
	invited(200);
	live(1000);
	ck_log("N:a1 P:a#1 L:EPROTO ");
	done(1);
	ck_log("T:a=ok E:delivered B L:EPROTO R:60000 ");
	ck_assert(!w.active);
}
END_TEST

START_TEST(emptied_by_others)
{
	session_with("abcdef");
	log_clear();
	msg_gone(&w.msgs[4]);
	msg_gone(&w.msgs[5]);
	done(1);
	ck_log("T:a=ok E:delivered L:none ");
	msg_gone(&w.msgs[1]);
	msg_gone(&w.msgs[2]);
	msg_gone(&w.msgs[3]);
	TELL(DONE(2), DONE(3), DONE(4));
	ck_log("T:b=ok? T:c=ok? T:d=ok? E:lost E:lost E:lost B L:empty R:3600000 ");
	ck_all_done();
}
END_TEST

START_TEST(many_sessions)
{
	/* the lock is one and the same, however many sessions */
	world_new();
	client("bob", CPM_SESSION_CHAT)->temper = GOOD;
	conf.session_max_messages = 1;
	for(unsigned i = 0; i < 30; i++) {
		char id[8];
		(void)snprintf(id, sizeof(id), "m%u", i);
		put(id);
	}
	start(CPM_LEASE_WHEN_DUE);
	live(30 * 6000);
	ck_all_done();
	ck_assert_uint_eq(w.sessions, 30);
	ck_assert_ptr_null(strstr(w.log, "L:busy"));
}
END_TEST

/* ---------------------------------------------------------- any life at all */

static void ck_world(void)
{
	for(size_t i = 0; i < w.msg_count; i++) {
		const struct qmsg *m = &w.msgs[i];

		/* nothing is lost: gone means taken or discarded */
		must(!m->gone || m->acked || m->discarded);
		must(m->told <= 1 || m->excused);
		must(m->state != 'D' || m->attempts >= conf.max_attempts);
		must(m->attempts < 100000);
	}
}

static void random_put(void)
{
	static const char *const senders[] = {
			"sip:alice@example.org", "sip:carol@example.org", ""};
	char id[16];
	struct qmsg *m;

	if(w.msg_count == MSGS_MAX)
		return;
	(void)snprintf(id, sizeof(id), "m%zu", w.msg_count);
	m = put(id);
	m->from = senders[chance(70) ? 0 : rnd_to(3)];
	m->type = chance(80) ? "message/cpim" : "text/plain";
	m->bytes = rnd_to(60000);
	m->fits = chance(90);
	trigger(CPM_LEASE_WHEN_DUE);
}

static void random_client(struct client *c)
{
	static const int codes[] = {
			200, 200, 200, 200, 202, 480, 486, 488, 415, 500, 0, -1};

	c->here = chance(80);
	c->invite = codes[rnd_to(FU_N(codes))];
	c->message = codes[rnd_to(FU_N(codes))];
	c->fits = chance(80) ? 1 : chance(50) ? 0 : CPM_EDOWN;
	c->temper = (enum temper)(GOOD + rnd_to(TEMPERS_ - GOOD));
	c->modified_s = w.now_ms / 1000;
}

static void random_step(void)
{
	struct qmsg *m;

	switch(rnd_to(14)) {
		case 0:
		case 1:
		case 2:
			random_put();
			break;
		case 3:
			trigger((enum cpm_lease_force)rnd_to(3));
			break;
		case 4:
		case 5:
			random_client(&w.clients[rnd_to((unsigned)w.client_count)]);
			break;
		case 6:
			w.fail_percent = chance(60) ? 0 : rnd_to(100);
			break;
		case 7:
			live(rnd_to(200000));
			break;
		case 8:
			w.full = w.push != NULL && chance(50);
			w.no_memory = chance(20);
			break;
		case 9:
			if(chance(10) && w.msg_count > 0) {
				m = &w.msgs[rnd_to((unsigned)w.msg_count)];
				m->discarded = m->discarded || !m->gone;
				msg_gone(m);
			}
			if(chance(5))
				rival();
			break;
		case 10:
			/* the worker stands still, or dies */
			if(chance(10))
				w.now_ms += rnd_to(200000);
			if(chance(5) && w.active) {
				for(size_t i = 0; i < w.msg_count; i++)
					w.msgs[i].excused |= w.msgs[i].acked;
				if(w.push != NULL)
					port_session_end(&w);
				w.active = w.message_out = false;
				w.d.state = CPM_DELIVER_FINISHED;
				w.d.at_ms = 0;
			}
			break;
		default:
			live(rnd_to(5000));
			break;
	}
	ck_world();
}

START_TEST(random_life)
{
	static char uris[3][16];
	unsigned most = 0;

	for(unsigned seed = 0; seed < 40; seed++) {
		world_new();
		w.seed = (unsigned)_i * 1000 + seed;
		w.random = w.seed;
		conf.max_attempts = 1 + rnd_to(12);
		conf.session_window = 1 + rnd_to(chance(70) ? 5 : CPM_PUSH_WINDOW);
		conf.session_max_messages = chance(70) ? 0 : 1 + rnd_to(5);
		for(unsigned i = 0; i < 1 + rnd_to(3); i++) {
			struct client *c;
			(void)snprintf(uris[i], sizeof(uris[i]), "c%u", i);
			c = client(uris[i], (enum cpm_session)rnd_to(3));
			c->takes_message = c->session == CPM_SESSION_NONE || chance(50);
			c->temper = GOOD;
		}
		for(unsigned step = 0; step < 250; step++)
			random_step();
		/* and then all is well again: what is left goes out by itself */
		w.fail_percent = 0;
		w.full = w.no_memory = false;
		for(size_t i = 0; i < w.client_count; i++) {
			w.clients[i].here = true;
			w.clients[i].invite = w.clients[i].message = 200;
			w.clients[i].fits = 1;
			w.clients[i].temper = GOOD;
		}
		live(5 * HOUR_MS);
		/* what is left has a time that is planned */
		must(queue_empty() || w.wake_ms <= w.now_ms + HOUR_MS + 30000);
		trigger(CPM_LEASE_ALL); /* what is deferred waits for this */
		live(HOUR_MS / 2);
		ck_world();
		must(!w.active);
		lock_look(); /* what could not be given back has run out */
		must(w.lock[0] == '\0');
		for(size_t i = 0; i < w.msg_count; i++)
			must(w.msgs[i].gone || w.msgs[i].state == 'D');
		most = w.calls_max > most ? w.calls_max : most;
	}
	ck_assert_uint_le(most, CALLS_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpm_push");

	fu_case(s, "messages of an offline weekend come in one session", weekend);
	{
		TCase *tc =
				tcase_create("however many are on their way at once, in order");
		tcase_add_loop_test(tc, window, 1, CPM_PUSH_WINDOW + 1);
		suite_add_tcase(s, tc);
	}
	fu_case(s, "large messages go one after the other", window_bytes);
	fu_case(s, "a session has no more than is configured", max_messages);
	fu_case(s, "messages that are passed over are looked at in portions",
			many_unfit);
	fu_table(s, "an INVITE that is refused goes to the next client, then waits",
			invite_refused, INVITE_ROWS);
	fu_case(s, "of two refusals the more telling one decides", classes_of_all);
	fu_table(s, "who takes no session gets a MESSAGE", no_session_but_message,
			NO_SESSION_CODES);
	fu_case(s, "who is busy gets no MESSAGE either",
			busy_is_no_reason_for_message);
	fu_case(s, "no memory for a session is no attempt", no_memory);
	fu_case(s, "an INVITE that cannot be sent: MESSAGE, the next client, later",
			invite_not_sent);
	fu_table(s, "an INVITE that is not answered in time is given up",
			invite_not_answered, 2);
	fu_table(s, "a connection lost before the answer is a client lost",
			invite_and_connection_lost, 2);
	fu_table(s, "a session without its message is ended", invited_but_lost, 2);
	fu_table(s, "an INVITE is given up when its lease is lost",
			inviting_lease_lost, 2);
	fu_case(s, "a session that takes nothing is left for the next client",
			first_has_no_room);
	fu_case(s, "sessions first, then q, then who came last", order_of_clients);
	fu_case(s,
			"where there are no sessions, a client that takes both gets a "
			"MESSAGE",
			without_sessions);
	fu_table(s, "a message refused for itself waits alone, until it is due",
			only_that_waits, 2);
	fu_case(s, "what is forced is forced once, in any number of sessions",
			forced_once);
	fu_table(s, "a client that takes one message in each session gets all",
			one_by_one, 2);
	fu_table(s, "what is on its way when one is refused is not sent again",
			one_by_one_told, 2);
	fu_table(s, "who refuses the first message is a client that failed",
			first_refused, FIRST_ROWS);
	fu_table(s, "who refuses the first and takes the second is none",
			later_was_taken, 2);
	fu_case(s, "a message's attempts are its own", attempts_are_its_own);
	fu_case(s, "a message that is malformed for its client keeps nobody",
			first_is_malformed);
	fu_case(s, "a message that waits alone is not the next client's",
			first_refused_for_itself);
	fu_case(s, "attempts come to an end", dead);
	fu_case(s, "attempts that refreshes brought on do not",
			refreshes_do_not_wear_out);
	fu_table(s, "who hangs up gets the rest later", hang_up, 3);
	fu_case(s, "a connection lost with three on their way: they come later",
			connection_lost);
	fu_case(s, "a refresh ends that wait", refresh_after_connection_lost);
	fu_case(s, "a connection that never came is a client that failed",
			down_before_anything);
	fu_case(s, "what comes after the end is nothing", after_the_end);
	fu_case(s, "what is told twice, or of nothing, changes nothing",
			strange_events);
	fu_table(s, "other senders have a session of their own where it names one",
			who_shares, SENDERS_ROWS);
	fu_case(s, "one sender's messages go together, and nobody's alone",
			one_sender);
	fu_case(s, "what is not for this client is looked at afterwards",
			not_for_this_client);
	fu_case(s, "what cannot be judged keeps its place", cannot_be_told);
	fu_case(s, "a deferred message plans nothing", deferred);
	fu_case(s, "no room is waited for", room);
	fu_case(s, "room that nobody tells of is tried", room_never_told);
	fu_case(s, "a session that takes no more is lost", send_fails);
	fu_case(s, "a new message joins the session", joins_it);
	fu_case(s, "one that comes too late has a look of its own", joins_too_late);
	fu_case(s, "one that comes while the client is invited joins",
			again_while_inviting);
	fu_case(s, "a client that comes meanwhile gets what was refused",
			forced_meanwhile);
	fu_case(s, "leases are held as long as the session lives", an_hour);
	fu_case(s, "one that is discarded meanwhile does not matter", one_is_lost);
	fu_case(s, "one that was discarded is not delivered", taken_and_lost);
	fu_case(s, "who has lost all leases sends nothing more", all_are_lost);
	fu_case(s, "a store down for longer than the leases ends the session",
			store_down_too_long);
	fu_case(s, "a store that is back in time changes nothing",
			store_back_in_time);
	fu_table(s, "what was taken is told until the store knows, and once",
			settle_fails, SETTLE_ROWS);
	fu_case(s, "one of a pipeline that failed is told again",
			one_of_them_fails);
	fu_table(s, "a connection lost while the store is down: nothing twice",
			down_and_store_down, 2);
	fu_case(s, "a refusal while the store is down is told later",
			refused_and_store_down);
	fu_table(s, "a client that fails while another message is not settled",
			first_refused_and_store_down, 3);
	fu_case(s, "what was taken is told without a lease", taken_and_leases_lost);
	fu_case(s, "a client that fails while the store is down",
			client_failed_and_store_down);
	fu_table(s, "a lease that fails is asked for again", lease_fails, 3);
	fu_case(s, "and is not, when the session is closed",
			lease_fails_then_closed);
	fu_case(s, "a lease that the store refuses is not asked for again",
			lease_refused);
	fu_case(s, "a queue emptied by others ends the session", emptied_by_others);
	fu_case(s, "many sessions in a row are one delivery", many_sessions);
	fu_table(s, "whatever fails: in order, once, nothing lost, and an end",
			random_life, 20);
	return fu_run(s);
}
