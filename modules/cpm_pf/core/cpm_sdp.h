/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_sdp.h - the SDP of an MSRP session: read, judged and written.
 *
 * runs in:  anything; pure functions; one pass, no allocation
 * owns:     nothing; every slice points into the input
 * never:    looks into an MSRP URI; resolves a name
 *
 *     v=0                                   RFC 8866
 *     o=- 7 1 IN IP4 192.0.2.1
 *     s=-
 *     c=IN IP4 192.0.2.1
 *     t=0 0
 *     m=message 2855 TCP/MSRP *             RFC 4975, 8.1
 *     a=sendonly
 *     a=accept-types:message/cpim           RFC 4975, 8.6
 *     a=accept-wrapped-types:*
 *     a=setup:actpass                       RFC 4145, RFC 6135
 *     a=path:msrp://192.0.2.1:2855/x;tcp    RFC 4975, 8.2
 *
 * Read tolerantly: LF for CRLF, empty lines, no line end at the end, lines
 * and attributes that nobody here knows, no o= and no c= at all. Of an
 * attribute that comes twice the first counts; several a=fingerprint are
 * alternatives (RFC 8122, 5). Names and tokens are compared without case.
 */

#ifndef CPM_SDP_H
#define CPM_SDP_H

#include "cpm_wr.h"

#define CPM_SDP_BYTES_MAX 16384 /* of one description */
#define CPM_SDP_LINES_MAX 512
#define CPM_SDP_LINE_MAX 4096 /* bytes of one line */
#define CPM_SDP_MEDIA_MAX 16  /* m= lines */
#define CPM_SDP_PATH_MAX 8	  /* URIs of a=path */
#define CPM_SDP_TYPES_MAX 64  /* items of a=accept-types that are looked at */
#define CPM_SDP_FINGERPRINTS_MAX 4
#define CPM_SDP_DIGEST_MAX 64 /* octets of a fingerprint: SHA-512 */
/* a=max-size: a larger one is taken for this one */
#define CPM_SDP_SIZE_MAX (UINT64_C(1) << 62)

/* Two bits, as the describing side sees it. RFC 8866, 6.7. */
enum cpm_sdp_dir
{
	CPM_SDP_INACTIVE = 0,
	CPM_SDP_SENDONLY = 1,
	CPM_SDP_RECVONLY = 2,
	CPM_SDP_SENDRECV = 3,
};

/* RFC 4145, 4. */
enum cpm_sdp_setup
{
	CPM_SDP_SETUP_NONE, /* no a=setup: plain RFC 4975 */
	CPM_SDP_SETUP_ACTIVE,
	CPM_SDP_SETUP_PASSIVE,
	CPM_SDP_SETUP_ACTPASS,
	CPM_SDP_SETUP_HOLDCONN,
};

/* RFC 4145, 5. */
enum cpm_sdp_conn
{
	CPM_SDP_CONN_NONE,
	CPM_SDP_CONN_NEW,
	CPM_SDP_CONN_EXISTING,
};

/* Who opens the TCP connection. */
enum cpm_sdp_connects
{
	CPM_SDP_CONNECTS_NOBODY, /* holdconn: not now */
	CPM_SDP_CONNECTS_OFFERER,
	CPM_SDP_CONNECTS_ANSWERER,
};

/* RFC 8122, 5: "sha-256" and "AB:CD:...", 1 to CPM_SDP_DIGEST_MAX octets. */
struct cpm_sdp_fingerprint
{
	struct cpm_pl hash;
	struct cpm_pl hex;
};

/* One m= line as it came. */
struct cpm_sdp_line
{
	struct cpm_pl media;
	struct cpm_pl proto;
	struct cpm_pl fmts; /* with the spaces between them */
	unsigned port;
};

/* What an m=message line and the lines below it say; session-level c=,
 * direction, a=setup, a=connection and a=fingerprint count where it has none
 * of its own. */
struct cpm_sdp_msrp
{
	unsigned index; /* of the m= line, from 0 */
	unsigned port;
	bool tls;			   /* TCP/TLS/MSRP; else TCP/MSRP */
	struct cpm_pl address; /* of c=, an address or a name; empty: none */

	struct cpm_pl path; /* the value of a=path, trimmed */
	struct cpm_pl uris[CPM_SDP_PATH_MAX];
	unsigned uris_n; /* 1 to CPM_SDP_PATH_MAX */

	struct cpm_pl accept_types; /* values; p is NULL when absent */
	struct cpm_pl accept_wrapped_types;
	uint64_t max_size; /* bytes; 0: no limit was given */

	enum cpm_sdp_dir dir; /* CPM_SDP_SENDRECV when none was given */
	bool dir_given;
	enum cpm_sdp_setup setup;
	enum cpm_sdp_conn conn;
	struct cpm_sdp_fingerprint fingerprints[CPM_SDP_FINGERPRINTS_MAX];
	unsigned fingerprints_n;
};

struct cpm_sdp
{
	struct cpm_pl sess_id; /* of o=; empty: there is no o= */
	struct cpm_pl sess_version;
	struct cpm_pl origin_address;
	struct cpm_sdp_line lines[CPM_SDP_MEDIA_MAX];
	unsigned lines_n;

