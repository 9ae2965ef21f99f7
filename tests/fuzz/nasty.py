"""Values that programs trip over, by where they go in a request."""

import gzip

LARGE = 1_048_576  # MAX_BODY_BYTES
BOMB = gzip.compress(b"\0" * 20_000_000)
# fmt: off
TEXTS = [
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202egnp.exe", "\ufeff", "\uffff",
    "\U0010ffff", "é", "e\u0301", "ﬀ", "İ", "ß" * 300, "a" * 70_000, "😀" * 500, "__proto__",
    "$where", "a.b.c", "../../etc/passwd", "{{7*7}}", "${jndi:ldap://x}", "%s%n%x",
    "'; DROP TABLE devices; --", "<script>alert(1)</script>", "\r\nSet-Cookie: a=b", "-1", "0",
    "1e309", "NaN", "null", "true", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+99:99",
    "9999-12-31T23:59:59.999999999999Z", "1" * 400, "\t", "\x7f", "\x1b[31m", "admin", "alice",
    "http://169.254.169.254/", "٣٤",
]
VALUES: list[object] = [
    *TEXTS, None, True, False, 0, -1, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400, 1e308, -0.0,
    5e-324, float("inf"), float("nan"), [], {}, [[]], {"": ""},
    {"a": {"b": {"c": [1, [2, [3]]]}}}, [None] * 50, {str(n): n for n in range(150)}, {"$gt": ""},
    "x" * 5000,
]
IDS = [
    "0", "-1", "1e3", "007", "1.0", "9" * 18, "9" * 19, "9" * 60, str(2**63), "null", "٣", "½",
    " 1", "1 ", "1\0", "\0", "'", "a" * 5000, "😀",
    "\ud83d".encode("utf-16", "surrogatepass").hex(), ".", "..", "%00", "%2e%2e", "1;2", "1,2",
    "[]", "{}", "00000000-0000-0000-0000-000000000000", "me", "*",
]
BODIES = [
    b"", b" ", b"{", b"}", b"[", b"null", b"true", b"0", b'""', b"{}", b"[]", b"nul", b"\0",
    b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"data": {"a": 1}', b'{"data": {"a": }}', b"{'data': 1}",
    b'{"data": {"a": 01}}', b'{"data": {"a": NaN}}', b'{"data": {"a": 1e999999}}',
    b'{"data": {"a": -Infinity}}', b'{"data": {"a": 1}, "data": {"a": 2}}',
    b'{"data": {"a": 1, "a": "x"}}', b'{"data": {"a": 1}} x', b'{"data": {"a": "\\ud800"}}',
    b'{"data": {"\\ud800": 1}}', b'{"data": {"a": "\xff"}}', b'{"data": {"a": "\\u0000"}}',
    b'{"data": {"a": "\x01"}}', b'{"data": {"a": "\xc0\xaf"}}',
    '{"data": {"a": 1}}'.encode("utf-16"), '{"data": {"a": 1}}'.encode("utf-32"), b"[" * 100_000,
    b'{"a":' * 50_000, b"[" * 500 + b"]" * 500, b'{"data": ' + b"[" * 990 + b"]" * 990 + b"}",
    b'{"username": ' + b"[" * 1000 + b"]" * 1000 + b', "password": "x", "name": "x"}',
    b'{"name": ' + b"[" * 970 + b"]" * 970 + b', "status": ' + b"[" * 970 + b"]" * 970 + b"}",
    b'{"data": {"a": ' + b"9" * 100_000 + b"}}", b'{"data": {"a": 0.' + b"1" * 100_000 + b"}}",
    b'{"data": {"a": "' + b"x" * 500_000 + b'"}}',
    b'{"data": {' + b'"a": 1, ' * 50_000 + b'"a": 1}}',
    b'{"data": {' + b", ".join(b'"k%d": %d' % (n, n) for n in range(20_000)) + b"}}",
    b'{"readings": [' + b'{"data": {"a": 1}},' * 20_000 + b"{}]}", b'{"\\u0064ata": {"a": 1}}',
]
CONTENT_TYPES = [
    b"", b";", b"/", b"application/json; charset=utf-16", b"application/json; charset=nonsense",
    b"application/json; charset=\xff", b"application/x-www-form-urlencoded", b"text/xml",
    b"text/plain", b"multipart/form-data", b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=" + b"x" * 300, b"multipart/form-data; boundary=x",
    b"application/json, text/html", b"a" * 5000, b"\xe9/\xe9", b"APPLICATION/JSON",
    b"application/json;" * 200, b"application/vnd.api+json", b"image/png",
]
FORM_TYPES = [
    b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded; charset=utf-7",
    b"multipart/form-data; boundary=x", b"multipart/form-data", b"text/plain",
    b"application/json",
]
LENGTHS = [
    b"0", b"-1", b"+5", b"abc", b"", b"0x10", b"1e3", b"9" * 40, b" 5 5", b"5, 5", b"5,6",
    "٣".encode(),
]
CHUNKED = [
    b'12\r\n{"data": {"a": 1}}\r\n0\r\n\r\n', b'12\r\n{"data": {"a": 1}}\r\n', b"0\r\n\r\n", b"",
    b"ffffffffffffffff\r\nx", b"-1\r\nx\r\n0\r\n\r\n", b"zz\r\nx\r\n", b"1\r\nxx\r\n0\r\n\r\n",
    b"1;" + b"e" * 20_000 + b"\r\nx\r\n0\r\n\r\n", b"1\nx\n0\n\n", b"0\r\nTrailer: x\r\n\r\n",
    b"0\r\n" + b"T: x\r\n" * 5000 + b"\r\n", b"5\r\nab", b"0x1\r\nx\r\n0\r\n\r\n",
    b"1\r\n{\r\n" * 3000,
]
TRANSFER = [
    b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"xchunked", b"",
]
HEADERS = [
    b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded",
    b"X-Request-ID", b"User-Agent", b"Accept", b"Accept-Language", b"Accept-Encoding", b"Cookie",
    b"Origin", b"Referer", b"Connection", b"Upgrade", b"TE", b"Via", b"Expect", b"X-CSRFToken",
    b"X-HTTP-Method-Override", b"X_API_Key", b"Content-Type", b"Content-Language", b"Date",
    b"Max-Forwards", b"Sec-WebSocket-Key", b"Proxy", b"Http2-Settings", b"Bad Name", b"B\xe4d",
    b"",
]
HEADER_VALUES = [
    b"", b" ", b"\xff\xfe", "é😀".encode(), b"a" * 8000, b"a" * 70_000, b"a" * 420_000,
    b"a\r\nX-Evil: b", b"a\nb", b"%0d%0aSet-Cookie: a=b", b"\0", b"\x1b[2J", b"../..",
    b"localhost", b"evil.example.org", b"127.0.0.1:99999", b"[::1", b"a:b:c",
    b"1.2.3.4, 5.6.7.8, 9", b"::ffff:127.0.0.1", b"unknown", b", ," * 500, b"https", b"*/*;q=9",
    b"application/xml", b"text/html", b"*;q=abc", b"h2c", b"websocket", b"100-continue",
    b"trailers", b"DELETE", b"a=b; " * 2000, b"sessionid=x; csrftoken=\xff", b"-1", b"NaN",
    b"null", b"http://", b"javascript:alert(1)", b"keep-alive, close, upgrade", b"zz-ZZ-zz;q=,,,",
    b"'\"<>",
]
PROOFS = [
    b"", b"Bearer", b"Bearer ", b"Bearer iotu_", b"Bearer iotu_" + b"a" * 64,
    b"Bearer " + b"x" * 60_000, b"Bearer \xff\xfe", "Bearer é😀".encode(), b"Bearer a b c",
    b"bearer x", b"Basic !!!", b"Basic YTpi", b"Basic " + b"A" * 10_000, b"Digest username=x",
    b"Token x", b"Negotiate", b"iot_", b"iotd_" + b"a" * 40, b"a" * 60_000, b"\xff",
    "ключ".encode(), b"null", b"' OR 1=1 --", b"sessionid=" + b"a" * 4000,
    b"sessionid=../../x; csrftoken=", b"sessionid=\xff\xfe", b"=;=;=", b"messages=" + b"[" * 3000,
    b'messages="\\"', b"a" * 7000 + b"=b", b"sessionid=x; " * 300,
]
CONDITIONS = [
    b"If-None-Match", b"If-Match", b"If-Modified-Since", b"If-Unmodified-Since", b"If-Range",
    b"Range", b"Idempotency-Key", b"X-Request-ID", b"Accept", b"Accept-Language",
    b"Accept-Encoding",
]
CONDITION_VALUES = [
    b"*", b'"', b'""', b"W/", b'W/"x"', b'"' + b"a" * 5000 + b'"', b'"a", ' * 1000, b"\xff",
    "é".encode(), b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 99 Xyz 99999 99:99:99 GMT", b"0",
    b"-1", b"bytes=0-", b"bytes=-1", b"bytes=9-1", b"bytes=0-0,1-1," + b"2-2," * 500,
    b"bytes=" + b"9" * 400 + b"-", b"lines=1", b"a" * 255, b"a" * 256, b"a" * 5000, b"%00", b"{}",
    b"application/xml", b"text/html;q=0", b"*;q=2",
]
PATHS = [
    b"/%00", b"/\xff\xfe", "/é".encode(), "/e\u0301".encode(), b"/%ff", b"/%", b"/%zz",
    b"/%2e%2e/%2e%2e/etc/passwd", b"/../../../etc/passwd", b"/..%2f..%2fetc", b"/..;/",
    b"/%c0%ae%c0%ae/", b"/%252e%252e/", b"//", b"///" * 500, b"/\\..\\..", b"/.", b"/./.", b"/ ",
    b"/%20", b"/a b", b"/%0d%0aX: y", b"/\t", b"/" + b"a" * 9000, b"/a" * 5000,
    b"/" + b"%41" * 3000, b"/%ed%a0%80", b"/%f0%9f%98%80", b"/{{7*7}}", b"/*", b"/?", b"/#x",
    b"/;x=1", b"/~root", b"/.env", b"/.git/config", b"/wp-login.php",
    b"/unfold/css/../css/styles.css", b"/" + b"a" * 70_000,
]
WHOLE_TARGETS = [
    b"*", b"", b"http://evil.example.org/", b"http://", b"//evil.example.org/admin/",
    b"localhost:80", b"http://127.0.0.1/api/v1/devices", b"http://[::1/", b"file:///etc/passwd",
    b"/ /", b"?x", b"#",
]
PARAMETERS = [
    "limit", "offset", "cursor", "start_time", "end_time", "fields", "order", "points", "window",
    "function", "aggregation", "interval", "timezone", "format", "search", "status", "kind",
    "user_id", "device_id", "page", "detailed", "measurement", "measurements", "since", "until",
    "ordering", "q", "is_active", "fill", "", "a[]",
]
QUERY_VALUES = [
    "", "0", "-1", "1.5", "1e9", "NaN", "9" * 30, "9" * 5000, "%00", "a%00b", "%ff", "%", "%zz",
    "%ed%a0%80", "null", "true", "[]", "{}", "*", "'", "%27%20OR%201=1", "-24h", "-999999999999d",
    "now", "9999-12-31T23:59:59Z", "0001-01-01", "2026-02-30", "%2B99:99", "a,b,c", "," * 500,
    "a" * 8000, "é", "%F0%9F%98%80", "asc", "desc", "eyJhIjoxfQ", "eyJ" * 300, "==", "AAAA",
    "Europe/Nowhere", "../../etc/passwd", "1h", "0s", "-5m", "999999999999999h", "csv", "ndjson",
    "parquet", "xml", "avg", "p99", "sum", "1", "2", "10000000",
]
METHODS = [
    "TRACE", "CONNECT", "PATCH", "OPTIONS", "HEAD", "PUT", "PROPFIND", "get", "Post", "FOO",
    "M" * 500, "X-Y", "LINK", "PURGE", "DEBUG", "A B",
]
UNKNOWN = [
    "/api/", "/api/v2/devices", "/api/v1/", "/api/v1/nothing", "/api/v1/admin/nothing",
    "/api/docs/x", "/favicon.ico", "/robots.txt", "/admin/nothing/",
    "/admin/devices/device/nothing/change/", "/admin/jsi18n/", "/static/", "/static/nothing.css",
    "/static/unfold/css/styles.css", "/media/x", "/api/schema?format=nothing", "/",
    "/server-status", "/actuator/env", "/graphql", "/debug/pprof", "/api/v1/admin/" + "x/" * 500,
]
LOOKUPS = [
    "q", "o", "p", "e", "all", "_popup", "_to_field", "id__exact", "id__in", "name__regex",
    "owner__password__startswith", "username__iregex", "created_at__gte", "created_at__year",
    "status__exact", "is_active__exact", "kind", "since", "until", "before", "text", "cursor",
    "device", "user", "_changelist_filters", "pk", "time__range__gte", "field__x",
]
FIELDS = [
    "action", "_selected_action", "index", "select_across", "_save", "_continue", "name",
    "username", "email", "password", "status", "owner", "is_active", "form-TOTAL_FORMS",
    "form-INITIAL_FORMS", "keys-TOTAL_FORMS", "measurement", "days", "device_type", "description",
    "groups", "post", "label", "expires_at", "import_file", "format", "resource", "confirm",
]
