"""Files of devices in the admin site: what is taken and written, and within which bounds."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, StringIO
from itertools import islice
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

from django import forms
from django.contrib import messages
from django.core.signing import BadSignature, Signer
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from import_export.admin import ImportExportModelAdmin
from import_export.formats.base_formats import CSV, XLSX
from import_export.forms import ConfirmImportForm
from import_export.tmp_storages import BaseStorage
from openpyxl import Workbook, load_workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from tablib import Dataset
from unfold.contrib.import_export.forms import ExportForm, ImportForm

from devices.resources import NEEDED, SHOWN, DeviceResource, Outcome
from iotflow.lib.errors import as_store_away
from iotflow.lib.formula import harmful, harmless
from iotflow.lib.redis import key, redis

ROWS_MAX = 5_000  # of a file to import
COLUMNS_MAX = 100
UNPACKED_MAX = 5_000_000  # bytes of an XLSX file to import
STYLES_MAX = 500_000  # bytes of these
XLSX_ROWS_MAX = 20_000  # of one to export; CSV has no bound
WAIT_SECONDS = 3600
FAULTS_SAID = 5
GONE = "The file is not there any more: it was imported, or waited for too long. Upload it again."


class FileRefused(Exception):
    """Why a file is not taken, for whoever sent it."""


class CsvFile(CSV):
    def create_dataset(self, in_stream: bytes) -> Dataset:
        """Raises FileRefused."""
        try:
            text = in_stream.decode("utf-8-sig")
            return _table(csv.reader(StringIO(text, newline="")))
        except UnicodeDecodeError as error:
            raise FileRefused("The file is not a text in UTF-8.") from error
        except csv.Error as error:
            raise FileRefused(f"The file is not CSV: {error}.") from error

    def answer(self, rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
        return StreamingHttpResponse(_lines(rows), content_type="text/csv; charset=utf-8")


class XlsxFile(XLSX):
    def create_dataset(self, in_stream: bytes) -> Dataset:
        """Of the sheet last looked at. Raises FileRefused."""
        try:
            return _table(_sheet(in_stream))
        except FileRefused:
            raise
        except Exception as error:  # whatever may be wrong in a zip of XML
            raise FileRefused("The file is not an XLSX file that can be read.") from error

    def answer(self, rows: Iterable[Sequence[Any]]) -> HttpResponse:
        """Raises ValueError when there are too many rows."""
        held = list(islice(rows, XLSX_ROWS_MAX + 2))
        if len(held) > XLSX_ROWS_MAX + 1:  # one has the names
            raise ValueError(f"XLSX takes {XLSX_ROWS_MAX:,} devices at most: choose CSV.")
        book = Workbook(write_only=True)
        sheet = book.create_sheet("Devices")
        for row in held:
            sheet.append([_legal(cell) for cell in row])
        file = BytesIO()
        book.save(file)
        return HttpResponse(file.getvalue(), content_type=self.CONTENT_TYPE)


FORMATS = [CsvFile, XlsxFile]


def _legal(cell: Any) -> Any:
    """XLSX has no place for most control characters."""
    return ILLEGAL_CHARACTERS_RE.sub("\ufffd", cell) if isinstance(cell, str) else cell


def _sheet(content: bytes) -> Iterator[Sequence[Any]]:
    with ZipFile(BytesIO(content)) as packed:
        sizes = {member.filename: member.file_size for member in packed.infolist()}
    if sum(sizes.values()) > UNPACKED_MAX:
        raise FileRefused(f"Unpacked, the file has more than {UNPACKED_MAX:,} bytes.")
    if sizes.get("xl/styles.xml", 0) > STYLES_MAX:  # all of them become objects
        raise FileRefused("The file has too many styles; save it without them, or as CSV.")
    sheet = load_workbook(BytesIO(content), read_only=True, data_only=True).active
    sheet.reset_dimensions()  # a file may say anything about its size
    return sheet.iter_rows(max_col=COLUMNS_MAX + 1, values_only=True)


def _table(rows: Iterable[Sequence[Any]]) -> Dataset:
    """Every cell a text, every row as long as the first; blank rows are left out.

    Raises FileRefused, as soon as there is a reason to.
    """
    cells = map(_cells, rows)
    headers = next(cells, [])
    _check_headers(headers)
    table = Dataset(headers=headers)
    for number, row in enumerate(cells, 1):
        if number > ROWS_MAX:
            raise FileRefused(f"The file has more than {ROWS_MAX:,} rows; cut it into several.")
        if len(row) > len(headers):
            raise FileRefused(f"Row {number} has more cells than there are columns.")
        if row:
            table.append([*row, *[""] * (len(headers) - len(row))])
    return table


def _check_headers(headers: list[str]) -> None:
    if not headers:
        raise FileRefused("The first row is empty; it has to name the columns.")
    if len(headers) > COLUMNS_MAX:
        raise FileRefused(f"The file has more than {COLUMNS_MAX} columns.")
    if missing := [name for name in NEEDED if name not in headers]:
        raise FileRefused(f"The file has no column {' and no column '.join(missing)}.")
    if twice := [name for name in headers if name and headers.count(name) > 1]:
        raise FileRefused(f"The file has several columns {twice[0]}.")


def _cells(row: Sequence[Any]) -> list[str]:
    """As texts, without blank ones at the end."""
    cells = ["" if cell is None else harmful(str(cell)) for cell in row]
    if any("\0" in cell for cell in cells):
        raise FileRefused("The file holds a NUL character.")
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The last line says so where the database went away before the end."""
    try:
        yield from map(_line, rows)
    except Exception as error:
        if (away := as_store_away(error)) is None:
            raise
        yield _line([f"error: {away}"])


