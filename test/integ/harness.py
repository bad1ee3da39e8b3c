# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts what the integration tests talk to, and looks after it.

A Stack is a private Redis and a Kamailio with the shipped configuration, on
free ports of 127.0.0.1, in a directory of its own. Nothing here sleeps but
wait_until, which looks every 20 ms and has a deadline.
"""

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True
TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "tools"))

import sipua  # noqa: E402

MODULE = os.environ.get(
    "CPM_MODULE", os.path.join(TOP, "modules", "cpm_pf", "cpm_pf.so"))
CFG = os.path.join(TOP, "cfg", "kamailio-cpm.cfg")
DOMAIN = "example.org"
HOST = "127.0.0.1"
MARK = "CPM_PF_TEST"  # in the environment of everything that we start

# As -E prints it: process number, pid, level.
LOUD = re.compile(
    r"^\s*\d+\(\d+\) (WARNING|ERROR|CRITICAL|ALERT|BUG|EMERGENCY): ")
# How a program that runs outside Kamailio says it, a sanitizer included.
LOUD_ELSE = re.compile(
    r"cpm_pf_worker.*\b(warning|error|fatal)\b|Sanitizer|runtime error:", re.I)


# What Kamailio's core says when its own processes go, one before another.
SHUTDOWN = re.compile(r"<core> .*receive_fd\(\): EOF on ")


class Failure(AssertionError):
    pass


def wait_until(condition, timeout=5.0, what=None):
    """The first true value of condition(); Failure after the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Failure("not within %g s: %s" % (
                timeout, what or getattr(condition, "__name__", "condition")))
        time.sleep(0.02)


_given_ports = set()


def free_port():
    """A port of 127.0.0.1 that is free for UDP and TCP, given out once.
    Below the range from which the kernel takes ports for clients."""
    for _ in range(2000):
        port = 10000 + secrets.randbelow(20000)
        if port in _given_ports:
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind((HOST, port))
        except OSError:
            continue
        _given_ports.add(port)
        return port
    raise Failure("no free port")


def _environ(pid):
    try:
        with open("/proc/%d/environ" % pid, "rb") as f:
            return f.read().split(b"\0")
    except OSError:
        return []


