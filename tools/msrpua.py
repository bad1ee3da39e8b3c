#!/usr/bin/env python3
# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small and strict MSRP user agent, and a CPM client made of it.

It listens or connects, over TCP and TLS, sends messages whole, in chunks and
interrupted, receives them, keeps what arrived, and says what is wrong with
the peer's bytes by RFC 4975. It needs nothing but Python; for TLS also the
command openssl. As a library:

    with Endpoint() as bob, Endpoint() as alice:
        bob.listen()
        alice.connect(bob.path)
        sent = alice.send(b"hello", "text/plain")
        msg = bob.wait_messages(1)[0]
        assert msg.body == b"hello" and sent.codes == [200]
        assert bob.violations == [] and alice.violations == []

What an Endpoint does that a good one would not is told by a Script. What it
finds wrong is in `violations`, in the order it was found.

CpmClient is a sipua.UA that takes queue sessions: it answers an INVITE, opens
or takes the MSRP connection, receives, and hears BYE; pull() asks for a
session itself.

Inside there is asyncio in a thread of its own; what a user calls waits, and
has a deadline.

BUGS: a passive endpoint does not see the certificate of who connects (Python
asks for none that it could not verify); one connection per endpoint; a relay
is asked without a password (AUTH of RFC 4976, but no digest).
"""

import argparse
import asyncio
import dataclasses
import hashlib
import os
import re
import secrets
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import sipua  # noqa: E402

CHUNK = 2048            # RFC 4975, 7.1.1: a larger one must be interruptible
HEAD_MAX = 16384        # bytes of a request without its body
BODY_MAX = 1 << 30

IDENT = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.\-+%=]{3,31}\Z")
HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9!#$%&'*+\-.^_`|~]*): ([^\r\n]*)\Z")
URI = re.compile(
    r"(?i:(msrps?))://(?:([^@/;\s]*)@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-]+)"
    r"(?::([0-9]{1,5}))?(?:/([A-Za-z0-9\-._~+=/]+))?;([A-Za-z0-9]+)"
    r"((?:;[A-Za-z0-9!#$%&'*+\-.^_`|~]+(?:=[^;\s]*)?)*)\Z")
RANGE = re.compile(r"([1-9][0-9]*)-([0-9]+|\*)/([0-9]+|\*)\Z")
STATUS = re.compile(r"000 ([0-9]{3})(?: (.*))?\Z")
TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+(\s*;.*)?\Z")


class MsrpError(Exception):
    """Something was not as RFC 4975 has it, or did not come in time."""


# -------------------------------------------------------------- frames

class Uri:
    """An MSRP URI, RFC 4975, 6."""

    def __init__(self, text):
        found = URI.match(text)
        if not found:
            raise MsrpError("no MSRP URI: %r" % text)
        self.text = text
        self.scheme = found[1].lower()
        self.host = found[3].strip("[]").lower()
        self.port = int(found[4]) if found[4] else 2855
        self.session = found[5]
        self.transport = found[6].lower()
        if self.port > 65535:
            raise MsrpError("port of %r" % text)

    def same(self, other):
        """RFC 4975, 6.1."""
        return (self.scheme, self.host, self.port, self.session,
                self.transport) == (
                    other.scheme, other.host, other.port, other.session,
                    other.transport)

    def __str__(self):
        return self.text


def path_of(value):
    """A path as a list of Uri: from text, or from such a list."""
    if isinstance(value, str):
        if value != " ".join(value.split()):
            raise MsrpError("spaces in the path %r" % value)
        return [Uri(u) for u in value.split(" ")]
    return [u if isinstance(u, Uri) else Uri(u) for u in value]


def same_path(a, b):
    return len(a) == len(b) and all(x.same(y) for x, y in zip(a, b))


class Frame:
    """One request or response as it came."""

    def __init__(self, tid):
        self.tid = tid
        self.method = self.code = self.comment = None
        self.headers = []       # (name, value)
        self.body = None        # None: no body at all
        self.flag = None        # "$" complete, "+" goes on, "#" given up
        self.problems = []
        self.at = time.monotonic()

    def get(self, name):
        for n, v in self.headers:
            if n.lower() == name.lower():
                return v
        return None

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def path(self, name):
        try:
            return path_of(self.get(name) or "")
        except MsrpError as e:
            self.problems.append("%s: %s" % (name, e))
            return []

    def __repr__(self):
        return "<MSRP %s %s>" % (self.tid, self.method or self.code)


def build(tid, start, headers, body=None, flag="$"):
    """A frame as bytes. start: "SEND", "200 OK"... body None: none."""
    lines = ["MSRP %s %s" % (tid, start)]
    lines += ["%s: %s" % pair for pair in headers]
    head = "\r\n".join(lines).encode() + b"\r\n"
    if body is not None:
        head += b"\r\n" + body + b"\r\n"
    return head + ("-------%s%s\r\n" % (tid, flag)).encode()


def new_tid(body=b""):
    """A transaction id that is nowhere in the body."""
    while True:
        tid = secrets.token_hex(8)
        if tid.encode() not in body:
            return tid


class Reader:
    """Cuts a byte stream into frames. feed() gives ("head", frame) as soon as
    all headers of a request are there, and ("frame", frame) at its end."""

    def __init__(self):
        self.buf = bytearray()
        self._frame = None      # the one whose body is being read
        self._start = self._seen = 0

    @property
    def inside(self):
        """Whether a frame has begun and not ended."""
        return bool(self.buf)

    def feed(self, data):
        self.buf += data
        while True:
            if self._frame is None:
                if not self._head():
                    return
                yield "head", self._frame
            frame = self._body()
            if frame is None:
                return
            yield "frame", frame

    def _head(self):
        """Reads start line and headers: False when more is to come."""
        end = self.buf.find(b"\r\n\r\n")
        first = self.buf.find(b"\r\n")
        if first < 0:
            if len(self.buf) > HEAD_MAX:
                raise MsrpError("no line in %d bytes" % len(self.buf))
            if self.buf and not b"MSRP ".startswith(self.buf[:5]):
                raise MsrpError("not MSRP: %r" % bytes(self.buf[:40]))
            return False
        words = bytes(self.buf[:first]).split(b" ", 3)
        if words[0] != b"MSRP":
            raise MsrpError("not MSRP: %r" % bytes(self.buf[:first]))
        if len(words) < 3:
            raise MsrpError("start line: %r" % bytes(self.buf[:first]))
        tid = words[1]
        close = self.buf.find(b"\r\n-------" + tid, first)
        if close >= 0 and (end < 0 or close < end):
            end = close         # no body
        elif end < 0:
            if len(self.buf) > HEAD_MAX:
                raise MsrpError("headers without an end")
            return False
        frame = Frame(tid.decode("latin-1"))
        if not IDENT.match(tid):
            frame.problems.append("transaction id %r" % frame.tid)
        self._start_line(frame, words)
        for line in bytes(self.buf[first + 2:end]).split(b"\r\n"):
            self._header(frame, line)
        self._frame = frame
        self._start = self._seen = end
        return True

    @staticmethod
    def _start_line(frame, words):
        what = words[2].decode("latin-1")
        if re.match(r"[0-9]{3}\Z", what):
            frame.code = int(what)
            frame.comment = words[3].decode("utf-8", "replace") \
                if len(words) > 3 else None
        elif re.match(r"[A-Z]+\Z", what) and len(words) == 3:
            frame.method = what
        else:
            raise MsrpError("start line: %r" % b" ".join(words))

    @staticmethod
    def _header(frame, line):
        found = HEADER.match(line)
        if not found:
            frame.problems.append("header line %r" % line[:80])
            return
        frame.headers.append((found[1].decode(),
                              found[2].decode("utf-8", "replace")))

    def _body(self):
        """The frame, when its end-line is there."""
        frame, buf = self._frame, self.buf
        mark = b"\r\n-------" + frame.tid.encode("latin-1")
        while True:
            at = buf.find(mark, self._seen)
            if at < 0:
                self._seen = max(self._start, len(buf) - len(mark) + 1)
                if len(buf) - self._start > BODY_MAX:
                    raise MsrpError("a body without an end")
                return None
            self._seen, end = at, at + len(mark)
            if len(buf) < end + 3:
                return None
            flag = chr(buf[end])
            if flag not in "$+#":
                self._seen = end    # check_frame will find it in the body
            elif buf[end + 1:end + 3] == b"\r\n":
                break
            else:
                raise MsrpError("the end-line %r" % bytes(buf[at + 2:end + 3]))
        if self._start < at < self._start + 4:
            frame.problems.append("an empty line, and no body")
        elif at > self._start:
            frame.body = bytes(buf[self._start + 4:at])
        frame.flag = flag
        del buf[:end + 3]
        self._frame = None
        self._start = self._seen = 0
        return frame


# What a frame may have, and must have.
ONCE = ("To-Path", "From-Path", "Message-ID", "Byte-Range", "Status",
        "Success-Report", "Failure-Report", "Content-Type")


def parse_range(value):
    """(start, end or None, total or None) or None."""
    found = RANGE.match(value or "")
    if not found:
        return None
    end, total = (None if v == "*" else int(v) for v in found.groups()[1:])
    return int(found[1]), end, total


def check_frame(f):
    """What RFC 4975, 9 forbids in a frame by itself, as a list of words."""
    bad = list(f.problems)

    def need(cond, text):
        if not cond:
            bad.append(text)

    names = [n.lower() for n, _ in f.headers]
    need(names[:2] == ["to-path", "from-path"],
         "To-Path and From-Path are not the first headers")
    for name in ONCE:
        need(len(f.all(name)) <= 1, "%s is there twice" % name)
    for name in ("To-Path", "From-Path"):
        if f.get(name) is not None:
            try:
                path_of(f.get(name))
            except MsrpError as e:
                need(False, "%s: %s" % (name, e))
    if f.method is None:
        need(f.body is None, "a response with a body")
        need(f.flag == "$", "a response that ends in %s" % f.flag)
        return bad
    message_id = f.get("Message-ID")
    need(message_id is not None, "no Message-ID")
    if message_id is not None:
        need(IDENT.match(message_id.encode()), "Message-ID %r" % message_id)
    for name, values in (("Success-Report", ("yes", "no")),
                         ("Failure-Report", ("yes", "no", "partial"))):
        value = f.get(name)
        need(value is None or value in values, "%s: %s" % (name, value))
    if f.method == "SEND":
        _check_send(f, need, names)
    elif f.method == "REPORT":
        need(f.body is None, "a REPORT with a body")
        need(STATUS.match(f.get("Status") or ""),
             "Status: %s" % f.get("Status"))
        need(parse_range(f.get("Byte-Range")),
             "Byte-Range of a REPORT: %s" % f.get("Byte-Range"))
    return bad


def _check_send(f, need, names):
    value = f.get("Byte-Range")
    given = parse_range(value)
    need(f.get("Status") is None, "Status in a SEND")
    if f.body is None:
        need(f.get("Content-Type") is None, "Content-Type without a body")
        need(given is None or (given[0] == 1 and given[1] in (0, None)),
             "Byte-Range of an empty SEND: %s" % value)
        return
    need(names[-1] == "content-type", "Content-Type is not the last header")
    need(TYPE.match(f.get("Content-Type") or ""),
         "Content-Type: %s" % f.get("Content-Type"))
    need(b"-------" + f.tid.encode("latin-1") not in f.body,
         "the end-line is part of the body")
    need(given, "Byte-Range: %s" % value)
    if not given:
        return
    start, end, total = given
    got = len(f.body)
    need(total is None or end is None or end <= total, "Byte-Range: %s" % value)
    if end is not None:
        need(end - start + 1 == got if f.flag == "$"
             else end - start + 1 >= got,
             "Byte-Range %s, and %d octets" % (value, got))
        need(got <= CHUNK, "a chunk of %d octets that cannot be interrupted"
             % got)
    if total is not None:
        need(start + got - 1 <= total,
             "octet %d of %d" % (start + got - 1, total))
        need(f.flag != "$" or start + got - 1 == total,
             "the message is said to end at octet %d of %d"
             % (start + got - 1, total))


# ---------------------------------------------------------- messages

class Received:
    """A message that arrives, or has arrived."""

    def __init__(self, message_id):
        self.message_id = message_id
        self.content_type = None
        self.headers = []           # of the first chunk
        self.chunks = []            # (start, octets, flag), as they came
        self.total = None
        self.complete = self.aborted = False
        self.refused = None         # code
        self.at = time.monotonic()
        self._data = bytearray()
        self._have = bytearray()    # 1 for each octet that came

    @property
    def body(self):
        return bytes(self._data)

    def get(self, name):
        for n, v in self.headers:
            if n.lower() == name.lower():
                return v
        return None

    def take(self, frame):
        """One chunk. What is wrong with it, as a list of words."""
        bad = []
        start, _, total = parse_range(frame.get("Byte-Range")) or (
            len(self._data) + 1, None, None)
        if not self.chunks:
            self.headers = list(frame.headers)
            self.content_type = frame.get("Content-Type")
        elif frame.get("Content-Type") != self.content_type:
            bad.append("Content-Type changes to %s"
                       % frame.get("Content-Type"))
        if self.complete or self.aborted:
            bad.append("a chunk after the end of message %s"
                       % self.message_id)
        if None not in (total, self.total) and total != self.total:
            bad.append("the total changes from %d to %d"
                       % (self.total, total))
        self.total = total if self.total is None else self.total
        self.chunks.append((start, len(frame.body), frame.flag))
        bad += self._store(start, frame.body)
        if frame.flag == "#":
            self.aborted = True
        elif frame.flag == "$":
            self.total = self.total or start - 1 + len(frame.body)
        # chunks may come in any order (RFC 4975, 7.3.1)
        if self.total is not None and any(c[2] == "$" for c in self.chunks):
            if len(self._data) == self.total and 0 not in self._have:
                self.complete = True
        return bad

    def _store(self, start, data):
        first, last = start - 1, start - 1 + len(data)
        if last > BODY_MAX or first > len(self._data) + BODY_MAX:
            raise MsrpError("octet %d" % last)
        if last > len(self._data):
            more = last - len(self._data)
            self._data += bytes(more)
            self._have += bytes(more)
        old = [i for i in range(first, last) if self._have[i]] \
            if 1 in self._have[first:last] else []
        bad = []
        if any(self._data[i] != data[i - first] for i in old):
            bad.append("octets %d-%d come again, and are others"
                       % (old[0] + 1, old[-1] + 1))
        self._data[first:last] = data
        self._have[first:last] = b"\1" * len(data)
        return bad

    def missing(self):
        """Octets that have not come, of those that are known of."""
        total = self.total if self.total is not None else len(self._data)
        return total - self._have.count(1)

    def __repr__(self):
        return "<message %s, %d octets%s>" % (
            self.message_id, len(self._data),
            "" if self.complete else ", incomplete")


class Sent:
    """A message of ours, and what became of it."""

    def __init__(self, message_id, size):
        self.message_id = message_id
        self.size = size
        self.success = False    # whether a success report was asked for
        self.answer = None      # the last one, a Frame
        self.waiting = {}       # transaction id: None, or the code
        self.reports = []       # (code, start, end or None)

    @property
    def codes(self):
        """One answer for each chunk; None: none yet."""
        return list(self.waiting.values())

    @property
    def answered(self):
        return None not in self.waiting.values()

    @property
    def reported(self):
        """Whether 200 REPORTs cover it all."""
        have = bytearray(self.size)
        for code, start, end in self.reports:
            if code == 200:
                end = self.size if end is None else min(end, self.size)
                have[start - 1:end] = b"\1" * max(end - start + 1, 0)
        return bool(self.reports) and 0 not in have


@dataclasses.dataclass
class Script:
    """What an endpoint does that the best of peers would not do. Messages are
    counted from 1; an empty SEND is none."""
    refuse_from: int = 0        # this message and all later ones...
    refuse_code: int = 500      # ...get this code
    cut_bytes: int = 0          # connection cut after so many bytes came
    cut_message: int = 0        # cut when this message has begun, ...
    cut_when: str = "begun"     # ..."begun", "unanswered" or "answered"
    delay_ms: int = 0           # each answer that much later
    silent: bool = False        # never answers
    silent_from: int = 0        # answers nothing from this message on
    hold: int = 0               # no answer before so many messages came
    report: bool = True         # REPORT where Success-Report: yes asks for it
    report_each: bool = False   # ... for each chunk, not for the message
    report_code: int = 200
    trickle: bool = False       # what is sent is sent byte by byte
    no_comment: bool = False    # "200" without "OK"
    bind: bool = True           # the connecting side sends an empty SEND
    wrong_tid: bool = False     # answers a transaction that nobody began

    @classmethod
    def parse(cls, words):
        """From NAME or NAME=VALUE each."""
        script = cls()
        fields = {f.name: f.type for f in dataclasses.fields(cls)}
        for word in words:
            name, eq, value = word.partition("=")
            name = name.replace("-", "_")
            if name not in fields:
                raise MsrpError("no such behaviour: %s (there are: %s)"
                                % (word, ", ".join(fields)))
            kind = type(getattr(script, name))
            if kind is bool:
                value = value not in ("0", "no", "false")
            elif kind is int:
                if not value.isdigit():
                    raise MsrpError("%s wants a number" % name)
                value = int(value)
            setattr(script, name, value)
        return script


# --------------------------------------------------------------- TLS

class Certificate:
    """A self-signed certificate of the day, made by the command openssl."""

    _one = None
    _lock = threading.Lock()

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="msrpua-")
        self.cert = os.path.join(self._directory.name, "cert.pem")
        self.key = os.path.join(self._directory.name, "key.pem")
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=msrpua", "-keyout", self.key, "-out", self.cert],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode:
            raise MsrpError("openssl: %s" % done.stderr.decode()[-300:])
        with open(self.cert) as f:
            self.fingerprint = fingerprint(ssl.PEM_cert_to_DER_cert(f.read()))

    @classmethod
    def one(cls):
        """The one of this process, made when first asked for."""
        with cls._lock:
            if cls._one is None:
                cls._one = cls()
            return cls._one


def fingerprint(der, hash_name="sha-256"):
    """As a=fingerprint has it, RFC 8122, 5."""
    digest = hashlib.new(hash_name.replace("-", ""), der).hexdigest().upper()
    return "%s %s" % (hash_name, ":".join(re.findall("..", digest)))


def context(certificate, server):
    ctx = ssl.SSLContext(
        ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False      # the fingerprint says who it is
    ctx.verify_mode = ssl.CERT_NONE
    ctx.load_cert_chain(certificate.cert, certificate.key)
    return ctx


# ----------------------------------------------------------- endpoint

class _Loop:
    """The one asyncio loop, in a thread."""

    _lock = threading.Lock()
    _loop = None

    @classmethod
    def get(cls):
        with cls._lock:
            if cls._loop is None:
                cls._loop = asyncio.new_event_loop()
                threading.Thread(target=cls._loop.run_forever,
                                 daemon=True).start()
            return cls._loop


def run(coroutine, timeout):
    future = asyncio.run_coroutine_threadsafe(coroutine, _Loop.get())
    try:
        return future.result(timeout)
    except TimeoutError:
        future.cancel()
        raise MsrpError("not within %g s" % timeout)


class Endpoint:
    """One MSRP session with one connection."""

    def __init__(self, host="127.0.0.1", tls=False, session=None, script=None,
                 sessmatch=False, certificate=None, accept=("*",),
                 name="msrpua"):
        """sessmatch: compare session ids only, not whole URIs.
        accept: content types; another gets 415."""
        self.name, self.host, self.port = name, host, 0
        self.tls, self.sessmatch = tls, sessmatch
        self.session = session or secrets.token_urlsafe(12).replace(
            "_", "-").strip("-") + "=/1"
        self.certificate = certificate or (Certificate.one() if tls else None)
        self.script = script or Script()
        self.accept = accept
        self.path_list = None       # our path, where a relay is in front
        self.peer_path = None       # list of Uri; None: whoever comes
        self.peer_fingerprints = []
        self.messages = []          # complete ones, in order of completion
        self.begun = []             # all, in order of their first chunk
        self.empty_sends = 0
        self.reports = []           # (message id, code, byte range)
        self.violations = []
        self.connected = self.closed = False
        self.bound = False          # a request or response came by our path
        self.bytes_in = 0
        self.on_change = None       # called whenever something came
        self._cond = threading.Condition()
        self._sent = {}             # message id: Sent
        self._transactions = {}     # tid: (Sent or None, failure report)
        self._held = []
        self._late = set()          # tasks with answers under way
        self._server = self._writer = self._reader_task = None
        self._write_lock = None
        self._cut = False

    # ---- life

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def uri(self):
        host = "[%s]" % self.host if ":" in self.host else self.host
        return "%s://%s:%d/%s;tcp" % ("msrps" if self.tls else "msrp", host,
                                      self.port or 9, self.session)

    @property
    def path(self):
        """What stands in a=path."""
        return " ".join(str(u) for u in self.path_list or [self.uri])

    def listen(self, port=0, timeout=10.0):
        async def go():
            ctx = context(self.certificate, True) if self.tls else None
            self._server = await asyncio.start_server(
                self._accepted, self.host, port, ssl=ctx)
            self.port = self._server.sockets[0].getsockname()[1]
        run(go(), timeout)
        return self

    def connect(self, path=None, fingerprints=None, timeout=10.0):
        """Opens the connection to the first URI of the path, and binds it by
        an empty SEND unless the script says no."""
        if path is not None:
            self.peer_path = path_of(path)
        if fingerprints is not None:
            self.peer_fingerprints = list(fingerprints)
        if not self.peer_path:
            raise MsrpError("nobody is known to connect to")
        self._open(self.peer_path[0], timeout)
        if self.script.bind:
            self.bind(timeout)
        return self

    def _open(self, hop, timeout):
        async def go():
            ctx = context(self.certificate, False) if self.tls else None
            reader, writer = await asyncio.open_connection(
                hop.host, hop.port, ssl=ctx)
            self._check_certificate(writer)
            self._begin(reader, writer)
        try:
            run(go(), timeout)
        except OSError as e:
            raise MsrpError("%s: %s" % (hop, e))

    def bind(self, timeout=10.0):
        """Sends an empty SEND: whoever connects says so who it is."""
        self._ask("SEND", self._paths() + [
            ("Message-ID", secrets.token_hex(8)), ("Byte-Range", "1-0/0")],
            timeout)

    def auth(self, relay, timeout=10.0):
        """Connects to a relay (RFC 4976, 5.1), which then is in our path."""
        hop = Uri(relay)
        self._open(hop, timeout)
        sent = self._ask("AUTH", [("To-Path", relay),
                                  ("From-Path", self.uri)], timeout)
        self.wait(lambda: sent.answered or self.closed, timeout,
                  "the answer to AUTH")
        if sent.codes != [200] or not sent.answer.get("Use-Path"):
            raise MsrpError("AUTH: %s, Use-Path: %s" % (
                sent.codes, sent.answer and sent.answer.get("Use-Path")))
        self.path_list = path_of(sent.answer.get("Use-Path"))[::-1] + [
            Uri(self.uri)]
        return self

    def _ask(self, method, headers, timeout):
        tid = new_tid()
        sent = Sent(method, 0)
        sent.waiting[tid] = None
        self._transactions[tid] = (sent, None)
        run(self._write(build(tid, method, headers)), timeout)
        return sent

    def _check_certificate(self, writer):
        if not self.tls or not self.peer_fingerprints:
            return
        der = writer.get_extra_info("ssl_object").getpeercert(True)
        for wanted in self.peer_fingerprints:
            if wanted.lower() == fingerprint(
                    der, wanted.split()[0].lower()).lower():
                return
        writer.transport.abort()
        raise MsrpError("the certificate is none of %s"
                        % ", ".join(self.peer_fingerprints))

    def close(self, timeout=10.0):
        """Ends the connection in good order, late answers included."""
        async def go():
            if self._late:
                await asyncio.wait(self._late)
            if self._server is not None:
                self._server.close()
            if self._writer is not None:
                self._writer.close()
            if self._reader_task is not None:
                self._reader_task.cancel()
        run(go(), timeout)
        self.closed = True
        self._changed()

    # ---- waiting

    def wait(self, condition, timeout=10.0, what="it"):
        """Until condition() is true, looked at whenever something came."""
        deadline = time.monotonic() + timeout
        with self._cond:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise MsrpError(
                        "%s: %s did not happen within %g s; %s" % (
                            self.name, what, timeout, self.violations))
                self._cond.wait(left)

    def wait_messages(self, count, timeout=10.0):
        self.wait(lambda: len(self.messages) >= count, timeout,
                  "message %d (%d came)" % (count, len(self.messages)))
        return list(self.messages)

    def wait_closed(self, timeout=10.0):
        self.wait(lambda: self.closed, timeout, "the end of the connection")

    def wait_connected(self, timeout=10.0):
        self.wait(lambda: self.connected, timeout, "a connection")

    def _changed(self):
        with self._cond:
            self._cond.notify_all()
        if self.on_change is not None:
            self.on_change()

    def blame(self, text):
        self.violations.append(text)
        self._changed()

    # ---- sending

    def send(self, body, content_type="text/plain", *, message_id=None,
             chunk=CHUNK, total=True, success_report=None,
             failure_report=None, headers=(), interrupt_at=None,
             interruption=None, abort_at=None, wait=True, timeout=30.0):
        """Sends a message; with wait, until all its chunks are answered.

        chunk: octets of each; more than 2048 are sent interruptible.
        total: False writes "*" for it.
        interrupt_at: the chunk that has this octet ends behind it; then
        interruption() is called, then the message goes on.
        abort_at: the message ends behind this octet, with "#"."""
        sent = Sent(message_id or secrets.token_hex(8), len(body))
        sent.success = success_report == "yes"
        with self._cond:
            self._sent[sent.message_id] = sent
        pairs = [("Message-ID", sent.message_id)]
        if success_report is not None:
            pairs.append(("Success-Report", success_report))
        if failure_report is not None:
            pairs.append(("Failure-Report", failure_report))
        start = 0
        while True:
            piece = body[start:start + chunk]
            end = "*" if len(piece) > CHUNK else str(start + len(piece))
            for at in (interrupt_at, abort_at):
                if at is not None and start < at < start + len(piece):
                    piece, end = body[start:at], "*"
            stop = start + len(piece)
            flag = "$" if stop == len(body) else "+"
            if abort_at is not None and stop >= abort_at:
                flag = "#"
            self._send_chunk(sent, pairs + [
                ("Byte-Range", "%d-%s/%s" % (
                    start + 1, end, len(body) if total else "*"))]
                + list(headers) + [("Content-Type", content_type)],
                piece, flag, failure_report, timeout)
            start = stop
            if flag != "+":
                break
            if start == interrupt_at and interruption is not None:
                interruption()
        if wait and failure_report in (None, "yes"):
            self.wait(lambda: sent.answered or self.closed, timeout,
                      "the answer to message %s" % sent.message_id)
        return sent

    def _send_chunk(self, sent, headers, piece, flag, failure, timeout):
        tid = new_tid(piece)
        if failure in (None, "yes"):
            with self._cond:
                sent.waiting[tid] = None
        self._transactions[tid] = (sent, failure)
        run(self._write(build(tid, "SEND", self._paths() + headers, piece,
                              flag)), timeout)

    def send_raw(self, data, timeout=10.0):
        """Bytes as they are."""
        run(self._write(data), timeout)

    def frame(self, start="SEND", headers=(), body=None, flag="$", tid=None):
        """A frame with our paths in front, as bytes."""
        return build(tid or new_tid(body or b""), start,
                     self._paths() + list(headers), body, flag)

    def _relays(self):
        """Those on the way out: the nearest is the last of our own path."""
        return (self.path_list or [])[:-1][::-1]

    def _paths(self):
        if not self.peer_path:
            raise MsrpError("nobody is known to send to")
        to = self._relays() + self.peer_path
        return [("To-Path", " ".join(str(u) for u in to)),
                ("From-Path", self.uri)]

    async def _write(self, data):
        writer = self._writer
        if writer is None or writer.is_closing():
            raise MsrpError("%s: no connection" % self.name)
        async with self._write_lock:
            try:
                if not self.script.trickle:
                    writer.write(data)
                    await writer.drain()
                    return
                for i in range(len(data)):
                    writer.write(data[i:i + 1])
                    await writer.drain()
                    await asyncio.sleep(0)
            except OSError as e:
                raise MsrpError("%s: %s" % (self.name, e))

    # ---- receiving

    async def _accepted(self, reader, writer):
        if self._writer is not None:
            self.blame("a second connection")
            writer.transport.abort()
            return
        self._begin(reader, writer)

    def _begin(self, reader, writer):
        self._writer = writer
        self._write_lock = asyncio.Lock()
        self._reader_task = asyncio.ensure_future(self._read(reader))
        self.connected = True
        self._changed()

    async def _read(self, reader):
        parser = Reader()
        try:
            while not self._cut:
                data = await reader.read(65536)
                if not data:
                    if parser.inside:
                        self.blame("the connection ended inside a frame")
                    break
                limit = self.script.cut_bytes
                if limit and self.bytes_in + len(data) >= limit:
                    data = data[:limit - self.bytes_in]
                    self._cut = True
                self.bytes_in += len(data)
                for event, frame in parser.feed(data):
                    await self._event(event, frame)
        except MsrpError as e:
            self.blame(str(e))
            self._cut = True
        except OSError as e:
            self.blame("the connection broke: %s" % e)
        finally:
            if self._cut:
                self._writer.transport.abort()
            else:
                self._writer.close()
            self.closed = True
            self._changed()

    async def _event(self, event, frame):
        if self._cut and not self.script.cut_bytes:
            return
        if event == "head":
            number = self._number(frame)
            script = self.script
            if (script.cut_message and script.cut_when == "begun"
                    and number >= script.cut_message):
                self._cut = True
            return
        for problem in check_frame(frame):
            self.blame("%r: %s" % (frame, problem))
        if frame.code is not None:
            self._response(frame)
        else:
            await self._request(frame)
        self._changed()

    def _number(self, frame):
        """Which message a SEND belongs to, from 1; 0: none."""
        if frame.method != "SEND" or frame.get("Content-Type") is None:
            return 0
        for i, msg in enumerate(self.begun):
            if msg.message_id == frame.get("Message-ID"):
                return i + 1
        return len(self.begun) + 1

    def _response(self, frame):
        known = self._transactions.get(frame.tid)
        if known is None:
            self.blame("%r answers nothing that was asked" % frame)
            return
        sent, failure = known
        to, from_ = frame.path("To-Path"), frame.path("From-Path")
        if not same_path(to, [Uri(self.uri)]):
            self.blame("%r: To-Path is %s" % (frame, frame.get("To-Path")))
        hop = (self._relays() + (self.peer_path or []))[:1]
        if hop and sent.message_id != "AUTH" and not same_path(from_, hop):
            self.blame("%r: From-Path is %s" % (frame, frame.get("From-Path")))
        if failure == "no" or (failure == "partial" and frame.code == 200):
            self.blame("%r, and Failure-Report was %s" % (frame, failure))
            return
        if sent.waiting.get(frame.tid) is not None:
            self.blame("%r comes twice" % frame)
        self.bound = True
        sent.answer = frame
        sent.waiting[frame.tid] = frame.code

    async def _request(self, frame):
        code = self._judge(frame)
        if frame.method == "REPORT":
            if code == 200:
                self._report(frame)
            return
        if frame.method != "SEND":
            self.blame("%r: method" % frame)
            await self._answer(frame, 501)
            return
        if code != 200:
            self.blame("%r: not by our path: to %s, from %s" % (
                frame, frame.get("To-Path"), frame.get("From-Path")))
            await self._answer(frame, code)
            return
        self.bound = True
        if frame.body is None:
            self.empty_sends += 1
            await self._answer(frame, 200)
            return
        await self._chunk(frame)

    def _judge(self, frame):
        """200, or the code that the paths of a request deserve."""
        to, from_ = frame.path("To-Path"), frame.path("From-Path")
        own = [Uri(self.uri)]
        if self.sessmatch:
            fits = len(to) == 1 and to[0].session == self.session
        else:
            fits = same_path(to, own)
        if not fits:
            return 481
        if self.peer_path is None:
            self.peer_path = from_
        elif self.sessmatch:
            if [u.session for u in from_] != [
                    u.session for u in self.peer_path]:
                return 481
        elif self.path_list:    # our relays stand in front of the peer
            return 200 if same_path(from_[-1:], self.peer_path[-1:]) else 481
        elif not same_path(from_, self.peer_path):
            return 481
        return 200

    async def _chunk(self, frame):
        number = self._number(frame)
        script = self.script
        if number > len(self.begun):
            self.begun.append(Received(frame.get("Message-ID")))
        msg = self.begun[number - 1]
        if script.refuse_from and number >= script.refuse_from:
            msg.refused = script.refuse_code
        elif not self._accepts(frame.get("Content-Type")):
            msg.refused = 415
        done = msg.complete
        for problem in msg.take(frame):
            self.blame("%r: %s" % (frame, problem))
        if msg.complete and not done and msg.refused is None:
            with self._cond:
                self.messages.append(msg)
        if script.cut_message == number and script.cut_when == "unanswered":
            self._cut = True
            return
        if script.silent_from and number >= script.silent_from:
            return
        await self._answer(frame, msg.refused or 200, msg)
        if (script.cut_message == number and script.cut_when == "answered"
                and msg.complete):
            self._cut = True

    def _accepts(self, content_type):
        kind = (content_type or "").split(";")[0].strip().lower()
        return any(a == "*" or a.lower() == kind
                   or (a.endswith("/*") and kind.startswith(a[:-1].lower()))
                   for a in self.accept)

    async def _answer(self, frame, code, msg=None):
        """The answer, and the REPORT where one is due: now or when the script
        says so."""
        script = self.script
        if script.silent:
            return
        self._held.append((frame, code, msg, msg and msg.complete))
        if msg is not None and len(self.begun) < script.hold:
            return
        held, self._held = self._held, []
        if script.delay_ms:
            task = asyncio.ensure_future(self._later(held))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return
        for item in held:
            await self._answer_now(*item)

    async def _later(self, held):
        await asyncio.sleep(self.script.delay_ms / 1000)
        try:
            for item in held:
                await self._answer_now(*item)
        except MsrpError:
            pass    # it is gone; the reader says so

    async def _answer_now(self, frame, code, msg, complete):
        failure = frame.get("Failure-Report") or "yes"
        if failure == "yes" or (failure == "partial" and code != 200):
            from_ = (frame.get("From-Path") or "").split(" ")
            to = (frame.get("To-Path") or "").split(" ")
            comment = {200: "OK", 415: "Unsupported media type",
                       481: "No such session", 501: "Unknown method"}.get(
                           code, "Refused")
            await self._write(build(
                "nobody0" if self.script.wrong_tid else frame.tid,
                str(code) if self.script.no_comment
                else "%d %s" % (code, comment),
                [("To-Path", from_[0]), ("From-Path", to[0])]))
        if (msg is None or frame.get("Success-Report") != "yes"
                or not self.script.report or code != 200):
            return
        if self.script.report_each:
            start = parse_range(frame.get("Byte-Range"))[0]
            await self._send_report(
                msg, start, start + len(frame.body) - 1, frame)
        elif complete:
            await self._send_report(msg, 1, len(msg.body), frame)

    async def _send_report(self, msg, start, end, frame):
        total = "*" if msg.total is None else str(msg.total)
        await self._write(build(new_tid(), "REPORT", [
            ("To-Path", frame.get("From-Path")), ("From-Path", self.uri),
            ("Message-ID", msg.message_id),
            ("Byte-Range", "%d-%d/%s" % (start, end, total)),
            ("Status", "000 %d %s" % (
                self.script.report_code,
                "OK" if self.script.report_code == 200 else "Failed"))]))

    def _report(self, frame):
        found = STATUS.match(frame.get("Status") or "")
        given = parse_range(frame.get("Byte-Range"))
        sent = self._sent.get(frame.get("Message-ID"))
        if sent is None:
            self.blame("%r of a message that was not sent" % frame)
        elif found and given:
            if found[1] == "200" and not sent.success:
                self.blame("%r: no success report was asked for" % frame)
            sent.reports.append((int(found[1]), given[0], given[1]))
            self.reports.append((frame.get("Message-ID"), int(found[1]),
                                 frame.get("Byte-Range")))


# ----------------------------------------------------------------- SDP

DIRECTIONS = {"sendrecv": "sendrecv", "sendonly": "recvonly",
              "recvonly": "sendonly", "inactive": "inactive"}


class Sdp:
    """An MSRP description: the first m= line, and what is wrong with it."""

    def __init__(self, text):
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self.text = text
        self.problems = []
        self.attributes = {}
        self.media = []
        self.address = self.direction = None
        if not text.endswith("\r\n") or "\n" in text.replace("\r\n", ""):
            self.problems.append("lines do not end in CRLF")
        lines = text.split("\r\n")[:-1]
        if not lines or lines[0] != "v=0":
            self.problems.append("the first line is not v=0")
        for kind in "ost":
            if not any(x.startswith(kind + "=") for x in lines):
                self.problems.append("no %s=" % kind)
        for line in lines:
            self._line(line)
        if not self.media:
            raise MsrpError("no m= line:\n%s" % text)
        words = self.media[0].split(" ")
        if (len(words) != 4 or words[0] != "message"
                or not words[1].isdigit() or words[3] != "*"
                or words[2] not in ("TCP/MSRP", "TCP/TLS/MSRP")):
            raise MsrpError("no MSRP: m=%s" % self.media[0])
        self.port, self.tls = int(words[1]), words[2] == "TCP/TLS/MSRP"
        self._check()

    def _line(self, line):
        kind, _, value = line.partition("=")
        if not re.match(r"[a-z]=", line):
            self.problems.append("line %r" % line)
        elif kind == "m":
            self.media.append(value)
        elif kind == "c" and len(self.media) < 2:
            self.address = value.split(" ")[-1]
        elif kind == "a" and len(self.media) < 2:
            name, _, value = value.partition(":")
            if name in DIRECTIONS:
                self.direction = name
            self.attributes.setdefault(name, []).append(value)

    def get(self, name):
        return (self.attributes.get(name) or [None])[0]

    def _check(self):
        if self.address is None:
            self.problems.append("no c=")
        if self.port == 0:
            return
        for name in ("path", "accept-types"):
            if len(self.attributes.get(name, [])) != 1:
                self.problems.append("%d a=%s" % (
                    len(self.attributes.get(name, [])), name))
        try:
            self.path = path_of(self.get("path") or "")
        except MsrpError as e:
            raise MsrpError("a=path: %s" % e)
        if any(u.transport != "tcp" for u in self.path):
            self.problems.append("a transport other than tcp")
        if len(self.path) == 1 and self.port != self.path[0].port:
            self.problems.append("m= has port %d, a=path %d" % (
                self.port, self.path[0].port))
        if (self.path[0].scheme == "msrps") != self.tls:
            self.problems.append("m= and a=path differ about TLS")
        setup = self.get("setup")
        if setup not in (None, "active", "passive", "actpass", "holdconn"):
            self.problems.append("a=setup:%s" % setup)

    @property
    def setup(self):
        return self.get("setup")

    @property
    def fingerprints(self):
        return self.attributes.get("fingerprint", [])


def describe(endpoint, direction="recvonly", setup=None,
             accept_types="message/cpim", accept_wrapped_types="*",
             max_size=None):
    """An offer or answer of this endpoint as bytes. None: no such line."""
    family = "IP6" if ":" in endpoint.host else "IP4"
    # the m= line has the port of the first URI
    port = path_of(endpoint.path)[0].port
    lines = ["v=0", "o=- %d 1 IN %s %s" % (
        secrets.randbits(31), family, endpoint.host), "s=-",
        "c=IN %s %s" % (family, endpoint.host), "t=0 0",
        "m=message %d %s *" % (
            port, "TCP/TLS/MSRP" if endpoint.tls else "TCP/MSRP")]
    if direction:
        lines.append("a=" + direction)
    for name, value in (("accept-types", accept_types),
                        ("accept-wrapped-types", accept_wrapped_types),
                        ("max-size", max_size), ("setup", setup),
                        ("path", endpoint.path)):
        if value is not None:
            lines.append("a=%s:%s" % (name, value))
    if endpoint.tls:
        lines.append("a=fingerprint:" + endpoint.certificate.fingerprint)
    return ("\r\n".join(lines) + "\r\n").encode()


def connects(offer, answer):
    """Who opens the connection, by the two a=setup: "offerer", "answerer" or
    None. RFC 6135, 4.2; MsrpError if they do not fit."""
    if answer == "holdconn":
        return None
    if answer is None or (answer == "passive"
                          and offer in (None, "active", "actpass")):
        return "offerer"
    if answer == "active" and offer in ("passive", "actpass"):
        return "answerer"
    raise MsrpError("a=setup:%s in answer to a=setup:%s" % (answer, offer))


# ---------------------------------------------------------- CPM client

ICSI = "urn%%3Aurn-7%%3A3gpp-service.ims.icsi.oma.cpm.%s"

TAGS = {
    # what the Contact says, by what kind of client it is
    "standalone": ';+g.3gpp.icsi-ref="%s"' % ",".join(
        ICSI % x for x in ("msg", "largemsg", "deferred")),
    "chat": ";+g.oma.sip-im",
    "plain": "",
}


def multipart(parts, boundary=None):
    """(content type, body) of multipart/mixed from (type, body) parts."""
    boundary = boundary or "b" + secrets.token_hex(8)
    out = b""
    for kind, body in parts:
        out += b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (
            boundary.encode(), kind.encode(), body)
    return ('multipart/mixed;boundary="%s"' % boundary,
            out + b"--%s--\r\n" % boundary.encode())


def split_parts(content_type, body):
    """A body as a list of (type, headers, body): one, or those of multipart.
    """
    if not (content_type or "").lower().startswith("multipart/"):
        return [((content_type or "").split(";")[0].strip().lower(), {},
                 body)]
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not found:
        raise MsrpError("multipart without a boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode())
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise MsrpError("multipart without an end")
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        headers = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        kind = headers.get("content-type", "text/plain")
        parts.append((kind.split(";")[0].strip().lower(), headers, content))
    return parts


class Session:
    """A SIP dialog and its MSRP endpoint."""

    def __init__(self, client, endpoint):
        self.client, self.endpoint = client, endpoint
        self.invite = None          # the INVITE, of either side
        self.response = None        # to an INVITE of ours
        self.dialog = self.offer = self.answer = None
        self.parts = []             # of the INVITE's body
        self.failed = None          # why there is no connection

    @property
    def messages(self):
        return self.endpoint.messages

    @property
    def violations(self):
        bad = list(self.endpoint.violations)
        bad += self.dialog.problems if self.dialog else []
        for name in ("offer", "answer"):
            sdp = getattr(self, name)
            if isinstance(sdp, Sdp):
                bad += ["SDP %s: %s" % (name, p) for p in sdp.problems]
        return bad

    @property
    def ended(self):
        return self.dialog is not None and self.dialog.ended

    def wait_ended(self, timeout=10.0):
        """Until the other side's BYE."""
        self.client.wait(lambda: self.ended, timeout, "BYE")

    def bye(self, timeout=10.0):
        response = self.dialog.bye(timeout)
        self.endpoint.close()
        return response


