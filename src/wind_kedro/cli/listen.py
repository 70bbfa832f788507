"""Command ``listen``: land messages of MQTT brokers."""

from __future__ import annotations

import click

from wind_kedro.cli.terminal import Options, open_project
from wind_kedro.errors import WindKedroError
from wind_kedro.hooks import raw_folder


@click.command()
@click.option("--feed", "feed_id", help="Only this feed; without it, every feed of kind mqtt.")
@click.pass_obj
def listen(options: Options, feed_id: str | None) -> None:
    """Land messages of MQTT brokers until stopped."""
    from wind_kedro.configuration import read_secrets
    from wind_kedro.feeds import build_feeds
    from wind_kedro.feeds.listening import land_messages
    from wind_kedro.feeds.mqtt import Mqtt

    _, context = open_project(options)
    every = build_feeds(context.params["feeds"].with_secrets(read_secrets))
    if feed_id is not None and feed_id not in every:
        raise WindKedroError(f"no feed '{feed_id}'; the configuration has {', '.join(every) or 'none'}")
    feeds = [feed for feed in every.values() if isinstance(feed, Mqtt) and feed_id in {None, feed.id}]
    if not feeds:
        raise WindKedroError("no feed of kind mqtt to listen to; conf/feeds/examples.yml shows one")
    land_messages(feeds, raw_folder(context.config_loader, context.project_path))
