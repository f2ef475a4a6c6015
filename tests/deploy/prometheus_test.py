#!/usr/bin/env python3
"""A real Prometheus scrapes a real run, with the rules and the dashboard that are deployed: what they
ask for is there, and is what the coordinator itself says.

usage: prometheus_test.py BUILD      exit status 77: skipped, says what is missing

The run: coordinator A with four groups, of which one is well but for a slow rank, one has a rank that
hangs, one has lost a member, and one does not form; coordinator B with TLS and tokens, which is
started again and again, refuses callers and cannot read its tokens; and one that is not there.
"""
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
try:
    import grpc
    import harness
    import prometheus
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy python3-grpcio python3-yaml)")
    sys.exit(77)
from prometheus import get

SLOW = 2  # the rank of group "steady" that is
TYPE = re.compile(r"# TYPE (\S+) (\S+)")
HELP = re.compile(r"# HELP (\S+) (.*)")
SERIES = re.compile(r"([a-z_]+)(?:\{(.*)\})? \S+")
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
METRIC = re.compile(r"\b(?<!:)(?:syncnorm|process)_[a-z_]+[a-z]\b(?!:)")


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_certificates(folder):
    """As docs/security.md does, for two days; one certificate does for both ends."""
    names = {name: os.path.join(folder, name) for name in ("ca.key", "ca.crt", "tls.key", "tls.csr",
                                                           "tls.crt")}
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-x509", "-days", "3650", "-subj", "/CN=authority", "-keyout", names["ca.key"],
            "-out", names["ca.crt"])
    openssl(*new, "-subj", "/CN=coordinator", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", names["tls.key"], "-out", names["tls.csr"])
    openssl("x509", "-req", "-in", names["tls.csr"], "-CA", names["ca.crt"], "-CAkey",
            names["ca.key"], "-CAcreateserial", "-days", "2", "-copy_extensions", "copy",
            "-out", names["tls.crt"])


class Run:
    def __init__(self, world):
        self.world = world
        self.folder = os.path.join(world.folder, "tls")
        os.makedirs(self.folder)
        make_certificates(self.folder)
        self.tokens = os.path.join(self.folder, "tokens")
        with open(self.tokens, "w", encoding="utf-8") as f:
            f.write(f"sha256:{'0' * 64} worker *\n")

        self.b = self.start_b("127.0.0.1:0", "127.0.0.1:0")
        self.b_address, self.b_admin = world.address, self.admin(self.b)
        self.a = world.coordinator("--admin_listen=127.0.0.1:0", "--drain_grace=1m",
                                   f"--dump_dir={world.folder}", name="a")
        self.a_address, self.a_admin = world.address, self.admin(self.a)
        self.dead = f"127.0.0.1:{harness.free_port()}"
        self.prometheus = prometheus.Prometheus(world, [self.a_admin, self.b_admin, self.dead])

    def admin(self, coordinator):
        return coordinator.wait_line("status page on ").split("/")[2]

    def start_b(self, listen, admin):
        return self.world.coordinator(
            f"--tls_dir={self.folder}", f"--tokens={self.tokens}", "--reload_interval=100ms",
            f"--admin_listen={admin}", address=listen, name="b")

    def value(self, expression):
        return self.prometheus.value(expression)

    def until(self, expression, what):
        """Waits until it has a result."""
        harness.wait_for(lambda: self.prometheus.query(expression), what)

    def steady(self):
        """What A says of group steady, and its whole reply."""
        reply = json.loads(get(f"http://{self.a_admin}/statusz.json?group=steady"))
        (group,) = reply["groups"]
        return group, reply


def happen(run):
    """All that is to be seen."""
    world = run.world
    forever = {"steps": 1_000_000, "layers": 2}
    run.steady_workers = world.workers(
        3, group="steady", round_timeout="2m", progress=True,
        each=lambda rank: {"compute": "50ms" if rank == SLOW else "1ms"}, **forever)
    shrunk = world.workers(3, group="shrunk", on_loss="shrink", compute="5ms", progress=True,
                           **forever)
    world.worker(0, 2, group="forming", connect_timeout="10m", **forever)
    shrunk[0].wait_line("step 2")
    shrunk[2].kill()
    shrunk[0].wait_line("epoch")

    # B comes and goes, three times, and is seen each time.
    start = f'process_start_time_seconds{{instance="{run.b_admin}"}}'
    run.until(start, "B to be scraped")
    for _ in range(3):
        before = run.value(start)
        run.b.kill()
        run.b = run.start_b(run.b_address, run.b_admin)
        run.until(f"{start} > {before!r}", "B's restart to be seen")
    files = [open(os.path.join(run.folder, name), "rb").read()
             for name in ("ca.crt", "tls.key", "tls.crt")]
    with grpc.secure_channel(run.b_address, grpc.ssl_channel_credentials(*files)) as channel:
        status = channel.unary_unary("/syncnorm.v1.Admin/Status")
        for _ in range(90):
            try:
                status(b"", metadata=[("authorization", "Bearer " + "x" * 64)], timeout=10)
                raise AssertionError("a token that nobody knows is let in")
            except grpc.RpcError as e:
                assert e.code() == grpc.StatusCode.UNAUTHENTICATED, e
    with open(run.tokens, "a", encoding="utf-8") as f:
        f.write("no digest\n")

    hang(run)
    run.until('syncnorm_layer_shift{group="steady",layer="layer1"}', "drift to be measured")
    run.until('syncnorm_refused_total{reason="unknown"} == 90', "refusals to be seen")


def hang(run):
    """Group hanging misses deadlines, and is seen to."""
    workers = []

    def missed():
        # On a busy machine the member that waits may give up before it is told, which ends the
        # group: once more then.
        if not workers or not workers[-2].running():
            workers.extend(run.world.workers(
                2, "--go_on", address=run.a_address, group="hanging", round_timeout="500ms",
                steps=1_000_000, layers=2, each=lambda rank: {"hang_at": 3} if rank else {}))
        return run.prometheus.query('syncnorm_rank_missed_total{group="hanging",rank="1"} >= 2')

    harness.wait_for(missed, "missed deadlines")


def freeze(run):
    """Nothing moves in group steady any more, and Prometheus has seen it so."""
    run.steady_workers[SLOW].stop()
    # A round waits for the one that is stopped, and has for so long that nothing is under way.
    waits = 'syncnorm_group_oldest_open_round_seconds{group="steady"}'
    run.until(f"{waits} > 1 and timestamp({waits}) > {time.time() + 1}", "the last round to be seen")


def check_alerts_fire(run):
    """Each alert that there is reason for, and none without."""
    a, b = {"instance": run.a_admin}, {"instance": run.b_admin}
    expected = [
        ("SyncnormCoordinatorDown", {"instance": run.dead}),
        ("SyncnormCoordinatorRestarts", b),
        ("SyncnormStraggler", {**a, "group": "steady", "rank": str(SLOW)}),
        ("SyncnormRoundsFailing", {**a, "code": "DEADLINE_EXCEEDED"}),
        ("SyncnormDeadlineMissed", {**a, "group": "hanging", "rank": "1"}),
        ("SyncnormMembersGone", {**a, "group": "shrunk", "state": "lost"}),
        ("SyncnormGroupDoesNotForm", {**a, "group": "forming"}),
        ("SyncnormCertificateEndsSoon", b),
        ("SyncnormReloadFails", b),
        ("SyncnormRefusals", {**b, "reason": "unknown"}),
    ]

    def missing():
        firing = run.prometheus.firing()
        return [(name, labels) for name, labels in expected if not any(
            alert["alertname"] == name and labels.items() <= alert.items() for alert in firing)]

    try:
        harness.wait_for(lambda: not missing(), "alerts")
    except AssertionError:
        raise AssertionError(f"do not fire: {missing()}") from None
    firing = run.prometheus.firing()
    for alert in firing:
        # Of the other groups nobody knows: this machine may be busy.
        if alert.get("group") == "steady":
            assert alert["rank"] == str(SLOW), alert
    wrong = {alert["alertname"] for alert in firing} - {name for name, _ in expected}
    assert wrong <= {"SyncnormStraggler"}, f"fire without a reason: {wrong}"


def check_rules(run):
    """Each rule can be evaluated; what is recorded is there."""
    told = [rule for group in run.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(told) == len(prometheus.rules()) > 20, len(told)
    for rule in told:
        assert rule["health"] == "ok" and not rule.get("lastError"), rule
        found = run.prometheus.query(rule["query"])
        if rule["type"] == "recording":
            assert found and run.prometheus.query(rule["name"]), f"{rule['name']}: empty"


def check_dashboard(run):
    """Each of its queries has a result, as a moment and as a stretch of time."""
    instances = "|".join(a.replace(".", r"\\.") for a in (run.a_admin, run.b_admin))
    asked = prometheus.queries()
    assert len(asked) > 30, len(asked)
    for where, expression in asked:
        for name, value in (("$job", "(syncnorm)"), ("$instance", f"({instances})"),
                            ("$group", ".*"), ("$__rate_interval", "10s")):
            expression = expression.replace(name, value)
        assert "$" not in expression, f"{where}: {expression}"
        values = [value for _, value in run.prometheus.query(expression)]
        assert any(value == value for value in values), f"{where}: no value now: {expression}"
        stretch = run.prometheus.range(expression, 10)
        assert any(v == v for _, vs in stretch for v in vs), f"{where}: no values: {expression}"


def near(found, expected, what, relative=1e-9):
    """Equal, but for the last digits; the coordinator's durations are in steps of 0.25 ns."""
    assert found is not None, f"{what}: nothing"
    assert abs(found - expected) <= max(relative * abs(expected), 1e-9), \
        f"{what}: {found!r} for Prometheus, {expected!r} for the coordinator"


def check_values(run):
    """Prometheus has the figures that the coordinator says itself."""
    group, _ = run.steady()
    counters, steady = group["counters"], '{group="steady"}'
    assert counters["completed"] > 50, counters
    near(run.value(f"syncnorm_group_rounds_total{steady}"), counters["completed"], "rounds")
    near(run.value(f"syncnorm_group_rounds_failed_total{steady}"), counters["failed"], "failed")
    near(run.value(f"syncnorm_group_round_seconds_sum{steady}"), group["durations"]["sum_s"], "sum")
    # The same estimate, from the same buckets: of all rounds, which are those of the last minute.
    assert group["recent"]["seconds"] < 60, "this test took too long to compare"
    for quantile, name in ((0.5, "p50_s"), (0.99, "p99_s")):
        near(run.value(f"histogram_quantile({quantile}, syncnorm_group_round_seconds_bucket"
                       f"{steady})"), group["recent"][name], name)
    # By rates it is an estimate of some of them: within a bucket, the widest of which is x2.5.
    p50 = run.value(f"group:syncnorm_round_seconds:p50{steady}")
    assert 1 / 2.5 <= p50 / group["recent"]["p50_s"] <= 2.5, (p50, group["recent"])

    for member in group["members"]:
        rank = f'{{group="steady",rank="{member["rank"]}"}}'
        for name, field in (("rounds", "rounds"), ("last", "last"), ("missed", "missed"),
                            ("late_seconds", "late_s")):
            near(run.value(f"syncnorm_rank_{name}_total{rank}"), member[field], f"{name}{rank}")
        share = member["last"] / member["rounds"]
        ratio = run.value(f"rank:syncnorm_last:ratio1m{rank}")
        assert abs(share - ratio) < 0.1, f"last{rank}: {ratio} for Prometheus, {share}"
        if member["rank"] == SLOW:
            assert share > 0.5, member
            near(run.value(f"rank:syncnorm_late_seconds:mean1m{rank}"), member["late_mean_s"],
                 f"mean{rank}", relative=0.5)
    assert len(group["members"]) == 3

    assert len(group["layers"]) == 4, "two layers, two directions"
    for layer in group["layers"]:
        of = '{{group="steady",layer="{name}",direction="{direction}"}}'.format(**layer)
        near(run.value(f"syncnorm_layer_rounds_total{of}"), layer["rounds"], of)
        near(run.value(f"syncnorm_layer_wait_seconds_total{of}"), layer["wait_s"], of)
        if "drift" in layer:
            of = f'{{group="steady",layer="{layer["name"]}"}}'
            near(run.value(f"syncnorm_layer_shift{of}"), layer["drift"]["shift"], of)
            near(run.value(f"syncnorm_layer_spread{of}"), layer["drift"]["spread"], of)

    # The other groups go on.
    for name in ("streams", "members", "groups", "epochs"):
        harness.wait_for(lambda name=name: run.value(
            f'syncnorm_{name}{{instance="{run.a_admin}"}}') == run.steady()[1]["status"][name], name)
    security = json.loads(get(f"http://{run.b_admin}/statusz.json"))["security"]
    left = run.value("syncnorm_certificate_not_after_seconds - time()")
    assert abs(left - security["certificate_left_s"]) < 5, (left, security)


def exposition(run):
    """{name: (type, help, labels)} of both coordinators."""
    found = {}
    for admin in (run.a_admin, run.b_admin):
        text = get(f"http://{admin}/metrics")
        subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)
        types, helps = dict(TYPE.findall(text)), dict(HELP.findall(text))
        for line in text.splitlines():
            if line.startswith("#") or not line:
                continue
            series, labels = SERIES.fullmatch(line).groups()
            name = series if series in types else re.sub("_(bucket|sum|count)$", "", series)
            labels = set(LABEL.findall(labels or "")) - {"le"}
            _, _, before = found.get(name, (None, None, set()))
            found[name] = (types[name], helps.get(name, ""), labels | before)
    return found


def check_names(run):
    """Rules, dashboard and page name metrics that there are; the page names all, as they are."""
    there = exposition(run)
    for name, (_, help_text, _) in there.items():
        assert len(help_text) > 10, f"{name} has no HELP"

    used = {}
    for path in (prometheus.RULES, prometheus.DASHBOARD, prometheus.PAGE):
        for name in METRIC.findall(prometheus.read(path)):
            used.setdefault(re.sub("_(bucket|sum|count)$", "", name), path)
    unknown = {name: path for name, path in used.items() if name not in there}
    assert not unknown, f"no such metrics: {unknown}"

    page = {}
    for row in prometheus.read(prometheus.PAGE).splitlines():
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        if len(cells) == 4 and cells[1] in ("gauge", "counter", "histogram"):
            page[cells[0].strip("`")] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
            assert cells[3], row
    assert set(page) == set(there), \
        f"on the page and in /metrics differ: {sorted(set(page) ^ set(there))}"
    for name, (kind, labels) in page.items():
        assert (kind, labels) == (there[name][0], there[name][2]), (name, kind, labels, there[name])


def check_drain(run):
    """Last, as it is the end of A: it waits for an open round, and the alert says so."""
    run.a.terminate()
    harness.wait_for(lambda: any(alert["alertname"] == "SyncnormDraining" and
                                 alert["instance"] == run.a_admin
                                 for alert in run.prometheus.firing()), "SyncnormDraining to fire")


def main():
    start = time.monotonic()
    try:
        prometheus.need("prometheus", "promtool", "openssl")
    except harness.Skipped as why:
        print(f"SKIP: {why}")
        return 77
    with harness.World(harness.Programs(sys.argv[1])) as world:
        run = Run(world)
        for step in (happen, freeze, check_values, check_alerts_fire, check_rules, check_dashboard,
                     check_names, check_drain):
            step(run)
            print(f"{time.monotonic() - start:5.1f} s {step.__name__}: {step.__doc__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
