#!/usr/bin/env python3
"""The Grafana dashboard as a file; that its queries have results is prometheus_test.py's.

usage: dashboard_test.py
"""
import json
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "..", "..", "deploy")
GENERATOR = os.path.join(DEPLOY, "grafana", "dashboard.py")
with open(os.path.join(DEPLOY, "grafana", "syncnorm.json"), encoding="utf-8") as _f:
    TEXT = _f.read()
DASHBOARD = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


def luminance(colour):
    """Relative, as WCAG defines it."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class DashboardTest(unittest.TestCase):
    def test_it_is_what_its_generator_writes(self):
        done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_it_asks_for_its_data_source_when_it_is_imported(self):
        self.assertEqual([(i["name"], i["pluginId"]) for i in DASHBOARD["__inputs"]],
                         [("DS_PROMETHEUS", "prometheus")])
        self.assertIsNone(DASHBOARD["id"])
        required = {r["id"] for r in DASHBOARD["__requires"] if r["type"] == "panel"}
        self.assertEqual(required, {panel["type"] for panel in PANELS})
        users = [*PANELS, *(t for p in PANELS for t in p["targets"]),
                 *DASHBOARD["templating"]["list"], *DASHBOARD["annotations"]["list"]]
        for user in users:
            self.assertEqual(user["datasource"], SOURCE, user.get("title"))

    def test_each_panel_says_what_it_shows_and_in_which_unit(self):
        for panel in PANELS:
            with self.subTest(panel["title"]):
                self.assertRegex(panel["description"], r"^[^.]{5,}.*[.]$")
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                letters = [target["refId"] for target in panel["targets"]]
                self.assertTrue(letters)
                self.assertEqual(len(letters), len(set(letters)))

    def test_panels_lie_side_by_side_in_the_grid(self):
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = {}
        for panel in DASHBOARD["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertIsNone(taken.get((x, y)), (panel["title"], taken.get((x, y))))
                    taken[x, y] = panel["title"]

    def test_each_query_is_of_the_chosen_coordinators(self):
        defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
        self.assertEqual(defined, {"job", "instance", "group"})
        queries = [t["expr"] for p in PANELS for t in p["targets"]]
        queries += [a["expr"] for a in DASHBOARD["annotations"]["list"]]
        for query in queries:
            with self.subTest(query):
                used = set(re.findall(r"\$(\w+)", query))
                self.assertLessEqual(used, defined | {"__rate_interval"})
                selectors = re.findall(r"\{([^}]*)\}", query)
                self.assertTrue(selectors)
                for selector in selectors:
                    self.assertIn('job=~"$job",instance=~"$instance"', selector)

    def test_colours_do_not_carry_the_meaning_alone(self):
        # Okabe and Ito's palette and scales from cold to hot; no palette of Grafana's with green
        # beside red.
        modes = set(re.findall(r'"mode": "((?:palette|continuous)[^"]*)"', TEXT))
        self.assertEqual(modes, {"continuous-BlYlRd"})
        (lateness,) = (p for p in PANELS if p["type"] == "state-timeline")
        steps = [s["color"] for s in lateness["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        for lighter, darker in zip(steps, steps[1:]):
            contrast = (luminance(lighter) + 0.05) / (luminance(darker) + 0.05)
            self.assertGreater(contrast, 1.2, f"the later, the darker: {lighter}, {darker}")
        for panel in PANELS:
            if panel["type"] == "timeseries":
                self.assertTrue(panel["options"]["legend"]["showLegend"], panel["title"])


if __name__ == "__main__":
    unittest.main()
