"""Registration, login and logout."""

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import TokenAuthentication
from accounts.models import Token, User
from accounts.permissions import IsUser
from accounts.serializers import (
    LoginAnswer,
    LoginSerializer,
    MessageAnswer,
    RegisterSerializer,
    UserAnswer,
    UserSerializer,
)
from accounts.services import register_user
from iotflow.lib.timeparse import format_datetime


class RegisterView(APIView):
    authentication_classes = []
    permission_classes = []

    @extend_schema(request=RegisterSerializer, responses={201: UserAnswer})
    def post(self, request: Request) -> Response:
        """Register a user: username, e-mail address, password."""
        serializer = RegisterSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = register_user(**serializer.validated_data)
        return Response(
            {
                "status": "success",
                "message": "User registered successfully",
                "user": UserSerializer(user).data,
            },
            status=201,
        )


class LoginView(APIView):
    authentication_classes = []
    permission_classes = []

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"  # without a challenge DRF would turn a 401 into a 403

    @extend_schema(request=LoginSerializer, responses={200: LoginAnswer})
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
        with transaction.atomic():
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
