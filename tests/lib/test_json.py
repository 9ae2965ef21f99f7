import pytest

from iotflow.lib import json


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b"{", b"\xff", b"[" * 100_000, b"01"])
def test_what_is_not_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)


@pytest.mark.parametrize("levels", [301, 900, 1010, 1024])
@pytest.mark.parametrize("number", ["1", "18446744073709551617"])  # orjson's, and Python's own
@pytest.mark.parametrize("kind", [bytes, str])
def test_what_python_could_not_look_at_is_a_value_error(levels, number, kind):
    text = "[" * levels + number + "]" * levels
    with pytest.raises(ValueError, match="nested too deeply"):
        json.loads(text.encode() if kind is bytes else text)


def test_what_is_long_and_not_deep_is_read():
    flat = [[{"a": 1}]] * 1000
    assert json.loads(json.dumps(flat)) == flat
    deep = b"[" * 300 + b"]" * 300
    assert json.loads(deep)


def test_integers_beyond_64_bits_stay_integers():
    assert json.loads(b"18446744073709551617") == 18446744073709551617


def test_a_byte_order_mark_is_passed_over():
    assert json.loads(b"\xef\xbb\xbf{}") == {}


HALF = "A string must be valid Unicode; it has half of a surrogate pair."


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"a": [1, -(2**63), 2**63 - 1, 1.5, True, None, "ü🌡\0"], "b": {}}, []),
        ({"a": [1, 2**63]}, [(("a", 1), "An integer must fit into 64 bits.")]),
        ([float("inf")], [((0,), "A number must be finite.")]),
        ({"a": "\ud800", "\udc00": 1}, [(("a",), HALF), (("\udc00",), HALF)]),
        ([[[]]], []),
        (
            [[[[]], 2**63]],
            [
                ((0, 0, 0), "Is nested deeper than 3 levels."),
                ((0, 1), "An integer must fit into 64 bits."),
            ],
        ),
        (float("nan"), [((), "A number must be finite.")]),
    ],
)
def test_what_some_store_would_not_give_back_is_named_with_its_place(value, faults):
    assert list(json.faults(value, depth=3)) == faults


def test_names_may_have_a_rule_of_their_own():
    found = json.faults([{"$a": {"b": 1}}], depth=9, name_fault=lambda name: "No." * (name > "a"))
    assert list(found) == [((0, "$a", "b"), "No.")]
