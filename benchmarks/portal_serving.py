"""(n) The portal behind nginx: memory of the server, and how soon a browser shows it on a slow machine."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]

from common import (
    CACHE,
    MB,
    BenchmarkError,
    fresh_folder,
    process_memory,
    run_quietly,
    say,
    smoll_command,
    table,
    verdict,
)

TITLE = "(n) The portal behind a file server"
_FOLDER = CACHE / "serving"
_ROUNDS, _CLIENTS, _MEMORY = 20, 8, 10 * MB
_SLOW = (1, 4, 6)
_PAGES = {
    "overview": "index.html",
    "a dashboard": "dashboards/delays.html",
    "a table of the catalog": "catalog/{table}",
    "lineage": "lineage.html",
    "dbt docs": "dbt/index.html",
}
_PAINTED = "performance.getEntriesByName('first-contentful-paint').length > 0"
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_CHARTS = """() => {
  const charts = [...document.querySelectorAll('figure.chart')];
  return charts.length > 0 && charts.every(
    (chart) => chart.closest('[hidden]') || chart.querySelector('.marks canvas, svg.marks, canvas.marks'));
}"""


def run(repeat: int, copies: int) -> str:
    """Measure, and return the section of the report."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program or not chromium:
        raise BenchmarkError("nginx and Chromium are needed; on Debian: apt-get install nginx-light chromium")
    project = _FOLDER / "demo"
    fresh_folder(_FOLDER)
    run_quietly(smoll_command("init", str(project), "--template", "flights"), _FOLDER, {})
    run_quietly(smoll_command("--project", str(project), "run"), project, {})
    portal = project / ".smoll" / "releases" / "current" / "portal"
    table_page = next(iter(sorted((portal / "catalog").glob("*fct_flights*.html")))).name
    pages = {name: path.format(table=table_page) for name, path in _PAGES.items()}
    with _nginx(program, portal) as (url, server):
        idle = _memory(server)
        rate = statistics.median(_requests(portal, url) for _ in range(repeat))
        busy = _memory(server)
        paints = {
            name: {slow: _paint(chromium, url + path, slow, repeat) for slow in _SLOW} for name, path in pages.items()
        }
    sizes = {name: (portal / path).stat().st_size for name, path in pages.items()}
    return "\n\n".join(
        [
            f"The demo's portal behind nginx with one worker and `gzip on`. Memory of master and worker: {idle.told} "
            f"at rest, {busy.told} after {_ROUNDS * repeat} times all of its files for {_CLIENTS} clients at once "
            f"({rate:,.0f} requests a second, the clients on the same cores).",
            "Milliseconds until Chromium has painted something, and until all charts of the page are drawn, with an "
            "empty cache; the processor as it is, and slowed down to a quarter and a sixth by the browser itself, as a "
            "stand-in for a small machine. dbt docs is the page that dbt makes of the same project.",
            _paints_table(sizes, paints),
            verdict(
                max(idle.pss, busy.pss) <= _MEMORY,
                f"{busy.told}, in which what master and worker share counts twice (aim: under {_MEMORY / MB:.0f} MB).",
            ),
        ]
    )


class _Memory:
    """Of all of a server's processes, in bytes."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self.rss = sum(process.memory_info().rss for process in processes)
        self.pss = sum(process_memory(process) for process in processes)

    @property
    def told(self) -> str:
        return f"{self.pss / MB:.1f} MB of PSS, {self.rss / MB:.1f} MB of RSS"


def _memory(pid: int) -> _Memory:
    master = psutil.Process(pid)
    return _Memory([master, *master.children(recursive=True)])


@contextmanager
def _nginx(program: str, portal: Path) -> Iterator[tuple[str, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = _FOLDER / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    places = "\n".join(f"  {kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration.write_text(
        f"""{user}
daemon off;
worker_processes 1;
pid nginx.pid;
events {{}}
http {{
  access_log off;
  include /etc/nginx/mime.types;
  gzip on;
  gzip_types text/css application/javascript image/svg+xml;
{places}
  server {{ listen 127.0.0.1:{port}; root "{portal}"; }}
}}
""",
        encoding="utf-8",
    )
    command = [program, "-p", str(_FOLDER), "-e", str(_FOLDER / "error.log"), "-c", str(configuration)]
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_for(url)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with urlopen(url):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise BenchmarkError(f"nginx did not start\n{(_FOLDER / 'error.log').read_text(encoding='utf-8')}")


def _requests(portal: Path, url: str) -> float:
    """Fetch all files some times over. Returns requests per second."""
    files = [path.relative_to(portal).as_posix() for path in portal.rglob("*") if path.is_file()] * _ROUNDS

    def fetch(path: str) -> None:
        with urlopen(url + path) as answer:
            answer.read()

    begun = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(fetch, files))
    return len(files) / (time.perf_counter() - begun)


def _paint(chromium: str, url: str, slow: int, repeat: int) -> tuple[float, float | None]:
    """Median milliseconds until the first paint and until the charts are drawn, None where the page has none."""
    from playwright.sync_api import sync_playwright

    first: list[float] = []
    drawn: list[float] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for _ in range(repeat):
            # The portal's policy forbids what Playwright waits with.
            context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
            tab = context.new_page()
            context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slow})
            tab.goto(url)
            tab.wait_for_function(_PAINTED)
            first.append(tab.evaluate(_PAINT))
            if tab.locator("figure.chart").count():
                tab.wait_for_function(_CHARTS, timeout=60_000, polling=20)
                drawn.append(tab.evaluate("performance.now()"))
            context.close()
        browser.close()
    say(f"{url} at 1/{slow}: {statistics.median(first):.0f} ms")
    return statistics.median(first), statistics.median(drawn) if drawn else None


def _paints_table(sizes: Mapping[str, int], paints: Mapping[str, Mapping[int, tuple[float, float | None]]]) -> str:
    header = ["", "page", *(f"at {'full speed' if slow == 1 else f'1/{slow}'}: painted, drawn" for slow in _SLOW)]
    rows = []
    for name, by_speed in paints.items():
        cells = [f"{first:.0f} ms" + (f", {drawn:.0f} ms" if drawn else "") for first, drawn in by_speed.values()]
        rows.append([name, f"{sizes[name] / 1000:,.0f} KB", *cells])
    return table(header, rows)
