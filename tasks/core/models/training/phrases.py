"""The closed language of the bundled speech model: 39 words and a grammar of short sentences."""

import hashlib
import random

SIZES = ("big", "small")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
MOVES = ("moves", "jumps", "turns", "falls", "runs", "waits", "stops")
DIRECTIONS = ("left", "right", "up", "down", "away", "here", "now", "again")
NUMBERS = ("one", "two", "three", "four", "five", "six")
ARTICLES = ("the", "a")
WORDS: tuple[str, ...] = ARTICLES + SIZES + COLOURS + SHAPES + MOVES + DIRECTIONS + NUMBERS

HELD_OUT_PERCENT = 10


def is_held_out(sentence: str) -> bool:
    """True for the tenth of all sentences that training never sees; decided by the sentence's own digest."""
    return hashlib.sha256(sentence.encode()).digest()[0] % 100 < HELD_OUT_PERCENT


def draw_sentence(rng: random.Random) -> str:
    """One sentence of the grammar, 2 to 7 words, without punctuation."""
    colour, shape = rng.choice(COLOURS), rng.choice(SHAPES)
    move, direction = rng.choice(MOVES), rng.choice(DIRECTIONS)
    article, size, number = rng.choice(ARTICLES), rng.choice(SIZES), rng.choice(NUMBERS)
    forms = (
        f"{article} {colour} {shape} {move} {direction}",
        f"{article} {size} {colour} {shape} {move} {direction}",
        f"{article} {size} {shape} {move}",
        f"{colour} {shape} {number} {move} {direction}",
        f"{number} {colour} {shape} {direction}",
        f"{shape} {number} {move} {direction} {rng.choice(DIRECTIONS)}",
        f"{article} {shape} {move} {direction} {rng.choice(NUMBERS)}",
        f"{colour} {shape}",
        f"{number} {rng.choice(NUMBERS)} {rng.choice(NUMBERS)} {move}",
        " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 6))),
    )
    return rng.choice(forms)


def draw_sentences(count: int, seed: int, held_out: bool) -> list[str]:
    """`count` sentences, all held out or all not; the same seed gives the same list."""
    rng = random.Random(seed)
    sentences: list[str] = []
    while len(sentences) < count:
        sentence = draw_sentence(rng)
        if is_held_out(sentence) == held_out:
            sentences.append(sentence)
    return sentences
