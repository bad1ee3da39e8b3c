# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's web page, in a headless Chromium."""

import re
import urllib.parse

import pytest

import page
from page import Keys
from test_admin_http import Admin

T0 = 1700000000123  # 2023-11-14T22:13:20.123Z
LATER = 4000000000000
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
IMAGE_WORD = '"><img/src=x/onerror=alert(1)>'
NOTHING_QUEUED = r"/v1/queues/.* 404 "


def put(aor, n, **words):
    message = {"id": "m%d" % n, "sender": "sip:alice@example.org",
               "to": aor, "subject": "Subject %d" % n, "type": "text/plain",
               "conversation": "conv", "contribution": "contrib",
               "body": "Hello", "received": T0 + n}
    message.update(words)
    return ("put", aor, message["id"], message["received"], LATER,
            message["sender"], message["to"], message["subject"],
            message["type"], message["conversation"],
            message["contribution"], message["body"])


def dead(aor, n, error="486 Busy Here", **words):
    made = put(aor, n, **words)
    return [made, ("lease", aor, "t", 60000),
            ("dead", aor, made[2], "t", error)]


def route(view, **words):
    return "#/%s?%s" % (view, "&".join(
        "%s=%s" % (k, urllib.parse.quote(v, safe=""))
        for k, v in words.items()))


def message_path(aor, ident=None):
    path = "/v1/queues/%s/messages" % urllib.parse.quote(aor, safe="")
    return path if ident is None else "%s/%s" % (
        path, urllib.parse.quote(ident, safe=""))


def row_of(aor):
    return "tr:has(a[href*='%s'])" % urllib.parse.quote(aor, safe="")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = page.Browser(page.directory(tmp_path_factory.mktemp("page")))
    yield chromium
    chromium.quit()


@pytest.fixture
def browser(chromium):
    chromium.expected = []
    chromium.screen(1280, 800)
    yield chromium
    chromium.clean()


@pytest.fixture(scope="module")
def desk(tmp_path_factory, seed_program):
    """A worker without tokens that shows bodies; each test has users of its
    own."""
    desk = Admin(tmp_path_factory.mktemp("desk"), seed_program)
    try:
        yield desk.start(admin_bodies=1)
    finally:
        desk.close()


@pytest.fixture
def guarded(tmp_path, seed_program):
    tokens = tmp_path / "tokens"
    tokens.write_text("read reader-token\nread-write writer-token\n")
    tokens.chmod(0o600)
    guarded = Admin(tmp_path, seed_program)
    try:
        yield guarded.start(admin_token_file=str(tokens))
    finally:
        guarded.close()


# ---- what is served


def test_the_page_comes_with_a_strict_policy(desk):
    for path, kind in (("/", "text/html"), ("/style.css", "text/css"),
                       ("/app.js", "text/javascript"),
                       ("/icon.svg", "image/svg+xml")):
        answer = desk.http(path)
        assert answer.status == 200 and answer.type == kind
        rules = dict(rule.strip().split(" ", 1) for rule in
                     answer.header("Content-Security-Policy").split(";"))
        for name in ("default-src", "frame-ancestors", "base-uri",
                     "form-action", "trusted-types"):
            assert rules[name] == "'none'", name
        for name in ("script-src", "style-src", "connect-src", "img-src"):
            assert rules[name] == "'self'", name
        assert rules["require-trusted-types-for"] == "'script'"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Referrer-Policy") == "no-referrer"
        assert answer.header("Cache-Control") == "no-cache"
        again = desk.http(path, headers={"If-None-Match":
                                         answer.header("ETag")})
        assert (again.status, again.text) == (304, "")
        assert again.header("ETag") == answer.header("ETag")
        other = desk.http(path, headers={"If-None-Match": '"another"'})
        assert (other.status, other.text) == (200, answer.text)
        head = desk.http(path, "HEAD")
        assert (head.status, head.text) == (200, "")
        assert int(head.header("Content-Length")) == len(
            answer.text.encode())
        assert desk.refused(path, 405, method="POST").header(
            "Allow") == "GET, HEAD"


