"""Staff bring devices in a file and take them away in one."""

import csv
import io
import zipfile
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from openpyxl import Workbook, load_workbook

from devices import files
from devices.models import Device
from events.models import EventLog
from iotflow.lib.errors import StoreAway
from iotflow.lib.formula import harmful, harmless

IMPORT = "/admin/devices/device/import/"
CONFIRM = "/admin/devices/device/process_import/"
EXPORT = "/admin/devices/device/export/"
CSV, XLSX = "0", "1"
TABLE = "owner,name,location\nalice,sensor,Attic\nalice,new one,Cellar\n"
AWKWARD = ("=x", "==x", "+1", "-1", "@a", "\tx", "'x", "'=x", "''@x", "=A1,'\"\nb")


@pytest.fixture
def site(staff) -> Client:
    client = Client()
    client.force_login(staff.user)
    return client


def uploaded(site: Client, content: str | bytes, form: str = CSV):
    content = content.encode() if isinstance(content, str) else content
    return site.post(
        IMPORT, {"import_file": SimpleUploadedFile("devices", content), "format": form}
    )


def offered(site: Client, content: str | bytes = TABLE, form: str = CSV) -> dict[str, Any]:
    """What the page of the dry run would confirm."""
    return uploaded(site, content, form).context["confirm_form"].initial


