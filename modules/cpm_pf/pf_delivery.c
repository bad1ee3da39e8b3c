/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_delivery.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "io/io_contacts.h"
#include "io/io_survey.h"
#include "pf_conf.h"
#include "pf_enabler.h"
#include "pf_event.h"
#include "pf_hint.h"
#include "pf_jobs.h"
#include "pf_left.h"
#include "pf_media.h"
#include "pf_notify.h"
#include "pf_prefs.h"
#include "pf_pulling.h"
#include "pf_regevent.h"
#include "pf_session.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_subscribe.h"
#include "pf_tm.h"
#include "pf_uac.h"
#include "pf_usrloc.h"

#include "../../core/cfg/cfg_struct.h"
#include "../../core/dprint.h"

#define BUCKETS 4096
#define JOBS_MAX 20000 /* beyond it a trigger is left to the wake index */
#define TICK_MS 100
#define SWEEP_MS 1000
#define CLAIM_MS 30000
#define HANGUP_GRACE_MS 300
#define BRAKE_MS 500  /* after a request that could not be sent */
#define CLAIM_PAGE 64 /* users of one shard at a time */
#define CALLS_IN_ONE_GO 64

/* One user whose queue is to be looked at, or is being emptied. */
struct job
{
	struct job *next;			/* in its bucket */
	struct job *later, *sooner; /* in its list: pending by time, or active */
	bool active;
	bool doubt;		 /* in doubtful: perhaps nothing is queued */
	uint64_t due_ms; /* pending: when to start */
	enum cpm_lease_force force;
	uint64_t since_ms;			/* when what forces it happened */
	struct pf_session *session; /* NULL: none */
	uint64_t hangup_at_ms;		/* its client hung up; 0: it did not */
	struct pf_pulling *pulling; /* the client fetches; NULL: we bring */
	bool again;					/* meanwhile something spoke for a look: ... */
	/* a client's INVITE that waits for the end of this, until then */
	struct pf_call *call;
	uint64_t call_until_ms;
	bool has_slot;
	uint32_t slot;
	struct cpm_deliver d; /* active; before that only aor is set */
};

struct list
{
	struct job *first, *last;
	size_t count;
};

static unsigned self;
static struct job *buckets[BUCKETS];
static struct list pending;
static struct list doubtful; /* who has registered: in the order of time */
static struct list active;
/* Of the last port_reach_get. */
static struct pf_contact found[CPM_CONTACTS_MAX];
static struct job *job_now;		 /* whose ports are running */
static struct job **job_of_slot; /* [delivery_parallel] */
static uint64_t token_seq;
static uint64_t brake_until_ms; /* no delivery is begun before */
static double allowance = 1;	/* delivery_rate: requests that may be sent */
static uint64_t allowed_at_ms;	/* when it was last added to */
static size_t pulling_count;	/* of the active, those in which we are asked */
static char token_head[32];

/* ----------------------------------------------------------------- lists */

static void list_append(struct list *l, struct job *j)
{
	j->later = NULL;
	j->sooner = l->last;
	if(l->last != NULL) {
		l->last->later = j;
	} else {
		l->first = j;
	}
	l->last = j;
	l->count++;
}

static void list_remove(struct list *l, struct job *j)
{
	if(j->sooner != NULL) {
		j->sooner->later = j->later;
	} else {
		l->first = j->later;
	}
	if(j->later != NULL) {
		j->later->sooner = j->sooner;
	} else {
		l->last = j->sooner;
	}
	l->count--;
}

static struct cpm_pl job_aor(const struct job *j)
{
	return cpm_pl(j->d.aor, j->d.aor_len);
}

static struct job **bucket_of(struct cpm_pl aor)
{
	return &buckets[(cpm_hash64(CPM_HASH_INIT, aor) >> 16) % BUCKETS];
}

static struct job *job_find(struct cpm_pl aor)
{
	struct job *j;

	for(j = *bucket_of(aor); j != NULL; j = j->next) {
		if(cpm_pl_eq(job_aor(j), aor)) {
			return j;
		}
	}
	return NULL;
}

static struct job *job_new(struct cpm_pl aor)
{
	struct job **bucket = bucket_of(aor);
	struct job *j;

	if(pending.count + doubtful.count + active.count >= JOBS_MAX) {
		return NULL;
	}
	j = calloc(1, sizeof(*j));
	if(j != NULL) {
		memcpy(j->d.aor, aor.p, aor.n);
		j->d.aor_len = aor.n;
		j->next = *bucket;
		*bucket = j;
	}
	return j;
}

static struct list *list_of(const struct job *j)
{
	return j->active ? &active : j->doubt ? &doubtful : &pending;
}

static void job_free(struct job *j)
{
	struct job **at = bucket_of(job_aor(j));

	while(*at != j) {
		at = &(*at)->next;
	}
	*at = j->next;
	list_remove(list_of(j), j);
	free(j);
}

/* ----------------------------------------------------------------- ports */

static int port_reach_get(void *ctx, struct cpm_pl aor,
		struct cpm_contact *contacts, size_t *count_r)
{
	size_t i;
	int rc = pf_usrloc_contacts(aor, found, count_r);

