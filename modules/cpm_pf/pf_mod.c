/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_mod.c - what the module exports, and which processes it has.
 *
 * runs in:  main, before and while processes are forked
 */

#include "pf_conf.h"
#include "pf_delivery.h"
#include "pf_event.h"
#include "pf_hint.h"
#include "pf_media.h"
#include "pf_nursery.h"
#include "pf_prefs.h"
#include "pf_presence.h"
#include "pf_rpc.h"
#include "pf_outcome.h"
#include "pf_route.h"
#include "pf_script.h"
#include "pf_pull.h"
#include "pf_regevent.h"
#include "pf_session.h"
#include "pf_stats.h"
#include "pf_subscribe.h"
#include "pf_tm.h"
#include "pf_uac.h"
#include "pf_usrloc.h"

#include "../../core/cfg/cfg_struct.h"
#include "../../core/dprint.h"
#include "../../core/mod_fix.h"
#include "../../core/pt.h"
#include "../../core/sr_module.h"

MODULE_VERSION

static int mod_init(void);
static int child_init(int rank);

#define ROUTES (REQUEST_ROUTE | FAILURE_ROUTE)

/* clang-format off */
static cmd_export_t cmds[] = {
	{ "cpm_authorize", (cmd_function)pf_route_authorize, 0, 0, 0,
		REQUEST_ROUTE },
	{ "cpm_route_recipient", (cmd_function)pf_route_recipient, 0, 0, 0,
		ROUTES },
	{ "cpm_route_recipient", (cmd_function)pf_route_recipient, 1,
		fixup_spve_null, 0, ROUTES },
	{ "cpm_interwork", (cmd_function)pf_route_interwork, 0, 0, 0, ROUTES },
	{ "cpm_queue", (cmd_function)pf_script_queue, 0, 0, 0, ROUTES },
	{ "cpm_queue", (cmd_function)pf_script_queue, 1, fixup_spve_null, 0,
		ROUTES },
	{ "cpm_flush_queue", (cmd_function)pf_script_flush, 0, 0, 0, ANY_ROUTE },
	{ "cpm_flush_queue", (cmd_function)pf_script_flush, 1, fixup_spve_null, 0,
		ANY_ROUTE },
	{ "cpm_flush_queue", (cmd_function)pf_script_flush, 2, fixup_spve_spve, 0,
		ANY_ROUTE },
	{ "cpm_store", (cmd_function)pf_script_store, 0, 0, 0, ROUTES },
	{ "cpm_session", (cmd_function)pf_script_session, 0, 0, 0,
		REQUEST_ROUTE },
	{ "cpm_reply", (cmd_function)pf_script_reply, 0, 0, 0, ROUTES },
	{ 0, 0, 0, 0, 0, 0 }
};

