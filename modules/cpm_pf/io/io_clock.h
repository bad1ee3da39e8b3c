/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * io_clock.h - the two clocks, in milliseconds or microseconds.
 *
 * runs in:  anything; thread-safe
 * owns:     nothing
 *
 * Deadlines are kept on the monotonic clock, which no administrator and no
 * NTP step can move. Dates for people come from the wall clock.
 */

#ifndef IO_CLOCK_H
#define IO_CLOCK_H

#include <stdint.h>

uint64_t io_clock_mono_ms(void); /* since some point in the past */
uint64_t io_clock_mono_us(void); /* the same, for what takes no time */
uint64_t io_clock_wall_ms(void); /* since 1970, UTC */

#endif
