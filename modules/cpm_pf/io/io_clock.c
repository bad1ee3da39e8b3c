/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "io_clock.h"

#include <time.h>

static uint64_t read_ms(clockid_t id)
{
	struct timespec ts = {0, 0};

	/* fails for an unknown clock id only, and ours are constants */
	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t io_clock_mono_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

uint64_t io_clock_mono_us(void)
{
	struct timespec ts = {0, 0};

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t io_clock_wall_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}
