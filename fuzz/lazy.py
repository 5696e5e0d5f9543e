"""Commands that are imported when somebody asks for them, so that no command waits for what another one needs.

>>> group = LazyGroup("heaplaw", elsewhere={"minimize": "minimizing"})
>>> group.list_commands(click.Context(group)), group.commands
(['minimize'], {})
>>> group.get_command(click.Context(group), "minimize").name
'minimize'
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from heaplaw.lawbook import meant


class LazyGroup(click.Group):
    """A group of commands, some of them ``elsewhere``: by the command's name, the module of this floor."""

    def __init__(self, *arguments: Any, elsewhere: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._elsewhere = dict(elsewhere or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere and cmd_name not in self.commands:
            module = import_module(f".{self._elsewhere[cmd_name]}", __package__)
            self.add_command(getattr(module, cmd_name.replace("-", "_")), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A name that no command has is taken for a slip."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no command {args[0]!r}{meant(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
