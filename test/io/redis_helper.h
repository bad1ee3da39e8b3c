/*
 * Copyright (C) 2026 the cpm_pf authors
 *
 * This file is part of cpm_pf, a module for Kamailio, a free SIP server.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * redis_helper.h - a private redis-server for a test.
 *
 * runs in:  test programs, one thread
 * owns:     the server's process and its directory below TMPDIR
 *
 * Whatever goes wrong in here fails the test. The server dies with the process
 * that started it, so that a test that was aborted leaves none behind.
 */

#ifndef REDIS_HELPER_H
#define REDIS_HELPER_H

#include <stdbool.h>
#include <sys/types.h>

#define REDIS_HELPER_ARGS_MAX 16

struct redis_helper
{
	pid_t pid;	   /* 0: does not run */
	unsigned port; /* on 127.0.0.1 */
	char dir[96];
	char unix_path[108];
	const char *args[REDIS_HELPER_ARGS_MAX + 1];
};

/* args: more options for redis-server ("--requirepass", "x", ...), ending in
 * NULL, or NULL; the strings must stay. Returns when it answers. */
void redis_start(struct redis_helper *h, const char *const *args);

/* Stops it and removes its directory. */
void redis_stop(struct redis_helper *h);

/* SIGKILL, as by a power cut; the directory stays. */
void redis_kill(struct redis_helper *h);

/* Once more, on the same port and directory: with "--appendonly", "yes" among
 * the args it has what it had. Returns when it answers. */
void redis_again(struct redis_helper *h);

/* The kernel accepts connections and bytes, but nobody answers. */
void redis_pause(struct redis_helper *h);
void redis_resume(struct redis_helper *h);

/* A port of 127.0.0.1 that nobody listens on now. */
unsigned redis_free_port(void);

#endif
