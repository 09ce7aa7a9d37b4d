// Greedy non-maximum suppression, all of it on the device: no host copy, no grid-wide sync.
//
// Idea: boxes lie in the order of their scores (nms_order.cu) and are settled in chunks. `nms_overlaps` finds which
// boxes of a chunk overlap too much, for all chunks in one launch: a bit a pair, 32 earlier boxes a word; the last of
// its blocks to end settles the first chunk. Then each `nms_suppress` compares the boxes that one chunk kept with those
// of all later chunks, and its last block settles the next chunk. So a call of up to a chunk of boxes is two launches,
// its order included, and each chunk more is one.
//
// One launch of one block, with everything in shared memory, would save 3 us for 1,000 boxes, but it would compare
// their 500,000 pairs on one multiprocessor at some 9 a clock: 33 us, where 132 of them take 1 us.
//
// Settling (gpu::settle): box i stays unless a box before it that stays overlaps it. Since it only looks back this has
// one solution, and iterating from "all stay" reaches it. A thread holds the words of one box in registers, against
// 1,024 boxes before it; a warp iterates over its 32 boxes by ballot until they agree, then all warps exchange their 32
// bits, until none changes. After k rounds the first k warps are right, so 33 rounds are the most, and three to six are
// usual.
//
// Pruning: the later boxes are taken by place, 32 neighbours of like size a tile, a tile a warp. The kept boxes are
// compared with the rectangle around the block's tiles, those that meet it with the rectangle around each tile, and
// only those that meet that with its boxes. Exact: let kept box k not meet rectangle R, say k.x1 >= R.x2. For a box b
// of R, min(b.x2, k.x2) <= b.x2 <= R.x2 <= k.x1 <= max(b.x1, k.x1), so the width of their intersection is 0 or less,
// the intersection 0 or (0 * infinity) NaN, and IoU 0 or NaN: not above a threshold >= 0. Below 0 nothing is pruned.
//
// Uniform boxes are compared with some 280 kept ones of other chunks each, whether there are 4,096 or 100,000 (counted
// by a model of the pruning in NumPy, tests/kernels/cuda/test_nms.py), where half of all would be 25,000 at 100,000
// boxes. Comparing the kept boxes with the blocks' rectangles is what still grows with N * N, at a 1,024th of the rate.
//
// Prediction for an H100 (cvperf/backends/cuda/nms_model.py; not yet run on hardware): 10 us for 1,000 boxes, two
// launches, bound by latency; 61 us for 10,000: 19 for the order, 7 for comparing pairs, 15 for settling them 1,024 at
// a time, and the rest the start of six launches; 0.48 ms for 100,000.
//
// A class is compared by its number, so boxes of different classes ignore each other at any coordinates.
//
// Source: the bit mask of torchvision's nms_kernel.cu; the rounds are the fixed-point view of a greedy independent set
// (Blelloch et al., "Greedy Sequential Maximal Independent Set and Matching are Parallel on Average", SPAA 2012).
#include "nms_settle.cuh"

namespace gpu {

// Row and column of a triangle (row <= column < size, size even) from the number of a pair: column c has c + 1 rows,
// and columns c and size - 1 - c together have size + 1.
__device__ __forceinline__ void pair_of(int number, int size, int& row, int& column) {
  const int low = number / (size + 1);
  column = size - 1 - low;
  row = number % (size + 1);
  if (row > column) {
    row -= column + 1;
    column = low;
  }
}

// The rectangle around two.
__device__ __forceinline__ float4 around(float4 a, float4 b) {
  return make_float4(fminf(a.x, b.x), fminf(a.y, b.y), fmaxf(a.z, b.z), fmaxf(a.w, b.w));
}

__device__ __forceinline__ float4 around_warp(float4 own) {
  for (int step = 16; step > 0; step /= 2) {
    const float4 other =
        make_float4(__shfl_xor_sync(EVERY_LANE, own.x, step), __shfl_xor_sync(EVERY_LANE, own.y, step),
                    __shfl_xor_sync(EVERY_LANE, own.z, step), __shfl_xor_sync(EVERY_LANE, own.w, step));
    own = around(own, other);
  }
  return own;
}

__device__ __forceinline__ bool meets(float4 box, float4 rectangle) {
  return box.x < rectangle.z && box.z > rectangle.x && box.y < rectangle.w && box.w > rectangle.y;
}

// Boxes in shared memory, by THREADS.
template <int THREADS, bool CLASSES>
struct Listed {
  float4* corners;
  float* below;
  long long* labels;  // null without CLASSES

