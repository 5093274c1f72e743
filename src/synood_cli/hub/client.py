"""The errors of huggingface_hub, which heads are published with, as messages with a next step.

Endpoint, token and offline mode are that client's own business: HF_ENDPOINT, HF_TOKEN or `hf auth login`,
HF_HUB_OFFLINE.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from synood_cli import __version__
from synood_cli.errors import HubError
from synood_cli.hub.address import HubAddress
from synood_cli.hub.download import wanted_head
from synood_cli.hub_client.wanted import not_reached, reason_of, refused

USER_AGENT = f"synood/{__version__}"
"""Who is asking, as the client tells the hub."""


@contextlib.contextmanager
def hub_errors(address: HubAddress) -> Iterator[None]:
    """Turn what huggingface_hub raises about `address` into HubError. To be put around calls of the client alone: it
    reports cut transfers and odd answers as OSError, RuntimeError and ValueError too."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        response = error.response
        raise refused(wanted_head(address), response.status_code, response.headers, reason_of(error)) from error
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP library
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise not_reached(wanted_head(address), reason_of(cause)) from error
    except errors.HFValidationError as error:
        raise HubError(f"{address}: {reason_of(error)}", hint="user/repository[@revision]") from error
    except (OSError, RuntimeError, ValueError) as error:
        because = f": {reason_of(error.__cause__)}" if isinstance(error.__cause__, Exception) else ""
        raise HubError(f"{address}: {reason_of(error)}{because}", hint="run the same command again") from error