class CpmClient(sipua.UA):
    """A client that takes queue sessions, and asks for them."""

    def __init__(self, user, domain="example.org", proxy=("127.0.0.1", 5060),
                 *, profile="standalone", tls=False, setup="active",
                 direction="recvonly", accept_types="message/cpim",
                 accept_wrapped_types="*", script=None, invite_answer=200,
                 sessmatch=False, msrp_host="127.0.0.1", hang_up_after=0,
                 relay=None, **kw):
        """setup: "active", "passive", or None: an endpoint of RFC 4975 that
        knows no a=setup. direction: None leaves it out.
        script: a Script for each session, or a function that makes one.
        invite_answer: a code, or a function of the INVITE that returns one.
        hang_up_after: BYE after so many messages; 0: never.
        relay: the URI of an MSRP relay in front of each session."""
        super().__init__(user, domain, proxy, **kw)
        self.profile, self.tls, self.setup = profile, tls, setup
        self.direction = direction
        self.accept_types = accept_types
        self.accept_wrapped_types = accept_wrapped_types
        self.script, self.sessmatch = script, sessmatch
        self.invite_answer = invite_answer
        self.msrp_host, self.hang_up_after = msrp_host, hang_up_after
        self.relay = relay
        self.invites = []           # INVITEs that came
        self.sessions = []
        self.problems = []
        self._threads = []
        self.handlers["INVITE"] = self._invited
        self.handlers["CANCEL"] = lambda msg: self.reply(msg, 200)

    def register(self, *args, **kw):
        kw.setdefault("params", TAGS[self.profile])
        return super().register(*args, **kw)

    def close(self):
        super().close()
        for session in self.sessions:
            session.endpoint.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def msrp_messages(self):
        """Of all sessions."""
        return [m for s in list(self.sessions) for m in s.messages]

    @property
    def violations(self):
        bad = list(self.problems)
        for msg in list(self.invites) + list(self.messages):
            bad += ["%r: %s" % (msg, p) for p in msg.problems]
        for session in list(self.sessions):
            bad += session.violations
        return bad

    def wait_sessions(self, count, timeout=10.0):
        self.wait(lambda: len(self.sessions) >= count, timeout,
                  "session %d" % count)
        return list(self.sessions)

    def wait_msrp(self, count, timeout=10.0):
        """The messages of all sessions, as soon as there are count."""
        self.wait(lambda: len(self.msrp_messages) >= count, timeout,
                  "message %d (%d came; %s)" % (
                      count, len(self.msrp_messages), self.violations))
        return self.msrp_messages

    def endpoint(self, tls):
        script = self.script() if callable(self.script) else self.script
        ep = Endpoint(self.msrp_host, tls, script=script,
                      sessmatch=self.sessmatch, name=self.user)
        ep.on_change = self._changed
        return ep

    def _changed(self):
        with self._cond:
            self._cond.notify_all()

    # ---- an INVITE that comes

    def _invited(self, msg):
        """In the receiving thread; the rest is done in one of its own."""
        with self._cond:
            self.invites.append(msg)
        if "tag" in sipua.header_params(msg.get("to", "")):
            self.reply(msg, 488)    # a re-INVITE: nothing changes
            return
        self.reply(msg, 100)
        thread = threading.Thread(target=self._serve, args=(msg,),
                                  daemon=True)
        self._threads.append(thread)
        thread.start()

    def _refusal(self, msg):
        """A code of 300 or more, or None."""
        answer = self.invite_answer
        if callable(answer):
            answer = answer(msg)
        return answer if answer >= 300 else None

    def _serve(self, msg):
        code = self._refusal(msg)
        if code is not None:
            self.reply(msg, code)
            return
        try:
            parts = split_parts(msg.get("content-type"), msg.body)
            offer = Sdp(next(p[2] for p in parts
                             if p[0] == "application/sdp"))
        except (MsrpError, StopIteration) as e:
            self.problems.append("INVITE: %s" % (e or "no SDP"))
            self.reply(msg, 606)
            return
        session = Session(self, self.endpoint(offer.tls))
        session.invite, session.parts, session.offer = msg, parts, offer
        try:
            self._accept(session)
        except (MsrpError, sipua.SipError, OSError) as e:
            session.failed = str(e)
            self.problems.append("session: %s" % e)
        self._changed()

    def _accept(self, session):
        offer, endpoint = session.offer, session.endpoint
        endpoint.peer_path = offer.path
        endpoint.peer_fingerprints = offer.fingerprints
        setup = self.setup
        if setup is not None and offer.setup in ("active", "passive"):
            setup = {"active": "passive", "passive": "active"}[offer.setup]
        elif offer.setup is None:
            setup = None
        who = connects(offer.setup, setup)
        if self.relay:
            endpoint.auth(self.relay)
        elif who == "offerer":
            endpoint.listen()
        text = describe(endpoint, self.direction, setup, self.accept_types,
                        self.accept_wrapped_types)
        session.answer = Sdp(text)
        session.dialog = self.accept(session.invite, text)
        with self._cond:
            self.sessions.append(session)
            self._cond.notify_all()
        session.dialog.wait_ack()
        if who == "answerer" and not session.ended:
            self._open(endpoint)
        if self.hang_up_after:
            endpoint.wait_messages(self.hang_up_after, 60)
            session.bye()

    def _open(self, endpoint, timeout=10.0):
        if self.relay:
            endpoint.bind(timeout)
        else:
            endpoint.connect(timeout=timeout)

    # ---- an INVITE of our own

    def pull(self, uri, parts=(), headers=(), *, setup="actpass",
             direction="recvonly", feature="deferred", timeout=10.0):
        """Asks for a session: a Session, connected; with .response alone if
        it was refused. parts: (type, body), to follow the SDP."""
        endpoint = self.endpoint(self.tls)
        if self.relay:
            endpoint.auth(self.relay, timeout)
        else:
            endpoint.listen()
        session = Session(self, endpoint)
        sdp = describe(endpoint, direction, setup, self.accept_types,
                       self.accept_wrapped_types)
        session.offer = Sdp(sdp)
        kind, body = "application/sdp", sdp
        if parts:
            kind, body = multipart([(kind, body)] + list(parts))
        pairs = [("Accept-Contact", '*;+g.3gpp.icsi-ref="%s"'
                  % (ICSI % feature))] + list(headers)
        session.response, session.dialog = self.invite(
            uri, body, kind, pairs, timeout=timeout)
        if session.dialog is None:
            endpoint.close()
            return session
        session.invite = session.dialog.invite
        with self._cond:
            self.sessions.append(session)
        answer = session.answer = Sdp(session.response.body)
        if answer.port == 0:
            raise MsrpError("200 with port 0")
        endpoint.peer_path = answer.path
        endpoint.peer_fingerprints = answer.fingerprints
        who = connects(setup, answer.setup)
        if who == "offerer":
            self._open(endpoint, timeout)
        elif who == "answerer":
            endpoint.wait_connected(timeout)
        return session


