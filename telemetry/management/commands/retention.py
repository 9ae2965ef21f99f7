from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from telemetry import policies
from telemetry.models import RetentionPolicy, what
from telemetry.policies import kept_for
from telemetry.retention import Rules, stored_rules

ACTOR = "system"
AFTERWARDS = (
    "What is stored already keeps its expiry: `manage.py doctor` tells of it, "
    "`manage.py purge --policy` brings it to what holds now."
)


class Command(BaseCommand):
    help = (
        "How long telemetry is kept, by device type and measurement. A policy for a measurement "
        "counts before one for the longest beginning of its name, that before one for a type of "
        "device, and last TELEMETRY_RETENTION_DAYS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", metavar="list | set | remove | explain")
        acts.add_parser("list", help="The policies; so without an argument too.")
        for act, told in (
            ("set", "Make a policy, or change it."),
            ("remove", "Take a policy away."),
        ):
            of = acts.add_parser(act, help=told)
            of.add_argument("--type", default="", help="Of device; without it any.")
            of.add_argument(
                "--measurement",
                default="",
                metavar="NAME",
                help="Or the beginning of names: 'debug.*'. Without it any.",
            )
            of.add_argument("--dry-run", action="store_true", help="Say what would change.")
            if act == "set":
                of.add_argument("--days", type=int, required=True, help="0 is for ever.")
                of.add_argument(
                    "--rollup-days", type=int, help="Default what ROLLUP_RETENTION_DAYS says."
                )
        explain = acts.add_parser("explain", help="How long one measurement is kept, and why.")
        explain.add_argument("type", metavar="TYPE")
        explain.add_argument("measurement", metavar="MEASUREMENT")

    def handle(self, *args: Any, **options: Any) -> str:
        act = {"set": self._set, "remove": self._remove, "explain": self._explain}
        try:
            return act.get(options["act"], self._list)(options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error

    def _list(self, options: dict[str, Any]) -> str:
        rows = [("TYPE", "MEASUREMENT", "DAYS", "OF ROLLUPS", "")]
        for rule in Rules(stored_rules()).ranked:
            place = rule.device_type or "any", rule.measurement or "any"
            rows.append((*place, shown(rule.days), shown(rule.kept_rollup_days), ""))
        default = Rules()
        settings = shown(default.days("", "")), shown(default.rollup_days("", ""))
        rows.append(("any", "any", *settings, "by the settings"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def _set(self, options: dict[str, Any]) -> str:
        place = options["type"], options["measurement"]
        before = Rules(stored_rules()).days(*place)
        wanted = {
            "device_type": options["type"],
            "measurement": options["measurement"],
            "days": options["days"],
            "rollup_days": options["rollup_days"],
        }
        if options["dry_run"]:
            policies.checked(**wanted)
        else:
            policies.set_policy(**wanted, actor=ACTOR)
        return told(place, before, options["days"], options["dry_run"])

    def _remove(self, options: dict[str, Any]) -> str:
        place = options["type"], options["measurement"]
        policy = RetentionPolicy.objects.filter(device_type=place[0], measurement=place[1]).first()
        if policy is None:
            raise CommandError(f"There is no policy for {what(*place)}.")
        rules = stored_rules()
        left = Rules(rule for rule in rules if (rule.device_type, rule.measurement) != place)
        if not options["dry_run"]:
            policies.remove_policy(policy=policy, actor=ACTOR)
        return told(place, policy.days, left.days(*place), options["dry_run"])

    def _explain(self, options: dict[str, Any]) -> str:
        place = options["type"], options["measurement"]
        rules = Rules(stored_rules())
        covering = [rule for rule in rules.ranked if rule.covers(*place)]
        reasons = [
            f"policy for {what(rule.device_type, rule.measurement)}: {kept_for(rule.days)}, "
            f"rollups {kept_for(rule.kept_rollup_days)}"
            for rule in covering
        ]
        default = Rules()
        reasons.append(
            f"TELEMETRY_RETENTION_DAYS: {kept_for(default.days('', ''))}, "
            f"rollups {kept_for(default.rollup_days('', ''))}"
        )
        counts, *others = reasons
        return "\n".join(
            [
                f"{what(*place)} is kept {kept_for(rules.days(*place))}.",
                f"  counts      {counts}",
                *(f"  would count {reason}" for reason in others),
            ]
        )


def shown(days: int) -> str:
    return f"{days:,}" if days else "for ever"


def told(place: tuple[str, str], before: int, after: int, is_dry: bool) -> str:
    would = "would be" if is_dry else "is"
    change = f"{what(*place)} {would} kept {kept_for(after)}, {kept_for(before)} before."
    if is_dry:
        return f"{change} Nothing was changed."
    return f"{change} {AFTERWARDS}" if after != before else change
