/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_nursery.h - keeps cpm_pf_worker processes alive.
 *
 * runs in:  a Kamailio process of its own. Kamailio stops when one of its own
 *           children dies; a grandchild's death is only noticed here, and it
 *           is started again, sooner or later by how often it dies
 * owns:     the workers: they end with it (parent-death signal)
 */

#ifndef PF_NURSERY_H
#define PF_NURSERY_H

#include <stdbool.h>

/* Never returns. */
/* Whether there is anything to be kept alive. */
bool pf_nursery_is_needed(void);

void pf_nursery_main(void);

#endif
