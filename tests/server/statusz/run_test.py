#!/usr/bin/env python3
"""The status page in a real browser, served by a real coordinator while real workers train, one of them
slowed; a worker is killed, and the coordinator is killed and started again.

usage: run_test.py BUILD PROJECT OUT     screenshots go to OUT
Exit status 77: skipped, says what is missing.
"""
import os
import re
import sys
import time
import unittest
import urllib.request

import devtools
import figures
import words

BUILD, PROJECT, OUT = None, None, None
harness = None
SLOW = 2
MUST = {"recent.rounds_per_s", "recent.p50_s", "recent.p99_s", "counters.completed", "member.2.recent_last",
        "member.2.recent_late_mean_s", "member.3.late_max_s", "up_s", "status.contributions", "layers.0.drift.shift",
        "layers.0.drift.spread"}


def page_of(coordinator):
    """The address that it says its page has."""
    said = coordinator.line("status page on ") or coordinator.wait_line("status page on ")
    return said.split()[-1]


class RunTest(unittest.TestCase):
    def setUp(self):
        self.world = harness.World(harness.Programs(BUILD))
        self.addCleanup(self.end)
        self.coordinator = self.world.coordinator("--admin_listen=127.0.0.1:0")
        self.url = page_of(self.coordinator)
        self.browser = devtools.Browser()
        self.addCleanup(self.browser.__exit__)
        self.page = self.browser.page()

    def end(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            self.world.tell()
        self.world.close()

    def workers(self, **options):
        return self.world.workers(
            4, **{"steps": 10**6, "layers": 6, "round_timeout": "30s", **options},
            each=lambda rank: {"host": f"gpu-{rank}", "compute": "40ms" if rank == SLOW else "1ms"})

    def check_clean(self, *allowed):
        self.assertEqual([e for e in self.page.errors if not any(word in e for word in allowed)], [])
        self.assertEqual(self.page.evaluate("watched.violations"), [])
        host = self.url.rsplit("/", 1)[0] + "/"
        self.assertEqual([u for u in self.page.requested if not u.startswith((host, "data:", "about:"))], [])

    def metrics(self):
        """/metrics, by name and labels in the alphabet's order."""
        def key(name):
            return re.sub(r"{(.*)}", lambda m: "{" + ",".join(sorted(m[1].split(","))) + "}", name)
        with urllib.request.urlopen(self.url.replace("/statusz", "/metrics")) as answer:
            lines = answer.read().decode().splitlines()
        return {key(name): float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def shot(self, name, **look):
        self.page.look(**look)
        self.page.wait("document.querySelector('#heat canvas').width > 0", "the heatmap")
        self.page.screenshot(os.path.join(OUT, f"{name}.png"))

    def test_the_slow_rank_is_named_within_a_minute_and_the_figures_are_the_answers(self):
        page = self.page
        page.open(self.url)
        page.wait("document.querySelector('#notes').innerText.includes('No group yet')", "the page of an idle coordinator")
        began = time.monotonic()
        self.workers()
        page.wait(f"document.querySelector('#verdict').innerText.includes('rank\\u00a0{SLOW}')", "the late rank", 60)
        took = time.monotonic() - began
        said = page.text("#verdict").replace(words.NB, " ")
        self.assertRegex(said, rf"rank {SLOW} \(host gpu-{SLOW}\): last in (>99|\d+) % of rounds, [\d.]+ ms late on average")
        print(f"named after {took:.1f} s: {said.splitlines()[-1]}")
        # A whole stretch of the timeline, and the drift of every layer.
        page.wait("document.querySelectorAll('#heat .heat-label').length === 4 && document.querySelectorAll('#drift tbody tr').length === 6",
                  "the heatmap and the drift", 60)
        page.click("#pause")
        page.wait("document.querySelector('#answer').innerText.includes('paused')", "the pause")
        wrong, seen = figures.wrong(page)
        self.assertEqual(wrong, [])
        self.assertEqual(MUST - seen, set(), "not on the page")
        # Of twelve, the ten that waited longest.
        self.assertEqual(len([of for of in seen if re.fullmatch(r"layers\.\d+\.wait_s", of)]), 10)
        page.evaluate("document.querySelector('#heat canvas').focus()")
        page.key("End")
        timeline = page.evaluate("Object.entries(watched.answers).find(([url]) => url.includes('timeline'))[1].groups[0].timeline")
        late = words.seconds(timeline[-1]["late_mean_s"][SLOW]).replace(words.NB, " ")
        self.assertGreater(timeline[-1]["late_mean_s"][SLOW], 0.02)
        self.assertIn(f"rank {SLOW} (host gpu-{SLOW})", page.text("#heat-reading").replace(words.NB, " "))
        self.assertIn(f"{late} late on average", page.text("#heat-reading").replace(words.NB, " "))
        self.shot("run-light")
        self.shot("run-dark", theme="dark")
        self.shot("run-phone", width=360, height=740, phone=True, scale=2)
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 360)
        self.check_clean()

    def test_the_figures_are_those_of_the_metrics(self):
        page = self.page
        workers = self.workers()
        page.open(self.url)
        page.wait("document.querySelector('#verdict li.late')", "the late rank", 60)
        for worker in workers:
            worker.stop()  # so that nothing changes from one answer to the next
        held = "[...document.querySelectorAll('[data-of=\"status.contributions\"]')].map((d) => d.value).join()"
        was = None
        while was != (now := page.evaluate(held)):
            was = now
            asked = page.evaluate("watched.requests.length")
            page.wait(f"watched.requests.length > {asked} + 1", "other answers")
        shown = {of: float(value) for of, value, *_ in page.evaluate(figures.READ) if value is not None}
        metrics = self.metrics()
        layers = page.evaluate("Object.entries(watched.answers).find(([url]) => url.includes('timeline'))[1].groups[0].layers")
        of_rank = f'{{group="world",rank="{SLOW}"}}'
        pairs = [("status.contributions", "syncnorm_contributions_total"), ("status.rounds_completed", "syncnorm_rounds_total"),
                 ("counters.completed", 'syncnorm_group_rounds_total{group="world"}'), ("status.streams", "syncnorm_streams"),
                 (f"member.{SLOW}.last", f"syncnorm_rank_last_total{of_rank}"),
                 (f"member.{SLOW}.rounds", f"syncnorm_rank_rounds_total{of_rank}")]
        for at, layer in enumerate(layers):
            direction, name = f'direction="{layer["direction"]}"', f'group="world",layer="{layer["name"]}"'
            for of, metric in ((f"layers.{at}.wait_s", f"syncnorm_layer_wait_seconds_total{{{direction},{name}}}"),
                               (f"layers.{at}.drift.shift", f"syncnorm_layer_shift{{{name}}}"),
                               (f"layers.{at}.drift.spread", f"syncnorm_layer_spread{{{name}}}")):
                if of in shown:  # ten layers are
                    pairs.append((of, metric))
        self.assertGreater(len(pairs), 12)
        for of, name in pairs:
            self.assertIn(name, metrics)
            self.assertAlmostEqual(shown[of], metrics[name], delta=1e-9 * metrics[name], msg=of)
        self.assertGreater(shown["counters.completed"], 0)
        self.check_clean()

    def test_a_killed_worker_and_a_coordinator_that_comes_back_are_told(self):
        page = self.page
        workers = self.workers(rejoin="60s")
        page.open(self.url)
        page.wait("document.querySelector('#verdict li.late')", "the late rank", 60)
        workers[3].kill()
        page.wait("document.querySelector('#failures tbody')?.innerText.includes('rank 3')", "the error that names rank 3")
        self.assertIn("world", page.text("#failures tbody tr"))
        port = re.search(r":(\d+)/", self.url).group(1)
        # The page asks at moments of its own: it must have seen the end before there is a beginning.
        self.coordinator.kill()
        page.wait("document.querySelector('#answer').innerText.includes('no answer for')", "the loss of the coordinator")
        self.world.restart(self.coordinator, f"--admin_listen=127.0.0.1:{port}")
        page.wait("document.querySelector('#notes').innerText.includes('The coordinator was restarted')", "the restart")
        page.wait("document.querySelector('#answer.fine')", "new answers")
        self.check_clean("Failed to load resource", "404")


def main():
    global BUILD, PROJECT, OUT, harness
    BUILD, PROJECT, OUT = sys.argv[1:4]
    if devtools.chromium() is None:
        print("SKIP: no Chromium (Debian: chromium; SYNCNORM_CHROMIUM names another)")
        sys.exit(77)
    sys.path.insert(0, os.path.join(PROJECT, "tests", "e2e"))
    import harness as module
    harness = module
    os.makedirs(OUT, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)


if __name__ == "__main__":
    main()
