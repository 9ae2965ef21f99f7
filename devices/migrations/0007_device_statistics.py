"""PostgreSQL knows better how many devices a text is in.

By its default, a hundred samples, a text that is in a hundred of 100,000 names may seem to be in a
thousand: then a search for it reads devices in their order, until it has found a page of them.
"""

from django.db import migrations

COLUMNS = ("name", "location")


def sample(target):
    def change(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            for column in COLUMNS:
                schema_editor.execute(
                    f"ALTER INDEX device_{column}_trigrams ALTER COLUMN 1 SET STATISTICS {target}"
                )

    return change


class Migration(migrations.Migration):
    dependencies = [("devices", "0006_broker_notices")]
    operations = [migrations.RunPython(sample(1000), sample(-1))]
