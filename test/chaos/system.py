# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the chaos test runs and breaks: one Redis, two Kamailios, and a fault
proxy between Redis and each of them. All on free ports of 127.0.0.1.

Only processes that were started here are killed: children of a Kamailio are
found by their parent.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.abspath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(TOP, "test", "integ"))

from harness import (  # noqa: E402
    HOST, MODULE, Failure, Program, command_line, free_port, need, wait_until)

FR_TIMER = 1.5  # s, how long a client may take to answer


class Resp:
    """A connection to Redis: commands out, values in. Nothing is hidden: an
    error reply is a Failure."""

    def __init__(self, port, timeout=10):
        self.sock = socket.create_connection((HOST, port), timeout=timeout)
        self.file = self.sock.makefile("rb")

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __call__(self, *words):
        out = [b"*%d\r\n" % len(words)]
        for w in words:
            w = w if isinstance(w, bytes) else str(w).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(w), w))
        self.sock.sendall(b"".join(out))
        return self._value()

    def _value(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Failure("Redis: %s" % rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            data = self.file.read(int(rest) + 2)
            return data[:-2]
        if kind == b"*":
            return [self._value() for _ in range(int(rest))]
        return rest


class Redis:
    def __init__(self, directory):
        self.directory = os.path.join(directory, "redis")
        os.mkdir(self.directory)
        self.port = free_port()
        self.program = None

    def start(self):
        """An answer that was given is on disk: appendfsync always."""
        self.program = Program("redis", [
            need("redis-server"), "--port", str(self.port), "--bind", HOST,
            "--dir", self.directory, "--save", "", "--appendonly", "yes",
            "--appendfsync", "always", "--daemonize", "no"], self.directory)
        wait_until(self.answers, 30, "Redis answers")

    def answers(self):
        try:
            with Resp(self.port, 1) as r:
                return r("PING") == b"PONG"
        except (OSError, Failure):
            return False

    def kill(self):
        self.program.kill()


class Node:
    """One Kamailio, and the proxy that it takes for Redis."""

    def __init__(self, index, directory, redis, proxy_program):
        self.index = index
        self.directory = os.path.join(directory, "node%d" % index)
        os.mkdir(self.directory)
        self.redis = redis
        self.proxy_program = proxy_program
        self.sip_port, self.admin_port = free_port(), free_port()
        self.proxy_port = free_port()
        self.proxy = self.listener = None
        self.kamailio = None
        self.lasts = {}    # s that a stall or delay of the proxy lasts
        self.up = False
        self.busy = False  # somebody kills or starts it

    @property
    def address(self):
        return (HOST, self.sip_port)

    # ---- proxy

    async def start_proxy(self, note):
        self.proxy = await asyncio.create_subprocess_exec(
            self.proxy_program, str(self.proxy_port), str(self.redis.port),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)
        line = await asyncio.wait_for(self.proxy.stdout.readline(), 10)
        if not line.startswith(b"ready"):
            raise Failure("the fault proxy did not start")

        async def listen():
            while True:
                line = await self.proxy.stdout.readline()
                if not line:
                    return
                what, when = line.decode().split()
                if what != "calm":
                    note(self.index, what, float(when))

        self.listener = asyncio.ensure_future(listen())

    def order(self, text):
        self.proxy.stdin.write(text.encode() + b"\n")

    # ---- Kamailio

    def argv(self):
        argv = [need("kamailio"), "-f", os.path.join(HERE, "chaos.cfg"),
                "-DD", "-E", "-w", self.directory, "-Y", self.directory,
                "-P", os.path.join(self.directory, "kamailio.pid"),
                "-m", "128"]
        for name, value in {
                "SIP_PORT": self.sip_port,
                "CPM_MODULE": '"%s"' % MODULE,
                "REDIS": '"name=queue;addr=%s;port=%d"' % (
                    HOST, self.proxy_port),
                "ADMIN": '"%s:%d"' % (HOST, self.admin_port),
                "FR_TIMER_MS": int(FR_TIMER * 1000)}.items():
            argv += ["-A", "%s=%s" % (name, value)]
        return argv

    def start(self):
        """Blocks until it answers SIP."""
        for name in ("ctl.sock", "kamailio.pid"):
            path = os.path.join(self.directory, name)
            if os.path.exists(path):
                os.unlink(path)
        self.kamailio = Program("kamailio", self.argv(), self.directory)
        wait_until(self.answers, 30, "node %d answers SIP" % self.index)
        self.up = True

    def answers(self):
        if not self.kamailio.running:
            raise Failure("node %d ended (%s):\n%s" % (
                self.index, self.kamailio.process.returncode,
                self.kamailio.log()[-3000:]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((HOST, 0))
            s.settimeout(0.2)
            s.connect(self.address)
            me = "%s:%d" % s.getsockname()
            try:
                s.send(("OPTIONS sip:%s:%d SIP/2.0\r\n"
                        "Via: SIP/2.0/UDP %s;branch=z9hG4bK%x;rport\r\n"
                        "Max-Forwards: 70\r\nFrom: <sip:probe@example.org>"
                        ";tag=1\r\nTo: <sip:example.org>\r\nCall-ID: %x\r\n"
                        "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n" % (
                            HOST, self.sip_port, me, time.monotonic_ns(),
                            time.monotonic_ns())).encode())
                return s.recv(4096).startswith(b"SIP/2.0 200")
            except OSError:
                return False

    def child(self, description):
        """pid of the child that Kamailio describes so. Waits for it: some
        are started when others serve already."""
        def look():
            out = subprocess.run(
                [need("kamcmd"), "-s", "unix:ctl.sock", "core.psx"],
                cwd=self.directory, capture_output=True, text=True,
                timeout=5).stdout
            for pid, text in re.findall(r"PID: (\d+)\s+DSC: ([^\n]*)", out):
                if re.search(description, text):
                    return int(pid)
            return None

        return wait_until(look, 10, "node %d has a %s" % (
            self.index, description))

    def workers(self):
        """pids of its cpm_pf_worker, which are its grandchildren."""
        return [p for p in self.kamailio.left()
                if "cpm_pf_worker" in command_line(p).split(" ")[0]]

    def kill(self):
        """Every process of it, at once."""
        self.up = False
        self.kamailio.kill()
        self.kamailio.expect_none_left(10)

    def ended(self):
        return self.up and not self.busy and not self.kamailio.running


class System:
    def __init__(self, directory, ledger):
        self.directory = directory
        self.ledger = ledger
        self.redis = Redis(directory)
        self.nodes = []
        self.counts = {}
        self.surprises = []
        self.calm = False

    async def start(self):
        program = os.path.join(self.directory, "faultproxy")
        subprocess.run(
            [os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2",
             "-o", program, os.path.join(HERE, "faultproxy.c")], check=True)
        await asyncio.to_thread(self.redis.start)
        for i in range(2):
            node = Node(i, self.directory, self.redis, program)
            self.nodes.append(node)
            await node.start_proxy(self.proxy_did)
            await asyncio.to_thread(node.start)
            # what a random kill is to find must be there to be found
            await asyncio.to_thread(node.child, "(?i)cpm.*deliver")

    def stop(self):
        problems = []
        for node in self.nodes:
            try:
                if node.kamailio:
                    node.kamailio.stop()
            except Failure as e:
                problems.append(str(e))
            if node.proxy and node.proxy.returncode is None:
                node.proxy.stdin.close()
        if self.redis.program:
            self.redis.program.signal(signal.SIGCONT)
            self.redis.program.stop()
        return problems

    async def wait_proxies(self):
        for node in self.nodes:
            if node.proxy:
                await asyncio.wait_for(node.proxy.wait(), 10)
                if node.listener:
                    await node.listener

    # ---- notes

    def proxy_did(self, node, what, when):
        length = self.nodes[node].lasts.get(what, 0)
        self.count("proxy-" + what)
        self.ledger.fault("proxy-" + what, when, when + length, node)

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    async def _span(self, kind, scope, work):
        """Does work; the ledger has how long the system was without it. The
        beginning is written at once, so that a crash of the test shows it."""
        start = time.monotonic()
        self.count(kind)
        self.ledger.write(e="fault-begin", kind=kind, scope=scope)
        try:
            await work
        finally:
            self.ledger.fault(kind, start, time.monotonic(), scope)

    # ---- what can happen

    async def kill_node(self, node):
        async def work():
            await asyncio.to_thread(node.kill)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(node.start)
        node.busy = True
        try:
            await self._span("kill-kamailio", node.index, work())
        finally:
            node.busy = False

    async def kill_delivery(self, node):
        async def work():
            try:
                pid = await asyncio.to_thread(node.child, "(?i)cpm.*deliver")
            except (Failure, subprocess.TimeoutExpired) as e:
                self.surprises.append("node %d does not tell its processes: %s"
                                      % (node.index, e))
                pid = node.kamailio.pid
            os.kill(pid, signal.SIGKILL)
            try:
                await asyncio.to_thread(node.kamailio.process.wait, 15)
            except subprocess.TimeoutExpired:
                self.surprises.append(
                    "node %d lives on without its delivery worker"
                    % node.index)
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
        node.busy = True
        try:
            await self._span("kill-delivery-worker", node.index, work())
        finally:
            node.busy = False

    async def kill_admin(self, node):
        self.count("kill-cpm_pf_worker")
        for pid in await asyncio.to_thread(node.workers):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    async def kill_redis(self):
        async def work():
            await asyncio.to_thread(self.redis.kill)
            await asyncio.to_thread(self.redis.start)
        await self._span("kill-redis", "all", work())

    async def stop_redis(self, seconds):
        async def work():
            self.redis.program.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self.redis.program.signal(signal.SIGCONT)
        await self._span("stop-redis", "all", work())

    async def trouble(self, rng, gap, storm):
        """Until self.calm: one thing after the other, and at times two at
        once."""
        kinds = [("kamailio", 10), ("delivery", 8), ("admin", 6),
                 ("redis", 8), ("stop", 16), ("swallow", 16), ("cutreq", 10),
                 ("cutrep", 10), ("stall", 8), ("delay", 8), ("storm", 8)]
        deck = [kind for kind, _ in kinds]  # each once, before one comes again
        rng.shuffle(deck)
        running = []
        redis_busy = asyncio.Lock()

        async def one(kind, node, a, b):
            if kind in ("kamailio", "delivery"):
                if any(n.busy for n in self.nodes):
                    return  # one of them is to be there
                await (self.kill_node(node) if kind == "kamailio"
                       else self.kill_delivery(node))
            elif kind == "admin":
                if not node.busy:
                    await self.kill_admin(node)
            elif kind in ("redis", "stop"):
                async with redis_busy:
                    await (self.kill_redis() if kind == "redis"
                           else self.stop_redis(0.2 + a * 2.8))
            elif kind == "swallow":
                node.order("swallow %d" % (1 + int(b * 12)))
            elif kind in ("cutreq", "cutrep"):
                size = 1 + int(a * (700 if kind == "cutreq" else 40))
                node.order("%s %d %d" % (kind, 1 + int(b * 6), size))
            elif kind == "stall":
                node.lasts[kind] = 0.2 + a * 2.8
                node.order("stall %d" % (node.lasts[kind] * 1000))
            elif kind == "delay":
                node.lasts[kind] = 1 + b * 2
                node.order("delay %d %d" % (20 + a * 400,
                                            node.lasts[kind] * 1000))
            elif kind == "storm":
                self.count("register-storm")
                await storm()

        while not self.calm:
            for _ in range(2 if rng.random() < 0.15 else 1):
                if not deck:
                    deck = [kind for kind, often in kinds
                            for _ in range(often)]
                    rng.shuffle(deck)
                running.append(asyncio.ensure_future(one(
                    deck.pop(), rng.choice(self.nodes), rng.random(),
                    rng.random())))
            until = time.monotonic() + rng.uniform(*gap)
            while time.monotonic() < until and not self.calm:
                await asyncio.sleep(0.05)
            running = [t for t in running if not t.done() or t.result()]
        await asyncio.gather(*running)
        for node in self.nodes:
            node.order("calm")

    async def watch(self):
        """A Kamailio that ends by itself is a finding, and is started again,
        so that it is one and not a thousand."""
        while True:
            await asyncio.sleep(0.2)
            for node in self.nodes:
                if node.proxy.returncode is not None:
                    raise Failure("the fault proxy of node %d ended (%d)" % (
                        node.index, node.proxy.returncode))
                if node.ended():
                    self.surprises.append(
                        "node %d ended by itself (%s); the end of its log:"
                        "\n%s" % (node.index,
                                  node.kamailio.process.returncode,
                                  node.kamailio.log()[-1500:]))
                    await self.kill_node(node)

    # ---- looking into it

    def sums(self):
        """Of all shards, each in one atomic look: what the sum says and what
        the lists hold, where that is not the same."""
        look = b"""
            local n = 0
            for _, u in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
                n = n + redis.call('LLEN', KEYS[2] .. u)
            end
            return {n, tonumber(redis.call('HGET', KEYS[3], 'n') or '0')}"""
        bad = []
        with Resp(self.redis.port) as r:
            for k in range(64):
                p = "cpm:{%d}:" % k
                n, s = r("EVAL", look, 3, p + "users", p + "q:", p + "sum")
                if n != s:
                    bad.append("shard %d: the lists have %d messages, the sum "
                               "says %d" % (k, n, s))
        return bad

    def contents(self):
        """(messages, expired, problems): every message in Redis as (user, id,
        state letter, blob); what expired and was not reported; and whatever
        does not agree with the rest."""
        messages, expired, bad = [], [], []
        with Resp(self.redis.port, 60) as r:
            keys = [k.decode() for k in r("KEYS", "cpm:*")]
            lists = {}
            for key in keys:
                found = re.match(r"cpm:\{(\d+)\}:q:(.+)$", key)
                if found:
                    lists[found[2]] = int(found[1])
            count, size, dead, listed = {}, {}, set(), set()
            for user, k in lists.items():
                n, b = self._user(r, k, user, messages, bad)
                count[k] = count.get(k, 0) + n
                size[k] = size.get(k, 0) + b
                if n == 0:
                    bad.append("%s: an empty list" % user)
            for k in range(64):
                p = "cpm:{%d}:" % k
                n, b = r("HMGET", p + "sum", "n", "b")
                if (int(n or 0), int(b or 0)) != (count.get(k, 0),
                                                  size.get(k, 0)):
                    bad.append("shard %d: sum is %s messages and %s bytes, "
                               "the lists have %d and %d" % (
                                   k, n, b, count.get(k, 0), size.get(k, 0)))
                own = {u for u, s in lists.items() if s == k}
                for index in ("users", "wake"):
                    there = {u.decode()
                             for u in r("ZRANGE", p + index, 0, -1)}
                    if there != own:
                        bad.append("shard %d: %s has %s, the lists are of %s"
                                   % (k, index, sorted(there), sorted(own)))
                dead |= set(r("ZRANGE", p + "dead", 0, -1))
                for entry in r("LRANGE", p + "expired", 0, -1):
                    expired.append(entry)
            listed = {("%s %s" % (u, i)).encode()
                      for u, i, s, _ in messages if s == "D"}
            if dead != listed:
                bad.append("dead letters: the index has %s, the queues %s" % (
                    sorted(dead), sorted(listed)))
        return messages, expired, bad

    @staticmethod
    def _user(r, k, user, messages, bad):
        entries = r("LRANGE", "cpm:{%d}:q:%s" % (k, user), 0, -1)
        raw = r("HGETALL", "cpm:{%d}:m:%s" % (k, user))
        fields = dict(zip(raw[::2], raw[1::2]))
        total, last = 0, -1
        for entry in entries:
            seq, ident = entry.split(b" ")[0], entry.split(b" ")[-1]
            if int(seq) <= last:
                bad.append("%s: the order of %r" % (user, entry))
            last = int(seq)
            blob = fields.pop(ident, None)
            state = fields.pop(b" s" + ident, b"Q")[:1].decode()
            if blob is None:
                bad.append("%s: %r has no message" % (user, entry))
                continue
            total += len(blob)
            messages.append((user, ident.decode(), state, blob))
        # a short queue may do without
        kept = fields.pop(b" b", b"%d 0" % total).split(b" ")[0]
        if kept != b"%d" % total:
            bad.append("%s: the sum of its bytes is %s, not %d" % (
                user, kept.decode(), total))
        if fields:
            bad.append("%s: fields of no message: %s" % (
                user, sorted(fields)))
        return len(entries), total
