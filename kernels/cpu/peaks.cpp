// Loops that keep the arithmetic units, or the paths to a cache, as busy as they can be (declared in peaks.hpp).
//
// Arithmetic: independent chains of one instruction, all in registers. A chain waits for the latency of its last
// step, so there are more chains than latency times instructions a cycle (4 * 2 for FMA on x86, 6 * 2 for a separate
// multiply and add), and as many as registers allow. Operands are read back from memory every 256 steps: the compiler
// cannot know them, and bfloat16 and float16 are widened there, as seldom as in the kernels, which widen
// an element once when it is packed. Values stay between 0.5 and 2.5 for ever: no denormal, no zero, no infinity.
//
// Copy: whole vectors, 8 in flight, then the next 8.
#include "peaks.hpp"

#include "simd.hpp"
#include "streaming.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

#if CVPERF_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kChains = 24;  // 32 vector registers
#else
constexpr int kChains = 12;  // 16 of them
#endif
constexpr int kSteps = 256;

// The compiler must assume that v has changed, and may not compute a product with it ahead of the loop.
template <class V>
CVPERF_INLINE void hide(V& v) {
#if defined(__aarch64__)
  asm volatile("" : "+w"(v));
#elif defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  asm volatile("" : "+v"(v));
#elif (defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32) || (defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16)
  asm volatile("" : "+x"(v));
#else  // a vector wider than the registers, which tests compile
  asm volatile("" : "+m"(v));
#endif
}

CVPERF_INLINE void forget_memory() { asm volatile("" ::: "memory"); }

// a -> 3 - a, written as a multiply-add: two steps give a back, exactly.
template <class T>
double multiply_add(std::int64_t rounds) {
  using C = Compute<T>;
  alignas(64) T factors[kLanes<C>], terms[kLanes<C>];
  for (int i = 0; i < kLanes<C>; ++i) {
    factors[i] = from_compute<T>(C(-1));
    terms[i] = from_compute<T>(C(3));
  }
  const T *factor = factors, *term = terms;
  asm volatile("" : "+r"(factor), "+r"(term) : : "memory");  // from here on they may point to anything
  Vec<C> chain[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) chain[c] = broadcast(C(1) + C(c) / 16);
  for (std::int64_t round = 0; round < rounds; ++round) {
    forget_memory();
    Vec<C> x = load(factor), y = load(term);
    hide(x);  // registers, for the loop below
    hide(y);
#pragma GCC unroll 1
    for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 24
      for (int c = 0; c < kChains; ++c) chain[c] = chain[c] * x + y;
  }
  double checksum = 0;
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c)
    for (int i = 0; i < kLanes<C>; ++i) checksum += chain[c][i];
  return checksum;
}

// --- int8: the step that int8_gemm's register tile makes ---------------------------------------------------

