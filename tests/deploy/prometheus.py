"""A real Prometheus for tests: started on loopback with a configuration, and asked over HTTP."""
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request

import harness
import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RULES = os.path.join(ROOT, "deploy", "prometheus", "alerts.yml")
CONFIG = os.path.join(ROOT, "deploy", "prometheus", "prometheus.yml")
DASHBOARD = os.path.join(ROOT, "deploy", "grafana", "syncnorm.json")
PAGE = os.path.join(ROOT, "docs", "metrics.md")
LISTENS = re.compile(r'msg="Listening on" address=(\S+)')


def need(*programs):
    """Skips the test where one of Debian's programs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            raise harness.Skipped(f"no {program} (Debian: prometheus)")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def rules():
    """All rules of alerts.yml, in its order."""
    return [rule for group in yaml.safe_load(read(RULES))["groups"] for rule in group["rules"]]


def queries():
    """(where, expression) of all that the dashboard asks, its variables still in it."""
    dashboard = json.loads(read(DASHBOARD))
    found = [(f'panel "{panel["title"]}" {target["refId"]}', target["expr"])
             for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found + [(f'annotation "{one["name"]}"', one["expr"])
                    for one in dashboard["annotations"]["list"]]


def get(url):
    with urllib.request.urlopen(url, timeout=harness.WAIT) as answer:
        return answer.read().decode()


class Prometheus:
    """Scrapes `targets` once a second by the example's configuration, and evaluates a copy of the
    rules as often in which alerts wait for one second only."""

    def __init__(self, world, targets):
        folder = os.path.join(world.folder, "prometheus")
        os.makedirs(folder)
        config = yaml.safe_load(read(CONFIG))
        config["global"].update(scrape_interval="1s", evaluation_interval="1s")
        (job,) = config["scrape_configs"]
        job.update(scrape_interval="1s", static_configs=[{"targets": targets}])
        copy = yaml.safe_load(read(RULES))
        for group in copy["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        for name, content in (("prometheus.yml", config), (config["rule_files"][0], copy)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                yaml.safe_dump(content, f)
        self.process = world.add(harness.Process("prometheus", [
            "prometheus", f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:0"],
            world.folder))
        self.address = None
        harness.wait_for(self._listens, "Prometheus to listen")
        harness.wait_for(self._ready, "Prometheus to be ready")

    def _listens(self):
        found = LISTENS.search(self.process.errors())
        self.address = found and found[1]
        assert self.process.running(), str(self.process)
        return self.address

    def _ready(self):
        try:
            return get(f"http://{self.address}/-/ready")
        except urllib.error.HTTPError:
            return None

    def ask(self, path, **arguments):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as e:
            answer = json.loads(e.read().decode())
        assert answer["status"] == "success", f"{arguments or path}: {answer.get('error')}"
        assert not answer.get("warnings"), f"{arguments}: {answer['warnings']}"
        return answer["data"]

    def query(self, expression):
        """[(labels, value)] of a vector, now."""
        data = self.ask("query", query=expression)
        assert data["resultType"] == "vector", f"{expression}: a {data['resultType']}"
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def value(self, expression):
        """Of the one series that there is; None if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return found[0][1] if found else None

    def range(self, expression, seconds):
        """[(labels, [value])] of a stretch that ends now."""
        end = time.time()
        data = self.ask("query_range", query=expression, start=end - seconds, end=end, step=1)
        return [(series["metric"], [float(v) for _, v in series["values"]])
                for series in data["result"]]

    def firing(self):
        """Labels of the alerts that fire."""
        return [alert["labels"] for alert in self.ask("alerts")["alerts"]
                if alert["state"] == "firing"]
