/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_actions.h - what a pulling client asks to be done with its queued
 * messages, and what it is told became of each.
 *
 * runs in:  anything; pure functions; no allocation
 * owns:     nothing; slices borrow
 * never:    reads XML (io_actions.h does); decides whose queue it is
 *
 * The request is the second part of the client's INVITE:
 *
 *     <queue-actions xmlns="urn:cpm-pf:queue-actions:1" default="keep">
 *       <message id="..." action="retrieve|interwork|discard|store|keep"/>
 *     </queue-actions>
 *
 * The answer is the last message of the MSRP session:
 *
 *     <queue-results xmlns="urn:cpm-pf:queue-results:1">
 *       <result id="..." action="..." status="ok|gone|failed" reason="..."/>
 *     </queue-results>
 *
 * Both have a schema, doc/cpm-queue-actions.xsd and cpm-queue-results.xsd.
 *
 * A message that is listed with "keep" becomes held: no push brings it, until
 * the client asks for it. A message that is not listed is no business of the
 * request: nothing happens to it, and it does not become held; "default" says
 * the same with "keep", and "retrieve" asks for all the others as well. No
 * other default is taken: whatever takes a message away unread is asked for
 * by the message's id. A list without a message is allowed: nothing to do.
 */

#ifndef CPM_ACTIONS_H
#define CPM_ACTIONS_H

#include "cpm_wr.h"

#define CPM_ACTIONS_TYPE "application/cpm-queue-actions+xml"
#define CPM_ACTIONS_NS "urn:cpm-pf:queue-actions:1"
#define CPM_RESULTS_TYPE "application/cpm-queue-results+xml"
#define CPM_RESULTS_NS "urn:cpm-pf:queue-results:1"

#define CPM_ACTIONS_MAX 1000		 /* messages in one request */
#define CPM_ACTIONS_BYTES_MAX 262144 /* of its XML */
/* From one "<" of it to the next: so an XML parser never has a tag before it
 * that is longer, whatever it does with its attributes. */
#define CPM_ACTIONS_TAG_MAX 4096

enum cpm_action_kind
{
	CPM_ACT_RETRIEVE,  /* bring it in this session */
	CPM_ACT_INTERWORK, /* hand it to the Interworking Function */
	CPM_ACT_DISCARD,   /* remove it */
	CPM_ACT_STORE,	   /* put it into the Message Storage Server */
	CPM_ACT_KEEP,	   /* held */
};

/* "retrieve", "interwork", "discard", "store", "keep"; "?" for another. */
const char *cpm_action_name(enum cpm_action_kind kind);

/* The exact word, lower case. False, and *kind_r untouched: it is none. */
bool cpm_action_of_name(struct cpm_pl name, enum cpm_action_kind *kind_r);

struct cpm_action_item
{
	struct cpm_pl id; /* cpm_msg_id_ok, no other item has it */
	enum cpm_action_kind action;
};

struct cpm_actions
{
	bool listed;	  /* false: the INVITE had SDP alone: all are retrieved */
	bool has_default; /* false: the attribute is absent, the same as KEEP */
	/* CPM_ACT_RETRIEVE or CPM_ACT_KEEP; KEEP, which is never "held" here,
	 * without the attribute. Ask cpm_actions_rest. */
	enum cpm_action_kind dflt;
	const struct cpm_action_item *items; /* in the order of the request */
	size_t count;						 /* up to CPM_ACTIONS_MAX */
};

/* Whether the messages that are not listed are to be retrieved. If not they
 * stay what they are. */
bool cpm_actions_rest(const struct cpm_actions *a);

/* ---- the body of the INVITE ---- */

/* Takes the body apart: SDP alone (application/sdp), or multipart/mixed or
 * multipart/related with one part application/sdp and at most one of
 * CPM_ACTIONS_TYPE; *xml_r gets p NULL where there is none. An SDP whose
 * Content-Disposition is not "session" (RFC 3959) is a part of another kind.
 * Parts of other kinds are passed over where their Content-Disposition says
 * handling=optional, and else refused (RFC 3261, 20.11; RFC 5621).
 *
 * CPM_OK. CPM_EPROTO with diag, which may be NULL: "no-body"; "content-type"
 * (neither of the above); "no-sdp", "two-sdps", "two-lists"; "unknown-part";
 * "transfer-encoding" (a part that is used comes neither as 7bit, 8bit nor
 * binary), "content-encoding" (it comes compressed), and the words of
 * cpm_multipart.h. CPM_ELIMIT: those of cpm_multipart.h. */
int cpm_actions_body(struct cpm_pl content_type, struct cpm_pl body,
		struct cpm_pl *sdp_r, struct cpm_pl *xml_r, struct cpm_diag *diag);

/* What has to be true before any XML parser may look at the list: its size,
 * UTF-8 and nothing else, no NUL and no other control character that XML
 * forbids, no DTD (also not inside a comment) and so no entities, no overlong
 * tag. CPM_OK; CPM_EPROTO with diag, which may be NULL: "no-xml" (empty),
 * "encoding" (another one is declared, or it is not UTF-8), "bad-byte",
 * "dtd". CPM_ELIMIT: "too-long", "tag-too-long". */
int cpm_actions_scan(struct cpm_pl xml, struct cpm_diag *diag);

/* The SIP status for a body that was refused with this result and word: 415
 * for a type or an encoding that we do not take, 413 for CPM_ELIMIT, 500 for
 * CPM_ENOMEM, else 400. */
unsigned cpm_actions_status(int rc, const char *why);

/* ---- the results ---- */

enum cpm_result_status
{
	CPM_RESULT_OK,	   /* done */
	CPM_RESULT_GONE,   /* there is no such message, or no more */
	CPM_RESULT_FAILED, /* not done: it is what it was before */
};

/* "ok", "gone", "failed"; "?" for another. */
const char *cpm_result_status_name(enum cpm_result_status status);

/* A longer reason is cut. */
#define CPM_RESULTS_REASON_MAX 64

/* The document, in three steps. What cannot stand in an attribute is escaped,
 * what cannot stand in XML becomes "?". reason: a stable word, for machines;
 * NULL or "": none. */
void cpm_results_begin(struct cpm_wr *w);
void cpm_results_item(struct cpm_wr *w, struct cpm_pl id,
		enum cpm_action_kind action, enum cpm_result_status status,
		const char *reason);
void cpm_results_end(struct cpm_wr *w);

/* Bytes that are enough for so many results, whatever their ids (of up to
 * CPM_MSG_ID_MAX bytes) and reasons. */
size_t cpm_results_max(size_t count);

#endif
