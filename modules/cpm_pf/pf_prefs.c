/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pf_prefs.h"

#include "core/cpm_aor.h"
#include "core/cpm_ulname.h"
#include "io/io_clock.h"
#include "pf_cache.h"
#include "pf_conf.h"
#include "pf_stats.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../../core/dprint.h"
#include "../../core/mem/shm_mem.h"
#include "../../core/sr_module.h"
#include "../../lib/srdb1/db.h"

/* After a failure the database is left alone for so long. */
#define RETRY_MS 1000
/* Tables of a wrong version are somebody's work: no line a second in the log. */
#define RETRY_TABLES_MS 10000
/* A process that asks a failed database has so long before another one may. */
#define PROBE_MS 30000
/* Seconds; what libpq takes for the least. */
#define PG_CONNECT_TIMEOUT "2"
/* Room for the texts of one row, and of one rule after it was compiled. */
#define ROW_TEXT_MAX 4096
#define RULE_TEXT_MAX (3 * CPM_PATTERN_MAX)
/* Shared memory for each entry, on average: a user with ten rules. */
#define ENTRY_BYTES 1024

enum tables
{
	TABLES_UNSEEN,
	TABLES_RIGHT,
	TABLES_WRONG,
};

/* What all processes know of the database. */
struct shared
{
	_Atomic uint64_t ask_at_ms; /* 0: it is well; else when to try again */
	atomic_bool up;
	_Atomic int tables;
};

enum kind
{
	KIND_UNKNOWN, /* no such row */
	KIND_BAD,	  /* a row that cannot be understood */
	KIND_KNOWN,	  /* a flat block, or a struct cpm_policy */
};

static db_func_t dbf;
static db1_con_t *db; /* of this process */
static str db_url;
static struct shared *shared;
static struct pf_cache *users;
static struct pf_cache *policies;

static str t_user = str_init("cpm_user");
static str t_rule = str_init("cpm_rule");
static str t_policy = str_init("cpm_policy");

/* ------------------------------------------------------- the connection */

static void disconnect(void)
{
	if(db != NULL) {
		dbf.close(db);
		db = NULL;
	}
}

/* Whether the database may be asked now. Of those that find it failed, one
 * tries; the others do not wait. */
static bool may_ask(uint64_t now_ms)
{
	uint64_t at = atomic_load(&shared->ask_at_ms);

	if(at == 0) {
		return true;
	}
	return now_ms >= at
		   && atomic_compare_exchange_strong(
				   &shared->ask_at_ms, &at, now_ms + PROBE_MS);
}

static void note_up(void)
{
	if(atomic_load(&shared->ask_at_ms) != 0) {
		atomic_store(&shared->ask_at_ms, 0);
	}
	if(!atomic_exchange(&shared->up, true)) {
		LM_NOTICE("prefs: database up\n");
	}
	cpm_stat_set(pf_stats, CPM_STAT_db_up, 1);
}

static int note_down(const char *call, uint64_t retry_ms)
{
	disconnect();
	pf_stat(CPM_STAT_db_failures);
	cpm_stat_set(pf_stats, CPM_STAT_db_up, 0);
	atomic_store(&shared->ask_at_ms, io_clock_mono_ms() + retry_ms);
	if(atomic_exchange(&shared->up, false)) {
		LM_WARN("prefs: database down call=%s: users whose preferences are "
				"in the cache go on, messages of others are refused with 503 "
				"until it is back\n",
				call);
	}
	return CPM_EDOWN;
}

struct version
{
	str *table;
	int number;
};

/* CPM_OK; CPM_EPROTO: wrong, and logged; CPM_EDOWN: no answer. */
static int tables_look(void)
{
	static const struct version versions[] = {
			{&t_user, PF_PREFS_USER_VERSION},
			{&t_rule, PF_PREFS_RULE_VERSION},
			{&t_policy, PF_PREFS_POLICY_VERSION},
	};
	const struct version *v;
	int found;
	int rc = CPM_OK;
	size_t i;

	for(i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		v = &versions[i];
		found = db_table_version(&dbf, db, v->table);
		if(found < 0) {
			return CPM_EDOWN;
		}
		if(found == 0) {
			LM_ERR("prefs: no table %.*s: there is no row of it in table "
				   "version, and version %d is needed; tools/cpm-db.sh create "
				   "makes what is missing\n",
					v->table->len, v->table->s, v->number);
			rc = CPM_EPROTO;
		} else if(found != v->number) {
			LM_ERR("prefs: table %.*s is of version %d, and version %d is "
				   "needed; %s\n",
					v->table->len, v->table->s, found, v->number,
					found < v->number ? "bring it up to date, as the "
										"module's CHANGELOG says"
									  : "it belongs to a newer module");
			rc = CPM_EPROTO;
		}
	}
	return rc;
}

