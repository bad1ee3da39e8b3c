/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "worker_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include "../io/io_clock.h"

#define LIMIT_LINES 5
#define LIMIT_MS 10000

static bool use_syslog;

static const struct
{
	const char *word; /* as Kamailio spells it */
	int priority;
} levels[] = {
		[WORKER_ERROR] = {"ERROR", LOG_ERR},
		[WORKER_WARN] = {"WARNING", LOG_WARNING},
		[WORKER_NOTICE] = {"NOTICE", LOG_NOTICE},
};

void worker_log_open(bool to_syslog, const char *ident)
{
	use_syslog = to_syslog;
	if(to_syslog)
		openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void worker_log(enum worker_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* one call, so that lines of several processes do not mix */
	if(use_syslog)
		syslog(levels[level].priority, "%s: cpm_pf: %s", levels[level].word,
				line);
	else
		(void)fprintf(stderr, "%s: cpm_pf: %s\n", levels[level].word, line);
}

bool worker_log_may(struct worker_log_limit *limit, unsigned *left_out_r)
{
	uint64_t now = io_clock_mono_ms();

	if(limit->since_ms == 0 || now - limit->since_ms >= LIMIT_MS) {
		limit->since_ms = now;
		limit->lines = 0;
	}
	if(limit->lines >= LIMIT_LINES) {
		limit->left_out++;
		return false;
	}
	limit->lines++;
	*left_out_r = limit->left_out;
	limit->left_out = 0;
	return true;
}

const char *worker_log_escape(struct cpm_pl a, char *buf, size_t cap)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for(size_t i = 0; i < a.n && n + 4 < cap; i++) {
		unsigned char c = (unsigned char)a.p[i];
		if(c > ' ' && c < 0x7f && c != '\\' && c != '=' && c != '"') {
			buf[n++] = (char)c;
			continue;
		}
		buf[n++] = '\\';
		buf[n++] = hex[c >> 4];
		buf[n++] = hex[c & 15];
	}
	buf[n] = '\0';
	return buf;
}
