/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_event.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_subscribe.h"
#include "pf_uac.h"
#include "pf_usrloc.h"

#include "../../core/dprint.h"

#define BUCKETS 4096
#define MARKS_MAX 20000 /* users to be told; beyond it: the wake index */
#define TOLD_MAX 65536	/* clients of which it is known what they know */
#define TELL_MAX 64		/* users in one round of the loop */
#define SOON_MS 1000
#define LISTENERS_MAX 4
#define NO_SLOT_MS 500
#define BODY_MAX 65536
/* The least that a message takes in a body: there are no more blocks. */
#define BLOCK_MIN 32
/* What tm writes into a request beside what is known here: first line, Via,
 * CSeq, Content-Length, tag and what stands between. */
#define REQUEST_REST 260

/* A user who is to be told. */
struct mark
{
	struct mark *next;			 /* in its bucket */
	struct mark *later, *sooner; /* in the list */
	uint64_t due_ms;
	unsigned whys;
	size_t aor_len;
	char aor[];
};

/* What a client has been told, as long as it is remembered. */
struct told
{
	struct told *next;			/* in its bucket, which is its user's */
	struct told *newer, *older; /* by when it was last asked for */
	uint64_t registration;		/* which of its REGISTERs made the binding */
	uint64_t call;				/* of its Call-ID */
	unsigned cseq;
	bool out; /* a NOTIFY has no answer yet, in this slot: */
	uint32_t slot;
	uint64_t out_hash; /* of its body */
	bool out_waiting;  /* it told of messages */
	unsigned whys;	   /* for which it was sent */
	unsigned missed;   /* what has happened since */
	bool has_known;
	uint64_t known_hash; /* of the body that it has answered 2xx */
	bool waiting;		 /* it may believe that something is queued */
	bool refused;		 /* it wants none */
	unsigned failures;	 /* one after another */
	uint64_t retry_at_ms;
	size_t aor_len, ruid_len;
	char text[]; /* AoR, ruid */
};

static struct mark *mark_buckets[BUCKETS];
static struct mark *marks_first, *marks_last;
static size_t mark_count;
static uint64_t next_due_ms = UINT64_MAX;

static struct told *told_buckets[BUCKETS];
static struct told *told_newest, *told_oldest;
static size_t told_count;

static pf_notify_fn listeners[LISTENERS_MAX];
static size_t listener_count;

static struct pf_prefs_buf prefs_buf;
static struct cpm_queue_item items[IO_QUEUE_PAGE_MAX];

static size_t bucket_of(struct cpm_pl aor)
{
	return (cpm_hash64(CPM_HASH_INIT, aor) >> 16) % BUCKETS;
}

/* ---------------------------------------------------------------- marks */

static struct cpm_pl mark_aor(const struct mark *m)
{
	return cpm_pl(m->aor, m->aor_len);
}

static struct mark *mark_new(struct cpm_pl aor)
{
	struct mark **bucket = &mark_buckets[bucket_of(aor)];
	struct mark *m = NULL;

	if(mark_count < MARKS_MAX) {
		m = calloc(1, sizeof(*m) + aor.n);
	}
	if(m == NULL) {
		return NULL;
	}
	memcpy(m->aor, aor.p, aor.n);
	m->aor_len = aor.n;
	m->next = *bucket;
	*bucket = m;
	m->sooner = marks_last;
	if(marks_last != NULL) {
		marks_last->later = m;
	} else {
		marks_first = m;
	}
	marks_last = m;
	mark_count++;
	return m;
}

static void mark_unlink(struct mark *m)
{
	struct mark **at = &mark_buckets[bucket_of(mark_aor(m))];

	while(*at != m) {
		at = &(*at)->next;
	}
	*at = m->next;
	if(m->sooner != NULL) {
		m->sooner->later = m->later;
	} else {
		marks_first = m->later;
	}
	if(m->later != NULL) {
		m->later->sooner = m->sooner;
	} else {
		marks_last = m->sooner;
	}
	mark_count--;
}

