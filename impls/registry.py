"""What can be built by its name (see ``naming``): the built-in targets, and everybody else's.

>>> factory("tlsf@conte-3.1,arena=4096")().contract.arena
4096
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from heaplaw.contract import Contract
from heaplaw.lawbook import meant

from .bugs import bugs_of, find
from .naming import TargetError, TargetName, is_linux, is_malloc, is_native, parse


class BuiltIn(NamedTuple):
    """A target of this package; ``variants`` are the parameters that a check goes through."""

    module: str
    cls: str
    summary: str
    revisions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("",)
    capacity: tuple[str, int] = ("arena", 1)  # the parameter that sets its size, and how many bytes one unit is
    geometry: tuple[str, ...] = ()  # header keys of a recording that are parameters of the same name
    published: tuple[str, ...] = ()  # variants of the published revisions, where they are not the same


BUILT_IN: dict[str, BuiltIn] = {
    "tlsf": BuiltIn(
        "heaplaw.impls.tlsf", "Tlsf", "two-level segregated fit, Conte's layout", ("conte-3.1",),
        ("arena=4096", "arena=1024,sl=2", "arena=4096,word=32", "arena=65536"),
    ),
    "xen-tlsf": BuiltIn(
        "heaplaw.impls.xen_tlsf", "XenTlsf", "Xen's TLSF: a pool of single pages, and whole pages", ("3.4",),
        ("pages=8", "pages=12,whole=trim", "pages=16,page_size=256,most=3", "pages=64,word=32"), ("pages", 4096),
        published=("pages=8", "pages=64,word=32"),
    ),
    "xen-xmalloc": BuiltIn(
        "heaplaw.impls.xen_xmalloc", "XenXmalloc", "Xen's first-fit xmalloc, one list for all pages", ("3.0",),
        ("pages=8", "pages=4,line=32,page_size=512", "pages=7,page_size=1024,tail=list", "pages=64,line=64"),
        ("pages", 4096), published=("pages=4", "pages=8"),
    ),
    "xvmalloc": BuiltIn(
        "heaplaw.impls.xvmalloc", "Xvmalloc", "good fit within single pages, (page, offset) names", ("2.6.33",),
        ("pages=4", "pages=64", "pages=4,page_size=128", "pages=16,page_size=256,word=32"), ("pages", 4096),
        published=("pages=4",),
    ),
    "compcache": BuiltIn(
        "heaplaw.impls.compcache", "Compcache", "objects scattered over whatever holes there are", (),
        ("pages=2,page_size=64", "pages=8,page_size=256,least=32", "pages=16,ranges=1,keep=0", "pages=64"),
        ("pages", 4096),
    ),
    "percpu-area-map": BuiltIn(
        "heaplaw.impls.percpu_area_map", "PercpuAreaMap", "Linux per-CPU area map, which the bitmap replaced", ("4.4",),
        ("unit=64,block=16,chunks=3", "unit=96,block=32,chunks=1", "unit=256,block=64,chunks=2",
         "unit=32768,block=4096,chunks=2"),
        ("unit", 1), ("unit", "block", "chunks"),
    ),
    "percpu-bitmap": BuiltIn(
        "heaplaw.impls.percpu_bitmap", "PercpuBitmap", "Linux per-CPU bitmap allocator", ("2017-07", "4.14", "6.12"),
        ("unit=96,block=16,chunks=1", "unit=256,block=32,chunks=4", "unit=1024,block=256,chunks=1",
         "unit=32768,block=4096,chunks=2", "unit=160,block=32,chunks=3,static=32,reserved=40",
         "unit=256,block=64,chunks=3,pages=9"),
        ("unit", 1), ("unit", "block", "chunks"),
        published=("unit=96,block=32,chunks=1", "unit=256,block=64,chunks=2", "unit=1024,block=256,chunks=1",
                   "unit=32768,block=4096,chunks=2"),
    ),
    "buddy": BuiltIn(
        "heaplaw.impls.buddy", "Buddy", "binary buddy page allocator, with nodes, zones and watermarks", (),
        ("pages=64", "pages=1024", "pages=61,start=3,orders=5", "pages=64,nodes=2,dma=8,min_free=8,ratio=4",
         "pages=16,nodes=2,dma=4,min_free=4", "pages=61,start=3,nodes=3,dma=7,tail=1,min_free=10,orders=4"),
        ("pages", 4096),
    ),
    "subpage-buddy": BuiltIn(
        "heaplaw.impls.subpage_buddy", "SubpageBuddy", "headerless power-of-two blocks inside pages", (),
        ("pages=64", "pages=4", "pages=16,page_size=256", "pages=7,page_size=64,orders=2"), ("pages", 4096),
    ),
    "slab": BuiltIn(
        "heaplaw.impls.slab", "Slab", "Bonwick's slabs: coloured, three lists, per-CPU arrays", (),
        ("size=256,pages=64", "size=96,pages=8,cpus=2", "size=2048,pages=16", "size=64,pages=8,rule=2005",
         "size=520,pages=9,ctor=1,shuffle=7,limit=4"),
        ("pages", 4096),
    ),
    "slub": BuiltIn(
        "heaplaw.impls.slub", "Slub", "slabs with free lists in the objects, of high order if there are pages", (),
        ("size=256,pages=64", "size=1024,pages=16,cpus=2", "size=64,pages=3", "size=4096,pages=24,cpus=4",
         "size=100,pages=6,page_size=512,cpus=2,pointer=outside"),
        ("pages", 4096),
    ),
    "kmalloc": BuiltIn(
        "heaplaw.impls.kmalloc", "Kmalloc", "size classes over SLUB or SLAB, and whole pages", (),
        ("pages=64", "pages=8", "pages=64,era=slab,cpus=2", "pages=64,era=2005"), ("pages", 4096),
    ),
    "nta": BuiltIn(
        "heaplaw.impls.nta", "Nta", "network tree allocator: per-CPU regions, exact lists, foreign frees queued",
        ("2006-08-14", "2006-08-16"),
        ("pages=16", "pages=4,order=0,regions=1", "pages=12,cpus=3,order=1,regions=1,word=32,granule=64",
         "pages=8,cpus=1,order=1,regions=2,growth=0"),
        ("pages", 4096), published=("pages=16,order=2", "pages=4,order=1,word=32"),
    ),
    "srog": BuiltIn(
        "heaplaw.impls.srog", "Srog", "small related object groups: pages by lifetime, given back at once",
        ("2006-08-12",), ("pages=8", "pages=5,page_size=128", "pages=16,page_size=256,groups=7", "pages=256"),
        ("pages", 4096), published=("pages=16", "pages=4,page_size=128"),
    ),
    "zsmalloc": BuiltIn(
        "heaplaw.impls.zsmalloc", "Zsmalloc", "zspages of size classes, with compaction", (),
        ("pages=64,chain=4", "pages=64,chain=8", "pages=16,cpus=2,scatter=1", "pages=32,handles=direct,merge=0,cpus=2"),
        ("pages", 4096),
    ),
    "afmalloc": BuiltIn(
        "heaplaw.impls.afmalloc", "Afmalloc", "objects in power-of-two pieces from kmalloc, with compaction",
        ("2014-09",),
        ("pages=256,cpus=2", "pages=8", "pages=24,quota=20000", "pages=48,piece=256,max_level=20",
         "pages=16,era=slab,max_level=3"),
        ("pages", 4096), published=("pages=5", "pages=8", "pages=256"),
    ),
    "zbud": BuiltIn(
        "heaplaw.impls.zbud", "Zbud", "two compressed objects a page, LRU reclaim", (),
        ("pages=4", "pages=16,page_size=512,order=3", "pages=4,page_size=256,order=2", "pages=256"), ("pages", 4096),
    ),
    "xcfmalloc": BuiltIn(
        "heaplaw.impls.xcfmalloc", "Xcfmalloc", "objects scattered over two blocks, with compaction", ("2011-09-v1",),
        ("pages=4,reserve=1", "pages=12,page_size=512,reserve=2", "pages=6,reserve=2,descs=12", "pages=16,reserve=4"),
        ("pages", 4096), published=("pages=2,reserve=1", "pages=4,reserve=1"),
    ),
}  # fmt: skip


_BUILT_IN_ARE = f"; built in are {', '.join(BUILT_IN)} (see 'heaplaw list')"


def factory(name: str) -> Callable[[], Any]:
    """A function that makes a fresh target each time.  Raises TargetError for a name that cannot be built."""
    parts = parse(name)
    if is_linux(parts.base):
        build: Callable[[], Any] = _linux(parts.base, parts.parameters)
    elif is_malloc(parts.base):
        build = _malloc(parts.base, parts.parameters)
    elif ":" in parts.base:
        build = partial(_own_class(parts.base), **parts.parameters)
    elif is_native(parts.base):
        build = _native(parts.base, parts.parameters)
    else:
        build = _built_in(parts)
    _try_out(name, parts.base, build)
    return build


def _try_out(name: str, base: str, build: Callable[[], Any]) -> None:
    """Make a target once.  TargetError where that fails, or where what was made is no target."""
    try:
        target = build()
    except TargetError:
        raise
    except (TypeError, ValueError) as problem:  # what was asked for makes no sense
        raise TargetError(f"cannot make {name!r}: {problem}") from problem
    except Exception as problem:
        raise TargetError(f"cannot make {name!r}: {type(problem).__name__}: {problem}") from problem
    for needed in ("contract", "alloc", "free"):
        if not hasattr(target, needed):
            raise TargetError(f"{base} has no {needed!r}; a target needs contract, alloc and free")
    if not isinstance(target.contract, Contract):
        raise TargetError(f"the contract of {base} is {target.contract!r}; it must be a heaplaw.Contract")


def _built_in(parts: TargetName) -> Callable[[], Any]:
    """What makes targets of this package: the class, or the bug planted in it, with its revision and parameters."""
    known = BUILT_IN.get(parts.base)
    if known is None:
        there = f"{near}; 'heaplaw list' names them" if (near := meant(parts.base, BUILT_IN)) else _BUILT_IN_ARE
        raise TargetError(f"unknown target {parts.base!r}{there}")
    if parts.revision and parts.revision not in known.revisions:
        has = f"its revisions are {', '.join(known.revisions)}" if known.revisions else "it has no revisions"
        raise TargetError(f"unknown revision {parts.revision!r} of {parts.base}; {has}")
    cls = _with_bug(parts) if parts.bug else getattr(importlib.import_module(known.module), known.cls)
    revision = {"rev": parts.revision} if parts.revision else {}
    takes = _parameters(cls)
    _check_names(parts.base, parts.parameters, takes)
    for key, value in parts.parameters.items():
        if isinstance(value, str) and isinstance(takes[key], int):
            raise TargetError(f"{key} of {parts.base} is a number, not {value!r}")
    return partial(cls, **revision, **parts.parameters)


def _check_names(base: str, parameters: Mapping[str, int | str], takes: Iterable[str]) -> None:
    """TargetError for the first parameter that is none of those that a target takes."""
    if unknown := [key for key in parameters if key not in takes]:
        raise TargetError(f"{base} has no parameter {unknown[0]!r}; it has {', '.join(takes)}")


def _native(place: str, parameters: Mapping[str, int | str]) -> Callable[[], Any]:
    """What makes heaps of a shared library, which is loaded here and now."""
    from .native import making  # only where one is wanted: it needs cffi

    return partial(making.build, place, **parameters)  # type: ignore[arg-type]  # words are refused by build


def _malloc(name: str, parameters: Mapping[str, int | str]) -> Callable[[], Any]:
    """What makes sets of blocks of a malloc, whose adapter is compiled and loaded here and now."""
    from .native import system  # only where one is wanted: it needs cffi

    _check_names(name, parameters, ("arena",))
    return partial(system.build, name, **parameters)  # type: ignore[arg-type]  # words are refused by build


KERNELS = {
    "linux:percpu": ("percpu", "LinuxPercpu"), "linux:zbud": ("zbud", "LinuxZbud"),
    "linux:zsmalloc": ("zsmalloc", "LinuxZsmalloc"), "linux:genalloc": ("genalloc", "LinuxGenalloc"),
    "linux:drm-buddy": ("drm_buddy", "LinuxDrmBuddy"),
}  # fmt: skip
"""The kernel's own allocators: name, module of ``native.linux``, class in it."""


