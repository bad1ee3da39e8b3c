/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "client_helper.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cpm_msg.h"
#include "cpm_queue.h"

#define LIT CPM_PL_LIT

struct io_redis *client_at(unsigned port, unsigned connect_ms, unsigned cmd_ms)
{
	struct io_redis_conf conf = {
			.connect_timeout_ms = connect_ms, .cmd_timeout_ms = cmd_ms};
	char text[64];

	(void)snprintf(text, sizeof(text), "addr=127.0.0.1;port=%u", port);
	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);
	ck_assert_ptr_nonnull(r);
	return r;
}

struct io_redis *patient(unsigned port)
{
	return client_at(port, PATIENT_MS, PATIENT_MS);
}

struct io_redis *client_with(const char *text)
{
	struct io_redis_conf conf = {
			.connect_timeout_ms = PATIENT_MS, .cmd_timeout_ms = PATIENT_MS};

	ck_assert_int_eq(
			io_redis_conf_parse(cpm_pl_str(text), &conf, NULL), CPM_OK);
	struct io_redis *r = io_redis_new(&conf);
	ck_assert_ptr_nonnull(r);
	return r;
}

static size_t words(const char *line, struct cpm_pl *argv)
{
	struct cpm_pl rest = cpm_pl_str(line);
	size_t n = 0;

	while(rest.n > 0) {
		ck_assert_uint_lt(n, IO_REDIS_ARGS_MAX);
		argv[n++] = cpm_pl_cut(&rest, ' ');
	}
	return n;
}

int run(struct io_redis *r, const char *line, redisReply **reply_r)
{
	struct cpm_pl argv[IO_REDIS_ARGS_MAX];

	return io_redis_command(r, words(line, argv), argv, reply_r);
}

int add(struct io_redis *r, const char *line)
{
	struct cpm_pl argv[IO_REDIS_ARGS_MAX];

	return io_redis_command_add(r, words(line, argv), argv);
}

static int texted(int rc, redisReply *reply, char *text, size_t cap)
{
	text[0] = '\0';
	ck_assert(rc == CPM_OK ? reply != NULL : reply == NULL);
	if(rc != CPM_OK)
		return rc;
	if(reply->type == REDIS_REPLY_INTEGER)
		(void)snprintf(text, cap, "%lld", reply->integer);
	else if(reply->type == REDIS_REPLY_NIL)
		(void)snprintf(text, cap, "(nil)");
	else if(reply->type == REDIS_REPLY_ARRAY)
		(void)snprintf(text, cap, "[%zu]", reply->elements);
	else
		(void)snprintf(text, cap, "%s", reply->str);
	io_redis_reply_free(&reply);
	ck_assert_ptr_null(reply);
	return rc;
}

int ask(struct io_redis *r, const char *line, char *text, size_t cap)
{
	redisReply *reply = NULL;
	int rc = run(r, line, &reply);

	return texted(rc, reply, text, cap);
}

int get_text(struct io_redis *r, char *text, size_t cap)
{
	redisReply *reply = NULL;
	int rc = io_redis_get(r, &reply);

	return texted(rc, reply, text, cap);
}

static void keys_for(struct cpm_queue_keys *k, const char *aor, const char *id)
{
	ck_assert_int_eq(
			cpm_queue_keys_init(k, LIT("t"), cpm_pl_str(aor), cpm_pl_str(id)),
			CPM_OK);
}

int put_for(struct io_redis *r, const char *aor, const char *id, bool durable,
		char *word, size_t cap)
{
	struct cpm_msg m = {.id = cpm_pl_str(id),
			.aor = cpm_pl_str(aor),
			.call_id = LIT("c1@example.org"),
			.from = LIT("<sip:alice@example.org>"),
			.to = LIT("<sip:bob@example.org>"),
			.body = LIT("hello"),
			.body_len = 5,
			.fingerprint = 7};
	struct cpm_queue_keys k;
	char blob[1024];
	struct cpm_wr w;
	redisReply *reply = NULL;

	cpm_wr_init(&w, blob, sizeof(blob));
	ck_assert_int_eq(cpm_msg_encode(&m, &w, NULL), CPM_OK);
	keys_for(&k, aor, id);
	/* what put.lua takes, without any quota */
	const struct cpm_pl args[] = {m.aor, LIT("0"), m.id, cpm_wr_pl(&w),
			LIT("0"), LIT("0"), LIT("0"), LIT("60000"), LIT("0"), LIT("-"),
			LIT("0"), LIT("0"), LIT("-")};
	int rc = durable ? io_redis_eval_durable(r, CPM_SCRIPT_PUT, k.key, k.count,
					 args, FU_N(args), &reply)
					 : io_redis_eval(r, CPM_SCRIPT_PUT, k.key, k.count, args,
							 FU_N(args), &reply);
	word[0] = '\0';
	if(rc == CPM_OK) {
		ck_assert_int_eq(reply->type, REDIS_REPLY_ARRAY);
		(void)snprintf(word, cap, "%s", reply->element[0]->str);
	}
	io_redis_reply_free(&reply);
	return rc;
}

