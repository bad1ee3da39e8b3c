/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * cpm_stats.h - the counters, one list for statistics, RPC and /metrics.
 *
 * runs in:  every process; the page is shared memory, the counters atomic
 * owns:     nothing; pf_mod makes the page, workers map it
 *
 * X(name, kind, help): kind C counter, G gauge. Append only: the page's
 * layout is part of the contract between module and worker, guarded by
 * CPM_STATS_COUNT_.
 *
 * Behind the counters are the histograms: X(name, unit, help, bounds...). What
 * is observed is a whole number of a unit, of which `unit` make one of what
 * Prometheus reads (1000: ms for seconds); bounds are in that unit, inclusive.
 */

#ifndef CPM_STATS_H
#define CPM_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#define CPM_STATS_LIST(X)                                                    \
	X(received, 'C', "Messages given to cpm_queue")                          \
	X(queued, 'C', "Messages written to the queue")                          \
	X(duplicate, 'C', "Messages that were queued or delivered already")      \
	X(refused, 'C', "Messages refused for what they are")                    \
	X(quota_refused, 'C', "Messages refused by a quota")                     \
	X(delivered_message, 'C', "Queued messages delivered by SIP MESSAGE")    \
	X(delivery_failed, 'C', "Delivery attempts that failed")                 \
	X(expired, 'C', "Queued messages that expired")                          \
	X(dead, 'C', "Queued messages given up after max_attempts")              \
	X(store_failures, 'C', "Messages answered 503 because of the store")     \
	X(redis_errors, 'C', "Failed or refused Redis commands")                 \
	X(redis_up, 'G', "1 if the last Redis command succeeded")                \
	X(hints_lost, 'C', "Hints that found a full socket (cost latency only)") \
	X(worker_restarts, 'C', "Restarts of cpm_pf_worker processes")           \
	X(unauthorised, 'C', "Messages whose sender was refused")                \
	X(rejected, 'C', "Messages that policy or preference rejected")          \
	X(unknown, 'C', "Messages for unknown or disabled recipients")           \
	X(undecided, 'C',                                                        \
			"Messages answered 503 because nothing could be decided")        \
	X(prefs_hits, 'C', "Preferences found in the cache")                     \
	X(prefs_misses, 'C', "Preferences not in the cache, or too old there")   \
	X(db_failures, 'C', "Failed connections and queries to the database")    \
	X(db_up, 'G', "1 if the last query to the database succeeded")           \
	X(dropped, 'C',                                                          \
			"Queued messages dropped to make room (overflow drop_oldest)")   \
	X(store_jobs, 'C', "Messages handed to the message store's jobs")        \
	X(msrp_sessions, 'C', "MSRP sessions that were prepared")                \
	X(msrp_connections, 'G', "MSRP connections that are open")               \
	X(msrp_refused, 'C', "MSRP connections and requests that were refused")  \
	X(msrp_messages, 'C', "Messages that MSRP peers have taken")             \
	X(delivered_msrp, 'C', "Queued messages delivered in MSRP sessions")     \
	X(sessions, 'C', "Sessions in which queued messages were brought")       \
	X(pulls, 'C', "Sessions in which clients fetched queued messages")       \
	X(pulls_refused, 'C', "Fetching sessions that were refused")             \
	X(retrieved, 'C', "Queued messages fetched by their users")              \
	X(discarded, 'C', "Queued messages removed by their users")              \
	X(held, 'C', "Queued messages kept back by their users")                 \
	X(imdn_sent, 'C', "Disposition notifications queued or sent")            \
	X(interworked, 'C', "Queued messages handed to the ISF")                 \
	X(interwork_failed, 'C', "Requests to the ISF that failed")              \
	X(notified, 'C', "NOTIFY requests that clients have taken")              \
	X(notify_failed, 'C', "NOTIFY requests that failed, or were refused")    \
	X(subscribed, 'C', "SUBSCRIBE requests that were taken")                 \
	X(stored, 'C', "Messages put into the Message Storage Server")           \
	X(store_retries, 'C', "Deposits that failed, to be tried again")         \
	X(store_dead, 'C', "Deposits that were given up")                        \
	X(record_failures, 'C',                                                  \
			"Messages delivered without a record that was asked for")        \
	X(jobs_done, 'C', "Jobs that couriers have done")                        \
	X(jobs_retried, 'C', "Jobs of couriers that failed, to be tried again")  \
	X(jobs_dead, 'C', "Jobs that couriers gave up")                          \
	X(pushed, 'C', "Pushes that the push gateway has taken")                 \
	X(push_failed, 'C', "Pushes that failed, or were refused")               \
	X(reg_subscribed, 'C', "SUBSCRIBE requests that registrars have taken")  \
	X(reg_failed, 'C', "SUBSCRIBE requests that failed, or were refused")    \
	X(reg_notified, 'C', "Registration events that were taken")              \
	X(reg_refused, 'C', "Registration events that were refused")             \
	X(reg_subscriptions, 'G', "Subscriptions to registration events")

