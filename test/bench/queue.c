/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * queue.c - fills queues as the module does: by its code and its scripts.
 *
 *     queue PORT USERS MESSAGES PROCESSES
 *
 * runs in:  benchmarks (queue.py builds it)
 * owns:     PROCESSES children with one connection each
 *
 * MESSAGES messages (as sipload sends them: text, 100 bytes) for each of the
 * users f0..f<USERS-1>@example.org of the Redis on 127.0.0.1. Each goes
 * through cpm_flow_accept() and the put script, one call a message; several
 * processes keep Redis busy. Queues are to be looked at again in a day, as if
 * somebody had looked already and found no client.
 *
 * Prints nothing; exits with 1 if a message was not queued.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "cpm_flow.h"
#include "io_clock.h"
#include "io_queue.h"

#ifndef BODY_BYTES
#define BODY_BYTES 100
#endif
#define DAY_MS 86400000u
#define PROCESSES_MAX 64

static int port_put(
		void *ctx, const struct cpm_put *put, struct cpm_put_result *r_r)
{
	return io_queue_put(ctx, put, r_r);
}

/* What snprintf wrote; the buffers below are large enough. */
static struct cpm_pl text(const char *buf, int n)
{
	return cpm_pl(buf, n > 0 ? (size_t)n : 0);
}

static bool put(struct io_queue *q, unsigned long user, unsigned long number)
{
	static const struct cpm_pl domain = {"example.org", 11};
	const struct cpm_accept_ports ports = {q, port_put};
	const struct cpm_accept_conf conf = {.message_max_bytes = 65536,
			.default_expires_s = 604800,
			.max_expires_s = 2592000,
			.check_in_ms = DAY_MS,
			.queued_code = 202,
			.call_id_host = domain,
			.domains = &domain,
			.domain_count = 1};
	static char body[BODY_BYTES];
	char uri[64], to[64], tag[32], call_id[64], scratch[8192];
	struct cpm_outcome out;

	memset(body, 'x', sizeof(body));
	const struct cpm_accept_in in = {
			.request_uri = text(uri,
					snprintf(uri, sizeof(uri), "sip:f%lu@example.org", user)),
			.to = text(to,
					snprintf(to, sizeof(to), "<sip:f%lu@example.org>", user)),
			.from = CPM_PL_LIT("<sip:alice@example.org>"),
			.from_tag = text(tag,
					snprintf(tag, sizeof(tag), "fill%lx.%lx", user, number)),
			.call_id = text(
					call_id, snprintf(call_id, sizeof(call_id),
									 "fill-%lx-%lx@127.0.0.1", user, number)),
			.cseq = CPM_PL_LIT("1"),
			.content_type = CPM_PL_LIT("text/plain"),
			.originator = CPM_PL_LIT("sip:alice@example.org"),
			.headers = CPM_PL_LIT("Content-Type: text/plain\r\n"),
			.body = cpm_pl(body, sizeof(body))};
	if(cpm_accept_scratch(&in) > sizeof(scratch))
		return false;
	if(cpm_flow_accept(&ports, &conf, &in, io_clock_wall_ms(), scratch,
			   sizeof(scratch), &out)
			== 1)
		return true;
	(void)fprintf(stderr, "queue: %s: %s\n", out.why, io_queue_error(q));
	return false;
}

/* Every users/processes-th user: round by round, as messages come in. */
static bool fill(unsigned port, unsigned long users, unsigned long messages,
		unsigned long self, unsigned long processes)
{
	struct io_redis_conf conf = {
			.connect_timeout_ms = 10000, .cmd_timeout_ms = 30000};

	if(io_redis_conf_parse(CPM_PL_NULL, &conf, NULL) != CPM_OK)
		return false;
	conf.port = port;
	struct io_queue *q = io_queue_new(&conf, CPM_PL_LIT("cpm"));
	bool ok = q != NULL;
	for(unsigned long n = 0; ok && n < messages; n++) {
		for(unsigned long u = self; ok && u < users; u += processes)
			ok = put(q, u, n);
	}
	io_queue_free(&q);
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t v[4];
	int status, failed = 0;

	if(argc != 5)
		return 2;
	for(int i = 0; i < 4; i++) {
		if(cpm_pl_u64(cpm_pl_str(argv[i + 1]), UINT32_MAX, &v[i]) != CPM_OK)
			return 2;
	}
	if(v[0] > 65535 || v[3] == 0 || v[3] > PROCESSES_MAX)
		return 2;
	for(uint64_t i = 0; i < v[3]; i++) {
		pid_t pid = fork();
		if(pid < 0)
			return 1;
		if(pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(fill((unsigned)v[0], v[1], v[2], i, v[3]) ? 0 : 1);
		}
	}
	while(wait(&status) > 0)
		failed |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	return failed;
}
