"""English word lists behind `agree`: what carries no meaning, what means the same, what is opposed.

Tables, and the three small functions that read them. They are meant to be read and extended by
hand; a word that is in none of them simply has to be the same in both texts.
"""

from __future__ import annotations

import re
from functools import cache

__all__ = [
    "BE",
    "EXACT_DAYS",
    "FORMERLY",
    "LIGHT",
    "MARKERS",
    "NEGATIONS",
    "PAST_OF",
    "PEOPLE",
    "ROLES",
    "canonical",
    "is_called",
    "is_colour",
    "is_past",
    "is_state",
    "opposed",
]

BE = frozenset("be am is are was were been being".split())
# Words that may be in one text only.
LIGHT = frozenset(
    "a an the this that these those it its itself our ours of having which who whom there "
    "very really quite rather so just also too indeed actually basically simply please hey hi "
    "hello well oh ok okay yeah yes wow haha still already currently now even own let as".split()
)
NEGATIONS = frozenset("not no never without neither nor cannot".split())
# Prepositions say what part the next word plays; each class is one part.
ROLES = {
    **dict.fromkeys("in inside within".split(), "in"),
    **dict.fromkeys("to into onto toward towards".split(), "to"),
    **dict.fromkeys("by via through".split(), "by"),
    **dict.fromkeys("about regarding concerning".split(), "about"),
    **dict.fromkeys("before prior".split(), "before"),
    **dict.fromkeys("below beneath underneath".split(), "below"),
    **{
        word: word
        for word in "on at from for with than after until till since during under over above "
        "between against near behind beside per around across among".split()
    },
}
PEOPLE = {
    **dict.fromkeys("i me my mine myself".split(), "i"),
    **dict.fromkeys("we us ourselves".split(), "we"),
    **dict.fromkeys("you your yours yourself yourselves".split(), "you"),
    **dict.fromkeys("he him his himself".split(), "he"),
    **dict.fromkeys("she her hers herself".split(), "she"),
    **dict.fromkeys("they them their theirs themselves".split(), "they"),
}
# What changes the standing of a whole sentence; both texts must have the same.
MARKERS = {
    **dict.fromkeys("may might could maybe perhaps possibly".split(), "may"),
    **dict.fromkeys("probably likely presumably".split(), "probably"),
    **dict.fromkeys("will shall gonna".split(), "will"),
    **{word: word for word in "would should can must if unless whether when".split()},
    **dict.fromkeys("approximately roughly".split(), "roughly"),
}
FORMERLY = frozenset("formerly previously".split())
# Days that mean another one every day.
EXACT_DAYS = frozenset(
    "today yesterday tomorrow tonight monday tuesday wednesday thursday friday saturday sunday "
    "weekend weekday".split()
)
_COLOURS = "red green blue yellow black white grey brown orange pink purple violet silver"
# Whatever follows one of these is the only one of its sort.
_CALLED = "call title codename prefer"
_STATES = (
    "call title codename cost live work study equal weigh measure expire prefer listen have host "
    "run belong start end open close last take"
)

