#include "shared_memory.hpp"

#include <algorithm>
#include <cstring>

namespace emulator {

void clear_shared_memory() {
  if (!block.arena) block.arena = map_memory(kArenaBytes);
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(block.arena, kArenaBytes);
#endif
  std::memset(block.arena, kPoison, std::max(block.arena_used + kCanaryBytes, std::size_t(48) << 10));
#if EMULATOR_ASAN
  __asan_poison_memory_region(block.arena, kArenaBytes);
#endif
  block.arrays.clear();
  block.arena_used = 0;
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name) {
  const Unwatched emulator;
  for (const SharedArray& array : block.arrays) {
    if (array.key == key) return array.data;
  }
  const std::size_t start = (block.arena_used + kCanaryBytes + alignment - 1) / alignment * alignment;
  std::size_t total = bytes;
  for (const SharedArray& array : block.arrays) total += array.bytes;
  if (total > kMostShared) fail("more than 227 KiB of shared memory with " + std::string(name));
  char* const data = block.arena + start;
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
  std::memset(data, kPoison, bytes);
  block.arena_used = start + bytes;
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(data + bytes, kCanaryBytes);
#endif
  std::memset(data + bytes, kPoison, kCanaryBytes);
#if EMULATOR_ASAN
  __asan_poison_memory_region(data + bytes, kCanaryBytes);
#endif
  block.arrays.push_back({key, data, bytes, name});
  return data;
}

void* dynamic_shared() {
  return block.dynamic_bytes ? shared_array(&block.dynamic_bytes, block.dynamic_bytes, 1024, "dynamic shared memory")
                             : nullptr;
}

void check_canaries() {
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(block.arena, kArenaBytes);
#endif
  for (const SharedArray& array : block.arrays) {
    for (std::size_t i = 0; i < kCanaryBytes; ++i) {
      const auto after = static_cast<unsigned char>(array.data[array.bytes + i]);
      const auto before = static_cast<unsigned char>(array.data[-1 - std::ptrdiff_t(i)]);
      if (before != kPoison || after != kPoison) fail("write beside the shared array " + std::string(array.name));
    }
  }
}

static void land(const Copy& copy) {
  if (copy.global) {
    std::memcpy(copy.shared, copy.global, copy.bytes);
  } else {
    std::memset(copy.shared, 0, copy.bytes);
  }
}

void queue_copy(void* shared, const void* global, int bytes) {
  const Copy copy{shared, global, bytes, block.running->groups};
  if (!block.schedule.late_copies) return land(copy);
  const Unwatched emulator;
  block.running->copies.push_back(copy);
}

void wait_for_copies(int newest) {
  Thread& me = *block.running;
  std::size_t landed = 0;
  for (const Copy& copy : me.copies) {
    if (copy.group >= me.groups - newest) break;
    land(copy);
    ++landed;
  }
  const Unwatched emulator;
  me.copies.erase(me.copies.begin(), me.copies.begin() + landed);
}

}  // namespace emulator
