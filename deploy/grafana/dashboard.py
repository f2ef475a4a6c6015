#!/usr/bin/env python3
"""Writes syncnorm.json, the Grafana dashboard (9.0 or later), from what stands here.

usage: deploy/grafana/dashboard.py            writes it
       deploy/grafana/dashboard.py --check    exit status 1 if it is not what this would write

Panels ask for what ../prometheus/alerts.yml records, where it records it, so that dashboard and
alerts show the same figures.
"""
import json
import os
import sys

OUTPUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "syncnorm.json")
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
WIDTH = 24  # of Grafana's grid

# Okabe and Ito's colours: told apart with any kind of colour vision.  Never green against red.
BLUE, SKY, ORANGE, VERMILION, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#999999")
# From cold to hot, and each darker than the one before by a fifth or more: it can be read in grey.
LATE = [(None, "#E3EEF7"), (0.0002, "#B9D8EF"), (0.001, "#8CC0E6"), (0.005, "#D98A00"),
        (0.02, VERMILION), (0.1, "#8C3B00"), (1, "#3D1A00")]

OF_JOB = 'job=~"$job",instance=~"$instance"'
OF_GROUP = OF_JOB + ',group=~"$group"'


def thresholds(steps):
    return {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in steps]}


def shades(colour):
    """Series of one kind: shades of one colour; their names stand in the legend."""
    return {"mode": "shades", "fixedColor": colour}


# By value: the warmer, the larger.
BY_VALUE = {"mode": "continuous-BlYlRd"}


def query(expression, legend="", **more):
    return {"expr": expression, "legendFormat": legend or "__auto", **more}


def panel(kind, title, description, queries, unit, width=8, height=8, color=None, steps=None,
          options=None, custom=None, overrides=(), **defaults):
    table = kind == "table"
    targets = []
    for letter, one in zip("ABCDEFGH", queries):
        form = "heatmap" if kind == "heatmap" else "table" if table else "time_series"
        # One value is asked for, not a stretch, where one is shown.
        instant = kind in ("stat", "bargauge", "table")
        targets.append({"refId": letter, "datasource": SOURCE, "format": form, "instant": instant,
                        "range": not instant, **one})
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE,
        "targets": targets, "width": width, "height": height,
        "fieldConfig": {
            "defaults": {"unit": unit, "color": color or {"mode": "thresholds"},
                         "thresholds": thresholds(steps or [(None, BLUE)]),
                         "custom": custom or {}, **defaults},
            "overrides": list(overrides)},
        "options": options or {},
    }