_SAME = """
    like enjoy|love adore|call name|buy purchase|begin start commence|end finish|need require
    use utilize utilise employ|big large|small little tiny|quick fast rapid|car automobile auto
    kid child children|photo picture photograph|mom mother mum|dad father|live reside dwell
    speak talk|help assist|show display|folder directory|repo repository|db database
    config configuration|app application|doc documentation|prod production|auth authentication
    info information|phone telephone|tv television|bike bicycle|reply answer respond|fix repair
    choose pick select|glad happy|clever smart intelligent|hard difficult|easy simple
    correct right|wrong incorrect|usual normal general|often frequent|plane airplane aeroplane
    film movie|flat apartment|job occupation|shop store|sick ill|wife spouse|holiday vacation
    people persons|all every each|everyone everybody|nobody noone|someone somebody|spot place
    delete erase|allow permit|forbid prohibit ban|obtain acquire|gift present|mail email
    environment env|spec specification|parameter param|admin administrator|tool utility
    stop halt|receive get|build construct|error fault|whole entire|terminate end
    usually normally generally typically|often frequently|title headline|grey gray
    colleague coworker|organization organisation|laptop notebook|town city|street road
    unable incapable|grandma grandmother|grandpa grandfather|cheap inexpensive
    costly expensive|trip journey|mandatory required|woman lady|man gentleman|sofa couch
    ship deliver|retrieve fetch
"""
_OPPOSITE = """
    like dislike|like hate|love hate|love dislike|enjoy hate|open closed|open shut|enabled disabled
    enable disable|start stop|begin stop|allow forbid|allow deny|allow block|accept reject
    accept refuse|pass fail|succeed fail|win lose|true false|correct wrong|right wrong
    correct incorrect|valid invalid|alive dead|active inactive|available unavailable
    possible impossible|safe dangerous|safe unsafe|always never|all none|every none|everyone nobody
    everything nothing|more less|more fewer|most least|increase decrease|rise fall|grow shrink
    hot cold|warm cold|warm cool|high low|higher lower|big small|large small|long short|tall short
    fast slow|early late|old new|old young|rich poor|strong weak|hard easy|easy difficult
    happy sad|happy unhappy|good bad|better worse|best worst|married divorced|married single
    employed unemployed|online offline|visible hidden|visible invisible|present absent|full empty
    light dark|wet dry|clean dirty|left right|inside outside|above below|first last|near far
    legal illegal|known unknown|finished unfinished|resolved unresolved|required optional
    mandatory optional|synchronous asynchronous|sync async|deprecated supported|vegetarian carnivore
    supported unsupported|pending done|guilty innocent|healthy sick|healthy ill|public private
    locked unlocked|connected disconnected|north south|east west|maximum minimum|up down|on off
    many few|cheap expensive|loud quiet|soft hard|thick thin|wide narrow|deep shallow|awake asleep
    complete incomplete|complete partial|success failure|working broken|running stopped
    in out|mutable immutable|dynamic static|manual automatic|remote local|permanent temporary
    stable unstable|secure insecure|encrypted unencrypted|internal external|vegan carnivore
    before after|upper lower|positive negative|increase reduce|raise lower|busy free|busy idle
"""
PAST_OF = {
    past: present
    for present, pasts in (
        pair.split(":")
        for pair in "go:went,gone buy:bought have:had say:said tell:told make:made come:came "
        "take:took,taken get:got,gotten run:ran see:saw,seen give:gave,given find:found "
        "think:thought know:knew,known feel:felt leave:left keep:kept write:wrote,written "
        "meet:met pay:paid sell:sold send:sent build:built lose:lost win:won eat:ate,eaten "
        "drink:drank,drunk speak:spoke,spoken break:broke,broken choose:chose,chosen begin:began,"
        "begun drive:drove,driven fly:flew,flown grow:grew,grown hold:held hear:heard lead:led "
        "become:became teach:taught bring:brought catch:caught sleep:slept spend:spent stand:stood "
        "sing:sang,sung swim:swam,swum throw:threw,thrown wear:wore,worn wake:woke,woken "
        "understand:understood do:done fall:fell,fallen rise:rose,risen draw:drew,drawn "
        "forget:forgot,forgotten hide:hid,hidden ride:rode,ridden steal:stole,stolen "
        "fight:fought deal:dealt dream:dreamt learn:learnt forbid:forbade,forbidden "
        "mean:meant sit:sat shoot:shot".split()
    )
    for past in pasts.split(",")
}
_IRREGULAR = {
    "children": "child",
    "does": "do",
    "feet": "foot",
    "goes": "go",
    "has": "have",
    "men": "man",
    "mice": "mouse",
    "women": "woman",
}
_NEGATING = ("un", "in", "dis", "non", "im", "ir", "il", "non-")
_BRITISH = re.compile("(?<=[vbnmgdi])our|(?<=ol)our")
_VOWELS = frozenset("aeiouy")


@cache
def canonical(word: str) -> str:
    """Returns the form under which a casefolded word is compared: its stem, or its group's."""
    stem = _stem(word)
    return _groups().get(stem, stem)


def is_past(word: str) -> bool:
    """Says whether a casefolded word looks like a past form."""
    return word in PAST_OF or (word.endswith("ed") and _stem(word) != word)


@cache
def opposed(one: str, other: str) -> bool:
    """Says whether two canonical words exclude each other."""
    if (one, other) in _opposites():
        return True
    short, long = sorted((one, other), key=len)
    return len(short) >= 4 and any(long == prefix + short for prefix in _NEGATING)


def is_called(word: str) -> bool:
    """Says whether a canonical word gives a name, of which a thing has one."""
    return word in _canonicals(_CALLED)


def is_colour(word: str) -> bool:
    """Says whether a canonical word is a colour."""
    return word in _canonicals(_COLOURS)


def is_state(word: str) -> bool:
    """Says whether a canonical word gives a value of which there is one at a time."""
    return word in _canonicals(_STATES)


@cache
def _canonicals(words: str) -> frozenset[str]:
    return frozenset(canonical(word) for word in words.split())


@cache
def _groups() -> dict[str, str]:
    groups: dict[str, str] = {}
    for group in _SAME.replace("\n", "|").split("|"):
        stems = [_stem(word) for word in group.split()]
        for stem in stems:
            groups.setdefault(stem, groups.get(stems[0], stems[0]))
    return groups


@cache
def _opposites() -> frozenset[tuple[str, str]]:
    pairs = (pair.split() for pair in _OPPOSITE.replace("\n", "|").split("|") if pair.strip())
    known = [(canonical(one), canonical(other)) for one, other in pairs]
    return frozenset([*known, *((other, one) for one, other in known)])


def _stem(word: str) -> str:
    """Takes off plural, -ed, -ing and British spelling; both texts get the same treatment."""
    word = _IRREGULAR.get(word, PAST_OF.get(word, word))
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and _VOWELS & set(rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "sl" else rest
            word = word[:-1] + "y" if ending == "ed" and word.endswith("i") else word
            break
    if len(word) > 4:
        word = _BRITISH.sub("or", word).replace("isation", "ization")
        word = word[:-2] + "z" if word.endswith("is") else word
        word = word[:-3] + "iz" if word.endswith(("ise", "ize")) else word
    return word.removesuffix("e") if len(word) > 3 else word
