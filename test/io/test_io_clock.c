/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_clock.h"

#include <time.h>
#include <unistd.h>

#include "check_helpers.h"

START_TEST(monotonic)
{
	uint64_t a = io_clock_mono_ms();
	usleep(30000);
	uint64_t b = io_clock_mono_ms();
	ck_assert_uint_ge(b - a, 29);
	ck_assert_uint_lt(b - a, 30000);
}
END_TEST

START_TEST(wall)
{
	time_t before = time(NULL);
	uint64_t now = io_clock_wall_ms();
	time_t after = time(NULL);

	/* time() may come from a coarser clock than the other */
	ck_assert_uint_ge(now / 1000 + 1, (uint64_t)before);
	ck_assert_uint_le(now / 1000, (uint64_t)after + 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("io_clock");

	fu_case(s, "the monotonic clock counts milliseconds", monotonic);
	fu_case(s, "the wall clock says what time it is", wall);
	return fu_run(s);
}
