// The main loop of a matrix product on tensor cores: sums[BM, BN] over K of a[BM, K] times b[BN, K].
//
// A tile of K (a "step") of both factors waits in one of STAGES places of shared memory. While a step is multiplied,
// the copies of the next STAGES - 1 are under way (cp.async), and the fragments of the next 32 bytes of K are read
// (ldmatrix) while those at hand are multiplied (mma.sync), across the border of steps as well; one barrier a step.
//
// How to use it (kernels/cuda/int8_gemm.cu is the model):
//
//   using Tile = gpu::Product<signed char, signed char, 128, 128, 64, 2, 2, 4>;   // 2 x 2 warps of 64 x 64, 4 stages
//   __global__ void __launch_bounds__(Tile::THREADS, 1) kernel(...) {     // without the 1, ptxas may spill
//     DYNAMIC_SHARED(unsigned char, shared);          // Tile::SHARED_BYTES of it
//     gpu::Rows<signed char, 128, 64, Tile::THREADS> load_a(a, stride, m0, M, K), load_b(b, stride, n0, N, K);
//     Tile product;                                   // all sums are 0
//     product.run(shared, load_a, load_b, 0, steps);
//     product.finish(shared, m0, n0, epilogue);       // kernels/cuda/epilogue.cuh
//   }
//
// A loader is a functor `void operator()(unsigned char* tile, int step)`. All THREADS threads call it once for each
// step from `first` to `last - 1`, in this order, so it may keep pointers that it moves along. Its threads together
// fill the tile of that step by gpu::copy_async (what lies outside a matrix is filled with zeros, `valid` false) or by
// ordinary stores; never commit or wait in it. The tile of a factor is
//   [BM or BN rows][BK elements]  where K runs fastest in memory (the ordinary case);
//   [BK rows][BM or BN elements]  where it does not (A_TURNED, B_TURNED; 16-bit elements only): ldmatrix turns it;
// as rows of 16-byte chunks, chunk c of row r at byte gpu::swizzled<bytes of a row>(r, c). Copies and ldmatrix are then
// free of bank conflicts. `Rows` is the loader of a matrix; a convolution computes its addresses (im2col) in its own.
//
// What holds: the sum over K is in order of K, so the same call gives the same bits; 8-bit sums are exact int32. K of a
// tile is BK elements, 64 bytes or a larger power of two; a warp has 16 x 16 or a larger power of two of the tile.
// run() ends with no copy under way and shared memory free; it may be called again, and sums go on from where they
// were. After finish() shared memory is free behind a barrier.
#pragma once
#include "device.cuh"

namespace gpu {

/// Byte at which 16-byte chunk `chunk` of row `row` lies in a tile: any eight rows that ldmatrix reads, and any eight
/// chunks of a row, lie in different banks.
template <int ROW_BYTES>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  constexpr int CHUNKS = ROW_BYTES / 16, ROWS = ROW_BYTES < 128 ? 128 / ROW_BYTES : 1;  // rows in 128 bytes
  static_assert(ROW_BYTES >= 32 && (ROW_BYTES & (ROW_BYTES - 1)) == 0, "rows of a tile are 32, 64, 128, ... bytes");
  return row * ROW_BYTES + (chunk ^ (row / ROWS & ((CHUNKS < 8 ? CHUNKS : 8) - 1))) * 16;
}

/// What a product of this element type is summed in: int, or float.
template <class T>
struct SumOf {
  using type = int;
};
template <>
struct SumOf<__half> {
  using type = float;
};
template <>
struct SumOf<__nv_bfloat16> {
  using type = float;
};

/// Loader of rows first_row to first_row + ROWS of a matrix[rows, K], K fastest; what lies outside is zero.
///
/// K and the stride (elements from row to row) are multiples of 16 bytes, and so is the matrix' address.
template <class T, int ROWS, int BK, int THREADS>
struct Rows {
  static constexpr int ROW_BYTES = BK * sizeof(T), CHUNKS = ROW_BYTES / 16, PASS = THREADS / CHUNKS;
  static_assert(THREADS % CHUNKS == 0, "the threads must divide the rows");

