/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_pap.h - what the Push Enabler is told, and what its answers mean.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 * never:    does HTTP, or reads XML: that is worker/courier_push.c
 *
 * Two forms with the same facts. PAP 2.1 (Push Access Protocol, "push
 * submission"), multipart/related: a control entity, application/xml,
 *
 *     pap > push-message [push-id, deliver-before-timestamp, source-reference]
 *             > address [address-value], quality-of-service
 *
 * and the content entity, application/json, which is also a member of the
 * other form, one JSON object for gateways of today:
 *
 *     {"push-id": "...", "source-reference": "...", "deliver-before": "...Z",
 *      "address": "sip:bob@example.org" |
 *                 {"provider": "...", "param": "...", "prid": "..."},
 *      "content": {"event": "queued-messages", "total": 3, "date": "...Z",
 *                  "size": 120, "subject": "...", "from": "..."}}
 *
 * Addresses of PAP ("WAPPUSH=" client "/TYPE=" kind "@" PPG):
 *
 *     a phone number     WAPPUSH=+358401234567/TYPE=PLMN@ppg.example.org
 *     another user       WAPPUSH=bob%40example.org/TYPE=USER@ppg...
 *     a client           WAPPUSH=apns:org.example:00fc13/TYPE=USER@ppg...
 *                        (pn-provider, pn-param and pn-prid)
 *
 * where all but letters, digits and "-._~" is percent-escaped.
 *
 * What a sender wrote (subject, from) ends up escaped, as UTF-8 without
 * control characters; whatever in it is none is U+FFFD.
 */

#ifndef CPM_PAP_H
#define CPM_PAP_H

#include "cpm_notify.h"
#include "cpm_pn.h"

#define CPM_PAP_TEXT_MAX 256 /* bytes of subject and from; more is cut */
#define CPM_PAP_URL_MAX 1024
#define CPM_PAP_HOST_MAX 255
#define CPM_PAP_BODY_MAX 16384 /* is enough for either form */
#define CPM_PAP_BOUNDARY "cpm_pf-push-entity"
#define CPM_PAP_TYPE                                  \
	"multipart/related; boundary=\"" CPM_PAP_BOUNDARY \
	"\"; type=\"application/xml\""
#define CPM_PAP_INTERVALS_MAX 16
#define CPM_PAP_RETRY_AFTER_MAX_S 86400

enum cpm_pap_format
{
	CPM_PAP_XML,
	CPM_PAP_JSON,
};

/* One push. Whatever is left out says nothing. */
struct cpm_pap
{
	struct cpm_pl push_id;	   /* unique; visible ASCII */
	struct cpm_pl source;	   /* who asks; may be empty */
	struct cpm_pl host;		   /* of the gateway, for addresses of PAP */
	struct cpm_pl aor;		   /* whose queue it is */
	const struct cpm_pn *pn;   /* the target; NULL: the user's address */
	uint64_t deliver_before_s; /* 0: whenever */
	unsigned fields;		   /* enum cpm_notify_field, or'ed */
	uint64_t total;			   /* messages in the queue */
	/* of the newest */
	struct cpm_pl subject;
	struct cpm_pl from; /* name-addr; empty where it is withheld */
	uint64_t date_ms;
	uint64_t size;
};

/* The body of the POST. CPM_OK; CPM_ENOMEM: w is full. */
int cpm_pap_body(
		const struct cpm_pap *p, enum cpm_pap_format format, struct cpm_wr *w);

/* "application/json", or that of the multipart. */
const char *cpm_pap_type(enum cpm_pap_format format);

/* What an answer means for the target. */
enum cpm_pap_answer
{
	CPM_PAP_TAKEN,	 /* the gateway has it */
	CPM_PAP_GONE,	 /* there is no such target (any more) */
	CPM_PAP_REFUSED, /* no repetition of this will help */
	CPM_PAP_LATER,	 /* it may work later */
	CPM_PAP_READ,	 /* the body of the answer tells: cpm_pap_result */
};

/* "taken", "gone", "refused", "later", "read" */
const char *cpm_pap_answer_name(enum cpm_pap_answer a);

/* Of an HTTP status; 0: there was no answer. */
enum cpm_pap_answer cpm_pap_status(enum cpm_pap_format format, unsigned status);

/* Of the code of a response-result (PAP, "status code"): 1xxx success, 2xxx
 * the client's fault, 3xxx the server cannot, 4xxx the service failed, 5xxx
 * the mobile client ended it. */
enum cpm_pap_answer cpm_pap_result(unsigned code);

/* An http: or https: URL with a host, without user, fragment and what is no
 * visible ASCII. CPM_OK and the host; CPM_EPROTO; CPM_ELIMIT. */
int cpm_pap_url(struct cpm_pl url, struct cpm_pl *host_r);

/* "60,300,1800": 1..CPM_PAP_INTERVALS_MAX numbers of seconds, 1..86400.
 * CPM_OK; CPM_EPROTO; CPM_ELIMIT. */
int cpm_pap_intervals(struct cpm_pl text, uint64_t *ms_r, size_t *count_r);

/* How the gateway is told who we are: the first line of a file. */
enum cpm_pap_login
{
	CPM_PAP_LOGIN_HEADER, /* "Bearer ...": the value of Authorization */
	CPM_PAP_LOGIN_USER,	  /* "user:password", for Basic or Digest */
};

/* A value has a space before any colon, "user:password" has a colon; what may
 * stand before a value, "Authorization:", is left out. CPM_OK; CPM_EPROTO:
 * neither, empty, or not visible ASCII and spaces. */
int cpm_pap_credentials(
		struct cpm_pl text, enum cpm_pap_login *login_r, struct cpm_pl *v_r);

#endif