  __device__ __forceinline__ Box box(int at) const { return {corners[at], below[at]}; }
  __device__ __forceinline__ void set(int at, const Box& box, long long label) const {
    corners[at] = box.corners;
    below[at] = box.below;
    if (CLASSES) labels[at] = label;
  }
};

template <int THREADS, bool CLASSES>
__device__ __forceinline__ Listed<THREADS, CLASSES> shared_list() {
  SHARED(float4, corners, [THREADS]);
  SHARED(float, below, [THREADS]);
  SHARED(long long, labels, [CLASSES ? THREADS : 1]);
  return {corners, below, labels};
}

// Which of the 32 boxes from `rows` on overlap `mine` too much, of those whose bit is set in `real`.
template <int THREADS, bool CLASSES>
__device__ __forceinline__ unsigned overlaps(const Listed<THREADS, CLASSES>& list, int rows, const Box& mine,
                                             long long label, unsigned real, Threshold threshold) {
  unsigned found = 0;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    bool may = may_suppress(list.box(rows + j), mine);
    if (CLASSES) may = may && list.labels[rows + j] == label;
    if (may) found |= 1u << j;
  }
  found &= real;
  for (unsigned left = found; left != 0; left &= left - 1) {
    const int j = __ffs(left) - 1;
    if (!suppresses(list.box(rows + j), mine, threshold)) found ^= 1u << j;
  }
  return found;
}

}  // namespace gpu

// words[image, w, i], bit b: box 32 w + b of i's chunk, before i, overlaps it too much. Words with no box before i stay
// unwritten. A warp takes 32 boxes i against 32 boxes, then the next such pair; blocks take turns, so that few pairs
// use all multiprocessors. Settles chunk 0.
template <int THREADS, bool CLASSES>
__global__ void __launch_bounds__(THREADS)
    nms_overlaps(unsigned char* memory, unsigned* words, long long* indices, long long* counts, int stride, int count,
                 int pitch, int chunk, int chunks, int limit, int padded_to, float threshold, float share) {
  const int image = blockIdx.y, lane = threadIdx.x % 32, own = threadIdx.x - lane;
  const gpu::Space space(memory, stride, pitch, image);
  const gpu::Threshold limits{threshold, share};
  const auto list = gpu::shared_list<THREADS, CLASSES>();
  const int groups = chunk / 32, pairs = groups * (groups + 1) / 2;
  words += static_cast<long long>(image) * groups * pitch;
  for (int task = threadIdx.x / 32 * gridDim.x + blockIdx.x; task < chunks * pairs; task += THREADS / 32 * gridDim.x) {
    int row, column;
    gpu::pair_of(task % pairs, groups, row, column);
    const int begin = task / pairs * chunk, earlier = begin + 32 * row + lane, i = begin + 32 * column + lane;
    if (i - lane >= count) continue;
    const bool exists = earlier < count, is_real = i < count;
    __syncwarp();
    list.set(threadIdx.x, exists ? space.box(earlier) : gpu::no_box(), CLASSES && exists ? space.labels[earlier] : 0);
    __syncwarp();
    const unsigned before = row < column ? gpu::EVERY_LANE : (1u << lane) - 1;
    const unsigned found = gpu::overlaps(list, own, is_real ? space.box(i) : gpu::no_box(),
                                         CLASSES && is_real ? space.labels[i] : 0, is_real ? before : 0, limits);
    words[static_cast<long long>(row) * pitch + i] = found;
  }
  if (gpu::last_to_arrive(space.arrivals, gridDim.x)) {
    const gpu::Sizes sizes{count, pitch, chunk, chunks, limit, padded_to};
    gpu::settle<THREADS>(space, words, sizes, 0, gpu::Answer(indices, counts, sizes, image));
  }
}

