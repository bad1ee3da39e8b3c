/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_left.h - messages that left their queue without being delivered: the
 * script is told, and what their users want is done.
 *
 * runs in:  delivery workers
 * owns:     a token of this process
 *
 * At least once: a process that dies between telling and writing it down
 * leaves the message to be told of again.
 */

#ifndef PF_LEFT_H
#define PF_LEFT_H

#include "core/cpm_base.h"

/* Some of one shard. token: of this process alone. CPM_OK; CPM_EDOWN,
 * CPM_EUNSURE: the store is not there. */
int pf_left_report(unsigned shard, struct cpm_pl token);

#endif
