"""The keys of a device, as its owner and staff see them."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.requests import current_actor
from accounts.serializers import MessageAnswer
from devices import services
from devices.models import ApiKey
from devices.presence import keys_last_used
from devices.serializers import keys as shapes
from devices.views.base import UserViewSet, changeable_device, visible_device
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, paginate


class KeyViewSet(UserViewSet):
    """The keys of one device."""

    lookup_url_kwarg = "key_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=PAGE, responses=shapes.KeyList)
    def list(self, request: Request, device_id: int) -> Response:
        """A device's keys, newest first; never the keys themselves."""
        device = visible_device(request, device_id)
        page = paginate(request, ApiKey.objects.filter(device=device))
        return Response(
            {
                "status": "success",
                "device_id": device.pk,
                "keys": shapes.key_bodies(page.rows, keys_last_used(page.rows)),
                "meta": page.meta,
            }
        )

    @extend_schema(request=shapes.KeyFields, responses={201: shapes.NewKeyAnswer, 409: Error})
    def create(self, request: Request, device_id: int) -> Response:
        """Give a device one more key, shown only here."""
        fields = shapes.KeyFields(data=request.data)
        fields.is_valid(raise_exception=True)
        device = changeable_device(request, device_id)
        api_key, secret = services.create_key(
            device=device, fields=fields.validated_data, actor=current_actor(request)
        )
        return Response(
            {
                "status": "success",
                "message": "Key created",
                "device_id": device.pk,
                "api_key": secret,
                "key": shapes.key_body(api_key, None),
            },
            status=201,
        )

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, device_id: int, key_id: int) -> Response:
        """Revoke a key: it is refused from the next request on."""
        device = changeable_device(request, device_id)
        api_key = get_object_or_404(
            ApiKey.objects.select_related("device"), device=device, pk=key_id
        )
        services.revoke_key(api_key=api_key, actor=current_actor(request))
        return Response({"status": "success", "message": "Key revoked"})
