"""The site: ``sphinx-build docs docs/_build/html``. It is built without a network, and loads nothing from one."""

import sys
from pathlib import Path

import modx

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "modx"
author = "The modx authors"
release = version = modx.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
    "names",
    "repository",
]
exclude_patterns = ["_build", "results/**"]  # tables that a command wrote: shown as files

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|torchmetrics|collections\.abc|pathlib|typing)\..*")
]  # no inventory without a network

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds per cell, for a machine that is busy

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_custom_sections = ["Sources"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"modx {release}"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_theme_options = {"footer_icons": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
