from iotflow.lib.jsondiff import diff


def test_the_same_has_no_difference_whatever_the_order():
    assert diff({"a": 1, "b": [{"c": 1, "d": 2}]}, {"b": [{"d": 2, "c": 1}], "a": 1}) == []


def test_operations_lead_from_one_to_the_other():
    before = {"a": 1, "b": {"c": 1, "d": 2}, "e": [1], "f": {}}
    after = {"b": {"c": 1, "d": 3}, "e": [1, 2], "f": 1, "g": None}
    assert diff(before, after) == [
        {"op": "remove", "path": "/a"},
        {"op": "replace", "path": "/b/d", "value": 3},
        {"op": "replace", "path": "/e", "value": [1, 2]},
        {"op": "replace", "path": "/f", "value": 1},
        {"op": "add", "path": "/g", "value": None},
    ]


def test_names_are_escaped_as_in_json_pointers():
    assert diff({}, {"a/b": {"c~d": 1}}) == [{"op": "add", "path": "/a~1b", "value": {"c~d": 1}}]


def test_it_is_never_much_larger_than_what_it_compares():
    name = "x" * 10_000
    before = {name: {str(n): 0 for n in range(1000)}}
    after = {name: {str(n): 1 for n in range(1000)}}
    assert diff(before, after) == [{"op": "replace", "path": "", "value": after}]
