from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("devices", "0004_device_trigrams")]

    operations = [
        migrations.CreateModel(
            name="BrokerNotice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "subject",
                    models.CharField(
                        choices=[("config", "Config"), ("keys", "Keys")], max_length=8
                    ),
                ),
                ("device_id", models.BigIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["id"]},
        ),
    ]
