/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_imdn.h - disposition notifications (RFC 5438) of an intermediary.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; what is written lies in the caller's buffer
 * never:    answers a notification with a notification
 *
 * Two things are told to the sender of a queued message, and only where its
 * CPIM asked for them in imdn.Disposition-Notification:
 *
 *   stored   it is queued ("processing"); RFC 5438 has processed or stored,
 *            never both, and the former is not ours to say
 *   failed   it will not be delivered ("negative-delivery")
 *
 * A notification goes to whom the network knows as the sender (originator of
 * the stored message), not to an address that the CPIM names: else whoever
 * writes a CPIM chooses whom we send requests to. For the same reason
 * imdn.IMDN-Record-Route is not followed.
 */

#ifndef CPM_IMDN_H
#define CPM_IMDN_H

#include "cpm_base.h"
#include "cpm_cpim.h"
#include "cpm_msg.h"

enum cpm_imdn_kind
{
	CPM_IMDN_STORED,
	CPM_IMDN_FAILED,
};

/* Whether a CPIM carries a notification, by its inner Content-Type or
 * Content-Disposition (RFC 5438, 7.2). */
bool cpm_imdn_is_one(const struct cpm_cpim *cpim);

/* "stored", "failed" */
const char *cpm_imdn_kind_name(enum cpm_imdn_kind kind);

/* Whether the sender of m is to be told: it asked for that, has a name to the
 * network and does not hide it, is not the recipient itself, and m is no
 * notification. m needs its body: without one nothing is due. */
bool cpm_imdn_due(const struct cpm_msg *m, enum cpm_imdn_kind kind);

/* More than any notification needs, with a host of up to 1024 bytes. */
#define CPM_IMDN_BYTES_MAX 12288

struct cpm_imdn_ask
{
	const struct cpm_msg *of; /* the message that it speaks of */
	enum cpm_imdn_kind kind;
	struct cpm_pl to;	/* canonical AoR of its sender, as the receiver
								* of the notification */
	struct cpm_pl host; /* right side of its Call-ID */
	uint64_t now_ms;	/* wall clock */
	uint64_t life_ms;	/* how long it is worth telling */
};

/* The notification as a message like any other that is queued: with id, Call-ID
 * and fingerprint that are the same whenever it is written again, so that a
 * repeat is known. The slices of m_r point into buf, to ask->to, or to what is
 * constant. CPM_OK; CPM_ENOENT: nothing is due; CPM_ENOMEM: cap is less than
 * CPM_IMDN_BYTES_MAX, or the host is too long. */
int cpm_imdn_write(const struct cpm_imdn_ask *ask, char *buf, size_t cap,
		struct cpm_msg *m_r);

#endif
