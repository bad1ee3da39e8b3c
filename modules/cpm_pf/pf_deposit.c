/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_deposit.h"

#include "io/io_clock.h"
#include "io/io_jobs.h"
#include "pf_conf.h"
#include "pf_stats.h"
#include "pf_store.h"

#include "../../core/dprint.h"
#include "../../core/mem/mem.h"

/* A retransmission finds the tombstone long after the job is done, whatever
 * dedup_time says of deliveries. */
#define DEDUP_LEAST_MS 60000

bool pf_deposit_is_on(void)
{
	return pf_params.store_url[0] != '\0';
}

static int jobs_put(const struct cpm_put *put, unsigned kinds,
		uint64_t dedup_ms, struct cpm_put_result *r_r)
{
	struct io_queue *q = pf_store();
	int rc;

	if(q == NULL) {
		return CPM_EDOWN;
	}
	memset(r_r, 0, sizeof(*r_r));
	rc = io_jobs_put(q, kinds, put->aor, put->id, put->blob, dedup_ms, 0);
	switch(rc) {
		case CPM_OK:
			r_r->status = CPM_PUT_QUEUED;
			break;
		case CPM_EEXIST:
			r_r->status = CPM_PUT_DUPLICATE;
			rc = CPM_OK;
			break;
		case CPM_ELIMIT:
			r_r->status = CPM_PUT_CONFLICT;
			rc = CPM_OK;
			break;
	}
	return pf_store_note("job-put", rc);
}

/* The sender who asked is told that it is stored, as of a queued one. */
static int port_deposit(
		void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r)
{
	uint64_t dedup_ms = pf_conf.deliver.dedup_ms > DEDUP_LEAST_MS
								? pf_conf.deliver.dedup_ms
								: DEDUP_LEAST_MS;

	return jobs_put(put, CPM_JOB_STORE | put->jobs, dedup_ms, r_r);
}

/* No tombstone: the same message may yet be queued. */
static int port_record(
		void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r)
{
	return jobs_put(put, CPM_JOB_STORE, 0, r_r);
}

static int accept_with(
		int (*put)(void *, const struct cpm_put *, struct cpm_put_result *),
		const struct pf_sip *sip, struct cpm_outcome *out)
{
	struct cpm_accept_ports ports = {NULL, put};
	size_t cap = cpm_accept_scratch(&sip->in);
	char *scratch = pkg_malloc(cap);

	if(scratch == NULL) {
		PKG_MEM_ERROR;
		return CPM_ENOMEM;
	}
	cpm_flow_accept(&ports, &pf_conf.accept, &sip->in, io_clock_wall_ms(),
			scratch, cap, out);
	pkg_free(scratch);
	return CPM_OK;
}

int pf_deposit(const struct pf_sip *sip, struct cpm_outcome *out)
{
	if(accept_with(port_deposit, sip, out) != CPM_OK) {
		memset(out, 0, sizeof(*out));
		out->rc = -2;
		out->code = 503;
		out->reason = "Service Unavailable";
		out->why = "no-memory";
		return out->rc;
	}
	if(out->rc == 1 || out->rc == 2) {
		pf_stat(out->rc == 1 ? CPM_STAT_store_jobs : CPM_STAT_duplicate);
		out->why = out->rc == 1 ? "stored" : "stored-already";
		out->rc = 1;
	} else if(out->rc == -2) {
		pf_stat(CPM_STAT_store_failures);
	} else {
		pf_stat(CPM_STAT_refused);
	}
	return out->rc;
}

int pf_deposit_record(struct sip_msg *msg)
{
	struct cpm_outcome out = {.rc = -2, .why = "no-memory"};
	const char *why = "no-memory";
	struct pf_sip sip;

	if(pf_sip_init(&sip, msg, &why) != CPM_OK) {
		out.why = why;
	} else {
		(void)accept_with(port_record, &sip, &out);
	}
	pf_sip_fini(&sip);
	if(out.rc == 1) {
		pf_stat(CPM_STAT_store_jobs);
	}
	if(out.rc > 0) {
		return CPM_OK;
	}
	pf_stat(CPM_STAT_record_failures);
	LM_WARN("route: delivered without a record id=%.*s why=%s\n",
			(int)out.id_len, out.id, out.why);
	return CPM_EDOWN;
}
