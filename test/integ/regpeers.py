# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Registrars that tell who is registered (RFC 3680): one in Python that can
do it wrongly, and Kamailio with Debian's presence modules."""

import os
import secrets
import subprocess
import threading
from xml.sax.saxutils import escape, quoteattr

import sipua
from harness import (DOMAIN, HOST, TOP, Failure, Program, free_port,
                     wait_until)

TYPE = "application/reginfo+xml"
NS = "urn:ietf:params:xml:ns:reginfo"


def contact(uri, state="active", event="registered", expires=600, params=(),
            call_id=None, cseq=1, **attributes):
    """One contact element; params: (name, value or None) pairs."""
    attributes.update(id="c" + secrets.token_hex(4), state=state, event=event)
    if expires is not None:
        attributes["expires"] = expires
    if call_id is not None:
        attributes.update(callid=call_id, cseq=cseq)
    text = "<contact%s><uri>%s</uri>" % (
        "".join(" %s=%s" % (k, quoteattr(str(v)))
                for k, v in attributes.items()), escape(uri))
    for name, value in params:
        text += "<unknown-param name=%s>%s</unknown-param>" % (
            quoteattr(name), escape(value or ""))
    return text + "</contact>"


def registration(aor, contacts=(), state=None):
    if state is None:
        state = "active" if contacts else "terminated"
    return '<registration aor="%s" id="r%s" state="%s">%s</registration>' % (
        escape(aor), secrets.token_hex(3), state, "".join(contacts))


def reginfo(registrations, version=0, full=True):
    return ('<?xml version="1.0"?>\n<reginfo xmlns="%s" version="%d" '
            'state="%s">%s</reginfo>' % (
                NS, version, "full" if full else "partial",
                "".join(registrations))).encode()


class Dialog:
    """One subscription, as the registrar sees it."""

    def __init__(self, registrar, msg):
        self.registrar = registrar
        self.call_id = msg.call_id
        self.remote = msg.get("from")
        self.aor = sipua.uri_of(msg.get("to"))
        self.target = sipua.uri_of(msg.get("contact"))
        self.tag = secrets.token_hex(6)
        self.cseq = 0
        self.version = -1
        self.expires = int(msg.get("expires"))
        self.requests = [msg]

    def build(self, body=b"", state=None, cseq=None, headers=(), tag=None,
              call_id=None, remote=None, target=None, content_type=TYPE):
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        ua = self.registrar.ua
        pairs = [("Contact", "<%s>" % ua.contact), ("Event", "reg"),
                 ("Subscription-State",
                  state or "active;expires=%d" % self.expires)]
        if body:
            pairs.append(("Content-Type", content_type))
        return ua.build("NOTIFY", target or self.target,
                        pairs + list(headers), body, to=remote or self.remote,
                        from_="<%s>" % self.aor, from_tag=tag or self.tag,
                        call_id=call_id or self.call_id, cseq=cseq)

    def tell(self, contacts=None, full=True, version=None, others=(), **kw):
        """A NOTIFY with a document; the answer. contacts None: no body."""
        body = b""
        if contacts is not None:
            if version is None:
                self.version += 1
                version = self.version
            body = reginfo([registration(self.aor, contacts)] + list(others),
                           version, full)
        return self.registrar.ua.transact(self.build(body, **kw))


