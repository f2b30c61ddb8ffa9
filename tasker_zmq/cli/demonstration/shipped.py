"""Where the shipped templates, pools and handlers lie, in a checkout and when installed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasker_zmq.errors import NotFoundError

PACKAGE: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = (PACKAGE / "_shipped", PACKAGE.parent)  # installed; a checkout


@dataclass(frozen=True)
class Shipped:
    """The files that the demonstration uses; worker processes run in `folder`."""

    folder: Path

    @property
    def pool(self) -> Path:
        return self.folder / "config" / "pools" / "order_fulfillment.yaml"

    @property
    def template(self) -> Path:
        return self.folder / "config" / "tasks" / "order_fulfillment.yaml"

    @property
    def orders(self) -> Path:
        return self.folder / "workers" / "order_fulfillment" / "orders.json"

    @property
    def catalogue(self) -> Path:
        return self.folder / "workers" / "order_fulfillment" / "catalogue.json"

    def missing(self) -> tuple[Path, ...]:
        wanted = (self.pool, self.template, self.orders, self.catalogue)
        return tuple(path for path in wanted if not path.is_file())


def find_shipped() -> Shipped:
    """The shipped files; raises NotFoundError when this installation brought none."""
    for folder in FOLDERS:
        found = Shipped(folder)
        if not found.missing():
            return found
    looked = " and ".join(str(folder) for folder in FOLDERS)
    raise NotFoundError(
        f"wanted the shipped folders config/ and workers/ with the order fulfilment, looked in "
        f"{looked}; reinstall tasker-zmq, or run the demo from a checkout"
    )
