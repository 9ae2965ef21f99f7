"""The pages of one group: what its devices say, side by side, and which they are."""

from devices.models import DeviceGroup
from iotflow.admin.group import bulk, compare, latest, members
from iotflow.admin.page import Page

PAGES = [
    Page(DeviceGroup, "latest", "Latest values", latest.content),
    Page(DeviceGroup, "compare", "Compare", compare.content),
    Page(DeviceGroup, "members", "Members", members.content),
    Page(DeviceGroup, "bulk", "", bulk.content),
]
