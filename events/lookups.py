"""How conditions on documents are written where Django's way is too roundabout for an index."""

from typing import Any

from django.db.models.lookups import Range


class RangeInOne(Range):
    """Both bounds in one condition, as in {"time": {"$gte": …, "$lte": …}}.

    Django's backend nests two of them in an $and, inside which not every server that speaks
    MongoDB's protocol looks for an index. On SQL it is BETWEEN.
    """

    def as_mql_path(self, compiler: Any, connection: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for condition in super().as_mql_path(compiler, connection)["$and"]:  # type: ignore[misc]
            for name, bound in condition.items():
                found.setdefault(name, {}).update(bound)
        return found
