"""The eight arranged styles, one file each: tempo, lead instruments, patterns and parts.

Read `swing.py` first. Each file defines one `STYLE` (see `arrange/style.py`).
"""

from melisma.data.arrange.style import Style
from melisma.data.arrange.styles import ballad, bossa_nova, dance, lo_fi, march, rock, swing, waltz

STYLES_BY_NAME: dict[str, Style] = {
    module.STYLE.name: module.STYLE
    for module in (waltz, march, ballad, bossa_nova, swing, rock, lo_fi, dance)
}
"""In the order of `values.attributes.STYLES`."""

__all__ = ["STYLES_BY_NAME"]
