"""What MkDocs does besides for the site: pages link to files beside docs/, which it would not find.

Such a file (a recipe, a picture of results/, CONTRIBUTING.md) is copied into the site under files/, and the link goes
there. The same links work in the repository as they stand.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")
PREFIX = "files"
# What a browser shows; others are offered as texts.
SHOWN = {".png", ".svg", ".txt", ".json"}


def _target(link: str) -> str:
    path = f"{PREFIX}/{link}"
    return path if Path(link).suffix in SHOWN else f"{path}.txt"


def on_files(files, config):
    """Add the files beside docs/ that pages link to."""
    for page in sorted(Path(config["docs_dir"]).glob("*.md")):
        for link, _ in LINK.findall(page.read_text(encoding="utf-8")):
            target = _target(link)
            if (ROOT / link).is_file() and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, content=(ROOT / link).read_bytes()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links lead to the copies. A link to anything else is reported by the strict build."""
    if "/" in page.file.src_uri:
        return markdown

    def replaced(match):
        return f"]({_target(match.group(1))})" if (ROOT / match.group(1)).is_file() else match.group(0)

    return LINK.sub(replaced, markdown)


def on_post_page(output, page, config):
    """Take the script that lets the search work without a server from the site, not from the network."""
    to_root = "../" * page.url.count("/")
    return output.replace("https://unpkg.com/iframe-worker/shim", f"{to_root}assets/search_without_server.js")
