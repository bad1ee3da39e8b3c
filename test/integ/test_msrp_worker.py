# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""cpm_pf_worker msrp by itself: orders over a socket pair, as a delivery
worker gives them, and peers of all kinds. Whatever a bad peer does, a good
session beside it goes on."""

import contextlib
import dataclasses
import itertools
import os
import re
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from harness import HOST, MODULE, Program, free_port, need, wait_until

import msrpua
from msrpua import Certificate, Endpoint, Reader, Script

WORKER = os.environ.get("CPM_PF_WORKER", os.path.join(
    os.path.dirname(MODULE), "cpm_pf_worker"))

with open(WORKER, "rb") as _f:
    SANITIZED = b"__asan_init" in _f.read()

# ---- the orders, as core/cpm_ctl.h has them

KINDS = {"PREPARE": 1, "START": 2, "SEND": 3, "DATA": 4, "CLOSE": 5,
         "HELLO": 65, "UP": 66, "DONE": 67, "FAILED": 68, "DOWN": 69}
NAMES = {v: k for k, v in KINDS.items()}
TLS, CONNECT, REPORTS, SESSMATCH = 1, 2, 4, 8
HEAD = struct.Struct(">BBHHQIQQ")
PIECE = 65536
MESSAGES = 32   # of one session at once


@dataclasses.dataclass
class Datagram:
    kind: str
    session: int
    flags: int = 0
    code: int = 0
    handle: int = 0
    size: int = 0
    offset: int = 0
    a: str = ""
    b: str = ""
    c: str = ""
    data: bytes = b""

    def pack(self):
        out = HEAD.pack(1, KINDS[self.kind], self.flags, self.code,
                        self.session, self.handle, self.size, self.offset)
        for text in (self.a, self.b, self.c):
            out += struct.pack(">H", len(text.encode())) + text.encode()
        return out + struct.pack(">I", len(self.data)) + self.data

    @classmethod
    def unpack(cls, raw):
        version, kind, flags, code, session, handle, size, offset = \
            HEAD.unpack_from(raw)
        assert version == 1
        at, texts = HEAD.size, []
        for _ in range(3):
            n, = struct.unpack_from(">H", raw, at)
            texts.append(raw[at + 2:at + 2 + n].decode("ascii"))
            at += 2 + n
        n, = struct.unpack_from(">I", raw, at)
        assert len(raw) == at + 4 + n
        return cls(NAMES[kind], session, flags, code, handle, size, offset,
                   *texts, raw[at + 4:])


_numbers = itertools.count(1000)


class Session:
    """A session as its delivery worker sees it."""

    def __init__(self, control, number, uri):
        self.control, self.number, self.uri = control, number, uri
        self.handles = itertools.count(1)

    def order(self, kind, **kw):
        self.control.send(Datagram(kind, self.number, **kw))

    def start(self, peer, flags=0, fingerprint="", max_size=0):
        self.order("START", a=peer, b=fingerprint, flags=flags, size=max_size)
        self.control.sync()
        return self

    def send(self, body, content_type="text/plain", message_id=None,
             piece=PIECE, first=None):
        """In pieces; returns the handle."""
        handle = next(self.handles)
        first = piece if first is None else first
        self.order("SEND", handle=handle, size=len(body), b=content_type,
                   a=message_id or secrets.token_hex(8), data=body[:first])
        for at in range(min(first, len(body)), len(body), piece):
            self.order("DATA", handle=handle, offset=at,
                       data=body[at:at + piece])
        return handle

    def close(self):
        self.order("CLOSE")

    @property
    def said(self):
        """What was said of it, in order."""
        return [d for d in self.control.heard if d.session == self.number
                and d.kind != "HELLO"]

    def wait(self, kind, timeout=10.0, handle=0):
        def look():
            for d in self.said:
                if d.kind == kind and d.handle == handle:
                    return d
                if d.kind == "DOWN":
                    raise AssertionError("%s was waited for, and %s" % (
                        kind, self.said))
            return None
        return self.control.wait(look, timeout, "%s of %s; there is %s" % (
            kind, self.uri, self.said))

    def wait_up(self, timeout=10.0):
        return self.wait("UP", timeout)

    def wait_down(self, timeout=10.0):
        d = self.wait("DOWN", timeout)
        return d.a

    def wait_done(self, handle, timeout=10.0):
        return self.wait("DONE", timeout, handle)

    def wait_failed(self, handle, timeout=10.0):
        d = self.wait("FAILED", timeout, handle)
        return d.code, d.a


class Control:
    """The delivery worker's end of a control socket."""

    def __init__(self, sock, worker):
        self.sock, self.worker = sock, worker
        self.heard = []
        self.ended = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        sock.setblocking(False)

    def pump(self, timeout=0.0):
        """Hears what there is, at most for so long."""
        if self.ended:
            time.sleep(timeout)
            return
        if not select.select([self.sock], [], [], timeout)[0]:
            return
        while True:
            try:
                raw = self.sock.recv(1 << 17)
            except BlockingIOError:
                return
            except ConnectionResetError:
                raw = b""
            if not raw:
                self.ended = True
                return
            self.heard.append(Datagram.unpack(raw))

    def wait(self, look, timeout, what):
        deadline = time.monotonic() + timeout
        while True:
            self.pump()
            value = look()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0 or self.ended:
                raise AssertionError("%s: not %s; the worker's log:\n%s" % (
                    what, "any more" if self.ended else
                    "within %g s" % timeout, self.worker.log()))
            self.pump(min(left, 0.1))

    def raw(self, data):
        deadline = time.monotonic() + 10
        while True:
            try:
                return self.sock.send(data)
            except BlockingIOError:
                assert time.monotonic() < deadline, "orders are not taken"
                self.pump(0.01)

    def send(self, datagram):
        self.raw(datagram.pack())

    def hello(self, count=1):
        def look():
            found = [d for d in self.heard if d.kind == "HELLO"]
            return found[count - 1] if len(found) >= count else None
        return self.wait(look, 10, "HELLO")

    def prepare(self, tls=False, host=HOST, key=None):
        uri = "msrp%s://%s:%d/%s;tcp" % (
            "s" if tls else "", host, self.worker.port(tls, host),
            key or secrets.token_urlsafe(16).replace("_", "-"))
        s = Session(self, next(_numbers), uri)
        s.order("PREPARE", a=uri, flags=TLS if tls else 0)
        self.sync()
        return s

    def sync(self):
        """Until all orders so far have been read: peers come another way, and
        could be quicker."""
        number = next(_numbers)
        self.send(Datagram("DATA", number, handle=1, data=b"x"))
        self.wait(lambda: [d for d in self.heard if d.session == number], 10,
                  "an answer")


