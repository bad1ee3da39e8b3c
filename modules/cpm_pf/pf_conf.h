/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * pf_conf.h - the module's parameters, as given and as checked.
 *
 * runs in:  modparam writes the raw values before mod_init; pf_conf_check
 *           turns them into pf_conf, once, before any fork; read only after
 * owns:     the raw strings (pkg, of before the fork)
 */

#ifndef PF_CONF_H
#define PF_CONF_H

#include "core/cpm_flow.h"
#include "core/cpm_notify.h"
#include "io/io_redis.h"

#define PF_DOMAINS_MAX 64
#define PF_TRUSTED_MAX 256
#define PF_DELIVERY_WORKERS_MAX 16
#define PF_MSRP_LISTENS_MAX 8

/* What modparam stores, as it is written in kamailio.cfg. */
struct pf_params
{
	int redis_connect_timeout_ms;
	int redis_cmd_timeout_ms;
	int redis_wait_replicas;
	int redis_wait_ms;
	char *msrp_advertise;
	char *msrp_cert;
	char *msrp_key;
	int msrp_chunk_size;
	int msrp_max_connections;
	int session_max_messages;
	int session_idle_time;
	char *key_prefix;
	int message_max_bytes;
	int queue_max_messages;
	int queue_max_bytes;
	int queue_max_per_sender;
	char *overflow;
	int default_expires;
	int max_expires;
	int lease_time;
	char *retry_intervals;
	int max_attempts;
	int delivery_workers;
	int delivery_parallel;
	int register_trigger;
	int register_delay_ms;
	int dedup_time;
	int check_interval;
	int queued_code;
	int insert_called_party_id;
	int trust_clients;
	int require_feature_tag;
	int reject_code;
	char *identity;
	char *isf_uri;
	char *outbound_proxy;
	char *isf_mode;
	int imdn;
	char *job_retry_intervals;
	int job_max_attempts;
	char *store_url;
	char *store_folder;
	char *store_login;
	char *store_tls;
	char *store_ca;
	char *store_credentials;
	int store_timeout;
	char *usrloc_domain;
	char *pf_uri;
	char *push_url;
	char *push_format;
	char *push_ca;
	char *push_credentials;
	int push_timeout;
	char *push_retry_intervals;
	int push_max;
	int push_data_ttl;
	char *pull_uri;
	int pull_bye_time;
	char *admin_listen;
	char *admin_token_file;
	char *admin_cert;
	char *admin_key;
	char *admin_tls;
	int admin_bodies;
	int admin_rate;
	char *worker;
	char *event_callback;
	char *db_url;
	int prefs_cache_ttl;
	int prefs_cache_size;
	char *notify_event;
	int notify_unsolicited;
	int notify_delay_ms;
	int notify_max_bytes;
	int subscribe_max_expires;
	int presence;
	char *registrar;
	char *reg_uri;
	char *reg_route;
	int reg_route_aor;
	int reg_expires;
	int reg_max_subscriptions;
	int reg_linger;
	int reg_retry_time;
	int reg_timeout;
	int delivery_rate;
};

extern struct pf_params pf_params;

/* Where a sender's identity may come from. */
enum pf_identity
{
	PF_IDENTITY_PAI,  /* P-Asserted-Identity, of a trusted peer */
	PF_IDENTITY_AUTH, /* who authenticated */
	PF_IDENTITY_FROM, /* From */
};

/* An address with a prefix length. */
struct pf_net
{
	unsigned char addr[16];
	unsigned len;  /* bytes of addr: 4 or 16 */
	unsigned bits; /* of the prefix */
};

struct pf_conf
{
	struct io_redis_conf redis;
	/* as given, for cpm_pf_worker */
	char redis_string[IO_REDIS_SERVERS_MAX][1024];
	size_t redis_count;
	struct cpm_pl key_prefix;
	struct cpm_pl domains[PF_DOMAINS_MAX];
	size_t domain_count;
	struct cpm_accept_conf accept;
	struct cpm_deliver_conf deliver;
	unsigned delivery_workers;
	unsigned delivery_parallel;
	uint64_t register_delay_ms;
	struct pf_net trusted[PF_TRUSTED_MAX];
	size_t trusted_count;
	enum pf_identity identity[3]; /* in the order in which they are asked */
	size_t identity_count;
	bool isf_rewrite;					  /* isf_mode ruri */
	uint64_t job_retry_ms[CPM_RETRY_MAX]; /* the last one repeats */
	size_t job_retry_count;				  /* at least 1 */
	unsigned job_max_attempts;
	enum cpm_notify_type notify_type;
	bool fold_case; /* registrar files users in lower case */
	bool registrar_usrloc, registrar_reginfo; /* who knows the clients */
	struct cpm_pl reg_hop;					  /* reg_uri as a Route's value */
	struct cpm_pl reg_route;				  /* likewise; may be empty */
	char node[24]; /* "<node>.<boot>.": head of this start's tokens */
	bool push;	   /* push_url is not empty */
	bool admin;	   /* admin_listen is not empty */
	char msrp_listen[PF_MSRP_LISTENS_MAX][80]; /* as given */
	size_t msrp_listen_count;				   /* 0: no sessions */
	char worker_path[512];
};

extern struct pf_conf pf_conf;

/* modparam functions (USE_FUNC_PARAM): 0, or -1 after a line in the log. */
int pf_conf_redis_param(unsigned int type, void *val);
int pf_conf_domain_param(unsigned int type, void *val);

int pf_conf_msrp_param(unsigned int type, void *val);
int pf_conf_trusted_param(unsigned int type, void *val);

/* Whether an address (4 or 16 bytes) is one of trusted_peers. */
bool pf_conf_is_trusted(const unsigned char *addr, unsigned len);

/* A number of another module's runtime configuration (cfg.get), as it is when
 * Kamailio starts. false: there is no such module or variable. */
bool pf_conf_of_module(const char *group, const char *name, int *v_r);

/* Checks all, fills pf_conf. 0; -1: a parameter is wrong, and the log says
 * which and what it takes. */
int pf_conf_check(void);

#endif
