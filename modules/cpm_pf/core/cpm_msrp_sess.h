/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_sess.h - one MSRP session: messages out, messages in (RFC 4975).
 *
 * runs in:  the thread that owns the session; no socket, no clock, no random
 * owns:     its state. All else is lent by the caller and must live as long
 *           as the session: conf (many sessions may share one), the buffers
 *           of struct cpm_msrp_mem, the texts of both paths. A message to be
 *           sent lends its content type, and its bytes if they are given as
 *           one slice, until its event DONE or FAILED has been pulled.
 * never:    calls back; keeps input; writes half a frame but a chunk's body
 *
 * One session, one connection:
 *
 *     while(n > 0) {
 *         k = cpm_msrp_sess_recv(&s, &parser, cpm_pl(p, n), now);
 *         if(k < 0)            the connection ends: s.diag tells why
 *         while(cpm_msrp_sess_event(&s, &ev))
 *             ...              slices of ev lie in the bytes given to recv
 *         p += k; n -= k;
 *         if(k == 0)           send cpm_msrp_sess_out() first, then go on
 *     }
 *
 * Several sessions on one connection: the caller runs the parser, finds the
 * session by cpm_msrp_head_session() (a response as well: its To-Path is
 * ours), and gives it every item of the frame with cpm_msrp_sess_item().
 * Before bytes of another session are sent, cpm_msrp_sess_pause() closes a
 * chunk that is open. To no session: cpm_msrp_response_put() with 481.
 *
 * Back pressure: with no room for an answer recv takes nothing more; with
 * no room for a chunk nothing is produced. Chunks go on by themselves after
 * _sent(), input when recv is called again, if need be with no bytes. While
 * an answer waits for room no chunk takes it away.
 *
 * Sending. Messages go one after the other, in the order of _send(). A chunk
 * of up to 2048 bytes says where it ends; a longer one has "*" there, and is
 * interrupted whenever an answer has to go out (RFC 4975, 5.1). Its bytes
 * are lent as a slice, or asked for by the event WANT and given by _put().
 * A message is
 *
 *   DONE    when every chunk got its 200; with wait_report, when REPORTs
 *           with 200 cover all of it; with failure_report NO or PARTIAL and
 *           without wait_report, when it has been written out (nobody says
 *           that it arrived). A REPORT that never comes is waited for until
 *           conf.message_ms
 *   FAILED  with the code of a response or REPORT ("refused", "reported"),
 *           408 ("no-answer": conf.transaction_ms passed, "message-timeout")
 *           481 or 506 ("session-gone"), 0 ("aborted": by the caller;
 *           "closed": the connection was lost). What was sent of it may
 *           have arrived all the same.
 *
 * Receiving. Chunks in any order, overlapping, twice, interrupted: of every
 * byte the first copy is handed out, once. BEGIN, DATA..., then COMPLETE or
 * ABORTED. Answers: 200; 400 (a bad value; "beyond-range", "beyond-total",
 * "total-changed", "no-content-type", "no-message-id"), 413 ("too-large",
 * "too-many-messages", "too-many-gaps"), 415 ("type-not-accepted"), 481
 * (not this session, "wrong-session"), 501 (no SEND, no REPORT), or what the
 * caller says by _refuse(). No answer where Failure-Report says so, and
 * never one to a REPORT or a response. Of a message that was refused or has
 * ended, later chunks get the same answer, and start nothing.
 */

#ifndef CPM_MSRP_SESS_H
#define CPM_MSRP_SESS_H

#include "cpm_base.h"
#include "cpm_msrp_frame.h"
#include "cpm_msrp_range.h"
#include "cpm_msrp_uri.h"

#define CPM_MSRP_OUT_MIN 4608	  /* of the output buffer: answer and REPORT */
#define CPM_MSRP_SHORT_CHUNK 2048 /* longer ones can be interrupted */
#define CPM_MSRP_TID 13			  /* characters of our transaction ids */
#define CPM_MSRP_RECENT 8		  /* ended messages that are remembered */
#define CPM_MSRP_STRAYS 64 /* REPORTs and responses to nothing, for free */
#define CPM_MSRP_NEVER INT64_MAX

