// Max pooling of channels-last images.
//
// Idea: channels in the lanes. Up to four vectors of them stay in registers while the pixels of a window pass, so that
// each costs a load and the comparison; a window's pixels are in L1 or L2 from the row and the column before. Halves
// are compared as float32, which is exact, and bytes as they are.
//
// Roofline: the bytes of input and output over the bandwidth of where they lie; a 3x3 loads each input 9/4 times from
// the caches at stride 2.
#include "bfloat16_pairs.hpp"
#include "pool2d_windows.hpp"

namespace cvperf {
namespace CVPERF_ISA {
namespace {

// The first of the largest, as in torch; once NaN always NaN.
CVPERF_INLINE Vec<float> larger(Vec<float> best, Vec<float> value) {
#if defined(__AVX512F__) && CVPERF_VECTOR_BYTES == 64
  const __mmask16 is_number = _mm512_cmp_ps_mask((__m512)value, (__m512)value, _CMP_ORD_Q);
  return (Vec<float>)_mm512_mask_max_ps((__m512)value, is_number, (__m512)value, (__m512)best);
#else
  const Vec<float> number = max(value, best);  // `best` where either is NaN
  return value == value ? number : value;
#endif
}

template <class T>
struct FloatMax {
  using Lanes = Vec<float>;
  static constexpr int kLanes = CVPERF_ISA::kLanes<float>;

  CVPERF_INLINE Lanes start() const { return broadcast(-__builtin_inff()); }
  CVPERF_INLINE Lanes add(Lanes best, Lanes value) const { return larger(best, value); }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const T* from, int lanes) const {
    if constexpr (kWhole) return load(from);
    return load_partial(from, lanes);
  }
  template <bool kWhole>
  CVPERF_INLINE void write(T* to, Lanes best, int lanes) const {
    if constexpr (kWhole) return store(to, best);
    store_partial(to, best, lanes);
  }
};

// As FloatMax<bfloat16>, for more channels.
struct PairMax {
  using Lanes = Pairs;
  static constexpr int kLanes = kPairLanes;

  CVPERF_INLINE Lanes start() const { return {broadcast(-__builtin_inff()), broadcast(-__builtin_inff())}; }
  CVPERF_INLINE Lanes add(const Lanes& best, const Lanes& value) const {
    return {larger(best.even, value.even), larger(best.odd, value.odd)};
  }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const bfloat16* from, int) const {
    return load_pairs(from);
  }
  template <bool kWhole>
  CVPERF_INLINE void write(bfloat16* to, const Lanes& best, int) const {
    store_exact_pairs(to, best);
  }
};

// Vectors of any width, for few channels as well.
template <class T, int kBytes>
struct ByteMax {
  typedef T Lanes __attribute__((vector_size(kBytes)));
  static constexpr int kLanes = kBytes;

  CVPERF_INLINE Lanes start() const { return Lanes{} + static_cast<T>(T(-1) < T(0) ? -128 : 0); }
  CVPERF_INLINE Lanes add(Lanes best, Lanes value) const { return value > best ? value : best; }
  template <bool kWhole>
  CVPERF_INLINE Lanes read(const T* from, int lanes) const {
    Lanes value{};
    __builtin_memcpy(&value, from, static_cast<std::size_t>(kWhole ? kBytes : lanes));
    return value;
  }
  template <bool kWhole>
  CVPERF_INLINE void write(T* to, Lanes best, int lanes) const {
    __builtin_memcpy(to, &best, static_cast<std::size_t>(kWhole ? kBytes : lanes));
  }
};

template <class T, class Reduction>
void pool_all(const MaxPool2dArgs& args, Reduction reduction) {
  for_each_window<T, T>(args.shape, args.input, args.output, args.num_threads,
                        [=](const PoolWindow<T>& window, T* out) { pool_window(reduction, window, out); });
}

template <class T>
void pool_bytes(const MaxPool2dArgs& args) {
  if (args.shape.channels >= kVectorBytes) return pool_all<T>(args, ByteMax<T, kVectorBytes>{});
  if (args.shape.channels >= 16) return pool_all<T>(args, ByteMax<T, 16>{});
  pool_all<T>(args, ByteMax<T, 4>{});
}

}  // namespace

void max_pool2d(const MaxPool2dArgs& args) {
  if (is_empty(args.shape)) return;
  if (args.dtype == DType::i8) return pool_bytes<std::int8_t>(args);
  if (args.dtype == DType::u8) return pool_bytes<std::uint8_t>(args);
  if (args.dtype == DType::bf16 && args.shape.channels >= kPairLanes) return pool_all<bfloat16>(args, PairMax{});
  with_float(args.dtype, [&](auto type) { pool_all<decltype(type)>(args, FloatMax<decltype(type)>{}); });
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
