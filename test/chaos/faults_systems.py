# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The two systems that the table of faults compares, behind one face.

Silo is Kamailio with its own msilo and a private MariaDB (faults_msilo.cfg);
Cpm is Kamailio with cpm_pf, the shipped configuration and a private Redis. A
case breaks both in the same way, by the same methods, and asks what their
stores hold by the marks in the messages' bodies.
"""

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integ"))

import databases  # noqa: E402
import harness  # noqa: E402
from harness import HOST, Program, Stack, free_port, sipua, wait_until  # noqa: E402

TOKEN = re.compile(rb"tok[0-9a-f]{12}")
MSILO_CFG = os.path.join(HERE, "faults_msilo.cfg")
_numbers = itertools.count(1)


def token():
    return ("tok" + os.urandom(6).hex()).encode()


def tokens(data):
    return TOKEN.findall(data)


class LossyProxy:
    """TCP to the store. Once armed with a token, it passes on the command in
    which the token is, swallows the answer and closes the connection."""

    def __init__(self, port):
        self.to = port
        self.swallowed = []     # bytes of each answer that was lost
        self._token = None
        self._lock = threading.Lock()
        self._listen = socket.create_server((HOST, 0))
        self.port = self._listen.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, what):
        with self._lock:
            self._token = what

    def close(self):
        self._listen.close()

    def _accept(self):
        while True:
            try:
                client = self._listen.accept()[0]
                server = socket.create_connection((HOST, self.to), timeout=5)
                server.settimeout(None)
            except OSError:
                return
            drop = threading.Event()
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=pair + (drop,),
                                 daemon=True).start()

    def _pump(self, source, sink, to_store, drop):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                if to_store:
                    with self._lock:
                        if self._token and self._token in data:
                            self._token = None
                            drop.set()
                elif drop.is_set():
                    self.swallowed.append(len(data))
                    break
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class MariaDB(databases.MysqlServer):
    """With its default of how a commit is made durable."""

    def argv(self):
        return [a for a in super().argv()
                if not a.startswith("--innodb-flush-log")]


class System:
    """What both have in common: processes, SIP, and questions to the store."""

    kamailio = None

    def ua(self, user, **kw):
        ua = sipua.UA(user, harness.DOMAIN, (HOST, self.sip_port), **kw)
        self._uas.append(ua)
        return ua

    def sip_up(self):
        if not self.kamailio.running:
            raise harness.Failure("Kamailio ended:\n%s"
                                  % self.kamailio.log()[-3000:])
        try:
            with sipua.UA("probe", harness.DOMAIN,
                          (HOST, self.sip_port)) as ua:
                ua.request("OPTIONS", "sip:%s:%d" % (HOST, self.sip_port),
                           timeout=0.2)
            return True
        except sipua.SipError:
            return False

    def kill_kamailio(self):
        """-9, every process."""
        self.kamailio.kill()

    def rpc(self, *words):
        done = subprocess.run(
            ["kamcmd", "-s", "unix:ctl.sock"] + list(words),
            cwd=self.directory, capture_output=True, text=True, timeout=10,
            env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin"))
        return done.stdout

    def shared_memory(self):
        """Of Kamailio's shared memory, in MB: max_used, total, ..."""
        return {name: int(value) / 1048576 for name, value in re.findall(
            r"(\w+): (\d+)", self.rpc("core.shmmem"))}

    def log_lines(self, pattern):
        return len(re.findall(pattern, self.kamailio.log(), re.M))


class MemoryStack(Stack):
    memory = None

    def argv(self):
        return super().argv() + (
            ["-m", str(self.memory)] if self.memory else [])


class Cpm(System):
    name = "cpm_pf"

    def __init__(self, directory, quota=None, users=False, lossy=False,
                 beside=None, memory=None):
        """memory: MB of shared memory, if not the default.
        users: only those of the sample database are known.
        lossy: the store behind self.proxy. beside: another node's system,
        whose store this one shares."""
        self.directory = directory
        self._uas = []
        settings = {"retry_intervals": "5,30,120,600,3600"}  # the default
        if quota is not None:
            settings["queue_max_messages"] = quota
        args = {}
        if users:
            args = databases.Sqlite(directory).create(sample=True).stack()
        self.stack = MemoryStack(directory, settings, redis=beside is None,
                                 **args)
        self.stack.memory = memory
        self.stack.expect_log(".")
        if beside:
            self.stack.redis.port = beside.stack.redis.port
        self.store = (beside or self).stack.redis
        self.proxy = None
        if lossy:
            self.store.start()
            self.stack.with_redis = False
            self.proxy = LossyProxy(self.store.port)
            self.stack.defines["REDIS"] = (
                '"name=queue;addr=%s;port=%d"' % (HOST, self.proxy.port))
        self.stack.start()
        self.sip_port = self.stack.sip_port

    @property
    def kamailio(self):
        return self.stack.kamailio

    def start_kamailio(self):
        self.kamailio.expect_none_left()
        self.stack.start_kamailio()

    def start_store(self):
        self.store.start()

    def stored(self, user=None):
        """The marks of all messages in the store, of one user or of all."""
        def cli(*words):
            return subprocess.run(
                ["redis-cli", "-p", str(self.store.port)] + list(words),
                capture_output=True, timeout=30, check=True).stdout
        found = []
        for key in cli("--scan", "--pattern", "*:m:*").split():
            if user is None or b":m:sip:%s@" % user.encode() in key:
                found += tokens(cli("HVALS", key.decode()))
        return found

    def close(self):
        for ua in self._uas:
            ua.close()
        self.stack.close()
        if self.proxy:
            self.proxy.close()


