"""Changes to bytes that know nothing of what they mean; a reader's own `mutate` knows more."""

import io
import random
import struct
import zipfile

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


def mutate_entry(content, max_size, seed, choose):
    """Changes one entry of a zip and packs it again, so that its checksum is right; now and then compressed.

    Args:
        content, max_size, seed: see `mutate`; None comes back if content is no zip any more, or an empty one.
        choose: function of a `random.Random` and the names of the entries, in order; gives the place of one.
    """
    rng = random.Random(seed)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # an earlier change has broken it
        return None
    if not entries:
        return None
    place = choose(rng, [name for name, _ in entries])
    name, data = entries[place]
    entries[place] = (name, mutate(data, max_size, seed))
    return pack(entries, zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED)


def pack(entries, compression=zipfile.ZIP_STORED):
    """Bytes of a zip of pairs (name, content)."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


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
