from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from iotflow.admin.roles import changes


class Command(BaseCommand):
    help = (
        "Make the groups Viewers, Operators and Admins of staff, or give them their permissions "
        "again. Their members and all other groups are left as they are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what would change.")

    def handle(self, *args: Any, **options: Any) -> None:
        for change in changes(apply=not options["dry_run"]):
            if not change:
                self.stdout.write(f"{change.role.name}: as it should be")
                continue
            verb = "would be made" if options["dry_run"] else "made"
            what = f"{verb}: they {change.role.description}" if change.is_new else "changed"
            self.stdout.write(f"{change.role.name}: {what}")
            for sign, names in (("+", change.granted), ("-", change.taken)):
                for name in names:
                    self.stdout.write(f"  {sign} {name}")
