/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_script.h - what kamailio.cfg calls to queue, deliver and answer.
 *
 * runs in:  SIP workers, in request and failure routes
 * owns:     nothing; what they found is in pf_outcome
 */

#ifndef PF_SCRIPT_H
#define PF_SCRIPT_H

#include "core/cpm_flow.h"

#include "../../core/kemi.h"
#include "../../core/sr_module.h"

/* Script functions; see the module's documentation. None returns 0. */
int pf_script_queue(struct sip_msg *msg, char *reason, char *unused);
int pf_script_flush(struct sip_msg *msg, char *aor, char *mode);
int pf_script_store(struct sip_msg *msg, char *unused1, char *unused2);
int pf_script_session(struct sip_msg *msg, char *unused1, char *unused2);
int pf_script_reply(struct sip_msg *msg, char *unused1, char *unused2);

extern sr_kemi_t pf_script_kemi[];

#endif