/* A user is to be told at due_ms, or when it is anyway, if that is sooner. */
static void mark(struct cpm_pl aor, unsigned whys, uint64_t due_ms)
{
	struct mark *m = mark_buckets[bucket_of(aor)];

	while(m != NULL && !cpm_pl_eq(mark_aor(m), aor)) {
		m = m->next;
	}
	if(m == NULL) {
		m = mark_new(aor);
		if(m == NULL) {
			pf_stat(CPM_STAT_hints_lost);
			return;
		}
		m->due_ms = due_ms;
	}
	m->whys |= whys;
	if(due_ms < m->due_ms) {
		m->due_ms = due_ms;
	}
	if(m->due_ms < next_due_ms) {
		next_due_ms = m->due_ms;
	}
}

/* ----------------------------------------------------------------- told */

static struct cpm_pl told_aor(const struct told *t)
{
	return cpm_pl(t->text, t->aor_len);
}

static struct cpm_pl told_ruid(const struct told *t)
{
	return cpm_pl(t->text + t->aor_len, t->ruid_len);
}

static void told_list_remove(struct told *t)
{
	if(t->newer != NULL) {
		t->newer->older = t->older;
	} else {
		told_newest = t->older;
	}
	if(t->older != NULL) {
		t->older->newer = t->newer;
	} else {
		told_oldest = t->newer;
	}
}

static void told_list_add(struct told *t)
{
	t->newer = NULL;
	t->older = told_newest;
	if(told_newest != NULL) {
		told_newest->newer = t;
	} else {
		told_oldest = t;
	}
	told_newest = t;
}

static void told_free(struct told *t)
{
	struct told **at = &told_buckets[bucket_of(told_aor(t))];

	while(*at != t) {
		at = &(*at)->next;
	}
	*at = t->next;
	if(t->out) {
		pf_uac_forget(t->slot);
	}
	told_list_remove(t);
	told_count--;
	free(t);
}

static uint64_t random64(void)
{
	uint64_t v;

	if(getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v)) {
		v = io_clock_wall_ms() << 20 ^ io_clock_mono_ms();
	}
	return v;
}

/* Which client it is: its binding, which has a name of its own as long as it
 * lasts. */
static struct cpm_pl name_of(const struct pf_contact *c)
{
	return c->ruid.n > 0 ? c->ruid : c->c.uri;
}

/* What is remembered of a client; NULL: nothing. A client that has begun anew
 * under its old address (another Call-ID: RFC 3261, 10.2.4) remembers nothing
 * itself. */
static struct told *told_find(struct cpm_pl aor, const struct pf_contact *c)
{
	struct told *t = told_buckets[bucket_of(aor)];
	struct cpm_pl name = name_of(c);

	while(t != NULL
			&& !(cpm_pl_eq(told_ruid(t), name)
					&& cpm_pl_eq(told_aor(t), aor))) {
		t = t->next;
	}
	if(t != NULL && t->registration != c->registration) {
		told_free(t);
		t = NULL;
	}
	if(t != NULL) {
		told_list_remove(t);
		told_list_add(t);
	}
	return t;
}

static struct told *told_new(struct cpm_pl aor, const struct pf_contact *c)
{
	struct told **bucket = &told_buckets[bucket_of(aor)];
	struct cpm_pl name = name_of(c);
	struct told *t;

	while(told_count >= TOLD_MAX) {
		told_free(told_oldest);
	}
	t = calloc(1, sizeof(*t) + aor.n + name.n);
	if(t == NULL) {
		return NULL;
	}
	memcpy(t->text, aor.p, aor.n);
	memcpy(t->text + aor.n, name.p, name.n);
	t->aor_len = aor.n;
	t->ruid_len = name.n;
	t->registration = c->registration;
	t->call = random64();
	t->waiting = true; /* until it is told that nothing is */
	t->next = *bucket;
	*bucket = t;
	told_list_add(t);
	told_count++;
	return t;
}

/* Whether a client of this user may believe that something is queued. */
static bool is_waiting(struct cpm_pl aor)
{
	const struct told *t = told_buckets[bucket_of(aor)];

	while(t != NULL && !(t->waiting && cpm_pl_eq(told_aor(t), aor))) {
		t = t->next;
	}
	return t != NULL;
}

