/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_reginfo.h - reads a registration document (RFC 3680), by libxml2.
 *
 * runs in:  a SIP worker; any process
 * owns:     what io_reginfo_parse made
 * never:    includes Kamailio; opens a file or a connection; follows an entity
 *
 *     <reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="1" state="full">
 *       <registration aor="sip:bob@example.org" id="r1" state="active">
 *         <contact id="c1" state="active" event="registered" expires="3600"
 *             q="0.8" callid="a@b" cseq="7">
 *           <uri>sip:bob@192.0.2.1</uri>
 *           <unknown-param name="+g.oma.sip-im"/>
 *         </contact>
 *       </registration>
 *     </reginfo>
 *
 * Elements and attributes of others, which RFC 3680 invites, are passed over,
 * but gr:pub-gruu (RFC 5628), which becomes the parameter "pub-gruu", and
 * Kamailio's own attributes path, received and user_agent.
 */

#ifndef IO_REGINFO_H
#define IO_REGINFO_H

#include "../core/cpm_reginfo.h"

struct io_reginfo;

/* CPM_OK: *r_r, to be freed. CPM_EPROTO: not such a document; CPM_ELIMIT:
 * over a bound; CPM_ENOMEM. diag (may be NULL): a stable word: those of
 * cpm_reg_scan, "bad-xml", "bad-root", "namespace", "bad-version",
 * "bad-state", "no-aor", "no-uri", "bad-uri", "bad-expires",
 * "too-many-registrations", "too-many-contacts", "too-deep", "no-memory". */
int io_reginfo_parse(
		struct cpm_pl xml, struct io_reginfo **r_r, struct cpm_diag *diag);
const struct cpm_reginfo *io_reginfo_get(const struct io_reginfo *r);
void io_reginfo_free(struct io_reginfo **r);

#endif
