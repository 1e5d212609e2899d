"""The course's own corpus: short stories of an unambiguous probabilistic grammar, so that the lowest loss is known.

A story is told by choices: a name, a home, who gives what to whom. `tell` is the grammar, written once. Walked with
dice it makes stories, walked along a text it reads them, and either way each choice's probability is known. So
`log_probability` is exact, and no model of the stories can have a loss below its mean: the floor.

What must be remembered: who lives where and has which thing (told at the start, asked for at the end, at least five
sentences later), who holds the thing at the moment, where it is hidden, whom a pronoun stands for.
"""

import hashlib
import itertools
import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it takes a second
    from datasets import Dataset, IterableDataset  # type: ignore[import-untyped]


class NotAStoryError(ValueError):
    """A text that the grammar cannot have told; the message says where it stops being one."""


@dataclass(frozen=True)
class Story:
    """A story, and how it came about."""

    text: str
    log_probability: float  # in nats
    choices: tuple[str, ...]  # what was taken at each choice, in order


@dataclass(frozen=True)
class Lexicon:
    """The words that the grammar chooses among, all equally likely. No word of a list begins with another of it."""

    women: Sequence[str] = (
        "Ada", "Clara", "Dora", "Edith", "Greta", "Hanna", "Ida", "Lena", "Mira", "Nora", "Olga", "Rosa",
    )  # fmt: skip
    men: Sequence[str] = (
        "Anton", "Bruno", "Carl", "Emil", "Felix", "Gustav", "Hugo", "Jonas", "Konrad", "Leo", "Oskar", "Paul",
    )  # fmt: skip
    kinds: Sequence[str] = (
        "a badger", "a bear", "a fox", "a frog", "a goose", "a hare", "a mole", "a mouse", "an otter", "an owl",
    )  # fmt: skip
    valley: Sequence[str] = (  # where the women live
        "Alderby", "Birchfield", "Elmstead", "Fernhill", "Hazelwood", "Longmead", "Millbrook", "Oakhurst", "Rosedale",
        "Thornbury",
    )  # fmt: skip
    coast: Sequence[str] = (  # where the men live
        "Claymoor", "Dunham", "Eastport", "Greywater", "Kingsbarn", "Northgate", "Pinecliff", "Sandwick", "Stonewell",
        "Westhaven",
    )  # fmt: skip
    qualities: Sequence[str] = (
        "a blue", "a broken", "a golden", "a green", "a heavy", "a red", "a silver", "a tiny", "a wooden", "an old",
    )  # fmt: skip
    things: Sequence[str] = (
        "bell", "boat", "book", "clock", "cup", "drum", "flute", "hat", "key", "kite", "lamp", "mirror",
    )  # fmt: skip
    days: Sequence[str] = ("One morning", "One rainy day", "One Sunday", "In the spring", "Last winter")
    spots: Sequence[str] = ("behind a tree", "in a basket", "in the grass", "under a stone", "up on the roof")
    goals: Sequence[str] = ("the beach", "the cave", "the field", "the garden", "the market", "the river", "the school")
    foods: Sequence[str] = ("berries", "bread", "cheese", "honey", "nuts", "porridge", "soup")
    moods: Sequence[str] = ("happy", "hungry", "proud", "sad", "tired")
    weather: Sequence[str] = ("A cold wind blew", "It began to snow", "The sun came out", "Thunder rolled far away")
    turns: Sequence[str] = ("Soon", "Later", "At last")
    evenings: Sequence[str] = ("At dusk", "At night", "When the moon rose")
    shortest: int = 3  # how many sentences the middle has
    longest: int = 5


LEXICON = Lexicon()


def story(seed: int, number: int, lexicon: Lexicon = LEXICON) -> Story:
    """Make one story of an endless list: the same seed and number give the same story, whatever else was made.

    Args:
        seed: which list.
        number: which story of it, at least 0.
        lexicon: the words.
    """
    if number < 0:
        raise ValueError(f"number must be at least 0, got {number}")
    dice = Dice(random.Random(f"{seed}:{number}"))  # from a text: that way of seeding is the same on every machine
    tell(dice, lexicon)
    return Story("".join(dice.parts), dice.log_probability, tuple(dice.choices))


