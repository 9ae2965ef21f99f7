"""Readings that a careless file format would change."""

BEGIN = 1_700_000_000_000
TEXTS = [
    "=1+1",
    "+49 30",
    "-5",
    "@home",
    "'=quoted",
    "'plain",
    "\tx",
    'a "b", c\r\nd\ne',
    "ünï 😀 \u2028",
    "007",
    "1e3",
    "12",
    "TRUE",
    "true",
    "nan",
    "null",
    '{"x":1}',
    " spaced ",
    "error: no",
]
NUMBERS = [2**63 - 1, -(2**63), 2**53 + 1, 0, -1, 1.0, -0.0, 0.1, 1e22, 5e-324, -1.5e300]
OTHERS = [True, False, {}, [], {"x": [1, None, {"y": "ü"}]}, ["=1", 1.0, 2**63 - 1]]

# One measurement takes every type in turn; the names are at the edge of what a name may be.
READINGS = [
    {"data": {"changing": value, "Temp C": 20.5}, "timestamp": BEGIN + n}
    for n, value in enumerate([*TEXTS, *NUMBERS, *OTHERS])
] + [
    {"data": {"-a:b/c.%": "x", "B": 1, "b": 2}, "timestamp": BEGIN + 1000},
    {"data": {"only": 1}, "timestamp": "0001-01-01T00:00:00.001Z"},
    {"data": {"only": 2}, "timestamp": "1969-12-31T23:59:59.999Z"},
]
# What CSV cannot say: an empty text alone, metadata, and a measurement with the name of the time.
MORE = [
    {"data": {"empty": ""}, "timestamp": BEGIN + 2000},
    {"data": {"a": 1}, "metadata": {"ü": {"x": [1.0, None]}}, "timestamp": BEGIN + 2001},
    {"data": {"timestamp": 5, "a": True}, "metadata": {}, "timestamp": BEGIN + 2002},
]