/* The connection, and tables that are known to be right. CPM_OK, CPM_EDOWN. */
static int ready(uint64_t now_ms)
{
	int rc;

	if(!may_ask(now_ms)) {
		return CPM_EDOWN;
	}
	if(db == NULL) {
		db = dbf.init(&db_url);
		if(db == NULL) {
			return note_down("connect", RETRY_MS);
		}
	}
	if(atomic_load(&shared->tables) == TABLES_RIGHT) {
		return CPM_OK;
	}
	rc = tables_look();
	if(rc == CPM_OK) {
		atomic_store(&shared->tables, TABLES_RIGHT);
		return CPM_OK;
	}
	if(rc == CPM_EPROTO) {
		atomic_store(&shared->tables, TABLES_WRONG);
		return note_down("versions", RETRY_TABLES_MS);
	}
	return note_down("versions", RETRY_MS);
}

static const char *why_down(void)
{
	return atomic_load(&shared->tables) == TABLES_WRONG ? "bad-tables"
														: "database-down";
}

struct condition
{
	str column;
	struct cpm_pl value;
};

/* CPM_OK: *res_r is to be freed, and may be NULL; CPM_EDOWN. */
static int query(str *table, const struct condition *where, int where_count,
		str *columns, int column_count, db1_res_t **res_r)
{
	db_key_t keys[2];
	db_key_t names[16];
	db_val_t values[2];
	db1_res_t *res = NULL;
	int i;

	memset(values, 0, sizeof(values));
	for(i = 0; i < where_count; i++) {
		keys[i] = (db_key_t)&where[i].column;
		values[i].type = DB1_STR;
		values[i].val.str_val.s =
				where[i].value.p != NULL ? (char *)where[i].value.p : "";
		values[i].val.str_val.len = (int)where[i].value.n;
	}
	for(i = 0; i < column_count; i++) {
		names[i] = &columns[i];
	}
	if(dbf.use_table(db, table) < 0
			|| dbf.query(db, keys, NULL, values, names, where_count,
					   column_count, NULL, &res)
					   < 0) {
		return note_down(table->s, RETRY_MS);
	}
	note_up();
	*res_r = res;
	return CPM_OK;
}

static void query_free(db1_res_t *res)
{
	if(res != NULL) {
		dbf.free_result(db, res);
	}
}

/* --------------------------------------------------------------- values */

/* A row that is being read. Databases differ in the types that they return
 * for the same column, and values die with the result. */
struct row
{
	const char *table;
	const db_val_t *values;
	const str *columns;
	int64_t id;
	const char *bad; /* the first column that is of no use */
	char text[ROW_TEXT_MAX];
	size_t used;
};

static void row_open(struct row *r, const char *table, const str *columns,
		const db_row_t *from)
{
	r->table = table;
	r->columns = columns;
	r->values = ROW_VALUES(from);
	r->id = 0;
	r->bad = NULL;
	r->used = 0;
}

static void row_bad(struct row *r, int column)
{
	if(r->bad == NULL) {
		r->bad = r->columns[column].s;
	}
}

static void row_log(const struct row *r, const char *column, const char *what)
{
	LM_ERR("prefs: bad row table=%s id=%lld column=%s: %s\n", r->table,
			(long long)r->id, column, what);
}

/* As it lies in the result: the slice dies with it. NULL and numbers: empty. */
static struct cpm_pl raw(const db_val_t *v)
{
	if(VAL_NULL(v)) {
		return CPM_PL_NULL;
	}
	switch(VAL_TYPE(v)) {
		case DB1_STRING:
			return cpm_pl_str(VAL_STRING(v));
		case DB1_STR:
			return cpm_pl(VAL_STR(v).s, (size_t)VAL_STR(v).len);
		case DB1_BLOB:
			return cpm_pl(VAL_BLOB(v).s, (size_t)VAL_BLOB(v).len);
		default:
			return CPM_PL_NULL;
	}
}

