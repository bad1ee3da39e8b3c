#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a decision costs: cpm_route_recipient() for users who are in the cache
and for users who are not, with and without registered clients.

Kamailio times itself (decide.cfg); here are the users, the requests and the
statistics. A closed loop: WINDOW requests are out, each answer sends the next.
"""

import collections
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integ"))

import harness  # noqa: E402
import sipua  # noqa: E402

USERS = 100000
CACHED = 10000     # of them that are asked for again and again
REGISTERED = 2000  # with clients: one for the first half, three for the other
REQUESTS = 30000   # of each case
WINDOW = 8

# Kamailio's memory managers
MANAGERS = [("qm", "its default"), ("fm", "the fast one")]

PHONE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
ICSI = "urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm."
BODY = ("From: <sip:u0@example.org>\r\nTo: <sip:u1@example.org>\r\n"
        "DateTime: 2026-01-01T12:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n"
        "imdn.Message-ID: Mvkw8dyJ\r\n\r\n"
        "Content-Type: text/plain; charset=UTF-8\r\n\r\n"
        "Shall we have lunch at one?")

# Four rules each: three that look at the message and do not match, and one of
# a device.
RULES = [(10, "anonymous", "", "", "", "reject"),
         (20, "*@spam.example", "", "", "", "reject"),
         (30, "", "", "large", "", "queue"),
         (40, "", "image/*", "", PHONE, "defer")]


def make_database(path):
    url = "sqlite:///" + path
    subprocess.run([os.path.join(harness.TOP, "tools", "cpm-db.sh"), "create",
                    url], check=True, stdout=subprocess.DEVNULL)
    db = sqlite3.connect(path)
    with db:
        db.execute("INSERT INTO cpm_policy (service_class, accept_types,"
                   " max_size, deliver_max_size) VALUES ('standard',"
                   " 'text/*, message/cpim, image/*', 65536,"
                   " 'msg=1300,largemsg=65536,*=8000')")
        db.executemany(
            "INSERT INTO cpm_user (username, domain, service_class)"
            " VALUES (?, 'example.org', 'standard')",
            (("u%d" % i,) for i in range(USERS)))
        db.executemany(
            "INSERT INTO cpm_rule (username, domain, priority, originator,"
            " content_type, message_kind, device, action)"
            " VALUES (?, 'example.org', ?, ?, ?, ?, ?, ?)",
            (("u%d" % i,) + rule for i in range(USERS) for rule in RULES))
    db.close()
    return url


class Sender:
    """A closed loop over one UDP socket. The time is Kamailio's own: a slow
    sender makes the run longer, and not the result worse."""

    def __init__(self, port):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self.sock.settimeout(5)
        self.sock.connect((harness.HOST, port))
        self.host, self.port = self.sock.getsockname()
        self.count = 0

    def request(self, method, uri, user, headers, body=""):
        self.count += 1
        return ("%s %s SIP/2.0\r\n"
                "Via: SIP/2.0/UDP %s:%d;branch=z9hG4bK%08x\r\n"
                "Max-Forwards: 70\r\nFrom: <sip:u0@example.org>;tag=%08x\r\n"
                "To: <sip:%s@example.org>\r\nCall-ID: %08x@bench\r\n"
                "CSeq: 1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
                    method, uri, self.host, self.port, self.count, self.count,
                    user, self.count, method, headers, len(body), body)
                ).encode()

    def message(self, user):
        return self.request(
            "MESSAGE", "sip:%s@example.org" % user, user,
            'Accept-Contact: *;+g.3gpp.icsi-ref="%smsg"\r\n'
            "P-Preferred-Service: urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg"
            "\r\nConversation-ID: f81d4fae-7dec-11d0-a765-00a0c91e6bf6\r\n"
            "Contribution-ID: abcdef-1234-5678-90ab-cdef01234567\r\n"
            "Content-Type: message/cpim\r\n" % ICSI, BODY)

    def register(self, user, clients):
        contacts = "".join(
            'Contact: <sip:%s@127.0.0.1:%d>;+sip.instance="<%s>";'
            '+g.3gpp.icsi-ref="%smsg,%slargemsg"\r\n' % (
                user, 30000 + i, PHONE[:-1] + str(i + 1), ICSI, ICSI)
            for i in range(clients))
        return self.request("REGISTER", "sip:example.org", user,
                            contacts + "Expires: 3600\r\n")

    def run(self, requests):
        """The reason phrases of all answers."""
        out, reasons = 0, []
        requests = iter(requests)
        while True:
            while out < WINDOW:
                raw = next(requests, None)
                if raw is None:
                    break
                self.sock.send(raw)
                out += 1
            if out == 0:
                return reasons
            line = self.sock.recv(4096).split(b"\r\n", 1)[0].decode()
            if not line.startswith("SIP/2.0 200 "):
                raise SystemExit("bench: " + line)
            reasons.append(line[12:])
            out -= 1


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(name, sender, users, column=2, skip=0):
    """One line of the table: of a column of the reason phrases. skip: the
    first so many are for warming up."""
    answers = [r.split(" ") for r in sender.run(
        sender.message(u) for u in users)][skip:]
    cost = [int(a[column]) for a in answers]
    empty = [int(a[0]) for a in answers]
    mean = sum(cost) / len(cost)
    base = sum(empty) / len(empty)
    why = "/".join(w for w, _ in collections.Counter(
        a[3] for a in answers).most_common())
    print("%-38s %6d %7.2f %7.2f %7.2f %5d %5d %7d  %s" % (
        name, len(cost), mean, base, mean - base, percentile(cost, 0.5),
        percentile(cost, 0.99), max(cost), why), flush=True)


def cycle(first, count, total):
    return ("u%d" % (first + i % count) for i in range(total))


def bench(directory):
    print("preparing %d users with %d rules each" % (USERS, len(RULES)),
          flush=True)
    url = make_database(os.path.join(directory, "cpm.db"))
    redis = harness.Redis(directory)
    redis.start()
    try:
        for manager, what in MANAGERS:
            print("\nKamailio -x %s -X %s: %s" % (manager, manager, what))
            kamailio_with(manager, directory, redis, url)
    finally:
        redis.stop()


def kamailio_with(manager, directory, redis, url):
    ports = [harness.free_port() for _ in range(2)]
    kamailio = harness.Program("kamailio-" + manager, [
        "kamailio", "-f", os.path.join(HERE, "decide.cfg"), "-DD", "-E",
        "-x", manager, "-X", manager, "-m", "512",
        "-w", directory, "-Y", directory,
        "-P", os.path.join(directory, manager + ".pid"),
        "-A", "SIP_PORT=%d" % ports[0], "-A", "AUTH_PORT=%d" % ports[1],
        "-A", 'CPM_MODULE="%s"' % harness.MODULE,
        "-A", 'REDIS="addr=%s;port=%d"' % (harness.HOST, redis.port),
        "-A", 'DB_URL="%s"' % url], directory)
    try:
        harness.wait_until(lambda: is_up(kamailio, ports[0]), 15,
                           "Kamailio answers SIP")
        cases(*(Sender(port) for port in ports))
    finally:
        kamailio.stop()


def is_up(kamailio, port):
    if not kamailio.running:
        raise SystemExit("bench: Kamailio ended:\n" + kamailio.log()[-2000:])
    try:
        with sipua.UA("probe", proxy=(harness.HOST, port)) as ua:
            return ua.request("OPTIONS", "sip:127.0.0.1", timeout=0.2)
    except sipua.SipError:
        return None


def cases(sender, authorizing):
    """The table. The sender u0 stands outside the groups."""
    for i in range(REGISTERED):
        sender.run([sender.register("u%d" % (1 + i),
                                    1 if i < REGISTERED // 2 else 3)])
    half = REGISTERED // 2
    offline = 1 + REGISTERED
    print("microseconds; %d requests out at a time; mean - empty is what the "
          "call costs" % WINDOW)
    print("%-38s %6s %7s %7s %7s %5s %5s %7s  %s" % (
        "", "calls", "mean", "empty", "net", "p50", "p99", "max", "why"))
    measure("not cached, no client", sender, cycle(offline, CACHED, CACHED))
    measure("not cached, one client", sender, cycle(1, half, half))
    measure("not cached, three clients", sender, cycle(1 + half, half, half))
    measure("cached, no client", sender, cycle(offline, CACHED, REQUESTS))
    measure("cached, one client", sender, cycle(1, half, REQUESTS))
    measure("cached, three clients", sender, cycle(1 + half, half, REQUESTS))
    measure("cached, one user again and again", sender,
            cycle(offline, 1, REQUESTS))
    measure("cpm_authorize(), cached sender", authorizing,
            cycle(1, half, REQUESTS), 1, 1)
    measure("  and then: cached, one client", authorizing,
            cycle(1, half, REQUESTS))
    measure("  and then: cached, no client", authorizing,
            cycle(offline, CACHED, REQUESTS))
    measure("unknown, cached", sender, cycle(USERS, 100, REQUESTS), skip=100)


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