  const T* at;     // this thread's chunk of its first row, at step 0
  long long pass;  // elements from one of its rows to the next
  int row, left;   // its first row in the tile; rows of the matrix from first_row on
  int chunk, k;    // its first element of K at step 0; K

  __device__ __forceinline__ Rows(const T* matrix, long long stride, int first_row, int rows, int K)
      : pass(PASS * stride), row(threadIdx.x / CHUNKS), left(rows - first_row), k(K) {
    const int column = threadIdx.x % CHUNKS;
    chunk = column * (16 / static_cast<int>(sizeof(T)));
    at = matrix + (first_row + row) * stride + chunk;
  }

  __device__ __forceinline__ void operator()(unsigned char* tile, int step) const {
    const T* from = at + static_cast<long long>(step) * BK;
    const bool inside = step * BK + chunk < k;
    const int column = threadIdx.x % CHUNKS, first = swizzled<ROW_BYTES>(row, column);
#pragma unroll
    for (int i = 0; i < (ROWS + PASS - 1) / PASS; ++i) {
      if (ROWS % PASS == 0 || row + i * PASS < ROWS)
        copy_async<16>(tile + (PASS % 8 == 0 ? first + i * PASS * ROW_BYTES  // turned as the first
                                             : swizzled<ROW_BYTES>(row + i * PASS, column)),
                       from + i * pass, inside && row + i * PASS < left);
    }
  }
};

/// A block's tile of the product, and its part of the sums in this thread's registers. See the top of the file.
template <class A, class B, int BM_, int BN_, int BK_, int WARPS_M, int WARPS_N, int STAGES, bool A_TURNED = false,
          bool B_TURNED = false>
struct Product {
  using Sum = typename SumOf<A>::type;
  static constexpr int BM = BM_, BN = BN_, BK = BK_;
  static constexpr int WARPS = WARPS_M * WARPS_N, THREADS = 32 * WARPS;
  static constexpr int A_BYTES = BM * BK * sizeof(A), B_BYTES = BN * BK * sizeof(B);
  static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
  static constexpr int WM = BM / WARPS_M, WN = BN / WARPS_N;  // a warp's part of the tile
  static constexpr int TM = WM / 16, TN = WN / 8;             // mma.sync multiplies 16 x 8
  static constexpr int DEPTH = BK * sizeof(A) / 32;           // by 32 bytes of K
  // A finished tile passes through shared memory in TM slabs, each of 16 rows from each row of warps: two places.
  static constexpr int SLAB_ROWS = 16 * WARPS_M, SLAB_STRIDE = BN + 8;  // in words; 8 more: no bank conflicts
  static constexpr int SLAB = SLAB_ROWS * SLAB_STRIDE;
  static constexpr int SLABS = TM > 1 ? 2 : 1;
  static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > SLABS * SLAB * 4 ? STAGES * STAGE_BYTES : SLABS * SLAB * 4;

  static_assert(sizeof(A) == sizeof(B) && STAGES >= 2 && DEPTH >= 2 && DEPTH % 2 == 0, "BK is 64 bytes or more");
  static_assert(WM % 16 == 0 && WN % 16 == 0, "a warp has 16 x 16 or more of the tile");
  static_assert((WM & (WM - 1)) == 0 && (WN & (WN - 1)) == 0, "a warp's part is a power of two");
  static_assert(sizeof(A) == 2 || !(A_TURNED || B_TURNED), "ldmatrix turns 16-bit elements only");

  Sum sums[TM][TN][4];

  __device__ __forceinline__ Product() {
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
  }

