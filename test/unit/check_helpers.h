/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * check_helpers.h - what every test program of the project shares.
 *
 * runs in:  test programs, one thread
 *
 * Four habits, each a helper: the guard page, the trickle, the ladder, the
 * round trip. And the shortest way to write a suite:
 *
 *     START_TEST(empty_user) { ... } END_TEST
 *     int main(void)
 *     {
 *         Suite *s = suite_create("cpm_aor");
 *         fu_case(s, "an address without a user is none", empty_user);
 *         return fu_run(s);
 *     }
 */

#ifndef CHECK_HELPERS_H
#define CHECK_HELPERS_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "cpm_base.h"
#include "cpm_wr.h"

#define FU_N(a) (sizeof(a) / sizeof((a)[0]))

/* ---- suites ---- */

/* A case of one test; its name is a sentence. */
void fu_case(Suite *s, const char *sentence, const TTest *test);

/* The same test once for every row of a table: _i is 0..rows - 1. */
void fu_table(Suite *s, const char *sentence, const TTest *test, size_t rows);

/* Runs and frees the suite. For main: 0, or 1 when a test failed. */
int fu_run(Suite *s);

/* ---- slices ---- */

/* Asserts that a slice holds just the bytes of a string. */
#define ck_pl_eq(a, str) fu_pl_eq((a), cpm_pl_str(str), __FILE__, __LINE__)
/* The same for two slices. */
#define ck_pl_same(a, b) fu_pl_eq((a), (b), __FILE__, __LINE__)
void fu_pl_eq(struct cpm_pl a, struct cpm_pl b, const char *file, int line);

/* Whether a lies within whole; an empty slice lies everywhere. */
bool fu_pl_inside(struct cpm_pl a, struct cpm_pl whole);

/* The bytes that pairs of hex digits tell; white space between them is
 * passed over. fu_free gives them back. */
struct cpm_pl fu_unhex(struct cpm_pl hex);

/* A whole file below TEST_DATA_DIR; fu_free gives it back. A file that is
 * not there fails the test. */
#define fu_slurp(name) fu_slurp_in(TEST_DATA_DIR, (name))
struct cpm_pl fu_slurp_in(const char *dir, const char *name);
void fu_free(struct cpm_pl *a);

/* ---- the guard page ---- */

/* A copy of n bytes that ends where a page begins that cannot be read or
 * written: whoever looks one byte too far is killed on the spot. */
char *guard_dup(const void *p, size_t n);
void guard_free(char *p, size_t n);

/* Calls fn with every prefix of in, from none to all of its bytes, each a
 * guarded copy of its own that is gone when fn has returned. */
void guard_prefixes(struct cpm_pl in,
		void (*fn)(struct cpm_pl prefix, void *arg), void *arg);

/* ---- the trickle ---- */

/* A stream parser under test. feed gets a guarded copy of the next bytes,
 * gone when it has returned. Whatever happens is told in log, as text. */
struct trickle
{
	void *(*open)(struct cpm_wr *log);
	void (*feed)(void *parser, struct cpm_pl bytes);
	void (*close)(void *parser); /* end of input; frees parser */
};

/* Feeds in as a whole, byte by byte, and cut in two at every position, and
 * asserts that the log is the same each time. Returns that log: fu_free. */
struct cpm_pl trickle(const struct trickle *t, struct cpm_pl in);

/* ---- the ladder ---- */

/* Allocations of a program that is linked with
 *
 *     -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free
 *     -Wl,--wrap=strdup,--wrap=strndup
 *
 * come here, and can be made to fail. Those inside shared libraries do not.
 * A program without these options links as well; then only direct calls of
 * ladder_malloc and its kin count (an allocator handed on as a pointer). */
void *ladder_malloc(size_t n);
void *ladder_calloc(size_t n, size_t size);
void *ladder_realloc(void *p, size_t n);
char *ladder_strdup(const char *s);
char *ladder_strndup(const char *s, size_t n);
void ladder_free(void *p);

/* Whether the program was linked with the options above. */
bool ladder_linked(void);

/* Makes the nth allocation from now fail, once; 1 is the next. Disarm before
 * any assertion: the check library allocates too. */
void ladder_arm(size_t nth);

/* Ends that. True when the failure has happened. */
bool ladder_disarm(void);

/* Runs fn with its first, its second, ... allocation failing, until it gets
 * through. fn does its work and undoes it, and returns CPM_OK or a negative
 * code. Asserts CPM_ENOMEM from every rung, CPM_OK from the last run, and
 * that no run keeps an allocation. Returns the number of rungs. */
size_t ladder_climb(int (*fn)(void *arg), void *arg);

/* ---- the round trip ---- */

/* Parses in and builds it again into w. */
typedef int (*round_trip_fn)(struct cpm_pl in, struct cpm_wr *w);

/* Asserts that in builds to want, and want to itself. With want.p NULL any
 * form will do, so long as it builds to itself. */
void round_trip(round_trip_fn fn, struct cpm_pl in, struct cpm_pl want);

#endif
