#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends messages while everything breaks, and proves that none was lost.

    chaos.py [--seed N] [--messages N] [--time S] [--short] [--dir DIR]
    chaos.py --judge DIR/ledger.jsonl

The seed decides who does what and what breaks when; the interleaving of
processes is the machine's. What is asked of the outcome: judge.py. Exit
status 0 only if all of it holds. The run directory keeps the ledger and the
logs if it does not.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import DOMAIN, Clients, Sender  # noqa: E402
from judge import Ledger, history, judge  # noqa: E402
from system import FR_TIMER, Failure, System  # noqa: E402

SHORT = {"messages": 3000, "time": 30, "rate": 150, "users": 120,
         "gap": (0.8, 2.2), "drain": 45}
LONG = {"messages": 200000, "time": 2400, "rate": 190, "users": 400,
        "gap": (3.0, 9.0), "drain": 180}


def say(text):
    print(text, flush=True)


class Run:
    def __init__(self, args, directory):
        self.args, self.directory = args, directory
        self.path = os.path.join(directory, "ledger.jsonl")
        self.ledger = Ledger(self.path)
        seeds = [random.Random("%d %s" % (args.seed, part))
                 for part in ("sender", "clients", "trouble")]
        self.system = System(directory, self.ledger)
        users = ["u%d" % i for i in range(args.users)]
        self.trouble_rng = seeds[2]
        self.sender = Sender(seeds[0], self.system.nodes, users, self.ledger)
        self.clients = Clients(seeds[1], self.system.nodes, users, self.ledger,
                               FR_TIMER)
        self.wrong_sums = 0
        self.looks = 0

    def bad(self, text):
        self.ledger.write(e="bad", text=text)

    async def look_at_sums(self):
        while True:
            await asyncio.sleep(1)
            try:
                wrong = await asyncio.to_thread(self.system.sums)
            except (OSError, Failure):
                continue  # Redis is down or stopped, or loads its file
            self.looks += 1
            for text in wrong[:3]:
                self.bad(text)

    async def progress(self, every):
        while True:
            await asyncio.sleep(every)
            say("  %6.0f s: %d sent, %d under way, %s" % (
                time.monotonic() - self.began, self.sender.number,
                len(self.sender.under_way), ", ".join(
                    "%s %d" % p for p in sorted(self.system.counts.items()))))

    def left(self):
        """Messages that wait for their delivery. None: Redis cannot tell."""
        try:
            return [m for m in self.system.contents()[0] if m[2] != "D"]
        except (OSError, Failure):
            return None

    async def go(self):
        # whoever ends this test is to find nothing of it left
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, asyncio.current_task().cancel)
        try:
            await self.work()
        finally:
            self.system.calm = True
            for problem in self.system.stop() + self.system.surprises:
                self.bad(problem)
            await self.system.wait_proxies()

    async def work(self):
        self.began = time.monotonic()
        await self.system.start()
        await self.sender.open()
        await self.clients.open()
        lives = [asyncio.ensure_future(self.clients.life(c))
                 for c in self.clients.clients.values()]
        others = [asyncio.ensure_future(c) for c in (
            self.clients.forget(), self.clients.watch_lag(),
            self.look_at_sums(), self.system.watch(),
            self.progress(60 if self.args.messages > 20000 else 10))]
        trouble = asyncio.ensure_future(self.system.trouble(
            self.trouble_rng, self.args.gap, self.clients.storm))
        started = time.monotonic()
        sending = asyncio.ensure_future(self.sender.run(
            self.args.messages, self.args.rate, 400,
            started + self.args.time))
        try:
            # whatever ends before its time has failed, and says why
            while not sending.done():
                done, _ = await asyncio.wait(
                    {sending, *others} if self.system.calm
                    else {sending, trouble, *others}, timeout=1,
                    return_when=asyncio.FIRST_COMPLETED)
                for task in done - {sending}:
                    task.result()
                    if not self.system.calm:
                        raise Failure("the test itself ended: %r" % task)
                # those that are still tried again are to have their chance
                if (self.sender.started_all and time.monotonic()
                        > self.sender.started_all + 5):
                    self.system.calm = True
            sending.result()
            self.sent_s = time.monotonic() - started
            self.system.calm = True
            await trouble
            say("  all is sent; no more trouble, all clients answer")
            self.clients.final = True
            await asyncio.gather(*lives)
            others.append(asyncio.ensure_future(self.clients.settle()))
            await self.drain()
        finally:
            for task in others + lives + [trouble, sending]:
                task.cancel()

    async def drain(self):
        until = time.monotonic() + self.args.drain
        left = await asyncio.to_thread(self.left)
        while left is None or left:
            if time.monotonic() > until:
                break  # what is left is in the ledger; the judge tells it
            await asyncio.sleep(0.3)
            left = await asyncio.to_thread(self.left)
        # expired messages are reported once a second
        until = time.monotonic() + 30
        messages, expired, wrong = await asyncio.to_thread(
            self.system.contents)
        while expired and time.monotonic() < until:
            await asyncio.sleep(0.3)
            messages, expired, wrong = await asyncio.to_thread(
                self.system.contents)
        if expired:
            self.bad("nobody reports %d expired messages" % len(expired))
        for text in wrong:
            self.bad(text)
        for user, ident, state, _ in messages:
            self.ledger.write(e="left", id=ident, state=state,
                              r=user[len("sip:"):-len("@" + DOMAIN)])
            if state != "D":
                self.bad("%s is still in the queue of %s, state %s, though "
                         "its client answers" % (ident, user, state))
        await asyncio.to_thread(self.ask_http, messages)
        for node in self.system.nodes:
            self.read_log(node)

    def ask_http(self, messages):
        """What the operator is shown is what there is: by either node."""
        want = {}
        for user, ident, state, _ in messages:
            want.setdefault(user, set()).add(
                (ident, {"D": "dead", "Q": "queued", "L": "leased",
                         "H": "held"}[state]))
        for node in self.system.nodes:
            base = "http://127.0.0.1:%d/v1" % node.admin_port

            def pages(path):
                cursor = ""
                while cursor is not None:
                    sign = "&" if "?" in path else "?"
                    with urllib.request.urlopen(
                            base + path + sign + "limit=100"
                            + ("&cursor=" + urllib.request.quote(
                                str(cursor), safe="") if cursor else ""),
                            timeout=20) as f:
                        page = json.load(f)
                    yield from page["items"]
                    cursor = page.get("next")

            shown = {}
            for queue in pages("/queues"):
                items = list(pages("/queues/%s/messages" % (
                    urllib.request.quote(queue["user"], safe=""))))
                shown[queue["user"]] = {(i["id"], i["state"]) for i in items}
                if queue["messages"] != len(items):
                    self.bad("node %d: HTTP says %d messages of %s and lists "
                             "%d" % (node.index, queue["messages"],
                                     queue["user"], len(items)))
            if shown != want:
                self.bad("node %d: HTTP shows %r, Redis has %r" % (
                    node.index, shown, want))

    def read_log(self, node):
        crash = re.compile(r"BUG|[Ss]egmentation|Sanitizer|core dumped|"
                           r"worker died role=\w+ signal=(?!9\b)")
        with open(os.path.join(node.directory, "kamailio.log"),
                  errors="replace") as f:
            for line in f:
                if "queue: expired" in line:
                    found = re.search(r"queue: expired .*? id=(\S+)", line)
                    self.ledger.write(e="expired", id=found[1])
                elif crash.search(line):
                    self.bad("node %d says: %s" % (node.index, line.strip()))