def stories(seed: int, start: int = 0, lexicon: Lexicon = LEXICON) -> Iterator[Story]:
    """Make the stories of a list one after the other, without end."""
    return (story(seed, number, lexicon) for number in itertools.count(start))


def parse(text: str, lexicon: Lexicon = LEXICON) -> Story:
    """Read a story: find the choices that tell it, of which there is one way at most.

    Raises:
        NotAStoryError: the grammar does not tell this text. The message says at which character it stops being a
            story, what stands there, and what might have stood there.
    """
    reader = Reader(text)
    tell(reader, lexicon)
    if reader.position < len(text):
        raise reader.error(["the end"])
    return Story(text, reader.log_probability, tuple(reader.choices))


def log_probability(text: str, lexicon: Lexicon = LEXICON) -> float:
    """Say how likely the grammar is to tell just this story, in nats.

    Raises:
        NotAStoryError: as `parse`.
    """
    return parse(text, lexicon).log_probability


def edition() -> str:
    """A digest of the grammar: another one tells other stories of the same seed."""
    return hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8).hexdigest()


def dataset(size: int, seed: int, start: int = 0, cache_dir: str | os.PathLike[str] | None = None) -> "Dataset":
    """Put stories into a `datasets.Dataset` with the columns "text" and "log_probability", which is kept on disk.

    Args:
        size: how many.
        seed: which list they are taken from.
        start: the number of the first.
        cache_dir: the folder that keeps them; that of `datasets` if None.
    """
    import datasets

    where = None if cache_dir is None else str(cache_dir)
    made = datasets.Dataset.from_generator(
        _rows, features=_features(), gen_kwargs=_numbers(size, seed, start), cache_dir=where
    )
    assert isinstance(made, datasets.Dataset)
    return made


def stream(size: int, seed: int, start: int = 0) -> "IterableDataset":
    """Put stories into a `datasets.IterableDataset` of the same columns, which makes them as they are asked for."""
    import datasets

    return datasets.IterableDataset.from_generator(_rows, features=_features(), gen_kwargs=_numbers(size, seed, start))


def _features() -> Any:
    import datasets

    return datasets.Features({"text": datasets.Value("string"), "log_probability": datasets.Value("float64")})


def _numbers(size: int, seed: int, start: int) -> dict[str, Any]:
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    # `datasets` takes equal arguments for equal rows, and gives what it has kept.
    return {"size": size, "seed": seed, "start": start, "edition": edition()}


def _rows(size: int, seed: int, start: int, edition: str) -> Iterator[dict[str, Any]]:
    for made in itertools.islice(stories(seed, start), size):
        yield {"text": made.text, "log_probability": made.log_probability}


class Walk(ABC):
    """A way through the grammar: at each choice it takes one of the alternatives."""

    def __init__(self) -> None:
        self.log_probability = 0.0
        self.choices: list[str] = []

    def choose(self, alternatives: Mapping[str, float]) -> str:
        """Take one of several texts, of which none begins with another; the weights need not sum to 1."""
        taken = self.take(alternatives)
        self.log_probability += math.log(alternatives[taken] / sum(alternatives.values()))
        self.choices.append(taken)
        return taken

    def one_of(self, words: Sequence[str]) -> str:
        """Take one of several texts that are equally likely."""
        taken = self.take(words)
        self.log_probability -= math.log(len(words))
        self.choices.append(taken)
        return taken

    @abstractmethod
    def take(self, alternatives: Mapping[str, float] | Sequence[str]) -> str:
        """Go on with one of the alternatives."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Go on with the only text there is."""


