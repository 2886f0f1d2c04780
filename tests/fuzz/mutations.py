"""Ways to spoil bytes and JSON, as Hypothesis strategies of small literals.

A case keeps the edits and not the spoiled file: it stays small, and reads well.
"""

import json
from typing import Any

from hypothesis import strategies as st

Edit = tuple[Any, ...]
NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
)
DEEP: list[Any] = []
for _ in range(60):
    DEEP = [DEEP]
NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    10**6,
    10**9,
    2**31,
    2**63,
    10**30,
    0.5,
    -1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a" * 5000,
    "float64",
    "\ud800",
    "../../etc/passwd",
    "EPS",
    [],
    [0],
    ["EPS", "PNG"],
    {},
    {"a": {"b": []}},
    DEEP,
)


# === Bytes ===
def byte_edits(
    size: int, most: int = 3, first: int = 0
) -> st.SearchStrategy[list[Edit]]:
    """Returns a strategy of edits of a file of `size` bytes, from byte `first` on."""
    place = st.integers(first, max(size - 1, first))
    length = st.integers(1, 64)
    flip = st.tuples(st.just("flip"), place, st.integers(0, 7))
    one = st.one_of(
        flip,
        flip,
        st.tuples(st.just("cut"), place),
        st.tuples(st.just("remove"), place, length),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("copy"), place, place, length),
        st.tuples(
            st.just("number"),
            place,
            st.sampled_from(NUMBERS),
            st.sampled_from((1, 2, 4, 8)),
            st.sampled_from(("little", "big")),
        ),
    )
    return st.one_of(
        st.tuples(flip).map(list), st.lists(one, min_size=1, max_size=most)
    )


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """Returns the spoiled bytes."""
    data = bytearray(content)
    for kind, place, *more in edits:
        if kind == "flip":
            if place < len(data):
                data[place] ^= 1 << more[0]
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + more[0]]
        elif kind == "insert":
            data[place:place] = more[0]
        elif kind == "copy":
            source, length = more
            piece = bytes(data[source : source + length])
            data[place : place + len(piece)] = piece
        elif kind == "number":
            value, length, order = more
            piece = (value % 256**length).to_bytes(length, order)
            data[place : place + length] = piece
        else:
            raise ValueError(f"no edit of kind {kind!r}")
    return bytes(data)


# === JSON ===
def json_edits(most: int = 2) -> st.SearchStrategy[list[Edit]]:
    """Returns a strategy of edits of any JSON value."""
    node = st.integers(0, 400)  # modulo the number of nodes
    nasty = st.integers(0, len(NASTY) - 1)
    one = st.one_of(
        st.tuples(st.just("set"), node, nasty),
        st.tuples(st.just("set"), node, nasty),
        st.tuples(st.just("delete"), node),
        st.tuples(st.just("rename"), node, st.text(max_size=8)),
        st.tuples(st.just("nest"), node),
        st.tuples(st.just("swap"), node, node),
    )
    return st.lists(one, min_size=1, max_size=most)


def nodes_of(value: Any) -> list[tuple[Any, Any]]:
    """Returns (container, key) of everything inside a JSON value."""
    found = []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found.append((value, key))
        found.extend(nodes_of(inner))
    return found


def edited_json(value: Any, edits: list[Edit]) -> Any:
    """Returns a spoiled copy of a JSON value."""
    value = json.loads(json.dumps(value))
    for kind, number, *more in edits:
        nodes = nodes_of(value)
        if not nodes:
            return value
        container, key = nodes[number % len(nodes)]
        if kind == "set":
            # A copy: two edits would put a list into itself, and spoil the next case.
            container[key] = json.loads(json.dumps(NASTY[more[0]]))
        elif kind == "delete":
            del container[key]
        elif kind == "rename":
            inner = container[key]
            if isinstance(container, dict):
                del container[key]
                container[more[0]] = inner
        elif kind == "nest":
            container[key] = [container[key]]
        elif kind == "swap":
            other, name = nodes[more[0] % len(nodes)]
            container[key], other[name] = (
                json.loads(json.dumps(other[name])),
                json.loads(json.dumps(container[key])),
            )
        else:
            raise ValueError(f"no edit of kind {kind!r}")
    return value