def _linux(head: str, parameters: Mapping[str, int | str]) -> Callable[[], Any]:
    """What makes heaps of the kernel's code, of the version after the @."""
    from .native.linux.building import BuildError

    base, _, version = head.partition("@")
    if base not in KERNELS:
        raise TargetError(f"unknown target {base!r}; of the kernel there are {', '.join(KERNELS)}")
    module, cls = KERNELS[base]
    kernel = importlib.import_module(f".native.linux.{module}", __package__)  # only the one that is wanted
    _check_names(base, parameters, _parameters(getattr(kernel, cls)))
    if words := [value for value in parameters.values() if isinstance(value, str)]:
        raise TargetError(f"{words[0]!r} is no number")
    try:
        build: Callable[[], Any] = kernel.builder(version, **parameters)
    except BuildError as problem:
        raise TargetError(str(problem)) from problem
    return build


def _with_bug(parts: TargetName) -> Callable[..., Any]:
    """What makes a target with a bug of the gallery in it."""
    planted = find(parts.base, parts.bug)
    if planted is None:
        has = ", ".join(bug.id for bug in bugs_of(parts.base)) or "none"
        raise TargetError(f"{parts.base} has no gallery bug {parts.bug!r}; it has {has}")
    return planted.build


def _parameters(build: Callable[..., Any]) -> dict[str, int | str]:
    """What a name may set, and its default: the constructor's plain values; the revision stands after the @."""
    made_by = build.__init__ if isinstance(build, type) else build  # type: ignore[misc]  # __new__ may take any
    known = inspect.signature(made_by).parameters.values()
    return {p.name: p.default for p in known if isinstance(p.default, int | str) and p.name != "rev"}


