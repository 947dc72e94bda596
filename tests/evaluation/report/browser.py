"""A real Chromium over its debugging pipe: pages, keys, downloads, faults. No tests here."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Nothing of its own over the network, which would be in the way of seeing what the page asks for.
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_S = 60


class BrowserMissingError(Exception):
    """There is no Chromium on this machine."""


class Browser:
    """One process, one page at a time; each page has storage of its own."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            raise BrowserMissingError("no Chromium: on Debian, apt-get install chromium")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={profile}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        # The browser reads file descriptor 3 and writes 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", program, *flags],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._last_id = b"", 0
        self.pages: dict[str, Page] = {}

    def close(self) -> None:
        self.send("Browser.close")
        self._process.wait(_PATIENCE_S)
        os.close(self._in)
        os.close(self._out)

    def open(self, path: Path, *, before: str = "", media: dict[str, str] | None = None) -> Page:
        """A page that shows the file, instead of the page before. before: a script that runs ahead
        of the page's own."""
        for old in self.pages.values():
            self.send("Target.disposeBrowserContext", browserContextId=old.context)
        self.pages.clear()
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], context)
        self.pages[page.session] = page
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            page.send(f"{domain}.enable")
        if before:
            page.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        features = [{"name": key, "value": value} for key, value in (media or {}).items()]
        page.send("Emulation.setEmulatedMedia", features=features)
        page.send("Page.navigate", url=path.as_uri())
        page.wait(lambda: "Page.loadEventFired" in page.events)
        return page

    def send(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command; what happens meanwhile goes to its page."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        awaited = self._last_id
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            answer = self._read(deadline)
            if answer.get("id") == awaited:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], max(deadline - time.monotonic(), 0))[0], (
                "the browser does not answer"
            )
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            for page in self.pages.values():
                if message.get("sessionId", page.session) == page.session:
                    page.take(message["method"], message["params"])
        return message


@dataclass
class Page:
    """requests: every address that it asked for. problems: errors, refusals, exceptions."""

    browser: Browser
    session: str
    context: str
    events: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    downloaded: list[str] = field(default_factory=list)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.send(method, session=self.session, **parameters)

    def take(self, event: str, parameters: dict[str, Any]) -> None:
        self.events.add(event)
        if event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Log.entryAdded":
            self.problems.append(parameters["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.problems.append(json.dumps(parameters["args"]))
        elif event == "Browser.downloadProgress" and parameters["state"] == "completed":
            self.downloaded.append(parameters["guid"])

    def wait(self, condition: Callable[[], Any]) -> None:
        """Until the condition holds. Asking the browser anything lets events in."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.browser.send("Browser.getVersion")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            if key == "Enter":
                text = {"text": "\r"}
            code = {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, 0)
            for kind in ("keyDown", "keyUp"):
                more = text if kind == "keyDown" else {}
                self.send(
                    "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
                )

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what is there."""
        quoted = json.dumps(selector)
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({quoted});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            place = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, **place)

    def download(self, selector: str, folder: Path) -> bytes:
        """What a click on it saves."""
        self.browser.send(
            "Browser.setDownloadBehavior",
            behavior="allowAndName",
            browserContextId=self.context,
            downloadPath=str(folder),
            eventsEnabled=True,
        )
        self.downloaded.clear()
        self.click(selector)
        self.wait(lambda: self.downloaded)
        return (folder / self.downloaded[0]).read_bytes()

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def reload(self) -> None:
        self.events.clear()
        self.send("Page.reload")
        self.wait(lambda: "Page.loadEventFired" in self.events)

    def pdf(self) -> bytes:
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])
