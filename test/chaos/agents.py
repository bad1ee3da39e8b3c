# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sender and clients of the chaos test, in one process on two sockets, so
that there is one order of events.

The sender is a closed loop: a message ends when it got a final answer that a
client would not try again. No answer, 503, 500, 408 and 504 are tried again,
perhaps over the other node: the same request (Call-ID, CSeq, From-tag, body),
in a new transaction.

A client behaves in one way for a while, then in another: answers, says
nothing, is busy, is away, takes messages without their 200 reaching anybody,
answers late, unregisters. Each has one Contact, registered at one node or at
both.
"""

import asyncio
import hashlib
import re
import secrets
import socket
import time

HOST = "127.0.0.1"
DOMAIN = "example.org"
AGAIN = (0, 408, 500, 503, 504)  # answers after which a client tries again
ATTEMPTS = 24
ANSWER_TIME = 5.0                # s that the sender waits for an answer
REPEAT = (0.5, 1.0, 2.0)         # s between retransmissions

REASON = {200: "OK", 415: "Unsupported Media Type",
          480: "Temporarily Unavailable", 486: "Busy Here"}

BRANCH = re.compile(rb"\r\nVia:[^\r]*?;branch=([^;,\s]+)")
COPIED = re.compile(rb"\r\n((?:Via|From|Call-ID|CSeq): [^\r]*)")
TO = re.compile(rb"\r\n(To: [^\r]*)")
CALL_ID = re.compile(rb"\r\nCall-ID: ([^\r]*)")
MESSAGE_ID = re.compile(rb"imdn\.Message-ID: ([^\r]*)")
TARGET = re.compile(rb"MESSAGE sip:([^@]+)@")

# what a client is like, how likely, and for how long on average
MODES = (("ok", 52, 15.0), ("silent", 9, 6.0), ("busy", 6, 5.0),
         ("away", 6, 5.0), ("lost", 6, 4.0), ("late", 5, 6.0),
         ("gone", 16, 8.0))


def digest(body):
    return hashlib.blake2b(body, digest_size=12).hexdigest()


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, receive):
        self.datagram_received = receive

    def error_received(self, exc):
        pass  # a Kamailio is down: its port is closed


async def open_socket(receive):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    s.bind((HOST, 0))
    s.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Socket(receive), sock=s)
    return transport, s.getsockname()[1]


class Sender:
    def __init__(self, rng, nodes, recipients, ledger):
        self.rng, self.nodes, self.ledger = rng, nodes, ledger
        self.users = recipients
        # some get much, most get little
        self.weights = [1 / (1 + i) ** 0.4 for i in range(len(recipients))]
        self.waiting = {}
        self.under_way = set()
        self.number = 0
        self.slots = None
        self.started_all = None  # when the last one was started

    async def open(self):
        self.transport, self.port = await open_socket(self._answer)

    def _answer(self, raw, addr):
        if raw[:8] != b"SIP/2.0 ":
            return
        code = int(raw[8:11])
        found = BRANCH.search(raw)
        if code < 200 or not found:
            return
        waiting = self.waiting.get(found[1])
        if waiting is not None and not waiting.done():
            waiting.set_result(code)

    async def run(self, count, rate, at_once, until):
        """Starts count messages, rate a second if the answers keep up; none
        after `until`."""
        self.slots = asyncio.Semaphore(at_once)
        due = time.monotonic()
        for _ in range(count):
            await self.slots.acquire()
            now = time.monotonic()
            if now >= until:
                self.slots.release()
                break
            due = max(due + self.rng.expovariate(rate), now - 1)
            if due > now:
                await asyncio.sleep(due - now)
            task = asyncio.ensure_future(self._one())
            self.under_way.add(task)
            task.add_done_callback(self._ended)
        self.started_all = time.monotonic()
        while self.under_way:
            await asyncio.wait(set(self.under_way))

    def _ended(self, task):
        self.under_way.discard(task)
        self.slots.release()
        if not task.cancelled():
            task.result()

    def _make(self):
        rng = self.rng
        self.number += 1
        ident = "m-%06d" % self.number
        user = rng.choices(self.users, self.weights)[0]
        size = rng.choices((rng.randrange(20, 400), 6000), (60, 1))[0]
        text = b"%x" % rng.getrandbits(size * 4)
        body = (b"From: <sip:alice@%s>\r\nTo: <sip:%s@%s>\r\n"
                b"DateTime: 2026-01-01T00:00:00Z\r\n"
                b"NS: imdn <urn:ietf:params:imdn>\r\n"
                b"imdn.Message-ID: %s\r\n\r\n"
                b"Content-Type: text/plain; charset=utf-8\r\n\r\n%s" % (
                    DOMAIN.encode(), user.encode(), DOMAIN.encode(),
                    ident.encode(), text))
        expires = rng.randrange(2, 9) if rng.random() < 0.03 else 0
        return ident, user, body, expires

    def _request(self, ident, user, body, expires, branch):
        head = ("MESSAGE sip:%s@%s SIP/2.0\r\n"
                "Via: SIP/2.0/UDP %s:%d;rport;branch=%s\r\n"
                "Max-Forwards: 70\r\nFrom: <sip:alice@%s>;tag=%s\r\n"
                "To: <sip:%s@%s>\r\nCall-ID: own-%s\r\nCSeq: 1 MESSAGE\r\n"
                "Content-Type: message/cpim\r\n%sContent-Length: %d\r\n\r\n"
                % (user, DOMAIN, HOST, self.port, branch, DOMAIN, ident, user,
                   DOMAIN, ident,
                   "Expires: %d\r\n" % expires if expires else "", len(body)))
        return head.encode() + body

    async def _one(self):
        ident, user, body, expires = self._make()
        rng, hash_, code = self.rng, digest(body), 0
        node = rng.choice(self.nodes)
        for attempt in range(1, ATTEMPTS + 1):
            branch = "z9hG4bK%s.%d" % (ident, attempt)
            raw = self._request(ident, user, body, expires, branch)
            extra = {"body": hash_, "x": expires} if attempt == 1 else {}
            self.ledger.write(e="send", id=ident, r=user, a=attempt,
                              node=node.index, **extra)
            code = await self._transaction(branch.encode(), raw, node, ident)
            self.ledger.write(e="end", id=ident, a=attempt, code=code)
            if code not in AGAIN:
                break
            await asyncio.sleep(rng.uniform(0.1, 0.4 * min(attempt, 5)))
            if rng.random() < 0.7:
                node = self.nodes[1 - node.index]
        how = ("accepted" if 200 <= code < 300 else
               "unanswered" if code in AGAIN else "refused")
        self.ledger.write(e="fin", id=ident, how=how, code=code)

    async def _transaction(self, branch, raw, node, ident):
        waiting = asyncio.get_running_loop().create_future()
        self.waiting[branch] = waiting
        deadline = time.monotonic() + ANSWER_TIME
        try:
            for n, wait in enumerate(REPEAT + (ANSWER_TIME,)):
                if n > 0:
                    self.ledger.write(e="rep", id=ident, node=node.index)
                self.transport.sendto(raw, node.address)
                left = deadline - time.monotonic()
                done, _ = await asyncio.wait({waiting},
                                             timeout=min(wait, left))
                if done:
                    return waiting.result()
                if left <= wait:
                    break
            return 0
        finally:
            del self.waiting[branch]


class Client:
    __slots__ = ("user", "mode", "at", "cseq", "bound", "asked", "call_id")

    def __init__(self, user):
        self.user = user
        self.mode = "gone"
        self.at = ()        # nodes where it wants to be registered
        self.bound = set()  # where it is
        self.cseq = 0
        self.call_id = secrets.token_hex(8)


class Clients:
    def __init__(self, rng, nodes, users, ledger, fr_timer):
        self.rng, self.nodes, self.ledger = rng, nodes, ledger
        self.clients = {u: Client(u) for u in users}
        self.seen = {}      # branch: its answer, None for none
        self.old = {}       # the same of an earlier time
        self.registers = {}
        self.late = fr_timer + 0.4
        self.refusals = {}  # message: how often it is still refused with 415
        self.final = False
        self.strays = 0
        self.lag = 0.0

    async def open(self):
        self.transport, self.port = await open_socket(self._receive)
        self.loop = asyncio.get_running_loop()
        self.node_of = {n.sip_port: n.index for n in self.nodes}

    # ---- requests

    def _receive(self, raw, addr):
        if raw[:8] == b"SIP/2.0 ":
            self._registered(raw)
            return
        branch = BRANCH.search(raw)
        target = TARGET.match(raw)
        if not branch or not target or addr[1] not in self.node_of:
            self.ledger.write(e="bad", text="no MESSAGE: %r" % raw[:200])
            return
        key = branch[1]
        if key in self.seen or key in self.old:
            answer = self.seen.get(key) or self.old.get(key)
            if answer:
                self.transport.sendto(answer, addr)
            return
        head, _, body = raw.partition(b"\r\n\r\n")
        found = MESSAGE_ID.search(body)
        if not found:
            self.ledger.write(e="bad", text="no Message-ID: %r" % raw[:600])
            return
        ident, user = found[1].decode(), target[1].decode()
        act, code, when = self._behave(user, ident)
        call_id = CALL_ID.search(head)[1].decode()
        self.ledger.write(
            e="arr", id=ident, r=user, node=self.node_of[addr[1]],
            cid="own" if call_id == "own-" + ident else call_id, act=act,
            body=digest(body), **({"w": round(when, 3)} if when else {}))
        answer = self._response(head, code, key) if code else None
        self.seen[key] = answer if when == 0 else None
        if answer and when == 0:
            self.transport.sendto(answer, addr)
        elif answer:
            self.loop.call_later(when, self._answer_late, key, answer, addr)

    def _answer_late(self, key, answer, addr):
        if key in self.seen:
            self.seen[key] = answer
        self.transport.sendto(answer, addr)

    def _behave(self, user, ident):
        """What a client does with a message: (act, code, s until then)."""
        client = self.clients.get(user)
        rng = self.rng
        left = self.refusals.get(ident)
        if left is None:
            left = rng.choice((1, 2, 99)) if rng.random() < 0.004 else 0
            if left:
                self.refusals[ident] = left
        mode = client.mode if client else "ok"
        if mode in ("silent", "gone"):
            return "silent", 0, 0
        if left:
            self.refusals[ident] = left - 1
            return "415", 415, 0
        if mode == "busy":
            return "486", 486, 0
        if mode == "away":
            return "480", 480, 0
        if mode == "lost":
            return "lost", 0, 0
        if mode == "late":
            if rng.random() < 0.3:
                return "late", 200, self.late
            return "take", 200, rng.uniform(0.1, 0.7)
        return "take", 200, 0

    @staticmethod
    def _response(head, code, key):
        lines = [b"SIP/2.0 %d %s" % (code, REASON[code].encode())]
        lines += COPIED.findall(head)
        lines.append(TO.search(head)[1] + b";tag=c" + key[-12:])
        return b"\r\n".join(lines) + b"\r\nContent-Length: 0\r\n\r\n"

    async def forget(self):
        """Transactions of long ago."""
        while True:
            await asyncio.sleep(40)
            self.old, self.seen = self.seen, {}
            self.registers.clear()

    async def watch_lag(self):
        """Should this very process have been away for so long that its 200s
        came late, that is a fault like others."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            now = time.monotonic()
            self.lag = max(self.lag, now - before - 0.05)
            if now - before > 0.8:
                self.ledger.fault("test-was-slow", before, now, "all")

    # ---- registering

    def register(self, client, node, expires=120):
        client.cseq += 1
        branch = "z9hG4bKr%s.%d.%d" % (client.call_id, client.cseq,
                                       node.index)
        self.registers[branch.encode()] = (client, node.index, expires)
        self.transport.sendto((
            "REGISTER sip:%s SIP/2.0\r\n"
            "Via: SIP/2.0/UDP %s:%d;rport;branch=%s\r\nMax-Forwards: 70\r\n"
            "From: <sip:%s@%s>;tag=r\r\nTo: <sip:%s@%s>\r\n"
            "Call-ID: %s\r\nCSeq: %d REGISTER\r\n"
            "Contact: <sip:%s@%s:%d>;expires=%d\r\nContent-Length: 0\r\n\r\n"
            % (DOMAIN, HOST, self.port, branch, client.user, DOMAIN,
               client.user, DOMAIN, client.call_id, client.cseq, client.user,
               HOST, self.port, expires)).encode(), node.address)

    def _registered(self, raw):
        found = BRANCH.search(raw)
        asked = found and self.registers.pop(found[1], None)
        if not asked or raw[8:11] != b"200":
            self.strays += 1
            return
        client, index, expires = asked
        (client.bound.add if expires else client.bound.discard)(index)

    def _register_all(self, client):
        """True if it knows that it is where it wants to be."""
        sure = all(i in client.bound for i in client.at)
        for i in client.at:
            client.bound.discard(i)
            self.register(client, self.nodes[i])
        return sure

    async def life(self, client):
        """Of one client: one way to be after the other."""
        rng = self.rng
        await asyncio.sleep(rng.uniform(0, 2))
        while not self.final:
            name, _, mean = rng.choices(MODES, [w for _, w, _ in MODES])[0]
            until = time.monotonic() + rng.expovariate(1 / mean)
            if name == "gone":
                for i in client.bound | set(client.at):
                    self.register(client, self.nodes[i], 0)
                client.mode, client.at = name, ()
            else:
                client.mode = name
                if not client.at or rng.random() < 0.1:
                    for i in client.at:
                        self.register(client, self.nodes[i], 0)
                    client.at = rng.choice(((0,), (1,), (0, 1)))
                    client.call_id = secrets.token_hex(8)
            while time.monotonic() < until and not self.final:
                sure = self._register_all(client)
                pause = rng.uniform(4, 12) if sure else 1.0
                stop = min(until, time.monotonic() + pause)
                while time.monotonic() < stop and not self.final:
                    await asyncio.sleep(
                        min(0.5, max(stop - time.monotonic(), 0.01)))
        client.mode = "ok"
        client.at = (0, 1)

    async def storm(self):
        """Everybody registers, several times."""
        for _ in range(self.rng.randrange(2, 5)):
            for client in list(self.clients.values()):
                for i in client.at:
                    self.register(client, self.nodes[i])
            await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    async def settle(self):
        """All answer from now on, and say so again and again."""
        self.final = True
        while True:
            clients = list(self.clients.values())
            for n, client in enumerate(clients):
                client.mode = "ok"
                for node in self.nodes:
                    self.register(client, node)
                if n % 20 == 19:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(3)
