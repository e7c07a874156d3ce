"""Markdown to HTML or plain text and HTML to Markdown; runs in a worker."""

from __future__ import annotations

import re

from ryzanstein.errors import ToolError
from ryzanstein.tools.html_text import remove_elements

__all__ = ["html_to_markdown", "markdown_to_html"]

_NOISE = frozenset({"script", "style", "noscript", "template", "svg", "iframe"})


def markdown_to_html(markdown: str) -> str:
    """Returns the HTML of a Markdown text (CommonMark and tables); raw HTML in it is escaped."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    html: str = parser.render(markdown)
    return html


def html_to_markdown(html: str, links: bool) -> str:
    """Returns a page as Markdown, without scripts and styles.

    Args:
        html: The page.
        links: Whether links stay links, or only their text does.

    Raises:
        ToolError: It is nested too deeply.
    """
    from markdownify import markdownify
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    if tree.body is None:
        return ""
    remove_elements(tree.body, _NOISE)
    try:
        text = markdownify(
            tree.body.html,
            heading_style="ATX",
            bullets="-",
            strip=None if links else ["a", "img"],
            escape_misc=False,
        )
    except RecursionError:
        raise ToolError(
            "The page is nested too deeply.", hint="Convert it to plain text instead."
        ) from None
    return re.sub(r"\n{3,}", "\n\n", text).strip()
