/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "admin_auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker_log.h"

#define FILE_MAX 65536

/* In its fixed-size form. False: not 1..ADMIN_TOKEN_MAX visible characters. */
static bool token_fill(struct cpm_pl a, unsigned char *text)
{
	memset(text, 0, ADMIN_TOKEN_MAX + 1);
	if(a.n == 0 || a.n > ADMIN_TOKEN_MAX)
		return false;
	for(size_t i = 0; i < a.n; i++) {
		if(a.p[i] <= ' ' || a.p[i] >= 0x7f)
			return false;
		text[i] = (unsigned char)a.p[i];
	}
	text[ADMIN_TOKEN_MAX] = (unsigned char)a.n;
	return true;
}

/* Cuts the first word off. */
static struct cpm_pl word(struct cpm_pl *rest)
{
	size_t n = 0;

	while(n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
		n++;
	struct cpm_pl w = cpm_pl(rest->p, n);
	*rest = cpm_pl_trim(cpm_pl_from(*rest, n));
	return w;
}

int admin_tokens_parse(struct cpm_pl text, struct admin_tokens *tokens_r,
		char *why, size_t cap)
{
	unsigned number = 0;

	memset(tokens_r, 0, sizeof(*tokens_r));
	while(text.n > 0) {
		struct cpm_pl line = cpm_pl_trim(cpm_pl_cut(&text, '\n'));
		number++;
		if(line.n == 0 || line.p[0] == '#')
			continue;
		if(tokens_r->n == ADMIN_TOKENS_MAX) {
			(void)snprintf(why, cap, "more than %d tokens", ADMIN_TOKENS_MAX);
			return CPM_EPROTO;
		}
		struct cpm_pl right = word(&line);
		tokens_r->token[tokens_r->n].right =
				cpm_pl_eq(right, CPM_PL_LIT("read"))		 ? ADMIN_READ
				: cpm_pl_eq(right, CPM_PL_LIT("read-write")) ? ADMIN_WRITE
															 : ADMIN_NOTHING;
		if(tokens_r->token[tokens_r->n].right == ADMIN_NOTHING
				|| !token_fill(line, tokens_r->token[tokens_r->n].text)) {
			(void)snprintf(why, cap,
					"line %u is not \"read TOKEN\" or \"read-write TOKEN\"",
					number);
			return CPM_EPROTO;
		}
		tokens_r->n++;
	}
	if(tokens_r->n > 0)
		return CPM_OK;
	(void)snprintf(why, cap, "there is no token in it");
	return CPM_EPROTO;
}

int admin_tokens_load(
		const char *path, struct admin_tokens *tokens_r, char *why, size_t cap)
{
	static char text[FILE_MAX]; /* at start only, one thread */
	size_t n = 0;
	ssize_t got = -1;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if(fd >= 0) {
		while(n < sizeof(text)
				&& (got = read(fd, text + n, sizeof(text) - n)) > 0)
			n += (size_t)got;
		if(got == 0 && fstat(fd, &st) == 0 && (st.st_mode & S_IROTH) != 0)
			worker_log(WORKER_WARN, "admin: token-file-readable-by-all path=%s",
					path);
	}
	int err = errno;
	if(fd >= 0)
		close(fd);
	if(got != 0) {
		(void)snprintf(why, cap, "%s",
				n == sizeof(text) ? "it is too large" : strerror(err));
		return CPM_EPROTO;
	}
	int rc = admin_tokens_parse(cpm_pl(text, n), tokens_r, why, cap);
	explicit_bzero(text, sizeof(text));
	return rc;
}

enum admin_right admin_tokens_right(
		const struct admin_tokens *tokens, struct cpm_pl header)
{
	unsigned char given[ADMIN_TOKEN_MAX + 1];
	enum admin_right right = ADMIN_NOTHING;
	struct cpm_pl rest = cpm_pl_trim(header);

	if(!cpm_pl_ieq(word(&rest), CPM_PL_LIT("Bearer"))
			|| !token_fill(rest, given))
		return ADMIN_NOTHING;
	/* every byte of every token, whatever was found: the time tells nothing
	 * of how much of a token was right */
	for(size_t i = 0; i < tokens->n; i++) {
		unsigned differs = 0;
		for(size_t j = 0; j < sizeof(given); j++)
			differs |= (unsigned)(given[j] ^ tokens->token[i].text[j]);
		if(differs == 0 && tokens->token[i].right > right)
			right = tokens->token[i].right;
	}
	return right;
}