# -------------------------------------------------------------- command

def parse_args(argv):
    p = argparse.ArgumentParser(
        prog="msrpua.py", description="a small and strict MSRP user agent",
        epilog="behaviours (--do NAME or NAME=VALUE): " + ", ".join(
            f.name for f in dataclasses.fields(Script)))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--timeout", type=float, default=30.0, metavar="S")
    common.add_argument("--tls", action="store_true")
    common.add_argument("--host", default="127.0.0.1", help="our address")
    common.add_argument("--session", help="our session id")
    common.add_argument("--sessmatch", action="store_true",
                        help="compare session ids, not whole URIs")
    common.add_argument("--do", action="append", default=[],
                        metavar="BEHAVIOUR", help="something out of order")
    common.add_argument("--relay", metavar="URI",
                        help="a relay of ours, asked by AUTH")
    sub = p.add_subparsers(dest="command", required=True)
    recv = sub.add_parser("receive", parents=[common],
                          help="take messages: listen, or connect to PATH")
    recv.add_argument("--port", type=int, default=0)
    recv.add_argument("--connect", metavar="PATH")
    recv.add_argument("--from", dest="peer", metavar="PATH",
                      help="who may connect; else anybody")
    recv.add_argument("--count", type=int, default=1,
                      help="stop after so many (0: when the peer has gone)")
    recv.add_argument("--save", metavar="DIR",
                      help="write message N to N.body")
    send = sub.add_parser("send", parents=[common],
                          help="send one message to PATH, or to who connects")
    send.add_argument("to", metavar="PATH")
    send.add_argument("--listen", action="store_true",
                      help="wait for PATH to connect")
    send.add_argument("--port", type=int, default=0)
    what = send.add_mutually_exclusive_group(required=True)
    what.add_argument("--text")
    what.add_argument("--file")
    send.add_argument("--type", default="text/plain", help="Content-Type")
    send.add_argument("--chunk", type=int, default=CHUNK, metavar="OCTETS")
    send.add_argument("--report", action="store_true",
                      help="ask for a success report and wait for it")
    client = sub.add_parser(
        "client", parents=[common],
        help="register, and take the messages of queue sessions")
    client.add_argument("user")
    client.add_argument("--proxy", default="127.0.0.1:5060",
                        metavar="HOST:PORT")
    client.add_argument("--domain", default="example.org")
    client.add_argument("--profile", choices=sorted(TAGS),
                        default="standalone")
    client.add_argument("--setup", choices=["active", "passive", "none"],
                        default="active")
    client.add_argument("--pull", metavar="URI",
                        help="ask for the messages, by an INVITE to URI")
    client.add_argument("--count", type=int, default=1)
    client.add_argument("--save", metavar="DIR")
    return p.parse_args(argv)


