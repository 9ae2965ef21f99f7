"""Examples in the OpenAPI document, by operation id. The tests hold each to its schema."""

from typing import Any

from iotflow.lib.errors import NOT_FOUND, error_body

Example = dict[str, Any]

USER = {
    "id": 7,
    "user_id": "0d2b0b0e-5f0e-4d8a-9f39-6f1c1b7e4a52",
    "username": "ada",
    "email": "ada@example.com",
    "is_active": True,
    "is_admin": False,
    "created_at": "2026-01-31T12:00:00.000Z",
    "last_login": None,
}
DEVICE = {
    "id": 12,
    "name": "Boiler",
    "device_type": "sensor",
    "description": "",
    "location": "Cellar",
    "firmware_version": "1.4.2",
    "hardware_version": "",
    "status": "active",
    "expected_interval": 60,
    "grace": None,
    "created_at": "2026-01-31T12:01:00.000Z",
    "updated_at": "2026-01-31T12:01:00.000Z",
    "is_online": False,
    "last_seen": None,
}
SEEN = {**DEVICE, "is_online": True, "last_seen": "2026-01-31T12:05:00.000Z"}
GROUP = {
    "id": 3,
    "name": "House",
    "description": "",
    "color": "#0A66C2",
    "device_count": 0,
    "created_at": "2026-01-31T12:02:00.000Z",
    "updated_at": "2026-01-31T12:02:00.000Z",
}
HEADING = {"device_id": 12, "device_name": "Boiler", "device_type": "sensor"}
META = {"limit": 100, "offset": 0, "returned": 1, "total": 1}

REQUESTS: dict[str, Example] = {
    "post_auth_register": {
        "username": "ada",
        "email": "ada@example.com",
        "password": "correct horse 42",
    },
    "post_auth_login": {"username": "ada", "password": "correct horse 42"},
    "put_user": {"email": "ada@example.org"},
    "post_devices_register": {
        "name": "Boiler",
        "location": "Cellar",
        "firmware_version": "1.4.2",
    },
    "put_devices_config": {"firmware_version": "1.4.3"},
    "post_telemetry": {
        "data": {"temperature": 61.5, "burner": True},
        "metadata": {"sensor": "top"},
        "timestamp": "2026-01-31T12:05:00Z",
    },
    "post_groups": {"name": "House", "color": "#0A66C2"},
    "put_group": {"description": "All of the house"},
    "patch_group": {"description": "All of the house"},
    "post_group_devices": {"device_id": 12},
    "post_group_devices_bulk": {"device_ids": [12, 13]},
    "put_admin_device": {"location": "Attic"},
    "put_admin_device_status": {"status": "maintenance"},
}
RESPONSES: dict[str, dict[str, Example]] = {
    "post_auth_register": {
        "201": {"status": "success", "message": "User registered successfully", "user": USER}
    },
    "post_auth_login": {
        "200": {
            "status": "success",
            "message": "Login successful",
            "user": {**USER, "last_login": "2026-01-31T12:00:30.000Z"},
            "token": "iotu_3f9c…",
            "expires_at": "2026-03-02T12:00:30.000Z",
        }
    },
    "get_user": {"200": {"status": "success", "user": USER}},
    "post_devices_register": {
        "201": {
            "message": "Device registered successfully",
            "device": {**DEVICE, "api_key": "iotd_9b1d…"},
        }
    },
    "get_devices": {"200": {"status": "success", "devices": [SEEN], "meta": META}},
    "get_device_status": {"200": {"status": "success", "device": SEEN}},
    "post_devices_heartbeat": {
        "200": {
            "message": "Heartbeat received",
            "device_id": 12,
            "timestamp": "2026-01-31T12:05:00.000Z",
        }
    },
    "post_telemetry": {
        "201": {
            "message": "Telemetry data stored successfully",
            "device_id": 12,
            "device_name": "Boiler",
            "timestamp": "2026-01-31T12:05:00.000Z",
            "stored_in_cassandra": True,
        }
    },
    "get_telemetry": {
        "200": {
            **HEADING,
            "start_time": "-24h",
            "end_time": "now",
            "data": [
                {
                    "timestamp": "2026-01-31T12:05:00.000Z",
                    "measurements": {"burner": True, "temperature": 61.5},
                    "metadata": {"sensor": "top"},
                }
            ],
            "count": 1,
            "cassandra_available": True,
            "next_cursor": None,
        }
    },
    "get_telemetry_latest": {
        "200": {
            **HEADING,
            "latest_data": {"burner": True, "temperature": 61.5},
            "timestamp": "2026-01-31T12:05:00.000Z",
            "cassandra_available": True,
        }
    },
    "post_groups": {
        "201": {"status": "success", "message": "Group created successfully", "group": GROUP}
    },
    "get_groups": {"200": {"status": "success", "groups": [GROUP], "meta": META}},
    "get_health": {
        "200": {"status": "healthy", "message": "IoTFlow is running.", "version": "0.1.0"}
    },
}
ERRORS: dict[int, Example] = {
    400: error_body(400, "Not accepted as sent; see: name.", {"name": ["This field is required."]}),
    401: error_body(401, "Authentication credentials were not provided."),
    403: error_body(403, "You may not do that."),
    404: error_body(404, NOT_FOUND),
    406: error_body(406, "Could not satisfy the request Accept header."),
    409: error_body(409, "Username or e-mail address is taken.", {"email": ["It is taken."]}),
    413: error_body(
        413, "The body has more than 1048576 bytes.", {"body": ["At most 1048576 bytes."]}
    ),
    415: error_body(
        415,
        "Unsupported media type “text/plain” in request.",
        {"Content-Type": ["Unsupported media type “text/plain” in request."]},
    ),
    429: error_body(429, "Request was throttled. Expected available in 7 seconds."),
    503: error_body(503, "The database did not answer in time. Nothing was promised; try again."),
}
