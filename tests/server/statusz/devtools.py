"""A headless Chromium, driven over its DevTools protocol through two pipes: no driver, no port, no
module beyond Python's own.

    with Browser() as browser:
        page = browser.page()
        page.open("http://127.0.0.1:1234/statusz")
        page.wait("document.title !== ''", "a title")
        page.evaluate("1 + 1")

Of each page it keeps what a developer would see red in the console: `page.errors`.
"""
import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

WAIT = 20.0  # s for anything that should come at once


def chromium():
    """The program, or None.  SYNCNORM_CHROMIUM names another one."""
    named = os.environ.get("SYNCNORM_CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="syncnorm_page_")
        to_browser, self.to_browser = os.pipe()
        self.from_browser, from_browser = os.pipe()

        def pipes():  # it reads commands from 3 and writes answers to 4
            high = [os.dup(to_browser), os.dup(from_browser)]
            while min(high) < 5:
                high = [os.dup(fd) for fd in high]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.log = open(os.path.join(self.folder, "log"), "wb")
        flags = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
                 "--disable-extensions", "--disable-component-update", "--disable-background-networking",
                 "--disable-dev-shm-usage", "--hide-scrollbars", "--font-render-hinting=none",
                 "--no-proxy-server", f"--user-data-dir={self.folder}/profile"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's own refuses to be root's
        environment = dict(os.environ, HOME=self.folder, TZ="UTC")
        self.process = subprocess.Popen([chromium(), *flags, "about:blank"], preexec_fn=pipes,
                                        pass_fds=(3, 4), stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=environment, start_new_session=True)
        os.close(to_browser)
        os.close(from_browser)
        self.number = 0
        self.answers = {}
        self.pages = {}
        self.changed = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.version = self.call("Browser.getVersion")["product"]

    def _read(self):
        rest = b""
        while chunk := os.read(self.from_browser, 1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            for text in messages:
                message = json.loads(text)
                with self.changed:
                    if "id" in message:
                        self.answers[message["id"]] = message
                    elif message.get("sessionId") in self.pages:
                        self.pages[message["sessionId"]].event(message["method"], message["params"])
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def call(self, method, session=None, **params):
        with self.changed:
            self.number += 1
            number = self.number
            message = {"id": number, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to_browser, data):]
        with self.changed:
            there = self.changed.wait_for(lambda: number in self.answers or self.ended, WAIT)
            assert there and not self.ended, f"the browser does not answer {method}: {self.tail()}"
            answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def tail(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()[-600:]

    def page(self, **size):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        with self.changed:
            self.pages[session] = page
        page.begin(**size)
        return page

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.to_browser)
        self.reader.join(WAIT)
        os.close(self.from_browser)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


# In every document before its own scripts: what its policy forbade, and the answers it was given.
WATCH = """
  window.watched = { violations: [], answers: {}, requests: [] };
  addEventListener("securitypolicyviolation", (e) =>
    watched.violations.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
  const real = fetch;
  window.fetch = async (url, options) => {
    watched.requests.push([performance.now(), String(url)]);
    const response = await real(url, options);
    response.clone().text().then((text) => {
      try { watched.answers[String(url)] = JSON.parse(text); } catch {}
    }, () => {});
    return response;
  };
"""


class Page:
    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target
        self.errors = []
        self.requested = []
        self.network_changes = 0

    def begin(self, width=1280, height=900, theme="light", phone=False, scale=1):
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.look(width, height, theme, phone, scale)

    def look(self, width=1280, height=900, theme="light", phone=False, scale=1, reduced_motion=True):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"}])

    def event(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            said = details.get("exception", {}).get("description", details["text"])
            self.errors.append(f"exception: {said}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(f"console: {[a.get('value', a.get('description')) for a in params['args']]}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            # A network came or went on this machine, of another test, say: Chromium breaks what it
            # was loading.  Nothing of the page's.
            if "ERR_NETWORK_CHANGED" in entry["text"]:
                self.network_changes += 1
                return
            self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def open(self, url):
        while True:
            before = self.network_changes
            self.call("Page.navigate", url=url)
            self.wait("document.readyState === 'complete'", f"{url} to load")
            if self.network_changes == before:
                return

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression, what, timeout=WAIT):
        """The expression's value, once it is true."""
        deadline = time.monotonic() + timeout
        expression = f"(() => {{ const v = ({expression}); return v instanceof Node ? true : v; }})()"
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}; errors: {self.errors}"
            time.sleep(0.02)
        return value

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def key(self, key, code=None, keycode=0):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
                      windowsVirtualKeyCode=keycode or KEYS.get(key, 0))

    def mouse(self, x, y, kind="mouseMoved", **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector):
        x, y = self.evaluate(f"""(() => {{
          const node = document.querySelector({json.dumps(selector)});
          node.scrollIntoView({{ block: "center" }});
          const box = node.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(x, y, kind, button="left", clickCount=1)

    def tap(self, x, y):
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path, whole=True):
        self.evaluate("scrollTo(0, 0)")
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole,
                         **({} if not whole else {"clip": self._whole()}))["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def _whole(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
        "ArrowRight": 39, "ArrowDown": 40}
