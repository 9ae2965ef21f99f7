from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('devices', '0002_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='device',
            name='epochs_given',
            field=models.PositiveIntegerField(default=0, editable=False),
        ),
    ]