class Worker:
    """The program, with its controls."""

    def __init__(self, directory, controls=1, tls=False, ipv6=False, **conf):
        self.directory = directory
        self.starts = 0
        self.program = None
        self.fds = []
        self.controls = []
        for _ in range(controls):
            ours, theirs = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.fds.append(theirs)
            self.controls.append(Control(ours, self))
        self.conf = dict({"log": "stderr"}, **conf)
        self.listens = ["127.0.0.1:0"]
        if tls:
            one = Certificate.one()
            self.listens.append("tls:127.0.0.1:0")
            self.conf.update(msrp_cert=one.cert, msrp_key=one.key)
        if ipv6:
            self.listens.append("[::1]:0")

    @property
    def control(self):
        return self.controls[0]

    def start(self):
        self.starts += 1
        fd = os.memfd_create("conf")
        lines = ["%s=%s" % pair for pair in self.conf.items()]
        lines += ["msrp_listen=%s" % l for l in self.listens]
        lines += ["control_fd=%d" % s.fileno() for s in self.fds]
        os.write(fd, ("\n".join(lines) + "\n").encode())
        log = open(os.path.join(self.directory, "worker.log"), "ab")
        with log:
            self.program = subprocess.Popen(
                [WORKER, "msrp", "-f", str(fd)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
                pass_fds=[fd] + [s.fileno() for s in self.fds] + [
                    v for k, v in self.conf.items() if k == "stats_fd"])
        os.close(fd)
        for control in self.controls:
            control.hello(self.starts)
        return self

    def let_go(self):
        """Only the worker holds its ends of the controls."""
        for s in self.fds:
            s.close()
        self.fds = []

    def port(self, tls=False, host=HOST):
        for line in self.control.hello(self.starts).a.split("\n"):
            prefix = "tls:" if tls else ""
            if line.startswith("%s%s:" % (prefix, host)):
                return int(line.rpartition(":")[2])
        raise AssertionError("it does not listen there")

    def log(self):
        with open(os.path.join(self.directory, "worker.log")) as f:
            return f.read()

    def status(self, name):
        """kB, or a number, of /proc."""
        with open("/proc/%d/status" % self.program.pid) as f:
            return int(re.search(r"^%s:\s+([0-9]+)" % name, f.read(),
                                 re.M)[1])

    def grown(self, before):
        """kB. The sanitizers keep what was freed for long."""
        return (self.status("VmRSS") - before) / (20 if SANITIZED else 1)

    def stop(self):
        """What a worker must do whatever was done to it."""
        if self.program is None:
            return
        if self.program.poll() is None:
            self.program.send_signal(signal.SIGTERM)
            try:
                self.program.wait(10)
            except subprocess.TimeoutExpired:
                self.program.kill()
                self.program.wait()
                raise AssertionError("SIGTERM did not end it")
        for control in self.controls:
            control.sock.close()
        self.let_go()
        assert self.program.returncode == 0, self.log()
        assert "ERROR" not in self.log(), self.log()

    # ---- sessions that are as they should be

    def passive(self, script=None, tls=False, host=HOST, control=None, **kw):
        """The peer connects."""
        s = (control or self.control).prepare(
            tls, "[%s]" % host if ":" in host else host)
        ep = Endpoint(host, tls, script=script, **kw)
        s.start(ep.path, TLS if tls else 0,
                ep.certificate.fingerprint if tls else "")
        ep.connect(s.uri)
        s.wait_up()
        return s, ep

    def active(self, script=None, tls=False, host=HOST, flags=0, **kw):
        """The peer waits."""
        s = self.control.prepare()
        ep = Endpoint(host, tls, script=script, **kw).listen()
        s.start(ep.path, CONNECT | flags | (TLS if tls else 0),
                ep.certificate.fingerprint if tls else "")
        s.wait_up()
        return s, ep


@pytest.fixture
def new_worker(tmp_path):
    workers = []

    def make(**kw):
        directory = tmp_path / ("worker%d" % len(workers))
        directory.mkdir()
        worker = Worker(str(directory), **kw)
        workers.append(worker)
        return worker.start()

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def worker(new_worker):
    return new_worker()


def deliver(s, ep, body, **kw):
    """A message goes and arrives, byte for byte."""
    before = len(ep.messages)
    s.wait_done(s.send(body, **kw))
    assert ep.wait_messages(before + 1)[before].body == body
    assert ep.violations == []


@contextlib.contextmanager
def beside(worker):
    """A good session, before, during and after."""
    s, ep = worker.passive()
    with ep:
        deliver(s, ep, b"before")
        yield s, ep
        deliver(s, ep, b"after" * 1000)
        assert [d.kind for d in s.said].count("DOWN") == 0
        t, other = worker.passive()
        with other:
            deliver(t, other, b"a new one")
            t.close()
        s.close()


class Raw:
    """A peer that sends whatever it is told to."""

    def __init__(self, worker, host=HOST):
        self.sock = socket.create_connection((host, worker.port()), 10)
        self.reader = Reader()
        self.frames = []
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, data):
        """Whether all of it was taken."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
            return False

    def read(self, timeout=10.0):
        """Some more bytes, if they come; False at the end."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.frames += [f for e, f in self.reader.feed(data) if e == "frame"]
        return True

    def wait_frames(self, count):
        while len(self.frames) < count:
            assert self.read(), "closed after %s" % self.frames
        return self.frames

    def wait_closed(self, timeout=10.0):
        while self.read(timeout):
            pass