static const char *row_text(struct row *r, int column)
{
	const db_val_t *v = &r->values[column];
	struct cpm_pl s = raw(v);
	char *to = r->text + r->used;

	if(!VAL_NULL(v) && VAL_TYPE(v) != DB1_STRING && VAL_TYPE(v) != DB1_STR
			&& VAL_TYPE(v) != DB1_BLOB) {
		row_bad(r, column);
		return "";
	}
	if(s.n >= sizeof(r->text) - r->used
			|| (s.n > 0 && memchr(s.p, '\0', s.n) != NULL)) {
		row_bad(r, column);
		return "";
	}
	if(s.n > 0) {
		memcpy(to, s.p, s.n);
	}
	to[s.n] = '\0';
	r->used += s.n + 1;
	return to;
}

static bool decimal(struct cpm_pl s, int64_t *n_r)
{
	bool minus = s.n > 0 && s.p[0] == '-';
	uint64_t n;

	if(cpm_pl_u64(cpm_pl_from(s, minus), INT64_MAX, &n) != CPM_OK) {
		return false;
	}
	*n_r = minus ? -(int64_t)n : (int64_t)n;
	return true;
}

static bool number(const db_val_t *v, int64_t *n_r)
{
	switch(VAL_TYPE(v)) {
		case DB1_INT:
			*n_r = VAL_INT(v);
			return true;
		case DB1_UINT:
			*n_r = VAL_UINT(v);
			return true;
		case DB1_BITMAP:
			*n_r = VAL_BITMAP(v);
			return true;
		case DB1_BIGINT:
			*n_r = VAL_BIGINT(v);
			return true;
		case DB1_UBIGINT:
			*n_r = (int64_t)VAL_UBIGINT(v);
			return VAL_UBIGINT(v) <= INT64_MAX;
		case DB1_DOUBLE:
			*n_r = (int64_t)VAL_DOUBLE(v);
			return VAL_DOUBLE(v) >= -9e15 && VAL_DOUBLE(v) <= 9e15
				   && (double)*n_r == VAL_DOUBLE(v);
		default:
			return decimal(cpm_pl_trim(raw(v)), n_r);
	}
}

/* empty: what NULL stands for, as the column's default. */
static int64_t row_number(struct row *r, int column, int64_t empty)
{
	const db_val_t *v = &r->values[column];
	int64_t n = empty;

	if(!VAL_NULL(v) && !number(v, &n)) {
		row_bad(r, column);
		return empty;
	}
	return n;
}

static bool row_bool(struct row *r, int column, bool empty)
{
	int64_t n = row_number(r, column, empty);

	if(n != 0 && n != 1) {
		row_bad(r, column);
	}
	return n == 1;
}

/* ------------------------------------------------------ rows of one user */

struct who
{
	struct cpm_pl username;
	struct cpm_pl domain;
	char buf[CPM_AOR_MAX];
};

static void who_of(struct cpm_pl aor, struct who *w)
{
	w->domain = cpm_aor_host(aor);
	if(cpm_ulname_from_aor(aor, false, w->buf, sizeof(w->buf), &w->username)
			!= CPM_OK) {
		w->username = cpm_aor_user(aor); /* tel: */
	}
}

/* Some databases compare without case, or without spaces at the end; to SIP
 * these are others (RFC 3261, 19.1.4). */
static bool is_of(const db_row_t *row, int username, const struct who *w)
{
	return cpm_pl_eq(raw(&ROW_VALUES(row)[username]), w->username)
		   && cpm_pl_ieq(raw(&ROW_VALUES(row)[username + 1]), w->domain);
}

static int query_user(str *table, const struct who *w, str *columns, int count,
		db1_res_t **res_r)
{
	const struct condition where[] = {
			{str_init("username"), w->username},
			{str_init("domain"), w->domain},
	};

	return query(table, where, 2, columns, count, res_r);
}

static struct row row; /* too large for a stack */

/* In the order of the columns. */
enum
{
	U_ID,
	U_USERNAME,
	U_DOMAIN,
	U_ENABLED,
	U_CLASS,
	U_OFFLINE,
	U_MODE,
	U_EXPIRY,
	U_COPY,
	U_COUNT
};
static str user_columns[U_COUNT] = {str_init("id"), str_init("username"),
		str_init("domain"), str_init("enabled"), str_init("service_class"),
		str_init("when_offline"), str_init("queue_mode"), str_init("on_expiry"),
		str_init("record_copy")};

