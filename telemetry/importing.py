"""CSV, as instruments and as exports write it, turned into readings: no store, no database.

Rows come one at a time, so a file of any size takes the same memory. A row is read whole or not
at all: whatever is wrong with one cell of it makes it a BadRow, which says why.
"""

import csv
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import IO, Any

from iotflow.lib import json
from iotflow.lib.formula import harmful
from iotflow.lib.timeparse import EARLIEST, LATEST, NUMBER, NotATime, format_ms, parse_ms, to_ms
from telemetry.readings import Errors, Value, value_errors

LINE_BYTES = 1 << 20
SHOWN = 20
RECENT = 10_000
BOM = "\ufeff"
TIME = "timestamp"  # the first column of an export
JSON_BEGINNINGS = frozenset("-0123456789tf{[")
NOT_IN_NAME = re.compile(r"[^a-z0-9.\-/:%]+")
INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
# For months, days and hours of one digit; everything else is ISO 8601.
LOCAL_FORMATS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
TIME_HINT = (
    "is no time; use ISO 8601 (2026-01-31T12:00:00Z), 2026/01/31 12:00 or an epoch in seconds "
    "or milliseconds"
)


class BadFile(Exception):
    """The file as a whole cannot be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column is what, by position: the time, and (column, measurement) for the others.

    `exported`: its cells are as an export writes them.
    """

    width: int
    time: int
    measurements: tuple[tuple[int, str], ...]
    exported: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A reading, and the line its row began in. `doubt`: what its local time leaves open."""

    line: int
    time: int
    values: dict[str, Value]
    doubt: str = ""
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    reason: str


@dataclass(slots=True)
class Noted:
    """How many lines there were to note, and the first SHOWN of them with what was noted."""

    unit: str = "line"
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append((line, what))

    @property
    def more(self) -> int:
        return self.count - len(self.first)

    def lines(self) -> str:
        """`line 4`, or `lines 4, 17, 90 and 12 more`."""
        listed = ", ".join(str(line) for line, _ in self.first)
        rest = f" and {self.more:,} more" if self.more else ""
        return f"{self.unit}{'' if self.count == 1 else 's'} {listed}{rest}"


@dataclass(slots=True)
class Tally:
    """What a pass over a file found, in bounded memory.

    `repeated`: the rows with the time of one of the RECENT rows before, which are one reading.
    """

    rows: int = 0
    repeated: int = 0
    earliest: int = LATEST
    latest: int = EARLIEST
    measurements: set[str] = field(default_factory=set)
    bad: Noted = field(default_factory=Noted)
    doubtful: Noted = field(default_factory=Noted)
    _recent: OrderedDict[int, None] = field(default_factory=OrderedDict)

    @property
    def readings(self) -> int:
        return self.rows - self.repeated

    def good(self, rows: Iterable[Row | BadRow]) -> Iterator[Row]:
        """The rows that can be stored; the others are noted on the way."""
        for row in rows:
            if isinstance(row, BadRow):
                self.bad.add(row.line, row.reason)
            else:
                self._count(row)
                yield row

    def _count(self, row: Row) -> None:
        self.rows += 1
        self.repeated += row.time in self._recent
        self._recent[row.time] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self.earliest = min(self.earliest, row.time)
        self.latest = max(self.latest, row.time)
        self.measurements.update(row.values)
        if row.doubt:
            self.doubtful.add(row.line, row.doubt)


class CsvFile:
    """A CSV file with a header, open for one pass. Raises BadFile where its header will not do."""

    def __init__(
        self,
        file: IO[bytes],
        *,
        time: str | None,
        zone: tzinfo,
        mapping: Mapping[str, str] | None = None,
        advance: Callable[[int], object] = lambda size: None,
    ) -> None:
        """`advance` is told of every line how many bytes it had. The rest is of `layout`."""
        self._zone = zone
        self._reader = csv.reader(lines(file, advance), strict=True)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise BadFile(f"Its first line is no line of CSV: {error}.") from error
        self.layout = layout(header, time, mapping)

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, f"no line of CSV: {error}, by line {self._reader.line_num}")
                continue
            if cells:  # an empty line is no row
                yield parse_row(line, cells, self.layout, self._zone)


def layout(
    header: Sequence[str], time: str | None, mapping: Mapping[str, str] | None = None
) -> Layout:
    """Which column is what: the measurements of `mapping` (column → measurement) and nothing else,
    or without it every column but the time's, under its name made fit. Without `time` it is that
    of an export. Raises BadFile.
    """
    names = [name.strip() for name in header]
    if not any(names):
        raise BadFile("It has no header: its first line is empty.")
    if time is None:
        return _exported_layout(header)
    time_column = _column(names, time)
    if mapping is None:
        columns = [column for column in range(len(names)) if column != time_column]
        measurements = [(column, measurement_name(names[column])) for column in columns]
    else:
        measurements = [(_column(names, name), to) for name, to in mapping.items()]
    if not measurements:
        raise BadFile(f"It has no column besides the time; its columns are: {listed(names)}.")
    check_names(names, measurements)
    return Layout(len(names), time_column, tuple(measurements))


def _exported_layout(header: Sequence[str]) -> Layout:
    if header[0] != TIME:
        raise BadFile(
            f"Its first column is not “{TIME}”, as in an export. Name the column of times with "
            f"--time; its columns are: {listed(header)}."
        )
    measurements = tuple((column, harmful(header[column])) for column in range(1, len(header)))
    check_names(header, measurements)
    return Layout(len(header), 0, measurements, exported=True)


def measurement_name(column: str) -> str:
    """A column's name as a measurement's: `Water flow [l/s]` is `water_flow_l/s`. May be empty."""
    plain = unicodedata.normalize("NFKD", column.lower().replace("µ", "u"))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return NOT_IN_NAME.sub("_", letters).strip("_")


def parse_row(line: int, cells: Sequence[str], layout: Layout, zone: tzinfo) -> Row | BadRow:
    """The row as a reading; a BadRow for what is refused of a device too, its clock apart."""
    if len(cells) != layout.width:
        if layout.exported and cells[0].startswith("error: "):
            return BadRow(line, cells[0])
        return BadRow(line, f"{_columns(len(cells))} instead of {layout.width}")
    try:
        time, doubt = parse_time(cells[layout.time], zone)
    except NotATime as error:
        return BadRow(line, str(error))
    if layout.exported:
        values = {
            name: exported_value(cells[column])
            for column, name in layout.measurements
            if cells[column]
        }
    else:
        texts = ((name, cells[column].strip()) for column, name in layout.measurements)
        values = {name: parse_value(text) for name, text in texts if text}
    if not values:
        return BadRow(line, "no value in any column")
    if errors := value_errors(values):
        return BadRow(line, reasons(errors))
    return Row(line, time, values, doubt)


def parse_value(text: str) -> Value:
    """An integer, else a float, else true or false, else the text itself."""
    if INTEGER.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text) or NOT_FINITE.fullmatch(text):
        return float(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def exported_value(text: str) -> Value:
    """What an export writes so: anything that is just as JSON writes it, else the text itself."""
    if text[0] in JSON_BEGINNINGS:
        try:
            value = json.loads(text)
            if not isinstance(value, str | None) and json.dumps(value).decode() == text:
                return value
        except (ValueError, TypeError):
            pass
    return harmful(text)


def parse_time(text: str, zone: tzinfo) -> tuple[int, str]:
    """Milliseconds of a time, in `zone` where it names none, and what is in doubt about it.

    In doubt is a local time that a change of clocks skips or repeats: it is taken by the offset
    before the change (PEP 495, fold=0). Raises NotATime.
    """
    text = text.strip()
    if NUMBER.fullmatch(text):
        return parse_ms(text, 0), ""
    try:
        ms, doubt = local_time(_moment(text.replace("/", "-")), zone)
    except (ValueError, OverflowError) as error:
        raise NotATime(f"{short(text)} {TIME_HINT}") from error
    if not EARLIEST <= ms <= LATEST:
        raise NotATime(f"{short(text)} is outside the years 1 to 9999 in UTC")
    return ms, doubt


def local_time(moment: datetime, zone: tzinfo) -> tuple[int, str]:
    """The same of a datetime. Raises OverflowError."""
    if moment.tzinfo is not None:
        return to_ms(moment), ""
    moment = moment.replace(tzinfo=zone)
    return to_ms(moment), _doubt(moment)


def span(tally: Tally, shift: int = 0) -> str:
    """`2010-01-01T08:00:00.000Z to …`, of a tally that has rows."""
    return f"{format_ms(tally.earliest + shift)} to {format_ms(tally.latest + shift)}"


def lines(file: IO[bytes], advance: Callable[[int], object]) -> Iterator[str]:
    """The lines of a file. One beyond LINE_BYTES is cut there, and so becomes a bad row."""
    first = True
    while line := file.readline(LINE_BYTES):
        advance(len(line))
        rest = line
        while len(rest) == LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(LINE_BYTES)
            advance(len(rest))
        # What is not UTF-8 survives as half a surrogate pair, which no value may hold.
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix(BOM) if first else text
        first = False


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        for form in LOCAL_FORMATS:
            try:
                return datetime.strptime(text, form)
            except ValueError:
                continue
        raise


def _doubt(moment: datetime) -> str:
    first, second = moment.utcoffset(), moment.replace(fold=1).utcoffset()
    if first is None or second is None or first == second:
        return ""
    what = "exists twice" if first > second else "does not exist"
    return f"{moment.replace(tzinfo=None).isoformat(' ')} {what}"


def _column(names: Sequence[str], name: str) -> int:
    found = [column for column, known in enumerate(names) if known == name.strip()]
    if not found:
        raise BadFile(f"It has no column “{name}”; its columns are: {listed(names)}.")
    if len(found) > 1:
        raise BadFile(f"It has {len(found)} columns named “{name}”.")
    return found[0]


def check_names(names: Sequence[str], measurements: Sequence[tuple[int, str]]) -> None:
    taken: dict[str, int] = {}
    for column, measurement in measurements:
        if value_errors({measurement: 0}):
            reason = next(iter(value_errors({measurement: 0}).values()))[0]
            raise BadFile(
                f"Column “{names[column]}” cannot be stored as “{measurement}”: {reason} "
                "Name the columns to import with --map COLUMN=MEASUREMENT."
            )
        if measurement in taken:
            raise BadFile(
                f"Columns “{names[taken[measurement]]}” and “{names[column]}” would both be "
                f"“{measurement}”. Name the columns to import with --map COLUMN=MEASUREMENT."
            )
        taken[measurement] = column


def reasons(errors: Errors) -> str:
    return "; ".join(
        f"{name.removeprefix('data.')}: {' '.join(texts)}".rstrip(".")
        for name, texts in errors.items()
    )


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def listed(names: Sequence[str]) -> str:
    return ", ".join(short(name) for name in names[:SHOWN]) + (
        f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    )


def short(text: str) -> str:
    """A text of the file fit for a message."""
    printable = text.encode("utf-8", "replace").decode()
    return f"“{printable if len(printable) <= 60 else printable[:60] + '…'}”"