	for(i = 0; rc == CPM_OK && i < *count_r; i++) {
		found[i].c.session = pf_usrloc_session(&found[i]);
		contacts[i] = found[i].c;
		contacts[i].index = (unsigned)i;
	}
	return rc;
}

static int takes(struct cpm_pl aor, const struct pf_contact *contact,
		const struct cpm_msg *msg, enum cpm_mode mode)
{
	static struct pf_prefs_buf buf;
	struct cpm_msg_facts facts;
	struct cpm_policy policy;
	struct cpm_prefs prefs;
	struct cpm_client client;
	struct cpm_diag diag = {"", 0};

	if(pf_prefs_get(aor, &buf, &prefs, &policy, &diag) != CPM_OK) {
		LM_DBG("delivery: preferences unknown why=%s\n", diag.why);
		return CPM_EDOWN;
	}
	memset(&facts, 0, sizeof(facts));
	facts.originator = msg->originator;
	facts.anonymous = (msg->flags & CPM_MSG_F_ANONYMOUS) != 0;
	facts.type = msg->content_type;
	facts.inner_type = msg->inner_type;
	facts.kind = (msg->flags & CPM_MSG_F_LARGE) != 0 ? CPM_KIND_LARGE
													 : CPM_KIND_PAGER;
	facts.size = msg->body_len;
	facts.now_s = io_clock_wall_ms() / 1000;
	pf_usrloc_client(contact, &client);
	return cpm_client_takes(&prefs, &policy, &facts, &client, mode) ? 1 : 0;
}

static int port_takes(void *ctx, struct cpm_pl aor,
		const struct cpm_contact *contact, const struct cpm_msg *msg,
		enum cpm_mode mode)
{
	return takes(aor, &found[contact->index], msg, mode);
}

static int port_lease(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, enum cpm_lease_force force, uint64_t age_ms,
		struct cpm_lease *lease_r)
{
	return pf_store_note("lease", io_queue_lease(pf_store(), aor, token,
										  lease_ms, force, age_ms, lease_r));
}

static int port_renew(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl id, uint64_t lease_ms, struct cpm_lease *lease_r)
{
	return pf_store_note("renew",
			io_queue_renew(pf_store(), aor, token, id, lease_ms, lease_r));
}

static int port_settle(void *ctx, const struct cpm_settle *settle)
{
	struct cpm_settle with_jobs = pf_jobs_settle(settle);

	return pf_store_note("settle", io_queue_settle(pf_store(), &with_jobs));
}

static int port_release(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		struct cpm_pl unsent_id, uint64_t wake_in_ms)
{
	return pf_store_note("release",
			io_queue_release(pf_store(), aor, token, unsent_id, wake_in_ms));
}

static int port_send(void *ctx, const struct cpm_contact *contact,
		const struct cpm_msg *msg, unsigned attempt)
{
	uint32_t slot;
	int rc;

	rc = pf_tm_send(self, contact, msg, attempt, io_clock_wall_ms(), &slot);
	if(rc != CPM_OK) {
		/* most likely tm has no shared memory left, for it keeps what is done
		 * for some seconds: more of the same would not help */
		brake_until_ms = io_clock_mono_ms() + BRAKE_MS;
		LM_WARN("delivery: not sent result=%s aor=%.*s id=%.*s\n",
				cpm_rc_name(rc), (int)msg->aor.n, msg->aor.p, (int)msg->id.n,
				msg->id.p);
		return rc;
	}
	allowance -= 1;
	job_now->has_slot = true;
	job_now->slot = slot;
	job_of_slot[slot] = job_now;
	return CPM_OK;
}

static struct cpm_push *port_session_new(void *ctx)
{
	if(job_now->session != NULL || !pf_session_is_possible()) {
		return NULL;
	}
	job_now->hangup_at_ms = 0;
	job_now->session = pf_session_new(job_now);
	return job_now->session != NULL ? pf_session_push(job_now->session) : NULL;
}

static int port_session_invite(
		void *ctx, const struct cpm_contact *contact, const struct cpm_msg *msg)
{
	allowance -= 1;
	return pf_session_invite(job_now->session, &found[contact->index], msg);
}

/* Of the client that is in the session, as it is registered now. */
static int port_session_takes(
		void *ctx, struct cpm_pl aor, const struct cpm_msg *msg)
{
	struct cpm_pl uri = pf_session_contact(job_now->session);
	size_t count = 0;
	size_t i;

	if(!pf_session_accepts(job_now->session, msg)
			|| pf_usrloc_contacts(aor, found, &count) != CPM_OK) {
		return 0;
	}
	for(i = 0; i < count; i++) {
		if(cpm_pl_eq(found[i].c.uri, uri)) {
			return takes(aor, &found[i], msg, CPM_MODE_SESSION);
		}
	}
	return 0;
}

static int port_session_send(
		void *ctx, uint32_t handle, const struct cpm_msg *msg)
{
	return pf_session_send(job_now->session, handle, msg);
}

