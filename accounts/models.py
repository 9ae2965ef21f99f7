"""Users and their tokens."""

import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import RegexValidator, validate_email
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from knox.models import AbstractAuthToken
from knox.settings import CONSTANTS

# No "@": a name that looks like somebody's e-mail address would make logging in by either unsafe.
# ASCII only: what looks alike, or is alike in another case, must be the same.
USERNAME = RegexValidator(
    r"^[A-Za-z0-9_.+-]+\Z", "A username has letters, digits and . + - _ only.", "invalid_username"
)
EMAIL = RegexValidator(r"^[!-~]+\Z", "An e-mail address has ASCII characters only.")


class Users(UserManager["User"]):
    def by_login(self, login: str) -> "User | None":
        """The user of this username or e-mail address, whatever the case; along their indexes."""
        wanted = login.lower()
        users = self.alias(name=Lower("username"), address=Lower("email"))
        return users.filter(Q(name=wanted) | Q(address=wanted)).first()

    def matching(self, text: str) -> models.QuerySet["User"]:
        """Those with `text` in username or e-mail address; all of them for an empty one."""
        if not text:
            return self.all()
        return self.filter(Q(username__icontains=text) | Q(email__icontains=text))

    def visible_to(self, user: "User") -> models.QuerySet["User"]:
        return self.all() if user.is_staff else self.filter(pk=user.pk)


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox's manager is untyped
    """Somebody who owns devices, or looks after everybody's (`is_staff`)."""

    user_id = models.UUIDField("public id", unique=True, default=uuid.uuid4, editable=False)
    username = models.CharField(
        max_length=150,
        unique=True,
        validators=[USERNAME],
        error_messages={"unique": "This username is taken."},
    )
    email = models.EmailField(
        "e-mail address",
        unique=True,
        validators=[validate_email, EMAIL],
        error_messages={"unique": "This e-mail address is taken."},
    )

    objects: ClassVar[Users] = Users()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(Lower("username"), name="username_any_case"),
            models.UniqueConstraint(Lower("email"), name="email_any_case"),
        ]


class Token(AbstractAuthToken):
    """A user's token: only its digest is stored, and it ends at `expiry` or by logging out."""

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=CONSTANTS.DIGEST_LENGTH, unique=True)
    # Written when use renews the expiry, so at most an hour behind; null until then.
    last_used = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.token_key}…"
