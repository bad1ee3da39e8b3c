#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small and strict SIP user agent for pager-mode messages.

It registers, sends MESSAGE and receives MESSAGE over UDP and TCP, keeps every
byte that arrived, and says what is wrong with a request by RFC 3261 and
RFC 3428. It needs nothing but Python. The demonstration uses it as a command,
the integration tests as a library:

    with UA("bob", "example.org", proxy=("127.0.0.1", 5060)) as bob:
        bob.register()
        msg = bob.wait_messages(1, timeout=5)[0]
        assert msg.body == b"hello" and not msg.problems

What it answers to a MESSAGE: `answer` (a code; None: nothing; or a function
of the message that returns one of these), and before that, one each, what is
in the list `answers`. A retransmission gets the answer of its transaction
again and is counted in msg.repeats; it is no new message.

For sessions there are invite(), accept() and Dialog; what is not a message
goes to the function that `handlers` has for its method. A dialog's requests
go to the proxy, as all others do.

BUGS: no authentication, no TLS, no DNS, no forking, no re-INVITE of its own.
"""

import argparse
import collections
import os
import secrets
import selectors
import socket
import sys
import threading
import time

COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type",
    "d": "request-disposition", "e": "content-encoding", "f": "from",
    "i": "call-id", "j": "reject-contact", "k": "supported",
    "l": "content-length", "m": "contact", "o": "event", "r": "refer-to",
    "s": "subject", "t": "to", "u": "allow-events", "v": "via",
    "x": "session-expires",
}

REASONS = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    415: "Unsupported Media Type", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 486: "Busy Here",
    487: "Request Terminated", 488: "Not Acceptable Here",
    500: "Server Internal Error", 503: "Service Unavailable",
    600: "Busy Everywhere", 603: "Decline", 606: "Not Acceptable",
}

BRANCH_MAGIC = "z9hG4bK"
T1, T2 = 0.5, 4.0  # RFC 3261, 17.1.1.1
UDP_MAX = 65507


class SipError(Exception):
    """Something was not as the RFCs have it, or did not come in time."""


def canonical(name):
    """The long name of a header, in lower case."""
    name = name.strip().lower()
    return COMPACT.get(name, name)


def split_list(value):
    """The items of a comma separated header value."""
    items, item, quoted, angle, escaped = [], "", False, False, False
    for c in value:
        if escaped:
            escaped = False
        elif quoted and c == "\\":
            escaped = True
        elif c == '"':
            quoted = not quoted
        elif not quoted and c in "<>":
            angle = c == "<"
        elif c == "," and not quoted and not angle:
            items.append(item.strip())
            item = ""
            continue
        item += c
    items.append(item.strip())
    return [i for i in items if i]


def uri_of(value):
    """The URI of a name-addr or addr-spec header value."""
    if "<" in value:
        return value.split("<", 1)[1].split(">", 1)[0]
    return value.split(";", 1)[0].strip()


def header_params(value):
    """The parameters behind a name-addr (or Via, or token) as a dict."""
    rest = value.split(">", 1)[1] if "<" in value else value
    params = {}
    for part in rest.split(";")[1:]:
        name, eq, val = part.partition("=")
        params[name.strip().lower()] = val.strip() if eq else None
    return params


class Message:
    """A SIP message as it came: raw bytes, headers in order, body."""

    def __init__(self, raw):
        self.raw = raw
        self.problems = []
        self.repeats = 0       # retransmissions of this request
        self.source = None     # (host, port) it came from
        self.at = time.monotonic()
        self.answered = None   # code
        self._answer_raw = None
        self._reply_to = None
        head, sep, self.body = raw.partition(b"\r\n\r\n")
        if not sep:
            raise SipError("no empty line ends the headers")
        self.head = head
        if b"\n" in head.replace(b"\r\n", b""):
            self.problems.append("a header line ends in LF without CR")
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        self.start_line = lines[0]
        self.headers = []
        for line in lines[1:]:
            if line[:1] in (" ", "\t"):
                if not self.headers:
                    raise SipError("folding before the first header")
                name, value = self.headers[-1]
                self.headers[-1] = (name, value + " " + line.strip())
                continue
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                raise SipError("not a header line: %r" % line)
            self.headers.append((name, value.strip()))
        words = self.start_line.split(" ", 2)
        if len(words) < 3:
            raise SipError("bad start line: %r" % self.start_line)
        self.is_request = words[0] != "SIP/2.0"
        if self.is_request:
            self.method, self.uri = words[0], words[1]
            self.code = self.reason = None
            if words[2] != "SIP/2.0":
                raise SipError("bad request line: %r" % self.start_line)
        else:
            self.method = self.uri = None
            if not (words[1].isdigit() and len(words[1]) == 3):
                raise SipError("bad status line: %r" % self.start_line)
            self.code, self.reason = int(words[1]), words[2]

    def all(self, name):
        """Every value of a header, long or compact, in order."""
        want = canonical(name)
        return [v for n, v in self.headers if canonical(n) == want]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def list(self, name):
        """Every item of a comma separated header."""
        return [i for v in self.all(name) for i in split_list(v)]

    @property
    def branch(self):
        vias = self.list("via")
        return header_params(vias[0]).get("branch") if vias else None

    @property
    def cseq(self):
        number, _, method = (self.get("cseq") or "").partition(" ")
        return number, method.strip()

    @property
    def call_id(self):
        return self.get("call-id")

    @property
    def content_length(self):
        values = self.all("content-length")
        if len(set(values)) != 1 or not values[0].isdigit():
            return None
        return int(values[0])

    def __repr__(self):
        return "<%s>" % self.start_line


def check_request(msg, own_uris=(), stream=False):
    """What RFC 3261 (8.1.1, 12, 20) and RFC 3428 forbid, as a list of words.
    """
    bad = list(msg.problems)

    def need(cond, text):
        if not cond:
            bad.append(text)

    for name in ("from", "to", "call-id", "cseq", "max-forwards"):
        need(len(msg.all(name)) == 1,
             "%d %s headers" % (len(msg.all(name)), name))
    need(msg.list("via"), "no Via")
    for via in msg.list("via"):
        need(via.startswith("SIP/2.0/"), "Via: %s" % via)
        need((header_params(via).get("branch") or "").startswith(BRANCH_MAGIC),
             "Via without an RFC 3261 branch")
    need(header_params(msg.get("from", "")).get("tag"), "From has no tag")
    if msg.method in ("ACK", "BYE"):
        need("tag" in header_params(msg.get("to", "")), "To has no tag")
    elif msg.method != "INVITE":  # which may be a re-INVITE
        need("tag" not in header_params(msg.get("to", "")), "To has a tag")
    number, method = msg.cseq
    need(number.isdigit() and int(number) < 2**31, "CSeq number")
    need(method == msg.method, "CSeq method is %s" % method)
    mf = msg.get("max-forwards", "")
    need(mf.isdigit() and 0 < int(mf) <= 255, "Max-Forwards is %r" % mf)
    length = msg.content_length
    if length is None:
        need(not stream and not msg.all("content-length"),
             "Content-Length: %s" % msg.all("content-length"))
    else:
        need(length == len(msg.body), "Content-Length is %d, the body has %d"
             % (length, len(msg.body)))
    if msg.body:
        need(len(msg.all("content-type")) == 1,
             "%d Content-Type headers" % len(msg.all("content-type")))
    if msg.method == "MESSAGE":
        need(not msg.all("contact"), "MESSAGE with Contact (RFC 3428, 9)")
        need(not msg.all("record-route"), "MESSAGE with Record-Route")
    if msg.method == "INVITE":
        need(len(msg.list("contact")) == 1,
             "%d Contacts in an INVITE" % len(msg.list("contact")))
    for name in ("expires", "content-encoding", "subject", "date"):
        need(len(msg.all(name)) <= 1, "%s is there twice" % name)
    if own_uris:
        need(msg.uri in own_uris, "Request-URI %s is none of %s"
             % (msg.uri, ", ".join(own_uris)))
    return bad


class _Stream:
    """Cuts the bytes of one TCP connection into SIP messages."""

    def __init__(self, sock):
        self.sock = sock
        self.buf = b""

    def feed(self, data):
        self.buf += data
        while True:
            self.buf = self.buf.lstrip(b"\r\n")
            end = self.buf.find(b"\r\n\r\n")
            if end < 0:
                return
            length = None
            for line in self.buf[:end].split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if canonical(name.decode("latin-1")) == "content-length":
                    length = int(value)
            if length is None:
                raise SipError("no Content-Length in a stream")
            if len(self.buf) < end + 4 + length:
                return
            raw, self.buf = (self.buf[:end + 4 + length],
                             self.buf[end + 4 + length:])
            yield raw


class Dialog:
    """One side of an INVITE's dialog (RFC 3261, 12)."""

    def __init__(self, ua, invite, response, own):
        """own: whether the INVITE was ours."""
        self.ua, self.invite, self.response = ua, invite, response
        self.call_id = invite.call_id
        here, there = ("from", "to") if own else ("to", "from")
        self.local, self.remote = response.get(here), response.get(there)
        self.target = uri_of((response if own else invite).get("contact", ""))
        self.routes = (response if own else invite).list("record-route")
        if own:
            self.routes.reverse()
        self.cseq = int(invite.cseq[0]) if own else 0
        self.acked = self.ended = False   # ended: by a BYE of the other side
        self.problems = []
        if not self.target:
            self.problems.append("no Contact in %s" % (
                "the answer to INVITE" if own else "INVITE"))

    def build(self, method, headers=(), body=b"", cseq=None):
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        pairs = [("From", self.local), ("To", self.remote)]
        pairs += [("Route", r) for r in self.routes]
        return self.ua.build(method, self.target, pairs + list(headers), body,
                             call_id=self.call_id, cseq=cseq)

    def request(self, method, headers=(), body=b"", timeout=10.0):
        return self.ua.transact(self.build(method, headers, body), timeout)

    def bye(self, timeout=10.0):
        return self.request("BYE", timeout=timeout)

    def wait_ack(self, timeout=10.0):
        """Until the ACK of our 200 came; over UDP the 200 is repeated."""
        deadline = time.monotonic() + timeout
        interval = T1
        while True:
            step = min(interval, max(deadline - time.monotonic(), 0))
            try:
                self.ua.wait(lambda: self.acked or self.ended, step, "ACK")
                return
            except SipError:
                if time.monotonic() >= deadline:
                    raise
            if self.ua.transport == "udp":
                self.ua.reply_again(self.invite)
            interval = min(2 * interval, T2)


