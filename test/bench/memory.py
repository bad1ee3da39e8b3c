#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What Redis needs for a queued message beyond its own bytes, and for a user
with a queue.

Its own bytes are the stored value (HSTRLEN), which the scripts add up. All
else that INFO's used_memory grew by is divided among messages and users:
shapes with many messages for few users and the other way round make
equations of the form  overhead = messages * a + users * b.
"""

import argparse
import importlib.util
import os
import shutil
import tempfile

# queue.py of this directory; Python has a module of that name
_spec = importlib.util.spec_from_file_location(
    "bench", os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "queue.py"))
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

# users x messages of each
SHAPES = [(100, 1000), (1000, 100), (10000, 10), (50000, 2), (100000, 1)]
PER_MESSAGE, PER_USER = 250, 600


def key(kind, user):
    """The key of f<user>, as Redis has it: which shard is Redis' to say."""
    return "cpm:{*}:%s:sip:f%d@example.org" % (kind, user)


def number(reply):
    """Of a raw reply ":N" or a bulk string of digits; nil is 0."""
    lines = reply.split(b"\r\n")
    if lines[0].startswith(b":"):
        return int(lines[0][1:])
    return int(lines[1]) if lines[0] not in (b"$-1", b"*-1") else 0


def find(redis, kind, user):
    """SCAN for one key would read all; the shard is one of 64."""
    for shard in range(64):
        name = key(kind, user).replace("*", str(shard))
        if number(redis.command("EXISTS", name)):
            return name
    raise SystemExit("bench: no key for %s" % key(kind, user))


def used(redis):
    return int(redis.info("memory")["used_memory"])


class Shape:
    def __init__(self, directory, users, each):
        self.users, self.each = users, each
        self.messages = users * each
        redis = bench.Redis(directory, "none")
        try:
            # the scripts, and one connection, are there before: a queue that
            # is emptied leaves nothing behind
            redis.fill(directory, 1, 1)
            redis.command("FLUSHALL", "SYNC")
            before = used(redis)
            redis.fill(directory, users, each)
            self.grown = used(redis) - before
            sums = [redis.command("HGET", "cpm:{%d}:sum" % s, "b")
                    for s in range(64)]
            self.blobs = sum(map(number, sums))
            self.keys = {
                kind: number(redis.command(
                    "MEMORY", "USAGE", find(redis, kind, 0), "SAMPLES", "0"))
                for kind in "qm"}
            count = sum(number(redis.command(
                "HGET", "cpm:{%d}:sum" % s, "n")) for s in range(64))
            if count != self.messages:
                raise SystemExit("bench: %d messages instead of %d" % (
                    count, self.messages))
        finally:
            redis.close()

    @property
    def overhead(self):
        return self.grown - self.blobs


def solve(shapes):
    """Bytes for each message and each user: least squares of what each
    message of a shape needs, so that all shapes count alike."""
    # per message: o = a + b * x, x users for each message
    points = [(s.users / s.messages, s.overhead / s.messages) for s in shapes]
    mx = sum(x for x, _ in points) / len(points)
    my = sum(y for _, y in points) / len(points)
    b = sum((x - mx) * (y - my) for x, y in points) / sum(
        (x - mx) ** 2 for x, _ in points)
    return my - b * mx, b


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.parse_args()
    directory = tempfile.mkdtemp(prefix="cpm-bench-")
    try:
        bench.build(directory)
        shapes = [Shape(directory, *s) for s in SHAPES]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("| users x messages | own bytes of one | used_memory grew by | "
          "overhead for each message | list of the first user | hash of the "
          "first user |")
    print("|---|---:|---:|---:|---:|---:|")
    for s in shapes:
        print("| %d x %d | %.0f | %d | %.0f | %d | %d |" % (
            s.users, s.each, s.blobs / s.messages, s.grown,
            s.overhead / s.messages, s.keys["q"], s.keys["m"]))
    a, b = solve(shapes)
    print("\nof all shapes: %.0f bytes for each message, %.0f for each user "
          "with a queue" % (a, b))
    for s in shapes:
        print("  %6d x %-4d would need %4.0f for each message, needs %4.0f" % (
            s.users, s.each, a + b * s.users / s.messages,
            s.overhead / s.messages))
    bench.table_of_targets()
    bench.target("beyond its own bytes, each message", a, PER_MESSAGE,
                 " bytes")
    bench.target("each user with a queue", b, PER_USER, " bytes")


if __name__ == "__main__":
    main()
