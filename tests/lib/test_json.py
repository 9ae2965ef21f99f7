import pytest

from iotflow.lib import json


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b"{", b"\xff", b"[" * 100_000, b"01"])
def test_what_is_not_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)


def test_integers_beyond_64_bits_stay_integers():
    assert json.loads(b"18446744073709551617") == 18446744073709551617


def test_a_byte_order_mark_is_passed_over():
    assert json.loads(b"\xef\xbb\xbf{}") == {}
