/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * client_helper.h - what the tests of io_redis share: short ways to say a
 * command, and a server that answers what a test wants.
 *
 * runs in:  test programs; a mock has a thread of its own
 */

#ifndef CLIENT_HELPER_H
#define CLIENT_HELPER_H

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check_helpers.h"
#include "io_redis.h"
#include "redis_helper.h"

/* where no time-out is meant to happen, none does on a slow machine */
#define PATIENT_MS 10000

/* What doc/redis.md says that the ACL user needs, for the prefix "t". */
#define LEAST_RIGHTS                                                         \
	"~t:* +@read +@write +@scripting +time +ping +select +info +config|get " \
	"+wait +role +cluster|slots +asking"

/* "127.0.0.1:port", with these time-outs. */
struct io_redis *client_at(unsigned port, unsigned connect_ms, unsigned cmd_ms);
struct io_redis *patient(unsigned port);

/* From a server string, with PATIENT_MS. */
struct io_redis *client_with(const char *text);

/* A command, its words split at spaces. */
int run(struct io_redis *r, const char *line, redisReply **reply_r);
int add(struct io_redis *r, const char *line);

/* The result, and the answer as text: "(nil)", "[elements]". */
int ask(struct io_redis *r, const char *line, char *text, size_t cap);
int get_text(struct io_redis *r, char *text, size_t cap);

#define ck_rc(r, rc, want)                                                   \
	do {                                                                     \
		int rc_ = (rc);                                                      \
		ck_assert_msg(rc_ == (want), "%s and not %s (%s)", cpm_rc_name(rc_), \
				cpm_rc_name(want), io_redis_error(r));                       \
	} while(0)

#define ck_answer(r, line, want)                                              \
	do {                                                                      \
		char got_[256];                                                       \
		int rc_ = ask((r), (line), got_, sizeof(got_));                       \
		ck_assert_msg(rc_ == CPM_OK, "%s: %s (%s)", (line), cpm_rc_name(rc_), \
				io_redis_error(r));                                           \
		ck_assert_str_eq(got_, (want));                                       \
	} while(0)

#define ck_fails(r, line, want)                                             \
	do {                                                                    \
		char got_[256];                                                     \
		ck_assert_str_eq(cpm_rc_name(ask((r), (line), got_, sizeof(got_))), \
				cpm_rc_name(want));                                         \
		ck_assert_str_ne(io_redis_error(r), "");                            \
	} while(0)

#define ck_error_has(r, text)                                        \
	ck_assert_msg(strstr(io_redis_error((r)), (text)) != NULL, "%s", \
			io_redis_error((r)))

/* Puts one message with this id into a user's queue, with prefix "t"; *word:
 * what the script said. */
int put_for(struct io_redis *r, const char *aor, const char *id, bool durable,
		char *word, size_t cap);

/* The queue's statistics: a script that only reads. */
int stat_for(struct io_redis *r, const char *aor, redisReply **reply_r);
int stat_add_for(struct io_redis *r, const char *aor);

/* Whether the message is in the queue, seen by whoever r speaks with. */
bool has_message(struct io_redis *r, const char *aor, const char *id);

/* ------------------------------------------------------------- a mock server */

#define MOCK_CLIENTS_MAX 16

struct mock
{
	unsigned port;
	/* Writes the answer to a command, in RESP; n bytes of it. */
	size_t (*answer)(
			struct mock *m, const redisReply *cmd, char *out, size_t cap);
	const char *text; /* for the function above */
	atomic_int mode;
	atomic_int commands; /* that were answered */
	int listener;
	int fd[MOCK_CLIENTS_MAX];
	redisReader *reader[MOCK_CLIENTS_MAX];
	pthread_t thread;
	atomic_bool stop;
};

/* Listens on a free port of 127.0.0.1; answer and text are set before. */
void mock_start(struct mock *m);
void mock_stop(struct mock *m);

bool mock_is(const redisReply *cmd, size_t i, const char *word);

/* AUTH, SELECT, ROLE, SCRIPT LOAD; 0: is none of these. */
size_t mock_handshake(const redisReply *cmd, char *out, size_t cap);

#endif
