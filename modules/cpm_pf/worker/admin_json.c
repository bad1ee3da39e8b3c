/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_json.h"

#include <stdlib.h>

#include "../core/cpm_time.h"
#include "../core/cpm_utf8.h"
#include "../core/cpm_wr.h"
#include "admin_url.h"

json_t *admin_json_text(struct cpm_pl a)
{
	char *buf = malloc(a.n * 3 + 1);
	struct cpm_wr w;
	json_t *v;

	if(buf == NULL)
		return NULL;
	cpm_wr_init(&w, buf, a.n * 3 + 1);
	for(size_t i = 0; i < a.n;) {
		size_t len = cpm_utf8_len(a, i);
		if(len > 0)
			cpm_wr_pl_put(&w, cpm_pl(a.p + i, len));
		else
			cpm_wr_str(&w, "\xef\xbf\xbd");
		i += len > 0 ? len : 1;
	}
	v = json_stringn(buf, w.n);
	free(buf);
	return v;
}

static json_t *text_or_null(struct cpm_pl a)
{
	return a.n > 0 ? admin_json_text(a) : json_null();
}

/* 0 is "there is none". */
static json_t *date_or_null(uint64_t ms)
{
	char buf[40];
	struct cpm_wr w;

	if(ms == 0)
		return json_null();
	cpm_wr_init(&w, buf, sizeof(buf));
	cpm_time_put_rfc3339(&w, ms);
	return admin_json_text(cpm_wr_pl(&w));
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

struct member
{
	const char *name;
	json_t *value; /* NULL: no memory; the whole object fails */
};

/* Takes the references. */
static json_t *object(const struct member *members, size_t n)
{
	json_t *o = json_object();

	for(size_t i = 0; i < n; i++) {
		/* a NULL value is an error of this call; it frees the value */
		if(json_object_set_new(o, members[i].name, members[i].value) != 0) {
			json_decref(o);
			o = NULL;
		}
	}
	return o;
}

#define OBJECT(members) object(members, sizeof(members) / sizeof(members[0]))

json_t *admin_json_queue(struct cpm_pl user, const struct cpm_queue_stat *s)
{
	const struct member counts[] = {
			{"queued", number(s->queued)},
			{"leased", number(s->leased)},
			{"held", number(s->held)},
			{"dead", number(s->dead)},
	};
	const struct member members[] = {
			{"user", admin_json_text(user)},
			{"messages", number(s->messages)},
			{"bytes", number(s->bytes)},
			{"oldest", date_or_null(s->oldest_ms)},
			{"newest", date_or_null(s->newest_ms)},
			{"state_counts", OBJECT(counts)},
	};
	return OBJECT(members);
}

static json_t *base64(struct cpm_pl a)
{
	size_t cap = ADMIN_BASE64_LEN(a.n) + 1;
	char *buf = malloc(cap);
	struct cpm_wr w;
	json_t *v;

	if(buf == NULL)
		return NULL;
	cpm_wr_init(&w, buf, cap);
	admin_base64_put(&w, a);
	v = json_stringn(buf, w.n);
	free(buf);
	return v;
}

json_t *admin_json_message(const struct cpm_queue_item *item, bool body)
{
	const struct cpm_msg *m = &item->msg;
	const struct member members[] = {
			{"id", admin_json_text(m->id)},
			{"state", json_string(cpm_state_name(item->state))},
			{"from", admin_json_text(m->from)},
			{"to", admin_json_text(m->to)},
			{"subject", text_or_null(m->subject)},
			{"content_type", text_or_null(m->content_type)},
			{"size", number(m->body_len)},
			{"received", date_or_null(m->received_ms)},
			{"expires", date_or_null(m->expires_ms)},
			{"attempts", number(item->attempts)},
			{"next_attempt", date_or_null(item->next_attempt_ms)},
			{"last_error", text_or_null(item->last_error)},
			{"conversation_id", text_or_null(m->conversation_id)},
			{"contribution_id", text_or_null(m->contribution_id)},
	};
	json_t *o = OBJECT(members);

	if(o != NULL && body && json_object_set_new(o, "body", base64(m->body))) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

json_t *admin_json_letter(const struct cpm_queue_item *item)
{
	json_t *o = admin_json_message(item, false);

	if(o != NULL
			&& json_object_set_new(o, "user", admin_json_text(item->msg.aor))) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

json_t *admin_json_job(const struct cpm_job *job)
{
	const struct member members[] = {
			{"kind", json_string(cpm_job_kind_name(job->kind))},
			{"user", admin_json_text(job->aor)},
			{"id", admin_json_text(job->id)},
			{"state", json_string(cpm_job_state_name(job->state))},
			{"due", date_or_null(job->state != CPM_JOB_DEAD ? job->due_ms : 0)},
			{"attempts", number(job->attempts)},
			{"last_error", text_or_null(job->last_error)},
	};
	return OBJECT(members);
}

json_t *admin_json_page(json_t *items, struct cpm_pl next)
{
	const struct member members[] = {
			{"items", items},
			{"next", text_or_null(next)},
	};
	return OBJECT(members);
}

json_t *admin_json_problem(
		unsigned status, const char *title, const char *detail)
{
	const struct member members[] = {
			{"type", json_string("about:blank")},
			{"title", json_string(title)},
			{"status", number(status)},
			{"detail", admin_json_text(cpm_pl_str(detail))},
	};
	return OBJECT(members);
}
