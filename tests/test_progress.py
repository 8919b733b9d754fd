"""What is said while a job runs."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from dask_labelqc import progress as module
from dask_labelqc.progress import (
    BarProgress,
    LateProgress,
    LineProgress,
    NoProgress,
    progress_for,
)
from tests.clusters import wait_for
from tests.forked_kernels import forked_kernels


def test_nothing_unless_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_for(verbose=False) as progress:
        progress.stage("summarize", 2)
        progress.advance(10)
    assert isinstance(progress, NoProgress)
    assert capfd.readouterr() == ("", "")


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_for(verbose=True, console=Console(file=io.StringIO())) as progress:
        progress.stage("summarize", 2)
        progress.advance(10**9)
        progress.advance(10**9)
    assert isinstance(progress, LineProgress)
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first == "summarize: 0 of 2 blocks"
    assert re.fullmatch(r"summarize: 2 of 2 blocks, [\d.]+ GB/s", last)


def test_a_bar_in_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with progress_for(verbose=True, console=console) as progress:
        assert isinstance(progress, BarProgress)
        progress.stage("summarize", 2)
        progress.advance(10**9)
        progress.advance(10**9)
        progress.stage("paint", 1)
        progress.advance()
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())
    assert re.search(r"summarize .*2/2 blocks .*GB/s", text)
    assert re.search(r"paint .*1/1 blocks", text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def last_line(stream: io.StringIO) -> str:
    return stream.getvalue().splitlines()[-1]


def advance(progress: LineProgress, clock: list[float], seconds: float, count: int = 1) -> None:
    """Let blocks finish together."""
    clock[0] += seconds
    for _ in range(count):
        progress.advance(2 * 10**10)


def test_what_a_line_says(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.stage("summarize", 2_000)
    assert last_line(stream) == "summarize: 0 of 2,000 blocks"
    for _ in range(3):
        advance(progress, clock, 10)
    progress._say_if_running()
    assert last_line(stream) == "summarize: 3 of 2,000 blocks, 2.00 GB/s, 5:32:50 left"


def test_time_left_counts_what_this_run_has_done(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.stage("summarize", 100, done=90)
    assert last_line(stream) == "summarize: 90 of 100 blocks"
    advance(progress, clock, 10)
    progress._say_if_running()
    assert last_line(stream) == "summarize: 91 of 100 blocks, 2.00 GB/s, 0:01:30 left"


def test_time_left_of_blocks_that_finish_in_waves(clock: list[float]) -> None:
    """Four at a time, 30 s each: 12 blocks take 90 s, whenever one asks."""
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.stage("summarize", 12)
    for wave in range(2):
        advance(progress, clock, 30 if wave == 0 else 10, count=4)
        for later in (0, 10, 10):
            clock[0] += later
            progress._say_if_running()
            left = 190 - clock[0]
            assert last_line(stream).endswith(f"0:0{left // 60:.0f}:{left % 60:02.0f} left")
    clock[0] += 100  # the last wave is late: nobody knows
    progress._say_if_running()
    assert last_line(stream) == "summarize: 8 of 12 blocks, 2.67 GB/s"
    advance(progress, clock, 0, count=4)
    assert last_line(stream).startswith("summarize: 12 of 12 blocks")
    assert "left" not in last_line(stream)


def test_lines_come_whether_or_not_blocks_finish() -> None:
    stream = io.StringIO()
    with LineProgress(stream, seconds=0.05) as progress:
        progress.stage("summarize", 3)
        progress.advance()
        wait_for(lambda: stream.getvalue().count("\n") >= 3)
        progress.advance()
        progress.advance()
        finished = stream.getvalue()
        progress._say_if_running()
    first, *between, last = stream.getvalue().splitlines()
    assert (first, last) == ("summarize: 0 of 3 blocks", "summarize: 3 of 3 blocks")
    assert 2 <= len(between) <= 8
    assert all(line.startswith("summarize: 1 of 3 blocks") for line in between)
    assert stream.getvalue() == finished, "nothing is said between stages"


def test_a_stage_is_named_as_text() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    stream = io.StringIO()
    with BarProgress(console) as bar, console.capture() as shown:
        for progress in (bar, LineProgress(stream)):
            progress.stage("b[/x]\x1b[2Jy", 1)
        console.print(bar._bars.get_renderable())
    assert stream.getvalue() == "b[/x]\\x1b[2Jy: 0 of 1 blocks\n"
    assert "b[/x]\\x1b[2Jy" in shown.get()


def test_a_stage_without_bytes_has_no_rate() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.stage("count", 1)
    progress.advance()
    assert stream.getvalue().splitlines() == ["count: 0 of 1 blocks", "count: 1 of 1 blocks"]


def test_the_bar_says_the_same(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with BarProgress(console) as progress:
        progress.stage("summarize", 100, done=90)
        clock[0] += 10
        progress.advance(2 * 10**10)
        with console.capture() as shown:
            console.print(progress._bars.get_renderable())
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.get())
    assert re.search(r"summarize +\S+ +91/100 blocks 0:00:0. +2.00 GB/s +0:01:30 left", text)


class Recorder(NoProgress):
    """Notes what it is told, and says when it has been told a stage."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.shown = threading.Event()

    def __enter__(self) -> Recorder:
        self.told.append(("enter",))
        return self

    def __exit__(self, *exception: object) -> None:
        self.told.append(("exit", exception[0]))

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.told.append((name, total, done))
        self.shown.set()

    def advance(self, num_bytes: int = 0) -> None:
        self.told.append(("advance", num_bytes))