static void port_session_end(void *ctx)
{
	if(job_now->session != NULL) {
		pf_session_end(&job_now->session);
		pf_event(PF_EVENT_SESSION_END, job_aor(job_now), CPM_PL_NULL, 0,
				"session-end");
	}
}

static int port_lease_many(void *ctx, const struct cpm_lease_ask *ask,
		struct cpm_lease *leases_r, size_t *count_r)
{
	return pf_store_note(
			"lease", io_queue_lease_many(pf_store(), ask, leases_r, count_r));
}

static int port_extend(void *ctx, struct cpm_pl aor, struct cpm_pl token,
		uint64_t lease_ms, const struct cpm_pl *ids, size_t count, bool *lost_r)
{
	return pf_store_note("extend", io_queue_extend(pf_store(), aor, token,
										   lease_ms, ids, count, lost_r));
}

static int port_settle_many(
		void *ctx, const struct cpm_settle *settles, size_t count, int *rcs_r)
{
	struct cpm_settle with_jobs[CPM_PUSH_WINDOW];
	size_t i;

	for(i = 0; i < count && i < CPM_PUSH_WINDOW; i++) {
		with_jobs[i] = pf_jobs_settle(&settles[i]);
	}
	return pf_store_note(
			"settle", io_queue_settle_many(pf_store(), with_jobs, i, rcs_r));
}

static const char *const event_names[] = {
		[CPM_DELIVER_SENT] = "sent",
		[CPM_DELIVER_DELIVERED] = "delivered",
		[CPM_DELIVER_RETRY] = "failed",
		[CPM_DELIVER_DEAD] = "dead",
		[CPM_DELIVER_LOST] = "lease-lost",
		[CPM_DELIVER_DEFERRED] = "deferred",
};

static void delivered_observe(
		const struct cpm_deliver_info *info, uint64_t now_ms)
{
	cpm_hist_observe(pf_stats, CPM_HIST_delivered_attempts, info->attempt);
	cpm_hist_observe(pf_stats, CPM_HIST_delivered_after_seconds,
			now_ms > info->received_ms ? now_ms - info->received_ms : 0);
}

static void port_event(void *ctx, const struct cpm_deliver_info *info)
{
	uint64_t now_ms = io_clock_wall_ms();

	switch(info->event) {
		case CPM_DELIVER_DELIVERED:
			pf_stat(info->mode == CPM_MODE_SESSION
							? CPM_STAT_delivered_msrp
							: CPM_STAT_delivered_message);
			delivered_observe(info, now_ms);
			pf_event(PF_EVENT_DELIVERED, info->aor, info->id, info->code,
					info->mode == CPM_MODE_SESSION ? "msrp" : "message");
			if(pf_notify_is_awaited(info->aor)) {
				pf_notify_changed(info->aor, PF_NOTIFY_LEFT);
			}
			break;
		case CPM_DELIVER_DEAD:
			pf_stat(CPM_STAT_dead);
			pf_stat(CPM_STAT_delivery_failed);
			pf_event(PF_EVENT_DEAD, info->aor, info->id, info->code, info->why);
			break;
		case CPM_DELIVER_RETRY:
			pf_stat(CPM_STAT_delivery_failed);
			break;
		case CPM_DELIVER_SENT:
		case CPM_DELIVER_LOST:
		case CPM_DELIVER_DEFERRED:
			break;
	}
	LM_INFO("delivery: %s aor=%.*s id=%.*s attempt=%u code=%u why=%s "
			"queued_ms=%llu\n",
			event_names[info->event], (int)info->aor.n, info->aor.p,
			(int)info->id.n, info->id.p, info->attempt, info->code, info->why,
			(unsigned long long)(now_ms > info->received_ms
										 ? now_ms - info->received_ms
										 : 0));
}

static struct cpm_deliver_ports ports = {
		.reach_get = port_reach_get,
		.client_takes = port_takes,
		.queue_lease = port_lease,
		.queue_renew = port_renew,
		.queue_settle = port_settle,
		.queue_release = port_release,
		.send_message = port_send,
		.event = port_event,
		.session_invite = port_session_invite,
		.session_takes = port_session_takes,
		.session_send = port_session_send,
		.session_end = port_session_end,
		.queue_lease_many = port_lease_many,
		.queue_extend = port_extend,
		.queue_settle_many = port_settle_many,
};

/* ------------------------------------------------------------------ jobs */

static void slot_drop(struct job *j)
{
	if(j->has_slot) {
		job_of_slot[j->slot] = NULL;
		pf_tm_done(self, j->slot);
		j->has_slot = false;
	}
}

static struct job *trigger(struct cpm_pl aor, enum cpm_lease_force force,
		uint64_t since_ms, uint64_t due_ms);

static void token_make(char token[CPM_QUEUE_TOKEN_MAX], struct cpm_wr *w)
{
	cpm_wr_init(w, token, CPM_QUEUE_TOKEN_MAX);
	cpm_wr_str(w, token_head);
	cpm_wr_hex64(w, token_seq++);
}

/* Whether this user's clients are told of the queue, and take from it what
 * they want. Where that cannot be told now, a delivery finds the same, and
 * waits. */
