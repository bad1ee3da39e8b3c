/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_store.h"

#include "io/io_clock.h"
#include "pf_conf.h"
#include "pf_stats.h"

#include "../../core/dprint.h"

static struct io_queue *queue;
static bool down;
static uint64_t asked_us; /* when it was asked for; 0: that call is noted */

struct io_queue *pf_store(void)
{
	if(queue == NULL) {
		queue = io_queue_new(&pf_conf.redis, pf_conf.key_prefix);
		if(queue == NULL) {
			LM_ERR("store: no memory for a connection\n");
		}
	}
	asked_us = io_clock_mono_us();
	return queue;
}

static void took(void)
{
	uint64_t now_us = io_clock_mono_us();

	if(asked_us > 0 && now_us >= asked_us) {
		cpm_hist_observe(
				pf_stats, CPM_HIST_redis_command_seconds, now_us - asked_us);
	}
	asked_us = 0;
}

int pf_store_note(const char *what, int rc)
{
	took();
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

void *pf_store_lend(void)
{
	return queue != NULL ? io_queue_lend(queue) : NULL;
}

void pf_store_back(void *lent)
{
	if(queue != NULL) {
		io_queue_back(queue, lent);
	}
}
