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
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/cpm_wr.h"
#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_hint.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_tm.h"
#include "pf_usrloc.h"

#include "../../core/cfg/cfg_struct.h"
#include "../../core/dprint.h"

#define BUCKETS 4096
#define JOBS_MAX 20000 /* beyond it a trigger is left to the wake index */
#define TICK_MS 100
#define SWEEP_MS 1000
#define CLAIM_MS 30000
#define CLAIM_PAGE 64
#define EXPIRED_PAGE 256

/* One user whose queue is to be looked at, or is being emptied. */
struct job
{
	struct job *next;			/* in its bucket */
	struct job *later, *sooner; /* in its list: pending by time, or active */
	bool active;
	uint64_t due_ms; /* pending: when to start */
	enum cpm_lease_force force;
	uint64_t since_ms; /* when what forces it happened */
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
static struct list active;
/* Of the last port_reach_get. */
static struct pf_contact found[CPM_CONTACTS_MAX];
static struct job *job_now;		 /* whose ports are running */
static struct job **job_of_slot; /* [delivery_parallel] */
static uint64_t token_seq;
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

	if(pending.count + active.count >= JOBS_MAX) {
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

static void job_free(struct job *j)
{
	struct job **at = bucket_of(job_aor(j));

	while(*at != j) {
		at = &(*at)->next;
	}
	*at = j->next;
	list_remove(j->active ? &active : &pending, j);
	free(j);
}

/* ----------------------------------------------------------------- ports */

static int port_reach_get(void *ctx, struct cpm_pl aor,
		struct cpm_contact *contacts, size_t *count_r)
{
	size_t i;
	int rc = pf_usrloc_contacts(aor, found, count_r);

	for(i = 0; rc == CPM_OK && i < *count_r; i++) {
		contacts[i] = found[i].c;
		contacts[i].index = (unsigned)i;
	}
	return rc;
}

static int port_takes(void *ctx, struct cpm_pl aor,
		const struct cpm_contact *contact, const struct cpm_msg *msg)
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
	pf_usrloc_client(&found[contact->index], &client);
	return cpm_client_takes(&prefs, &policy, &facts, &client) ? 1 : 0;
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
	return pf_store_note("settle", io_queue_settle(pf_store(), settle));
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
		LM_WARN("delivery: not sent result=%s aor=%.*s id=%.*s\n",
				cpm_rc_name(rc), (int)msg->aor.n, msg->aor.p, (int)msg->id.n,
				msg->id.p);
		return rc;
	}
	job_now->has_slot = true;
	job_now->slot = slot;
	job_of_slot[slot] = job_now;
	return CPM_OK;
}

static const char *const event_names[] = {
		[CPM_DELIVER_SENT] = "sent",
		[CPM_DELIVER_DELIVERED] = "delivered",
		[CPM_DELIVER_RETRY] = "failed",
		[CPM_DELIVER_DEAD] = "dead",
		[CPM_DELIVER_LOST] = "lease-lost",
		[CPM_DELIVER_DEFERRED] = "deferred",
};

