"""The corpus: every story is told in one way only, and what it is said to be likely it is."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from checkpoints import corpus
from checkpoints.corpus import LEXICON, Lexicon, NotAStoryError, Walk

# Small enough for all of its stories to be told: the middle has one sentence or two.
SHRUNKEN = Lexicon(
    women=("Ada",),
    men=("Bruno",),
    kinds=("a fox",),
    valley=("Alderby", "Elmstead"),
    coast=("Dunham", "Eastport"),
    qualities=("a red",),
    things=("kite",),
    days=("One day",),
    spots=("in a basket",),
    goals=("the beach",),
    foods=("nuts",),
    moods=("sad",),
    weather=("It began to snow",),
    evenings=("At dusk", "At night"),
    shortest=1,
    longest=2,
)


class _Path(Walk):
    """Takes given alternatives by their places, then always the first; notes how many there were."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__()
        self.text = ""
        self.places = list(places)
        self.counts: list[int] = []

    def take(self, alternatives: Mapping[str, float] | Sequence[str]) -> str:
        for one, other in itertools.permutations(alternatives, 2):
            assert not other.startswith(one), f"{other!r} begins with {one!r}"
        place = self.places[len(self.counts)] if len(self.counts) < len(self.places) else 0
        self.counts.append(len(alternatives))
        taken = list(alternatives)[place]
        self.text += taken
        return taken

    def say(self, text: str) -> None:
        self.text += text


def _all_paths(lexicon: Lexicon) -> list[_Path]:
    """Every way through the grammar, the next being the last that has a later alternative."""
    paths = []
    places: list[int] = []
    while True:
        path = _Path(places)
        corpus.tell(path, lexicon)
        paths.append(path)
        places = places + [0] * (len(path.counts) - len(places))
        while places and places[-1] + 1 == path.counts[len(places) - 1]:
            places.pop()
        if not places:
            return paths
        places[-1] += 1


def test_probabilities_of_a_shrunken_grammar_sum_to_one() -> None:
    """All of its stories, each told in one way only, have the probability 1 together."""
    paths = _all_paths(SHRUNKEN)
    assert len(paths) > 10_000
    assert len({path.text for path in paths}) == len(paths)
    assert math.fsum(math.exp(path.log_probability) for path in paths) == pytest.approx(1.0, abs=1e-12)
    for path in random.Random(0).sample(paths, 500):
        assert corpus.parse(path.text, SHRUNKEN).choices == tuple(path.choices)
        assert corpus.log_probability(path.text, SHRUNKEN) == pytest.approx(path.log_probability, abs=1e-12)


def test_stories_come_as_often_as_they_are_likely() -> None:
    """Of the shrunken grammar's stories, the likeliest occur in a sample as often as their probability says."""
    paths = sorted(_all_paths(SHRUNKEN), key=lambda path: -path.log_probability)[:50]
    size = 20_000
    counts = Counter(each.text for each in itertools.islice(corpus.stories(7, lexicon=SHRUNKEN), size))
    for path in paths:
        probability = math.exp(path.log_probability)
        # The seed is fixed, so the bound of six standard deviations holds for good or not at all.
        assert abs(counts[path.text] - size * probability) < 6 * math.sqrt(size * probability) + 1, path.text


def test_parsing_recovers_the_choices() -> None:
    """100,000 stories: reading one finds the choices that it was made by, and its probability to the last digit."""
    floor, parsed = 0.0, 0.0
    for made in itertools.islice(corpus.stories(2026), 100_000):
        read = corpus.parse(made.text)
        assert read.choices == made.choices
        floor -= made.log_probability
        parsed -= read.log_probability
    assert parsed == floor  # the floor of the whole set
    # A sample mean is within a hundredth of the entropy here, and there are at least exp(entropy) stories.
    assert floor / 100_000 > math.log(1e12)


def test_alternatives_never_begin_with_one_another() -> None:
    """So a text can be read in one way at most, be it a story or not."""
    for number in range(300):
        made = corpus.story(3, number)
        path = _Path([])
        remaining = list(made.choices)

        def take(
            alternatives: Mapping[str, float] | Sequence[str], path: _Path = path, remaining: list[str] = remaining
        ) -> str:
            path.places = [*([0] * len(path.counts)), list(alternatives).index(remaining.pop(0))]
            return _Path.take(path, alternatives)

        path.take = take  # type: ignore[method-assign]
        corpus.tell(path)
        assert path.text == made.text
    for name, words in vars(LEXICON).items():
        if isinstance(words, tuple):
            assert not any(b.startswith(a) for a, b in itertools.permutations(words, 2)), name


def test_stories_are_the_same_everywhere() -> None:
    """The same seed and number give the same story, alone, in a list from anywhere, in a dataset and in a stream."""
    alone = [corpus.story(5, number) for number in range(20)]
    assert list(itertools.islice(corpus.stories(5), 20)) == alone
    assert list(itertools.islice(corpus.stories(5, start=12), 8)) == alone[12:]
    assert [row["text"] for row in corpus.stream(20, 5)] == [made.text for made in alone]
    rows = corpus.dataset(20, 5)
    assert rows["text"][:] == [made.text for made in alone]
    assert rows["log_probability"][:] == [made.log_probability for made in alone]
    assert {corpus.story(6, number).text for number in range(20)}.isdisjoint(made.text for made in alone)
    assert next(iter(corpus.stream(10**12, 5)))["text"] == alone[0].text  # of any size: made when asked for
    with pytest.raises(ValueError, match="number must be at least 0, got -1"):
        corpus.story(5, -1)


def test_memory_is_needed_over_five_sentences() -> None:
    """Where each lives, and what the thing is like, is told at the start and asked for at the end, and only there."""
    for number in range(200):
        text = corpus.story(8, number).text
        sentences = text.removesuffix(".").split(". ")
        homes = [home for home in (*LEXICON.valley, *LEXICON.coast) if home in sentences[-2]]
        assert len(homes) == 2
        told = [min(place for place, sentence in enumerate(sentences) if home in sentence) for home in homes]
        assert all(place <= 2 for place in told)
        assert len(sentences) - 2 - min(told) >= 5
        for home in homes:
            other = next(each for each in (*LEXICON.valley, *LEXICON.coast) if each not in homes)
            changed = f"{'. '.join(sentences[:-2])}. {sentences[-2].replace(home, other)}. {sentences[-1]}."
            with pytest.raises(NotAStoryError):
                corpus.parse(changed)


def _place(text: str) -> int:
    with pytest.raises(NotAStoryError) as caught:
        corpus.parse(text)
    return int(str(caught.value).split()[1].removesuffix(":"))


def test_a_text_that_stops_being_a_story() -> None:
    """The message says at which character, what stands there and what might have."""
    text = corpus.story(1, 0).text
    assert _place("") == 0
    assert _place(text + " ") == len(text)
    assert _place(text[:-1]) <= len(text) - 1
    for place in range(0, len(text), 7):
        broken = text[:place] + "#" + text[place + 1 :]
        assert _place(broken) <= place
    with pytest.raises(NotAStoryError, match="character 0: after '' comes 'Twice', and not 'Long ago lived '"):
        corpus.parse("Twice")