/* ----------------------------------------------------------------- body */

/* The queue as it is now; slices are good until the next call to Redis. */
static int queue_read(struct cpm_pl aor, size_t max_bytes,
		struct cpm_queue_stat *stat_r, size_t *count_r)
{
	struct io_queue *q = pf_store();
	size_t limit = max_bytes / BLOCK_MIN + 1;
	int rc;

	if(q == NULL) {
		return CPM_EDOWN;
	}
	memset(stat_r, 0, sizeof(*stat_r));
	*count_r = 0;
	rc = pf_store_note("recent",
			io_queue_recent(q, aor,
					limit < IO_QUEUE_PAGE_MAX ? limit : IO_QUEUE_PAGE_MAX,
					items, count_r, stat_r));
	return rc == CPM_ENOENT ? CPM_OK : rc;
}

int pf_notify_body(struct cpm_pl aor, enum cpm_notify_type type,
		size_t max_bytes, struct cpm_wr *w, struct cpm_queue_stat *stat_r)
{
	struct cpm_notify n;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct cpm_queue_stat stat;
	int rc;

	rc = pf_prefs_get(aor, &prefs_buf, &prefs, &policy, NULL);
	if(rc != CPM_OK) {
		return rc;
	}
	if(!prefs.known || !prefs.enabled) {
		return CPM_ENOENT;
	}
	memset(&n, 0, sizeof(n));
	rc = queue_read(aor, max_bytes, &stat, &n.count);
	if(rc != CPM_OK) {
		return rc;
	}
	n.type = type;
	n.aor = aor;
	n.stat = &stat;
	n.items = items;
	n.fields = cpm_notify_fields(cpm_pl_str(policy.notify_fields));
	n.max_bytes = max_bytes;
	rc = cpm_notify_write(&n, w, NULL);
	if(rc == CPM_OK && stat_r != NULL) {
		*stat_r = stat;
	}
	return rc;
}

/* -------------------------------------------------------------- answers */

enum answer
{
	ANSWER_TAKEN,
	ANSWER_AGAIN, /* perhaps later */
	ANSWER_NOT,	  /* not this one; another may be taken */
	ANSWER_NEVER, /* such requests are not wanted */
};

static enum answer answer_of(unsigned code)
{
	if(code < 300) {
		return ANSWER_TAKEN;
	}
	switch(code) {
		case 405: /* Method Not Allowed */
		case 481: /* there is no subscription */
		case 489: /* Bad Event */
		case 501: /* Not Implemented */
			return ANSWER_NEVER;
		case 408:
		case 480:
			return ANSWER_AGAIN;
		default:
			return code >= 500 && code < 600 ? ANSWER_AGAIN : ANSWER_NOT;
	}
}

/* The wait after so many failures; 0: enough. */
static uint64_t retry_ms(unsigned failures)
{
	return failures >= 1 && failures <= pf_conf.deliver.retry_count
				   ? pf_conf.deliver.retry_ms[failures - 1]
				   : 0;
}

/* Why it is tried again: what has happened, but a sign of life that was one
 * then is none now, and those who have taken it need not have it twice. */
static unsigned again(unsigned whys)
{
	if((whys & PF_NOTIFY_FLUSH) != 0) {
		whys |= PF_NOTIFY_ASK;
	}
	return whys
		   & ~(unsigned)(PF_NOTIFY_LOOK | PF_NOTIFY_REGISTERED
						 | PF_NOTIFY_FLUSH);
}

static void failed(struct told *t, uint64_t now_ms)
{
	uint64_t wait_ms = retry_ms(++t->failures);

	if(wait_ms > 0) {
		t->retry_at_ms = now_ms + wait_ms;
		mark(told_aor(t), again(t->whys), t->retry_at_ms);
	}
}

