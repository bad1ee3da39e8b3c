/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_json.h - queues and messages as JSON.
 *
 * runs in:  cpm_pf_worker
 *
 * New references; NULL: no memory.
 */

#ifndef ADMIN_JSON_H
#define ADMIN_JSON_H

#include <jansson.h>

#include "../core/cpm_base.h"
#include "../core/cpm_queue.h"

/* What a message says is bytes, and JSON is UTF-8: each byte that is not part
 * of a valid sequence, and NUL, becomes U+FFFD. */
json_t *admin_json_text(struct cpm_pl a);

/* {"user","messages","bytes","oldest","newest","state_counts"} */
json_t *admin_json_queue(struct cpm_pl user, const struct cpm_queue_stat *s);

/* {"id","state","from","to",...}; body: with "body" in base64. */
json_t *admin_json_message(const struct cpm_queue_item *item, bool body);

/* The same with "user", for lists over all users. */
json_t *admin_json_letter(const struct cpm_queue_item *item);

/* {"kind","user","id","state","due","attempts","last_error"} */
json_t *admin_json_job(const struct cpm_job *job);

/* {"items","next"}; takes the reference to items, also on failure. next:
 * empty means null. */
json_t *admin_json_page(json_t *items, struct cpm_pl next);

/* RFC 9457 */
json_t *admin_json_problem(
		unsigned status, const char *title, const char *detail);

#endif