class Silo(System):
    name = "msilo"
    _server = None

    def __init__(self, directory, quota=None, users=False, lossy=False,
                 beside=None, memory=None, **defines):
        """memory: MB of shared memory, if not the default.
        users: as for Cpm, in Kamailio's table of subscribers.
        defines: what faults_msilo.cfg reads."""
        self.directory = directory
        self._uas = []
        self.memory = memory
        self.store = self.server()
        if beside:
            self.database = beside.database
        else:
            self.database = self.store.database()
            for name in ("standard", "msilo", "auth_db"):
                with open("/usr/share/kamailio/mysql/%s-create.sql"
                          % name) as f:
                    self.database.sql(f.read())
            self.database.sql(
                "INSERT INTO subscriber (username, domain, password, ha1, "
                "ha1b) VALUES ('bob', 'example.org', '', '', '')")
        self.proxy = LossyProxy(self.store.port) if lossy else None
        self.sip_port = free_port()
        url = self.database.url
        if lossy:
            url = url.replace(":%d/" % self.store.port,
                              ":%d/" % self.proxy.port)
        self.defines = {
            "SIP_PORT": self.sip_port, "DB_URL": '"%s"' % url,
            "OUTBOUND": '"sip:%s:%d"' % (HOST, self.sip_port)}
        if quota is not None:
            self.defines["QUOTA"] = quota
        if users:
            self.defines["USERS"] = 1
        self.defines.update(defines)
        self.start_kamailio()

    @classmethod
    def server(cls):
        if cls._server is None:
            cls._server = MariaDB()
        return cls._server

    @classmethod
    def close_server(cls):
        if cls._server is not None:
            cls._server.close()

    def start_kamailio(self):
        if self.kamailio:
            self.kamailio.expect_none_left()
        for name in ("ctl.sock", "kamailio.pid"):
            if os.path.exists(os.path.join(self.directory, name)):
                os.unlink(os.path.join(self.directory, name))
        argv = ["kamailio", "-f", MSILO_CFG, "-DD", "-E", "-w",
                self.directory, "-Y", self.directory, "-P",
                os.path.join(self.directory, "kamailio.pid")]
        for pair in self.defines.items():
            argv += ["-A", "%s=%s" % pair]
        if self.memory:
            argv += ["-m", str(self.memory)]
        self.kamailio = Program("kamailio", argv, self.directory)
        wait_until(self.sip_up, 15, "Kamailio answers SIP")

    def start_store(self):
        self.store.start()

    def stored(self, user=None):
        where = " WHERE username = '%s'" % user if user else ""
        return tokens("\n".join(self.database.sql(
            "SELECT body FROM silo" + where)).encode())

    def close(self):
        for ua in self._uas:
            ua.close()
        self.kamailio.stop()
        if self.proxy:
            self.proxy.close()


def answered(*uas):
    """Marks of the messages that these user agents answered with 2xx."""
    found = []
    for ua in uas:
        for msg in list(ua.messages):
            if msg.answered and 200 <= msg.answered < 300:
                found += tokens(msg.body)[:1]
    return found


class Sender:
    """Sends marked messages, and keeps which of them were accepted."""

    def __init__(self, system, user="alice", to="bob"):
        self.system = system
        self.ua = system.ua(user)
        self.to = "sip:%s@%s" % (to, harness.DOMAIN)
        self.accepted = []
        self.last = None        # request and answer

    def send(self, body=None, content_type="text/plain", headers=(),
             timeout=32.0, **kw):
        """(code, seconds); code None if no answer came within timeout."""
        mark = token()
        body = body.replace(b"TOKEN", mark) if body else b"Hello " + mark
        raw = self.ua.build(
            "MESSAGE", self.to,
            list(headers) + [("Content-Type", content_type)], body, **kw)
        self.last = (mark, raw)
        return self.again(timeout=timeout)

    def again(self, timeout=32.0, other_branch=False):
        """The same request once more, byte for byte or on another branch."""
        mark, raw = self.last
        if other_branch:
            raw = re.sub(rb"branch=[^;\r]+", b"branch="
                         + self.ua.new_branch().encode(), raw, count=1)
        start = time.monotonic()
        try:
            code = self.ua.transact(raw, timeout).code
        except sipua.SipError:
            code = None
        if code is not None and code < 300 and mark not in self.accepted:
            self.accepted.append(mark)
        return code, time.monotonic() - start


def blast(system, count, to="bob", window=8, pace=None):
    """Fills a queue fast, at most pace a second. The marks of what was
    accepted; Failure if a request gets no answer."""
    done, out = [], {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.connect((HOST, system.sip_port))
        host, port = s.getsockname()
        sent, start = 0, time.monotonic()
        while len(done) < count:
            while sent < count and len(out) < window:
                mark = token()
                body = b"Hello " + mark
                out[mark] = None
                if pace:
                    ahead = sent / pace - (time.monotonic() - start)
                    if ahead > 0:
                        time.sleep(ahead)
                s.send((
                    "MESSAGE sip:%s@example.org SIP/2.0\r\n"
                    "Via: SIP/2.0/UDP %s:%d;rport;branch=z9hG4bK%s\r\n"
                    "Max-Forwards: 70\r\n"
                    "From: <sip:alice@example.org>;tag=%s\r\n"
                    "To: <sip:%s@example.org>\r\nCall-ID: %s\r\n"
                    "CSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n"
                    "Content-Length: %d\r\n\r\n" % (
                        to, host, port, mark.decode(), mark.decode(), to,
                        mark.decode(), len(body))).encode() + body)
                sent += 1
            reply = s.recv(65536)
            mark = tokens(reply)[0]
            if reply.split()[1].startswith(b"1") or mark not in out:
                continue
            del out[mark]
            if not reply.split()[1].startswith(b"2"):
                raise harness.Failure("while filling: %r" % reply[:60])
            done.append(mark)
    return done