static enum kind user_compile(const db_row_t *from, struct cpm_prefs *prefs)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_user_row u;

	row_open(&row, t_user.s, user_columns, from);
	row.id = row_number(&row, U_ID, 0);
	u.enabled = row_bool(&row, U_ENABLED, true);
	u.service_class = row_text(&row, U_CLASS);
	u.when_offline = row_text(&row, U_OFFLINE);
	u.queue_mode = row_text(&row, U_MODE);
	u.on_expiry = row_text(&row, U_EXPIRY);
	u.record_copy = row_bool(&row, U_COPY, false);
	if(row.bad == NULL && cpm_user_compile(&u, prefs, &diag) != CPM_OK) {
		row.bad = diag.why;
	}
	if(row.bad != NULL) {
		row_log(&row, row.bad, "the user's messages are refused with 503");
		return KIND_BAD;
	}
	return KIND_KNOWN;
}

/* The kind of what was found, or CPM_EDOWN. prefs->service_class lies in
 * class_text. */
static int user_load(
		const struct who *w, struct cpm_prefs *prefs, char *class_text)
{
	db1_res_t *res;
	int kind = KIND_UNKNOWN;
	int i;

	if(query_user(&t_user, w, user_columns, U_COUNT, &res) != CPM_OK) {
		return CPM_EDOWN;
	}
	for(i = 0; res != NULL && i < RES_ROW_N(res); i++) {
		if(!is_of(&RES_ROWS(res)[i], U_USERNAME, w)) {
			continue;
		}
		if(kind != KIND_UNKNOWN) {
			row_log(&row, "username",
					"the user has more than one row, and is refused with 503");
			kind = KIND_BAD;
			break;
		}
		kind = (int)user_compile(&RES_ROWS(res)[i], prefs);
		if(kind == KIND_BAD) {
			break;
		}
	}
	query_free(res);
	if(kind == KIND_KNOWN) {
		prefs->service_class = cpm_pl_str(cpm_pl_cstr(
				prefs->service_class, class_text, CPM_CLASS_MAX + 1));
	}
	return kind;
}

enum
{
	R_ID,
	R_USERNAME,
	R_DOMAIN,
	R_PRIORITY,
	R_ORIGINATOR,
	R_TYPE,
	R_KIND,
	R_MIN,
	R_MAX,
	R_DEVICE,
	R_FROM,
	R_UNTIL,
	R_ACTION,
	R_COUNT
};
static str rule_columns[R_COUNT] = {str_init("id"), str_init("username"),
		str_init("domain"), str_init("priority"), str_init("originator"),
		str_init("content_type"), str_init("message_kind"),
		str_init("min_size"), str_init("max_size"), str_init("device"),
		str_init("valid_from"), str_init("valid_until"), str_init("action")};

static struct cpm_rule rules[CPM_RULES_MAX];
static char rule_texts[CPM_RULES_MAX][RULE_TEXT_MAX];

static bool rule_compile(const db_row_t *from, size_t i)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_rule_row r;

	row_open(&row, t_rule.s, rule_columns, from);
	r.id = row.id = row_number(&row, R_ID, 0);
	r.priority = row_number(&row, R_PRIORITY, 0);
	r.originator = row_text(&row, R_ORIGINATOR);
	r.content_type = row_text(&row, R_TYPE);
	r.message_kind = row_text(&row, R_KIND);
	r.min_size = row_number(&row, R_MIN, 0);
	r.max_size = row_number(&row, R_MAX, 0);
	r.device = row_text(&row, R_DEVICE);
	r.valid_from = row_number(&row, R_FROM, 0);
	r.valid_until = row_number(&row, R_UNTIL, 0);
	r.action = row_text(&row, R_ACTION);
	if(row.bad == NULL
			&& cpm_rule_compile(
					   &r, rule_texts[i], RULE_TEXT_MAX, &rules[i], &diag)
					   != CPM_OK) {
		row.bad = diag.why;
	}
	if(row.bad != NULL) {
		row_log(&row, row.bad, "the rule is left out, the user's others hold");
	}
	return row.bad == NULL;
}

