/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_left.h"

#include "core/cpm_imdn.h"
#include "core/cpm_queue.h"
#include "pf_conf.h"
#include "pf_event.h"
#include "pf_notify.h"
#include "pf_prefs.h"
#include "pf_stats.h"
#include "pf_store.h"

#include "../../core/dprint.h"

#define PAGE 64
#define HOLD_MS 30000

/* What is said of a message, by value: the queue lends it for one call. */
struct note
{
	char aor[CPM_AOR_MAX];
	size_t aor_len;
	char id[CPM_MSG_ID_MAX];
	size_t id_len;
	enum cpm_left_why why;
	bool readable;
	bool asked; /* its sender is to be told, should it come to nothing */
	size_t body_len;
};

static struct note notes[PAGE];

static const char *why_name(enum cpm_left_why why)
{
	return why == CPM_LEFT_OVERFLOW ? "overflow" : "expired";
}

/* What is stored has not failed. CPM_OK; CPM_EDOWN: the user's wish cannot be
 * told now. */
static int jobs_of(const struct note *n, struct cpm_pl aor, unsigned *jobs_r)
{
	static struct pf_prefs_buf buf;
	struct cpm_prefs prefs;
	struct cpm_diag diag = {"", 0};

	if(pf_prefs_get(aor, &buf, &prefs, NULL, &diag) != CPM_OK) {
		LM_DBG("left: preferences unknown why=%s\n", diag.why);
		return CPM_EDOWN;
	}
	*jobs_r = prefs.on_expiry == CPM_EXPIRY_STORE ? CPM_JOB_STORE
			  : n->asked						  ? CPM_JOB_FAILED
												  : CPM_JOB_NONE;
	return CPM_OK;
}

static int report(const struct note *n, struct cpm_pl token)
{
	struct cpm_pl aor = cpm_pl(n->aor, n->aor_len);
	struct cpm_pl id = cpm_pl(n->id, n->id_len);
	unsigned jobs = CPM_JOB_NONE;
	int rc;

	if(!n->readable) {
		LM_ERR("left: a stored message cannot be read aor=%.*s id=%.*s\n",
				(int)aor.n, aor.p, (int)id.n, id.p);
	} else if(jobs_of(n, aor, &jobs) != CPM_OK) {
		return CPM_EAGAIN;
	}
	pf_event(PF_EVENT_EXPIRED, aor, id, 0, why_name(n->why));
	rc = pf_store_note(
			"left-done", io_queue_left_done(pf_store(), aor, id, token, jobs));
	if(rc == CPM_ENOENT) {
		return CPM_OK; /* another process has them now, and will tell */
	}
	if(rc != CPM_OK) {
		return rc;
	}
	pf_stat(n->why == CPM_LEFT_OVERFLOW ? CPM_STAT_dropped : CPM_STAT_expired);
	pf_notify_changed(aor, PF_NOTIFY_LEFT);
	if(jobs == CPM_JOB_STORE) {
		pf_stat(CPM_STAT_store_jobs);
	}
	LM_INFO("queue: %s aor=%.*s id=%.*s bytes=%u then=%s\n", why_name(n->why),
			(int)aor.n, aor.p, (int)id.n, id.p, (unsigned)n->body_len,
			jobs == CPM_JOB_STORE	 ? "store"
			: jobs == CPM_JOB_FAILED ? "delete-and-tell"
									 : "delete");
	return CPM_OK;
}

int pf_left_report(unsigned shard, struct cpm_pl token)
{
	struct cpm_left left[PAGE];
	struct note *n;
	size_t count = 0;
	size_t i;
	int rc = pf_store_note("left", io_queue_left(pf_store(), shard, token, PAGE,
										   HOLD_MS, left, &count));

	if(rc != CPM_OK) {
		return rc;
	}
	for(i = 0; i < count; i++) {
		n = &notes[i];
		n->aor_len = left[i].aor.n <= CPM_AOR_MAX ? left[i].aor.n : 0;
		n->id_len = left[i].id.n <= CPM_MSG_ID_MAX ? left[i].id.n : 0;
		memcpy(n->aor, left[i].aor.p, n->aor_len);
		memcpy(n->id, left[i].id.p, n->id_len);
		n->why = left[i].why;
		n->readable = left[i].readable;
		n->asked = n->readable && pf_conf.accept.imdn
				   && cpm_imdn_due(&left[i].msg, CPM_IMDN_FAILED);
		n->body_len = left[i].msg.body_len;
	}
	for(i = 0; i < count && rc == CPM_OK; i++) {
		rc = report(&notes[i], token);
	}
	return rc == CPM_EAGAIN ? CPM_OK : rc;
}
