// mma.sync and ldmatrix. Which lane holds which element of a fragment is in the PTX ISA, "Matrix Fragments for mma";
// tests/kernels/cuda/test_emulator.py checks it against Triton's LinearLayout as well.
#pragma once

namespace emulator {

template <class D>
struct Fragments {
  D* d;
  const unsigned *a, *b;
};

// d[16, 8] += a[16, K] * b[K, 8]; a register holds PER consecutive elements of a row of a, or of a column of b.
template <class D, int K>
void multiply(const Lanes& lanes, D (*read_a)(unsigned word, int e), D (*read_b)(unsigned word, int e)) {
  constexpr int per = K / 8;
  D a[16][K], b[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = lanes.of<Fragments<D>>(lane);
    const int group = lane / 4, first = lane % 4 * per;
    for (int e = 0; e < per; ++e) {
      for (int r = 0; r < 4; ++r) a[group + r % 2 * 8][first + e + r / 2 * K / 2] = read_a(mine.a[r], e);
      for (int r = 0; r < 2; ++r) b[first + e + r * K / 2][group] = read_b(mine.b[r], e);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      D sum = lanes.of<Fragments<D>>(lane).d[i];
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
      lanes.of<Fragments<D>>(lane).d[i] = sum;
    }
  }
}

inline int read_signed(unsigned word, int e) { return static_cast<signed char>(word >> 8 * e); }
inline int read_unsigned(unsigned word, int e) { return static_cast<unsigned char>(word >> 8 * e); }
inline float read_half(unsigned word, int e) { return half_to_float(static_cast<std::uint16_t>(word >> 16 * e)); }
inline float read_bfloat(unsigned word, int e) { return bfloat_to_float(static_cast<std::uint16_t>(word >> 16 * e)); }

template <class A>
constexpr int (*read_integer)(unsigned, int) = read_signed;
template <>
constexpr int (*read_integer<unsigned char>)(unsigned, int) = read_unsigned;
template <class A>
constexpr float (*read_float)(unsigned, int) = read_half;
template <>
constexpr float (*read_float<__nv_bfloat16>)(unsigned, int) = read_bfloat;

struct Matrix {  // one lane's part in ldmatrix
  const char* row;
  const std::uint16_t* element[4][2];  // of each matrix, those that this lane gets
};

template <int COUNT, bool TRANSPOSED>
void load_matrices(const char* what, unsigned* registers, const void* row, Place place) {
  // Lanes that name no row may bring any address.
  if (block.running->lane() < 8 * COUNT && reinterpret_cast<std::uintptr_t>(row) % 16) {
    fail(std::string(what) + ": the address of a row is no multiple of 16", place);
  }
  Matrix mine{static_cast<const char*>(row), {}};
  const auto find = [](const Lanes& lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < COUNT; ++m) {
        for (int e = 0; e < 2; ++e) {
          const int across = lane / 4, along = lane % 4 * 2 + e;
          const int named = TRANSPOSED ? along : across, column = TRANSPOSED ? across : along;
          const char* const address = lanes.of<Matrix>(8 * m + named).row + 2 * column;
          lanes.of<Matrix>(lane).element[m][e] = reinterpret_cast<const std::uint16_t*>(address);
        }
      }
    }
  };
  warp_operation(what, 0xffffffffu, &mine, find, place);
  // Each lane reads for itself, so that the sanitizers see who read what.
  for (int m = 0; m < COUNT; ++m) registers[m] = *mine.element[m][0] | unsigned(*mine.element[m][1]) << 16;
}

}  // namespace emulator

namespace gpu {

template <class A>
void mma(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
  emulator::Fragments<int> mine{d, a, b};
  const auto multiply = [](const emulator::Lanes& lanes) {
    emulator::multiply<int, 32>(lanes, emulator::read_integer<A>, emulator::read_signed);
  };
  emulator::warp_operation("mma of 8 bits", 0xffffffffu, &mine, multiply, place);
}
template <class A>
void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
  emulator::Fragments<float> mine{d, a, b};
  const auto multiply = [](const emulator::Lanes& lanes) {
    emulator::multiply<float, 16>(lanes, emulator::read_float<A>, emulator::read_float<A>);
  };
  emulator::warp_operation("mma of 16 bits", 0xffffffffu, &mine, multiply, place);
}

inline void ldmatrix_x4(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices<4, false>("ldmatrix_x4", r, row, place);
}
inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices<4, true>("ldmatrix_x4_transposed", r, row, place);
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* row, EMULATOR_HERE) {
  emulator::load_matrices<2, false>("ldmatrix_x2", r, row, place);
}
inline void ldmatrix_x2_transposed(unsigned (&r)[2], const void* row, EMULATOR_HERE) {
  emulator::load_matrices<2, true>("ldmatrix_x2_transposed", r, row, place);
}

}  // namespace gpu
