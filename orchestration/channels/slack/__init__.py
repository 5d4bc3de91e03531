"""Slack: the only importer of its SDK. The channel, its blocks, charts, and the page that draws them for a preview."""
