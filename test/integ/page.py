# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's page in a headless Chromium, as the tests use it."""

import json
import os
import re

from selenium import webdriver
from selenium.common.exceptions import (
    NoAlertPresentException, StaleElementReferenceException)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import harness

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-proxy-server",
         "--disable-default-apps", "--disable-extensions", "--mute-audio",
         "--disable-features=Translate,OptimizationHints,MediaRouter",
         "--hide-scrollbars")


class Browser:
    """One Chromium, and what a person does with it."""

    def __init__(self, directory):
        options = Options()
        options.binary_location = harness.need("chromium")
        for flag in FLAGS + ("--user-data-dir=%s" % directory,):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs",
                               {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(
            harness.need("chromedriver")))
        self.driver.set_page_load_timeout(15)
        self.origin = None
        self.console, self.requests = [], []
        self.expected = []

    def quit(self):
        self.driver.quit()

    # ---- where

    def cdp(self, command, **words):
        return self.driver.execute_cdp_cmd(command, words)

    def screen(self, width, height, dark=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width,
                 height=height, deviceScaleFactor=1, mobile=width < 700)
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme",
             "value": "dark" if dark else "light"}])

    def open(self, port, route=""):
        """Anew: a session without a token."""
        self.origin = "http://127.0.0.1:%d" % port
        self.driver.get(self.origin + "/")
        self.js("sessionStorage.clear()")
        self.driver.get("about:blank")
        self.logs()
        self.console, self.requests = [], []
        self.driver.get(self.origin + "/" + route)
        return self

    def go(self, route):
        self.js("location.hash = arguments[0]", route)

    def poll(self):
        """Does not wait for the page's next poll: as if its tab came up."""
        self.js("document.dispatchEvent(new Event('visibilitychange'))")

    def shot(self, path):
        self.driver.save_screenshot(path)

    # ---- what is there

    def js(self, script, *words):
        return self.driver.execute_script(script, *words)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css):
        return self.js(
            "return [...document.querySelectorAll(arguments[0])].filter("
            "e => e.checkVisibility()).map(e => e.innerText.trim())", css)

    def wait(self, condition, what, timeout=10):
        """The first true value; elements that are made anew in between are
        looked for again."""
        def look():
            try:
                return condition()
            except StaleElementReferenceException:
                return None
        return harness.wait_until(look, timeout, what)

    def one(self, css, text=None, timeout=10):
        """The visible element, the first that has this text."""
        def look():
            for e in self.all(css):
                if e.is_displayed() and (text is None or text in e.text):
                    return e
            return None
        return self.wait(look, "%s with %r is shown" % (css, text), timeout)

    def none(self, css, text=None, timeout=10):
        self.wait(lambda: not [t for t in self.texts(css)
                               if text is None or text in t],
                  "no %s with %r is shown" % (css, text), timeout)

    def says(self, text, css="body", timeout=10):
        return self.one(css, text, timeout)

    # ---- what is done

    def click(self, css, text=None):
        def act():
            self.one(css, text).click()
            return True
        self.wait(act, "click %s" % css)

    def type(self, css, text):
        field = self.one(css)
        field.clear()
        field.send_keys(text)
        return field

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def focused(self):
        """What has the focus, as it would be read out."""
        return self.js(
            "const e = document.activeElement; return e.getAttribute("
            "'aria-label') || e.innerText.trim() || e.id || e.tagName")

    def tab_to(self, text, back=False, limit=80):
        """Tab until what has this text has the focus."""
        seen = []
        for _ in range(limit):
            if text in self.focused():
                return
            chain = ActionChains(self.driver)
            if back:
                chain.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(
                    Keys.SHIFT).perform()
            else:
                chain.send_keys(Keys.TAB).perform()
            seen.append(self.focused())
        raise harness.Failure("Tab never reaches %r: %s" % (text, seen))

    def token(self, text):
        self.type("#token", text)
        self.click("dialog button[type=submit]")

    # ---- what it must not do

    def logs(self):
        self.console += [e["message"] for e in
                         self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            m = json.loads(entry["message"])["message"]
            if m["method"] == "Network.requestWillBeSent":
                r = m["params"]["request"]
                self.requests.append((r["method"], r["url"],
                                      r.get("postData")))

    def clean(self):
        """Failure if a script ran, the policy was broken, or another origin
        was asked. Lines of the console that self.expected has are fine."""
        try:
            text = self.driver.switch_to.alert.text
            raise harness.Failure("alert: %s" % text)
        except NoAlertPresentException:
            pass
        self.logs()
        bad = [line for line in self.console
               if not any(re.search(p, line) for p in self.expected)]
        assert not bad, bad
        away = [url for _, url, _ in self.requests
                if not url.startswith((self.origin + "/", "about:"))]
        assert not away, away

    def fits(self):
        """Failure if the page scrolls sideways."""
        wide, room = self.js("const e = document.documentElement; return ["
                             "e.scrollWidth, e.clientWidth]")
        over = self.js(
            "return [...document.querySelectorAll('body *')].filter(e => "
            "e.getBoundingClientRect().right > innerWidth + 1 && "
            "e.checkVisibility() && !e.closest('.body, .hidden, .skip, "
            ".cards thead')).map(e => e.tagName + '.' + e.className).slice(0, 5)")
        assert wide <= room and not over, (wide, room, over)


def directory(tmp):
    path = os.path.join(str(tmp), "chromium")
    os.makedirs(path, exist_ok=True)
    return path
