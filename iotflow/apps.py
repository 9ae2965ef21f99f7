from django.apps import AppConfig


class IotflowConfig(AppConfig):
    name = "iotflow"
    verbose_name = "IoTFlow"

    def ready(self) -> None:
        from iotflow import checks  # noqa: F401  (registers them)
        from iotflow.lib import statements

        statements.time_all()
