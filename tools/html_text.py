"""HTML to plain text or links, by resiliparse; runs in the worker process."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

__all__ = ["html_links", "html_text", "remove_elements"]

_NOISE = frozenset(
    {"script", "style", "noscript", "template", "svg", "nav", "footer", "aside", "form", "iframe"}
)
_LINK_TEXT = 200


def html_text(html: str, links: bool) -> dict[str, str]:
    """Returns the title and the readable text of a page, without navigation and the like.

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
    remove_elements(tree.body, _NOISE)
    text = extract_plain_text(tree, preserve_formatting=True, links=links, list_bullets=True)
    return {"title": title, "text": text.replace("\xa0", " ").strip()}


def html_links(html: str, base: str, contains: str, same_site: bool, limit: int) -> dict[str, Any]:
    """Returns the links of a page, each address once, relative ones made whole.

    Args:
        html: The page.
        base: Its address.
        contains: Only links that have this in their address or text, in any case.
        same_site: Only links to the host of the page.
        limit: Most links.
    """
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    found: dict[str, str] = {}
    # Not query_selector_all: each step through what it returns searches the page again.
    nodes: Any = tree.body or ()
    for node in nodes:
        address = node.getattr("href") if node.tag in {"a", "area"} else None
        if address is None:
            continue
        with contextlib.suppress(ValueError):
            url = urldefrag(urljoin(base, address.strip())).url
            parts = urlsplit(url)
            text = " ".join((node.text or "").split())[:_LINK_TEXT]
            wanted = contains.lower() in f"{url}\n{text}".lower()
            near = not same_site or parts.hostname == urlsplit(base).hostname
            if parts.scheme in {"http", "https"} and parts.hostname and wanted and near:
                found[url] = found.get(url) or text
        if len(found) > limit:
            break
    links = [{"url": url, "text": text} for url, text in found.items()]
    return {"links": links[:limit], "complete": len(links) <= limit}


def remove_elements(body: Any, tags: Collection[str]) -> None:
    """Takes the elements of some tags out of a page, with all that they hold."""
    from resiliparse.parse.html import traverse_dom

    outermost: list[Any] = []
    inside: list[int] = []

    def see(context: Any) -> None:
        if inside and context.depth > inside[0]:
            return
        inside.clear()
        if context.node.tag in tags:
            outermost.append(context.node)
            inside.append(context.depth)

    traverse_dom(body, see, elements_only=True)
    for node in outermost:
        node.decompose()