def frame(to, from_, start="SEND", headers=(), body=None, flag="$", tid=None):
    return msrpua.build(
        tid or secrets.token_hex(8), start,
        [("To-Path", to), ("From-Path", from_)] + list(headers), body, flag)


def empty_send(to, from_):
    return frame(to, from_, headers=[("Message-ID", secrets.token_hex(8)),
                                     ("Byte-Range", "1-0/0")])


PEER = "msrp://127.0.0.1:9/peer-session;tcp"

# ---- start and stop


def test_it_says_hello_with_where_it_listens(new_worker):
    worker = new_worker(controls=2, tls=True, ipv6=True)
    hellos = [c.hello() for c in worker.controls]
    assert hellos[0].session == hellos[1].session != 0
    assert hellos[0].code == 1
    lines = hellos[0].a.split("\n")
    assert [line.rpartition(":")[0] for line in lines] == [
        "127.0.0.1", "tls:127.0.0.1", "[::1]"]
    assert hellos[0].b.lower() == Certificate.one().fingerprint.lower()


def test_a_socket_that_is_closed_ends_its_sessions_and_the_last_one_it(
        new_worker):
    worker = new_worker(controls=2)
    one, two = worker.controls
    s, ep = worker.passive(control=one)
    t, other = worker.passive(control=two)
    worker.let_go()
    one.sock.close()
    ep.wait_closed()
    deliver(t, other, b"still there")
    two.sock.close()
    assert worker.program.wait(10) == 0
    other.wait_closed()
    assert "msrp: stop controls=closed" in worker.log()


def test_kill_9_leaves_only_the_hello_of_the_next_one(new_worker):
    worker = new_worker()
    s, ep = worker.passive()
    with ep:
        s.send(b"x" * 100000, first=1000)
        worker.program.kill()
        worker.program.wait()
        ep.wait_closed()
    heard = list(s.said)
    worker.control.pump(0.2)
    assert s.said == heard and not worker.control.ended
    worker.start()
    boots = [d.session for d in worker.control.heard if d.kind == "HELLO"]
    assert len(set(boots)) == 2
    s.close()                       # of an old session: nothing
    s.order("DATA", handle=1, data=b"x")
    assert s.wait_down() == "no-such-session"
    with beside(worker):
        pass