def test_what_is_over_soon_shows_nothing() -> None:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    with LateProgress(make, seconds=3600) as progress:
        progress.stage("summarize", 2)
        progress.advance()
        progress.advance()
    assert made == []
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_what_lasts_shows_how_far_it_is() -> None:
    """The stage that runs, with what is done of it; then everything, and the end."""
    recorder, may_be_shown = Recorder(), threading.Event()

    def make() -> Recorder:
        may_be_shown.wait(60)
        return recorder

    with pytest.raises(KeyError), LateProgress(make, seconds=0) as progress:  # noqa: PT012
        may_be_shown.set()
        progress.stage("summarize", 3)
        assert recorder.shown.wait(60)
        progress.advance(7)
        progress.stage("paint", 1)
        raise KeyError
    assert recorder.told == [
        ("enter",),
        ("summarize", 3, 0),
        ("advance", 7),
        ("paint", 1, 0),
        ("exit", KeyError),
    ]


def test_what_was_done_before_it_is_shown_is_counted() -> None:
    recorder = Recorder()
    progress = LateProgress(lambda: recorder, seconds=3600)
    progress.stage("summarize", 3)
    progress.advance()
    progress._show()
    progress.advance(5)
    assert recorder.told == [("enter",), ("summarize", 3, 1), ("advance", 5)]


# In a notebook


NOTEBOOK = """
from dask_labelqc.progress import progress_for
import time

def go():
    with progress_for(True) as progress:
        progress.stage("summarize", 20, done=10)
        for _ in range(10):
            time.sleep(0.1)
            progress.advance(10**8)
        progress.stage("paint", 3)
        progress.advance()
        {end}
go()
"""


def run_cell(source: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run a cell in a kernel of its own; return what it showed, and all messages."""
    messages: list[dict[str, Any]] = []

    class Client(NotebookClient):
        def process_message(self, message: dict[str, Any], *more: Any) -> Any:
            messages.append(message)
            return super().process_message(message, *more)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with forked_kernels():
        Client(notebook, kernel_name="python3", timeout=300, allow_errors=True).execute()
    return notebook.cells[0].outputs, messages


@pytest.mark.parametrize(
    ("end", "last", "style"),
    [
        ("progress.advance(), progress.advance()", "3 of 3 blocks", "success"),
        ("raise ValueError", "1 of 3 blocks", "danger"),
    ],
    ids=["whole", "with an error"],
)
def test_a_widget_in_a_notebook(end: str, last: str, style: str) -> None:
    """It is shown once, is updated while the cell runs, and ends with what happened last."""
    outputs, messages = run_cell(NOTEBOOK.format(end=end))
    (shown,) = [o for o in outputs if o.output_type == "display_data"]
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    states: dict[str, dict[str, Any]] = {}
    texts: list[str] = []
    for message in messages:
        if message["msg_type"] in ("comm_open", "comm_msg"):
            content = message["content"]
            new = content["data"]["state"]
            states.setdefault(content["comm_id"], {}).update(new)
            texts += [new["value"]] if isinstance(new.get("value"), str) and new["value"] else []
    assert texts[0] == "10 of 20 blocks"
    between = [text for text in texts if re.match("1[1-9] of 20", text)]
    assert between
    assert re.fullmatch(r"1\d of 20 blocks, \d\.\d\d GB/s, 0:00:0\d left", between[0])
    assert texts[-1].startswith(last)
    bars = [s for s in states.values() if s.get("_model_name") == "IntProgressModel"]
    assert [(bar["description"], bar["value"], bar["max"]) for bar in bars] == [
        ("summarize", 20, 20),
        ("paint", int(last[0]), 3),
    ]
    assert [bar["bar_style"] for bar in bars] == ["success", style]


def test_a_widget_that_comes_late() -> None:
    """It is shown from another thread, and in the cell all the same."""
    late = NOTEBOOK.replace("progress_for(True)", "LateProgress(lambda: progress_for(True), 0.2)")
    late = late.replace("import progress_for", "import LateProgress, progress_for")
    late = late.replace("time.sleep(0.1)", "time.sleep(0.2)")
    outputs, _ = run_cell(late.format(end="progress.advance(), progress.advance()"))
    (shown,) = outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data


def test_lines_in_a_notebook_without_ipywidgets() -> None:
    outputs, _ = run_cell(
        "import sys; sys.modules['ipywidgets'] = None\n" + NOTEBOOK.format(end="")
    )
    assert {output.name for output in outputs} == {"stderr"}
    hint, *lines = "".join(output.text for output in outputs).splitlines()
    assert hint == 'progress bars need ipywidgets: pip install "dask-labelqc[notebook]"'
    assert lines[0] == "summarize: 10 of 20 blocks"
