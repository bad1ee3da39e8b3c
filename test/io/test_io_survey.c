/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * test_io_survey.c - what is warned of, and what is not.
 */

#include "io_survey.h"

#include "check_helpers.h"
#include "cpm_wr.h"

static const struct
{
	struct io_redis_server server;
	const char *words;
} rows[] = {
		{{.maxmemory_policy = "noeviction",
				 .aof_enabled = 1,
				 .appendfsync = "always"},
				""},
		{{.maxmemory_policy = "noeviction",
				 .aof_enabled = 1,
				 .appendfsync = "everysec",
				 .rdb_enabled = 0},
				""},
		{{.maxmemory_policy = "allkeys-lru",
				 .aof_enabled = 1,
				 .appendfsync = "always"},
				"may-evict "},
		{{.maxmemory_policy = "volatile-ttl",
				 .maxmemory = 0,
				 .aof_enabled = 1,
				 .appendfsync = "no"},
				"may-evict fsync-never "},
		{{.maxmemory_policy = "noeviction", .rdb_enabled = 0},
				"no-persistence "},
		{{.maxmemory_policy = "noeviction", .rdb_enabled = 1},
				"snapshots-only "},
		/* an ACL hides it: no word about what is not known */
		{{.maxmemory_policy = "", .aof_enabled = -1, .rdb_enabled = -1}, ""},
		{{.maxmemory_policy = "", .aof_enabled = 0, .rdb_enabled = -1}, ""},
};

START_TEST(warns)
{
	struct io_survey_warning w[IO_SURVEY_WARNINGS_MAX];
	char buf[128];
	struct cpm_wr words;
	size_t n = io_survey_warnings(&rows[_i].server, w);

	cpm_wr_init(&words, buf, sizeof(buf));
	ck_assert_uint_le(n, IO_SURVEY_WARNINGS_MAX);
	for(size_t i = 0; i < n; i++) {
		ck_assert_uint_gt(strlen(w[i].text), 20);
		cpm_wr_str(&words, w[i].word);
		cpm_wr_chr(&words, ' ');
	}
	ck_pl_eq(cpm_wr_pl(&words), rows[_i].words);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_survey");

	fu_table(s, "settings that may lose messages have a word", warns,
			(int)FU_N(rows));
	return fu_run(s);
}