class UA:
    """One user agent with one address. A thread of its own receives."""

    def __init__(self, user, domain="example.org", proxy=("127.0.0.1", 5060),
                 transport="udp", host="127.0.0.1", port=0, contact=None,
                 via=None, answer=200, strict=True, reuse=True):
        """contact: the URI to register, if not the real one.
        via: (host, port) to write into Via, if not the real one.
        reuse: over TCP, register the connection to the proxy itself;
        else a listening port, to which the proxy must connect."""
        self.user, self.domain, self.proxy = user, domain, proxy
        self.transport, self.strict = transport, strict
        self.answer, self.answers = answer, []
        self.handlers = {}          # method: function of the request
        self.dialogs = {}           # (call id, own tag): Dialog
        self.messages = []          # requests, without retransmissions
        self.strays = []            # what could not be parsed
        self._cond = threading.Condition()
        self._responses = collections.defaultdict(list)
        self._acks = {}             # branch of an INVITE: its ACK
        self._requests = {}
        self._streams = {}
        self._closed = False
        self._sel = selectors.DefaultSelector()
        self._wake_r, self._wake_w = os.pipe()
        self._sel.register(self._wake_r, selectors.EVENT_READ, "wake")
        self._conn = self._listen = self._sock = None
        if transport == "udp":
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
            self._sock.bind((host, port))
            self.host, self.port = self._sock.getsockname()
            self._sel.register(self._sock, selectors.EVENT_READ, "udp")
        elif transport == "tcp":
            self._conn = socket.create_connection(
                proxy, timeout=5, source_address=(host, port if reuse else 0))
            self._add_stream(self._conn)
            if reuse:
                self.host, self.port = self._conn.getsockname()
            else:
                self._listen = socket.socket()
                self._listen.setsockopt(
                    socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listen.bind((host, port))
                self._listen.listen()
                self.host, self.port = self._listen.getsockname()
                self._sel.register(
                    self._listen, selectors.EVENT_READ, "accept")
        else:
            raise ValueError("transport is udp or tcp")
        self.via = via or (self.host, self.port)
        suffix = "" if transport == "udp" else ";transport=tcp"
        self.contact = contact or "sip:%s@%s:%d%s" % (
            user, self.host, self.port, suffix)
        self.aor = "sip:%s@%s" % (user, domain)
        self._register_call_id = self.new_id()
        self._register_cseq = 0
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ life

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_w, b"x")
        self._thread.join(5)
        for key in list(self._sel.get_map().values()):
            if key.fileobj != self._wake_r:
                key.fileobj.close()
        self._sel.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    # --------------------------------------------------------- sending

    @staticmethod
    def new_id():
        return secrets.token_hex(12)

    @staticmethod
    def new_branch():
        return BRANCH_MAGIC + secrets.token_hex(10)

    def build(self, method, uri, headers=(), body=b"", *, to=None, from_=None,
              call_id=None, cseq=1, branch=None, from_tag=None,
              content_length=None):
        """A request as bytes. headers: (name, value) pairs, as they are.
        A pair named Via, Max-Forwards, From, To, Call-ID or CSeq replaces
        the one made here; value None leaves it out."""
        own = [
            ("Via", "SIP/2.0/%s %s:%d;rport;branch=%s" % (
                self.transport.upper(), self.via[0], self.via[1],
                branch or self.new_branch())),
            ("Max-Forwards", "70"),
            ("From", "%s;tag=%s" % (from_ or "<%s>" % self.aor,
                                    from_tag or secrets.token_hex(4))),
            ("To", to or "<%s>" % uri),
            ("Call-ID", call_id or self.new_id()),
            ("CSeq", "%d %s" % (cseq, method)),
        ]
        given = {n.lower() for n, _ in headers}
        pairs = [(n, v) for n, v in own if n.lower() not in given]
        pairs += [(n, v) for n, v in headers if v is not None]
        if "content-length" not in given:
            pairs.append(("Content-Length", str(
                len(body) if content_length is None else content_length)))
        lines = ["%s %s SIP/2.0" % (method, uri)]
        lines += ["%s: %s" % pair for pair in pairs]
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8", "surrogateescape") + body

    def send_raw(self, raw, dest=None):
        if self.transport == "udp":
            if len(raw) > UDP_MAX:
                raise SipError("%d bytes do not fit in a datagram; use TCP"
                               % len(raw))
            self._sock.sendto(raw, dest or self.proxy)
        else:
            self._conn.sendall(raw)

    def transact(self, raw, timeout=10.0, retransmit=True):
        """Sends a request and returns the final response, with .elapsed.
        Only a response that comes after the sending counts."""
        branch = Message(raw).branch
        with self._cond:
            seen = len(self._responses[branch])
        start = time.monotonic()
        deadline = start + timeout
        self.send_raw(raw)
        interval = T1
        again = start + interval
        udp = self.transport == "udp" and retransmit
        while True:
            with self._cond:
                for response in self._responses[branch][seen:]:
                    if response.code < 200:
                        # RFC 3261, 17.1.1.2: an INVITE that is being seen to
                        udp = udp and response.cseq[1] != "INVITE"
                    else:
                        response.elapsed = response.at - start
                        return response
                now = time.monotonic()
                if now >= deadline:
                    raise SipError(
                        "no answer to %s within %g s"
                        % (raw.split(b"\r\n")[0].decode("latin-1"), timeout))
                self._cond.wait(
                    min(deadline, again if udp else deadline) - now)
            if udp and time.monotonic() >= again:
                self.send_raw(raw)
                interval = min(2 * interval, T2)
                again = time.monotonic() + interval

    def request(self, method, uri, headers=(), body=b"", *, timeout=10.0,
                retransmit=True, **kw):
        return self.transact(self.build(method, uri, headers, body, **kw),
                             timeout, retransmit)

    def register(self, expires=600, *, contact=None, contacts=None,
                 params="", headers=(), timeout=10.0, ok=True):
        """Registers this UA's Contact; expires=0 removes it."""
        self._register_cseq += 1
        values = contacts or ["<%s>%s" % (contact or self.contact, params)]
        pairs = [("Contact", ", ".join(values)), ("Expires", str(expires)),
                 ("Supported", "path")] + list(headers)
        response = self.request(
            "REGISTER", "sip:" + self.domain, pairs, to="<%s>" % self.aor,
            call_id=self._register_call_id, cseq=self._register_cseq,
            timeout=timeout)
        if ok and response.code != 200:
            raise SipError("REGISTER: %s" % response.start_line)
        return response

    def message(self, uri, body, content_type="text/plain", headers=(), **kw):
        """Sends a MESSAGE to a URI and returns the final response."""
        pairs = list(headers)
        if content_type is not None:
            pairs.append(("Content-Type", content_type))
        return self.request("MESSAGE", uri, pairs, body, **kw)

    # -------------------------------------------------------- sessions

    def invite(self, uri, body=b"", content_type="application/sdp",
               headers=(), *, timeout=10.0, **kw):
        """Sends an INVITE and the ACK of its answer: (response, Dialog or
        None)."""
        pairs = [("Contact", "<%s>" % self.contact)] + list(headers)
        if body:
            pairs.append(("Content-Type", content_type))
        raw = self.build("INVITE", uri, pairs, body, **kw)
        invite = Message(raw)
        response = self.transact(raw, timeout)
        if response.code >= 300:
            # RFC 3261, 17.1.1.3: the same branch, hop by hop
            ack = self.build("ACK", uri, [
                ("Via", invite.get("via")), ("From", invite.get("from")),
                ("To", response.get("to")),
                ("CSeq", "%s ACK" % invite.cseq[0]),
                ("Call-ID", invite.call_id)]
                + [("Route", r) for r in invite.all("route")])
            dialog = None
        else:
            dialog = Dialog(self, invite, response, True)
            ack = dialog.build("ACK", cseq=int(invite.cseq[0]))
            tag = header_params(invite.get("from")).get("tag")
            self.dialogs[invite.call_id, tag] = dialog
        with self._cond:
            self._acks[invite.branch] = ack
        self.send_raw(ack)
        return response, dialog

    def accept(self, msg, body=b"", content_type="application/sdp",
               headers=(), code=200):
        """Answers an INVITE with 200 and makes the Dialog."""
        tag = secrets.token_hex(4)
        pairs = [("Record-Route", r) for r in msg.all("record-route")]
        pairs += [("Contact", "<%s>" % self.contact)] + list(headers)
        if body:
            pairs.append(("Content-Type", content_type))
        raw = self._answer_bytes(msg, code, None, pairs, body, tag)
        dialog = Dialog(self, msg, Message(raw), False)
        self.dialogs[msg.call_id, tag] = dialog
        self._answer(msg, code, raw)
        return dialog

    def _in_dialog(self, msg):
        """ACK and BYE: to the Dialog they belong to, if it is known."""
        tag = header_params(msg.get("to", "")).get("tag")
        dialog = self.dialogs.get((msg.call_id, tag))
        if dialog is not None:
            dialog.problems += msg.problems
            if msg.method == "ACK":
                dialog.acked = True
            else:
                dialog.ended = True
        return dialog

    # ------------------------------------------------------- receiving

    def wait(self, condition, timeout, what="it"):
        """Until condition() is true, looked at whenever something came."""
        deadline = time.monotonic() + timeout
        with self._cond:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SipError("%s: %s did not happen within %g s"
                                   % (self.aor, what, timeout))
                self._cond.wait(left)

    def wait_messages(self, count, timeout=10.0):
        """The messages, as soon as there are count of them."""
        self.wait(lambda: len(self.messages) >= count, timeout,
                  "message %d (%d came)" % (count, len(self.messages)))
        return list(self.messages)

    @property
    def bodies(self):
        return [m.body for m in self.messages]

    def reply(self, msg, code, reason=None, headers=(), body=b""):
        """Answers a request; once more with the same answer is fine."""
        self._answer(msg, code,
                     self._answer_bytes(msg, code, reason, headers, body))

    @staticmethod
    def _answer_bytes(msg, code, reason, headers, body, tag=None):
        lines = ["SIP/2.0 %d %s" % (
            code, reason or REASONS.get(code, "Whatever"))]
        lines += ["Via: %s" % v for v in msg.all("via")]
        to = msg.get("to", "")
        if "tag" not in header_params(to) and code > 100:
            to += ";tag=" + (tag or secrets.token_hex(4))
        lines += ["From: %s" % msg.get("from"), "To: %s" % to,
                  "Call-ID: %s" % msg.call_id, "CSeq: %s" % msg.get("cseq")]
        lines += ["%s: %s" % pair for pair in headers]
        lines += ["Content-Length: %d" % len(body), "", ""]
        head = "\r\n".join(lines)
        return head.encode("utf-8", "surrogateescape") + body

    def _answer(self, msg, code, raw):
        msg._answer_raw = raw
        msg.answered = code
        self._send_answer(msg)

    def reply_again(self, msg):
        self._send_answer(msg)

    def _send_answer(self, msg):
        stream = msg._reply_to
        if stream is not None:
            stream.sock.sendall(msg._answer_raw)
        else:
            self._sock.sendto(msg._answer_raw, msg.source)

    def _add_stream(self, sock):
        stream = _Stream(sock)
        self._streams[sock] = stream
        self._sel.register(sock, selectors.EVENT_READ, "tcp")

    def _loop(self):
        while not self._closed:
            for key, _ in self._sel.select():
                if key.data == "udp":
                    data, source = self._sock.recvfrom(65536)
                    if data.strip(b"\r\n\0"):
                        self._arrived(data, source, None)
                elif key.data == "accept":
                    self._add_stream(self._listen.accept()[0])
                elif key.data == "tcp":
                    self._read_stream(key.fileobj)

    def _read_stream(self, sock):
        stream = self._streams[sock]
        try:
            data = sock.recv(65536)
            source = sock.getpeername() if data else None
            for raw in stream.feed(data):
                self._arrived(raw, source, stream)
        except (OSError, ValueError, SipError) as e:
            self._stray(str(e).encode())
            data = b""
        if not data:
            self._sel.unregister(sock)
            sock.close()
            del self._streams[sock]

    def _stray(self, raw):
        with self._cond:
            self.strays.append(raw)
            self._cond.notify_all()

    def _arrived(self, raw, source, stream):
        try:
            msg = Message(raw)
        except SipError:
            self._stray(raw)
            return
        msg.source, msg._reply_to = source, stream
        if not msg.is_request:
            with self._cond:
                self._responses[msg.branch].append(msg)
                ack = self._acks.get(msg.branch)
                self._cond.notify_all()
            if ack is not None and msg.code >= 200:
                self.send_raw(ack)  # it was lost, or is still under way
            return
        key = (msg.branch, msg.cseq, msg.call_id)
        with self._cond:
            known = self._requests.get(key)
            if known is not None:
                known.repeats += 1
                if known._answer_raw is not None:
                    self._send_answer(known)
                self._cond.notify_all()
                return
            self._requests[key] = msg
            own = (self.contact,) if self.strict else ()
            msg.problems = check_request(msg, own, stream is not None)
        if self._dispatch(msg):
            with self._cond:
                self._cond.notify_all()
            return
        with self._cond:
            answer = self.answers.pop(0) if self.answers else self.answer
            self.messages.append(msg)
        if callable(answer):
            answer = answer(msg)
        if answer is not None:
            self.reply(msg, answer)
        with self._cond:
            self._cond.notify_all()

    def _dispatch(self, msg):
        """True: it was no message, but something of a session."""
        dialog = None
        if msg.method in ("ACK", "BYE"):
            dialog = self._in_dialog(msg)
        handler = self.handlers.get(msg.method)
        if handler is not None:
            handler(msg)
        elif msg.method == "BYE":
            self.reply(msg, 200 if dialog else 481)
        elif msg.method != "ACK":
            return False
        return True