def test_its_files_name_nobody_else_and_make_no_markup(desk):
    text = "".join(desk.http(p).text for p in ("/", "/style.css", "/app.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|"
        r"createContextualFragment|DOMParser|\beval\(|new Function|"
        r"javascript:|localStorage|document\.cookie", text)
    assert re.findall(r"https?://[^\s\"')]+", text.replace(
        "http://www.w3.org/2000/svg", "")) == []
    html = desk.http("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", html)


def test_a_wrong_token_is_told_so_at_the_page_too(guarded):
    assert guarded.http("/").header("Cpm-Pf-Right") == "none"
    for token, right in (("reader-token", "read"),
                         ("writer-token", "read-write")):
        assert guarded.http("/", headers={
            "Authorization": "Bearer " + token}).header(
                "Cpm-Pf-Right") == right
    guarded.refused("/", 401, headers={"Authorization": "Bearer x"})


# ---- what is shown


def test_the_overview_shows_the_numbers_and_follows_them(browser, desk):
    before = desk.get("/v1/queues?limit=500")["items"]
    desk.seed(*[put("sip:overview@example.org", n) for n in range(3)])
    total = 3 + sum(q["messages"] for q in before)
    browser.open(desk.port)
    browser.says(str(total), "[data-tile=messages]")
    browser.says("up", "[data-tile=redis]")
    browser.says("Ready", ".warnings")
    browser.says("live", "#live")
    assert "Overview" in browser.driver.title
    desk.seed(put("sip:overview@example.org", 3))
    browser.poll()
    browser.says(str(total + 1), "[data-tile=messages]")
    browser.click("summary")
    browser.says("cpm_pf_queue_messages", "details td")


def test_charts_are_drawn_from_the_counters(browser, shared, user):
    bob = user()
    alice = shared.ua("alice")
    browser.open(shared.admin_port)
    browser.one("[data-chart=queued]")

    def now():
        label = browser.js("return document.querySelector("
                           "'[data-chart=queued] svg').ariaLabel")
        alice.message("sip:%s@example.org" % bob, b"x")
        return re.search(r"Queued: (0\.[1-9]|[1-9]\S*) a second now", label)
    browser.wait(now, "the chart of queued messages shows a rate", 20)
    assert browser.js("return document.querySelector("
                      "'[data-chart=queued] .curve').getAttribute('d')")
    browser.says("/s", "[data-chart=queued] .rate")


def test_a_queue_is_listed_opened_and_its_message_told(browser, desk):
    bob = "sip:list@example.org"
    desk.seed(*dead(bob, 1), put(bob, 2, subject=""),
              put(bob, 3, body="Text"))
    browser.open(desk.port, route("queues", prefix=bob))
    browser.says("2 queued", "td .pill")
    browser.says("1 dead", "td .pill")
    browser.click("td a", bob)
    browser.says(bob, "h1")
    assert browser.one("[data-tab=dead]").text.split() == ["Dead", "1"]
    assert len(browser.texts("tbody tr")) == 3
    browser.says("(no subject)", "td a")
    when = browser.one("td time")
    assert when.get_attribute("title") == "2023-11-14 22:13:20.124 UTC"
    assert re.match(r"[\d,]+ days ago", when.text)
    browser.click("[data-tab=dead]")
    browser.says("1 message", ".below")
    assert len(browser.texts("tbody tr")) == 1
    browser.click("td a", "Subject 1")
    browser.says("Subject 1", "h1")
    for text in ("Received", "1 attempt", "486 Busy Here", "Given up",
                 "Expires"):
        browser.says(text, ".story")
    for text in ("sip:alice@example.org", bob, "text/plain", "5 bytes", "m1",
                 "conv", "contrib"):
        browser.says(text, ".facts")
    browser.driver.back()
    browser.says("1 message", ".below")
    browser.driver.back()
    browser.says("3 messages", ".below")
    browser.driver.refresh()
    browser.says("3 messages", ".below")
    assert bob in browser.driver.title


def test_a_body_is_shown_when_asked_for_as_text_or_hex(browser, desk):
    bob = "sip:body@example.org"
    text = "One\r\n<b>two</b> \u202e" + SCRIPT
    desk.seed(put(bob, 1, body=text), put(bob, 2, body=b"\xff\x00\x01PNG"))
    browser.open(desk.port, route("message", user=bob, id="m1"))
    browser.says("Not loaded")
    browser.logs()
    assert not any("include=body" in url for _, url, _ in browser.requests)
    browser.click("[data-do=body]")
    assert browser.one("pre.body").text.split("\n") == [
        "One", "<b>two</b> \\u{202e}" + SCRIPT]
    browser.click("[data-do=hex]")
    browser.says("3c 62 3e", "pre.body")
    browser.go(route("message", user=bob, id="m2"))
    browser.says("Subject 2", "h1")
    browser.click("[data-do=body]")
    browser.says("000000  ff 00 01 50 4e 47", "pre.body")
    browser.none("[data-do=hex]")


def test_users_are_found_by_how_they_begin_and_exactly(browser, desk):
    desk.seed(*[put("sip:find-%s@example.org" % n, 1)
                for n in ("anna", "anton", "berta")])
    desk.seed(put("tel:+4930777", 1))
    browser.open(desk.port)
    browser.type("#q", "find-an" + Keys.ENTER)
    browser.says("2 queues", ".below")
    assert sorted(browser.texts("td.lead")) == [
        "sip:find-anna@example.org", "sip:find-anton@example.org"]
    browser.click("#how option[value=exact]")
    browser.type("#q", "find-berta@EXAMPLE.org" + Keys.ENTER)
    browser.says("sip:find-berta@example.org", "h1")
    browser.type("#q", "+49 (30) 777" + Keys.ENTER)
    browser.says("tel:+4930777", "h1")
    browser.says("1 message", ".below")
    browser.expected.append(NOTHING_QUEUED)
    browser.type("#q", "find-nobody@example.org" + Keys.ENTER)
    browser.says("Nothing is queued", ".empty")
    browser.expected.append(r"/v1/queues/.* 400 ")
    browser.type("#q", "mailto:x@example.org" + Keys.ENTER)
    browser.says("not a canonical address", ".problem")
    browser.go(route("queues", prefix="sip:find-zz"))
    browser.says("No queue matches", ".empty")


def test_ten_thousand_queues_are_turned_over_page_by_page(browser, desk):
    desk.seed(*[put("sip:many%05d@example.org" % n, 1)
                for n in range(10000)])
    browser.open(desk.port, "#/queues?prefix=sip%3Amany")
    seen = []
    for number in (1, 2, 3):
        if number > 1:
            browser.click(".pages a", "Next")
        browser.says("Page %d" % number, ".below")
        browser.wait(lambda: len(browser.all("tbody tr")) == 50, "50 rows")
        seen.append(browser.texts("td.lead"))
    assert len(set(sum(seen, []))) == 150
    browser.click(".pages a", "Previous")
    browser.says("Page 2", ".below")
    browser.wait(lambda: browser.texts("td.lead") == seen[1], "page 2 again")
    browser.driver.refresh()
    browser.wait(lambda: browser.texts("td.lead") == seen[1], "page 2 again")
    browser.click(".pages a", "First")
    browser.wait(lambda: browser.texts("td.lead") == seen[0], "page 1 again")
    browser.go("#/")
    browser.wait(lambda: int(browser.one("[data-tile=users] .value").text
                             .replace(",", "")) >= 10000, "10,000 users")
    browser.type("#q", "many07777" + Keys.ENTER)
    browser.says("1 queue", ".below")


def test_what_is_new_comes_by_itself_and_nothing_moves(browser, desk):
    bob = "sip:poll@example.org"
    desk.seed(*[put(bob, n) for n in range(1, 30)])
    browser.open(desk.port, route("queue", user=bob))
    browser.says("29 messages", ".below")
    browser.js("const a = document.querySelectorAll('td a')[9]; a.focus();"
               "a.id = 'marked'; scrollTo(0, 300)")
    was = browser.js("return marked.getBoundingClientRect().top")
    desk.seed(put(bob, 30))
    browser.says("30 messages", ".below")
    assert browser.js("return document.activeElement.id") == "marked"
    assert browser.js("return marked.getBoundingClientRect().top") == was


# ---- what is done


def test_a_dead_letter_is_requeued(browser, desk):
    bob = "sip:requeue@example.org"
    desk.seed(*dead(bob, 1), *dead(bob, 2))
    browser.open(desk.port, "#/dead")
    browser.one("td a", bob)
    browser.click(row_of(bob) + " [data-do=requeue][aria-label$=m1]")
    browser.says("Subject 1", "dialog")
    browser.click("dialog button[type=submit]")
    browser.says("queued again", ".toast")
    browser.none(row_of(bob), "Subject 1")
    assert desk.get(message_path(bob, "m1"))["state"] == "queued"
    browser.go(route("message", user=bob, id="m2"))
    browser.click("[data-do=requeue]")
    browser.click("dialog button[type=submit]")
    browser.says("queued", "main .sub .pill")
    browser.none("[data-do=requeue]")
    assert desk.get(message_path(bob, "m2"))["state"] == "queued"


def test_a_message_is_discarded_after_a_question(browser, desk):
    bob = "sip:discard@example.org"
    desk.seed(put(bob, 1), put(bob, 2), put(bob, 3))
    browser.open(desk.port, route("queue", user=bob))
    browser.click("[data-do=discard][aria-label$=m2]")
    browser.click("dialog button", "Cancel")
    browser.none("dialog")
    assert len(desk.get(message_path(bob))["items"]) == 3
    browser.click("[data-do=discard][aria-label$=m2]")
    browser.click("dialog button", "Discard")
    browser.none("td", "Subject 2")
    browser.says("2 messages", ".below")
    assert [m["id"] for m in desk.get(message_path(bob))["items"]] == [
        "m1", "m3"]
    browser.click("td a", "Subject 3")
    browser.expected.append(NOTHING_QUEUED)
    browser.click("main .actions [data-do=discard]")
    browser.click("dialog button", "Discard")
    browser.says(bob, "h1")
    browser.says("1 message", ".below")
    browser.go(route("message", user=bob, id="m3"))
    browser.says("This message is not queued", ".empty")


def test_a_flush_is_asked_for_with_its_mode(browser, desk):
    bob = "sip:flush@example.org"
    desk.seed(put(bob, 1))
    browser.open(desk.port, route("queue", user=bob))
    for mode in ("push", "notify"):
        browser.says("1 message", ".below")
        browser.click("[data-do=flush]")
        browser.click("dialog input[value=%s]" % mode)
        browser.click("dialog button[type=submit]")
        browser.none("dialog")
        browser.says("has been asked for", ".toast")
    browser.logs()
    assert [body for method, url, body in browser.requests
            if method == "POST" and url.endswith("/flush")] == [
                '{"mode":"push"}', '{"mode":"notify"}']


def test_a_queue_is_purged_by_who_types_its_number_or_name(browser, desk):
    bob = "sip:purge@example.org"
    for word in ("12", bob):
        desk.seed(*[put(bob, n) for n in range(12)])
        browser.open(desk.port, route("queue", user=bob))
        browser.says("12 messages", ".below")
        browser.click("[data-do=purge]")
        button = browser.one("dialog button[type=submit]")
        for wrong in ("", "1", "sip:purge", "twelve"):
            browser.type("#purge", wrong + Keys.ENTER)
            assert not button.is_enabled(), wrong
        assert len(desk.get(message_path(bob))["items"]) == 12
        browser.expected.append(NOTHING_QUEUED)
        browser.type("#purge", word)
        button.click()
        browser.says("12 messages were removed", ".toast")
        browser.says("Nothing is queued", ".empty")
        assert desk.get(message_path(bob))["items"] == []


def test_a_job_is_dropped(browser, desk):
    bob = "sip:job@example.org"
    desk.seed(put(bob, 1), ("interwork", bob, "m1"))
    browser.open(desk.port, "#/jobs")
    browser.says("Interworking", row_of(bob))
    browser.click(row_of(bob) + " [data-do=again]")
    browser.click("dialog button[type=submit]")
    browser.says("due now", ".toast")
    browser.click(row_of(bob) + " [data-do=drop]")
    browser.click("dialog button[type=submit]")
    browser.none(row_of(bob))
    assert bob not in [j["user"] for j in desk.get("/v1/jobs")["items"]]


# ---- tokens


def test_a_token_is_asked_for_and_kept_for_the_session_only(
        browser, guarded):
    bob = "sip:bob@example.org"
    guarded.seed(*dead(bob, 1))
    browser.expected.append(r" 401 ")
    browser.open(guarded.port, "#/queues")
    browser.one("dialog #token")
    browser.none("td", bob)
    browser.token("wrong-token")
    browser.says("does not accept this token", "dialog .wrong")
    browser.token("has space")
    browser.says("no spaces", "dialog .wrong")
    browser.press(Keys.ESCAPE)
    browser.none("dialog")
    browser.says("A token is needed", ".problem")
    browser.click(".problem button", "Enter token")
    browser.token("writer-token")
    browser.says(bob, "td")
    browser.none("dialog")
    browser.driver.refresh()
    browser.says(bob, "td")
    assert browser.js("return [localStorage.length, document.cookie, "
                      "sessionStorage.token]") == [0, "", "writer-token"]
    assert "writer-token" not in browser.driver.page_source
    browser.go(route("queue", user=bob))
    browser.click("[data-do=requeue]")
    browser.click("dialog button[type=submit]")
    browser.says("queued again", ".toast")
    browser.click("#token-button")
    browser.click("dialog button", "Forget")
    browser.says("A token is needed", ".problem")
    assert browser.js("return sessionStorage.token") is None
    browser.open(guarded.port, "#/queues")
    browser.one("dialog #token")
    assert "token" not in guarded.worker.log().replace("admin_token", "")


def test_a_token_that_is_taken_away_is_asked_for_again(browser, guarded):
    guarded.seed(put("sip:bob@example.org", 1))
    browser.expected.append(r" 401 ")
    browser.open(guarded.port, "#/queues")
    browser.token("reader-token")
    browser.says("1 queue", ".below")
    browser.js("sessionStorage.token = 'old-token'")
    browser.poll()
    browser.says("does not accept this token", "dialog .wrong")
    assert browser.js("return sessionStorage.token") is None


def test_a_read_only_token_shows_no_action(browser, guarded):
    bob = "sip:bob@example.org"
    guarded.seed(*dead(bob, 1))
    browser.expected.append(r" 401 ")
    browser.open(guarded.port, route("queue", user=bob))
    browser.token("reader-token")
    browser.says("Subject 1", "td")
    browser.says("read only", "#right")
    for view in (route("queue", user=bob), "#/dead",
                 route("message", user=bob, id="m1")):
        browser.go(view)
        browser.says("Subject 1")
        browser.none("[data-do]:not([data-do=body])")


def test_an_action_that_is_refused_says_so_in_its_place(browser, guarded):
    """The right was lost while the question was on the screen."""
    bob = "sip:bob@example.org"
    guarded.seed(*dead(bob, 1))
    browser.expected += [r" 401 ", r" 403 "]
    browser.open(guarded.port, route("queue", user=bob))
    browser.token("writer-token")
    browser.click("[data-do=discard]")
    browser.js("sessionStorage.token = 'reader-token'")
    browser.click("dialog button", "Discard")
    browser.says("may only read", "dialog .wrong")
    browser.click("dialog button", "Cancel")
    browser.none("[data-do=discard]")
    assert guarded.get(message_path(bob, "m1"), headers={
        "Authorization": "Bearer reader-token"})["state"] == "dead"


# ---- strangers


HOSTILE = [
    "sip:'-alert(1)-'@example.org",
    "sip:a&user=b+c?d/e;f=g,h@example.org",
    "sip:%3Cimg%20src=x%20onerror=alert(1)%3E@example.org",
    "sip:constructor@example.org",
    "sip:%22%3E%3Cscript%3Ealert(1)%3C/script%3E@example.org",
]


def no_markup(browser):
    assert browser.js(
        "return document.querySelectorAll('main img, main script, main b, "
        "body script, iframe, [onerror], [style]').length") == 0


@pytest.mark.parametrize("aor", HOSTILE)
def test_hostile_users_are_text(browser, desk, aor):
    desk.seed(*dead(aor, 1))
    browser.open(desk.port, route("queues", prefix=aor))
    browser.one("td.lead", aor)
    browser.click("td a", aor)
    browser.wait(lambda: browser.one("h1").text == aor, "the name is shown")
    no_markup(browser)
    browser.click("td a", "Subject 1")
    browser.says("Given up", ".story")
    browser.click("[data-do=discard]")
    browser.expected.append(NOTHING_QUEUED)
    browser.click("dialog button", "Discard")
    browser.says("Nothing is queued", ".empty")
    no_markup(browser)


@pytest.mark.parametrize("text,word", [
    (SCRIPT, SCRIPT), (IMAGE, IMAGE_WORD), ("</title><b>", "%00%2f..%2F"),
    ("javascript:alert(1)", "__proto__")])
def test_hostile_fields_are_text(browser, desk, text, word):
    bob = "sip:fields%d@example.org" % len(text)
    fields = dict(id=word, sender=text, to=text, subject=text, type=text,
                  conversation=text, contribution=text, body=text)
    desk.seed(*dead(bob, 1, error=text, **fields),
              put(bob, 2, **dict(fields, id=word + "2")),
              ("interwork", bob, word + "2"))
    browser.open(desk.port, route("queue", user=bob))
    assert browser.one("td.lead a").text == text
    browser.says("from " + text, "td.lead")
    browser.click("[data-do=discard]")
    browser.says(text, "dialog .quote")
    browser.says(word, "dialog .quote")
    no_markup(browser)
    browser.press(Keys.ESCAPE)
    browser.none("dialog")
    browser.click("td.lead a")
    browser.says(text, "h1")
    facts = browser.texts(".facts dd")
    assert facts == [text, text, text, text, "%d bytes" % len(text), word,
                     text, text]
    browser.says(text, ".story .error")
    browser.click("[data-do=body]")
    assert browser.one("pre.body").text == text
    no_markup(browser)
    browser.go("#/dead")
    browser.says(text, "td.lead")
    browser.go("#/jobs")
    browser.says(word + "2", "td")
    no_markup(browser)
    browser.click(row_of(bob) + " [data-do=drop]")
    browser.click("dialog button[type=submit]")
    browser.none("td", word + "2")
    browser.go(route("message", user=bob, id=word))
    browser.click("[data-do=requeue]")
    browser.click("dialog button[type=submit]")
    browser.says("queued", "main .sub .pill")
    assert desk.get(message_path(bob, word))["state"] == "queued"
    browser.go("#/" + text)
    browser.says("nothing at this address")
    no_markup(browser)


def test_what_cannot_be_seen_is_shown_by_number(browser, desk):
    bob = "sip:bidi@example.org"
    desk.seed(put(bob, 1, subject="pay\u202egpj.exe\u200b\u0007!",
                  sender="sip:\u2066alice@example.org"))
    browser.open(desk.port, route("queue", user=bob))
    browser.says("pay\\u{202e}gpj.exe\\u{200b}\\u{0007}!", "td.lead")
    browser.says("sip:\\u{2066}alice@example.org", "td.lead")


@pytest.mark.parametrize("ident", [".", ".."])
def test_an_id_that_no_browser_can_send_reaches_no_other(
        browser, desk, ident):
    """A browser makes /messages/.. into another path before it asks."""
    bob = "sip:dots%d@example.org" % len(ident)
    desk.seed(put(bob, 1, id=ident), put(bob, 2))
    browser.open(desk.port, route("queue", user=bob))
    browser.click("[data-do=discard]")
    browser.click("dialog button", "Discard")
    browser.says("kamcmd", "dialog .wrong")
    browser.press(Keys.ESCAPE)
    browser.none("dialog")
    browser.click("td a", "Subject 1")
    browser.says("kamcmd", ".problem")
    assert len(desk.get(message_path(bob))["items"]) == 2


# ---- faults


def test_what_went_wrong_stands_in_its_place_with_a_retry(
        browser, guarded):
    bob = "sip:bob@example.org"
    guarded.seed(put(bob, 1))
    browser.expected += [r" 401 ", r" 503 ", r"ERR_CONNECTION_REFUSED"]
    browser.open(guarded.port, route("queue", user=bob))
    browser.token("writer-token")
    browser.says("1 message", ".below")
    top = browser.js("return document.querySelector('td').offsetTop")
    guarded.redis.stop()
    browser.poll()
    browser.says("Redis down", "#live")
    browser.says("redis", ".problem")
    # what was shown stays, and stays where it was
    browser.says("Subject 1", "td")
    assert browser.js("return document.querySelector('td').offsetTop") == top
    browser.go("#/dead")
    browser.says("Service Unavailable", ".problem")
    browser.none("td")
    browser.go("#/")
    browser.says("Not ready", ".warnings")
    browser.says("down", "[data-tile=redis]")
    browser.go("#/queues")
    browser.says("Service Unavailable", ".problem")
    guarded.redis.start()
    browser.click(".problem button", "Retry")
    browser.says("1 queue", ".below")
    browser.none(".problem")
    guarded.worker.stop()
    browser.poll()
    browser.says("no answer", "#live")
    browser.says("did not answer", ".problem")


# ---- hands and eyes


def test_all_can_be_done_with_the_keyboard(browser, desk):
    bob = "sip:keys@example.org"
    desk.seed(*dead(bob, 1), put(bob, 2))
    browser.open(desk.port)
    browser.says("live", "#live")
    browser.press(Keys.TAB)
    assert browser.focused() == "Skip to the content"
    assert browser.one("#skip").is_displayed()
    browser.press(Keys.ENTER)
    assert browser.js("return document.activeElement.id") == "main"
    browser.press("/")
    assert browser.js("return document.activeElement.id") == "q"
    browser.press("keys", Keys.ENTER)
    browser.says("1 queue", ".below")
    assert browser.focused() == "Queues"
    browser.tab_to(bob)
    assert browser.js("return getComputedStyle(document.activeElement)"
                      ".outlineStyle") == "solid"
    browser.press(Keys.ENTER)
    browser.says("2 messages", ".below")
    assert browser.focused() == bob
    browser.tab_to("Requeue message m1")
    browser.press(Keys.ENTER)
    browser.one("dialog")
    assert browser.focused() == "Cancel"
    seen = set()
    for _ in range(6):
        browser.press(Keys.TAB)
        seen.add(browser.focused())
    assert seen == {"Cancel", "Requeue"}
    browser.press(Keys.ESCAPE)
    browser.none("dialog")
    assert browser.focused() == "Requeue message m1"
    browser.press(Keys.ENTER)
    browser.one("dialog")
    browser.tab_to("Requeue")
    browser.press(Keys.ENTER)
    browser.says("queued again", ".toast")
    assert desk.get(message_path(bob, "m1"))["state"] == "queued"
    browser.tab_to("Purge", back=True)
    browser.press(Keys.ENTER)
    browser.one("dialog")
    browser.expected.append(NOTHING_QUEUED)
    browser.press("2", Keys.ENTER)
    browser.says("Nothing is queued", ".empty")


def test_names_and_roles_are_there_for_who_does_not_see(browser, desk):
    bob = "sip:roles@example.org"
    desk.seed(*dead(bob, 1))
    browser.open(desk.port, route("queue", user=bob))
    browser.says("1 message", ".below")
    assert browser.js("return document.documentElement.lang") == "en"
    assert browser.js("return document.querySelectorAll('h1').length") == 1
    for width in (1280, 360):
        browser.screen(width, 740)
        nodes = browser.cdp("Accessibility.getFullAXTree")["nodes"]
        roles = [(n["role"]["value"], n.get("name", {}).get("value", ""))
                 for n in nodes if not n["ignored"]]
        for wanted in (("main", ""), ("navigation", "Views"),
                       ("search", ""), ("heading", bob),
                       ("table", "Messages"), ("columnheader", "State"),
                       ("button", "Requeue message m1")):
            assert wanted in roles, wanted
        nameless = [r for r in roles if not r[1] and r[0] in (
            "button", "link", "textbox", "searchbox", "combobox", "image")]
        assert not nameless


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_phone_shows_all_without_scrolling_sideways(browser, desk, width):
    bob = "sip:%s%d@example.org" % ("narrow" * 20, width)
    desk.seed(*dead(bob, 1, error="E" * 200, id="i" * 100,
                    subject="S" * 300, sender="sip:" + "x" * 200,
                    type="t" * 90, conversation="c" * 100),
              put(bob, 2), put(bob, 3), ("interwork", bob, "m3"))
    browser.screen(width, 740)
    browser.open(desk.port)
    for view, text in (("#/", "Ready"), ("#/queues?prefix=sip:narrow", bob),
                       (route("queue", user=bob), "SSS"), ("#/dead", bob),
                       ("#/jobs", bob),
                       (route("message", user=bob, id="i" * 100), "ccc")):
        browser.go(view)
        browser.says(text, "main")
        browser.fits()
    browser.click("[data-do=discard]")
    browser.one("dialog")
    browser.fits()
    browser.press(Keys.ESCAPE)


CONTRAST = """
const lum = (c) => c.map((v) => v / 255).map((v) => v <= .04045
	? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) =>
	s + v * [.2126, .7152, .0722][i], 0);
const rgb = (t) => t.match(/[\\d.]+/g).map(Number);
const ground = (e) => {
	for(; e; e = e.parentElement) {
		const c = rgb(getComputedStyle(e).backgroundColor);
		if(c.length < 4 || c[3] === 1)
			return c.slice(0, 3);
	}
	return [255, 255, 255];
};
const bad = [];
let n = 0;
for(const e of document.querySelectorAll('body *')) {
	if(!e.checkVisibility() || ![...e.childNodes].some((c) =>
			c.nodeType === 3 && c.textContent.trim()) || e.disabled)
		continue;
	const a = lum(rgb(getComputedStyle(e).color).slice(0, 3));
	const b = lum(ground(e));
	const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
	n++;
	if(ratio < 4.5)
		bad.push([e.tagName, e.className, e.textContent.slice(0, 30),
			ratio.toFixed(2)].join(' '));
}
return [n, bad];
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_light_and_dark(browser, desk, dark):
    bob = "sip:eyes%d@example.org" % dark
    desk.seed(*dead(bob, 1), put(bob, 2), ("lease", bob, "x", 600000),
              *[("put",) + put(bob, n)[1:] for n in (3, 4)])
    browser.screen(1280, 800, dark)
    browser.open(desk.port)
    backgrounds = browser.js(
        "return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", backgrounds))) < 200) == dark
    for view, text in (("#/", "Ready"), (route("queue", user=bob), "leased"),
                       ("#/queues", "queued"),
                       (route("message", user=bob, id="m1"), "Given up")):
        browser.go(view)
        browser.says(text, "main")
        looked_at, bad = browser.js(CONTRAST)
        assert looked_at > 20
        assert not bad
    browser.click("[data-do=discard]")
    browser.one("dialog")
    assert browser.js(CONTRAST)[1] == []
    browser.press(Keys.ESCAPE)
