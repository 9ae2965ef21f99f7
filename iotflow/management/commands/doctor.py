import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iotflow.coherence import SAMPLE
from iotflow.doctor import examine
from iotflow.lib.findings import Level

SIGNS = {Level.OK: "ok", Level.WARNING: "WARNING", Level.PROBLEM: "PROBLEM"}


class Command(BaseCommand):
    help = (
        "Look at the installation: settings, stores, versions, clocks, tables, partitions, "
        "caches, how long telemetry is kept, what waits. Changes nothing. The exit code is 1 "
        "where there is a problem."
    )
    requires_system_checks = []  # they are among what it tells

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="For programs.")
        parser.add_argument(
            "--sample",
            type=int,
            default=SAMPLE,
            metavar="DEVICES",
            help=f"How many devices to compare Redis with the stores for; default {SAMPLE}.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        colours = {
            Level.OK: self.style.SUCCESS,
            Level.WARNING: self.style.WARNING,
            Level.PROBLEM: self.style.ERROR,
        }
        rows, seen = [], ""
        for check, finding in examine(options["sample"]):
            rows.append({"check": check, **finding.body()})
            if options["json"]:
                continue
            if check != seen:
                self.stdout.write(self.style.MIGRATE_HEADING(check))
                seen = check
            self.stdout.write(f"  {colours[finding.level](SIGNS[finding.level])}  {finding.what}")
            if finding.do:
                self.stdout.write(f"           {finding.do}")
        count = {level: sum(row["level"] == level for row in rows) for level in Level}
        if options["json"]:
            self.stdout.write(json.dumps({"findings": rows, **count}, indent=2))
        else:
            summary = f"{count[Level.PROBLEM]} problem(s), {count[Level.WARNING]} warning(s)."
            self.stdout.write(summary)
        if count[Level.PROBLEM]:
            raise CommandError(f"{count[Level.PROBLEM]} problem(s) found.")