def show(number, msg, save):
    print("message %d %s, %s, %d octets in %d chunks" % (
        number, msg.message_id, msg.content_type, len(msg.body),
        len(msg.chunks)), flush=True)
    if save:
        with open(os.path.join(save, "%d.body" % number), "wb") as f:
            f.write(msg.body)
    else:
        print(sipua.printable(msg.body), flush=True)


def verdict(violations):
    for text in violations:
        print("not right: %s" % text)
    return 1 if violations else 0


def take(args, ask, gone):
    """Shows messages as ask() lists them, until there are enough."""
    deadline = time.monotonic() + args.timeout
    shown = 0
    while not args.count or shown < args.count:
        for msg in ask()[shown:]:
            shown += 1
            show(shown, msg, args.save)
        if gone() and shown >= len(ask()):
            break
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    return shown


def endpoint_of(args):
    ep = Endpoint(args.host, args.tls, args.session, Script.parse(args.do),
                  args.sessmatch)
    if args.relay:
        ep.auth(args.relay, args.timeout)
    return ep


def open_or_listen(args, ep, path, listen):
    """Until there is a connection, or can be one."""
    ep.peer_path = None if path is None else path_of(path)
    if args.relay and not listen:
        ep.bind(args.timeout)
    elif not listen:
        ep.connect(timeout=args.timeout)
    elif not args.relay:
        ep.listen(args.port)
    if listen:
        print("path %s" % ep.path, flush=True)


