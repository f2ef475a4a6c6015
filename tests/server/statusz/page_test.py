#!/usr/bin/env python3
"""The status page in a real browser, against a server that stands in for the coordinator's (stand_in.py):
what it shows, for whom, and what it does when things are odd.

usage: page_test.py PROJECT OUT [TEST...]    screenshots go to OUT; --assets=DIR before: other files of the page
Exit status 77: skipped, says what is missing.
"""
import json
import os
import sys
import time
import unittest

try:
    import google.protobuf  # noqa: F401
    import devtools
    import figures
    import stand_in
    import vitals as made
    import words
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-protobuf)")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT, OUT, ASSETS = None, None, None
pb = None
HOSTILE = '<img src=x onerror="window.hacked=1">'
POKE = "document.dispatchEvent(new Event('visibilitychange'))"  # asks at once


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = devtools.Browser()
        cls.addClassCleanup(cls.browser.__exit__)

    def setUp(self):
        self.server = stand_in.StandIn(PROJECT, ASSETS)
        self.addCleanup(self.server.close)
        self.page = None

    def tearDown(self):
        # Whatever a test looks at: nothing red in the console, nothing that the policy forbade, nothing
        # fetched from elsewhere, and no name of a peer that became more than text.
        if self.page is None:
            return
        errors = [e for e in self.page.errors if not any(word in e for word in self.allowed)]
        self.assertEqual(errors, [])
        self.assertEqual(self.page.evaluate("watched.violations"), [])
        elsewhere = [u for u in self.page.requested if not u.startswith((self.server.url + "/", "data:", "about:"))]
        self.assertEqual(elsewhere, [])
        self.assertIsNone(self.page.evaluate("window.hacked ?? null"))
        self.page.close()

    allowed = ()  # parts of errors that the browser itself writes about answers that a test spoils

    def open(self, *groups, hash="", **look):
        vitals = look.pop("vitals", None)
        if vitals is None:
            vitals = made.vitals(pb, groups)
        self.server.vitals = vitals
        self.page = self.browser.page(**look)
        self.page.open(f"{self.server.url}/statusz{hash}")
        self.page.wait("document.querySelector('#answer.fine')", "the first answer")
        return self.page

    def group(self, *args, **kwargs):
        return made.group(pb, *args, **kwargs)

    def settle(self):
        """No answer changes what stands there any more."""
        self.page.evaluate("document.querySelector('#pause').textContent === 'Pause' && document.querySelector('#pause').click()")
        time.sleep(0.1)

    def check_figures(self, *must):
        self.settle()
        wrong, seen = figures.wrong(self.page)
        self.assertEqual(wrong, [])
        self.assertEqual(set(must) - seen, set(), "not on the page")
        return seen

    def check_fits(self):
        # Not innerWidth, which a phone makes larger where the page is too wide.
        wide, room = self.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        self.assertLessEqual(wide, room)

    def check_contrast(self, at_least=100):
        with open(os.path.join(HERE, "contrast.js"), encoding="utf-8") as f:
            found = self.page.evaluate(f.read())
        self.assertEqual(found["low"], [])
        self.assertGreaterEqual(found["checked"], at_least)

    # What it says.

    def test_every_figure_is_the_answers_own(self):
        failures = [(312.0, "world", "group \"world\" epoch 2 round 40: rank 2 sent layer4.bn")]
        groups = [self.group(ranks=8, late=2, open_rounds=[("layer3.bn", 0.021, [2], 1)]), self.group("a.b", ranks=2, seed=6)]
        self.open(vitals=made.vitals(pb, groups, failures=failures, refused=[pb.RefusedReport(reason="no_token", calls=7)]))
        seen = self.check_figures(
            "recent.rounds_per_s", "recent.p50_s", "recent.p99_s", "counters.completed", "counters.failed", "member.2.recent_last",
            "member.2.recent_late_mean_s", "member.7.late_max_s", "member.0.heard_s", "open.0.open_s", "layers.4.drift.shift",
            "layers.8.drift.spread", "layers.4.wait_s", "failures.0.ended_s", "up_s", "status.streams", "security.refused.0.calls",
            "group.world.recent.p99_s", "group.a.b.counters.failed", "durations.buckets.9.rounds")
        self.assertGreater(len(seen), 150)

    def test_the_late_rank_is_named_in_words(self):
        page = self.open(self.group(ranks=4, late=2, hosts="h"))
        said = page.text("#verdict").replace(words.NB, " ")
        self.assertIn("rank 2 (host h): last in 91 % of rounds, 48.0 ms late on average", said)
        self.assertIn("LATE", said)
        self.assertIn("rank 2 (host h) is late", page.text("#said").replace(words.NB, " "))
        self.assertEqual(page.evaluate("document.title").replace(words.NB, " "), "▲ rank 2 (host h) is late · world · syncnorm")
        self.assertIn("▲ late", page.text("#members tr.late-row"))
        self.assertEqual(page.evaluate("document.querySelectorAll('#members tr.late-row').length"), 1)

    def test_where_nobody_is_late_it_says_so(self):
        page = self.open(self.group(ranks=4))
        self.assertIn("nobody is late", page.text("#verdict"))
        self.assertNotIn("▲", page.text("main"))
        self.assertNotIn("▲", page.evaluate("document.title"))

    def test_a_part_of_a_millisecond_is_not_late(self):
        group = self.group(ranks=4)
        group.members[3].recent_late_mean_s = 0.9e-3
        for m in group.members[:3]:
            m.recent_late_mean_s = 20e-6
        self.assertIn("nobody is late; the latest is rank 3", self.open(group).text("#verdict").replace(words.NB, " "))

    def test_all_equally_late_are_not_late(self):
        group = self.group(ranks=4)
        for m in group.members:
            m.recent_late_mean_s = 0.02 + 0.001 * m.rank
        self.assertIn("nobody is late", self.open(group).text("#verdict"))

    def test_several_late_ranks_are_named_the_latest_first_and_the_rest_counted(self):
        group = self.group(ranks=16)
        for rank, late_s in ((3, 0.1), (5, 0.3), (9, 0.2), (11, 0.05)):
            group.members[rank].recent_late_mean_s = late_s
        page = self.open(group)
        lines = page.evaluate("[...document.querySelectorAll('#verdict li')].map((l) => l.innerText)")
        self.assertEqual([line.split("rank")[1][:2].strip(words.NB + " ") for line in lines[:3]], ["5", "9", "3"])
        self.assertIn("1 more ranks are late", lines[3])

    def test_a_round_that_waits_is_said_first(self):
        page = self.open(self.group(ranks=4, late=1, open_rounds=[("stem.bn", 12.0, [1, 3], 2), ("b", 1.5, [3], 1)]))
        said = page.text("#verdict").replace(words.NB, " ")
        self.assertIn("layer stem.bn: waits for ranks 1 and 3 since 12.0 s; 1 more below", said.splitlines()[1])
        self.assertIn("rank 3 (host gpu-1)", page.text("#open tbody tr:nth-child(2)").replace(words.NB, " "))

    def test_states_of_groups_and_members_are_words(self):
        forming = self.group("forming", ranks=3, state="forming")
        forming.members[1].state = "absent"
        lost = self.group("lost", ranks=3)
        lost.members[2].state = "lost"
        away = self.group("away", ranks=3)
        away.members[0].state = "away"
        quiet = self.group("quiet", ranks=2)
        quiet.recent.rounds_per_s = 0
        quiet.recent.ClearField("p50_s")
        quiet.recent.ClearField("p99_s")
        for m in quiet.members:
            m.recent_rounds = m.recent_last = m.recent_late_mean_s = 0
        page = self.open(forming, lost, away, quiet, self.group("closed", ranks=2, state="closed"))
        for name, expected in (("forming", "2 of 3 members are here; waits for rank 1"), ("lost", "rank 2 did not come back"),
                               ("away", "rank 0: the connection broke, and may come back"),
                               ("quiet", "no round was completed in the last 1 min"), ("closed", "this epoch is over")):
            page.evaluate(f"location.hash = '#group={name}'")
            page.wait(f"document.querySelector('#group-name').textContent === 'Group {name}'", name)
            self.assertIn(expected, page.text("#verdict").replace(words.NB, " "))
        self.check_figures()

    def test_of_a_name_the_latest_epoch_is_shown(self):
        before, after, other = self.group(ranks=4, late=1, state="closed"), self.group(ranks=3), self.group("b", ranks=2)
        before.epoch, after.epoch = 7, 8
        page = self.open(before, other, after)
        self.assertIn("epoch 8, 3 of 3 members", page.text("#group-about"))
        self.assertIn("nobody is late", page.text("#verdict"))
        self.assertEqual(page.evaluate("[...document.querySelectorAll('#groups a')].map((a) => a.textContent)"), ["world", "b"])
        self.check_figures("group.world.recent.p99_s", "member.2.rounds")

    def test_security_and_draining_are_badges_in_words(self):
        vitals = made.vitals(pb, [self.group()], insecure=True, tls=False, tokens=False)
        vitals.security.ClearField("certificate_left_s")
        vitals.draining = True
        page = self.open(vitals=vitals)
        badges = page.text("#badges")
        for text in ("draining", "insecure: other machines reach it in plaintext", "no tokens"):
            self.assertIn(text, badges)
        self.assertNotIn("certificate", badges)
        for left, kind, text in ((40 * 86400.0, "fine", "certificate ends in 40 d"), (3 * 86400.0, "late", "certificate ends in 3 d"),
                                 (-7200.0, "bad", "certificate ended 2 h ago")):
            self.server.vitals = made.vitals(pb, [self.group()], certificate_left_s=left)
            page.evaluate(POKE)
            page.wait(f"document.querySelector('.badge.{kind}')?.innerText.replaceAll('\\u00a0', ' ').includes('{text}')", text)

    def test_a_layer_without_means_has_no_shift_and_odd_numbers_are_written(self):
        group = self.group(ranks=2, layers=6)
        group.layers[0].drift.shift = float("nan")
        group.layers[2].drift.spread = float("inf")
        page = self.open(group)
        rows = page.evaluate("[...document.querySelectorAll('#drift tbody tr')].map((r) => r.innerText)")
        row = {r.split()[0]: r for r in rows}
        self.assertIn("NaN", row["layer0.bn"])
        self.assertIn("∞", row["layer1.bn"])
        self.assertIn("–", row["layer4.bn"])

    # Many, none, long and hostile.

    def test_without_groups_it_waits_for_one(self):
        page = self.open()
        self.assertIn("No group yet", page.text("#notes"))
        self.assertFalse(page.evaluate("document.querySelector('#group').checkVisibility()"))
        self.server.vitals = made.vitals(pb, [self.group("first", ranks=2)])
        page.wait("document.querySelector('#group-name').textContent === 'Group first'", "the group that appeared")
        self.assertEqual(page.text("#notes"), "")

    def test_of_300_groups_the_worst_come_first_and_a_filter_finds_the_others(self):
        groups = [self.group(f"job-{i}", ranks=2, layers=1, stretches=2, seed=1) for i in range(300)]
        groups[217] = self.group("job-217", ranks=2, late=1, layers=1, stretches=2)
        vitals = made.vitals(pb, groups)
        vitals.groups_left_out = 9
        page = self.open(vitals=vitals)
        rows = "[...document.querySelectorAll('#groups tbody tr')].map((r) => r.querySelector('a').textContent)"
        self.assertEqual(len(page.evaluate(rows)), 12)
        self.assertEqual(page.evaluate(rows)[0], "job-217")
        self.assertIn("12 of 300 shown; 288 more; 9 had no room in the answer", page.text("#groups .foot"))
        page.evaluate("document.querySelector('#groups input').focus()")
        page.call("Input.insertText", text="job-14")
        page.wait(f"{rows}.length === 11", "the filter")  # 14, 140 to 149
        page.click("#groups .filter input")
        page.evaluate("(() => { const i = document.querySelector('#groups input'); i.value = 'no such'; i.dispatchEvent(new Event('input')); })()")
        self.assertIn("None of 300 groups matches", page.text("#groups .empty"))
        page.evaluate("(() => { const i = document.querySelector('#groups input'); i.value = ''; i.dispatchEvent(new Event('input')); })()")
        page.click("#groups .foot button")
        page.wait(f"{rows}.length === 62", "50 more")
        self.check_fits()

    def test_1024_ranks_and_2048_layers(self):
        group = self.group(ranks=1024, late=700, layers=1024, stretches=72)
        page = self.open(group, width=1280)
        said = page.text("#verdict").replace(words.NB, " ")
        self.assertIn("rank 700 (host gpu-350)", said)  # which the timeline does not tell
        self.assertEqual(page.evaluate("document.querySelectorAll('#members tbody tr').length"), 16)
        self.assertIn("16 of 1,024 shown; 1,008 more", page.text("#members .foot"))
        self.assertTrue(page.text("#members tbody tr").startswith("700"))
        self.assertIn("the 24 latest of 256 ranks; 768 ranks from 256 up have no timeline", page.text("#heat .foot"))
        self.assertEqual(page.evaluate("document.querySelectorAll('#heat .heat-label').length"), 24)
        self.assertIn("10 of 2,048 shown", page.text("#layers .foot"))
        self.assertIn("10 of 1,024 shown", page.text("#drift .foot"))
        page.click("#heat .foot button")
        page.wait("document.querySelector('#heat canvas').clientHeight === 256 * 4", "all ranks")
        self.check_fits()
        # What comes every two seconds is drawn in a fraction of them.
        took = page.evaluate("""Math.min(...[1, 2, 3].map(() => { const t = performance.now();
          document.dispatchEvent(new Event('visibilitychange'));  // draws at once, before it asks
          return performance.now() - t; }))""")
        self.assertLess(took, 500)
        # Large answers are asked for less often: this one weighs some MiB.
        self.assertGreater(float(page.text("#answer").replace(words.NB, " ").split("every ")[1].split()[0]), 2)

    def test_names_are_only_text(self):
        bidi = "a\u202eb\u0007c\u2066\u200fd"
        group = self.group(HOSTILE, ranks=3, late=1, layers=2, hosts=HOSTILE + bidi, layer=HOSTILE + bidi + "{}",
                           open_rounds=[(HOSTILE, 3.0, [1], 1)])
        failures = [(1.0, HOSTILE, HOSTILE + bidi)]
        vitals = made.vitals(pb, [group, self.group("b")], failures=failures, version=HOSTILE,
                             refused=[pb.RefusedReport(reason=HOSTILE, calls=1)])
        vitals.groups[0].counters.failed_by[0].code = HOSTILE
        page = self.open(vitals=vitals)
        page.wait("document.querySelector('#verdict li')", "the verdict")
        page.evaluate("document.querySelector('#heat canvas').focus()")
        page.key("ArrowLeft")
        page.click("#heat summary")
        self.assertEqual(page.evaluate("document.querySelectorAll('img, main script').length"), 0)
        self.assertIn(HOSTILE, page.text("#failures"))
        self.assertIn("a\\u{202e}b\\u{7}c\\u{2066}\\u{200f}d", page.text("#failures"))
        everything = page.evaluate("document.body.innerText + document.title + [...document.querySelectorAll('*')].flatMap((n) => [...n.attributes].map((a) => a.value)).join()")
        for unseen in bidi:
            if not unseen.isalpha():
                self.assertNotIn(unseen, everything)
        self.assertEqual(page.evaluate("decodeURIComponent(document.querySelector('#groups a').hash)"), "#group=" + HOSTILE)

    def test_long_names_break_nothing_at_360_pixels(self):
        long = "model.backbone." + "x" * 230 + ".bn1"
        group = self.group("g" * 128, ranks=3, late=1, layers=3, hosts="h" * 253, layer=long + "{}",
                           open_rounds=[(long, 3.0, [1], 1)])
        page = self.open(vitals=made.vitals(pb, [group, self.group("b")], failures=[(1.0, "g" * 128, "f" * 512)]),
                         width=360, height=740, phone=True)
        page.wait("document.querySelector('#verdict li')", "the verdict")
        self.check_fits()
        name = page.evaluate("(() => { const n = document.querySelector('#layers .name'); return [n.textContent, n.title]; })()")
        self.assertRegex(name[0], r"^model\.backbone\.x+…x+\.bn1\d$")
        self.assertEqual(len(name[1]), len(long) + 1)
        page.screenshot(os.path.join(OUT, "long-names.png"))

    # The coordinator goes, and comes back.

    allowed_when_gone = ("Failed to load resource", "net::ERR")

    def test_old_figures_are_told_from_new_ones(self):
        self.allowed = self.allowed_when_gone
        page = self.open(self.group(late=2))
        before = page.text("#tiles")
        self.server.fault = "closed"
        page.wait("document.querySelector('#answer').innerText.includes('no answer for')", "the failed try")
        self.assertFalse(page.evaluate("document.body.classList.contains('stale')"))
        page.wait("document.body.classList.contains('stale')", "old figures to be old")
        self.assertRegex(page.text("#answer"), r"no answer for \d+.s; figures of \d\d:\d\d:\d\d")
        self.assertEqual(page.text("#tiles"), before)
        self.assertIn("grayscale", page.evaluate("getComputedStyle(document.querySelector('#group')).filter"))
        self.assertTrue(page.evaluate("document.title").startswith("■ no answer"))
        self.assertIn("does not answer", page.text("#said"))
        self.check_contrast()
        page.screenshot(os.path.join(OUT, "stale.png"), whole=False)
        self.server.fault = None
        page.wait("document.querySelector('#answer.fine') && !document.body.classList.contains('stale')", "it to recover")
        self.assertEqual(page.text("#notes"), "")

    def test_a_restart_is_said_until_it_is_dismissed(self):
        self.allowed = self.allowed_when_gone
        page = self.open(self.group(late=2))
        self.server.fault = "closed"
        page.wait("document.querySelector('#answer.bad')", "the failed try")
        self.server.vitals = made.vitals(pb, [self.group("world", ranks=4)], coordinator_id=9)
        self.server.fault = None
        page.wait("document.querySelector('#notes').innerText.includes('was restarted')", "the restart")
        self.assertNotIn("another version", page.text("#notes"))
        self.assertIn("nobody is late", page.text("#verdict"))
        page.click("#notes button")
        page.wait("document.querySelector('#notes').innerText === ''", "the note to go")
        self.server.vitals = made.vitals(pb, [self.group("world", ranks=4)], coordinator_id=10, version="0.2.0")
        page.wait("document.querySelector('#notes').innerText.includes('another version: load the page again')", "the version")

    def test_another_servers_answers_are_named(self):
        self.allowed = self.allowed_when_gone
        page = self.open(self.group())
        for fault, expected in ((503, "HTTP 503 not now"), ("<html>login</html>", "not the coordinator's")):
            self.server.fault = fault
            page.evaluate(POKE)
            page.wait(f"document.querySelector('#answer').innerText.includes({json.dumps(expected)})", expected)

    def test_a_group_that_vanished_is_said_and_found_again(self):
        self.allowed = ("404",)
        first, second = self.group("first", ranks=2), self.group("second", ranks=2)
        page = self.open(first, second, hash="#group=second")
        page.wait("document.querySelector('#group-name').textContent === 'Group second'", "the group of the address")
        self.server.vitals = made.vitals(pb, [first])
        page.wait("document.querySelector('#notes').innerText.includes('There is no group second')", "the end of the group")
        self.assertFalse(page.evaluate("document.querySelector('#group').checkVisibility()"))
        self.server.vitals = made.vitals(pb, [first, second])
        page.wait("document.querySelector('#group-name').textContent === 'Group second' && document.querySelector('#notes').innerText === ''",
                  "the group to be there again")
        self.server.vitals = made.vitals(pb, [first])
        page.wait("document.querySelector('#notes a')", "a way to another group")
        page.click("#notes a")
        page.wait("document.querySelector('#group').checkVisibility() && document.querySelector('#group-name').textContent === 'Group first'", "the other group")

    def test_where_the_first_group_ends_the_next_is_shown(self):
        self.allowed = ("404",)
        first, second = self.group("first", ranks=2), self.group("second", ranks=2)
        page = self.open(first)
        page.wait("document.querySelector('#group-name').textContent === 'Group first'", "the first group")
        page.evaluate("""(() => { const notes = document.querySelector('#notes'); window.noted = '';
          new MutationObserver(() => { noted += notes.innerText; }).observe(notes, { childList: true }); })()""")
        self.server.vitals = made.vitals(pb, [second])
        page.wait("document.querySelector('#group-name').textContent === 'Group second'", "the next")
        self.assertEqual(page.evaluate("noted"), "")  # nobody had asked for the first by name

    def test_what_is_shown_stays_when_another_group_comes_first(self):
        first, second = self.group("first", ranks=2), self.group("second", ranks=2)
        page = self.open(first)
        self.server.vitals = made.vitals(pb, [second, first])
        page.wait("document.querySelectorAll('#groups tbody tr').length === 2", "the other group")
        page.evaluate(POKE)
        page.wait("watched.requests.filter(([, url]) => url === 'statusz.json').length >= 3 && document.querySelector('#answer.fine')", "another list")
        self.assertEqual(page.text("#group-name"), "Group first")

    # When it asks.

    def test_it_asks_every_two_seconds_and_not_while_hidden_or_paused(self):
        page = self.open(self.group())
        page.wait("watched.requests.length >= 4", "two more answers")
        at = page.evaluate("watched.requests.map(([t]) => t)")[1:]
        self.assertTrue(all(1.9e3 < b - a < 10e3 for a, b in zip(at, at[1:])), at)
        # One group's answer says everything: the list is not asked for again.
        self.assertEqual([p for p in self.server.asked if "?" not in p], ["/statusz.json"])
        hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true }); " + POKE
        page.evaluate(hide % "true")
        asked = page.evaluate("watched.requests.length")
        time.sleep(2.6)  # a period and more
        self.assertEqual(page.evaluate("watched.requests.length"), asked)
        self.assertEqual(page.evaluate(hide % "false" + "; watched.requests.length"), asked + 1)  # at once
        page.click("#pause")
        page.wait("document.querySelector('#answer').innerText.includes('paused; figures of')", "the pause")
        asked = page.evaluate("watched.requests.length")
        time.sleep(2.6)
        self.assertEqual(page.evaluate("watched.requests.length"), asked)
        page.click("#pause")
        page.wait(f"watched.requests.length > {asked} && document.querySelector('#answer.fine')", "answers again")

    def test_what_is_read_stays_in_its_place(self):
        page = self.open(self.group(ranks=4, late=2), self.group("b", ranks=2))
        page.evaluate("document.querySelector('#members tbody tr').kept = 1; document.querySelector('#groups tbody tr:nth-child(2) a').focus();")
        groups = [self.group(ranks=4, late=3), self.group("b", ranks=2)]
        self.server.vitals = made.vitals(pb, groups)
        page.wait("document.querySelector('#verdict').innerText.includes('rank\\u00a03')", "the next answer")
        self.assertEqual(page.evaluate("document.querySelector('#members tbody tr').kept"), 1)
        self.assertEqual(page.evaluate("document.activeElement.textContent"), "b")

    # For everybody.

    def test_texts_have_contrast_in_both_themes(self):
        groups = [self.group(ranks=20, late=2, open_rounds=[("layer3.bn", 2.0, [2], 1)]), self.group("b", ranks=2)]
        groups[0].members[3].state = "lost"
        vitals = made.vitals(pb, groups, failures=[(1.0, "world", "text")], certificate_left_s=86400.0, insecure=True)
        vitals.draining = True
        page = self.open(vitals=vitals)
        page.click("#heat summary")
        for theme in ("light", "dark"):
            page.look(theme=theme)
            self.check_contrast(400)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            self.assertEqual(ground, {"light": "rgb(243, 244, 248)", "dark": "rgb(14, 17, 24)"}[theme])
            page.screenshot(os.path.join(OUT, f"{theme}.png"))

    def test_it_fits_a_phone(self):
        page = self.open(self.group(ranks=8, late=2), self.group("b", ranks=2), width=360, height=740, phone=True, scale=2)
        page.wait("document.querySelector('#verdict li')", "the verdict")
        self.check_fits()
        self.check_contrast()
        self.assertLess(page.evaluate("document.querySelector('#verdict').getBoundingClientRect().top"), 740)
        x, y = page.evaluate("""(() => { const c = document.querySelector('#heat canvas'); c.scrollIntoView({ block: 'center' });
            const b = c.getBoundingClientRect(); return [b.right - 3, b.top + 2.5 * b.height / 8]; })()""")
        page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        page.tap(x, y)
        page.wait("document.querySelector('#heat-reading').innerText.startsWith('rank\\u00a02 (host gpu-1)')", "the reading of the tapped cell")
        page.screenshot(os.path.join(OUT, "phone.png"))
        page.look(width=360, height=740, theme="dark", phone=True, scale=2)
        page.screenshot(os.path.join(OUT, "phone-dark.png"))

    def test_the_heatmap_is_read_with_the_keyboard_and_as_a_table(self):
        group = self.group(ranks=8, late=2)
        page = self.open(group)
        self.settle()
        page.evaluate("document.querySelector('#pause').focus()")
        for _ in range(40):
            page.key("Tab")
            if page.evaluate("document.activeElement.tagName") == "CANVAS":
                break
        reading = lambda: page.text("#heat-reading").replace(words.NB, " ")  # noqa: E731
        cell = lambda stretch, rank: words.seconds(group.timeline[stretch].late_mean_s[rank]).replace(words.NB, " ")  # noqa: E731
        self.assertIn(f"rank 2 (host gpu-1), 6 s to 1 s ago: {cell(59, 2)} late on average; 100 rounds", reading())
        page.key("ArrowUp")
        page.key("ArrowLeft")
        self.assertIn(f"rank 1 (host gpu-0), 11 s to 6 s ago: {cell(58, 1)} late on average", reading())
        page.key("Home")
        self.assertIn(f"rank 1 (host gpu-0), 5 min 1 s to 4 min 56 s ago: {cell(0, 1)}", reading())
        for _ in range(7):
            page.key("ArrowRight")
        self.assertIn("took part in no complete round", reading())
        page.key("Escape")
        self.assertIn("use the arrow keys", reading())
        x, y = page.evaluate("(() => { const b = document.querySelector('#heat canvas').getBoundingClientRect(); return [b.right - 3, b.top + 5.5 * b.height / 8]; })()")
        page.mouse(x, y)
        page.wait("document.querySelector('#heat-reading').innerText.startsWith('rank')", "the reading of the cell that is pointed at")
        self.assertIn(f"rank 5 (host gpu-2), 6 s to 1 s ago: {cell(59, 5)} late on average", reading())
        page.click("#heat summary")
        page.wait("document.querySelectorAll('.heat-table tbody tr').length === 60", "the table")
        rows = page.evaluate("[...document.querySelectorAll('.heat-table tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))")
        for i, row in enumerate(rows):
            stretch = group.timeline[59 - i]
            expected = [words.ago(stretch.ended_s), words.count(stretch.rounds), words.seconds(stretch.p50_s), words.seconds(stretch.p99_s)]
            expected += ["no round" if v < 0 else words.seconds(v) for v in stretch.late_mean_s]
            self.assertEqual(row, expected)

    def test_the_cell_that_is_read_keeps_its_time_and_is_not_said_again(self):
        page = self.open(self.group(ranks=4, late=2, stretches=30))
        page.evaluate("document.querySelector('#heat canvas').focus()")
        for key in ("End", "ArrowLeft", "ArrowLeft"):
            page.key(key)
        spoken = "document.querySelector('#heat [role=status]').textContent"
        said = page.evaluate(spoken)
        self.assertIn("16 s to 11 s ago", said.replace(words.NB, " "))
        later = self.group(ranks=4, late=2, stretches=30)
        for stretch in later.timeline:
            stretch.ended_s += 5
        del later.timeline[0]
        later.timeline.add(ended_s=1.3, seconds=5, rounds=1, late_mean_s=[0.5] * 4)
        self.server.vitals = made.vitals(pb, [later], up_s=11520.0 + 5)
        page.wait("document.querySelector('#heat-reading').textContent.includes('21\u00a0s to 16\u00a0s ago')", "the same stretch, later")
        self.assertEqual(page.text("#heat-reading").split(": ")[1], said.split(": ")[1])
        self.assertEqual(page.evaluate(spoken), said)
        # Under a pointer is what is under it.
        page.click("#heat canvas")
        x, y = page.evaluate("(() => { const b = document.querySelector('#heat canvas').getBoundingClientRect(); return [b.right - 12, b.top + 5]; })()")
        page.mouse(x, y)
        page.wait("document.querySelector('#heat-reading').textContent.includes('500\u00a0ms late')", "the latest stretch")
        for stretch in later.timeline:
            stretch.ended_s += 5
        later.timeline.add(ended_s=1.3, seconds=5, rounds=1, late_mean_s=[0.25] * 4)
        self.server.vitals = made.vitals(pb, [later], up_s=11520.0 + 10)
        page.wait("document.querySelector('#heat-reading').textContent.includes('250\u00a0ms late')", "the one that came there")
        self.assertEqual(page.evaluate(spoken), said)

    def test_the_cells_have_the_scales_colours_in_both_themes(self):
        self.allowed = ("willReadFrequently",)  # this test's own reading
        group = self.group(ranks=4, stretches=20)
        levels = [20e-6, 50e-6, 300e-6, 1e-3, 7e-3, 30e-3, 0.2, 1.0, 4.0, 10.0, 60.0]
        for i, level in enumerate(levels):
            group.timeline[i].late_mean_s[2] = level
        page = self.open(group)
        self.settle()
        read = """(() => { const c = document.querySelector('#heat canvas'); const r = devicePixelRatio;
          const n = 20, span = Math.max(60, 19 * 5 + 1.3 + 5), y = 2.5 * c.clientHeight / 4;
          return [...Array(n).keys()].map((i) => { const x = c.clientWidth * (1 - ((n - 1 - i) * 5 + 1.3 + 2.5) / span);
            return [...c.getContext('2d').getImageData(x * r, y * r, 1, 1).data]; }); })()"""
        seen = {}
        for theme in ("light", "dark"):
            page.look(theme=theme)
            seen[theme] = page.evaluate(read)[:len(levels)]
            # Without a round, a cell is hatched: lines of no colour of the scale, and what is below.
            hatched = page.evaluate("""(() => { const c = document.querySelector('#heat canvas'); const r = devicePixelRatio;
              const x = c.clientWidth * (1 - ((20 - 1 - 8) * 5 + 1.3 + 2.5) / Math.max(60, 19 * 5 + 1.3 + 5));
              const d = c.getContext('2d').getImageData((x - 6) * r, 1.3 * c.clientHeight / 4 * r, 12, 12).data;
              return [...Array(144).keys()].map((i) => d[4 * i + 3]); })()""")
            self.assertGreater(hatched.count(0), 40)
            self.assertGreater(sum(alpha > 100 for alpha in hatched), 10)
        self.assertEqual(seen["light"], seen["dark"])
        light = lambda c: sum(w * ((v / 255) ** 2.2) for w, v in zip((0.2126, 0.7152, 0.0722), c))  # noqa: E731
        lights = [light(c) for c in seen["light"]]
        self.assertEqual(seen["light"][0], seen["light"][1])    # 50 us and below
        self.assertEqual(seen["light"][9], seen["light"][10])   # 10 s and beyond
        steps = [b - a for a, b in zip(lights[1:10], lights[2:10])]
        self.assertTrue(all(step > 0.01 for step in steps), lights)  # lighter each time: an order without hue
        self.assertEqual(seen["light"][1][:3], [0x10, 0x19, 0x7d])
        self.assertEqual(seen["light"][9][:3], [0xfe, 0xea, 0x74])

    def test_it_is_made_of_what_screen_readers_know(self):
        page = self.open(self.group(ranks=20, late=2, open_rounds=[("layer3.bn", 2.0, [2], 1)]), self.group("b", ranks=2))
        unnamed = page.evaluate("""[...document.querySelectorAll("table")].filter((t) => !t.caption?.textContent).length
          + [...document.querySelectorAll("th")].filter((t) => !t.scope).length
          + [...document.querySelectorAll("section")].filter((s) => !s.ariaLabel && !document.getElementById(s.getAttribute("aria-labelledby"))).length
          + [...document.querySelectorAll("svg")].filter((s) => s.ariaHidden !== "true").length""")
        self.assertEqual(unnamed, 0)
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        nodes = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
        for role in ("link", "button", "searchbox", "application", "region", "table", "heading"):
            names = [name for r, name in nodes if r == role]
            self.assertTrue(names and all(names), f"{role}: {names}")
        self.assertIn("Late: rank 2 (host gpu-1)", next(name for r, name in nodes if r == "application").replace(words.NB, " "))
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
        self.assertEqual(levels[0], 1)
        self.assertTrue(all(b - a <= 1 for a, b in zip(levels, levels[1:])), levels)
        self.assertEqual(page.evaluate("document.documentElement.lang"), "en")

    def test_reduced_motion_moves_nothing(self):
        page = self.open(self.group())
        moving = """[...document.querySelectorAll('*')].filter((n) => {
          const s = getComputedStyle(n); return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none'; }).length"""
        self.assertEqual(page.evaluate(moving), 0)
        page.look(reduced_motion=False)
        self.assertGreater(page.evaluate(moving), 0)


def main():
    global PROJECT, OUT, ASSETS, pb
    args = sys.argv[1:]
    if args[0].startswith("--assets="):
        ASSETS = args.pop(0).partition("=")[2]
    PROJECT, OUT, *tests = args
    if devtools.chromium() is None:
        print("SKIP: no Chromium (Debian: chromium; SYNCNORM_CHROMIUM names another)")
        sys.exit(77)
    os.makedirs(OUT, exist_ok=True)
    pb = made.load(os.path.join(PROJECT, "proto"))
    unittest.main(argv=[sys.argv[0], *tests], verbosity=2)


if __name__ == "__main__":
    main()