/* Times in ms; 0 switches a timer off, but for transaction_ms: 30000. */
struct cpm_msrp_conf
{
	struct cpm_pl accept_types; /* as in SDP: "message/cpim text/plain",
								 * "text/" "*", "*"; empty for all */
	uint64_t max_message;		/* bytes of one that comes in; 0: no bound */
	uint32_t chunk_size;		/* bytes of one chunk out; 0: 2048 */
	int32_t transaction_ms;		/* from the chunk's last byte to its answer */
	int32_t message_ms; /* from a message's first byte to its end, both ways */
	int32_t idle_ms;	/* nothing in or out: event IDLE */
	int32_t total_ms;	/* since init: event EXPIRED */
	/* Match a frame to the session by the session id alone, whatever the
	 * addresses around it, and ask nothing of From-Path. Else To-Path must
	 * be our URI and From-Path the peer's path (RFC 4975, 7.3). */
	bool sessmatch;
};

/* A message on its way out; of _send() and of the caller's memory. */
struct cpm_msrp_tx
{
	uint8_t state;
	uint8_t id_n;
	uint8_t failure_report;
	bool success_report;
	bool wait_report;
	uint16_t code;
	uint32_t in_flight; /* chunks that wait for their answer */
	uint32_t handle;
	char id[32];
	struct cpm_pl content_type;
	struct cpm_pl data; /* p NULL: asked for piece by piece */
	uint64_t size;
	uint64_t sent;	/* bytes written out so far */
	int64_t due_ms; /* CPM_MSRP_NEVER, or when it fails */
	const char *why;
	struct cpm_msrp_ranges reported;
};

/* A chunk that waits for its answer. */
struct cpm_msrp_trans
{
	char tid[CPM_MSRP_TID];
	uint8_t of;		/* 0: free; 1: the bind; 2...: the message of tx[of - 2] */
	uint64_t end;	/* of its frame, in all output */
	int64_t due_ms; /* CPM_MSRP_NEVER while it is not all sent */
};

/* A message on its way in. */
struct cpm_msrp_rx
{
	uint8_t state;
	uint8_t id_n;
	bool begun; /* BEGIN has been pulled */
	bool success_report;
	uint16_t code;
	uint32_t handle;
	char id[CPM_MSRP_ID_MAX];
	uint64_t said; /* the total that Byte-Range told, or CPM_MSRP_STAR */
	uint64_t size; /* where the chunk with "$" ended, or CPM_MSRP_STAR */
	int64_t due_ms;
	const char *why;
	struct cpm_msrp_ranges have;
};

/* What the caller lends: arrays of any length from 1 to 250, out of at least
 * CPM_MSRP_OUT_MIN bytes. win_n is how many SENDs may be unanswered. */
struct cpm_msrp_mem
{
	char *out;
	size_t out_cap;
	struct cpm_msrp_tx *tx;
	struct cpm_msrp_trans *win;
	struct cpm_msrp_rx *rx;
	unsigned tx_n, win_n, rx_n;
};

enum cpm_msrp_ev_kind
{
	CPM_MSRP_EV_BEGIN = 1, /* in: message_id, content_type, size (or STAR) */
	CPM_MSRP_EV_DATA,	   /* in: data at offset */
	CPM_MSRP_EV_COMPLETE,  /* in: size; the handle ends */
	CPM_MSRP_EV_ABORTED,   /* in: code (0: "aborted-by-peer", "closed";
							* 408: "message-timeout"; else as answered),
							* why; the handle ends */
	CPM_MSRP_EV_EMPTY,	   /* in: an empty SEND came and was answered */
	CPM_MSRP_EV_WANT,	   /* out: len bytes from offset, by _put() */
	CPM_MSRP_EV_DONE,	   /* out: the handle ends */
	CPM_MSRP_EV_FAILED,	   /* out: code, why; the handle ends */
	CPM_MSRP_EV_BOUND,	   /* the answer to _bind(): code 200 or another */
	CPM_MSRP_EV_GONE,	   /* the peer knows no such session: 481, 506 */
	CPM_MSRP_EV_IDLE,	   /* once for each time of quiet */
	CPM_MSRP_EV_EXPIRED,   /* conf.total_ms has passed */
};