def report(path, run=None):
    v = judge(path)
    c = v.counts

    def line(name, *counts):
        say("  %-12s %s" % (name, ", ".join(
            "%s %d" % (k, n) for k, n in counts)))

    line("sent", ("messages", c["sent"]), ("attempts", c["attempts"]))
    line("answered", ("accepted", c["accepted"]), ("refused", c["refused"]),
         *[(k[len("refused "):], n) for k, n in sorted(c.items())
           if k.startswith("refused ")],
         ("never answered", c["unanswered"]))
    line("delivered", ("messages", c["delivered"]),
         ("while sent", c["delivered while sent"]),
         ("out of the queue", c["delivered out of the queue"]))
    line("duplicates", ("all", sum(v.duplicates.values())),
         *sorted(v.duplicates.items()))
    line("expired", ("reported", c["expired"]),
         ("report lost in a fault", c["expired, report lost in a fault"]))
    line("left", ("queued", c["queued"]), ("dead", c["dead"]))
    line("order", ("messages compared", c["ordered pairs looked at"]))
    if run:
        line("trouble", *sorted(run.system.counts.items()))
        say("  sent in %.0f s, sums looked at %d times; a 200 may have been "
            "lost to a fault in %.0f %% of the time; this process was away "
            "for at most %.2f s" % (run.sent_s, run.looks, 100 * v.covered,
                                    run.clients.lag))
    for text, ident in v.violations[:40]:
        say("VIOLATION %s%s" % (ident + ": " if ident else "", text))
    if len(v.violations) > 40:
        say("... and %d more" % (len(v.violations) - 40))
    for row in history(path, [i for _, i in v.violations[:10] if i]):
        say("    " + row)
    return v


def verdict(run, args):
    v = report(run.path, run)
    ok = not v.violations
    for name in ("accepted", "delivered", "ordered pairs looked at", "faults"):
        if v.counts[name] == 0:
            say("nothing was %s: this run proves nothing" % name)
            ok = False
    if v.counts["sent"] < args.messages:
        say("%d of %d messages were sent in the time that was given" % (
            v.counts["sent"], args.messages))
        ok = ok and args.time_given
    return ok


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seed", type=int)
    p.add_argument("--messages", type=int)
    p.add_argument("--time", type=float, help="seconds of sending, at most")
    p.add_argument("--rate", type=float, help="messages a second")
    p.add_argument("--users", type=int, help="recipients")
    p.add_argument("--short", action="store_true")
    p.add_argument("--dir", help="run directory; kept if it is given")
    p.add_argument("--judge", metavar="LEDGER", help="only judge this one")
    args = p.parse_args()
    args.time_given = args.time is not None
    for name, value in (SHORT if args.short else LONG).items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
        elif name in ("messages", "time", "rate", "users") and not (
                0 < getattr(args, name) <= 1e8):
            p.error("--%s takes a number above 0" % name)
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1, 10**6)
    return args


def main():
    args = arguments()
    if args.judge:
        return 1 if report(args.judge).violations else 0
    say("chaos: SEED=%d MESSAGES=%d" % (args.seed, args.messages))
    if args.dir:
        os.makedirs(args.dir)
        directory = os.path.abspath(args.dir)
    else:
        directory = tempfile.mkdtemp(prefix="cpm-chaos-")
    run = Run(args, directory)
    run.sent_s = 0
    failure = None
    try:
        asyncio.run(run.go())
    except Failure as e:
        failure = e
    except (KeyboardInterrupt, asyncio.CancelledError):
        failure = "somebody ended it"
    run.ledger.close()
    if failure:
        say("chaos: the run did not come to its end: %s" % failure)
    ok = failure is None and verdict(run, args)
    if ok and not args.dir:
        shutil.rmtree(directory)
    else:
        say("chaos: ledger and logs: %s" % directory)
    say("chaos: %s, SEED=%d" % ("ok" if ok else "FAILED", args.seed))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
