/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_route.h - cpm_authorize(), cpm_route_recipient(), cpm_interwork(): the
 * decisions, and what they do to the request.
 *
 * runs in:  SIP workers, in request and failure routes
 * owns:     nothing; outcomes are in pf_outcome
 */

#ifndef PF_ROUTE_H
#define PF_ROUTE_H

#include "../../core/kemi.h"

int pf_route_init(void); /* binds tm; 0, or -1 logged */

int pf_route_authorize(struct sip_msg *msg, char *unused1, char *unused2);
int pf_route_recipient(struct sip_msg *msg, char *aor, char *unused);
int pf_route_interwork(struct sip_msg *msg, char *unused1, char *unused2);

/* The same for KEMI. */
int pf_route_ki_authorize(struct sip_msg *msg);
int pf_route_ki_recipient(struct sip_msg *msg);
int pf_route_ki_recipient_aor(struct sip_msg *msg, str *aor);
int pf_route_ki_interwork(struct sip_msg *msg);

#endif
