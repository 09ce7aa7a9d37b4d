// Shared memory of a block: poisoned before it runs, with canaries around every array; and cp.async.
#pragma once
#include "rendezvous.hpp"

#define SHARED(T, name, dims)                          \
  using name##_shared_type = T dims;                   \
  static char name##_shared_key;                       \
  auto& name = *reinterpret_cast<name##_shared_type*>( \
      emulator::shared_array(&name##_shared_key, sizeof(name##_shared_type), 128, #name))
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared())

namespace emulator {

constexpr std::size_t kArenaBytes = 512 << 10, kMostShared = 227 << 10, kCanaryBytes = 64;
constexpr unsigned char kPoison = 0xff;  // -1, or NaN

void clear_shared_memory();
void check_canaries();
// The array with this key; its first user in a block makes it.
void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name);
void* dynamic_shared();

// cp.async: lands at once, or when its group is waited for.
void queue_copy(void* shared, const void* global, int bytes);
void wait_for_copies(int newest);

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
