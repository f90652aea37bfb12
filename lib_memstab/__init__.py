"""MemStab: detects and suppresses replayed training pictures while a diffusion model samples them."""

__version__ = "0.1.0"
