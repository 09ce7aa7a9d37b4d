#include "tensor_cores.hpp"

namespace emulator {

// d[16, 8] += a[16, K] * b[K, 8]; a register holds PER consecutive elements of a row of a, or of a column of b.
template <class D, int K>
static void multiply_fragments(const Lanes& lanes, D (*read_a)(unsigned word, int e),
                               D (*read_b)(unsigned word, int e)) {
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

static int read_signed(unsigned word, int e) { return static_cast<signed char>(word >> 8 * e); }
static int read_unsigned(unsigned word, int e) { return static_cast<unsigned char>(word >> 8 * e); }
static float read_half(unsigned word, int e) { return half_to_float(static_cast<std::uint16_t>(word >> 16 * e)); }
static float read_bfloat(unsigned word, int e) { return bfloat_to_float(static_cast<std::uint16_t>(word >> 16 * e)); }

template <>
void multiply<signed char>(const Lanes& lanes) {
  multiply_fragments<int, 32>(lanes, read_signed, read_signed);
}
template <>
void multiply<unsigned char>(const Lanes& lanes) {
  multiply_fragments<int, 32>(lanes, read_unsigned, read_signed);
}
template <>
void multiply<__half>(const Lanes& lanes) {
  multiply_fragments<float, 16>(lanes, read_half, read_half);
}
template <>
void multiply<__nv_bfloat16>(const Lanes& lanes) {
  multiply_fragments<float, 16>(lanes, read_bfloat, read_bfloat);
}

struct Matrix {  // one lane's part in ldmatrix
  int count;
  bool transposed;
  const char* row;
  const std::uint16_t* element[4][2];  // of each matrix, those that this lane gets
};

static void find_elements(const Lanes& lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    Matrix& mine = lanes.of<Matrix>(lane);
    for (int m = 0; m < mine.count; ++m) {
      for (int e = 0; e < 2; ++e) {
        const int across = lane / 4, along = lane % 4 * 2 + e;
        const int named = mine.transposed ? along : across, column = mine.transposed ? across : along;
        const char* const address = lanes.of<Matrix>(8 * m + named).row + 2 * column;
        mine.element[m][e] = reinterpret_cast<const std::uint16_t*>(address);
      }
    }
  }
}

void load_matrices(const char* what, int count, bool transposed, unsigned* registers, const void* row, Place place) {
  // Lanes that name no row may bring any address.
  if (static_cast<int>(block.running->lane()) < 8 * count && reinterpret_cast<std::uintptr_t>(row) % 16) {
    fail(std::string(what) + ": the address of a row is no multiple of 16", place);
  }
  Matrix mine{count, transposed, static_cast<const char*>(row), {}};
  warp_operation(what, 0xffffffffu, &mine, find_elements, place);
  // Each lane reads for itself, so that the sanitizers see who read what.
  for (int m = 0; m < count; ++m) registers[m] = *mine.element[m][0] | unsigned(*mine.element[m][1]) << 16;
}

}  // namespace emulator
