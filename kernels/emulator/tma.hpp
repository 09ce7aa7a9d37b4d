// Tensor copies (cp.async.bulk.tensor): tiles of a tensor of up to five dimensions, and pixels of an image for a
// convolution (im2col). A tensor map describes the tensor; cvperf/backends/cuda/tensor_map.py writes ours.
#pragma once
#include "proxy.hpp"

namespace gpu {
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};
}  // namespace gpu

namespace gpu {

inline void prefetch(const TensorMap&) {}

#define EMULATOR_TILES(...)                                                                         \
  void tile_load(void* shared, const TensorMap& map, Barrier* barrier, __VA_ARGS__, EMULATOR_HERE); \
  void tile_store(const TensorMap& map, const void* shared, __VA_ARGS__, EMULATOR_HERE);
EMULATOR_TILES(int c0, int c1)
EMULATOR_TILES(int c0, int c1, int c2)
EMULATOR_TILES(int c0, int c1, int c2, int c3)
EMULATOR_TILES(int c0, int c1, int c2, int c3, int c4)
#undef EMULATOR_TILES

void im2col_load(void* shared, const TensorMap& map, Barrier* barrier, int c, int w, int h, int n, int right, int down,
                 EMULATOR_HERE);

inline void bulk_commit() { emulator::commit(emulator::block.running->stores); }
// Of the stores of this thread, all but the latest N groups have read shared memory (have been written).
template <int N>
void bulk_wait_read() {
  emulator::wait_for(emulator::block.running->stores, N);
}
template <int N>
void bulk_wait() {
  emulator::wait_for(emulator::block.running->stores, N);
}

}  // namespace gpu
