"""A text anywhere in a device's name or location is found along an index, where PostgreSQL can.

By hand, for the embedded database has no such index: in the models it would be one for both.
"""

from django.db import migrations

COLUMNS = ("name", "location")


def create(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for column in COLUMNS:
        # As Django writes `icontains`.
        schema_editor.execute(
            f"CREATE INDEX IF NOT EXISTS device_{column}_trigrams ON devices_device "
            f"USING gin (upper({column}::text) gin_trgm_ops)"
        )


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for column in COLUMNS:
            schema_editor.execute(f"DROP INDEX IF EXISTS device_{column}_trigrams")


class Migration(migrations.Migration):
    dependencies = [("devices", "0003_device_epochs_given")]
    operations = [migrations.RunPython(create, drop)]
