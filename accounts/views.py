"""Registration, login and logout; users as they see themselves and as staff see them."""

from uuid import UUID

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from accounts.authentication import TokenAuthentication
from accounts.models import Token, User
from accounts.permissions import IsStaff, IsUser, check_may_change
from accounts.requests import current_user
from accounts.second_factor import demand, is_code_needless
from accounts.serializers import (
    ChangeUserSerializer,
    LoginAnswer,
    LoginSerializer,
    MessageAnswer,
    OneUser,
    RegisterSerializer,
    TokenList,
    TokensEnded,
    TokenSerializer,
    UserAnswer,
    UserList,
    UserSerializer,
)
from accounts.services import change_user, delete_user, end_tokens, register_user, set_active
from accounts.throttles import Registrations
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, paginate
from iotflow.lib.timeparse import format_datetime

FOR_STAFF = {"list", "destroy", "activate", "deactivate"}
SEARCH = OpenApiParameter("search", str, description="Part of username or e-mail address.")


def answer(message: str, user: User, status: int = 200) -> Response:
    body = {"status": "success", "message": message, "user": UserSerializer(user).data}
    return Response(body, status=status)


class RegisterView(APIView):
    authentication_classes = []
    permission_classes = []
    throttle_classes = [Registrations]

    @extend_schema(request=RegisterSerializer, responses={201: UserAnswer, 409: Error})
    def post(self, request: Request) -> Response:
        """Register a user: username, e-mail address, password."""
        serializer = RegisterSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = register_user(**serializer.validated_data)
        return answer("User registered successfully", user, status=201)


class LoginView(APIView):
    authentication_classes = []
    permission_classes = []

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"  # without a challenge DRF would turn a 401 into a 403

    @extend_schema(request=LoginSerializer, responses={200: LoginAnswer, 401: Error})
    def post(self, request: Request) -> Response:
        """Log in with username or e-mail address and password; the token is shown only here."""
        serializer = LoginSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        credentials = serializer.validated_data
        user = authenticate(
            request._request, username=credentials["login"], password=credentials["password"]
        )
        if not isinstance(user, User):
            raise AuthenticationFailed("Username or password is wrong.")
        had_code = demand(request._request, user, credentials["code"])
        with transaction.atomic():
            _check_unchanged(user, had_code)
            token, secret = Token.objects.create(user)
            user_logged_in.send(sender=User, request=request._request, user=user)
        return Response(
            {
                "status": "success",
                "message": "Login successful",
                "user": UserSerializer(user).data,
                "token": secret,
                "expires_at": format_datetime(token.expiry),
            }
        )


def _check_unchanged(user: User, had_code: bool) -> None:
    """Who changes what a log-in is checked by ends the tokens there are: none may come after.

    Raises AuthenticationFailed. The user's row is locked.
    """
    now = User.objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True).first()
    if now is None or now.password != user.password or not (had_code or is_code_needless(now)):
        raise AuthenticationFailed("The account was changed meanwhile; log in again.")


class LogoutView(APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsUser]

    @extend_schema(request=None, responses={200: MessageAnswer})
    def post(self, request: Request) -> Response:
        """End the token this request came with."""
        with transaction.atomic():
            request.auth.delete()
            user_logged_out.send(sender=User, request=request._request, user=request.user)
        return Response({"status": "success", "message": "Logged out"})


class LogoutAllView(APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsUser]

    @extend_schema(request=None, responses=TokensEnded)
    def post(self, request: Request) -> Response:
        """End every token of yours, this one too."""
        ended = end_tokens(user=current_user(request), tokens=Token.objects.all())
        return Response({"status": "success", "message": f"{ended} token(s) ended", "ended": ended})


class TokenViewSet(ViewSet):
    """One's own tokens; not even staff see others'."""

    permission_classes = [IsUser]
    lookup_url_kwarg = "token_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=PAGE, responses=TokenList)
    def list(self, request: Request) -> Response:
        """Your tokens, newest first; never the tokens themselves."""
        living = Token.objects.filter(user=current_user(request)).exclude(
            expiry__lte=timezone.now()
        )
        page = paginate(request, living)
        tokens = TokenSerializer(page.rows, many=True, context={"current": request.auth})
        return Response({"status": "success", "tokens": tokens.data, "meta": page.meta})

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, token_id: int) -> Response:
        """End one of your tokens."""
        if not end_tokens(user=current_user(request), tokens=Token.objects.filter(pk=token_id)):
            raise Http404
        return Response({"status": "success", "message": "Token ended"})


class UserViewSet(ViewSet):
    lookup_url_kwarg = "user_id"
    lookup_value_converter = "uuid"

    def get_permissions(self) -> list[BasePermission]:
        return [IsStaff() if self.action in FOR_STAFF else IsUser()]

    def user(self, request: Request, user_id: UUID) -> User:
        return get_object_or_404(User.objects.visible_to(current_user(request)), user_id=user_id)

    def changeable(
        self, request: Request, user_id: UUID, permission: str = "accounts.change_user"
    ) -> User:
        """As `user`; staff do not become superusers by way of a superuser's password."""
        user = self.user(request, user_id)
        check_may_change(current_user(request), user.pk, permission)
        if user.is_superuser and not current_user(request).is_superuser:
            raise PermissionDenied("Only a superuser may change a superuser.")
        return user

    @extend_schema(parameters=[*PAGE, SEARCH], responses=UserList)
    def list(self, request: Request) -> Response:
        """All users, for staff."""
        users = User.objects.matching(request.query_params.get("search", ""))
        page = paginate(request, users)
        return Response(
            {
                "status": "success",
                "users": UserSerializer(page.rows, many=True).data,
                "meta": page.meta,
            }
        )

    @extend_schema(responses=OneUser)
    def retrieve(self, request: Request, user_id: UUID) -> Response:
        """A user's profile: one's own, or anybody's for staff."""
        user = self.user(request, user_id)
        return Response({"status": "success", "user": UserSerializer(user).data})

    @extend_schema(
        request=ChangeUserSerializer(partial=True), responses={200: UserAnswer, 409: Error}
    )
    def update(self, request: Request, user_id: UUID) -> Response:
        """Change username, e-mail address or password; the rest stays."""
        user = self.changeable(request, user_id)
        serializer = ChangeUserSerializer(user, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        keep = request.auth if isinstance(request.auth, Token) else None
        change_user(
            user=user, fields=serializer.validated_data, actor=current_user(request), keep=keep
        )
        return answer("User updated", user)

    @extend_schema(responses={200: MessageAnswer, 409: Error})
    def destroy(self, request: Request, user_id: UUID) -> Response:
        """Delete a user with devices, groups and telemetry, for staff."""
        user = self.changeable(request, user_id, "accounts.delete_user")
        delete_user(user=user, actor=current_user(request))
        return Response({"status": "success", "message": "User deleted"})

    @extend_schema(request=None, responses=UserAnswer)
    @action(detail=True, methods=["patch"])
    def activate(self, request: Request, user_id: UUID) -> Response:
        """Let a user, with all devices, act again; for staff."""
        user = self.changeable(request, user_id)
        set_active(users=[user], active=True, actor=current_user(request))
        return answer("User activated", user)

    @extend_schema(request=None, responses={200: UserAnswer, 409: Error})
    @action(detail=True, methods=["patch"])
    def deactivate(self, request: Request, user_id: UUID) -> Response:
        """Refuse a user, with all devices, from the next request on; for staff."""
        user = self.changeable(request, user_id)
        set_active(users=[user], active=False, actor=current_user(request))
        return answer("User deactivated", user)
