"""Settings of notification (`parameters_notification.yml`): cards of channels, which monitoring reads too."""

from wind_kedro.notifications import ChannelCards

__all__ = ["ChannelCards"]
