/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_store.h"

#include "pf_conf.h"
#include "pf_stats.h"

#include "../../core/dprint.h"

static struct io_queue *queue;
static bool down;

struct io_queue *pf_store(void)
{
	if(queue == NULL) {
		queue = io_queue_new(&pf_conf.redis, pf_conf.key_prefix);
		if(queue == NULL) {
			LM_ERR("store: no memory for a connection\n");
		}
	}
	return queue;
}

int pf_store_note(const char *what, int rc)
{
	switch(rc) {
		case CPM_EDOWN:
		case CPM_EUNSURE:
			pf_stat(CPM_STAT_redis_errors);
			cpm_stat_set(pf_stats, CPM_STAT_redis_up, 0);
			if(!down) {
				LM_WARN("store: down call=%s result=%s error=\"%s\": messages "
						"are refused with 503 until it is back\n",
						what, cpm_rc_name(rc), io_queue_error(queue));
			}
			down = true;
			break;
		case CPM_EPROTO:
			pf_stat(CPM_STAT_redis_errors);
			LM_ERR("store: refused call=%s error=\"%s\"\n", what,
					io_queue_error(queue));
			break;
		default:
			cpm_stat_set(pf_stats, CPM_STAT_redis_up, 1);
			if(down) {
				LM_NOTICE("store: up again call=%s\n", what);
			}
			down = false;
			break;
	}
	return rc;
}
