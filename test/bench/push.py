#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast queued messages reach clients that register: in sessions, by
MESSAGE, by Kamailio's own msilo; and what the machine could do at best.

The clients are one process, pushsink.c; Kamailio's configuration is push.cfg;
what fills Redis is queue.c. Each round measures every way once, so that a
machine that becomes slower or faster does so for all alike; what is printed
are medians over the rounds, and medians of the ratios within each round.

Options are for looking closer; "make bench push" uses none.
"""

import argparse
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# not this directory, or Python's own module queue would be this file
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != HERE]
sys.path.insert(0, os.path.join(HERE, "..", "integ"))

import databases  # noqa: E402
import harness  # noqa: E402

HOST = harness.HOST
SQL = "/usr/share/kamailio/mysql/%s-create.sql"

ROUNDS = 3
BYTES = 500
CHILDREN = 8
LIMIT_S = 30       # then what has not come is given up
DELAY_MS = 20
FAR_SESSION, FAR_MESSAGE = 4000, 300    # with that delay, which takes long

opts = None


class Way:
    """users and each: whom, and how many messages for each of them.
    delay: milliseconds that a round trip takes longer."""

    def __init__(self, key, name, kind, users, each, delay=0):
        self.key, self.name, self.kind = key, name, kind
        self.users, self.each, self.delay = users, each, delay
        self.runs = []

    def mid(self, what):
        return statistics.median(run[what] for run in self.runs)


WAYS = [
    Way("limit", "limit: from Redis into TCP, 32 at a time", "limit", 1,
        10000),
    Way("limit-1", "limit: from Redis into TCP, one at a time", "limit-1", 1,
        10000),
    Way("session", "cpm_pf, one session", "session", 1, 10000),
    Way("message", "cpm_pf, MESSAGE", "message", 1, 10000),
    Way("msilo", "msilo, MESSAGE", "msilo", 1, 10000),
    Way("session-1000", "cpm_pf, 1,000 sessions", "session", 1000, 10),
    Way("message-1000", "cpm_pf, MESSAGE", "message", 1000, 10),
    Way("msilo-1000", "msilo, MESSAGE", "msilo", 1000, 10),
    Way("session-far", "cpm_pf, one session, 20 ms more", "session", 1,
        FAR_SESSION, DELAY_MS),
    Way("message-far", "cpm_pf, MESSAGE, 20 ms more", "message", 1,
        FAR_MESSAGE, DELAY_MS),
]


def say(*words):
    print(*words, flush=True)


# ---- programs ----------------------------------------------------------------

def build(directory):
    """pushsink and queue, of this tree."""
    mod = os.path.join(harness.TOP, "modules", "cpm_pf")
    cc = [os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2",
          "-Wall", "-Wextra", "-I", mod + "/core", "-I", mod + "/io"]
    objects = os.path.join(directory, "objects")
    archive = os.path.join(directory, "libcpm.a")
    os.mkdir(objects)
    subprocess.run(cc + ["-c"] + glob.glob(mod + "/core/*.c")
                   + glob.glob(mod + "/io/*.c"), check=True, cwd=objects)
    subprocess.run(["ar", "rcs", archive] + glob.glob(objects + "/*.o"),
                   check=True)
    for name, words in (("pushsink", []), ("queue", [
            "-DBODY_BYTES=%d" % BYTES, archive, "-lhiredis"])):
        subprocess.run(cc + [os.path.join(HERE, name + ".c")] + words
                       + ["-o", os.path.join(directory, name)], check=True)


class Redis:
    """As that of make run: append-only, to the disk once a second."""

    def __init__(self, directory):
        self.directory = tempfile.mkdtemp(prefix="redis-", dir=directory)
        self.port = harness.free_port()
        self.program = harness.Program("redis", [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--dir", self.directory, "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec", "--daemonize", "no",
            "--auto-aof-rewrite-percentage", "0"], self.directory)
        try:
            harness.wait_until(
                lambda: self.ask("PING") == b"+PONG\r\n", 10, "Redis answers")
        except BaseException:
            self.close()
            raise

    def ask(self, *words):
        """The raw reply to one command, None if there is no Redis."""
        wire = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(w), w)
            for w in (str(word).encode() for word in words))
        try:
            with socket.create_connection((HOST, self.port), 10) as s:
                s.sendall(wire)
                return s.recv(1 << 16)
        except ConnectionRefusedError:
            return None

    def values(self, count):
        """b0, b1...: what pushsink -r reads."""
        wire = b"".join(
            b"*3\r\n$3\r\nSET\r\n$%d\r\nb%d\r\n$%d\r\n%s\r\n" % (
                len(b"b%d" % i), i, BYTES, b"x" * BYTES)
            for i in range(count))
        want = b"+OK\r\n" * count
        got = 0
        with socket.create_connection((HOST, self.port), 30) as s:
            for i in range(0, len(wire), 65536):
                s.sendall(wire[i:i + 65536])
            while got < len(want):
                got += len(s.recv(65536))

    def close(self):
        self.program.kill()
        self.program.expect_none_left()
        shutil.rmtree(self.directory, ignore_errors=True)


class Maria:
    """A MariaDB server with msilo's table."""

    def __init__(self):
        if not os.path.exists(SQL % "msilo"):
            raise SystemExit("bench: no %s: kamailio-mysql-modules brings it"
                             % (SQL % "msilo"))
        self.server = databases.MysqlServer()
        self.database = self.server.database()
        for name in "standard", "msilo":
            with open(SQL % name) as f:
                self.sql(f.read())
        # as Redis with everysec
        self.sql("SET GLOBAL innodb_flush_log_at_trx_commit=2")

    def sql(self, text):
        done = self.database.client(text)
        if done.returncode != 0:
            raise SystemExit("bench: MariaDB: " + done.stderr)
        return done.stdout

    def fill(self, users, each):
        now = int(time.time())
        rows = ["('sip:alice@example.org','sip:f%d@example.org','f%d',"
                "'example.org',%d,%d,'%s','')" % (
                    user, user, now, now + 86400, "x" * BYTES)
                for _ in range(each) for user in range(users)]
        self.sql("TRUNCATE TABLE silo;" + "".join(
            "INSERT INTO silo (src_addr,dst_addr,username,domain,inc_time,"
            "exp_time,body,extra_hdrs) VALUES %s;" % ",".join(rows[i:i + 500])
            for i in range(0, len(rows), 500)))

    def version(self):
        return self.sql("SELECT VERSION()").strip()

    def close(self):
        self.server.close()


