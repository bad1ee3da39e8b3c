/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_jobs.h - the jobs that are done by SIP: queued messages to the
 * Interworking Selection Function, and notifications to their senders.
 *
 * runs in:  delivery workers, for the users of their shards
 * owns:     the jobs that have a request out (static, bounded)
 *
 *   interwork  the stored message, as it was received, as a request to the
 *              ISF. 2xx: done. 408, 480, 5xx: again later. Anything else, and
 *              the last attempt: given up, dead, to be seen with the code
 *   stored,    an IMDN (cpm_imdn.h). A sender of a home domain: into the
 *   failed     sender's own queue, which delivers it at once to who is
 *              registered; a full queue does not take it, and that is that.
 *              Another sender: a MESSAGE to its address. Nobody is told that
 *              a notification failed: such a job is never dead
 *
 * A job is done at least once: a worker that dies between an answer and its
 * note in Redis leaves it to be done again. A notification has the same id
 * then, and is known by it.
 *
 * BUGS: a message that died, and expires when its sender's queue has forgotten
 * the notification (dedup_time), is told of again, with the same id.
 */

#ifndef PF_JOBS_H
#define PF_JOBS_H

#include <stddef.h>

#include "core/cpm_queue.h"

/* A settle with the jobs that it leaves: of a message that is dead its sender
 * may have to be told. */
struct cpm_settle pf_jobs_settle(const struct cpm_settle *settle);

/* Once a second, with the shards of this worker. token_head: what its tokens
 * begin with. Not while Redis is down. */
void pf_jobs_sweep(
		const unsigned *shards, size_t count, const char *token_head);

#endif
