/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_enabler.h"

#include <stdlib.h>

#include "core/cpm_notify.h"
#include "core/cpm_pn.h"
#include "io/io_clock.h"
#include "io/io_devices.h"
#include "io/io_jobs.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"
#include "pf_usrloc.h"

#include "../../core/dprint.h"

#define BUCKETS 1024
#define LOOKS_MAX 20000
#define LOOKS_AT_ONCE 64 /* deliveries do not wait for more */
#define AGAIN_MS 1000	 /* when the store is down */
#define SEEN 16384		 /* users whose registrations are remembered */

/* A client is written again, unchanged, when it was seen so long ago: a part
 * of push_data_ttl, at most a day. */
#define FRESH_PART 8
#define FRESH_MAX_MS 86400000

enum why
{
	WHY_QUEUED = 1,
	WHY_REGISTERED = 2,
	WHY_CHECK = 4,
};

/* A user who is to be looked at. */
struct look
{
	struct look *next;	/* in its bucket */
	struct look *later; /* in the order of arrival */
	unsigned why;		/* enum why, or'ed */
	size_t aor_len;
	char aor[CPM_AOR_MAX];
};

/* What a user's registrations were when they were last looked at. */
struct seen
{
	uint64_t user, clients; /* hashes */
	uint64_t at_ms;
};

static struct look *buckets[BUCKETS];
static struct look *first, *last;
static size_t count;
static uint64_t rest_until_ms; /* the store was down */
static struct seen seen[SEEN];

/* The registered clients of the user that is looked at. */
static struct pf_contact contacts[CPM_CONTACTS_MAX];
static size_t contact_count;
static struct cpm_pn_device registered[CPM_CONTACTS_MAX];
static char texts[CPM_CONTACTS_MAX][CPM_PN_TEXT_MAX];

/* ------------------------------------------------------------------ notes */

static struct look **bucket_of(struct cpm_pl aor)
{
	return &buckets[(cpm_hash64(CPM_HASH_INIT, aor) >> 24) % BUCKETS];
}

static void note(struct cpm_pl aor, unsigned why)
{
	struct look **bucket = bucket_of(aor);
	struct look *l;

	if(!pf_conf.push || aor.n == 0 || aor.n > sizeof(l->aor)) {
		return;
	}
	for(l = *bucket; l != NULL; l = l->next) {
		if(cpm_pl_eq(cpm_pl(l->aor, l->aor_len), aor)) {
			l->why |= why;
			return;
		}
	}
	l = count < LOOKS_MAX ? calloc(1, sizeof(*l)) : NULL;
	if(l == NULL) {
		/* the queue's next look finds it */
		pf_stat(CPM_STAT_hints_lost);
		return;
	}
	memcpy(l->aor, aor.p, aor.n);
	l->aor_len = aor.n;
	l->why = why;
	l->next = *bucket;
	*bucket = l;
	if(last != NULL) {
		last->later = l;
	} else {
		first = l;
	}
	last = l;
	count++;
}

static void look_free(struct look *l)
{
	struct look **at = bucket_of(cpm_pl(l->aor, l->aor_len));

	while(*at != l) {
		at = &(*at)->next;
	}
	*at = l->next;
	first = l->later;
	if(first == NULL) {
		last = NULL;
	}
	count--;
	free(l);
}

/* ------------------------------------------------------------ the clients */

static int clients_read(struct cpm_pl aor)
{
	size_t i;
	int rc = pf_usrloc_contacts(aor, contacts, &contact_count);

	for(i = 0; rc == CPM_OK && i < contact_count; i++) {
		memset(&registered[i], 0, sizeof(registered[i]));
		registered[i].instance = cpm_pn_instance(contacts[i].instance);
		if(cpm_pn_of_uri(contacts[i].c.uri, texts[i], sizeof(texts[i]),
				   &registered[i].pn)
				== CPM_EPROTO) {
			LM_DBG("enabler: pn- parameters that cannot be read aor=%.*s\n",
					(int)aor.n, aor.p);
		}
	}
	return rc;
}

static bool has_target(const struct cpm_pn_device *d)
{
	return d->pn.prid.n > 0;
}

/* Whether these clients, all of them, were seen like this lately. */
static bool seen_lately(struct cpm_pl aor, uint64_t now_ms, uint64_t fresh_ms)
{
	uint64_t user = cpm_hash64(CPM_HASH_INIT, aor);
	struct seen *s = &seen[user % SEEN];
	uint64_t clients = contact_count;
	size_t i;

	/* in any order */
	for(i = 0; i < contact_count; i++) {
		clients += cpm_pn_hash(&registered[i]);
	}
	if(s->user == user && s->clients == clients
			&& now_ms - s->at_ms < fresh_ms) {
		return true;
	}
	s->user = user;
	s->clients = clients;
	s->at_ms = now_ms;
	return false;
}

