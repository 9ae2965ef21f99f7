"""The pages of one user: what they own, what they did, what would go with them."""

from accounts.models import User
from iotflow.admin.page import Page
from iotflow.admin.user import overview, removal

PAGES = [
    Page(User, "overview", "Overview", overview.content),
    Page(User, "removal", "What a deletion takes", removal.content),
]