def command_receive(args):
    with endpoint_of(args) as ep:
        open_or_listen(args, ep, args.connect or args.peer, not args.connect)
        shown = take(args, lambda: ep.messages, lambda: ep.closed)
        if shown < args.count:
            print("msrpua: %d of %d messages came" % (shown, args.count),
                  file=sys.stderr)
            verdict(ep.violations)
            return 1
        return verdict(ep.violations)


def command_send(args):
    if args.file:
        with open(args.file, "rb") as f:
            body = f.read()
    else:
        body = args.text.encode("utf-8", "surrogateescape")
    with endpoint_of(args) as ep:
        open_or_listen(args, ep, args.to, args.listen)
        if args.listen:
            # who connects binds first
            ep.wait(lambda: ep.empty_sends, args.timeout, "a first SEND")
        sent = ep.send(body, args.type, chunk=args.chunk,
                       success_report="yes" if args.report else None,
                       timeout=args.timeout)
        print("answers %s" % " ".join(
            str(c) for c in sorted(set(sent.codes), key=str)))
        good = set(sent.codes) == {200}
        if args.report and good:
            ep.wait(lambda: sent.reported or ep.closed, args.timeout,
                    "a report")
            good = sent.reported
            print("reported" if good else "not reported")
        return verdict(ep.violations) or (0 if good else 1)


