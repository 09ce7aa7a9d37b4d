#include "proxy.hpp"

namespace emulator {

char* asynchronous_view(const char* shared) {
  if (block.asynchronous_view.empty()) block.asynchronous_view.assign(kArenaBytes, static_cast<char>(kPoison));
  return block.asynchronous_view.data() + (shared - block.arena);
}

void check_in_shared_memory(const char* at, std::size_t bytes, const char* what, Place place) {
  for (const SharedArray& array : block.arrays) {
    if (at >= array.data && at + bytes <= array.data + array.bytes) return;
  }
  fail(std::string(what) + ": outside the block's shared memory", place);
}

void check_fenced(const char* shared, std::size_t bytes, const char* what, Place place) {
  const Unwatched emulator;
  if (!std::memcmp(shared, asynchronous_view(shared), bytes)) return;
  fail(std::string(what) + ": reads what was stored to shared memory with no fence_async after it", place);
}

void issue(Groups& groups, std::function<void()> effect) {
  if (!block.schedule.late_copies) {
    effect();
    effect = nullptr;
  }
  const Unwatched emulator;
  groups.pending.push_back({std::move(effect), groups.committed});
}

void commit(Groups& groups) { ++groups.committed; }

void wait_for(Groups& groups, int newest) {
  std::size_t over = 0;
  for (; over < groups.pending.size() && groups.pending[over].group < groups.committed - newest; ++over) {
    if (groups.pending[over].effect) groups.pending[over].effect();
  }
  const Unwatched emulator;
  groups.pending.erase(groups.pending.begin(), groups.pending.begin() + over);
}

}  // namespace emulator

namespace gpu {
void fence_async() {
  const emulator::Unwatched emulator;
  for (const emulator::SharedArray& array : emulator::block.arrays) {
    std::memcpy(emulator::asynchronous_view(array.data), array.data, array.bytes);
  }
}
}  // namespace gpu
