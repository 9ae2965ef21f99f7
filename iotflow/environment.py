"""The environment that the settings are read from; any variable may be in a file instead.

`NAME_FILE=/run/secrets/name` gives NAME what is in that file, as Docker and Kubernetes hand over
secrets. An environment is passed on to every child, and tools print it.
"""

from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping


class Variables(FileAwareMapping):
    """os.environ, and for each NAME_FILE what is in that file, without the end of its last line.

    ImproperlyConfigured where the file cannot be read, or NAME is set besides and not empty.
    """

    def __getitem__(self, name: str) -> str:
        # Else a value that begins with a dollar sign would stand for another variable.
        return self._value(name).replace("$", "\\$")

    def _value(self, name: str) -> str:
        path = self.env.get(f"{name}_FILE")
        if not path:
            return str(self.env[name])
        if self.env.get(name):
            raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; leave one out.")
        try:
            return Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error


class Env(environ.Env):
    ENVIRON = Variables()

    def __init__(self) -> None:
        super().__init__()
        self.escape_proxy = True