static bool is_notified(struct cpm_pl aor)
{
	static struct pf_prefs_buf buf;
	struct cpm_prefs prefs;

	return pf_prefs_get(aor, &buf, &prefs, NULL, NULL) == CPM_OK && prefs.known
		   && prefs.queue_mode == CPM_QUEUE_NOTIFY;
}

/* A client has fetched, or was refused; what spoke for a look at its queue
 * meanwhile has one. */
static void job_end(struct job *j)
{
	char aor[CPM_AOR_MAX];
	size_t aor_len = j->d.aor_len;
	bool again = j->again;
	enum cpm_lease_force force = j->force;
	uint64_t since_ms = j->since_ms;

	pulling_count--;
	memcpy(aor, j->d.aor, aor_len);
	job_free(j);
	if(again && is_notified(cpm_pl(aor, aor_len))) {
		pf_notify_look(cpm_pl(aor, aor_len));
	} else if(again) {
		trigger(cpm_pl(aor, aor_len), force, since_ms, io_clock_mono_ms());
	}
}

/* A client fetches. The job does nothing else, and is active. */
static void job_pull(struct job *j, struct pf_call *call)
{
	char token[CPM_QUEUE_TOKEN_MAX];
	struct cpm_wr w;

	token_make(token, &w);
	j->hangup_at_ms = 0;
	if(!j->again) {
		/* what it leaves is looked at as ever */
		j->again = true;
		j->force = CPM_LEASE_WHEN_DUE;
		j->since_ms = io_clock_mono_ms();
	}
	pulling_count++;
	j->pulling = pf_pulling_start(j, call, cpm_wr_pl(&w));
	if(j->pulling == NULL) {
		job_end(j);
	}
}

/* After any step: a finished delivery is forgotten, or makes way for the
 * client that waits for its end. */
static void job_look(struct job *j)
{
	struct pf_call *call = j->call;

	if(j->pulling != NULL && pf_pulling_is_over(j->pulling)) {
		if(pf_pulling_has_done(j->pulling)) {
			pf_notify_changed(job_aor(j), PF_NOTIFY_LEFT);
		}
		pf_pulling_free(&j->pulling);
		job_end(j);
		return;
	}
	if(j->pulling == NULL && j->d.state == CPM_DELIVER_FINISHED) {
		slot_drop(j);
		if(j->session != NULL) {
			pf_session_end(&j->session);
		}
		if(call == NULL) {
			job_free(j);
			return;
		}
		j->call = NULL;
		j->again = false;
		job_pull(j, call);
	}
}

/* A client's INVITE. One session for each user at a time: while something is
 * being brought, it waits for the end of that for a moment. */
static void call_take(struct pf_call *call)
{
	struct job *j = job_find(call->aor);

	if(j != NULL && j->active) {
		if(j->pulling != NULL || j->call != NULL) {
			pf_pulling_refuse(call, 486, "Busy Here", "session-under-way");
			return;
		}
		j->call = call;
		j->call_until_ms = io_clock_mono_ms() + PF_PULL_WAIT_MS;
		return;
	}
	if(j == NULL) {
		j = job_new(call->aor);
		if(j == NULL) {
			pf_pulling_refuse(
					call, 503, "Service Unavailable", "too-many-users");
			return;
		}
	} else {
		list_remove(list_of(j), j);
		j->doubt = false;
		j->again = true;
	}
	j->active = true;
	list_append(&active, j);
	job_pull(j, call);
}

/* Bounded, as hints are: what is under way does not wait for what begins. */
static void calls_take(void)
{
	struct pf_call *call;
	unsigned n;

	for(n = 0; n < CALLS_IN_ONE_GO && (call = pf_pull_next(self)) != NULL;
			n++) {
		call_take(call);
	}
}

static void job_acked(uint32_t slot)
{
	struct job *j = pf_session_acked(slot);

	if(j != NULL && j->pulling != NULL) {
		pf_pulling_acked(j->pulling);
		job_look(j);
	}
}

/* The INVITE of a session has its answer, or not yet. */
static void job_invited(void *owner)
{
	struct job *j = owner;
	unsigned code = j->session != NULL ? pf_session_answer(j->session) : 0;

	if(code != 0) {
		job_now = j;
		cpm_deliver_invited(
				&j->d, &ports, &pf_conf.deliver, code, io_clock_mono_ms());
		job_look(j);
	}
}

static void job_session(
		struct job *j, const struct cpm_session_event *events, size_t count)
{
	job_now = j;
	if(j->pulling != NULL) {
		pf_pulling_events(j->pulling, events, count);
		job_look(j);
		return;
	}
	cpm_deliver_session_event(
			&j->d, &ports, &pf_conf.deliver, events, count, io_clock_mono_ms());
	job_look(j);
}

/* BYE comes by another way than the acknowledgements that were sent before it:
 * they are given the time to arrive. */
