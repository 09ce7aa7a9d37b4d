"""INT8 GEMM: exact sums on every instruction set, fused epilogue, packing, torch, bad input."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference, registry
from cvperf.ops import PackedInt8, int8_gemm, pack_int8

ACTIVATIONS = [None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu"]
RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}


def random_matrix(rows: int, columns: int, dtype: torch.dtype = torch.int8) -> Tensor:
    low, high = RANGES[dtype]
    return torch.randint(low, high, (rows, columns), dtype=torch.int16).to(dtype)


def exact(a: Tensor, b: Tensor, zero: Tensor | int = 0) -> Tensor:
    return (a.long() - zero) @ b.long()


def assert_exact(found: Tensor, expected: Tensor, what: str) -> None:
    assert found.dtype == torch.int32
    assert found.shape == expected.shape, what
    wrong = found.long() != expected
    first = torch.nonzero(wrong)[:1].tolist()
    assert not wrong.any(), (
        f"{what}: {int(wrong.sum())} of {wrong.numel()} sums differ, the first at {first}: "
        f"got {found[wrong][:1].tolist()}, expected {expected[wrong][:1].tolist()}"
    )


# --- exact sums -----------------------------------------------------------------------------------

# Around every boundary of the kernel: quads, panels, row tiles, few rows, blocks of K and of rows.
SHAPES = [
    (m, k, n)
    for m in (1, 2, 3, 4, 6, 7, 12, 13, 24, 25)
    for k, n in ((1, 1), (2, 15), (3, 16), (4, 17), (5, 64), (63, 65), (641, 33))
]
LARGE = [(193, 644, 40), (400, 64, 16), (385, 1300, 600), (30, 2900, 530), (1, 3000, 1000)]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_exact(isa: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    m, k, n = shape
    a, b = random_matrix(m, k, dtype), random_matrix(k, n)
    assert_exact(int8_gemm(a, b), exact(a, b), f"{isa} {dtype} {shape}")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_sums_of_blocked_shapes_are_exact_with_a_zero_point_for_each_row(
    isa: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    m, k, n = shape
    a, b = random_matrix(m, k, dtype), random_matrix(k, n)
    zero = random_matrix(m, 1, dtype).int()
    found = int8_gemm(a, b, zero_a=zero)
    assert_exact(found, exact(a, b, zero.long()), f"{isa} {dtype} {shape}")


@pytest.mark.parametrize("k", [1, 2, 3, 257, 2048])
@pytest.mark.parametrize(
    ("dtype", "left", "right"),
    [
        (torch.int8, -128, -128),
        (torch.int8, -128, 127),
        (torch.int8, 127, -128),
        (torch.uint8, 255, -128),
        (torch.uint8, 255, 127),
    ],
)
def test_extremes_do_not_saturate(
    isa: str, k: int, dtype: torch.dtype, left: int, right: int
) -> None:
    for rows in (1, 5, 26):
        a = torch.full((rows, k), left, dtype=dtype)
        b = torch.full((k, 18), right, dtype=torch.int8)
        expected = torch.full((rows, 18), k * left * right)
        assert_exact(int8_gemm(a, b), expected, f"{isa} {rows} rows of {left} * {right}")


@pytest.mark.parametrize(
    ("dtype", "left", "limit"), [(torch.int8, -128, 131_071), (torch.uint8, 255, 65_793)]
)
def test_the_longest_k_reaches_the_end_of_int32_and_no_further(
    isa: str, dtype: torch.dtype, left: int, limit: int
) -> None:
    a = torch.full((1, limit), left, dtype=dtype)
    b = torch.full((limit, 1), -128, dtype=torch.int8)
    assert int8_gemm(a, b).item() == limit * left * -128
    with pytest.raises(cvperf.ArgumentError, match=f"K above {limit}"):
        int8_gemm(
            torch.zeros(1, limit + 1, dtype=dtype), torch.zeros(limit + 1, 1, dtype=torch.int8)
        )


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    m=st.integers(0, 40),
    k=st.integers(0, 90),
    n=st.integers(0, 90),
    unsigned=st.booleans(),
    transposed=st.booleans(),
    zero=st.one_of(st.none(), st.integers(0, 127)),
    seed=st.integers(0, 2**32),
)
def test_generated_shapes_are_exact(
    isa: str,
    m: int,
    k: int,
    n: int,
    unsigned: bool,
    transposed: bool,
    zero: int | None,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    dtype = torch.uint8 if unsigned else torch.int8
    a = random_matrix(m, k, dtype)
    b = random_matrix(n, k).t() if transposed else random_matrix(k, n)
    assert_exact(int8_gemm(a, b, zero_a=zero), exact(a, b, zero or 0), f"{isa} {dtype} {m, k, n}")


def test_empty_sums_are_zero_plus_the_bias(isa: str) -> None:
    a, b, bias = random_matrix(3, 0), random_matrix(0, 5), torch.arange(5.0)
    assert_exact(int8_gemm(a, b), torch.zeros(3, 5, dtype=torch.int64), isa)
    found = int8_gemm(a, b, bias=bias, scale_a=2.0, out_dtype=torch.float32)
    assert torch.equal(found, bias.expand(3, 5))


@pytest.mark.parametrize(("m", "n"), [(0, 4), (4, 0), (0, 0)])
def test_empty_output(isa: str, m: int, n: int) -> None:
    assert int8_gemm(random_matrix(m, 8), random_matrix(8, n)).shape == (m, n)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    a, b = random_matrix(500, 700), random_matrix(700, 300)
    options = {"scale_a": 1e-3, "activation": "silu", "out_dtype": torch.float32}
    two = int8_gemm(a, b, **options)
    torch.set_num_threads(1)
    try:
        one = int8_gemm(a, b, **options)
    finally:
        torch.set_num_threads(2)
    assert torch.equal(one, two)


# --- layouts --------------------------------------------------------------------------------------


def test_layouts_of_a_are_served_not_refused(isa: str) -> None:
    b = random_matrix(30, 20)
    wide = random_matrix(9, 64)
    for name, a in {
        "rows apart": wide[:, 5:35],
        "every second row": wide[::2, :30],
        "every second column": wide[:, :60:2],
        "transposed": random_matrix(30, 9).t(),
        "one row repeated": wide[:1, :30].expand(7, 30),
    }.items():
        assert_exact(int8_gemm(a, b), exact(a, b), f"{isa} a with {name}")


def test_layouts_of_b_pack_to_the_same_bytes(isa: str) -> None:
    b = random_matrix(37, 50)
    expected = reference.pack_int8(b)
    apart = torch.zeros(37, 101, dtype=torch.int8)
    apart[:, 1::2] = b
    layouts = {"rows": b, "columns": b.t().contiguous().t(), "neither": apart[:, 1::2]}
    for name, layout in layouts.items():
        found = pack_int8(layout)
        assert torch.equal(found.data, expected), f"{isa}: b contiguous in {name}"
        assert found.shape == (37, 50)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (4, 16), (5, 17), (64, 40)])
def test_packed_bytes_are_the_same_on_every_instruction_set(
    isa: str, shape: tuple[int, int]
) -> None:
    b = random_matrix(*shape)
    assert torch.equal(pack_int8(b).data, reference.pack_int8(b))


def test_packed_and_unpacked_b_give_the_same_result(isa: str) -> None:
    a, b = random_matrix(11, 70), random_matrix(70, 35)
    assert torch.equal(int8_gemm(a, pack_int8(b)), int8_gemm(a, b))


# --- epilogue -------------------------------------------------------------------------------------


def epilogue_case(
    m: int, k: int, n: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    low, high = RANGES[dtype]
    vectors = {
        "scale_a": torch.rand(m) * 0.02 + 1e-3,
        "scale_b": torch.rand(n) * 0.02 + 1e-3,
        "zero_a": torch.randint(low, high, (m,), dtype=torch.int32),
        "bias": torch.randn(n),
    }
    return random_matrix(m, k, dtype), random_matrix(k, n), vectors


def formula(a: Tensor, b: Tensor, vectors: dict[str, Tensor], activation: str | None) -> Tensor:
    """The documented formula in float64, written apart from the backends."""
    value = exact(a, b, vectors["zero_a"].long()[:, None]).double()
    value = value * vectors["scale_a"].double()[:, None] * vectors["scale_b"].double()
    value = value + vectors["bias"].double()
    functional = torch.nn.functional
    return value if activation is None else getattr(functional, activation)(value)


# One rounding of the output, and float32 steps before it.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("out_dtype", list(TOLERANCE))
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_epilogue_equals_the_formula_in_float64(
    isa: str, dtype: torch.dtype, out_dtype: torch.dtype, activation: str | None
) -> None:
    for m, k, n in ((1, 40, 33), (14, 100, 50), (40, 700, 70)):
        a, b, vectors = epilogue_case(m, k, n, dtype)
        found = int8_gemm(a, b, **vectors, activation=activation, out_dtype=out_dtype)
        expected = formula(a, b, vectors, activation)
        assert found.dtype == out_dtype
        # The product may be far larger than its sum with the bias: errors are measured against it.
        size = formula(a, b, vectors | {"bias": torch.zeros(n)}, None).abs() + expected.abs() + 1
        error = ((found.double() - expected).abs() / size).max().item()
        assert error <= TOLERANCE[out_dtype], f"{isa} {m, k, n}: relative error {error:.2e}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_int8_out_is_the_rounded_and_saturated_formula(isa: str, activation: str | None) -> None:
    a, b, vectors = epilogue_case(30, 120, 70, torch.int8)
    found = int8_gemm(a, b, **vectors, activation=activation, out_dtype=torch.int8).double()
    value = formula(a, b, vectors, activation)
    # float32 may fall on the other side of a tie: half a unit, and a little.
    error = (found - value.clamp(-128, 127)).abs().max().item()
    assert error <= 0.5 + 1e-3, f"{isa}: {error} away from the formula"


def test_int8_out_rounds_half_to_even_and_saturates(isa: str) -> None:
    a = torch.tensor([[1], [3], [5], [-1], [-3], [127], [-128]], dtype=torch.int8)
    b = torch.tensor([[1, 127]], dtype=torch.int8)
    found = int8_gemm(a, b, scale_a=0.5, out_dtype=torch.int8)
    assert found[:, 0].tolist() == [0, 2, 2, 0, -2, 64, -64]
    assert found[:, 1].tolist() == [64, 127, 127, -64, -128, 127, -128]
    odd = int8_gemm(a[:1], b, bias=torch.tensor([float("nan"), float("inf")]), out_dtype=torch.int8)
    assert odd.tolist() == [[-128, 127]]


def test_scales_of_every_form_mean_the_same(isa: str) -> None:
    a, b = random_matrix(5, 24), random_matrix(24, 6)
    expected = int8_gemm(a, b).float() * 0.5 * 0.25
    row, column = torch.full((5,), 0.5), torch.full((6,), 0.25)
    for scale_a in (0.5, torch.tensor(0.5), torch.tensor([0.5]), row, row[:, None]):
        for scale_b in (0.25, torch.tensor([0.25]), column, column[None], column[:1].expand(6)):
            found = int8_gemm(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=torch.float32)
            assert torch.equal(found, expected), f"{isa}: {scale_a} {scale_b}"


def test_int32_bias_is_added_exactly(isa: str) -> None:
    a, b = random_matrix(9, 30), random_matrix(30, 21)
    bias = torch.randint(-(2**30), 2**30, (21,), dtype=torch.int32)
    assert_exact(int8_gemm(a, b, bias=bias), exact(a, b) + bias, isa)


def test_the_reference_backend_gives_the_same_sums() -> None:
    a, b = random_matrix(9, 30, torch.uint8), random_matrix(30, 21)
    expected = int8_gemm(a, b, zero_a=7)
    with registry.prefer("reference"):
        assert torch.equal(int8_gemm(a, b, zero_a=7), expected)


# --- torch ----------------------------------------------------------------------------------------


def test_opcheck() -> None:
    a, b, vectors = epilogue_case(6, 20, 18, torch.uint8)
    torch.library.opcheck(torch.ops.cvperf.pack_int8.default, (b,))
    packed = pack_int8(b)
    scales = (vectors["scale_a"], vectors["scale_b"], vectors["zero_a"], vectors["bias"])
    call = (a, packed.data, packed.n, *scales, "relu", torch.bfloat16)
    torch.library.opcheck(torch.ops.cvperf.int8_gemm.default, call)
    plain = (a, packed.data, packed.n, None, None, None, None, None, torch.int32)
    torch.library.opcheck(torch.ops.cvperf.int8_gemm.default, plain)


class Quantised(torch.nn.Module):
    """A linear layer on int8 activations, with its packed weight as a constant."""

    def __init__(self) -> None:
        super().__init__()
        packed = pack_int8(random_matrix(20, 10))
        self.register_buffer("weight", packed.data)
        self.register_buffer("scale", torch.rand(10) * 0.01)

    def forward(self, a: Tensor) -> Tensor:
        weight = PackedInt8(self.weight, 20, 10)
        hidden = int8_gemm(
            a, weight, scale_b=self.scale, activation="relu", out_dtype=torch.float32
        )
        return hidden * 2


def test_compile_and_export() -> None:
    net, a = Quantised(), random_matrix(4, 20)
    expected = net(a)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(a), expected)
    exported = torch.export.export(net, (a,), dynamic_shapes=({0: torch.export.Dim("m", min=2)},))
    more = random_matrix(9, 20)
    assert torch.equal(exported.module()(more), net(more))


def test_packed_weights_pass_through_compile() -> None:
    def multiply(a: Tensor, b: PackedInt8) -> Tensor:
        return int8_gemm(a, b, scale_a=0.5, zero_a=3, out_dtype=torch.float32)

    compiled = torch.compile(multiply, fullgraph=True, backend="aot_eager")
    a, b = random_matrix(4, 20), pack_int8(random_matrix(20, 10))
    assert torch.equal(compiled(a, b), multiply(a, b))
    repack = torch.compile(pack_int8, fullgraph=True, backend="aot_eager")
    weight = random_matrix(20, 10)
    packed = repack(weight)
    assert packed.shape == (20, 10)
    assert torch.equal(packed.data, pack_int8(weight).data)


@pytest.mark.parametrize("weights_only", [True, False])
def test_packed_weights_can_be_saved(weights_only: bool) -> None:
    a, packed = random_matrix(4, 20), pack_int8(random_matrix(20, 10))
    file = io.BytesIO()
    torch.save({"weight": packed}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=weights_only)["weight"]
    assert loaded.shape == packed.shape
    assert torch.equal(int8_gemm(a, loaded), int8_gemm(a, packed))


# --- bad input ------------------------------------------------------------------------------------

A, B = torch.zeros(4, 8, dtype=torch.int8), torch.zeros(8, 6, dtype=torch.int8)
FLOAT = {"out_dtype": torch.float32}


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (A.float(), B, {}, r"a must be a\[M, K\] of one of int8, uint8; got float32\[4, 8\]"),
        (A[0], B, {}, r"a must be a\[M, K\], got int8\[8\]"),
        (A, B.to(torch.uint8), {}, r"b must be b\[K, N\] of one of int8; got uint8"),
        (A, B.t(), {}, r"as many rows as a has columns.*int8\[4, 8\].*\[6, 8\]"),
        (A, B.to("meta"), {}, "same device"),
        (
            A,
            PackedInt8(torch.zeros(5, dtype=torch.uint8), 8, 6),
            {},
            r"b.data must be uint8\[192\]",
        ),
        (A, PackedInt8(torch.zeros(192), 8, 6), {}, r"b.data must be uint8\[192\] .*got float32"),
        (A, pack_int8(B.t().contiguous()), {}, "as many rows"),
        (A, B, {"out_dtype": torch.float64}, "out_dtype must be one of int32, float32"),
        (A, B, {"scale_a": 2.0}, "do not apply to out_dtype=torch.int32"),
        (A, B, {"activation": "relu"}, "do not apply to out_dtype=torch.int32"),
        (A, B, {"bias": torch.zeros(6)}, "bias must be .* one of int32; got float32"),
        (A, B, FLOAT | {"bias": torch.zeros(6, dtype=torch.int32)}, "one of float32; got int32"),
        (A, B, FLOAT | {"bias": torch.zeros(5)}, r"one entry a column.*N = 6.*float32\[5\]"),
        (A, B, FLOAT | {"activation": "gelu"}, "one of relu, relu6.*got 'gelu'"),
        (A, B, FLOAT | {"scale_a": torch.ones(5)}, r"scale_a must be .*M = 4.*float32\[5\]"),
        (A, B, FLOAT | {"scale_a": torch.ones(1, 4)}, r"\[M, 1\].*got float32\[1, 4\]"),
        (A, B, FLOAT | {"scale_b": torch.ones(4)}, r"scale_b must be .*N = 6.*float32\[4\]"),
        (A, B, FLOAT | {"scale_b": torch.ones(6).double()}, "float32; got float64"),
        (A, B, {"zero_a": torch.zeros(4)}, "zero_a must be .*int32; got float32"),
        (A, B, {"zero_a": 128}, "value of a's dtype, -128 to 127; got 128"),
        (A.to(torch.uint8), B, {"zero_a": -1}, "0 to 255; got -1"),
    ],
)
def test_bad_values_are_named(
    a: Tensor, b: Tensor | PackedInt8, options: dict[str, object], message: str
) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message):
        int8_gemm(a, b, **options)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([[1]], B, {}, "a must be a torch.Tensor"),
        (A, [[1]], {}, "b must be a torch.Tensor .* or a PackedInt8"),
        (A, B, {"out_dtype": "float32"}, "out_dtype must be a torch.dtype"),
        (A, B, {"zero_a": 1.5}, "zero_a must be an int"),
        (A, B, FLOAT | {"scale_a": True}, "scale_a must be a number"),
        (A, B, FLOAT | {"activation": 3}, "activation must be a name"),
        (A, B, FLOAT | {"bias": 1.0}, "bias must be a torch.Tensor"),
    ],
)
def test_wrong_types_are_named(
    a: object, b: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        ops.int8_gemm(a, b, **options)


def test_only_int8_matrices_can_be_packed() -> None:
    with pytest.raises(cvperf.ArgumentError, match=r"b must be b\[K, N\], got int8\[3\]"):
        pack_int8(torch.zeros(3, dtype=torch.int8))
    with pytest.raises(cvperf.ArgumentError, match="got float32"):
        pack_int8(torch.zeros(3, 3))
