from django.urls import path

from events import views

urlpatterns = [
    path("events", views.EventsView.as_view()),
    path("events/<uuid:event_id>", views.EventView.as_view()),
]