def variants(name: str) -> list[str]:
    """The configurations that a check of ``name`` goes through; itself where parameters are given."""
    parts = parse(name)
    known = BUILT_IN.get(parts.base)
    if known is None or parts.parameters:
        return [name]
    settings = known.published if parts.revision and known.published else known.variants
    if parts.bug and (planted := find(parts.base, parts.bug)) is not None and planted.variants:
        settings = planted.variants
    return [f"{name},{setting}" if setting else name for setting in settings]


def fitted(name: str, capacity: int, geometry: Mapping[str, str]) -> str:
    """The name with parameters that give a built-in target room for ``capacity`` bytes.

    A recording's own geometry wins; parameters that the name has already stay as they are.
    """
    parts = parse(name)
    known = BUILT_IN.get(parts.base)
    if known is None or parts.parameters:
        return name
    own = {key: int(geometry[key]) for key in known.geometry if geometry.get(key, "").isdecimal()}
    if not own:
        parameter, unit = known.capacity
        own = {parameter: 1 << max(0, (-(-capacity // unit) - 1).bit_length())}
    return str(parts._replace(parameters={**own}))


def _own_class(place: str) -> Any:
    """The class behind ``package.module:Name`` or ``path/file.py:Name``."""
    where, _, attribute = place.rpartition(":")
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise TargetError(f"no such file: {where}")
            name = f"heaplaw_target_{path.stem}"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")  # a module beside the user, as `python -m` finds it
            module = importlib.import_module(where)
    except TargetError:
        raise
    except Exception as problem:
        raise TargetError(f"cannot import {where}: {type(problem).__name__}: {problem}") from problem
    if not hasattr(module, attribute):
        raise TargetError(f"{where} has no {attribute!r}")
    return getattr(module, attribute)