  /// Add the products of steps `first` to `last` - 1 of K to the sums. All threads of the block.
  template <class LoadA, class LoadB>
  __device__ __forceinline__ void run(unsigned char* shared, LoadA& load_a, LoadB& load_b, int first, int last) {
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage)
      fetch(shared + stage * STAGE_BYTES, load_a, load_b, first + stage, last);
    copy_async_wait<STAGES - 2>();
    __syncthreads();
    Fragments fragments[2];
    const int lane_a = offset<A_TURNED, BM, WM>(threadIdx.x / 32 / WARPS_N, threadIdx.x % 16, threadIdx.x % 32 / 16);
    // The four matrices that ldmatrix reads of b differ first in K, those of a first in rows.
    const int lane_b = offset<B_TURNED, BN, WN>(threadIdx.x / 32 % WARPS_N, threadIdx.x % 8 + threadIdx.x % 32 / 16 * 8,
                                                threadIdx.x / 8 % 2);
    read(fragments[0], shared, lane_a, lane_b, 0);
    int reading = 0, writing = STAGES - 1;  // places of this step, and of the step that is fetched during it
    for (int step = first; step < last; ++step) {
#pragma unroll
      for (int depth = 0; depth < DEPTH; ++depth) {
        if (depth + 1 < DEPTH) {
          read(fragments[(depth + 1) % 2], shared + reading * STAGE_BYTES, lane_a, lane_b, depth + 1);
        } else {
          reading = reading + 1 == STAGES ? 0 : reading + 1;
          copy_async_wait<STAGES - 2>();  // the next step's copies of this thread have landed,
          __syncthreads();                // and everyone's; and all have read this step: its place is free
          read(fragments[0], shared + reading * STAGE_BYTES, lane_a, lane_b, 0);
        }
        if (depth == 0) {
          fetch(shared + writing * STAGE_BYTES, load_a, load_b, step + STAGES - 1, last);
          writing = writing + 1 == STAGES ? 0 : writing + 1;
        }
        multiply(fragments[depth % 2]);
      }
    }
    __syncthreads();  // the last fragments were read in vain, from where the caller may write now
  }

  /// Hand the sums to an epilogue, each thread 4 or 8 neighbours in a row of the tile at a time.
  ///
  /// `epilogue.narrow()` says whether 4 (V below) or 8, the same for the whole block. Then for rows and columns of the
  /// output, m0 and n0 added: `epilogue.template columns<V>(column)` is called once a thread and returns what it wants
  /// to keep of its columns, and `epilogue.template store<V>(row, column, kept, sums)`, with `Sum (&sums)[V]`, for each
  /// of its rows. Rows and columns past the end of the matrix are handed over too: the epilogue leaves them out.
  template <class Epilogue>
  __device__ __forceinline__ void finish(unsigned char* shared, int m0, int n0, const Epilogue& epilogue) {
    if (epilogue.narrow())
      finish_by<4>(reinterpret_cast<Sum*>(shared), m0, n0, epilogue);
    else
      finish_by<8>(reinterpret_cast<Sum*>(shared), m0, n0, epilogue);
  }

  /// Call f(row, column, x, y) for this thread's sums in pairs: of the tile, of columns `column` (even) and the next.
  template <class F>
  __device__ __forceinline__ void each_pair(F f) const {
    const int row = threadIdx.x / 32 / WARPS_N * WM + threadIdx.x % 32 / 4;
    const int column = threadIdx.x / 32 % WARPS_N * WN + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          f(row + i * 16 + half * 8, column + j * 8, sums[i][j][2 * half], sums[i][j][2 * half + 1]);
  }

 private:
  struct Fragments {
    unsigned a[TM][4], b[TN / 2][4];
  };

  template <class LoadA, class LoadB>
  __device__ __forceinline__ static void fetch(unsigned char* stage, LoadA& load_a, LoadB& load_b, int step, int last) {
    if (step < last) {
      load_a(stage, step);
      load_b(stage + A_BYTES, step);
    }
    copy_async_commit();  // also of nothing: the waits count groups
  }

  /// Byte that this lane gives to ldmatrix for the first fragment of its warp: row `row` of it, half `half` of its K.
  template <bool TURNED, int SIZE, int PART>
  __device__ __forceinline__ static int offset(int warp, int row, int half) {
    if constexpr (TURNED) {  // rows of the tile are K
      return swizzled<SIZE * 2>(half * 8 + row % 8, warp * (PART / 8) + row / 8);
    } else {
      return swizzled<BK * sizeof(A)>(warp * PART + row, half);
    }
  }

  /// The same for fragment i and for 32 bytes of K number `depth`: both are powers of two, and so turn as the first.
  template <bool TURNED, int SIZE>
  __device__ __forceinline__ static int moved(int lane, int i, int depth) {
    if constexpr (TURNED) {
      return (lane ^ i * 32) + depth * 16 * SIZE * 2;
    } else {
      return (lane ^ depth * 32) + i * 16 * BK * static_cast<int>(sizeof(A));
    }
  }

  __device__ __forceinline__ static void read(Fragments& to, const unsigned char* stage, int lane_a, int lane_b,
                                              int depth) {
#pragma unroll
    for (int i = 0; i < TM; ++i) ldmatrix<A_TURNED>(to.a[i], stage + moved<A_TURNED, BM>(lane_a, i, depth));
#pragma unroll
    for (int j = 0; j < TN / 2; ++j)
      ldmatrix<B_TURNED>(to.b[j], stage + A_BYTES + moved<B_TURNED, BN>(lane_b, j, depth));
  }

  template <bool TURNED>
  __device__ __forceinline__ static void ldmatrix(unsigned (&to)[4], const unsigned char* row) {
    if constexpr (TURNED) {
      ldmatrix_x4_transposed(to, row);
    } else {
      ldmatrix_x4(to, row);
    }
  }

  __device__ __forceinline__ void multiply(const Fragments& fragments) {
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j) {
        const unsigned b[2] = {fragments.b[j / 2][j % 2 * 2], fragments.b[j / 2][j % 2 * 2 + 1]};
        mma<A>(sums[i][j], fragments.a[i], b);
      }
  }

  template <int V, class Epilogue>
  __device__ __forceinline__ void finish_by(Sum* slabs, int m0, int n0, const Epilogue& epilogue) const {
    constexpr int ACROSS = BN / V, PASS = THREADS / ACROSS;  // threads side by side; rows of the slab at a time
    static_assert(THREADS % ACROSS == 0 && SLAB_ROWS % PASS == 0, "the threads must divide the slab");
    const int warp_row = threadIdx.x / 32 / WARPS_N, column = threadIdx.x % ACROSS * V;
    const int at =
        (warp_row * 16 + threadIdx.x % 32 / 4) * SLAB_STRIDE + threadIdx.x / 32 % WARPS_N * WN + threadIdx.x % 4 * 2;
    const auto kept = epilogue.template columns<V>(n0 + column);
#pragma unroll 1  // one copy of the epilogue's code
    for (int part = 0; part < TM; ++part) {
      Sum* slab = slabs + part % SLABS * SLAB;
#pragma unroll
      for (int i = 0; i < TM; ++i) {
        if (i != part) continue;  // registers have no index
#pragma unroll
        for (int j = 0; j < TN; ++j)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            put(slab + at + half * 8 * SLAB_STRIDE + j * 8, sums[i][j][2 * half], sums[i][j][2 * half + 1]);
      }
      __syncthreads();  // with two slabs, all have also finished the last but one
#pragma unroll 1
      for (int row = threadIdx.x / ACROSS; row < SLAB_ROWS; row += PASS) {
        Sum values[V];
#pragma unroll
        for (int v = 0; v < V; v += 4) take(values + v, slab + row * SLAB_STRIDE + column + v);
        epilogue.template store<V>(m0 + row / 16 * WM + part * 16 + row % 16, n0 + column, kept, values);
      }
    }
  }

  __device__ __forceinline__ static void put(int* to, int x, int y) { *reinterpret_cast<int2*>(to) = make_int2(x, y); }
  __device__ __forceinline__ static void put(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
  }
  __device__ __forceinline__ static void take(int* to, const int* from) {
    const int4 x = *reinterpret_cast<const int4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  }
  __device__ __forceinline__ static void take(float* to, const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  }
};

}  // namespace gpu