class Kamailio:
    def __init__(self, directory, redis=None, maria=None):
        self.port = harness.free_port()
        self.directory = tempfile.mkdtemp(prefix="kamailio-", dir=directory)
        defines = {"SIP_PORT": self.port, "CHILDREN": opts.children}
        if redis:
            defines["CPM_MODULE"] = '"%s"' % harness.MODULE
            defines["REDIS"] = '"addr=%s;port=%d"' % (HOST, redis.port)
            defines["MSRP"] = '"%s:%d"' % (HOST, harness.free_port())
        if maria:
            defines["MSILO"] = 1
            defines["DB_URL"] = '"%s"' % maria.database.url
            defines["OUTBOUND"] = '"sip:%s:%d"' % (HOST, self.port)
        argv = ["kamailio", "-f", os.path.join(HERE, "push.cfg"), "-DD", "-E",
                "-m", "512", "-M", "16", "-w", self.directory, "-Y",
                self.directory, "-P", os.path.join(self.directory, "pid")]
        for name, value in defines.items():
            argv += ["-A", "%s=%s" % (name, value)]
        self.program = harness.Program("kamailio", argv, self.directory)
        try:
            harness.wait_until(self.answers, 20, "Kamailio answers")
            if redis:
                # clients of sessions are to find the MSRP worker there
                harness.wait_until(lambda: self.listens(
                    int(defines["MSRP"].strip('"').split(":")[1])), 20,
                    "the MSRP worker listens")
        except BaseException:
            say(self.program.log()[-2000:])
            self.close()
            raise

    @staticmethod
    def listens(port):
        try:
            socket.create_connection((HOST, port), 1).close()
            return True
        except OSError:
            return False

    def answers(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.1)
            try:
                s.connect((HOST, self.port))
                me = "%s:%d" % s.getsockname()
                s.send(("OPTIONS sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP "
                        "{0};branch=z9hG4bKp\r\nMax-Forwards: 70\r\nFrom: "
                        "<sip:p@{0}>;tag=1\r\nTo: <sip:p@example.org>\r\n"
                        "Call-ID: p@{0}\r\nCSeq: 1 OPTIONS\r\n"
                        "Content-Length: 0\r\n\r\n").format(me).encode())
                return s.recv(4096).startswith(b"SIP/2.0 200")
            except OSError:
                return False

    def close(self):
        self.program.kill()
        self.program.expect_none_left()
        if opts.log:
            say(self.program.log()[-4000:])
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def opened(thing):
    try:
        yield thing
    finally:
        thing.close()


# ---- one measurement -----------------------------------------------------------

def sink(directory, way, *words):
    done = subprocess.run(
        [os.path.join(directory, "pushsink"), "-n",
         str(way.users * way.each)] + [str(w) for w in words],
        stdout=subprocess.PIPE, text=True, timeout=LIMIT_S + 60)
    if not done.stdout:
        raise SystemExit("bench: pushsink failed")
    result = json.loads(done.stdout)
    result["all"] = result["messages"] == way.users * way.each
    result["per_second"] = (result["messages"] / result["seconds"]
                            if result["seconds"] else 0.0)
    return result


