/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_queue_life.c - any life at all: random calls against a model of what
 * ought to be in Redis, to the key; and processes that race.
 */

#include "queue_helper.h"

#include <errno.h>
#include <sys/wait.h>

#include "io_clock.h"

/* ------------------------------------------------------------- any life at all */

#define W_USERS 3
#define W_MSGS 400
#define W_STEPS 900

struct wmsg
{
	unsigned id;
	uint64_t expires_ms;
	size_t bytes;
	bool has_state;
	char state;
	char from; /* leased by a retrieval: what it was; else 0 */
	unsigned attempts;
	uint64_t due_ms, deadline_ms;
	char token[16];
	char fail_class;
	unsigned sender; /* 0: unknown */
	char looked[16]; /* who had its look at it, and passes over it */
};

/* What ought to be in Redis. */
static struct wuser
{
	const char *aor;
	struct wmsg m[W_MSGS];
	size_t n;
	char lock[16];
	uint64_t lock_until_ms;
	struct wleft
	{
		unsigned id;
		enum cpm_left_why why;
	} left[W_MSGS * 8]; /* reported to nobody yet */
	size_t left_n;
	char reporter[16];
	uint64_t reporter_until_ms;
	bool job[W_MSGS * 8]; /* by id */
	unsigned delivered[W_MSGS * 8];
	size_t delivered_n;
} users_w[W_USERS];

static uint64_t w_now, w_random;
static unsigned w_ids;

