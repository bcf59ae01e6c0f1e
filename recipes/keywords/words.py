"""What is said: the keywords, words that sound nearly like them, and any others."""

from __future__ import annotations

UNKNOWN, SILENCE = "unknown", "silence"

# A keyword and words near it. Whatever sounds the same, as 'know' or 'right' and 'write', is in neither.
_NEAR = {
    "yes": "yet guess less chess yell yelling west mess bless",
    "no": "now nose note nope noon known nor low row",
    "up": "cup app us pup upper ups upset apt supper",
    "down": "town dawn done drown brown downs sound gown noun",
    "left": "lift let lest leaf theft lefty lent leg laughed",
    "right": "ride rice light bright rat rights writer rye ripe",
    "on": "own an john honor pond onto onion con fawn",
    "off": "cough often loft awful soft offer offs of office",
    "stop": "step stock top shop spot stops stopped stoop stomp",
    "go": "goat got dough grow cow goes going gold goal",
    "start": "star smart art stark tart starts started cart startle",
    "play": "place pray plate clay plea played player pay plane",
    "pause": "paw cause pose laws pass paused pauses pawn applause",
    "help": "held hell health yelp helm helps helper elm kelp",
    "zero": "hero zebra arrow mirror sierra zeroes zeal euro narrow",
    "one": "run wand when wonder sun once ones want win",
    "two": "tooth tune shoe chew tea twelve twenty do tour",
    "three": "tree free thread she through thirteen thirty threes threat",
    "four": "form fur floor far door fourteen fourth or forty",
    "five": "fife fire dive fine live fifteen fifty hive fight",
    "six": "sick fix sticks mix sakes sixteen sixth seeks sixty",
    "seven": "heaven eleven sever seventy sudden seventeen seventh several severn",
    "eight": "ape aid at late ache eighteen eighth hate eighty",
    "nine": "mine night line none nice nineteen ninth dine ninety",
}
KEYWORDS = tuple(_NEAR)
LABELS = (*KEYWORDS, UNKNOWN, SILENCE)
"""The classes, in the order of the model's outputs."""

_OTHERS = """
able across after again airport album alarm almost always animal another answer apple april around autumn
baby balance banana basket beach bedroom before begin behind believe below better between bicycle birthday blanket
blue bottle bread breakfast bridge brother bucket button cable camera candle carpet carry castle ceiling center
change chapter cheese chicken children chocolate church circle clean climate close clothes coffee color computer
corner country cousin crystal daughter december degree dinner distance doctor dollar dragon early
easy echo effort elephant energy engine evening example famous farmer father feather finger flower football forest
forget forward friday friend garden giant glass golden green guitar hammer happy harbor hello history holiday
honey horse hospital hotel hour house human hundred hungry hurry island january jacket journey juice jungle kettle
kitchen lamp language laptop later lemon letter level library listen little lobby london lunch machine magic
marble market marvin matter medicine meeting memory message middle midnight milk minute monday money monkey morning
mother mountain movie music napkin nature never number ocean october orange other oven paper parent party pencil
people pepper picture pillow planet pocket potato printer problem puzzle quarter question rabbit radio rainbow
reason river rocket saturday school second sentence shadow sheila shoulder silver simple sister sleep spider spring
station story summer sunday supermarket sugar table teacher telephone temperature thank thousand thursday ticket
tiger timer today tomato tomorrow tower traffic travel tuesday uncle under universe valley vegetable village violin
visual volume wallet water weather wednesday weekend welcome whisper window winter wonderful world yellow yesterday
"""
_FAR = _OTHERS.split()

NEAR = tuple(word for near in _NEAR.values() for word in near.split()[:-1])
NEAR_UNHEARD = tuple(near.split()[-1] for near in _NEAR.values())
FAR = tuple(word for number, word in enumerate(_FAR) if number % 5)
FAR_UNHEARD = tuple(_FAR[::5])
"""What is unknown to the tests alone, near and far."""
