from django.urls import include, path
from rest_framework.routers import SimpleRouter

from accounts import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("auth/tokens", views.TokenViewSet, "token")
router.register("users", views.UserViewSet, "user")

urlpatterns = [
    path("auth/register", views.RegisterView.as_view()),
    path("auth/login", views.LoginView.as_view()),
    path("auth/logout", views.LogoutView.as_view()),
    path("auth/logout-all", views.LogoutAllView.as_view()),
    path("", include(router.urls)),
]
