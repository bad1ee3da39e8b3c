/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_deposit.h - a message in hand, handed to the couriers for the Message
 * Storage Server.
 *
 * runs in:  SIP workers, in request and failure routes
 * owns:     nothing; what it leaves is a durable job in Redis
 */

#ifndef PF_DEPOSIT_H
#define PF_DEPOSIT_H

#include "core/cpm_flow.h"
#include "pf_sip.h"

/* Whether there is a Message Storage Server (store_url). */
bool pf_deposit_is_on(void);

/* In place of queueing it: fills *out as cpm_flow_accept does, with rc 1 where
 * the job exists, also of an earlier copy. Returns out->rc. */
int pf_deposit(const struct pf_sip *sip, struct cpm_outcome *out);

/* Beside delivering it, as its recipient wishes. CPM_OK: a job exists; else it
 * was counted and logged, and the message goes on without a record. */
int pf_deposit_record(struct sip_msg *msg);

#endif
