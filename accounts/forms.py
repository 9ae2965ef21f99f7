"""The admin site's log-in form."""

from typing import Any

from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from iotflow.lib.errors import TooManyRequests


class LoginForm(AuthenticationForm):
    """Says when too many log-ins failed, and leaves it at `request.login_refusal` for the view."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except TooManyRequests as refusal:
            self.request.login_refusal = refusal
            raise ValidationError(str(refusal.detail), code="too_many_requests") from refusal
