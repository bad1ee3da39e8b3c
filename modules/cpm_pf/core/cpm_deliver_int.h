/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_deliver_int.h - what the files of a delivery share: cpm_deliver.c has
 * the story by MESSAGE and who is tried, cpm_push.c what happens in a session.
 *
 * runs in:  cpm_deliver.c, cpm_push.c
 * owns:     nothing
 */

#ifndef CPM_DELIVER_INT_H
#define CPM_DELIVER_INT_H

#include "cpm_flow.h"
#include "cpm_push.h"

#define CPM_DLV_STORE_RETRY_MS 500

/* The three that every step of a delivery needs. */
struct cpm_dlv_env
{
	const struct cpm_deliver_ports *ports;
	const struct cpm_deliver_conf *conf;
	uint64_t now_ms;
};

/* What a step did: go on, or wait for the world. */
enum cpm_dlv_next
{
	CPM_DLV_LEASE, /* look for a message */
	CPM_DLV_SEND,  /* the leased message is at hand: try a client */
	CPM_DLV_FAILED,
	CPM_DLV_SETTLE,
	CPM_DLV_WAIT,
};

struct cpm_pl cpm_dlv_aor(const struct cpm_deliver *d);
struct cpm_pl cpm_dlv_token(const struct cpm_deliver *d);
struct cpm_pl cpm_dlv_id(const struct cpm_deliver *d);

void cpm_dlv_tell(const struct cpm_deliver *d, const struct cpm_dlv_env *e,
		enum cpm_deliver_event event, const char *why);

enum cpm_dlv_next cpm_dlv_wait_until(
		struct cpm_deliver *d, enum cpm_deliver_state state, uint64_t at_ms);

/* A look that something asked for is one of its own: it has not passed over
 * any message yet. */
void cpm_dlv_token_renew(struct cpm_deliver *d);

/* Ends the delivery, unless something happened meanwhile. */
enum cpm_dlv_next cpm_dlv_finish(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, uint64_t wake_in_ms);

/* Notes an answer that is a failure. */
void cpm_dlv_failed(struct cpm_deliver *d, unsigned code);

bool cpm_dlv_is_worn_out(
		const struct cpm_deliver *d, const struct cpm_dlv_env *e);
uint64_t cpm_dlv_retry_ms(
		const struct cpm_deliver *d, const struct cpm_dlv_env *e);

/* The leased message is read again for the next client. */
enum cpm_dlv_next cpm_dlv_next_client(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease);

/* ---- cpm_push.c */

/* Invites a client for the message at hand. CPM_OK: an INVITE is out; else
 * none is possible, or it could not be sent. */
int cpm_push_invite(struct cpm_deliver *d, const struct cpm_dlv_env *e,
		const struct cpm_contact *contact, const struct cpm_msg *msg);

/* The INVITE's answer; the session's events; its time. lease: scratch. */
enum cpm_dlv_next cpm_push_invited(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, unsigned code, struct cpm_lease *lease);
enum cpm_dlv_next cpm_push_events(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, const struct cpm_session_event *events,
		size_t count, struct cpm_lease *lease);
enum cpm_dlv_next cpm_push_tick(struct cpm_deliver *d,
		const struct cpm_dlv_env *e, struct cpm_lease *lease);

#endif
