/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * admin_page.h - the operator's web page: page/ as it was built in.
 *
 * runs in:  cpm_pf_worker, the thread of libmicrohttpd
 * owns:     nothing; the files are constant
 * never:    answers with anything of a queue: the page itself asks the API
 *           for that, with the operator's token
 */

#ifndef ADMIN_PAGE_H
#define ADMIN_PAGE_H

#include <microhttpd.h>
#include <stdbool.h>

#include "admin_api.h"

/* Tells the page what its token may do: read-write, read or none. */
#define ADMIN_PAGE_RIGHT "Cpm-Pf-Right"

/* Whether a file of the page is at this path. */
bool admin_page_has(struct cpm_pl path);

/* Answers for such a path: 200, 304 when If-None-Match has the file's tag, 405
 * for a method that is neither GET nor HEAD. Needs no token: who has none is
 * asked for it by the page. */
enum MHD_Result admin_page_reply(
		struct MHD_Connection *con, const struct admin_request *rq);

#endif
