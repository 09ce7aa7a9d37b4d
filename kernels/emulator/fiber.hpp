// Fibers: stacks that take turns on one CPU thread. The sanitizers are told of every switch.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATOR_ASAN 1
#else
#define EMULATOR_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
void __tsan_read_range(void*, unsigned long);
void __tsan_write_range(void*, unsigned long);
}
#define EMULATOR_TSAN 1
#else
#define EMULATOR_TSAN 0
#endif
#if !defined(__x86_64__)
#define EMULATOR_UCONTEXT 1
#include <ucontext.h>
#else
#define EMULATOR_UCONTEXT 0
#endif

// Switching is invisible to ThreadSanitizer's own bookkeeping of calls.
#define EMULATOR_RAW __attribute__((noinline, no_sanitize("thread")))

namespace emulator {

constexpr std::size_t kStackBytes = EMULATOR_ASAN || EMULATOR_TSAN ? 256 << 10 : 128 << 10;

char* map_memory(std::size_t bytes);

// The emulator's own memory is not the kernel's: while one of these lives, ThreadSanitizer looks away.
struct Unwatched {
#if EMULATOR_TSAN
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  ~Unwatched() {}  // not trivial, so that no compiler calls it unused
#endif
};

struct Fiber {
  char* stack = nullptr;  // null for the one that the CPU thread came with
  bool ended = false;
#if EMULATOR_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
#if EMULATOR_TSAN
  void* tsan = nullptr;
#endif
};

// Begin `entry` on a fresh stack at the first switch to the fiber. It must never return.
void prepare(Fiber& fiber, void (*entry)());
// The first thing a new fiber does.
void entered();
void switch_fiber(Fiber& from, Fiber& to);
// To be called when a launch is through with the fiber.
void leave_sanitizer(Fiber& fiber);

}  // namespace emulator
