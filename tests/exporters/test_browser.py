"""The page in a real browser, with the guards taken away one after the other."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading

import pytest

from session_manager.exporters.html import written
from tests.support.hostile import HOSTILE, hostile_session

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.once,
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
]

POLICY = '<meta http-equiv="Content-Security-Policy"'
RAN = "<title>1</title>"


@pytest.fixture
def requests():
    """The paths that a browser asks for, whatever the server's name: all names lead here."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.headers["Host"].endswith(".example"):  # the browser asks its maker for the time, too
                asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield asked, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opened(tmp_path, requests):
    """Show a page in the browser; return its document after two seconds of the page's time."""

    def show(text):
        file = tmp_path / "page.html"
        file.write_text(text)
        words = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *(
                f"--host-resolver-rules=MAP * 127.0.0.1:{requests[1]}",
                "--disable-background-networking",
                "--no-proxy-server",
            ),
            *("--virtual-time-budget=2000", "--dump-dom", file.as_uri()),
        ]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=90).stdout

    return show


def page():
    """A page of all hostile texts, unfolded, whose scripts would change the title."""
    texts = [text.replace("alert(1)", "document.title=1").replace("127.0.0.1:9", "a.example") for text in HOSTILE]
    text = b"".join(written(hostile_session(*texts))).decode()
    return text.replace("<details ", "<details open ")


def test_the_browser_runs_scripts_and_loads_images_of_other_pages(opened, requests):
    text = "<title>x</title><img src=http://a.example/hit onerror=document.title=1>"
    assert RAN in opened(text)
    assert requests[0] == ["/hit"]


def test_the_page_runs_and_loads_nothing_even_without_its_policy(opened, requests):
    text = page()
    assert POLICY in text
    document = opened(text.replace(POLICY, "<meta "))
    assert RAN not in document
    assert "<article" in document
    assert requests[0] == []


def test_the_policy_alone_stops_a_script_and_an_image(opened, requests):
    """If a mistake in the escaping ever lets one through."""
    text = page().replace(
        "<main>", "<main><script>document.title=1</script><img src=http://a.example/hit onerror=document.title=1>"
    )
    document = opened(text)
    assert "<script>document" in document
    assert RAN not in document
    assert requests[0] == []
