"""Builds the native kernels: C sources compiled once per instruction set.

Everything declarative is in pyproject.toml. Two things are not: the list of packages, which
follows the directory tree, and the per-instruction-set objects, which setuptools has no notion of.
"""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOTS = {
    "core": "ryzanstein",
    "inference": "ryzanstein.inference",
    "memory": "ryzanstein.memory",
    "tools": "ryzanstein.tools",
    "agents": "ryzanstein.agents",
    "mcp_servers": "ryzanstein.mcp_servers",
}
KERNELS = Path("inference/kernels")
X86_ISAS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c", "-mbmi2"],
}
X86_ISAS["avx512vnni"] = [*X86_ISAS["avx512"], "-mavx512vnni"]


def packages() -> dict[str, str]:
    """Maps every package of the tree to its directory."""
    found = {}
    for root, package in ROOTS.items():
        for init in sorted(Path(root).rglob("__init__.py")):
            parts = init.parent.relative_to(root).parts
            found[".".join((package, *parts))] = str(init.parent)
    return found


def isas() -> dict[str, list[str]]:
    """Instruction sets to compile for on this platform, with the compiler's flags."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return X86_ISAS if x86 else {"portable": []}


class BuildKernels(build_ext):
    """Compiles isa/*.c once per instruction set and links the objects into every extension.

    As many compilers run at a time as there are CPUs.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self) -> None:
        # Contraction is off for the same bits on every set: what is to be fused says so.
        unix = self.compiler.compiler_type == "unix"
        flags = (
            ["-O3", "-std=c11", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden"]
            if unix
            else ["/O2", "/std:c11"]
        )
        chosen = isas() if unix else {"portable": []}
        headers = [str(path) for path in KERNELS.rglob("*.h")]
        macros = [(f"RZ_HAVE_{name.upper()}", "1") for name in chosen]
        objects = self._compile(sorted(KERNELS.glob("*.c")), "common", flags, macros, headers)
        for name, isa_flags in chosen.items():
            sources = sorted((KERNELS / "isa").glob("*.c"))
            isa_macros = [*macros, ("RZ_ISA_NAME", name), (f"RZ_ISA_{name.upper()}", "1")]
            objects += self._compile(sources, name, [*flags, *isa_flags], isa_macros, headers)
        for extension in self.extensions:
            extension.extra_objects = [*extension.extra_objects, *objects]
            extension.depends = [*extension.depends, *objects]
            if unix:
                extension.extra_compile_args = [*extension.extra_compile_args, "-O2"]
                extension.extra_link_args = [*extension.extra_link_args, "-pthread"]
        super().build_extensions()

    def _compile(
        self,
        sources: list[Path],
        folder: str,
        flags: list[str],
        macros: list[tuple[str, str]],
        headers: list[str],
    ) -> list[str]:
        generated = {source.with_suffix(".c").name for source in KERNELS.glob("*.pyx")}
        compile_one = partial(
            self.compiler.compile,
            output_dir=str(Path(self.build_temp) / folder),
            macros=macros,
            include_dirs=[str(KERNELS)],
            extra_preargs=flags,
            depends=headers,
        )
        own = [[str(source)] for source in sources if source.name not in generated]
        with ThreadPoolExecutor(self.parallel) as pool:
            return [name for names in pool.map(compile_one, own) for name in names]


def extensions() -> list[Extension]:
    """One extension for each .pyx of the kernels."""
    return [
        Extension(
            f"ryzanstein.inference.kernels.{source.stem}",
            [str(source)],
            include_dirs=[str(KERNELS), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        )
        for source in sorted(KERNELS.glob("*.pyx"))
    ]


directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}
mapped = packages()
setup(
    packages=sorted(mapped),
    package_dir=mapped,
    ext_modules=cythonize(extensions(), compiler_directives=directives, build_dir="build/cython"),
    cmdclass={"build_ext": BuildKernels},
)