namespace gpu {

// Marks the boxes of later chunks that kept[first:last], of chunk `number`, suppress. A thread holds one of them, by
// place. Several may mark the same box; all write 1.
template <int THREADS, bool CLASSES>
__device__ void suppress(const Space& space, const int* by_place, int count, int after, int first, int last,
                         Threshold threshold) {
  constexpr int WARPS = THREADS / 32;
  SHARED(float4, rectangles, [WARPS]);
  SHARED(int, listed, [2]);
  const auto list = shared_list<THREADS, CLASSES>();
  const int lane = threadIdx.x % 32, at = blockIdx.x * THREADS + threadIdx.x;
  const int rank = at >= count ? -1 : by_place ? by_place[at] : at;
  bool open = rank >= after && space.removed[rank] == 0;
  const Box mine = open ? space.box(rank) : no_box();
  const long long label = CLASSES && open ? space.labels[rank] : 0;
  open = open && !mine.inert();
  const bool was_open = open;
  const float4 nothing = make_float4(infinity(), infinity(), -infinity(), -infinity());
  const float4 tile = around_warp(open ? mine.corners : nothing);
  if (lane == 0) rectangles[threadIdx.x / 32] = tile;
  if (threadIdx.x == 0) listed[0] = 0;
  if (!__syncthreads_or(open)) return;
  const float4 block = around_warp(lane < WARPS ? rectangles[lane] : nothing);

  int turn = 0;
  for (int begin = first; begin < last; begin += THREADS, turn ^= 1) {
    const bool real = begin + static_cast<int>(threadIdx.x) < last;
    const int chosen = real ? space.kept[begin + threadIdx.x] : 0;
    const Box box = real ? space.box(chosen) : no_box();
    const bool near = real && (!threshold.prunes() || (!box.inert() && meets(box.corners, block)));
    const unsigned all = __ballot_sync(EVERY_LANE, near);
    int slot = 0;
    if (lane == 0 && all != 0) slot = atomicAdd(&listed[turn], __popc(all));  // their order does not matter
    slot = __shfl_sync(EVERY_LANE, slot, 0) + __popc(all & ((1u << lane) - 1));
    if (near) list.set(slot, box, CLASSES ? space.labels[chosen] : 0);
    __syncthreads();
    const int size = listed[turn];
    if (threadIdx.x == 0) listed[turn ^ 1] = 0;
    for (int base = 0; base < size && __any_sync(EVERY_LANE, open); base += 32) {
      const bool meeting = base + lane < size && (!threshold.prunes() || meets(list.corners[base + lane], tile));
      for (unsigned left = __ballot_sync(EVERY_LANE, meeting); left != 0; left &= left - 1) {
        const int other = base + __ffs(left) - 1;
        const bool comparable = open && (!CLASSES || list.labels[other] == label);
        if (comparable && may_suppress(list.box(other), mine)) open = !suppresses(list.box(other), mine, threshold);
      }
    }
    __syncthreads();
  }
  if (was_open && !open) space.removed[rank] = 1;
}

}  // namespace gpu

// What chunk `number` keeps suppresses; then chunk `number + 1` is settled. Grid: blocks of later boxes, parts of the
// kept ones, images. by_place[image, count]: ranks in the order of their places; null: the boxes as they lie.
template <int THREADS, bool CLASSES>
__global__ void __launch_bounds__(THREADS)
    nms_suppress(unsigned char* memory, const unsigned* words, const int* __restrict__ by_place, long long* indices,
                 long long* counts, int stride, int count, int pitch, int chunk, int chunks, int limit, int padded_to,
                 int number, float threshold, float share) {
  const int image = blockIdx.z;
  const gpu::Space space(memory, stride, pitch, image);
  const int begin = space.ends[number], end = space.ends[number + 1];
  const int part = (end - begin + static_cast<int>(gridDim.y) - 1) / static_cast<int>(gridDim.y);
  const int first = begin + static_cast<int>(blockIdx.y) * part, last = min(first + part, end);
  if (end < limit && first < last) {
    gpu::suppress<THREADS, CLASSES>(space, by_place ? by_place + static_cast<long long>(image) * count : nullptr, count,
                                    (number + 1) * chunk, first, last, gpu::Threshold{threshold, share});
  }
  if (gpu::last_to_arrive(space.arrivals, gridDim.x * gridDim.y)) {
    const gpu::Sizes sizes{count, pitch, chunk, chunks, limit, padded_to};
    gpu::settle<THREADS>(space, words + static_cast<long long>(image) * (chunk / 32) * pitch, sizes, number + 1,
                         gpu::Answer(indices, counts, sizes, image));
  }
}
