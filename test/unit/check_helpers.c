/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * check_helpers.c - what every test program of the project shares.
 *
 * runs in:  test programs, one thread
 */

#define _GNU_SOURCE
#include "check_helpers.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUNGS_MAX 100000
#define LOG_MAX 65536
#define TRIP_MAX (2 * 1024 * 1024)

/* ---- suites ---- */

void fu_case(Suite *s, const char *sentence, const TTest *test)
{
	fu_table(s, sentence, test, 1);
}

void fu_table(Suite *s, const char *sentence, const TTest *test, size_t rows)
{
	TCase *tc = tcase_create(sentence);

	/* sanitizers and valgrind are slow */
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test, 0, (int)rows);
	suite_add_tcase(s, tc);
}

int fu_run(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}

/* ---- slices ---- */

/* What is no visible ASCII as \xx, for the eye of whoever reads a failure. */
static void show(struct cpm_pl a, char *buf, size_t cap)
{
	struct cpm_wr w;

	cpm_wr_init(&w, buf, cap - 1);
	for(size_t i = 0; i < a.n && w.n + 4 < cap; i++) {
		unsigned char c = (unsigned char)a.p[i];
		char hex[4];

		if(c >= ' ' && c <= '~') {
			cpm_wr_chr(&w, a.p[i]);
			continue;
		}
		snprintf(hex, sizeof(hex), "\\%02x", c);
		cpm_wr_str(&w, hex);
	}
	buf[w.n] = '\0';
}

void fu_pl_eq(struct cpm_pl a, struct cpm_pl b, const char *file, int line)
{
	char left[512], right[512];

	if(cpm_pl_eq(a, b))
		return;
	show(a, left, sizeof(left));
	show(b, right, sizeof(right));
	ck_abort_msg("%s:%d: \"%s\" (%zu) is not \"%s\" (%zu)", file, line, left,
			a.n, right, b.n);
}

bool fu_pl_inside(struct cpm_pl a, struct cpm_pl whole)
{
	if(a.n == 0)
		return true;
	return a.p >= whole.p && a.n <= whole.n
		   && (size_t)(a.p - whole.p) <= whole.n - a.n;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *hit = c ? strchr(digits, c) : NULL;

	return hit ? (int)(hit - digits) : -1;
}

struct cpm_pl fu_unhex(struct cpm_pl hex)
{
	char *out = malloc(hex.n / 2 + 1);
	size_t n = 0;
	int high = -1;

	ck_assert_ptr_nonnull(out);
	for(size_t i = 0; i < hex.n; i++) {
		int v = hex_digit(hex.p[i]);

		if(v < 0) {
			ck_assert_msg(cpm_pl_trim(cpm_pl(hex.p + i, 1)).n == 0,
					"byte %zu is no hex digit", i);
			continue;
		}
		if(high < 0) {
			high = v;
			continue;
		}
		out[n++] = (char)(unsigned char)(high << 4 | v);
		high = -1;
	}
	ck_assert_msg(high < 0, "a hex digit is left over");
	return cpm_pl(out, n);
}

struct cpm_pl fu_slurp_in(const char *dir, const char *name)
{
	char path[4096];
	FILE *f;
	char *buf = NULL, *more;
	size_t cap = 0, n = 0, got;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	do {
		if(n == cap) {
			cap = cap ? cap * 2 : 4096;
			more = realloc(buf, cap);
			ck_assert_ptr_nonnull(more);
			buf = more;
		}
		got = fread(buf + n, 1, cap - n, f);
		n += got;
	} while(got > 0);
	ck_assert_msg(!ferror(f), "cannot read %s", path);
	fclose(f);
	return cpm_pl(buf, n);
}

void fu_free(struct cpm_pl *a)
{
	union
	{
		const char *borrowed;
		char *own;
	} p = {.borrowed = a->p};

	free(p.own);
	*a = CPM_PL_NULL;
}

/* ---- the guard page ---- */

/* Bytes of the readable pages in front of the guard page; at least one
 * page, so that there is always something to map. */
static size_t guarded_len(size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return n == 0 ? page : (n + page - 1) / page * page;
}

