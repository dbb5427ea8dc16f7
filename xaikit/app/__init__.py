"""The local web page: `xaikit app` and `xaikit.app`."""
