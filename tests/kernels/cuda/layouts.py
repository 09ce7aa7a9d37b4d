"""Which element of an mma operand each lane holds: as Triton's compiler says, and as we do.

Triton's LinearLayout is an oracle that is independent of us. Its Python bindings are private, and
so pinned by nothing: where they are gone, the test that uses this says so.
"""

from __future__ import annotations

from typing import Any

Place = dict[tuple[int, int, int], tuple[int, int]]
"""(lane, register, element in it) -> (row, column)."""


def triton_fragments(bits: int) -> dict[str, Place]:
    """Operands ``a`` and ``b`` of an m16n8 product of so many bits, and its result ``d``."""
    from triton._C.libtriton import gluon_ir, ir
    from triton.experimental.gluon.language import DotOperandLayout, NVMMADistributedLayout

    context = ir.context()
    ir.load_dialects(context)
    builder: Any = gluon_ir.GluonOpBuilder(context)
    per, k = 32 // bits, 256 // bits
    result = NVMMADistributedLayout(version=[2, 0], warps_per_cta=[1, 1], instr_shape=[16, 8])

    def places(layout: Any, shape: list[int], elements: int) -> Place:
        linear = builder.to_linear_layout(layout._to_ir(builder), shape)
        registers = 2 ** len(linear.reg_bases) // elements
        return {
            (lane, register, e): _at(linear, register * elements + e, lane)
            for lane in range(32)
            for register in range(registers)
            for e in range(elements)
        }

    a, b = (DotOperandLayout(operand_index=index, parent=result, k_width=per) for index in range(2))
    return {
        "a": places(a, [16, k], per),
        "b": places(b, [k, 8], per),
        "d": places(result, [16, 8], 1),
    }


def _at(linear: Any, register: int, lane: int) -> tuple[int, int]:
    row = column = 0
    for bases, index in ((linear.reg_bases, register), (linear.lane_bases, lane)):
        for bit, (down, right) in enumerate(bases):
            if index >> bit & 1:
                row, column = row ^ down, column ^ right
    return row, column


def ptx_fragments(bits: int) -> dict[str, Place]:
    """The same as ``kernels/emulator/tensor_cores.hpp`` takes it from the PTX ISA."""
    per, k = 32 // bits, 256 // bits

    def places(registers: int, elements: int, at: Any) -> Place:
        return {
            (lane, register, e): at(lane // 4, lane % 4, register, e)
            for lane in range(32)
            for register in range(registers)
            for e in range(elements)
        }

    return {
        "a": places(
            *(4, per),
            lambda group, t, r, e: (group + r % 2 * 8, t * per + e + r // 2 * k // 2),
        ),
        "b": places(2, per, lambda group, t, r, e: (t * per + e + r * k // 2, group)),
        "d": places(4, 1, lambda group, t, r, _: (group + r // 2 * 8, t * 2 + r % 2)),
    }


def triton_warpgroup(n: int) -> dict[tuple[int, int], tuple[int, int]]:
    """The sums of a product of a warpgroup: (thread, register) -> (row, column)."""
    from triton._C.libtriton import gluon_ir, ir
    from triton.experimental.gluon.language import NVMMADistributedLayout

    context = ir.context()
    ir.load_dialects(context)
    builder: Any = gluon_ir.GluonOpBuilder(context)
    layout = NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, n, 32])
    linear = builder.to_linear_layout(layout._to_ir(builder), [64, n])
    found = {}
    for thread in range(128):
        warp = [0, 0]
        for bit, bases in enumerate(linear.warp_bases):
            if thread // 32 >> bit & 1:
                warp = [a ^ b for a, b in zip(warp, bases, strict=True)]
        for register in range(n // 2):
            row, column = _at(linear, register, thread % 32)
            found[thread, register] = row ^ warp[0], column ^ warp[1]
    return found


def ptx_warpgroup(n: int) -> dict[tuple[int, int], tuple[int, int]]:
    """The same as ``kernels/emulator/wgmma.hpp`` takes it from the PTX ISA."""
    return {
        (thread, i): (
            thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8,
            i // 4 * 8 + thread % 4 * 2 + i % 2,
        )
        for thread in range(128)
        for i in range(n // 2)
    }


def triton_swizzled(rows: int, span: int) -> list[int]:
    """Bytes of a tile of rows of ``span`` bytes in the order in which they lie in shared memory."""
    from triton._C.libtriton import gluon_ir, ir
    from triton.experimental.gluon.language import NVMMASharedLayout

    context = ir.context()
    ir.load_dialects(context)
    builder: Any = gluon_ir.GluonOpBuilder(context)
    layout = NVMMASharedLayout(swizzle_byte_width=span, element_bitwidth=8, rank=2)
    linear = builder.to_linear_layout(layout._to_ir(builder), [rows, span])
    order = []
    for offset in range(rows * span):
        row = column = 0
        for bit, (down, right) in enumerate(linear.offset_bases):
            if offset >> bit & 1:
                row, column = row ^ down, column ^ right
        order.append(row * span + column)
    return order
