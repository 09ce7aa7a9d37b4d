#include "block.hpp"

#include <algorithm>
#include <numeric>

#include "shared_memory.hpp"

namespace emulator {

Block block;

__attribute__((no_sanitize("thread"))) std::uint64_t random_number() {  // xorshift, Marsaglia 2003
  block.random ^= block.random << 13;
  block.random ^= block.random >> 7;
  return block.random ^= block.random << 17;
}

static std::string coordinates(const uint3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

void fail(const std::string& message, Place place) {
  std::string text = message + " [kernel " + block.kernel + ", block " + coordinates(blockIdx) + ", thread " +
                     coordinates(threadIdx) + "]";
  if (place.file) text += std::string(" at ") + place.file + ":" + std::to_string(place.line);
  throw Error(text);
}

// --- ThreadSanitizer: what happens before what ------------------------------------------------------

void* new_token() {
#if EMULATOR_TSAN
  block.tokens.push_back(malloc(1));
  return block.tokens.back();
#else
  return nullptr;
#endif
}
void release([[maybe_unused]] void* token) {
#if EMULATOR_TSAN
  if (token) __tsan_release(token);
#endif
}
void acquire([[maybe_unused]] void* token) {
#if EMULATOR_TSAN
  if (token) __tsan_acquire(token);
#endif
}

// What all threads did, also those that wait for ever, happened before what the launcher does now.
static void join_threads() {
  for (void* token : block.tokens) {
    acquire(token);
    free(token);
  }
  block.tokens.clear();
}

// --- Taking turns -----------------------------------------------------------------------------------

static EMULATOR_RAW void run_thread(Thread& next) {
  Thread* const from = block.running;
  if (&next != &block.launcher) threadIdx = next.at;
  if (&next == from) return;
  block.running = &next;
  switch_fiber(*from, next);
}

void wake(Thread& thread, void* token) {
  thread.waits_at = nullptr;
  thread.released = token;
  block.ready[thread.warp()].push_back(&thread);
}

// One of `count`: the first, the last, or any, by the schedule.
static std::size_t chosen(std::size_t count) {
  if (block.schedule.order == Order::forward) return 0;
  if (block.schedule.order == Order::reverse) return count - 1;
  return (random_number() >> 33) % count;
}

static bool find_ready_warp() {
  std::vector<unsigned> with_work;
  for (unsigned w = 0; w < block.ready.size(); ++w) {
    if (!block.ready[w].empty()) with_work.push_back(w);
  }
  if (with_work.empty()) return false;
  block.warp = with_work[chosen(with_work.size())];
  return true;
}

// A ready thread of the same warp, else of another warp, else a copy lands that is in flight. If there is none of these
// either, the launcher: it sees whether all threads are through.
static Thread& pick_next() {
  const Unwatched emulator;
  while (block.ready[block.warp].empty() && !find_ready_warp()) {
    if (block.in_flight.empty()) return block.launcher;
    const auto landing = block.in_flight.begin() + chosen(block.in_flight.size());
    const std::function<void()> land = std::move(*landing);
    block.in_flight.erase(landing);
    land();
    if (block.error) return block.launcher;
  }
  std::vector<Thread*>& ready = block.ready[block.warp];
  const auto next = ready.begin() + chosen(ready.size());
  Thread* const thread = *next;
  ready.erase(next);
  return *thread;
}

void wait_at(const char* what, Place place) {
  block.running->waits_at = what;
  block.running->place = place;
  run_thread(pick_next());
}

// --- A thread from its first instruction to its last ------------------------------------------------

static void run_body() {
  acquire(block.begin);
  try {
    block.body();
  } catch (...) {
    const Unwatched emulator;
    if (!block.error) block.error = std::current_exception();
  }
  release(block.done);
}

static Thread& end_thread() {
  const Unwatched emulator;
  block.running->ended = true;
  --block.alive;
  return block.error ? block.launcher : pick_next();
}

static EMULATOR_RAW void thread_entry() {
  entered();
  run_body();
  run_thread(end_thread());
  std::terminate();  // nobody switches to a thread that has ended
}

static std::string deadlock() {
  std::string text = std::string("deadlock in kernel ") + block.kernel + ", block " + coordinates(blockIdx) + ": " +
                     std::to_string(block.alive) + " threads wait, " +
                     std::to_string(block.threads.size() - block.alive) + " have ended";
  const char* last = "";
  int last_line = 0, shown = 0;
  for (const Thread& thread : block.threads) {
    if (thread.ended || !thread.waits_at) continue;
    if (thread.place.line == last_line && !std::strcmp(thread.waits_at, last)) continue;  // as the one before it
    last = thread.waits_at;
    last_line = thread.place.line;
    if (++shown > 8) break;
    text += "\n  thread " + coordinates(thread.at) + " waits at " + last + ", " + thread.place.file + ":" +
            std::to_string(last_line);
  }
  for (const Mbarrier& one : block.mbarriers) {
    if (one.missing == one.arrivals && one.bytes == 0) continue;
    text += "\n  the barrier at byte " + std::to_string(static_cast<const char*>(one.address) - block.arena) +
            " of shared memory, in phase " + std::to_string(one.phase) + ", lacks " + std::to_string(one.missing) +
            " of " + std::to_string(one.arrivals) + " arrivals and " + std::to_string(one.bytes) + " bytes";
  }
  return text;
}

// Once a block has ended, its shared memory may be another's by the time that such an operation reads it.
static void check_waited_for() {
  for (const Thread& thread : block.threads) {
    if (thread.products.pending.empty() && thread.stores.pending.empty()) continue;
    throw Error(std::string("kernel ") + block.kernel + ": thread " + coordinates(thread.at) +
                " ended and had not waited for its " + (thread.stores.pending.empty() ? "wgmma" : "bulk stores"));
  }
}

static void run_block() {
  const Unwatched emulator;
  block.alive = block.threads.size();
  block.meetings.clear();
  block.watchers.clear();
  block.in_flight.clear();
  block.mbarriers.clear();
  block.asynchronous_view.clear();
  block.error = nullptr;
  block.warp = 0;
  for (auto& warp : block.ready) warp.clear();
  clear_shared_memory();
  block.begin = new_token();
  block.done = new_token();
  release(block.begin);
  for (Thread& thread : block.threads) {
    thread.copies.clear();
    thread.groups = 0;
    thread.stores = thread.products = {};
    thread.products_fenced = false;
    prepare(thread, thread_entry);
    wake(thread, block.begin);
  }
  find_ready_warp();
  block.running = &block.launcher;
  run_thread(pick_next());
  join_threads();
  if (block.error) std::rethrow_exception(block.error);
  if (block.alive) throw Error(deadlock());
  check_waited_for();
  check_canaries();
}

void launch(const char* kernel, dim3 grid, dim3 threads, std::size_t shared_bytes, const Schedule& schedule,
            std::function<void()> body) {
  const std::size_t count = std::size_t(threads.x) * threads.y * threads.z;
  const std::size_t blocks = std::size_t(grid.x) * grid.y * grid.z;
  if (count == 0 || count > 1024 || threads.z > 64 || blocks == 0 || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > 227 << 10) {
    throw Error(std::string(kernel) + ": no GPU launches " + coordinates({grid.x, grid.y, grid.z}) + " blocks of " +
                coordinates({threads.x, threads.y, threads.z}) + " threads with " + std::to_string(shared_bytes) +
                " bytes of shared memory");
  }
  block.kernel = kernel;
  block.schedule = schedule;
  block.random = schedule.seed * 0x9E3779B97F4A7C15ull | 1;
  block.dynamic_bytes = shared_bytes;
  block.body = std::move(body);
  block.threads.resize(count);
  block.ready.resize((count + 31) / 32);
  for (unsigned i = 0; i < count; ++i) {
    block.threads[i].index = i;
    block.threads[i].at = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
  }
  gridDim = grid;
  blockDim = threads;
#if EMULATOR_TSAN
  block.launcher.tsan = __tsan_get_current_fiber();
#endif
  std::vector<std::size_t> order(blocks);
  std::iota(order.begin(), order.end(), std::size_t(0));
  if (schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (schedule.order == Order::random) {
    for (std::size_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random_number() % i]);
  }
  for (const std::size_t b : order) {
    blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
    run_block();
  }
  for (Thread& thread : block.threads) leave_sanitizer(thread);
}

}  // namespace emulator
