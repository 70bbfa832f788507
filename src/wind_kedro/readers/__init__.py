"""Raw files, whatever their format, as tables of text; and the limits on what they may unpack to."""
