/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * queue_helper.h - a queue in a private Redis, in few words.
 *
 * runs in:  test programs, one thread
 * owns:     between begin() and end(): the server, and connections to it
 *
 * Time is given by hand (io_queue_set_now), but for two things that Redis
 * itself forgets by its own clock: the lock of a delivery, and the memory of
 * what was delivered. Where the story needs them gone, they are deleted.
 */

#ifndef QUEUE_HELPER_H
#define QUEUE_HELPER_H

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "check_helpers.h"
#include "io_queue.h"
#include "redis_helper.h"

#define LIT CPM_PL_LIT
#define BOB LIT("sip:bob@example.org")
#define BOBS "sip:bob@example.org"
#define T0 UINT64_C(1700000000000)
#define LEASE_MS 60000
#define DEDUP_MS 300000
#define BODY_MAX 4096

extern struct redis_helper server;
extern struct io_queue *q;
extern struct io_queue *q2;
extern struct io_redis *raw;
extern struct cpm_put_result put_res;
extern struct cpm_lease lease_res;
extern struct cpm_queue_stat stat_res;
extern struct cpm_queue_item items[IO_QUEUE_PAGE_MAX];
extern size_t items_n;
extern uint64_t items_next;

void begin(void);
void end(void);
int expired_next(unsigned shard, struct cpm_msg *m);
int claim_one(unsigned shard, uint64_t claim_ms, size_t limit,
		struct cpm_pl *users, size_t *n);
struct redisReply *qask(const char *fmt, ...)
		__attribute__((format(printf, 1, 2)));
int64_t integer(struct redisReply *reply);
int64_t number(struct redisReply *reply);
const char *key(enum cpm_queue_key which, const char *aor);
unsigned number_in(struct cpm_pl name);
struct cpm_pl blob_of(struct cpm_pl aor, struct cpm_pl id, struct cpm_pl body,
		uint64_t expires_ms);
int put_full(struct cpm_pl aor, struct cpm_pl id, struct cpm_pl body,
		uint64_t expires_ms, uint64_t max_messages, uint64_t max_bytes);
int put(const char *id, const char *body);
int lease(const char *token, enum cpm_lease_force force);
int settle_full(struct cpm_pl aor, const char *token, const char *id,
		enum cpm_settle_how how, char fail_class, uint64_t retry_in_ms);
int delivered(const char *token, const char *id);
int retry(const char *token, const char *id, char fail_class,
		uint64_t retry_in_ms);
int release(const char *token, const char *unsent);
uint64_t count(void);
int list(uint64_t after, size_t limit, char state);
void ck_nothing_left(void);
void lock_expire(void);
void damage(const char *text);

#define tell(...)                                  \
	do {                                           \
		struct redisReply *r_ = qask(__VA_ARGS__); \
		io_redis_reply_free(&r_);                  \
	} while(0)

#define ck_leased(token, id_, attempt_)                                     \
	do {                                                                    \
		ck_assert_int_eq(lease((token), CPM_LEASE_WHEN_DUE), CPM_LEASE_OK); \
		ck_pl_eq(lease_res.msg.id, (id_));                                  \
		ck_assert_uint_eq(lease_res.attempt, (attempt_));                   \
	} while(0)

#endif
