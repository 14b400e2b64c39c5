"""The author's card: supported Markdown becomes HTML, and no text in it becomes other markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.packing.reading import MAX_CARD_BYTES
from app.web.markdown import html

ALLOWED = frozenset(
    re.findall(r"\w+", "h3 h4 h5 h6 p ul ol li pre code blockquote table thead tbody tr th td strong em a div")
)


class Tags(HTMLParser):
    """Record the tags and attributes of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes.update((name, value or "") for name, value in attrs)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("# Title", "<h3>Title</h3>"),
        ("a\nb\n\nc", "<p>a b</p><p>c</p>"),
        ("- one\n- two\n  more", "<ul><li>one</li><li>two more</li></ul>"),
        ("1. one\n2. two", "<ol><li>one</li><li>two</li></ol>"),
        ("a **b** *c* _d_ `e*f*`", "<p>a <strong>b</strong> <em>c</em> <em>d</em> <code>e*f*</code></p>"),
        ("snake_case_name", "<p>snake_case_name</p>"),
        ("```py\na < b\n```\nc", '<pre tabindex="0"><code>a &lt; b</code></pre><p>c</p>'),
        ("```\nnever closed", '<pre tabindex="0"><code>never closed\n</code></pre>'),
        ("> a\n> b", "<blockquote><p>a b</p></blockquote>"),
        (
            "| a | b |\n|---|:-:|\n| 1 | 2 |",
            '<div class="scroll" tabindex="0"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
            "<tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>",
        ),
        (
            "[a](https://b.example/?c=1&d=2)",
            '<p><a href="https://b.example/?c=1&amp;d=2" rel="noopener noreferrer nofollow">a</a></p>',
        ),
        ("---\nlicense: mit\n---\n# A", "<h3>A</h3>"),
        ("a\n\n---\n\nb", "<p>a</p><p>b</p>"),
    ],
)
def test_supported_markdown_becomes_html(text: str, wanted: str) -> None:
    assert html(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        '[a](https://b.example/" onclick="alert(1))',
        "![a](https://b.example/pixel.png)",
        "`<b>`",
        "```\n</code></pre><script>alert(1)</script>\n```",
        "[**<b>**](https://b.example)",
        "<javascript:alert(1)>",
        "| <b> |\n|---|\n| <i> |",
    ],
)
def test_markup_in_a_card_is_only_text(text: str) -> None:
    check(text)
    assert "<script" not in html(text)


PIECES = st.sampled_from(
    [
        *"<>\"'&[]()*_`#|\n ",
        "**",
        "```",
        "# ",
        "- ",
        "1. ",
        "---",
        "\n\n",
        "> ",
        "https://a.b",
        "javascript:",
        "<script>",
        "{0}",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_makes_another_tag_or_address(text: str) -> None:
    check(text)


def check(text: str) -> None:
    tags = Tags()
    tags.feed(str(html(text)))
    assert tags.found <= ALLOWED
    ours = {("class", "scroll"), ("tabindex", "0")}
    assert {name for name, _ in tags.attributes - ours} <= {"href", "rel"}
    for name, value in tags.attributes:
        assert name != "href" or re.match(r"https?://|mailto:", value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["*", "**a", "[", "[a](", "`", "_a", "> ", "| - ", "- ", "1. ", "---\n", "<https://", "#", "# ", " ", "\t", "- - "],
)
def test_the_longest_card_is_read_quickly_whatever_it_repeats(piece: str) -> None:
    """Each takes a fraction of a second; a pattern that backtracks would take hours."""
    check((piece * MAX_CARD_BYTES)[:MAX_CARD_BYTES])
    check(f"# {(piece * MAX_CARD_BYTES)[:MAX_CARD_BYTES]}x")
