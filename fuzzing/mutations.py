"""Changes to bytes that know nothing of what they mean; a reader's own `mutate` knows more."""

import random
import struct

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)


def mutate_with(module, content, max_size, seed, otherwise):
    """Changes content as the reader's own `mutate` does, in half of all cases, or as `otherwise` does.

    Args:
        module: of the reader.
        content: bytes.
        max_size: the result is at most so long.
        seed: int that decides what is changed.
        otherwise: function of content, max_size and seed.
    """
    own = getattr(module, "mutate", None)
    result = own(content, max_size, seed >> 1) if own and seed % 2 else None
    return otherwise(content, max_size, seed) if result is None else result[:max_size]


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """Changes content in one to four places: bits, bytes, numbers, and pieces that are removed, doubled or moved."""
    rng = random.Random(seed)
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed[:max_size])


def _place(content, rng):
    return rng.randrange(len(content) + 1)


def _piece(content, rng):
    start = _place(content, rng)
    return slice(start, start + rng.choice((1, 4, 16, 64, 256)))


def _flip(content, rng):
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(content, rng):
    number = struct.pack(rng.choice("<>") + "Q", rng.choice(_NUMBERS))
    size = rng.choice((1, 2, 4, 8))
    start = _place(content, rng)
    content[start : start + size] = number[:size] if rng.random() < 0.5 else number[-size:]


def _insert(content, rng):
    content[_place(content, rng) : 0] = rng.randbytes(rng.randint(1, 16))


def _remove(content, rng):
    del content[_piece(content, rng)]


def _double(content, rng):
    start = _place(content, rng)
    content[start:start] = content[_piece(content, rng)]


def _move(content, rng):
    piece = _piece(content, rng)
    start = _place(content, rng)
    content[start : start + len(content[piece])] = content[piece]


def _cut(content, rng):
    del content[_place(content, rng) :]


_CHANGES = (_flip, _flip, _overwrite, _overwrite, _insert, _remove, _double, _move, _cut)