static param_export_t params[] = {
	{ "redis", PARAM_STRING | USE_FUNC_PARAM, (void *)pf_conf_redis_param },
	{ "redis_connect_timeout_ms", INT_PARAM,
		&pf_params.redis_connect_timeout_ms },
	{ "redis_cmd_timeout_ms", INT_PARAM, &pf_params.redis_cmd_timeout_ms },
	{ "redis_wait_replicas", INT_PARAM, &pf_params.redis_wait_replicas },
	{ "redis_wait_ms", INT_PARAM, &pf_params.redis_wait_ms },
	{ "msrp_listen", PARAM_STRING | USE_FUNC_PARAM,
		(void *)pf_conf_msrp_param },
	{ "msrp_advertise", PARAM_STRING, &pf_params.msrp_advertise },
	{ "msrp_cert", PARAM_STRING, &pf_params.msrp_cert },
	{ "msrp_key", PARAM_STRING, &pf_params.msrp_key },
	{ "msrp_chunk_size", INT_PARAM, &pf_params.msrp_chunk_size },
	{ "msrp_max_connections", INT_PARAM, &pf_params.msrp_max_connections },
	{ "session_max_messages", INT_PARAM, &pf_params.session_max_messages },
	{ "session_idle_time", INT_PARAM, &pf_params.session_idle_time },
	{ "key_prefix", PARAM_STRING, &pf_params.key_prefix },
	{ "domain", PARAM_STRING | USE_FUNC_PARAM, (void *)pf_conf_domain_param },
	{ "trusted_peers", PARAM_STRING | USE_FUNC_PARAM,
		(void *)pf_conf_trusted_param },
	{ "identity", PARAM_STRING, &pf_params.identity },
	{ "require_feature_tag", INT_PARAM, &pf_params.require_feature_tag },
	{ "trust_clients", INT_PARAM, &pf_params.trust_clients },
	{ "reject_code", INT_PARAM, &pf_params.reject_code },
	{ "isf_uri", PARAM_STRING, &pf_params.isf_uri },
	{ "outbound_proxy", PARAM_STRING, &pf_params.outbound_proxy },
	{ "isf_mode", PARAM_STRING, &pf_params.isf_mode },
	{ "imdn", INT_PARAM, &pf_params.imdn },
	{ "job_retry_intervals", PARAM_STRING, &pf_params.job_retry_intervals },
	{ "job_max_attempts", INT_PARAM, &pf_params.job_max_attempts },
	{ "store_url", PARAM_STRING, &pf_params.store_url },
	{ "store_folder", PARAM_STRING, &pf_params.store_folder },
	{ "store_login", PARAM_STRING, &pf_params.store_login },
	{ "store_tls", PARAM_STRING, &pf_params.store_tls },
	{ "store_ca", PARAM_STRING, &pf_params.store_ca },
	{ "store_credentials", PARAM_STRING, &pf_params.store_credentials },
	{ "store_timeout", INT_PARAM, &pf_params.store_timeout },
	{ "usrloc_domain", PARAM_STRING, &pf_params.usrloc_domain },
	{ "pf_uri", PARAM_STRING, &pf_params.pf_uri },
	{ "push_url", PARAM_STRING, &pf_params.push_url },
	{ "push_format", PARAM_STRING, &pf_params.push_format },
	{ "push_ca", PARAM_STRING, &pf_params.push_ca },
	{ "push_credentials", PARAM_STRING, &pf_params.push_credentials },
	{ "push_timeout", INT_PARAM, &pf_params.push_timeout },
	{ "push_retry_intervals", PARAM_STRING, &pf_params.push_retry_intervals },
	{ "push_max", INT_PARAM, &pf_params.push_max },
	{ "push_data_ttl", INT_PARAM, &pf_params.push_data_ttl },
	{ "pull_uri", PARAM_STRING, &pf_params.pull_uri },
	{ "pull_bye_time", INT_PARAM, &pf_params.pull_bye_time },
	{ "message_max_bytes", INT_PARAM, &pf_params.message_max_bytes },
	{ "queue_max_messages", INT_PARAM, &pf_params.queue_max_messages },
	{ "queue_max_bytes", INT_PARAM, &pf_params.queue_max_bytes },
	{ "queue_max_per_sender", INT_PARAM, &pf_params.queue_max_per_sender },
	{ "overflow", PARAM_STRING, &pf_params.overflow },
	{ "default_expires", INT_PARAM, &pf_params.default_expires },
	{ "max_expires", INT_PARAM, &pf_params.max_expires },
	{ "lease_time", INT_PARAM, &pf_params.lease_time },
	{ "retry_intervals", PARAM_STRING, &pf_params.retry_intervals },
	{ "max_attempts", INT_PARAM, &pf_params.max_attempts },
	{ "delivery_workers", INT_PARAM, &pf_params.delivery_workers },
	{ "delivery_parallel", INT_PARAM, &pf_params.delivery_parallel },
	{ "register_trigger", INT_PARAM, &pf_params.register_trigger },
	{ "register_delay_ms", INT_PARAM, &pf_params.register_delay_ms },
	{ "dedup_time", INT_PARAM, &pf_params.dedup_time },
	{ "check_interval", INT_PARAM, &pf_params.check_interval },
	{ "queued_code", INT_PARAM, &pf_params.queued_code },
	{ "insert_called_party_id", INT_PARAM, &pf_params.insert_called_party_id },
	{ "admin_listen", PARAM_STRING, &pf_params.admin_listen },
	{ "admin_token_file", PARAM_STRING, &pf_params.admin_token_file },
	{ "admin_cert", PARAM_STRING, &pf_params.admin_cert },
	{ "admin_key", PARAM_STRING, &pf_params.admin_key },
	{ "admin_tls", PARAM_STRING, &pf_params.admin_tls },
	{ "admin_bodies", INT_PARAM, &pf_params.admin_bodies },
	{ "admin_rate", INT_PARAM, &pf_params.admin_rate },
	{ "worker", PARAM_STRING, &pf_params.worker },
	{ "event_callback", PARAM_STRING, &pf_params.event_callback },
	{ "db_url", PARAM_STRING, &pf_params.db_url },
	{ "prefs_cache_ttl", INT_PARAM, &pf_params.prefs_cache_ttl },
	{ "prefs_cache_size", INT_PARAM, &pf_params.prefs_cache_size },
	{ "notify_event", PARAM_STRING, &pf_params.notify_event },
	{ "notify_unsolicited", INT_PARAM, &pf_params.notify_unsolicited },
	{ "notify_delay_ms", INT_PARAM, &pf_params.notify_delay_ms },
	{ "notify_max_bytes", INT_PARAM, &pf_params.notify_max_bytes },
	{ "subscribe_max_expires", INT_PARAM, &pf_params.subscribe_max_expires },
	{ "presence", INT_PARAM, &pf_params.presence },
	{ "registrar", PARAM_STRING, &pf_params.registrar },
	{ "reg_uri", PARAM_STRING, &pf_params.reg_uri },
	{ "reg_route", PARAM_STRING, &pf_params.reg_route },
	{ "reg_route_aor", INT_PARAM, &pf_params.reg_route_aor },
	{ "reg_expires", INT_PARAM, &pf_params.reg_expires },
	{ "reg_max_subscriptions", INT_PARAM, &pf_params.reg_max_subscriptions },
	{ "reg_linger", INT_PARAM, &pf_params.reg_linger },
	{ "reg_retry_time", INT_PARAM, &pf_params.reg_retry_time },
	{ "reg_timeout", INT_PARAM, &pf_params.reg_timeout },
	{ "delivery_rate", INT_PARAM, &pf_params.delivery_rate },
	{ 0, 0, 0 }
};

