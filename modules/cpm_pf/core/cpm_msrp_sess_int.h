/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_msrp_sess_int.h - what the files of the MSRP session share.
 *
 * runs in:  cpm_msrp_sess.c, cpm_msrp_sess_tx.c, cpm_msrp_sess_rx.c only
 */

#ifndef CPM_MSRP_SESS_INT_H
#define CPM_MSRP_SESS_INT_H

#include "cpm_msrp_sess.h"

enum tx_state
{
	TX_FREE = 0,
	TX_QUEUED,	 /* not all of it is written out */
	TX_SENT,	 /* it is, and answers are waited for */
	TX_ABORTING, /* "#" is to be written out */
	TX_DONE,	 /* an event is to be pulled */
	TX_FAILED,
};

enum rx_state
{
	RX_FREE = 0,
	RX_ACTIVE,
	RX_COMPLETE, /* an event is to be pulled */
	RX_ABORTED,
};

/* s->pending */
enum
{
	PENDING_EMPTY = 1,
	PENDING_BOUND = 2,
	PENDING_GONE = 4,
	PENDING_IDLE = 8,
	PENDING_EXPIRED = 16,
};

/* tids of 0: none is waited for */
#define TRANS_FREE 0
#define TRANS_BIND 1
#define TRANS_TX 2

static inline struct cpm_pl cpm_msrp_tx_id(const struct cpm_msrp_tx *t)
{
	return cpm_pl(t->id, t->id_n);
}

static inline struct cpm_pl cpm_msrp_rx_id(const struct cpm_msrp_rx *r)
{
	return cpm_pl(r->id, r->id_n);
}

static inline int64_t cpm_msrp_due(int64_t now_ms, int32_t after_ms)
{
	return after_ms > 0 ? now_ms + after_ms : CPM_MSRP_NEVER;
}

/* cpm_msrp_sess.c: CPM_MSRP_TID characters that nobody can guess */
void cpm_msrp_make_id(struct cpm_msrp_sess *s, char *id_r);

/* cpm_msrp_sess_tx.c: a writer on what is free of the output, between two
 * frames; commit makes what it has written part of the output, or says that
 * it did not fit. */
void cpm_msrp_out_begin(struct cpm_msrp_sess *s, struct cpm_wr *w_r);
bool cpm_msrp_out_commit(struct cpm_msrp_sess *s, const struct cpm_wr *w);

void cpm_msrp_tx_pump(struct cpm_msrp_sess *s, int64_t now_ms);
void cpm_msrp_tx_response(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head);
void cpm_msrp_tx_report(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head);
void cpm_msrp_tx_arm(struct cpm_msrp_sess *s, int64_t now_ms);
void cpm_msrp_tx_tick(struct cpm_msrp_sess *s, int64_t now_ms);
void cpm_msrp_tx_fail_all(
		struct cpm_msrp_sess *s, unsigned code, const char *why);
bool cpm_msrp_tx_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r);

/* cpm_msrp_sess_rx.c */
bool cpm_msrp_rx_pending(const struct cpm_msrp_sess *s);
void cpm_msrp_rx_tick(struct cpm_msrp_sess *s, int64_t now_ms);
void cpm_msrp_rx_abort_all(struct cpm_msrp_sess *s, const char *why);
bool cpm_msrp_rx_event(struct cpm_msrp_sess *s, struct cpm_msrp_ev *ev_r);
void cpm_msrp_rx_head(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head);
void cpm_msrp_rx_body(struct cpm_msrp_sess *s, const struct cpm_msrp_head *head,
		struct cpm_pl bytes, int64_t now_ms);
/* CPM_OK or CPM_EAGAIN */
int cpm_msrp_rx_tail(
		struct cpm_msrp_sess *s, const struct cpm_msrp_head *head, char flag);

#endif
