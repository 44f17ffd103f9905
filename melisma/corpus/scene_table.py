"""The table of scenes: kind | text | moods | tempo range in bpm | styles | dynamics | more.

"More" holds families one expects and the mode. Written for this program; `scenes.py` reads it.
"""

SCENE_TABLE = """
use | a bedtime story | calm tender dreamy | 40-85 | | soft | major
use | rocking a baby to sleep | calm tender | 40-85 | | soft |
use | a child's birthday party | happy playful energetic | 100-180 | | | major
place | in a smoky jazz club | calm dark playful energetic happy | 60-200 | swing,ballad,bossa nova | |
place | at a village wedding | happy energetic playful | 100-200 | folk,waltz,dance,swing | | major
place | in a cathedral | solemn calm dark | 40-100 | church,renaissance,baroque,classical,romantic | | organ,choir,strings,brass
image | fog over a still lake | calm dreamy sad | 40-85 | | soft |
image | a storm at sea | tense dark energetic | 100-200 | romantic,impressionist,classical,rock,game | loud |
use | a car chase | tense energetic dark | 130-220 | | loud |
use | studying late at night | calm dreamy | 50-100 | lo-fi,bossa nova,impressionist,classical,romantic,ballad | soft |
"""
