// mma.sync and ldmatrix. Which lane holds which element of a fragment is in the PTX ISA, "Matrix Fragments for mma";
// tests/kernels/cuda/test_emulator.py checks it against Triton's LinearLayout as well.
#pragma once
#include "half.hpp"
#include "rendezvous.hpp"

namespace emulator {

template <class D>
struct Fragments {
  D* d;
  const unsigned *a, *b;
};

// Of a warp whose lanes brought Fragments: factors of type A, b of 8 bits always signed.
template <class A>
void multiply(const Lanes& lanes);
template <>
void multiply<signed char>(const Lanes& lanes);
template <>
void multiply<unsigned char>(const Lanes& lanes);
template <>
void multiply<__half>(const Lanes& lanes);
template <>
void multiply<__nv_bfloat16>(const Lanes& lanes);

// ldmatrix of `count` 8 x 8 matrices.
void load_matrices(const char* what, int count, bool transposed, unsigned* registers, const void* row, Place place);

}  // namespace emulator

namespace gpu {

template <class A>
void mma(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
  emulator::Fragments<int> mine{d, a, b};
  emulator::warp_operation("mma of 8 bits", 0xffffffffu, &mine, emulator::multiply<A>, place);
}
template <class A>
void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
  emulator::Fragments<float> mine{d, a, b};
  emulator::warp_operation("mma of 16 bits", 0xffffffffu, &mine, emulator::multiply<A>, place);
}

inline void ldmatrix_x4(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices("ldmatrix_x4", 4, false, r, row, place);
}
inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices("ldmatrix_x4_transposed", 4, true, r, row, place);
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* row, EMULATOR_HERE) {
  emulator::load_matrices("ldmatrix_x2", 2, false, r, row, place);
}
inline void ldmatrix_x2_transposed(unsigned (&r)[2], const void* row, EMULATOR_HERE) {
  emulator::load_matrices("ldmatrix_x2_transposed", 2, true, r, row, place);
}

}  // namespace gpu
