"""Pack the portal's page into firmware: `python -m tools.portal.build`.

Reads page.html, page.css, page.js and texts/*.json beside this file, takes out comments and
indentation, puts everything into one document, and writes firmware/confmode/page.py with the
gzipped document and its Content-Security-Policy. The same source always gives the same document.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).parent
TARGET = SOURCE.parents[1] / "firmware" / "confmode" / "page.py"

# What the page may take of a board's flash, and of the time on a weak radio: bytes, gzipped.
LIMIT = 8192

_HEADER = '''\
"""The portal's page, gzipped, and its Content-Security-Policy.

Made by `python -m tools.portal.build` from tools/portal: change it there.
{document} bytes unpacked, {packed} bytes here. A bytes literal of a frozen module, or of one in
ROMFS, is read from flash.
"""
'''


class BuildError(Exception):
    """The page's source is not in order; the text says what is wrong."""


def _style(text: str) -> str:
    """A style sheet without comments and needless white space."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*([{};,])\s*", r"\1", text)
    # Not before a colon: there a space is a descendant.
    text = re.sub(r":\s+", ":", text)
    return text.replace(";}", "}").strip()


def _script(text: str) -> str:
    """A script without whole-line comments and needless white space.

    What is in double quotes or backticks stays as it is. Every statement must end with `;` or `}`.
    """
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
    parts = re.split(r'("[^"\n]*"|`[^`]*`)', lines)
    for index in range(0, len(parts), 2):
        part = re.sub(r"\s+", " ", parts[index])
        parts[index] = re.sub(r" ?([{}()\[\];,=<>?:&|!]) ?", r"\1", part)
    return "".join(parts).strip()


def _markup(text: str) -> str:
    """Markup without comments and indentation; a line end between words becomes a space."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r">\s*\n\s*<", "><", text)
    return re.sub(r"\s*\n\s*", " ", text).strip()


def texts(folder: Path) -> dict[str, dict[str, str]]:
    """The texts of every language: {tag: {key: text}}.

    Raises BuildError when a language lacks a key of English, has one that English lacks, or uses
    other places `{0}`. `dir` (`rtl`) may be there or not.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[path.stem.lower()] = json.loads(path.read_text(encoding="utf-8"))
    if "en" not in found:
        raise BuildError("en.json is missing, and it is what every language falls back on")
    english = found["en"]
    for tag, lines in found.items():
        lacking = english.keys() - lines.keys()
        unknown = lines.keys() - english.keys() - {"dir"}
        if lacking or unknown:
            what = f"lacks {sorted(lacking)}" if lacking else f"has unknown {sorted(unknown)}"
            raise BuildError(f"{tag}.json {what}")
        for key, line in english.items():
            if set(re.findall(r"\{\d\}", line)) != set(re.findall(r"\{\d\}", lines[key])):
                raise BuildError(f"{tag}.json: {key} has other places than in English")
    return found


def _check_keys(markup: str, script: str, known: set[str]) -> None:
    used = set(re.findall(r'data-text="(\w+)"', markup))
    used |= set(re.findall(r'"(\w+)"', script)) & known
    used |= set(re.findall(r'text\("(\w+)"', script))
    if used - known:
        raise BuildError(f"no text for {sorted(used - known)}")
    if known - used:
        raise BuildError(f"texts that nothing shows: {sorted(known - used)}")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def document(source: Path = SOURCE) -> tuple[bytes, bytes]:
    """(the page, its policy): one HTML document, UTF-8, and the value of the header.

    Raises BuildError, OSError, or ValueError for texts that are not JSON.
    """
    languages = texts(source / "texts")
    markup = _markup((source / "page.html").read_text(encoding="utf-8"))
    style = _style((source / "page.css").read_text(encoding="utf-8"))
    script = _script((source / "page.js").read_text(encoding="utf-8"))
    _check_keys(markup, script, set(languages["en"]))
    packed = json.dumps(languages, ensure_ascii=False, separators=(",", ":"))
    # `</script>` in a text would end the script.
    script = script.replace("{{texts}}", packed.replace("<", "\\u003c"))
    page = markup.replace("{{style}}", style).replace("{{script}}", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return page.encode(), policy.encode()


def _literal(name: str, data: bytes) -> str:
    """`name = (b"…" b"…")` in lines of at most 99 characters, as ruff would leave it."""
    lines, line = [], ""
    for byte in data:
        plain = 32 <= byte < 127 and byte not in b'"\\'
        piece = chr(byte) if plain else f"\\x{byte:02x}"
        if len(line) + len(piece) > 90:
            lines.append(line)
            line = ""
        line += piece
    lines.append(line)
    body = "\n".join(f'    b"{line}"' for line in lines)
    return f"{name} = (\n{body}\n)\n"


def module(page: bytes, policy: bytes) -> str:
    """The text of page.py. Raises BuildError when the page is too large."""
    packed = gzip.compress(page, 9, mtime=0)
    if len(packed) > LIMIT:
        raise BuildError(f"the page has {len(packed)} bytes gzipped, over {LIMIT}")
    header = _HEADER.format(document=len(page), packed=len(packed))
    return f"{header}\n{_literal('PAGE', packed)}\n{_literal('POLICY', policy)}"


def main() -> int:
    """Write page.py, print the sizes."""
    try:
        page, policy = document()
        content = module(page, policy)
    except (BuildError, OSError, ValueError) as error:
        print(f"portal: {error}", file=sys.stderr)
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(content, encoding="ascii")
    packed = len(gzip.compress(page, 9, mtime=0))
    print(f"{TARGET.name}: {len(page)} bytes, gzipped {packed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
