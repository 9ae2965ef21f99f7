from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from accounts.second_factor import remove


class Command(BaseCommand):
    help = "Take somebody's second factor away, when app and recovery codes are lost."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="Username or e-mail address.")

    def handle(self, *args: Any, **options: Any) -> str:
        user = User.objects.by_login(options["user"])
        if user is None:
            raise CommandError(f"There is no user {options['user']}.")
        if not remove(user=user, actor=None):
            return f"{user.username} has no second factor."
        return f"{user.username} has no second factor any more; an event says so."
