"""``heaplaw build-linux``: the kernel's own allocators from a kernel tree, as targets."""

from pathlib import Path

import click

from heaplaw.impls.native.linux import building
from heaplaw.impls.native.linux.building import BuildError

from .options import Problem, console, say


@click.command("build-linux")
@click.option("--source", type=click.Path(path_type=Path), metavar="TREE_OR_TARBALL",
              help="A kernel tree, or a tarball of one. Otherwise the newest of /usr/src/linux-source-*.")  # fmt: skip
@click.option("--sanitize", is_flag=True, help="Also with AddressSanitizer and UBSan, for use by path.")
def build_linux(source: Path | None, sanitize: bool) -> int:
    """Compile allocators of the kernel, as they are, in user space.

    They are the targets linux:percpu, linux:zsmalloc and linux:zbud (of 6.1), linux:genalloc (lib/genalloc.c) and
    linux:drm-buddy (drivers/gpu/drm/drm_buddy.c). What is needed of the tree goes to
    $XDG_CACHE_HOME/heaplaw/linux/VERSION, and what is compiled of it. Ends with 0, or with 2 and one line that says
    what is missing. Several versions may be built: linux:percpu@6.1 is the newest 6.1. What is found in them is
    unconfirmed by their maintainers.

    \b
    Example: apt-get install linux-source-6.1 && heaplaw build-linux && heaplaw check linux:percpu
    """
    try:
        chosen = source or building.find_source()
        made = [building.build(chosen)]
        if sanitize:
            made.append(building.build(chosen, sanitized=True))
    except BuildError as problem:
        raise Problem(str(problem)) from None
    out = console()
    for built in made:
        for path in built.libraries:
            say(out, str(path))
    version = made[0].version
    for name in dict.fromkeys(path.stem.rpartition("-")[0] for path in made[0].libraries):
        file = building.SOURCES.get(name, f"mm/{name}.c")
        say(out, f"linux:{name}@{version}: {file}, unmodified; what it stands on is a shim")
    return 0