class Dice(Walk):
    """Makes a story: takes each alternative with its probability."""

    def __init__(self, generator: random.Random) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._generator = generator

    def take(self, alternatives: Mapping[str, float] | Sequence[str]) -> str:
        """One of them, by lot."""
        weights = list(alternatives.values()) if isinstance(alternatives, Mapping) else None
        taken = self._generator.choices(list(alternatives), weights)[0]
        self.parts.append(taken)
        return taken

    def say(self, text: str) -> None:
        """The text."""
        self.parts.append(text)


class Reader(Walk):
    """Reads a story: takes the alternative that the text goes on with."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.position = 0

    def take(self, alternatives: Mapping[str, float] | Sequence[str]) -> str:
        """The one that stands here."""
        for alternative in alternatives:
            if self.text.startswith(alternative, self.position):
                self.position += len(alternative)
                return alternative
        raise self.error(sorted(alternatives))

    def say(self, text: str) -> None:
        """The text, if it stands here."""
        if not self.text.startswith(text, self.position):
            raise self.error([text])
        self.position += len(text)

    def error(self, expected: Sequence[str]) -> NotAStoryError:
        """What is wrong with the text, and where."""
        before, after = self.text[: self.position][-30:], self.text[self.position :][:30]
        wanted = " or ".join(repr(text) for text in expected[:4]) + (" ..." if len(expected) > 4 else "")
        got = repr(after) if after else "the end"
        return NotAStoryError(f"character {self.position}: after {before!r} comes {got}, and not {wanted}")


@dataclass
class _Person:
    name: str
    she: bool
    home: str

    @property
    def pronoun(self) -> str:
        return "she" if self.she else "he"

    @property
    def object(self) -> str:
        return "her" if self.she else "him"

    @property
    def mentions(self) -> tuple[str, str]:
        return self.name, self.pronoun

    @property
    def possessive(self) -> str:
        return "her" if self.she else "his"


@dataclass
class _Scene:
    """What is to be remembered while a story is told."""

    hero: _Person
    friend: _Person  # a man where the hero is a woman, and the other way round: so a pronoun can mean one of them only
    quality: str
    thing: str
    holder: _Person  # who has the thing; who hid it, where it is hidden
    spot: str = ""  # where it is hidden

    def other(self, person: _Person) -> _Person:
        return self.friend if person is self.hero else self.hero


def tell(walk: Walk, lexicon: Lexicon = LEXICON) -> None:
    """Tell one story: the grammar."""
    scene = _beginning(walk, lexicon)
    for count in range(lexicon.longest + 1):
        starts = _starts(scene, lexicon) if count < lexicon.longest else {}
        if count >= lexicon.shortest:
            starts |= dict.fromkeys(lexicon.evenings, 0.4 / len(lexicon.evenings))
        walk.say(" ")
        start = walk.choose(starts)
        if start in lexicon.evenings:
            break
        if start in lexicon.weather:
            walk.say(".")
        elif start in lexicon.turns:
            _turn(walk, lexicon, scene, start)
        else:
            _deed(walk, lexicon, scene, start)
    _ending(walk, scene)


def _beginning(walk: Walk, lexicon: Lexicon) -> _Scene:
    """Who they are, where they live, what one of them has, and how they meet."""
    shape = walk.choose({"Once there was ": 0.4, "This is the story of ": 0.3, "Long ago lived ": 0.3})
    if shape == "Once there was ":
        walk.one_of(lexicon.kinds)
        walk.say(" called ")
        name = walk.one_of([*lexicon.women, *lexicon.men])
        walk.say(", who lived in ")
    else:
        name = walk.one_of([*lexicon.women, *lexicon.men])
        walk.say(", ")
        walk.one_of(lexicon.kinds)
        walk.say(" from ")
    she = name in lexicon.women
    hero = _Person(name, she, walk.one_of(lexicon.valley if she else lexicon.coast))
    walk.say(". ")
    walk.choose({
        f"{hero.pronoun.capitalize()} had ": 0.5,
        f"What {hero.pronoun} loved most was ": 0.25,
        f"{hero.possessive.capitalize()} mother had given {hero.object} ": 0.25,
    })  # fmt: skip
    quality = walk.one_of(lexicon.qualities)
    walk.say(" ")
    thing = walk.one_of(lexicon.things)
    walk.say(". ")
    walk.one_of(lexicon.days)
    walk.say(f" {hero.pronoun} met ")
    name = walk.one_of(lexicon.men if hero.she else lexicon.women)
    walk.say(", ")
    walk.one_of(lexicon.kinds)
    walk.say(" who lived in ")
    friend = _Person(name, not hero.she, walk.one_of(lexicon.coast if hero.she else lexicon.valley))
    walk.say(".")
    return _Scene(hero, friend, quality.split(" ", 1)[1], thing, holder=hero)


def _starts(scene: _Scene, lexicon: Lexicon) -> dict[str, float]:
    """How a sentence of the middle may begin: with somebody, with the weather, or with a turn in the thing's fate."""
    people = (scene.hero, scene.friend)
    starts = {start: 0.1 for person in people for start in (person.name, person.pronoun.capitalize())}
    starts |= dict.fromkeys(lexicon.weather, 0.15 / len(lexicon.weather))
    soon, later, finally_ = lexicon.turns
    return starts | ({finally_: 0.3} if scene.spot else {soon: 0.25, later: 0.2})


