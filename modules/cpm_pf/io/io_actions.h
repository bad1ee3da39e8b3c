/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_actions.h - reads a client's list of queue actions, by libxml2.
 *
 * runs in:  a SIP worker; any process. Not thread-safe by itself
 * owns:     the list, by malloc; a parser only while it parses
 * never:    touches what libxml2 keeps for the whole process (other modules
 *           use it): no handler is set, nothing is cleaned up; opens a file
 *           or a socket; prints, but for what libxml2 itself prints when
 *           the process has no memory left
 *
 * What the elements mean: ../core/cpm_actions.h. The parser sees only what
 * has passed cpm_actions_scan, so there is no DTD, nothing that an entity
 * could stand for and no tag over CPM_ACTIONS_TAG_MAX; it builds no tree, and
 * is stopped at the first thing that is refused.
 *
 * Of another namespace an attribute is passed over (it may annotate), an
 * element is refused: the client may have meant something by it, and what is
 * half understood is not carried out. Comments and processing instructions
 * are passed over.
 */

#ifndef IO_ACTIONS_H
#define IO_ACTIONS_H

#include "../core/cpm_actions.h"

struct io_actions;

/* CPM_OK; then *a_r is to be freed by io_actions_free.
 * CPM_EPROTO with diag, which may be NULL; nothing was taken from the list:
 *   the words of cpm_actions_scan
 *   "bad-xml"            not well-formed, or truncated
 *   "bad-root"           the root is not queue-actions
 *   "namespace"          the root is of another namespace, or of none
 *   "unknown-element"    of ours, but not message inside of the root
 *   "foreign-element"    of another namespace, or of none
 *   "unknown-attribute"  without a namespace or of ours, and not a known one
 *   "text"               anything but blanks between elements
 *   "bad-default"        neither keep nor retrieve
 *   "no-id", "bad-id"    absent; cannot name a message (cpm_msg_id_ok)
 *   "no-action", "unknown-action"
 *   "duplicate-id"       a message is listed twice
 * CPM_ELIMIT: "too-long", "tag-too-long", "too-many-items". CPM_ENOMEM:
 * "no-memory" (libxml2 2.9 also calls a namespace bad when there was no memory
 * to look at it: "bad-xml"). The offset is that in xml where the parser was. */
int io_actions_parse(
		struct cpm_pl xml, struct io_actions **a_r, struct cpm_diag *diag);

/* Valid as long as a. Of NULL: what an INVITE with SDP alone asks for. */
const struct cpm_actions *io_actions_get(const struct io_actions *a);

void io_actions_free(struct io_actions **a);

/* The body of an INVITE: *sdp_r is a slice of it, *a_r the list or NULL where
 * it has none. Results and words of cpm_actions_body and io_actions_parse;
 * cpm_actions_status makes a SIP status of them. The offset is that in the
 * part that the word is about. */
int io_actions_of_body(struct cpm_pl content_type, struct cpm_pl body,
		struct cpm_pl *sdp_r, struct io_actions **a_r, struct cpm_diag *diag);

#endif
