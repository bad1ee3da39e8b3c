# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's SIP clients, from Debian: SIPp, baresip, linphone."""

import os
import pty
import re
import shutil
import subprocess

import pytest

from harness import HOST, Program, free_port, wait_until

SCENARIOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sipp")


def need(program):
    if shutil.which(program) is None:
        pytest.fail("%s is not installed; tools/bootstrap.sh test brings it"
                    % program)


class Sipp:
    """One run of a scenario."""

    def __init__(self, stack, scenario, user, directory, calls=1, rate=10,
                 port=None, timeout=15, at_once=None, **keys):
        need("sipp")
        self.port = port or free_port()
        self.name = "sipp-%s-%d" % (scenario, self.port)
        argv = ["sipp", "%s:%d" % (HOST, stack.sip_port),
                "-sf", os.path.join(SCENARIOS, scenario + ".xml"),
                "-i", HOST, "-p", str(self.port), "-m", str(calls), "-r", str(rate),
                "-s", user, "-nostdin", "-timeout", "%ds" % timeout,
                "-timeout_error", "-trace_err", "-error_file",
                os.path.join(str(directory), self.name + ".err"),
                "-trace_msg", "-message_file",
                os.path.join(str(directory), self.name + ".msg")]
        if at_once:
            argv += ["-l", str(at_once)]
        for name, value in keys.items():
            argv += ["-key", name, str(value)]
        self.timeout = timeout
        self.messages = os.path.join(str(directory), self.name + ".msg")
        self.errors = os.path.join(str(directory), self.name + ".err")
        self.program = Program(self.name, argv, str(directory))

    def wait_listening(self):
        """Until its UDP port is there."""
        def bound():
            assert self.program.running, self.report()
            with open("/proc/net/udp") as f:
                return ":%04X " % self.port in f.read()
        wait_until(bound, 5, "%s listens" % self.name)
        return self

    def report(self):
        text = self.program.log()[-1500:]
        for path in (self.errors, self.messages):
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += "\n---- %s\n%s" % (path, f.read()[-3000:])
        return text

    def expect_success(self):
        code = self.program.process.wait(self.timeout + 5)
        assert code == 0, "%s ended with %d\n%s" % (
            self.name, code, self.report())
        return self


class Baresip:
    """A baresip that is registered as user, with one contact to write to."""

    def __init__(self, stack, user, friend, directory):
        need("baresip")
        self.directory = os.path.join(str(directory), "baresip-" + user)
        os.mkdir(self.directory)
        self._write("config", "\n".join([
            "module_path /usr/lib/baresip/modules",
            "sip_listen %s:%d" % (HOST, free_port()),
            "module stdio.so", "module_tmp account.so",
            "module_app contact.so", "module_app menu.so", ""]))
        self._write("accounts", '<sip:%s@example.org;transport=udp>;'
                    'outbound="sip:%s:%d";regint=600\n' % (
                        user, HOST, stack.sip_port))
        self._write("contacts", '"friend" <sip:%s@example.org>\n' % friend)
        self._keys, terminal = pty.openpty()
        self.program = Program(
            "baresip", ["baresip", "-4", "-n", HOST, "-f", self.directory],
            self.directory, stdin=terminal)
        os.close(terminal)

    def _write(self, name, text):
        with open(os.path.join(self.directory, name), "w") as f:
            f.write(text)

    def wait_registered(self):
        self.program.wait_log(r"registered successfully|\[1 binding\]")

    def send(self, text):
        """To the friend."""
        os.write(self._keys, b"/message " + text.encode() + b"\n")

    def wait_received(self, sender, text, timeout=10):
        self.program.wait_log(r"%s@example\.org: \"%s\"" % (
            re.escape(sender), re.escape(text)), timeout)

    def received(self):
        """Texts of all messages, in order."""
        return re.findall(r'@example\.org: "(.*)"', self.program.log())

    def close(self):
        self.program.stop()
        os.close(self._keys)


class Linphone:
    """A linphone-daemon that is registered as user."""

    def __init__(self, stack, user, directory):
        need("linphone-daemon")
        # over UDP it leaves Content-Length out where there is no body
        stack.expect_log(r"sanity .*content length header missing")
        self.directory = os.path.join(str(directory), "linphone-" + user)
        for name in (".config/linphone", ".local/share/linphone"):
            os.makedirs(os.path.join(self.directory, name))
        with open(os.path.join(self.directory, "rc"), "w") as f:
            f.write("\n".join([
                "[sip]", "sip_port=%d" % free_port(), "sip_tcp_port=-1",
                "sip_tls_port=-1", "default_proxy=0", "use_ipv6=0",
                "guess_hostname=0", "contact=sip:%s@%s" % (user, HOST),
                "[net]", "dns_srv_enabled=0", "firewall_policy=0",
                "[misc]", "log_collection_upload_server_url=",
                "version_check_url_root=",
                "[proxy_0]",
                "reg_proxy=<sip:%s:%d;transport=udp>" % (HOST, stack.sip_port),
                "reg_route=<sip:%s:%d;transport=udp;lr>" % (
                    HOST, stack.sip_port),
                "reg_identity=sip:%s@example.org" % user,
                "reg_expires=600", "reg_sendregister=1", "publish=0", ""]))
        self.program = Program(
            "linphone",
            ["env", "HOME=" + self.directory, "linphone-daemon", "--config",
             os.path.join(self.directory, "rc")],
            self.directory, stdin=subprocess.PIPE)
        self.program.wait_log("daemon-linphone>")

    def command(self, line):
        self.program.process.stdin.write(line.encode() + b"\n")
        self.program.process.stdin.flush()

    def wait_registered(self):
        def ok():
            offset = len(self.program.log().encode())
            self.command("register-status ALL")
            found = self.program.wait_log(r"State: (\w+)", 5, offset)
            return found[1] == "LinphoneRegistrationOk"
        wait_until(ok, 10, "linphone is registered")

    def send(self, user, text):
        self.command("message sip:%s@example.org %s" % (user, text))

    def wait_sent(self, timeout=10):
        """Until a message was taken: by the other side, or by a 202."""
        self.program.wait_log(
            r"State: LinphoneChatMessageState(Delivered|Displayed)", timeout)

    def wait_received(self, sender, text, timeout=10):
        self.program.wait_log(
            r"From: sip:%s@example\.org\s+To: \S+\s+Id: \S+\s+Content: \"%s\""
            % (re.escape(sender), re.escape(text)), timeout)

    def received(self):
        return re.findall(r'Content: "(.*)"', self.program.log())

    def close(self):
        self.command("quit")
        try:
            self.program.process.wait(5)
        except subprocess.TimeoutExpired:
            self.program.kill()
        self.program.expect_none_left()