#if defined(__AVX512VNNI__) && CVPERF_VECTOR_BYTES == 64
constexpr const char* kDot = "vpdpbusd";
constexpr int kProducts = kVectorBytes;  // of one step
using Operand = std::int8_t;
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  return (Vec<std::uint32_t>)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
}
#elif defined(__AVXVNNI__) && CVPERF_VECTOR_BYTES == 32
constexpr const char* kDot = "vpdpbusd";
constexpr int kProducts = kVectorBytes;  // of one step
using Operand = std::int8_t;
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  return (Vec<std::uint32_t>)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
}
#elif defined(__AVX2__) && CVPERF_VECTOR_BYTES == 32
constexpr const char* kDot = "vpmaddubsw, vpmaddwd and vpaddd";
constexpr int kProducts = kVectorBytes;
using Operand = std::int8_t;
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  return sum + (Vec<std::uint32_t>)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
constexpr int kProducts = kVectorBytes / 2;
using Operand = std::int16_t;
#if defined(__AVX512BW__) && CVPERF_VECTOR_BYTES == 64
constexpr const char* kDot = "vpmaddwd and vpaddd";
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  return sum + (Vec<std::uint32_t>)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}
#elif defined(__SSE2__) && CVPERF_VECTOR_BYTES == 16
constexpr const char* kDot = "pmaddwd and paddd";
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  return sum + (Vec<std::uint32_t>)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
#else
constexpr const char* kDot = "32-bit multiplies of both halves, and adds";
CVPERF_INLINE Vec<std::uint32_t> dot(Vec<std::uint32_t> sum, Vec<Operand> a, Vec<Operand> b) {
  const Vec<std::int32_t> x = (Vec<std::int32_t>)a, y = (Vec<std::int32_t>)b;
  return sum + (Vec<std::uint32_t>)(((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16));
}
#endif
#endif

// Every step adds 1 to every lane: 3 * 5 - 2 * 7, and the other two of four bytes give 1 - 1.
double dot_int8(std::int64_t rounds) {
  constexpr Operand as[] = {3, 2, 1, 1}, bs[] = {5, -7, 1, -1};
  constexpr int kGroup = 4 / static_cast<int>(sizeof(Operand));  // products summed into one lane
  Vec<Operand> a, b;
  for (int i = 0; i < kProducts; ++i) {
    a[i] = as[i % kGroup];
    b[i] = bs[i % kGroup];
  }
  Vec<std::uint32_t> chain[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) chain[c] = Vec<std::uint32_t>{};
  hide(b);
  for (std::int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 1
    for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 24
      for (int c = 0; c < kChains; ++c) {
        hide(a);
        chain[c] = dot(chain[c], a, b);
      }
  double checksum = 0;
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c)
    for (int i = 0; i < kLanes<std::uint32_t>; ++i) checksum += chain[c][i];
  return checksum;
}

// --- bfloat16 dot product ----------------------------------------------------------------------------------

#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
#define CVPERF_BF16_DOT  // not every processor that runs this file has it: peak_arithmetic asks
// Every step adds 2 * 1.5 - 1 * 3 = 0.
__attribute__((target("avx512bf16"))) double dot_bf16(std::int64_t rounds) {
  __m512i x = _mm512_set1_epi32(static_cast<int>(0xbf804000u)), y = _mm512_set1_epi32(0x40403fc0);
  __m512 chain[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) chain[c] = _mm512_set1_ps(1 + c / 16.0f);
  hide(x);
  hide(y);
  for (std::int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 1
    for (int step = 0; step < kSteps; ++step)
#pragma GCC unroll 24
      for (int c = 0; c < kChains; ++c) chain[c] = _mm512_dpbf16_ps(chain[c], (__m512bh)x, (__m512bh)y);
  double checksum = 0;
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c)
    for (int i = 0; i < 16; ++i) checksum += chain[c][i];
  return checksum;
}
#endif

#if defined(__FMA__) || defined(__aarch64__)
constexpr const char* kMultiplyAdd = "fused multiply-add";
constexpr const char* kWidened = "fused multiply-add in float32";
#else
constexpr const char* kMultiplyAdd = "a multiply and an add";
constexpr const char* kWidened = "a multiply and an add in float32";
#endif

// `work` makes kSteps steps of every chain a round; a step is `products` multiply-adds.
ArithmeticDone on_every_thread(const ArithmeticArgs& args, double (*work)(std::int64_t), int products,
                               const char* instruction) {
  double checksum = 0;  // of small integers and sixteenths: exact in any order
#pragma omp parallel for num_threads(args.num_threads) schedule(static) reduction(+ : checksum)
  for (int thread = 0; thread < args.num_threads; ++thread) checksum += work(args.rounds);
  const double steps = static_cast<double>(args.rounds) * args.num_threads * kSteps * kChains;
  return {2 * steps * products, checksum, instruction};
}

template <bool kStreaming>
void copy_slice(const float* from, float* to, std::int64_t begin, std::int64_t end) {
  constexpr int kInFlight = 8;
  for (std::int64_t at = begin; at < end; at += kInFlight * kLanes<float>) {
    Vec<float> v[kInFlight];
#pragma GCC unroll 8
    for (int i = 0; i < kInFlight; ++i) v[i] = load(from + at + i * kLanes<float>);
#pragma GCC unroll 8
    for (int i = 0; i < kInFlight; ++i) {
      float* const out = to + at + i * kLanes<float>;
      if (kStreaming)
        store_past_caches(out, v[i]);
      else
        store(out, v[i]);
    }
    forget_memory();  // or the compiler would call memcpy, which chooses its own instructions
  }
}

}  // namespace

ArithmeticDone peak_arithmetic(const ArithmeticArgs& args) {
  if (args.dtype == DType::i8) return on_every_thread(args, dot_int8, kProducts, kDot);
#if defined(CVPERF_BF16_DOT)
  if (args.dtype == DType::bf16 && __builtin_cpu_supports("avx512bf16"))
    return on_every_thread(args, dot_bf16, 32, "vdpbf16ps");
#endif
  return with_floating(args.dtype, [&](auto element) {
    using T = decltype(element);
    return on_every_thread(args, multiply_add<T>, kLanes<Compute<T>>, sizeof(T) == 2 ? kWidened : kMultiplyAdd);
  });
}

void peak_copy(const CopyArgs& args) {
  constexpr std::int64_t kBlockBytes = 512, kBlock = kBlockBytes / sizeof(float);
  const std::int64_t blocks = args.bytes / kBlockBytes;
#pragma omp parallel for num_threads(args.num_threads) schedule(static)
  for (int thread = 0; thread < args.num_threads; ++thread) {
    const float* const from = static_cast<const float*>(args.from);
    float* const to = static_cast<float*>(args.to);
    const std::int64_t begin = blocks * thread / args.num_threads * kBlock;
    const std::int64_t end = blocks * (thread + 1) / args.num_threads * kBlock;
    for (std::int64_t round = 0; round < args.rounds; ++round) {
      if (args.streaming)
        copy_slice<true>(from, to, begin, end);
      else
        copy_slice<false>(from, to, begin, end);
    }
    settle_streams();
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