def lines(title, description, queries, unit, color=None, stacked=False, draw="line", **more):
    legend = {"displayMode": "table", "placement": "bottom", "showLegend": True,
              "calcs": ["lastNotNull", "max"]}
    custom = {"drawStyle": draw, "lineWidth": 2 if draw == "line" else 1,
              "fillOpacity": 60 if draw == "bars" else 8, "showPoints": "never",
              "stacking": {"mode": "normal" if stacked else "none", "group": "A"}}
    return panel("timeseries", title, description, queries, unit, color=color or shades(BLUE),
                 custom=custom, min=0,
                 options={"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}, **more)


def number(title, description, expression, unit, steps=None, width=4, **more):
    return panel("stat", title, description, [query(expression)], unit, width=width, height=4,
                 steps=steps,
                 options={"colorMode": "value", "graphMode": "none", "textMode": "auto",
                          "reduceOptions": {"calcs": ["lastNotNull"], "fields": "",
                                            "values": False}}, **more)


def bars(title, description, expression, legend, unit, color=None, **more):
    return panel("bargauge", title, description, [query(expression, legend)], unit,
                 color=color or BY_VALUE, min=0,
                 options={"orientation": "horizontal", "displayMode": "basic", "valueMode": "text",
                          "showUnfilled": True, "namePlacement": "left",
                          "reduceOptions": {"calcs": ["lastNotNull"], "fields": "",
                                            "values": False}}, **more)


def colour_of(names):
    """Overrides: series of these names, these colours."""
    return [{"matcher": {"id": "byRegexp", "options": pattern},
             "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
            for pattern, colour in names.items()]


# Rows from the question that comes first to the last: is it well, who is late, what failed, who was
# refused, what does it cost.
ROWS = [
    ("Rounds", [
        number("Rounds per second", "Complete rounds of the chosen groups, over the last minute.",
               f"sum(group:syncnorm_rounds:rate1m{{{OF_GROUP}}})", "ops"),
        number("Round time, p50",
               "From a round's first contribution to its result: half of the last minute's rounds "
               "took less. All groups together.",
               "histogram_quantile(0.5, sum by (le) "
               f"(rate(syncnorm_group_round_seconds_bucket{{{OF_GROUP}}}[1m])))", "s"),
        number("Round time, p99", "The same of 99 in 100 rounds.",
               "histogram_quantile(0.99, sum by (le) "
               f"(rate(syncnorm_group_round_seconds_bucket{{{OF_GROUP}}}[1m])))", "s",
               steps=[(None, BLUE), (0.1, ORANGE), (1, VERMILION)]),
        number("Failed rounds, 5 min",
               "Rounds of all groups of the coordinator that ended without a result. Their codes: "
               "below.",
               f"sum(code:syncnorm_rounds_failed:increase5m{{{OF_JOB}}})", "short",
               steps=[(None, BLUE), (0.5, VERMILION)], decimals=0),
        number("Oldest open round",
               "How long the round has been open that waits longest; above 30 s the alert "
               "SyncnormRoundStuck fires.",
               f"max(syncnorm_group_oldest_open_round_seconds{{{OF_GROUP}}})", "s",
               steps=[(None, BLUE), (5, ORANGE), (30, VERMILION)]),
        number("Members here", "Connected members of the chosen groups.",
               f'sum(syncnorm_group_members{{{OF_GROUP},state="here"}})', "short"),
        lines("Rounds per second", "Complete rounds, by group.",
              [query(f"group:syncnorm_rounds:rate1m{{{OF_GROUP}}}", "{{group}}")], "ops"),
        lines("Round time",
              "From a round's first contribution to its result, by group: half of the rounds took "
              "less than p50, 99 in 100 less than p99. Mostly the wait for the last member.",
              [query(f"group:syncnorm_round_seconds:p50{{{OF_GROUP}}}", "{{group}} p50"),
               query(f"group:syncnorm_round_seconds:p99{{{OF_GROUP}}}", "{{group}} p99")], "s",
              overrides=colour_of({"/ p50$/": SKY, "/ p99$/": ORANGE})),
        panel("heatmap", "Distribution of round times",
              "How many rounds a second took how long. Two bands: some rounds wait for somebody.",
              [query("sum by (le) (rate(syncnorm_group_round_seconds_bucket"
                     f"{{{OF_GROUP}}}[$__rate_interval]))", "{{le}}")], "ops",
              custom={"scaleDistribution": {"type": "linear"}},
              options={"calculate": False, "cellGap": 1,
                       "color": {"mode": "scheme", "scheme": "Blues", "steps": 64,
                                 "reverse": False, "exponent": 0.5, "scale": "exponential",
                                 "fill": BLUE},
                       "yAxis": {"unit": "s", "axisPlacement": "left"},
                       "tooltip": {"show": True, "mode": "single", "yHistogram": True},
                       "exemplars": {"color": PURPLE}, "filterValues": {"le": 1e-9},
                       "legend": {"show": True}, "rowsFrame": {"layout": "auto"},
                       "cellValues": {"unit": "ops"}, "showValue": "never"}),
    ]),
    ("Who waits for whom", [
        panel("state-timeline", "Lateness by rank",
              "How long after a round's first contribution a rank's own came, on average. A row "
              "that is darker than the others: everybody waits for that rank.",
              [query(f"rank:syncnorm_late_seconds:mean1m{{{OF_GROUP}}}",
                     "{{group}} rank {{rank}}")],
              "s", width=24, height=9, steps=LATE,
              custom={"fillOpacity": 100, "lineWidth": 0},
              options={"mergeValues": True, "showValue": "never", "rowHeight": 0.9,
                       "alignValue": "left", "tooltip": {"mode": "single"},
                       "legend": {"displayMode": "list", "placement": "bottom",
                                  "showLegend": True}}),
        bars("Share of rounds that a rank ended",
             "In which share of the last minute's rounds a rank's contribution was the last. Of W "
             "members that take turns each has 1/W.",
             f"topk(24, rank:syncnorm_last:ratio1m{{{OF_GROUP}}})", "{{group}} rank {{rank}}",
             "percentunit", max=1),
        bars("Wait by layer",
             "From a round's first to its last contribution, on average, in 5 minutes; the 24 layers "
             "with the longest. One layer alone: what comes before it is slow, such as a data loader "
             "before the first.",
             "topk(24, sum by (group, layer, direction) "
             f"(rate(syncnorm_layer_wait_seconds_total{{{OF_GROUP}}}[5m])) / (sum by "
             "(group, layer, direction) "
             f"(rate(syncnorm_layer_rounds_total{{{OF_GROUP}}}[5m])) > 0))",
             "{{group}} {{layer}} {{direction}}", "s"),
        lines("Time spent in waits",
              "Seconds a second in which a group's rounds waited for their last member. 1: it does "
              "nothing else.",
              [query("sum by (group) (rate(syncnorm_layer_wait_seconds_total"
                     f"{{{OF_GROUP}}}[$__rate_interval]))", "{{group}}")], "percentunit"),
        bars("Drift of means by layer",
             "How far the members' own means are from the group's, in the group's deviations, root "
             "mean square: what a layer would lose without synchronisation. PowerNorm has none.",
             f"topk(24, syncnorm_layer_shift{{{OF_GROUP}}})", "{{group}} {{layer}}", "short",
             width=12, decimals=2),
        bars("Drift of deviations by layer",
             "The same of the natural logarithm of the members' own deviations to the group's.",
             f"topk(24, syncnorm_layer_spread{{{OF_GROUP}}})", "{{group}} {{layer}}", "short",
             width=12, decimals=2),
    ]),
    ("Failures", [
        lines("Failed rounds by code",
              "Rounds that ended without a result, in 5 minutes. ABORTED: members differ or one was "
              "lost; DEADLINE_EXCEEDED: some did not come; INVALID_ARGUMENT: not finite, or not fit.",
              [query(f"sum by (code) (code:syncnorm_rounds_failed:increase5m{{{OF_JOB}}})",
                     "{{code}}")],
              "short", color=BY_VALUE, draw="bars", stacked=True),
        lines("Failed rounds by group", "Since each group formed. Ends with the group.",
              [query(f"syncnorm_group_rounds_failed_total{{{OF_GROUP}}}", "{{group}}")], "short",
              color=shades(VERMILION)),
        lines("Missed deadlines by rank",
              "Rounds that ran into their deadline for want of a rank, since its group formed.",
              [query(f"syncnorm_rank_missed_total{{{OF_GROUP}}}", "{{group}} rank {{rank}}")],
              "short", color=BY_VALUE),
        lines("Members by state",
              "here: connected; away: the stream broke, and it may come back; absent: not there yet; "
              "left: said so; lost: given up.",
              [query(f"sum by (state) (syncnorm_group_members{{{OF_GROUP}}})", "{{state}}")],
              "short", draw="line",
              overrides=colour_of({"here": BLUE, "away": ORANGE, "absent": GREY, "left": SKY,
                                   "lost": VERMILION})),
        lines("Not finite, repeats, stragglers",
              "A second: contributions with NaN or infinity; contributions that had come before, as "
              "after a broken connection; rounds that waited longer than --straggler_warning.",
              [query("sum(rate(syncnorm_not_finite_total"
                     f"{{{OF_JOB}}}[$__rate_interval]))", "not finite"),
               query(f"sum(rate(syncnorm_repeats_total{{{OF_JOB}}}[$__rate_interval]))", "repeats"),
               query("sum(rate(syncnorm_stragglers_total"
                     f"{{{OF_JOB}}}[$__rate_interval]))", "stragglers")], "ops",
              overrides=colour_of({"not finite": VERMILION, "repeats": SKY, "stragglers": ORANGE})),
        lines("Reports on failures, gaps in the log",
              "Since the start: files in --dump_dir, written or not; lines of the log that were "
              "dropped, as nobody took them from stderr.",
              [query(f"sum by (result) (syncnorm_dumps_total{{{OF_JOB}}})", "report {{result}}"),
               query(f"sum(syncnorm_log_dropped_total{{{OF_JOB}}})", "lines dropped")],
              "short", overrides=colour_of({"/ ok$/": BLUE, "/ failed$/": VERMILION,
                                            "lines dropped": ORANGE})),
    ]),
    ("Authentication and TLS", [
        lines("Refused calls by reason",
              "Streams and calls that were refused, a second, over 5 minutes.",
              [query(f"sum by (reason) (reason:syncnorm_refused:rate5m{{{OF_JOB}}})",
                     "{{reason}}")],
              "ops", color=BY_VALUE, draw="bars", stacked=True, width=10),
        number("Certificate ends in",
               "Until the end of the coordinator's certificate, the one that ends first. Without "
               "TLS there is none.",
               f"min(syncnorm_certificate_not_after_seconds{{{OF_JOB}}} - time())", "s",
               steps=[(None, VERMILION), (3 * 86400, ORANGE), (14 * 86400, BLUE)], width=5,
               noValue="no TLS"),
        number("In plaintext", "Coordinators that other machines can reach in plaintext.",
               f"sum(syncnorm_insecure{{{OF_JOB}}})", "short",
               steps=[(None, BLUE), (1, VERMILION)], width=4),
        lines("Reloads", "Certificates and tokens that changed: read again, or not usable.",
              [query(f"sum by (result) (syncnorm_reloads_total{{{OF_JOB}}})", "{{result}}")],
              "short", overrides=colour_of({"ok": BLUE, "failed": VERMILION}), width=5),
    ]),
    ("Process", [
        number("Answers", "Coordinators whose admin port answers.", f"sum(up{{{OF_JOB}}})", "short",
               steps=[(None, VERMILION), (1, BLUE)], width=3),
        number("Up for", "Since the latest start.",
               f"time() - max(process_start_time_seconds{{{OF_JOB}}})", "s", width=3),
        panel("table", "Versions", "What runs.",
              [query(f"count by (instance, version, grpc) (syncnorm_build_info{{{OF_JOB}}})")],
              "short", width=6, height=4),
        number("Draining", "Coordinators that let their rounds finish, to end.",
               f"sum(syncnorm_draining{{{OF_JOB}}})", "short",
               steps=[(None, BLUE), (1, ORANGE)], width=3),
        number("Groups", "That form or run.", f"sum(syncnorm_groups{{{OF_JOB}}})", "short", width=3),
        number("Epochs", "Issued since the start: one for each set of members of a group.",
               f"sum(syncnorm_epochs{{{OF_JOB}}})", "short", width=3),
        number("Away", "Members whose streams broke, and who may come back.",
               f"sum(syncnorm_members_away{{{OF_JOB}}})", "short",
               steps=[(None, BLUE), (1, ORANGE)], width=3),
        lines("CPU", "Cores in use. One thread folds: near 1, it is what rounds wait for.",
              [query(f"rate(process_cpu_seconds_total{{{OF_JOB}}}[$__rate_interval])",
                     "{{instance}}")],
              "short", width=6),
        lines("Memory", "Resident.",
              [query(f"process_resident_memory_bytes{{{OF_JOB}}}", "{{instance}}")], "bytes",
              width=6),
        lines("File descriptors", "Share of what may be open. At 1 no worker can connect any more.",
              [query(f"process_open_fds{{{OF_JOB}}} / process_max_fds{{{OF_JOB}}}",
                     "{{instance}}")],
              "percentunit", width=6, max=1),
        lines("Streams and members", "Open streams of workers; members that are connected.",
              [query(f"sum(syncnorm_streams{{{OF_JOB}}})", "streams"),
               query(f"sum(syncnorm_members{{{OF_JOB}}})", "members")], "short", width=6,
              overrides=colour_of({"streams": SKY, "members": ORANGE})),
        lines("Rounds in memory",
              "Open: wait for members. Kept: ended, and there to answer repeats.",
              [query(f"sum(syncnorm_open_rounds{{{OF_JOB}}})", "open"),
               query(f"sum(syncnorm_kept_rounds{{{OF_JOB}}})", "kept")], "short", width=8,
              overrides=colour_of({"open": ORANGE, "kept": BLUE})),
        lines("Bytes of rounds", "Of values in open rounds, and of answers that are kept.",
              [query(f"sum(syncnorm_open_bytes{{{OF_JOB}}})", "open"),
               query(f"sum(syncnorm_kept_bytes{{{OF_JOB}}})", "kept")], "bytes", width=8,
              overrides=colour_of({"open": ORANGE, "kept": BLUE})),
        lines("Contributions", "That came, a second: rounds times members.",
              [query("sum by (instance) (rate(syncnorm_contributions_total"
                     f"{{{OF_JOB}}}[$__rate_interval]))", "{{instance}}")], "ops", width=8),
    ]),
]


def placed(rows):
    """Panels with their places, from left to right and from top to bottom."""
    number_of, y, found = 0, 0, []
    for title, panels in rows:
        number_of += 1
        found.append({"id": number_of, "type": "row", "title": title, "collapsed": False,
                      "panels": [], "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        x, y, tallest = 0, y + 1, 0
        for one in panels:
            one = dict(one)
            width, height = one.pop("width"), one.pop("height")
            if x + width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number_of += 1
            found.append({"id": number_of, **one,
                          "gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return found


def variable(name, label, metric, selector, **more):
    values = f"label_values({metric}{{{selector}}}, {name})" if selector else \
        f"label_values({metric}, {name})"
    return {"type": "query", "name": name, "label": label, "datasource": SOURCE,
            "query": {"query": values, "refId": name}, "definition": values, "refresh": 2,
            "sort": 1, "multi": True, "includeAll": True, "hide": 0, "regex": "",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, **more}


def dashboard():
    panels = placed(ROWS)
    kinds = sorted({p["type"] for p in panels} - {"row"})
    return {
        "__inputs": [{"name": "DS_PROMETHEUS", "label": "Prometheus",
                      "description": "The one that scrapes the coordinators", "type": "datasource",
                      "pluginId": "prometheus", "pluginName": "Prometheus"}],
        "__requires": [{"type": "grafana", "id": "grafana", "name": "Grafana", "version": "9.0.0"},
                       {"type": "datasource", "id": "prometheus", "name": "Prometheus",
                        "version": "1.0.0"},
                       *({"type": "panel", "id": kind, "name": kind, "version": ""}
                         for kind in kinds)],
        "id": None, "uid": "syncnorm", "title": "syncnorm", "tags": ["syncnorm"],
        "description": "Coordinators of syncnorm: rounds, who waits for whom, what failed. "
                       "Written by deploy/grafana/dashboard.py.",
        "editable": True, "graphTooltip": 1, "schemaVersion": 37, "version": 1,
        "style": "dark", "timezone": "browser", "refresh": "10s", "weekStart": "",
        "time": {"from": "now-30m", "to": "now"}, "timepicker": {}, "links": [],
        "annotations": {"list": [{
            "name": "Alerts", "datasource": SOURCE, "enable": True, "hide": False,
            "iconColor": VERMILION, "step": "15s", "titleFormat": "{{alertname}}",
            "textFormat": "{{group}} {{rank}} {{code}}", "tagKeys": "severity",
            "expr": f'ALERTS{{{OF_JOB},alertstate="firing"}}'}]},
        "templating": {"list": [
            # Values only, no ".*": process_* are the names of other exporters' metrics too.
            variable("job", "Job", "syncnorm_build_info", ""),
            variable("instance", "Coordinator", "syncnorm_build_info", 'job=~"$job"'),
            variable("group", "Group", "syncnorm_group_rounds_total", OF_JOB, allValue=".*")]},
        "panels": panels,
    }


def main():
    text = json.dumps(dashboard(), indent=1) + "\n"
    if sys.argv[1:] == ["--check"]:
        with open(OUTPUT, encoding="utf-8") as f:
            if f.read() != text:
                print(f"{OUTPUT} is not what dashboard.py writes: run it")
                return 1
        return 0
    with open(OUTPUT, "w", encoding="utf-8") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
