// The order of boxes for NMS: by score, and where there are many by place.
//
// Up to some 16,000 boxes `nms_ranks` counts: a box's rank is the number of boxes before it. That takes 2 N * N
// comparisons of integers, two instructions each, but one launch for all of it: the keys, both orders and the boxes
// laid out by rank. At 10,000 boxes they take 15 us (4e8 / 32 instructions at 844e9 a second), where two radix sorts of
// torch are some ten launches each. Beyond, torch.sort orders keys of `nms_score_keys`, and `nms_place` lays out the
// boxes and gives the keys of the other order.
//
// Scores are compared as integers: on a GPU torch's order of -0 and of NaN depends on how many boxes there are.
#include "nms.cuh"

namespace gpu {

// How many of ITEMS keys come before key `own` of item `item`: those that are higher, and of equal ones those that
// stand before it. `side`: the keys stand before its tile (-1), are its tile (0), or stand after it (1). `narrow`: no
// key is negative. Then the sign of a difference tells which is higher: two instructions, on two pipes, for three.
template <int ITEMS>
__device__ __forceinline__ int count_before(const int* keys, int own, int item, int side, bool narrow) {
  int found = 0;
  if (side == 0) {
#pragma unroll 4
    for (int j = 0; j < ITEMS; ++j) found += keys[j] > own - (j < item ? 1 : 0);
    return found;
  }
  const int bound = side < 0 ? own - 1 : own;
  if (narrow) {
#pragma unroll 4
    for (int j = 0; j < ITEMS; j += 4) {
      const int4 four = *reinterpret_cast<const int4*>(keys + j);
      found += static_cast<unsigned>(bound - four.x) >> 31;
      found += static_cast<unsigned>(bound - four.y) >> 31;
      found += static_cast<unsigned>(bound - four.z) >> 31;
      found += static_cast<unsigned>(bound - four.w) >> 31;
    }
    return found;
  }
#pragma unroll 4
  for (int j = 0; j < ITEMS; j += 4) {
    const int4 four = *reinterpret_cast<const int4*>(keys + j);
    found += (four.x > bound) + (four.y > bound) + (four.z > bound) + (four.w > bound);
  }
  return found;
}

}  // namespace gpu

// One block: ITEMS boxes, each counted for by THREADS / ITEMS threads, which take turns at tiles of ITEMS keys.
// by_place[image, i], if given: the ranks of the boxes in the order of their places.
template <class T, int ITEMS, int THREADS>
__global__ void __launch_bounds__(THREADS)
    nms_ranks(const T* __restrict__ boxes, const T* __restrict__ scores, const long long* __restrict__ labels,
              unsigned char* memory, int* by_place, int stride, int count, int pitch, float threshold, float share) {
  SHARED(int, keys, [2][THREADS]);
  SHARED(int, counts, [2][THREADS]);
  const int image = blockIdx.y, item = threadIdx.x % ITEMS, slice = threadIdx.x / ITEMS;
  const gpu::Space space(memory, stride, pitch, image);
  const gpu::Threshold limits{threshold, share};
  boxes += static_cast<long long>(image) * count * 4;
  scores += static_cast<long long>(image) * count;
  const int i = blockIdx.x * ITEMS + item;
  const gpu::Box mine = i < count ? gpu::load_box(boxes + 4 * i, limits) : gpu::no_box();
  const int by_score = i < count ? gpu::score_key(gpu::to_float(scores[i])) : 0;
  const int its_place = by_place ? gpu::place_key(mine) : 0;
  const bool own_narrow = __all_sync(0xFFFFFFFFu, by_score >= 0);
  int rank = 0, place = 0;
  for (int begin = 0; begin < count; begin += THREADS) {
    const int j = begin + threadIdx.x, least = -0x7FFFFFFF - 1;  // comes before nothing
    const int score = j < count ? gpu::score_key(gpu::to_float(scores[j])) : least;
    __syncthreads();
    keys[0][threadIdx.x] = score;
    if (by_place) keys[1][threadIdx.x] = j < count ? gpu::place_key(gpu::load_box(boxes + 4 * j, limits)) : least;
    const bool narrow = !__syncthreads_or(score < 0) && own_narrow;
    const int tile = begin / ITEMS + slice, side = tile - static_cast<int>(blockIdx.x);
    rank += gpu::count_before<ITEMS>(keys[0] + slice * ITEMS, by_score, item, side, narrow);
    if (by_place) place += gpu::count_before<ITEMS>(keys[1] + slice * ITEMS, its_place, item, side, narrow);
  }
  counts[0][threadIdx.x] = rank;
  counts[1][threadIdx.x] = place;
  __syncthreads();
  if (slice == 0 && i < count) {
    for (int other = item + ITEMS; other < THREADS; other += ITEMS) {
      rank += counts[0][other];
      place += counts[1][other];
    }
    space.place(rank, i, mine);
    if (labels) space.labels[rank] = labels[i];
    if (by_place) by_place[static_cast<long long>(image) * count + place] = rank;
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) space.start();
}

// keys[image, i] of scores[image, i].
template <int THREADS>
__global__ void __launch_bounds__(THREADS) nms_score_keys(const float* __restrict__ scores, int* keys, int count) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  const long long begin = static_cast<long long>(blockIdx.y) * count;
  if (i < count) keys[begin + i] = gpu::score_key(scores[begin + i]);
}

// The boxes laid out in `order`, int64 as torch.sort gives it, and the keys of their places by rank, if wanted.
template <int THREADS>
__global__ void __launch_bounds__(THREADS)
    nms_place(const float* __restrict__ boxes, const long long* __restrict__ labels,
              const long long* __restrict__ order, unsigned char* memory, int* place_keys, int stride, int count,
              int pitch, float threshold, float share) {
  const int image = blockIdx.y, rank = blockIdx.x * THREADS + threadIdx.x;
  const gpu::Space space(memory, stride, pitch, image);
  const long long begin = static_cast<long long>(image) * count;
  if (rank < count) {
    const int number = static_cast<int>(order[begin + rank]);
    const gpu::Box box = gpu::load_box(boxes + 4 * (begin + number), gpu::Threshold{threshold, share});
    space.place(rank, number, box);
    if (labels) space.labels[rank] = labels[number];
    if (place_keys) place_keys[begin + rank] = gpu::place_key(box);
  }
  if (rank == 0) space.start();
}
