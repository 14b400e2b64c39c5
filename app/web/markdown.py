"""Render a safe subset of Markdown, which a model's author wrote, as HTML.

The subset is headings, paragraphs, lists, quotes, tables, code, emphasis and links (CommonMark, and GFM's tables).
Everything else, such as HTML, is shown as text. All text is escaped. Links are http, https or mailto.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from markupsafe import Markup, escape

FRONT_MATTER: Final = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
HEADING: Final = re.compile(r"(#{1,6})[ \t](.*)")
FENCE: Final = re.compile(r"(```+|~~~+)(.*)")
ITEM: Final = re.compile(r" {0,3}(?:[-*+]|(\d{1,9})[.)])\s+(.*)")
RULE: Final = re.compile(r"\s*([-*_])(\s*\1){2,}\s*")
DASHES: Final = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*")
INLINE: Final = re.compile(
    r"(?P<code>(?<!`)(?P<ticks>`{1,3})(?!`)(?P<inside>[^`]+?)(?P=ticks)(?!`))"
    r"|\[(?P<text>[^\[\]]{1,300})\]\((?P<url>(?:https?://|mailto:)[^\s()<>\"']{1,1000})\)"
    r"|<(?P<bare>https?://[^\s<>\"']{1,1000})>"
    r"|\*\*(?P<strong>[^*\s][^*]{0,500}?)\*\*"
    r"|(?<!\w)[*_](?P<em>[^*_\s][^*_]{0,500}?)[*_](?!\w)"
)
DEEPEST: Final = 4
"""Depth to which nested quotes and emphasis are rendered."""


def html(text: str) -> Markup:
    """Return the safe HTML of a text in Markdown. Its headings begin with `<h3>`, below the headings of the page."""
    return Markup("").join(_blocks(FRONT_MATTER.sub("", text + "\n").split("\n"), DEEPEST))


def _blocks(lines: list[str], depth: int) -> Iterator[Markup]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip() or RULE.fullmatch(line):
            at += 1
        elif fence := FENCE.fullmatch(line.strip()):
            end = _until(lines, at + 1, lambda each, mark=fence[1]: each.strip().startswith(mark))  # type: ignore[misc]
            # `tabindex` lets keyboard users scroll a block that is wider than the screen.
            yield Markup('<pre tabindex="0">{}</pre>').format(_tag("code", escape("\n".join(lines[at + 1 : end]))))
            at = end + 1
        elif heading := HEADING.fullmatch(line):
            yield _tag(f"h{min(6, len(heading[1]) + 2)}", _inline(heading[2].strip().rstrip("#").rstrip()))
            at += 1
        elif line.startswith(">") and depth:
            end = _until(lines, at, lambda each: not each.startswith(">"))
            yield _tag("blockquote", Markup("").join(_blocks([each[1:].lstrip() for each in lines[at:end]], depth - 1)))
            at = end
        elif item := ITEM.fullmatch(line):
            end = _until(lines, at, lambda each: not each.strip() or RULE.fullmatch(each) is not None)
            yield _list(lines[at:end], "ol" if item[1] else "ul")
            at = end
        elif "|" in line and at + 1 < len(lines) and "-" in lines[at + 1] and DASHES.fullmatch(lines[at + 1]):
            end = _until(lines, at, lambda each: "|" not in each)
            yield _table(lines[at:end])
            at = end
        else:
            end = _until(lines, at + 1, _begins_block)
            yield _tag("p", _inline(" ".join(each.strip() for each in lines[at:end])))
            at = end


def _until(lines: list[str], at: int, stops: Callable[[str], bool]) -> int:
    while at < len(lines) and not stops(lines[at]):
        at += 1
    return at


def _begins_block(line: str) -> bool:
    if not line.strip() or line.startswith(">"):
        return True
    return any(form.fullmatch(line) for form in (HEADING, ITEM, RULE)) or FENCE.fullmatch(line.strip()) is not None


def _list(lines: list[str], tag: str) -> Markup:
    """Return a list. A line that begins no item continues the item above it."""
    items: list[str] = []
    for line in lines:
        if item := ITEM.fullmatch(line):
            items.append(item[2])
        else:
            items[-1] += f" {line.strip()}"
    return _tag(tag, Markup("").join(_tag("li", _inline(item)) for item in items))


def _table(lines: list[str]) -> Markup:
    body = Markup("").join(_row(line, "td") for line in lines[2:])
    table = _tag("table", _tag("thead", _row(lines[0], "th")) + _tag("tbody", body))
    return Markup('<div class="scroll" tabindex="0">{}</div>').format(table)


def _row(line: str, tag: str) -> Markup:
    cells = line.strip().strip("|").split("|")
    return _tag("tr", Markup("").join(_tag(tag, _inline(cell.strip())) for cell in cells))


def _inline(text: str, depth: int = DEEPEST) -> Markup:
    markup, at = Markup(""), 0
    for match in INLINE.finditer(text) if depth else ():
        markup += escape(text[at : match.start()])
        at = match.end()
        if match["code"]:
            markup += _tag("code", escape(match["inside"].strip()))
        elif match["strong"]:
            markup += _tag("strong", _inline(match["strong"], depth - 1))
        elif match["em"]:
            markup += _tag("em", _inline(match["em"], depth - 1))
        else:
            url = match["url"] or match["bare"]
            link_text = _inline(match["text"], depth - 1) if match["text"] else escape(url)
            if "<a " in link_text:  # HTML has no nested links
                markup += link_text
            else:
                markup += Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(url, link_text)
    return markup + escape(text[at:])


def _tag(name: str, inside: Markup) -> Markup:
    return Markup("<{0}>{1}</{0}>").format(name, inside)