# ------------------------------------------------------------- command

def parse_args(argv):
    p = argparse.ArgumentParser(
        prog="sipua.py", description="a small SIP user agent for MESSAGE")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--proxy", default="127.0.0.1:5060",
                        metavar="HOST:PORT")
    common.add_argument("--tcp", action="store_true", help="instead of UDP")
    common.add_argument("--domain", default="example.org")
    common.add_argument("--timeout", type=float, default=10.0, metavar="S")
    sub = p.add_subparsers(dest="command", required=True)
    send = sub.add_parser("send", parents=[common], help="send one message")
    send.add_argument("sender", metavar="FROM", help="user name")
    send.add_argument("recipient", metavar="TO", help="user name or URI")
    what = send.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="the body")
    what.add_argument("--file", help="a file with the body")
    send.add_argument("--type", default="text/plain;charset=UTF-8",
                      help="Content-Type")
    send.add_argument("--header", action="append", default=[],
                      metavar="NAME: VALUE")
    recv = sub.add_parser("receive", parents=[common],
                          help="register and take messages")
    recv.add_argument("user")
    recv.add_argument("--count", type=int, default=1,
                      help="stop after so many (0: at the time limit)")
    recv.add_argument("--answer", type=int, default=200, metavar="CODE")
    recv.add_argument("--save", metavar="DIR",
                      help="write message N to N.sip (all) and N.body")
    return p.parse_args(argv)