static void on_answer(void *owner, unsigned code)
{
	struct told *t = owner;
	struct cpm_pl aor = told_aor(t);
	enum answer a = answer_of(code);
	uint64_t now_ms = io_clock_mono_ms();
	char buf[CPM_AOR_MAX];

	t->out = false;
	t->refused = a == ANSWER_NEVER;
	t->waiting = t->waiting && !t->refused;
	if(a == ANSWER_TAKEN) {
		t->has_known = true;
		t->known_hash = t->out_hash;
		t->waiting = t->out_waiting;
		t->failures = 0;
		t->retry_at_ms = 0;
	} else if(a == ANSWER_AGAIN) {
		failed(t, now_ms);
	}
	if(t->missed != 0) {
		mark(aor, t->missed, now_ms + (uint64_t)pf_params.notify_delay_ms);
		t->missed = 0;
	}
	pf_stat(a == ANSWER_TAKEN ? CPM_STAT_notified : CPM_STAT_notify_failed);
	LM_INFO("notify: %s aor=%.*s code=%u\n",
			a == ANSWER_TAKEN ? "taken" : "failed", (int)aor.n, aor.p, code);
	/* the route may do anything, and t be forgotten meanwhile */
	memcpy(buf, aor.p, aor.n);
	pf_event(PF_EVENT_NOTIFY, cpm_pl(buf, aor.n), CPM_PL_NULL, code,
			a == ANSWER_TAKEN ? "notified" : "notify-failed");
}

/* -------------------------------------------------------------- sending */

/* One look at one user's queue. */
struct look
{
	struct cpm_pl aor;
	unsigned whys;
	bool by_mode; /* queue_mode is notify */
	uint64_t now_ms;
	struct cpm_notify n;
};

static void headers_put(
		struct cpm_wr *w, const struct look *l, const struct pf_contact *c)
{
	cpm_wr_str(w, "Contact: ");
	pf_uac_contact_put(w, c->c.socket);
	cpm_wr_str(w, "\r\nEvent: ");
	cpm_wr_str(w, cpm_notify_event(l->n.type));
	cpm_wr_str(w, "\r\nSubscription-State: terminated;reason=timeout\r\n");
	if(pf_params.insert_called_party_id) {
		cpm_wr_str(w, "P-Called-Party-ID: <");
		cpm_wr_pl_put(w, l->aor);
		cpm_wr_str(w, ">\r\n");
	}
	cpm_wr_str(w, "Content-Type: ");
	cpm_wr_str(w, cpm_notify_content_type(l->n.type));
	cpm_wr_str(w, "\r\n");
}

static int request_send(struct told *t, const struct look *l,
		const struct pf_contact *c, struct cpm_pl headers, struct cpm_pl body)
{
	struct pf_uac_request r;
	char own[CPM_AOR_MAX + 2], call_id[200], tag[24];
	struct cpm_wr w;

	memset(&r, 0, sizeof(r));
	cpm_wr_init(&w, own, sizeof(own));
	cpm_wr_chr(&w, '<');
	cpm_wr_pl_put(&w, l->aor);
	cpm_wr_chr(&w, '>');
	r.from = r.to = cpm_wr_pl(&w);
	cpm_wr_init(&w, call_id, sizeof(call_id));
	cpm_wr_hex64(&w, t->call);
	cpm_wr_chr(&w, '@');
	cpm_wr_pl_put(&w, pf_conf.accept.call_id_host);
	r.call_id = cpm_wr_pl(&w);
	cpm_wr_init(&w, tag, sizeof(tag));
	cpm_wr_hex64(&w, cpm_hash64(CPM_HASH_INIT, r.call_id));
	r.from_tag = cpm_wr_pl(&w);
	r.method = "NOTIFY";
	r.ruri = c->c.uri;
	/* one Call-ID for all that a client is told, so that it sees which came
	 * last */
	r.cseq = ++t->cseq;
	r.headers = headers;
	r.body = body;
	r.socket = c->c.socket;
	r.routes = c->c.path;
	r.received = c->c.received;
	return pf_uac_send(&r, on_answer, t, &t->slot);
}

/* The body for this client. What the addresses take of the request it cannot
 * have: so that the request is not longer than it may be. */
static struct cpm_pl body_of(
		struct look *l, const struct pf_contact *c, struct cpm_pl headers)
{
	static char buf[BODY_MAX];
	size_t max = (size_t)pf_params.notify_max_bytes;
	size_t taken = REQUEST_REST + headers.n + c->c.uri.n + 2 * l->aor.n
				   + c->c.path.n + pf_conf.accept.call_id_host.n;
	struct cpm_wr w;

