/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_object.h - a message as an object of the Message Storage Server: its
 * bytes (RFC 5322), its date, its folder, and the login that its user has.
 *
 * runs in:  anything; pure functions
 * owns:     nothing
 *
 * An object is
 *
 *     From               Referred-By of a trusted peer, else P-Asserted-
 *                        Identity, else From; anonymous if it is withheld
 *     To Date Subject P-Asserted-Service Conversation-ID Contribution-ID
 *     InReplyTo-Contribution-ID Accept-Contact (each) IMDN-Message-ID
 *     Message-Direction: received
 *     X-CPM-Fingerprint  cpm_object_print: with IMDN-Message-ID, which message
 *                        it is, whoever else took the same id
 *     MIME-Version Content-Type: message/cpim Content-Transfer-Encoding
 *
 * and the CPIM byte for byte. A message that came without is wrapped in one.
 *
 * Content-Transfer-Encoding is 8bit or binary where the bytes ask for it, and
 * they stand as they are. Only where a mail store would not give them back as
 * they are, because they hold a NUL (no literal of IMAP may), or a CR or LF
 * alone (stores keep lines), it is base64, which decodes to the very bytes.
 *
 * Values come from strangers. Control characters and line breaks become
 * spaces, runs of them one; no line is over 998 bytes (RFC 5322, 2.1.1): it is
 * folded, and a word that cannot be is cut. A Subject that is not plain ASCII
 * is encoded as RFC 2047 has it.
 */

#ifndef CPM_OBJECT_H
#define CPM_OBJECT_H

#include "cpm_base.h"
#include "cpm_msg.h"
#include "cpm_wr.h"

#define CPM_OBJECT_LINE_MAX 998
#define CPM_OBJECT_ID_HEADER "IMDN-Message-ID"
#define CPM_OBJECT_PRINT_HEADER "X-CPM-Fingerprint"

/* Bytes that cpm_object_build needs. */
size_t cpm_object_max(const struct cpm_msg *m);

/* CPM_OK; CPM_ENOMEM: w is full. */
int cpm_object_build(const struct cpm_msg *m, struct cpm_wr *w);

/* The message's own date, ms: SIP Date, else CPIM DateTime, else when it was
 * received; so too for one that would be of the future. */
uint64_t cpm_object_date(const struct cpm_msg *m);

/* The fingerprint of cpm_msg.h; without From in it where the sender is
 * withheld: whoever reads the object could try all senders that he knows. */
uint64_t cpm_object_print(const struct cpm_msg *m);

/* Whether a block of headers is that of this message's object. */
bool cpm_object_is(struct cpm_pl headers, const struct cpm_msg *m);

/* ---------------------------------------------------------- folders */

#define CPM_OBJECT_TEMPLATE_MAX 256
#define CPM_OBJECT_FOLDER_MAX 2048

/* "Default/{originator}": levels by '/', and in them
 *
 *     {user}          the recipient's AoR without its scheme
 *     {originator}    the sender's AoR; anonymous
 *     {conversation} {contribution}   none, where the message names none
 *     {date}          of the message, 2026-11-22
 *
 * CPM_OK; CPM_ELIMIT "too-long"; CPM_EPROTO "no-such-variable", "no-brace",
 * "empty-level", "bad-character" (wildcards, control characters, a level that
 * begins with '.', '~' or '#'). */
int cpm_object_template_check(struct cpm_pl text, struct cpm_diag *diag);

/* Whether the template names this variable ("user"). */
bool cpm_object_template_has(struct cpm_pl text, const char *variable);

/* The mailbox name in modified UTF-7 (RFC 3501, 5.1.3), levels divided by
 * delim (0: the server has none, '-'). What could leave its level or mean
 * something to a server (delim / \ * % " controls, bytes that are no UTF-8, a
 * . ~ # or space in front) stands as =XX, so that two values never become
 * one; a long value is cut and ends in ~ and a hash. text has been checked.
 * CPM_OK; CPM_ENOMEM: w is full. */
int cpm_object_folder(struct cpm_pl text, const struct cpm_msg *m, char delim,
		struct cpm_wr *w);

/* The recipient's AoR without its scheme: the name of its mailbox. */
struct cpm_pl cpm_object_user(struct cpm_pl aor);

/* A login name from a template of {user} and {login}, such as
 * "{user}*{login}". CPM_OK; CPM_ENOMEM; CPM_EPROTO: a sign of the template's
 * stands in the user's name, which could then be read as another's. */
int cpm_object_login(struct cpm_pl text, struct cpm_pl aor, struct cpm_pl login,
		struct cpm_wr *w);

#endif
