"""Values packed by hand are what the driver's own types make of them."""

from datetime import date

import pytest
from cassandra import cqltypes

from telemetry.stores import packing

PROTOCOL = 4
CELL = [cqltypes.UTF8Type, cqltypes.DoubleType, cqltypes.LongType, cqltypes.BooleanType]
CELL += [cqltypes.UTF8Type]
VALUES = [True, False, 0, -1, 2**63 - 1, -(2**63), 0.0, -21.5, 1e308, "", "grün 🌡", {"a": [1]}, []]


def parts(value):
    """Kind and columns as the store's layout has them."""
    match value:
        case bool():
            return ["bool", None, None, value, None]
        case int():
            return ["int", None, value, None, None]
        case float():
            return ["float", value, None, None, None]
        case str():
            return ["text", None, None, None, value]
        case dict():
            return ["json", None, None, None, '{"a":[1]}']
        case _:
            return ["json", None, None, None, "[]"]


def serialized(kind, value):
    return kind.serialize(value, PROTOCOL)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_cell(value):
    kind, *columns = parts(value)
    names = ["double_value", "long_value", "bool_value", "text_value"]
    [(name, as_type, part)] = [
        column for column in zip(names, CELL[1:], columns, strict=True) if column[2] is not None
    ]
    assert packing.cell(value) == (kind, serialized(as_type, part))
    assert packing.COLUMNS[kind] == name


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_latest_value(value):
    kind = cqltypes.TupleType.apply_parameters([cqltypes.LongType, *CELL])
    assert packing.latest_value(17, value) == serialized(kind, (17, *parts(value)))


def test_a_map_of_texts():
    kind = cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type])
    texts = {"a": "1", "größe": '"x"', "empty": ""}
    packed = packing.texts({name: text.encode() for name, text in texts.items()})
    assert packed == serialized(kind, texts)


@pytest.mark.parametrize("number", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_numbers(number):
    assert packing.integer(number) == serialized(cqltypes.Int32Type, number)
    assert packing.long(number) == serialized(cqltypes.LongType, number)


def test_a_date_counts_from_the_middle_of_its_range():
    days = (date(2026, 1, 31) - date(1970, 1, 1)).days
    assert packing.date(days) == serialized(cqltypes.SimpleDateType, date(2026, 1, 31))


def test_what_no_column_holds_is_refused():
    with pytest.raises(Exception, match=r"format|range|large"):
        packing.cell(2**63)
    with pytest.raises(ValueError, match="surrogate"):
        packing.cell("\ud800")
