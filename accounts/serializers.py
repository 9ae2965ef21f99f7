"""Users as the API shows and takes them."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.models import EMAIL, USERNAME, Token, User
from iotflow.lib.fields import Instant
from iotflow.lib.pagination import PageMeta


class UserSerializer(serializers.ModelSerializer[User]):
    is_admin = serializers.BooleanField(source="is_staff", read_only=True)
    created_at = Instant(source="date_joined", read_only=True)
    last_login = Instant(read_only=True, allow_null=True)

    class Meta:
        model = User
        fields = [
            "id",
            "user_id",
            "username",
            "email",
            "is_active",
            "is_admin",
            "created_at",
            "last_login",
        ]
        read_only_fields = fields


def check_password_rules(password: str, user: User) -> None:
    """Django's validators; ValidationError (400) on `password`."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        raise serializers.ValidationError({"password": error.messages}) from error


class RegisterSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(min_length=3, max_length=150, validators=[USERNAME])
    email = serializers.EmailField(max_length=254, validators=[EMAIL])
    password = serializers.CharField(max_length=1024, trim_whitespace=False, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        candidate = User(username=attrs["username"], email=attrs["email"])
        check_password_rules(attrs["password"], candidate)
        return attrs


class ChangeUserSerializer(RegisterSerializer):
    """The fields sent change; the rest stays."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Give at least one of: username, email, password.")
        if "password" in attrs:
            assert isinstance(self.instance, User)
            candidate = User(
                username=attrs.get("username", self.instance.username),
                email=attrs.get("email", self.instance.email),
            )
            check_password_rules(attrs["password"], candidate)
        return attrs


class LoginSerializer(serializers.Serializer[Any]):
    """`username` may hold an e-mail address; `email` is accepted in its place.

    `code` is of the second factor, for those who have one.
    """

    username = serializers.CharField(max_length=254, required=False)
    email = serializers.CharField(max_length=254, required=False)
    password = serializers.CharField(max_length=1024, trim_whitespace=False, write_only=True)
    code = serializers.CharField(max_length=64, required=False, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        login = attrs.get("username") or attrs.get("email")
        if not login:
            raise serializers.ValidationError({"username": ["Username or e-mail is required."]})
        return {"login": login, "password": attrs["password"], "code": attrs.get("code", "")}


class UserAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()
    user = UserSerializer()


@extend_schema_serializer(many=False)
class UserList(serializers.Serializer[Any]):
    status = serializers.CharField()
    users = UserSerializer(many=True)
    meta = PageMeta()


class OneUser(serializers.Serializer[Any]):
    status = serializers.CharField()
    user = UserSerializer()


class LoginAnswer(UserAnswer):
    token = serializers.CharField()
    expires_at = Instant()


class MessageAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    message = serializers.CharField()


class TokensEnded(MessageAnswer):
    ended = serializers.IntegerField()


class TokenSerializer(serializers.ModelSerializer[Token]):
    """A token in an answer: everything but the token. `last_used` is at most an hour behind."""

    prefix = serializers.CharField(source="token_key", read_only=True)
    created_at = Instant(source="created", read_only=True)
    expires_at = Instant(source="expiry", read_only=True, allow_null=True)
    last_used = Instant(read_only=True, allow_null=True)
    current = serializers.SerializerMethodField(help_text="Whether this request came with it.")

    class Meta:
        model = Token
        fields = ["id", "prefix", "created_at", "expires_at", "last_used", "current"]
        read_only_fields = fields

    def get_current(self, token: Token) -> bool:
        return bool(token == self.context["current"])


@extend_schema_serializer(many=False)
class TokenList(serializers.Serializer[Any]):
    status = serializers.CharField()
    tokens = TokenSerializer(many=True)
    meta = PageMeta()