class FakeRegistrar:
    """Answers SUBSCRIBE; what else it does, the test says."""

    def __init__(self, stack, **kw):
        self.ua = sipua.UA("registrar", DOMAIN, (HOST, stack.sip_port), **kw)
        self.uri = "sip:%s:%d" % (HOST, self.ua.port)
        self.dialogs = []          # in the order of their SUBSCRIBEs
        self.answers = []          # (code, headers) each; then 200
        self.mute = False          # no answer at all
        self.known = {}            # AoR: contacts of the first NOTIFY
        self.silent = False        # no NOTIFY by itself
        self.problems = []
        self.ua.handlers["SUBSCRIBE"] = self._subscribed

    def close(self):
        self.ua.close()

    @property
    def subscribes(self):
        return [m for d in list(self.dialogs) for m in d.requests]

    def _subscribed(self, msg):
        # The To tag of a request in a dialog, and the target of another's
        self.problems += [
            p for p in msg.problems
            if p != "To has a tag" and not p.startswith("Request-URI")]
        tag = sipua.header_params(msg.get("to")).get("tag")
        dialog = next((d for d in self.dialogs if d.call_id == msg.call_id
                       and tag == d.tag), None)
        if dialog is None and tag is None:
            dialog = Dialog(self, msg)
            self.dialogs.append(dialog)
        elif dialog is not None:
            dialog.requests.append(msg)
            dialog.expires = int(msg.get("expires"))
        if self.mute:
            return
        code, headers = (self.answers.pop(0) if self.answers
                         else (200 if dialog else 481, ()))
        if code < 300:
            headers = list(headers) + [("Expires", str(dialog.expires)),
                                       ("Contact", "<%s>" % self.ua.contact)]
        self.ua._answer(msg, code, self.ua._answer_bytes(
            msg, code, None, headers, b"",
            dialog.tag if dialog and tag is None else None))
        if code < 300 and not self.silent:
            threading.Thread(target=self._first, args=(dialog,),
                             daemon=True).start()

    def _first(self, dialog):
        try:
            if dialog.expires == 0:
                dialog.tell(state="terminated;reason=timeout")
            else:
                dialog.tell(self.known.get(dialog.aor, []))
        except sipua.SipError:
            pass  # the PF is down just now

    def dialog(self, number=1, timeout=8.0):
        """The number-th dialog (from 1), as soon as it is there."""
        wait_until(lambda: len(self.dialogs) >= number, timeout,
                   "SUBSCRIBE %d (%d came)" % (number, len(self.dialogs)))
        return self.dialogs[number - 1]

    def request(self, dialog, number, timeout=8.0):
        wait_until(lambda: len(dialog.requests) >= number, timeout,
                   "request %d in the dialog (%d came)" % (
                       number, len(dialog.requests)))
        return dialog.requests[number - 1]


class Registrar:
    """Kamailio with registrar, presence, presence_reginfo, and pua_reginfo or
    a script that publishes what a client registered, feature tags included."""

    CFG = os.path.join(TOP, "test", "integ", "registrar.cfg")

    def __init__(self, directory, tags=True, expires=600):
        """tags: feature tags are told. expires: the longest subscription."""
        self.directory = str(directory)
        self.port, self.edge_port = free_port(), free_port()
        self.uri = "sip:%s:%d" % (HOST, self.port)
        self.tags, self.expires = tags, expires
        self.db = os.path.join(self.directory, "presence.sqlite")
        self.program = None

    def start(self):
        if not os.path.exists(self.db):
            self._make_db()
        argv = ["kamailio", "-f", self.CFG, "-DD", "-E", "-w", self.directory,
                "-Y", self.directory,
                "-P", os.path.join(self.directory, "registrar.pid"),
                "-A", "SIP_PORT=%d" % self.port,
                "-A", "EDGE_PORT=%d" % self.edge_port,
                "-A", 'SELF="sip:registrar@%s:%d"' % (HOST, self.port),
                "-A", "SUB_EXPIRES=%d" % self.expires,
                "-A", 'DB_URL="sqlite:///%s"' % self.db]
        if self.tags:
            argv += ["-A", "WITH_TAGS"]
        self.program = Program("registrar", argv, self.directory)
        wait_until(self._up, 15, "the registrar answers")
        return self

    def _make_db(self):
        for name in ("standard", "presence"):
            path = "/usr/share/kamailio/db_sqlite/%s-create.sql" % name
            if not os.path.exists(path):
                raise Failure("%s is missing" % path)
            with open(path) as f:
                subprocess.run(["sqlite3", self.db], stdin=f, check=True)

    def _up(self):
        if not self.program.running:
            raise Failure("the registrar ended:\n" + self.program.log()[-3000:])
        try:
            with sipua.UA("probe", DOMAIN, (HOST, self.port)) as ua:
                ua.request("OPTIONS", self.uri, timeout=0.2)
            return True
        except sipua.SipError:
            return False

    def stop(self):
        if self.program:
            self.program.stop()
            self.program = None

    def kill(self):
        self.program.kill()
        self.program = None
