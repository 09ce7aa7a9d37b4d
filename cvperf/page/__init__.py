"""What the HTML pages share: their style, the script of their tables, figures, and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(package: str, *, autoescape: bool = True) -> Environment:
    """The templates of a package, which may also include those in ``cvperf/page/templates``.

    Args:
        package: name of the package whose folder ``templates`` comes first, as ``cvperf.bench``.
        autoescape: whether values are escaped for HTML.

    Raises:
        ImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError("the page needs jinja2: pip install 'cvperf[report]'") from error
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("cvperf.page")]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
