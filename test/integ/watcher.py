# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that subscribes to its queue: one dialog of RFC 6665."""

import re
import secrets

import sipua
from harness import wait_until

SUMMARY = "application/simple-message-summary"
HISTORY = "application/vnd.oma.im.deferred-list+xml"


class Watcher:
    """One subscription over a UA, which may have several."""

    def __init__(self, ua, to=None, event="message-summary"):
        self.ua, self.event = ua, event
        self.uri = to or ua.aor
        self.call_id = ua.new_id()
        self.tag = secrets.token_hex(6)
        self.cseq = 0
        self.notifies = []
        self.answers = []       # codes, one each; then 200
        self.silent = False     # no answer at all
        self.remote = None      # To of the 200
        self.target = None
        self.routes = []
        self.contact = ua.contact
        watchers = ua.__dict__.setdefault("watchers", [])
        watchers.append(self)
        ua.handlers["NOTIFY"] = lambda msg: _notified(watchers, ua, msg)

    # ---- requests

    def build(self, expires=600, headers=(), event=None, contact=None,
              cseq=None, branch=None):
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        pairs = [("Contact", "<%s>" % (contact or self.contact))]
        if event is not False:
            pairs.append(("Event", event or self.event))
        if expires is not None:
            pairs.append(("Expires", str(expires)))
        pairs += [("Route", r) for r in self.routes]
        given = {n.lower() for n, _ in headers}
        pairs = [p for p in pairs if p[0].lower() not in given]
        pairs += [p for p in headers if p[1] is not None]
        return self.ua.build(
            "SUBSCRIBE", self.target or self.uri, pairs,
            to=self.remote or "<%s>" % self.uri, call_id=self.call_id,
            cseq=cseq, from_tag=self.tag, branch=branch)

    def subscribe(self, expires=600, headers=(), **kw):
        """SUBSCRIBE, in the dialog if there is one; the final response."""
        response = self.ua.transact(
            self.build(expires, headers, **kw))
        if response.code == 200 and self.remote is None:
            self.remote = response.get("to")
            self.target = sipua.uri_of(response.get("contact"))
            self.routes = list(reversed(response.list("record-route")))
        return response

    # ---- what comes

    def wait(self, count, timeout=8.0):
        """The count-th NOTIFY (from 1)."""
        self.ua.wait(lambda: len(self.notifies) >= count, timeout,
                     "NOTIFY %d (%d came)" % (count, len(self.notifies)))
        return self.notifies[count - 1]

    def wait_for(self, condition, timeout=8.0, what="such a NOTIFY"):
        """The first NOTIFY for which condition(it) is true."""
        return wait_until(
            lambda: next((n for n in list(self.notifies) if condition(n)),
                         None), timeout, what)

    def wait_count(self, count, timeout=8.0):
        """Until a NOTIFY tells of so many messages."""
        return self.wait_for(lambda n: count_of(n) == count, timeout,
                             "a NOTIFY that tells of %d" % count)


def _notified(watchers, ua, msg):
    tag = sipua.header_params(msg.get("to")).get("tag")
    for w in watchers:
        if msg.call_id != w.call_id or tag != w.tag:
            continue
        msg.problems = problems(w, msg)
        answer = w.answers.pop(0) if w.answers else 200
        w.notifies.append(msg)
        if not w.silent:
            ua.reply(msg, answer)
        return
    ua.__dict__.setdefault("strange", []).append(msg)
    ua.reply(msg, 481)


def problems(w, msg):
    """What RFC 3261 and RFC 6665 forbid of a NOTIFY in this dialog."""
    bad = [p for p in msg.problems if p != "To has a tag"]
    if msg.uri != w.contact:
        bad.append("Request-URI %s is not the target %s" % (
            msg.uri, w.contact))
    else:
        bad = [p for p in bad if not p.startswith("Request-URI")]
    for name in ("event", "subscription-state", "contact"):
        if len(msg.all(name)) != 1:
            bad.append("%d %s headers" % (len(msg.all(name)), name))
    if w.remote is not None:
        own = sipua.header_params(w.remote).get("tag")
        if sipua.header_params(msg.get("from")).get("tag") != own:
            bad.append("From tag is not that of the 200")
    if w.notifies and int(msg.cseq[0]) <= int(w.notifies[-1].cseq[0]):
        bad.append("CSeq %s after %s" % (
            msg.cseq[0], w.notifies[-1].cseq[0]))
    if msg.get("event", "").split(";")[0] != w.event.split(";")[0]:
        bad.append("Event: %s" % msg.get("event"))
    return bad


def state(msg):
    """("active", {"expires": "600"}) of Subscription-State."""
    value = msg.get("subscription-state")
    return value.split(";")[0].strip(), sipua.header_params(value)


def count_of(msg):
    """How many messages wait, by the body; None: it does not say."""
    text = msg.body.decode("utf-8", "replace")
    found = re.search(r"^pager-message: (\d+)/(\d+)", text, re.M | re.I)
    if found:
        return int(found[1]) + int(found[2])
    found = re.search(r'cpm:messages="(\d+)"', text)
    if found:
        return int(found[1])
    if re.search(r"^Messages-Waiting: no\r?$", text, re.M):
        return 0
    return None