int stat_for(struct io_redis *r, const char *aor, redisReply **reply_r)
{
	struct cpm_queue_keys k;
	const struct cpm_pl args[] = {cpm_pl_str(aor), LIT("0")};

	keys_for(&k, aor, "");
	return io_redis_eval(r, CPM_SCRIPT_STAT, k.key, k.count, args, 2, reply_r);
}

int stat_add_for(struct io_redis *r, const char *aor)
{
	struct cpm_queue_keys k;
	const struct cpm_pl args[] = {cpm_pl_str(aor), LIT("0")};

	keys_for(&k, aor, "");
	return io_redis_eval_add(r, CPM_SCRIPT_STAT, k.key, k.count, args, 2);
}

bool has_message(struct io_redis *r, const char *aor, const char *id)
{
	struct cpm_queue_keys k;
	redisReply *reply = NULL;

	keys_for(&k, aor, "");
	const struct cpm_pl argv[] = {
			LIT("HEXISTS"), k.key[CPM_KEY_M], cpm_pl_str(id)};
	ck_rc(r, io_redis_command(r, 3, argv, &reply), CPM_OK);
	bool yes = reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
	io_redis_reply_free(&reply);
	return yes;
}

/* ------------------------------------------------------------- a mock server */

bool mock_is(const redisReply *cmd, size_t i, const char *word)
{
	return i < cmd->elements && cmd->element[i]->type == REDIS_REPLY_STRING
		   && strcmp(cmd->element[i]->str, word) == 0;
}

size_t mock_handshake(const redisReply *cmd, char *out, size_t cap)
{
	if(mock_is(cmd, 0, "AUTH") || mock_is(cmd, 0, "SELECT"))
		return (size_t)snprintf(out, cap, "+OK\r\n");
	if(mock_is(cmd, 0, "ROLE"))
		return (size_t)snprintf(out, cap, "*1\r\n$6\r\nmaster\r\n");
	if(mock_is(cmd, 0, "SCRIPT"))
		return (size_t)snprintf(out, cap, "$40\r\n%040d\r\n", 0);
	return 0;
}

static void mock_drop(struct mock *m, size_t i)
{
	close(m->fd[i]);
	m->fd[i] = -1;
	redisReaderFree(m->reader[i]);
}

static void mock_serve(struct mock *m, size_t i)
{
	char buf[16384], out[65536];
	ssize_t got = recv(m->fd[i], buf, sizeof(buf), 0);
	void *cmd = NULL;

	if(got <= 0
			|| redisReaderFeed(m->reader[i], buf, (size_t)got) != REDIS_OK) {
		mock_drop(m, i);
		return;
	}
	while(redisReaderGetReply(m->reader[i], &cmd) == REDIS_OK && cmd != NULL) {
		size_t n = m->answer(m, cmd, out, sizeof(out));
		freeReplyObject(cmd);
		cmd = NULL;
		atomic_fetch_add(&m->commands, 1);
		if(n > 0 && send(m->fd[i], out, n, MSG_NOSIGNAL) != (ssize_t)n) {
			mock_drop(m, i);
			return;
		}
	}
}

static void mock_accept(struct mock *m)
{
	int fd = accept(m->listener, NULL, NULL);

	for(size_t i = 0; i < MOCK_CLIENTS_MAX && fd >= 0; i++) {
		if(m->fd[i] >= 0)
			continue;
		m->fd[i] = fd;
		m->reader[i] = redisReaderCreate();
		return;
	}
	if(fd >= 0)
		close(fd);
}

static void *mock_main(void *arg)
{
	struct mock *m = arg;

	while(!atomic_load(&m->stop)) {
		struct pollfd fds[MOCK_CLIENTS_MAX + 1];
		for(size_t i = 0; i < MOCK_CLIENTS_MAX; i++)
			fds[i] = (struct pollfd){.fd = m->fd[i], .events = POLLIN};
		fds[MOCK_CLIENTS_MAX] =
				(struct pollfd){.fd = m->listener, .events = POLLIN};
		if(poll(fds, MOCK_CLIENTS_MAX + 1, 20) <= 0)
			continue;
		for(size_t i = 0; i < MOCK_CLIENTS_MAX; i++) {
			if(m->fd[i] >= 0 && fds[i].revents != 0)
				mock_serve(m, i);
		}
		if(fds[MOCK_CLIENTS_MAX].revents != 0)
			mock_accept(m);
	}
	return NULL;
}

void mock_start(struct mock *m)
{
	struct sockaddr_in addr = {
			.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	m->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(m->listener, 0);
	ck_assert_int_eq(
			bind(m->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(
			getsockname(m->listener, (struct sockaddr *)&addr, &len), 0);
	ck_assert_int_eq(listen(m->listener, 16), 0);
	m->port = ntohs(addr.sin_port);
	for(size_t i = 0; i < MOCK_CLIENTS_MAX; i++)
		m->fd[i] = -1;
	ck_assert_int_eq(pthread_create(&m->thread, NULL, mock_main, m), 0);
}

void mock_stop(struct mock *m)
{
	atomic_store(&m->stop, true);
	pthread_join(m->thread, NULL);
	for(size_t i = 0; i < MOCK_CLIENTS_MAX; i++) {
		if(m->fd[i] >= 0)
			mock_drop(m, i);
	}
	close(m->listener);
}