/* KIND_KNOWN, KIND_BAD (too many), or CPM_EDOWN. */
static int rules_load(const struct who *w, size_t *count_r)
{
	db1_res_t *res;
	int kind = KIND_KNOWN;
	size_t n = 0;
	int i;

	if(query_user(&t_rule, w, rule_columns, R_COUNT, &res) != CPM_OK) {
		return CPM_EDOWN;
	}
	for(i = 0; res != NULL && i < RES_ROW_N(res); i++) {
		if(!is_of(&RES_ROWS(res)[i], R_USERNAME, w)) {
			continue;
		}
		if(n == CPM_RULES_MAX) {
			row_log(&row, "username",
					"the user has more than 256 rules, and is refused with "
					"503; this is the last of them");
			kind = KIND_BAD;
			break;
		}
		if(rule_compile(&RES_ROWS(res)[i], n)) {
			n++;
		}
	}
	query_free(res);
	*count_r = n;
	return kind;
}

/* The user's block into buf: the kind; or CPM_EDOWN, and buf and *block_r, which
 * may hold what the cache had, are as they were. */
static int prefs_load(
		struct cpm_pl aor, struct pf_prefs_buf *buf, struct cpm_pl *block_r)
{
	char class_text[CPM_CLASS_MAX + 1];
	struct cpm_prefs prefs;
	struct who who;
	struct cpm_wr w;
	size_t rule_count = 0;
	int kind;

	if(ready(io_clock_mono_ms()) != CPM_OK) {
		return CPM_EDOWN;
	}
	who_of(aor, &who);
	kind = user_load(&who, &prefs, class_text);
	if(kind == KIND_KNOWN && prefs.enabled) {
		kind = rules_load(&who, &rule_count);
	}
	if(kind < 0) {
		return kind;
	}
	*block_r = CPM_PL_NULL;
	if(kind != KIND_KNOWN) {
		return kind;
	}
	cpm_wr_init(&w, buf->bytes, sizeof(buf->bytes));
	if(cpm_prefs_encode(&prefs, rules, rule_count, &w) != CPM_OK) {
		row_log(&row, "username",
				"the user's rules are too long, and the user is refused with "
				"503; this is one of them");
		return KIND_BAD;
	}
	*block_r = cpm_wr_pl(&w);
	return KIND_KNOWN;
}

/* ------------------------------------------------------------- policies */

enum
{
	P_ID,
	P_CLASS,
	P_MAX,
	P_TYPES,
	P_ANONYMOUS,
	P_SEND,
	P_IDS,
	P_MESSAGES,
	P_BYTES,
	P_EXPIRES,
	P_DELIVER,
	P_NOTIFY,
	P_COUNT
};
static str policy_columns[P_COUNT] = {str_init("id"), str_init("service_class"),
		str_init("max_size"), str_init("accept_types"),
		str_init("allow_anonymous"), str_init("allow_send"),
		str_init("require_ids"), str_init("queue_max_messages"),
		str_init("queue_max_bytes"), str_init("max_expires"),
		str_init("deliver_max_size"), str_init("notify_fields")};

static enum kind policy_compile(const db_row_t *from, struct cpm_policy *policy)
{
	struct cpm_diag diag = {"", 0};
	struct cpm_policy_row p;

	row_open(&row, t_policy.s, policy_columns, from);
	row.id = row_number(&row, P_ID, 0);
	p.max_size = row_number(&row, P_MAX, 0);
	p.accept_types = row_text(&row, P_TYPES);
	p.allow_anonymous = row_bool(&row, P_ANONYMOUS, true);
	p.allow_send = row_bool(&row, P_SEND, true);
	p.require_ids = row_bool(&row, P_IDS, false);
	p.queue_max_messages = row_number(&row, P_MESSAGES, 0);
	p.queue_max_bytes = row_number(&row, P_BYTES, 0);
	p.max_expires = row_number(&row, P_EXPIRES, 0);
	p.deliver_max_size = row_text(&row, P_DELIVER);
	p.notify_fields = row_text(&row, P_NOTIFY);
	if(row.bad == NULL && cpm_policy_compile(&p, policy, &diag) != CPM_OK) {
		row.bad = diag.why;
	}
	if(row.bad != NULL) {
		row_log(&row, row.bad,
				"messages of this service class are refused with 503");
		return KIND_BAD;
	}
	return KIND_KNOWN;
}

