"""Band arrangements of songs: score -> lead sheet -> arrangement in one of eight styles.

The styles are the first eight of `values.attributes.STYLES`. May import `values` only. Read
`arranger.py` first, then `styles/swing.py` as an example of a style.
"""

from melisma.data.arrange.arranger import arrange, styles_for
from melisma.data.arrange.lead_sheet import read_lead_sheet
from melisma.data.arrange.sheet import Chord, LeadSheet

__all__ = ["Chord", "LeadSheet", "arrange", "read_lead_sheet", "styles_for"]