static void seen_forget(struct cpm_pl aor)
{
	uint64_t user = cpm_hash64(CPM_HASH_INIT, aor);

	if(seen[user % SEEN].user == user) {
		seen[user % SEEN].user = 0;
	}
}

static bool is_registered(const struct cpm_pn_device *d)
{
	size_t i;

	for(i = 0; i < contact_count; i++) {
		if(cpm_pn_same_client(&registered[i], d)) {
			return true;
		}
	}
	return false;
}

/* Whether what is remembered of a client needs not be written again. */
static bool is_fresh(const struct io_devices *known,
		const struct cpm_pn_device *d, uint64_t now_ms, uint64_t fresh_ms)
{
	size_t i;

	for(i = 0; i < known->count; i++) {
		if(cpm_pl_eq(known->v[i].instance, d->instance)
				&& cpm_pn_eq(&known->v[i].pn, &d->pn)) {
			return known->v[i].seen_ms + fresh_ms > now_ms;
		}
	}
	return false;
}

/* Whether a later binding is of the same client: then that one speaks for it.
 * Within a second the order of the location table decides. */
static bool is_superseded(size_t i)
{
	size_t j;

	for(j = 0; j < contact_count; j++) {
		if(j != i && cpm_pn_same_client(&registered[i], &registered[j])
				&& (contacts[j].c.last_modified_s
										== contacts[i].c.last_modified_s
								? j > i
								: contacts[j].c.last_modified_s
										  > contacts[i].c.last_modified_s)) {
			return true;
		}
	}
	return false;
}

/* Brings what is remembered to what is registered. known is no good any more
 * if this is not CPM_ENOENT: nothing to do. */
static int remember(struct cpm_pl aor, const struct io_devices *known,
		uint64_t now_ms, uint64_t fresh_ms)
{
	struct cpm_pn_device now[CPM_CONTACTS_MAX];
	struct cpm_pn_device gone[CPM_PN_DEVICES_MAX];
	size_t n = 0;
	size_t gone_n = 0;
	size_t i, j;

	for(i = 0; i < contact_count; i++) {
		if(is_superseded(i)) {
			continue;
		}
		if(has_target(&registered[i])
				&& !is_fresh(known, &registered[i], now_ms, fresh_ms)) {
			now[n] = registered[i];
			now[n++].seen_ms = now_ms;
		}
		for(j = 0; !has_target(&registered[i]) && j < known->count; j++) {
			if(cpm_pn_same_client(&registered[i], &known->v[j])) {
				gone[gone_n++] = known->v[j];
				break;
			}
		}
		if(gone_n == CPM_PN_DEVICES_MAX) {
			break;
		}
	}
	if(n + gone_n == 0) {
		return CPM_ENOENT;
	}
	return pf_store_note("devices",
			io_devices_put(pf_store(), aor, known, now, n, gone, gone_n,
					(uint64_t)pf_params.push_data_ttl * 1000));
}

/* ---------------------------------------------------------------- targets */

static bool is_wanted(
		const struct cpm_prefs *prefs, const struct cpm_pn_device *d)
{
	struct cpm_client client;

	memset(&client, 0, sizeof(client));
	client.caps.instance = d->instance;
	client.takes_message = true;
	client.connected = true;
	return cpm_client_notified(prefs, &client, io_clock_wall_ms() / 1000);
}

/* The targets of now. *blob_r lies in buf; empty: there is none. */
static int targets_of(struct cpm_pl aor, const struct io_devices *known,
		char *buf, size_t cap, struct cpm_pl *blob_r)
{
	static struct pf_prefs_buf prefs_buf;
	struct cpm_pn_job job = {.count = 0};
	struct cpm_policy policy;
	struct cpm_prefs prefs = cpm_prefs_default();
	struct cpm_wr w;
	size_t i;

	/* what cannot be told now is told by nothing: no field */
	if(pf_prefs_get(aor, &prefs_buf, &prefs, &policy, NULL) == CPM_OK) {
		job.fields = cpm_notify_fields(cpm_pl_str(policy.notify_fields));
	}
	for(i = 0; i < known->count; i++) {
		if(!is_registered(&known->v[i]) && is_wanted(&prefs, &known->v[i])) {
			job.devices[job.count++] = known->v[i];
		}
	}
	job.address = known->count == 0 && contact_count == 0;
	*blob_r = CPM_PL_NULL;
	if(job.count == 0 && !job.address) {
		return CPM_OK;
	}
	cpm_wr_init(&w, buf, cap);
	if(cpm_pn_job_encode(&job, &w) != CPM_OK) {
		return CPM_ENOMEM;
	}
	*blob_r = cpm_wr_pl(&w);
	return CPM_OK;
}