#define CPM_HISTS_LIST(X)                                                      \
	X(delivered_after_seconds, 1000,                                           \
			"Seconds from a message's reception to its delivery by the "       \
			"queue",                                                           \
			1000, 5000, 30000, 60000, 300000, 1800000, 3600000, 21600000,      \
			86400000, 259200000, 604800000)                                    \
	X(delivered_attempts, 1, "Attempts that delivered messages took", 1, 2, 3, \
			4, 5, 8, 12, 20, 50)                                               \
	X(redis_command_seconds, 1000000,                                          \
			"Seconds that calls of Redis by processes of Kamailio took", 250,  \
			500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000,        \
			500000)

enum cpm_stat
{
#define CPM_STATS_ENUM(name, kind, help) CPM_STAT_##name,
	CPM_STATS_LIST(CPM_STATS_ENUM)
#undef CPM_STATS_ENUM
			CPM_STATS_COUNT_
};

enum cpm_hist
{
#define CPM_HISTS_ENUM(name, unit, help, ...) CPM_HIST_##name,
	CPM_HISTS_LIST(CPM_HISTS_ENUM)
#undef CPM_HISTS_ENUM
			CPM_HISTS_COUNT_
};

#define CPM_HIST_BOUNDS 14 /* at most; the bucket behind the last has none */

/* Buckets are not cumulative here, so that what is observed changes one. */
struct cpm_hist_values
{
	_Atomic uint64_t bucket[CPM_HIST_BOUNDS + 1];
	_Atomic uint64_t sum;
};

struct cpm_stats
{
	uint32_t magic; /* CPM_STATS_MAGIC */
	uint32_t count; /* CPM_STATS_COUNT_ */
	_Atomic uint64_t v[CPM_STATS_COUNT_];
	struct cpm_hist_values hist[CPM_HISTS_COUNT_];
};

#define CPM_STATS_MAGIC 0x43504d31u

static inline void cpm_stat_add(
		struct cpm_stats *s, enum cpm_stat i, uint64_t by)
{
	atomic_fetch_add_explicit(&s->v[i], by, memory_order_relaxed);
}

static inline void cpm_stat_set(
		struct cpm_stats *s, enum cpm_stat i, uint64_t v)
{
	atomic_store_explicit(&s->v[i], v, memory_order_relaxed);
}

static inline uint64_t cpm_stat_get(const struct cpm_stats *s, enum cpm_stat i)
{
	return atomic_load_explicit(&s->v[i], memory_order_relaxed);
}

/* Name and help text, for lists. */
struct cpm_stat_info
{
	const char *name;
	char kind; /* 'C' or 'G' */
	const char *help;
};
extern const struct cpm_stat_info cpm_stat_infos[CPM_STATS_COUNT_];

struct cpm_hist_info
{
	const char *name;
	uint32_t unit;
	const char *help;
	uint32_t bounds[CPM_HIST_BOUNDS + 1]; /* growing; 0: no more */
};
extern const struct cpm_hist_info cpm_hist_infos[CPM_HISTS_COUNT_];

void cpm_hist_observe(struct cpm_stats *s, enum cpm_hist i, uint64_t value);

#endif
