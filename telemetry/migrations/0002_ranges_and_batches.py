from django.db import migrations, models


def keep_callers(apps, schema_editor):
    """What stood under a device and one time stands under a caller and a list of times."""
    for kept in apps.get_model("telemetry", "IdempotencyKey").objects.iterator():
        kept.caller, kept.times = f"device:{kept.device_id}", [kept.time]
        kept.save(update_fields=["caller", "times"])


class Migration(migrations.Migration):

    dependencies = [
        ("telemetry", "0001_initial"),
    ]

    operations = [
        migrations.AddField("erasure", "rows", models.JSONField(null=True)),
        migrations.CreateModel(
            name="RangeDeletion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("device_id", models.BigIntegerField(db_index=True)),
                ("owner_id", models.BigIntegerField()),
                ("start", models.BigIntegerField()),
                ("end", models.BigIntegerField()),
                ("epoch", models.PositiveIntegerField()),
                ("next_epoch", models.PositiveIntegerField()),
                ("names", models.JSONField(null=True)),
                ("until", models.BigIntegerField(null=True)),
                ("requested_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AddField("idempotencykey", "caller", models.CharField(default="", max_length=32), preserve_default=False),
        migrations.AddField("idempotencykey", "times", models.JSONField(default=list), preserve_default=False),
        migrations.RunPython(keep_callers, migrations.RunPython.noop),
        migrations.RemoveConstraint("idempotencykey", "idempotency_key_of_device"),
        migrations.RemoveField("idempotencykey", "device_id"),
        migrations.RemoveField("idempotencykey", "time"),
        migrations.AddConstraint(
            "idempotencykey",
            models.UniqueConstraint(fields=("caller", "key"), name="idempotency_key_of_caller"),
        ),
    ]
