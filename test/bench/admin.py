#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The admin endpoint with 100,000 queues of ten messages each: how long the
first page of every list takes, and what an operator who looks costs SIP."""

import argparse
import contextlib
import glob
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [os.path.join(TOP, "test", "integ"), os.path.join(TOP, "tools")]

import harness  # noqa: E402

EACH = 10                       # messages of a user
LISTS_MS, METRICS_MS = 50, 100  # targets
TURNS = 30
SIP = 1000                      # messages of one measurement


def seed_program(directory):
    mod = os.path.join(TOP, "modules", "cpm_pf")
    program = os.path.join(directory, "queue_seed")
    subprocess.run(
        [os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2",
         "-I", mod + "/core", "-I", mod + "/io",
         os.path.join(TOP, "test", "integ", "queue_seed.c")]
        + glob.glob(mod + "/core/*.c")
        + [f for f in glob.glob(mod + "/io/*.c")
           if os.path.basename(f) not in ("io_actions.c", "io_reginfo.c")]
        + ["-lhiredis", "-o", program], check=True)
    return program


def word(text):
    return text.encode().hex()


def seed(program, stack, users):
    now = int(time.time() * 1000)
    same = " ".join(word(w) for w in (
        "<sip:alice@example.org>", "<sip:bob@example.org>", "hello",
        "text/plain", "conversation", "contribution", "x" * 200))
    with subprocess.Popen([program, str(stack.redis.port), "cpm"],
                          stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          text=True) as p:
        for m in range(EACH):
            for u in range(users):
                p.stdin.write("put %s %s %d %d %s\n" % (
                    word("sip:u%06d@example.org" % u),
                    word("m%d-%d" % (u, m)), now - 1000 * m,
                    now + 432000000, same))
        p.stdin.close()
    if p.returncode != 0:
        raise SystemExit("queue_seed failed")


def get(stack, path):
    """Milliseconds."""
    with contextlib.closing(http.client.HTTPConnection(
            harness.HOST, stack.admin_port, timeout=30)) as c:
        start = time.perf_counter()
        c.request("GET", path)
        answer = c.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit("%s: %d" % (path, answer.status))
    return 1000 * (time.perf_counter() - start)


def latency(alice, what):
    """Of messages that are queued: 4 ms of rest after each, so that tm's
    finished transactions do not fill its memory."""
    times = []
    for i in range(SIP):
        r = alice.message("sip:nobody%d@example.org" % (i % 500), b"x" * 100)
        if r.code != 202:
            raise SystemExit("MESSAGE: %s" % r)
        times.append(1000 * r.elapsed)
        time.sleep(0.004)
    times.sort()
    print("%-34s p50 %6.2f  p99 %6.2f ms" % (
        what, times[SIP // 2], times[SIP * 99 // 100]), flush=True)


def latency_with(stack, alice, what, pause):
    done = threading.Event()

    def look():
        while not done.is_set():
            for path in ("/v1/queues?limit=500", "/metrics"):
                get(stack, path)
                done.wait(pause)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        latency(alice, what)
    finally:
        done.set()
        thread.join()


def measure(stack):
    user = stack.queue_path("u000500")
    print("%-48s %8s %8s" % ("first page", "median", "worst"))
    for path, limit in [(p, LISTS_MS) for p in (
            "/v1/queues", "/v1/queues?limit=500", "/v1/queues?prefix=sip:u09",
            "/v1/queues?older_than=3600", user, user + "/messages",
            "/v1/dead", "/v1/jobs")] + [("/metrics", METRICS_MS)]:
        times = [get(stack, path) for _ in range(TURNS)]
        median = statistics.median(times)
        print("%-48s %5.1f ms %5.1f ms  %s" % (
            path, median, max(times),
            "met" if median < limit else "MISSED (%d)" % limit), flush=True)
    alice = stack.ua("alice")
    print("\nMESSAGE for an offline user, until its 202:")
    for _ in range(2):
        latency(alice, "nobody looks")
        latency_with(stack, alice, "20 requests a second", 0.05)
        latency_with(stack, alice, "one client without a pause", 0)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--users", type=int, default=100000)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        program = seed_program(directory)
        stack = harness.Stack(directory, {"admin_rate": 100000})
        stack.start()
        try:
            start = time.monotonic()
            seed(program, stack, args.users)
            print("%d messages of %d users, seeded in %.0f s" % (
                stack.metric("queue_messages"), stack.metric("queue_users"),
                time.monotonic() - start), flush=True)
            measure(stack)
        finally:
            stack.close()


main()
