/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * queue_seed.c - fills queues by the very code that the module uses.
 *
 *     queue_seed PORT PREFIX <commands
 *
 * runs in:  tests of what reads queues (test_admin_http.py builds it)
 *
 * One command a line, words in hex ("-" is the empty word):
 *
 *     put AOR ID RECEIVED_MS EXPIRES_MS FROM TO SUBJECT CONTENT_TYPE
 *         CONVERSATION CONTRIBUTION BODY
 *     lease AOR TOKEN MS
 *     retry AOR ID TOKEN ERROR MS
 *     dead AOR ID TOKEN ERROR
 *     delivered AOR ID TOKEN
 *     interwork AOR ID
 *     hold AOR ID
 *     discard AOR ID
 *     jobdo AOR -
 *     jobdead AOR ID
 *
 * Prints a line for each; exits with 1 at the first that fails.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io_jobs.h"

#define WORDS_MAX 12
#define LINE_BYTES (4 * 1024 * 1024)

struct words
{
	size_t n;
	struct cpm_pl v[WORDS_MAX];
};

static int digit(char c)
{
	return c >= '0' && c <= '9'	  ? c - '0'
		   : c >= 'a' && c <= 'f' ? c - 'a' + 10
								  : 0;
}

/* In place. The first word is no hex. */
static void read_words(char *line, struct words *w)
{
	struct cpm_pl rest = cpm_pl_trim(cpm_pl_str(line));

	for(w->n = 0; rest.n > 0 && w->n < WORDS_MAX; w->n++) {
		size_t at = (size_t)(rest.p - line), n = 0;
		struct cpm_pl word = cpm_pl_cut(&rest, ' ');
		for(; w->n > 0 && word.n > 1 && n < word.n / 2; n++)
			line[at + n] = (char)(digit(line[at + 2 * n]) * 16
								  + digit(line[at + 2 * n + 1]));
		w->v[w->n] = cpm_pl(line + at, w->n > 0 ? n : word.n);
	}
}

static uint64_t num(struct cpm_pl a)
{
	uint64_t v = 0;

	(void)cpm_pl_u64(a, UINT64_MAX, &v);
	return v;
}

static int do_put(struct io_queue *q, const struct words *w)
{
	struct cpm_msg m = {.aor = w->v[1],
			.id = w->v[2],
			.call_id = w->v[2],
			.received_ms = num(w->v[3]),
			.expires_ms = num(w->v[4]),
			.from = w->v[5],
			.to = w->v[6],
			.subject = w->v[7],
			.content_type = w->v[8],
			.conversation_id = w->v[9],
			.contribution_id = w->v[10],
			.body = w->v[11],
			.body_len = w->v[11].n};
	struct cpm_put_result result = {.status = CPM_PUT_CONFLICT};
	struct cpm_wr wr;

	m.fingerprint = cpm_msg_fingerprint(&m);
	size_t cap = cpm_msg_encoded_len(&m);
	char *blob = malloc(cap);
	if(blob == NULL)
		return CPM_ENOMEM;
	cpm_wr_init(&wr, blob, cap);
	int rc = cpm_msg_encode(&m, &wr, NULL);
	struct cpm_put put = {.aor = m.aor,
			.id = m.id,
			.blob = cpm_wr_pl(&wr),
			.expires_ms = m.expires_ms,
			.check_in_ms = 3600000};
	if(rc == CPM_OK)
		rc = io_queue_put(q, &put, &result);
	free(blob);
	return rc == CPM_OK && result.status != CPM_PUT_QUEUED ? CPM_EEXIST : rc;
}

static int do_lease(struct io_queue *q, const struct words *w)
{
	struct cpm_lease lease;
	int rc = io_queue_lease(
			q, w->v[1], w->v[2], num(w->v[3]), CPM_LEASE_ALL, 0, &lease);

	return rc == CPM_OK && lease.status != CPM_LEASE_OK ? CPM_ENOENT : rc;
}

static int do_settle(
		struct io_queue *q, const struct words *w, enum cpm_settle_how how)
{
	struct cpm_settle settle = {.aor = w->v[1],
			.id = w->v[2],
			.token = w->v[3],
			.how = how,
			.fail_class = CPM_FAIL_MESSAGE,
			.error = how == CPM_SETTLE_DELIVERED ? CPM_PL_NULL : w->v[4],
			.retry_in_ms = how == CPM_SETTLE_RETRY ? num(w->v[5]) : 0,
			.dedup_ms = 60000};
	int rc = io_queue_settle(q, &settle);

