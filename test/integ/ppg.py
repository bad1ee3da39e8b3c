# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A push gateway, by PAP 2.1 or as a webhook that takes JSON.

It keeps every byte that comes, reads it strictly, and answers as it is told:
`answer`, and before that, one each, what is in the list `answers`:

    1001                 a response-result of PAP with this code
    ("http", 503, {..})  this status, with headers
    "malformed"          XML that is not well-formed
    "other"              XML that is none of PAP
    "bomb"               XML with entities that grow
    "echo"               a refusal that says the credentials back
    "bad"                badmessage-response
    "huge"               more than anybody should read
    "silent"             nothing, and the connection stays
    "slow"               a byte now and then
    "cut"                the connection is closed

What is wrong with a push by the protocol is in its `problems`. Control
entities are validated against test/data/pap_2.1-subset.dtd.
"""

import base64
import datetime
import email.parser
import email.policy
import http.server
import io
import json
import os
import re
import ssl
import threading

import lxml.etree

from harness import HOST, TOP, free_port

DTD_FILE = os.path.join(TOP, "test", "data", "pap_2.1-subset.dtd")
PUBLIC = "-//WAPFORUM//DTD PAP 2.1//EN"
SYSTEM = "http://www.openmobilealliance.org/tech/DTD/pap_2.1.dtd"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
ADDRESS = re.compile(
    r"WAPPUSH=(?:(?P<phone>\+\d+)/TYPE=PLMN|(?P<user>[\w.~%:-]+)/TYPE=USER)"
    r"@(?P<host>[\w.\[\]:-]+)\Z")
HUGE = 1 << 20


def dtd():
    with open(DTD_FILE, "rb") as f:
        return lxml.etree.DTD(io.BytesIO(f.read()))


def parse(xml):
    """No network, no entities, no DTD but the one we have."""
    return lxml.etree.fromstring(xml, lxml.etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False))


class Push:
    """One POST as it came."""

    def __init__(self, path, headers, body):
        self.at = datetime.datetime.now(datetime.timezone.utc)
        self.path, self.headers, self.body = path, headers, body
        self.raw = str(headers).encode() + body
        self.problems = []
        self.push_id = self.address = self.deliver_before = None
        self.source = None
        self.content = None

    def need(self, condition, text):
        if not condition:
            self.problems.append(text)

    def __repr__(self):
        return "<Push %s %s %s>" % (
            self.push_id, self.address, self.content)


class PapPush(Push):
    def __init__(self, path, headers, body, schema):
        super().__init__(path, headers, body)
        kind = headers.get("Content-Type", "")
        self.need(kind.startswith("multipart/related;"), "type %s" % kind)
        self.need('type="application/xml"' in kind, "no type= in %s" % kind)
        message = email.parser.BytesParser(
            policy=email.policy.HTTP).parsebytes(
                b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        parts = message.get_payload() if message.is_multipart() else []
        self.need(not message.defects, "MIME: %s" % message.defects)
        self.need(len(parts) == 2, "%d parts" % len(parts))
        if len(parts) != 2:
            return
        self.need(parts[0].get_content_type() == "application/xml",
                  "the first part is %s" % parts[0].get_content_type())
        self.control(parts[0].get_payload(decode=True), schema)
        self.need(parts[1].get_content_type() == "application/json",
                  "the second part is %s" % parts[1].get_content_type())
        self.content = json.loads(parts[1].get_payload(decode=True))

    def control(self, xml, schema):
        root = parse(xml)
        doctype = root.getroottree().docinfo
        self.need(doctype.public_id == PUBLIC, "DTD %s" % doctype.public_id)
        self.need(doctype.system_url == SYSTEM, "at %s" % doctype.system_url)
        self.need(schema.validate(root), "DTD: %s" % schema.error_log)
        message = root.find("push-message")
        self.push_id = message.get("push-id")
        self.source = message.get("source-reference")
        self.deliver_before = message.get("deliver-before-timestamp")
        self.need(self.deliver_before is None
                  or STAMP.match(self.deliver_before),
                  "deliver-before-timestamp %s" % self.deliver_before)
        self.address = message.find("address").get("address-value")
        self.need(ADDRESS.match(self.address), "address %s" % self.address)


class JsonPush(Push):
    MEMBERS = {"push-id", "source-reference", "deliver-before", "address",
               "content"}

    def __init__(self, path, headers, body, _):
        super().__init__(path, headers, body)
        self.need(headers.get("Content-Type") == "application/json",
                  "type %s" % headers.get("Content-Type"))
        told = json.loads(body.decode("utf-8"))
        self.need(set(told) <= self.MEMBERS, "members %s" % sorted(told))
        self.push_id = told["push-id"]
        self.address = told["address"]
        self.source = told.get("source-reference")
        self.deliver_before = told.get("deliver-before")
        self.need(self.deliver_before is None
                  or STAMP.match(self.deliver_before),
                  "deliver-before %s" % self.deliver_before)
        self.content = told["content"]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        gate = self.server.gate
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(gate.take(self.path, self.headers, body), gate)

    def send(self, status, body=b"", kind="application/xml", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, what, gate):
        if isinstance(what, int):
            self.send(202, gate.response(what))
        elif isinstance(what, tuple):
            self.send(what[1], b"{}", "application/json",
                      what[2] if len(what) > 2 else None)
        elif what == "malformed":
            self.send(200, b"<pap><push-response><response-result code='1001'")
        elif what == "other":
            self.send(200, b"<html><body>1001</body></html>")
        elif what == "bomb":
            self.send(200, b"<!DOCTYPE pap [<!ENTITY a 'ha'>" + b"".join(
                b"<!ENTITY %c '%s'>" % (c, b"&%c;" % (c - 1) * 20)
                for c in range(ord("b"), ord("k")))
                + b"]><pap><push-response push-id='1'>"
                  b"<response-result code='1001' desc='&j;'/>"
                  b"</push-response></pap>")
        elif what == "bad":
            self.send(200, gate.document(
                '<badmessage-response code="2000" desc="not understood" '
                'bad-message-fragment="&lt;pap"/>'))
        elif what == "echo":
            # says the credentials back, and what is in them
            said = self.headers["Authorization"]
            kind, word = said.split(" ", 1)
            if kind == "Basic":
                said = base64.b64decode(word).decode() + " " + said
            self.send(200, gate.document(
                '<push-response push-id="1"><response-result code="4000" '
                'desc="%s"/></push-response>' % said))
        elif what == "huge":
            self.send(200, b"<pap>" + b" " * HUGE)
        elif what == "silent":
            gate.closing.wait(60)
            self.close_connection = True
        elif what == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            while not gate.closing.wait(0.2):
                self.wfile.write(b" ")
                self.wfile.flush()
            self.close_connection = True
        elif what == "cut":
            self.close_connection = True
        else:
            raise ValueError(what)

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError):
            pass  # the other side has had enough


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    gate = None

    def handle_error(self, request, client_address):
        # a client that does not trust our certificate goes away
        if not self.gate.tls:
            super().handle_error(request, client_address)


class Gate:
    """The gateway: between `with` it listens."""

    def __init__(self, form="pap", answer=None, certificate=None):
        self.form = form
        self.answer = answer or (1001 if form == "pap" else ("http", 202))
        self.answers = []
        self.pushes = []
        self.failed = []      # what could not even be read
        self.closing = threading.Event()
        self.schema = dtd()
        self.tls = certificate is not None
        self.port = free_port()
        self._lock = threading.Lock()
        self._server = _Server((HOST, self.port), _Handler)
        self._server.gate = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True,
                do_handshake_on_connect=False)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self):
        return "http%s://%s:%d/push" % (
            "s" if self.tls else "", HOST, self.port)

    def close(self):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def take(self, path, headers, body):
        with self._lock:
            try:
                push = (PapPush if self.form == "pap" else JsonPush)(
                    path, headers, body, self.schema)
                self.pushes.append(push)
            except Exception as e:  # whatever: the test is told
                self.failed.append((e, body))
                raise
            return self.answers.pop(0) if self.answers else self.answer

    def document(self, inner):
        xml = ('<?xml version="1.0"?><!DOCTYPE pap PUBLIC "%s" "%s">'
               '<pap product-name="test">%s</pap>' % (PUBLIC, SYSTEM, inner))
        assert self.schema.validate(parse(xml.encode()))
        return xml.encode()

    def response(self, code):
        return self.document(
            '<push-response push-id="%s"><response-result code="%d" '
            'desc="said &quot;%d&quot;"/></push-response>' % (
                self.pushes[-1].push_id, code, code))

    def of(self, target):
        """The pushes to one target: a part of its address."""
        return [p for p in list(self.pushes) if target in (
            p.address if isinstance(p.address, str) else
            p.address["prid"])]

    def check(self):
        """Every push was as the protocol has it, and had an id of its own."""
        assert not self.failed, self.failed
        problems = [(p, p.problems) for p in self.pushes if p.problems]
        assert not problems, problems
        ids = [p.push_id for p in self.pushes]
        assert len(set(ids)) == len(ids), ids