def one(directory, way, maria):
    words = ["-u", way.users, "-d", way.delay, "-t", LIMIT_S]
    if way.kind == "session":
        words.append("-s")
    if way.kind == "msilo":
        maria.fill(way.users, way.each)
        with opened(Kamailio(directory, maria=maria)) as kamailio:
            return sink(directory, way, *words, kamailio.port)
    with opened(Redis(directory)) as redis:
        if way.kind.startswith("limit"):
            redis.values(way.users * way.each)
            return sink(directory, way, "-r", redis.port, "-g",
                        1 if way.kind == "limit-1" else 32)
        subprocess.run([os.path.join(directory, "queue"), str(redis.port),
                        str(way.users), str(way.each), "8"], check=True,
                       timeout=120)
        with opened(Kamailio(directory, redis=redis)) as kamailio:
            return sink(directory, way, *words, kamailio.port)


# ---- all ----------------------------------------------------------------------

def ratio(a, b, what):
    """The median over the rounds of what a has for each of what b has."""
    return statistics.median(
        x[what] / y[what] for x, y in zip(a.runs, b.runs) if y[what])


def table(ways):
    say("\n| | clients x messages | messages/s | s | came | the client's "
        "processor s | rounds |")
    say("|---|---:|---:|---:|---:|---:|---|")
    for way in ways:
        rates = [run["per_second"] for run in way.runs]
        say("| %s | %d x %d | %.0f | %.2f | %s | %.2f | %.0f to %.0f |" % (
            way.name, way.users, way.each, way.mid("per_second"),
            way.mid("seconds"),
            "all" if all(run["all"] for run in way.runs) else "%d to %d" % (
                min(run["messages"] for run in way.runs),
                max(run["messages"] for run in way.runs)),
            way.mid("cpu_s"), min(rates), max(rates)))


def target(what, value, bound, least=False):
    met = value >= bound if least else value <= bound
    say("| %s | %s %g | %.2f | %s |" % (
        what, "at least" if least else "at most", bound, value,
        "met" if met else "**missed**"))


def judge(by):
    say("\n| target | bound | is | |")
    say("|---|---|---:|---|")
    target("time of one session / of the limit (32 at a time)",
           ratio(by["session"], by["limit"], "seconds"), 3)
    target("time of one session / of the limit (one at a time)",
           ratio(by["session"], by["limit-1"], "seconds"), 3)
    target("rate of one session / of MESSAGE, 20 ms more",
           ratio(by["session-far"], by["message-far"], "per_second"), 10,
           True)
    target("rate of 1,000 sessions / of MESSAGE to 1,000",
           ratio(by["session-1000"], by["message-1000"], "per_second"), 1,
           True)
    say("\nOne session is %.1f times as fast as MESSAGE, without delay."
        % ratio(by["session"], by["message"], "per_second"))
    for many, name in ("", "one client"), ("-1000", "1,000 clients"):
        silo = by["msilo" + many]
        if all(run["all"] for run in silo.runs):
            say("To %s: sessions are %.1f times as fast as msilo." % (
                name, ratio(by["session" + many], silo, "per_second")))
        else:
            say("To %s: msilo brought %d to %d of %d within %d s." % (
                name, min(run["messages"] for run in silo.runs),
                max(run["messages"] for run in silo.runs),
                silo.users * silo.each, LIMIT_S))


def main():
    global opts
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument("--only", help="of %s" % ",".join(
        w.key for w in WAYS))
    parser.add_argument("--module", help="another cpm_pf.so")
    parser.add_argument("--log", action="store_true",
                        help="what Kamailio logs")
    opts = parser.parse_args()
    if opts.module:
        harness.MODULE = opts.module
    if not os.path.exists(harness.MODULE):
        raise SystemExit("bench: %s is missing; make module builds it"
                         % harness.MODULE)
    # so that what runs is ended by SIGTERM as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ways = [w for w in WAYS if not opts.only or w.key in opts.only.split(",")]
    directory = tempfile.mkdtemp(prefix="cpm-bench-")
    begin = time.monotonic()
    try:
        build(directory)
        with contextlib.ExitStack() as stack:
            maria = None
            if any(w.kind == "msilo" for w in ways):
                maria = stack.enter_context(opened(Maria()))
                say("MariaDB   %s" % maria.version())
            say("setting   %d children, bodies of %d bytes, %d rounds" % (
                opts.children, BYTES, opts.rounds))
            for number in range(opts.rounds):
                for way in ways:
                    way.runs.append(one(directory, way, maria))
                say("round %d: %s" % (number + 1, ", ".join("%s %.0f%s" % (
                    w.key, w.runs[-1]["per_second"],
                    "" if w.runs[-1]["all"] else " (NOT ALL)")
                    for w in ways)))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    table(ways)
    if not opts.only:
        judge({w.key: w for w in ways})
    say("\n%.0f s in all" % (time.monotonic() - begin))


if __name__ == "__main__":
    main()