char *guard_dup(const void *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t len = guarded_len(n);
	char *base = mmap(NULL, len + page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_msg(base != MAP_FAILED, "mmap failed");
	ck_assert_int_eq(mprotect(base + len, page, PROT_NONE), 0);
	if(n)
		memcpy(base + len - n, p, n);
	return base + len - n;
}

void guard_free(char *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t len = guarded_len(n);

	ck_assert_int_eq(munmap(p + n - len, len + page), 0);
}

void guard_prefixes(struct cpm_pl in,
		void (*fn)(struct cpm_pl prefix, void *arg), void *arg)
{
	for(size_t n = 0; n <= in.n; n++) {
		char *copy = guard_dup(in.p, n);

		fn(cpm_pl(copy, n), arg);
		guard_free(copy, n);
	}
}

/* ---- the trickle ---- */

static void trickle_feed(
		const struct trickle *t, void *parser, struct cpm_pl bytes)
{
	char *copy = guard_dup(bytes.p, bytes.n);

	t->feed(parser, cpm_pl(copy, bytes.n));
	guard_free(copy, bytes.n);
}

/* First the bytes up to cut, then the rest in pieces of step bytes. */
static struct cpm_pl trickle_once(
		const struct trickle *t, struct cpm_pl in, size_t cut, size_t step)
{
	char *buf = malloc(LOG_MAX);
	struct cpm_wr log;
	void *parser;

	ck_assert_ptr_nonnull(buf);
	cpm_wr_init(&log, buf, LOG_MAX);
	parser = t->open(&log);
	if(cut)
		trickle_feed(t, parser, cpm_pl(in.p, cut));
	for(size_t at = cut; at < in.n; at += step)
		trickle_feed(t, parser,
				cpm_pl(in.p + at, in.n - at < step ? in.n - at : step));
	t->close(parser);
	ck_assert_msg(cpm_wr_ok(&log), "the log of a trickle is too long");
	return cpm_wr_pl(&log);
}

struct cpm_pl trickle(const struct trickle *t, struct cpm_pl in)
{
	struct cpm_pl whole = trickle_once(t, in, in.n, 1);
	struct cpm_pl again = trickle_once(t, in, 0, 1);

	ck_pl_same(again, whole);
	fu_free(&again);
	for(size_t cut = 1; cut < in.n; cut++) {
		again = trickle_once(t, in, cut, in.n);
		ck_pl_same(again, whole);
		fu_free(&again);
	}
	return whole;
}

/* ---- the ladder ---- */

/* With --wrap=malloc the linker makes the first name of a call to malloc, and
 * the second name mean malloc itself. Without it nobody calls the first, and
 * the second stays NULL because it is weak. */
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
void __wrap_free(void *p);
extern void *__real_malloc(size_t n) __attribute__((weak));
extern void *__real_calloc(size_t n, size_t size) __attribute__((weak));
extern void *__real_realloc(void *p, size_t n) __attribute__((weak));
extern void __real_free(void *p) __attribute__((weak));

static size_t countdown; /* 0: not armed */
static bool has_failed;
static long live; /* allocations less frees */

bool ladder_linked(void)
{
	return __real_malloc != NULL;
}

void ladder_arm(size_t nth)
{
	countdown = nth;
	has_failed = false;
}

bool ladder_disarm(void)
{
	countdown = 0;
	return has_failed;
}

static bool is_rung(void)
{
	if(countdown == 0 || --countdown > 0)
		return false;
	has_failed = true;
	return true;
}

static void *counted(void *p)
{
	live += p != NULL;
	return p;
}

void *ladder_malloc(size_t n)
{
	if(is_rung())
		return NULL;
	return counted(__real_malloc ? __real_malloc(n) : malloc(n));
}

void *ladder_calloc(size_t n, size_t size)
{
	if(is_rung())
		return NULL;
	return counted(__real_calloc ? __real_calloc(n, size) : calloc(n, size));
}

void *ladder_realloc(void *p, size_t n)
{
	void *q;

	if(is_rung())
		return NULL;
	q = __real_realloc ? __real_realloc(p, n) : realloc(p, n);
	return p ? q : counted(q);
}

void ladder_free(void *p)
{
	live -= p != NULL;
	if(__real_free)
		__real_free(p);
	else
		free(p);
}

char *ladder_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = ladder_malloc(len + 1);

	if(!copy)
		return NULL;
	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *ladder_strdup(const char *s)
{
	return ladder_strndup(s, strlen(s));
}

void *__wrap_malloc(size_t n)
{
	return ladder_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return ladder_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return ladder_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return ladder_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return ladder_strndup(s, n);
}

void __wrap_free(void *p)
{
	ladder_free(p);
}

size_t ladder_climb(int (*fn)(void *arg), void *arg)
{
	for(size_t nth = 1; nth <= RUNGS_MAX; nth++) {
		long before = live;
		bool failed;
		int rc;

		ladder_arm(nth);
		rc = fn(arg);
		failed = ladder_disarm();
		/* fewer is fine: what a library allocated may be freed here */
		ck_assert_msg(live <= before, "rung %zu: %ld allocations kept", nth,
				live - before);
		ck_assert_msg(rc == (failed ? CPM_ENOMEM : CPM_OK), "rung %zu: %s", nth,
				cpm_rc_name(rc));
		if(!failed)
			return nth - 1;
	}
	ck_abort_msg("a ladder without end");
	return 0;
}

/* ---- the round trip ---- */

static struct cpm_pl one_trip(round_trip_fn fn, struct cpm_pl in, char *buf)
{
	struct cpm_wr w;
	char *copy = guard_dup(in.p, in.n);
	int rc;

	cpm_wr_init(&w, buf, TRIP_MAX);
	rc = fn(cpm_pl(copy, in.n), &w);
	guard_free(copy, in.n);
	ck_assert_msg(rc == CPM_OK && cpm_wr_ok(&w), "%s", cpm_rc_name(rc));
	return cpm_wr_pl(&w);
}

void round_trip(round_trip_fn fn, struct cpm_pl in, struct cpm_pl want)
{
	char *first = malloc(TRIP_MAX), *second = malloc(TRIP_MAX);
	struct cpm_pl built;

	ck_assert(first && second);
	built = one_trip(fn, in, first);
	if(want.p)
		ck_pl_same(built, want);
	ck_pl_same(one_trip(fn, built, second), built);
	free(first);
	free(second);
}