	if(rc != CPM_OK)
		return rc;
	return io_queue_release(q, w->v[1], w->v[3], CPM_PL_NULL, 3600000);
}

/* Leases the jobs of a user's shard; one of them is dead then, or all are
 * being done. */
static int do_job(struct io_queue *q, const struct words *w, bool dead)
{
	static struct cpm_job jobs[IO_JOBS_LEASE_MAX];
	unsigned shard = cpm_queue_shard(w->v[1]);
	size_t n = 0;
	int rc = io_jobs_lease(q, &shard, 1, CPM_JOB_ALL, CPM_PL_LIT("seed"),
			600000, IO_JOBS_LEASE_MAX, jobs, &n);

	if(rc != CPM_OK || !dead)
		return rc;
	return io_jobs_settle(q, CPM_JOB_INTERWORK, w->v[1], w->v[2],
			CPM_PL_LIT("seed"), CPM_JOB_GIVE_UP, 0, CPM_PL_LIT("488"));
}

static int run(struct io_queue *q, const struct words *w)
{
	if(w->n == 12 && cpm_pl_eq(w->v[0], CPM_PL_LIT("put")))
		return do_put(q, w);
	if(w->n == 4 && cpm_pl_eq(w->v[0], CPM_PL_LIT("lease")))
		return do_lease(q, w);
	if(w->n == 6 && cpm_pl_eq(w->v[0], CPM_PL_LIT("retry")))
		return do_settle(q, w, CPM_SETTLE_RETRY);
	if(w->n == 5 && cpm_pl_eq(w->v[0], CPM_PL_LIT("dead")))
		return do_settle(q, w, CPM_SETTLE_DEAD);
	if(w->n == 4 && cpm_pl_eq(w->v[0], CPM_PL_LIT("delivered")))
		return do_settle(q, w, CPM_SETTLE_DELIVERED);
	if(w->n == 3 && cpm_pl_eq(w->v[0], CPM_PL_LIT("interwork")))
		return io_queue_discard(q, w->v[1], w->v[2], 60000, CPM_JOB_INTERWORK);
	if(w->n == 3 && cpm_pl_eq(w->v[0], CPM_PL_LIT("hold")))
		return io_queue_turn(q, w->v[1], w->v[2], CPM_STATE_HELD, CPM_PL_NULL);
	if(w->n == 3 && cpm_pl_eq(w->v[0], CPM_PL_LIT("discard")))
		return io_queue_discard(q, w->v[1], w->v[2], 60000, CPM_JOB_NONE);
	if(w->n == 3 && cpm_pl_eq(w->v[0], CPM_PL_LIT("jobdo")))
		return do_job(q, w, false);
	if(w->n == 3 && cpm_pl_eq(w->v[0], CPM_PL_LIT("jobdead")))
		return do_job(q, w, true);
	return CPM_EPROTO;
}

int main(int argc, char **argv)
{
	struct io_redis_conf conf = {
			.connect_timeout_ms = 10000, .cmd_timeout_ms = 10000};
	static char line[LINE_BYTES];
	struct words w;
	uint64_t port;
	int rc = CPM_OK;

	if(argc != 3 || io_redis_conf_parse(CPM_PL_NULL, &conf, NULL) != CPM_OK
			|| cpm_pl_u64(cpm_pl_str(argv[1]), 65535, &port) != CPM_OK)
		return 2;
	conf.port = (unsigned)port;
	struct io_queue *q = io_queue_new(&conf, cpm_pl_str(argv[2]));
	if(q == NULL)
		return 2;
	while(rc == CPM_OK && fgets(line, LINE_BYTES, stdin) != NULL) {
		read_words(line, &w);
		rc = run(q, &w);
		(void)printf("%.*s %s %s\n", (int)w.v[0].n, w.v[0].p, cpm_rc_name(rc),
				rc == CPM_OK ? "" : io_queue_error(q));
	}
	io_queue_free(&q);
	return rc == CPM_OK ? 0 : 1;
}
