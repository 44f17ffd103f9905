"""Songs become band arrangements: a score is read as a lead sheet, and a lead sheet is arranged in
one of the first eight `values.attributes.STYLES`.

May import `values` only. Read `arranger.py` first, then `styles/swing.py` for what a style is.
"""

from melisma.data.arrange.arranger import arrange, styles_for
from melisma.data.arrange.lead_sheet import read_lead_sheet
from melisma.data.arrange.sheet import Chord, LeadSheet

__all__ = ["Chord", "LeadSheet", "arrange", "read_lead_sheet", "styles_for"]
