"""A headless Chromium that is driven through two pipes, with the standard library alone."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None) if os.name == "posix" else None
QUIET = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
QUIET += "--disable-sync --no-first-run --hide-scrollbars --remote-debugging-pipe"


class Page:
    """The one page of a browser. `errors` are what its console was told of and what it threw."""

    def __init__(self, written: int, read: int):
        self.written, self.count, self.errors, self.session = written, 0, [], None
        self.answers = os.fdopen(read, "rb")
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
            answer = json.loads(b"".join(iter(lambda: self.answers.read(1), b"\0")))
            kind, params = answer.get("method"), answer.get("params", {})
            if kind == "Runtime.exceptionThrown" or (kind, params.get("type")) == ("Runtime.consoleAPICalled", "error"):
                self.errors.append(params)
            if kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
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
        self.until(lambda answer: answer.get("method") == "Page.loadEventFired")

    def value(self, expression: str):
        """What a JavaScript expression, or its promise, comes to."""
        how = {"returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, path: Path, whole: bool = True) -> None:
        """A screenshot of the page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A page of a new browser, whose profile is that folder."""
    (from_here, to_browser), (from_browser, to_here) = os.pipe(), os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    shell = f'exec "$0" "$@" 3<&{from_here} 4>&{to_here}'
    command = ["sh", "-c", shell, FOUND, *QUIET.split(), f"--user-data-dir={profile}"]
    browser = subprocess.Popen(command, pass_fds=(from_here, to_here), stderr=subprocess.DEVNULL)
    os.close(from_here)
    os.close(to_here)
    try:
        yield Page(to_browser, from_browser)
    finally:
        browser.kill()
        browser.wait()
        os.close(to_browser)