/* What is to become of the push job. blob: empty: there is no target. */
static int job_set(struct cpm_pl aor, struct cpm_pl blob, unsigned why,
		enum io_devices_job job, bool queued, bool done)
{
	const struct cpm_pl id = CPM_PL_LIT(CPM_JOB_OF_USER);
	uint64_t ttl_ms = (uint64_t)pf_params.push_data_ttl * 1000;
	bool make;
	int rc = CPM_OK;

	if(blob.n == 0 || !queued) {
		if(job != IO_DEVICES_NO_JOB) {
			rc = pf_store_note(
					"job", io_jobs_drop(pf_store(), CPM_JOB_PUSH, aor, id));
			LM_INFO("enabler: no push any more aor=%.*s\n", (int)aor.n, aor.p);
		}
	} else {
		make = (why & WHY_QUEUED) != 0
			   || (job == IO_DEVICES_NO_JOB ? (why & WHY_CHECK) != 0 && !done
											: job == IO_DEVICES_JOB);
		if(make) {
			rc = pf_store_note("job", io_jobs_replace(pf_store(), CPM_JOB_PUSH,
											  aor, id, blob, 0));
			LM_DBG("enabler: push job aor=%.*s\n", (int)aor.n, aor.p);
		}
	}
	/* its end was another's, of what was queued up to then */
	if(rc == CPM_OK && done
			&& ((why & WHY_QUEUED) != 0
					|| ((why & WHY_REGISTERED) != 0 && contact_count > 0))) {
		rc = pf_store_note(
				"devices", io_devices_done(pf_store(), aor, false, ttl_ms));
	}
	return rc == CPM_ENOENT ? CPM_OK : rc;
}

/* ------------------------------------------------------------------- look */

static int look_at(struct cpm_pl aor, unsigned why)
{
	static char buf[CPM_PN_JOB_MAX];
	static struct io_devices known;
	uint64_t ttl_ms = (uint64_t)pf_params.push_data_ttl * 1000;
	uint64_t fresh_ms = ttl_ms / FRESH_PART < FRESH_MAX_MS ? ttl_ms / FRESH_PART
														   : FRESH_MAX_MS;
	uint64_t now_ms = io_clock_wall_ms();
	enum io_devices_job job;
	bool queued, done;
	struct cpm_pl blob;
	int rc = clients_read(aor);

	if(rc != CPM_OK) {
		return rc;
	}
	if(seen_lately(aor, now_ms, fresh_ms) && why == WHY_REGISTERED) {
		return CPM_OK; /* as it was */
	}
	rc = pf_store_note(
			"devices", io_devices_get(pf_store(), aor, now_ms, ttl_ms, &known));
	if(rc != CPM_OK) {
		return rc;
	}
	job = known.job;
	queued = known.queued;
	done = known.done;
	/* before known is given back */
	rc = targets_of(aor, &known, buf, sizeof(buf), &blob);
	if(rc == CPM_OK) {
		rc = remember(aor, &known, now_ms, fresh_ms);
	}
	if(rc == CPM_OK || rc == CPM_ENOENT) {
		rc = job_set(aor, blob, why, job, queued, done);
	}
	return rc;
}

void pf_enabler_queued(struct cpm_pl aor)
{
	note(aor, WHY_QUEUED);
}

void pf_enabler_registered(struct cpm_pl aor, bool anew)
{
	if(pf_conf.push && anew) {
		/* on another node something may have been noted meanwhile */
		seen_forget(aor);
	}
	note(aor, WHY_REGISTERED);
}

void pf_enabler_check(struct cpm_pl aor)
{
	note(aor, WHY_CHECK);
}

void pf_enabler_hint(const struct pf_hint *h)
{
	struct cpm_pl aor = cpm_pl(h->aor, h->aor_len);

	if(h->kind == PF_HINT_QUEUED || h->kind == PF_HINT_CHANGED) {
		pf_enabler_queued(aor);
	} else if(h->kind == PF_HINT_REGISTERED) {
		pf_enabler_registered(aor, h->force == CPM_LEASE_ALL);
	}
}

void pf_enabler_tick(void)
{
	unsigned n;
	int rc;

	for(n = 0; pf_enabler_is_pending() && n < LOOKS_AT_ONCE; n++) {
		rc = look_at(cpm_pl(first->aor, first->aor_len), first->why);
		if(rc == CPM_EDOWN || rc == CPM_EUNSURE) {
			/* all that is written may be written again */
			seen_forget(cpm_pl(first->aor, first->aor_len));
			rest_until_ms = io_clock_mono_ms() + AGAIN_MS;
			return;
		}
		look_free(first);
	}
}

bool pf_enabler_is_pending(void)
{
	return first != NULL && io_clock_mono_ms() >= rest_until_ms;
}
