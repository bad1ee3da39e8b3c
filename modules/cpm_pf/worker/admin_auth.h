/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_auth.h - who may do what: the token file.
 *
 * runs in:  cpm_pf_worker
 *
 *     # one token a line
 *     read        2b61c0a9e0...
 *     read-write  77f3d8...
 */

#ifndef ADMIN_AUTH_H
#define ADMIN_AUTH_H

#include "../core/cpm_base.h"

#define ADMIN_TOKENS_MAX 64
#define ADMIN_TOKEN_MAX 255

enum admin_right
{
	ADMIN_NOTHING,
	ADMIN_READ,
	ADMIN_WRITE, /* and read */
};

struct admin_tokens
{
	size_t n;
	struct
	{
		enum admin_right right;
		/* zero-filled, its length last: compared as a whole */
		unsigned char text[ADMIN_TOKEN_MAX + 1];
	} token[ADMIN_TOKENS_MAX];
};

/* CPM_OK; CPM_EPROTO: why tells, without any token. */
int admin_tokens_parse(struct cpm_pl text, struct admin_tokens *tokens_r,
		char *why, size_t cap);
int admin_tokens_load(
		const char *path, struct admin_tokens *tokens_r, char *why, size_t cap);

/* What the bearer of an Authorization header may do. header: its value, or
 * empty. Takes the same time for every wrong token. */
enum admin_right admin_tokens_right(
		const struct admin_tokens *tokens, struct cpm_pl header);

#endif
