// Shared memory of a block: poisoned before it runs, with canaries around every array; and cp.async.
#pragma once

#define SHARED(T, name, dims)                          \
  using name##_shared_type = T dims;                   \
  static char name##_shared_key;                       \
  auto& name = *reinterpret_cast<name##_shared_type*>( \
      emulator::shared_array(&name##_shared_key, sizeof(name##_shared_type), 128, #name))
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared())

namespace emulator {

constexpr std::size_t kArenaBytes = 512 << 10, kMostShared = 227 << 10, kCanaryBytes = 64;
constexpr unsigned char kPoison = 0xff;  // -1, or NaN

inline void clear_shared_memory() {
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

// The array with this key; its first user in a block makes it.
inline void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name) {
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

inline void* dynamic_shared() {
  return block.dynamic_bytes ? shared_array(&block.dynamic_bytes, block.dynamic_bytes, 1024, "dynamic shared memory")
                             : nullptr;
}

inline void check_canaries() {
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

// --- cp.async: lands at once, or when its group is waited for ---------------------------------------

inline void land(const Copy& copy) {
  if (copy.global) {
    std::memcpy(copy.shared, copy.global, copy.bytes);
  } else {
    std::memset(copy.shared, 0, copy.bytes);
  }
}

inline void queue_copy(void* shared, const void* global, int bytes) {
  const Copy copy{shared, global, bytes, block.running->groups};
  if (!block.schedule.late_copies) return land(copy);
  const Unwatched emulator;
  block.running->copies.push_back(copy);
}

inline void wait_for_copies(int newest) {
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

namespace gpu {

template <int BYTES>
void copy_async(void* shared, const void* global, bool valid, EMULATOR_HERE) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  const auto misplaced = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % BYTES != 0; };
  if (misplaced(shared) || (valid && misplaced(global))) {
    emulator::fail("copy_async: an address is no multiple of " + std::to_string(BYTES), place);
  }
  emulator::queue_copy(shared, valid ? global : nullptr, BYTES);
}
inline void copy_async_commit() {
  const emulator::Unwatched emulator;
  ++emulator::block.running->groups;
}
template <int N>
void copy_async_wait() {
  emulator::wait_for_copies(N);
}

inline uint4 load16(const void* p, EMULATOR_HERE) {
  if (reinterpret_cast<std::uintptr_t>(p) % 16) emulator::fail("load16: the address is no multiple of 16", place);
  return *static_cast<const uint4*>(p);
}
inline void store16(void* p, uint4 value, EMULATOR_HERE) {
  if (reinterpret_cast<std::uintptr_t>(p) % 16) emulator::fail("store16: the address is no multiple of 16", place);
  *static_cast<uint4*>(p) = value;
}

inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(static_cast<const char*>(p) - emulator::block.arena);
}

inline void barrier_sync(int id, int threads, EMULATOR_HERE) { emulator::named_barrier(id, threads, place); }

}  // namespace gpu
