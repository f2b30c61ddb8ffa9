"""Protocol versions that this release speaks."""

from typing import Final

CURRENT: Final = "2.0"
SPOKEN: Final = ("2.0", "1.0")
