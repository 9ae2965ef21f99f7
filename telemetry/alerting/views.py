"""Rules and alerts over HTTP: everybody's for staff, their own for users."""

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from accounts.permissions import check_may_change
from accounts.requests import current_actor, current_user
from accounts.serializers import MessageAnswer
from devices.views.base import UserView, UserViewSet, changeable_device
from devices.views.groups import changeable_group
from events import sinks
from events.kinds import Severity
from events.models import Alert
from events.sinks import Document
from iotflow.lib import ids
from iotflow.lib.errors import Error
from iotflow.lib.pagination import PAGE, limit_parameter, paginate
from telemetry.alerting import alerts, parameters, rules, serializers
from telemetry.alerting.models import AlertRule

NUMBER = {"type": "integer", "minimum": 1, "maximum": ids.MAX}
PARAMETERS = [
    OpenApiParameter("start_time", str, description="Raised then or later; default: any time."),
    OpenApiParameter("end_time", str, description="Raised until then; default: no end."),
    OpenApiParameter("status", str, enum=Alert.Status.values),
    OpenApiParameter("severity", str, enum=Severity.values),
    OpenApiParameter("device_id", NUMBER),
    OpenApiParameter("rule_id", NUMBER),
    OpenApiParameter("user_id", NUMBER, description="Whose devices they are about; for staff."),
    limit_parameter(settings.LIST_LIMIT, settings.LIST_LIMIT_MAX),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class RuleViewSet(UserViewSet):
    lookup_url_kwarg = "rule_id"
    lookup_value_converter = "id"

    @extend_schema(parameters=PAGE, responses=serializers.RuleList)
    def list(self, request: Request) -> Response:
        """Your rules; everybody's for staff."""
        page = paginate(request, AlertRule.objects.visible_to(current_user(request)))
        bodies = [serializers.RuleBody(rule).data for rule in page.rows]
        return Response({"status": "success", "rules": bodies, "meta": page.meta})

    @extend_schema(
        request=serializers.RuleFields, responses={201: serializers.RuleMessage, 409: Error}
    )
    def create(self, request: Request) -> Response:
        """Make a rule about a device, a group, or your devices of a type."""
        asked = serializers.RuleFields(data=request.data)
        asked.is_valid(raise_exception=True)
        fields = dict(asked.validated_data)
        device = group = None
        owner: User = current_user(request)
        if device_id := fields.get("device_id"):
            device = changeable_device(request, device_id, "telemetry.add_alertrule")
            owner = device.owner
        elif group_id := fields.get("group_id"):
            group = changeable_group(request, group_id, "telemetry.add_alertrule")
            owner = group.owner
        rule = rules.create_rule(
            owner=owner,
            fields=serializers.scope_of(fields, device, group),
            actor=current_actor(request),
        )
        return _rule_answer(rule, "Alert rule created", 201)

    @extend_schema(responses=serializers.RuleAnswer)
    def retrieve(self, request: Request, rule_id: int) -> Response:
        """One rule."""
        rule = _visible(request, rule_id)
        return Response({"status": "success", "rule": serializers.RuleBody(rule).data})

    @extend_schema(
        request=serializers.RuleChanges(partial=True), responses={200: serializers.RuleMessage}
    )
    def update(self, request: Request, rule_id: int) -> Response:
        """Change the fields sent; what the rule is about stays.

        Unless only its name, severity or mute change, it begins anew, and its open alerts are
        resolved.
        """
        rule = _changeable(request, rule_id)
        asked = serializers.RuleChanges(rule, data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        rule = rules.change_rule(
            rule=rule, fields=asked.validated_data, actor=current_actor(request)
        )
        return _rule_answer(rule, "Alert rule updated", 200)

    @extend_schema(
        request=serializers.RuleChanges(partial=True), responses={200: serializers.RuleMessage}
    )
    def partial_update(self, request: Request, rule_id: int) -> Response:
        """The same as PUT."""
        return self.update(request, rule_id)

    @extend_schema(responses={200: MessageAnswer})
    def destroy(self, request: Request, rule_id: int) -> Response:
        """Delete the rule; its open alerts are resolved."""
        rule = _changeable(request, rule_id, "telemetry.delete_alertrule")
        rules.delete_rule(rule=rule, actor=current_actor(request))
        return Response({"status": "success", "message": "Alert rule deleted"})


def _rule_answer(rule: AlertRule, message: str, status: int) -> Response:
    body = serializers.RuleBody(rule).data
    return Response({"status": "success", "message": message, "rule": body}, status=status)


def _visible(request: Request, rule_id: int) -> AlertRule:
    visible = AlertRule.objects.visible_to(current_user(request))
    return cast(AlertRule, get_object_or_404(visible, pk=rule_id))


def _changeable(
    request: Request, rule_id: int, permission: str = "telemetry.change_alertrule"
) -> AlertRule:
    rule = _visible(request, rule_id)
    check_may_change(current_user(request), rule.owner_id, permission)
    return rule


class AlertsView(UserView):
    @extend_schema(parameters=PARAMETERS, responses=serializers.AlertList)
    def get(self, request: Request) -> Response:
        """Alerts, those raised last first; follow `next_cursor` until it is null."""
        asked = parameters.parse_query(request.query_params)
        with sinks.guarded():
            visible = Alert.objects.visible_to(current_user(request))
            found, next_cursor = parameters.page(visible, asked)
        return Response(
            {
                "status": "success",
                "alerts": [serializers.alert_body(alert) for alert in found],
                "count": len(found),
                "next_cursor": next_cursor,
            }
        )


class AlertView(UserView):
    @extend_schema(responses=serializers.AlertAnswer)
    def get(self, request: Request, alert_id: UUID) -> Response:
        """One alert."""
        with sinks.guarded():
            visible = Alert.objects.visible_to(current_user(request))
            alert = visible.filter(pk=alert_id).first()
        if alert is None:
            raise Http404
        return Response({"status": "success", "alert": serializers.alert_body(alert)})


class AcknowledgeView(UserView):
    @extend_schema(
        request=serializers.Acknowledgement, responses={200: serializers.AlertMessage, 409: Error}
    )
    def post(self, request: Request, alert_id: UUID) -> Response:
        """Say that somebody looks after it."""
        asked = serializers.Acknowledgement(data=request.data)
        asked.is_valid(raise_exception=True)
        user = current_user(request)
        assignee = asked.validated_data.get("assignee", user.get_username())
        document = alerts.acknowledge(alert_id=alert_id, user=user, assignee=assignee)
        return _alert_answer(document, "Alert acknowledged")


class ResolveView(UserView):
    @extend_schema(request=None, responses={200: serializers.AlertMessage, 409: Error})
    def post(self, request: Request, alert_id: UUID) -> Response:
        """Close it by hand: it is not raised again before its rule found the device to be fine."""
        document = alerts.resolve(alert_id=alert_id, user=current_user(request))
        return _alert_answer(document, "Alert resolved")


class CommentView(UserView):
    @extend_schema(
        request=serializers.Comment, responses={200: serializers.AlertMessage, 409: Error}
    )
    def post(self, request: Request, alert_id: UUID) -> Response:
        """Add a comment to an alert that is open."""
        asked = serializers.Comment(data=request.data)
        asked.is_valid(raise_exception=True)
        document = alerts.comment(
            alert_id=alert_id, user=current_user(request), text=asked.validated_data["text"]
        )
        return _alert_answer(document, "Comment added")


def _alert_answer(document: Document, message: str) -> Response:
    fields: dict[str, Any] = {
        field.attname: field.to_python(document[field.attname])
        for field in Alert._meta.concrete_fields
    }
    body = serializers.alert_body(Alert(**fields))
    return Response({"status": "success", "message": message, "alert": body})