static pv_export_t pvs[] = {
	{ { "cpm", sizeof("cpm") - 1 }, PVT_OTHER, pf_outcome_pv_get, 0,
		pf_outcome_pv_parse_name, 0, 0, 0 },
	{ { 0, 0 }, 0, 0, 0, 0, 0, 0, 0 }
};

struct module_exports exports = {
	"cpm_pf",
	DEFAULT_DLFLAGS,
	cmds,
	params,
	pf_rpc,
	pvs,
	0, /* replies */
	mod_init,
	child_init,
	0  /* at the end: the truth is in Redis */
};
/* clang-format on */

int mod_register(char *path, int *dlflags, void *p1, void *p2)
{
	sr_kemi_modules_add(pf_script_kemi);
	return 0;
}

static int mod_init(void)
{
	int processes;

	if(pf_conf_check() < 0 || pf_stats_init() < 0 || pf_prefs_init() < 0
			|| pf_hint_init() < 0 || pf_media_init() < 0
			|| pf_session_init() < 0 || pf_pull_init() < 0 || pf_tm_init() < 0
			|| pf_uac_init() < 0 || pf_subscribe_init() < 0
			|| pf_usrloc_init() < 0 || pf_regevent_init() < 0
			|| pf_outcome_init() < 0 || pf_route_init() < 0
			|| pf_event_init() < 0) {
		return -1;
	}
	processes =
			(int)pf_conf.delivery_workers + (pf_nursery_is_needed() ? 1 : 0);
	register_procs(processes);
	/* the nursery reads no runtime configuration */
	cfg_register_child((int)pf_conf.delivery_workers);
	return 0;
}

/* Who is forked:
 *
 *   CPM delivery   delivery_workers times; sends SIP, so as a process that
 *                  other modules prepare for it (PROC_RPC)
 *   CPM nursery    once, if anything is to be kept alive; needs nothing of
 *                  other modules (PROC_NOCHLDINIT)
 */
static int child_init(int rank)
{
	unsigned i;
	int pid;

	if(rank == PROC_INIT) {
		/* when all modules have been initialised, in whatever order */
		return pf_presence_init();
	}
	if(rank != PROC_MAIN) {
		return 0;
	}
	for(i = 0; i < pf_conf.delivery_workers; i++) {
		pid = fork_process(PROC_RPC, "CPM delivery", 1);
		if(pid < 0) {
			LM_ERR("no process for the delivery worker\n");
			return -1;
		}
		if(pid == 0) {
			if(cfg_child_init() < 0) {
				return -1;
			}
			pf_delivery_main(i);
		}
	}
	if(pf_nursery_is_needed()) {
		pid = fork_process(PROC_NOCHLDINIT, "CPM nursery", 0);
		if(pid < 0) {
			LM_ERR("no process for the nursery\n");
			return -1;
		}
		if(pid == 0) {
			pf_nursery_main();
		}
	}
	return 0;
}
