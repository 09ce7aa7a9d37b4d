// Kernels that put mainloop.cuh and epilogue.cuh to use in every way that they offer; for test_mainloop.py.
#include "epilogue.cuh"
#include "mainloop.cuh"

/// Loader of a matrix[K, rows]: K does not run fastest. It moves its own pointer along.
template <class T, int ROWS, int BK, int THREADS>
struct Turned {
  const T* at;
  long long pitch;
  int left, K;

  __device__ Turned(const T* matrix, long long, int first_row, int rows, int K_)
      : at(matrix + first_row), pitch(rows), left(rows - first_row), K(K_) {}

  __device__ void operator()(unsigned char* tile, int step) {
    constexpr int CHUNKS = ROWS / 8;
    for (int i = threadIdx.x; i < BK * CHUNKS; i += THREADS) {
      const int k = i / CHUNKS, chunk = i % CHUNKS;
      const bool inside = step * BK + k < K && chunk * 8 < left;
      gpu::copy_async<16>(tile + gpu::swizzled<ROWS * 2>(k, chunk), at + k * pitch + chunk * 8, inside);
    }
    at += BK * pitch;
  }
};

template <bool TURNED, class T, int ROWS, int BK, int THREADS>
struct LoaderOf {
  using type = gpu::Rows<T, ROWS, BK, THREADS>;
};
template <class T, int ROWS, int BK, int THREADS>
struct LoaderOf<true, T, ROWS, BK, THREADS> {
  using type = Turned<T, ROWS, BK, THREADS>;
};

/// A loader by ordinary stores, one element at a time: K and addresses need not be multiples of anything.
template <class T, int ROWS, int BK, int THREADS>
struct Elements {
  const T* matrix;
  int rows, K;

  __device__ void operator()(unsigned char* tile, int step) const {
    for (int i = threadIdx.x; i < ROWS * BK; i += THREADS) {
      const int row = i / BK, column = i % BK, k = step * BK + column;
      const int chunk = column * static_cast<int>(sizeof(T)) / 16, rest = column % (16 / static_cast<int>(sizeof(T)));
      reinterpret_cast<T*>(tile + gpu::swizzled<BK * sizeof(T)>(row, chunk))[rest] =
          row < rows && k < K ? matrix[static_cast<long long>(row) * K + k] : T{};
    }
  }
};

/// out[M, N] of a[M, K] and b[N, K], or of a[K, M] where A_TURNED and b[K, N] where B_TURNED. The sum is taken in two
/// calls of run, and stored in pairs.
template <class T, int BM, int BN, int BK, int WARPS_M, int WARPS_N, int STAGES, bool A_TURNED, bool B_TURNED>
__global__ void halves(const T* a, const T* b, float* out, int M, int N, int K) {
  using Tile = gpu::Product<T, T, BM, BN, BK, WARPS_M, WARPS_N, STAGES, A_TURNED, B_TURNED>;
  DYNAMIC_SHARED(unsigned char, shared);
  const int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, steps = (K + BK - 1) / BK;
  typename LoaderOf<A_TURNED, T, BM, BK, Tile::THREADS>::type load_a(a, K, m0, M, K);
  typename LoaderOf<B_TURNED, T, BN, BK, Tile::THREADS>::type load_b(b, K, n0, N, K);
  Tile product;
  product.run(shared, load_a, load_b, 0, steps / 2);
  product.run(shared, load_a, load_b, steps / 2, steps);
  product.each_pair([&](int row, int column, float x, float y) {
    if (m0 + row >= M) return;
    float* at = out + static_cast<long long>(m0 + row) * N + n0 + column;
    if (n0 + column < N) at[0] = x;
    if (n0 + column + 1 < N) at[1] = y;
  });
}

/// Two tiles one after the other, of any K, through the epilogue: bias and residual of out's type (bias in float32 with
/// 8-bit out), activation.
template <class T>
__global__ void finished(const T* a, const T* b, void* out, int type, const void* bias, int bias_type,
                         const void* residual, int activation, float scale, float inverse_scale, int zero_out,
                         float scale_residual, int zero_residual, int M, int N, int K, long long stride) {
  constexpr int BM = 32, BN = 32, BK = 64 / sizeof(T);
  using Tile = gpu::Product<T, T, BM, BN, BK, 1, 2, 2>;
  DYNAMIC_SHARED(unsigned char, shared);
  for (int m0 = blockIdx.x * 2 * BM; m0 < M && m0 < static_cast<int>(blockIdx.x + 1) * 2 * BM; m0 += BM) {
    const int n0 = blockIdx.y * BN;
    Elements<T, BM, BK, Tile::THREADS> load_a{a + static_cast<long long>(m0) * K, M - m0, K};
    Elements<T, BN, BK, Tile::THREADS> load_b{b + static_cast<long long>(n0) * K, N - n0, K};
    Tile product;
    product.run(shared, load_a, load_b, 0, (K + BK - 1) / BK);
    gpu::Epilogue<typename Tile::Sum> epilogue{out, type, M, N, stride, bias, bias_type, residual, activation};
    epilogue.scale = scale;
    epilogue.inverse_scale = inverse_scale;
    epilogue.zero_out = zero_out;
    epilogue.scale_residual = scale_residual;
    epilogue.zero_residual = zero_residual;
    product.finish(shared, m0, n0, epilogue);
    __syncthreads();
  }
}

/// Bytes of `chunks` chunks in each of 8 * blocks rows of a tile.
template <int ROW_BYTES>
__global__ void places(int* out) {
  const int row = threadIdx.x, chunks = ROW_BYTES / 16;
  for (int chunk = 0; chunk < chunks; ++chunk) out[row * chunks + chunk] = gpu::swizzled<ROW_BYTES>(row, chunk);
}
