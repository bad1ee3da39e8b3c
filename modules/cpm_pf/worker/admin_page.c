/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin_page_data.h"

/* What a message says is shown by a script that makes text nodes only. Were it
 * ever to make more of it: nothing that is not a file of ours runs, is loaded
 * or is asked, no text becomes markup (Trusted Types), and nobody puts the
 * page into a frame of theirs. */
static const char policy[] =
		"default-src 'none'; script-src 'self'; style-src 'self'; "
		"connect-src 'self'; img-src 'self'; frame-ancestors 'none'; "
		"base-uri 'none'; form-action 'none'; "
		"require-trusted-types-for 'script'; trusted-types 'none'";

static const struct file
{
	const char *path;
	const char *type;
	const char *bytes;
	size_t len;
} files[] = {
#define FILE_OF(name) name, sizeof(name) - 1
		{"/", "text/html; charset=utf-8", FILE_OF(page_index_html)},
		{"/style.css", "text/css; charset=utf-8", FILE_OF(page_style_css)},
		{"/app.js", "text/javascript; charset=utf-8", FILE_OF(page_app_js)},
		{"/icon.svg", "image/svg+xml", FILE_OF(page_icon_svg)},
#undef FILE_OF
};

#define FILES (sizeof(files) / sizeof(files[0]))

static const struct file *find(struct cpm_pl path)
{
	for(size_t i = 0; i < FILES; i++) {
		if(cpm_pl_eq(path, cpm_pl_str(files[i].path)))
			return &files[i];
	}
	return NULL;
}

bool admin_page_has(struct cpm_pl path)
{
	return find(path) != NULL;
}

/* An entity tag (RFC 9110, 8.8.3) that changes when the file does. */
static void etag_of(const struct file *file, char *buf, size_t cap)
{
	uint64_t hash = cpm_hash64(CPM_HASH_INIT, cpm_pl(file->bytes, file->len));

	(void)snprintf(buf, cap, "\"%016" PRIx64 "\"", hash);
}

static const char *right_name(enum admin_right right)
{
	return right == ADMIN_WRITE	 ? "read-write"
		   : right == ADMIN_READ ? "read"
								 : "none";
}

static bool add(
		struct MHD_Response *response, const char *name, const char *value)
{
	return MHD_add_response_header(response, name, value) == MHD_YES;
}

/* no-cache: kept, and asked for again each time by its tag, so that a new
 * version never meets the script of an old one. */
static bool add_headers(struct MHD_Response *response, const struct file *file,
		const char *etag, enum admin_right right)
{
	return add(response, "Content-Type", file->type)
		   && add(response, "ETag", etag)
		   && add(response, "Cache-Control", "no-cache")
		   && add(response, "Content-Security-Policy", policy)
		   && add(response, "X-Content-Type-Options", "nosniff")
		   && add(response, "X-Frame-Options", "DENY")
		   && add(response, "Referrer-Policy", "no-referrer")
		   && add(response, "Cross-Origin-Resource-Policy", "same-origin")
		   && add(response, ADMIN_PAGE_RIGHT, right_name(right));
}

/* If-None-Match = "*" / #entity-tag, compared weakly (RFC 9110, 13.1.2). */
static bool client_has(struct MHD_Connection *con, const char *etag)
{
	struct cpm_pl list = cpm_pl_str(
			MHD_lookup_connection_value(con, MHD_HEADER_KIND, "If-None-Match"));

	while(list.n > 0) {
		struct cpm_pl tag = cpm_pl_trim(cpm_pl_cut(&list, ','));
		if(cpm_pl_starts(tag, CPM_PL_LIT("W/")))
			tag = cpm_pl_from(tag, 2);
		if(cpm_pl_eq(tag, cpm_pl_str(etag)) || cpm_pl_eq(tag, CPM_PL_LIT("*")))
			return true;
	}
	return false;
}

static enum MHD_Result queue(struct MHD_Connection *con,
		struct MHD_Response *response, bool good, unsigned status)
{
	enum MHD_Result result = MHD_NO;

	if(response == NULL)
		return MHD_NO;
	if(good)
		result = MHD_queue_response(con, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result reply_method(struct MHD_Connection *con)
{
	struct admin_answer an;
	struct MHD_Response *response;

	memset(&an, 0, sizeof(an));
	if(admin_api_problem(&an, 405, "this path allows GET, HEAD") != CPM_OK)
		return MHD_NO;
	response = MHD_create_response_from_buffer(
			an.body_len, an.body, MHD_RESPMEM_MUST_FREE);
	if(response == NULL) {
		free(an.body);
		return MHD_NO;
	}
	return queue(con, response,
			add(response, "Content-Type", an.type)
					&& add(response, "Allow", "GET, HEAD")
					&& add(response, "Cache-Control", "no-store")
					&& add(response, "X-Content-Type-Options", "nosniff"),
			405);
}

enum MHD_Result admin_page_reply(
		struct MHD_Connection *con, const struct admin_request *rq)
{
	const struct file *file = find(rq->path);

	if(file == NULL)
		return MHD_NO;
	if(!cpm_pl_eq(rq->method, CPM_PL_LIT("GET"))
			&& !cpm_pl_eq(rq->method, CPM_PL_LIT("HEAD")))
		return reply_method(con);
	char etag[24];
	etag_of(file, etag, sizeof(etag));
	bool has = client_has(con, etag);
	/* the cast: libmicrohttpd takes no constant, and writes nothing there */
	struct MHD_Response *response =
			MHD_create_response_from_buffer(has ? 0 : file->len,
					(void *)(uintptr_t)file->bytes, MHD_RESPMEM_PERSISTENT);
	return queue(con, response,
			response != NULL && add_headers(response, file, etag, rq->right),
			has ? 304 : 200);
}
