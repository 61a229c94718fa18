"""What a publication says of itself on its pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Imprint:
    """Everything is empty where nobody said it, as for pages that are not published."""

    license: str = ""  # of records and pages, as SPDX writes it
    doi: str = ""
    release: str = ""  # the name of a frozen copy
    repository: str = ""  # the address of the code, which has the forms for issues
    current: str = ""  # the address of the pages that a frozen copy was made of