def _deed(walk: Walk, lexicon: Lexicon, scene: _Scene, start: str) -> None:
    """What somebody does that changes nothing."""
    person = scene.hero if start in (scene.hero.name, scene.hero.pronoun.capitalize()) else scene.friend
    other = scene.other(person)
    deeds = {" walked to ": lexicon.goals, " ate some ": lexicon.foods, " was ": lexicon.moods}
    asked = f" asked {other.name} about "
    deed = walk.choose({asked: 1.0, **dict.fromkeys(deeds, 1.0)})
    if deed == asked:
        walk.say(other.home)
    else:
        walk.one_of(deeds[deed])
    walk.say(".")


def _turn(walk: Walk, lexicon: Lexicon, scene: _Scene, start: str) -> None:
    """What becomes of the thing: who has it decides who can do what."""
    soon, later, _ = lexicon.turns
    thing = f"the {scene.thing}"
    holder, other = scene.holder, scene.other(scene.holder)
    walk.say(" ")
    if start == soon:
        walk.one_of(holder.mentions)
        gave = (f" gave {thing} to {other.name}.", f" gave {other.object} {thing}.")
        deed = walk.choose(
            {gave[0]: 0.35, gave[1]: 0.35, f" hid {thing} ": 0.15, f" showed {other.name} {thing}.": 0.15}
        )
        if deed in gave:
            scene.holder = other
        elif deed.startswith(" hid"):
            scene.spot = walk.one_of(lexicon.spots)
            walk.say(".")
    elif start == later:
        walk.one_of(other.mentions)
        walk.say(f" asked {holder.name} for {thing}, ")
        gave_it, kept_it = f"and {holder.pronoun} gave it to {other.object}.", f"but {holder.pronoun} kept it."
        if walk.one_of([gave_it, kept_it]) == gave_it:
            scene.holder = other
    else:
        taker = scene.other(_either(walk, scene))
        walk.say(f" found {thing} {scene.spot} and gave it to {taker.name}.")
        scene.holder, scene.spot = taker, ""


def _either(walk: Walk, scene: _Scene) -> _Person:
    """One of the two, by name."""
    return scene.hero if walk.one_of([scene.hero.name, scene.friend.name]) == scene.hero.name else scene.friend


def _ending(walk: Walk, scene: _Scene) -> None:
    """Who goes home where, and what has become of the thing."""
    walk.say(" ")
    first = _either(walk, scene)
    second = scene.other(first)
    walk.say(f" went home to {first.home}, and {second.name} to {second.home}. ")
    if scene.spot:
        walk.say(f"The {scene.quality} {scene.thing} was still {scene.spot}, and only {scene.holder.name} knew.")
    else:
        walk.say(f"The {scene.quality} {scene.thing} was with {scene.holder.name}.")
