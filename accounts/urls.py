from django.urls import path

from accounts import views

urlpatterns = [
    path("auth/register", views.RegisterView.as_view()),
    path("auth/login", views.LoginView.as_view()),
    path("auth/logout", views.LogoutView.as_view()),
    path("users", views.UsersView.as_view()),
    path("users/<uuid:user_id>", views.OneUserView.as_view()),
    path("users/<uuid:user_id>/activate", views.UserActivityView.as_view(active=True)),
    path("users/<uuid:user_id>/deactivate", views.UserActivityView.as_view(active=False)),
]