/* The kind, or CPM_EDOWN. */
static int policy_load(struct cpm_pl class, struct cpm_policy *policy)
{
	struct condition where = {str_init("service_class"), class};
	db1_res_t *res;
	int kind = KIND_UNKNOWN;
	int i;

	if(ready(io_clock_mono_ms()) != CPM_OK
			|| query(&t_policy, &where, 1, policy_columns, P_COUNT, &res)
					   != CPM_OK) {
		return CPM_EDOWN;
	}
	for(i = 0; res != NULL && i < RES_ROW_N(res); i++) {
		if(cpm_pl_eq(raw(&ROW_VALUES(&RES_ROWS(res)[i])[P_CLASS]), class)) {
			kind = (int)policy_compile(&RES_ROWS(res)[i], policy);
			break;
		}
	}
	query_free(res);
	return kind;
}

static int refused(struct cpm_diag *diag, const char *why)
{
	if(diag != NULL) {
		diag->why = why;
	}
	return CPM_EDOWN;
}

/* What a full cache or full shared memory costs is a query the next time. */
static void keep(struct pf_cache *cache, struct cpm_pl key,
		const struct pf_cache_value *value,
		const struct pf_cache_ticket *ticket)
{
	pf_cache_put(cache, key, value, io_clock_mono_ms(), ticket);
}

static uint64_t ttl_ms(void)
{
	return (uint64_t)pf_params.prefs_cache_ttl * 1000;
}

int pf_prefs_policy(struct cpm_pl service_class, struct cpm_policy *policy_r,
		struct cpm_diag *diag)
{
	struct pf_cache_ticket ticket;
	struct pf_cache_value v;
	enum pf_cache_state state;
	struct cpm_policy policy, loaded;
	int kind;

	if(shared == NULL) {
		*policy_r = cpm_policy_default();
		return CPM_OK;
	}
	state = pf_cache_get(policies, service_class, io_clock_mono_ms(), ttl_ms(),
			(char *)&policy, sizeof(policy), &v, &ticket);
	if(state != PF_CACHE_FRESH) {
		kind = policy_load(service_class, &loaded);
		if(kind >= 0) {
			v.kind = (unsigned)kind;
			v.bytes = CPM_PL_NULL;
			if(kind == KIND_KNOWN) {
				policy = loaded;
				v.bytes = cpm_pl((char *)&policy, sizeof(policy));
			}
			keep(policies, service_class, &v, &ticket);
		} else if(state == PF_CACHE_NONE) {
			return refused(diag, why_down());
		}
	}
	switch(v.kind) {
		case KIND_KNOWN:
			*policy_r = policy;
			return CPM_OK;
		case KIND_UNKNOWN:
			*policy_r = cpm_policy_default();
			return CPM_OK;
		default:
			return refused(diag, "bad-policy");
	}
}

/* ---------------------------------------------------------------- users */

int pf_prefs_get(struct cpm_pl aor, struct pf_prefs_buf *buf,
		struct cpm_prefs *prefs_r, struct cpm_policy *policy_r,
		struct cpm_diag *diag)
{
	struct pf_cache_ticket ticket;
	struct pf_cache_value v;
	enum pf_cache_state state;
	struct cpm_prefs prefs;
	int kind;
	int rc = CPM_OK;

	if(shared == NULL) {
		*prefs_r = cpm_prefs_default();
		return policy_r != NULL ? pf_prefs_policy(CPM_PL_NULL, policy_r, diag)
								: CPM_OK;
	}
	state = pf_cache_get(users, aor, io_clock_mono_ms(), ttl_ms(), buf->bytes,
			sizeof(buf->bytes), &v, &ticket);
	if(state == PF_CACHE_FRESH) {
		pf_stat(CPM_STAT_prefs_hits);
	} else {
		pf_stat(CPM_STAT_prefs_misses);
		kind = prefs_load(aor, buf, &v.bytes);
		if(kind >= 0) {
			v.kind = (unsigned)kind;
			keep(users, aor, &v, &ticket);
		} else if(state == PF_CACHE_NONE) {
			return refused(diag, why_down());
		}
	}
	if(v.kind == KIND_BAD) {
		return refused(diag, "bad-preferences");
	}
	memset(&prefs, 0, sizeof(prefs));
	if(v.kind == KIND_KNOWN && cpm_prefs_decode(v.bytes, &prefs) != CPM_OK) {
		LM_BUG("prefs: a block of the cache cannot be read\n");
		return refused(diag, "bad-preferences");
	}
	if(policy_r != NULL) {
		rc = pf_prefs_policy(prefs.service_class, policy_r, diag);
	}
	if(rc == CPM_OK) {
		*prefs_r = prefs;
	}
	return rc;
}

