// Copies of short runs: a call of memcpy costs more than what it copies there.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::int64_t kLibraryCopyBytes = 2048;  // from here on memcpy is as fast

template <class Word>
CVPERF_INLINE void copy_word(const char* from, char* to) {
  Word word;
  __builtin_memcpy(&word, from, sizeof word);
  __builtin_memcpy(to, &word, sizeof word);
}

// Fewer bytes than two words: the first and the last word, which may overlap.
template <class Word>
CVPERF_INLINE void copy_ends(const char* from, std::int64_t bytes, char* to) {
  Word first, last;
  __builtin_memcpy(&first, from, sizeof first);
  __builtin_memcpy(&last, from + bytes - sizeof last, sizeof last);
  __builtin_memcpy(to, &first, sizeof first);
  __builtin_memcpy(to + bytes - sizeof last, &last, sizeof last);
}

typedef std::uint64_t Pair __attribute__((vector_size(16)));

// Writes no byte beyond the last.
CVPERF_INLINE void copy_bytes(const char* from, std::int64_t bytes, char* to) {
  if (bytes >= kLibraryCopyBytes) {
    __builtin_memcpy(to, from, static_cast<std::size_t>(bytes));
  } else if (bytes >= kVectorBytes) {
    std::int64_t i = 0;
    for (; i + kVectorBytes <= bytes; i += kVectorBytes) copy_word<Vec<std::uint64_t>>(from + i, to + i);
    if (i < bytes) copy_word<Vec<std::uint64_t>>(from + bytes - kVectorBytes, to + bytes - kVectorBytes);
  } else if (bytes > 16) {
    for (std::int64_t i = 0; i + 16 <= bytes; i += 16) copy_word<Pair>(from + i, to + i);
    copy_word<Pair>(from + bytes - 16, to + bytes - 16);
  } else if (bytes >= 8) {
    copy_ends<std::uint64_t>(from, bytes, to);
  } else if (bytes >= 4) {
    copy_ends<std::uint32_t>(from, bytes, to);
  } else if (bytes >= 2) {
    copy_ends<std::uint16_t>(from, bytes, to);
  } else if (bytes == 1) {
    *to = *from;
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