static unsigned rnd_to(unsigned n)
{
	uint64_t z = (w_random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((z ^ (z >> 31)) % n);
}

static char w_state(const struct wmsg *m)
{
	if(m->state == 'L' && m->deadline_ms <= w_now)
		return m->from != '\0' ? m->from : 'Q';
	return m->state;
}

/* In the index of the dead. */
static bool w_dead(const struct wmsg *m)
{
	return m->state == 'D' || (m->state == 'L' && m->from == 'D');
}

/* As if it had never been leased. */
static void w_unlease(struct wmsg *m)
{
	m->token[0] = '\0';
	m->state = m->from != '\0' ? m->from : 'Q';
	if(m->from == '\0')
		m->attempts--;
	/* one that was new leaves no record */
	if(m->from == 'Q' && m->attempts == 0 && m->due_ms == 0)
		m->has_state = false;
	m->from = '\0';
}

static void w_remove(struct wuser *u, size_t i)
{
	memmove(&u->m[i], &u->m[i + 1], (u->n - i - 1) * sizeof(u->m[0]));
	u->n--;
}

static void w_leave(struct wuser *u, size_t i, enum cpm_left_why why)
{
	ck_assert_uint_lt(u->left_n, FU_N(u->left));
	u->left[u->left_n].id = u->m[i].id;
	u->left[u->left_n++].why = why;
	w_remove(u, i);
}

static void w_reap(struct wuser *u)
{
	for(size_t i = 0; i < u->n;) {
		if(u->m[i].expires_ms != 0 && u->m[i].expires_ms <= w_now
				&& w_state(&u->m[i]) != 'L')
			w_leave(u, i, CPM_LEFT_EXPIRED);
		else
			i++;
	}
}

static const char *w_id(unsigned id)
{
	static char text[16];

	(void)snprintf(text, sizeof(text), "m%u", id);
	return text;
}

static struct cpm_pl w_body(unsigned id)
{
	static char body[64];

	memset(body, (int)('a' + id % 26), sizeof(body));
	return cpm_pl(body, id % sizeof(body));
}

static uint64_t w_bytes(const struct wuser *u)
{
	uint64_t bytes = 0;

	for(size_t i = 0; i < u->n; i++)
		bytes += u->m[i].bytes;
	return bytes;
}

static int w_full(const struct cpm_put *p, uint64_t n, uint64_t bytes)
{
	if(p->max_messages > 0 && n >= p->max_messages)
		return CPM_PUT_FULL_MESSAGES;
	if(p->max_bytes > 0 && bytes + p->blob.n > p->max_bytes)
		return CPM_PUT_FULL_BYTES;
	return CPM_PUT_QUEUED;
}

/* What overflow drops for this one: marks, or nothing if it is not enough. */
static int w_overflow(const struct wuser *u, const struct cpm_put *p, bool *out)
{
	uint64_t n = u->n, bytes = w_bytes(u);
	int want = w_full(p, n, bytes);

	memset(out, 0, W_MSGS);
	if(want == CPM_PUT_QUEUED || !p->drop_oldest
			|| (p->max_bytes > 0 && p->blob.n > p->max_bytes))
		return want;
	for(size_t i = 0; i < u->n && want != CPM_PUT_QUEUED; i++) {
		if(w_state(&u->m[i]) != 'Q' && w_state(&u->m[i]) != 'D')
			continue;
		out[i] = true;
		want = w_full(p, --n, bytes -= u->m[i].bytes);
	}
	if(want != CPM_PUT_QUEUED)
		memset(out, 0, W_MSGS);
	return want;
}

static void w_put(struct wuser *u)
{
	static const char *const senders[] = {
			"", "sip:alice@example.org", "sip:carol@example.org"};
	struct cpm_put p = {.aor = cpm_pl_str(u->aor), .check_in_ms = 5000};
	struct wmsg m = {.state = 'Q'};
	int want = CPM_PUT_QUEUED;
	uint64_t of_sender = 0, dropped = 0;
	bool old = rnd_to(5) == 0, other = rnd_to(2) == 0;
	bool out[W_MSGS] = {false};
	char id[16];

	m.id = old && w_ids > 0 ? rnd_to(w_ids) : w_ids++;
	m.expires_ms = rnd_to(3) == 0 ? w_now + 1 + rnd_to(100000) : 0;
	m.sender = rnd_to(3);
	w_reap(u);
	for(size_t i = 0; i < u->n; i++) {
		of_sender += u->m[i].sender == m.sender;
		if(u->m[i].id == m.id)
			want = other ? CPM_PUT_CONFLICT : CPM_PUT_DUPLICATE;
	}
	for(size_t i = 0; i < u->delivered_n && want == CPM_PUT_QUEUED; i++)
		if(u->delivered[i] == m.id)
			want = other ? CPM_PUT_CONFLICT : CPM_PUT_GONE;
	(void)snprintf(id, sizeof(id), "%s", w_id(m.id));
	p.id = cpm_pl_str(id);
	p.blob = blob_of(p.aor, p.id,
			want == CPM_PUT_CONFLICT ? LIT("another") : w_body(m.id),
			m.expires_ms);
	m.bytes = p.blob.n;
	p.expires_ms = m.expires_ms;
	p.sender = cpm_pl_str(senders[m.sender]);
	p.drop_oldest = rnd_to(2) == 0;
	if(u->n >= W_MSGS - 1 || rnd_to(12) == 0)
		p.max_messages = u->n > 2 ? u->n - rnd_to(2) : 1;
	if(rnd_to(12) == 0)
		p.max_bytes = w_bytes(u) / (1 + rnd_to(3)) + rnd_to(1000);
	if(rnd_to(6) == 0)
		p.max_per_sender = of_sender + rnd_to(2);
	if(want == CPM_PUT_QUEUED) {
		if(p.max_per_sender > 0 && of_sender >= p.max_per_sender)
			want = CPM_PUT_FULL_SENDER;
		else
			want = w_overflow(u, &p, out);
	}
	ck_assert_int_eq(io_queue_put(q, &p, &put_res), CPM_OK);
	ck_assert_int_eq((int)put_res.status, want);
	if(want == CPM_PUT_QUEUED) {
		for(size_t i = 0, at = 0, n = u->n; i < n; i++) {
			if(out[i]) {
				w_leave(u, at, CPM_LEFT_OVERFLOW);
				dropped++;
			} else
				at++;
		}
		u->m[u->n++] = m;
	}
	ck_assert_uint_eq(put_res.dropped, dropped);
	ck_assert_uint_eq(put_res.messages, u->n);
	ck_assert_uint_eq(put_res.bytes, w_bytes(u));
}

static void w_lease_take(struct wuser *u, struct wmsg *m, const char *token)
{
	m->has_state = true;
	m->state = 'L';
	m->from = '\0';
	m->deadline_ms = w_now + LEASE_MS;
	m->looked[0] = '\0';
	(void)snprintf(m->token, sizeof(m->token), "%s", token);
	(void)snprintf(u->lock, sizeof(u->lock), "%s", token);
	u->lock_until_ms = m->deadline_ms;
}

static void w_lease(
		struct wuser *u, const char *token, unsigned force, size_t max)
{
	struct cpm_lease_ask ask = {.aor = cpm_pl_str(u->aor),
			.token = cpm_pl_str(token),
			.lease_ms = LEASE_MS,
			.force = (enum cpm_lease_force)force,
			.max_messages = max,
			.max_bytes = rnd_to(2) == 0 ? 1000000 : rnd_to(1000)};
	struct wmsg *found[CPM_LEASE_MAX];
	struct cpm_lease got[CPM_LEASE_MAX];
	size_t found_n = 0, n = 99;
	enum cpm_lease_status want = CPM_LEASE_NONE;
	uint64_t wait_ms = 0, bytes = 0;

	if(u->n == 0)
		want = CPM_LEASE_EMPTY;
	else if(u->lock[0] != '\0' && strcmp(u->lock, token) != 0)
		want = CPM_LEASE_BUSY;
	else {
		w_reap(u);
		if(u->n == 0)
			want = CPM_LEASE_EMPTY;
	}
	for(size_t i = 0; want == CPM_LEASE_NONE && i < u->n && found_n < max;
			i++) {
		struct wmsg *m = &u->m[i];
		bool looked = strcmp(m->looked, token) == 0;
		bool ours = strcmp(m->token, token) == 0 && m->from == '\0';
		bool passed =
				w_state(m) == 'L'
				&& (m->from == 'H' || m->from == 'D'
						|| (m->from != '\0' && strcmp(m->token, token) == 0));
		bool forced =
				!looked && (force == 2 || (force == 1 && m->fail_class == 'u'));

		if(passed)
			continue;
		if(!ours && w_state(m) == 'L') {
			want = CPM_LEASE_WAIT;
			wait_ms = m->deadline_ms - w_now;
		} else if(!ours && w_state(m) == 'Q' && m->due_ms > w_now && !forced) {
			if(wait_ms == 0 || m->due_ms - w_now < wait_ms)
				wait_ms = m->due_ms - w_now;
			if(m->fail_class != 'm')
				want = CPM_LEASE_WAIT;
		} else if(ours || w_state(m) == 'Q') {
			if(found_n > 0 && bytes + m->bytes > ask.max_bytes)
				break;
			bytes += m->bytes;
			if(!ours)
				m->attempts++;
			found[found_n++] = m;
		}
	}
	if(found_n > 0)
		want = CPM_LEASE_OK;
	else if(want == CPM_LEASE_NONE && wait_ms > 0)
		want = CPM_LEASE_WAIT;
	ck_assert_int_eq(io_queue_lease_many(q, &ask, got, &n), CPM_OK);
	ck_assert_int_eq((int)got[0].status, (int)want);
	ck_assert_uint_eq(n, found_n);
	if(want == CPM_LEASE_WAIT)
		ck_assert_uint_eq(got[0].wait_ms, wait_ms);
	for(size_t i = 0; i < n; i++) {
		ck_pl_eq(got[i].msg.id, w_id(found[i]->id));
		ck_pl_same(got[i].msg.body, w_body(found[i]->id));
		ck_assert_uint_eq(got[i].attempt, found[i]->attempts);
		if(i > 0)
			ck_assert_uint_gt(got[i].seq, got[i - 1].seq);
		w_lease_take(u, found[i], token);
	}
	lease_res = got[0];
}

/* For longer, what it was stays. */
static void w_lease_keep(struct wuser *u, struct wmsg *m, const char *token)
{
	char from = m->from;

	w_lease_take(u, m, token);
	m->from = from;
}

static size_t w_find(const struct wuser *u, unsigned id)
{
	for(size_t i = 0; i < u->n; i++)
		if(u->m[i].id == id)
			return i;
	return u->n;
}

/* One that is leased, or any, or none. */
static unsigned w_pick(const struct wuser *u)
{
	for(size_t i = 0; i < u->n; i++)
		if(u->m[i].token[0] != '\0' && rnd_to(4) > 0)
			return u->m[i].id;
	return rnd_to(w_ids + 1);
}

static void w_settle(struct wuser *u, const char *token)
{
	unsigned id = w_pick(u);
	size_t i = w_find(u, id);
	unsigned how = rnd_to(4) == 3 ? CPM_SETTLE_UNSENT : rnd_to(3);
	char fail_class = "urm"[rnd_to(3)];
	uint64_t in_ms = rnd_to(100000);
	bool ok = i < u->n && u->m[i].token[0] != '\0'
			  && strcmp(u->m[i].token, token) == 0;

	ck_assert_int_eq(settle_full(cpm_pl_str(u->aor), token, w_id(id),
							 (enum cpm_settle_how)how, fail_class, in_ms),
			ok ? CPM_OK : CPM_ENOENT);
	if(!ok)
		return;
	if(how == CPM_SETTLE_DELIVERED) {
		ck_assert_uint_lt(u->delivered_n, FU_N(u->delivered));
		u->delivered[u->delivered_n++] = id;
		w_remove(u, i);
		return;
	}
	if(how == CPM_SETTLE_UNSENT
			|| (u->m[i].from != '\0' && how != CPM_SETTLE_DEAD)) {
		w_unlease(&u->m[i]);
		return;
	}
	u->m[i].from = '\0';
	u->m[i].state = how == CPM_SETTLE_DEAD ? 'D' : 'Q';
	u->m[i].due_ms = how == CPM_SETTLE_DEAD ? 0 : w_now + in_ms;
	u->m[i].fail_class = fail_class;
	u->m[i].token[0] = '\0';
	u->m[i].looked[0] = '\0';
	if(how == CPM_SETTLE_RETRY && fail_class == 'm')
		(void)snprintf(u->m[i].looked, sizeof(u->m[i].looked), "%s", token);
}

static void w_release(struct wuser *u, const char *token)
{
	unsigned id = w_pick(u);
	size_t i = w_find(u, id);
	bool unsent = rnd_to(3) == 0;

	ck_assert_int_eq(
			io_queue_release(q, cpm_pl_str(u->aor), cpm_pl_str(token),
					cpm_pl_str(unsent ? w_id(id) : ""), rnd_to(100000)),
			CPM_OK);
	if(unsent && i < u->n && u->m[i].token[0] != '\0'
			&& strcmp(u->m[i].token, token) == 0) {
		w_unlease(&u->m[i]);
	}
	if(strcmp(u->lock, token) == 0)
		u->lock[0] = '\0';
	w_reap(u);
}

static void w_renew(struct wuser *u, const char *token)
{
	unsigned id = w_pick(u);
	size_t i = w_find(u, id);
	bool ok = i < u->n && u->m[i].token[0] != '\0'
			  && strcmp(u->m[i].token, token) == 0
			  && (u->lock[0] == '\0' || strcmp(u->lock, token) == 0);

	ck_assert_int_eq(io_queue_renew(q, cpm_pl_str(u->aor), cpm_pl_str(token),
							 cpm_pl_str(w_id(id)), LEASE_MS, &lease_res),
			ok ? CPM_OK : CPM_ENOENT);
	if(ok) {
		w_lease_keep(u, &u->m[i], token);
		ck_assert_uint_eq(lease_res.attempt, u->m[i].attempts);
	}
}

static void w_extend(struct wuser *u, const char *token)
{
	char names[3][16];
	struct cpm_pl ids[3];
	unsigned id[3];
	bool lost[3];
	size_t n = rnd_to(4), kept = 0;
	bool busy = u->lock[0] != '\0' && strcmp(u->lock, token) != 0;

	for(size_t i = 0; i < n; i++) {
		id[i] = w_pick(u);
		(void)snprintf(names[i], sizeof(names[i]), "%s", w_id(id[i]));
		ids[i] = cpm_pl_str(names[i]);
	}
	ck_assert_int_eq(io_queue_extend(q, cpm_pl_str(u->aor), cpm_pl_str(token),
							 LEASE_MS, ids, n, lost),
			CPM_OK);
	for(size_t i = 0; i < n; i++) {
		size_t at = w_find(u, id[i]);
		bool ok = !busy && at < u->n && u->m[at].token[0] != '\0'
				  && strcmp(u->m[at].token, token) == 0;

		ck_assert_int_eq(lost[i], !ok);
		if(ok)
			w_lease_keep(u, &u->m[at], token);
		kept += ok;
	}
	if(!busy && kept == 0 && u->lock[0] != '\0')
		u->lock_until_ms = w_now + LEASE_MS;
}

/* A user's own retrieval, by id or of all. */
static void w_take(struct wuser *u, const char *token)
{
	char names[4][16];
	struct cpm_pl ids[4];
	struct cpm_taken got[CPM_LEASE_MAX];
	struct cpm_take ask = {.aor = cpm_pl_str(u->aor),
			.token = cpm_pl_str(token),
			.lease_ms = LEASE_MS,
			.ids = ids,
			.count = rnd_to(5),
			.all = rnd_to(3) == 0,
			.max_messages = 1 + rnd_to(4),
			.max_bytes = rnd_to(2) == 0 ? 1000000 : rnd_to(1000)};
	bool busy = u->lock[0] != '\0' && strcmp(u->lock, token) != 0;
	size_t n = 99, at = 0, taken_n = 0, walk;
	uint64_t bytes = 0, busy_ms = 0;
	bool later = false;

	for(size_t i = 0; i < ask.count; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%s", w_id(w_pick(u)));
		ids[i] = cpm_pl_str(names[i]);
	}
	ck_assert_int_eq(io_queue_take(q, &ask, got, &n, &busy_ms),
			busy ? CPM_EAGAIN : CPM_OK);
	if(busy) {
		ck_assert_uint_gt(busy_ms, 0);
		return;
	}
	w_reap(u);
	walk = ask.all ? u->n : ask.count;
	for(size_t i = 0; i < walk; i++) {
		size_t j = ask.all ? i : w_find(u, number_in(ids[i]));
		struct wmsg *m = j < u->n ? &u->m[j] : NULL;
		enum cpm_taken_what want = CPM_TAKEN_OK;
		bool ours =
				m != NULL && m->state == 'L' && strcmp(m->token, token) == 0;

		if(m == NULL)
			want = CPM_TAKEN_GONE;
		else if(later)
			want = CPM_TAKEN_LATER;
		else if(w_state(m) == 'L' && !ours)
			want = CPM_TAKEN_BUSY;
		else if(taken_n > 0
				&& (taken_n >= ask.max_messages
						|| bytes + m->bytes > ask.max_bytes)) {
			want = CPM_TAKEN_LATER;
			later = true;
		}
		if(ask.all && later)
			break;
		if(ask.all && want == CPM_TAKEN_BUSY)
			continue;
		ck_assert_uint_lt(at, n);
		ck_assert_int_eq((int)got[at].what, (int)want);
		if(want == CPM_TAKEN_OK) {
			char from = ours ? m->from : w_state(m);

			ck_pl_eq(got[at].msg.id, w_id(m->id));
			ck_pl_same(got[at].msg.body, w_body(m->id));
			w_lease_take(u, m, token);
			m->from = from;
			ck_assert_uint_eq(
					got[at].attempt, m->attempts + (from != '\0' ? 1u : 0u));
			taken_n++;
			bytes += m->bytes;
		}
		at++;
		if(ask.all && taken_n == ask.max_messages)
			break;
	}
	ck_assert_uint_eq(n, at);
	(void)snprintf(u->lock, sizeof(u->lock), "%s", token);
	u->lock_until_ms = w_now + LEASE_MS;
}

static void w_turn(struct wuser *u, const char *token)
{
	unsigned id = w_pick(u);
	size_t i = w_find(u, id);
	struct wmsg *m = &u->m[i];
	bool hold = rnd_to(2) == 0, with = rnd_to(2) == 0;
	int want = CPM_OK;

	if(i == u->n)
		want = CPM_ENOENT;
	else if(!with || m->token[0] == '\0' || strcmp(m->token, token) != 0) {
		if(w_state(m) == 'L')
			want = CPM_EEXIST;
		else if(m->expires_ms != 0 && m->expires_ms <= w_now)
			want = CPM_ENOENT;
	}
	ck_assert_int_eq(io_queue_turn(q, cpm_pl_str(u->aor), cpm_pl_str(w_id(id)),
							 hold ? CPM_STATE_HELD : CPM_STATE_QUEUED,
							 cpm_pl_str(with ? token : "")),
			want);
	if(want != CPM_OK)
		return;
	m->has_state = hold;
	m->state = hold ? 'H' : 'Q';
	m->from = '\0';
	m->due_ms = 0;
	m->token[0] = '\0';
	m->looked[0] = '\0';
	if(!hold) {
		m->attempts = 0;
		m->fail_class = '\0';
	}
}

static void w_discard(struct wuser *u)
{
	unsigned id = w_pick(u);
	size_t i = w_find(u, id);
	bool job = rnd_to(2) == 0;
	bool ok = i < u->n
			  && (u->m[i].expires_ms == 0 || u->m[i].expires_ms > w_now
					  || w_state(&u->m[i]) == 'L');

	ck_assert_int_eq(
			io_queue_discard(q, cpm_pl_str(u->aor), cpm_pl_str(w_id(id)),
					DEDUP_MS, job ? CPM_JOB_STORE : CPM_JOB_NONE),
			ok ? CPM_OK : CPM_ENOENT);
	if(!ok)
		return;
	u->job[id] = u->job[id] || job;
	ck_assert_uint_lt(u->delivered_n, FU_N(u->delivered));
	u->delivered[u->delivered_n++] = id;
	w_remove(u, i);
}

/* One batch of a purge, or all of them. */
static void w_purge(struct wuser *u)
{
	size_t limit = 1 + rnd_to(6);
	uint64_t upto = 0, removed = 0;
	bool all = rnd_to(3) == 0;

	do {
		size_t want = u->n < limit ? u->n : limit;

		ck_assert_int_eq(
				io_queue_purge(q, cpm_pl_str(u->aor), limit, &upto, &removed),
				CPM_OK);
		ck_assert_uint_eq(removed, want);
		for(size_t i = 0; i < want; i++)
			w_remove(u, 0);
		ck_assert_int_eq(upto != 0, u->n > 0);
	} while(all && upto != 0);
}

static bool w_may_report(const struct wuser *u, const char *token)
{
	return u->left_n > 0
		   && (u->reporter[0] == '\0' || strcmp(u->reporter, token) == 0
				   || u->reporter_until_ms <= w_now);
}

static void w_left(struct wuser *u, const char *token)
{
	struct cpm_left left[4];
	size_t limit = 1 + rnd_to(4), n = 99, want = 0;

	if(w_may_report(u, token)) {
		want = u->left_n < limit ? u->left_n : limit;
		(void)snprintf(u->reporter, sizeof(u->reporter), "%s", token);
		u->reporter_until_ms = w_now + 20000;
	}
	ck_assert_int_eq(io_queue_left(q, cpm_queue_shard(cpm_pl_str(u->aor)),
							 cpm_pl_str(token), limit, 20000, left, &n),
			CPM_OK);
	ck_assert_uint_eq(n, want);
	for(size_t i = 0; i < n; i++) {
		ck_pl_eq(left[i].aor, u->aor);
		ck_pl_eq(left[i].id, w_id(u->left[i].id));
		ck_assert_int_eq((int)left[i].why, (int)u->left[i].why);
		ck_assert(left[i].readable);
		ck_pl_same(left[i].msg.body, w_body(u->left[i].id));
	}
}

static void w_left_done(struct wuser *u, const char *token)
{
	unsigned id = u->left_n > 0 && rnd_to(4) > 0 ? u->left[0].id : w_pick(u);
	bool job = rnd_to(2) == 0;
	bool ok = w_may_report(u, token) && u->left[0].id == id;

	ck_assert_int_eq(
			io_queue_left_done(q, cpm_pl_str(u->aor), cpm_pl_str(w_id(id)),
					cpm_pl_str(token), job ? CPM_JOB_STORE : CPM_JOB_NONE),
			ok ? CPM_OK : CPM_ENOENT);
	if(!ok)
		return;
	u->job[id] = u->job[id] || job;
	memmove(&u->left[0], &u->left[1], --u->left_n * sizeof(u->left[0]));
}

/* The jobs that are left, through all pages. */
static uint64_t ck_jobs(void)
{
	struct cpm_job jobs[16];
	struct cpm_pl after = CPM_PL_NULL;
	char name[512];
	uint64_t ms = 0, total = 0, want = 0;
	size_t limit = 1 + rnd_to(FU_N(jobs)), n = 0;
	unsigned shard = 0;

	do {
		ck_assert_int_eq(
				io_queue_jobs(q, &shard, ms, after, limit, jobs, &n), CPM_OK);
		for(size_t i = 0; i < n; i++) {
			size_t at = 0;

			while(at < W_USERS
					&& !cpm_pl_eq(jobs[i].aor, cpm_pl_str(users_w[at].aor)))
				at++;
			ck_assert(at < W_USERS && users_w[at].job[number_in(jobs[i].id)]);
		}
		total += n;
		if(n > 0) {
			ms = jobs[n - 1].due_ms;
			(void)snprintf(name, sizeof(name), "s %.*s",
					(int)jobs[n - 1].name.n, jobs[n - 1].name.p);
			after = cpm_pl_str(name);
		}
	} while(shard < CPM_QUEUE_SHARDS);
	for(size_t u = 0; u < W_USERS; u++)
		for(size_t i = 0; i < FU_N(users_w[u].job); i++)
			want += users_w[u].job[i];
	ck_assert_uint_eq(total, want);
	return total;
}

static bool w_seen(const struct wmsg *m)
{
	return m->expires_ms == 0 || m->expires_ms > w_now || w_state(m) == 'L';
}

/* What a client of io_queue sees. */
static void ck_seen(const struct wuser *u)
{
	struct cpm_queue_stat st, want;
	uint64_t after = 0;
	size_t limit = 1 + rnd_to(50), i = 0;
	int rc;

	memset(&want, 0, sizeof(want));
	for(size_t j = 0; j < u->n; j++) {
		char s = w_state(&u->m[j]);

		if(!w_seen(&u->m[j]))
			continue;
		want.messages++;
		want.bytes += u->m[j].bytes;
		want.queued += s == 'Q';
		want.leased += s == 'L';
		want.dead += s == 'D';
		want.held += s == 'H';
	}
	rc = io_queue_stat(q, cpm_pl_str(u->aor), &st);
	ck_assert_int_eq(rc, want.messages > 0 ? CPM_OK : CPM_ENOENT);
	if(rc == CPM_OK) {
		ck_assert_uint_eq(st.messages, want.messages);
		ck_assert_uint_eq(st.bytes, want.bytes);
		ck_assert_uint_eq(st.queued, want.queued);
		ck_assert_uint_eq(st.leased, want.leased);
		ck_assert_uint_eq(st.dead, want.dead);
		ck_assert_uint_eq(st.held, want.held);
		ck_assert_uint_le(st.oldest_ms, st.newest_ms);
	}
	do {
		rc = io_queue_list(q, cpm_pl_str(u->aor), after, limit, 0, items,
				&items_n, &items_next);
		ck_assert_int_eq(rc, u->n > 0 ? CPM_OK : CPM_ENOENT);
		if(rc != CPM_OK)
			return;
		for(size_t j = 0; j < items_n; j++, i++) {
			while(i < u->n && !w_seen(&u->m[i]))
				i++;
			ck_assert_uint_lt(i, u->n);
			ck_pl_eq(items[j].msg.id, w_id(u->m[i].id));
			ck_assert_int_eq((int)items[j].state, w_state(&u->m[i]));
			ck_assert_uint_eq(items[j].attempts, u->m[i].attempts);
			ck_assert_uint_eq(items[j].next_attempt_ms, u->m[i].due_ms);
		}
		after = items_next;
	} while(after != 0);
	while(i < u->n && !w_seen(&u->m[i]))
		i++;
	ck_assert_uint_eq(i, u->n);
}

/* What is in Redis, to the last key. */
static void ck_keys(void)
{
	uint64_t all_n = 0, all_b = 0;
	size_t delivered_n = 0;
	int64_t keys = 0;
	struct redisReply *found;

	for(size_t i = 0; i < W_USERS; i++) {
		const struct wuser *u = &users_w[i];
		uint64_t bytes = 0, states = 0, dead_n = 0, jobs_n = 0;
		uint64_t soonest = UINT64_MAX;

		for(size_t j = 0; j < u->n; j++) {
			bytes += u->m[j].bytes;
			states += u->m[j].has_state;
			dead_n += w_dead(&u->m[j]);
			if(u->m[j].expires_ms != 0 && u->m[j].expires_ms < soonest)
				soonest = u->m[j].expires_ms;
		}
		ck_assert_int_eq(integer(qask("LLEN %s", key(CPM_KEY_Q, u->aor))),
				(int64_t)u->n);
		ck_assert_int_eq(integer(qask("HLEN %s", key(CPM_KEY_M, u->aor))),
				u->n > 0 ? (int64_t)(u->n + (u->n > 4) + states) : 0);
		ck_assert_int_eq(number(qask("ZSCORE %s %s", key(CPM_KEY_USERS, u->aor),
								 u->aor)),
				u->n > 0 ? 0 : -1);
		ck_assert_int_eq(
				number(qask("ZSCORE %s %s", key(CPM_KEY_WAKE, u->aor), u->aor))
						>= 0,
				u->n > 0);
		ck_assert_int_eq(integer(qask("ZCARD %s", key(CPM_KEY_DEAD, u->aor))),
				(int64_t)dead_n);
		ck_assert_int_eq(integer(qask("LLEN %s", key(CPM_KEY_EXPIRED, u->aor))),
				(int64_t)u->left_n);
		for(size_t j = 0; j < FU_N(u->job); j++)
			jobs_n += u->job[j];
		ck_assert_int_eq(integer(qask("ZCARD %s", key(CPM_KEY_JOBS, u->aor))),
				(int64_t)jobs_n);
		ck_assert_int_eq(integer(qask("HLEN %s", key(CPM_KEY_JOB, u->aor))),
				(int64_t)jobs_n);
		/* the three are in three shards */
		ck_assert_int_eq(number(qask("HGET %s n", key(CPM_KEY_SUM, u->aor))),
				(int64_t)u->n);
		ck_assert_int_eq(number(qask("HGET %s b", key(CPM_KEY_SUM, u->aor))),
				(int64_t)bytes);
		/* a short queue is added up when it is asked */
		if(u->n > 4) {
			uint64_t b, s;
			struct cpm_pl argv[] = {
					LIT("HGET"), cpm_pl_str(key(CPM_KEY_M, u->aor)), LIT(" b")};
			struct redisReply *meta = NULL;

			ck_assert_int_eq(io_redis_command(raw, 3, argv, &meta), CPM_OK);
			ck_assert_int_eq(
					sscanf(meta->str, "%" SCNu64 " %" SCNu64, &b, &s), 2);
			ck_assert_uint_eq(b, bytes);
			/* the soonest expiry may be too early, but for one that is on its
			 * way, whose lease's end comes first */
			ck_assert(soonest == UINT64_MAX || s > 0);
			io_redis_reply_free(&meta);
		}
		keys += (u->n > 0 ? 4 : 0) + (dead_n > 0) + (u->left_n > 0)
				+ 2 * (jobs_n > 0) + (u->lock[0] != '\0') + 1;
		delivered_n += u->delivered_n;
		all_n += u->n;
		all_b += bytes;
	}
	found = qask("DBSIZE");
	ck_assert_int_eq(found->integer, keys + (int64_t)delivered_n);
	io_redis_reply_free(&found);
	if(rnd_to(10) == 0) {
		struct io_queue_totals t;

		ck_assert_int_eq(io_queue_totals(q, &t), CPM_OK);
		ck_assert_uint_eq(t.messages, all_n);
		ck_assert_uint_eq(t.bytes, all_b);
		ck_assert_uint_eq(t.jobs, ck_jobs());
	}
}

static void w_step(void)
{
	struct wuser *u = &users_w[rnd_to(W_USERS)];
	unsigned shard = cpm_queue_shard(cpm_pl_str(u->aor));
	static const char *const tokens[] = {"t1", "t2", "t3"};
	const char *token =
			u->lock[0] != '\0' && rnd_to(4) > 0 ? u->lock : tokens[rnd_to(3)];
	char own[16];
	struct cpm_pl who[4];
	size_t n;

	(void)snprintf(own, sizeof(own), "%s", token);
	switch(rnd_to(30)) {
		case 0:
		case 1:
		case 2:
		case 3:
		case 4:
		case 5:
		case 6:
			w_put(u);
			break;
		case 7:
		case 8:
		case 9:
			w_lease(u, own, rnd_to(3), 1 + rnd_to(4));
			break;
		case 10:
		case 11:
		case 12:
			w_settle(u, own);
			break;
		case 13:
			w_release(u, own);
			break;
		case 14:
			w_renew(u, own);
			break;
		case 15:
			ck_assert_int_eq(claim_one(shard, 30000, 4, who, &n), CPM_OK);
			break;
		case 16:
			w_left(u, own);
			break;
		case 17:
			w_left_done(u, own);
			break;
		case 18:
			w_extend(u, own);
			break;
		case 19:
		case 20:
			w_turn(u, own);
			break;
		case 21:
			w_discard(u);
			break;
		case 22:
			if(rnd_to(4) == 0)
				w_purge(u);
			break;
		case 23:
		case 24:
		case 25:
			w_take(u, own);
			break;
		default:
			w_now += rnd_to(rnd_to(10) == 0 ? 100000 : 3000);
			io_queue_set_now(q, w_now);
			break;
	}
	for(size_t i = 0; i < W_USERS; i++)
		if(users_w[i].lock[0] != '\0' && users_w[i].lock_until_ms < w_now) {
			users_w[i].lock[0] = '\0';
			tell("DEL %s", key(CPM_KEY_LOCK, users_w[i].aor));
		}
}

START_TEST(random_life)
{
	static const char *const aors[W_USERS] = {
			"sip:bob@example.org", "tel:+15551234", "sip:alice@example.org"};
	struct redisReply *reply;

	begin();
	memset(users_w, 0, sizeof(users_w));
	w_random = (uint64_t)_i + 1;
	w_now = T0;
	w_ids = 0;
	for(size_t i = 0; i < W_USERS; i++) {
		users_w[i].aor = aors[i];
		/* so that the sums are there from the start */
		tell("HSET %s n 0 b 0", key(CPM_KEY_SUM, aors[i]));
	}
	for(unsigned step = 0; step < W_STEPS; step++) {
		w_step();
		ck_keys();
		ck_seen(&users_w[rnd_to(W_USERS)]);
	}
	/* to the end of all: nothing is left but what should be */
	w_now += 10 * LEASE_MS;
	io_queue_set_now(q, w_now);
	for(size_t i = 0; i < W_USERS; i++) {
		struct wuser *u = &users_w[i];

		u->lock[0] = '\0';
		tell("DEL %s", key(CPM_KEY_LOCK, u->aor));
		for(int guard = 0; guard < W_MSGS; guard++) {
			char id[16];

			w_lease(u, "last", 2, 1);
			if(lease_res.status != CPM_LEASE_OK)
				break;
			cpm_pl_cstr(lease_res.msg.id, id, sizeof(id));
			ck_assert_int_eq(settle_full(cpm_pl_str(u->aor), "last", id,
									 CPM_SETTLE_DELIVERED, 0, 0),
					CPM_OK);
			u->delivered[u->delivered_n++] = number_in(cpm_pl_str(id));
			w_remove(u, w_find(u, number_in(cpm_pl_str(id))));
		}
		w_release(u, "last");
		/* only the dead and the held are left */
		for(size_t j = 0; j < u->n; j++)
			ck_assert(w_state(&u->m[j]) == 'D' || w_state(&u->m[j]) == 'H');
	}
	ck_keys();
	reply = qask("INFO commandstats");
	ck_assert_ptr_nonnull(strstr(reply->str, "cmdstat_evalsha"));
	io_redis_reply_free(&reply);
	end();
}
END_TEST

/* --------------------------------------------------------------------- races */

#define R_MSGS 300
#define R_PROCS 3

/* One that delivers: what it holds is its alone. A key of its own for each
 * message says who has it, which is set by nobody else meanwhile. The end: the
 * queue is empty. */
static void racer(unsigned port, unsigned me)
{
	struct io_redis_conf conf = {.addr = "127.0.0.1",
			.port = port,
			.connect_timeout_ms = 10000,
			.cmd_timeout_ms = 10000};
	struct io_queue *mine = io_queue_new(&conf, LIT("t"));
	struct io_redis *own = io_redis_new(&conf);
	char token[32], line[64];
	uint64_t deadline = io_clock_mono_ms() + 60000;

	w_random = me * 7919u + 1;
	ck_assert_ptr_nonnull(mine);
	ck_assert_ptr_nonnull(own);
	for(unsigned turn = 0; io_clock_mono_ms() < deadline; turn++) {
		struct cpm_lease got[CPM_LEASE_MAX];
		struct cpm_pl ids[4];
		char names[4][16];
		bool lost[4];
		size_t n = 0;
		struct cpm_lease_ask what = {.aor = BOB,
				.lease_ms = LEASE_MS,
				.force = CPM_LEASE_ALL,
				.max_messages = 1 + rnd_to(4),
				.max_bytes = 100000};

		(void)snprintf(token, sizeof(token), "p%u.%u", me, turn);
		what.token = cpm_pl_str(token);
		ck_assert_int_eq(io_queue_lease_many(mine, &what, got, &n), CPM_OK);
		if(n == 0 && got[0].status == CPM_LEASE_EMPTY) {
			io_queue_free(&mine);
			io_redis_free(&own);
			return;
		}
		for(size_t i = 0; i < n; i++) {
			cpm_pl_cstr(got[i].msg.id, names[i], sizeof(names[i]));
			ids[i] = cpm_pl_str(names[i]);
		}
		for(size_t i = 0; i < n; i++) {
			(void)snprintf(line, sizeof(line), "held:%.16s", names[i]);
			struct cpm_pl set[] = {LIT("SETNX"), cpm_pl_str(line), LIT("1")};
			struct redisReply *reply = NULL;

			ck_assert_int_eq(io_redis_command(own, 3, set, &reply), CPM_OK);
			ck_assert_msg(integer(reply) == 1, "%s is held twice", names[i]);
		}
		if(n > 0)
			ck_assert_int_eq(io_queue_extend(mine, BOB, what.token, LEASE_MS,
									 ids, n, lost),
					CPM_OK);
		for(size_t i = 0; i < n; i++) {
			(void)snprintf(line, sizeof(line), "held:%.16s", names[i]);
			struct cpm_pl del[] = {LIT("DEL"), cpm_pl_str(line)};
			struct cpm_pl inc[] = {
					LIT("HINCRBY"), LIT("delivered"), ids[i], LIT("1")};
			struct cpm_settle s = {.aor = BOB,
					.id = ids[i],
					.token = what.token,
					.how = rnd_to(3) == 0 ? CPM_SETTLE_UNSENT
										  : CPM_SETTLE_DELIVERED,
					.dedup_ms = DEDUP_MS};
			struct redisReply *reply = NULL;

			ck_assert(!lost[i]);
			if(s.how == CPM_SETTLE_DELIVERED) {
				ck_assert_int_eq(io_redis_command(own, 4, inc, &reply), CPM_OK);
				ck_assert_int_eq(integer(reply), 1);
				reply = NULL;
			}
			/* let go before it is given back: from then on it is another's */
			ck_assert_int_eq(io_redis_command(own, 2, del, &reply), CPM_OK);
			ck_assert_int_eq(integer(reply), 1);
			ck_assert_int_eq(io_queue_settle(mine, &s), CPM_OK);
			ck_assert_int_eq(io_queue_settle(mine, &s), CPM_ENOENT);
		}
		ck_assert_int_eq(
				io_queue_release(mine, BOB, what.token, CPM_PL_NULL, 1000),
				CPM_OK);
	}
	ck_abort_msg("the queue does not become empty");
}

START_TEST(races)
{
	pid_t pids[R_PROCS];
	struct redisReply *reply;

	begin();
	for(unsigned i = 0; i < R_MSGS; i++)
		ck_assert_int_eq(put(w_id(i), "x"), CPM_PUT_QUEUED);
	for(unsigned i = 0; i < R_PROCS; i++) {
		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if(pids[i] == 0) {
			/* a failed assertion ends this process with another status */
			racer(server.port, i);
			_exit(0);
		}
	}
	for(unsigned i = 0; i < R_PROCS; i++) {
		int status = -1;

		while(waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
				"process %u: status %d", i, status);
	}
	ck_assert_uint_eq(count(), 0);
	reply = qask("HLEN delivered");
	ck_assert_int_eq(integer(reply), R_MSGS);
	tell("DEL delivered");
	ck_nothing_left();
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_queue_life");

	fu_table(s, "whatever is done: Redis holds what it should, to the key",
			random_life, 8);
	fu_case(s, "of those who race, one has a message at a time", races);
	return fu_run(s);
}