	l->n.max_bytes = max > taken ? max - taken : 0;
	cpm_wr_init(&w, buf, sizeof(buf));
	return cpm_notify_write(&l->n, &w, NULL) == CPM_OK ? cpm_wr_pl(&w)
													   : CPM_PL_NULL;
}

/* Whether what is queued is this client's business at all. */
static bool is_concerned(const struct look *l, const struct told *t)
{
	bool asked = (l->whys & (PF_NOTIFY_ASK | PF_NOTIFY_FLUSH)) != 0;

	if(l->n.stat->messages > 0) {
		return l->by_mode || asked || (t != NULL && t->waiting);
	}
	if(t != NULL) {
		return t->waiting;
	}
	return l->by_mode && (l->whys & PF_NOTIFY_LEFT) != 0;
}

static void client_tell(struct look *l, const struct pf_contact *c)
{
	struct told *t = told_find(l->aor, c);
	bool forced = (l->whys & PF_NOTIFY_FLUSH) != 0;
	char text[1024];
	struct cpm_wr w;
	struct cpm_pl body;
	uint64_t hash;
	int rc;

	if(t != NULL && t->out) {
		t->missed |= l->whys;
		return;
	}
	if(!is_concerned(l, t) || (t != NULL && t->refused)) {
		return;
	}
	if((l->whys & PF_NOTIFY_REGISTERED) != 0 && t != NULL) {
		t->failures = 0; /* a sign of life */
		t->retry_at_ms = 0;
	}
	if(t != NULL && !forced && t->retry_at_ms > l->now_ms) {
		mark(l->aor, again(t->whys | l->whys), t->retry_at_ms);
		return;
	}
	cpm_wr_init(&w, text, sizeof(text));
	headers_put(&w, l, c);
	body = cpm_wr_ok(&w) ? body_of(l, c, cpm_wr_pl(&w)) : CPM_PL_NULL;
	if(body.n == 0) {
		LM_ERR("notify: no body can be made aor=%.*s\n", (int)l->aor.n,
				l->aor.p);
		return;
	}
	hash = cpm_hash64(CPM_HASH_INIT, body);
	if(t != NULL && t->has_known && t->known_hash == hash && !forced) {
		return;
	}
	if(t == NULL) {
		t = told_new(l->aor, c);
	}
	rc = t == NULL ? CPM_ENOMEM : request_send(t, l, c, cpm_wr_pl(&w), body);
	if(rc == CPM_ELIMIT) {
		/* too many are without an answer: their time-outs make room */
		mark(l->aor, l->whys, l->now_ms + NO_SLOT_MS);
		return;
	}
	if(rc != CPM_OK) {
		LM_WARN("notify: not sent result=%s aor=%.*s\n", cpm_rc_name(rc),
				(int)l->aor.n, l->aor.p);
		if(t != NULL && rc != CPM_EPROTO) {
			t->whys = l->whys;
			failed(t, l->now_ms);
		}
		return;
	}
	t->out = true;
	t->out_hash = hash;
	t->out_waiting = l->n.stat->messages > 0;
	t->waiting = true;
	t->whys = l->whys;
	t->missed = 0;
}

/* Those of a user's clients that are to be told of anything. */
static size_t clients_of(struct cpm_pl aor, const struct cpm_prefs *prefs,
		struct pf_contact *contacts)
{
	struct cpm_client client;
	uint64_t now_s = io_clock_wall_ms() / 1000;
	size_t count = 0;
	size_t n = 0;
	size_t i;

	if(pf_usrloc_contacts(aor, contacts, &count) != CPM_OK) {
		return 0;
	}
	for(i = 0; i < count; i++) {
		pf_usrloc_client(&contacts[i], &client);
		if(contacts[i].takes_notify
				&& cpm_client_notified(prefs, &client, now_s)
				&& !pf_subscribe_has(aor, contacts[i].c.uri)) {
			contacts[n++] = contacts[i];
		}
	}
	return n;
}

