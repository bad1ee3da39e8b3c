/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_ctl.h - what delivery workers and the MSRP worker tell each other.
 *
 * runs in:  anything; pure functions; no allocation
 * owns:     nothing; what is decoded points into the datagram
 * never:    trusts: the MSRP worker eats hostile bytes, so what either side
 *           says is read as if a stranger had said it
 *
 * One datagram of a SOCK_SEQPACKET socket is one message. Integers are
 * big-endian:
 *
 *     version(8) kind(8) flags(16) code(16) session(64) handle(32) size(64)
 *     offset(64) a b c data
 *     a, b, c = length(16) bytes       data = length(32) bytes
 *
 * What a kind does not use is 0 or empty, and a message where it is not is
 * none. A session has a number that its delivery worker chose, unique in
 * time, and belongs to the socket on which it was prepared.
 *
 * delivery -> MSRP worker:
 *
 *   PREPARE  a: our own URI, whose session id is a key that nobody can guess.
 *            From now on a connection that speaks of it is taken. TLS
 *   START    a: the peer's path; b: fingerprint of its certificate, or empty;
 *            size: its a=max-size, 0: none. CONNECT: we connect to the first
 *            URI of the path, else the peer does, or has. TLS, REPORTS (a
 *            relay is in the path: only a REPORT makes a message done),
 *            SESSMATCH (struct cpm_msrp_conf)
 *   SEND     handle: the sender's choice, not 0, for one message; a: its
 *            Message-ID; b: its Content-Type; size: all of it; data: the
 *            first bytes, perhaps all of them or none
 *   DATA     handle; data: the bytes from offset on, next in order
 *   CLOSE    what is written out is finished, and nothing more is said of
 *            the session by either side. Of one that is not known: nothing
 *
 * MSRP worker -> delivery:
 *
 *   HELLO    the first one on each socket. session: a random number of this
 *            process: all sessions of another one are gone. code: version;
 *            a: where it listens, lines of [tls:]address:port; b: fingerprint
 *            of its certificate, or empty
 *   UP       once, after START: the connection is there, is the session's,
 *            and has the certificate that START told
 *   DONE     handle: the message was taken
 *   FAILED   handle, code (0 or as in MSRP), a: why: it was not
 *   DOWN     code, a: why: the session is over. Its messages that are neither
 *            DONE nor FAILED are lost with it; nothing more is said of it.
 *            Also the answer to anything but CLOSE for a session that is not
 *            known, "no-such-session"
 *
 * The MSRP worker says nothing of how fast a message leaves. The sender keeps
 * to CPM_CTL_MESSAGES messages and CPM_CTL_WINDOW bytes of them that are
 * neither DONE nor FAILED; who does not loses the session, "too-much".
 */

#ifndef CPM_CTL_H
#define CPM_CTL_H

#include "cpm_base.h"
#include "cpm_wr.h"

#define CPM_CTL_VERSION 1
#define CPM_CTL_MAX 98304  /* bytes of a datagram */
#define CPM_CTL_DATA 65536 /* of data in one */
#define CPM_CTL_TEXT 4096  /* of a, b and c each */
#define CPM_CTL_HEAD 34	   /* before a */
#define CPM_CTL_WHY 64	   /* of a word */
#define CPM_CTL_MESSAGES 32
#define CPM_CTL_WINDOW (16u << 20)

enum cpm_ctl_kind
{
	CPM_CTL_PREPARE = 1,
	CPM_CTL_START,
	CPM_CTL_SEND,
	CPM_CTL_DATA_MORE,
	CPM_CTL_CLOSE,
	CPM_CTL_HELLO = 65,
	CPM_CTL_UP,
	CPM_CTL_DONE,
	CPM_CTL_FAILED,
	CPM_CTL_DOWN,
};

enum cpm_ctl_flag
{
	CPM_CTL_TLS = 1,
	CPM_CTL_CONNECT = 2,
	CPM_CTL_REPORTS = 4,
	CPM_CTL_SESSMATCH = 8,
};

struct cpm_ctl
{
	enum cpm_ctl_kind kind;
	unsigned flags; /* enum cpm_ctl_flag */
	unsigned code;	/* 0..999 */
	uint64_t session;
	uint32_t handle;
	uint64_t size;
	uint64_t offset;
	struct cpm_pl a;
	struct cpm_pl b;
	struct cpm_pl c; /* no kind uses it yet */
	struct cpm_pl data;
};

/* Whether the message is what its kind says. CPM_OK; CPM_EPROTO with diag
 * "bad-kind", "bad-flags", "bad-session", "bad-handle", "bad-code",
 * "bad-size", "bad-offset", "bad-uri", "bad-path", "bad-fingerprint",
 * "bad-message-id", "bad-content-type", "bad-why", "bad-listen", "no-data",
 * "not-used"; CPM_ELIMIT "text-too-long", "data-too-long". diag may be
 * NULL. Both functions below ask it. */
int cpm_ctl_check(const struct cpm_ctl *m, struct cpm_diag *diag);

/* Appends m. CPM_OK; as cpm_ctl_check, and nothing is written; CPM_ENOMEM:
 * it did not fit (CPM_CTL_MAX bytes always do). */
int cpm_ctl_put(
		struct cpm_wr *w, const struct cpm_ctl *m, struct cpm_diag *diag);

/* A whole datagram. As cpm_ctl_check; CPM_EPROTO "bad-version", "short",
 * "trailing" (bytes behind its end). */
int cpm_ctl_get(struct cpm_pl in, struct cpm_ctl *m_r, struct cpm_diag *diag);

/* "PREPARE", ...; "?" for a number that is none. */
const char *cpm_ctl_name(enum cpm_ctl_kind kind);

/* Whether it is one for the MSRP worker. */
static inline bool cpm_ctl_is_order(enum cpm_ctl_kind kind)
{
	return kind < CPM_CTL_HELLO;
}

/* "SHA-256 AB:CD:..." (RFC 8122, 5): the name of the hash, and its octets,
 * at most cap. Returns how many; 0: it is none, or is of MD2 or MD5. */
size_t cpm_ctl_fingerprint(
		struct cpm_pl in, struct cpm_pl *name_r, uint8_t *octets, size_t cap);

#endif
