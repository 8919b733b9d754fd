"""The site, which `make docs` builds into docs/_build/html. Nothing is fetched, then or later."""

from __future__ import annotations

import pydoc
import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import dask_labelqc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for pictures.py

project = "dask-labelqc"
author = "The dask-labelqc developers"
copyright = f"{author}, Apache-2.0"
release = version = version_of(project)

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_templates", "deploy/*/*.md"]
templates_path = ["_templates"]
default_role = "py:obj"  # what stands in single backticks in a docstring is a name
nitpicky = True
toc_object_entries_show_parents = "hide"
smartquotes = False  # two hyphens are those of an option

# Markdown and notebooks, which are stored without output and not run here.
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# The reference follows from the code: each module's `__all__` is what is public of it.
# What the package shows itself has its page there.
autosummary_context = {"at_top": dask_labelqc.__all__}
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings have them, in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_validation_checks = {
    "GL01", "GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10",
    "SS01", "SS02", "SS03", "SS04", "SS06",
    "PR01", "PR02", "PR05", "PR07", "PR10", "RT01", "RT05", "YD01",
}  # fmt: skip
# A docstring without sections is a sentence; the fields of a dataclass are described as attributes.
WITHOUT_SECTIONS = r"\A(?![\s\S]*\n\s*(Parameters|Returns)\n\s*---)"
numpydoc_validation_overrides = {
    "PR01": [WITHOUT_SECTIONS, r"\n\s*Attributes\n\s*---"],
    "RT01": [WITHOUT_SECTIONS, r"\n\s*Yields\n\s*---"],
}

html_theme = "pydata_sphinx_theme"
html_title = "dask-labelqc"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options: dict[str, Any] = {
    "logo": {"text": "dask-labelqc"},
    "show_toc_level": 3,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
copybutton_exclude = ".linenos, .gp, .go"


def inline_math(translator: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers draw themselves: MathJax would be fetched."""
    translator.body.append(tex2mathml(node.astext()))
    raise_skip()


def displayed_math(translator: Any, node: Any) -> None:
    """Write a formula of its own line."""
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise_skip()


def raise_skip() -> None:
    """Leave out what is below a node, which is written."""
    from docutils.nodes import SkipNode

    raise SkipNode


def plain_help(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Take the help of a command for what it is, text."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def look_up(name: str) -> Any:
    """Return what a full name of ours stands for, or None."""
    try:
        return pydoc.locate(name) if name.startswith("dask_labelqc") else None
    except pydoc.ErrorDuringImport:
        return None


def other_names(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Link a name to the page of what it stands for; arguments, and what is not ours, are no links.

    A function that stands in several modules has one page.
    """
    if node.get("reftype") != "obj":
        return None
    name = node["reftarget"]
    if (meant := look_up(name)) is None:
        return None if name.startswith("dask_labelqc") else content
    domain = env.get_domain("py")
    for known in domain.objects:
        if look_up(known) is meant:
            place = node["refdoc"]
            return domain.resolve_xref(env, place, app.builder, "obj", known, node, content)
    return None


def prepare(app: Sphinx) -> None:
    """Bring the notebooks here, and draw the pictures that are not there."""
    import pictures

    (HERE / "notebooks").mkdir(exist_ok=True)
    for path in (HERE.parent / "notebooks").glob("*.*"):
        shutil.copy2(path, HERE / "notebooks")
    pictures.draw_all(HERE / "_pictures")


def setup(app: Sphinx) -> None:
    """Add what no extension has."""
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    app.connect("missing-reference", other_names)
    app.connect("builder-inited", prepare)
    app.connect("sphinx-click-process-description", plain_help)


html_math_renderer = "mathml"