static void port_event(void *ctx, const struct cpm_deliver_info *info)
{
	uint64_t now_ms = io_clock_wall_ms();

	switch(info->event) {
		case CPM_DELIVER_DELIVERED:
			pf_stat(CPM_STAT_delivered_message);
			break;
		case CPM_DELIVER_DEAD:
			pf_stat(CPM_STAT_dead);
			pf_stat(CPM_STAT_delivery_failed);
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

static const struct cpm_deliver_ports ports = {
		.reach_get = port_reach_get,
		.client_takes = port_takes,
		.queue_lease = port_lease,
		.queue_renew = port_renew,
		.queue_settle = port_settle,
		.queue_release = port_release,
		.send_message = port_send,
		.event = port_event,
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

/* After any step: a finished delivery is forgotten. */
static void job_look(struct job *j)
{
	if(j->d.state == CPM_DELIVER_FINISHED) {
		slot_drop(j);
		job_free(j);
	}
}

static void job_start(struct job *j)
{
	char aor[CPM_AOR_MAX];
	char token[CPM_QUEUE_TOKEN_MAX];
	size_t aor_len = j->d.aor_len;
	struct cpm_wr w;

	memcpy(aor, j->d.aor, aor_len);
	cpm_wr_init(&w, token, sizeof(token));
	cpm_wr_str(&w, token_head);
	cpm_wr_hex64(&w, token_seq++);
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
	if(j->d.state == CPM_DELIVER_WAITING && j->d.at_ms <= now_ms) {
		slot_drop(j); /* no answer within the lease: none is taken later */
	}
	job_now = j;
	cpm_deliver_tick(&j->d, &ports, &pf_conf.deliver, now_ms);
	job_look(j);
}

/* Something speaks for a look at this user's queue. */
static void trigger(struct cpm_pl aor, enum cpm_lease_force force,
		uint64_t since_ms, uint64_t due_ms)
{
	struct job *j = job_find(aor);

	if(j != NULL && j->active) {
		cpm_deliver_again(&j->d, force, since_ms);
		return;
	}
	if(j != NULL) {
		if(force >= j->force) {
			j->force = force;
			j->since_ms = since_ms;
		}
		return;
	}
	j = job_new(aor);
	if(j == NULL) {
		pf_stat(CPM_STAT_hints_lost);
		return;
	}
	j->force = force;
	j->since_ms = since_ms;
	j->due_ms = due_ms;
	list_append(&pending, j);
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

static void hints_read(void)
{
	struct pf_hint h;
	uint64_t now_ms = io_clock_mono_ms();
	unsigned n;

	/* bounded, so that a storm of hints does not keep deliveries waiting */
	for(n = 0; n < 1000 && pf_hint_next(self, &h) == CPM_OK; n++) {
		if(h.kind == PF_HINT_ANSWER) {
			slot_look(h.slot);
			continue;
		}
		/* a client that has just registered is given the time to get the
		 * answer to its REGISTER, and several triggers become one */
		trigger(cpm_pl(h.aor, h.aor_len), (enum cpm_lease_force)h.force, now_ms,
				now_ms
						+ (h.kind == PF_HINT_REGISTERED
										? pf_conf.register_delay_ms
										: 0));
	}
}

/* The pending are nearly in the order of their times; one that must wait for
 * the answer to its REGISTER does not hold up the others. */
static void pending_start(void)
{
	uint64_t now_ms = io_clock_mono_ms();
	struct job *j, *later;
	unsigned scanned = 0;

	for(j = pending.first; j != NULL && scanned < 1000
						   && active.count < pf_conf.delivery_parallel;
			j = later, scanned++) {
		later = j->later;
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
		if(j->d.at_ms != 0 && j->d.at_ms <= now_ms) {
			job_tick(j, now_ms);
		}
	}
}

/* Users whose time has come, by Redis: retries, ends of leases of workers
 * that died, expiries, and looks that a lost hint owes. */
static int shard_claim(unsigned shard)
{
	struct cpm_pl users[CLAIM_PAGE];
	char copies[CLAIM_PAGE][CPM_AOR_MAX];
	size_t count = 0;
	size_t i;
	uint64_t now_ms = io_clock_mono_ms();
	int rc;

	rc = pf_store_note("claim", io_queue_claim(pf_store(), shard, CLAIM_MS,
										CLAIM_PAGE, users, &count));
	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < count; i++) {
		if(users[i].n <= CPM_AOR_MAX) {
			memcpy(copies[i], users[i].p, users[i].n);
			trigger(cpm_pl(copies[i], users[i].n), CPM_LEASE_WHEN_DUE, now_ms,
					now_ms);
		}
	}
	return CPM_OK;
}

static int shard_expired(unsigned shard)
{
	struct cpm_msg msg;
	unsigned n;
	int rc = CPM_OK;

	for(n = 0; n < EXPIRED_PAGE; n++) {
		rc = io_queue_expired(pf_store(), shard, &msg);
		if(rc == CPM_ENOENT) {
			return CPM_OK;
		}
		if(pf_store_note("expired", rc) != CPM_OK) {
			return rc;
		}
		pf_stat(CPM_STAT_expired);
		LM_INFO("queue: expired aor=%.*s id=%.*s bytes=%u\n", (int)msg.aor.n,
				msg.aor.p, (int)msg.id.n, msg.id.p, (unsigned)msg.body_len);
	}
	return rc;
}

/* Every shard of ours, beginning with the next one each time, so that none
 * starves when there is more to do than can be done. */
static void sweep(void)
{
	static unsigned first;
	unsigned i, shard;
	uint32_t slot;
	int rc = CPM_OK;

	for(slot = 0; slot < pf_conf.delivery_parallel; slot++) {
		slot_look(slot);
	}
	first++;
	for(i = 0; i < CPM_QUEUE_SHARDS; i++) {
		shard = (first + i) % CPM_QUEUE_SHARDS;
		if(pf_hint_worker_of_shard(shard) != self) {
			continue;
		}
		/* no more than can be worked on: what is claimed and not done is
		 * everybody's again only after CLAIM_MS */
		if(pending.count > 4 * (size_t)pf_conf.delivery_parallel) {
			return;
		}
		rc = shard_expired(shard);
		if(rc != CPM_EDOWN && rc != CPM_EUNSURE) {
			rc = shard_claim(shard);
		}
		if(rc == CPM_EDOWN || rc == CPM_EUNSURE) {
			return; /* Redis is down: again in a second */
		}
	}
}

static void start(unsigned index)
{
	struct cpm_wr w;
	uint64_t seed = 0;

	self = index;
	/* Kamailio's main process is our life: without it nobody would stop us */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if(pf_store() == NULL) {
		exit(-1);
	}
	job_of_slot = calloc(pf_conf.delivery_parallel, sizeof(*job_of_slot));
	if(job_of_slot == NULL) {
		LM_CRIT("delivery: no memory\n");
		exit(-1);
	}
	/* a token is of this process alone, over all nodes and restarts */
	if(getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
		seed = io_clock_wall_ms() << 22 | (uint64_t)getpid();
	}
	cpm_wr_init(&w, token_head, sizeof(token_head) - 1);
	cpm_wr_hex64(&w, seed);
	cpm_wr_chr(&w, '-');
	token_head[w.n] = '\0';
	if(pf_store_note("ping", io_queue_ping(pf_store())) == CPM_OK) {
		LM_NOTICE("delivery: ready worker=%u\n", index);
	}
}

void pf_delivery_main(unsigned index)
{
	struct pollfd pfd;
	uint64_t sweep_at = 0;
	uint64_t now_ms;
	int timeout;

	start(index);
	pfd.fd = pf_hint_fd(index);
	pfd.events = POLLIN;
	for(;;) {
		now_ms = io_clock_mono_ms();
		if(now_ms >= sweep_at) {
			sweep();
			sweep_at = io_clock_mono_ms() + SWEEP_MS;
		}
		pending_start();
		active_tick();
		now_ms = io_clock_mono_ms();
		timeout = now_ms < sweep_at ? (int)(sweep_at - now_ms) : 0;
		if((pending.count > 0 || active.count > 0) && timeout > TICK_MS / 2) {
			timeout = TICK_MS / 2;
		}
		if(poll(&pfd, 1, timeout) < 0 && errno != EINTR) {
			LM_ERR("delivery: poll: %s\n", strerror(errno));
		}
		cfg_update();
		hints_read();
	}
}