static void job_hangup(struct job *j)
{
	if(j->pulling != NULL && j->hangup_at_ms == 0) {
		pf_pulling_hung_up(j->pulling);
		j->hangup_at_ms = io_clock_mono_ms() + HANGUP_GRACE_MS;
	} else if(j->session != NULL && j->hangup_at_ms == 0) {
		pf_session_hung_up(j->session);
		j->hangup_at_ms = io_clock_mono_ms() + HANGUP_GRACE_MS;
	}
}

static void job_hung_up(struct job *j)
{
	struct cpm_session_event hangup = {CPM_SESSION_HANGUP, 0, 0};

	j->hangup_at_ms = 0;
	if(j->session != NULL || j->pulling != NULL) {
		job_session(j, &hangup, 1);
	}
}

static void job_start(struct job *j)
{
	char aor[CPM_AOR_MAX];
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t aor_len = j->d.aor_len;
	struct cpm_wr w;

	memcpy(aor, j->d.aor, aor_len);
	token_make(token, &w);
	list_remove(&pending, j);
	j->active = true;
	list_append(&active, j);
	job_now = j;
	cpm_deliver_start(&j->d, &ports, &pf_conf.deliver, cpm_pl(aor, aor_len),
			cpm_wr_pl(&w), j->force, j->since_ms, io_clock_mono_ms());
	job_look(j);
}

static void job_answer(struct job *j, unsigned code)
{
	slot_drop(j);
	job_now = j;
	cpm_deliver_answer(
			&j->d, &ports, &pf_conf.deliver, code, io_clock_mono_ms());
	job_look(j);
}

static void job_tick(struct job *j, uint64_t now_ms)
{
	if(j->pulling != NULL) {
		job_now = j;
		pf_pulling_tick(j->pulling, now_ms);
		job_look(j);
		return;
	}
	if(j->d.state == CPM_DELIVER_WAITING && j->d.at_ms <= now_ms) {
		slot_drop(j); /* no answer within the lease: none is taken later */
	}
	job_now = j;
	cpm_deliver_tick(&j->d, &ports, &pf_conf.deliver, now_ms);
	job_look(j);
}

/* Something speaks for a look at this user's queue. The job, where that is a
 * new one; or NULL. */
static struct job *trigger(struct cpm_pl aor, enum cpm_lease_force force,
		uint64_t since_ms, uint64_t due_ms)
{
	struct job *j = job_find(aor);

	if(j != NULL && j->active && j->pulling == NULL) {
		cpm_deliver_again(&j->d, force, since_ms);
		return NULL;
	}
	if(j != NULL) {
		j->again = j->active;
		if(force >= j->force) {
			j->force = force;
			j->since_ms = since_ms;
		}
		return NULL;
	}
	j = job_new(aor);
	if(j == NULL) {
		pf_stat(CPM_STAT_hints_lost);
		return NULL;
	}
	j->force = force;
	j->since_ms = since_ms;
	j->due_ms = due_ms;
	list_append(&pending, j);
	return j;
}

static void slot_look(uint32_t slot)
{
	struct job *j = slot < pf_conf.delivery_parallel ? job_of_slot[slot] : NULL;
	unsigned code;

	if(j == NULL) {
		return;
	}
	code = pf_tm_answer(self, slot);
	if(code != 0) {
		job_answer(j, code);
	}
}

/* ------------------------------------------------------------------ loop */

/* What a hint speaks for is told to the clients; true: and that is all, the
 * queue is not brought to them. */
static bool notify(const struct pf_hint *h)
{
	static const enum pf_notify_why whys[] = {
			[PF_HINT_QUEUED] = PF_NOTIFY_QUEUED,
			[PF_HINT_REGISTERED] = PF_NOTIFY_REGISTERED,
			[PF_HINT_FLUSH] = PF_NOTIFY_REGISTERED,
	};
	struct cpm_pl aor = cpm_pl(h->aor, h->aor_len);
	bool only = h->mode == PF_HINT_AUTO && is_notified(aor);

	if(h->mode == PF_HINT_NOTIFY || h->mode == PF_HINT_ASK) {
		pf_notify_changed(aor,
				h->mode == PF_HINT_NOTIFY ? PF_NOTIFY_FLUSH : PF_NOTIFY_ASK);
		return true;
	}
	if((only || pf_notify_is_awaited(aor))
			&& h->kind < sizeof(whys) / sizeof(whys[0])) {
		pf_notify_changed(aor, whys[h->kind]);
	}
	return only;
}