def _line(cells: Sequence[Any]) -> str:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


class Uploads(BaseStorage):
    """Files that wait in Redis to be confirmed, which any process may be asked to do."""

    def save(self, data: bytes) -> None:
        self.name = uuid4().hex
        with redis() as client:
            client.set(key("upload", self.name), data, ex=WAIT_SECONDS)

    def read(self) -> bytes:
        """Raises FileRefused."""
        with redis() as client:
            data: bytes | None = client.get(key("upload", self.name))
        if data is None:
            raise FileRefused(GONE)
        return data

    def remove(self) -> None:
        with redis() as client:
            client.delete(key("upload", self.name))


class ConfirmForm(ConfirmImportForm):
    """Names an upload of the same person, by the signature of the page that offered it."""

    format = forms.ChoiceField(
        choices=[(str(number), number) for number in range(len(FORMATS))],
        widget=forms.HiddenInput(),
    )

    def __init__(self, signer: Signer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._signer = signer

    def clean_import_file_name(self) -> str:
        try:
            return self._signer.unsign(self.cleaned_data["import_file_name"])
        except BadSignature as error:
            raise forms.ValidationError(GONE) from error


class DeviceFiles(ImportExportModelAdmin):
    """Import in two steps, the second of which changes everything or nothing; export."""

    import_form_class = ImportForm
    confirm_form_class = ConfirmForm
    export_form_class = ExportForm
    resource_classes = [DeviceResource]
    formats = FORMATS
    tmp_storage_class = Uploads
    import_template_name = "devices/import.html"
    import_export_change_list_template = "devices/change_list.html"

    def has_import_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request) and self.has_change_permission(request)

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_resource_index(self, form: Any) -> int:
        return 0

    def get_import_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {"rows_max": ROWS_MAX, "shown": SHOWN}

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        if (away := as_store_away(e)) is not None:
            raise away from e
        form.add_error("import_file", str(e))

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_confirm_form_initial(request, import_form)
        if import_form:
            initial["import_file_name"] = _signer(request).sign(initial["import_file_name"])
        return initial

    def get_confirm_form_kwargs(self, request: HttpRequest, import_form: Any) -> dict[str, Any]:
        kwargs = super().get_confirm_form_kwargs(request, import_form)
        return {**kwargs, "signer": _signer(request)}

    def create_confirm_form(self, request: HttpRequest, import_form: Any = None) -> Any:
        """Raises FileRefused for what cannot have come from a page of this person."""
        form = super().create_confirm_form(request, import_form)
        if import_form is None and not form.is_valid():
            raise FileRefused(GONE)
        return form

    def get_import_data_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_import_data_kwargs(**kwargs), "rollback_on_validation_errors": True}

    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """What was confirmed; nothing is changed where any of it fails."""
        try:
            return super().process_import(request, **kwargs)
        except FileRefused as refusal:
            messages.error(request, str(refusal))
        except IntegrityError:  # at the commit: an owner was deleted meanwhile
            messages.error(request, "Nothing was changed: an owner is gone. Upload the file again.")
        return redirect("admin:devices_device_import")

    def process_result(self, result: Outcome, request: HttpRequest) -> HttpResponse:
        faults = list(result.faults())
        if faults:
            raise FileRefused(f"Nothing was changed. {' '.join(faults[:FAULTS_SAID])}")
        return super().process_result(result, request)

    def _do_file_export(
        self, file_format: Any, request: HttpRequest, queryset: Any, export_form: Any = None
    ) -> HttpResponseBase:
        """As rows are read; the library would hold all of them, several times."""
        rows = DeviceResource().rows(queryset, force_native_type=isinstance(file_format, XlsxFile))
        answer: HttpResponseBase = file_format.answer(map(_harmless, rows))
        name = self.get_export_filename(request, queryset, file_format)
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


def _harmless(row: Iterable[Any]) -> list[Any]:
    return [harmless(cell) if isinstance(cell, str) else cell for cell in row]


def _signer(request: HttpRequest) -> Signer:
    return Signer(salt=f"upload of {request.user.pk}")
