"""Stands in for the coordinator's HTTP server: the page's files under the coordinator's own policy, and
whatever figures a test sets.  For what a real run does not show: thousands of ranks, hostile names, a
coordinator that is gone and back.

usage: stand_in.py PROJECT [PORT]     serves some figures, to look at the page while it is drawn
"""
import http.server
import json
import os
import re
import sys
import threading
import urllib.parse

import vitals as made

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8"}


def policy(project):
    """kStatuszPolicy of server/statusz_assets.h."""
    with open(os.path.join(project, "server", "statusz_assets.h"), encoding="utf-8") as f:
        value = re.search(r"kStatuszPolicy =((?:\s*\"[^\"]*\")+);", f.read()).group(1)
    return "".join(re.findall(r'"([^"]*)"', value))


class StandIn:
    """vitals: what /statusz.json tells, a VitalsReply; may be set at any time.  fault: None, or
    "closed" (connections are dropped), an HTTP status, or a text that is no JSON."""

    def __init__(self, project, assets=None, port=0):
        self.assets = assets or os.path.join(project, "server", "statusz")
        self.policy = policy(project)
        self.vitals = None
        self.fault = None
        self.asked = []
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                stand_in.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, request):
        url = urllib.parse.urlsplit(request.path)
        if url.path == "/statusz.json":
            self.asked.append(request.path)
            fault, v = self.fault, self.vitals
            if fault == "closed":
                request.close_connection = True
                request.connection.close()
            elif isinstance(fault, int):
                self.send(request, fault, "application/json", json.dumps({"error": "not now"}))
            elif fault:
                self.send(request, 200, "text/html", fault)
            else:
                self.send(request, *self.figures(v, urllib.parse.parse_qs(url.query)))
            return
        name = "statusz.html" if url.path == "/statusz" else url.path.lstrip("/")
        path = os.path.join(self.assets, name)
        if ".." in name or not os.path.isfile(path):
            self.send(request, 404, "text/plain", "no such file\n")
            return
        with open(path, "rb") as f:
            self.send(request, 200, TYPES[os.path.splitext(path)[1]], f.read())

    @staticmethod
    def figures(v, query):
        name = query.get("group", [None])[0]
        if name is None:
            return 200, "application/json", made.to_json(made.without_timelines(v))
        chosen = [g for g in v.groups if g.name == name]
        if not chosen:
            return 404, "application/json", json.dumps({"error": f"no group {name!r}"})
        one = type(v)()
        one.CopyFrom(v)
        del one.groups[:]
        one.groups.extend(chosen)
        return 200, "application/json", made.to_json(one if query.get("timeline") == ["1"] else made.without_timelines(one))

    def send(self, request, status, kind, body):
        body = body.encode() if isinstance(body, str) else body
        try:
            request.send_response(status)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.send_header("Content-Security-Policy", self.policy)
            request.send_header("X-Content-Type-Options", "nosniff")
            request.send_header("Cache-Control", "no-cache")
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            pass  # the browser has gone on

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    project = os.path.abspath(sys.argv[1])
    pb = made.load(os.path.join(project, "proto"))
    stand_in = StandIn(project, port=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    stand_in.vitals = made.vitals(pb, [
        made.group(pb, "world", ranks=8, late=2, open_rounds=[("layer3.bn", 0.021, [2], 1)]),
        made.group(pb, "evaluation", ranks=2, seed=5, layers=4)], failures=[
            (312.0, "world", 'group "world" epoch 2 round 40: rank 2 sent layer4.bn (forward, step 17), ranks 0,1 sent layer3.bn (forward, step 17)')])
    print(f"{stand_in.url}/statusz", flush=True)
    stand_in.thread.join()