static void hints_read(void)
{
	struct pf_hint h;
	struct job *j;
	uint64_t now_ms = io_clock_mono_ms();
	unsigned n;

	/* bounded, so that a storm of hints does not keep deliveries waiting */
	for(n = 0; n < 1000 && pf_hint_next(self, &h) == CPM_OK; n++) {
		if(h.kind == PF_HINT_ANSWER) {
			slot_look(h.slot);
			continue;
		}
		pf_enabler_hint(&h);
		pf_regevent_hint(&h);
		if(h.kind == PF_HINT_REG) {
			continue;
		}
		if(h.kind == PF_HINT_SUBSCRIBED) {
			pf_subscribe_due(cpm_pl(h.aor, h.aor_len));
			continue;
		}
		if(h.kind == PF_HINT_CHANGED) {
			pf_subscribe_changed(cpm_pl(h.aor, h.aor_len));
			continue;
		}
		if(h.kind == PF_HINT_UAC) {
			pf_uac_hint(h.slot);
			continue;
		}
		if(h.kind == PF_HINT_CALL) {
			calls_take();
			continue;
		}
		if(h.kind == PF_HINT_ACKED) {
			job_acked(h.slot);
			continue;
		}
		if(h.kind == PF_HINT_ANSWERED || h.kind == PF_HINT_HANGUP) {
			struct job *j = pf_session_of_slot(h.slot);

			if(j != NULL && h.kind == PF_HINT_ANSWERED) {
				job_invited(j);
			} else if(j != NULL) {
				job_hangup(j);
			} else {
				pf_session_gone(h.slot);
			}
			continue;
		}
		if(notify(&h)) {
			continue;
		}
		/* a client that has just registered is given the time to get the
		 * answer to its REGISTER, and several triggers become one */
		/* since it happened, not since it is read: what came after it is not
		 * what it speaks for */
		j = trigger(cpm_pl(h.aor, h.aor_len), (enum cpm_lease_force)h.force,
				h.at_ms,
				now_ms
						+ (h.kind == PF_HINT_REGISTERED
										? pf_conf.register_delay_ms
										: 0));
		if(j != NULL && h.kind == PF_HINT_REGISTERED) {
			list_remove(&pending, j);
			j->doubt = true;
			list_append(&doubtful, j);
		}
	}
}

/* Another MSRP worker than before: what the last one had is gone. */
static void sessions_lost(void)
{
	struct cpm_session_event down = {CPM_SESSION_DOWN, 0, 0};
	struct job *j, *later;

	pf_media_forget();
	for(j = active.first; j != NULL; j = later) {
		later = j->later;
		if(j->session != NULL || j->pulling != NULL) {
			job_session(j, &down, 1);
		}
	}
}

/* What the MSRP worker says, what belongs to one session in one go. */
static void media_read(void)
{
	static struct cpm_session_event events[CPM_PUSH_WINDOW];
	struct cpm_ctl m;
	struct job *j, *of = NULL;
	size_t count = 0;
	unsigned n;
	int rc;

	for(n = 0; n < 2000; n++) {
		rc = pf_media_next(self, &m);
		if(rc == CPM_EPROTO) {
			continue;
		}
		if(rc == CPM_OK && m.kind == CPM_CTL_HELLO) {
			if(pf_session_hello(m.session, m.a, m.b)) {
				if(of != NULL) {
					job_session(of, events, count);
					of = NULL;
					count = 0;
				}
				sessions_lost();
			}
			continue;
		}
		j = rc == CPM_OK ? pf_session_of_number(m.session) : NULL;
		if(of != NULL && (j != of || count == CPM_PUSH_WINDOW)) {
			job_session(of, events, count);
			of = NULL;
			count = 0;
			/* that may have ended what this one is for */
			j = rc == CPM_OK ? pf_session_of_number(m.session) : NULL;
		}
		if(rc != CPM_OK) {
			return;
		}
		if(j != NULL && m.kind == CPM_CTL_UP && j->pulling != NULL) {
			if(of == j) {
				job_session(of, events, count);
				of = NULL;
				count = 0;
				j = pf_session_of_number(m.session);
			}
			if(j != NULL && j->pulling != NULL) {
				pf_pulling_up(j->pulling);
				job_look(j);
			}
			continue;
		}
		if(j == NULL || m.kind == CPM_CTL_UP) {
			continue;
		}
		of = j;
		events[count].kind = m.kind == CPM_CTL_DONE		? CPM_SESSION_DONE
							 : m.kind == CPM_CTL_FAILED ? CPM_SESSION_FAILED
							 : j->hangup_at_ms != 0		? CPM_SESSION_HANGUP
														: CPM_SESSION_DOWN;
		events[count].handle = m.handle;
		events[count].code = m.code;
		count++;
		if(m.kind == CPM_CTL_FAILED || m.kind == CPM_CTL_DOWN) {
			LM_INFO("session: %s aor=%.*s code=%u why=%.*s\n",
					m.kind == CPM_CTL_FAILED ? "failed" : "down",
					(int)j->d.aor_len, j->d.aor, m.code, (int)m.a.n, m.a.p);
		}
	}
	if(of != NULL) {
		job_session(of, events, count);
	}
}

/* There is room again: whoever could not send goes on. */
static void media_write(void)
{
	struct cpm_session_event room = {CPM_SESSION_ROOM, 0, 0};
	struct job *j, *later;

	pf_media_flush(self);
	if(pf_media_wants_write()) {
		return;
	}
	for(j = active.first; j != NULL; j = later) {
		later = j->later;
		if(j->pulling != NULL ? pf_pulling_is_blocked(j->pulling)
							  : j->d.state == CPM_DELIVER_SESSION
										&& j->d.push->blocked) {
			job_session(j, &room, 1);
		}
	}
}

/* Whether one more delivery may be begun. What is sent counts, not who was
 * looked at and had nothing queued; at most a second's share is saved up. */