def test_it_ends_with_its_parent(tmp_path):
    """Even where the control sockets stay open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = tmp_path / "conf"
    path.write_text("msrp_listen=127.0.0.1:0\nlog=stderr\ncontrol_fd=%d\n"
                    % theirs.fileno())
    starter = (
        "import os, subprocess, sys\n"
        "fd = os.open(sys.argv[2], os.O_RDONLY)\n"
        "p = subprocess.Popen([sys.argv[1], 'msrp', '-f', str(fd)],"
        " pass_fds=[fd, int(sys.argv[3])], stderr=sys.stderr)\n"
        "print(p.pid, flush=True)\n"
        "p.wait()\n")
    with open(tmp_path / "log", "w") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", starter, WORKER, str(path),
             str(theirs.fileno())], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, pass_fds=[theirs.fileno()])
    pid = int(parent.stdout.readline())
    ours.settimeout(10)
    assert Datagram.unpack(ours.recv(1 << 17)).kind == "HELLO"
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone():
        try:
            with open("/proc/%d/stat" % pid) as f:
                return f.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True
    wait_until(gone, 10, "the end of the worker")
    assert "msrp: stop signal=15" in (tmp_path / "log").read_text()
    ours.close()
    theirs.close()


def test_what_happens_is_counted(new_worker):
    with open(os.path.join(os.path.dirname(MODULE), "core",
                           "cpm_stats.h")) as f:
        text = f.read()
    names = re.findall(r"\bX\((\w+), '", text)
    histograms = re.findall(r"\bX\((\w+), \d", text)
    fd = os.memfd_create("stats")
    os.write(fd, struct.pack("=II", 0x43504d31, len(names))
             + bytes(8 * len(names) + 8 * 16 * len(histograms)))

    def count(name):
        return struct.unpack("=Q", os.pread(
            fd, 8, 8 + 8 * names.index("msrp_" + name)))[0]
    worker = new_worker(stats_fd=fd)
    s, ep = worker.passive()
    with ep:
        deliver(s, ep, b"1")
        deliver(s, ep, b"2")
        assert [count(n) for n in ("sessions", "connections", "messages",
                                   "refused")] == [1, 1, 2, 0]
        with Raw(worker) as peer:
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            peer.wait_closed()
        assert count("refused") == 1
        s.close()
        ep.wait_closed()
    wait_until(lambda: count("connections") == 0, 10, "no connection")
    os.close(fd)


@pytest.mark.parametrize("lines,word", [
    (["control_fd=3", "control_fd=3"], "control_fd"),
    (["msrp_listen=localhost:2855"], "msrp_listen"),
    (["msrp_max_memory=1"], "msrp_max_memory"),
    ([], "control_fd")])
def test_a_wrong_configuration_is_told(tmp_path, lines, word):
    path = tmp_path / "conf"
    path.write_text("\n".join(["msrp_listen=127.0.0.1:0"] + lines) + "\n")
    done = subprocess.run([WORKER, "msrp", "-c", str(path)], timeout=20,
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert word in done.stderr


def test_tls_wants_a_certificate(tmp_path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = tmp_path / "conf"
    path.write_text("msrp_listen=tls:127.0.0.1:0\ncontrol_fd=%d\n"
                    % theirs.fileno())
    done = subprocess.run(
        [WORKER, "msrp", "-c", str(path)], timeout=20, capture_output=True,
        text=True, pass_fds=[theirs.fileno()])
    assert done.returncode == 2 and "msrp_cert" in done.stderr
    ours.close()
    theirs.close()


# ---- sessions as they should be

@pytest.mark.parametrize("who", ["passive", "active"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_megabyte_arrives_byte_for_byte(new_worker, who, tls):
    worker = new_worker(tls=tls)
    s, ep = getattr(worker, who)(tls=tls)
    with ep:
        body = os.urandom(1 << 20)
        deliver(s, ep, body, content_type="application/octet-stream")
        deliver(s, ep, b"short")
        deliver(s, ep, body, piece=777, first=0)
        assert ep.messages[0].content_type == "application/octet-stream"
        s.close()
        ep.wait_closed()
    assert [d.kind for d in s.said] == ["UP", "DONE", "DONE", "DONE"]


@pytest.mark.parametrize("who", ["passive", "active"])
def test_ipv6(new_worker, who):
    worker = new_worker(ipv6=True)
    s, ep = getattr(worker, who)(host="::1")
    with ep:
        deliver(s, ep, b"six" * 5000)


def test_a_host_name_is_resolved(worker):
    s = worker.control.prepare()
    with Endpoint() as ep:
        ep.listen()
        s.start(ep.path.replace("127.0.0.1", "localhost"),
                CONNECT | SESSMATCH)
        ep.sessmatch = True
        s.wait_up()
        s.wait_done(s.send(b"by name"))
        assert ep.wait_messages(1)[0].body == b"by name"


def test_who_connects_sends_an_empty_send_unless_there_is_a_message(worker):
    s, ep = worker.active()
    with ep:
        ep.wait(lambda: ep.empty_sends == 1, what="an empty SEND")
        deliver(s, ep, b"x")
    t = worker.control.prepare()
    with Endpoint() as other:
        other.listen()
        t.start(other.path, CONNECT)
        handle = t.send(b"at once")
        t.wait_done(handle)
        assert other.messages[0].body == b"at once"
        assert other.empty_sends == 0


def test_the_peer_may_connect_before_start(worker):
    s = worker.control.prepare()
    with Endpoint() as ep:
        ep.connect(s.uri)
        ep.wait(lambda: ep.bound, what="the answer to the first SEND")
        assert s.said == []
        s.start(ep.path)
        s.wait_up()
        deliver(s, ep, b"late start" * 1000)


def test_who_connected_before_start_must_be_the_one_that_start_tells(worker):
    with beside(worker):
        s = worker.control.prepare()
        with Endpoint() as ep:
            ep.connect(s.uri)
            ep.wait(lambda: ep.bound, what="the answer to the first SEND")
            s.start(PEER)
            assert s.wait_down() == "path-mismatch"
            ep.wait_closed()


def test_several_messages_in_flight_come_whole_and_in_order(worker):
    s, ep = worker.passive()
    with ep:
        bodies = [os.urandom(n) for n in (10, 70000, 1, 200000, 2048, 2049)]
        bodies += [b"%d" % i for i in range(MESSAGES - 6)]
        handles = [s.send(b) for b in bodies]
        for handle in handles:
            s.wait_done(handle)
        assert [m.body for m in ep.messages] == bodies
        assert ep.violations == []


def test_large_chunks_are_interrupted_for_the_other_session(new_worker):
    worker = new_worker(msrp_chunk_size=1 << 20)
    s, ep = worker.passive()
    with ep:
        body = os.urandom(1 << 20)
        deliver(s, ep, body)
        assert len(ep.messages[0].chunks) < 5


def test_two_sessions_over_one_connection(new_worker):
    worker = new_worker(controls=2, msrp_chunk_size=1 << 20)
    s = worker.controls[0].prepare()
    t = worker.controls[1].prepare()
    bodies = {s: os.urandom(1000000), t: os.urandom(1000000)}
    with Raw(worker) as peer:
        paths = {s: PEER, t: PEER.replace("peer", "twin")}
        for x in (s, t):
            x.start(paths[x])
            peer.send(empty_send(x.uri, paths[x]))
            x.wait_up()
        peer.wait_frames(2)
        handles = {x: x.send(bodies[x]) for x in (s, t)}
        got = {x: bytearray() for x in (s, t)}
        at = 2
        while any(len(got[x]) < len(bodies[x]) for x in got):
            peer.wait_frames(at + 1)
            f = peer.frames[at]
            at += 1
            x = s if f.get("From-Path") == s.uri else t
            assert f.get("To-Path") == paths[x]
            assert msrpua.check_frame(f) == []
            got[x] += f.body
            peer.send(frame(f.get("From-Path"), f.get("To-Path"), "200 OK",
                            tid=f.tid))
        assert {x: bytes(got[x]) for x in got} == bodies
        for x in (s, t):
            x.wait_done(handles[x])
        s.close()
        x = t.send(b"alone")
        peer.wait_frames(at + 1)
        f = peer.frames[at]
        peer.send(frame(f.get("From-Path"), f.get("To-Path"), "200 OK",
                        tid=f.tid))
        t.wait_done(x)
        t.close()
        peer.wait_closed()


def test_a_relay_in_the_path_only_a_report_makes_it_done(worker):
    """The next hop answers at once, the far end later, or never."""
    listener = socket.create_server((HOST, 0))
    hop = "msrp://127.0.0.1:%d/relay;tcp" % listener.getsockname()[1]
    far = "msrp://far.invalid:2855/far-end;tcp"
    s = worker.control.prepare()
    s.start(hop + " " + far, CONNECT | REPORTS)
    sock, _ = listener.accept()
    with sock, listener:
        s.wait_up()
        peer = Raw.__new__(Raw)
        peer.sock, peer.reader, peer.frames = sock, Reader(), []
        handles = [s.send(b"r" * 3000), s.send(b"never reported")]
        peer.wait_frames(3)
        for f in peer.frames:
            assert f.get("To-Path") == hop + " " + far
            assert f.get("Success-Report") == "yes"
            peer.send(frame(s.uri, hop, "200 OK", tid=f.tid))
        first = peer.frames[0].get("Message-ID")
        worker.control.pump(0.3)
        assert [d.kind for d in s.said] == ["UP"]
        for byte_range in ("1-2048/3000", "2049-3000/3000"):
            peer.send(frame(s.uri, hop + " " + far, "REPORT", [
                ("Message-ID", first), ("Byte-Range", byte_range),
                ("Status", "000 200 OK")]))
        s.wait_done(handles[0])
        second = peer.frames[2].get("Message-ID")
        peer.send(frame(s.uri, hop + " " + far, "REPORT", [
            ("Message-ID", second), ("Byte-Range", "1-14/14"),
            ("Status", "000 408 Timeout")]))
        assert s.wait_failed(handles[1]) == (408, "reported")
        assert peer.wait_frames(3) and len(peer.frames) == 3


def test_through_a_real_relay(worker, relay):
    s = worker.control.prepare()
    with Endpoint() as ep:
        ep.auth(relay)
        assert len(ep.path.split()) == 2
        ep.peer_path = msrpua.path_of(s.uri)
        s.start(ep.path, CONNECT | REPORTS)
        s.wait_up()
        body = os.urandom(100000)
        s.wait_done(s.send(body), 20)
        assert [m.body for m in ep.messages] == [body]
        assert ep.violations == []


def test_close_is_not_answered_and_ends_the_connection(worker):
    s, ep = worker.passive()
    with ep:
        deliver(s, ep, b"x")
        s.close()
        ep.wait_closed()
        assert ep.violations == []
    s.order("START", a=PEER)
    assert s.wait_down() == "no-such-session"
    assert [d.kind for d in s.said] == ["UP", "DONE", "DOWN"]


# ---- TLS

@pytest.mark.parametrize("who", ["passive", "active"])
def test_a_wrong_fingerprint_ends_the_session(new_worker, who):
    worker = new_worker(tls=True)
    wrong = "SHA-256 " + ":".join(["AB"] * 32)
    with beside(worker), Endpoint(tls=True) as ep:
        s = worker.control.prepare(tls=True)
        if who == "passive":
            ep.script.bind = False
            s.start(ep.path, TLS, wrong)
            ep.connect(s.uri)
            ep.bind()
        else:
            ep.listen()
            s.start(ep.path, TLS | CONNECT, wrong)
        assert s.wait_down() == "fingerprint-mismatch"
        ep.wait_closed()
        assert ep.messages == []


def test_the_fingerprint_is_looked_at_when_start_comes_late(new_worker):
    worker = new_worker(tls=True)
    one = Certificate.one().fingerprint
    for fingerprint, word in (("SHA-256 " + ":".join(["00"] * 32), "DOWN"),
                              (one.upper(), "UP"),
                              (one.lower(), "UP"), ("", "UP")):
        s = worker.control.prepare(tls=True)
        with Endpoint(tls=True) as ep:
            ep.connect(s.uri)
            ep.wait(lambda: ep.bound, what="the answer")
            s.start(ep.path, TLS, fingerprint)
            assert s.wait(word).kind == word


def test_without_tls_no_session_that_wants_it(new_worker):
    worker = new_worker(tls=True)
    s = worker.control.prepare(tls=True)
    s.start(PEER, TLS)
    with beside(worker), Raw(worker) as peer:
        peer.send(empty_send(s.uri, PEER))
        assert peer.wait_frames(1)[0].code == 481
    assert s.said == []


def test_a_peer_that_speaks_no_tls_where_it_should(new_worker):
    worker = new_worker(tls=True)
    with beside(worker):
        with socket.create_connection((HOST, worker.port(tls=True))) as sock:
            sock.sendall(b"MSRP abcd SEND\r\n" * 10)
            sock.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
        s = worker.control.prepare()
        with Endpoint() as ep:
            ep.listen()
            s.start(ep.path, CONNECT | TLS)
            assert s.wait_down() == "tls-failed"


# ---- peers that are not as they should be

@pytest.mark.parametrize("code", [413, 415, 500])
def test_a_refusal_is_that_messages_and_not_the_sessions(worker, code):
    with beside(worker):
        s, ep = worker.passive(Script(refuse_from=2, refuse_code=code))
        with ep:
            s.wait_done(s.send(b"taken"))
            handle = s.send(b"x" * 100000)
            assert s.wait_failed(handle) == (code, "refused")
            s.close()


@pytest.mark.parametrize("code", [481, 506])
def test_a_session_that_the_peer_does_not_know_is_over(worker, code):
    with beside(worker):
        s, ep = worker.passive(Script(refuse_from=1, refuse_code=code))
        with ep:
            handle = s.send(b"x")
            down = s.wait("DOWN")
            assert (down.code, down.a) == (code, "session-gone")
            assert [d.kind for d in s.said] == ["UP", "FAILED", "DOWN"]
            assert s.said[1].handle == handle


@pytest.mark.parametrize("who", ["passive", "active"])
@pytest.mark.parametrize("when", ["begun", "unanswered", "bytes"])
def test_a_cut_in_the_middle(worker, who, when):
    script = Script(cut_bytes=5000) if when == "bytes" else Script(
        cut_message=1, cut_when=when)
    with beside(worker):
        s, ep = getattr(worker, who)(script)
        with ep:
            s.send(b"x" * 50000)
            assert s.wait_down() == "peer-closed"
            assert "DONE" not in [d.kind for d in s.said]


def test_what_was_done_before_the_cut_is_told(worker):
    s, ep = worker.passive(Script(cut_message=2, cut_when="answered"))
    with ep:
        first, second = s.send(b"1"), s.send(b"2")
        s.wait_done(first)
        s.wait_down()
    assert [d.handle for d in s.said if d.kind == "DONE"][0] == first
    assert second not in [d.handle for d in s.said if d.kind == "FAILED"]


def test_nobody_connects(new_worker):
    worker = new_worker(msrp_connect_time=1)
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        assert s.wait_down() == "no-connection"


def test_nobody_is_there_to_be_connected_to(worker):
    with beside(worker):
        s = worker.control.prepare()
        s.start("msrp://127.0.0.1:%d/x;tcp" % free_port(), CONNECT)
        assert s.wait_down() == "connect-failed"
        s = worker.control.prepare()
        s.start("msrp://no-such-host.invalid:2855/x;tcp", CONNECT)
        assert s.wait_down(20) == "connect-failed"


def test_a_peer_that_takes_the_connection_and_never_speaks_tls(new_worker):
    worker = new_worker(tls=True, msrp_connect_time=1)
    with beside(worker), socket.create_server((HOST, 0)) as listener:
        s = worker.control.prepare()
        s.start("msrps://127.0.0.1:%d/x;tcp" % listener.getsockname()[1],
                CONNECT | TLS)
        assert s.wait_down() == "connect-failed"


def test_no_answer_fails_the_message_and_silence_ends_the_session(new_worker):
    worker = new_worker(msrp_answer_time=1, session_idle_time=3)
    with beside(worker):
        s, ep = worker.passive(Script(silent=True))
        with ep:
            handle = s.send(b"hello?")
            assert s.wait_failed(handle) == (408, "no-answer")
    with Endpoint() as ep:
        t = worker.control.prepare().start(ep.path)
        ep.connect(t.uri)
        t.wait_up()
        assert t.wait_down() == "idle"
        ep.wait_closed()


def test_a_session_does_not_live_for_ever(new_worker):
    worker = new_worker(msrp_session_time=2)
    s, ep = worker.passive()
    with ep:
        deadline = time.monotonic() + 10
        while not [d for d in s.said if d.kind == "DOWN"]:
            assert time.monotonic() < deadline
            ep.bind()
            worker.control.pump(0.05)
        assert s.wait_down() == "expired"


def test_byte_by_byte(worker):
    with beside(worker):
        s, ep = worker.passive(Script(trickle=True))
        with ep:
            deliver(s, ep, os.urandom(20000))


@pytest.mark.parametrize("garbage,why", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad-start"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), None),
    (b"A" * 100000, None),
    (b"MSRP abcd SEND\r\nno colon\r\n", "no-colon"),
    (b"MSRP abcd SEND\r\nTo-Path: nothing\r\nFrom-Path: x\r\n-------abcd$\r\n",
     "bad-path"),
    (b"MSRP abcd SEND\r\n-------abcd$\r\n", "no-path"),
    (b"MSRP abcd SEND\r\n" + b"X-A: b\r\n" * 1000, "too-many-headers"),
    (b"MSRP abcd SEND\r\nX-A: " + b"b" * 100000, "line-too-long"),
    (b"MSRP abcd SEND\r\n" + b"X-A: " + b"b" * 1900 + b"\r\nX-B: "
     + b"c" * 1900 + b"\r\nX-C: " + b"c" * 1900 + b"\r\n", "head-too-large"),
], ids=["http", "tls", "long", "no-colon", "bad-path", "no-path", "headers",
        "line", "head"])
def test_garbage_ends_its_connection_only(new_worker, garbage, why):
    worker = new_worker(msrp_bind_time=2)
    with beside(worker), Raw(worker) as peer:
        peer.send(garbage)
        peer.wait_closed()
    if why:
        assert "refused why=%s" % why in worker.log()


def test_garbage_on_a_session_ends_that_session(worker):
    with beside(worker):
        s, ep = worker.passive()
        with ep:
            ep.send_raw(b"no start line\r\n")
            down = s.wait("DOWN")
            assert (down.code, down.a) == (400, "bad-start")


@pytest.mark.parametrize("value", [
    "1-99999999999999999999/99999999999999999999", "0-0/0", "5-4/3", "x",
    "1-10/5"])
def test_a_byte_range_that_cannot_be_is_answered_400(worker, value):
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            s.wait_up()
            peer.send(frame(s.uri, PEER, headers=[
                ("Message-ID", "mess1"), ("Byte-Range", value),
                ("Content-Type", "application/im-iscomposing+xml")], body=b"x"))
            assert [f.code for f in peer.wait_frames(2)] == [200, 400]
            peer.send(empty_send(s.uri, PEER))
            assert peer.wait_frames(3)[2].code == 200
        assert s.wait_down() == "peer-closed"


def test_a_huge_byte_range_takes_no_memory(worker):
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            s.wait_up()
            before = worker.status("VmRSS")
            for start in (1, 1 << 40, (1 << 61) - 10):
                peer.send(frame(s.uri, PEER, headers=[
                    ("Message-ID", "m%d" % start),
                    ("Byte-Range", "%d-*/%d" % (start, 1 << 61)),
                    ("Content-Type", "application/im-iscomposing+xml")],
                    body=b"x" * 1000, flag="+"))
            assert [f.code for f in peer.wait_frames(4)] == [
                200, 413, 413, 413]
            assert worker.grown(before) < 2000


def test_what_peers_send_is_refused_but_for_is_composing(worker):
    s, ep = worker.passive()
    with ep:
        assert ep.send(b"hello", "text/plain").codes == [415]
        assert ep.send(b"<x/>", "application/im-iscomposing+xml").codes == [
            200]
        assert ep.send(b"x" * 30000, "text/plain", chunk=30000).codes == [415]
        deliver(s, ep, b"all the same")


def test_a_wrong_session_id_is_answered_481_and_in_the_end_not_at_all(worker):
    with beside(worker), Raw(worker) as peer:
        uri = "msrp://127.0.0.1:%d/nobody-has-this;tcp" % worker.port()
        peer.send(empty_send(uri, PEER))
        assert peer.wait_frames(1)[0].code == 481
        for _ in range(1000):
            if not peer.send(empty_send(uri, PEER)):
                break
        peer.wait_closed()
        assert len(peer.frames) < 20


def test_anothers_session_id_on_another_connection_is_answered_506(worker):
    with beside(worker) as (good, ep), Raw(worker) as thief:
        thief.send(empty_send(good.uri, ep.uri))
        assert thief.wait_frames(1)[0].code == 506
        # what would end a message, and a session
        thief.send(frame(good.uri, ep.uri, "200 OK"))
        thief.send(frame(good.uri, ep.uri, "481 No such session"))
        thief.send(frame(good.uri, ep.uri, "REPORT", [
            ("Message-ID", "mess1"), ("Byte-Range", "1-1/1"),
            ("Status", "000 200 OK")]))
        deliver(good, ep, b"not stolen")


def test_who_is_not_the_peer_cannot_bind_a_started_session(worker):
    s = worker.control.prepare().start(PEER)
    with beside(worker):
        with Raw(worker) as thief:
            thief.send(empty_send(s.uri, PEER.replace("peer", "thief")))
            assert thief.wait_frames(1)[0].code == 481
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            assert peer.wait_frames(1)[0].code == 200
            s.wait_up()


@pytest.mark.parametrize("what", ["REPORT", "200 OK"])
def test_a_flood_of_what_nobody_asked_for_ends_the_session(worker, what):
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            s.wait_up()
            for _ in range(10000):
                if not peer.send(frame(s.uri, PEER, what, [
                        ("Message-ID", "mess1"), ("Byte-Range", "1-1/1"),
                        ("Status", "000 200 OK")] if what == "REPORT"
                        else [])):
                    break
            assert s.wait_down() == "too-many-strays"
            peer.wait_closed()


def test_a_flood_of_requests_by_who_does_not_read(worker):
    """Answers pile up nowhere: it is not read from until it reads."""
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            s.wait_up()
            before = worker.status("VmRSS")
            one = empty_send(s.uri, PEER)
            peer.sock.settimeout(1)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 1 << 28:
                    sent += peer.sock.send(one * 100)
            assert worker.grown(before) < 2000
            with beside(worker):
                pass


def test_a_slow_reader_makes_nothing_grow(new_worker):
    worker = new_worker(msrp_chunk_size=1 << 24)
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        with Raw(worker) as peer:
            peer.send(empty_send(s.uri, PEER))
            s.wait_up()
            before = worker.status("VmRSS")
            s.send(bytes(8 << 20))
            with beside(worker):
                pass
            assert worker.grown(before) < 12 << 10
            s.close()
            peer.wait_closed()
        # all of it is given back
        for _ in range(3):
            t, ep = worker.passive()
            with ep:
                deliver(t, ep, bytes(8 << 20))
                t.close()
        assert worker.grown(before) < 24 << 10


def test_connections_that_name_no_session_are_closed(new_worker):
    worker = new_worker(msrp_bind_time=1)
    with beside(worker), contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Raw(worker)) for _ in range(20)]
        peers[0].send(b"MSRP abcd SEND\r\nTo-Pa")
        for peer in peers:
            peer.wait_closed()
    assert "refused why=not-bound" in worker.log()


def test_one_address_has_only_so_many_of_them(new_worker):
    worker = new_worker(msrp_max_unbound=8)
    with contextlib.ExitStack() as stack:
        good, ep = worker.passive()
        stack.enter_context(ep)
        peers = [stack.enter_context(Raw(worker)) for _ in range(8)]
        with Raw(worker) as peer:
            peer.wait_closed()
        deliver(good, ep, b"bound already")
        peers.pop().sock.close()
        s = worker.control.prepare().start(PEER)

        def bound():
            with Raw(worker) as again:
                if not again.send(empty_send(s.uri, PEER)):
                    return False
                return again.read()
        wait_until(bound, 10, "room again")
        s.wait_up()
    assert "refused why=too-many-of-address" in worker.log()


def test_only_so_many_connections_in_all(new_worker):
    worker = new_worker(msrp_max_connections=10)
    with contextlib.ExitStack() as stack:
        good, ep = worker.passive()
        stack.enter_context(ep)
        for _ in range(9):
            stack.enter_context(Raw(worker))
        with Raw(worker) as peer:
            peer.wait_closed()
        s = worker.control.prepare()
        s.start("msrp://127.0.0.1:9/x;tcp", CONNECT)
        assert s.wait_down() == "too-many"
        deliver(good, ep, b"as before")


def test_only_so_many_sessions_on_one_connection(worker):
    with beside(worker), Raw(worker) as peer:
        sessions = [worker.control.prepare().start(PEER) for _ in range(65)]
        for s in sessions:
            peer.send(empty_send(s.uri, PEER))
        codes = [f.code for f in peer.wait_frames(65)]
        assert sorted(codes) == [200] * 64 + [481]
        for s in sessions[:64]:
            s.wait_up()


def test_500_idle_connections_are_no_burden(new_worker):
    worker = new_worker(msrp_max_unbound=600, msrp_bind_time=60)
    with beside(worker), contextlib.ExitStack() as stack:
        before = worker.status("VmRSS")
        peers = [stack.enter_context(Raw(worker)) for _ in range(500)]
        with beside(worker):
            pass
        for peer in peers:      # all of them are still open
            peer.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.sock.recv(1)
        each = worker.grown(before) / 500
        assert each < 32, "%g kB each" % each


def test_memory_has_an_end(new_worker):
    worker = new_worker(msrp_max_memory=16)
    with Endpoint() as ep:
        good = worker.control.prepare().start(ep.path)
        ep.connect(good.uri)
        good.wait_up()
        greedy = [worker.control.prepare().start(PEER) for _ in range(3)]
        for s in greedy[:2]:
            s.send(bytes(7 << 20))
        greedy[2].send(bytes(7 << 20))
        assert greedy[2].wait_down() == "no-memory"
        deliver(good, ep, b"as before")
        more = []
        while not any(d.kind == "DOWN" for s in more for d in s.said):
            more.append(worker.control.prepare().start(PEER))
            assert len(more) < 2000
            worker.control.pump()
        down = [s for s in more if s.said][0]
        assert down.wait_down() == "no-memory"
        for s in greedy + more:
            s.close()
        with beside(worker):
            pass


# ---- delivery workers that are not as they should be

def test_orders_that_are_none_are_passed_over(new_worker):
    worker = new_worker()
    s, ep = worker.passive()
    good = Datagram("SEND", s.number, handle=7, size=1, a="mess7", b="a/b",
                    data=b"x").pack()
    for raw in (b"", b"\1", b"\2" + good[1:], good[:-1], good + b"x",
                b"\1\x63" + good[2:], bytes(98305), secrets.token_bytes(500),
                Datagram("DONE", s.number, handle=1).pack()):
        worker.control.raw(raw)
    with ep:
        deliver(s, ep, b"x")
    assert "msrp: bad-order" in worker.log()
    worker.program.send_signal(signal.SIGTERM)
    assert worker.program.wait(10) == 0
    # said at ERROR, as it should be: a defect of ours
    os.truncate(os.path.join(worker.directory, "worker.log"), 0)


def test_who_does_not_keep_to_the_window_loses_the_session(worker):
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        s.order("SEND", handle=1, a="mess1", b="a/b", size=1 << 30)
        for at in range(0, (16 << 20) + 1, PIECE):
            s.order("DATA", handle=1, offset=at, data=bytes(PIECE))
            if s.said:
                break
        assert s.wait_down() == "too-much"


@pytest.mark.parametrize("orders,why", [
    ([("SEND", dict(handle=1, a="mess1", b="a/b", size=5, data=b"x")),
      ("DATA", dict(handle=1, offset=2, data=b"x"))], "bad-offset"),
    ([("SEND", dict(handle=1, a="mess1", b="a/b", size=2, data=b"x")),
      ("DATA", dict(handle=1, offset=1, data=b"xx"))], "bad-offset"),
    ([("SEND", dict(handle=i, a="mess%d" % i, b="a/b", size=5))
      for i in range(1, MESSAGES + 2)], "too-much"),
    ([("START", dict(a=PEER))], "started-twice"),
    ([("PREPARE", dict(a="msrp://127.0.0.1:9/other;tcp"))],
     "prepared-twice")])
def test_an_order_that_does_not_fit_ends_the_session(worker, orders, why):
    with beside(worker):
        s = worker.control.prepare().start(PEER)
        for kind, values in orders:
            s.order(kind, **values)
        assert s.wait_down() == why


def test_messages_that_cannot_be_are_failed_one_by_one(worker):
    with Endpoint() as ep:
        s = worker.control.prepare()
        early = s.send(b"x")
        assert s.wait_failed(early) == (0, "not-started")
        s.start(ep.path, max_size=10)
        ep.connect(s.uri)
        s.wait_up()
        assert s.wait_failed(s.send(b"x" * 11)) == (413, "too-large")
        deliver(s, ep, b"x" * 10)


def test_a_key_belongs_to_one_session(worker):
    s = worker.control.prepare(key="the-same-key")
    t = worker.control.prepare(key="the-same-key")
    assert t.wait_down() == "uri-in-use"
    with Endpoint() as ep:
        s.start(ep.path)
        ep.connect(s.uri)
        s.wait_up()
        deliver(s, ep, b"x")


def test_sessions_of_one_control_are_none_of_anothers(new_worker):
    worker = new_worker(controls=2)
    s, ep = worker.passive()
    with ep:
        worker.controls[1].send(Datagram("CLOSE", s.number))
        worker.controls[1].send(Datagram("START", s.number, a=PEER))
        heard = worker.controls[1].wait(
            lambda: [d for d in worker.controls[1].heard
                     if d.kind == "DOWN"], 10, "DOWN")
        assert heard[0].a == "no-such-session"
        deliver(s, ep, b"x")


def test_a_delivery_worker_that_does_not_listen_is_waited_for(new_worker):
    """What is to be said waits in order, and the other control goes on."""
    worker = new_worker(controls=2)
    deaf, other = worker.controls
    count = 0
    deaf.sock.setblocking(False)
    try:
        while count < 200000:
            deaf.sock.send(Datagram("START", 5000 + count, a=PEER).pack())
            count += 1
    except BlockingIOError:
        # it stands until the kernel's room and the worker's are full
        pass
    s, ep = worker.passive(control=other)
    with ep:
        deliver(s, ep, b"as before")
    assert worker.grown(0) < 64 << 10
    deaf.wait(lambda: len([d for d in deaf.heard if d.kind == "DOWN"])
              >= count, 30, "an answer to each")
    assert [d.session for d in deaf.heard if d.kind == "DOWN"] == list(
        range(5000, 5000 + count))


# ---- by others' eyes

def test_tshark_finds_nothing_malformed(worker, tmp_path):
    need("tshark")
    need("dumpcap")
    path = str(tmp_path / "msrp.pcapng")
    port = worker.port()
    capture = Program("dumpcap", [
        "dumpcap", "-q", "-i", "lo", "-f", "tcp port %d" % port, "-w", path],
        str(tmp_path))
    capture.wait_log(r"File: ")
    s, ep = worker.passive()
    with ep:
        # one by one: tshark reads one frame of a segment
        for n in (1, 100, 1000, 2048):
            deliver(s, ep, b"m" * n)
        ep.send(b"no", "text/plain")

    def tshark(*args):
        return subprocess.run(
            ["tshark", "-n", "-r", path, "-d", "tcp.port==%d,msrp" % port]
            + list(args), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60).stdout

    def all_there():
        text = tshark("-Y", "msrp", "-V")
        return (len(re.findall("Method: SEND", text)) == 6
                and len(re.findall("Status code: 200", text)) == 5
                and len(re.findall("Status code: 415", text)) == 1)
    try:
        wait_until(all_there, 20, "tshark sees it all")
    finally:
        capture.stop()
    assert tshark("-Y", "_ws.malformed") == ""


def test_a_peer_that_binds_is_answered_before_it_is_sent_anything(new_worker):
    worker = new_worker()
    s = worker.controls[0].prepare()
    s.start(PEER)
    s.send(b"waits for the peer")
    with Raw(worker) as peer:
        peer.send(empty_send(s.uri, PEER))
        peer.wait_frames(2)
        assert [f.method for f in peer.frames[:2]] == [None, "SEND"]
        s.close()