def _stat(pid):
    """(state, session), or None if it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        return fields[0], int(fields[3])
    except OSError:
        return None


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def marked(mark, session=None):
    """Living processes with this mark in their environment, or in this
    session: pids."""
    want = ("%s=%s" % (MARK, mark)).encode()
    pids = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        stat = _stat(int(name))
        if stat and stat[0] not in "ZX" and (
                stat[1] == session or want in _environ(int(name))):
            pids.append(int(name))
    return pids


def _hear_ctrl_c():
    # Whoever runs the tests in the background of a script has SIGINT ignored,
    # and a shell cannot trap what was ignored when it began.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """A child in a process group of its own, with its output in a file."""

    def __init__(self, name, argv, directory, stdin=subprocess.DEVNULL):
        self.name = name
        self.directory = directory
        self.mark = secrets.token_hex(8)
        self.log_path = os.path.join(directory, name + ".log")
        env = dict(os.environ, **{MARK: self.mark})
        env["PATH"] = env.get("PATH", "") + ":/usr/sbin"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=directory, stdin=stdin, stdout=log,
                stderr=subprocess.STDOUT, env=env, start_new_session=True,
                preexec_fn=_hear_ctrl_c)
        self.pid = self.process.pid

    @property
    def running(self):
        return self.process.poll() is None

    def log(self, offset=0):
        with open(self.log_path, "rb") as f:
            f.seek(offset)
            return f.read().decode("utf-8", "replace")

    def signal(self, number):
        self.process.send_signal(number)

    def signal_group(self, number):
        os.killpg(self.pid, number)

    def kill(self):
        """SIGKILL to the whole group, and the rest of the family."""
        try:
            self.signal_group(signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)

    def left(self):
        return marked(self.mark, self.pid)

    def stop(self, timeout=10.0):
        """SIGTERM; Failure if it or a descendant is still there later."""
        if self.running:
            try:
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failure("%s did not stop on SIGTERM" % self.name)
        self.expect_none_left()

    def expect_none_left(self, timeout=5.0):
        try:
            wait_until(lambda: not self.left(), timeout)
        except Failure:
            pids = self.left()
            lines = ["%d %s" % (p, command_line(p)) for p in pids]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            raise Failure("%s left processes behind: %s"
                          % (self.name, "; ".join(lines)))

    def wait_log(self, pattern, timeout=10.0, offset=0):
        """The match object of the first line that fits."""
        regex = re.compile(pattern)

        def look():
            found = regex.search(self.log(offset))
            if found is None and not self.running:
                found = regex.search(self.log(offset))
                if found is None:
                    raise Failure("%s ended (%s) without saying %r:\n%s" % (
                        self.name, self.process.returncode, pattern,
                        self.log()[-2000:]))
            return found

        return wait_until(look, timeout, "%s says %r" % (self.name, pattern))


class Redis:
    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self.program = None

    def start(self):
        self.program = Program("redis", [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--dir", self.directory, "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec", "--daemonize", "no"],
            self.directory)
        wait_until(self.answers, 10, "Redis answers")

    def answers(self):
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words):
        """One command, the raw reply (short replies only)."""
        wire = b"*%d\r\n" % len(words)
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            wire += b"$%d\r\n%s\r\n" % (len(data), data)
        with socket.create_connection((HOST, self.port), timeout=2) as s:
            s.sendall(wire)
            return s.recv(65536)

    def round_trips(self):
        """How many script calls clients have made so far, without those that
        the clock makes (each of which does one ZRANGEBYSCORE)."""
        info = self.command("INFO", "commandstats").decode()
        calls = dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", info))
        return (int(calls.get("eval", 0)) + int(calls.get("evalsha", 0))
                - int(calls.get("zrangebyscore", 0)))

    def stop(self):
        if self.program:
            self.program.stop()

    def kill(self):
        self.program.kill()

    def freeze(self):
        self.program.signal(signal.SIGSTOP)

    def thaw(self):
        self.program.signal(signal.SIGCONT)


class Answer:
    """What HTTP brought."""

    def __init__(self, response, body):
        self.status = response.status
        self.type = (response.getheader("Content-Type") or "").split(";")[0]
        self.header = response.getheader
        self.text = body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return "<HTTP %d %s %s>" % (self.status, self.type, self.text[:500])


class Stack:
    """Redis and Kamailio, and what a test asks them."""

    def __init__(self, directory, settings=None, redis=True, defines=None,
                 cfg_edit=None):
        """settings: parameters of cpm_pf (a list repeats one).
        defines: what -A defines.
        cfg_edit: (text, replacement) in the shipped configuration."""
        self.directory = str(directory)
        self.settings = {"retry_intervals": "1,1,2"}
        self.settings.update(settings or {})
        self.defines = dict(defines or {})
        self.cfg = CFG
        if cfg_edit:
            self.cfg = os.path.join(self.directory, "kamailio.cfg")
            with open(CFG) as f:
                text = f.read()
            if cfg_edit[0] not in text:
                raise Failure("%r is not in %s" % (cfg_edit[0], CFG))
            with open(self.cfg, "w") as f:
                f.write(text.replace(*cfg_edit))
        self.sip_port, self.admin_port = free_port(), free_port()
        self.redis = Redis(self.directory)
        self.with_redis = redis
        self.kamailio = None
        self.expected = []   # patterns of loud log lines that are fine
        self._checked = 0
        self._uas = []

    # ---- life

    def start(self, ready=True):
        if self.with_redis:
            self.redis.start()
        self.start_kamailio(ready)
        return self

    def argv(self):
        with open(os.path.join(self.directory, "kamailio-cpm-local.cfg"),
                  "w") as f:
            for name, value in self.settings.items():
                for v in value if isinstance(value, list) else [value]:
                    f.write('modparam("cpm_pf", "%s", %s)\n' % (
                        name, v if isinstance(v, int) else '"%s"' % v))
        defines = {
            "SIP_PORT": self.sip_port,
            "CPM_MODULE": '"%s"' % MODULE,
            "REDIS": '"name=queue;addr=%s;port=%d"' % (HOST, self.redis.port),
            "ADMIN": '"%s:%d"' % (HOST, self.admin_port),
            "MSRP": '""',
            "CTL_SOCKET": '"unix:ctl.sock"',
            "RPC_FIFO": '"rpc.fifo"',
            "ANSWER_TIMEOUT_MS": 1000,
        }
        defines.update(self.defines)
        argv = ["kamailio", "-f", self.cfg, "-DD", "-E", "-w", self.directory,
                "-Y", self.directory,
                "-P", os.path.join(self.directory, "kamailio.pid")]
        for name, value in defines.items():
            argv += ["-A", "%s=%s" % (name, value)]
        return argv

    def start_kamailio(self, ready=True):
        for name in ("ctl.sock", "rpc.fifo", "kamailio.pid"):
            path = os.path.join(self.directory, name)
            if os.path.exists(path):
                os.unlink(path)
        self.kamailio = Program("kamailio", self.argv(), self.directory)
        wait_until(self._sip_up, 15, "Kamailio answers SIP")
        if ready:
            self.wait_ready()

    def restart_if_dead(self):
        """So that one test's crash is one failure, not those of all others."""
        if not self.kamailio.running:
            self.kamailio.kill()
            self.kamailio.expect_none_left()
            self.start_kamailio()
            self._checked = len(self.kamailio.log().encode())

    def _sip_up(self):
        if not self.kamailio.running:
            raise Failure("Kamailio ended (%s):\n%s" % (
                self.kamailio.process.returncode, self.kamailio.log()[-3000:]))
        try:
            with sipua.UA("probe", DOMAIN, (HOST, self.sip_port)) as ua:
                ua.request("OPTIONS", "sip:%s:%d" % (HOST, self.sip_port),
                           timeout=0.2)
            return True
        except sipua.SipError:
            return False

    def wait_ready(self, timeout=10.0):
        wait_until(lambda: self.http_status("/readyz") == 200, timeout,
                   "/readyz says 200")

    def close(self):
        """Stops everything; Failure if something was not as it should."""
        problems = []
        self.close_uas()
        if self.kamailio:
            try:
                self.check_log()
            except Failure as e:
                problems.append(str(e))
            self.expected.append(SHUTDOWN)
        for thing in (self.kamailio, self.redis):
            if thing is None:
                continue
            try:
                thing.stop()
            except Failure as e:
                problems.append(str(e))
        if self.kamailio:
            try:
                self.check_log()
            except Failure as e:
                problems.append(str(e))
        if problems:
            raise Failure("\n".join(problems))

    # ---- log

    def expect_log(self, *patterns):
        """Declares that loud lines with these patterns are fine."""
        self.expected += [re.compile(p) for p in patterns]

    def check_log(self):
        """Failure if the log has loud lines that no test has declared."""
        text = self.kamailio.log(self._checked)
        end = text.rfind("\n") + 1
        self._checked += len(text[:end].encode())
        bad = [line for line in text[:end].split("\n")
               if (LOUD.search(line) or LOUD_ELSE.search(line))
               and not any(p.search(line) for p in self.expected)]
        if bad:
            raise Failure("unexpected in Kamailio's log:\n"
                          + "\n".join(bad[:20]))

    def log_tail(self, lines=60):
        out = []
        for program in (self.kamailio, self.redis.program):
            if program:
                out.append("---- %s" % program.log_path)
                out += program.log().split("\n")[-lines:]
        return "\n".join(out)

    # ---- SIP

    def ua(self, user, **kw):
        """A user agent that is closed with the stack."""
        ua = sipua.UA(user, DOMAIN, (HOST, self.sip_port), **kw)
        self._uas.append(ua)
        return ua

    def close_uas(self):
        for ua in self._uas:
            ua.close()
        self._uas = []

    # ---- HTTP

    def http(self, path, method="GET", headers=None, timeout=5.0):
        conn = http.client.HTTPConnection(HOST, self.admin_port,
                                          timeout=timeout)
        try:
            conn.request(method, path, headers=headers or {})
            response = conn.getresponse()
            return Answer(response, response.read())
        finally:
            conn.close()

    def http_status(self, path):
        try:
            return self.http(path).status
        except (OSError, http.client.HTTPException):
            return None

    @staticmethod
    def queue_path(user, rest=""):
        aor = user if ":" in user else "sip:%s@%s" % (user, DOMAIN)
        return "/v1/queues/" + urllib.parse.quote(aor, safe="") + rest

    def queue(self, user):
        """Of GET /v1/queues/{user}: the object, or None for 404."""
        answer = self.http(self.queue_path(user))
        if answer.status == 404:
            return None
        assert answer.status == 200, answer
        return answer.json

    def items(self, user):
        """The queued messages of a user, as HTTP shows them."""
        answer = self.http(self.queue_path(user, "/messages"))
        if answer.status == 404:
            return []
        assert answer.status == 200, answer
        return answer.json["items"]

    def wait_empty(self, user, timeout=5.0):
        wait_until(lambda: self.queue(user) is None, timeout,
                   "the queue of %s is empty" % user)

    def metric(self, name):
        """The value of a metric without labels; name without prefix."""
        text = self.http("/metrics").text
        found = re.search(r"^cpm_pf_%s(?:_total)? (\S+)$" % name, text, re.M)
        if not found:
            raise Failure("no metric %s in:\n%s" % (name, text))
        return float(found[1])

    def rpc(self, *words):
        """kamcmd's output."""
        return subprocess.run(
            ["kamcmd", "-s", "unix:ctl.sock"] + list(words),
            cwd=self.directory, capture_output=True, text=True, timeout=10,
            check=True, env=dict(os.environ, PATH=os.environ["PATH"]
                                 + ":/usr/sbin")).stdout

    # ---- processes

    def workers(self):
        """pids of the cpm_pf_worker processes of this Kamailio."""
        return [p for p in self.kamailio.left()
                if "cpm_pf_worker" in command_line(p).split(" ")[0]]


def need(program):
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        raise Failure("%s is not installed" % program)
    return path
