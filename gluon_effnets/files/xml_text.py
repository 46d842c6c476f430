"""XML from strangers: without document types and entities, of bounded size and depth."""

from __future__ import annotations

from typing import Any, Dict
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..runtime.files import named
from .regular import MOST_TEXT, read_bytes
from .text import shown

__all__ = ["parse_xml", "read_xml"]

_DEPTH = 32
_MOST_ELEMENTS = 1_000_000


def read_xml(path, what: str = "file", most: int = MOST_TEXT) -> Element:
    """Return the root of an XML file.

    Args:
        path: Of the file.
        what: What it should be, for the error text.
        most: Bytes that it may have.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no regular file, no XML, cut short, declares a document type (without which there are no
            entities), or has too many elements.
    """
    return parse_xml(read_bytes(path, what, most), path)


def parse_xml(content: bytes, where) -> Element:
    """Return the root of an XML text. Raises ValueError, which names `where` it stands, as `read_xml` does."""
    reader = _Reader()
    try:
        return reader.read(content)
    except _Refused as error:
        raise ValueError(f"{named(where)} {error}") from None
    except (expat.ExpatError, LookupError, ValueError) as error:  # an unknown encoding is one of the last two
        raise ValueError(f"{named(where)} is no XML, or is cut short: {shown(str(error))}") from None


class _Refused(Exception):
    pass


class _Reader:
    """One pass of expat, stopped at the first thing that is not read."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._depth = self._count = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._builder.data

    def read(self, content: bytes) -> Element:
        self._parser.Parse(content, True)
        return self._builder.close()

    def _refuse_doctype(self, *declaration: Any) -> None:
        raise _Refused("declares a document type, which is not read; remove the line that begins with <!DOCTYPE")

    def _start(self, name: str, attributes: Dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > _DEPTH:
            raise _Refused(f"has elements within elements, deeper than {_DEPTH}")
        if self._count > _MOST_ELEMENTS:
            raise _Refused(f"has more than {_MOST_ELEMENTS:,} elements")
        self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(name)
