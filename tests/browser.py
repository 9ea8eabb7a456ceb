"""A headless Chromium that is driven through two pipes, with the standard library alone."""

import json
import os
import select
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None) if os.name == "posix" else None
PATIENCE = 60  # seconds
QUIET = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
QUIET += "--disable-sync --no-first-run --hide-scrollbars --remote-debugging-pipe"


class Page:
    """The one page of a browser. `errors` are what its console was told of and what it threw."""

    def __init__(self, written: int, read: int):
        self.written, self.read, self.rest = written, read, b""
        self.count, self.errors, self.session = 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict:
        """The result of a command of the DevTools protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.written, json.dumps(message).encode() + b"\0")
        return self.until(lambda answer: answer.get("id") == self.count)["result"]

    def until(self, holds) -> dict:
        """The next message that `holds`; errors on the way are kept."""
        while True:
            while b"\0" not in self.rest:
                assert select.select([self.read], [], [], PATIENCE)[0], f"the browser said nothing for {PATIENCE} s"
                more = os.read(self.read, 1 << 20)
                assert more, "the browser has ended"
                self.rest += more
            message, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(message)
            kind, params = answer.get("method"), answer.get("params", {})
            if kind == "Runtime.exceptionThrown" or (kind, params.get("type")) == ("Runtime.consoleAPICalled", "error"):
                self.errors.append(params)
            if kind == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(params["entry"])
            if holds(answer):
                return answer

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of that size, and waits until it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.value("new Promise(done => document.readyState === 'complete' ? done() : window.onload = () => done())")

    def value(self, expression: str):
        """What a JavaScript expression, or its promise, comes to."""
        how = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A page of a new browser, whose profile is that folder."""
    (from_here, to_browser), (from_browser, to_here) = os.pipe(), os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    descriptors = [(os.POSIX_SPAWN_DUP2, from_here, 3), (os.POSIX_SPAWN_DUP2, to_here, 4)]
    descriptors += [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    command = [FOUND, *QUIET.split(), f"--user-data-dir={profile}"]
    browser = os.posix_spawn(FOUND, command, os.environ, file_actions=descriptors)
    os.close(from_here)
    os.close(to_here)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.kill(browser, signal.SIGTERM)
        os.waitpid(browser, 0)
        os.close(to_browser)
        os.close(from_browser)