def confirmed(site: Client, offer: dict[str, Any]) -> str:
    answer = site.post(CONFIRM, offer, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def exported(site: Client, form: str) -> bytes:
    answer = site.post(EXPORT, {"format": form, "resource": "0"})
    assert answer.status_code == 200
    return answer.getvalue()


def workbook(rows: Sequence[Sequence[Any]]) -> bytes:
    book, file = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(file)
    return file.getvalue()


def kinds() -> list[str]:
    return list(EventLog.objects.order_by("time").values_list("kind", flat=True))


class TestImport:
    def test_a_dry_run_shows_what_would_change_then_it_is_changed(self, site, sensor):
        answer = uploaded(site, TABLE)
        text = answer.content.decode()
        assert "<ins>Attic</ins>" in text
        assert "new one" in text
        assert Device.objects.get(pk=sensor.id).location == ""
        confirmed(site, answer.context["confirm_form"].initial)
        assert Device.objects.get(pk=sensor.id).location == "Attic"
        made = Device.objects.get(name="new one")
        assert made.location == "Cellar"
        assert not made.keys.exists()
        assert kinds()[-2:] == ["device.changed", "device.registered"]
        event = EventLog.objects.get(kind="device.changed")
        assert (event.actor, event.payload["changes"]) == (
            "user:staff",
            {"location": ["", "Attic"]},
        )

    def test_a_file_of_spreadsheets_is_taken_with_numbers_as_texts(self, site, sensor):
        rows = [["owner", "name", "firmware_version"], ["alice", "sensor", 2], ["alice", 7, None]]
        confirmed(site, offered(site, workbook(rows), XLSX))
        assert Device.objects.get(pk=sensor.id).firmware_version == "2"
        assert Device.objects.filter(name="7").exists()

    def test_what_the_file_does_not_name_moves_on_meanwhile(self, site, sensor, monkeypatch):
        save = Device.save

        def later(device: Device, **kwargs: Any) -> None:
            Device.objects.filter(pk=sensor.id).update(latest_epoch=7)
            save(device, **kwargs)

        offer = offered(site)
        monkeypatch.setattr(Device, "save", later)
        confirmed(site, offer)
        device = Device.objects.get(pk=sensor.id)
        assert (device.latest_epoch, device.location) == (7, "Attic")

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ("nobody,a,active", "there is no user nobody"),
            ("alice,b,asleep", "asleep"),
            (f"alice,{'b' * 101},active", "at most 100"),
        ],
    )
    def test_one_bad_row_is_named_and_nothing_is_changed(self, site, sensor, row, why):
        answer = uploaded(site, f"owner,name,status\nalice,sensor,maintenance\n{row}\n")
        assert why in answer.content.decode()
        assert "confirm_form" not in answer.context
        assert Device.objects.get(pk=sensor.id).status == "active"

    def test_queries_grow_by_a_row_and_its_savepoint(
        self, site, alice, sensor, django_assert_max_num_queries
    ):
        devices = [Device(owner=alice.user, name=f"old {n}") for n in range(100)]
        Device.objects.bulk_create(devices)
        rows = [f"alice,{kind} {n},Attic" for kind in ("old", "new") for n in range(100)]
        table = "\n".join(["owner,name,location", *rows])
        # Two for the savepoint of a row, and on confirming one for the row; the rest is one for
        # each of session, user, owners, devices, keys, outbox, log, and their transactions.
        with django_assert_max_num_queries(2 * 200 + 30):
            offer = offered(site, table)
        with django_assert_max_num_queries(3 * 200 + 50):
            assert "100 new, 100 updated" in confirmed(site, offer)

    def test_a_long_page_is_cut_and_says_so(self, site, alice, monkeypatch):
        monkeypatch.setattr("devices.resources.SHOWN", 2)
        monkeypatch.setattr(files, "SHOWN", 2)
        rows = "".join(f"alice,device {n}\n" for n in range(4))
        text = uploaded(site, f"owner,name\n{rows}").content.decode()
        assert "The file has 4 rows: 4 new" in text
        assert "device 1" in text
        assert "device 2" not in text

    def test_texts_of_a_file_are_no_markup(self, site, sensor):
        text = uploaded(site, "owner,name,location\nalice,sensor,<b>x</b>\n").content.decode()
        assert "<b>x</b>" not in text
        assert "&lt;b&gt;x" in text


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "form", "why"),
        [
            ("owner\nalice\n", CSV, "has no column name"),
            ("owner;name\nalice;a\n", CSV, "has no column owner and no column name"),
            ("owner,name,name\nalice,a,b\n", CSV, "several columns name"),
            ("\n", CSV, "The first row is empty"),
            ("owner,name\n", CSV, "No valid data"),
            ("owner,name\nalice,a\nalice,b,c\n", CSV, "Row 2 has more cells"),
            ("owner,name\nalice,a\0b\n", CSV, "NUL"),
            ("owner,name\nalice,\u00e4".encode("latin-1"), CSV, "not a text in UTF-8"),
            ("owner,name\nalice," + "x" * 200_000, CSV, "field larger"),
            ("," * 101, CSV, "more than 100 columns"),
            (TABLE, XLSX, "not an XLSX file"),
            (b"PK\x03\x04 and nothing else", XLSX, "not an XLSX file"),
            (workbook([["owner", "name"], ["alice", "a", "b"]]), XLSX, "Row 1 has more cells"),
            (workbook([]), XLSX, "The first row is empty"),
        ],
    )
    def test_a_bad_file_is_named(self, site, alice, content, form, why):
        if content == "," * 101:
            content = ",".join(f"c{n}" for n in range(101))
        answer = uploaded(site, content, form)
        assert answer.status_code == 200
        assert why in answer.content.decode()
        assert "confirm_form" not in answer.context

    @pytest.mark.parametrize("form", [CSV, XLSX])
    def test_a_long_file_is_not_read_to_its_end(self, site, alice, form, monkeypatch):
        monkeypatch.setattr(files, "ROWS_MAX", 3)
        rows = [["owner", "name"], *(["alice", f"d{n}"] for n in range(4))]
        table = "\n".join(map(",".join, rows)) if form == CSV else workbook(rows)
        assert "more than 3 rows" in uploaded(site, table, form).content.decode()

    @pytest.mark.parametrize(
        ("part", "size", "why"),
        [
            ("xl/media/zeros", files.UNPACKED_MAX, "Unpacked, the file has more"),
            ("xl/styles.xml", files.STYLES_MAX + 1, "too many styles"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_small_file_that_unpacks_to_much_is_not_unpacked(self, site, alice, part, size, why):
        file = io.BytesIO(workbook([["owner", "name"], ["alice", "a"]]))
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(part, bytes(size))
        assert len(file.getvalue()) < 100_000
        assert why in uploaded(site, file.getvalue(), XLSX).content.decode()

    @pytest.mark.parametrize("form", ["abc", "99", "-1", ""])
    def test_an_unknown_format_is_an_error_of_the_form(self, site, alice, form):
        assert uploaded(site, TABLE, form).status_code == 200
        assert site.post(EXPORT, {"format": form, "resource": "0"}).status_code == 200
        offer = offered(site) | {"format": form}
        assert "Upload it again" in confirmed(site, offer)
        assert not Device.objects.exists()


class TestConfirming:
    def test_an_owner_deleted_meanwhile_changes_nothing(self, site, alice, bob, sensor):
        offer = offered(site, TABLE + "bob,b,\n")
        bob.user.delete()
        text = confirmed(site, offer)
        assert "Nothing was changed. Row 3: there is no user bob" in text
        assert "Import finished" not in text
        assert not Device.objects.filter(name="new one").exists()
        assert Device.objects.get(pk=sensor.id).location == ""
        assert "device.changed" not in kinds()

    def test_a_second_click_is_told_to_upload_again(self, site, sensor):
        offer = offered(site)
        assert "Import finished" in confirmed(site, offer)
        assert "Upload it again" in confirmed(site, offer)

    def test_another_resource_is_the_only_one(self, site, sensor):
        assert "Import finished" in confirmed(site, offered(site) | {"resource": "7"})

    def test_a_file_of_another_format_is_no_such_file(self, site, sensor):
        assert "not an XLSX file" in confirmed(site, offered(site) | {"format": XLSX})

    def test_nobody_confirms_what_somebody_else_uploaded(self, site, make_user, sensor):
        offer = offered(site)
        other = Client()
        other.force_login(make_user("other", is_staff=True, is_superuser=True).user)
        assert "Upload it again" in confirmed(other, offer)
        bare = offer["import_file_name"].partition(":")[0]
        assert "Upload it again" in confirmed(site, offer | {"import_file_name": bare})
        assert not Device.objects.filter(name="new one").exists()

    def test_without_redis_it_is_503_and_works_again_later(self, site, sensor, monkeypatch):
        @contextmanager
        def away():
            raise StoreAway("Redis")
            yield

        offer = offered(site)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(files, "redis", away)
            for answer in (uploaded(site, TABLE), site.post(CONFIRM, offer)):
                assert answer.status_code == 503
                assert answer["Retry-After"]
        assert "Import finished" in confirmed(site, offer)


class TestExport:
    @pytest.mark.parametrize("form", [CSV, XLSX])
    def test_what_is_exported_and_imported_changes_nothing(self, site, alice, form):
        devices = [Device(owner=alice.user, name=name, location=name) for name in AWKWARD]
        Device.objects.bulk_create(devices)
        answer = uploaded(site, exported(site, form), form)
        assert answer.context["result"].totals["skip"] == len(AWKWARD)

    @pytest.mark.parametrize("form", [CSV, XLSX])
    def test_no_cell_is_a_formula(self, site, alice, form):
        devices = [Device(owner=alice.user, name=name, location=name) for name in AWKWARD]
        Device.objects.bulk_create(devices)
        content = exported(site, form)
        if form == CSV:
            table = [*csv.reader(io.StringIO(content.decode(), newline=""))]
        else:
            table = [[c.value for c in row] for row in load_workbook(io.BytesIO(content)).active]
        cells = [str(cell) for row in table for cell in row]
        assert len(table) == len(AWKWARD) + 1
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]

    def test_it_is_read_in_one_query_and_streamed(
        self, site, alice, sensor, django_assert_max_num_queries
    ):
        Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n}") for n in range(50))
        # Session, user; three of the counts that filters offer, where nobody keeps them; then the
        # devices with their owners.
        with django_assert_max_num_queries(6):
            answer = site.post(EXPORT, {"format": CSV, "resource": "0"})
            assert answer.streaming
            assert answer.getvalue().count(b"alice") == 51

    def test_staff_in_no_role_take_their_own_and_bring_none(self, alice, sensor, make_user):
        clerk = make_user("clerk", is_staff=True).user
        Device.objects.create(owner=clerk, name="mine")
        site = Client()
        site.force_login(clerk)
        content = exported(site, CSV)
        assert b"mine" in content
        assert b"alice" not in content
        for answer in (site.get(IMPORT), uploaded(site, TABLE), site.post(CONFIRM, {})):
            assert answer.status_code == 403

    def test_many_devices_do_not_fit_into_xlsx(self, site, alice, monkeypatch):
        monkeypatch.setattr(files, "XLSX_ROWS_MAX", 2)
        Device.objects.bulk_create(Device(owner=alice.user, name=f"d{n}") for n in range(3))
        assert b"XLSX takes 2 devices at most" in exported(site, XLSX)
        assert b"d2" in exported(site, CSV)

    def test_control_characters_do_not_break_it(self, site, alice):
        Device.objects.create(owner=alice.user, name="a\x01b")
        assert exported(site, XLSX)[:2] == b"PK"


@pytest.mark.parametrize("text", [*AWKWARD, "", "'", "x", "'''=", "\rx"])
def test_what_is_made_harmless_can_be_had_back(text):
    assert harmful(harmless(text)) == text
