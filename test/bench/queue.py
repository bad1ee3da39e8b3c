#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How many messages a second can be queued, side by side with other ways to
answer a MESSAGE; and what a million queued messages change.

The ways are in queue.cfg, the load is sipload.c, what fills Redis is queue.c.
Each round measures every way once, so that a machine that becomes slower or
faster does so for all alike; what is printed are medians over the rounds.

Options are for looking closer; "make bench queue" uses none.
"""

import argparse
import contextlib
import glob
import http.client
import json
import os
import re
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

ROUNDS = 5
CHILDREN = 8       # the same number for all ways
IN_FLIGHT = 64
USERS = 1000       # recipients
SECONDS = 4        # about so long each way in each round
WARM = 0.5         # and so long before, not counted
SHM = 2048         # MB; finished transactions stay for 5 s
FILL_USERS, FILL_EACH = 100000, 10
PAGES = 20

# What a load average of others would do to the numbers
QUIET, QUIET_WAIT = 0.7, 180


class Way:
    def __init__(self, key, name, define, store=None, start=10000):
        self.key, self.name, self.define = key, name, define
        self.store = store    # what keeps the messages
        self.guess = start    # requests a second, the last known
        self.runs = []


WAYS = [
    Way("sl", "202 by `sl_send_reply`, nothing else (S)", "WAY_SL"),
    Way("tm", "202 by `t_newtran`, `t_reply` (T)", "WAY_TM"),
    Way("msilo", "msilo, MariaDB flushes at each commit", "WAY_MSILO",
        "flush=1", 4000),
    Way("msilo-1s", "msilo, MariaDB flushes once a second", "WAY_MSILO",
        "flush=2", 4000),
    Way("cpm-1s", "`cpm_queue`, stateless, everysec", "WAY_CPM", "everysec"),
    Way("cpm", "`cpm_queue`, stateless, always", "WAY_CPM", "always"),
    Way("cpm-tm-1s", "`cpm_queue` after `t_newtran`, everysec", "WAY_CPM_TM",
        "everysec"),
    Way("cpm-tm", "`cpm_queue` after `t_newtran`, always", "WAY_CPM_TM",
        "always"),
]

opts = None
runs = 0


def say(*words):
    print(*words, flush=True)


# ---- programs ----------------------------------------------------------------

def build(directory):
    """sipload and queue, of this tree."""
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
    for name, libraries in (("sipload", []),
                            ("queue", [archive, "-lhiredis"])):
        subprocess.run(cc + [os.path.join(HERE, name + ".c")] + libraries
                       + ["-o", os.path.join(directory, name)], check=True)


class Redis:
    """Append-only, like that of make run, but that its file is not rewritten
    while it is being measured."""

    def __init__(self, directory, fsync, unix=False):
        self.directory = tempfile.mkdtemp(prefix="redis-", dir=directory)
        self.port = harness.free_port()
        self.path = os.path.join(self.directory, "s")
        argv = ["redis-server", "--port", str(self.port), "--bind", HOST,
                "--unixsocket", self.path, "--dir", self.directory, "--save",
                "", "--appendonly", "no" if fsync == "none" else "yes",
                "--daemonize", "no", "--auto-aof-rewrite-percentage", "0"]
        if fsync != "none":
            argv += ["--appendfsync", fsync]
        self.program = harness.Program("redis", argv, self.directory)
        try:
            harness.wait_until(self.answers, 10, "Redis answers")
        except BaseException:
            self.close()
            raise
        self.conf = ("unix=" + self.path if unix
                     else "addr=%s;port=%d" % (HOST, self.port))

    def answers(self):
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words, timeout=60):
        """The raw reply to one command."""
        wire = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(w), w)
            for w in (str(word).encode() for word in words))
        with socket.create_connection((HOST, self.port), timeout) as s:
            s.sendall(wire)
            return s.recv(1 << 16)

    def info(self, section):
        text = b""
        with socket.create_connection((HOST, self.port), 60) as s:
            s.sendall(b"INFO %s\r\n" % section.encode())
            head = b""
            while not head.endswith(b"\r\n"):
                head += s.recv(1)
            while len(text) < int(head[1:]):
                text += s.recv(1 << 16)
        return dict(re.findall(r"^(\w+):(.*)\r$", text.decode(), re.M))

    def fill(self, directory, users, each):
        begin = time.monotonic()
        subprocess.run([os.path.join(directory, "queue"), str(self.port),
                        str(users), str(each), "8"], check=True, timeout=300)
        return time.monotonic() - begin

    def close(self):
        self.program.kill()
        self.program.expect_none_left()
        shutil.rmtree(self.directory, ignore_errors=True)


class Maria:
    """A MariaDB server with msilo's table. flush: what InnoDB does with its
    log at each commit: 1 to the disk, 2 to the kernel, and to the disk once a
    second."""

    def __init__(self):
        if not os.path.exists(SQL % "msilo"):
            raise SystemExit("bench: no %s: kamailio-mysql-modules brings it"
                             % (SQL % "msilo"))
        self.server = databases.MysqlServer()
        self.database = self.server.database()
        for name in "standard", "msilo":
            with open(SQL % name) as f:
                self.sql(f.read())

    def sql(self, text):
        done = self.database.client(text)
        if done.returncode != 0:
            raise SystemExit("bench: MariaDB: " + done.stderr)
        return done.stdout

    def prepare(self, flush):
        self.sql("TRUNCATE TABLE silo;"
                 "SET GLOBAL innodb_flush_log_at_trx_commit=%s" % flush)

    @property
    def url(self):
        return self.database.url

    def version(self):
        return self.sql("SELECT VERSION()").strip()

    def close(self):
        self.server.close()


class Kamailio:
    def __init__(self, directory, way, redis=None, maria=None, admin=None,
                 loaded=True):
        self.port = harness.free_port()
        self.directory = tempfile.mkdtemp(prefix="kamailio-", dir=directory)
        defines = {"SIP_PORT": self.port, way.define: 1,
                   "CHILDREN": opts.children}
        if loaded:
            defines["LOAD"] = 1
        if redis:
            defines["CPM_MODULE"] = '"%s"' % (harness.MODULE)
            defines["REDIS"] = '"%s"' % redis.conf
            defines["ADMIN"] = '"%s"' % (
                "%s:%d" % (HOST, admin) if admin else "")
        if maria:
            defines["DB_URL"] = '"%s"' % maria.url
        argv = ["kamailio", "-f", os.path.join(HERE, "queue.cfg"), "-DD", "-E",
                "-m", str(SHM if loaded else 64), "-M", "16", "-w",
                self.directory, "-Y", self.directory, "-P",
                os.path.join(self.directory, "pid")]
        for name, value in defines.items():
            argv += ["-A", "%s=%s" % (name, value)]
        if opts.debug is not None:
            argv += ["--debug=%d" % opts.debug]
        if opts.manager:
            argv += ["-x", opts.manager, "-X", opts.manager]
        begin = time.monotonic()
        self.program = harness.Program("kamailio", argv, self.directory)
        self.first_s = None
        try:
            self.start_s = self.wait_answer(begin)
            if way.store and not loaded:
                self.first_s = self.wait_answer(begin, "MESSAGE", b"202")
        except BaseException:
            self.close()
            raise

    def wait_answer(self, begin, method="OPTIONS", code=b"200"):
        """Seconds until the first such request is answered so."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((HOST, self.port))
            s.settimeout(0.005)
            me = "%s:%d" % s.getsockname()
            number = 0
            while time.monotonic() - begin < 30:
                number += 1
                try:
                    s.send((
                        "{0} sip:p@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {1};"
                        "branch=z9hG4bKp{2}\r\nMax-Forwards: 70\r\nFrom: "
                        "<sip:p@{1}>;tag=1\r\nTo: <sip:p@example.org>\r\n"
                        "Call-ID: {2}@{1}\r\nCSeq: 1 {0}\r\nContent-Type: "
                        "text/plain\r\nContent-Length: 2\r\n\r\nhi".format(
                            method, me, number)).encode())
                    if s.recv(4096).startswith(b"SIP/2.0 " + code):
                        return time.monotonic() - begin
                except socket.timeout:
                    pass
                except ConnectionRefusedError:
                    time.sleep(0.002)
                if not self.program.running:
                    break
        raise SystemExit("bench: Kamailio does not answer:\n"
                         + self.program.log()[-2000:])

    def close(self):
        # it has nothing to lose, and SIGTERM to one that has just started
        # may take it long
        self.program.kill()
        self.program.expect_none_left()
        if opts.log:
            say(self.program.log()[-2000:])
        shutil.rmtree(self.directory, ignore_errors=True)


