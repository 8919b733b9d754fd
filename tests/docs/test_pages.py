"""Every block of code in the README and the docs is run, page by page, or checked.

What stands before a block that cannot be run here is told in `docs/pages.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import pages
from docs.pages import BIN, ROOT, Block, Run, blocks_of, check_output, check_shell
from tests.forked_commands import forked_commands
from tests.object_store.servers import KEY_ID, SECRET, serve_conditional_s3

PAGES = [page for page in pages.pages() if blocks_of(page)]
WITH_A_STORE = ROOT / "docs/how-to/object-stores.md"
NAMED_SERVER = "http://127.0.0.1:9000"
"""The server of that page; here it has any port."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def commands() -> Iterator[Path]:
    with forked_commands() as folder:
        yield folder


@pytest.fixture
def run(commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A page's empty folder, which is also the home of whoever reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    path = os.pathsep.join([str(commands), str(BIN), os.environ["PATH"]])
    return Run(tmp_path, {"HOME": str(tmp_path), "PATH": path})


@pytest.fixture
def server(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server, and its keys as a user has them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with serve_conditional_s3() as running:
        run.replaced = {NAMED_SERVER: running.endpoint}
        yield


@pytest.mark.parametrize("page", [p for p in PAGES if p != WITH_A_STORE], ids=name)
def test_runs(page: Path, run: Run) -> None:
    for block in blocks_of(page):
        run.block(block)


def test_runs_on_a_store(run: Run, server: None) -> None:
    assert NAMED_SERVER in WITH_A_STORE.read_text()
    for block in blocks_of(WITH_A_STORE):
        run.block(block)


def test_every_page_is_there() -> None:
    names = {name(page) for page in PAGES}
    assert {"README.md", "deploy/README.md", "docs/index.md", "docs/how-to/resume.md"} <= names
    assert {name(page) for page in PAGES if "tutorials" in page.parts} == {
        f"docs/tutorials/{task}.md" for task in ("boxes", "examples", "segmentation")
    }


@pytest.mark.parametrize("page", pages.pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Those to files; headings, and what the build makes, are looked at when the site is built."""
    made = ("../_pictures/", "../notebooks/", "notebooks/", "../deploy/")
    site = (ROOT / "docs") in page.parents
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target and not (site and target.startswith(made)):
            assert (page.parent / target).exists(), f"{name(page)}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 165


# That what is checked can fail


def block(code: str, language: str = "sh", mark: str = "", *words: str) -> Block:
    return Block(Path("page.md"), 1, language, code, mark, words)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("dask labelqc audit a b c --no-such-option # kubectl", "No such option"),
        ("dask labelqc finish # kubectl", "Missing parameter: output"),
        ("kubectl apply --filename deploy/kubernetes/none.yaml", "is not there"),
        ('pip install ".[none]" # kubectl', "no such extras"),
        ("make nothing # kubectl", "no such target"),
        ("echo 'kubectl", "unexpected EOF"),
        ("docker run dask-labelqc:1 labelqc nothing # kubectl", "nothing"),
        ("helm version", "there is no kubectl"),
    ],
)
def test_a_command_that_is_wrong(code: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_shell(block(code, "sh", "not run", "kubectl"))


def test_what_is_said_to_be_missing_is_named() -> None:
    with pytest.raises(AssertionError, match="say what is missing"):
        check_shell(block("true"))


def test_a_page_that_fails(run: Run) -> None:
    with pytest.raises(AssertionError, match=re.escape("page.md:1")):
        run.block(block("false | true"))
    with pytest.raises(ZeroDivisionError):
        run.block(block("1 / 0", "python"))
    with pytest.raises(AssertionError, match="not known"):
        run.block(block("1", "rust"))
    with pytest.raises(AssertionError, match="Python runs"):
        run.block(block("1", "python", "not run", "1"))
    with pytest.raises(AssertionError, match="no such mark"):
        run.block(block("1", "python", "skip"))
    with pytest.raises(AssertionError, match="is the output"):
        run.block(block("1", "text"))


def test_an_opener_on_threads_takes_the_arguments_of_the_opener(run: Run) -> None:
    code = "from dask_labelqc.cluster import open_slurm\nwith open_slurm({}) as client: pass"
    run.block(block(code.format("20, queue='short'"), "python", "on threads", "open_slurm"))
    assert run.names["client"] is None
    with pytest.raises(TypeError, match="maximum"):
        run.block(block(code.format(""), "python", "on threads", "open_slurm"))


def test_output_is_compared(run: Run) -> None:
    run.block(block("print('a  b', 3)", "python"))
    check_output(block("a b 3"), run.printed)
    check_output(block("a ... 3"), run.printed)
    with pytest.raises(AssertionError, match="printed was"):
        check_output(block("a b"), run.printed)


def test_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: a, b -->\n```sh\na; b\n```\n\n- item\n\n  <!-- output -->\n"
        "  ```text\n  c\n  ```\n\n```{toctree}\nd\n```\n\n<!-- output -->\n\ntext\n\n    indented\n"
    )
    found = [(b.language, b.code.strip(), b.mark, b.words, b.line) for b in blocks_of(page)]
    assert found == [
        ("sh", "a; b", "not run", ("a", "b"), 2),
        ("text", "c", "output", (), 9),
        ("", "indented", "", (), 21),
    ]


def test_pages_share_nothing(run: Run) -> None:
    run.block(block("x = 1", "python"))
    assert run.names["x"] == 1
    assert "x" not in Run(run.folder, {}).names