static bool pace(uint64_t now_ms)
{
	double rate = pf_params.delivery_rate;

	if(rate == 0) {
		return true;
	}
	allowance += rate * (double)(now_ms - allowed_at_ms) / 1000;
	allowed_at_ms = now_ms;
	if(allowance > rate) {
		allowance = rate;
	}
	return allowance >= 1;
}

#define DOUBTS 128 /* in one round trip */
#define DOUBTS_ROUNDS 8

/* Most of those who register have nothing queued. That is asked for many at
 * once, so that a storm of registrations costs little; who queues something
 * for them after this finds them registered, and tells us. true: there may be
 * more. */
static bool doubts_ask(uint64_t now_ms)
{
	static struct cpm_pl aors[DOUBTS];
	static struct job *of[DOUBTS];
	static bool queued[DOUBTS];
	struct job *j;
	size_t n = 0;
	size_t i;

	for(j = doubtful.first; j != NULL && n < DOUBTS && j->due_ms <= now_ms;
			j = j->later) {
		of[n] = j;
		aors[n++] = job_aor(j);
	}
	if(n > 0
			&& pf_store_note("queued",
					   io_contacts_queued(pf_store(), aors, n, queued))
					   != CPM_OK) {
		memset(queued, 1, sizeof(queued)); /* then each for itself */
	}
	for(i = 0; i < n; i++) {
		if(!queued[i]) {
			job_free(of[i]);
			continue;
		}
		list_remove(&doubtful, of[i]);
		of[i]->doubt = false;
		list_append(&pending, of[i]);
	}
	return n == DOUBTS;
}

/* The pending are nearly in the order of their times; one that must wait for
 * the answer to its REGISTER does not hold up the others. */
static void pending_start(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	struct job *j, *later;
	unsigned scanned = 0;
	unsigned rounds = 0;

	if(now_ms < brake_until_ms) {
		return;
	}
	while(rounds++ < DOUBTS_ROUNDS && doubts_ask(now_ms))
		;
	for(j = pending.first;
			j != NULL && scanned < 1000
			&& active.count - pulling_count < pf_conf.delivery_parallel;
			j = later, scanned++) {
		later = j->later;
		if(j->due_ms <= now_ms && !pace(now_ms)) {
			return;
		}
		if(j->due_ms <= now_ms) {
			job_start(j);
		}
	}
}

static void active_tick(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	struct job *j, *later;

	for(j = active.first; j != NULL; j = later) {
		later = j->later;
		uint64_t at_ms =
				j->pulling != NULL ? pf_pulling_at_ms(j->pulling) : j->d.at_ms;

		if(j->call != NULL && j->call_until_ms <= now_ms) {
			pf_pulling_refuse(j->call, 486, "Busy Here", "delivery-under-way");
			j->call = NULL;
		}
		if(j->hangup_at_ms != 0 && j->hangup_at_ms <= now_ms) {
			job_hung_up(j);
		} else if(at_ms != 0 && at_ms <= now_ms) {
			job_tick(j, now_ms);
		}
	}
}

/* Somebody asked, perhaps on another node: as a hint does, but that all that
 * waits is due already, once. */
static void flush(struct cpm_pl aor, enum cpm_flush mode, uint64_t now_ms)
{
	struct pf_hint h = {.kind = PF_HINT_FLUSH,
			.mode = mode == CPM_FLUSH_PUSH	   ? PF_HINT_PUSH
					: mode == CPM_FLUSH_NOTIFY ? PF_HINT_NOTIFY
											   : PF_HINT_AUTO,
			.aor_len = (uint16_t)aor.n};

	memcpy(h.aor, aor.p, aor.n);
	if(notify(&h)) {
		pf_notify_look(aor);
	} else {
		trigger(aor, CPM_LEASE_WHEN_DUE, now_ms, now_ms);
	}
}

/* Users whose time has come, by Redis: retries, ends of leases of workers
 * that died, expiries, and looks that a lost hint owes. All shards of ours in
 * one round trip. No more than can be worked on: what is claimed and not done
 * is everybody's again only after CLAIM_MS. */
static int claim(const unsigned *shards, size_t count, uint64_t *left_r)
{
	static struct cpm_claimed users[CPM_QUEUE_SHARDS * CLAIM_PAGE];
	size_t wanted = 4 * (size_t)pf_conf.delivery_parallel;
	size_t limit =
			pending.count < wanted ? (wanted - pending.count) / count : 0;
	uint64_t now_ms = io_clock_mono_ms();
	size_t n = 0;
	size_t i;
	int rc;

	if(limit > CLAIM_PAGE) {
		limit = CLAIM_PAGE;
	}
	/* with little room, a few at a time are still better than none: who fits
	 * nowhere is claimed again */
	rc = pf_store_note("claim",
			io_queue_claim(pf_store(), cpm_pl(pf_conf.node, 8), shards, count,
					CLAIM_MS, limit > 0 ? limit : pending.count < wanted, users,
					&n, left_r));
	for(i = 0; rc == CPM_OK && i < n; i++) {
		pf_enabler_check(users[i].aor);
		pf_regevent_check(users[i].aor);
		if(users[i].aor.n == 0 || users[i].aor.n > CPM_AOR_MAX) {
			continue;
		}
		if(users[i].flush != CPM_FLUSH_NONE) {
			flush(users[i].aor, users[i].flush, now_ms);
		} else if(is_notified(users[i].aor)) {
			pf_notify_look(users[i].aor);
		} else {
			trigger(users[i].aor, CPM_LEASE_WHEN_DUE, now_ms, now_ms);
		}
	}
	return rc;
}

