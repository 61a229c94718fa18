"""The picture that a link to the site shows where it is shared: the title, the answer of the start page, a small heat map."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnable_bench.leaderboard.formats.escaping import asset
from unlearnable_bench.leaderboard.pages.start import Bar, Start

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 1200, 630  # pixels, as social networks show it
MARGIN = 60
ROWS, COLUMNS = 12, 24  # of the heat map, at most
GAP = 3  # pixels between tiles
MAP_TOP = 320
INK, QUIET, PAPER, LINE, ACCENT = "#1a1c20", "#555b66", "#ffffff", "#d5d9e0", "#0b57b5"
REGULAR, BOLD = "Vera.ttf", "VeraBd.ttf"  # come with reportlab


@dataclass(frozen=True)
class Picture:
    """What the picture says, and the tints of its heat map: None where nothing is published."""

    title: str
    sentence: str
    caption: str
    tints: Sequence[Sequence[int | None]]

    @classmethod
    def of(cls, title: str, start: Start) -> Picture:
        """The picture of a start page: its attacks with most published results against its defenses."""
        bars = [line.published.bars for line in start.view("attack").lines if line.published]
        fullest = sorted(bars, key=_blanks)[:ROWS]
        caption = "Published test accuracy: a row per attack, a column per defense. Dark: the attack holds."
        return cls(title, start.answer, caption, [[_tint(bar) for bar in row[:COLUMNS]] for row in fullest])

    @property
    def alternative(self) -> str:
        """What stands for the picture where it is not seen."""
        return f"{self.title}. {self.sentence}"

    def png(self) -> bytes:
        """Return the picture as a file."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, WIDTH, 12), fill=ACCENT)
        draw.text((MARGIN, 46), self.title, INK, _font(BOLD, 50))
        draw.multiline_text((MARGIN, 128), self._lines(), INK, _font(REGULAR, 29), spacing=13)
        self._draw_map(draw)
        draw.text((MARGIN, HEIGHT - 42), self.caption, QUIET, _font(REGULAR, 19))
        file = io.BytesIO()
        image.quantize(64).save(file, "PNG", optimize=True)
        return file.getvalue()

    def _lines(self) -> str:
        """The sentence on lines that fit; the font has no ℓ."""
        return wrapped(self.sentence.replace("ℓ", "L"), _font(REGULAR, 29), WIDTH - 2 * MARGIN)

    def _draw_map(self, draw: ImageDraw) -> None:
        if not self.tints:
            return
        colors = _colors()
        width = (WIDTH - 2 * MARGIN) // max(map(len, self.tints))
        height = (HEIGHT - 60 - MAP_TOP) // len(self.tints)
        for number, row in enumerate(self.tints):
            for place, tint in enumerate(row):
                left, top = MARGIN + place * width, MAP_TOP + number * height
                fill = PAPER if tint is None else colors[tint]
                draw.rectangle((left, top, left + width - GAP, top + height - GAP), fill=fill, outline=LINE)


def wrapped(text: str, font: FreeTypeFont, width: float) -> str:
    """Break a text into lines no wider than `width` pixels, where its words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _font(name: str, size: int) -> FreeTypeFont:
    import reportlab
    from PIL import ImageFont

    return ImageFont.truetype(Path(reportlab.__file__).parent / "fonts" / name, size)


def _colors() -> list[str]:
    """The colors of heat on a light page, those of the style sheet."""
    light = re.findall(r"--h\d+: (#[0-9a-f]{6})", asset("figure.css"))
    return light[:11]


def _blanks(bars: Sequence[Bar | None]) -> int:
    return bars.count(None)


def _tint(bar: Bar | None) -> int | None:
    return None if bar is None else bar.tint