static void user_tell(struct cpm_pl aor, unsigned whys, uint64_t now_ms)
{
	static struct pf_contact contacts[CPM_CONTACTS_MAX];
	struct cpm_queue_stat stat;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct look l;
	size_t clients;
	size_t i;

	if(pf_prefs_get(aor, &prefs_buf, &prefs, &policy, NULL) != CPM_OK) {
		mark(aor, whys, now_ms + pf_conf.deliver.retry_ms[0]);
		return;
	}
	memset(&l, 0, sizeof(l));
	l.by_mode = prefs.queue_mode == CPM_QUEUE_NOTIFY;
	if(!l.by_mode && (whys & (PF_NOTIFY_ASK | PF_NOTIFY_FLUSH)) == 0
			&& !is_waiting(aor)) {
		return;
	}
	clients = clients_of(aor, &prefs, contacts);
	if(clients == 0) {
		return;
	}
	if(queue_read(aor, (size_t)pf_params.notify_max_bytes, &stat, &l.n.count)
			!= CPM_OK) {
		mark(aor, whys, now_ms + pf_conf.deliver.retry_ms[0]);
		return;
	}
	l.aor = aor;
	l.whys = whys;
	l.now_ms = now_ms;
	l.n.type = pf_conf.notify_type;
	l.n.aor = aor;
	l.n.stat = &stat;
	l.n.items = items;
	l.n.fields = cpm_notify_fields(cpm_pl_str(policy.notify_fields));
	for(i = 0; i < clients; i++) {
		client_tell(&l, &contacts[i]);
	}
}

/* ----------------------------------------------------------------- loop */

void pf_notify_changed(struct cpm_pl aor, enum pf_notify_why why)
{
	if((pf_params.notify_unsolicited || listener_count > 0) && aor.n > 0
			&& aor.n <= CPM_AOR_MAX) {
		mark(aor, (unsigned)why,
				io_clock_mono_ms() + (uint64_t)pf_params.notify_delay_ms);
	}
}

void pf_notify_look(struct cpm_pl aor)
{
	if(aor.n > 0 && aor.n <= CPM_AOR_MAX) {
		mark(aor, PF_NOTIFY_LOOK,
				io_clock_mono_ms() + (uint64_t)pf_params.notify_delay_ms);
	}
}

bool pf_notify_is_awaited(struct cpm_pl aor)
{
	return listener_count > 0 || is_waiting(aor);
}

void pf_notify_listen(pf_notify_fn fn)
{
	if(listener_count == LISTENERS_MAX) {
		LM_BUG("notify: more than %d listeners\n", LISTENERS_MAX);
		return;
	}
	listeners[listener_count++] = fn;
}

bool pf_notify_is_pending(void)
{
	return mark_count > 0 && next_due_ms <= io_clock_mono_ms() + SOON_MS;
}

void pf_notify_tick(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	struct mark *due[TELL_MAX];
	struct mark *m, *later;
	size_t n = 0;
	size_t i, k;

	if(mark_count == 0 || now_ms < next_due_ms) {
		return;
	}
	next_due_ms = UINT64_MAX;
	for(m = marks_first; m != NULL; m = later) {
		later = m->later;
		if(m->due_ms <= now_ms && n < TELL_MAX) {
			mark_unlink(m);
			due[n++] = m;
		} else if(m->due_ms < next_due_ms) {
			next_due_ms = m->due_ms;
		}
	}
	for(i = 0; i < n; i++) {
		if((due[i]->whys & PF_NOTIFY_LOOK) != 0) {
			/* should it fail: nobody has planned another look, so there is one
			 * when that of now is everybody's again */
			(void)pf_store_note("release",
					io_queue_release(pf_store(), mark_aor(due[i]), CPM_PL_NULL,
							CPM_PL_NULL, pf_conf.deliver.check_max_ms));
		}
		for(k = 0; k < listener_count; k++) {
			listeners[k](mark_aor(due[i]), due[i]->whys);
		}
		if(pf_params.notify_unsolicited) {
			user_tell(mark_aor(due[i]), due[i]->whys, now_ms);
		}
		free(due[i]);
	}
}
