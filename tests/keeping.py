"""What becomes of a value that is kept in a cache."""

from eeipu.serialization.pickles import deserialize, serialize


def kept(value, **trust):
    """The value that is made of a value's segments, which were copied to other memory."""
    kind, (first, *others) = serialize(value, **trust)
    return deserialize(kind, [bytes(first), *map(bytearray, others)], **trust)
