/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_slot.h - which slot a tm callback speaks of, as its parameter: a number
 * and not a pointer, so that there is nothing to free, and nothing to find
 * freed. A slot given back has another generation: what comes too late is for
 * nobody.
 *
 * runs in:  whoever sends a request; the callback in whatever process
 * owns:     nothing
 */

#ifndef PF_SLOT_H
#define PF_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#define PF_SLOT_GENERATIONS (1u << 24)

struct pf_slot
{
	unsigned worker;	 /* below 256 */
	uint32_t index;		 /* below 65536 */
	uint32_t generation; /* below PF_SLOT_GENERATIONS */
};

static inline void *pf_slot_param(struct pf_slot s)
{
	uint64_t v = ((uint64_t)s.generation << 24) | ((uint64_t)s.worker << 16)
				 | s.index;

	return (void *)(uintptr_t)(v + 1);
}

/* false: it is none of so many workers with so many slots each. */
static inline bool pf_slot_read(
		void *param, unsigned workers, uint32_t slots, struct pf_slot *s_r)
{
	uint64_t v = (uint64_t)(uintptr_t)param;
	struct pf_slot s;

	if(v == 0) {
		return false;
	}
	v--;
	s.index = (uint32_t)(v & 0xffff);
	s.worker = (unsigned)((v >> 16) & 0xff);
	s.generation = (uint32_t)(v >> 24);
	*s_r = s;
	return s.worker < workers && s.index < slots;
}

static inline uint32_t pf_slot_next(uint32_t generation)
{
	return (generation + 1) & (PF_SLOT_GENERATIONS - 1);
}

#endif