/* Once, when Redis is first there: what would lose messages is said while
 * there are none. */
static void survey(void)
{
	static bool done;
	static struct io_redis_server servers[IO_REDIS_SERVERS_MAX];
	struct io_survey_warning w[IO_SURVEY_WARNINGS_MAX];
	size_t count = 0;
	size_t i, j, n;

	if(done || self != 0
			|| pf_store_note("survey", io_queue_survey(pf_store(), servers,
											   IO_REDIS_SERVERS_MAX, &count))
					   != CPM_OK) {
		return;
	}
	done = true;
	for(i = 0; i < count; i++) {
		n = io_survey_warnings(&servers[i], w);
		for(j = 0; j < n; j++) {
			LM_WARN("redis: %s server=%s: %s\n", w[j].word, servers[i].addr,
					w[j].text);
		}
	}
}

static void sweep(void)
{
	unsigned shards[CPM_QUEUE_SHARDS];
	uint64_t left[CPM_QUEUE_SHARDS];
	char token[sizeof(token_head)];
	size_t count = 0;
	uint32_t slot;
	size_t i;
	int rc;

	for(slot = 0; slot < pf_conf.delivery_parallel; slot++) {
		slot_look(slot);
	}
	pf_session_look(job_invited, job_acked);
	pf_uac_look();
	calls_take();
	for(i = 0; i < CPM_QUEUE_SHARDS; i++) {
		if(pf_hint_worker_of_shard((unsigned)i) == self) {
			shards[count++] = (unsigned)i;
		}
	}
	rc = count > 0 ? claim(shards, count, left) : CPM_EDOWN;
	if(rc == CPM_OK) {
		survey();
	}
	memcpy(token, token_head, sizeof(token));
	for(i = 0; rc == CPM_OK && i < count; i++) {
		if(left[i] > 0) {
			rc = pf_left_report(shards[i], cpm_pl_str(token));
		}
	}
	if(rc == CPM_OK) {
		pf_jobs_sweep(shards, count, token_head);
	}
}

static void start(unsigned index)
{
	self = index;
	/* Kamailio's main process is our life: without it nobody would stop us */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if(pf_store() == NULL) {
		exit(-1);
	}
	pf_uac_start(index);
	pf_subscribe_start(index);
	pf_regevent_start(index);
	job_of_slot = calloc(pf_conf.delivery_parallel, sizeof(*job_of_slot));
	if(job_of_slot == NULL) {
		LM_CRIT("delivery: no memory\n");
		exit(-1);
	}
	/* a token is of this process alone, over all nodes and restarts */
	(void)snprintf(
			token_head, sizeof(token_head), "%s%x-", pf_conf.node, index);
	if(pf_store_note("ping", io_queue_ping(pf_store())) == CPM_OK) {
		LM_NOTICE("delivery: ready worker=%u\n", index);
	}
}

void pf_delivery_main(unsigned index)
{
	struct pollfd pfd[2];
	nfds_t fds = pf_media_is_on() ? 2 : 1;
	uint64_t sweep_at = 0;
	uint64_t now_ms;
	int timeout;

	start(index);
	pfd[0].fd = pf_hint_fd(index);
	pfd[0].events = POLLIN;
	if(pf_media_is_on()) {
		pf_session_start(index);
		ports.session_new = port_session_new;
		pfd[1].fd = pf_media_fd(index);
	}
	for(;;) {
		now_ms = io_clock_mono_ms();
		if(now_ms >= sweep_at) {
			sweep();
			sweep_at = io_clock_mono_ms() + SWEEP_MS;
		}
		pending_start();
		active_tick();
		pf_notify_tick();
		pf_subscribe_tick();
		pf_enabler_tick();
		pf_regevent_tick();
		now_ms = io_clock_mono_ms();
		timeout = now_ms < sweep_at ? (int)(sweep_at - now_ms) : 0;
		if((pending.count > 0 || doubtful.count > 0 || active.count > 0
				   || pf_notify_is_pending() || pf_subscribe_is_pending()
				   || pf_enabler_is_pending() || pf_regevent_is_pending())
				&& timeout > TICK_MS / 2) {
			timeout = TICK_MS / 2;
		}
		pfd[1].events =
				(short)(POLLIN | (pf_media_wants_write() ? POLLOUT : 0));
		if(poll(pfd, fds, timeout) < 0 && errno != EINTR) {
			LM_ERR("delivery: poll: %s\n", strerror(errno));
		}
		cfg_update();
		hints_read();
		if(fds == 2) {
			media_read();
			media_write();
		}
	}
}