struct cpm_msrp_ev
{
	enum cpm_msrp_ev_kind kind;
	uint32_t handle;
	unsigned code;
	const char *why;
	struct cpm_pl message_id; /* good until the next call */
	struct cpm_pl content_type;
	struct cpm_pl data;
	uint64_t offset;
	uint64_t size;
	size_t len;
	bool success_report; /* BEGIN: a REPORT will go out at its end */
};

/* A message to be sent. */
struct cpm_msrp_send
{
	struct cpm_pl message_id;	/* an id by cpm_msrp_is_id(); copied */
	struct cpm_pl content_type; /* lent */
	struct cpm_pl data;			/* lent; p NULL: asked for by WANT */
	uint64_t size;				/* bytes; not 0 */
	bool success_report;
	bool wait_report; /* only REPORTs make it DONE; asks for them */
	enum cpm_msrp_failure_report failure_report;
};

/* What is known of the frame that is coming in. */
struct cpm_msrp_cur
{
	struct cpm_pl data; /* not handed out yet; at data_at */
	uint64_t data_at;
	uint64_t pos; /* offset of the next byte of its body */
	struct cpm_pl content_type;
	uint16_t code; /* what the SEND is answered when it is not 200 */
	uint8_t rx;	   /* 1 + index in rx, or 0 */
	bool is_answered;
	bool is_dup; /* of a message that is complete */
	bool has_tail;
	char tail;
};

struct cpm_msrp_sess
{
	const struct cpm_msrp_conf *conf;
	struct cpm_msrp_mem mem;
	struct cpm_msrp_uri own;
	struct cpm_pl peer_path;
	uint64_t key[2]; /* of the transaction ids */
	uint64_t ids;	 /* how many there were */

	size_t out_n;
	uint64_t out_base; /* bytes sent before out[0] */
	bool answer_waits; /* for room: nothing else is written before it */
	uint64_t open_n;   /* bytes of the chunk that is open */
	uint8_t open;	   /* 1 + index in tx, or 0 */
	uint8_t open_win;  /* 1 + index in win, or 0 */
	char open_tid[CPM_MSRP_TID];
	uint32_t wanted; /* WANT was pulled for it, and _put() not called since */

	uint32_t handles;
	uint16_t gone; /* 481 or 506 */
	uint16_t bound_code;
	uint8_t pending;   /* events that have no message */
	bool is_idle_told; /* IDLE and EXPIRED are told once */
	bool is_expired_told;
	uint64_t strays, strays_max;
	int64_t active_ms, start_ms;

	struct cpm_msrp_cur cur;
	struct
	{
		uint64_t hash;
		uint16_t code; /* 200: complete */
	} recent[CPM_MSRP_RECENT];
	uint32_t recent_at;

	struct cpm_diag diag; /* of a negative code */
};

/* own: our URI, as in our SDP's path. peer_path: the peer's path from its
 * SDP, behind our own relays if there are any (RFC 4976). seed: 16 bytes
 * that nobody can guess; out of them come the transaction ids, so that no
 * body can hold the end-line of its chunk on purpose.
 * CPM_OK; CPM_EPROTO "bad-own-uri", "bad-peer-path"; CPM_ENOMEM
 * "out-too-small", "no-slots". */
int cpm_msrp_sess_init(struct cpm_msrp_sess *s,
		const struct cpm_msrp_conf *conf, const struct cpm_msrp_mem *mem,
		struct cpm_pl own, struct cpm_pl peer_path, const uint8_t seed[16],
		int64_t now_ms);

