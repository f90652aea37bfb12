"""MemStab's own tab in the WebUI: pages of gradio, and behind them what is told and done, which needs none."""
