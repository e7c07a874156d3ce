"""HTML to plain text, by resiliparse; navigation and the like are taken out first."""

from __future__ import annotations

__all__ = ["html_text"]

_NOISE = "script,style,noscript,template,svg,nav,footer,aside,form,iframe"


def html_text(html: str, links: bool) -> dict[str, str]:
    """Returns the title and the readable text of a page.

    Args:
        html: The page.
        links: Whether each link's address follows it in brackets.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    title = (tree.title or "").strip()
    if tree.body is None:
        return {"title": title, "text": ""}
    for node in tree.body.query_selector_all(_NOISE):
        node.decompose()
    text = extract_plain_text(tree, preserve_formatting=True, links=links, list_bullets=True)
    return {"title": title, "text": text.replace("\xa0", " ").strip()}