void pf_prefs_reload(struct cpm_pl aor)
{
	if(shared == NULL) {
		return;
	}
	if(aor.n > 0) {
		pf_cache_stale(users, aor);
	} else {
		pf_cache_stale_all(users);
		pf_cache_stale_all(policies);
	}
}

/* ---------------------------------------------------------------- start */

static int memory_get(void)
{
	unsigned n = (unsigned)pf_params.prefs_cache_size;

	shared = shm_malloc(sizeof(*shared));
	users = pf_cache_new(n, (size_t)n * ENTRY_BYTES + PF_PREFS_BYTES_MAX);
	/* service classes are few */
	policies = pf_cache_new(1024, 1024 * (sizeof(struct cpm_policy) + 256));
	if(shared == NULL || users == NULL || policies == NULL) {
		LM_ERR("prefs: no shared memory for a cache of %u entries (parameter "
			   "prefs_cache_size); give Kamailio more (-m)\n",
				n);
		return -1;
	}
	memset(shared, 0, sizeof(*shared));
	return 0;
}

/* 0, -1 as pf_prefs_init. */
static int first_look(void)
{
	int rc;

	db = dbf.init(&db_url);
	if(db == NULL) {
		note_down("connect", RETRY_MS);
		LM_WARN("prefs: the database cannot be reached; its tables are looked "
				"at when it can, and until then messages of all users are "
				"refused with 503\n");
		return 0;
	}
	rc = tables_look();
	disconnect(); /* a connection does not survive a fork */
	if(rc == CPM_EDOWN) {
		LM_ERR("prefs: the database has no table version that could be read; "
			   "tools/cpm-db.sh create makes what is missing\n");
	}
	if(rc != CPM_OK) {
		return -1;
	}
	atomic_store(&shared->tables, TABLES_RIGHT);
	atomic_store(&shared->up, true);
	cpm_stat_set(pf_stats, CPM_STAT_db_up, 1);
	return 0;
}

/* libpq waits for ever for a server that takes connections and says nothing,
 * and a SIP worker with it. For connecting there is a remedy, unless the
 * operator has one (con_param of db_postgres, or the environment); for queries
 * only a hint. */
static void postgres_timeouts(void)
{
	struct sr_module *module = find_module_by_name("db_postgres");
	modparam_t type = 0;
	const int *timeout;

	if(module == NULL
			|| !cpm_pl_starts(
					cpm_pl_str(pf_params.db_url), CPM_PL_LIT("postgres:"))) {
		return;
	}
	if(setenv("PGCONNECT_TIMEOUT", PG_CONNECT_TIMEOUT, 0) < 0) {
		LM_WARN("prefs: no connect timeout for PostgreSQL: %s\n",
				strerror(errno));
	}
	timeout = find_param_export(module, "timeout", INT_PARAM, &type);
	if(timeout != NULL && *timeout <= 0) {
		LM_WARN("prefs: db_postgres waits without limit for a server that "
				"hangs, and SIP workers with it; set "
				"modparam(\"db_postgres\", \"timeout\", 2)\n");
	}
}

int pf_prefs_init(void)
{
	db_url.s = pf_params.db_url;
	db_url.len = (int)strlen(pf_params.db_url);
	if(db_url.len == 0) {
		return 0;
	}
	if(db_bind_mod(&db_url, &dbf) < 0) {
		LM_ERR("parameter db_url: no database module for it; it takes "
			   "mysql://, postgres:// or sqlite:// and what follows, and "
			   "loadmodule \"db_mysql.so\" (or its like) must come before "
			   "cpm_pf.so\n");
		return -1;
	}
	if(!DB_CAPABILITY(dbf, DB_CAP_QUERY)) {
		LM_ERR("parameter db_url: this database module cannot query\n");
		return -1;
	}
	postgres_timeouts();
	return memory_get() < 0 ? -1 : first_look();
}
