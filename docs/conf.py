"""Settings of the documentation: Sphinx reads the Markdown of this folder through MyST.

``make docs`` builds it into ``docs/_build/html``. Warnings are errors there, so a link that leads
nowhere or a docstring that cannot be read ends the build.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

project = "dynmm"
author = "The dynmm developers"
copyright = author
release = version = installed_version("dynmm-framework")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
root_doc = "index"
language = "en"

# Headings get the anchors that they have where the same files are read in a repository.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# Aliases of arrays are shown by name, not as what NumPy makes of them.
autodoc_type_aliases = {
    name: name for name in ("FloatArray", "IntArray", "Scores", "State", "UserCorrection")
}
python_display_short_literal_types = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"

html_theme = "furo"
html_title = f"dynmm {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def tell_of_other_files(app: Any, name: str, source: list[str]) -> None:
    """Makes links to pages and folders of the repository that are no part of the site plain text.

    Where the files are read in a repository these links lead somewhere; here they would not. Other
    files, such as examples, stay links: they become downloads.
    """

    def told(link: re.Match[str]) -> str:
        text, target = link[1], link[2].partition("#")[0]
        path = Path(app.srcdir, target)
        if target.endswith(".md") or path.is_dir():
            shown = target.removeprefix("../")
            return text if shown in text else f"{text} (`{shown}`)"
        return link[0]

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)", told, source[0])


def without_any_arguments(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returned: str
) -> tuple[str, str] | None:
    """Leaves out the arguments that protocols seem to have; nobody makes an instance of them."""
    return ("", returned) if what == "class" and signature == "(*args, **kwargs)" else None


def setup(app: Any) -> None:
    """Connects what this file adds to Sphinx."""
    app.connect("source-read", tell_of_other_files)
    app.connect("autodoc-process-signature", without_any_arguments)
