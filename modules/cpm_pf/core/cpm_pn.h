/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_pn.h - how a client that is not registered can be woken (RFC 8599), and
 * the blob of a push job.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 *
 * A client names its push service in its Contact:
 *
 *     sip:bob@192.0.2.7;pn-provider=apns;pn-param=TEAM.org.example.app;
 *         pn-prid=00fc13adff78512
 *
 * provider and prid make a target; param is what some providers need besides.
 * Values are percent-decoded, visible ASCII and at most CPM_PN_VALUE_MAX, or
 * the client has none: whatever is stored can be written into a line.
 *
 * In Redis (io_devices.h) a client is one field of a hash,
 *
 *     "<instance> <hash>" -> "<seen_ms> <provider> =<param> <prid>"
 *
 * where instance is its +sip.instance, "-" without one, and hash 16
 * hexadecimal digits of its target: so another target is another field, and
 * to drop a target that is gone can never drop the one that came after it.
 *
 * The blob of a push job says to whom, and what may be told, in lines:
 *
 *     cpm-push 1 <fields>
 *     a                                            the user's address
 *     d <instance> <provider> =<param> <prid>      a client, up to 16
 */

#ifndef CPM_PN_H
#define CPM_PN_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_PN_VALUE_MAX 512
#define CPM_PN_INSTANCE_MAX 128
#define CPM_PN_DEVICES_MAX 16
#define CPM_PN_FIELD_MAX (CPM_PN_INSTANCE_MAX + 18)
#define CPM_PN_TEXT_MAX (3 * CPM_PN_VALUE_MAX + 64)
#define CPM_PN_JOB_MAX \
	(CPM_PN_DEVICES_MAX * (CPM_PN_INSTANCE_MAX + CPM_PN_TEXT_MAX) + 64)

/* A target. */
struct cpm_pn
{
	struct cpm_pl provider; /* "apns", "fcm", "webpush" ... */
	struct cpm_pl param;	/* may be empty */
	struct cpm_pl prid;
};

struct cpm_pn_device
{
	struct cpm_pl instance; /* without < and >; empty: it gave none */
	struct cpm_pn pn;
	uint64_t seen_ms; /* wall clock, of the registration; 0 in a job */
};

/* Of a Contact's URI. buf takes the decoded values, CPM_PN_TEXT_MAX is enough.
 * CPM_OK; CPM_ENOENT: it names no target (pn-provider alone is the question
 * whether push is supported, RFC 8599, 4.1.2); CPM_EPROTO: a value is not
 * visible ASCII, or given twice; CPM_ELIMIT: it is too long. */
int cpm_pn_of_uri(
		struct cpm_pl uri, char *buf, size_t cap, struct cpm_pn *pn_r);

/* "<urn:uuid:...>" of +sip.instance, without its brackets; empty where it
 * cannot be a name: over CPM_PN_INSTANCE_MAX, not visible ASCII, or "-". */
struct cpm_pl cpm_pn_instance(struct cpm_pl instance);

bool cpm_pn_eq(const struct cpm_pn *a, const struct cpm_pn *b);

/* Of all that is stored of a client, but the time. */
uint64_t cpm_pn_hash(const struct cpm_pn_device *d);

/* Whether a stored one is of this client: the same instance, or, where either
 * gave none, the same target. */
bool cpm_pn_same_client(
		const struct cpm_pn_device *a, const struct cpm_pn_device *b);

/* Name and value of a field. */
void cpm_pn_field_put(struct cpm_wr *w, const struct cpm_pn_device *d);
void cpm_pn_value_put(struct cpm_wr *w, const struct cpm_pn_device *d);

/* The slices of the result borrow from both. CPM_OK; CPM_EPROTO. */
int cpm_pn_device_parse(struct cpm_pl field, struct cpm_pl value,
		struct cpm_pn_device *device_r);

struct cpm_pn_job
{
	unsigned fields; /* enum cpm_notify_field, or'ed: what may be told */
	bool address;	 /* the user's address is a target */
	struct cpm_pn_device devices[CPM_PN_DEVICES_MAX];
	size_t count;
};

/* CPM_OK; CPM_ENOMEM: w is full (CPM_PN_JOB_MAX is enough). */
int cpm_pn_job_encode(const struct cpm_pn_job *job, struct cpm_wr *w);

/* CPM_OK; CPM_EPROTO: no such blob. */
int cpm_pn_job_decode(struct cpm_pl blob, struct cpm_pn_job *job_r);

#endif
