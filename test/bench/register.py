#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a registration storm costs: REGISTER by users who have nothing queued,
to a Kamailio with cpm_pf and to the same without, in turns.

Both run all the time; each round sends to one and then to the other, so that
a machine that becomes slower does so for both. Two questions: how many a
second at most (a closed loop, all processes fight for the cores), and what one
SIP worker spends on each, which is what is left to it on a machine that has
cores for the others.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# not this directory, or Python's own module queue would be this file
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != HERE]
sys.path.insert(0, os.path.join(HERE, "..", "integ"))

import harness  # noqa: E402
import sipua  # noqa: E402

USERS = 20000
ROUNDS = 7
SECONDS = 4        # of each measurement, about
IN_FLIGHT = 32
LIMIT_S = 30
TICK = os.sysconf("SC_CLK_TCK")


class Way:
    def __init__(self, name, directory, redis=None):
        self.name, self.directory = name, os.path.join(directory, name)
        self.port = harness.free_port()
        self.redis = redis
        self.rates, self.costs, self.alls = [], [], []
        self.runs = 0
        os.mkdir(self.directory)

    def start(self):
        argv = ["kamailio", "-f", os.path.join(HERE, "register.cfg"), "-DD",
                "-E", "-m", "512", "-w", self.directory, "-Y", self.directory,
                "-P", os.path.join(self.directory, "pid"),
                "-A", "SIP_PORT=%d" % self.port]
        if self.redis:
            argv += ["-A", "WITH_CPM",
                     "-A", 'CPM_MODULE="%s"' % harness.MODULE,
                     "-A", 'REDIS="addr=%s;port=%d"' % (
                         harness.HOST, self.redis.port)]
        self.program = harness.Program(self.name, argv, self.directory)
        harness.wait_until(self.is_up, 15, "Kamailio answers SIP")
        self.worker = self.sip_worker()

    def is_up(self):
        if not self.program.running:
            raise SystemExit("bench: Kamailio ended:\n"
                             + self.program.log()[-2000:])
        try:
            with sipua.UA("probe", proxy=(harness.HOST, self.port)) as ua:
                return ua.request("OPTIONS", "sip:127.0.0.1", timeout=0.2)
        except sipua.SipError:
            return None

    def sip_worker(self):
        """The first process after main is the one UDP receiver."""
        children = sorted(
            int(p) for p in open("/proc/%d/task/%d/children" % (
                self.program.pid, self.program.pid)).read().split())
        return children[0]

    def cpu_s(self):
        """What the SIP worker has used, and what all processes have, Redis'
        among them."""
        pids = self.program.left()
        if self.redis:
            pids = pids + [self.redis.program.pid]
        return used_s([self.worker]), used_s(pids)

    def load(self, directory, count):
        # the same key each time: a client's REGISTERs have one Call-ID, and
        # each run goes on where the last one ended
        before = self.cpu_s()
        done = subprocess.run(
            [os.path.join(directory, "sipload"), "-r", "-c", str(IN_FLIGHT),
             "-n", str(count), "-t", str(LIMIT_S), "-u", str(USERS),
             "-k", "r%d" % self.runs, harness.HOST, str(self.port)],
            stdout=subprocess.PIPE, text=True)
        self.runs += 1
        result = json.loads(done.stdout or "{}")
        good = result.get("codes", {}).get("200", 0)
        if done.returncode != 0 or good != result.get("sent"):
            print("  NOT ALL ANSWERED 200: %s" % done.stdout.strip())
        result["worker_us"], result["all_us"] = (
            (b - a) / max(good, 1) * 1e6
            for a, b in zip(before, self.cpu_s()))
        return result


def used_s(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/schedstat" % pid) as f:
                total += int(f.read().split()[0])
        except OSError:
            pass  # it has ended
    return total / 1e9


def median(values):
    return statistics.median(values)


def bench(directory):
    subprocess.run(
        [os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2",
         os.path.join(HERE, "sipload.c"), "-o",
         os.path.join(directory, "sipload")], check=True)
    redis = harness.Redis(directory)
    redis.start()
    ways = [Way("without", directory), Way("with", directory, redis)]
    try:
        for way in ways:
            way.start()
            # each user's first REGISTER, and the caches
            way.guess = way.load(directory, USERS)["per_second"]
        rounds(directory, ways, redis)
    finally:
        for way in ways:
            if hasattr(way, "program"):
                way.program.kill()
                way.program.expect_none_left()
        redis.stop()


def rounds(directory, ways, redis):
    trips = count = 0
    for number in range(ROUNDS):
        # who comes second finds another machine than who comes first
        for way in ways if number % 2 == 0 else reversed(ways):
            before = redis.round_trips()
            result = way.load(directory, int(way.guess * SECONDS))
            way.rates.append(result["per_second"])
            way.costs.append(result["worker_us"])
            way.alls.append(result["all_us"])
            if way.redis:
                time.sleep(0.5)  # what is pending is looked at
                trips += redis.round_trips() - before
                count += result["sent"]
    print("%d users without anything queued, %d rounds of %d s, %d requests "
          "out at a time, one SIP worker" % (
              USERS, ROUNDS, SECONDS, IN_FLIGHT))
    print("%-10s %12s %22s %24s" % ("module", "REGISTER/s",
                                    "SIP worker's us each",
                                    "all processes' us each"))
    for way in ways:
        print("%-10s %12.0f %22.1f %24.1f" % (
            way.name, median(way.rates), median(way.costs),
            median(way.alls)))
    without, with_ = ways
    print("%-10s %12.3f %22.3f %24.3f   medians of each round's ratio" % (
        ("ratio",) + tuple(
            median([b / a for a, b in zip(getattr(without, what),
                                          getattr(with_, what))])
            for what in ("rates", "costs", "alls"))))
    print("Redis scripts for each REGISTER: %.2f" % (trips / max(count, 1)))


def main():
    if not os.path.exists(harness.MODULE):
        raise SystemExit("bench: %s is missing; make module builds it"
                         % harness.MODULE)
    directory = tempfile.mkdtemp(prefix="cpm-bench-")
    try:
        bench(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
