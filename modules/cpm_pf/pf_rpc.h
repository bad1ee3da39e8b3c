/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_rpc.h - the module's RPC: cpm_pf.<verb>, by kamcmd or JSON-RPC.
 *
 * runs in:  the process that serves the transport, often a SIP worker
 * owns:     nothing
 */

#ifndef PF_RPC_H
#define PF_RPC_H

#include "../../core/rpc.h"

extern rpc_export_t pf_rpc[];

#endif
