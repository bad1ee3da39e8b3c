/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_devices.h - what each client of a user said last of how it is woken.
 *
 * runs in:  as io_queue.h, and on the same struct io_queue; each call is one
 *           round trip of plain commands
 * owns:     nothing; slices of results are borrowed until the next call
 *
 *   <prefix>:{k}:pn:<aor>   HASH  one field for each client (cpm_pn.h);
 *                                 " done": the push job of what was queued up
 *                                 to now came to its end
 *
 * It outlives the clients' bindings, and goes by itself when none of them was
 * seen for as long as the caller says.
 *
 * Every call: CPM_OK; CPM_EDOWN, CPM_EUNSURE, CPM_EPROTO as of io_queue. All
 * of them may be made again: what is written is the same.
 */

#ifndef IO_DEVICES_H
#define IO_DEVICES_H

#include "../core/cpm_pn.h"
#include "io_queue.h"

#define IO_DEVICES_STALE_MAX 48

enum io_devices_job
{
	IO_DEVICES_NO_JOB,
	IO_DEVICES_JOB,		 /* a push job is there */
	IO_DEVICES_DEAD_JOB, /* it was given up */
};

struct io_devices
{
	struct cpm_pn_device v[CPM_PN_DEVICES_MAX]; /* the last seen first */
	size_t count;
	bool done;				 /* see " done" */
	enum io_devices_job job; /* of this user */
	bool queued;			 /* anything is */
	/* private: fields that go at the next write */
	struct cpm_pl stale[IO_DEVICES_STALE_MAX];
	size_t stale_count;
};

/* What is known of a user. now_ms: wall clock; clients that were seen ttl_ms
 * before it, or earlier, count as forgotten. */
int io_devices_get(struct io_queue *q, struct cpm_pl aor, uint64_t now_ms,
		uint64_t ttl_ms, struct io_devices *devices_r);

/* Writes clients as they are now, each in the place of what known, just got,
 * has of the same client; and forgets those of known in gone. Slices of known
 * are no good afterwards. */
int io_devices_put(struct io_queue *q, struct cpm_pl aor,
		const struct io_devices *known, const struct cpm_pn_device *now,
		size_t count, const struct cpm_pn_device *gone, size_t gone_count,
		uint64_t ttl_ms);

/* A target is gone. What the client has registered since stays. */
int io_devices_drop(
		struct io_queue *q, struct cpm_pl aor, const struct cpm_pn_device *d);

/* Sets " done", or takes it away. */
int io_devices_done(
		struct io_queue *q, struct cpm_pl aor, bool done, uint64_t ttl_ms);

#endif