/* Takes input. Returns how many bytes: fewer than all when there are events
 * to be pulled or there is no room for an answer. Negative ends the
 * connection, with s->diag: what cpm_msrp_parser_next says, or CPM_ELIMIT
 * "too-many-strays" (REPORTs and responses that belong to nothing). */
ptrdiff_t cpm_msrp_sess_recv(struct cpm_msrp_sess *s,
		struct cpm_msrp_parser *parser, struct cpm_pl in, int64_t now_ms);

/* The same, item by item. CPM_OK: pull the events before the next item.
 * CPM_EAGAIN: events were not pulled, or no room; give the same item again.
 * CPM_ELIMIT as above. */
int cpm_msrp_sess_item(struct cpm_msrp_sess *s,
		const struct cpm_msrp_head *head, const struct cpm_msrp_item *item,
		int64_t now_ms);

/* Whether a frame belongs to this session, as conf.sessmatch says. A REPORT
 * may come from a relay: only its To-Path counts. */
bool cpm_msrp_sess_owns(
		const struct cpm_msrp_sess *s, const struct cpm_msrp_head *head);

/* The next event; false when there is none. */
bool cpm_msrp_sess_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r);

/* What waits to be sent, and how much of it has been: the first n bytes. */
struct cpm_pl cpm_msrp_sess_out(const struct cpm_msrp_sess *s);
void cpm_msrp_sess_sent(struct cpm_msrp_sess *s, size_t n, int64_t now_ms);

/* Ends an open chunk with "+": the output now ends where a frame ends. */
void cpm_msrp_sess_pause(struct cpm_msrp_sess *s);

/* The time of the next _tick(), or CPM_MSRP_NEVER. */
int64_t cpm_msrp_sess_deadline(const struct cpm_msrp_sess *s);
void cpm_msrp_sess_tick(struct cpm_msrp_sess *s, int64_t now_ms);

/* Queues a message. CPM_OK; CPM_EPROTO: its id, type or size cannot be sent;
 * CPM_EAGAIN: all of tx is in use; CPM_EEXIST: its id is in use;
 * CPM_EDOWN: the session is gone. */
int cpm_msrp_sess_send(struct cpm_msrp_sess *s, const struct cpm_msrp_send *m,
		int64_t now_ms, uint32_t *handle_r);

/* Bytes of a message from where the last WANT said. Returns how many were
 * taken, perhaps 0 (another WANT will follow); CPM_ENOENT: no such message,
 * or it has ended; CPM_EPROTO: more than its size. */
ptrdiff_t cpm_msrp_sess_put(struct cpm_msrp_sess *s, uint32_t handle,
		struct cpm_pl bytes, int64_t now_ms);

/* Gives a message up: its chunk ends with "#", or an empty one is sent that
 * does. FAILED "aborted" follows; its slices are not used any more.
 * CPM_ENOENT: no such message, or it has ended. */
int cpm_msrp_sess_abort(
		struct cpm_msrp_sess *s, uint32_t handle, int64_t now_ms);

/* Stops a message that is coming in: its chunks are answered code (403, 413,
 * 415...), and nothing more is heard of it. CPM_ENOENT as above. */
int cpm_msrp_sess_refuse(
		struct cpm_msrp_sess *s, uint32_t handle, unsigned code);

/* Sends an empty SEND. The event BOUND tells the answer. CPM_EAGAIN: no room
 * in the output or in win, or one is on its way; CPM_EDOWN as above. */
int cpm_msrp_sess_bind(struct cpm_msrp_sess *s, int64_t now_ms);

/* The connection is lost: all messages end, FAILED or ABORTED "closed". */
void cpm_msrp_sess_close(struct cpm_msrp_sess *s);

/* Whether nothing is to be sent, answered or waited for. */
bool cpm_msrp_sess_at_rest(const struct cpm_msrp_sess *s);

#endif
