// A block of threads: who is ready, who runs next, and how a launch runs block after block.
#pragma once
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "language.hpp"

namespace emulator {

enum class Order : int { forward, reverse, random };

// What a GPU leaves open. A kernel must answer the same under every schedule.
struct Schedule {
  Order order = Order::forward;
  int late_copies = 1;  // asynchronous copies land when they are waited for; else at once
  std::uint64_t seed = 1;
};

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Copy {  // a pending cp.async
  void* shared;
  const void* global;  // null: zeros
  int bytes, group;
};

// Asynchronous operations of a thread that it commits and waits for in groups: bulk stores, wgmma.
struct Pending {
  std::function<void()> effect;  // none: it was had at once
  int group;
};
struct Groups {
  std::vector<Pending> pending;
  int committed = 0;
};

struct Thread : Fiber {
  unsigned index = 0;  // in its block
  uint3 at{};
  const char* waits_at = nullptr;  // for reports
  Place place{};
  void* released = nullptr;  // the token of what woke it, for ThreadSanitizer
  std::vector<Copy> copies;
  int groups = 0;  // of copies, committed
  Groups stores, products;
  bool products_fenced = false;

  unsigned warp() const { return index / 32; }
  unsigned lane() const { return index % 32; }
};

// Threads that wait for each other (rendezvous.hpp).
struct Meeting {
  const char* what;
  Place place;
  std::vector<Thread*> threads;
  std::vector<void*> arguments;
  void* token;
};

struct Mbarrier {  // mbarriers.hpp
  const void* address;
  unsigned arrivals, missing;  // of a phase; of this phase, still to come
  long bytes;                  // of this phase, still to come
  unsigned phase;
  const Thread* owner;  // who made it
  bool fenced;          // and has made that known to copies
  void* tokens[2];      // of even and odd phases
};

struct Watcher {  // waits for a change at an address
  const void* address;
  Thread* thread;
};

struct SharedArray {
  const void* key;
  char* data;
  std::size_t bytes;
  const char* name;
};

struct Block {
  const char* kernel = "";
  Schedule schedule;
  std::uint64_t random = 1;
  std::vector<Thread> threads;
  std::size_t alive = 0;
  Thread launcher;  // whoever called launch()
  Thread* running = nullptr;
  std::vector<std::vector<Thread*>> ready;  // by warp
  unsigned warp = 0;                        // that runs
  std::vector<Meeting> meetings;
  std::vector<Watcher> watchers;
  std::vector<std::function<void()>> in_flight;  // copies that land when nothing else can happen
  std::vector<Mbarrier> mbarriers;
  std::vector<char> asynchronous_view;  // of the arena: what a fence has shown to copies and wgmma (proxy.hpp)
  std::vector<SharedArray> arrays;
  char* arena = nullptr;
  std::size_t arena_used = 0, dynamic_bytes = 0;
  std::vector<void*> tokens;
  void *begin = nullptr, *done = nullptr;
  std::exception_ptr error;
  std::function<void()> body;
};
extern Block block;

std::uint64_t random_number();
[[noreturn]] void fail(const std::string& message, Place place = {});

// ThreadSanitizer: what happens before what.
void* new_token();
void release(void* token);
void acquire(void* token);

// Makes a thread ready that waits; `token` is released by whoever wakes it.
void wake(Thread& thread, void* token);
// This thread stops here until another wakes it.
void wait_at(const char* what, Place place);

// Threads that a barrier of the whole block can meet, and blocks in the schedule's order.
void launch(const char* kernel, dim3 grid, dim3 threads, std::size_t shared_bytes, const Schedule& schedule,
            std::function<void()> body);

}  // namespace emulator
