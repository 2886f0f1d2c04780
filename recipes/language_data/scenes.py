"""Composed scenes with questions whose answers a text alone can't guess.

The answer is drawn first, each as often as the others, and independently of what the
question names; then a scene is composed in which it is right. A decoder that sees
nothing is right once in four times where there are four answers.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_pe.data.questions import Question, question_member
from keras_pe.data.shard_files import Sample
from keras_pe.evaluation.language import box_text
from recipes.language_data.colours import (
    BACKGROUNDS,
    PAINTS,
    any_background,
    one_of,
    painted,
    plain,
)
from recipes.language_data.scene_images import Box, CutOut, Scene, compose
from recipes.language_data.words import png_bytes

MOST = 4  # things in a scene
CLEARLY = 2.0  # how much farther apart one way than the other, to be called left of
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
DIRECTIONS = tuple(OPPOSITE)
PHRASES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
ASKED = {
    "count": ("How many things are there?", "How many things do you see?"),
    "count of": (
        "How many times does it show {}?",
        "How often do you see {}?",
    ),
    "count kind": (
        "How many things are of the kind {}?",
        "How often do you see something of the kind {}?",
    ),
    "position": (
        "Is the {} left of, right of, above or below the {}?",
        "Where is the {}, seen from the {}: left, right, above or below?",
    ),
    "relation": ("Is the {} {} the {}?",),
    "presence": ("Is {} shown?", "Does the picture show {}?", "Do you see {}?"),
    "grounding": ("Where is the {}?", "Give the box of the {}."),
    "background": ("What colour is the background?", "Which colour is behind?"),
    "colour": ("What colour is the {}?", "Which colour does the {} have?"),
}
TRIES = 50


@dataclasses.dataclass(frozen=True)
class Asked:
    """A scene and what is asked of it."""

    scene: Scene
    questions: list[Question]


class CutOuts:
    """Picks things by name, each name as often as the others.

    Args:
        things: at least as many looks as a scene may show, and one more.

    Raises:
        ValueError: if there are too few.
    """

    def __init__(self, things: Sequence[CutOut]) -> None:
        self.by_name: dict[str, list[CutOut]] = {}
        for thing in things:
            self.by_name.setdefault(thing.name, []).append(thing)
        self.names = sorted(self.by_name)
        looks = {thing.look for thing in things}
        if len(looks) <= MOST:
            raise ValueError(
                f"{len(looks)} things that differ: expected {MOST + 1} or more."
            )
        kinds: dict[str, set[str]] = {}
        for thing in things:
            if thing.kind:
                kinds.setdefault(thing.kind, set()).add(thing.name)
        self.kinds = {kind: sorted(names) for kind, names in sorted(kinds.items())}
        # Of these it can be asked how many there are, for there is enough else.
        self.countable = [
            kind
            for kind in self.kinds
            if len({thing.look for thing in things if thing.kind != kind}) >= MOST
        ]

    def pick(
        self,
        count: int,
        rng: np.random.Generator,
        others: Sequence[CutOut] = (),
        kind_other_than: str | None = None,
    ) -> list[CutOut]:
        """Returns things that look different from each other and from others."""
        picked: list[CutOut] = []
        for _ in range(1000):
            if len(picked) == count:
                return picked
            thing = self.drawing(one_of(self.names, rng), rng)
            looks = {one.look for one in (*others, *picked)}
            if thing.look in looks or thing.kind == kind_other_than:
                continue
            picked.append(thing)
        raise RuntimeError(f"{len(self.names)} names are too few: give more things.")

    def drawing(self, name: str, rng: np.random.Generator) -> CutOut:
        """Returns one of the pictures of a name."""
        drawings = self.by_name[name]
        return drawings[int(rng.integers(len(drawings)))]

    def absent(self, things: Sequence[CutOut], rng: np.random.Generator) -> str:
        """Returns a name that none of the things has, half the time of their kinds."""
        looks = {thing.look for thing in things}
        hard = self.kinds.get(things[int(rng.integers(len(things)))].kind, [])
        for names in ([hard] if rng.random() < 0.5 else []) + [self.names]:
            left = [n for n in names if self.by_name[n][0].look not in looks]
            if left:
                return one_of(left, rng)
        raise ValueError("Everything there is is shown.")


def scene_samples(
    things: Sequence[CutOut],
    count: int,
    size: int = 64,
    seed: int | Sequence[int] = 0,
    name: str = "scene",
) -> Iterator[Sample]:
    """Yields scenes with questions; scene i depends on seed, things and i alone.

    Args:
        things: cut-out pictures.
        count: how many scenes.
        size: side of the pictures, pixels.
        seed: seed of everything random.
        name: what keys begin with.

    Yields:
        `__key__`, `png` and `json`, which names the things and their boxes in pixels.

    Raises:
        ValueError: if there are too few things.
        RuntimeError: if no arrangement is found.
    """
    pool = CutOuts(things)
    themes = [theme for theme in THEMES if theme != "count kind" or pool.countable]
    weights = np.array([THEMES[theme][0] for theme in themes])
    seeds = [seed] if isinstance(seed, int) else list(seed)
    for number in range(count):
        rng = np.random.default_rng([*seeds, number])
        theme = str(rng.choice(themes, p=weights / weights.sum()))
        asked = _found(THEMES[theme][1], pool, size, rng)
        shown = [
            {
                "name": thing.name,
                "kind": thing.kind,
                "source": thing.source,
                "box": list(box),
            }
            for thing, box in zip(asked.scene.things, asked.scene.boxes, strict=True)
        ]
        yield {
            "__key__": f"{name}-{number:06d}",
            "png": png_bytes(asked.scene.image),
            "json": question_member(asked.questions, {"things": shown}),
        }


def _found(make: "Make", pool: CutOuts, size: int, rng: np.random.Generator) -> Asked:
    answer = int(rng.integers(1 << 30))  # what is asked for stays, whatever is shown
    for _ in range(TRIES):
        asked = make(pool, size, np.random.default_rng(answer), rng)
        if asked is not None:
            return asked
    raise RuntimeError(f"No scene of {size} pixels was found: give a larger size.")


def _question(
    kind: str, wording: str, rng: np.random.Generator, answer: str, *names: str
) -> Question:
    return Question(one_of(ASKED[wording], rng).format(*names), answer, kind)


def _presence(
    pool: CutOuts, shown: Sequence[CutOut], rng: np.random.Generator
) -> Question:
    if rng.random() < 0.5:
        name = one_of([thing.name for thing in shown], rng)
        return _question("yesno", "presence", rng, "yes", name)
    return _question("yesno", "presence", rng, "no", pool.absent(shown, rng))


# === Themes: answers come from the first generator, all else from the second ===
def _count(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    count = int(answers.integers(1, MOST + 1))
    if rng.random() < 0.5:  # all of a name
        name = one_of(pool.names, rng)
        things = [pool.drawing(name, rng) for _ in range(count)]
    else:
        things = pool.pick(count, rng)
    scene = compose(things, size, lambda: any_background(size, rng), rng)
    if scene is None:
        return None
    questions = [
        _question("count", "count", rng, str(count)),
        _presence(pool, things, rng),
    ]
    return Asked(scene, questions)


def _count_of(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    count, others = _how_many(answers)
    name = one_of(pool.names, answers)
    right = [pool.drawing(name, rng) for _ in range(count)]
    like = right or [pool.drawing(name, rng)]  # nor may others look like it
    things = [*right, *pool.pick(others, rng, like)]
    scene = compose(things, size, lambda: any_background(size, rng), rng)
    if scene is None:
        return None
    return Asked(scene, [_question("count", "count of", rng, str(count), name)])


def _count_kind(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    count, others = _how_many(answers)
    kind = one_of(pool.countable, answers)
    right = [pool.drawing(one_of(pool.kinds[kind], rng), rng) for _ in range(count)]
    right = [thing for thing in right if thing.kind == kind]  # a name of two kinds
    if len(right) < count:
        return None
    things = [*right, *pool.pick(others, rng, right, kind)]
    scene = compose(things, size, lambda: any_background(size, rng), rng)
    if scene is None:
        return None
    return Asked(scene, [_question("count", "count kind", rng, str(count), kind)])


def _how_many(answers: np.random.Generator) -> tuple[int, int]:
    """Returns how many are counted, from none, and how many are beside these."""
    count = int(answers.integers(MOST))
    others = int(answers.integers(0 if count else 1, MOST - count + 1))
    return count, others


def _place(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    direction, right = one_of(DIRECTIONS, answers), answers.random() < 0.5
    things = pool.pick(int(answers.integers(2, MOST + 1)), rng)

    def as_asked(boxes: Sequence[Box]) -> bool:
        return direction_of(boxes[0], boxes[1]) == direction

    scene = compose(things, size, lambda: any_background(size, rng), rng, as_asked)
    if scene is None:
        return None
    first, second = things[0].name, things[1].name
    said = PHRASES[direction if right else OPPOSITE[direction]]
    answer = "yes" if right else "no"
    questions = [
        _question("position", "position", rng, direction, first, second),
        _question("relation", "relation", rng, answer, first, said, second),
        _presence(pool, things, rng),
    ]
    for place in rng.permutation(len(things))[:2].tolist():
        where = box_text(scene.shares(place))
        name = things[place].name
        questions.append(_question("grounding", "grounding", rng, where, name))
    return Asked(scene, questions)


def direction_of(one: Box, other: Box) -> str | None:
    """Returns where a box clearly lies, seen from another one; None if it does not.

    Example:
        >>> direction_of((0, 10, 10, 20), (30, 12, 40, 22))
        'left'
    """
    across = (one[0] + one[2] - other[0] - other[2]) / 2
    down = (one[1] + one[3] - other[1] - other[3]) / 2
    if abs(across) >= CLEARLY * abs(down):
        if one[2] <= other[0]:
            return "left"
        if one[0] >= other[2]:
            return "right"
    if abs(down) >= CLEARLY * abs(across):
        if one[3] <= other[1]:
            return "above"
        if one[1] >= other[3]:
            return "below"
    return None


def _background(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    colour = one_of(list(BACKGROUNDS), answers)
    things = pool.pick(int(answers.integers(1, MOST)), rng)
    scene = compose(things, size, lambda: plain(colour, size, rng), rng)
    if scene is None:
        return None
    return Asked(scene, [_question("colour", "background", rng, colour)])


def _painted(
    pool: CutOuts, size: int, answers: np.random.Generator, rng: np.random.Generator
) -> Asked | None:
    colour = one_of(PAINTS, answers)
    things = pool.pick(int(answers.integers(1, MOST)), rng)
    chosen = things[0]
    things[0] = dataclasses.replace(chosen, image=painted(chosen.image, colour))
    scene = compose(things, size, lambda: any_background(size, rng), rng)
    if scene is None:
        return None
    return Asked(scene, [_question("colour", "colour", rng, colour, chosen.name)])


Make = Callable[[CutOuts, int, np.random.Generator, np.random.Generator], Asked | None]
# How often each theme comes, and what makes it.
THEMES: dict[str, tuple[float, Make]] = {
    "count": (0.15, _count),
    "count of": (0.12, _count_of),
    "count kind": (0.12, _count_kind),
    "place": (0.43, _place),
    "background": (0.06, _background),
    "painted": (0.12, _painted),
}
