#!/usr/bin/env python3
"""The rules for Prometheus: valid, tested one by one, and told on the page.

usage: alerts_test.py        exit status 77: skipped, says what is missing
"""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
try:
    import harness
    import prometheus
    import yaml
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy python3-yaml)")
    sys.exit(77)

UNIT_TESTS = os.path.join(prometheus.HERE, "alerts_test.yml")


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts():
    return [rule for rule in prometheus.rules() if "alert" in rule]


def anchors(page):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class AlertsTest(unittest.TestCase):
    def test_promtool_finds_nothing_wrong_with_the_rules_and_the_configuration(self):
        promtool("check", "rules", prometheus.RULES)
        promtool("check", "config", prometheus.CONFIG)

    def test_alerts_fire_when_they_should_and_say_what_they_should(self):
        promtool("test", "rules", UNIT_TESTS)

    def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(self):
        cases = [case for test in yaml.safe_load(prometheus.read(UNIT_TESTS))["tests"]
                 for case in test.get("alert_rule_test", [])]
        for fires in (True, False):
            tested = {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires}
            self.assertEqual(tested, {alert["alert"] for alert in alerts()})

    def test_each_record_has_a_case(self):
        tested = " ".join(case["expr"] for test in yaml.safe_load(prometheus.read(UNIT_TESTS))["tests"]
                          for case in test.get("promql_expr_test", []))
        records = [rule["record"] for rule in prometheus.rules() if "record" in rule]
        self.assertEqual([record for record in records if record not in tested], [])

    def test_each_alert_says_where_and_what_to_do(self):
        for alert in alerts():
            with self.subTest(alert["alert"]):
                told = alert["annotations"]
                self.assertEqual(set(told), {"summary", "description", "runbook"})
                self.assertIn("$labels.instance", told["summary"] + told["description"])
                page, _, anchor = told["runbook"].partition("#")
                self.assertIn(anchor, anchors(prometheus.read(os.path.join(prometheus.ROOT, page))))

    def test_the_page_has_all_alerts_with_severity_and_patience(self):
        rows = re.findall(r"^\| `(Syncnorm\w+)` \| (\w+) \| (\w*) ?\| (.+) \|$",
                          prometheus.read(prometheus.PAGE), re.M)
        self.assertEqual(
            sorted((name, severity, after) for name, severity, after, _ in rows),
            sorted((a["alert"], a["labels"]["severity"], a.get("for", "")) for a in alerts()))

    def test_the_links_of_the_page_lead_somewhere(self):
        folder = os.path.dirname(prometheus.PAGE)
        links = re.findall(r"\]\(([^)]+)\)", prometheus.read(prometheus.PAGE))
        self.assertGreater(len(links), 10)
        for link in links:
            with self.subTest(link):
                path, _, anchor = link.partition("#")
                path = os.path.join(folder, path)
                self.assertTrue(os.path.exists(path))
                if anchor:
                    self.assertIn(anchor, anchors(prometheus.read(path)))


if __name__ == "__main__":
    try:
        prometheus.need("promtool")
    except harness.Skipped as why:
        print(f"SKIP: {why}")
        sys.exit(77)
    unittest.main()