def load(directory, port, count, warm, in_flight=IN_FLIGHT, limit=60):
    global runs
    runs += 1
    done = subprocess.run(
        [os.path.join(directory, "sipload"), "-c", str(in_flight), "-n",
         str(max(count, 100)), "-w", str(warm), "-t", str(limit), "-u",
         str(USERS), "-k", "r%d" % runs, HOST, str(port)],
        stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 and not done.stdout:
        raise SystemExit("bench: sipload failed")
    result = json.loads(done.stdout)
    good = result["codes"].get("202", 0)
    if done.returncode != 0 or result["lost"] or good != result["sent"]:
        say("  NOT ALL ANSWERED 202: sent %d, lost %d, %s" % (
            result["sent"], result["lost"], result["codes"]))
    result["ok"] = good == result["sent"]
    return result


def measure(directory, way, kamailio):
    """About SECONDS of it; warming up tells how many requests these are."""
    probe = load(directory, kamailio.port, int(way.guess * WARM), 0)
    way.guess = max(probe["per_second"], 50)
    return load(directory, kamailio.port, int(way.guess * opts.seconds), 0)


@contextlib.contextmanager
def opened(thing):
    try:
        yield thing
    finally:
        thing.close()


# ---- the machine ---------------------------------------------------------------

def load_average():
    with open("/proc/loadavg") as f:
        return float(f.read().split()[0])


class Quiet:
    """Before each round: waits until nobody else is at work, for --wait
    seconds in all. Our own last round is in the load average too: what others
    use is what counts, measured for a second."""

    def __init__(self):
        self.left = opts.wait
        self.worst = 0.0

    @staticmethod
    def busy():
        def ticks():
            with open("/proc/stat") as f:
                v = [int(x) for x in f.readline().split()[1:9]]
            return sum(v) - v[3] - v[4], sum(v)
        b0, t0 = ticks()
        time.sleep(1)
        b1, t1 = ticks()
        return (b1 - b0) / max(t1 - t0, 1) * os.cpu_count()

    def wait(self):
        begin = time.monotonic()
        busy = self.busy()
        while busy > QUIET and time.monotonic() - begin < self.left:
            busy = self.busy()
        self.left -= time.monotonic() - begin - 1
        self.worst = max(self.worst, busy)


# ---- side by side ---------------------------------------------------------------

def one(directory, way, maria):
    """One measurement of one way, on an empty store."""
    if way.store and way.store.startswith("flush="):
        maria.prepare(way.store[6:])
        with opened(Kamailio(directory, way, maria=maria)) as kamailio:
            return measure(directory, way, kamailio)
    if way.store:
        with opened(Redis(directory, way.store, opts.unix)) as redis, \
                opened(Kamailio(directory, way, redis=redis)) as kamailio:
            return measure(directory, way, kamailio)
    with opened(Kamailio(directory, way)) as kamailio:
        return measure(directory, way, kamailio)


def mid(way, what):
    return statistics.median(r[what] for r in way.runs)


def side_by_side(directory, quiet, maria):
    ways = [w for w in WAYS if not opts.only or w.key in opts.only.split(",")]
    for number in range(opts.rounds):
        quiet.wait()
        for way in ways:
            way.runs.append(one(directory, way, maria))
        say("round %d: %s" % (number + 1, ", ".join(
            "%s %.0f" % (w.key, w.runs[-1]["per_second"]) for w in ways)))
    by = {w.key: w for w in ways}
    say("\n| | messages/s | of T | p50 ms | p95 ms | p99 ms | longest ms | "
        "rounds |")
    say("|---|---:|---:|---:|---:|---:|---:|---|")
    for way in ways:
        rates = [r["per_second"] for r in way.runs]
        say("| %s | %.0f | %s | %.1f | %.1f | %.1f | %.1f | %.0f to %.0f%s |"
            % (way.name, mid(way, "per_second"),
               "%.2f" % (mid(way, "per_second") / mid(by["tm"], "per_second"))
               if "tm" in by else "",
               mid(way, "p50_us") / 1000, mid(way, "p95_us") / 1000,
               mid(way, "p99_us") / 1000, max(
                   r["max_us"] for r in way.runs) / 1000,
               min(rates), max(rates),
               "" if all(r["ok"] for r in way.runs) else ", NOT ALL 202"))
    if not opts.only:
        judge(by)
    return by


def target(what, value, bound, unit="", least=False):
    met = value >= bound if least else value <= bound
    say("| %s | %s %g%s | %.2f%s | %s |" % (
        what, "at least" if least else "at most", bound, unit, value, unit,
        "met" if met else "**missed**"))


def table_of_targets():
    say("\n| target | bound | is | |")
    say("|---|---|---:|---|")


def judge(by):
    table_of_targets()
    rate = {key: mid(way, "per_second") for key, way in by.items()}
    p99 = {key: mid(way, "p99_us") for key, way in by.items()}
    for end, name in ("-1s", "everysec"), ("", "always"):
        target("stateful, %s / T" % name, rate["cpm-tm" + end] / rate["tm"],
               0.8, "", True)
        target("stateless, %s / T" % name, rate["cpm" + end] / rate["tm"],
               1.5, "", True)
        target("stateless, %s / msilo" % name,
               rate["cpm" + end] / rate["msilo"], 3, "", True)
        target("stateful, %s / msilo" % name,
               rate["cpm-tm" + end] / rate["msilo"], 3, "", True)
        target("p99 of stateful, %s / p99 of T" % name,
               p99["cpm-tm" + end] / p99["tm"], 2)
        target("p99 of stateless, %s / p99 of T" % name,
               p99["cpm" + end] / p99["tm"], 2)
    target("stateless, everysec / msilo flushed once a second",
           rate["cpm-1s"] / rate["msilo-1s"], 3, "", True)


# ---- a million ---------------------------------------------------------------

def first_pages(port):
    """Milliseconds of GET /v1/queues?limit=100: the first, and the median of
    those behind the next one."""
    def get():
        begin = time.perf_counter()
        conn = http.client.HTTPConnection(HOST, port, timeout=10)
        conn.request("GET", "/v1/queues?limit=100")
        answer = conn.getresponse()
        body = answer.read()
        conn.close()
        took = (time.perf_counter() - begin) * 1000
        if answer.status != 200 or len(json.loads(body)["items"]) != 100:
            raise SystemExit("bench: no page: %d %s" % (answer.status,
                                                        body[:200]))
        return took

    def listens():
        try:
            socket.create_connection((HOST, port), 1).close()
            return True
        except OSError:
            return False

    harness.wait_until(listens, 10, "the admin endpoint listens")
    first = get()
    get()
    return first, statistics.median(get() for _ in range(PAGES))


def million(directory, quiet):
    """Empty and full, in turns, at the one setting that make run has."""
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    total = FILL_USERS * FILL_EACH
    if memory < 3000:
        say("a million messages: left out, Redis needs 1 GB and %d MB are "
            "free" % memory)
        return
    way = next(w for w in WAYS if w.key == "cpm-1s")
    with opened(Redis(directory, "everysec", opts.unix)) as full, \
            opened(Redis(directory, "everysec", opts.unix)) as empty:
        took = full.fill(directory, FILL_USERS, FILL_EACH)
        say("\n%d messages for %d users, filled in %.0f s (%.0f/s); Redis "
            "uses %d MB; %d MB were free"
            % (total, FILL_USERS, took, total / took,
               int(full.info("memory")["used_memory"]) >> 20, memory))
        results = {"empty": [], "full": []}
        starts = {"empty": [], "full": [], "none": []}
        firsts = {"empty": [], "full": [], "none": []}
        quiet.wait()
        for _ in range(opts.rounds):
            empty.command("FLUSHALL", "SYNC")
            for name, redis in ("empty", empty), ("full", full):
                with opened(Kamailio(directory, way, redis=redis)) as kamailio:
                    results[name].append(measure(directory, way, kamailio))
        empty.command("FLUSHALL", "SYNC")
        for _ in range(opts.rounds):
            for name, redis in ("empty", empty), ("full", full), ("none", None):
                with opened(Kamailio(
                        directory, way if redis else WAYS[0], redis=redis,
                        admin=harness.free_port() if redis else None,
                        loaded=False)) as kamailio:
                    starts[name].append(kamailio.start_s)
                    firsts[name].append(kamailio.first_s)
        admin = harness.free_port()
        with opened(Kamailio(directory, way, redis=full, admin=admin,
                             loaded=False)):
            first, page = first_pages(admin)

    def median(name, what):
        return statistics.median(r[what] for r in results[name])

    say("\n| Redis (everysec), stateless | messages/s | p99 ms | "
        "start to first OPTIONS answered s | start to first message queued "
        "s |")
    say("|---|---:|---:|---:|---:|")
    for name, what in ("empty", "empty"), ("full", "%d messages" % total):
        say("| %s | %.0f | %.1f | %.2f | %.2f |" % (
            what, median(name, "per_second"), median(name, "p99_us") / 1000,
            statistics.median(starts[name]), statistics.median(firsts[name])))
    say("| (Kamailio without cpm_pf) | | | %.2f | |" % statistics.median(starts["none"]))
    table_of_targets()
    target("rate, full / empty", median("full", "per_second")
           / median("empty", "per_second"), 0.8, "", True)
    target("p99, full / empty", median("full", "p99_us")
           / median("empty", "p99_us"), 1.2)
    target("start to first message queued, longest", max(firsts["full"]), 2,
           " s")
    target("page of 100 queues, median of %d" % PAGES, page, 20, " ms")
    target("page of 100 queues, the very first", first, 20, " ms")


# ---- all ----------------------------------------------------------------------

def versions(maria):
    redis = subprocess.run(["redis-server", "--version"], text=True,
                           stdout=subprocess.PIPE).stdout
    say("Redis     %s, TCP%s" % (re.search(r"v=(\S+)", redis)[1],
                                 "" if not opts.unix else " (unix socket)"))
    if maria:
        say("MariaDB   %s" % maria.version())
    say("setting   %d children, %d in flight, %d recipients, bodies of 100 "
        "bytes, debug=0, %s, %d rounds of %g s" % (
            opts.children, IN_FLIGHT, USERS, opts.manager or "q_malloc",
            opts.rounds, opts.seconds))


def main():
    global opts
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument("--manager", help="of memory: qm, fm, tlsf")
    parser.add_argument("--unix", action="store_true",
                        help="Redis by its unix socket")
    parser.add_argument("--only", help="of %s" % ",".join(
        w.key for w in WAYS))
    parser.add_argument("--wait", type=int, default=QUIET_WAIT,
                        help="seconds, at most, for others to be quiet")
    parser.add_argument("--debug", type=int, help="Kamailio's log level")
    parser.add_argument("--module", help="another cpm_pf.so")
    parser.add_argument("--no-million", action="store_true")
    parser.add_argument("--log", action="store_true",
                        help="what Kamailio logs")
    opts = parser.parse_args()
    if opts.module:
        harness.MODULE = opts.module
    if not os.path.exists(harness.MODULE):
        raise SystemExit("bench: %s is missing; make module builds it"
                         % harness.MODULE)
    with_maria = not opts.only or "msilo" in opts.only
    # so that what runs is ended by SIGTERM as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = tempfile.mkdtemp(prefix="cpm-bench-")
    quiet = Quiet()
    begin = time.monotonic()
    try:
        build(directory)
        with contextlib.ExitStack() as stack:
            maria = None
            if with_maria:
                maria = stack.enter_context(opened(Maria()))
            versions(maria)
            side_by_side(directory, quiet, maria)
        if not opts.no_million:
            million(directory, quiet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say("\nothers used at most %.2f cores before a round%s; %.0f s in all" % (
        quiet.worst, "" if quiet.worst <= QUIET
        else ": NOT QUIET, measure again", time.monotonic() - begin))


if __name__ == "__main__":
    main()
