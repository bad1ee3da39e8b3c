# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger of a chaos run, and the verdict on it.

The ledger is JSON lines; their order is the order of events as the one
process saw them that is sender and clients at once. "t" is monotonic, in s.

  send   id r a node [body x]   attempt a at message id for recipient r; the
                                first one has the body's digest and Expires
  rep    id node                a retransmission of an attempt
  end    id a code              its final answer; 0: none came
  fin    id how code            accepted (2xx), refused, or unanswered: given
                                up without having been told
  arr    id r node cid act body [w] a request arrived: new, no retransmission,
                                and was answered w s later.
                                act: take (200 was sent), lost (taken, no 200
                                was sent), late (taken, 200 was sent too late),
                                or the code with which it was refused
  fault  kind t0 t1 scope       something was broken; scope: a node, or "all"
  left   id r state             in the queue when all was over
  expired id                    reported as expired
  bad    text                   anything else that is wrong

Message-IDs are unique over all recipients. What is asked:

1. A message that got a 2xx was taken by its client, or is in the queue, or is
   a dead letter, or has expired. One that expired was reported so, unless the
   process that had to report it was cut off or killed at that time.
2. Nobody gets what was not sent to him, or other bytes than were sent.
3. Order. The queue is first in, first out; what is delivered while it is sent
   (the client's own answer reaches the sender) does not pass through it and
   has no place in it. So: of two messages to one recipient that were both
   first taken out of the queue, where the second was first sent after the 2xx
   of the first had arrived, the first was taken first; unless that one had
   been refused as a message of its own (415), which lets others pass it.
4. A message is taken again only where the reason is known: its client's 200
   was not sent, or came after Kamailio's timer; or what should have recorded
   the 200 was broken around that time; or the sender got no answer or 503
   and, as it must, sent the request again, and one of the two was delivered
   while it was sent; or it retransmitted the request, as what had to queue it
   was broken and so the answer came late, and of the two copies one was
   queued, and one delivered while it was sent, because the client had just
   registered. Out of the queue a message has one Call-ID, always;
   delivered while it is sent it has the sender's.
"""

import bisect
import collections
import json
import time

BEFORE, AFTER = 0.5, 2.0  # s around a fault in which a 200 may get lost
EXPIRED_AFTER = 35.0      # s after its expiry that a message is reported


class Ledger:
    def __init__(self, path):
        self.file = open(path, "w", buffering=1 << 20)

    def write(self, **event):
        if "t" not in event:
            event["t"] = round(time.monotonic(), 4)
        self.file.write(json.dumps(event, separators=(",", ":")) + "\n")

    def fault(self, kind, t0, t1, scope):
        self.write(e="fault", kind=kind, t0=round(t0, 4), t1=round(t1, 4),
                   scope=scope)

    def close(self):
        self.file.close()


class _Windows:
    """Times in which something was broken: merged, for quick questions."""

    def __init__(self, spans):
        self.begins, self.ends = [], []
        for begin, end in sorted(spans):
            if self.ends and begin <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], end)
            else:
                self.begins.append(begin)
                self.ends.append(end)

    def meets(self, begin, end):
        i = bisect.bisect_right(self.begins, end) - 1
        return i >= 0 and self.ends[i] >= begin

    def length(self, begin, end):
        return sum(max(0, min(e, end) - max(b, begin))
                   for b, e in zip(self.begins, self.ends))


class _Message:
    __slots__ = ("id", "r", "body", "expires", "sent", "sent_line", "fin",
                 "fin_line", "code", "shaky", "takes", "refused", "left",
                 "expired", "cid", "codes")

    def __init__(self, ident):
        self.id = ident
        self.r = self.body = self.fin = self.left = self.cid = None
        self.expires = self.sent = self.sent_line = self.fin_line = 0
        self.code = 0
        self.shaky = self.expired = False
        self.takes, self.refused, self.codes = [], [], set()


class Verdict:
    def __init__(self):
        self.violations = []   # (text, message id or None)
        self.counts = collections.Counter()
        self.duplicates = collections.Counter()
        self.covered = 0.0     # part of the run in which a node is excused
        self.seconds = 0.0

    def bad(self, text, ident=None):
        self.violations.append((text, ident))


def judge(path):
    v = Verdict()
    messages, spans, first, last = _read(path, v)
    nodes = sorted({s for _, _, s in spans if s != "all"} | {0, 1})
    windows = {n: _Windows([(b - BEFORE, e + AFTER) for b, e, s in spans
                            if s in ("all", n)]) for n in nodes}
    v.seconds = last - first
    if v.seconds > 0:
        v.covered = sum(w.length(first, last) for w in windows.values()) / (
            len(windows) * v.seconds)
    for m in messages.values():
        _fate(v, m, windows)
        _twice(v, m, windows)
    _order(v, messages)
    return v


def _read(path, v):
    messages, spans = {}, []
    first = last = None
    with open(path) as f:
        for number, line in enumerate(f):
            d = json.loads(line)
            e = d["e"]
            last = d["t"]
            first = last if first is None else first
            if e == "fault":
                v.counts["faults"] += 1
                spans.append((d["t0"], d["t1"], d["scope"]))
                continue
            if e == "bad":
                v.bad(d["text"])
                continue
            if "id" not in d:
                continue
            m = messages.get(d["id"])
            if m is None:
                m = messages[d["id"]] = _Message(d["id"])
            if e == "send":
                v.counts["attempts"] += 1
                if m.r is None:
                    m.r, m.body, m.expires = d["r"], d["body"], d["x"]
                    m.sent, m.sent_line = d["t"], number
                    v.counts["sent"] += 1
            elif e == "end":
                m.codes.add(d["code"])
                m.shaky = m.shaky or d["code"] in (0, 503)
            elif e == "fin":
                m.fin, m.fin_line, m.code = d["how"], number, d["code"]
            elif e == "arr":
                _arrival(v, m, d, number)
            elif e == "left":
                if m.left is not None:
                    v.bad("is in the queue twice", m.id)
                m.left = d["state"]
                if m.r is not None and d["r"] != m.r:
                    v.bad("is in the queue of %s" % d["r"], m.id)
            elif e == "expired":
                m.expired = True
    return messages, spans, first or 0, last or 0


def _arrival(v, m, d, number):
    if m.r is None:
        v.bad("arrived and was never sent", m.id)
        return
    if d["r"] != m.r:
        v.bad("is for %s and arrived at %s" % (m.r, d["r"]), m.id)
    if d["body"] != m.body:
        v.bad("arrived with other bytes than were sent", m.id)
    queued = d["cid"] != "own"
    if queued:
        if m.cid is not None and m.cid != d["cid"]:
            v.bad("has two Call-IDs out of the queue: %s, %s" % (
                m.cid, d["cid"]), m.id)
        m.cid = d["cid"]
    if d["act"] in ("take", "lost", "late"):
        # what counts is when the 200 was sent
        m.takes.append((number, d["t"] + d.get("w", 0), d["node"], d["act"],
                        queued))
    else:
        m.refused.append((number, d["act"]))


def _fate(v, m, windows):
    if m.r is None:
        if m.left is not None:
            v.bad("is in the queue and was never sent", m.id)
        return
    if m.fin is None:
        v.bad("its sending has no end in the ledger", m.id)
        return
    v.counts[m.fin] += 1
    if m.fin == "refused":
        v.counts["refused %d" % m.code] += 1
    if m.takes:
        v.counts["delivered"] += 1
        v.counts["delivered while sent" if not m.takes[0][4]
                 else "delivered out of the queue"] += 1
    if m.left is not None:
        v.counts["dead" if m.left == "D" else "queued"] += 1
    if m.expired:
        v.counts["expired"] += 1
        if not m.expires:
            v.bad("was reported as expired and had no Expires", m.id)
    if m.fin != "accepted" or m.takes or m.left is not None or m.expired:
        return
    # not taken, not there: it may only have expired, and nobody was there
    # to say so
    at = m.sent + m.expires
    if m.expires and any(w.meets(at, at + EXPIRED_AFTER)
                         for w in windows.values()):
        v.counts["expired, report lost in a fault"] += 1
    elif m.expires:
        v.bad("was accepted (%d), and is gone: it has an Expires of %d s, and "
              "nothing kept anybody from reporting it" % (
                  m.code, m.expires), m.id)
    else:
        v.bad("LOST: it was accepted (%d), no client took it, and it is not "
              "in the queue" % m.code, m.id)


def _twice(v, m, windows):
    for (_, t, node, act, queued), (_, t2, node2, _, queued2) in zip(
            m.takes, m.takes[1:]):
        w = windows.get(node)
        if act in ("lost", "late"):
            reason = "200 %s by the client" % (
                "not sent" if act == "lost" else "sent late")
        elif not (queued and queued2) and m.shaky:
            reason = "sent again, after no answer or 503"
        elif w is not None and w.meets(t, t):
            reason = "broken where the 200 went"
        else:
            reason = "NONE"
            v.bad("was taken again and there is no reason for it", m.id)
        v.duplicates[reason] += 1


def _order(v, messages):
    of = collections.defaultdict(list)
    for m in messages.values():
        if m.takes and m.takes[0][4] and m.r is not None:
            of[m.r].append(m)
    for r, mine in of.items():
        # by the time when each was sent; and when its 2xx was there
        firsts = [(m.fin_line, m) for m in mine
                  if m.fin == "accepted" and not any(
                      act == "415" for _, act in m.refused)]
        firsts.sort(key=lambda p: p[0])
        mine.sort(key=lambda m: m.sent_line)
        i, latest = 0, None
        for m in mine:
            while i < len(firsts) and firsts[i][0] < m.sent_line:
                x = firsts[i][1]
                if latest is None or x.takes[0][0] > latest.takes[0][0]:
                    latest = x
                i += 1
            if latest is not None:
                v.counts["ordered pairs looked at"] += 1
                if m.takes[0][0] < latest.takes[0][0]:
                    v.bad("%s: arrived before %s, whose 2xx was there before "
                          "this one was sent" % (r, latest.id), m.id)


def history(path, idents):
    """The lines of the ledger about these messages, one after the other."""
    lines = {ident: [] for ident in idents}
    with open(path) as f:
        for line in f:
            ident = '"id":"' in line and json.loads(line)["id"]
            if ident in lines:
                lines[ident].append(line.rstrip())
    return [line for ident in lines for line in lines[ident]]