	/* Why no m= line can be an MSRP session, said of the first m=message;
	 * NULL: one can, and msrp tells what it says. "no-message": there is no
	 * m=message. "proto": neither TCP/MSRP nor TCP/TLS/MSRP. "port-zero":
	 * refused, or not offered. "no-path", "bad-path" (no msrp or msrps URI,
	 * or more than CPM_SDP_PATH_MAX), "bad-setup", "bad-connection",
	 * "bad-max-size", "bad-fingerprint". */
	const char *refused;
	struct cpm_sdp_msrp msrp;
};

/* CPM_OK, also when refused is set. CPM_EPROTO with diag: "no-version" (the
 * first line is not v=0), "bad-line" (no letter and "="), "bad-byte" (a
 * control character), "bad-origin", "bad-address" (c=), "bad-media" (m=),
 * "no-media". CPM_ELIMIT: "too-long", "too-many-lines", "line-too-long",
 * "too-many-media". diag may be NULL. */
int cpm_sdp_parse(
		struct cpm_pl in, struct cpm_sdp *sdp_r, struct cpm_diag *diag);

/* ---- what follows from an offer and its answer ---- */

/* RFC 6135, 4.2 and RFC 4145, 4.1. An answer without a=setup comes from an
 * endpoint of RFC 4975 alone: the offerer connects, whatever it offered; an
 * offer without one counts as active. CPM_OK; CPM_EPROTO with diag, which may
 * be NULL: "setup-actpass" (an answer has to decide), "setup-conflict" (both
 * would connect, or both would wait). */
int cpm_sdp_connector(enum cpm_sdp_setup offer, enum cpm_sdp_setup answer,
		enum cpm_sdp_connects *who_r, struct cpm_diag *diag);

/* The a=setup of an answer that fits the offer's; where the offer leaves it
 * open, we connect only if active is set. */
enum cpm_sdp_setup cpm_sdp_answer_setup(enum cpm_sdp_setup offer, bool active);

/* What one side sends the other receives: sendonly <-> recvonly. */
enum cpm_sdp_dir cpm_sdp_dir_reverse(enum cpm_sdp_dir dir);

/* The direction to answer with, when we would like to have want: never more
 * than the offer lets us. RFC 3264, 6.1. */
enum cpm_sdp_dir cpm_sdp_answer_dir(
		enum cpm_sdp_dir offer, enum cpm_sdp_dir want);

/* Whether the side that wrote msrp takes a message of this Content-Type
 * (parameters do not matter); wrapped is the type inside a container such as
 * message/cpim, empty: it is no container. A type in accept-types may come
 * inside a container too (RFC 4975, 8.6). A list that is absent is no
 * obstacle: whoever minds answers 415. The same for a list without items. */
bool cpm_sdp_accepts(const struct cpm_sdp_msrp *msrp, struct cpm_pl type,
		struct cpm_pl wrapped);

/* Whether one of the fingerprints is this digest by this hash. False when
 * there is none: a certificate that nobody vouched for. */
bool cpm_sdp_fingerprint_is(const struct cpm_sdp_msrp *msrp, struct cpm_pl hash,
		const unsigned char *digest, size_t n);

/* ---- our own descriptions ---- */

struct cpm_sdp_desc
{
	uint64_t sess_id; /* of o= */
	uint64_t sess_version;
	struct cpm_pl address; /* of o= and c=: IPv6 if there is a ':' in it */
	unsigned port;		   /* 1 to 65535 */
	bool tls;
	struct cpm_pl path;					/* URIs with one SP between */
	struct cpm_pl accept_types;			/* required */
	struct cpm_pl accept_wrapped_types; /* empty: not written */
	uint64_t max_size;					/* 0: not written */
	enum cpm_sdp_dir dir;
	enum cpm_sdp_setup setup;
	enum cpm_sdp_conn conn;
	struct cpm_sdp_fingerprint fingerprint; /* empty hash: not written */
};

/* Appends the offer. CPM_OK; CPM_EPROTO with diag: a fact that cannot stand
 * in a description: "bad-address", "bad-port", "bad-path", "bad-types",
 * "bad-fingerprint"; then nothing was written. CPM_ENOMEM: "no-room". */
int cpm_sdp_offer(const struct cpm_sdp_desc *desc, struct cpm_wr *w,
		struct cpm_diag *diag);

/* Appends the answer to an offer: as many m= lines in the same order, ours in
 * place of offer->msrp, all others with port 0. The facts are the caller's:
 * setup of cpm_sdp_answer_setup, dir of cpm_sdp_answer_dir. Also CPM_EPROTO
 * "proto" (TLS against plain TCP), and offer->refused. */
int cpm_sdp_answer(const struct cpm_sdp_desc *desc, const struct cpm_sdp *offer,
		struct cpm_wr *w, struct cpm_diag *diag);

/* What our offer and its answer have settled. */
struct cpm_sdp_agreed
{
	enum cpm_sdp_connects connects;
	enum cpm_sdp_dir dir; /* as we see it */
};

/* Judges the answer to an offer of ours (RFC 3264, 6). An answer that names
 * no direction gets the one that fits; of one that claims more than was
 * offered the part that was offered counts. CPM_OK; CPM_EPROTO with diag:
 * "rejected" (port 0), "line-count" (not one m= line), "proto", what refused
 * says, and the words of cpm_sdp_connector. */
int cpm_sdp_agree(const struct cpm_sdp_desc *offer,
		const struct cpm_sdp *answer, struct cpm_sdp_agreed *agreed_r,
		struct cpm_diag *diag);

#endif
