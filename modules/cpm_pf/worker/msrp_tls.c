/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "msrp_int.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>

/*
 * Certificates are self-signed, of the day, and told by SDP (RFC 4975, 14.4;
 * RFC 8122): no authority vouches for them, the fingerprint does.
 */

static int take_any(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 1;
}

static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if(ctx == NULL)
		return NULL;
	if(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION
										   | SSL_OP_NO_COMPRESSION
										   | SSL_OP_CIPHER_SERVER_PREFERENCE);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	/* a session that is resumed shows no certificate */
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(ctx, 0);
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, take_any);
	return ctx;
}

static bool load(SSL_CTX *ctx, const struct worker_conf *conf)
{
	const char *key = conf->msrp_key[0] ? conf->msrp_key : conf->msrp_cert;

	return SSL_CTX_use_certificate_chain_file(ctx, conf->msrp_cert) == 1
		   && SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1
		   && SSL_CTX_check_private_key(ctx) == 1;
}

/* "SHA-256 AB:CD:..." of our own. */
static bool tell_own(struct msrp *m)
{
	X509 *cert = SSL_CTX_get0_certificate(m->server_ctx);
	unsigned char octets[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	struct cpm_wr w;

	if(cert == NULL || X509_digest(cert, EVP_sha256(), octets, &n) != 1)
		return false;
	cpm_wr_init(&w, m->fingerprint, sizeof(m->fingerprint) - 1);
	cpm_wr_str(&w, "SHA-256 ");
	for(unsigned i = 0; i < n; i++) {
		if(i > 0)
			cpm_wr_chr(&w, ':');
		cpm_wr_chr(&w, "0123456789ABCDEF"[octets[i] >> 4]);
		cpm_wr_chr(&w, "0123456789ABCDEF"[octets[i] & 15]);
	}
	return cpm_wr_ok(&w);
}

int msrp_tls_init(struct msrp *m)
{
	char why[256];

	m->server_ctx = ctx_new(TLS_server_method());
	m->client_ctx = ctx_new(TLS_client_method());
	if(m->server_ctx == NULL || m->client_ctx == NULL) {
		worker_log(WORKER_ERROR, "msrp: no-memory");
		return CPM_ENOMEM;
	}
	if(m->conf->msrp_cert[0] == '\0') {
		for(size_t i = 0; i < m->conf->msrp_listens; i++) {
			if(!m->conf->msrp_listen[i].tls)
				continue;
			worker_log(WORKER_ERROR,
					"msrp: msrp_listen=%s takes msrp_cert and msrp_key, which "
					"are not given",
					m->conf->msrp_listen[i].text);
			return CPM_EPROTO;
		}
		return CPM_OK;
	}
	if(load(m->server_ctx, m->conf) && load(m->client_ctx, m->conf)
			&& tell_own(m))
		return CPM_OK;
	ERR_error_string_n(ERR_peek_last_error(), why, sizeof(why));
	ERR_clear_error();
	worker_log(WORKER_ERROR,
			"msrp: msrp_cert and msrp_key take PEM files that belong together: "
			"%s",
			why);
	return CPM_EPROTO;
}

void msrp_tls_fini(struct msrp *m)
{
	SSL_CTX_free(m->server_ctx);
	SSL_CTX_free(m->client_ctx);
	m->server_ctx = m->client_ctx = NULL;
}

bool msrp_tls_matches(SSL *ssl, const char *fingerprint)
{
	uint8_t want[EVP_MAX_MD_SIZE], octets[EVP_MAX_MD_SIZE];
	struct cpm_pl name;
	size_t n = cpm_ctl_fingerprint(
			cpm_pl_str(fingerprint), &name, want, sizeof(want));
	X509 *cert = SSL_get1_peer_certificate(ssl);
	bool same = false;
	unsigned got = 0;
	char text[16];

	if(n > 0 && cert != NULL) {
		const EVP_MD *hash =
				EVP_get_digestbyname(cpm_pl_cstr(name, text, sizeof(text)));
		same = hash != NULL && X509_digest(cert, hash, octets, &got) == 1
			   && got == n && CRYPTO_memcmp(want, octets, n) == 0;
	}
	X509_free(cert);
	ERR_clear_error();
	return same;
}