def printable(body):
    return "".join(c if c.isprintable() or c == "\n" else "."
                   for c in body.decode("utf-8", "replace")
                   .replace("\r\n", "\n"))


def command_send(args, proxy):
    if args.file:
        with open(args.file, "rb") as f:
            body = f.read()
    else:
        body = args.text.encode("utf-8", "surrogateescape")
    headers = []
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon:
            raise SipError("--header wants NAME: VALUE, not %r" % line)
        headers.append((name.strip(), value.strip()))
    to = args.recipient
    if ":" not in to:
        to = "sip:%s@%s" % (to, args.domain)
    with UA(args.sender, args.domain, proxy,
            "tcp" if args.tcp else "udp") as ua:
        response = ua.message(to, body, args.type, headers,
                              timeout=args.timeout)
    print("%d %s" % (response.code, response.reason))
    for name in ("retry-after", "warning", "accept"):
        if response.get(name):
            print("%s: %s" % (name.title(), response.get(name)))
    return 0 if 200 <= response.code < 300 else 1


def command_receive(args, proxy):
    with UA(args.user, args.domain, proxy, "tcp" if args.tcp else "udp",
            answer=args.answer) as ua:
        ua.register(timeout=args.timeout)
        print("registered <%s>" % ua.contact, flush=True)
        deadline = time.monotonic() + args.timeout
        shown, bad = 0, False
        while not args.count or shown < args.count:
            try:
                msgs = ua.wait_messages(shown + 1,
                                        deadline - time.monotonic())
            except SipError:
                break
            for msg in msgs[shown:]:
                shown += 1
                print("message %d from %s, %s, %d bytes" % (
                    shown, uri_of(msg.get("from")),
                    msg.get("content-type", "no type"), len(msg.body)))
                for problem in msg.problems:
                    print("  not right: %s" % problem)
                    bad = True
                if args.save:
                    base = os.path.join(args.save, str(shown))
                    with open(base + ".sip", "wb") as f:
                        f.write(msg.raw)
                    with open(base + ".body", "wb") as f:
                        f.write(msg.body)
                else:
                    print(printable(msg.body), flush=True)
        ua.register(expires=0, timeout=args.timeout)
    if shown < args.count:
        raise SipError("%d of %d messages came within %g s"
                       % (shown, args.count, args.timeout))
    return 1 if bad else 0


def main(argv):
    args = parse_args(argv)
    host, _, port = args.proxy.rpartition(":")
    try:
        if not host or not port.isdigit():
            raise SipError("--proxy wants HOST:PORT, not %r" % args.proxy)
        command = command_send if args.command == "send" else command_receive
        return command(args, (host, int(port)))
    except (SipError, OSError) as e:
        print("sipua: %s" % e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
