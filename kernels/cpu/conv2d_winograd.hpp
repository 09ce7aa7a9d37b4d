// The transforms of Winograd's minimal filtering F(M x M, 3 x 3), on vectors of channels or filters: along one axis,
// y = At [(G g) * (Bt d)] computes M outputs of a 3-tap filter from M + 2 inputs with M + 2 products in place of 3 M.
//
// F(2): the usual points 0, 1, -1 and infinity. F(4): 0, +-3/4, +-3/2 and infinity. With the textbook's 0, +-1, +-2
// the largest error of a float32 layer is 2 to 3e-6 of its largest output, with these it is 1e-6 (a direct sum:
// 2e-7): the powers of the points stay nearer to 1, and the constants that image and output are multiplied by are
// exact. Points in pairs +-p share their even and odd halves, which is all the arithmetic there is to save. Source:
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016; that the points decide the error:
// Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", TOMS 2020.
#pragma once
#include "simd.hpp"

namespace cvperf {
namespace CVPERF_ISA {

template <int M>
struct Winograd;

template <>
struct Winograd<2> {
  static constexpr int kTile = 4;
  // G, rows by point: evaluation of the filter, divided by the products of differences of the points.
  static constexpr float kFilter[kTile][3] = {{-1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};

  static CVPERF_INLINE void input(const Vec<float> (&d)[kTile], Vec<float> (&v)[kTile]) {
    v[0] = d[2] - d[0];
    v[1] = d[2] + d[1];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }
  static CVPERF_INLINE void output(const Vec<float> (&m)[kTile], Vec<float> (&y)[2]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
};

template <>
struct Winograd<4> {
  static constexpr int kTile = 6;
  static constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b;
  // Of +-a: 2 a^2 (a^2 - b^2); of +-b: 2 b^2 (b^2 - a^2); of 0: a^2 b^2.
  static constexpr float fa = 1 / (2 * a2 * (a2 - b2)), fb = 1 / (2 * b2 * (b2 - a2));
  static constexpr float kFilter[kTile][3] = {{1 / (a2 * b2), 0, 0}, {fa, fa * a, fa * a2},  {fa, -fa * a, fa * a2},
                                              {fb, fb * b, fb * b2}, {fb, -fb * b, fb * b2}, {0, 0, 1}};

  static CVPERF_INLINE void input(const Vec<float> (&d)[kTile], Vec<float> (&v)[kTile]) {
    const Vec<float> even_a = d[4] - d[2] * b2, odd_a = d[3] - d[1] * b2;
    const Vec<float> even_b = d[4] - d[2] * a2, odd_b = d[3] - d[1] * a2;
    v[0] = even_b - (d[2] - d[0] * a2) * b2;
    v[1] = even_a + odd_a * a;
    v[2] = even_a - odd_a * a;
    v[3] = even_b + odd_b * b;
    v[4] = even_b - odd_b * b;
    v[5] = d[5] - d[3] * b2 - odd_a * a2;
  }
  static CVPERF_INLINE void output(const Vec<float> (&m)[kTile], Vec<float> (&y)[4]) {
    const Vec<float> even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = odd_a * a + odd_b * b;
    y[2] = even_a * a2 + even_b * b2;
    y[3] = m[5] + odd_a * (a2 * a) + odd_b * (b2 * b);
  }
  // The transposes, for the gradient of the filter: A y, and Gt u.
  static CVPERF_INLINE void output_grad(const Vec<float> (&y)[4], Vec<float> (&u)[kTile]) {
    const Vec<float> even_a = y[0] + y[2] * a2, odd_a = y[1] * a + y[3] * (a2 * a);
    const Vec<float> even_b = y[0] + y[2] * b2, odd_b = y[1] * b + y[3] * (b2 * b);
    u[0] = y[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = y[3];
  }
  static CVPERF_INLINE void filter_grad(const Vec<float> (&u)[kTile], Vec<float> (&g)[3]) {
    const Vec<float> even_a = (u[1] + u[2]) * fa, odd_a = (u[1] - u[2]) * fa;
    const Vec<float> even_b = (u[3] + u[4]) * fb, odd_b = (u[3] - u[4]) * fb;
    g[0] = u[0] * (1 / (a2 * b2)) + even_a + even_b;
    g[1] = odd_a * a + odd_b * b;
    g[2] = even_a * a2 + even_b * b2 + u[5];
  }
};

}  // namespace CVPERF_ISA
}  // namespace cvperf
