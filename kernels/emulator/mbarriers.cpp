#include "mbarriers.hpp"

namespace emulator {

// What the 8 bytes in shared memory hold: a kernel that writes over them is found out.
static std::uint64_t image(const Mbarrier& one) {
  return 0xba44e4ull << 40 ^ std::uint64_t(one.phase) << 32 ^ std::uint64_t(one.missing) << 24 ^
         std::uint64_t(one.bytes & 0xffffff);
}

static void show(const Mbarrier& one) {
  const std::uint64_t bits = image(one);
  std::memcpy(const_cast<void*>(one.address), &bits, sizeof bits);
}

Mbarrier& mbarrier(const void* address, const char* what, Place place) {
  for (Mbarrier& one : block.mbarriers) {
    if (one.address != address) continue;
    const std::uint64_t bits = image(one);
    if (std::memcmp(address, &bits, sizeof bits)) fail(std::string(what) + ": the barrier was written over", place);
    return one;
  }
  fail(std::string(what) + ": no barrier has been made here", place);
}

void end_phase_if_complete(Mbarrier& one) {
  if (one.missing == 0 && one.bytes == 0) {
    void* const token = one.tokens[one.phase % 2];
    ++one.phase;
    one.missing = one.arrivals;
    wake_watchers(one.address, token);
  }
  show(one);
}

constexpr long kMostBytes = (1 << 20) - 1;  // that a phase may wait for

static void arrive(const void* address, long bytes, const char* what, Place place) {
  void* token;
  {
    const Unwatched emulator;
    const Mbarrier& one = mbarrier(address, what, place);
    token = one.tokens[one.phase % 2];
  }
  release(token);
  const Unwatched emulator;
  Mbarrier& one = mbarrier(address, what, place);
  one.bytes += bytes;
  if (one.bytes > kMostBytes) fail(std::string(what) + ": a phase waits for at most 1,048,575 bytes", place);
  --one.missing;
  end_phase_if_complete(one);
}

}  // namespace emulator

namespace gpu {

void barrier_init(Barrier* at, int arrivals, emulator::Place place) {
  const emulator::Unwatched emulator;
  if (reinterpret_cast<std::uintptr_t>(at) % 8 || arrivals < 1 || arrivals >= 1 << 20) {
    emulator::fail("barrier_init: 1 to 1,048,575 arrivals, at a multiple of 8 bytes", place);
  }
  for (const emulator::Mbarrier& one : emulator::block.mbarriers) {
    if (one.address == at) emulator::fail("barrier_init: there is a barrier here already", place);
  }
  const unsigned count = arrivals;
  emulator::block.mbarriers.push_back(
      {at, count, count, 0, 0, emulator::block.running, false, {emulator::new_token(), emulator::new_token()}});
  emulator::show(emulator::block.mbarriers.back());
}

void fence_barrier_init() {
  const emulator::Unwatched emulator;
  for (emulator::Mbarrier& one : emulator::block.mbarriers) one.fenced |= one.owner == emulator::block.running;
}

void barrier_arrive(Barrier* at, emulator::Place place) { emulator::arrive(at, 0, "barrier_arrive", place); }

void barrier_arrive_expect(Barrier* at, unsigned bytes, emulator::Place place) {
  emulator::arrive(at, bytes, "barrier_arrive_expect", place);
}

void barrier_wait(Barrier* at, unsigned parity, emulator::Place place) {
  void* token = nullptr;
  const auto over = [&] {
    const emulator::Unwatched emulator;
    if (parity > 1) emulator::fail("barrier_wait: a parity is 0 or 1", place);
    const emulator::Mbarrier& one = emulator::mbarrier(at, "barrier_wait", place);
    token = one.tokens[parity];
    return one.phase % 2 != parity;
  };
  while (!over()) emulator::wait_for_change(at, "barrier_wait", place);
  emulator::acquire(token);
}

}  // namespace gpu
