"""A small grammar of what one says to an assistant: timers, weather, lights, digits, sums, dates, spelling."""

from __future__ import annotations

import random
import re
from functools import cache
from math import prod


def _list(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")]


_ONES = _list("ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT, NINE")
_TEENS = _list("TEN, ELEVEN, TWELVE, THIRTEEN, FOURTEEN, FIFTEEN, SIXTEEN, SEVENTEEN, EIGHTEEN, NINETEEN")
_TENS = _list("TWENTY, THIRTY, FORTY, FIFTY, SIXTY, SEVENTY, EIGHTY, NINETY")
_SMALL = ["ZERO", *_ONES, *_TEENS, *(f"{ten} {one}".strip() for ten in _TENS for one in ["", *_ONES])]
_ORDINALS = _list(
    "FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH, NINTH, TENTH, ELEVENTH, TWELFTH, THIRTEENTH, "
    "FOURTEENTH, FIFTEENTH, SIXTEENTH, SEVENTEENTH, EIGHTEENTH, NINETEENTH, TWENTIETH"
)
_DAYS_OF_MONTH = [*_ORDINALS, *(f"TWENTY {one}" for one in _ORDINALS[:9]), "THIRTIETH", "THIRTY FIRST"]

# A name in braces stands for any of its alternatives, whose names in braces stand for theirs.
GRAMMAR: dict[str, list[str]] = {
    "digit": _SMALL[:10],
    "number": _SMALL[1:60],
    "plural": _SMALL[2:60],
    "percent": [*_SMALL[1:], "ONE HUNDRED"],
    "amount": [
        "{percent}",
        "{ones} HUNDRED",
        "{ones} HUNDRED AND {percent}",
        "{plural} THOUSAND",
        "{ones} THOUSAND {ones} HUNDRED",
    ],
    "ones": _ONES,
    "degrees": _SMALL[10:31],
    "hour": _SMALL[1:13],
    "minute": [*(f"OH {one}" for one in _ONES), *_SMALL[10:60]],
    "year": ["NINETEEN {year_end}", "TWENTY {year_end}", "EIGHTEEN {year_end}", "TWO THOUSAND AND {ones}"],
    "year_end": _SMALL[10:],
    "month": _list("JANUARY, FEBRUARY, MARCH, APRIL, MAY, JUNE, JULY, AUGUST, SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER"),
    "date": ["THE {day_of_month} OF {month}", "{month} {day_of_month}", "{month} THE {day_of_month}"],
    "day_of_month": _DAYS_OF_MONTH,
    "weekday": _list("MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY"),
    "day": ["TODAY", "TOMORROW", "TONIGHT", "{weekday}", "ON {weekday}", "NEXT {weekday}", "THIS {part}", "NEXT WEEK"],
    "part": _list("MORNING, AFTERNOON, EVENING, WEEKEND"),
    "time": [
        "{hour} O'CLOCK",
        "{hour}",
        "{hour} {minute}",
        "HALF PAST {hour}",
        "QUARTER PAST {hour}",
        "QUARTER TO {hour}",
        "{tens} PAST {hour}",
        "{tens} TO {hour}",
        "{hour} IN THE {part_of_day}",
        "NOON",
        "MIDNIGHT",
    ],
    "tens": ["FIVE", "TEN", "TWENTY", "TWENTY FIVE"],
    "part_of_day": _list("MORNING, AFTERNOON, EVENING"),
    "when": ["AT {time}", "{day}", "{day} AT {time}", "IN {plural} MINUTES", "IN {plural} DAYS", "IN AN HOUR"],
    "units_of_time": _list("SECONDS, MINUTES, HOURS"),
    "city": _list(
        "AMSTERDAM, ATHENS, BANGKOK, BARCELONA, BELFAST, BERLIN, BOSTON, BRUSSELS, BUDAPEST, CAIRO, CHICAGO, "
        "COPENHAGEN, DALLAS, DENVER, DUBLIN, EDINBURGH, FLORENCE, GENEVA, GLASGOW, HAMBURG, HELSINKI, HOUSTON, "
        "ISTANBUL, JERUSALEM, LISBON, LIVERPOOL, LONDON, MADRID, MANCHESTER, MELBOURNE, MIAMI, MILAN, MONTREAL, "
        "MOSCOW, MUNICH, NAPLES, NEW YORK, OSLO, OXFORD, PARIS, PHILADELPHIA, PRAGUE, ROME, SAN FRANCISCO, SEATTLE, "
        "SINGAPORE, STOCKHOLM, SYDNEY, TOKYO, TORONTO, VANCOUVER, VENICE, VIENNA, WARSAW, WASHINGTON, ZURICH"
    ),
    "room": _list(
        "KITCHEN, BEDROOM, LIVING ROOM, BATHROOM, HALLWAY, OFFICE, GARDEN, GARAGE, CELLAR, ATTIC, DINING ROOM, "
        "NURSERY, STUDY, GUEST ROOM, BASEMENT, CHILDREN'S ROOM, LIBRARY, WORKSHOP"
    ),
    "device": _list(
        "LAMP, LIGHT, LIGHTS, HEATER, RADIO, OVEN, FAN, TELEVISION, HEATING, COFFEE MACHINE, DISHWASHER, SPEAKER, "
        "PRINTER, COMPUTER, SPRINKLER, WASHING MACHINE, AIR CONDITIONER, CAMERA, ALARM, KETTLE"
    ),
    "opening": _list("DOOR, WINDOW, WINDOWS, BLINDS, CURTAINS, GATE, SHUTTERS"),
    "switch": _list("TURN ON, TURN OFF, SWITCH ON, SWITCH OFF"),
    "person": _list(
        "FATHER, MOTHER, GRANDMA, MY SISTER, MY BROTHER, THE DOCTOR, THE OFFICE, ALICE, ANNA, BEN, CHARLES, DAVID, "
        "EMMA, FRANK, GEORGE, HELEN, JACK, JAMES, JOHN, JULIA, LAURA, LUCY, MARIA, MARK, MARY, MICHAEL, NINA, OLIVER, "
        "PAUL, PETER, ROBERT, SARAH, SIMON, SOPHIE, THOMAS, UNCLE HENRY, AUNT ROSE, VICTOR, WILLIAM"
    ),
    "quantifier": _list("SOME, MORE, A LITTLE, NO MORE"),
    "genre": _list("JAZZ, ROCK, CLASSICAL MUSIC, FOLK SONGS, BLUES, OPERA, DANCE MUSIC, PIANO MUSIC, POP, QUIET MUSIC"),
    "thing": _list(
        "APPLES, EGGS, BREAD, BUTTER, CHEESE, MILK, COFFEE, TEA, RICE, SUGAR, SALT, TOMATOES, POTATOES, ONIONS, "
        "ORANGES, BANANAS, CARROTS, LEMONS, BATTERIES, CANDLES, SOAP, FLOUR, HONEY, JUICE, WATER, YOGURT, NOODLES"
    ),
    "counted": _list("APPLES, EGGS, LEMONS, ORANGES, TOMATOES, BOTTLES OF WATER, BAGS OF RICE, CANDLES, BATTERIES"),
    "task": _list(
        "WATER THE PLANTS, FEED THE CAT, WALK THE DOG, PAY THE RENT, BUY FLOWERS, TAKE MY MEDICINE, CLEAN THE KITCHEN, "
        "WASH THE CAR, CALL THE BANK, PICK UP THE CHILDREN, BOOK A TABLE, ANSWER THE LETTER, TAKE OUT THE RUBBISH, "
        "CHARGE THE PHONE, CHECK THE OVEN, RETURN THE BOOKS, SEND THE REPORT, LEAVE FOR THE STATION"
    ),
    "measure": _list("METERS, KILOMETERS, MILES, FEET, INCHES, GRAMS, POUNDS, OUNCES, LITERS, GALLONS, CUPS, YARDS"),
    "weather": _list("RAIN, SNOW, FREEZE, BE SUNNY, BE WINDY, BE CLOUDY, BE WARM, BE COLD, BE FOGGY"),
    "adjective": _list("COLD, WARM, HOT, WINDY, WET, HUMID"),
    "question": _list("WHAT TIME IS IT, WHO IS CALLING, WHERE ARE MY KEYS, WHAT IS NEW, WHAT CAN YOU DO, HOW ARE YOU"),
    # A alone would be read as the article.
    "letter": list("BCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "letters": ["{letter} {letter} {letter}", "{letter} {letter} {letter} {letter}"],
    "digits": [
        "{digit} {digit}",
        *(["{digit} {digit} {digit}"] * 3),
        *(["{digit} {digit} {digit} {digit}"] * 3),
        *(["{digit} {digit} {digit} {digit} {digit}"] * 3),
        *(["{digit} {digit} {digit} {digit} {digit} {digit}"] * 3),
        "{digit} {digit} {digit} {digit} {digit} {digit} {digit}",
        "{digit} {digit} {digit} {digit} {digit} {digit} {digit} {digit}",
    ],
    "operation": _list("PLUS, MINUS, TIMES"),
    "short": _list(
        "YES PLEASE, NO THANK YOU, STOP, PAUSE, GO ON, NO WAIT A MINUTE, WAIT A SECOND, NEXT SONG, PREVIOUS SONG, "
        "GOOD MORNING, GOOD NIGHT, GOOD EVENING, HELLO, GOODBYE, THANK YOU, LOUDER, QUIETER, VOLUME UP, VOLUME DOWN, "
        "REPEAT THAT, START AGAIN, CANCEL THAT, NEVER MIND, THAT IS RIGHT, THAT IS WRONG, HELP ME, LOCK THE DOOR, "
        "UNLOCK THE DOOR, TELL ME A JOKE, READ THE NEWS, TAKE A NOTE, TAKE A PICTURE, WHAT IS YOUR NAME, "
        "WHAT TIME IS IT, WHAT DAY IS IT, SING A SONG, BE QUIET, FORGET IT, TRY AGAIN, ANSWER THE PHONE, HANG UP"
    ),
}

# What is said, with how often.
_SAID: list[tuple[float, list[str]]] = [
    (18, ["{digits}"]),
    (2, ["MY NUMBER IS {digits}", "THE CODE IS {digits}", "DIAL {digits}", "ROOM {digit} {digit} {digit}"]),
    (14, ["THE ANSWER IS {number} {operation} {number}"]),
    (
        4,
        [
            "WHAT IS {number} {operation} {number}",
            "HOW MUCH IS {amount} {operation} {number}",
            "{amount} DIVIDED BY {ones}",
            "THE ANSWER IS {amount}",
        ],
    ),
    (
        10,
        [
            "SET A TIMER FOR {plural} {units_of_time}",
            "SET AN ALARM FOR {plural} {units_of_time}",
            "SET A TIMER FOR {plural} MINUTES AND {plural} SECONDS",
            "SET AN ALARM FOR {time}",
            "SET AN ALARM FOR {time} {day}",
            "WAKE ME UP AT {time}",
            "WAKE ME UP {day} AT {time}",
            "WAKE ME UP IN {plural} {units_of_time}",
            "CANCEL THE ALARM AT {time}",
            "HOW LONG IS LEFT ON THE TIMER",
        ],
    ),
    (
        10,
        [
            "WHAT IS THE WEATHER IN {city} {day}",
            "WHAT IS THE WEATHER IN {city}",
            "HOW IS THE WEATHER IN {city} {day}",
            "WILL IT {weather} IN {city} {day}",
            "HOW {adjective} IS IT IN {city} {day}",
            "IS IT GOING TO {weather} {day}",
            "WHAT TIME IS IT IN {city}",
        ],
    ),
    (
        12,
        [
            "{switch} THE {device} IN THE {room}",
            "{switch} THE {device}",
            "{switch} THE {device} IN THE {room} {when}",
            "SET THE HEATER IN THE {room} TO {degrees} DEGREES",
            "DIM THE LIGHTS IN THE {room} TO {percent} PERCENT",
            "MAKE IT {degrees} DEGREES IN THE {room}",
            "OPEN THE {opening} IN THE {room}",
            "CLOSE THE {opening} IN THE {room}",
            "IS THE {device} IN THE {room} STILL ON",
        ],
    ),
    (
        6,
        [
            "PLAY {quantifier} MUSIC IN THE {room}",
            "PLAY {genre} IN THE {room}",
            "PLAY {genre} {when}",
            "PLAY SONG NUMBER {amount}",
            "SET THE VOLUME TO {percent} PERCENT",
        ],
    ),
    (
        8,
        [
            "CALL {person}",
            "CALL {person} NOW",
            "CALL {person} LATER",
            "CALL {person} {when}",
            "SEND A MESSAGE TO {person}",
            "TELL {person} I WILL BE {plural} MINUTES LATE",
            "WHEN IS THE BIRTHDAY OF {person}",
        ],
    ),
    (6, ["HOW LONG IS THE WAY FROM {city} TO {city}", "HOW FAR IS THE WAY FROM {city} TO {city}"]),
    (
        2,
        [
            "FIND A TRAIN FROM {city} TO {city} {when}",
            "BOOK A FLIGHT TO {city} ON {date}",
            "HOW FAR IS {city} FROM {city}",
            "IT IS {amount} {measure} TO {city}",
        ],
    ),
    (
        4,
        [
            "REMIND ME TO {task} {when}",
            "REMIND ME TO {task}",
            "REMIND {person} TO {task} {when}",
            "ADD {thing} TO MY SHOPPING LIST",
            "ADD {plural} {counted} TO MY SHOPPING LIST",
            "ADD {thing} AND {thing} TO MY SHOPPING LIST",
        ],
    ),
    (
        3,
        [
            "WHAT DAY IS {date}",
            "WHAT HAPPENED ON {date} {year}",
            "MEET {person} ON {date} AT {time}",
            "PUT IT IN MY CALENDAR FOR {weekday} {date}",
            "{date} {year}",
        ],
    ),
    (2, ["HOW MANY {measure} ARE {amount} {measure}", "CONVERT {amount} {measure} TO {measure}"]),
    (2, ["THE LETTERS {letters}", "SPELL {city}", "IT IS SPELLED {letters}", "{letters}"]),
    (3, ["{short}", "{short}", "{question}"]),
]

_NAME = re.compile(r"\{(\w+)\}")


def phrase(draw: random.Random) -> str:
    """A phrase, in capitals."""
    (forms,) = draw.choices([forms for _, forms in _SAID], [weight for weight, _ in _SAID])
    return _filled(draw.choice(forms), draw)


def _filled(form: str, draw: random.Random) -> str:
    while match := _NAME.search(form):
        form = form[: match.start()] + draw.choice(GRAMMAR[match[1]]) + form[match.end() :]
    return form


def forms() -> int:
    """How many ways there are through the grammar, of which a few lead to the same phrase."""
    return sum(_ways(form) for _, group in _SAID for form in dict.fromkeys(group))


@cache
def _ways_of(name: str) -> int:
    return sum(map(_ways, dict.fromkeys(GRAMMAR[name])))


def _ways(form: str) -> int:
    return prod(map(_ways_of, _NAME.findall(form)))
