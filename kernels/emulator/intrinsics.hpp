// CUDA's functions: barriers, exchanges between lanes, atomics, bits and arithmetic.
#pragma once
#include "half.hpp"
#include "rendezvous.hpp"

// --- Barriers ---------------------------------------------------------------------------------------

namespace emulator {
template <int (*JOIN)(int, int)>
void join_all(const std::vector<Thread*>&, const std::vector<void*>& arguments) {
  int joined = *static_cast<int*>(arguments[0]);
  for (std::size_t i = 1; i < arguments.size(); ++i) joined = JOIN(joined, *static_cast<int*>(arguments[i]));
  for (void* argument : arguments) *static_cast<int*>(argument) = joined;
}
inline int either(int a, int b) { return a | b; }
inline int both(int a, int b) { return a & b; }
inline int sum(int a, int b) { return a + b; }
}  // namespace emulator

inline void __syncthreads(EMULATOR_HERE) { emulator::block_barrier("__syncthreads", nullptr, nullptr, place); }
inline int __syncthreads_or(int p, EMULATOR_HERE) {
  int joined = p != 0;
  emulator::block_barrier("__syncthreads_or", &joined, emulator::join_all<emulator::either>, place);
  return joined;
}
inline int __syncthreads_and(int p, EMULATOR_HERE) {
  int joined = p != 0;
  emulator::block_barrier("__syncthreads_and", &joined, emulator::join_all<emulator::both>, place);
  return joined;
}
inline int __syncthreads_count(int p, EMULATOR_HERE) {
  int joined = p != 0;
  emulator::block_barrier("__syncthreads_count", &joined, emulator::join_all<emulator::sum>, place);
  return joined;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATOR_HERE) {
  emulator::warp_operation("__syncwarp", mask, nullptr, nullptr, place);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// --- Between lanes ----------------------------------------------------------------------------------

namespace emulator {
template <class T>
struct Exchange {
  T value, found;
  int source;  // lane; -1 keeps the own value
};

template <class T>
T exchange(const char* what, unsigned mask, T value, int source, Place place) {
  Exchange<T> mine{value, value, source};
  warp_operation(
      what, mask, &mine,
      [](const Lanes& lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          if (!lanes.has(lane)) continue;
          auto& one = lanes.of<Exchange<T>>(lane);
          if (one.source < 0) continue;
          if (!lanes.has(one.source)) fail("a shuffle reads a lane that is not in its mask");
          one.found = lanes.of<Exchange<T>>(one.source).value;
        }
      },
      place);
  return mine.found;
}

inline int lane() { return static_cast<int>(block.running->lane()); }

template <int (*JOIN)(int, int)>
int reduce(const char* what, unsigned mask, int value, Place place) {
  warp_operation(
      what, mask, &value,
      [](const Lanes& lanes) {
        int joined = 0, any = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if (lanes.has(lane)) joined = any++ ? JOIN(joined, lanes.of<int>(lane)) : lanes.of<int>(lane);
        }
        for (int lane = 0; lane < 32; ++lane) {
          if (lanes.has(lane)) lanes.of<int>(lane) = joined;
        }
      },
      place);
  return value;
}
inline int larger(int a, int b) { return a < b ? b : a; }
inline int smaller(int a, int b) { return a < b ? a : b; }
}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_HERE) {
  const int first = emulator::lane() & ~(width - 1);
  return emulator::exchange("__shfl_sync", mask, value, first | (source & (width - 1)), place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::lane(), end = (lane & ~(width - 1)) + width, source = lane ^ bits;
  return emulator::exchange("__shfl_xor_sync", mask, value, source < end ? source : -1, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::lane(), end = (lane & ~(width - 1)) + width, source = lane + static_cast<int>(by);
  return emulator::exchange("__shfl_down_sync", mask, value, source < end ? source : -1, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::lane(), first = lane & ~(width - 1), source = lane - static_cast<int>(by);
  return emulator::exchange("__shfl_up_sync", mask, value, source >= first ? source : -1, place);
}
inline unsigned __ballot_sync(unsigned mask, int p, EMULATOR_HERE) {
  return emulator::reduce<emulator::either>("__ballot_sync", mask, (p != 0) << emulator::lane(), place);
}
inline int __any_sync(unsigned mask, int p, EMULATOR_HERE) {
  return emulator::reduce<emulator::either>("__any_sync", mask, p != 0, place);
}
inline int __all_sync(unsigned mask, int p, EMULATOR_HERE) {
  return emulator::reduce<emulator::both>("__all_sync", mask, p != 0, place);
}
inline int __reduce_add_sync(unsigned mask, int value, EMULATOR_HERE) {
  return emulator::reduce<emulator::sum>("__reduce_add_sync", mask, value, place);
}
inline int __reduce_max_sync(unsigned mask, int value, EMULATOR_HERE) {
  return emulator::reduce<emulator::larger>("__reduce_max_sync", mask, value, place);
}
inline int __reduce_min_sync(unsigned mask, int value, EMULATOR_HERE) {
  return emulator::reduce<emulator::smaller>("__reduce_min_sync", mask, value, place);
}

// --- Atomics: threads take turns, so plain accesses do; real ones only for ThreadSanitizer's sake -----

namespace emulator {
template <class T, class Change>
T read_modify_write(T* p, const Change& change) {
#if EMULATOR_TSAN
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  static_assert(sizeof(T) == sizeof(Bits), "atomics are of 4 or 8 bytes");
  auto* const address = reinterpret_cast<Bits*>(p);
  Bits before = __atomic_load_n(address, __ATOMIC_RELAXED);
  for (;;) {
    const T old = bits<T>(before);
    const auto after = bits<Bits>(static_cast<T>(change(old)));
    // A GPU's kernel orders with a fence beside the atomic; taking both for one makes that hand-over known.
    if (__atomic_compare_exchange_n(address, &before, after, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return old;
  }
#else
  const T old = *p;
  *p = change(old);
  return old;
#endif
}
template <class T>
struct Same {
  using Type = T;  // keeps a parameter from deciding T
};
}  // namespace emulator

#define EMULATOR_ATOMIC(NAME, EXPRESSION)                                          \
  template <class T>                                                               \
  T NAME(T* p, typename emulator::Same<T>::Type value) {                           \
    return emulator::read_modify_write(p, [=](T old) -> T { return EXPRESSION; }); \
  }
EMULATOR_ATOMIC(atomicAdd, static_cast<T>(old + value))
EMULATOR_ATOMIC(atomicSub, static_cast<T>(old - value))
EMULATOR_ATOMIC(atomicMax, old < value ? value : old)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC(atomicOr, old | value)
EMULATOR_ATOMIC(atomicAnd, old& value)
EMULATOR_ATOMIC(atomicXor, old ^ value)
EMULATOR_ATOMIC(atomicExch, value)
template <class T>
T atomicCAS(T* p, typename emulator::Same<T>::Type expected, typename emulator::Same<T>::Type value) {
  return emulator::read_modify_write(p, [=](T old) -> T { return old == expected ? value : old; });
}

// --- Bits -------------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selectors) {
  const std::uint64_t both = static_cast<std::uint64_t>(high) << 32 | low;
  unsigned picked = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned selector = selectors >> 4 * i & 15;
    unsigned byte = both >> 8 * (selector & 7) & 0xff;
    if (selector & 8) byte = byte & 0x80 ? 0xff : 0;  // the sign alone
    picked |= byte << 8 * i;
  }
  return picked;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return static_cast<std::uint64_t>(static_cast<std::uint64_t>(high) << 32 | low) << (by & 31) >> 32;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return (static_cast<std::uint64_t>(high) << 32 | low) >> (by & 31);
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i);
  return c;
}
inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }

// --- Arithmetic -------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // 0 for NaN
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(std::ceil(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }

#define EMULATOR_LEAST_AND_MOST(T)                 \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_LEAST_AND_MOST(int)
EMULATOR_LEAST_AND_MOST(unsigned)
EMULATOR_LEAST_AND_MOST(long)
EMULATOR_LEAST_AND_MOST(unsigned long)
EMULATOR_LEAST_AND_MOST(long long)
EMULATOR_LEAST_AND_MOST(unsigned long long)
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }

namespace gpu {
inline signed char saturate_int8(float x) {
  return std::isnan(x) ? 0 : static_cast<signed char>(std::nearbyint(std::fmin(std::fmax(x, -128.0f), 127.0f)));
}
inline unsigned char saturate_uint8(float x) {
  return std::isnan(x) ? 0 : static_cast<unsigned char>(std::nearbyint(std::fmin(std::fmax(x, 0.0f), 255.0f)));
}
}  // namespace gpu