def command_client(args):
    host, _, port = args.proxy.rpartition(":")
    if not host or not port.isdigit():
        raise MsrpError("--proxy wants HOST:PORT, not %r" % args.proxy)
    with CpmClient(
            args.user, args.domain, (host, int(port)), profile=args.profile,
            tls=args.tls, sessmatch=args.sessmatch, msrp_host=args.host,
            setup=None if args.setup == "none" else args.setup,
            relay=args.relay,
            script=lambda: Script.parse(args.do)) as ua:
        ua.register(timeout=args.timeout)
        print("registered <%s>" % ua.contact, flush=True)
        if args.pull:
            session = ua.pull(args.pull, timeout=args.timeout)
            print("%d %s" % (session.response.code, session.response.reason),
                  flush=True)
            if session.dialog is None:
                return 1
        shown = take(args, lambda: ua.msrp_messages, lambda: False)
        ua.register(expires=0, timeout=args.timeout)
        bad = verdict(ua.violations)
    if shown < args.count:
        raise MsrpError("%d of %d messages came within %g s"
                        % (shown, args.count, args.timeout))
    return bad


def main(argv):
    args = parse_args(argv)
    try:
        return {"receive": command_receive, "send": command_send,
                "client": command_client}[args.command](args)
    except (MsrpError, sipua.SipError, OSError) as e:
        print("msrpua: %s" % e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
