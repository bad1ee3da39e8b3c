/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msg.h - a message as it is queued, and its versioned codec.
 *
 * runs in:  anything; pure functions
 * owns:     nothing; the slices of a decoded message point into the blob
 *
 * The blob is what Redis holds, so every later version must read every
 * earlier one, and the scripts in core/lua read the fixed part:
 *
 *     offset  size
 *          0     2  "CM"
 *          2     1  version, 1
 *          3     1  flags (CPM_MSG_F_*)
 *          4     4  env_end: offset of the body, big-endian
 *          8     4  body_len
 *         12     8  received_ms, wall clock
 *         20     8  expires_ms, wall clock; 0: never
 *         28     8  fingerprint: same id and same fingerprint = same message
 *         36        envelope: fields of tag (1), length (4), bytes
 *     env_end       body
 *
 * A decoder passes over tags that it does not know.
 */

#ifndef CPM_MSG_H
#define CPM_MSG_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_MSG_VERSION 1
#define CPM_MSG_FIXED 36
#define CPM_MSG_ID_MAX 128
#define CPM_MSG_HEADERS_MAX 32768
#define CPM_MSG_INNER_TYPE_MAX 256	   /* a longer one is not noted */
#define CPM_MSG_BODY_MAX (1024 * 1024) /* decoder's bound; policy is lower */

enum cpm_msg_flag
{
	CPM_MSG_F_EXPIRES = 1,	  /* the sender gave an Expires; give one again */
	CPM_MSG_F_IMDN = 2,		  /* carries a disposition notification */
	CPM_MSG_F_DATE = 4,		  /* the sender gave a Date (it is in headers) */
	CPM_MSG_F_WITHHELD = 8,	  /* Privacy: the asserted identity is for the
							   trust domain only (RFC 3325, 7) */
	CPM_MSG_F_ANONYMOUS = 16, /* Privacy or From hides who sent it */
	CPM_MSG_F_LARGE = 32,	  /* large mode, else pager mode */
	CPM_MSG_F_REFERRED = 64,  /* Referred-By came from a trusted peer: it
							   * names the sender */
};

struct cpm_msg
{
	/* visible ASCII without space, 1..CPM_MSG_ID_MAX; unique per recipient */
	struct cpm_pl id;
	struct cpm_pl aor;	   /* canonical AoR of the recipient */
	struct cpm_pl call_id; /* of every delivery of this message */
	struct cpm_pl from;	   /* From as received, name-addr, without tag */
	struct cpm_pl to;	   /* To as received, name-addr, without tag */

	/* for lists; the bytes that are delivered are in headers and body */
	struct cpm_pl subject;
	struct cpm_pl content_type;
	struct cpm_pl conversation_id;
	struct cpm_pl contribution_id;

	/* for rules of single clients, which are asked at delivery */
	struct cpm_pl originator; /* canonical AoR; empty: could not be told */
	struct cpm_pl inner_type; /* of the part inside a CPIM; empty: none */

	/* header lines as received, each with its CRLF, in their order, less
	 * those of the hop and of the transaction: see cpm_msg_header_kept */
	struct cpm_pl headers;
	/* header lines of the same form that no delivery has, but a stored object
	 * and an interworked request: see cpm_msg_header_aside */
	struct cpm_pl aside;
	struct cpm_pl body;

	uint64_t received_ms;
	uint64_t expires_ms; /* 0: never */
	uint64_t fingerprint;
	unsigned flags;
	unsigned dispo;	 /* enum cpm_dispo: what the sender asked to be told */
	size_t body_len; /* also known when only the envelope was decoded */
};

/* Bytes that cpm_msg_encode needs. */
size_t cpm_msg_encoded_len(const struct cpm_msg *m);

/* CPM_OK; CPM_ELIMIT: a field is over its bound ("id-too-long",
 * "headers-too-long" (so for every other field of the envelope),
 * "body-too-long"); CPM_EPROTO "bad-id", or "bad-field": no aor or one over
 * CPM_AOR_MAX, flags or dispo of more than a byte; CPM_ENOMEM "small-buffer":
 * w is full. */
int cpm_msg_encode(
		const struct cpm_msg *m, struct cpm_wr *w, struct cpm_diag *diag);

/* blob: a whole blob, or only its first env_end bytes (then body is empty
 * and body_len tells its size).
 * CPM_OK; CPM_EPROTO: "bad-magic", "bad-version", "truncated", "bad-field",
 * "bad-id". */
int cpm_msg_decode(
		struct cpm_pl blob, struct cpm_msg *m_r, struct cpm_diag *diag);

/* Whether id may name a message: 1..CPM_MSG_ID_MAX bytes 0x21..0x7e. */
bool cpm_msg_id_ok(struct cpm_pl id);

/* Whether a header of a received MESSAGE belongs to the message (and is
 * stored and delivered as it came) rather than to the hop or transaction.
 * name without case; compact forms are known. */
bool cpm_msg_header_kept(struct cpm_pl name);

/* Whether a header that is not kept says whom the sender meant to reach, and
 * for whom it spoke: Accept-Contact, Reject-Contact, Referred-By,
 * Request-Disposition. It is put aside. Compact forms are known. */
bool cpm_msg_header_aside(struct cpm_pl name);

/* Identity of what was sent: hash of sender, content type and body. */
uint64_t cpm_msg_fingerprint(const struct cpm_msg *m);

/* The header block of a delivery: the kept headers, Expires made relative
 * again to now, a Date where the sender gave none. Every line ends in CRLF.
 * trusted: the receiver is inside the trust domain; outside of it an identity
 * that the sender withheld is left out.
 * CPM_OK; CPM_ENOMEM; CPM_ENOENT: the message has expired. */
int cpm_msg_delivery_headers(const struct cpm_msg *m, uint64_t now_ms,
		bool trusted, struct cpm_wr *w);

/* The next header line of a block, with the lines that continue it and its
 * CRLF; *rest moves behind it. *name_r: the name, trimmed. */
struct cpm_pl cpm_msg_header_next(struct cpm_pl *rest, struct cpm_pl *name_r);

/* Whether there is a kept header of this name. */
bool cpm_msg_header_has(const struct cpm_msg *m, const char *name);

/* Whether a Privacy value (RFC 3323, 4.2; RFC 3325, 9.3) withholds who the
 * sender is: id, user, or header, and not none. */
bool cpm_privacy_withholds(struct cpm_pl value);

/* Whether a header tells who the sender is, by the network's word. */
bool cpm_msg_header_identity(struct cpm_pl name);

#endif
